package rules_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/examples/grafana/rules"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// world is a Prometheus with the rules of this folder, and processes that send their
// metrics to it. All of it runs in a bubble of synctest: the clock is not real, but the
// engine, its telemetry, the SDK, the protocol, the database and the rules manager are.
type world struct {
	t      *testing.T
	export time.Duration // between two exports, and two evaluations
	began  time.Time
	prom   *prometheus.Server

	mu      sync.Mutex
	changes []prometheus.Alert
}

// scenario is something that happens, and the alerts that fire because of it.
type scenario struct {
	name  string
	plays func(*world)
	want  []fired
}

// run plays scenarios with metrics that are exported as seldom as the rules are made
// for, and twice as often. With the race detector, which makes it five times as slow
// and sees nothing in the one that is not in the other, it leaves the latter out.
func run(t *testing.T, all []scenario) {
	exports := []time.Duration{time.Minute, 30 * time.Second}
	if raceDetector {
		exports = exports[:1]
	}
	for _, c := range all {
		for _, export := range exports {
			t.Run(c.name+", every "+export.String(), func(t *testing.T) {
				t.Parallel()
				play(t, export, c.plays, c.want...)
			})
		}
	}
}

// play runs a scenario and checks what fired: what is wanted and nothing else.
func play(t *testing.T, export time.Duration, scene func(*world), want ...fired) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, export: export, began: time.Now()}
		var err error
		w.prom, err = prometheus.Open(prometheus.Config{
			Rules:    rules.Files,
			Interval: export,
			Dir:      t.TempDir(),
			OnAlert: func(a prometheus.Alert) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.changes = append(w.changes, a)
			},
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, w.prom.Close()) })
		scene(w)
		w.check(want)
	})
}

// wait lets time pass.
func (w *world) wait(d time.Duration) { time.Sleep(d) }

// fired is an alert that is wanted: from when to when, counted from the beginning of
// the scenario, it must have begun to fire, and ceased. No time to cease by means that
// it must still fire in the end.
type fired struct {
	rule     string
	labels   map[string]string
	begins   [2]time.Duration
	ends     [2]time.Duration
	severity string
}

func (w *world) check(want []fired) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []prometheus.Alert // the latest state of each that fired, and each one that resolved
	for _, a := range w.changes {
		w.t.Logf("%9v %-8s %s %v %.2f", a.Since.Sub(w.began).Round(time.Second), a.State, a.Rule, a.Labels, a.Value)
		switch a.State {
		case prometheus.Firing:
			got = append(got, a)
		case prometheus.Resolved:
			i := len(got) - 1
			for got[i].Rule != a.Rule || !maps.Equal(got[i].Labels, a.Labels) {
				i--
			}
			got[i] = a
		}
	}
	slices.SortStableFunc(got, func(a, b prometheus.Alert) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), a.FiringAt.Compare(b.FiringAt), cmp.Compare(fmt.Sprint(a.Labels), fmt.Sprint(b.Labels)))
	})
	slices.SortStableFunc(want, func(a, b fired) int {
		return cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.begins[0], b.begins[0]), cmp.Compare(fmt.Sprint(a.labels), fmt.Sprint(b.labels)))
	})
	names := func(n int, rule func(int) string) []string {
		all := []string{}
		for i := range n {
			all = append(all, rule(i))
		}
		return all
	}
	require.Equal(w.t, names(len(want), func(i int) string { return want[i].rule }), names(len(got), func(i int) string { return got[i].Rule }), "alerts that fired")
	for i, f := range want {
		a := got[i]
		require.Subset(w.t, a.Labels, f.labels, f.rule)
		within(w.t, f.begins, a.FiringAt.Sub(w.began), f.rule+" begins")
		if f.ends == [2]time.Duration{} {
			require.Equal(w.t, prometheus.Firing, a.State, f.rule+" ended at %v", a.ResolvedAt.Sub(w.began))
		} else {
			require.Equal(w.t, prometheus.Resolved, a.State, f.rule+" still fires")
			within(w.t, f.ends, a.ResolvedAt.Sub(w.began), f.rule+" ends")
		}
		if f.severity != "" {
			require.Equal(w.t, f.severity, a.Severity, f.rule)
		}
		for _, text := range a.Annotations {
			require.NotContains(w.t, text, "<error", f.rule)
			require.NotContains(w.t, text, "<no value>", f.rule)
		}
	}
}

func within(t *testing.T, limits [2]time.Duration, d time.Duration, what string) {
	t.Helper()
	require.GreaterOrEqual(t, d, limits[0], what)
	require.LessOrEqual(t, d, limits[1], what)
}

// process is one run of one instance of a job.
type process struct {
	w         *world
	provider  *sdk.MeterProvider
	telemetry *otelres.Telemetry
	cut       atomic.Bool // nothing it sends arrives
	loads     []*load
	stopped   bool
}

// start starts a process. It is stopped at the end of the scenario if not before.
func (w *world) start(job, instance string, options ...otelres.Option) *process {
	p := &process{w: w}
	exporter, err := otlpmetrichttp.New(w.t.Context(),
		otlpmetrichttp.WithEndpointURL("http://prometheus.invalid"+prometheus.ReceiverPath),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{}),
		otlpmetrichttp.WithHTTPClient(&http.Client{Transport: p}))
	require.NoError(w.t, err)
	p.provider = sdk.NewMeterProvider(
		sdk.WithReader(sdk.NewPeriodicReader(exporter, sdk.WithInterval(w.export))),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", job), attribute.String("service.instance.id", instance))))
	p.telemetry, err = otelres.New(append([]otelres.Option{otelres.WithMeterProvider(p.provider), otelres.WithoutDurations()}, options...)...)
	require.NoError(w.t, err)
	w.t.Cleanup(p.stop)
	return p
}

// RoundTrip hands a request to the receiver.
func (p *process) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.cut.Load() {
		return nil, errors.New("no route to the receiver")
	}
	answer := httptest.NewRecorder()
	p.w.prom.Receiver().ServeHTTP(answer, r)
	if answer.Code != http.StatusOK {
		p.w.t.Errorf("%v: the receiver says %d %s", time.Since(p.w.began), answer.Code, answer.Body)
	}
	return answer.Result(), nil
}

// stop ends the process in good order: what it counted is sent before.
func (p *process) stop() {
	if p.stopped {
		return
	}
	p.stopped = true
	for _, l := range p.loads {
		l.set(0)
	}
	time.Sleep(time.Millisecond) // the last export must not have the time of the one before
	err := errors.Join(p.provider.Shutdown(context.WithoutCancel(p.w.t.Context())), p.telemetry.Shutdown(context.WithoutCancel(p.w.t.Context())))
	if !p.cut.Load() {
		require.NoError(p.w.t, err)
	}
}

// kill ends the process at once: what it counted since the last export is lost.
func (p *process) kill() {
	p.cut.Store(true)
	p.stop()
}

// breaker makes a circuit breaker with the defaults.
func (p *process) breaker(name string) *resilience.CircuitBreaker {
	return p.configured(resilience.CircuitBreakerConfig{Name: name})
}

func (p *process) configured(c resilience.CircuitBreakerConfig) *resilience.CircuitBreaker {
	c.Events = p.telemetry.Sink()
	return resilience.NewCircuitBreaker(&c)
}

// retrier makes a retrier with the defaults.
func (p *process) retrier(name string) *resilience.Retrier {
	return resilience.NewRetrier(&resilience.RetryConfig{Name: name, Events: p.telemetry.Sink()})
}

// counter makes a counter such as other software has. Without a suffix it is one as
// in the text format, where its name is all there is.
func (p *process) counter(name string, suffix bool) interface {
	Add(context.Context, int64, ...metric.AddOption)
} {
	meter := p.provider.Meter("other")
	if suffix {
		c, err := meter.Int64Counter(name)
		require.NoError(p.w.t, err)
		return c
	}
	c, err := meter.Int64UpDownCounter(name)
	require.NoError(p.w.t, err)
	return c
}

// dependency is what is called. The zero dependency is well.
type dependency struct {
	failing atomic.Int64 // failures in a hundred calls
	hangs   atomic.Int64 // how long a call takes
	calls   atomic.Int64
}

var errDown = errors.New("down")

// call fails as often as it should, evenly.
func (d *dependency) call() error {
	if h := d.hangs.Load(); h > 0 {
		time.Sleep(time.Duration(h))
	}
	n, f := d.calls.Add(1), d.failing.Load()
	if n*f/100 > (n-1)*f/100 {
		return errDown
	}
	return nil
}

// load is calls that come evenly.
type load struct {
	call    func()
	stop    chan struct{}
	pending sync.WaitGroup
}

// every calls f every d until the process ends. A call that takes longer delays the
// next.
func (p *process) every(d time.Duration, f func()) *load {
	l := &load{call: f}
	p.loads = append(p.loads, l)
	l.set(d)
	return l
}

// calls has a breaker called every d.
func (p *process) calls(b *resilience.CircuitBreaker, d time.Duration, callee *dependency) *load {
	return p.every(d, func() { _ = b.Execute(p.w.t.Context(), callee.call) })
}

// set changes how often the calls come; 0 ends them and waits for the last.
func (l *load) set(d time.Duration) {
	if l.stop != nil {
		close(l.stop)
		l.stop = nil
		l.pending.Wait()
	}
	if d == 0 {
		return
	}
	stop := make(chan struct{})
	l.stop = stop
	l.pending.Go(func() {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				l.call()
			}
		}
	})
}
