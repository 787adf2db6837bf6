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
func BenchmarkAboveInstruments(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	tel, err := otelres.New(
		otelres.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))),
		otelres.WithTracerProvider(tracenoop.NewTracerProvider()),
	)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = tel.Shutdown(ctx) }()
	hand := newByHand(b)
	reported, silent := guarded(tel.Sink()), guarded(events.Sink{})
	defer reported.Close()
	defer silent.Close()
	retried := &resilience.RetryConfig{Name: "payment", Events: tel.Sink()}
	fail := func() error { return errDown }
	succeed := func() error { return nil }
	for _, c := range []struct {
		name         string
		ours, byHand func()
	}{
		{"success",
			func() { _ = reported.Execute(ctx, succeed) },
			func() { hand.call(ctx, silent, succeed, hand.success) }},
		{"failure",
			func() { _ = reported.Execute(ctx, fail) },
			func() { hand.call(ctx, silent, fail, hand.failure) }},
		{"first attempt",
			func() { _ = resilience.Retry(ctx, retried, succeed) },
			func() { hand.retry(ctx, succeed) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			least := [2]float64{math.MaxFloat64, math.MaxFloat64}
			const calls = 2000
			for b.Loop() {
				for i, call := range []func(){c.ours, c.byHand} {
					began := time.Now()
					for range calls {
						call()
					}
					least[i] = min(least[i], float64(time.Since(began))/calls)
				}
			}
			b.ReportMetric(0, "ns/op") // of both together, which tells nothing
			b.ReportMetric(least[0], "ns/reported")
			b.ReportMetric(least[1], "ns/by-hand")
			b.ReportMetric(least[0]-least[1], "ns/above")
		})
	}
}

func guarded(s events.Sink) *resilience.CircuitBreaker {
	return resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		Name: "gateway", VolumeThreshold: 1 << 30, Events: s,
	})
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
