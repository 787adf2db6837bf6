package rules_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/resilience"
)

// A circuit in shadow mode turns nobody away, so nothing that it does may alert: not an
// outage, not flapping, not failures just below the threshold. When it is made real in
// the middle of an outage, it pages like any other.
func TestCircuitInShadowMode(t *testing.T) {
	shadow := resilience.CircuitBreakerConfig{Name: "payment", Shadow: true}
	run(t, []scenario{
		{"an outage", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.configured(shadow), s, &d)
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(40 * m)
			d.failing.Store(0)
			w.wait(15 * m)
		}, nil},

		{"an outage without calls in the end", func(w *world) {
			var d dependency
			d.failing.Store(100)
			p := w.start("order", "a")
			load := p.calls(p.configured(shadow), s, &d)
			w.wait(5 * m)
			load.set(0)
			w.wait(40 * m)
		}, nil},

		{"it opens and closes again and again", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.configured(shadow), s, &d)
			for range 10 {
				d.failing.Store(100)
				w.wait(m)
				d.failing.Store(0)
				w.wait(3 * m)
			}
		}, nil},

		{"failures just below the threshold", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.configured(shadow), s, &d)
			w.wait(10 * m)
			d.failing.Store(45)
			w.wait(40 * m)
		}, nil},

		{"an outage in which it is made real", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			b := p.configured(shadow)
			p.calls(b, s, &d)
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(20 * m)
			require.NoError(t, b.Reconfigure(&resilience.CircuitBreakerConfig{}))
			w.wait(20 * m)
		}, []fired{{rule: "CircuitOpenTooLong", severity: "page", labels: payment, begins: span{35 * m, 42 * m}}}},

		{"and one whose failures are below the threshold then", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			b := p.configured(shadow)
			p.calls(b, s, &d)
			w.wait(10 * m)
			d.failing.Store(45)
			w.wait(20 * m)
			require.NoError(t, b.Reconfigure(&resilience.CircuitBreakerConfig{}))
			w.wait(30 * time.Minute)
		}, []fired{{rule: "CircuitNearThreshold", severity: "ticket", labels: payment, begins: span{40 * m, 50 * m}}}},
	})
}
