package resilience

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLatencyBuckets(t *testing.T) {
	require.Equal(t, latencyBuckets-1, bucketOf(math.MaxInt64))
	require.Equal(t, time.Duration(math.MaxInt64), upperEnd(latencyBuckets-1))
	require.Equal(t, 0, bucketOf(-time.Second))
	for i := range latencyBuckets {
		require.Equal(t, i, bucketOf(upperEnd(i)), "the upper end is in it")
		if i < latencyBuckets-1 {
			require.Equal(t, i+1, bucketOf(upperEnd(i)+1), "and what follows is not")
		}
	}
}

// The older generation counts until the younger one is full, and not after.
func TestLatenciesForgetByGenerations(t *testing.T) {
	l := &latencies{quantile: 0.5}
	add := func(n int, d time.Duration) {
		for range n {
			l.add(d)
		}
	}
	add(generation, 10*time.Millisecond)
	add(generation/2, time.Second)
	require.Less(t, l.known(), 12*time.Millisecond, "of 1536 two thirds")
	add(generation/2, time.Second)
	add(latencyStep, time.Second)
	require.Greater(t, l.known(), 990*time.Millisecond, "the first generation is gone")
}

// FuzzLatencies compares the estimate with the quantile of the same durations, sorted.
func FuzzLatencies(f *testing.F) {
	f.Add(0.95, []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(0.5, []byte("many a long day's journey into the night"))
	f.Add(1e-9, []byte{255, 255, 255, 255, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, q float64, data []byte) {
		if !(q > 0 && q < 1) || len(data) < 4 {
			return
		}
		l := &latencies{quantile: q}
		var all []time.Duration
		for i := range 40 * latencyStep {
			at := i * 4 % (len(data) - 3)
			d := time.Duration(binary.LittleEndian.Uint32(data[at:])) * time.Duration(1+i%7)
			l.add(d)
			all = append(all, d)
			n := len(all)
			if n%latencyStep != 0 {
				continue
			}
			// The young generation, and the old one if there is one.
			kept := all[max(0, (n-1)/generation-1)*generation:]
			sorted := slices.Sorted(slices.Values(kept))
			exact := sorted[max(1, int(math.Ceil(q*float64(len(sorted)))))-1]
			got := l.known()
			require.GreaterOrEqual(t, got, exact, "after %d", n)
			require.LessOrEqual(t, float64(got), float64(exact)*(1+1./latencyParts), "after %d", n)
		}
	})
}

func TestLatenciesOfManyGoroutines(t *testing.T) {
	l := &latencies{quantile: 0.9}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 10_000 {
				l.add(time.Duration(i%100) * time.Millisecond)
				_ = l.known()
			}
		})
	}
	wg.Wait()
	require.InDelta(t, 90*time.Millisecond, l.known(), float64(20*time.Millisecond))
}
