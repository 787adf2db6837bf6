package telemetry_test

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/telemetry"
	"github.com/breakwater-go/breakwater/internal/leaktest"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// collector takes what is sent by OTLP and notes which services it is of.
type collector struct {
	*httptest.Server
	mu        sync.Mutex
	services  map[string][]string // by path of the signal: service.name
	instances []string            // service.instance.id
	status    int
}

func newCollector(t *testing.T) *collector {
	c := &collector{services: make(map[string][]string), status: http.StatusOK}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status != http.StatusOK {
		w.WriteHeader(c.status)
		return
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, _ = gzip.NewReader(r.Body)
	}
	content, err := io.ReadAll(body)
	var about []*resourcepb.Resource
	switch r.URL.Path {
	case "/v1/traces":
		var all tracepb.ExportTraceServiceRequest
		err = errors.Join(err, proto.Unmarshal(content, &all))
		for _, x := range all.GetResourceSpans() {
			about = append(about, x.GetResource())
		}
	case "/v1/metrics":
		var all metricspb.ExportMetricsServiceRequest
		err = errors.Join(err, proto.Unmarshal(content, &all))
		for _, x := range all.GetResourceMetrics() {
			about = append(about, x.GetResource())
		}
	case "/v1/logs":
		var all logspb.ExportLogsServiceRequest
		err = errors.Join(err, proto.Unmarshal(content, &all))
		for _, x := range all.GetResourceLogs() {
			about = append(about, x.GetResource())
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, one := range about {
		for _, a := range one.GetAttributes() {
			switch a.GetKey() {
			case "service.name":
				c.services[r.URL.Path] = append(c.services[r.URL.Path], a.GetValue().GetStringValue())
			case "service.instance.id":
				c.instances = append(c.instances, a.GetValue().GetStringValue())
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// uniq returns the different ones, in order.
func uniq(all []string) []string { return slices.Compact(slices.Sorted(slices.Values(all))) }

// use makes a span, a measurement and a log record of a service.
func use(ctx context.Context, s *telemetry.Service) error {
	ctx, span := s.Traces.Tracer("t").Start(ctx, "work")
	defer span.End()
	calls, err := s.Metrics.Meter("t").Int64Counter("demo.calls", metric.WithUnit("{call}"))
	calls.Add(ctx, 1)
	var r log.Record
	r.SetEventName("done")
	r.SetSeverity(log.SeverityInfo)
	s.Logs.Logger("t").Emit(ctx, r)
	return err
}

var services = []string{"order", "payment"}

// All signals of all services go to where the environment says.
func TestEnvironment(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	tel, err := telemetry.Open(t.Context(), telemetry.Config{Services: services, Environment: true, Report: func(line string) { t.Error(line) }})
	require.NoError(t, err)
	for _, name := range services {
		require.NoError(t, use(t.Context(), tel.Of(name)))
	}
	require.NoError(t, tel.Flush(t.Context()))
	c.mu.Lock()
	for _, path := range []string{"/v1/metrics", "/v1/logs", "/v1/traces"} {
		require.Equal(t, services, uniq(c.services[path]), path)
	}
	ids := uniq(c.instances)
	require.Len(t, ids, 2)
	for _, id := range ids {
		require.Regexp(t, `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, id)
	}
	c.mu.Unlock()
	require.NoError(t, tel.Shutdown(t.Context()))
}

// The instance may be named by the environment, a service may not.
func TestNamesOfTheEnvironment(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.URL+"/v1/traces") // and nothing else
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-1")
	t.Setenv("OTEL_SERVICE_NAME", "all-the-same")
	tel, err := telemetry.Open(t.Context(), telemetry.Config{Services: services, Environment: true})
	require.NoError(t, err)
	for _, name := range services {
		require.NoError(t, use(t.Context(), tel.Of(name)))
	}
	require.NoError(t, tel.Shutdown(t.Context()))
	require.Equal(t, services, uniq(c.services["/v1/traces"]))
	require.Len(t, c.services, 1)
	require.Equal(t, []string{"pod-1"}, uniq(c.instances))
}

// Without being asked to, or without being told where to, nothing is sent.
func TestNowhere(t *testing.T) {
	c := newCollector(t)
	for _, set := range []map[string]string{
		{},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_SDK_DISABLED": "true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"},
	} {
		for name, value := range set {
			t.Setenv(name, value)
		}
		tel, err := telemetry.Open(t.Context(), telemetry.Config{Services: services, Environment: true})
		require.NoError(t, err)
		require.NoError(t, use(t.Context(), tel.Of("order")))
		require.NoError(t, errors.Join(tel.Flush(t.Context()), tel.Shutdown(t.Context())))
	}
	t.Setenv("OTEL_SDK_DISABLED", "")
	tel, err := telemetry.Open(t.Context(), telemetry.Config{Services: services})
	require.NoError(t, err)
	require.NoError(t, use(t.Context(), tel.Of("order")))
	require.NoError(t, tel.Shutdown(t.Context()))
	require.Empty(t, c.services)
	require.Nil(t, tel.Of("nobody"))
}

func TestBadEnvironment(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", `telemetry: OTEL_EXPORTER_OTLP_ENDPOINT is "localhost:4318", want a URL such as http://localhost:4318`},
		{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://x", `telemetry: OTEL_EXPORTER_OTLP_LOGS_ENDPOINT is "ftp://x", want a URL`},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", `telemetry: OTEL_EXPORTER_OTLP_PROTOCOL is "grpc", want http/protobuf`},
		{"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc", `telemetry: OTEL_EXPORTER_OTLP_METRICS_PROTOCOL is "grpc", want http/protobuf`},
		{"OTEL_METRICS_EXPORTER", "console", `telemetry: OTEL_METRICS_EXPORTER is "console", want otlp or none`},
		{"OTEL_RESOURCE_ATTRIBUTES", "nonsense", "telemetry: OTEL_RESOURCE_ATTRIBUTES: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv(c.name, c.value)
			_, err := telemetry.Open(t.Context(), telemetry.Config{Services: services, Environment: true})
			require.ErrorContains(t, err, c.want)
		})
	}
}

// A collector that refuses is told of once, and once more when it takes again.
func TestRefused(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	var mu sync.Mutex
	var lines []string
	tel, err := telemetry.Open(t.Context(), telemetry.Config{Services: []string{"order"}, Environment: true, Report: func(line string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, line)
	}})
	require.NoError(t, err)
	for _, status := range []int{http.StatusNotFound, http.StatusNotFound, http.StatusOK, http.StatusOK} {
		c.mu.Lock()
		c.status = status
		c.mu.Unlock()
		require.NoError(t, use(t.Context(), tel.Of("order")))
		require.NoError(t, tel.Flush(t.Context()))
	}
	require.NoError(t, tel.Shutdown(t.Context()))
	require.Len(t, lines, 6)
	for i, line := range slices.Sorted(slices.Values(lines)) {
		signal := []string{"logs", "metrics", "traces"}[i/2]
		if i%2 == 0 {
			require.Equal(t, signal+" arrive at "+c.URL+" again", line)
		} else {
			require.True(t, strings.HasPrefix(line, signal+" do not arrive at "+c.URL+": "), line)
			require.Contains(t, line, "404")
		}
	}
}

// silent is not closed, which would end what waits for it.
var silent net.Listener

// A collector that does not answer is not waited for longer than the context allows,
// and nobody is left waiting.
func TestNoAnswer(t *testing.T) {
	var err error
	silent, err = net.Listen("tcp", "127.0.0.1:0") // connections are made, and that is all
	require.NoError(t, err)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+silent.Addr().String())
	tel, err := telemetry.Open(t.Context(), telemetry.Config{Services: services, Environment: true})
	require.NoError(t, err)
	require.NoError(t, use(t.Context(), tel.Of("order")))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.NoError(t, tel.Shutdown(ctx))
}

var word = regexp.MustCompile(`(?m)^[a-z_:]+`)

// What can be scraped has the names of what arrives by OTLP, whatever the environment
// would have others get.
func TestScrape(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram")
	synctest.Test(t, func(t *testing.T) {
		server, err := prometheus.Open(prometheus.Config{Dir: t.TempDir()})
		require.NoError(t, err)
		defer func() { require.NoError(t, server.Close()) }()
		tel, err := telemetry.Open(t.Context(), telemetry.Config{
			Services:  services,
			Receivers: []telemetry.Receiver{{Handler: server.Receiver(), Interval: time.Second}},
			Report:    func(line string) { t.Error(line) },
		})
		require.NoError(t, err)
		defer func() { require.NoError(t, tel.Shutdown(context.WithoutCancel(t.Context()))) }()
		for _, name := range services {
			require.NoError(t, use(t.Context(), tel.Of(name)))
		}
		order := tel.Of("order")
		r, err := otelres.New(otelres.WithMeterProvider(order.Metrics), otelres.WithTracerProvider(order.Traces))
		require.NoError(t, err)
		ctx, span := order.Traces.Tracer("t").Start(t.Context(), "order")
		policy := resilience.Chain(
			resilience.NewRetrier(&resilience.RetryConfig{Name: "payment", Events: r.Sink()}),
			resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: r.Sink()}))
		for range 3 {
			require.NoError(t, policy.Run(ctx, func(context.Context) error { return nil }))
			time.Sleep(time.Second)
		}
		span.End()
		time.Sleep(time.Second / 2)

		page := func(accept string) string {
			request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			request.Header.Set("Accept", accept)
			answer := httptest.NewRecorder()
			tel.Scrape().ServeHTTP(answer, request)
			require.Equal(t, http.StatusOK, answer.Code, answer.Body)
			return answer.Body.String()
		}
		text := page("")
		require.Contains(t, text, `demo_calls_total{service_name="order"} 1`)
		require.Contains(t, text, `demo_calls_total{service_name="payment"} 1`)
		require.Contains(t, text, `resilience_circuit_breaker_calls_total{resilience_circuit_breaker_call_outcome="success",resilience_circuit_breaker_name="payment",service_name="order"} 3`)
		require.Contains(t, page("application/openmetrics-text"), `trace_id="`+span.SpanContext().TraceID().String()+`"`)

		stored, err := server.Query(t.Context(), `{__name__=~".+"}`, time.Now())
		require.NoError(t, err)
		var names []string
		for _, s := range stored {
			names = append(names, s.Labels["__name__"])
			if s.Labels["__name__"] == "resilience_circuit_breaker_calls_total" && s.Labels["resilience_circuit_breaker_call_outcome"] == "success" {
				require.Equal(t, 3.0, s.Points[0].Value)
				require.Equal(t, "order", s.Labels["job"])
				require.NotEmpty(t, s.Labels["instance"])
			}
		}
		require.Contains(t, names, "resilience_circuit_breaker_call_duration_seconds_bucket", "explicit buckets")
		require.Equal(t, uniq(names), uniq(word.FindAllString(text, -1)))
		require.NotContains(t, text, string(attribute.Key("otel_scope")))
	})
}
