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

func shadow(sinks ...events.Sink) *resilience.CircuitBreakerConfig {
	c := small(sinks...)
	c.Shadow = true
	return c
}

// It must hold: a breaker in shadow mode rejects nothing, and its state moves as that of
// one that does. Every call of the one is made of the other, and those the other rejects
// are those that the one says it would have.
func TestShadowModeMovesAsIfItRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strict, rec := observed(t, small())
		shady, shadyRec := observed(t, shadow())
		call := func(fn func() error) {
			t.Helper()
			ran := false
			want := strict.Execute(t.Context(), fn)
			err := shady.Execute(t.Context(), func() error { ran = true; return fn() })
			require.True(t, ran)
			rejected := errors.Is(want, resilience.ErrCircuitBreakerOpen)
			if !rejected {
				require.Equal(t, want, err)
			}
			require.Equal(t, rejected, last[events.CallFinished](t, shadyRec).WouldReject)
			require.Equal(t, rejected, last[events.CallStarted](t, shadyRec).WouldReject)
			require.Equal(t, strict.State(), shady.State())
		}
		for range 5 {
			times(6, func() { call(broken) })  // opens, and what follows would be rejected
			times(9, func() { call(healthy) }) // which influences nothing
			pass(30 * time.Second)
			require.Equal(t, halfOpen, shady.State())
			held := []resilience.Permit{acquire(t, strict), acquire(t, shady)}
			call(healthy)
			call(func() error { return resilience.Ignore(errBroken) })
			call(broken)
			call(broken) // all probes are taken
			call(healthy)
			for _, p := range held {
				p.Done(errBroken) // two of three failed
			}
			require.Equal(t, open, shady.State())
			pass(30 * time.Second)
			times(3, func() { call(healthy) })
			require.Equal(t, closed, shady.State())
			pass(2 * time.Minute)
		}
		require.Equal(t, changes(rec), changes(shadyRec))
		require.Empty(t, eventstest.Of[events.CallRejected](shadyRec))
		for _, e := range eventstest.Of[events.StateChanged](shadyRec) {
			require.True(t, e.Shadow)
		}

		s, want := shady.GetStats(), strict.GetStats()
		require.True(t, s.Shadow)
		require.Zero(t, s.Totals.Rejected)
		require.Equal(t, want.Totals.Rejected, s.Totals.WouldReject)
		require.Equal(t, want.Totals.Volume()+want.Totals.Ignored+want.Totals.Rejected, s.Totals.Volume()+s.Totals.Ignored, "each counts by its outcome as well")
		require.Equal(t, want.TimeIn[events.StatusOpen], s.TimeIn[events.StatusShadowOpen])
		require.Equal(t, want.TimeIn[events.StatusHalfOpen], s.TimeIn[events.StatusShadowHalfOpen])
		require.Equal(t, want.TimeIn[events.StatusClosed], s.TimeIn[events.StatusClosed])
		require.Zero(t, s.TimeIn[events.StatusOpen]+s.TimeIn[events.StatusHalfOpen])
		strict.Close()
		shady.Close()
	})
}

// Force beats shadow mode as everything else.
func TestForceBeatsShadowMode(t *testing.T) {
	cb, rec := observed(t, shadow())
	cb.ForceOpen()
	require.Equal(t, events.StatusForcedOpen, cb.GetStats().Status())
	requireRejected(t, cb)
	cb.ClearForce()
	require.Equal(t, events.StatusShadowOpen, cb.GetStats().Status())
	succeedIn(t, cb, 1)
	cb.ForceClosed()
	failIn(t, cb, 9)
	require.Equal(t, closed, cb.State())
	require.Equal(t, uint64(1), cb.GetStats().Totals.Rejected)
	require.Equal(t, uint64(1), cb.GetStats().Totals.WouldReject)
	require.Len(t, eventstest.Of[events.CallRejected](rec), 1)
	cb.Close()
}

// Calls that would be rejected and do not return, are cancelled, or outlast the state
// they began in count, and influence nothing.
func TestShadowModeSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, listening := range []bool{false, true} {
			config := shadow()
			if listening {
				config.Events = eventstest.New(t).Sink()
			}
			cb := resilience.NewCircuitBreaker(config)
			trip(t, cb)
			before := cb.GetStats()
			require.Equal(t, "work", panics(t, func() { _ = cb.Execute(t.Context(), func() error { panic("work") }) }))
			goexits(t, func() { _ = cb.Execute(t.Context(), exit) })
			canceled, cancel := context.WithCancel(t.Context())
			require.ErrorIs(t, cb.Run(canceled, func(ctx context.Context) error { cancel(); return ctx.Err() }), context.Canceled)
			require.ErrorIs(t, cb.Execute(canceled, healthy), context.Canceled, "it does not run")
			outlasting := acquire(t, cb)
			pass(30 * time.Second)
			probe := acquire(t, cb)
			outlasting.Done(nil)
			outlasting.Done(errBroken)
			require.Equal(t, halfOpen, cb.State())
			s := cb.GetStats()
			require.Equal(t, 1, s.ProbesInFlight)
			require.Equal(t, before.Totals.Failure+2, s.Totals.Failure)
			require.Equal(t, uint64(1), s.Totals.Ignored)
			require.Equal(t, before.Totals.Success+1, s.Totals.Success)
			require.Equal(t, uint64(4), s.Totals.WouldReject)
			require.Zero(t, s.Window.Volume())
			probe.Done(nil)
			succeedIn(t, cb, 1)
			require.Equal(t, closed, cb.State())
			cb.Close()
		}
	})
}

// A sink that panics when it hears of a call that would be rejected ends that call, and
// it is not counted.
func TestShadowModeSinkPanics(t *testing.T) {
	armed := false
	cb := resilience.NewCircuitBreaker(shadow(events.Sink{
		CallStarted: func(ctx context.Context, _ events.CallStarted) context.Context {
			if armed {
				panic("sink")
			}
			return ctx
		},
	}))
	trip(t, cb)
	totals := cb.GetStats().Totals
	armed = true
	require.Equal(t, "sink", panics(t, func() { _ = cb.Execute(t.Context(), healthy) }))
	require.Equal(t, totals, cb.GetStats().Totals)
	cb.Close()
}

func TestShadowModeUnderLoad(t *testing.T) {
	config := shadow()
	config.SleepWindow = time.Millisecond
	config.ProbeTimeout = time.Second
	cb, rec := observed(t, config)
	var ran atomic.Uint64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 500 {
				fn := healthy
				if (i/50+w)%2 == 0 {
					fn = broken
				}
				err := cb.Execute(t.Context(), func() error { ran.Add(1); return fn() })
				if errors.Is(err, resilience.ErrCircuitBreakerOpen) {
					t.Error("rejected")
				}
			}
		})
	}
	wg.Wait()
	totals := cb.GetStats().Totals
	require.Equal(t, uint64(8*500), ran.Load())
	require.Equal(t, ran.Load(), totals.Volume())
	would := uint64(0)
	for _, e := range eventstest.Of[events.CallFinished](rec) {
		if e.WouldReject {
			would++
		}
	}
	require.Equal(t, would, totals.WouldReject)
	require.Positive(t, would)
	cb.Close()
}

func TestShadowModeDoesNotAllocate(t *testing.T) {
	cb := resilience.NewCircuitBreaker(shadow())
	trip(t, cb)
	require.Zero(t, testing.AllocsPerRun(1000, func() { _ = cb.Execute(t.Context(), healthy) }))
	cb.Close()
}

func ExampleCircuitBreakerConfig_shadow() {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", VolumeThreshold: 5, Shadow: true})
	for range 20 {
		_ = cb.Execute(context.Background(), func() error { return errors.New("503") })
	}
	s := cb.GetStats()
	fmt.Printf("%v: all %d calls ran, %d would have been rejected\n", s.Status(), s.Totals.Failure, s.Totals.WouldReject)

	_ = cb.Reconfigure(&resilience.CircuitBreakerConfig{VolumeThreshold: 5}) // seen enough: reject from now on
	err := cb.Execute(context.Background(), func() error { return nil })
	fmt.Println(err)
	// Output:
	// shadow_open: all 20 calls ran, 15 would have been rejected
	// resilience: circuit breaker "payment" is open
}
