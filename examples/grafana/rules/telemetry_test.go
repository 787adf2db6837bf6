package rules_test

import (
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/breakwater-go/breakwater/otelres"
)

var (
	order     = map[string]string{"job": "order"}
	collector = map[string]string{"job": "otelcol", "instance": "c"}
)

func TestResilienceEventsDropped(t *testing.T) {
	full := metric.WithAttributes(attribute.String("resilience.events.drop_reason", "queue_full"))
	want := fired{rule: "ResilienceEventsDropped", severity: "ticket", labels: of(order, "resilience_events_drop_reason", "queue_full")}
	at := func(begins, ends span) fired {
		f := want
		f.begins, f.ends = begins, ends
		return f
	}
	run(t, []scenario{
		{"a first loss, which makes the series, and a second", func(w *world) {
			p := w.start("order", "a")
			dropped := p.counter("resilience.events.dropped", true)
			w.wait(10*m + s)
			dropped.Add(t.Context(), 7, full)
			w.wait(30 * m)
			dropped.Add(t.Context(), 1, full)
			w.wait(30 * m)
		}, []fired{
			at(span{10 * m, 13 * m}, span{24 * m, 28 * m}),
			at(span{40 * m, 43 * m}, span{54 * m, 58 * m}),
		}},

		{"an old loss, and a gap in the telemetry", func(w *world) {
			p := w.start("order", "a")
			var d dependency
			p.calls(p.breaker("payment"), 10*s, &d)
			dropped := p.counter("resilience.events.dropped", true)
			w.wait(s)
			dropped.Add(t.Context(), 7, full)
			w.wait(30 * m)
			p.cut.Store(true)
			w.wait(25 * m)
			p.cut.Store(false)
			w.wait(30 * m)
		}, []fired{at(span{0, 3 * m}, span{14 * m, 18 * m})}},
	})
}

func TestResilienceCardinalityOverflow(t *testing.T) {
	overflow := func(begins, ends span) []fired {
		return []fired{{rule: "ResilienceCardinalityOverflow", severity: "ticket", labels: order, begins: begins, ends: ends}}
	}
	run(t, []scenario{
		{"one breaker too many, until it is closed", func(w *world) {
			p := w.start("order", "a", otelres.WithNameLimit(2))
			p.breaker("payment")
			p.breaker("shipping")
			w.wait(10 * m)
			b := p.breaker("inventory")
			w.wait(40 * m)
			b.Close()
			w.wait(10 * m)
		}, overflow(span{10 * m, 13 * m}, span{50 * m, 57 * m})},

		{"one too many from the start", func(w *world) {
			p := w.start("order", "a", otelres.WithNameLimit(2))
			for _, name := range []string{"payment", "shipping", "inventory"} {
				p.breaker(name)
			}
			w.wait(40 * m)
		}, overflow(span{0, 3 * m}, span{})},

		{"one retry too many, while it is used", func(w *world) {
			p := w.start("order", "a", otelres.WithNameLimit(1))
			p.operations("charge", s, func(int64) int { return 0 })
			w.wait(10 * m)
			load := p.operations("refund", 5*s, func(int64) int { return 0 })
			w.wait(20 * m)
			load.set(0)
			w.wait(20 * m)
		}, overflow(span{10 * m, 13 * m}, span{44 * m, 48 * m})},

		{"one retry too many, used once at the start", func(w *world) {
			p := w.start("order", "a", otelres.WithNameLimit(1))
			p.operations("charge", s, func(int64) int { return 0 })
			w.wait(2 * s)
			load := p.operations("refund", s, func(int64) int { return 0 })
			w.wait(5 * s)
			load.set(0)
			w.wait(25 * m)
		}, overflow(span{0, 3 * m}, span{14 * m, 18 * m})},

		{"as many as there is room for", func(w *world) {
			p := w.start("order", "a", otelres.WithNameLimit(2))
			p.breaker("payment")
			p.breaker("shipping")
			w.wait(10 * m)
			p.breaker("payment")
			w.wait(10 * m)
		}, nil},

		{"more than the SDK has room for", func(w *world) {
			p := w.start("order", "a", otelres.WithNameLimit(300))
			for i := range 120 {
				p.breaker("user-" + string(rune('a'+i/26)) + string(rune('a'+i%26)))
			}
			w.wait(5 * m)
		}, overflow(span{0, 3 * m}, span{})},
	})
}

func TestResilienceTelemetryAbsent(t *testing.T) {
	run(t, []scenario{
		{"a job that can no longer be heard", func(w *world) {
			w.start("stock", "a").breaker("db")
			p, q := w.start("order", "a"), w.start("order", "b")
			p.breaker("payment")
			q.breaker("payment")
			w.wait(75 * m)
			p.cut.Store(true)
			w.wait(15 * m)
			q.cut.Store(true)
			w.wait(50 * m)
			q.cut.Store(false)
			w.wait(5 * m)
		}, []fired{{rule: "ResilienceTelemetryAbsent", severity: "ticket", labels: order, begins: span{104 * m, 108 * m}, ends: span{140 * m, 142 * m}}}},

		{"a job that ran for half an hour", func(w *world) {
			p := w.start("report", "a")
			p.breaker("db")
			w.wait(30 * m)
			p.stop()
			w.wait(60 * m)
		}, nil},

		{"a job that does without breakers from now on", func(w *world) {
			p := w.start("order", "a")
			b := p.breaker("payment")
			w.wait(75 * m)
			b.Close()
			w.wait(30 * m)
		}, nil},

		{"an instance that goes, and one that comes", func(w *world) {
			p := w.start("order", "a")
			p.breaker("payment")
			w.wait(75 * m)
			p.kill()
			w.wait(5 * m)
			w.start("order", "b").breaker("payment")
			w.wait(30 * m)
		}, nil},
	})
}

func TestCollectorDropping(t *testing.T) {
	dropping := func(loss string, begins, ends span) fired {
		return fired{rule: "CollectorDropping", severity: "ticket", labels: of(collector, "loss", loss), begins: begins, ends: ends}
	}
	run(t, []scenario{
		{"spans that were not delivered, at first and again", func(w *world) {
			p := w.start("otelcol", "c")
			failed := p.counter("otelcol_exporter_send_failed_spans", true)
			w.wait(10*m + s)
			failed.Add(t.Context(), 50, metric.WithAttributes(attribute.String("exporter", "otlp_grpc")))
			w.wait(30 * m)
			failed.Add(t.Context(), 5, metric.WithAttributes(attribute.String("exporter", "otlp_grpc")))
			w.wait(20 * m)
		}, []fired{
			dropping("exporter_send_failed_spans", span{10 * m, 13 * m}, span{19 * m, 23 * m}),
			dropping("exporter_send_failed_spans", span{40 * m, 43 * m}, span{49 * m, 53 * m}),
		}},

		{"each signal by itself, from a collector that is scraped", func(w *world) {
			p := w.start("otelcol", "c")
			w.wait(10*m + s)
			for _, name := range []string{
				"exporter_enqueue_failed_log_records", "exporter_enqueue_failed_metric_points",
				"receiver_refused_spans", "receiver_refused_metric_points",
			} {
				p.counter("otelcol_"+name, false).Add(t.Context(), 3)
			}
			w.wait(5 * m)
		}, []fired{
			dropping("exporter_enqueue_failed_log_records", span{10 * m, 13 * m}, span{}),
			dropping("exporter_enqueue_failed_metric_points", span{10 * m, 13 * m}, span{}),
			dropping("receiver_refused_metric_points", span{10 * m, 13 * m}, span{}),
			dropping("receiver_refused_spans", span{10 * m, 13 * m}, span{}),
		}},

		{"a collector that delivers everything, restarted", func(w *world) {
			for _, id := range []string{"c", "c", "d"} {
				p := w.start("otelcol", id)
				sent, refused := p.counter("otelcol_exporter_sent_spans", true), p.counter("otelcol_receiver_refused_spans", true)
				load := p.every(s, func() { sent.Add(t.Context(), 10); refused.Add(t.Context(), 0) })
				w.wait(15 * m)
				load.set(0)
				p.stop()
				w.wait(m)
			}
		}, nil},
	})
}
