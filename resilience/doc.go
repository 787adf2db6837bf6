// Package resilience protects calls that can fail: a [CircuitBreaker] stops calling
// a dependency that is down, a [Retrier] tries again what failed for a moment, and
// [Chain] puts them around each other. Every decision can be heard; see package
// events.
//
//	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment"})
//	err := resilience.RetryWithCircuitBreaker(ctx, resilience.DefaultRetryConfig(), cb, pay)
//	if errors.Is(err, resilience.ErrCircuitBreakerOpen) {
//		return payLater()
//	}
//
// # The breaker
//
// A breaker is in one of three states:
//
//	closed     Calls run. Successes and failures are counted in a sliding window;
//	           when it holds VolumeThreshold calls and ErrorThreshold of them failed,
//	           or SlowCallThreshold of them were slow, the breaker opens.
//	open       Calls are rejected. When SleepWindow has passed the breaker is
//	           half-open, by the clock and without a call.
//	half-open  Up to HalfOpenRequests probes run, other calls are rejected. As soon as
//	           it is certain whether SuccessThreshold of them pass, the breaker closes
//	           or opens again. A probe older than ProbeTimeout counts as failed.
//
// Each state begins afresh: what a call that began in an earlier one comes to counts
// in the totals and influences nothing. ForceOpen and ForceClosed beat all of this
// until ClearForce or Reset.
//
// # What is counted
//
// A call is a success, a failure, or ignored. Panics and [runtime.Goexit] are
// failures, so is context.DeadlineExceeded. Ignored is what says nothing about the
// dependency: that the caller cancelled, an error marked with [Ignore], and what
// ErrorClassifier, by default [DefaultErrorClassifier], does not call a failure.
// Ignored and rejected calls are in no ratio.
//
// # The retry
//
// A retry runs the work up to MaxAttempts times. Before attempt n+1 it waits
// InitialDelay times BackoffFactor to the power of n-1, at most MaxDelay, or with
// jitter a random part of that. An error that says how long to wait, as [RetryAfter]
// makes it say, is obeyed up to MaxRetryAfter. A wait that does not fit before the
// deadline of the context is not begun.
//
// Not retried are errors marked with [Permanent], those of a caller's context that
// has ended and, unless RetryIf says otherwise, a breaker's rejections and errors
// marked with [Ignore].
//
// # Policies
//
// Breaker and Retrier are policies: Run hands the work the context to use. In
// Chain(retrier, breaker) each attempt counts for the breaker, and the retry ends
// when one is rejected; this is what [RetryWithCircuitBreaker] does. In
// Chain(breaker, retrier) the operation counts once, as what its last attempt came
// to. [Do] runs work that has a result. [PolicyFunc] makes a policy of a function,
// for timeouts and fallbacks of one's own.
//
// A [Registry] has a breaker for each host, tenant or shard.
//
// # Errors
//
// The error of the work comes back unchanged, but for these:
//
//   - [*RejectedError]: a breaker did not run the call. It is [ErrCircuitBreakerOpen].
//   - [*RetryError]: a retry gave up. It says why, reaches the error of every attempt,
//     and is [ErrRetriesExhausted] if the attempts were used up.
//   - [*ConfigError]: a configuration can never work. It is [ErrInvalidConfig].
//
// A first attempt's error that is not retried comes back as it is, and the error of a
// context that is done already without running anything.
package resilience
