//go:build !race

package otelres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// Allocations of a call with each kind of Telemetry attached. The race detector
// allocates, so these tests are not built with it.

// protected is what is measured: each outcome of a breaker's call, and a retry.
func protected(sink events.Sink) map[string]func() {
	ctx := context.Background()
	closed := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "closed", VolumeThreshold: 1 << 30, Events: sink})
	forced := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "forced", Events: sink})
	forced.ForceOpen()
	ignored := resilience.Ignore(errDown)
	retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "payment", Events: sink})
	nothing := func() error { return nil }
	down := func() error { return errDown }
	ignore := func() error { return ignored }
	work := func(context.Context) error { return nil }
	failing := func(context.Context) error { return errDown }
	bulkhead := resilience.NewBulkhead(&resilience.BulkheadConfig{Name: "payment", Events: sink})
	full := resilience.NewBulkhead(&resilience.BulkheadConfig{Name: "full", MaxConcurrent: 1, Events: sink})
	within := func(ctx context.Context) error { return full.Run(ctx, work) }
	limit := resilience.NewRateLimit(&resilience.RateLimitConfig{Name: "payment", Allow: anything{}, Events: sink})
	fallback := resilience.NewFallback(&resilience.FallbackConfig[struct{}]{
		Name: "payment", Value: func(context.Context, error) (struct{}, error) { return struct{}{}, nil }, Events: sink,
	})
	timeout := resilience.NewTimeout(&resilience.TimeoutConfig{Name: "payment", Events: sink})
	hedge := resilience.NewHedge(&resilience.HedgeConfig{Name: "payment", Delay: time.Hour, Events: sink})
	return map[string]func(){
		"success":   func() { _ = closed.Execute(ctx, nothing) },
		"failure":   func() { _ = closed.Execute(ctx, down) },
		"ignored":   func() { _ = closed.Execute(ctx, ignore) },
		"rejection": func() { _ = forced.Execute(ctx, nothing) },
		"retry":     func() { _ = retrier.Run(ctx, work) },

		"bulkhead":           func() { _ = bulkhead.Run(ctx, work) },
		"bulkhead rejection": func() { _ = full.Run(ctx, within) },
		"rate limit":         func() { _ = limit.Run(ctx, work) },
		"fallback":           func() { _ = fallback.Run(ctx, work) },
		"fallback used":      func() { _ = fallback.Run(ctx, failing) },
		"timeout":            func() { _ = timeout.Run(ctx, work) },
		"hedge":              func() { _ = hedge.Run(ctx, work) },
	}
}

// anything is a limiter that allows anything.
type anything struct{}

func (anything) Allow() bool { return true }

// requireNoMoreAllocations compares with the engine that talks to a sink that does
// nothing, function by function: what the engine itself needs to have events is
// not this package's.
func requireNoMoreAllocations(t *testing.T, sink events.Sink) {
	t.Helper()
	alone := protected(deaf(sink))
	for name, f := range protected(sink) {
		f() // first calls may make series
		require.Equal(t, testing.AllocsPerRun(200, alone[name]), testing.AllocsPerRun(200, f), "allocations per %s", name)
		if name != "retry" && name != "timeout" && name != "hedge" { // these need contexts and timers
			require.Zero(t, testing.AllocsPerRun(200, f), name)
		}
	}
}

// Nobody in this binary installs a global SDK, but for the process that
// TestGlobalProvidersInstalledLater starts.
func TestNoSDKAllocatesNothing(t *testing.T) {
	tel, err := otelres.New(otelres.WithBreakerSpans(), otelres.WithEvents(otelres.Both))
	require.NoError(t, err)
	requireNoMoreAllocations(t, tel.Sink())
}

func TestNoopProvidersAllocateNothing(t *testing.T) {
	tel, err := otelres.New(otelres.WithTracerProvider(tracenoop.NewTracerProvider()), otelres.WithMeterProvider(metricnoop.NewMeterProvider()))
	require.NoError(t, err)
	requireNoMoreAllocations(t, tel.Sink())
}

func TestMetricsAllocateNothing(t *testing.T) {
	k := newKit(t, otelres.WithTracerProvider(nil))
	requireNoMoreAllocations(t, k.sink)
	require.NotEmpty(t, series(k.collect(t), mOperations))
}

// The same within a sampled request, where exemplars are kept, for the names
// beyond the limit too.
func TestMetricsWithExemplarsAllocateNothing(t *testing.T) {
	k := newKit(t, otelres.WithTracerProvider(tracenoop.NewTracerProvider()), otelres.WithNameLimit(1))
	ctx, _ := sampled(t)
	h := events.Header{Name: "beyond"}
	for name, f := range map[string]func(){
		"RetryStarted": func() { k.sink.RetryStarted(ctx, events.RetryStarted{Header: h}) },
		"AttemptFinished": func() {
			k.sink.AttemptFinished(ctx, events.AttemptFinished{Header: h, Attempt: 2, Duration: time.Second, Err: errDown})
		},
		"RetryFinished": func() {
			k.sink.RetryFinished(ctx, events.RetryFinished{Header: h, Reason: events.ReasonDeadline, Err: errDown})
		},
	} {
		f()
		require.Zero(t, testing.AllocsPerRun(200, f), name)
	}
}

// Seen from the hooks themselves: none of them allocates on its own, the rare ones
// included, with metrics attached.
func TestHooksAllocateNothing(t *testing.T) {
	k := newKit(t, otelres.WithTracerProvider(nil))
	ctx := t.Context()
	newFakeBreaker(k.sink, "gateway", 1, events.Thresholds{})
	b, r := events.Header{Name: "gateway", ID: 1}, events.Header{Name: "payment"}
	for name, f := range map[string]func(){
		"CallFinished": func() {
			k.sink.CallFinished(ctx, events.CallFinished{Header: b, Duration: time.Millisecond, Err: errDown})
		},
		"CallRejected":    func() { k.sink.CallRejected(ctx, events.CallRejected{Header: b, State: events.StateOpen}) },
		"StateChanged":    func() { k.sink.StateChanged(ctx, events.StateChanged{Header: b, To: events.StateOpen}) },
		"RetryStarted":    func() { k.sink.RetryStarted(ctx, events.RetryStarted{Header: r}) },
		"AttemptStarted":  func() { k.sink.AttemptStarted(ctx, events.AttemptStarted{Header: r}) },
		"AttemptFinished": func() { k.sink.AttemptFinished(ctx, events.AttemptFinished{Header: r, Err: errDown}) },
		"RetryScheduled":  func() { k.sink.RetryScheduled(ctx, events.RetryScheduled{Header: r, Err: errDown}) },
		"RetryFinished": func() {
			k.sink.RetryFinished(ctx, events.RetryFinished{Header: r, Reason: events.ReasonExhausted, Err: errDown})
		},
		"TimedOut": func() { k.sink.TimedOut(ctx, events.TimedOut{Header: r, Limit: time.Second, Err: errDown}) },
		"BulkheadWaited": func() {
			k.sink.BulkheadWaited(ctx, events.BulkheadWaited{Header: b, Duration: time.Second})
		},
		"BulkheadRejected": func() {
			k.sink.BulkheadRejected(ctx, events.BulkheadRejected{Header: b, Reason: events.ReasonQueueFull})
		},
		"RateLimited": func() {
			k.sink.RateLimited(ctx, events.RateLimited{Header: r, Duration: time.Second, Outcome: events.OutcomeRejected})
		},
		"FellBack": func() { k.sink.FellBack(ctx, events.FellBack{Header: r, Err: errDown}) },
		"HedgeAttemptStarted": func() {
			k.sink.HedgeAttemptStarted(ctx, events.HedgeAttemptStarted{Header: r, Attempt: 2, Delay: time.Second, Previous: ctx})
		},
		"HedgeAttemptFinished": func() {
			k.sink.HedgeAttemptFinished(ctx, events.HedgeAttemptFinished{Header: r, Attempt: 2, Won: true})
		},
	} {
		f()
		require.Zero(t, testing.AllocsPerRun(200, f), name)
	}
}
