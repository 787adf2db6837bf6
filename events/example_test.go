package events_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// The examples play a breaker and a retry by hand. In a program, package resilience
// calls the sink that is given to it in its configuration.

func ExampleSink() {
	type startKey struct{}
	sink := events.Sink{ // the other kinds of event are of no interest and stay nil
		CallStarted: func(ctx context.Context, _ events.CallStarted) context.Context {
			return context.WithValue(ctx, startKey{}, "call 1") // as a tracer puts its span there
		},
		CallFinished: func(ctx context.Context, e events.CallFinished) {
			fmt.Printf("%v of %s: %v after %v\n", ctx.Value(startKey{}), e.Name, e.Outcome, e.Duration)
		},
	}

	payment := events.Header{Name: "payment", ID: 1}
	ctx := sink.CallStarted(context.Background(), events.CallStarted{Header: payment})
	sink.CallFinished(ctx, events.CallFinished{
		Header: payment, Outcome: events.OutcomeFailure, Duration: 20 * time.Millisecond, Err: errors.New("down"),
	})
	// Output: call 1 of payment: failure after 20ms
}

func ExampleJoin() {
	alert := events.Sink{StateChanged: func(_ context.Context, e events.StateChanged) {
		fmt.Println("alert:", e.Name, "is", e.To)
	}}
	count := 0
	metrics := events.Sink{
		StateChanged: func(context.Context, events.StateChanged) { count++ },
		CallRejected: func(context.Context, events.CallRejected) { count++ },
	}
	sink := events.Join(alert, metrics)

	payment := events.Header{Name: "payment", ID: 1}
	sink.StateChanged(context.Background(), events.StateChanged{Header: payment, To: events.StateOpen})
	sink.CallRejected(context.Background(), events.CallRejected{Header: payment, State: events.StateOpen})
	fmt.Println(count, "counted; CallStarted is still nil:", sink.CallStarted == nil)
	// Output:
	// alert: payment is open
	// 2 counted; CallStarted is still nil: true
}

func ExampleAll() {
	sink := events.All(func(_ context.Context, e events.Event) {
		switch e := e.(type) {
		case events.StateChanged:
			fmt.Printf("%s %s: %v to %v, %s\n", e.Kind(), e.Name, e.From, e.To, e.Reason)
		default:
			fmt.Println(e.Kind(), e.About().Name)
		}
	})

	payment := events.Header{Name: "payment", ID: 1}
	sink.BreakerCreated(context.Background(), events.BreakerCreated{Header: payment})
	sink.StateChanged(context.Background(), events.StateChanged{
		Header: payment, To: events.StateOpen, Reason: events.ReasonErrorRate,
	})
	// Output:
	// BreakerCreated payment
	// StateChanged payment: closed to open, error_rate
}

func ExampleStream() {
	stream := events.NewStream(100)
	done := make(chan struct{})
	go func() { // may be as slow as it likes
		defer close(done)
		for e := range stream.All(context.Background()) {
			if e, ok := e.(events.StateChanged); ok {
				fmt.Println(e.Name, "is", e.To)
			}
		}
	}()

	sink := stream.Sink(events.KindStateChanged) // a burst of calls cannot crowd these out
	payment := events.Header{Name: "payment", ID: 1}
	sink.StateChanged(context.Background(), events.StateChanged{Header: payment, To: events.StateOpen})
	sink.StateChanged(context.Background(), events.StateChanged{Header: payment, From: events.StateOpen, To: events.StateHalfOpen})

	stream.Close()
	<-done
	fmt.Println(stream.Dropped(), "dropped")
	// Output:
	// payment is open
	// payment is half-open
	// 0 dropped
}

func ExampleLog() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelInfo, // no calls, only what is rare
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{} // so that the output is always the same
			}
			return a
		},
	}))
	sink := events.Log(logger)

	payment := events.Header{Name: "payment", ID: 1}
	sink.CallRejected(context.Background(), events.CallRejected{Header: payment, State: events.StateOpen})
	sink.StateChanged(context.Background(), events.StateChanged{
		Header: payment, From: events.StateHalfOpen, To: events.StateClosed, Reason: events.ReasonProbesPassed,
		Generation: 4, Elapsed: 2 * time.Second, Counts: events.Counts{Success: 3},
	})
	sink.RetryFinished(context.Background(), events.RetryFinished{
		Header: events.Header{Name: "charge"}, Outcome: events.OutcomeFailure, Reason: events.ReasonExhausted,
		Attempts: 3, Duration: time.Second, Delay: 600 * time.Millisecond, Err: errors.New("down"),
	})
	// Output:
	// level=INFO msg="circuit breaker state changed" breaker=payment breaker_id=1 from=half_open to=closed reason=probes_passed generation=4 elapsed=2s counts.success=3 counts.failure=0 counts.ignored=0 counts.slow=0 failure_ratio=0
	// level=WARN msg="retry finished" retry=charge outcome=failure reason=exhausted attempts=3 duration=1s delay=600ms error=down
}

func ExampleErrorType() {
	err := fmt.Errorf("charge: %w", context.DeadlineExceeded)
	fmt.Println(events.ErrorType(err))
	fmt.Println(events.ErrorType(fmt.Errorf("charge: %w", errors.New("down"))))
	// Output:
	// timeout
	// *errors.errorString
}
