package rules_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-go/breakwater/resilience"
)

var charge = map[string]string{"job": "order", "resilience_retry_name": "charge"}

// passing makes work that does not need its context.
func passing(f func() error) func(context.Context) error {
	return func(context.Context) error { return f() }
}

// operations has a retrier run an operation every d. How many of its attempts fail
// is asked at its beginning.
func (p *process) operations(name string, d time.Duration, failures func(operation int64) int) *load {
	r := p.retrier(name)
	var operation atomic.Int64
	return p.every(d, func() {
		left := failures(operation.Add(1))
		_ = r.Run(p.w.t.Context(), passing(func() error {
			if left--; left >= 0 {
				return errors.New("down")
			}
			return nil
		}))
	})
}

func TestRetries(t *testing.T) {
	run(t, []scenario{
		{"every operation needs a second attempt", func(w *world) {
			var failures atomic.Int64
			w.start("order", "a").operations("charge", s, func(int64) int { return int(failures.Load()) })
			w.wait(15 * m)
			failures.Store(1)
			w.wait(30 * m)
			failures.Store(0)
			w.wait(15 * m)
		}, []fired{{rule: "RetryAmplification", severity: "ticket", labels: charge, begins: span{29 * m, 33 * m}, ends: span{48 * m, 53 * m}}}},

		{"one in five needs one", func(w *world) {
			w.start("order", "a").operations("charge", s, func(n int64) int {
				if n%5 == 0 {
					return 1
				}
				return 0
			})
			w.wait(40 * m)
		}, nil},

		{"one in ten uses up its attempts", func(w *world) {
			var failing atomic.Bool
			w.start("order", "a").operations("charge", s, func(n int64) int {
				if failing.Load() && n%10 == 0 {
					return 3
				}
				return 0
			})
			w.wait(15 * m)
			failing.Store(true)
			w.wait(30 * m)
			failing.Store(false)
			w.wait(15 * m)
		}, []fired{{rule: "RetriesExhausted", severity: "ticket", labels: charge, begins: span{28 * m, 34 * m}, ends: span{48 * m, 54 * m}}}},

		{"a few operations a quarter of an hour, all in vain", func(w *world) {
			w.start("order", "a").operations("charge", 3*m, func(int64) int { return 3 })
			w.wait(40 * m)
		}, nil},

		{"an open circuit is neither", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			r, b := p.retrier("charge"), p.breaker("payment")
			both := resilience.Chain(r, b)
			p.every(s, func() { _ = both.Run(w.t.Context(), passing(d.call)) })
			w.wait(15 * m)
			d.failing.Store(100)
			w.wait(20 * m)
		}, []fired{{rule: "CircuitOpenTooLong", labels: payment, begins: span{21 * m, 24 * m}}}},

		{"attempts that a circuit rejects put no load on anything", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			r := resilience.NewRetrier(&resilience.RetryConfig{
				Name:    "charge",
				RetryIf: func(error) bool { return true }, // rejections as well
				Events:  p.telemetry.Sink(),
			})
			b := p.breaker("payment")
			p.every(s, func() {
				_ = r.Run(w.t.Context(), passing(func() error {
					err := b.Execute(w.t.Context(), d.call)
					if errors.Is(err, resilience.ErrCircuitBreakerOpen) {
						return resilience.ErrCircuitBreakerOpen // which does not say when to come back
					}
					return err
				}))
			})
			w.wait(15 * m)
			d.failing.Store(100)
			w.wait(20 * m)
		}, []fired{
			{rule: "CircuitOpenTooLong", labels: payment, begins: span{21 * m, 25 * m}},
			{rule: "RetriesExhausted", labels: charge, begins: span{25 * m, 29 * m}},
		}},

		{"an outage without a circuit breaker is both", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			r := p.retrier("charge")
			p.every(s, func() { _ = r.Run(w.t.Context(), passing(d.call)) })
			w.wait(15 * m)
			d.failing.Store(100)
			w.wait(20 * m)
		}, []fired{
			{rule: "RetryAmplification", labels: charge, begins: span{26 * m, 30 * m}},
			{rule: "RetriesExhausted", labels: charge, begins: span{25 * m, 29 * m}},
		}},
	})
}
