package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/report"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/telemetry"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/traces"
)

// begin runs a demo and returns when it is ready. What is returned waits for its end;
// a test that fails before ends it.
func begin(t *testing.T, config Config) (Parts, func() error) {
	t.Helper()
	ready, ended := make(chan Parts, 1), make(chan struct{})
	config.Ready = func(p Parts) { ready <- p }
	ctx, stop := context.WithCancel(t.Context())
	var failed error
	go func() {
		defer close(ended)
		_, failed = Run(ctx, config)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	select {
	case p := <-ready:
		return p, func() error { <-ended; return failed }
	case <-ended:
		require.NoError(t, failed)
		panic("unreachable")
	}
}

// asked runs a whole minute and calls ask shortly before it is over.
func asked(t *testing.T, config Config, ask func(Parts)) {
	t.Helper()
	parts, end := begin(t, config)
	time.Sleep(59900 * time.Millisecond)
	ask(parts)
	require.NoError(t, end())
}

// What is seen of a whole minute: the alert for a circuit that stays open, which comes
// and goes; retried orders, each of them one tree; and exemplars that lead to them.
func TestWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		asked(t, inMemory(&log), func(p Parts) {
			for _, a := range p.Prometheus.Alerts() {
				if a.State == prometheus.Firing || a.State == prometheus.Pending {
					require.Fail(t, "an alert in the end", "%s is %s", a.Rule, a.State)
				}
				if a.Rule == "CircuitOpenTooLong" {
					require.Equal(t, prometheus.Resolved, a.State)
					require.Equal(t, "order", a.Labels["job"])
				}
			}
			all := p.Traces.Latest()
			require.Len(t, all, keptTraces)
			for _, one := range all {
				requireTree(t, one)
			}
			saved, ok := p.Traces.Saved()
			require.True(t, ok)
			require.Equal(t, 3, saved.Attempts)
			require.False(t, saved.Failed)
			requireTree(t, saved)
			require.Zero(t, p.Traces.Overlooked())
			requireExemplars(t, p)
		})
		requireInOrder(t, log.String(), "── outage ──", "OPEN ",
			"alert      pending    CircuitOpenTooLong of payment\n",
			"alert      FIRING     CircuitOpenTooLong of payment, severity page\n",
			"── recovery ──", "CLOSED ",
			"alert      resolved   CircuitOpenTooLong of payment\n")
		require.Equal(t, 1, strings.Count(log.String(), "FIRING"))
	})
}

// requireTree fails unless each span has the parent it should have: order's server,
// an operation, an attempt, the client, and the server of the dependency.
func requireTree(t *testing.T, one traces.Trace) {
	t.Helper()
	require.Len(t, one.Roots, 1)
	require.Zero(t, one.Dropped)
	root := one.Roots[0]
	require.Equal(t, "order POST /orders server", named(root))
	for _, operation := range root.Children {
		name := operation.Attribute("resilience.retry.name")
		require.Contains(t, shop.Dependencies(), name)
		require.Equal(t, "order retry "+name+" internal", named(operation))
		require.Len(t, operation.Children, len(operation.Events)+1, "one attempt more than waits")
		for i, attempt := range operation.Children {
			require.Equal(t, "order attempt "+name+" internal", named(attempt))
			if attempt.Attribute("resilience.retry.attempt.outcome") == "rejected" {
				require.Empty(t, attempt.Children)
				continue
			}
			require.Len(t, attempt.Children, 1)
			client := attempt.Children[0]
			verb := map[string]string{shop.Inventory: "POST /reserve", shop.Payment: "POST /charge", shop.Shipping: "POST /ship"}[name]
			require.Equal(t, "order "+verb+" client", named(client))
			require.Len(t, client.Children, 1, "each request has arrived")
			server := client.Children[0]
			require.Equal(t, name+" "+verb+" server", named(server))
			require.Empty(t, server.Children)
			if i < len(operation.Children)-1 {
				require.True(t, attempt.Failed && client.Failed && server.Failed, "attempt %d was followed by another", i+1)
			}
		}
	}
}

func named(s *traces.Span) string { return s.Service + " " + s.Name + " " + s.Kind.String() }

// requireExemplars fails unless the histogram of calls has exemplars, some of them of
// traces that can be looked at.
func requireExemplars(t *testing.T, p Parts) {
	t.Helper()
	found, err := p.Prometheus.Exemplars(t.Context(), "resilience_circuit_breaker_call_duration_seconds_bucket", time.Now().Add(-time.Minute), time.Now())
	require.NoError(t, err)
	kept := 0
	for _, e := range found {
		id, err := trace.TraceIDFromHex(e.Labels["trace_id"])
		require.NoError(t, err)
		if _, ok := p.Traces.Find(id.String()); ok {
			kept++
		}
	}
	require.Positive(t, kept, "none of %d exemplars is of a trace that is kept", len(found))
}

// Whoever wants the metrics, for dashboards or as they are, can have them beside.
func TestReceivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, err := prometheus.Open(prometheus.Config{Dir: t.TempDir()})
		require.NoError(t, err)
		defer func() { require.NoError(t, server.Close()) }()
		var exports atomic.Int32 // services do not wait for each other
		config := inMemory(new(bytes.Buffer))
		config.Duration = 12 * time.Second
		config.Receivers = []telemetry.Receiver{{Interval: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			exports.Add(1)
			server.Receiver().ServeHTTP(w, r)
		})}}
		_, err = Run(t.Context(), config)
		require.NoError(t, err)
		require.Equal(t, int32(4*2), exports.Load(), "of four services, every five seconds")
		got, err := server.Query(context.WithoutCancel(t.Context()), "count by (job) (target_info)", time.Now())
		require.NoError(t, err)
		var jobs []string
		for _, s := range got {
			jobs = append(jobs, s.Labels["job"])
			require.Equal(t, 1.0, s.Points[0].Value)
		}
		require.ElementsMatch(t, shop.Services(), jobs)
	})
}

func TestHistory(t *testing.T) {
	var h history
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	one := prometheus.Alert{Rule: "A", Severity: "page", Labels: map[string]string{"resilience_circuit_breaker_name": "payment"}, State: prometheus.Pending, PendingAt: at(1)}
	other := one
	other.Labels = map[string]string{"resilience_retry_name": "shipping"}
	h.add(one)
	h.add(other)
	one.State, one.FiringAt = prometheus.Firing, at(2)
	h.add(one)
	other.State, other.PendingAt, other.Since = prometheus.Inactive, time.Time{}, at(3)
	h.add(other)
	one.State, one.ResolvedAt = prometheus.Resolved, at(4)
	h.add(one)
	h.add(prometheus.Alert{Rule: "B", State: prometheus.Firing, PendingAt: at(5), FiringAt: at(5)})
	one = prometheus.Alert{Rule: "A", Labels: one.Labels, State: prometheus.Pending, PendingAt: at(6)}
	h.add(one)
	require.Equal(t, []report.Alert{
		{Rule: "A", About: "payment", Severity: "page", PendingAt: at(1), FiringAt: at(2), ResolvedAt: at(4)},
		{Rule: "A", About: "shipping", Severity: "page", PendingAt: at(1), EndedAt: at(3)},
		{Rule: "B", PendingAt: at(5), FiringAt: at(5)},
		{Rule: "A", About: "payment", PendingAt: at(6)},
	}, h.list())
	for range keptEpisodes {
		h.add(prometheus.Alert{Rule: "C", State: prometheus.Resolved, ResolvedAt: at(7)})
	}
	require.Len(t, h.list(), keptEpisodes)
	require.Equal(t, "C", h.list()[0].Rule)
}

// The front has everything while the demo runs, and nothing afterwards.
func TestFront(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		config := inMemory(&log)
		config.Web = "127.0.0.1:8765"
		browser := &http.Client{Transport: config.Network.Transport()}
		defer browser.CloseIdleConnections()
		get := func(path string) string {
			resp, err := browser.Get("http://127.0.0.1:8765" + path)
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, resp.StatusCode, path)
			return string(body)
		}
		parts, end := begin(t, config)
		require.Equal(t, "http://127.0.0.1:8765", parts.Web)
		time.Sleep(35 * time.Second)

		index := get("/")
		require.Contains(t, index, `payment</span> <span class="pill open">open`)
		require.Contains(t, index, "1 firing.")
		require.Regexp(t, `<b>\d{2,3}</b> are kept`, index)
		require.Contains(t, get("/alerts"), "<h2>CircuitOpenTooLong ")
		require.Contains(t, get("/metrics"), `resilience_circuit_breaker_status{resilience_circuit_breaker_name="payment",resilience_circuit_breaker_state="open",service_name="order"} 1`)
		require.Contains(t, get("/faults"), "payment")

		// A trace id that the live page shows leads to the trace.
		var live struct {
			Circuits []struct{ Name, State string }
			Retries  []struct {
				Name string
				Last []struct {
					Attempts int
					TraceID  string `json:"trace_id"`
				}
			}
		}
		require.NoError(t, json.Unmarshal([]byte(get("/debug/circuits/?format=json")), &live))
		require.Len(t, live.Circuits, 3)
		require.Equal(t, "open", live.Circuits[1].State)
		checked := 0
		for _, r := range live.Retries {
			if r.Name == shop.Payment {
				for _, one := range r.Last {
					require.Len(t, one.TraceID, 32)
					if one.Attempts > 1 {
						require.Contains(t, get("/traces/"+one.TraceID), one.TraceID)
						checked++
					}
				}
			}
		}
		require.Positive(t, checked)
		require.Contains(t, get("/traces"), "waits")

		resp, err := browser.Post("http://127.0.0.1:8765/webhook", "application/json", strings.NewReader(`{"alerts": [{"status": "firing", "labels": {"alertname": "FromOutside"}}]}`))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		// A browser that looks at the live page does not hold up the end.
		stream, err := browser.Get("http://127.0.0.1:8765/debug/circuits/events")
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, stream.Body) // until the demo is over
		require.NoError(t, err)
		require.NoError(t, stream.Body.Close())
		require.NoError(t, end())
		require.Contains(t, log.String(), "webhook    FIRING     FromOutside")
		require.Contains(t, log.String(), "  Alerts    http://127.0.0.1:8765/alerts\n")
		_, err = browser.Get("http://127.0.0.1:8765/")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	})
}
