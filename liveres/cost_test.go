package liveres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/liveres"
	"github.com/breakwater-go/breakwater/resilience"
)

// Neither the sink alone nor a call with it allocates.
func TestNoAllocations(t *testing.T) {
	ctx := context.Background()
	measure := func(name string, f func()) {
		t.Helper()
		require.Zero(t, testing.AllocsPerRun(2000, f), name)
	}
	l := liveres.New(liveres.WithTraceID(func(context.Context) string { return "trace" }))
	s := l.Sink()
	headers := circuits(s, 500)
	i := 0
	measure("CallFinished", func() {
		i++
		s.CallFinished(ctx, events.CallFinished{Header: headers[i%500], Duration: time.Duration(i) * time.Microsecond, Err: errFailed})
	})
	measure("CallRejected", func() {
		i++
		s.CallRejected(ctx, events.CallRejected{Header: headers[i%500]})
	})
	measure("the retry that succeeds at once", func() { retried(ctx, s) })

	cb := breaker(l, resilience.CircuitBreakerConfig{ErrorThreshold: 1})
	measure("a call that succeeds", func() { _ = cb.Run(ctx, succeed) })
	measure("a call that fails", func() { _ = cb.Run(ctx, fail) })
	cb.ForceOpen()
	measure("a call that is rejected", func() { _ = cb.Run(ctx, succeed) })
	retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "retry", Events: s})
	measure("a retry", func() { _ = retrier.Run(ctx, succeed) })
}

// The sink costs a call at most 100 ns, with 500 circuits too, while somebody watches.
// It is the best of many short rounds, since others use the machine as well.
func TestSinkIsCheap(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes everything slow")
	}
	l := liveres.New()
	defer l.Close()
	s := l.Sink()
	headers := circuits(s, 500)
	_, leave := watch(t, l)
	defer leave()
	ctx := t.Context()
	for name, f := range map[string]func(i int){
		"CallFinished": func(i int) {
			s.CallFinished(ctx, events.CallFinished{Header: headers[i%500], Duration: time.Duration(i%1000) * time.Millisecond})
		},
		"CallRejected": func(i int) { s.CallRejected(ctx, events.CallRejected{Header: headers[i%500]}) },
	} {
		const calls = 20000
		best := time.Duration(1 << 62)
		for range 50 {
			began := time.Now()
			for i := range calls {
				f(i)
			}
			best = min(best, time.Since(began))
		}
		t.Logf("%s costs %v", name, best/calls)
		require.LessOrEqual(t, best/calls, 100*time.Nanosecond, name)
	}
}
