package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/breakwater-go/breakwater/resilience"
)

// A RateLimit with the limiter that it was made for, which the engine's own tests have
// to do without.
func TestRateLimitOverTheLimiterOfXTimeRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		succeed := func(context.Context) error { return nil }
		rejecting := resilience.NewRateLimit(&resilience.RateLimitConfig{Allow: rate.NewLimiter(1, 2)})
		for _, want := range []error{nil, nil, resilience.ErrRateLimited, resilience.ErrRateLimited} {
			require.ErrorIs(t, rejecting.Run(t.Context(), succeed), want)
		}
		time.Sleep(time.Second)
		require.NoError(t, rejecting.Run(t.Context(), succeed))

		waiting := resilience.NewRateLimit(&resilience.RateLimitConfig{Wait: rate.NewLimiter(1, 2), MaxWait: 1500 * time.Millisecond})
		began := time.Now()
		for range 5 {
			require.NoError(t, waiting.Run(t.Context(), succeed))
		}
		require.Equal(t, 3*time.Second, time.Since(began), "two at once, then one a second")

		// The limiter sees that the wait would be too long, and does not begin it: MaxWait
		// and the caller's deadline alike. A caller that gives up gets its token back.
		go func() { _ = waiting.Run(t.Context(), succeed) }()
		synctest.Wait()
		began = time.Now()
		err := waiting.Run(t.Context(), succeed)
		require.ErrorIs(t, err, resilience.ErrRateLimited)
		require.ErrorContains(t, err, "would exceed context deadline")
		require.Zero(t, time.Since(began))
		time.Sleep(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second/2, cancel)
		require.Equal(t, context.Canceled, waiting.Run(ctx, succeed))
		began = time.Now()
		require.NoError(t, waiting.Run(t.Context(), succeed))
		require.Equal(t, time.Second/2, time.Since(began))
	})
}
