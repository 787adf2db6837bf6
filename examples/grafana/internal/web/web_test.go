package web_test

import (
	"encoding/json"
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/report"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/traces"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/web"
	"github.com/breakwater-go/breakwater/internal/leaktest"
	"github.com/breakwater-go/breakwater/resilience"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var start = time.Date(2026, 1, 2, 15, 4, 0, 0, time.UTC)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// nasty is what comes from outside and is shown.
const nasty = `<img src=x onerror=alert(1)>"'`

// saved is a trace of an operation that succeeded with its second attempt.
func saved() traces.Trace {
	attempt := func(number, code string, began, took int) *traces.Span {
		failed := code != "200"
		server := &traces.Span{Service: "payment", Name: "POST /charge", Kind: trace.SpanKindServer, Start: at(began + 1), Duration: at(took - 2).Sub(start), Failed: failed,
			Attributes: []traces.Attribute{{Key: "http.response.status_code", Value: code}}}
		return &traces.Span{Service: "order", Name: "attempt payment", Kind: trace.SpanKindInternal, Start: at(began), Duration: at(took).Sub(start), Failed: failed,
			Attributes: []traces.Attribute{{Key: "resilience.retry.attempt.number", Value: number}, {Key: "note", Value: nasty}},
			Children:   []*traces.Span{server}}
	}
	operation := &traces.Span{Service: "order", Name: "retry payment", Kind: trace.SpanKindInternal, Start: at(0), Duration: 100 * time.Millisecond,
		Attributes: []traces.Attribute{{Key: "resilience.retry.name", Value: "payment"}, {Key: string(traces.AttemptCount), Value: "2"}, {Key: string(traces.RetryOutcome), Value: "success_after_retry"}},
		Events:     []traces.Event{{Name: "resilience.retry.scheduled", Time: at(20), Attributes: []traces.Attribute{{Key: "resilience.retry.delay", Value: "0.06"}}}},
		Children:   []*traces.Span{attempt("1", "500", 0, 20), attempt("2", "200", 80, 20)}}
	return traces.Trace{ID: "4bf92f3577b34da6a3ce929d0e0e4736", Start: start, Duration: 100 * time.Millisecond, Spans: 6, Attempts: 2, Saved: true,
		Roots: []*traces.Span{{ID: "00f067aa0ba902b7", Service: "order", Name: "POST " + nasty, Kind: trace.SpanKindServer, Start: start, Duration: 100 * time.Millisecond, Children: []*traces.Span{operation}}}}
}

// kept are the traces that there are.
type kept []traces.Trace

func (k kept) Latest() []traces.Trace { return k }

func (k kept) Find(id string) (traces.Trace, bool) {
	for _, t := range k {
		if t.ID == id {
			return t, true
		}
	}
	return traces.Trace{}, false
}

func alert(rule string, state prometheus.State, value float64) prometheus.Alert {
	a := prometheus.Alert{Rule: rule, Severity: "page", State: state, Value: value,
		Labels:      map[string]string{"job": "order", "resilience_circuit_breaker_name": nasty},
		Annotations: map[string]string{"summary": "Circuit stays open", "description": "It does.", "runbook_url": "https://example.com/runbook"}}
	if state != prometheus.Inactive {
		a.Since, a.PendingAt = at(26_200), at(26_200)
	}
	return a
}

type world struct {
	config web.Config
	notes  []report.Note
	http.Handler
}

func open(t *testing.T, all kept) *world {
	named := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(name + " at " + r.URL.Path)) })
	}
	w := &world{}
	breaker := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: nasty})
	breaker.ForceOpen()
	t.Cleanup(breaker.Close)
	w.Handler = web.Handler(web.Config{
		Live: named("live"), Metrics: named("metrics"), Faults: named("faults"),
		Breakers: []*resilience.CircuitBreaker{breaker},
		Traces:   all,
		Alerts: func() []prometheus.Alert {
			return []prometheus.Alert{
				alert("Quiet", prometheus.Inactive, 0), alert("Over", prometheus.Resolved, 0.2),
				alert("Soon", prometheus.Pending, math.NaN()), alert("Loud", prometheus.Firing, 0.87654),
			}
		},
		Episodes: func() []report.Alert {
			return []report.Alert{
				{Rule: "Loud", About: nasty, Severity: "page", PendingAt: at(26_200), FiringAt: at(31_200), ResolvedAt: at(51_200)},
				{Rule: "Soon", PendingAt: at(27_000), EndedAt: at(28_000)},
			}
		},
		Start: start, Minute: time.Second, Orders: "http://127.0.0.1:1/orders",
		Notify: func(n report.Note) { w.notes = append(w.notes, n) },
	})
	return w
}

func (w *world) get(t *testing.T, path string, want int) (string, http.Header) {
	t.Helper()
	return w.do(t, httptest.NewRequest(http.MethodGet, path, nil), want)
}

func (w *world) do(t *testing.T, r *http.Request, want int) (string, http.Header) {
	t.Helper()
	answer := httptest.NewRecorder()
	w.ServeHTTP(answer, r)
	require.Equal(t, want, answer.Code, "%s %s: %s", r.Method, r.URL, answer.Body)
	return answer.Body.String(), answer.Header()
}

// pages are all pages, with something that is on each.
var pages = map[string]string{
	"/":       "What there is to see",
	"/traces": "Retried traces",
	"/traces/4bf92f3577b34da6a3ce929d0e0e4736": "All that the spans say",
	"/alerts": "What happened",
}

var (
	reference = regexp.MustCompile(`(?:src|href|action)="([^"]*)"`)
	inline    = regexp.MustCompile(`(?i)<script[^>]*>[^<]|<style|\sstyle=|\son[a-z]+=`)
)

// No page loads anything from elsewhere, has code or style of its own, or lets what it
// shows become part of it.
func TestPagesAreSafe(t *testing.T) {
	w := open(t, kept{saved()})
	for path, holds := range pages {
		body, header := w.get(t, path, http.StatusOK)
		require.Contains(t, body, holds)
		require.Equal(t, "text/html; charset=utf-8", header.Get("Content-Type"))
		require.True(t, strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'; "), path)
		require.NotContains(t, header.Get("Content-Security-Policy"), "unsafe")
		require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"))
		require.NotContains(t, body, nasty)
		require.NotContains(t, body, "<img")
		require.NotRegexp(t, inline, strings.ReplaceAll(body, "onerror=alert(1)", ""), path)
		require.Contains(t, body, "&lt;img src=x onerror=alert(1)&gt;", path)
		for _, found := range reference.FindAllStringSubmatch(body, -1) {
			to := found[1]
			if to == "https://example.com/runbook" || strings.HasPrefix(to, "#") {
				continue // one has to click it
			}
			require.NotContains(t, to, "//", path)
			require.False(t, strings.HasPrefix(to, "/"), "%s: %s is lost behind a prefix", path, to)
			under, err := httptest.NewRequest(http.MethodGet, path, nil).URL.Parse(to)
			require.NoError(t, err)
			w.get(t, under.String(), http.StatusOK)
		}
	}
	for _, name := range []string{"style.css", "update.js", "icon.svg"} {
		body, header := w.get(t, "/"+name, http.StatusOK)
		require.NotEmpty(t, body)
		require.NotContains(t, strings.ReplaceAll(body, "http://www.w3.org/2000/svg", ""), "http")
		require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"))
	}
}

func TestRoutes(t *testing.T) {
	w := open(t, nil)
	for path, want := range map[string]string{
		"/debug/circuits/":       "live at /debug/circuits/",
		"/debug/circuits/events": "live at /debug/circuits/events",
		"/metrics":               "metrics at /metrics",
		"/faults":                "faults at /faults",
		"/faults/payment":        "faults at /faults/payment",
	} {
		body, _ := w.get(t, path, http.StatusOK)
		require.Equal(t, want, body)
	}
	for _, path := range []string{"/nothing", "/traces/", "/traces/nonsense", "/traces/4bf92f3577b34da6a3ce929d0e0e4736", "/webhooks"} {
		w.get(t, path, http.StatusNotFound)
	}
	w.get(t, "/traces?format=xml", http.StatusBadRequest)
	w.get(t, "/alerts?format=xml", http.StatusBadRequest)
	w.get(t, "/webhook", http.StatusMethodNotAllowed)
	w.do(t, httptest.NewRequest(http.MethodPost, "/alerts", nil), http.StatusMethodNotAllowed)
	body, _ := w.get(t, "/traces", http.StatusOK)
	require.Contains(t, body, "There are none yet.")
}

// A page of another site cannot have services broken, nor alerts told of.
func TestOtherSites(t *testing.T) {
	w := open(t, nil)
	for _, path := range []string{"/faults/payment", "/webhook"} {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader("{}"))
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		w.do(t, r, http.StatusForbidden)
	}
	require.Empty(t, w.notes)
}

// The waterfall has the wait between attempts, in its place.
func TestWaterfall(t *testing.T) {
	w := open(t, kept{saved()})
	body, _ := w.get(t, "/traces", http.StatusOK)
	body = strings.Join(strings.Fields(body), " ")
	require.Contains(t, body, `<span class="pill good">saved</span>`)
	require.Contains(t, body, "payment tried 2 times, 100 ms, 60 ms of it waiting")
	inOrder(t, body,
		">order</span> retry payment", "saved by attempt 2",
		">order</span> attempt payment", "number 1", `<rect class="c1 fail" x="0.00%" width="20.00%"`,
		">payment</span> POST /charge", ">server<", ">500<", `<rect class="c3 fail" x="1.00%" width="18.00%"`,
		">waits<", ">60 ms<", `<rect x="20.00%" width="60.00%"`,
		"attempt payment", "number 2", `<rect class="c1" x="80.00%" width="20.00%"`,
		`<rect class="c3" x="81.00%"`)
	require.Equal(t, 2*2, strings.Count(body, `<span class="sr">failed</span>`)+strings.Count(body, " fail\""), "said and drawn, of an attempt and its server")

	body, _ = w.get(t, "/traces/4bf92f3577b34da6a3ce929d0e0e4736", http.StatusOK)
	inOrder(t, body, "resilience.retry.attempt.count", "resilience.retry.scheduled", "after 20 ms", "resilience.retry.delay", "0.06")
}

func inOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		_, rest, found := strings.Cut(text, part)
		require.True(t, found, "%q is not there, or not in order", part)
		text = rest
	}
}

func TestTracesAsJSON(t *testing.T) {
	w := open(t, kept{saved()})
	body, header := w.get(t, "/traces?format=json", http.StatusOK)
	require.Equal(t, "application/json", header.Get("Content-Type"))
	var data struct {
		Traces []struct {
			ID      string  `json:"id"`
			Seconds float64 `json:"seconds"`
			Saved   bool    `json:"saved"`
			Roots   []struct {
				Children []struct {
					Name       string            `json:"name"`
					Attributes map[string]string `json:"attributes"`
					Events     []struct {
						At float64 `json:"at_seconds"`
					} `json:"events"`
					Children []struct {
						Began  float64 `json:"began_seconds"`
						Failed bool    `json:"failed"`
					} `json:"children"`
				} `json:"children"`
			} `json:"roots"`
		} `json:"traces"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &data))
	require.Len(t, data.Traces, 1)
	one := data.Traces[0]
	require.Equal(t, saved().ID, one.ID)
	require.Equal(t, 0.1, one.Seconds)
	require.True(t, one.Saved)
	operation := one.Roots[0].Children[0]
	require.Equal(t, "retry payment", operation.Name)
	require.Equal(t, "success_after_retry", operation.Attributes["resilience.retry.outcome"])
	require.Equal(t, 0.02, operation.Events[0].At)
	require.Equal(t, 0.08, operation.Children[1].Began)
	require.True(t, operation.Children[0].Failed)

	single, _ := w.get(t, "/traces/"+saved().ID+"?format=json", http.StatusOK)
	require.Contains(t, single, `"seconds": 0.1`)
	w.get(t, "/traces/none?format=json", http.StatusNotFound)
	none, _ := open(t, nil).get(t, "/traces?format=json", http.StatusOK)
	require.JSONEq(t, `{"traces": []}`, none)
}

func TestAlerts(t *testing.T) {
	w := open(t, nil)
	body, _ := w.get(t, "/alerts", http.StatusOK)
	body = strings.Join(strings.Fields(body), " ")
	inOrder(t, body,
		"a minute in the rules is 1 s here",
		"1 firing", "1 pending", "1 resolved lately", "1 inactive",
		"<h2>Loud", "Circuit stays open", "It does.", "15:04:26", "value 0.877", "runbook",
		"<h2>Soon", "<h2>Over",
		"What happened", "Soon", "27.0 s", "28.0 s", "did not fire", "Loud of ", "26.2 s", "31.2 s", "51.2 s",
		"Inactive rules", "Quiet")

	body, _ = w.get(t, "/alerts?format=json", http.StatusOK)
	var data struct {
		Minute float64 `json:"minute_seconds"`
		Alerts []struct {
			Rule, State string
			Value       *float64
			Since       *time.Time
		}
		Episodes []struct {
			About     string
			FiringAt  *time.Time `json:"firing_at"`
			EndedAt   *time.Time `json:"ended_at"`
			PendingAt *time.Time `json:"pending_at"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &data))
	require.Equal(t, 1.0, data.Minute)
	require.Len(t, data.Alerts, 4)
	require.Nil(t, data.Alerts[0].Value, "there is none of an inactive alert")
	require.Nil(t, data.Alerts[0].Since)
	require.Nil(t, data.Alerts[2].Value, "JSON knows no NaN")
	require.Equal(t, "firing", data.Alerts[3].State)
	require.Equal(t, 0.87654, *data.Alerts[3].Value)
	require.True(t, at(26_200).Equal(*data.Alerts[3].Since))
	require.Equal(t, nasty, data.Episodes[0].About)
	require.True(t, at(31_200).Equal(*data.Episodes[0].FiringAt))
	require.Nil(t, data.Episodes[1].FiringAt)
	require.True(t, at(28_000).Equal(*data.Episodes[1].EndedAt))
}

// What an Alertmanager sends becomes lines of the log, and never more than a line each.
func TestWebhook(t *testing.T) {
	w := open(t, nil)
	post := func(body string, want int) {
		t.Helper()
		w.do(t, httptest.NewRequest(http.MethodPost, "/webhook", strings.NewReader(body)), want)
	}
	content, err := os.ReadFile("testdata/webhook.json")
	require.NoError(t, err)
	post(string(content), http.StatusNoContent)
	require.Len(t, w.notes, 2)
	for i := range w.notes {
		require.WithinDuration(t, time.Now(), w.notes[i].At, time.Minute)
		w.notes[i].At = time.Time{}
	}
	require.Equal(t, []report.Note{
		{Subject: "webhook", State: "FIRING", Tone: report.Bad, Text: `CircuitOpenTooLong {job="order", resilience_circuit_breaker_name="payment", severity="page"} Circuit payment of order stays open, and callers are turned away`},
		{Subject: "webhook", State: "resolved", Tone: report.Good, Text: `RetriesExhausted {job="order", resilience_retry_name="payment", severity="ticket"} 56% of the operations of payment in order fail for all their retries`},
	}, w.notes)

	w.notes = nil
	post(`{"alerts": []}`, http.StatusNoContent)
	require.Empty(t, w.notes)
	post(`{"alerts": [{"status": "fi\u001b[31mring\n", "labels": {"alertname": "x\r\ny"}, "annotations": {"summary": "`+strings.Repeat("long ", 500)+`"}}]}`, http.StatusNoContent)
	require.Len(t, w.notes, 1)
	require.Equal(t, "fi [31mring", w.notes[0].State)
	require.True(t, strings.HasPrefix(w.notes[0].Text, "x  y {} long long "), w.notes[0].Text)
	require.LessOrEqual(t, len([]rune(w.notes[0].Text)), 501)

	post("nonsense", http.StatusBadRequest)
	post(`{"alerts": "`+strings.Repeat("x", 2<<20)+`"}`, http.StatusBadRequest)
	require.Len(t, w.notes, 1)
}

// Each file that is served is one, and each that is there is served or a template.
func TestFiles(t *testing.T) {
	w := open(t, nil)
	names, err := fs.Glob(os.DirFS("files"), "*")
	require.NoError(t, err)
	for _, name := range names {
		want := http.StatusOK
		if strings.HasSuffix(name, ".html") {
			want = http.StatusNotFound
		}
		w.get(t, "/"+name, want)
	}
}
