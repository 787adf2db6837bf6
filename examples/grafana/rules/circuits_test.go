package rules_test

import (
	"errors"
	"maps"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-go/breakwater/resilience"
)

const (
	s = time.Second
	m = time.Minute
)

// span is a span of time in which something must happen.
type span = [2]time.Duration

var payment = map[string]string{"job": "order", "resilience_circuit_breaker_name": "payment"}

// of returns labels with more labels.
func of(labels map[string]string, more ...string) map[string]string {
	all := maps.Clone(labels)
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

func TestCircuitOpenTooLong(t *testing.T) {
	page := func(begins, ends span) []fired {
		return []fired{{rule: "CircuitOpenTooLong", severity: "page", labels: payment, begins: begins, ends: ends}}
	}
	run(t, []scenario{
		{"an outage pages, though probes flip the state all the time", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(15 * m)
			d.failing.Store(0)
			w.wait(15 * m)
		}, page(span{17 * m, 20 * m}, span{31 * m, 36 * m})},

		{"a short outage does not page, and not after it is over", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(4 * m)
			d.failing.Store(0)
			w.wait(15 * m)
		}, nil},

		{"a restart in the middle delays nothing", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(4 * m)
			p.kill()
			w.wait(20 * s)
			q := w.start("order", "b")
			q.calls(q.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(0)
			w.wait(15 * m)
		}, page(span{17 * m, 20 * m}, span{30 * m, 36 * m})},

		{"nor does one of an instance that keeps its name", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(4 * m)
			p.kill()
			w.wait(20 * s)
			q := w.start("order", "a")
			q.calls(q.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(0)
			w.wait(15 * m)
		}, page(span{17 * m, 20 * m}, span{30 * m, 36 * m})},

		{"restarts without end do not hide an outage", func(w *world) {
			var d dependency
			d.failing.Store(100)
			for i := range 8 {
				p := w.start("order", strconv.Itoa(i))
				p.calls(p.breaker("payment"), s, &d)
				w.wait(150 * s)
				p.kill()
			}
		}, page(span{5 * m, 9 * m}, span{})},

		{"a circuit that closes for moments is still an outage", func(w *world) {
			// Every third minute the dependency passes probes, and then fails again.
			var d dependency
			d.failing.Store(100)
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &d)
			for range 5 {
				w.wait(140 * s)
				d.failing.Store(0)
				w.wait(40 * s)
				d.failing.Store(100)
			}
		}, append(page(span{5 * m, 10 * m}, span{}),
			fired{rule: "CircuitFlapping", severity: "ticket", labels: payment, begins: span{10 * m, 14 * m}})},

		{"a service that is stopped during an outage is not paged for", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(4*m + 40*s)
			p.stop()
			w.wait(20 * m)
		}, nil},

		{"one of four instances is worth a ticket", func(w *world) {
			var well, ill dependency
			for _, id := range []string{"a", "b", "c"} {
				p := w.start("order", id)
				p.calls(p.breaker("payment"), s, &well)
			}
			p := w.start("order", "d")
			p.calls(p.breaker("payment"), s, &ill)
			w.wait(10 * m)
			ill.failing.Store(100)
			w.wait(35 * m)
			ill.failing.Store(0)
			w.wait(25 * m)
		}, []fired{{rule: "CircuitInstanceOpenTooLong", severity: "ticket", labels: of(payment, "instance", "d"),
			begins: span{37 * m, 41 * m}, ends: span{55 * m, 61 * m}}}},

		{"one of four instances that is mended in time is not", func(w *world) {
			var well, ill dependency
			for _, id := range []string{"a", "b", "c"} {
				p := w.start("order", id)
				p.calls(p.breaker("payment"), s, &well)
			}
			p := w.start("order", "d")
			p.calls(p.breaker("payment"), s, &ill)
			w.wait(10 * m)
			ill.failing.Store(100)
			w.wait(24 * m)
			ill.failing.Store(0)
			w.wait(25 * m)
		}, nil},

		{"two of three instances page", func(w *world) {
			var well, ill dependency
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &well)
			for _, id := range []string{"b", "c"} {
				p := w.start("order", id)
				p.calls(p.breaker("payment"), s, &ill)
			}
			w.wait(10 * m)
			ill.failing.Store(100)
			w.wait(12 * m)
		}, page(span{17 * m, 20 * m}, span{})},

		{"few callers that fail are worth a ticket, not a page", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			load := p.calls(p.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(m)
			load.set(200 * s)
			w.wait(25 * m)
			load.set(9 * m)
			w.wait(18 * m)
		}, []fired{{rule: "CircuitInstanceOpenTooLong", severity: "ticket", labels: payment, begins: span{37 * m, 41 * m}}}},

		{"few callers that pass close it, in time", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			load := p.calls(p.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(m)
			d.failing.Store(0)
			load.set(4 * m) // three of them
			w.wait(40 * m)
		}, nil},
	})
}

func TestCircuitOpenIdle(t *testing.T) {
	run(t, []scenario{
		{"nobody is paged for a circuit that nobody calls", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			load := p.calls(p.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(30 * s)
			load.set(0)
			w.wait(40 * m)
			d.failing.Store(0)
			load.set(s)
			w.wait(10 * m)
		}, []fired{{rule: "CircuitOpenIdle", severity: "info", labels: payment, begins: span{29 * m, 33 * m}, ends: span{50 * m, 53 * m}}}},

		{"a circuit that nobody calls and that is closed is nothing", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			load := p.calls(p.breaker("payment"), s, &d)
			w.wait(10 * m)
			load.set(0)
			w.wait(40 * m)
		}, nil},

		{"a reset ends it", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			b := p.breaker("payment")
			load := p.calls(b, s, &d)
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(30 * s)
			load.set(0)
			w.wait(30 * m)
			b.Reset()
			w.wait(5 * m)
		}, []fired{{rule: "CircuitOpenIdle", labels: payment, begins: span{29 * m, 33 * m}, ends: span{40 * m, 44 * m}}}},

		{"a process that fails once, at its start", func(w *world) {
			var d dependency
			d.failing.Store(100)
			p := w.start("order", "a")
			load := p.calls(p.breaker("payment"), s, &d)
			w.wait(30 * s)
			load.set(0)
			w.wait(25 * m)
		}, []fired{{rule: "CircuitOpenIdle", labels: payment, begins: span{5 * m, 23 * m}}}},
	})
}

func TestCircuitFlapping(t *testing.T) {
	// outages makes a dependency fail for 40 seconds, again and again.
	outages := func(w *world, d *dependency, n int, every time.Duration) {
		for range n {
			d.failing.Store(100)
			w.wait(40 * s)
			d.failing.Store(0)
			w.wait(every - 40*s)
		}
	}
	run(t, []scenario{
		{"five outages in half an hour", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &d)
			w.wait(5 * m)
			outages(w, &d, 5, 5*m)
			w.wait(35 * m)
		}, []fired{{rule: "CircuitFlapping", severity: "ticket", labels: payment, begins: span{20 * m, 26 * m}, ends: span{50 * m, 54 * m}}}},

		{"three are bad luck", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &d)
			w.wait(5 * m)
			outages(w, &d, 3, 8*m)
			w.wait(10 * m)
		}, nil},

		{"five instances, or five breakers of one name, that close once have not flapped", func(w *world) {
			var d dependency
			for i := range 5 {
				p := w.start("order", strconv.Itoa(i))
				p.calls(p.breaker("payment"), s, &d)
			}
			p := w.start("checkout", "a")
			for range 5 {
				p.calls(p.breaker("payment"), s, &d)
			}
			w.wait(5 * m)
			outages(w, &d, 1, 10*m)
		}, nil},

		{"restarts are no flapping", func(w *world) {
			var d dependency
			for range 6 {
				d.failing.Store(100)
				p := w.start("order", "a")
				p.calls(p.breaker("payment"), s, &d)
				w.wait(75 * s)
				p.stop()
				d.failing.Store(0)
				q := w.start("order", "a")
				q.calls(q.breaker("payment"), s, &d)
				w.wait(3 * m)
				q.stop()
			}
		}, nil},
	})
}

func TestCircuitHalfOpenStuck(t *testing.T) {
	patient := resilience.CircuitBreakerConfig{Name: "payment", ProbeTimeout: 2 * time.Hour}
	run(t, []scenario{
		{"probes that do not come back", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			b := p.configured(patient)
			for range 6 { // callers, one more than there are probes
				p.calls(b, 6*s, &d)
			}
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(m)
			d.failing.Store(0)
			d.hangs.Store(int64(40 * m))
			w.wait(31 * m)
		}, []fired{
			{rule: "CircuitHalfOpenStuck", severity: "ticket", labels: of(payment, "instance", "a"), begins: span{25 * m, 32 * m}},
			{rule: "CircuitOpenTooLong", severity: "page", labels: payment, begins: span{17 * m, 20 * m}},
			{rule: "CircuitInstanceOpenTooLong", severity: "ticket", labels: payment, begins: span{37 * m, 41 * m}},
		}},

		{"probes that are few, and fail", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			load := p.calls(p.configured(patient), s, &d)
			w.wait(10 * m)
			d.failing.Store(100)
			w.wait(m)
			load.set(50 * s) // 3 probes take 150 s, then 30 s open
			w.wait(20 * m)
		}, []fired{{rule: "CircuitOpenTooLong", labels: payment, begins: span{17 * m, 20 * m}}}},
	})
}

func TestCircuitForced(t *testing.T) {
	run(t, []scenario{
		{"left forced open", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			b := p.breaker("payment")
			p.calls(b, 2*s, &d)
			w.wait(10 * m)
			b.ForceOpen()
			w.wait(75 * m)
			b.ClearForce() // open for a sleep window more
			w.wait(15 * m)
		}, []fired{{rule: "CircuitForcedOpen", severity: "ticket", labels: payment, begins: span{70 * m, 74 * m}, ends: span{89 * m, 92 * m}}}},

		{"left forced closed, during an outage", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			b := p.breaker("payment")
			p.calls(b, 2*s, &d)
			w.wait(10 * m)
			b.ForceClosed()
			d.failing.Store(100)
			w.wait(70 * m)
			d.failing.Store(0)
			b.ClearForce()
			w.wait(10 * m)
		}, []fired{{rule: "CircuitForcedClosed", severity: "ticket", labels: payment, begins: span{70 * m, 74 * m}, ends: span{84 * m, 87 * m}}}},

		{"two of three forced open, the third open by itself", func(w *world) {
			var d dependency
			var all []*resilience.CircuitBreaker
			for _, id := range []string{"a", "b", "c"} {
				p := w.start("order", id)
				all = append(all, p.breaker("payment"))
				p.calls(all[len(all)-1], 2*s, &d)
			}
			w.wait(10 * m)
			all[0].ForceOpen()
			all[1].ForceOpen()
			d.failing.Store(100)
			w.wait(15 * m)
		}, nil},

		{"forced open and lifted in time", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			b := p.breaker("payment")
			p.calls(b, 2*s, &d)
			w.wait(10 * m)
			b.ForceOpen()
			w.wait(50 * m)
			b.Reset()
			w.wait(20 * m)
		}, nil},
	})
}

func TestCircuitNearThreshold(t *testing.T) {
	run(t, []scenario{
		{"failures just below the threshold", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(45)
			w.wait(30 * m)
			d.failing.Store(0)
			w.wait(15 * m)
		}, []fired{{rule: "CircuitNearThreshold", severity: "ticket", labels: payment, begins: span{27 * m, 32 * m}, ends: span{40 * m, 44 * m}}}},

		{"a restart in the middle", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(45)
			w.wait(14 * m)
			p.kill()
			d.failing.Store(20) // until its window is full
			q := w.start("order", "b")
			q.calls(q.breaker("payment"), s, &d)
			w.wait(30 * s)
			d.failing.Store(45)
			w.wait(16 * m)
		}, []fired{{rule: "CircuitNearThreshold", labels: payment, begins: span{34 * m, 41 * m}}}},

		{"failures well below the threshold", func(w *world) {
			var d dependency
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &d)
			w.wait(10 * m)
			d.failing.Store(30)
			w.wait(30 * m)
		}, nil},

		{"calls that are too few to be judged", func(w *world) {
			var d dependency
			d.failing.Store(45)
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), 10*s, &d)
			w.wait(40 * m)
		}, nil},

		{"a burst whose last value stays on show", func(w *world) {
			var d dependency
			d.failing.Store(45)
			p := w.start("order", "a")
			load := p.calls(p.breaker("payment"), s, &d)
			w.wait(7*m + 30*s)
			load.set(0)
			w.wait(20 * m)
		}, nil},

		{"failures that open it in the end", func(w *world) {
			var d dependency
			d.failing.Store(45)
			p := w.start("order", "a")
			p.calls(p.breaker("payment"), s, &d)
			w.wait(9*m + 35*s)
			d.failing.Store(100)
			w.wait(5 * m)
		}, nil},
	})
}

func TestHealthy(t *testing.T) {
	run(t, []scenario{
		{"a day's work, with deployments", func(w *world) {
			var d dependency
			d.failing.Store(3)
			var flaky atomic.Int64
			work := func(p *process) {
				p.calls(p.breaker("payment"), s, &d)
				p.calls(p.breaker("archive"), 7*m, &d)
				r := p.retrier("payment")
				p.every(s, func() {
					_ = r.Run(w.t.Context(), passing(func() error {
						if flaky.Add(1)%20 == 0 {
							return errors.New("flaky")
						}
						return nil
					}))
				})
			}
			instances := []*process{w.start("order", "a0"), w.start("order", "b0")}
			for _, p := range instances {
				work(p)
			}
			for i := range 3 {
				w.wait(25 * m)
				for j, p := range instances {
					next := w.start("order", string(rune('a'+j))+strconv.Itoa(i+1))
					work(next)
					p.stop()
					instances[j] = next
					w.wait(m)
				}
			}
			w.wait(25 * m)
		}, nil},
	})
}
