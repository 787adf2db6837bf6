package dashboards_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/demo"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/memnet"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/report"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/script"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
	"github.com/breakwater-go/breakwater/examples/grafana/rules"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// exports is the time between two exports of metrics.
const exports = 5 * time.Second

// length is how long the demo takes here.
const length = 6 * time.Minute

// native has histograms without buckets of their own.
var native = sdk.NewView(sdk.Instrument{Kind: sdk.InstrumentKindHistogram},
	sdk.Stream{Aggregation: sdk.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}})

// pace is what distinguishes the world of the tests from that of the pictures.
type pace struct {
	exports   time.Duration
	script    script.Script
	length    time.Duration // of the script
	rate      float64       // of orders a second, in each instance
	views     []sdk.View    // of the service with histograms of its own
	meanwhile func(*world)  // is called when all has begun
	calm      bool          // that service fails less, and has no more names than there is room for
}

// world is a Prometheus, and what was sent to it: by the demo in two instances, through
// an outage of its payment service; by a service whose circuits are forced, and which
// has native histograms; and by a collector. It is in a bubble of synctest: only the
// clock is not real.
type world struct {
	pace
	t    *testing.T
	prom *prometheus.Server

	began, outage, recovery, ended time.Time
	runs                           map[string]*run // of the demo, by instance

	mu      sync.Mutex
	changes []change
}

// run is one instance of the demo.
type run struct {
	summary *report.Summary
	quiet   time.Time // when the last call had ended, and the last metrics were sent
}

// change is a state change, and in which instance of which job.
type change struct {
	job, instance string
	events.StateChanged
}

// play makes the world and returns when all is over.
func play(t *testing.T, p pace) *world {
	w := &world{pace: p, t: t, began: time.Now(), runs: make(map[string]*run)}
	var err error
	w.prom, err = prometheus.Open(prometheus.Config{Rules: rules.Files, Interval: w.exports, Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.prom.Close()) })

	var processes sync.WaitGroup
	for i, instance := range []string{"order-1", "order-2"} {
		r := new(run)
		w.runs[instance] = r
		processes.Go(func() { w.order(instance, uint64(i+1), r) })
	}
	processes.Go(w.billing)
	processes.Go(w.collector)
	if w.meanwhile != nil {
		processes.Go(func() { w.meanwhile(w) })
	}
	processes.Wait()
	w.ended = time.Now()

	for _, p := range w.runs["order-1"].summary.Phases {
		switch p.Name {
		case "outage":
			w.outage = w.began.Add(p.At)
		case "recovery":
			w.recovery = w.began.Add(p.At)
		}
	}
	require.NotZero(t, w.outage)
	require.NotZero(t, w.recovery)
	return w
}

// order is an instance of the demo, from its start to its end.
func (w *world) order(instance string, seed uint64, r *run) {
	p := w.start("order", instance)
	defer p.stop()
	// The load has ended when the first breaker is closed, and all of them are there still.
	quiet := events.Sink{BreakerRetired: func(context.Context, events.BreakerRetired) {
		if r.quiet.IsZero() {
			r.quiet = p.flush()
		}
	}}
	network := new(memnet.Network)
	var err error
	r.summary, err = demo.Run(w.t.Context(), demo.Config{
		Script:   w.script,
		Duration: w.length,
		Rate:     w.rate,
		Seed:     seed,
		Network:  shop.Network{Listen: network.Listen, Dial: network.Dial},
		Events:   events.Join(quiet, p.sink()),
		Log:      io.Discard,
	})
	assert.NoError(w.t, err)
}

// billing is a service that has what the demo has not: circuits that are forced, retries
// that end for every reason, more names than there is room for, and histograms without
// buckets of their own.
func (w *world) billing() {
	p := w.start("billing", "billing-1", w.views...)
	defer p.stop()
	breaker := func(name string) *resilience.CircuitBreaker {
		return resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: name, Events: p.sink()})
	}
	ledger, mail := breaker("ledger"), breaker("mail")
	shadow := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "export", Shadow: true, Events: p.sink()})
	if !w.calm {
		breaker("archive") // one more than there is room for
	}
	others := policies(p.sink())
	budget := resilience.NewRetryBudget(&resilience.BudgetConfig{Name: "ledger", Events: p.sink()})
	retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "ledger", MaxAttempts: 2, InitialDelay: 20 * time.Millisecond, Budget: budget, Events: p.sink()})
	work := []func(context.Context) error{
		func(context.Context) error { time.Sleep(30 * time.Millisecond); return nil },
		func(ctx context.Context) error {
			if resilience.AttemptFromContext(ctx) > 1 {
				return nil
			}
			return errors.New("once")
		},
		func(context.Context) error { time.Sleep(40 * time.Millisecond); return errors.New("down") },
		func(context.Context) error { return resilience.Permanent(errors.New("no such account")) },
	}
	forced := false
	for i := 0; time.Since(w.began) < w.length; i++ {
		if now := time.Since(w.began); forced != (now > w.length/4 && now < 3*w.length/4) {
			forced = !forced
			if forced {
				ledger.ForceOpen()
				mail.ForceClosed()
			} else {
				ledger.Reset()
				mail.Reset()
			}
		}
		_ = mail.Run(w.t.Context(), work[0])
		if !w.calm {
			_ = shadow.Run(w.t.Context(), work[2]) // it would be open, and is not in the way
		}
		kind := i % len(work)
		if w.calm && i%5 != 0 {
			kind = 0
		}
		_ = resilience.Chain(retrier, ledger).Run(w.t.Context(), work[kind])
		spanned, span := p.tracers.Tracer("billing").Start(w.t.Context(), "others") // which exemplars lead to
		others(spanned)
		span.End()
		ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Millisecond)
		_ = retrier.Run(ctx, func(context.Context) error { return errors.New("no time for another") })
		cancel()
		time.Sleep(time.Second)
	}
}

// policies makes one of each other policy, and returns what uses all of them, so that
// each has something to tell.
func policies(sink events.Sink) func(context.Context) {
	slow := func(ctx context.Context) error {
		select {
		case <-time.After(30 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	timeout := resilience.NewTimeout(&resilience.TimeoutConfig{Name: "ledger", Limit: 20 * time.Millisecond, Events: sink})
	bulkhead := resilience.NewBulkhead(&resilience.BulkheadConfig{Name: "ledger", MaxConcurrent: 1, MaxQueue: 1, Events: sink})
	limited := resilience.NewRateLimit(&resilience.RateLimitConfig{Name: "ledger", Allow: new(everyOther), Events: sink})
	waiting := resilience.NewRateLimit(&resilience.RateLimitConfig{Name: "mail", Wait: short{}, Events: sink})
	fallback := resilience.NewFallback(&resilience.FallbackConfig[struct{}]{
		Name: "ledger", Value: func(context.Context, error) (struct{}, error) { return struct{}{}, nil }, Events: sink,
	})
	hedge := resilience.NewHedge(&resilience.HedgeConfig{Name: "ledger", Delay: 10 * time.Millisecond, Events: sink})
	return func(ctx context.Context) {
		_ = resilience.Chain(fallback, timeout).Run(ctx, slow)
		_ = resilience.Chain(limited).Run(ctx, slow)
		_ = resilience.Chain(waiting).Run(ctx, slow)
		_ = hedge.Run(ctx, slow)
		var calls sync.WaitGroup
		for range 3 { // one runs, one waits, one is turned away
			calls.Go(func() { _ = bulkhead.Run(ctx, slow) })
		}
		calls.Wait()
	}
}

// everyOther is a limiter that allows every other call.
type everyOther struct{ calls atomic.Int64 }

func (l *everyOther) Allow() bool { return l.calls.Add(1)%2 == 0 }

// short is a limiter that has each call wait a little.
type short struct{}

func (short) Wait(context.Context) error {
	time.Sleep(5 * time.Millisecond)
	return nil
}

// collector reports that it lost some spans.
func (w *world) collector() {
	p := w.start("otelcol", "collector")
	defer p.stop()
	failed, err := p.meters.Meter("collector").Int64Counter("otelcol_exporter_send_failed_spans")
	assert.NoError(w.t, err)
	for time.Since(w.began) < w.length {
		failed.Add(w.t.Context(), 1, metric.WithAttributes(attribute.String("exporter", "otlp_grpc")))
		time.Sleep(w.exports)
	}
}

// process is one run of one instance of a job.
type process struct {
	w             *world
	job, instance string
	meters        *sdk.MeterProvider
	tracers       *sdktrace.TracerProvider
	telemetry     *otelres.Telemetry
}

func (w *world) start(job, instance string, views ...sdk.View) *process {
	p := &process{w: w, job: job, instance: instance}
	exporter, err := otlpmetrichttp.New(w.t.Context(),
		otlpmetrichttp.WithEndpointURL("http://prometheus.invalid"+prometheus.ReceiverPath),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{}),
		otlpmetrichttp.WithHTTPClient(&http.Client{Transport: p}))
	assert.NoError(w.t, err)
	p.tracers = sdktrace.NewTracerProvider() // all spans are sampled, so that measurements have exemplars
	p.meters = sdk.NewMeterProvider(
		sdk.WithReader(sdk.NewPeriodicReader(exporter, sdk.WithInterval(w.exports))),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", job), attribute.String("service.instance.id", instance))),
		sdk.WithView(views...))
	p.telemetry, err = otelres.New(otelres.WithMeterProvider(p.meters), otelres.WithTracerProvider(p.tracers), otelres.WithNameLimit(3))
	assert.NoError(w.t, err)
	return p
}

// sink returns what breakers and retries of the process tell.
func (p *process) sink() events.Sink {
	return events.Join(p.telemetry.Sink(), events.Sink{StateChanged: func(_ context.Context, e events.StateChanged) {
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		p.w.changes = append(p.w.changes, change{p.job, p.instance, e})
	}})
}

// RoundTrip hands a request to the receiver.
func (p *process) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	p.w.prom.Receiver().ServeHTTP(answer, r)
	if answer.Code != http.StatusOK {
		p.w.t.Errorf("the receiver says %d %s", answer.Code, answer.Body)
	}
	return answer.Result(), nil
}

// flush sends all metrics and returns when that was.
func (p *process) flush() time.Time {
	time.Sleep(time.Millisecond) // so that no sample has the time of the one before
	assert.NoError(p.w.t, p.meters.ForceFlush(context.WithoutCancel(p.w.t.Context())))
	return time.Now()
}

func (p *process) stop() {
	ctx := context.WithoutCancel(p.w.t.Context())
	time.Sleep(time.Millisecond)
	assert.NoError(p.w.t, errors.Join(p.meters.Shutdown(ctx), p.telemetry.Shutdown(ctx), p.tracers.Shutdown(ctx)), p.instance)
}

// at returns what a dashboard shows that is looked at at a time: all since the beginning.
func (w *world) at(to time.Time) grafana {
	return grafana{from: w.began, to: to, exports: w.exports}
}

// ask asks for what a panel shows.
func (w *world) ask(g grafana, q target, points int) ([]prometheus.Series, error) {
	g.points = points
	if q.Instant {
		return w.prom.Query(w.t.Context(), g.fill(q.Expr), g.to)
	}
	from, to := g.aligned()
	return w.prom.QueryRange(w.t.Context(), g.fill(q.Expr), from, to, g.step())
}

// must returns the result of a query of a panel.
func (w *world) must(g grafana, p panel, ref string) []prometheus.Series {
	w.t.Helper()
	for _, q := range p.Targets {
		if q.RefID == ref {
			found, err := w.ask(g, q, p.MaxDataPoints)
			require.NoError(w.t, err)
			return found
		}
	}
	require.Fail(w.t, fmt.Sprintf("%s has no query %s", p.Title, ref))
	return nil
}
