package resilience

import (
	"context"

	"github.com/breakwater-go/breakwater/events"
)

// Execute runs fn if the breaker admits the call, and returns fn's error unchanged.
// Else it returns a [*RejectedError], which is [ErrCircuitBreakerOpen]. If ctx is
// done already, fn is not run, nothing is counted, and ctx's error comes back.
//
// Fn runs on the caller's goroutine. If it panics or calls [runtime.Goexit], that
// counts as a failure and goes on its way.
func (b *CircuitBreaker) Execute(ctx context.Context, fn func() error) error {
	if fn == nil {
		panic("resilience: Execute of a nil function")
	}
	return b.protect(ctx, fn, nil)
}

// Run is Execute for work that takes a context: ctx, or what a sink derived from
// it for this call. It makes a CircuitBreaker a [Policy].
func (b *CircuitBreaker) Run(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("resilience: Run of a nil function")
	}
	return b.protect(ctx, nil, fn)
}

// protect is Execute and Run, which are so short that the compiler puts a call of this
// in their place. The work is in one of its two forms; a closure that makes one of the
// other would be an allocation.
//
// What follows the first lines is a plain call, which nearly all calls of nearly all
// breakers are: nobody wants to know when it began or how long it takes, so all there
// is to do is to count it. In a hot window that is settleClosed without a clock,
// written out, because each call of a function is a tenth of what is left.
func (b *CircuitBreaker) protect(ctx context.Context, fn func() error, withContext func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := b.phase.Load()
	if p.calls.Load() != plain {
		if counted, told := b.onlyCounted(ctx, p); !counted {
			return b.run(ctx, fn, withContext, told)
		}
	}

	var c plainCall // a literal would be made elsewhere and copied
	c.phase, c.ctx, c.outcome = p, ctx, events.OutcomeFailure
	// Deferred without a recover, this sees work and classifiers that panic or end the
	// goroutine, which leaves the outcome at failure, and it leaves the stack as it is.
	defer func() {
		w := &c.phase.window
		m := w.marks.Load()
		switch {
		case !m.hot || c.outcome == events.OutcomeIgnored:
			c.count()
			return
		case c.outcome == events.OutcomeFailure:
			w.failure.Add(1)
		default: // countSuccess and stripes.add
			if s := w.stripes.Load(); s != nil {
				mine := s.tokens.Get().(*stripe)
				mine.n.Add(1)
				s.tokens.Put(mine)
			} else if n := w.success.Load(); !w.success.CompareAndSwap(n, n+1) {
				w.spread()
			}
		}
		if c.phase.breaker.phase.Load() != c.phase || w.failure.Load() > m.fine.failure.Load() {
			c.reconsider(m)
		}
	}()
	var err error
	if fn != nil {
		err = fn()
	} else {
		err = withContext(ctx)
	}
	if err == nil {
		c.outcome = events.OutcomeSuccess
		return nil
	}
	c.outcome = b.outcome(ctx, err)
	return err
}

// plainCall is a call that is only counted. What is deferred reaches it through one
// pointer, which costs less than a closure over its fields.
type plainCall struct {
	phase   *phase // that admitted it
	ctx     context.Context
	outcome events.Outcome
}

// onlyCounted reports whether a call that p, which is not plain, admits needs no more
// than to be counted, because the sink, if asked, does not want to hear of this one. If
// it does, told says that it was asked.
func (b *CircuitBreaker) onlyCounted(ctx context.Context, p *phase) (counted, told bool) {
	if p.calls.Load() != heard {
		return false, false
	}
	if b.observed && b.listens(ctx) {
		return false, true
	}
	if b.flights != nil {
		b.flights.started.add()
	}
	return true, false
}

// count counts the call in any window.
func (c *plainCall) count() {
	b := c.phase.breaker
	rotated, changed, _ := b.settleClosed(c.ctx, c.phase, c.outcome, false, unread)
	if changed || rotated != nil {
		b.announce(c.ctx, rotated, changed)
	}
}

// reconsider is what remains to be done after a call was counted that ended late, or
// that found more failures than are known to be fine.
func (c *plainCall) reconsider(m *marks) {
	if b := c.phase.breaker; !b.late(c.phase) && b.judge(c.ctx, c.phase, m) {
		b.deliver()
	}
}
