package otelres_test

import (
	"context"
	"math"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// BenchmarkAboveInstruments is what metrics cost beyond the instruments of the SDK that
// they use: the time of a call that is reported less that of the same call instrumented
// by hand, with options that are made once and as few clock readings as do. The two take
// turns, so that noise hits both alike, and of each the least counts.
//
// Where the SDK's structures and the stack's frames begin on their cache lines is worth
// a hundred nanoseconds, to either. So there are several instances of both, and several
// depths of the stack.
func BenchmarkAboveInstruments(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	const instances = 16
	var (
		hand     [instances]*byHand
		reported [instances]*resilience.CircuitBreaker
		retried  [instances]*resilience.RetryConfig
	)
	silent := guarded("gateway", events.Sink{})
	defer silent.Close()
	for i := range instances {
		hand[i] = newByHand(b)
		tel, err := otelres.New(
			otelres.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))),
			otelres.WithTracerProvider(tracenoop.NewTracerProvider()),
		)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = tel.Shutdown(ctx) }()
		reported[i] = guarded("gateway", tel.Sink())
		defer reported[i].Close()
		retried[i] = &resilience.RetryConfig{Name: "payment", Events: tel.Sink()}
	}
	fail := func() error { return errDown }
	succeed := func() error { return nil }
	for _, c := range []struct {
		name         string
		ours, byHand func(i int)
	}{
		{"success",
			func(i int) { _ = reported[i].Execute(ctx, succeed) },
			func(i int) { hand[i].call(ctx, silent, succeed, hand[i].success) }},
		{"failure",
			func(i int) { _ = reported[i].Execute(ctx, fail) },
			func(i int) { hand[i].call(ctx, silent, fail, hand[i].failure) }},
		{"first attempt",
			func(i int) { _ = resilience.Retry(ctx, retried[i], succeed) },
			func(i int) { hand[i].retry(ctx, succeed) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			least := [2]float64{math.MaxFloat64, math.MaxFloat64}
			const calls = 1000
			for round := 0; b.Loop(); round++ {
				instance := round % instances
				for i, call := range []func(int){c.ours, c.byHand} {
					deeper(round*37%101, func() {
						began := time.Now()
						for range calls {
							call(instance)
						}
						least[i] = min(least[i], float64(time.Since(began))/calls)
					})
				}
			}
			b.ReportMetric(0, "ns/op") // of both together, which tells nothing
			b.ReportMetric(least[0], "ns/reported")
			b.ReportMetric(least[1], "ns/by-hand")
			b.ReportMetric(least[0]-least[1], "ns/above")
		})
	}
}

// deeper calls f so many frames of 40 bytes further down the stack, which is another
// place on a cache line for each number below 8.
//
//go:noinline
func deeper(frames int, f func()) {
	if frames == 0 {
		f()
		return
	}
	deeper(frames-1, f)
}

// guarded returns a breaker that failures do not open, since a success stays in its
// window that is longer than any benchmark.
func guarded(name string, s events.Sink) *resilience.CircuitBreaker {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		Name: name, ErrorThreshold: 1, WindowSize: time.Hour, Events: s,
	})
	_ = cb.Execute(context.Background(), func() error { return nil })
	return cb
}

// byHand holds the instruments of a service that reports its calls itself.
type byHand struct {
	callDuration, operationDuration, attemptDuration metric.Float64Histogram
	operations, attempts                             metric.Int64Counter
	success, failure                                 []metric.RecordOption
	retried                                          []metric.RecordOption
	operated, attempted                              []metric.AddOption
	config                                           *resilience.RetryConfig
}

func newByHand(b *testing.B) *byHand {
	m := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())).Meter("by hand")
	buckets := metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10)
	histogram := func(name string) metric.Float64Histogram {
		h, err := m.Float64Histogram(name, buckets)
		if err != nil {
			b.Fatal(err)
		}
		return h
	}
	counter := func(name string) metric.Int64Counter {
		c, err := m.Int64Counter(name)
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	// As many attributes as ours, since the SDK goes through them at each measurement.
	set := func(values ...string) metric.MeasurementOption {
		attrs := make([]attribute.KeyValue, len(values))
		for i, v := range values {
			attrs[i] = attribute.String("attribute."+string(rune('a'+i)), v)
		}
		return metric.WithAttributeSet(attribute.NewSet(attrs...))
	}
	return &byHand{
		callDuration:      histogram("call"),
		operationDuration: histogram("operation"),
		attemptDuration:   histogram("attempt"),
		operations:        counter("operations"),
		attempts:          counter("attempts"),
		success:           []metric.RecordOption{set("gateway", "success")},
		failure:           []metric.RecordOption{set("gateway", "failure")},
		retried:           []metric.RecordOption{set("payment", "success")},
		operated:          []metric.AddOption{set("payment", "success")},
		attempted:         []metric.AddOption{set("payment", "initial", "success")},
		config:            &resilience.RetryConfig{Name: "payment"},
	}
}

func (h *byHand) call(ctx context.Context, cb *resilience.CircuitBreaker, fn func() error, opts []metric.RecordOption) {
	began := time.Now()
	_ = cb.Execute(ctx, fn)
	h.callDuration.Record(ctx, time.Since(began).Seconds(), opts...)
}

func (h *byHand) retry(ctx context.Context, fn func() error) {
	began := time.Now()
	_ = resilience.Retry(ctx, h.config, fn)
	took := time.Since(began).Seconds()
	h.attempts.Add(ctx, 1, h.attempted...)
	h.attemptDuration.Record(ctx, took, h.retried...)
	h.operations.Add(ctx, 1, h.operated...)
	h.operationDuration.Record(ctx, took, h.retried...)
}
