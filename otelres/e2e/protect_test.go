package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

func protect(ctx context.Context) (*trace.TracerProvider, *metric.MeterProvider, *resilience.CircuitBreaker, *resilience.Retrier, error) {
	// README begins
	res, err1 := resource.Merge(resource.Default(), resource.NewSchemaless(
		attribute.String("service.name", "order"), attribute.String("service.instance.id", rand.Text())))
	spans, err2 := otlptracehttp.New(ctx) // to OTEL_EXPORTER_OTLP_ENDPOINT, http://localhost:4318 by default
	metrics, err3 := otlpmetrichttp.New(ctx)
	native := metric.NewView(metric.Instrument{Kind: metric.InstrumentKindHistogram},
		metric.Stream{Aggregation: metric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}})
	tracers := trace.NewTracerProvider(trace.WithResource(res), trace.WithBatcher(spans))
	meters := metric.NewMeterProvider(metric.WithResource(res), metric.WithView(native),
		metric.WithReader(metric.NewPeriodicReader(metrics, metric.WithInterval(10*time.Second))))
	tel, err4 := otelres.New(otelres.WithTracerProvider(tracers), otelres.WithMeterProvider(meters))
	breaker := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: tel.Sink()})
	retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "payment", JitterEnabled: true, Events: tel.Sink()})
	// README ends
	return tracers, meters, breaker, retrier, errors.Join(err1, err2, err3, err4)
}

func copyBody(w io.Writer, r *http.Request) (int64, error) { return io.Copy(w, r.Body) }
