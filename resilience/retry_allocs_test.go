package resilience_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

func TestRetryAllocatesNothing(t *testing.T) {
	t.Run("silent", func(t *testing.T) { requireRetryAllocs(t, events.Sink{}, 0) })
	// The breaker's sinks are told the numbers of the second and third attempt by a
	// context each.
	t.Run("with a sink", func(t *testing.T) { requireRetryAllocs(t, benchSink(), 2) })
}

// requireRetryAllocs asserts that nothing allocates with sink, but the third attempt
// through a breaker as often as given.
func requireRetryAllocs(t *testing.T, sink events.Sink, thirdThroughBreaker int) {
	t.Helper()
	ctx := t.Context()
	defaults := resilience.DefaultRetryConfig()
	defaults.Events = sink
	noDelay := &resilience.RetryConfig{InitialDelay: 1, MaxDelay: 1, Events: sink}
	noDelayJitter := &resilience.RetryConfig{InitialDelay: 1, MaxDelay: 1, JitterEnabled: true, Events: sink}
	closed := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Events: sink, ErrorThreshold: 1})
	open := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Events: sink})
	open.ForceOpen()
	retrier, hasty := resilience.NewRetrier(defaults), resilience.NewRetrier(noDelay)
	third := func() func() error {
		n := 0
		return func() error {
			if n++; n%3 == 0 {
				return nil
			}
			return errRefused
		}
	}
	thirdPlain, thirdJitter, thirdBreaker, thirdExecuted := third(), third(), third(), third()
	passes := func(context.Context) error { return nil }
	permanent := resilience.Permanent(errRefused)
	failsForGood := func() error { return permanent }

	for _, tt := range []struct {
		what   string
		allocs int
		f      func()
	}{
		{"first attempt", 0, func() { _ = resilience.Retry(ctx, defaults, succeed) }},
		{"first attempt, nil configuration", 0, func() { _ = resilience.Retry(ctx, nil, succeed) }},
		{"first attempt of a Retrier", 0, func() { _ = retrier.Run(ctx, passes) }},
		{"first attempt of a Retrier, work without a context", 0, func() { _ = retrier.Execute(ctx, succeed) }},
		{"third attempt of a Retrier without delay", 0, func() { _ = hasty.Execute(ctx, thirdExecuted) }},
		{"first attempt through a breaker", 0, func() {
			_ = resilience.RetryWithCircuitBreaker(ctx, defaults, closed, succeed)
		}},
		{"third attempt without delay", 0, func() { _ = resilience.Retry(ctx, noDelay, thirdPlain) }},
		{"third attempt without delay, jitter", 0, func() { _ = resilience.Retry(ctx, noDelayJitter, thirdJitter) }},
		{"third attempt without delay, breaker", thirdThroughBreaker, func() {
			_ = resilience.RetryWithCircuitBreaker(ctx, noDelay, closed, thirdBreaker)
		}},
		{"rejection", 0, func() { _ = resilience.RetryWithCircuitBreaker(ctx, defaults, open, succeed) }},
		{"permanent error in the first attempt", 0, func() { _ = resilience.Retry(ctx, defaults, failsForGood) }},
	} {
		t.Run(tt.what, func(t *testing.T) {
			require.Equal(t, tt.allocs, int(testing.AllocsPerRun(300, tt.f)))
		})
	}
}
