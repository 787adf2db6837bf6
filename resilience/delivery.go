package resilience

import (
	"context"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// fact is something that is committed and must be told, in order.
type fact struct {
	ctx     context.Context // of the call that caused it
	changed events.StateChanged
	retired *events.BreakerRetired // if set, that is the fact

	reconfigured *events.BreakerReconfigured // the same
}

// listener is one registration of OnStateChange. Its identity is its address, since
// functions cannot be compared.
type listener struct {
	f func(from, to CircuitState)
}

// outbox is what a breaker has to tell and to whom. It is guarded by the breaker's mu.
type outbox struct {
	listeners  []*listener // replaced, never changed, so that a delivery can hold it
	facts      []fact      // committed, not yet delivered
	delivering bool        // somebody delivers facts, and will deliver those added
	sinkPanics uint64      // on timers
}

// mail returns the outbox. It requires mu.
func (b *CircuitBreaker) mail() *outbox {
	if b.outbox == nil {
		b.outbox = new(outbox)
	}
	return b.outbox
}

// post queues a fact for whoever delivers next. It requires mu.
func (b *CircuitBreaker) post(f fact) { b.mail().facts = append(b.mail().facts, f) }

// OnStateChange has f called after each change of state, in order and one at a
// time, as [events.Sink.StateChanged] is, which tells more. A change that leaves
// the state as it shows (Reset of a closed breaker, ForceOpen of an open one) is
// not one. Stop ends it; a call of f that has begun may outlast stop. A nil f is
// never called.
func (b *CircuitBreaker) OnStateChange(f func(from, to CircuitState)) (stop func()) {
	if f == nil {
		return func() {}
	}
	l := &listener{f}
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.mail()
	out.listeners = append(slices.Clip(out.listeners), l)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		out.listeners = slices.DeleteFunc(slices.Clone(out.listeners), func(x *listener) bool { return x == l })
	}
}

// deliver tells all queued facts, in order, unless somebody is at it already: a
// slow sink on another goroutine, or a sink further up this very stack. That
// delivery takes over what was queued meanwhile, so nobody ever waits for a sink
// but the goroutine that is in it. A sink's panic goes to deliver's caller, after
// the facts behind it were told too.
func (b *CircuitBreaker) deliver() { b.takeTurn(b.tell) }

// deliverFromTimer is deliver where there is no caller. A panic on a timer's
// goroutine would end the process and could be recovered by nobody, so it is
// logged and counted instead.
func (b *CircuitBreaker) deliverFromTimer() {
	b.takeTurn(func(f fact, listeners []*listener) {
		defer func() {
			if v := recover(); v != nil {
				b.mu.Lock()
				b.outbox.sinkPanics++
				b.mu.Unlock()
				slog.Default().Error("resilience: a sink panicked on a timer's goroutine",
					"breaker", b.name, "panic", v, "stack", string(debug.Stack()))
			}
		}()
		b.tell(f, listeners)
	})
}

func (b *CircuitBreaker) takeTurn(tell func(fact, []*listener)) {
	b.mu.Lock()
	out := b.outbox
	if out == nil || out.delivering || len(out.facts) == 0 {
		b.mu.Unlock()
		return
	}
	out.delivering = true
	b.mu.Unlock()
	b.drain(out, tell)
}

// drain tells facts until none is left, and ends the turn. If tell panics or ends
// the goroutine, the rest is told on the way out: facts are not lost, and the turn
// does not stay taken.
func (b *CircuitBreaker) drain(out *outbox, tell func(fact, []*listener)) {
	told := true
	defer func() {
		if !told {
			b.drain(out, tell)
		}
	}()
	for {
		b.mu.Lock()
		if len(out.facts) == 0 {
			out.facts = nil // lets go of the contexts in the backing array
			out.delivering = false
			b.mu.Unlock()
			return
		}
		f, listeners := out.facts[0], out.listeners
		out.facts = out.facts[1:]
		b.mu.Unlock()
		told = false
		tell(f, listeners)
		told = true
	}
}

func (b *CircuitBreaker) tell(f fact, listeners []*listener) {
	if f.reconfigured != nil {
		if b.sink.BreakerReconfigured != nil {
			b.sink.BreakerReconfigured(f.ctx, *f.reconfigured)
		}
		return
	}
	if f.retired != nil {
		if b.sink.BreakerRetired != nil {
			b.sink.BreakerRetired(f.ctx, *f.retired)
		}
		return
	}
	if f.changed.From != f.changed.To {
		defer notify(listeners, f.changed.From, f.changed.To)
	}
	if b.sink.StateChanged != nil {
		b.sink.StateChanged(f.ctx, f.changed)
	}
}

// notify calls each listener in turn, also those after one that panics.
func notify(listeners []*listener, from, to CircuitState) {
	if len(listeners) == 0 {
		return
	}
	defer notify(listeners[1:], from, to)
	listeners[0].f(from, to)
}

// tellRotated tells that the window was rotated to m.
func (b *CircuitBreaker) tellRotated(ctx context.Context, m *marks) {
	if b.sink.WindowRotated == nil || b.retired.Load() {
		return
	}
	b.sink.WindowRotated(ctx, events.WindowRotated{
		Header: b.header(),
		Time:   time.Now(),
		Counts: m.newest().since(m.oldest),
	})
}
