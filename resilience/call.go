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
	if err := ctx.Err(); err != nil {
		return err
	}
	p := b.phase.Load()
	if !p.plain.Load() {
		return b.run(ctx, fn, nil)
	}
	if b.flights != nil {
		b.flights.started.add()
	}
	c := plainCall{b: b, phase: p, ctx: ctx}
	defer c.abandon()
	err := fn()
	c.finish(err)
	return err
}

// Run is Execute for work that takes a context: ctx, or what a sink derived from
// it for this call. It makes a CircuitBreaker a [Policy].
func (b *CircuitBreaker) Run(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("resilience: Run of a nil function")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p := b.phase.Load()
	if !p.plain.Load() {
		return b.run(ctx, nil, fn)
	}
	if b.flights != nil {
		b.flights.started.add()
	}
	c := plainCall{b: b, phase: p, ctx: ctx}
	defer c.abandon()
	err := fn(ctx)
	c.finish(err)
	return err
}

// plainCall is a call that a plain phase admitted: nobody wants to know when it began,
// how long it takes or what it comes to, so all it has to do is to be counted. Nearly
// all calls of nearly all breakers are plain. It lives on the stack of Execute or Run.
type plainCall struct {
	b     *CircuitBreaker
	phase *phase
	ctx   context.Context
	done  bool // counted; what follows is only told
}

// finish counts what the call came to, whose work returned err. In a hot window it
// does so itself, which is settleClosed without a clock, and countSuccess written out
// because a call of it is a sixth of all that a success costs.
func (c *plainCall) finish(err error) {
	b, p := c.b, c.phase
	outcome := events.OutcomeSuccess
	if err != nil {
		outcome = b.outcome(c.ctx, err) // if this panics, abandon counts
	}
	w := &p.window
	m := w.marks.Load()
	if !m.hot || outcome == events.OutcomeIgnored {
		c.count(outcome)
		return
	}
	c.done = true
	if outcome == events.OutcomeFailure {
		w.failure.Add(1)
	} else if s := w.stripes.Load(); s != nil {
		s.add()
	} else if n := w.success.Load(); !w.success.CompareAndSwap(n, n+1) {
		w.spread()
	}
	if b.phase.Load() != p || w.failure.Load() > m.fine.failure.Load() {
		c.reconsider(m)
	}
}

// reconsider is what remains to be done after a call was counted that ended late, or
// that found more failures than are known to be fine.
func (c *plainCall) reconsider(m *marks) {
	if !c.b.late(c.phase) && c.b.judge(c.ctx, c.phase, m) {
		c.b.deliver()
	}
}

// count counts the outcome in any window.
func (c *plainCall) count(outcome events.Outcome) {
	c.done = true
	rotated, changed, _ := c.b.settleClosed(c.ctx, c.phase, outcome, false, unread)
	if changed || rotated != nil {
		c.b.announce(c.ctx, rotated, changed)
	}
}

// abandon counts a call whose work, or whose classifier, did not return: it
// panicked or ended the goroutine. Deferred without a recover, it sees both and
// leaves the stack as it is.
func (c *plainCall) abandon() {
	if !c.done {
		c.count(events.OutcomeFailure)
	}
}
