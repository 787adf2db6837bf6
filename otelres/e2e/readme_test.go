package e2e

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

// collector is an OTLP receiver that keeps what it gets.
type collector struct {
	mu      sync.Mutex
	spans   []string
	metrics []string
	ids     []string // service.instance.id of each request
	native  bool     // a histogram was exponential
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := new(strings.Builder)
	if _, err := copyBody(body, r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.URL.Path {
	case "/v1/traces":
		m := new(collectortrace.ExportTraceServiceRequest)
		if proto.Unmarshal([]byte(body.String()), m) != nil {
			return
		}
		for _, rs := range m.ResourceSpans {
			c.ids = append(c.ids, instanceID(rs.Resource.Attributes))
			for _, scope := range rs.ScopeSpans {
				for _, s := range scope.Spans {
					c.spans = append(c.spans, s.Name)
				}
			}
		}
	case "/v1/metrics":
		m := new(collectormetrics.ExportMetricsServiceRequest)
		if proto.Unmarshal([]byte(body.String()), m) != nil {
			return
		}
		for _, rm := range m.ResourceMetrics {
			c.ids = append(c.ids, instanceID(rm.Resource.Attributes))
			for _, scope := range rm.ScopeMetrics {
				for _, metric := range scope.Metrics {
					c.metrics = append(c.metrics, metric.Name)
					c.native = c.native || metric.GetExponentialHistogram() != nil
				}
			}
		}
	}
}

func instanceID(attrs []*commonv1.KeyValue) string {
	i := slices.IndexFunc(attrs, func(kv *commonv1.KeyValue) bool { return kv.Key == "service.instance.id" })
	if i < 0 {
		return ""
	}
	return attrs[i].Value.GetStringValue()
}

// What README says does what it says: traces and metrics arrive at a collector, of
// an instance that has an id.
func TestReadme(t *testing.T) {
	c := new(collector)
	server := httptest.NewServer(c)
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	tracers, meters, breaker, retrier, err := protect(t.Context())
	require.NoError(t, err)
	require.NoError(t, retrier.Run(t.Context(), func(ctx context.Context) error {
		return breaker.Run(ctx, func(context.Context) error { return nil })
	}))
	require.NoError(t, errors.Join(tracers.Shutdown(t.Context()), meters.Shutdown(t.Context())))

	c.mu.Lock()
	defer c.mu.Unlock()
	require.ElementsMatch(t, []string{"attempt payment", "retry payment"}, c.spans)
	require.Contains(t, c.metrics, "resilience.circuit_breaker.calls")
	require.Contains(t, c.metrics, "resilience.retry.operations")
	require.True(t, c.native, "the view makes histograms exponential")
	require.NotEmpty(t, c.ids)
	for _, id := range c.ids {
		require.NotEmpty(t, id)
		require.Equal(t, c.ids[0], id)
	}
}

// If README shows how to begin with telemetry, it shows what is tested here.
func TestReadmeShowsWhatIsTested(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("there is no README")
	}
	require.NoError(t, err)
	if !strings.Contains(string(readme), "otelres.New(") {
		t.Skip("README does not show it")
	}
	source, err := os.ReadFile("protect_test.go")
	require.NoError(t, err)
	_, body, found := strings.Cut(string(source), "// README begins\n")
	require.True(t, found)
	body, _, found = strings.Cut(body, "\t// README ends\n")
	require.True(t, found)
	require.Contains(t, string(readme), strings.ReplaceAll(body, "\n\t", "\n")[1:])
}
