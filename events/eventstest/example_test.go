package eventstest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
)

// printer stands in for the test that an example does not have.
type printer struct{ testing.TB }

func (printer) Helper()                           {}
func (printer) Cleanup(func())                    {}
func (printer) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func ExampleRecorder() {
	t := printer{} // in a test, its *testing.T
	r := eventstest.New(t)

	// Give the sink to a breaker or a retry in its configuration. Here a breaker is
	// played by hand, one that forgets how its second call ended.
	sink := r.Sink()
	ctx, payment := context.Background(), events.Header{Name: "payment", ID: 1}
	sink.BreakerCreated(ctx, events.BreakerCreated{
		Header:   payment,
		Time:     time.Now(),
		Snapshot: func() events.Snapshot { return events.Snapshot{Generation: 1} },
	})
	first := sink.CallStarted(ctx, events.CallStarted{Header: payment})
	sink.CallStarted(ctx, events.CallStarted{Header: payment})
	sink.CallFinished(first, events.CallFinished{Header: payment, Outcome: events.OutcomeSuccess})

	for _, e := range eventstest.Of[events.CallFinished](r) {
		fmt.Println(e.Name, e.Outcome)
	}
	r.Check() // the end of the test does this as well
	// Output:
	// payment success
	// eventstest: breaker "payment" (ID 1): CallStarted without CallFinished
}

func ExampleRecorder_Kinds() {
	r := eventstest.New(printer{})
	sink := r.Sink()
	charge := events.Header{Name: "charge"}
	op := sink.RetryStarted(context.Background(), events.RetryStarted{Header: charge})
	attempt := sink.AttemptStarted(op, events.AttemptStarted{Header: charge, Attempt: 1})
	sink.AttemptFinished(attempt, events.AttemptFinished{Header: charge, Attempt: 1, Decision: events.ReasonSuccess})
	sink.RetryFinished(op, events.RetryFinished{Header: charge, Attempts: 1, Reason: events.ReasonSuccess})
	fmt.Println(r.Kinds())
	// Output: [RetryStarted AttemptStarted AttemptFinished RetryFinished]
}
