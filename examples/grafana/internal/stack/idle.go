package stack

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// The circuit that nobody calls.
const (
	idleJob     = "nightly"
	idleCircuit = "archive"
)

// idle is a service with a circuit that opens and is called no more.
type idle struct {
	meters  *sdkmetric.MeterProvider
	circuit *resilience.CircuitBreaker
}

// openIdle starts one that sends its metrics to a collector.
func openIdle(ctx context.Context, collector string, interval time.Duration) (*idle, error) {
	exporter, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(collector+"/v1/metrics"))
	if err != nil {
		return nil, err
	}
	i := &idle{meters: sdkmetric.NewMeterProvider(
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithInterval(interval))),
		sdkmetric.WithResource(resource.NewWithAttributes(semconv.SchemaURL,
			semconv.ServiceName(idleJob), semconv.ServiceInstanceID("one"))),
	)}
	telemetry, err := otelres.New(otelres.WithMeterProvider(i.meters), otelres.WithSpans(otelres.Off))
	if err != nil {
		return nil, errors.Join(err, i.meters.Shutdown(ctx))
	}
	i.circuit = resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		Name:        idleCircuit,
		SleepWindow: time.Hour,
		Events:      telemetry.Sink(),
	})
	failure := errors.New("the archive is away")
	for i.circuit.State() != resilience.StateOpen {
		if err := i.circuit.Execute(ctx, func() error { return failure }); !errors.Is(err, failure) {
			return nil, errors.Join(err, i.close(ctx))
		}
	}
	return i, nil
}

// close ends it, and sends the last metrics.
func (i *idle) close(ctx context.Context) error {
	err := i.meters.Shutdown(ctx)
	i.circuit.Close()
	return err
}
