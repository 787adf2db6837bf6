package events_test

import (
	"context"
	"reflect"

	"github.com/breakwater-go/breakwater/events"
)

// kinds lists everything that has to exist once for each kind of event. The tests
// that range over it hold it against the fields of Sink.
var kinds = []struct {
	kind  events.Kind
	event events.Event
}{
	{events.KindBreakerCreated, events.BreakerCreated{Header: payment}},
	{events.KindCallStarted, events.CallStarted{Header: payment}},
	{events.KindCallFinished, events.CallFinished{Header: payment}},
	{events.KindCallRejected, events.CallRejected{Header: payment}},
	{events.KindStateChanged, events.StateChanged{Header: payment}},
	{events.KindWindowRotated, events.WindowRotated{Header: payment}},
	{events.KindBreakerRetired, events.BreakerRetired{Header: payment}},
	{events.KindRetryStarted, events.RetryStarted{Header: charge}},
	{events.KindAttemptStarted, events.AttemptStarted{Header: charge}},
	{events.KindAttemptFinished, events.AttemptFinished{Header: charge}},
	{events.KindRetryScheduled, events.RetryScheduled{Header: charge}},
	{events.KindRetryFinished, events.RetryFinished{Header: charge}},
	{events.KindPolicyCreated, events.PolicyCreated{Header: charge}},
	{events.KindTimedOut, events.TimedOut{Header: charge}},
	{events.KindBulkheadCreated, events.BulkheadCreated{Header: payment}},
	{events.KindBulkheadWaited, events.BulkheadWaited{Header: payment}},
	{events.KindBulkheadRejected, events.BulkheadRejected{Header: payment}},
	{events.KindBulkheadRetired, events.BulkheadRetired{Header: payment}},
	{events.KindRateLimited, events.RateLimited{Header: charge}},
	{events.KindFellBack, events.FellBack{Header: charge}},
	{events.KindHedgeAttemptStarted, events.HedgeAttemptStarted{Header: charge}},
	{events.KindHedgeAttemptFinished, events.HedgeAttemptFinished{Header: charge}},
	{events.KindBreakerReconfigured, events.BreakerReconfigured{Header: payment}},
	{events.KindBudgetCreated, events.BudgetCreated{Header: payment}},
	{events.KindBudgetExhausted, events.BudgetExhausted{Header: payment}},
	{events.KindBudgetRetired, events.BudgetRetired{Header: payment}},
}

var (
	payment = events.Header{Name: "payment", ID: 7}
	charge  = events.Header{Name: "charge"}
)

// deliver passes e to the function of s for its kind, found by name, and returns the
// context that the function derived, or ctx.
func deliver(ctx context.Context, s events.Sink, e events.Event) context.Context {
	f := function(s, e.Kind())
	if f.IsNil() {
		return ctx
	}
	derived := f.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(e)})
	if len(derived) == 0 {
		return ctx
	}
	return derived[0].Interface().(context.Context)
}

// function returns the function of s for kind k.
func function(s events.Sink, k events.Kind) reflect.Value {
	return reflect.ValueOf(s).FieldByName(k.String())
}

// with returns a sink that has one function, for events of kind k: f.
func with(k events.Kind, f func(context.Context, events.Event) context.Context) events.Sink {
	var s events.Sink
	field := reflect.ValueOf(&s).Elem().FieldByName(k.String())
	field.Set(reflect.MakeFunc(field.Type(), func(args []reflect.Value) []reflect.Value {
		ctx := f(args[0].Interface().(context.Context), args[1].Interface().(events.Event))
		if field.Type().NumOut() == 0 {
			return nil
		}
		return []reflect.Value{reflect.ValueOf(&ctx).Elem()}
	}))
	return s
}

// starts reports that events of kind k derive a context.
func starts(k events.Kind) bool {
	return function(events.Sink{}, k).Type().NumOut() == 1
}
