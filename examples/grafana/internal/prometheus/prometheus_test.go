package prometheus_test

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/examples/grafana/rules"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// Every test that opens a server runs in a bubble of synctest: it fails if a goroutine
// is left when it ends.

func open(t *testing.T, c prometheus.Config) *prometheus.Server {
	t.Helper()
	c.Dir = t.TempDir()
	s, err := prometheus.Open(c)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		left, err := os.ReadDir(c.Dir)
		require.NoError(t, err)
		require.Empty(t, left, "files that are left")
	})
	return s
}

// direct hands requests to a handler, without a network.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	d.ServeHTTP(answer, r)
	return answer.Result(), nil
}

// provider returns a MeterProvider that sends to s as the demo does.
func provider(t *testing.T, s *prometheus.Server, every time.Duration) *sdk.MeterProvider {
	t.Helper()
	exporter, err := otlpmetrichttp.New(t.Context(),
		otlpmetrichttp.WithEndpointURL("http://127.0.0.1"+prometheus.ReceiverPath),
		otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{}),
		otlpmetrichttp.WithHTTPClient(&http.Client{Transport: direct{s.Receiver()}}))
	require.NoError(t, err)
	p := sdk.NewMeterProvider(
		sdk.WithReader(sdk.NewPeriodicReader(exporter, sdk.WithInterval(every))),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.namespace", "shop"),
			attribute.String("service.name", "order"),
			attribute.String("service.instance.id", "a"))))
	t.Cleanup(func() {
		time.Sleep(time.Millisecond) // not the time of the export before
		require.NoError(t, p.Shutdown(context.WithoutCancel(t.Context())))
	})
	return p
}

func values(all []prometheus.Series) map[string]float64 {
	found := make(map[string]float64)
	for _, s := range all {
		found[s.Labels["__name__"]+" "+s.Labels["job"]+" "+s.Labels["instance"]+" "+s.Labels["outcome_kind"]] = s.Points[len(s.Points)-1].Value
	}
	return found
}

func TestMetricsByOTLP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, prometheus.Config{})
		m := provider(t, s, 10*time.Second).Meter("test")
		calls, err := m.Int64Counter("demo.calls", metric.WithUnit("{call}"))
		require.NoError(t, err)
		ratio, err := m.Float64Gauge("demo.failure.ratio", metric.WithUnit("1"))
		require.NoError(t, err)
		wait, err := m.Float64Histogram("demo.wait", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(0.1, 1))
		require.NoError(t, err)
		time.Sleep(time.Second) // not at the moments of exports
		began := time.Now()
		traced := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{0xab}, SpanID: trace.SpanID{0xcd}, TraceFlags: trace.FlagsSampled,
		}))
		for range 6 {
			calls.Add(t.Context(), 5, metric.WithAttributes(attribute.String("outcome.kind", "good")))
			ratio.Record(t.Context(), 0.25)
			wait.Record(traced, 0.5)
			time.Sleep(10 * time.Second)
		}
		synctest.Wait()
		now := time.Now()

		got, err := s.Query(t.Context(), `{__name__=~"demo_.+", le=~"|1"}`, now)
		require.NoError(t, err)
		require.Equal(t, map[string]float64{
			"demo_calls_total shop/order a good":     30,
			"demo_failure_ratio shop/order a ":       0.25,
			"demo_wait_seconds_bucket shop/order a ": 6,
			"demo_wait_seconds_count shop/order a ":  6,
			"demo_wait_seconds_sum shop/order a ":    3,
		}, values(got))
		require.True(t, got[0].Points[0].Time.Equal(now))

		got, err = s.QueryRange(t.Context(), "sum by (job) (demo_calls_total)", began.Add(10*time.Second), began.Add(50*time.Second), 20*time.Second)
		require.NoError(t, err)
		require.Equal(t, []prometheus.Series{{Labels: map[string]string{"job": "shop/order"}, Points: []prometheus.Point{
			{Time: began.Add(10 * time.Second), Value: 5}, {Time: began.Add(30 * time.Second), Value: 15}, {Time: began.Add(50 * time.Second), Value: 25},
		}}}, normal(got, began))

		got, err = s.Query(t.Context(), "rate(demo_calls_total[30s])", now)
		require.NoError(t, err)
		require.InDelta(t, 0.5, got[0].Points[0].Value, 0.01)
		got, err = s.Query(t.Context(), "demo_calls_total[25s]", now)
		require.NoError(t, err)
		require.Len(t, got[0].Points, 3)
		got, err = s.Query(t.Context(), "6 * 7", now)
		require.NoError(t, err)
		require.Equal(t, 42.0, got[0].Points[0].Value)
		got, err = s.Query(t.Context(), "nothing", now)
		require.NoError(t, err)
		require.Empty(t, got)

		exemplars, err := s.Exemplars(t.Context(), `demo_wait_seconds_bucket{le="1"}`, began, now)
		require.NoError(t, err)
		require.NotEmpty(t, exemplars)
		require.Equal(t, "ab000000000000000000000000000000", exemplars[0].Labels["trace_id"])
		require.Equal(t, "cd00000000000000", exemplars[0].Labels["span_id"])
		require.Equal(t, 0.5, exemplars[0].Value)
		require.Equal(t, "shop/order", exemplars[0].Series["job"])
		require.False(t, exemplars[0].Time.Before(began))
	})
}

// normal gives times the location of began, for comparison.
func normal(all []prometheus.Series, began time.Time) []prometheus.Series {
	for _, s := range all {
		for i := range s.Points {
			s.Points[i].Time = began.Add(s.Points[i].Time.Sub(began))
		}
	}
	return all
}

func TestQueryErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, prometheus.Config{})
		now := time.Now()
		_, err := s.Query(t.Context(), "sum(", now)
		require.ErrorContains(t, err, "parse error")
		_, err = s.Query(t.Context(), `"text"`, now)
		require.ErrorContains(t, err, "string")
		_, err = s.QueryRange(t.Context(), "up", now, now, 0)
		require.ErrorContains(t, err, "step is 0s")
		_, err = s.Exemplars(t.Context(), "sum(", now, now)
		require.ErrorContains(t, err, "parse error")
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.Query(canceled, "up", now)
		require.Error(t, err)

		for body, code := range map[string]int{"no protobuf": http.StatusBadRequest, "": http.StatusOK} {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/x-protobuf")
			answer := httptest.NewRecorder()
			s.Receiver().ServeHTTP(answer, r)
			require.Equal(t, code, answer.Code, "%q", body)
		}
	})
}

func TestOpenErrors(t *testing.T) {
	bad := func(text string) fstest.MapFS { return fstest.MapFS{"x.rules.yml": {Data: []byte(text)}} }
	for _, c := range []struct {
		name   string
		config prometheus.Config
		want   string
	}{
		{"negative scale", prometheus.Config{Scale: -1}, "Scale is -1"},
		{"scale that is no number", prometheus.Config{Scale: math.NaN()}, "Scale is NaN"},
		{"endless scale", prometheus.Config{Scale: math.Inf(1)}, "Scale is +Inf"},
		{"negative interval", prometheus.Config{Interval: -1}, "Interval is -1ns"},
		{"no rules", prometheus.Config{Rules: fstest.MapFS{"rules.yml": {}}}, "there is no rule file *.rules.yml"},
		{"no YAML", prometheus.Config{Rules: bad("groups: [")}, "x.rules.yml"},
		{"unknown field", prometheus.Config{Rules: bad("groups: [{name: g, rules: [{alert: A, expr: up, after: 5m}]}]")}, "after"},
		{"no PromQL", prometheus.Config{Rules: bad("groups: [{name: g, rules: [{alert: A, expr: 'sum('}]}]")}, "x.rules.yml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.config.Dir = t.TempDir()
				_, err := prometheus.Open(c.config)
				require.ErrorContains(t, err, c.want)
				left, err := os.ReadDir(c.config.Dir)
				require.NoError(t, err)
				require.Empty(t, left)
			})
		})
	}
	_, err := prometheus.Open(prometheus.Config{Dir: "/does/not/exist"})
	require.ErrorIs(t, err, os.ErrNotExist)
}

var twoRules = fstest.MapFS{
	"b.rules.yml": {Data: []byte(`
groups:
  - name: late
    rules:
      - {record: "calls:double", expr: 2 * demo_level}
      - {alert: Later, expr: demo_level > 200}
  - name: early
    rules:
      - alert: Never
        expr: demo_level > 100
        labels: {severity: info}
        annotations: {summary: "{{ $value }} is too much", runbook_url: "https://example.invalid/Never"}
`)},
	"a.rules.yml": {Data: []byte(`
groups:
  - name: z
    rules:
      - alert: Zeal
        expr: demo_level > 1
        for: 2m
        keep_firing_for: 1m
        labels: {severity: page}
        annotations: {summary: "level {{ $value }} of {{ $labels.job }}"}
      - alert: Anger
        expr: demo_level > 2
        labels: {severity: ticket}
`)},
	"c.yml": {Data: []byte("not a rule file")},
}

func TestAlertsFromInactiveToResolved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type change struct {
			rule  string
			state prometheus.State
			at    time.Duration
		}
		began := time.Now()
		var changes []change
		var texts []string
		s := open(t, prometheus.Config{Rules: twoRules, OnAlert: func(a prometheus.Alert) {
			changes = append(changes, change{a.Rule, a.State, a.Since.Sub(began).Round(15 * time.Second)})
			texts = append(texts, a.Annotations["summary"])
		}})
		level, err := provider(t, s, 5*time.Second).Meter("test").Float64Gauge("demo.level")
		require.NoError(t, err)
		set := func(v float64, d time.Duration) {
			level.Record(t.Context(), v)
			time.Sleep(d)
		}
		states := func() map[string]prometheus.State {
			synctest.Wait()
			all := make(map[string]prometheus.State)
			for _, a := range s.Alerts() {
				all[a.Rule] = a.State
			}
			return all
		}

		require.Equal(t, []prometheus.Alert{
			{Rule: "Zeal", Severity: "page", State: prometheus.Inactive, Labels: map[string]string{"severity": "page"}, Annotations: map[string]string{}},
			{Rule: "Anger", Severity: "ticket", State: prometheus.Inactive, Labels: map[string]string{"severity": "ticket"}, Annotations: map[string]string{}},
			{Rule: "Later", State: prometheus.Inactive, Labels: map[string]string{}, Annotations: map[string]string{}},
			{Rule: "Never", Severity: "info", State: prometheus.Inactive, Labels: map[string]string{"severity": "info"}, Annotations: map[string]string{"runbook_url": "https://example.invalid/Never"}},
		}, s.Alerts(), "in the order of the files, and of the text of each")

		set(0, 2*time.Minute)
		synctest.Wait()
		require.Empty(t, changes)
		set(1.5, time.Minute) // pending, and no more
		require.Equal(t, prometheus.Pending, states()["Zeal"])
		set(0, time.Minute)
		require.Equal(t, prometheus.Inactive, states()["Zeal"])
		set(2.5, 3*time.Minute) // firing both
		require.Equal(t, map[string]prometheus.State{"Zeal": prometheus.Firing, "Anger": prometheus.Firing, "Later": prometheus.Inactive, "Never": prometheus.Inactive}, states())
		set(1.5, time.Minute)
		require.Equal(t, map[string]prometheus.State{"Zeal": prometheus.Firing, "Anger": prometheus.Resolved, "Later": prometheus.Inactive, "Never": prometheus.Inactive}, states())
		set(0, 2*time.Minute)
		require.Equal(t, prometheus.Resolved, states()["Zeal"])

		for _, a := range s.Alerts()[:2] {
			require.Equal(t, "shop/order", a.Labels["job"])
			require.Equal(t, a.Severity, a.Labels["severity"])
			require.NotContains(t, a.Labels, "alertname")
			require.False(t, a.FiringAt.Before(a.PendingAt))
			require.True(t, a.ResolvedAt.After(a.FiringAt))
			require.Equal(t, a.ResolvedAt, a.Since)
		}
		double, err := s.Query(t.Context(), "calls:double", time.Now())
		require.NoError(t, err)
		require.Len(t, double, 1, "what a rule records can be asked for")

		time.Sleep(20 * time.Minute)
		require.Equal(t, map[string]prometheus.State{"Zeal": prometheus.Inactive, "Anger": prometheus.Inactive, "Later": prometheus.Inactive, "Never": prometheus.Inactive}, states())

		require.Equal(t, []change{
			{"Zeal", prometheus.Pending, 2 * time.Minute},
			{"Zeal", prometheus.Inactive, 3 * time.Minute},
			{"Zeal", prometheus.Pending, 4 * time.Minute},
			{"Anger", prometheus.Firing, 4 * time.Minute},
			{"Zeal", prometheus.Firing, 6 * time.Minute},
			{"Anger", prometheus.Resolved, 7 * time.Minute},
			{"Zeal", prometheus.Resolved, 9 * time.Minute},
		}, changes)
		require.Equal(t, "level 1.5 of shop/order", texts[0])
	})
}

// An outage in the demo, thirty times as fast as in life.
func TestScale(t *testing.T) {
	const scale = 1.0 / 30
	page := func(t *testing.T, scale float64) (fired, resolved time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			s := open(t, prometheus.Config{Rules: rules.Files, Scale: scale, OnAlert: func(a prometheus.Alert) {
				switch {
				case a.Rule != "CircuitOpenTooLong":
					assert.NotEqual(t, prometheus.Firing, a.State, a.Rule)
				case a.State == prometheus.Firing:
					fired = a.Since.Sub(began)
				case a.State == prometheus.Resolved:
					resolved = a.Since.Sub(began)
				}
			}})
			second := prometheus.Scaled(time.Second, scale)
			metrics := provider(t, s, 15*second)
			telemetry, err := otelres.New(otelres.WithMeterProvider(metrics))
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, telemetry.Shutdown(context.WithoutCancel(t.Context()))) })
			b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
				Name: "payment", WindowSize: 60 * second, SleepWindow: 30 * second, Events: telemetry.Sink(),
			})
			calls := func(d time.Duration, err error) {
				for range d / time.Second {
					_ = b.Execute(t.Context(), func() error { return err })
					time.Sleep(second)
				}
			}
			calls(10*time.Minute, nil)
			calls(12*time.Minute, errors.New("down"))
			calls(12*time.Minute, nil)
			alerts := s.Alerts()
			require.Equal(t, "CircuitOpenTooLong", alerts[0].Rule)
			require.Equal(t, prometheus.Resolved, alerts[0].State)
		})
		return fired, resolved
	}
	for _, scale := range []float64{1, scale} {
		fired, resolved := page(t, scale)
		unit := float64(time.Minute) * scale
		require.InDelta(t, 17.75, float64(fired)/unit, 0.75, "scale %v", scale)
		require.InDelta(t, 29.5, float64(resolved)/unit, 1.5, "scale %v", scale)
	}
}

func TestScaleExpr(t *testing.T) {
	for expr, want := range map[string]string{
		`rate(x[5m])`:                             `rate(x[30s])`,
		`x offset 10m`:                            `x offset 1m`,
		`x offset -10m`:                           `x offset -1m`,
		`max_over_time(x[1h] offset 10m)`:         `max_over_time(x[6m] offset 1m)`,
		`avg_over_time((x > 1)[2h:5m])`:           `avg_over_time((x > 1)[12m:30s])`,
		`avg_over_time(x[2h:] offset 1h)`:         `avg_over_time(x[12m:] offset 6m)`,
		`time() - x > 10m`:                        `time() - x > 1m`,
		`x > 600`:                                 `x > 600`,
		`x @ 600`:                                 `x @ 600.000`,
		`rate(x[1ms])`:                            `rate(x[1ms])`,
		`sum by (a) (rate(x{b=~"5m"}[5m])) > 0.1`: `sum by (a) (rate(x{b=~"5m"}[30s])) > 0.1`,
	} {
		got, err := prometheus.ScaleExpr(expr, 0.1)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := prometheus.ScaleExpr("sum(", 0.1)
	require.Error(t, err)
	for d, want := range map[time.Duration]time.Duration{
		0: 0, time.Minute: 6 * time.Second, time.Millisecond: time.Millisecond, -time.Millisecond: -time.Millisecond, 16 * time.Millisecond: 2 * time.Millisecond,
	} {
		require.Equal(t, want, prometheus.Scaled(d, 0.1), d)
	}
}

// The group's own durations and those of a rule are scaled as well.
func TestScaleOfGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		began := time.Now()
		open(t, prometheus.Config{Scale: 0.1, Rules: fstest.MapFS{"x.rules.yml": {Data: []byte(`
groups:
  - name: g
    interval: 1m
    query_offset: 10m
    rules:
      - {alert: Late, expr: vector(time()) > 0, for: 10m}
`)}}, OnAlert: func(a prometheus.Alert) {
			at = append(at, a.Since.Sub(began))
			assert.InDelta(t, float64(a.Since.Add(-time.Minute).Unix()), a.Value, 60, "the query's time is a minute earlier")
		}})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.Len(t, at, 2)
		require.Less(t, at[0], 12*time.Second, "pending")
		require.Equal(t, time.Minute, at[1]-at[0], "firing")
	})
}

// What has not been heard of for the scaled lookback is not there.
func TestScaleOfLookback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, prometheus.Config{Scale: 0.1})
		level, err := provider(t, s, time.Hour).Meter("test").Float64Gauge("demo.level")
		require.NoError(t, err)
		level.Record(t.Context(), 1)
		time.Sleep(time.Hour)
		synctest.Wait()
		for after, want := range map[time.Duration]int{29 * time.Second: 1, 31 * time.Second: 0} {
			got, err := s.Query(t.Context(), "demo_level", time.Now().Add(after))
			require.NoError(t, err)
			require.Len(t, got, want, "after %v", after)
		}
	})
}

// Groups are evaluated concurrently, but tell one after the other.
func TestOnAlertOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inside, calls atomic.Int32
		open(t, prometheus.Config{
			Rules: fstest.MapFS{"x.rules.yml": {Data: []byte(`
groups:
  - {name: g, rules: [{alert: A, expr: vector(1)}]}
  - {name: h, rules: [{alert: B, expr: vector(1)}]}
`)}},
			OnAlert: func(prometheus.Alert) {
				calls.Add(1)
				assert.Equal(t, int32(1), inside.Add(1))
				time.Sleep(time.Minute)
				inside.Add(-1)
			},
		})
		time.Sleep(3 * time.Minute)
		require.Equal(t, int32(2), calls.Load())
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, prometheus.Config{Rules: twoRules, Interval: 10 * time.Millisecond})
		// Everything at once, while it is closed, twice.
		var use sync.WaitGroup
		for range 4 {
			use.Go(func() {
				for range 50 {
					_, err := s.Query(t.Context(), "demo_level", time.Now())
					if err != nil {
						assert.ErrorIs(t, err, prometheus.ErrClosed)
					}
					s.Alerts()
					r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{}`))
					r.Header.Set("Content-Type", "application/json")
					answer := httptest.NewRecorder()
					s.Receiver().ServeHTTP(answer, r)
					assert.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, answer.Code)
					time.Sleep(time.Millisecond)
				}
			})
		}
		for range 2 {
			use.Go(func() {
				time.Sleep(25 * time.Millisecond)
				assert.NoError(t, s.Close())
			})
		}
		use.Wait()

		_, err := s.Query(t.Context(), "up", time.Now())
		require.ErrorIs(t, err, prometheus.ErrClosed)
		_, err = s.QueryRange(t.Context(), "up", time.Now(), time.Now(), time.Second)
		require.ErrorIs(t, err, prometheus.ErrClosed)
		_, err = s.Exemplars(t.Context(), "up", time.Now(), time.Now())
		require.ErrorIs(t, err, prometheus.ErrClosed)
		require.Len(t, s.Alerts(), 4)
		answer := httptest.NewRecorder()
		s.Receiver().ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", nil))
		require.Equal(t, http.StatusServiceUnavailable, answer.Code)
	})
}

// Whoever is told of an alert may ask the server things, even while it is being closed.
func TestAskedFromOnAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, told, asked := make(chan *prometheus.Server, 1), make(chan struct{}), make(chan struct{})
		s := open(t, prometheus.Config{
			Rules: fstest.MapFS{"x.rules.yml": {Data: []byte(`groups: [{name: g, rules: [{alert: A, expr: vector(1), labels: {severity: page}}]}]`)}},
			OnAlert: func(a prometheus.Alert) {
				s := <-servers
				clear(a.Labels) // which are mine
				assert.Equal(t, map[string]string{"severity": "page"}, s.Alerts()[0].Labels)
				close(told)
				time.Sleep(time.Second) // Close begins
				_, err := s.Query(context.Background(), "up", time.Now())
				assert.ErrorIs(t, err, prometheus.ErrClosed)
				assert.Len(t, s.Alerts(), 1)
				close(asked)
			},
		})
		servers <- s
		<-told
		require.NoError(t, s.Close())
		<-asked
	})
}

// Prometheus makes spans of its work with the global provider. They are none of the
// demo's.
func TestNoSpansOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewSpanRecorder()
		was := otel.GetTracerProvider()
		otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
		defer otel.SetTracerProvider(was)
		s := open(t, prometheus.Config{Rules: twoRules})
		time.Sleep(2 * time.Minute)
		_, err := s.Query(t.Context(), "1 + 1", time.Now())
		require.NoError(t, err)
		require.NoError(t, s.Close())
		require.Empty(t, spans.Started())
	})
}
