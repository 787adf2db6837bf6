package otelres_test

import (
	"context"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// BenchmarkPrice is what telemetry adds to the engine: run it whole and compare the
// rows of one column. The engine alone is "nothing"; "a sink that does nothing" is
// what it costs the engine to have somebody listen, clock readings above all; "no
// SDK" is a Telemetry of the global providers before any is installed.
func BenchmarkPrice(b *testing.B) {
	meters := func() *sdkmetric.MeterProvider {
		return sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	}
	noTraces := otelres.WithTracerProvider(tracenoop.NewTracerProvider())
	for _, c := range []struct {
		name    string
		opts    []otelres.Option
		sampled bool // within a sampled span
		deaf    bool // the same functions, none of which does anything
	}{
		{name: "nothing"},
		{name: "a sink that does nothing", opts: []otelres.Option{nil}, deaf: true},
		{name: "no SDK", opts: []otelres.Option{nil}},
		{name: "no SDK, no durations", opts: []otelres.Option{otelres.WithoutDurations()}},
		{name: "noop providers", opts: []otelres.Option{noTraces, otelres.WithMeterProvider(metricnoop.NewMeterProvider())}},
		{name: "metrics", opts: []otelres.Option{noTraces, otelres.WithMeterProvider(meters())}},
		{name: "metrics, no durations", opts: []otelres.Option{noTraces, otelres.WithMeterProvider(meters()), otelres.WithoutDurations()}},
		{name: "metrics and sampled spans", sampled: true, opts: []otelres.Option{
			otelres.WithMeterProvider(meters()),
			otelres.WithTracerProvider(sdktrace.NewTracerProvider()), // spans are made and dropped
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var sink events.Sink
			if c.opts != nil {
				tel, err := otelres.New(c.opts...)
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = tel.Shutdown(context.Background()) }()
				if sink = tel.Sink(); c.deaf {
					sink = deaf(sink)
				}
			}
			price(b, sink, c.sampled)
		})
	}
}

func price(b *testing.B, sink events.Sink, sampled bool) {
	tracer := trace.Tracer(tracenoop.Tracer{})
	if sampled {
		tracer = sdktrace.NewTracerProvider().Tracer("application")
	}
	cb := guarded("gateway", sink)
	forced := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "forced", Events: sink})
	forced.ForceOpen()
	retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "payment", InitialDelay: time.Nanosecond, Events: sink})
	attempts := 0
	for _, c := range []struct {
		name string
		run  func(ctx context.Context)
	}{
		{"success", func(ctx context.Context) { _ = cb.Execute(ctx, func() error { return nil }) }},
		{"failure", func(ctx context.Context) { _ = cb.Execute(ctx, func() error { return errDown }) }},
		{"rejection", func(ctx context.Context) { _ = forced.Execute(ctx, func() error { return nil }) }},
		{"first attempt", func(ctx context.Context) {
			_ = retrier.Run(ctx, func(context.Context) error { return nil })
		}},
		{"third attempt", func(ctx context.Context) {
			_ = retrier.Run(ctx, func(context.Context) error {
				if attempts++; attempts%3 != 0 {
					return errDown
				}
				return nil
			})
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			ctx, span := tracer.Start(context.Background(), "request")
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if sampled && n%64 == 0 { // a span's attributes and events are bounded, and copied
					span.End()
					ctx, span = tracer.Start(context.Background(), "request")
				}
				c.run(ctx)
			}
			span.End()
		})
	}
	cb.Close()
	forced.Close()
}

// BenchmarkCollect is a collection of as many breakers as have series of their own.
func BenchmarkCollect(b *testing.B) {
	k := newKit(b)
	for i := range 100 {
		breaker(k, string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	b.ReportAllocs()
	for b.Loop() {
		k.collect(b)
	}
}

// deaf returns a sink with the same functions set, none of which does anything.
func deaf(s events.Sink) events.Sink {
	var d events.Sink
	if s.CallStarted != nil {
		d.CallStarted = func(ctx context.Context, _ events.CallStarted) context.Context { return ctx }
	}
	if s.CallFinished != nil {
		d.CallFinished = func(context.Context, events.CallFinished) {}
	}
	if s.CallRejected != nil {
		d.CallRejected = func(context.Context, events.CallRejected) {}
	}
	if s.RetryStarted != nil {
		d.RetryStarted = func(ctx context.Context, _ events.RetryStarted) context.Context { return ctx }
	}
	if s.AttemptStarted != nil {
		d.AttemptStarted = func(ctx context.Context, _ events.AttemptStarted) context.Context { return ctx }
	}
	if s.AttemptFinished != nil {
		d.AttemptFinished = func(context.Context, events.AttemptFinished) {}
	}
	if s.RetryScheduled != nil {
		d.RetryScheduled = func(context.Context, events.RetryScheduled) {}
	}
	if s.RetryFinished != nil {
		d.RetryFinished = func(context.Context, events.RetryFinished) {}
	}
	if s.TimedOut != nil {
		d.TimedOut = func(context.Context, events.TimedOut) {}
	}
	if s.BulkheadWaited != nil {
		d.BulkheadWaited = func(context.Context, events.BulkheadWaited) {}
	}
	if s.BulkheadRejected != nil {
		d.BulkheadRejected = func(context.Context, events.BulkheadRejected) {}
	}
	if s.RateLimited != nil {
		d.RateLimited = func(context.Context, events.RateLimited) {}
	}
	if s.FellBack != nil {
		d.FellBack = func(context.Context, events.FellBack) {}
	}
	if s.HedgeAttemptStarted != nil {
		d.HedgeAttemptStarted = func(ctx context.Context, _ events.HedgeAttemptStarted) context.Context { return ctx }
	}
	if s.HedgeAttemptFinished != nil {
		d.HedgeAttemptFinished = func(context.Context, events.HedgeAttemptFinished) {}
	}
	return d
}
