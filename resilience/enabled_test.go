package resilience_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// A sink that is not enabled when a call or a retry begins hears nothing of it, also
// if it is enabled before the end, and everything of it if it is the other way round.
// What the breaker itself has to say is told in any case.
func TestEnabledIsAskedWhenSomethingBegins(t *testing.T) {
	on, asked := false, 0
	var heard []events.Kind
	sink := events.All(func(_ context.Context, e events.Event) { heard = append(heard, e.Kind()) })
	sink.WindowRotated = nil
	sink.Enabled = func(context.Context) bool { asked++; return on }

	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{VolumeThreshold: 2, Events: sink})
	require.Equal(t, []events.Kind{events.KindBreakerCreated}, heard)
	require.Zero(t, asked)

	heard = nil
	require.NoError(t, cb.Execute(t.Context(), func() error { on = true; return nil }))
	require.Empty(t, heard, "it began unheard")
	require.Equal(t, 1, asked)

	require.Error(t, cb.Execute(t.Context(), func() error { on = false; return errBench }))
	require.Equal(t, []events.Kind{events.KindCallStarted, events.KindStateChanged, events.KindCallFinished}, heard)
	require.Equal(t, 2, asked)

	heard = nil
	require.ErrorIs(t, cb.Execute(t.Context(), succeed), resilience.ErrCircuitBreakerOpen)
	require.Empty(t, heard)
	cb.Reset()
	require.Equal(t, []events.Kind{events.KindStateChanged}, heard)

	heard, asked = nil, 0
	c := &resilience.RetryConfig{InitialDelay: 1, MaxDelay: 1, Events: sink}
	require.Error(t, resilience.Retry(t.Context(), c, func() error { on = true; return errBench }))
	require.Empty(t, heard)
	require.NoError(t, resilience.Retry(t.Context(), c, func() error { on = false; return nil }))
	require.Equal(t, []events.Kind{
		events.KindRetryStarted, events.KindAttemptStarted, events.KindAttemptFinished, events.KindRetryFinished,
	}, heard)
	require.Equal(t, 2, asked)
}

// An Enabled that panics is the caller's panic and keeps no probe's place.
func TestEnabledThatPanicsLosesNoProbe(t *testing.T) {
	trouble := false
	sink := events.Sink{
		CallFinished: func(context.Context, events.CallFinished) {},
		Enabled: func(context.Context) bool {
			if trouble {
				panic("enabled")
			}
			return true
		},
	}
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		VolumeThreshold: 1, HalfOpenRequests: 1, SleepWindow: 1, ProbeTimeout: time.Hour, Events: sink,
	})
	require.Error(t, cb.Execute(t.Context(), fail))
	trouble = true
	for range 3 {
		require.PanicsWithValue(t, "enabled", func() { _ = cb.Execute(t.Context(), succeed) })
	}
	trouble = false
	require.NoError(t, cb.Execute(t.Context(), succeed))
	require.Equal(t, resilience.StateClosed, cb.State())
}

// Slow calls are timed whether or not anybody listens.
func TestSlowCallsCountWithoutListeners(t *testing.T) {
	sink := events.Sink{
		CallFinished: func(context.Context, events.CallFinished) { t.Error("told") },
		Enabled:      func(context.Context) bool { return false },
	}
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		VolumeThreshold: 2, SlowCallDuration: 1, SlowCallThreshold: 1, Events: sink,
	})
	for range 2 {
		require.NoError(t, cb.Execute(t.Context(), succeed))
	}
	require.Equal(t, resilience.StateOpen, cb.State())
}
