package resilience_test

import (
	"context"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// idleSink listens to everything and does nothing.
func idleSink() events.Sink {
	return events.Sink{
		CallStarted:   func(ctx context.Context, _ events.CallStarted) context.Context { return ctx },
		CallFinished:  func(context.Context, events.CallFinished) {},
		CallRejected:  func(context.Context, events.CallRejected) {},
		StateChanged:  func(context.Context, events.StateChanged) {},
		WindowRotated: func(context.Context, events.WindowRotated) {},
	}
}

// It must hold: a call costs no allocation, with and without sinks.
func TestCallsDoNotAllocate(t *testing.T) {
	ctx := t.Context()
	work := func(context.Context) error { return nil }
	failing := func(context.Context) error { return errBroken }
	ign := resilience.Ignore(errOther)
	ignoring := func() error { return ign }
	for name, sink := range map[string]events.Sink{
		"silent":       {},
		"one sink":     idleSink(),
		"joined sinks": events.Join(idleSink(), idleSink()),
	} {
		newBreaker := func(change func(c *resilience.CircuitBreakerConfig)) *resilience.CircuitBreaker {
			c := &resilience.CircuitBreakerConfig{Events: sink, WindowSize: 24 * time.Hour, VolumeThreshold: 1 << 30}
			if change != nil {
				change(c)
			}
			return resilience.NewCircuitBreaker(c)
		}
		closedOne := newBreaker(nil)
		slowJudging := newBreaker(func(c *resilience.CircuitBreakerConfig) {
			c.SlowCallDuration, c.SlowCallThreshold = 1, 1
		})
		judged := newBreaker(func(c *resilience.CircuitBreakerConfig) { c.VolumeThreshold = 1 })
		for range 5000 {
			_ = judged.Execute(ctx, healthy)
		}
		opened := newBreaker(nil)
		opened.ForceOpen()
		sleeping := newBreaker(func(c *resilience.CircuitBreakerConfig) { c.VolumeThreshold = 1 })
		_ = sleeping.Execute(ctx, broken)
		require.Equal(t, open, sleeping.State())
		full := newBreaker(func(c *resilience.CircuitBreakerConfig) {
			c.VolumeThreshold, c.SleepWindow, c.ProbeTimeout, c.HalfOpenRequests = 1, 1, time.Hour, 1
		})
		_ = full.Execute(ctx, broken)
		for full.State() != halfOpen {
			runtime.Gosched()
		}
		probe, err := full.Acquire(ctx)
		require.NoError(t, err)
		canceled, cancel := context.WithCancel(ctx)
		cancel()

		for what, call := range map[string]func(){
			"success":             func() { _ = closedOne.Execute(ctx, healthy) },
			"success in Run":      func() { _ = closedOne.Run(ctx, work) },
			"failure":             func() { _ = closedOne.Execute(ctx, broken) },
			"failure in Run":      func() { _ = closedOne.Run(ctx, failing) },
			"ignored":             func() { _ = closedOne.Execute(ctx, ignoring) },
			"slow success":        func() { _ = slowJudging.Execute(ctx, healthy) },
			"judged success":      func() { _ = judged.Execute(ctx, healthy) },
			"judged failure":      func() { _ = judged.Execute(ctx, broken); _ = judged.Execute(ctx, healthy) },
			"rejection, forced":   func() { _ = opened.Execute(ctx, healthy) },
			"rejection":           func() { _ = sleeping.Execute(ctx, healthy) },
			"rejection in Run":    func() { _ = sleeping.Run(ctx, work) },
			"rejection of probes": func() { _ = full.Execute(ctx, healthy) },
			"done context":        func() { _ = closedOne.Execute(canceled, healthy) },
			"State":               func() { _ = closedOne.State() },
			"GetStats":            func() { _ = closedOne.GetStats() },
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				require.Zero(t, testing.AllocsPerRun(1000, call))
			})
		}
		require.Equal(t, closed, closedOne.State())
		require.Equal(t, closed, judged.State())
		probe.Done(nil)
		sleeping.Close()
		full.Close()
	}
}

// Rule 15: neither calls nor breakers have goroutines.
func TestNoGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	breakers := make([]*resilience.CircuitBreaker, 10_000)
	for i := range breakers {
		breakers[i] = resilience.NewCircuitBreaker(small(idleSink()))
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before, "idle")
	for _, cb := range breakers[:1000] {
		trip(t, cb)
		requireRejected(t, cb)
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before, "open")
	for _, cb := range breakers[:1000] {
		cb.Close()
	}
	runtime.KeepAlive(breakers)
}

// A cold breaker is small, its phase and its buckets included. Of several readings
// the least counts: what else is on the heap can only add to one.
func TestABreakerIsSmall(t *testing.T) {
	const n, most = 10_000, 700
	breakers := make([]*resilience.CircuitBreaker, n)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // the first one leaves what sync.Pool holds
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	least := int64(math.MaxInt64)
	for range 3 {
		clear(breakers)
		before := heap()
		for i := range breakers {
			breakers[i] = resilience.NewCircuitBreaker(nil)
		}
		if each := (heap() - before) / n; each > 0 {
			least = min(least, each)
		}
	}
	runtime.KeepAlive(breakers)
	t.Logf("%d bytes for each breaker of the default configuration", least)
	require.LessOrEqual(t, least, int64(most))
}
