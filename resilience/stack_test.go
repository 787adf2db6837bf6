package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

// stack is all policies around each other, in the recommended order.
type stack struct {
	resilience.Policy
	breaker  *resilience.CircuitBreaker
	bulkhead *resilience.Bulkhead
	running  atomic.Int32
}

func newStack(sink events.Sink) *stack {
	s := &stack{
		breaker: resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "stack", VolumeThreshold: 1000, Events: sink}),
		bulkhead: resilience.NewBulkhead(&resilience.BulkheadConfig{
			Name: "stack", MaxConcurrent: 1, MaxQueue: 5, MaxWait: time.Second, Events: sink,
		}),
	}
	s.Policy = resilience.Chain(
		resilience.NewFallback(&resilience.FallbackConfig[int]{
			Name: "stack", Value: func(context.Context, error) (int, error) { return 70, nil }, Events: sink,
		}),
		resilience.NewTimeout(&resilience.TimeoutConfig{Name: "stack", Limit: time.Minute, Events: sink}),
		resilience.NewRetrier(&resilience.RetryConfig{Name: "stack", MaxAttempts: 3, InitialDelay: time.Second, Events: sink}),
		resilience.NewHedge(&resilience.HedgeConfig{Name: "stack", Delay: 100 * time.Millisecond, Events: sink}),
		s.breaker,
		resilience.NewRateLimit(&resilience.RateLimitConfig{Name: "stack", Wait: &fakeLimiter{every: 50 * time.Millisecond}, Events: sink}),
		s.bulkhead,
		resilience.NewTimeout(&resilience.TimeoutConfig{Name: "stack attempt", Limit: 300 * time.Millisecond, Events: sink}),
	)
	return s
}

// do runs an operation in which most that can happen does: the first attempt times out
// while the one beside it waits for a token and a slot and fails, then one succeeds.
func (s *stack) do(ctx context.Context) (int, error) {
	var runs atomic.Int32
	return resilience.Do(ctx, s, func(ctx context.Context) (int, error) {
		s.running.Add(1)
		defer s.running.Add(-1)
		switch n := int(runs.Add(1)); n {
		case 1:
			return 0, patient(time.Minute)(ctx)
		case 2:
			return 0, failingAfter(10*time.Millisecond, errBroken)(ctx)
		default:
			return n, patient(20 * time.Millisecond)(ctx)
		}
	})
}

// everyEvent returns a sink that calls f with the number of each event, from 1 on, but
// for those of births.
func everyEvent(f func(ctx context.Context, n int32)) events.Sink {
	var n atomic.Int32
	return events.All(func(ctx context.Context, e events.Event) {
		switch e.Kind() {
		case events.KindBreakerCreated, events.KindBulkheadCreated, events.KindPolicyCreated:
		default:
			f(ctx, n.Add(1))
		}
	})
}

// requireQuiet checks that the operation left nothing behind.
func (s *stack) requireQuiet(t *testing.T, when string) {
	t.Helper()
	require.Zero(t, s.running.Load(), "%s: work still runs", when)
	requireEmpty(t, s.bulkhead, 1)
}

// The operation, then cancelled at each of its events, and at each moment in between.
func TestStackCancelledAtEveryPoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen atomic.Int32
		rec := eventstest.New(t)
		s := newStack(rec.Sink(everyEvent(func(context.Context, int32) { seen.Add(1) })))
		began := time.Now()
		got, err := s.do(t.Context())
		require.NoError(t, err)
		require.Equal(t, 3, got)
		length := time.Since(began)
		s.requireQuiet(t, "undisturbed")
		require.Equal(t, events.Counts{Success: 1, Failure: 2}, s.breaker.GetStats().Totals)
		for _, k := range []events.Kind{events.KindTimedOut, events.KindBulkheadWaited, events.KindRetryScheduled, events.KindHedgeAttemptFinished} {
			require.Contains(t, rec.Kinds(), k, "most that can happen does")
		}
		total := seen.Load()
		require.Greater(t, total, int32(20))

		for at := int32(1); at <= total; at++ {
			when := fmt.Sprint("cancelled at event ", at)
			ctx, cancel := context.WithCancel(t.Context())
			rec := eventstest.New(t)
			s := newStack(rec.Sink(everyEvent(func(_ context.Context, n int32) {
				if n == at {
					cancel()
				}
			})))
			requireCancelled(ctx, t, s, when)
			rec.Check()
		}
		for at := time.Duration(0); at < length; at += 7 * time.Millisecond {
			when := fmt.Sprint("cancelled after ", at)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(at, cancel)
			rec := eventstest.New(t)
			requireCancelled(ctx, t, newStack(rec.Sink()), when)
			rec.Check()
			cancel()
		}
	})
}

func requireCancelled(ctx context.Context, t *testing.T, s *stack, when string) {
	t.Helper()
	got, err := s.do(ctx)
	if err != nil { // unless it was cancelled in the end, when it had succeeded
		require.ErrorIs(t, err, context.Canceled, when)
		require.Zero(t, got, when)
	}
	s.requireQuiet(t, when)
	require.LessOrEqual(t, s.breaker.GetStats().Totals.Failure, uint64(2), "%s: a cancellation is no failure", when)
}

// A sink that panics at any of the events reaches the caller, and costs no slot.
func TestStackWhoseSinkPanicsAtEveryEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen atomic.Int32
		_, err := newStack(everyEvent(func(context.Context, int32) { seen.Add(1) })).do(t.Context())
		require.NoError(t, err)
		total := seen.Load()
		boom := errors.New("sink")
		for at := int32(1); at <= total; at++ {
			when := fmt.Sprint("panic at event ", at)
			s := newStack(everyEvent(func(_ context.Context, n int32) {
				if n == at {
					panic(boom)
				}
			}))
			v := panics(t, func() { _, _ = s.do(t.Context()) })
			if p, ok := v.(*resilience.PanicError); ok {
				v = p.Value
			}
			require.Equal(t, boom, v, when)
			s.requireQuiet(t, when)
		}
	})
}

// A hundred operations at once, some of them cancelled: all end, and nothing is left.
func TestStackOfAHundredGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStack(eventstest.New(t).Sink())
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				ctx := t.Context()
				if i%3 == 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, time.Duration(i)*10*time.Millisecond)
					defer cancel()
				}
				got, err := s.do(ctx)
				if err == nil && got == 0 {
					t.Error("a success without a result")
				}
			})
		}
		wg.Wait()
		s.requireQuiet(t, "in the end")
	})
}

// What policies tell is told to nobody who does not listen, and they are asked.
func TestPoliciesAskWhetherAnybodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var told []events.Kind
		sink := events.All(func(_ context.Context, e events.Event) { told = append(told, e.Kind()) })
		sink.Enabled = func(context.Context) bool { asked++; return false }
		ctx := t.Context()

		_ = resilience.NewTimeout(&resilience.TimeoutConfig{Limit: time.Second, Events: sink}).Run(ctx, patient(time.Minute))
		require.Equal(t, 1, asked)
		limited := resilience.NewRateLimit(&resilience.RateLimitConfig{Allow: &fakeLimiter{every: time.Hour}, Events: sink})
		_ = limited.Run(ctx, succeeds)
		require.Equal(t, 1, asked, "a call that goes at once is nothing to tell")
		_ = limited.Run(ctx, succeeds)
		require.Equal(t, 2, asked)
		f := resilience.NewFallback(&resilience.FallbackConfig[struct{}]{
			Value: func(context.Context, error) (struct{}, error) { return struct{}{}, nil }, Events: sink,
		})
		_ = f.Run(ctx, succeeds)
		require.Equal(t, 2, asked)
		require.NoError(t, f.Run(ctx, func(context.Context) error { return errBroken }))
		require.Equal(t, 3, asked)
		b := resilience.NewBulkhead(&resilience.BulkheadConfig{MaxConcurrent: 1, MaxQueue: 1, MaxWait: time.Second, Events: sink})
		_ = b.Run(ctx, func(ctx context.Context) error { return b.Run(ctx, succeeds) }) // waits in vain
		require.Equal(t, 5, asked, "for the wait, and for the rejection")

		require.Equal(t, []events.Kind{
			events.KindPolicyCreated, events.KindPolicyCreated, events.KindPolicyCreated, events.KindBulkheadCreated,
		}, told, "births are told to all")
	})
}

// It must hold: what needs no timer allocates nothing, with and without sinks.
func TestPoliciesDoNotAllocate(t *testing.T) {
	ctx := t.Context()
	down := func(context.Context) error { return errBroken }
	for name, sink := range map[string]events.Sink{
		"silent": {},
		"one sink": {
			TimedOut:             func(context.Context, events.TimedOut) {},
			BulkheadWaited:       func(context.Context, events.BulkheadWaited) {},
			BulkheadRejected:     func(context.Context, events.BulkheadRejected) {},
			RateLimited:          func(context.Context, events.RateLimited) {},
			FellBack:             func(context.Context, events.FellBack) {},
			HedgeAttemptStarted:  func(ctx context.Context, _ events.HedgeAttemptStarted) context.Context { return ctx },
			HedgeAttemptFinished: func(context.Context, events.HedgeAttemptFinished) {},
		},
	} {
		b := resilience.NewBulkhead(&resilience.BulkheadConfig{MaxConcurrent: 1, Events: sink})
		within := func(ctx context.Context) error { return b.Run(ctx, succeeds) }
		allowing := resilience.NewRateLimit(&resilience.RateLimitConfig{Allow: unlimited{}, Events: sink})
		f := resilience.NewFallback(&resilience.FallbackConfig[struct{}]{
			Value: func(context.Context, error) (struct{}, error) { return struct{}{}, nil }, Events: sink,
		})
		to := resilience.NewTimeout(&resilience.TimeoutConfig{Events: sink})
		sooner, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		h := resilience.NewHedge(&resilience.HedgeConfig{Delay: time.Hour, Events: sink})
		for what, tt := range map[string]struct {
			most float64
			call func()
		}{
			"bulkhead":                    {0, func() { _ = b.Run(ctx, succeeds) }},
			"bulkhead, full":              {0, func() { _ = b.Run(ctx, within) }},
			"rate limit":                  {0, func() { _ = allowing.Run(ctx, succeeds) }},
			"fallback":                    {0, func() { _ = f.Run(ctx, succeeds) }},
			"fallback, used":              {0, func() { _ = f.Run(ctx, down) }},
			"timeout, the caller's first": {0, func() { _ = to.Run(sooner, succeeds) }},
			// A context, its cancel function, a timer and what that does; and the operation.
			"timeout": {4, func() { _ = to.Run(ctx, succeeds) }},
			"hedge":   {6, func() { _ = h.Run(ctx, succeeds) }},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				require.LessOrEqual(t, testing.AllocsPerRun(1000, tt.call), tt.most)
			})
		}
	}
}
