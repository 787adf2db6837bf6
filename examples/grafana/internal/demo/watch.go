package demo

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/report"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/telemetry"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/traces"
	"github.com/breakwater-go/breakwater/examples/grafana/rules"
	"github.com/breakwater-go/breakwater/liveres"
	"github.com/breakwater-go/breakwater/otelres"
)

// Parts are what can be asked while a demo runs.
type Parts struct {
	Web        string // where the pages are: http://host:port
	Shop       *shop.Shop
	Live       *liveres.Live
	Traces     *traces.Store
	Prometheus *prometheus.Server // with the metrics of all services, and the alerts
}

// watch is everything that looks at the shop.
type watch struct {
	telemetry  *telemetry.Telemetry
	resilience *otelres.Telemetry
	live       *liveres.Live
	traces     *traces.Store
	prometheus *prometheus.Server
	history    history
}

// keptTraces is how many retried traces there are to look at: those of some seconds of
// an outage, so that what the live page shows last is among them.
const keptTraces = 200

// alertScale is what the durations of the alert rules are multiplied with. The rules
// are made for outages of minutes and exports of a minute; the script has a second
// for each of those minutes, when it is played as it is written.
func (c Config) alertScale() float64 { return min(c.pace()/60, 1) }

// exportInterval is the time between two exports of metrics to the Prometheus in this
// process, as long as its rules allow but not so long that one would wait for it.
func (c Config) exportInterval() time.Duration {
	return min(scaled(time.Minute, c.alertScale()), telemetry.Interval)
}

// watch begins to look. Without an error the caller must call close. Tell is given
// what there is to say about it.
func (c Config) watch(ctx context.Context, tell func(report.Note)) (_ *watch, err error) {
	w := &watch{traces: traces.New(keptTraces), live: liveres.New(liveres.WithTraceID(traceID), liveres.WithHistory(2*time.Minute))}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(ctx))
		}
	}()
	w.prometheus, err = prometheus.Open(prometheus.Config{
		Rules: rules.Files,
		Scale: c.alertScale(),
		// Twice as often as there are new samples is often enough.
		Interval: max(scaled(30*time.Second, c.alertScale()), time.Millisecond),
		OnAlert: func(a prometheus.Alert) {
			w.history.add(a)
			tell(noteOf(a))
		},
	})
	if err != nil {
		return nil, err
	}
	w.telemetry, err = telemetry.Open(ctx, telemetry.Config{
		Services:    shop.Services(),
		Spans:       w.traces,
		Receivers:   append([]telemetry.Receiver{{Handler: w.prometheus.Receiver(), Interval: c.exportInterval()}}, c.Receivers...),
		Environment: c.Environment,
		Report: func(line string) {
			tell(report.Note{Subject: "telemetry", Text: line})
		},
	})
	if err != nil {
		return nil, err
	}
	order := w.telemetry.Of(shop.Order)
	w.resilience, err = otelres.New(
		otelres.WithTracerProvider(order.Traces),
		otelres.WithMeterProvider(order.Metrics),
		otelres.WithLoggerProvider(order.Logs))
	return w, err
}

func traceID(ctx context.Context) string {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		return sc.TraceID().String()
	}
	return ""
}

// observer returns what sees the requests of the services.
func (w *watch) observer() shop.Observer {
	return shop.Observer{Server: w.telemetry.Server, Client: w.telemetry.Client}
}

// sink returns what receives the events of breakers and retries.
func (w *watch) sink() events.Sink {
	return events.Join(w.resilience.Sink(), w.live.Sink())
}

// close ends the looking. What there is to send is sent as long as ctx allows.
func (w *watch) close(ctx context.Context) error {
	w.live.Close()
	var errs []error
	if w.telemetry != nil {
		errs = append(errs, w.telemetry.Shutdown(ctx))
	}
	errs = append(errs, w.resilience.Shutdown(ctx))
	if w.prometheus != nil {
		errs = append(errs, w.prometheus.Close())
	}
	return errors.Join(errs...)
}

// history is what alerts did.
type history struct {
	mu       sync.Mutex
	episodes []episode // in the order in which they began
}

// episode is one time that the condition of an alert held.
type episode struct {
	report.Alert
	labels map[string]string
}

// keptEpisodes is how many of them are kept, the latest.
const keptEpisodes = 200

// add takes note of what an alert has come to.
func (h *history) add(a prometheus.Alert) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.under(a)
	if at == nil {
		if len(h.episodes) == keptEpisodes {
			h.episodes = slices.Delete(h.episodes, 0, 1)
		}
		h.episodes = append(h.episodes, episode{labels: a.Labels, Alert: report.Alert{Rule: a.Rule, About: about(a), Severity: a.Severity}})
		at = &h.episodes[len(h.episodes)-1].Alert
	}
	if a.State == prometheus.Inactive {
		at.EndedAt = a.Since
		return
	}
	at.PendingAt, at.FiringAt, at.ResolvedAt = a.PendingAt, a.FiringAt, a.ResolvedAt
}

// under returns the episode of an alert that is not over, nil if there is none. It
// requires h.mu.
func (h *history) under(a prometheus.Alert) *report.Alert {
	for i := range slices.Backward(h.episodes) {
		if e := &h.episodes[i]; e.Rule == a.Rule && e.Over().IsZero() && maps.Equal(e.labels, a.Labels) {
			return &e.Alert
		}
	}
	return nil
}

// list returns the episodes, the earliest first.
func (h *history) list() []report.Alert {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]report.Alert, 0, len(h.episodes))
	for _, e := range h.episodes {
		all = append(all, e.Alert)
	}
	return all
}

// about returns the circuit or retry that an alert is about, empty if none.
func about(a prometheus.Alert) string {
	return cmp.Or(a.Labels["resilience_circuit_breaker_name"], a.Labels["resilience_retry_name"])
}

// noteOf says in a line what an alert has come to.
func noteOf(a prometheus.Alert) report.Note {
	n := report.Note{Subject: "alert", State: string(a.State), Text: a.Rule}
	switch a.State {
	case prometheus.Pending:
		n.Tone = report.Warning
	case prometheus.Firing:
		n.State, n.Tone = "FIRING", report.Bad
	case prometheus.Resolved:
		n.Tone = report.Good
	}
	if name := about(a); name != "" {
		n.Text += " of " + name
	}
	if a.State == prometheus.Firing && a.Severity != "" {
		n.Text += ", severity " + a.Severity
	}
	return n
}
