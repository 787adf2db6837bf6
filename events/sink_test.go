package events_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
)

type key string

// noted returns a sink with a function for kind k that notes name in log and, where it
// may, derives a context that holds all names so far.
func noted(k events.Kind, name string, log *[]string) events.Sink {
	return with(k, func(ctx context.Context, e events.Event) context.Context {
		path, _ := ctx.Value(key("path")).(string)
		*log = append(*log, fmt.Sprintf("%s %s after %q", name, e.About().Name, path))
		return context.WithValue(ctx, key("path"), path+name)
	})
}

func TestJoinKeepsOrderAndThreadsContexts(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.kind.String(), func(t *testing.T) {
			var log []string
			joined := events.Join(
				events.Sink{}, noted(k.kind, "a", &log), noted(k.kind, "b", &log), events.Sink{}, noted(k.kind, "c", &log))
			ctx := deliver(t.Context(), joined, k.event)

			name := k.event.About().Name
			if starts(k.kind) {
				require.Equal(t, []string{`a ` + name + ` after ""`, `b ` + name + ` after "a"`, `c ` + name + ` after "ab"`}, log)
				require.Equal(t, "abc", ctx.Value(key("path")))
			} else {
				require.Equal(t, []string{`a ` + name + ` after ""`, `b ` + name + ` after ""`, `c ` + name + ` after ""`}, log)
				require.Equal(t, t.Context(), ctx)
			}
		})
	}
}

func TestJoinIsNilOnlyWhereAllAre(t *testing.T) {
	var log []string
	for _, k := range kinds {
		one := noted(k.kind, "a", &log)
		for _, joined := range []events.Sink{
			events.Join(one), events.Join(one, events.Sink{}), events.Join(events.Sink{}, one), events.Join(one, one),
		} {
			for _, other := range kinds {
				require.Equal(t, other.kind != k.kind, function(joined, other.kind).IsNil(), "%v joined, %v", k.kind, other.kind)
			}
		}
	}
	require.Empty(t, log)
}

func TestJoinOfOneIsItself(t *testing.T) {
	log := []string(nil)
	var sinks []events.Sink
	for _, k := range kinds {
		sinks = append(sinks, noted(k.kind, "a", &log))
	}
	joined := events.Join(sinks...)
	for i, k := range kinds {
		require.Equal(t, function(sinks[i], k.kind).Pointer(), function(joined, k.kind).Pointer(), k.kind)
	}
	// MakeFunc's functions may share a pointer; functions of one's own do not.
	own := func(context.Context, events.CallFinished) {}
	for _, joined := range []events.Sink{
		events.Join(events.Sink{CallFinished: own}),
		events.Join(events.Sink{}, events.Sink{CallFinished: own}, events.Sink{}),
	} {
		require.Equal(t, reflect.ValueOf(own).Pointer(), reflect.ValueOf(joined.CallFinished).Pointer())
	}
}

func TestJoinOfNothing(t *testing.T) {
	for _, joined := range []events.Sink{events.Join(), events.Join(events.Sink{}), events.Join(events.Sink{}, events.Sink{})} {
		require.True(t, reflect.ValueOf(joined).IsZero())
	}
}

func TestJoinKeepsAPanicFromOtherSinks(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.kind.String(), func(t *testing.T) {
			var log []string
			boom := errors.New("boom")
			panics := with(k.kind, func(context.Context, events.Event) context.Context { panic(boom) })
			joined := events.Join(noted(k.kind, "a", &log), panics, noted(k.kind, "b", &log), noted(k.kind, "c", &log))
			require.PanicsWithValue(t, boom, func() { deliver(t.Context(), joined, k.event) })
			if starts(k.kind) { // there is no context to go on with
				require.Len(t, log, 1)
			} else {
				require.Len(t, log, 3)
			}
		})
	}
}

func TestJoinKeepsGoexitFromOtherSinks(t *testing.T) {
	var log []string
	exits := events.Sink{CallFinished: func(context.Context, events.CallFinished) { runtime.Goexit() }}
	joined := events.Join(exits, noted(events.KindCallFinished, "b", &log))
	done := make(chan struct{})
	go func() {
		defer close(done)
		joined.CallFinished(t.Context(), events.CallFinished{Header: payment})
		log = append(log, "returned")
	}()
	<-done
	require.Equal(t, []string{`b payment after ""`}, log)
}

func TestJoinLeavesItsArgumentsAlone(t *testing.T) {
	var log []string
	sinks := []events.Sink{noted(events.KindCallStarted, "a", &log), {}}
	before := slices.Clone(sinks)
	joined := events.Join(sinks...)
	sinks[0] = events.Sink{}
	deliver(t.Context(), joined, events.CallStarted{Header: payment})
	require.Len(t, log, 1)
	require.Nil(t, before[1].CallStarted)
}

func TestAllPassesEveryEventAndItsContext(t *testing.T) {
	ctx := context.WithValue(t.Context(), key("k"), "v")
	for _, k := range kinds {
		var got []events.Event
		sink := events.All(func(passed context.Context, e events.Event) {
			require.Equal(t, ctx, passed)
			got = append(got, e)
		})
		require.Equal(t, ctx, deliver(ctx, sink, k.event), "derives nothing")
		require.Len(t, got, 1)
		require.IsType(t, k.event, got[0])
		require.Equal(t, k.event.About(), got[0].About())
	}
}

func TestAllOfNil(t *testing.T) {
	require.True(t, reflect.ValueOf(events.All(nil)).IsZero())
}

// counter is a sink of plain functions that does next to nothing.
func counter(n *int) events.Sink {
	return events.Sink{
		BreakerCreated:  func(context.Context, events.BreakerCreated) { *n++ },
		CallStarted:     func(ctx context.Context, _ events.CallStarted) context.Context { *n++; return ctx },
		CallFinished:    func(context.Context, events.CallFinished) { *n++ },
		CallRejected:    func(context.Context, events.CallRejected) { *n++ },
		StateChanged:    func(context.Context, events.StateChanged) { *n++ },
		WindowRotated:   func(context.Context, events.WindowRotated) { *n++ },
		BreakerRetired:  func(context.Context, events.BreakerRetired) { *n++ },
		RetryStarted:    func(ctx context.Context, _ events.RetryStarted) context.Context { *n++; return ctx },
		AttemptStarted:  func(ctx context.Context, _ events.AttemptStarted) context.Context { *n++; return ctx },
		AttemptFinished: func(context.Context, events.AttemptFinished) { *n++ },
		RetryScheduled:  func(context.Context, events.RetryScheduled) { *n++ },
		RetryFinished:   func(context.Context, events.RetryFinished) { *n++ },

		PolicyCreated:        func(context.Context, events.PolicyCreated) { *n++ },
		TimedOut:             func(context.Context, events.TimedOut) { *n++ },
		BulkheadCreated:      func(context.Context, events.BulkheadCreated) { *n++ },
		BulkheadWaited:       func(context.Context, events.BulkheadWaited) { *n++ },
		BulkheadRejected:     func(context.Context, events.BulkheadRejected) { *n++ },
		BulkheadRetired:      func(context.Context, events.BulkheadRetired) { *n++ },
		RateLimited:          func(context.Context, events.RateLimited) { *n++ },
		FellBack:             func(context.Context, events.FellBack) { *n++ },
		HedgeAttemptStarted:  func(ctx context.Context, _ events.HedgeAttemptStarted) context.Context { *n++; return ctx },
		HedgeAttemptFinished: func(context.Context, events.HedgeAttemptFinished) { *n++ },
		BreakerReconfigured:  func(context.Context, events.BreakerReconfigured) { *n++ },
		BudgetCreated:        func(context.Context, events.BudgetCreated) { *n++ },
		BudgetExhausted:      func(context.Context, events.BudgetExhausted) { *n++ },
		BudgetRetired:        func(context.Context, events.BudgetRetired) { *n++ },
	}
}

var errDown = errors.New("down")

// deliverAll passes an event of each kind to s, without the help of reflection, which
// allocates.
func deliverAll(ctx context.Context, s events.Sink, now time.Time) {
	s.BreakerCreated(ctx, events.BreakerCreated{Header: payment, Time: now})
	call := s.CallStarted(ctx, events.CallStarted{Header: payment})
	s.CallFinished(call, events.CallFinished{Header: payment, Outcome: events.OutcomeFailure, Err: errDown})
	s.CallRejected(ctx, events.CallRejected{Header: payment, State: events.StateOpen})
	s.StateChanged(ctx, events.StateChanged{Header: payment, Time: now, To: events.StateOpen})
	s.WindowRotated(ctx, events.WindowRotated{Header: payment, Time: now})
	s.BreakerRetired(ctx, events.BreakerRetired{Header: payment, Time: now})
	retry := s.RetryStarted(ctx, events.RetryStarted{Header: charge})
	attempt := s.AttemptStarted(retry, events.AttemptStarted{Header: charge, Attempt: 1})
	s.AttemptFinished(attempt, events.AttemptFinished{Header: charge, Attempt: 1, Err: errDown})
	s.RetryScheduled(retry, events.RetryScheduled{Header: charge, Attempt: 2, Err: errDown})
	s.RetryFinished(retry, events.RetryFinished{Header: charge, Reason: events.ReasonExhausted, Err: errDown})
	s.PolicyCreated(ctx, events.PolicyCreated{Header: charge, Time: now})
	s.TimedOut(ctx, events.TimedOut{Header: charge, Err: errDown})
	s.BulkheadCreated(ctx, events.BulkheadCreated{Header: payment, Time: now})
	s.BulkheadWaited(ctx, events.BulkheadWaited{Header: payment})
	s.BulkheadRejected(ctx, events.BulkheadRejected{Header: payment, Reason: events.ReasonQueueFull})
	s.BulkheadRetired(ctx, events.BulkheadRetired{Header: payment, Time: now})
	s.RateLimited(ctx, events.RateLimited{Header: charge, Err: errDown})
	s.FellBack(ctx, events.FellBack{Header: charge, Err: errDown, Outcome: events.OutcomeFailure, FallbackErr: errDown})
	hedge := s.HedgeAttemptStarted(ctx, events.HedgeAttemptStarted{Header: charge, Attempt: 1})
	s.HedgeAttemptFinished(hedge, events.HedgeAttemptFinished{Header: charge, Attempt: 1, Err: errDown})
	s.BreakerReconfigured(ctx, events.BreakerReconfigured{Header: payment, Time: now})
	s.BudgetCreated(ctx, events.BudgetCreated{Header: payment, Time: now})
	s.BudgetExhausted(ctx, events.BudgetExhausted{Header: payment, Attempt: 2, Err: errDown})
	s.BudgetRetired(ctx, events.BudgetRetired{Header: payment, Time: now})
}

func TestSinksAllocateNothing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		sinks int
	}{{"one", 1}, {"joined", 2}, {"three joined", 3}} {
		t.Run(tt.name, func(t *testing.T) {
			var n int
			sink := events.Join(slices.Repeat([]events.Sink{counter(&n)}, tt.sinks)...)
			now, ctx, runs := time.Now(), t.Context(), 0
			require.Zero(t, testing.AllocsPerRun(100, func() {
				runs++
				deliverAll(ctx, sink, now)
			}))
			require.Equal(t, runs*int(events.KindCount)*tt.sinks, n)
		})
	}
}
