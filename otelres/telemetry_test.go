package otelres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

func TestNilOptionsAreHarmless(t *testing.T) {
	var none *sdktrace.TracerProvider
	tel, err := otelres.New(nil,
		otelres.WithTracerProvider(nil), otelres.WithMeterProvider(nil), otelres.WithLoggerProvider(nil),
		otelres.WithTracerProvider(none), otelres.WithMeterProvider((*sdkmetric.MeterProvider)(nil)),
		otelres.WithLoggerProvider((*sdklog.LoggerProvider)(nil)),
		otelres.WithAttributes(), otelres.WithErrorType(nil), otelres.WithNameLimit(0))
	require.NoError(t, err)
	err = resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: time.Nanosecond, Events: tel.Sink()}).Run(t.Context(), failTimes(1))
	require.NoError(t, err)
	require.NoError(t, tel.Shutdown(t.Context()))

	var nothing *otelres.Telemetry
	require.True(t, reflect.ValueOf(nothing.Sink()).IsZero())
	require.NoError(t, nothing.Shutdown(t.Context()))
}

func TestWrongOptionsAreErrors(t *testing.T) {
	for _, c := range []struct {
		option otelres.Option
		says   string
	}{
		{otelres.WithSpans(7), "Spans is 7"},
		{otelres.WithSpans(-1), "Spans is -1"},
		{otelres.WithEvents(9), "Events is 9"},
		{otelres.WithNameLimit(-1), "name limit is -1"},
		{otelres.WithAttributes(attribute.String("", "x")), `attribute ""`},
		{otelres.WithAttributes(attribute.String("resilience.retry.name", "x")), `"resilience.retry.name" is set by this package`},
		{otelres.WithAttributes(attribute.String("error.type", "x")), `"error.type" is set by this package`},
	} {
		tel, err := otelres.New(c.option)
		require.ErrorContains(t, err, c.says)
		require.Nil(t, tel)
	}
}

// brokenMeter refuses one instrument, or the callback.
type brokenMeter struct {
	metricnoop.Meter
	refuse       string
	unregistered *int
}

type brokenProvider struct {
	metricnoop.MeterProvider
	meter brokenMeter
}

func (p brokenProvider) Meter(string, ...metric.MeterOption) metric.Meter { return p.meter }

var errRefused = errors.New("refused")

func (m brokenMeter) err(name string) error {
	if name == m.refuse {
		return errRefused
	}
	return nil
}

func (m brokenMeter) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return metricnoop.Int64Counter{}, m.err(name)
}

func (m brokenMeter) Float64Histogram(name string, _ ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return metricnoop.Float64Histogram{}, m.err(name)
}

func (m brokenMeter) Float64ObservableGauge(name string, _ ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	return metricnoop.Float64ObservableGauge{}, m.err(name)
}

func (m brokenMeter) Float64ObservableCounter(name string, _ ...metric.Float64ObservableCounterOption) (metric.Float64ObservableCounter, error) {
	return metricnoop.Float64ObservableCounter{}, m.err(name)
}

func (m brokenMeter) Int64ObservableCounter(name string, _ ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	return metricnoop.Int64ObservableCounter{}, m.err(name)
}

func (m brokenMeter) Int64ObservableUpDownCounter(name string, _ ...metric.Int64ObservableUpDownCounterOption) (metric.Int64ObservableUpDownCounter, error) {
	return metricnoop.Int64ObservableUpDownCounter{}, m.err(name)
}

func (m brokenMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	return registration{n: m.unregistered}, m.err("callback")
}

type registration struct {
	metricnoop.Registration
	n *int
}

func (r registration) Unregister() error { *r.n++; return nil }

func TestConstructionErrorsAreReturned(t *testing.T) {
	for _, name := range []string{
		mStatus, mTime, mLastClosed, mTransitions, mCalls, mCallDuration, mFailureRatio, mFailureThreshold,
		mOperations, mAttempts, mOperationDuration, mAttemptDuration, mDelay, mDropped, "callback",
	} {
		unregistered := 0
		tel, err := otelres.New(otelres.WithMeterProvider(brokenProvider{meter: brokenMeter{refuse: name, unregistered: &unregistered}}))
		require.ErrorIs(t, err, errRefused, name)
		require.Nil(t, tel)
		if name == "callback" {
			require.Equal(t, 1, unregistered, "a callback that was half registered")
		}
	}
}

// Providers that are known to do nothing cost nothing: no function is called.
func TestNoopProvidersNeedNoSink(t *testing.T) {
	tel, err := otelres.New(
		otelres.WithTracerProvider(tracenoop.NewTracerProvider()), otelres.WithMeterProvider(metricnoop.NewMeterProvider()),
		otelres.WithBreakerSpans())
	require.NoError(t, err)
	s := tel.Sink()
	require.True(t, reflect.ValueOf(s).IsZero(), "%+v", s)

	tel, err = otelres.New()
	require.NoError(t, err)
	s = tel.Sink()
	require.Nil(t, s.WindowRotated, "never of interest")
	require.Nil(t, s.CallStarted, "breaker spans are opt-in")
	require.NotNil(t, s.CallFinished)
}

// A user's own attributes are on everything that this package makes.
func TestWithAttributesGoOnEverything(t *testing.T) {
	loggers, records := newLogs(0)
	k := newKit(t, otelres.WithLoggerProvider(loggers), otelres.WithEvents(otelres.Both), otelres.WithBreakerSpans(),
		otelres.WithAttributes(attribute.String("team", "orders"), attribute.Int("shard", 3)),
		otelres.WithAttributes(attribute.String("team", "payments")))
	eventful(t, k)
	b := breaker(k, "other") // observed, while gateway is closed
	succeed(b, 3)
	check := func(what string, attrs map[string]string) {
		t.Helper()
		require.Equal(t, "payments", attrs["team"], what)
		require.Equal(t, "3", attrs["shard"], what)
	}
	spans, spanEvents := 0, 0
	for _, s := range k.spans.Ended() {
		if s.Name() == "POST /orders" {
			require.NotContains(t, attributeMap(s.Attributes()), "team", "a span of others")
			continue
		}
		spans++
		check(s.Name(), attributeMap(s.Attributes()))
		for _, e := range s.Events() {
			spanEvents++
			check(e.Name, attributeMap(e.Attributes))
		}
	}
	require.Equal(t, 1+2+1+3, spans, "operation, attempts, calls that breakers admitted")
	require.Equal(t, 3, spanEvents)
	require.Len(t, records.all(), 4)
	for _, r := range records.all() {
		check(r.EventName(), recordAttributes(r))
	}
	metrics := 0
	eachPoint(k.collect(t), func(m metricdata.Metrics, attrs attribute.Set) {
		metrics++
		check(m.Name, attributeMap(attrs.ToSlice()))
	})
	require.Greater(t, metrics, 50)
}

// eachPoint calls f for each data point.
func eachPoint(rm *metricdata.ResourceMetrics, f func(metricdata.Metrics, attribute.Set)) {
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					f(m, p.Attributes)
				}
			case metricdata.Sum[float64]:
				for _, p := range data.DataPoints {
					f(m, p.Attributes)
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					f(m, p.Attributes)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					f(m, p.Attributes)
				}
			default:
				panic(fmt.Sprintf("%s is a %T", m.Name, data))
			}
		}
	}
}

// secretError has everything that must not leave: a message, a URL in it.
type secretError struct{ cause error }

const secret = "https://user:password@internal/secret"

func (e secretError) Error() string { return secret }
func (e secretError) Unwrap() error { return e.cause }

// everything is all that was exported, as text.
func everything(k *kit, rm *metricdata.ResourceMetrics, logs []sdklog.Record) string {
	var b strings.Builder
	for _, s := range tracetest.SpanStubsFromReadOnlySpans(k.spans.Ended()) {
		fmt.Fprintf(&b, "%+v %s\n", s, s.Status.Description)
		for _, e := range s.Events {
			fmt.Fprintf(&b, "%+v\n", e)
		}
	}
	eachPoint(rm, func(m metricdata.Metrics, attrs attribute.Set) { fmt.Fprintf(&b, "%s %v\n", m.Name, attrs.ToSlice()) })
	for _, r := range logs {
		fmt.Fprintf(&b, "%s %v %v %v\n", r.EventName(), r.Body(), recordAttributes(r), r.SeverityText())
	}
	return b.String()
}

func TestErrorTextsDoNotLeave(t *testing.T) {
	run := func(opts ...otelres.Option) string {
		loggers, records := newLogs(0)
		k := newKit(t, append(opts, otelres.WithLoggerProvider(loggers), otelres.WithEvents(otelres.Both), otelres.WithBreakerSpans())...)
		b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "gateway", VolumeThreshold: 2, Events: k.sink})
		r := resilience.NewRetrier(&resilience.RetryConfig{Name: "payment", MaxAttempts: 4, InitialDelay: time.Nanosecond, Events: k.sink, RetryIf: func(error) bool { return true }})
		_ = resilience.Chain(r, b).Run(t.Context(), func(context.Context) error { return fmt.Errorf("wrapped: %w", secretError{}) })
		func() {
			defer func() { _ = recover() }()
			_ = r.Run(t.Context(), func(context.Context) error { panic(secret) })
		}()
		return everything(k, k.collect(t), records.all())
	}
	text := run()
	require.Contains(t, text, "otelres_test.secretError", "the type is there")
	require.NotContains(t, text, "secret\"")
	require.NotContains(t, text, "password")
	require.Contains(t, run(otelres.WithErrorType(func(err error) string { return err.Error() })), "password", "the user opted in")
}

// typed errors for the bound of error.type.
type namedError string

func (e namedError) Error() string     { return "text of " + string(e) }
func (e namedError) ErrorType() string { return string(e) }

// errorTypeOf returns the error.type that an attempt's span gets for err.
func errorTypeOf(t *testing.T, k *kit, err error) string {
	t.Helper()
	k.spans.Reset()
	_ = resilience.NewRetrier(&resilience.RetryConfig{Name: "payment", MaxAttempts: 1, Events: k.sink}).
		Run(t.Context(), func(context.Context) error { return resilience.Permanent(err) })
	return attributeMap(k.ended(t, "attempt payment").Attributes())["error.type"]
}

func TestErrorType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		for _, c := range []struct {
			err  error
			want string
		}{
			{fmt.Errorf("wrapped: %w", namedError("quota")), "quota"},
			{namedError(""), "otelres_test.namedError"},
			{fmt.Errorf("wrapped: %w", context.DeadlineExceeded), "timeout"},
			{fmt.Errorf("wrapped: %w", context.Canceled), "canceled"},
			{fmt.Errorf("wrapped: %w", secretError{}), "otelres_test.secretError"},
			{&resilience.RejectedError{}, "circuit_open"},
		} {
			require.Equal(t, c.want, errorTypeOf(t, k, c.err))
		}
	})
}

func TestErrorTypeIsBounded(t *testing.T) {
	k := newKit(t)
	for i := range 16 {
		name := fmt.Sprintf("type_%d", i)
		require.Equal(t, name, errorTypeOf(t, k, namedError(name)))
	}
	for i := 16; i < 1000; i++ {
		require.Equal(t, "_OTHER", errorTypeOf(t, k, namedError(fmt.Sprintf("type_%d", i))))
	}
	require.Equal(t, "type_3", errorTypeOf(t, k, namedError("type_3")), "one of the first stays itself")

	k = newKit(t, otelres.WithErrorType(func(err error) string {
		if errors.Is(err, errDown) {
			return ""
		}
		return "mine " + err.Error()
	}))
	require.Equal(t, "_OTHER", errorTypeOf(t, k, errDown), "an empty name")
	require.Equal(t, "mine text of a", errorTypeOf(t, k, namedError("a")))
	for i := range 15 {
		require.Equal(t, fmt.Sprintf("mine text of %d", i), errorTypeOf(t, k, namedError(fmt.Sprint(i))))
	}
	require.Equal(t, "_OTHER", errorTypeOf(t, k, namedError("b")), "the bound is that of any naming")
	require.Equal(t, "_OTHER", errorTypeOf(t, newKit(t, otelres.WithErrorType(func(error) string { return "" })), namedError("x")))
	require.Equal(t, "\uFFFD", errorTypeOf(t, newKit(t), namedError("\xff")))
}

func TestShutdown(t *testing.T) {
	k := newKit(t)
	b := breaker(k, "gateway")
	require.NotEmpty(t, series(k.collect(t), mStatus))
	require.NoError(t, k.Shutdown(t.Context()))
	require.NoError(t, k.Shutdown(t.Context()), "again")
	for _, name := range observedOnly {
		require.Empty(t, series(k.collect(t), name), name)
	}
	succeed(b, 1) // works on
	b.Close()
	breaker(k, "later").Close()
}

func TestShutdownUnregistersOnce(t *testing.T) {
	unregistered := 0
	tel, err := otelres.New(otelres.WithMeterProvider(brokenProvider{meter: brokenMeter{unregistered: &unregistered}}))
	require.NoError(t, err)
	require.NoError(t, tel.Shutdown(t.Context()))
	require.NoError(t, tel.Shutdown(t.Context()))
	require.Equal(t, 1, unregistered)
}

// Shutdown gives up when ctx does, and what it began completes all the same.
func TestShutdownHonoursContext(t *testing.T) {
	release, collecting := make(chan struct{}), make(chan struct{})
	k := newKit(t)
	_, err := k.meters.Meter("application").Int64ObservableGauge("slow", metric.WithInt64Callback(func(context.Context, metric.Int64Observer) error {
		close(collecting)
		<-release
		return nil
	}))
	require.NoError(t, err)
	b := breaker(k, "gateway")
	collected := make(chan *metricdata.ResourceMetrics)
	go func() {
		rm := new(metricdata.ResourceMetrics)
		_ = k.reader.Collect(context.Background(), rm)
		collected <- rm
	}()
	<-collecting // the SDK holds its lock
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errDown)
	require.ErrorIs(t, k.Shutdown(ctx), errDown)
	b.Close()
	breaker(k, "another").Close()
	close(release)
	require.Empty(t, series(<-collected, mStatus), "it is shut down")
	require.NoError(t, k.Shutdown(t.Context()))
}

// globalRole makes the test binary a process of its own, in which the global
// providers have not been set.
const globalRole = "OTELRES_TEST_GLOBAL"

// TestGlobalProvidersInstalledLater runs itself in a new process, where New comes
// first, then a breaker and a retry are used, and the SDK is installed last.
func TestGlobalProvidersInstalledLater(t *testing.T) {
	if os.Getenv(globalRole) != "" {
		globalProvidersInstalledLater(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestGlobalProvidersInstalledLater$", "-test.v")
	cmd.Env = append(os.Environ(), globalRole+"=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), out.String())
	require.Contains(t, out.String(), "--- PASS")
}

func globalProvidersInstalledLater(t *testing.T) {
	tel, err := otelres.New(otelres.WithEvents(otelres.Both), otelres.WithNameLimit(1))
	require.NoError(t, err)
	k := &kit{Telemetry: tel, sink: tel.Sink()}
	before := breaker(k, "before")
	beyond := breaker(k, "beyond the limit")
	succeed(before, 3)
	_ = retrier(k.sink).Run(t.Context(), func(ctx context.Context) error {
		require.Equal(t, t.Context(), ctx, "without an SDK there is no span to carry")
		return nil
	})

	// The SDK is installed.
	k.spans, k.reader = tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
	k.tracers = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(k.spans))
	loggers, records := newLogs(0)
	otel.SetTracerProvider(k.tracers)
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(k.reader)))
	otel.SetLoggerProvider(loggers)

	rm := k.collect(t)
	require.Equal(t, perState("before", 1, 0, 0, 0, 0), pick(series(rm, mStatus), "before"))
	require.Equal(t, perState("_OTHER", 1, 0, 0, 0, 0), pick(series(rm, mStatus), "_OTHER"))
	require.Equal(t, 3., series(rm, mCalls)["outcome=success,name=before"], "what happened before is not lost")
	require.Equal(t, allTransitions("before"), pick(series(rm, mTransitions), "before"))
	require.Equal(t, allTransitions("_OTHER"), pick(series(rm, mTransitions), "_OTHER"))
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 1}, series(rm, mDropped))

	eventful(t, k)
	k.ended(t, "retry payment")
	require.Equal(t, map[string][]string{"retry payment": {eScheduled}, "attempt payment": {eStateChange, eRejected}}, spanEvents(k))
	require.Equal(t, []string{eStateChange, eScheduled, eRejected, eExhausted}, records.names())
	rm = k.collect(t)
	require.Equal(t, map[string]float64{"name=payment,outcome=exhausted": 1}, nonZero(series(rm, mOperations)))

	// Auto makes log records only for a LoggerProvider that was given.
	auto, err := otelres.New()
	require.NoError(t, err)
	eventful(t, &kit{Telemetry: auto, sink: auto.Sink(), tracers: k.tracers})
	require.Len(t, records.all(), 4)
	require.NoError(t, auto.Shutdown(t.Context()))

	before.Close()
	beyond.Close()
	require.Empty(t, series(k.collect(t), mStatus))
	breaker(k, "before")
	require.NoError(t, tel.Shutdown(t.Context()))
	require.Empty(t, series(k.collect(t), mStatus))
}

// The spans of an explicit provider do not depend on what is global.
func TestProvidersOfOnesOwn(t *testing.T) {
	k := newKit(t)
	_ = retrier(k.sink).Run(t.Context(), failTimes(0))
	s := k.ended(t, "retry payment")
	require.Equal(t, otelres.ScopeName, s.InstrumentationScope().Name)
	require.Equal(t, otelres.Version, s.InstrumentationScope().Version)
	require.Equal(t, "https://opentelemetry.io/schemas/1.43.0", s.InstrumentationScope().SchemaURL)
	require.Equal(t, trace.SpanKindInternal, s.SpanKind())
}

// An unsampled operation still propagates its context, and ends.
func TestUnsampledSpans(t *testing.T) {
	k := newKit(t, otelres.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))))
	_ = retrier(k.sink).Run(t.Context(), func(ctx context.Context) error {
		sc := trace.SpanContextFromContext(ctx)
		require.True(t, sc.IsValid())
		require.False(t, sc.IsSampled())
		return nil
	})
	require.Equal(t, 1., series(k.collect(t), mOperations)["name=payment,outcome=success"])
}

// What can come of a call is asked before anything is measured for it.
func TestEnabledFollowsWhatIsThere(t *testing.T) {
	tel, err := otelres.New()
	require.NoError(t, err)
	require.False(t, tel.Sink().Enabled(t.Context()), "no SDK is installed in this test binary")

	traced, err := otelres.New(otelres.WithTracerProvider(sdktrace.NewTracerProvider()))
	require.NoError(t, err)
	require.True(t, traced.Sink().Enabled(t.Context()))
	require.NoError(t, traced.Shutdown(t.Context()))
	require.False(t, traced.Sink().Enabled(t.Context()))

	logged, err := otelres.New(otelres.WithLoggerProvider(sdklog.NewLoggerProvider(
		sdklog.WithProcessor(sdklog.NewSimpleProcessor(nowhere{})))))
	require.NoError(t, err)
	require.True(t, logged.Sink().Enabled(t.Context()))
	require.NoError(t, logged.Shutdown(t.Context()))

	metered, err := otelres.New(otelres.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))))
	require.NoError(t, err)
	require.True(t, metered.Sink().Enabled(t.Context()))
	require.NoError(t, metered.Shutdown(t.Context()))
	require.False(t, metered.Sink().Enabled(t.Context()))
	require.NoError(t, tel.Shutdown(t.Context()))
}

// nowhere is a log exporter that keeps nothing.
type nowhere struct{}

func (nowhere) Export(context.Context, []sdklog.Record) error { return nil }
func (nowhere) Shutdown(context.Context) error                { return nil }
func (nowhere) ForceFlush(context.Context) error              { return nil }
