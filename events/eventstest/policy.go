package eventstest

import (
	"context"
	"fmt"

	"github.com/breakwater-go/breakwater/events"
)

// bulkhead is what the events so far said of a bulkhead.
type bulkhead struct {
	name string

	// The goroutines that have received BulkheadRetired, or rejected a call after it;
	// nil before that.
	informed map[string]bool
}

// hedged is a hedged operation; the attempts of it that began share it.
type hedged struct {
	attempts int
	won      int // the attempt that won; 0 so far
}

// hedgeAttempt is one attempt of a hedged operation; the contexts of its events hold it.
type hedgeAttempt struct {
	header   events.Header
	op       *hedged
	number   int
	finished bool
}

// hedgeKey is the key of the attempt in a context.
type hedgeKey struct{ r *Recorder }

func (a *hedgeAttempt) unfinished() (subject, what string) {
	return fmt.Sprintf("hedge %q", a.header.Name), fmt.Sprintf("HedgeAttemptStarted %d without HedgeAttemptFinished", a.number)
}

// subject says what e is about.
func subject(e events.Event) string {
	h := e.About()
	switch e := e.(type) {
	case events.BulkheadCreated, events.BulkheadWaited, events.BulkheadRejected, events.BulkheadRetired:
		return fmt.Sprintf("bulkhead %q (ID %d)", h.Name, h.ID)
	case events.BudgetCreated, events.BudgetExhausted, events.BudgetRetired:
		return fmt.Sprintf("budget %q (ID %d)", h.Name, h.ID)
	case events.PolicyCreated:
		return fmt.Sprintf("%v %q", e.Policy, h.Name)
	case events.TimedOut:
		return fmt.Sprintf("timeout %q", h.Name)
	case events.RateLimited:
		return fmt.Sprintf("rate_limit %q", h.Name)
	case events.FellBack:
		return fmt.Sprintf("fallback %q", h.Name)
	case events.HedgeAttemptStarted, events.HedgeAttemptFinished:
		return fmt.Sprintf("hedge %q", h.Name)
	case events.RetryStarted, events.AttemptStarted, events.AttemptFinished, events.RetryScheduled, events.RetryFinished:
		return retrySubject(h)
	default:
		return breakerSubject(h)
	}
}

// unnumbered checks what holds for each event of a policy without an ID. unnumbered
// requires r.mu.
func (r *Recorder) unnumbered(e events.Event) {
	if id := e.About().ID; id != 0 {
		r.violate(e, "its ID is %d: such a policy has none", id)
	}
}

func (r *Recorder) policyCreated(ctx context.Context, e events.PolicyCreated) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received(ctx, e)
	r.unnumbered(e)
	r.timed(e, e.Time)
	if e.Policy >= events.PolicyKindCount {
		r.violate(e, "its Policy is %d, which is none", uint8(e.Policy))
	}
}

func (r *Recorder) timedOut(ctx context.Context, e events.TimedOut) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received(ctx, e)
	r.unnumbered(e)
	if e.Limit <= 0 || e.Duration < e.Limit {
		r.violate(e, "its Duration of %v is not beyond its Limit of %v", e.Duration, e.Limit)
	}
	if e.Err == nil {
		r.violate(e, "it has no Err")
	}
}

// bulkhead returns what is known of the bulkhead that e is about, after checking what
// holds for each of its events. bulkhead requires r.mu.
func (r *Recorder) bulkhead(e events.Event) *bulkhead {
	h := e.About()
	if h.ID == 0 {
		r.violate(e, "its ID is 0")
	}
	b := r.bulkheads[h.ID]
	if b == nil {
		b = &bulkhead{name: h.Name}
		r.bulkheads[h.ID] = b
		if e.Kind() != events.KindBulkheadCreated {
			r.violate(e, "comes before BulkheadCreated")
		}
	} else if e.Kind() == events.KindBulkheadCreated {
		r.violate(e, "comes a second time, or is not the bulkhead's first event")
	}
	if h.Name != b.name {
		r.violate(e, "its Name is not %q, as in the bulkhead's first event", b.name)
	}
	return b
}

func (r *Recorder) bulkheadCreated(ctx context.Context, e events.BulkheadCreated) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received(ctx, e)
	r.bulkhead(e)
	r.timed(e, e.Time)
	if e.MaxConcurrent < 1 || e.MaxQueue < 0 {
		r.violate(e, "its limits are %d and %d", e.MaxConcurrent, e.MaxQueue)
	}
	if e.Snapshot == nil {
		r.violate(e, "its Snapshot is nil")
	}
}

func (r *Recorder) bulkheadWaited(ctx context.Context, e events.BulkheadWaited) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received(ctx, e)
	r.bulkhead(e)
	r.duration(e, "Duration", e.Duration)
	r.heldUp(e, e.Outcome)
}

// heldUp checks the outcome of a wait. heldUp requires r.mu.
func (r *Recorder) heldUp(e events.Event, o events.Outcome) {
	if o == events.OutcomeFailure || o >= events.OutcomeCount {
		r.violate(e, "its Outcome is %v: a wait ends in success, rejected or ignored", o)
	}
}

func (r *Recorder) bulkheadRejected(ctx context.Context, e events.BulkheadRejected) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received(ctx, e)
	b := r.bulkhead(e)
	switch e.Reason {
	case events.ReasonMaxWait: // it may have waited since before the end
	case events.ReasonQueueFull:
		// One that lost a race with the end is let off; its goroutine's next began later.
		if b.informed != nil {
			if b.informed[goroutine()] {
				r.violate(e, "comes after BulkheadRetired")
			}
			b.informed[goroutine()] = true
		}
	default:
		r.violate(e, "its Reason is %q", e.Reason)
	}
}

func (r *Recorder) bulkheadRetired(ctx context.Context, e events.BulkheadRetired) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received(ctx, e)
	b := r.bulkhead(e)
	r.timed(e, e.Time)
	if b.informed != nil {
		r.violate(e, "comes a second time")
	}
	b.informed = map[string]bool{goroutine(): true}
}

func (r *Recorder) rateLimited(ctx context.Context, e events.RateLimited) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received(ctx, e)
	r.unnumbered(e)
	r.duration(e, "Duration", e.Duration)
	r.heldUp(e, e.Outcome)
}

func (r *Recorder) fellBack(ctx context.Context, e events.FellBack) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received(ctx, e)
	r.unnumbered(e)
	r.outcome(e, e.Outcome, e.Panicked, e.FallbackErr)
	if e.Err == nil {
		r.violate(e, "it has no Err")
	}
	switch {
	case e.Panicked:
	case e.Outcome == events.OutcomeSuccess && e.FallbackErr == nil:
	case e.Outcome == events.OutcomeFailure && e.FallbackErr != nil:
	default:
		r.violate(e, "its Outcome is %v, and its FallbackErr %v", e.Outcome, e.FallbackErr)
	}
}

func (r *Recorder) hedgeAttemptStarted(ctx context.Context, e events.HedgeAttemptStarted) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	r.unnumbered(e)
	r.duration(e, "Delay", e.Delay)
	a := &hedgeAttempt{header: e.Header, op: new(hedged), number: e.Attempt}
	first := e.Attempt == 1
	if first && (e.Delay > 0 || e.Previous != nil) {
		r.violate(e, "the first attempt has a Delay of %v or a Previous", e.Delay)
	}
	if !first {
		if before := r.hedgeAttempt(e.Previous); before == nil || before.header != e.Header {
			r.violate(e, "its Previous does not come from a HedgeAttemptStarted of this hedge")
		} else {
			a.op = before.op
		}
		if within := r.hedgeAttempt(ctx); within != nil && within.op == a.op {
			r.violate(e, "attempt %d begins in the context of attempt %d", e.Attempt, within.number)
		}
	}
	a.op.attempts++
	if a.number != a.op.attempts {
		r.violate(e, "its Attempt is %d, want %d", a.number, a.op.attempts)
	}
	r.begin(a)
	return context.WithValue(ctx, hedgeKey{r}, a)
}

// hedgeAttempt returns the attempt whose context ctx is, nil if it is none's.
func (r *Recorder) hedgeAttempt(ctx context.Context) *hedgeAttempt {
	if ctx == nil {
		return nil
	}
	a, _ := ctx.Value(hedgeKey{r}).(*hedgeAttempt)
	return a
}

func (r *Recorder) hedgeAttemptFinished(ctx context.Context, e events.HedgeAttemptFinished) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	r.unnumbered(e)
	r.duration(e, "Duration", e.Duration)
	r.outcome(e, e.Outcome, e.Panicked, e.Err)
	a := r.hedgeAttempt(ctx)
	switch {
	case a == nil:
		r.violate(e, "its context does not come from a HedgeAttemptStarted")
		return
	case a.header != e.Header:
		r.violate(e, "its context comes from the HedgeAttemptStarted of hedge %q", a.header.Name)
		return
	case a.number != e.Attempt:
		r.violate(e, "its Attempt is %d, and %d in HedgeAttemptStarted", e.Attempt, a.number)
	case a.finished:
		r.violate(e, "comes a second time for attempt %d", e.Attempt)
		return
	}
	a.finished = true
	delete(r.begun, a)
	if !e.Won {
		return
	}
	if e.Outcome != events.OutcomeSuccess {
		r.violate(e, "it won, and its Outcome is %v", e.Outcome)
	}
	if a.op.won != 0 {
		r.violate(e, "attempt %d won, and so did attempt %d", e.Attempt, a.op.won)
	}
	a.op.won = e.Attempt
}
