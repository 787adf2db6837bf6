package eventstest

import (
	"context"
	"fmt"

	"github.com/breakwater-go/breakwater/events"
)

// operation is a retried operation; the contexts of its events hold it.
type operation struct {
	header      events.Header
	maxAttempts int
	attempts    int           // begun so far
	next        int           // number of the next attempt
	running     *attempt      // nil between attempts
	decision    events.Reason // of the last attempt that finished
	scheduled   bool          // the next attempt was announced
	finished    bool
}

// attempt is one attempt; the contexts of its events hold it.
type attempt struct {
	header   events.Header
	op       *operation // nil if it began outside of one
	number   int
	finished bool
}

// The keys of the two in a context.
type (
	operationKey struct{ r *Recorder }
	attemptKey   struct{ r *Recorder }
)

func (o *operation) unfinished() (subject, what string) {
	return retrySubject(o.header), "RetryStarted without RetryFinished"
}

func (a *attempt) unfinished() (subject, what string) {
	return retrySubject(a.header), fmt.Sprintf("AttemptStarted %d without AttemptFinished", a.number)
}

func retrySubject(h events.Header) string { return fmt.Sprintf("retry %q", h.Name) }

func (r *Recorder) retryStarted(ctx context.Context, e events.RetryStarted) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	r.retried(e)
	o := &operation{header: e.Header, maxAttempts: e.MaxAttempts, next: 1}
	r.begin(o)
	return context.WithValue(ctx, operationKey{r}, o)
}

func (r *Recorder) attemptStarted(ctx context.Context, e events.AttemptStarted) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	r.retried(e)
	r.duration(e, "Delay", e.Delay)
	if e.Attempt == 1 && e.Delay > 0 {
		r.violate(e, "the first attempt has a Delay of %v", e.Delay)
	}
	a := &attempt{header: e.Header, number: e.Attempt}
	r.begin(a)
	if o := r.operation(ctx, e); o != nil {
		if before, ok := ctx.Value(attemptKey{r}).(*attempt); ok && before.op == o {
			r.violate(e, "attempt %d begins in the context of attempt %d", e.Attempt, before.number)
		}
		r.follows(e, o, e.Attempt)
		if o.maxAttempts > 0 && e.Attempt > o.maxAttempts {
			r.violate(e, "attempt %d begins, and MaxAttempts is %d", e.Attempt, o.maxAttempts)
		}
		a.op, o.running = o, a
		o.attempts++
		o.next = e.Attempt + 1
		o.scheduled = false
	}
	return context.WithValue(ctx, attemptKey{r}, a)
}

func (r *Recorder) attemptFinished(ctx context.Context, e events.AttemptFinished) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	r.retried(e)
	r.duration(e, "Duration", e.Duration)
	r.outcome(e, e.Outcome, e.Panicked, e.Err)
	if e.Decision == "" {
		r.violate(e, "it has no Decision")
	}
	a, ok := ctx.Value(attemptKey{r}).(*attempt)
	switch {
	case !ok:
		r.violate(e, "its context does not come from an AttemptStarted")
		return
	case a.header != e.Header:
		r.violate(e, "its context comes from an AttemptStarted of %s", retrySubject(a.header))
		return
	case a.op != nil && ctx.Value(operationKey{r}) != a.op:
		r.violate(e, "its context comes from an AttemptStarted of another operation")
		return
	case a.number != e.Attempt:
		r.violate(e, "its Attempt is %d, and %d in AttemptStarted", e.Attempt, a.number)
	case a.finished:
		r.violate(e, "comes a second time for attempt %d", e.Attempt)
		return
	}
	a.finished = true
	delete(r.begun, a)
	if o := a.op; o != nil {
		if o.finished {
			r.violate(e, "comes after RetryFinished")
		}
		if o.running == a {
			o.running = nil
			o.decision = e.Decision
		}
	}
}

func (r *Recorder) retryScheduled(ctx context.Context, e events.RetryScheduled) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	r.retried(e)
	r.duration(e, "Delay", e.Delay)
	if o := r.operation(ctx, e); o != nil {
		if o.attempts == 0 {
			r.violate(e, "comes before the first attempt")
		}
		r.follows(e, o, e.Attempt)
		if o.scheduled {
			r.violate(e, "comes a second time for attempt %d", e.Attempt)
		}
		o.scheduled = true
	}
}

func (r *Recorder) retryFinished(ctx context.Context, e events.RetryFinished) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	r.retried(e)
	r.duration(e, "Duration", e.Duration)
	r.duration(e, "Delay", e.Delay)
	if e.Delay > e.Duration {
		r.violate(e, "its Delay of %v is longer than its Duration of %v", e.Delay, e.Duration)
	}
	r.outcome(e, e.Outcome, false, nil)
	switch success := e.Outcome == events.OutcomeSuccess; {
	case e.Reason == "" || e.Reason == events.ReasonRetry:
		r.violate(e, "its Reason %q does not end a retry", e.Reason)
	case success != (e.Reason == events.ReasonSuccess || e.Reason == events.ReasonSuccessAfterRetry):
		r.violate(e, "its Outcome is %v, and its Reason %q", e.Outcome, e.Reason)
	case success && (e.Attempts == 1) != (e.Reason == events.ReasonSuccess):
		r.violate(e, "its Reason is %q after %d attempts", e.Reason, e.Attempts)
	}

	o := r.operation(ctx, e)
	if o == nil {
		return
	}
	o.finished = true
	delete(r.begun, o)
	if a, ok := ctx.Value(attemptKey{r}).(*attempt); ok && a.op == o {
		r.violate(e, "its context is that of attempt %d", a.number)
	}
	if o.running != nil {
		r.violate(e, "attempt %d has not finished", o.running.number)
	} else if o.attempts > 0 && o.decision != events.ReasonRetry && o.decision != e.Reason {
		r.violate(e, "its Reason is %q, and attempt %d decided %q", e.Reason, o.next-1, o.decision)
	}
	if e.Attempts != o.attempts {
		r.violate(e, "its Attempts is %d, and %d began", e.Attempts, o.attempts)
	}
}

// operation returns the operation that e belongs to, or nil if there is none to tell
// or it is over, which is a violation. operation requires r.mu.
func (r *Recorder) operation(ctx context.Context, e events.Event) *operation {
	o, ok := ctx.Value(operationKey{r}).(*operation)
	switch {
	case !ok:
		r.violate(e, "its context does not come from a RetryStarted")
		return nil
	case o.header != e.About():
		r.violate(e, "its context comes from the RetryStarted of %s", retrySubject(o.header))
		return nil
	case o.finished && e.Kind() == events.KindRetryFinished:
		r.violate(e, "comes a second time for one RetryStarted")
		return nil
	case o.finished:
		r.violate(e, "comes after RetryFinished")
		return nil
	}
	return o
}

// follows checks that attempt number may begin, or be announced, in o by now.
// follows requires r.mu.
func (r *Recorder) follows(e events.Event, o *operation, number int) {
	switch {
	case o.running != nil:
		r.violate(e, "attempt %d has not finished", o.running.number)
	case o.attempts > 0 && o.decision != events.ReasonRetry:
		r.violate(e, "attempt %d decided %q", o.next-1, o.decision)
	}
	if number != o.next {
		r.violate(e, "its Attempt is %d, want %d", number, o.next)
	}
}

// retried checks what holds for each event of a retry. retried requires r.mu.
func (r *Recorder) retried(e events.Event) {
	if id := e.About().ID; id != 0 {
		r.violate(e, "its ID is %d: a retry has none", id)
	}
}
