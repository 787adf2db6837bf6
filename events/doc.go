// Package events is what circuit breakers, retries and the other policies have to say:
// a struct for each fact, sinks that receive them, and two consumers ready to use, a
// bounded [Stream] to another goroutine and a [Log] of structured records.
//
// # Events
//
// A breaker's life:
//
//	BreakerCreated    it exists, with these thresholds
//	CallStarted       a call was admitted
//	CallFinished      … and came to this outcome
//	CallRejected      a call was not run
//	StateChanged      closed, open, half-open: from, to, why
//	WindowRotated     a bucket of the sliding window was closed
//	BreakerReconfigured  it has other thresholds now
//	BreakerRetired    it was closed down
//
// A retried operation:
//
//	RetryStarted      it begins
//	AttemptStarted    an attempt begins
//	AttemptFinished   … and came to this outcome and decision
//	RetryScheduled    the next attempt waits this long
//	RetryFinished     it ended, for this reason
//
// A bulkhead's life:
//
//	BulkheadCreated   it exists, with these limits
//	BulkheadWaited    a call left its queue, after this long
//	BulkheadRejected  a call was not run, for want of a slot
//	BulkheadRetired   it was closed down
//
// A retry budget's life:
//
//	BudgetCreated     it exists, with this ratio
//	BudgetExhausted   it refused a retry
//	BudgetRetired     it was closed down
//
// Of timeouts, rate limits, fallbacks and hedges:
//
//	PolicyCreated     it exists
//	TimedOut          work failed after its limit had passed
//	RateLimited       a call had to wait, or was not run
//	FellBack          a fallback stood in for work that failed
//
// A hedged operation:
//
//	HedgeAttemptStarted   an attempt begins, beside those that still run
//	HedgeAttemptFinished  … and came to this; one of them may have won
//
// # Delivery
//
// A [Sink] is called synchronously, on the goroutine of the call that the event is
// about, with that call's context, and never while a lock is held: it may call any
// method of the same breaker, may be slow (its caller then is), and may panic. Its
// panic is its caller's panic; by then the engine has committed its state, and no
// probe slot is lost. It may be called from many goroutines at once.
//
// For each call there is exactly one CallFinished or CallRejected, and for each
// CallStarted exactly one CallFinished, however the work ends. For each RetryStarted
// there is exactly one RetryFinished, for each AttemptStarted one AttemptFinished, and
// for each HedgeAttemptStarted one HedgeAttemptFinished, before the operation returns.
// A sink that is not Enabled when a call or a retry begins is told nothing of it. The
// other exception is a sink that panics in a …Started function: the call, or the
// attempt, then does not begin and nothing more is told of it.
//
// The attempts of a hedged operation run side by side, and so do their sinks: the
// first attempt's on the goroutine of the call, each other's on its own. A sink's panic
// there reaches the caller as the work's does.
//
// The StateChanged events of one breaker arrive one at a time, in the order of
// Generation and without gaps. So that a slow or reentrant sink can neither reorder
// them nor deadlock, a change that happens while another is being delivered is
// delivered after it by the goroutine that is at it, with the context of the call
// that caused it. A change that no call caused, because the sleep window ended or a
// probe timed out, comes from a timer's goroutine with the background context.
// StateChanged precedes the CallFinished of the call that caused it, unless it waits
// behind another that is being delivered.
//
// BreakerReconfigured keeps its place among the StateChanged events of its breaker: it
// comes after the changes that were decided by the old thresholds, and before those by
// the new ones.
//
// BreakerRetired is the last event of a breaker, but for those of calls that were
// under way when it was closed. No StateChanged follows it. The same holds for
// BulkheadRetired and BudgetRetired.
//
// Recorders in package eventstest check this in any test, except for the order of
// StateChanged and CallFinished, which one sink cannot tell.
package events
