package resilience

import (
	"math"
	"math/rand/v2"
	"time"
)

// backoff returns how long to wait after the nth attempt, n from 1 on:
// min(initial·factorⁿ⁻¹, most). The power grows beyond every number in time; what
// is not below most is most, infinity and NaN included, so it never comes out as
// zero or negative.
func backoff(initial, most time.Duration, factor float64, n int) time.Duration {
	if initial >= most {
		return most
	}
	grown := float64(initial) * math.Pow(factor, float64(n-1))
	if grown < float64(most) {
		return time.Duration(grown)
	}
	return most
}

// jittered returns a duration drawn evenly from [0,d]: full jitter, which spreads
// clients that failed together over the whole wait. The idea is Marc Brooker's,
// "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
func jittered(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	// Never past the largest Duration; of 2⁶³ values nobody misses the last.
	return time.Duration(rand.Int64N(int64(min(d, math.MaxInt64-1)) + 1))
}
