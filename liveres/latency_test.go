package liveres

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Each bucket begins where the one before it ends, and its middle is in it.
func TestLatencyBuckets(t *testing.T) {
	low := time.Duration(0)
	for i := range latencyCounts - 1 {
		require.Equal(t, i, bucketOf(low), "the beginning of bucket %d is %v", i, low)
		middle := middleOf(i)
		require.Equal(t, i, bucketOf(middle), "the middle of bucket %d is %v", i, middle)
		next := 2*middle - low
		require.Equal(t, i, bucketOf(next-1), "the end of bucket %d is %v", i, next-1)
		if low >= subBuckets*time.Microsecond {
			require.LessOrEqual(t, float64(middle-low)/float64(low), 0.0625, "half of bucket %d at %v", i, low)
		}
		low = next
	}
	require.Equal(t, latencyCounts-1, bucketOf(low))
	require.Equal(t, latencyCounts-1, bucketOf(math.MaxInt64))
	require.Zero(t, bucketOf(-time.Second))
	require.Greater(t, low, 4*time.Minute)
}

func TestLatencyForgetsAfterAMinute(t *testing.T) {
	var l latency
	for range 10 {
		l.record(3, time.Second)
	}
	l.record(5, time.Millisecond)
	for stretch, want := range map[uint32]uint64{3: 11, 5: 11, 8: 11, 9: 1, 10: 1, 11: 0, 500: 0} {
		n, _ := l.quantiles(stretch, 0.5)
		require.Equal(t, want, n, "at stretch %d", stretch)
	}
	l.record(9, time.Minute) // in the place of stretch 3
	n, q := l.quantiles(9, 0.5, 1)
	require.Equal(t, uint64(2), n)
	require.InEpsilon(t, time.Millisecond, q[0], 0.0625)
	require.InEpsilon(t, time.Minute, q[1], 0.0625)
}

func TestLatencyWithoutCalls(t *testing.T) {
	var l latency
	n, q := l.quantiles(1, 0.5, 0.99)
	require.Zero(t, n)
	require.Equal(t, []time.Duration{0, 0}, q)
}

// FuzzLatency compares quantiles with those of the durations themselves.
func FuzzLatency(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, byte(50))
	f.Add([]byte{0, 0, 255, 255}, byte(99))
	f.Add([]byte{9}, byte(0))
	f.Fuzz(func(t *testing.T, data []byte, percent byte) {
		var l latency
		var durations []time.Duration
		for i := 0; i+1 < len(data); i += 2 {
			d := time.Duration(data[i]) << (data[i+1] % 36)
			durations = append(durations, d)
			l.record(1, d)
		}
		share := float64(percent%101) / 100
		n, q := l.quantiles(1, share)
		require.Equal(t, uint64(len(durations)), n)
		if n == 0 {
			return
		}
		slices.Sort(durations)
		rank := max(1, int(math.Ceil(share*float64(n))))
		if share == 0 {
			return // below the smallest: any bucket up to its own
		}
		want := durations[rank-1]
		require.Equal(t, bucketOf(want), bucketOf(q[0]), "the %v quantile is %v, was said to be %v", share, want, q[0])
	})
}
