package otelres

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/breakwater-go/breakwater/events"
)

// Option changes what [New] makes. A nil Option changes nothing.
type Option interface{ apply(*config) }

type optionFunc func(*config)

func (f optionFunc) apply(c *config) { f(c) }

// Spans says which spans retried operations get.
type Spans int

// The span modes.
const (
	// Attempts makes a span for the operation and a child for each attempt. It
	// is the default.
	Attempts Spans = iota
	// Operations makes a span for the operation alone.
	Operations
	// Off makes no spans, breaker spans neither, and leaves the attributes of
	// the caller's span alone. Events are WithEvents's matter.
	Off
)

// Events says where events go.
type Events int

// The event modes. Scheduled waits and rejected calls are frequent: as log
// records, which are of severity DEBUG, they are made only with Logs and Both.
const (
	// Auto makes span events, and log records of state changes and exhausted
	// retries if a LoggerProvider was given. It is the default.
	Auto Events = iota
	// SpanEvents makes span events only.
	SpanEvents
	// Logs makes log records only.
	Logs
	// Both makes span events and log records.
	Both
)

// defaultNameLimit keeps every instrument within the 2000 attribute sets that the
// SDK allows it by default. Transitions are the widest: 17 pairs of states can
// occur for a name, and 101 names, the overflow's included, make 1717 sets.
const defaultNameLimit = 100

type config struct {
	tracers      trace.TracerProvider
	meters       metric.MeterProvider
	loggers      log.LoggerProvider
	logging      bool // a LoggerProvider was given
	spans        Spans
	breakerSpans bool
	eventMode    Events
	durations    bool
	errorType    func(error) string
	nameLimit    int
	attributes   []attribute.KeyValue
}

// WithTracerProvider sets where spans go. Nil means the global provider. The
// no-op provider of package trace/noop means no spans, and nothing on the spans of
// others either.
func WithTracerProvider(p trace.TracerProvider) Option {
	return optionFunc(func(c *config) { c.tracers = unlessNil(p) })
}

// WithMeterProvider sets where metrics go. Nil means the global provider. With the
// no-op provider of package metric/noop breakers are not even kept track of.
func WithMeterProvider(p metric.MeterProvider) Option {
	return optionFunc(func(c *config) { c.meters = unlessNil(p) })
}

// WithLoggerProvider sets where log records go, and makes Auto send state changes
// and exhausted retries there. Nil means the global provider, which Logs and
// Both use and Auto does not.
func WithLoggerProvider(p log.LoggerProvider) Option {
	return optionFunc(func(c *config) { c.loggers = unlessNil(p) })
}

// WithAttributes adds attributes to everything this package makes: spans, span
// events, log records and data points. The spans of others do not get them. It
// may be given more than once; of equal keys the last wins. Keys that this package sets
// itself are an error of [New].
func WithAttributes(attrs ...attribute.KeyValue) Option {
	return optionFunc(func(c *config) { c.attributes = slices.Concat(c.attributes, attrs) })
}

// WithSpans sets which spans retried operations get. The default is Attempts.
func WithSpans(s Spans) Option { return optionFunc(func(c *config) { c.spans = s }) }

// WithBreakerSpans makes a span for each call that a breaker admits. By default
// there is none: a breaker describes itself on the span that is current.
func WithBreakerSpans() Option { return optionFunc(func(c *config) { c.breakerSpans = true }) }

// WithEvents sets where events go. The default is Auto.
func WithEvents(e Events) Option { return optionFunc(func(c *config) { c.eventMode = e }) }

// WithoutDurations leaves out the histograms of durations, of calls, attempts and
// operations. A breaker then reads the clock twice less per call, and describes
// itself on the current span only when it rejects a call.
func WithoutDurations() Option { return optionFunc(func(c *config) { c.durations = false }) }

// WithErrorType replaces [events.ErrorType], which names the kind of an error for
// error.type. The result must not be made of the error's message, unless that is
// meant to leave the process. After 16 different results any other one is
// reported as _OTHER; so is an empty one. Nil means the default. f is called
// concurrently, and only for spans that are recorded and logs that are enabled.
func WithErrorType(f func(error) string) Option {
	return optionFunc(func(c *config) { c.errorType = f })
}

// WithNameLimit sets how many names of breakers, and how many names of retries and of
// each other kind of policy, have series of their own in metrics; what is beyond goes by
// the name _OTHER and is counted in resilience.events.dropped. Zero means 100, which
// keeps every instrument below the SDK's default limit of 2000 attribute sets; with n names
// an instrument needs up to 17·(n+1), so raise the SDK's limit with this one.
// Spans, events and logs are not limited.
func WithNameLimit(n int) Option { return optionFunc(func(c *config) { c.nameLimit = n }) }

func newConfig(opts []Option) (config, error) {
	c := config{durations: true}
	for _, o := range opts {
		if o != nil {
			o.apply(&c)
		}
	}
	if c.tracers == nil {
		c.tracers = otel.GetTracerProvider()
	}
	if c.meters == nil {
		c.meters = otel.GetMeterProvider()
	}
	c.logging = c.loggers != nil
	if c.loggers == nil {
		c.loggers = otel.GetLoggerProvider()
	}
	if c.errorType == nil {
		c.errorType = events.ErrorType
	}
	if c.nameLimit == 0 {
		c.nameLimit = defaultNameLimit
	}
	return c, c.validate()
}

func (c *config) validate() error {
	var errs []error
	if c.spans < Attempts || c.spans > Off {
		errs = append(errs, fmt.Errorf("otelres: Spans is %d, want Attempts, Operations or Off", c.spans))
	}
	if c.eventMode < Auto || c.eventMode > Both {
		errs = append(errs, fmt.Errorf("otelres: Events is %d, want Auto, SpanEvents, Logs or Both", c.eventMode))
	}
	if c.nameLimit < 0 {
		errs = append(errs, fmt.Errorf("otelres: name limit is %d, want 0 for the default or a positive number", c.nameLimit))
	}
	for _, kv := range c.attributes {
		switch {
		case !kv.Valid():
			errs = append(errs, fmt.Errorf("otelres: attribute %q has no key or no value", kv.Key))
		case slices.ContainsFunc(attributeTable, func(d attributeDef) bool { return d.key == kv.Key }):
			errs = append(errs, fmt.Errorf("otelres: attribute %q is set by this package", kv.Key))
		}
	}
	set := attribute.NewSet(c.attributes...) // of equal keys the last
	c.attributes = set.ToSlice()
	return errors.Join(errs...)
}

// unlessNil returns p, or nil if p is an interface around a nil pointer.
func unlessNil[P any](p P) P {
	if v := reflect.ValueOf(p); v.Kind() == reflect.Pointer && v.IsNil() {
		var none P
		return none
	}
	return p
}

// tracesNowhere reports that p is known to make nothing.
func tracesNowhere(p trace.TracerProvider) bool {
	_, noop := p.(tracenoop.TracerProvider)
	return noop
}

// metersNowhere reports that p is known to make nothing.
func metersNowhere(p metric.MeterProvider) bool {
	_, noop := p.(metricnoop.MeterProvider)
	return noop
}

// isPlaceholder reports that p is the global provider that does nothing until an
// SDK is installed. Its type cannot be named; that it is told by name is safe,
// since a wrong answer only costs time.
func isPlaceholder(p trace.TracerProvider) bool {
	t := reflect.TypeOf(p)
	return t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "go.opentelemetry.io/otel/internal/global"
}
