package otelres_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/otelres"
)

// TestMain fails the suite if a goroutine of this library outlives it.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if leaked := leakedGoroutines(); leaked != "" {
			fmt.Fprintln(os.Stderr, "goroutines leaked:\n"+leaked)
			code = 1
		}
	}
	os.Exit(code)
}

// leakedGoroutines returns the stacks that do not leave within a second.
func leakedGoroutines() string {
	var leaked []string
	for range 100 {
		leaked = leaked[:0]
		var dump bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&dump, 2)
		for stack := range strings.SplitSeq(dump.String(), "\n\n") {
			if strings.Contains(stack, "breakwater/otelres") && !strings.Contains(stack, "leakedGoroutines") {
				leaked = append(leaked, stack)
			}
		}
		if len(leaked) == 0 {
			return ""
		}
		time.Sleep(10 * time.Millisecond)
	}
	return strings.Join(leaked, "\n\n")
}

// kit is a Telemetry with an SDK behind each signal that keeps what it gets.
type kit struct {
	*otelres.Telemetry
	sink    events.Sink
	spans   *tracetest.SpanRecorder
	tracers *sdktrace.TracerProvider
	reader  *sdkmetric.ManualReader
	meters  *sdkmetric.MeterProvider
}

// newKit returns a kit with providers for traces and metrics. See newLogs for logs.
func newKit(t testing.TB, opts ...otelres.Option) *kit {
	t.Helper()
	k := &kit{spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	k.tracers = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(k.spans))
	k.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(k.reader))
	opts = slices.Concat([]otelres.Option{otelres.WithTracerProvider(k.tracers), otelres.WithMeterProvider(k.meters)}, opts)
	var err error
	k.Telemetry, err = otelres.New(opts...)
	require.NoError(t, err)
	k.sink = k.Sink()
	return k
}

// newLogs returns a LoggerProvider that keeps records of the given severity and above.
func newLogs(minimum log.Severity) (*sdklog.LoggerProvider, *records) {
	r := &records{minimum: minimum}
	return sdklog.NewLoggerProvider(sdklog.WithProcessor(r)), r
}

// records is a log processor that keeps what it gets.
type records struct {
	minimum log.Severity

	mu  sync.Mutex
	got []sdklog.Record
}

func (r *records) Enabled(_ context.Context, p sdklog.EnabledParameters) bool {
	return p.Severity >= r.minimum
}

func (r *records) OnEmit(_ context.Context, record *sdklog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, record.Clone())
	return nil
}

func (r *records) Shutdown(context.Context) error   { return nil }
func (r *records) ForceFlush(context.Context) error { return nil }

func (r *records) all() []sdklog.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// names returns the records' event names.
func (r *records) names() []string {
	var names []string
	for _, record := range r.all() {
		names = append(names, record.EventName())
	}
	return names
}

func recordAttributes(r sdklog.Record) map[string]string {
	attrs := make(map[string]string)
	r.WalkAttributes(func(kv attribute.KeyValue) bool {
		attrs[string(kv.Key)] = kv.Value.String()
		return true
	})
	return attrs
}

func attributeMap(kvs []attribute.KeyValue) map[string]string {
	attrs := make(map[string]string)
	for _, kv := range kvs {
		attrs[string(kv.Key)] = kv.Value.String()
	}
	return attrs
}

// ended returns the ended span of that name, which must be the only one.
func (k *kit) ended(t testing.TB, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	var found []sdktrace.ReadOnlySpan
	for _, s := range k.spans.Ended() {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	require.Len(t, found, 1, "spans named %q", name)
	return found[0]
}

// collect returns what a collection brings.
func (k *kit) collect(t testing.TB) *metricdata.ResourceMetrics {
	t.Helper()
	return collect(t, k.reader)
}

func collect(t testing.TB, r sdkmetric.Reader) *metricdata.ResourceMetrics {
	t.Helper()
	rm := new(metricdata.ResourceMetrics)
	require.NoError(t, r.Collect(context.Background(), rm))
	return rm
}

// metricOf returns the metric of that name, nil if nothing was reported.
func metricOf(rm *metricdata.ResourceMetrics, name string) *metricdata.Metrics {
	for _, scope := range rm.ScopeMetrics {
		for i := range scope.Metrics {
			if scope.Metrics[i].Name == name {
				return &scope.Metrics[i]
			}
		}
	}
	return nil
}

// series returns the values of a metric by their attributes, written
// "last=value,last=value" with the last part of each key, sorted by key. A
// histogram's value is its count.
func series(rm *metricdata.ResourceMetrics, name string) map[string]float64 {
	values := make(map[string]float64)
	m := metricOf(rm, name)
	if m == nil {
		return values
	}
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			values[label(p.Attributes)] = float64(p.Value)
		}
	case metricdata.Sum[float64]:
		for _, p := range data.DataPoints {
			values[label(p.Attributes)] = p.Value
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			values[label(p.Attributes)] = p.Value
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			values[label(p.Attributes)] = float64(p.Count)
		}
	default:
		panic(fmt.Sprintf("%s is a %T", name, data))
	}
	return values
}

func label(set attribute.Set) string {
	var parts []string
	for _, kv := range set.ToSlice() {
		parts = append(parts, shortKey(kv.Key)+"="+kv.Value.String())
	}
	return strings.Join(parts, ",")
}

// shortKey returns the last part of a key.
func shortKey(key attribute.Key) string {
	parts := strings.Split(string(key), ".")
	return parts[len(parts)-1]
}

// nonZero drops the series that are 0.
func nonZero(values map[string]float64) map[string]float64 {
	rest := make(map[string]float64)
	for k, v := range values {
		if v != 0 {
			rest[k] = v
		}
	}
	return rest
}

// fakeBreaker feeds a sink with what a breaker would say, as package events
// promises, where a test needs a breaker in a certain condition.
type fakeBreaker struct {
	sink events.Sink
	events.Header

	mu sync.Mutex
	s  events.Snapshot
}

// newFakeBreaker is a breaker that is born now.
func newFakeBreaker(sink events.Sink, name string, id uint64, th events.Thresholds) *fakeBreaker {
	b := &fakeBreaker{sink: sink, Header: events.Header{Name: name, ID: id}}
	b.set(func(s *events.Snapshot) { s.Time, s.LastClosed = time.Now(), time.Now() })
	if sink.BreakerCreated != nil {
		sink.BreakerCreated(context.Background(), events.BreakerCreated{
			Header: b.Header, Time: time.Now(), Thresholds: th, Snapshot: b.snapshot,
		})
	}
	return b
}

func (b *fakeBreaker) snapshot() events.Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.s
}

func (b *fakeBreaker) set(f func(*events.Snapshot)) *fakeBreaker {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.s)
	return b
}

// instrument names, spelled out: a renamed metric breaks dashboards.
const (
	mStatus            = "resilience.circuit_breaker.status"
	mTime              = "resilience.circuit_breaker.time"
	mLastClosed        = "resilience.circuit_breaker.last_closed_time"
	mTransitions       = "resilience.circuit_breaker.transitions"
	mCalls             = "resilience.circuit_breaker.calls"
	mCallDuration      = "resilience.circuit_breaker.call.duration"
	mFailureRatio      = "resilience.circuit_breaker.failure.ratio"
	mFailureThreshold  = "resilience.circuit_breaker.failure.threshold"
	mOperations        = "resilience.retry.operations"
	mAttempts          = "resilience.retry.attempts"
	mOperationDuration = "resilience.retry.operation.duration"
	mAttemptDuration   = "resilience.retry.attempt.duration"
	mDelay             = "resilience.retry.delay"
	mDropped           = "resilience.events.dropped"

	mTimeoutExpired   = "resilience.timeout.expired"
	mBulkheadInFlight = "resilience.bulkhead.in_flight"
	mBulkheadQueued   = "resilience.bulkhead.queued"
	mBulkheadLimit    = "resilience.bulkhead.limit"
	mBulkheadCalls    = "resilience.bulkhead.calls"
	mBulkheadWait     = "resilience.bulkhead.wait.duration"
	mRateLimited      = "resilience.rate_limit.limited"
	mRateLimitWait    = "resilience.rate_limit.wait.duration"
	mFallbackUsed     = "resilience.fallback.used"
	mHedgeAttempts    = "resilience.hedge.attempts"
	mHedgeDelay       = "resilience.hedge.delay"
)

// sampled returns a context with a span of a provider of its own, as a server's
// request has.
func sampled(t testing.TB) (context.Context, trace.Span) {
	t.Helper()
	return sdktrace.NewTracerProvider().Tracer("test").Start(context.Background(), "request")
}

// byStart returns spans in the order they began.
func byStart(spans tracetest.SpanStubs) tracetest.SpanStubs {
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	return spans
}
