// Package telemetry gives each service of the demo an OpenTelemetry of its own: a
// resource, providers, and what observes its HTTP. All services live in one process,
// so nothing here is global.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	scrape "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// Config says where telemetry goes. The zero Config is for no services.
type Config struct {
	// Services are the names of the services. Each has a resource with its
	// service.name and a random service.instance.id, beside what the environment says
	// in OTEL_RESOURCE_ATTRIBUTES.
	Services []string

	// Spans receives the spans of all services. Nil means that nobody in this process
	// does.
	Spans sdktrace.SpanProcessor

	// Receivers get the metrics of all services by OTLP, without a network.
	Receivers []Receiver

	// Environment sends telemetry by OTLP to where the standard environment variables
	// say, such as OTEL_EXPORTER_OTLP_ENDPOINT. Without any of them it goes nowhere.
	Environment bool

	// Report is told, in a line for people, when telemetry does not arrive, and when it
	// does again. It may be called concurrently. Nil means that nobody is told.
	Report func(line string)
}

// Receiver is a handler of OTLP metrics over HTTP, as protobuf.
type Receiver struct {
	http.Handler
	Interval time.Duration // between two exports; it must be positive
}

// Telemetry is the telemetry of all services. Make it with [Open].
type Telemetry struct {
	services map[string]*Service
	scraped  *prometheus.Registry
	closing  atomic.Bool // nothing more is handed to receivers

	// What sends to somewhere else: what is kept back until it is flushed, and
	// the exporters, which can be stopped while they are at it.
	flushes   []func(context.Context) error
	exporters []func(context.Context) error
}

// Service is the telemetry of one service.
type Service struct {
	Name    string
	Traces  *sdktrace.TracerProvider
	Metrics *sdkmetric.MeterProvider
	Logs    *sdklog.LoggerProvider
}

// Open makes the telemetry. Without an error the caller must call
// [Telemetry.Shutdown]. An environment variable that cannot be used is an error that
// names it.
func Open(ctx context.Context, c Config) (_ *Telemetry, err error) {
	t := &Telemetry{services: make(map[string]*Service), scraped: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Shutdown(ctx))
		}
	}()
	var out *outward
	if c.Environment {
		if out, err = newOutward(c.Report); err != nil {
			return nil, err
		}
	}
	for _, name := range c.Services {
		if err := t.open(ctx, name, c, out); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// open makes the telemetry of one service.
func (t *Telemetry) open(ctx context.Context, name string, c Config, out *outward) error {
	about, err := describe(ctx, name)
	if err != nil {
		return err
	}
	// All traces are kept, whatever the client thinks of it: this is a demo.
	tracing := []sdktrace.TracerProviderOption{sdktrace.WithResource(about), sdktrace.WithSampler(sdktrace.AlwaysSample())}
	if c.Spans != nil {
		tracing = append(tracing, sdktrace.WithSpanProcessor(c.Spans))
	}
	metering := []sdkmetric.Option{sdkmetric.WithResource(about), sdkmetric.WithView(withoutSizes)}
	logging := []sdklog.LoggerProviderOption{sdklog.WithResource(about)}

	page, err := scrape.New(scrape.WithRegisterer(t.scraped), scrape.WithoutScopeInfo(),
		scrape.WithResourceAsConstantLabels(attribute.NewAllowKeysFilter(semconv.ServiceNameKey)))
	if err != nil {
		return err
	}
	metering = append(metering, sdkmetric.WithReader(page))
	for _, r := range c.Receivers {
		exporter, err := t.receive(ctx, r, c.Report)
		if err != nil {
			return err
		}
		metering = append(metering, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithInterval(r.Interval))))
	}
	if out.sends(traces) {
		processor, stop, err := out.traces(ctx)
		if err != nil {
			return err
		}
		tracing = append(tracing, sdktrace.WithSpanProcessor(processor))
		t.sends(processor.ForceFlush, stop)
	}
	if out.sends(metrics) {
		reader, stop, err := out.metrics(ctx)
		if err != nil {
			return err
		}
		metering = append(metering, sdkmetric.WithReader(reader))
		t.sends(reader.ForceFlush, stop)
	}
	if out.sends(logs) {
		processor, stop, err := out.logs(ctx)
		if err != nil {
			return err
		}
		logging = append(logging, sdklog.WithProcessor(processor))
		t.sends(processor.ForceFlush, stop)
	}
	t.services[name] = &Service{
		Name:    name,
		Traces:  sdktrace.NewTracerProvider(tracing...),
		Metrics: sdkmetric.NewMeterProvider(metering...),
		Logs:    sdklog.NewLoggerProvider(logging...),
	}
	return nil
}

// withoutSizes drops the sizes of bodies, which are the third part of all series and
// say nothing here: orders are made of headers.
var withoutSizes = sdkmetric.NewView(sdkmetric.Instrument{Name: "http.*.body.size"}, sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}})

func (t *Telemetry) sends(flush, stop func(context.Context) error) {
	t.flushes, t.exporters = append(t.flushes, flush), append(t.exporters, stop)
}

// describe returns the resource of a service. The environment may say which instance
// it is, but not that all services are called the same.
func describe(ctx context.Context, service string) (*resource.Resource, error) {
	about, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceInstanceID(uuid.NewString())),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(),
		resource.WithAttributes(semconv.ServiceName(service)),
	)
	if err != nil {
		return nil, fmt.Errorf("telemetry: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return about, nil
}

// receive returns an exporter that hands metrics to a receiver in this process.
func (t *Telemetry) receive(ctx context.Context, r Receiver, report func(string)) (sdkmetric.Exporter, error) {
	// What the environment says is for those somewhere else, hence all the options.
	e, err := otlpmetrichttp.New(ctx,
		otlpmetrichttp.WithEndpointURL("http://in-process/v1/metrics"),
		otlpmetrichttp.WithHeaders(map[string]string{}),
		otlpmetrichttp.WithTimeout(10*time.Second),
		otlpmetrichttp.WithCompression(otlpmetrichttp.NoCompression),
		otlpmetrichttp.WithTemporalitySelector(sdkmetric.DefaultTemporalitySelector),
		otlpmetrichttp.WithAggregationSelector(sdkmetric.DefaultAggregationSelector),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{}),
		otlpmetrichttp.WithHTTPClient(&http.Client{Transport: direct{r.Handler, &t.closing}}))
	if err != nil {
		return nil, err
	}
	return points{e, &delivery{signal: "metrics", to: "a receiver in this process", report: report}}, nil
}

// Of returns the telemetry of a service, nil if it is none of those in [Config].
func (t *Telemetry) Of(service string) *Service { return t.services[service] }

// Server returns a handler that observes the requests which a service answers. The
// service must be one of those in [Config]; so for Client.
func (t *Telemetry) Server(service string, h http.Handler) http.Handler {
	return otelhttp.NewHandler(h, service, t.services[service].options()...)
}

// Client returns a transport that observes the requests which a service makes.
func (t *Telemetry) Client(service string, over http.RoundTripper) http.RoundTripper {
	// Paths are few here, none has a parameter, so that they can be names of spans.
	path := func(_ string, r *http.Request) string { return r.Method + " " + r.URL.Path }
	return otelhttp.NewTransport(over, append(t.services[service].options(), otelhttp.WithSpanNameFormatter(path))...)
}

// Scrape returns a handler of the metrics of all services in the text format of
// Prometheus, each with a label service_name, and with exemplars if asked for OpenMetrics.
func (t *Telemetry) Scrape() http.Handler {
	return promhttp.HandlerFor(t.scraped, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Flush sends what has been collected so far to where the environment says, as long
// as ctx allows. It is for the moment before breakers are closed, and with them their
// metrics end. It is no error if telemetry did not arrive: that was reported.
func (t *Telemetry) Flush(ctx context.Context) error {
	if err := each(ctx, t.flushes); ctx.Err() == nil {
		return err
	}
	return nil
}

// Shutdown sends what is left, as long as ctx allows, and ends what runs. It is no
// error if telemetry did not arrive: that was reported.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	t.closing.Store(true)
	var ends []func(context.Context) error
	for _, s := range t.services {
		ends = append(ends, s.Traces.Shutdown, s.Metrics.Shutdown, s.Logs.Shutdown)
	}
	err := each(ctx, ends)
	if ctx.Err() != nil {
		// Those that wait for an answer are not waited for.
		_ = each(ctx, t.exporters)
		return nil
	}
	return err
}

// each calls all functions at once and waits for them.
func each(ctx context.Context, all []func(context.Context) error) error {
	errs := make([]error, len(all))
	var calls sync.WaitGroup
	for i, f := range all {
		calls.Go(func() { errs[i] = f(ctx) })
	}
	calls.Wait()
	return errors.Join(errs...)
}

// propagator is how a trace goes from one service to the next.
var propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

func (s *Service) options() []otelhttp.Option {
	return []otelhttp.Option{
		otelhttp.WithTracerProvider(s.Traces),
		otelhttp.WithMeterProvider(s.Metrics),
		otelhttp.WithPropagators(propagator),
	}
}
