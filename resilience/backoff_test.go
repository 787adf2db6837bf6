package resilience

import (
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoffIsTheInitialWaitTimesThePowerOfTheFactor(t *testing.T) {
	for _, tt := range []struct {
		initial, most time.Duration
		factor        float64
		n             int
		want          time.Duration
	}{
		{100 * time.Millisecond, 5 * time.Second, 2, 1, 100 * time.Millisecond},
		{100 * time.Millisecond, 5 * time.Second, 2, 6, 3200 * time.Millisecond},
		{100 * time.Millisecond, 5 * time.Second, 2, 7, 5 * time.Second},
		{1, math.MaxInt64, 2, 63, 1 << 62},
		{1, math.MaxInt64, 2, 64, math.MaxInt64},
		{1, math.MaxInt64, 10, 19, 1e18},
		{1, math.MaxInt64, 10, 20, math.MaxInt64},
		{1, math.MaxInt64, 3, 30, 68630377364883}, // 3²⁹
		{1, 1, 1, math.MaxInt, 1},
		{7, 9, 1, math.MaxInt, 7},
		{time.Second, time.Minute, 1e300, 3, time.Minute},
		{math.MaxInt64, math.MaxInt64, math.MaxFloat64, math.MaxInt, math.MaxInt64},
		{math.MaxInt64, 1, 1, 1, 1},
	} {
		require.Equal(t, tt.want, backoff(tt.initial, tt.most, tt.factor, tt.n), "%+v", tt)
	}
}

// FuzzBackoff checks the delay arithmetic against the same in arbitrary precision,
// and what must hold for every input, also one that validation would refuse.
func FuzzBackoff(f *testing.F) {
	f.Add(int64(100*time.Millisecond), int64(5*time.Second), 2.0, 3)
	f.Add(int64(1), int64(math.MaxInt64), 2.0, 64)
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), math.MaxFloat64, math.MaxInt)
	f.Add(int64(1<<53+1), int64(1<<54+3), 1.0, 1)
	f.Add(int64(1), int64(1), math.Inf(1), 2)
	f.Add(int64(1), int64(1), math.NaN(), 2)
	f.Add(int64(3), int64(math.MaxInt64), math.Nextafter(1, 2), math.MaxInt)
	f.Add(int64(-5), int64(-7), -0.5, -1)
	f.Fuzz(func(t *testing.T, initial, most int64, factor float64, n int) {
		d := backoff(time.Duration(initial), time.Duration(most), factor, n)
		j := jittered(d)
		require.GreaterOrEqual(t, j, time.Duration(0), "jitter is never negative")
		require.LessOrEqual(t, j, max(d, 0), "nor above what it was drawn from")

		c := RetryConfig{InitialDelay: time.Duration(initial), MaxDelay: time.Duration(most), BackoffFactor: factor}
		if initial == 0 || most == 0 || factor == 0 || n < 1 || c.Validate() != nil {
			return // cannot happen
		}
		require.Positive(t, d, "neither zero nor negative, whatever overflows")
		require.LessOrEqual(t, d, time.Duration(most), "never above the cap")
		require.GreaterOrEqual(t, float64(d), float64(min(initial, most)), "never below the first")
		if n < math.MaxInt {
			require.GreaterOrEqual(t, backoff(time.Duration(initial), time.Duration(most), factor, n+1), d, "waits do not shrink")
		}
		if n <= 2000 {
			requireNear(t, exactBackoff(initial, most, factor, n), d)
		}
	})
}

// exactBackoff is min(initial·factorⁿ⁻¹, most), rounded down in the end only.
func exactBackoff(initial, most int64, factor float64, n int) time.Duration {
	const precision = 2000
	x := new(big.Float).SetPrec(precision).SetInt64(initial)
	f := new(big.Float).SetPrec(precision).SetFloat64(factor)
	limit := new(big.Float).SetPrec(precision).SetInt64(most)
	for range n - 1 {
		if x.Cmp(limit) >= 0 {
			break
		}
		x.Mul(x, f)
	}
	if x.Cmp(limit) >= 0 {
		return time.Duration(most)
	}
	d, _ := x.Int64()
	return time.Duration(d)
}

// requireNear allows for the 53 bits of a float64: one nanosecond in a delay of up
// to an hour, a millionth of a millionth beyond.
func requireNear(t *testing.T, want, got time.Duration) {
	t.Helper()
	off := math.Abs(float64(want) - float64(got))
	require.LessOrEqual(t, off, math.Max(1, float64(want)*1e-12), "want %d, got %d", want, got)
}

func TestJitteredReachesBothEnds(t *testing.T) {
	seen := map[time.Duration]int{}
	for range 4000 {
		seen[jittered(3)]++
	}
	require.Len(t, seen, 4, "0, 1, 2 and 3: the wait itself included")
	for d, n := range seen {
		require.InDelta(t, 1000, n, 200, "%d", d)
	}
	require.Zero(t, jittered(0))
	require.Zero(t, jittered(-1))
	require.Zero(t, jittered(math.MinInt64))
}

func TestJitteredOfTheLongestWait(t *testing.T) {
	above := 0
	for range 1000 {
		d := jittered(math.MaxInt64)
		require.GreaterOrEqual(t, d, time.Duration(0))
		if d > math.MaxInt64/2 {
			above++
		}
	}
	require.InDelta(t, 500, above, 120)
}
