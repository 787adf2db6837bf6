package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// The signals, as they are spelled in the names of environment variables.
const (
	traces  = "TRACES"
	metrics = "METRICS"
	logs    = "LOGS"
)

// Interval is the time between two exports of metrics to where the environment says,
// unless that says otherwise in OTEL_METRIC_EXPORT_INTERVAL. The SDK's own default of
// a minute is as long as the demo.
const Interval = 5 * time.Second

// spanQueue is how many spans wait to be sent, in each service, unless
// OTEL_BSP_MAX_QUEUE_SIZE says otherwise.
const spanQueue = 1 << 14

// outward is telemetry that leaves the process. A nil outward sends nothing.
type outward struct {
	deliveries map[string]*delivery // by signal
}

// newOutward reads what the environment says, nil if that is nothing.
func newOutward(report func(string)) (*outward, error) {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return nil, nil
	}
	o := &outward{deliveries: make(map[string]*delivery)}
	for _, signal := range []string{traces, metrics, logs} {
		to, err := endpoint(signal)
		if err != nil {
			return nil, err
		}
		if to != "" {
			o.deliveries[signal] = &delivery{signal: strings.ToLower(signal), to: to, report: report}
		}
	}
	if len(o.deliveries) == 0 {
		return nil, nil
	}
	return o, nil
}

// endpoint returns where a signal goes, empty for nowhere. What is wrong with it is
// found out here: the exporters would send to a default of theirs instead.
func endpoint(signal string) (string, error) {
	switch exporter := os.Getenv("OTEL_" + signal + "_EXPORTER"); exporter {
	case "none":
		return "", nil
	case "", "otlp":
	default:
		return "", fmt.Errorf("telemetry: OTEL_%s_EXPORTER is %q, want otlp or none", signal, exporter)
	}
	name, value := either("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	if value == "" {
		return "", nil
	}
	if u, err := url.Parse(value); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("telemetry: %s is %q, want a URL such as http://localhost:4318", name, value)
	}
	if by, protocol := either("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return "", fmt.Errorf("telemetry: %s is %q, want http/protobuf", by, protocol)
	}
	return value, nil
}

// either returns the name and value of the first variable that is set, the second
// one's if none is.
func either(first, second string) (name, value string) {
	if value := os.Getenv(first); value != "" {
		return first, value
	}
	return second, os.Getenv(second)
}

// sends reports whether a signal goes anywhere.
func (o *outward) sends(signal string) bool { return o != nil && o.deliveries[signal] != nil }

// traces returns a processor that sends spans, and what stops the sending.
func (o *outward) traces(ctx context.Context) (sdktrace.SpanProcessor, func(context.Context) error, error) {
	e, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, err
	}
	var options []sdktrace.BatchSpanProcessorOption
	if os.Getenv("OTEL_BSP_MAX_QUEUE_SIZE") == "" {
		options = append(options, sdktrace.WithMaxQueueSize(spanQueue))
	}
	return sdktrace.NewBatchSpanProcessor(spans{e, o.deliveries[traces]}, options...), e.Shutdown, nil
}

// metrics returns a reader that sends metrics, and what stops the sending.
func (o *outward) metrics(ctx context.Context) (*sdkmetric.PeriodicReader, func(context.Context) error, error) {
	e, err := otlpmetrichttp.New(ctx)
	if err != nil {
		return nil, nil, err
	}
	var options []sdkmetric.PeriodicReaderOption
	if os.Getenv("OTEL_METRIC_EXPORT_INTERVAL") == "" {
		options = append(options, sdkmetric.WithInterval(Interval))
	}
	return sdkmetric.NewPeriodicReader(points{e, o.deliveries[metrics]}, options...), e.Shutdown, nil
}

// logs returns a processor that sends log records, and what stops the sending.
func (o *outward) logs(ctx context.Context) (sdklog.Processor, func(context.Context) error, error) {
	e, err := otlploghttp.New(ctx)
	if err != nil {
		return nil, nil, err
	}
	return sdklog.NewBatchProcessor(records{e, o.deliveries[logs]}), e.Shutdown, nil
}

// The exporters as they are, but that their errors are reported here. The SDK would
// print each of them on standard error, in the middle of whatever is there.
type (
	spans struct {
		sdktrace.SpanExporter
		*delivery
	}
	points struct {
		sdkmetric.Exporter
		*delivery
	}
	records struct {
		sdklog.Exporter
		*delivery
	}
)

// ExportSpans sends spans.
func (e spans) ExportSpans(ctx context.Context, all []sdktrace.ReadOnlySpan) error {
	return e.note(e.SpanExporter.ExportSpans(ctx, all))
}

// Export sends metrics.
func (e points) Export(ctx context.Context, all *metricdata.ResourceMetrics) error {
	return e.note(e.Exporter.Export(ctx, all))
}

// Export sends log records.
func (e records) Export(ctx context.Context, all []sdklog.Record) error {
	return e.note(e.Exporter.Export(ctx, all))
}

// delivery is whether a signal arrives, for all services.
type delivery struct {
	signal, to string
	report     func(string)

	mu      sync.Mutex
	failing bool
}

// note reports when deliveries begin to fail, and when they succeed again.
func (d *delivery) note(err error) error {
	d.mu.Lock()
	changed := d.failing != (err != nil)
	d.failing = err != nil
	d.mu.Unlock()
	switch {
	case !changed || d.report == nil:
	case err != nil:
		if at, ok := errors.AsType[*url.Error](err); ok {
			err = at.Err // without the address, once more
		}
		d.report(fmt.Sprintf("%s do not arrive at %s: %v", d.signal, d.to, err))
	default:
		d.report(fmt.Sprintf("%s arrive at %s again", d.signal, d.to))
	}
	return nil
}
