package otelres_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// charge stands for a call to a server that times out at first. A client that is
// instrumented, such as otelhttp's, would put its span into ctx's attempt.
func charge(tracer oteltrace.Tracer) func(context.Context) error {
	failures := 1
	return func(ctx context.Context) error {
		_, span := tracer.Start(ctx, "POST /charge", oteltrace.WithSpanKind(oteltrace.SpanKindClient))
		defer span.End()
		if failures--; failures >= 0 {
			return fmt.Errorf("no answer: %w", context.DeadlineExceeded)
		}
		return nil
	}
}

// The spans that an exporter receives for an operation whose first attempt timed
// out and whose second passed, behind a breaker.
func Example() {
	exporter := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(exporter))
	tel, err := otelres.New(otelres.WithTracerProvider(provider))
	if err != nil {
		fmt.Println(err)
		return
	}

	retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "payment", InitialDelay: time.Millisecond, Events: tel.Sink()})
	breaker := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: tel.Sink()})
	err = resilience.Chain(retrier, breaker).Run(context.Background(), charge(provider.Tracer("client")))

	printTree(exporter.GetSpans(), oteltrace.SpanID{}, "")
	fmt.Println("error:", err)
	// Output:
	// retry payment: Unset
	//   resilience.retry.outcome = success_after_retry
	//   resilience.retry.attempt.count = 2
	//   * resilience.retry.scheduled {attempt.number = 2, delay = 0.001, error.type = timeout}
	//   attempt payment: Error
	//     resilience.retry.attempt.number = 1
	//     resilience.retry.attempt.outcome = failure
	//     resilience.circuit_breaker.state = closed
	//     error.type = timeout
	//     POST /charge: Unset
	//   attempt payment: Unset
	//     resilience.retry.attempt.number = 2
	//     resilience.retry.attempt.outcome = success
	//     resilience.circuit_breaker.state = closed
	//     POST /charge: Unset
	// error: <nil>
}

// printTree prints the spans below parent with some of their attributes.
func printTree(spans tracetest.SpanStubs, parent oteltrace.SpanID, indent string) {
	for _, s := range byStart(spans) {
		if s.Parent.SpanID() != parent {
			continue
		}
		fmt.Printf("%s%s: %s\n", indent, s.Name, s.Status.Code)
		attrs := attributeMap(s.Attributes)
		for _, key := range []string{
			"resilience.retry.outcome", "resilience.retry.attempt.count", "resilience.retry.attempt.number",
			"resilience.retry.attempt.outcome", "resilience.circuit_breaker.state", "error.type",
		} {
			if v, ok := attrs[key]; ok {
				fmt.Printf("%s  %s = %s\n", indent, key, v)
			}
		}
		for _, e := range s.Events {
			attrs := attributeMap(e.Attributes)
			fmt.Printf("%s  * %s {attempt.number = %s, delay = %s, error.type = %s}\n", indent, e.Name,
				attrs["resilience.retry.attempt.number"], attrs["resilience.retry.delay"], attrs["error.type"])
		}
		printTree(spans, s.SpanContext.SpanID(), indent+"  ")
	}
}

// WithErrorType gives errors names of one's own, here by what the caller can do.
func ExampleWithErrorType() {
	exporter := tracetest.NewInMemoryExporter()
	tel, err := otelres.New(
		otelres.WithTracerProvider(trace.NewTracerProvider(trace.WithSyncer(exporter))),
		otelres.WithErrorType(func(err error) string {
			if errors.Is(err, context.DeadlineExceeded) {
				return "slow"
			}
			return "broken"
		}))
	if err != nil {
		fmt.Println(err)
		return
	}
	retrier := resilience.NewRetrier(&resilience.RetryConfig{MaxAttempts: 1, Events: tel.Sink()})
	_ = retrier.Run(context.Background(), func(context.Context) error { return context.DeadlineExceeded })
	for _, s := range exporter.GetSpans() {
		fmt.Println(s.Name, attributeMap(s.Attributes)["error.type"])
	}
	// Output:
	// attempt default slow
	// retry default slow
}

// Shutdown ends the reports and leaves breakers as they are.
func ExampleTelemetry_Shutdown() {
	tel, err := otelres.New(otelres.WithSpans(otelres.Off))
	if err != nil {
		fmt.Println(err)
		return
	}
	breaker := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: tel.Sink()})
	defer breaker.Close() // its series end

	// The process goes on without telemetry; the breaker goes on too.
	fmt.Println(tel.Shutdown(context.Background()))
	fmt.Println(breaker.Execute(context.Background(), func() error { return nil }))
	// Output:
	// <nil>
	// <nil>
}
