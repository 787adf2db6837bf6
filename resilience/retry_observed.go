package resilience

import (
	"context"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// retryObserved is retry with somebody listening: the same decisions, and an event
// for each. What ends without returning, by a panic or runtime.Goexit of the work
// or of a sink, is seen by deferred functions that do not recover.
func retryObserved(ctx context.Context, config *RetryConfig, w work) error {
	r := &observedRetry{
		retrying: retrying{config: config, work: w},
		sink:     &config.Events,
		header:   events.Header{Name: w.name(config)},
		caller:   ctx,
		start:    time.Since(epoch),
		outcome:  events.OutcomeFailure,
		why:      events.ReasonPanic,
	}
	if r.sink.RetryStarted != nil {
		e := events.RetryStarted{Header: r.header, MaxAttempts: r.config.maxAttempts()}
		if derived := r.sink.RetryStarted(ctx, e); derived != nil {
			ctx = derived
		}
	}
	r.operation = ctx
	defer r.tellFinished(ctx)
	return r.run(ctx)
}

type observedRetry struct {
	retrying
	sink   *events.Sink
	header events.Header
	caller context.Context // decides, whatever sinks derive from it

	// The clock is read once at the start and once after each attempt and each
	// wait: where one thing ends the next begins.
	start time.Duration // since epoch
	now   time.Duration // since start, at the last reading

	// What is told in the end; until then, that it did not return.
	attempts int
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

func (r *observedRetry) tellFinished(ctx context.Context) {
	r.stopTimer()
	if r.sink.RetryFinished == nil {
		return
	}
	if !r.returned {
		r.readClock()
	}
	r.sink.RetryFinished(ctx, events.RetryFinished{
		Header:   r.header,
		Attempts: r.attempts,
		Duration: r.now,
		Delay:    r.waited,
		Outcome:  r.outcome,
		Reason:   r.why,
		Err:      r.err,
	})
}

func (r *observedRetry) run(ctx context.Context) error {
	for n := 1; ; n++ {
		again, err := r.attempt(ctx, n)
		if again {
			r.discard(err)
			if r.sink.RetryScheduled != nil {
				r.sink.RetryScheduled(ctx, events.RetryScheduled{
					Header: r.header, Attempt: n + 1, Delay: r.delay, RetryAfter: r.asked, Err: err,
				})
			}
			again = r.wait(r.caller)
			r.readClock()
		}
		if again {
			continue
		}
		if err != nil {
			err = r.end(n, err)
		}
		r.outcome, r.why, r.err = outcomeOf(r.reason), r.reason, err
		r.returned = true
		return err
	}
}

// attempt runs attempt n, tells of it and says whether another is to follow.
func (r *observedRetry) attempt(ctx context.Context, n int) (again bool, err error) {
	if r.sink.AttemptStarted != nil {
		e := events.AttemptStarted{Header: r.header, Attempt: n, Delay: r.delay}
		if derived := r.sink.AttemptStarted(ctx, e); derived != nil {
			ctx = derived
		}
	}
	r.attempts = n
	began, ran, decided := r.now, false, false
	defer func() {
		if !decided && r.sink.AttemptFinished != nil { // the work, or RetryIf after it, panicked
			if !ran {
				r.readClock()
			}
			r.sink.AttemptFinished(ctx, events.AttemptFinished{
				Header:   r.header,
				Attempt:  n,
				Duration: r.now - began,
				Outcome:  events.OutcomeFailure,
				Err:      err,
				Panicked: !ran,
				Decision: events.ReasonPanic,
			})
		}
	}()
	err = r.work.run(ctx, n)
	r.readClock()
	ran = true
	again = r.follow(n, err)
	decided = true
	if r.sink.AttemptFinished != nil {
		r.sink.AttemptFinished(ctx, events.AttemptFinished{
			Header:   r.header,
			Attempt:  n,
			Duration: r.now - began,
			Outcome:  attemptOutcome(err, r.reason),
			Err:      err,
			Decision: r.reason,
		})
	}
	return again, err
}

// follow is decide for an attempt that may have succeeded. The reason is then set in
// any case, and if it ends the retry so is what will be told of it, even should a
// sink panic before.
func (r *observedRetry) follow(n int, err error) (again bool) {
	switch {
	case err == nil && n == 1:
		r.reason = events.ReasonSuccess
	case err == nil:
		r.reason = events.ReasonSuccessAfterRetry
	case r.decide(r.caller, n, err):
		r.reason = events.ReasonRetry
		return true
	}
	r.outcome, r.why = outcomeOf(r.reason), r.reason
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
