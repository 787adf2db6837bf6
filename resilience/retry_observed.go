package resilience

import (
	"context"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// retryObserved is retry with somebody listening: the same decisions, and an event
// for each. What ends without returning, by a panic or runtime.Goexit of the work
// or of a sink, is seen by a deferred function that does not recover.
func retryObserved(ctx context.Context, config *RetryConfig, w work) error {
	var r observedRetry // a literal would be made elsewhere and copied
	r.config, r.work = config, w
	r.sink, r.header.Name = &config.Events, w.name(config)
	r.caller, r.start = ctx, time.Since(epoch)
	r.outcome, r.why = events.OutcomeFailure, events.ReasonPanic
	if r.sink.RetryStarted != nil {
		e := events.RetryStarted{Header: r.header, MaxAttempts: r.config.maxAttempts()}
		if derived := r.sink.RetryStarted(ctx, e); derived != nil {
			ctx = derived
		}
	}
	r.operation = ctx
	defer r.end()
	err := r.attempt(1, 0)
	if err == nil {
		r.outcome, r.why = events.OutcomeSuccess, events.ReasonSuccess
		r.tellAttempt(1, nil, events.ReasonSuccess)
		r.returned = true
		return nil
	}
	var rest retrying // is large, and made here is free for who succeeds at once
	return r.goOn(&rest, err)
}

type observedRetry struct {
	config    *RetryConfig
	work      work
	sink      *events.Sink
	header    events.Header
	caller    context.Context // decides, whatever sinks derive from it
	operation context.Context // that they derived for the operation

	// The clock is read once at the start and once after each attempt and each
	// wait: where one thing ends the next begins.
	start time.Duration // since epoch
	now   time.Duration // since start, at the last reading

	// The attempt under way.
	inAttempt  bool            // it began, and its end is not told yet
	ran        bool            // its work returned
	attemptErr error           // what it returned
	attemptCtx context.Context // that sinks derived for it
	began      time.Duration   // since start

	// What is told in the end; until then, that it did not return.
	attempts int
	waited   time.Duration
	outcome  events.Outcome
	why      events.Reason
	err      error
	returned bool
}

// epoch is what observed retries count time from: time.Since of it is half the price of
// time.Now, and only differences matter.
var epoch = time.Now() // never changed

// readClock brings now up to date.
func (r *observedRetry) readClock() { r.now = time.Since(epoch) - r.start }

// end is deferred, and tells what has not been told.
func (r *observedRetry) end() {
	if r.inAttempt { // the work, or RetryIf after it, panicked
		defer r.tellFinished()
		r.tellPanicked()
		return
	}
	r.tellFinished()
}

func (r *observedRetry) tellFinished() {
	if r.sink.RetryFinished == nil {
		return
	}
	if !r.returned {
		r.readClock()
	}
	r.sink.RetryFinished(r.operation, events.RetryFinished{
		Header:   r.header,
		Attempts: r.attempts,
		Duration: r.now,
		Delay:    r.waited,
		Outcome:  r.outcome,
		Reason:   r.why,
		Err:      r.err,
	})
}

// tellPanicked tells of an attempt that did not come to a decision.
func (r *observedRetry) tellPanicked() {
	if r.sink.AttemptFinished == nil {
		return
	}
	if !r.ran {
		r.readClock()
	}
	r.sink.AttemptFinished(r.attemptCtx, events.AttemptFinished{
		Header:   r.header,
		Attempt:  r.attempts,
		Duration: r.now - r.began,
		Outcome:  events.OutcomeFailure,
		Err:      r.attemptErr,
		Panicked: !r.ran,
		Decision: events.ReasonPanic,
	})
}

// goOn decides about the first attempt, which failed with err, and goes on from there.
func (r *observedRetry) goOn(rest *retrying, err error) error {
	rest.config, rest.work, rest.operation = r.config, r.work, r.operation
	for n := 1; ; n++ {
		again := r.follow(rest, n, err)
		r.tellAttempt(n, err, rest.reason)
		if again {
			rest.discard(err)
			if r.sink.RetryScheduled != nil {
				r.sink.RetryScheduled(r.operation, events.RetryScheduled{
					Header: r.header, Attempt: n + 1, Delay: rest.delay, RetryAfter: rest.asked, Err: err,
				})
			}
			again = rest.wait(r.caller)
			r.waited = rest.waited
			r.readClock()
		}
		if !again {
			if err != nil {
				err = rest.end(n, err)
			}
			r.outcome, r.why, r.err = outcomeOf(rest.reason), rest.reason, err
			r.returned = true
			return err
		}
		err = r.attempt(n+1, rest.delay)
	}
}

// attempt runs attempt n, which comes after the given wait. Its end is told by
// tellAttempt, once it is known what follows.
func (r *observedRetry) attempt(n int, delay time.Duration) error {
	ctx := r.operation
	if r.sink.AttemptStarted != nil {
		e := events.AttemptStarted{Header: r.header, Attempt: n, Delay: delay}
		if derived := r.sink.AttemptStarted(ctx, e); derived != nil {
			ctx = derived
		}
	}
	r.attempts, r.began, r.attemptCtx, r.attemptErr = n, r.now, ctx, nil
	r.inAttempt, r.ran = true, false
	err := r.work.run(ctx, n)
	r.readClock()
	r.ran, r.attemptErr = true, err
	return err
}

// tellAttempt tells what attempt n came to and what was decided about it.
func (r *observedRetry) tellAttempt(n int, err error, decision events.Reason) {
	r.inAttempt = false
	if r.sink.AttemptFinished == nil {
		return
	}
	r.sink.AttemptFinished(r.attemptCtx, events.AttemptFinished{
		Header:   r.header,
		Attempt:  n,
		Duration: r.now - r.began,
		Outcome:  attemptOutcome(err, decision),
		Err:      err,
		Decision: decision,
	})
}

// follow is decide for an attempt that may have succeeded. The reason is then set in
// any case, and if it ends the retry so is what will be told of it, even should a
// sink panic before.
func (r *observedRetry) follow(rest *retrying, n int, err error) (again bool) {
	switch {
	case err == nil:
		rest.reason = events.ReasonSuccessAfterRetry
	case rest.decide(r.caller, n, err):
		rest.reason = events.ReasonRetry
		return true
	}
	r.outcome, r.why = outcomeOf(rest.reason), rest.reason
	return false
}

// attemptOutcome says what an attempt came to that returned err and about which
// the retry decided as given.
func attemptOutcome(err error, decided events.Reason) events.Outcome {
	switch {
	case err == nil:
		return events.OutcomeSuccess
	case isRejection(err):
		return events.OutcomeRejected
	case decided == events.ReasonCanceled, isIgnored(err):
		return events.OutcomeIgnored
	default:
		return events.OutcomeFailure
	}
}

// outcomeOf says what an operation came to that ended for the given reason.
func outcomeOf(r events.Reason) events.Outcome {
	switch r {
	case events.ReasonSuccess, events.ReasonSuccessAfterRetry:
		return events.OutcomeSuccess
	case events.ReasonRejected:
		return events.OutcomeRejected
	case events.ReasonCanceled:
		return events.OutcomeIgnored
	default:
		return events.OutcomeFailure
	}
}
