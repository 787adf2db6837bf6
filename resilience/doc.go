// Package resilience protects calls that can fail: a [CircuitBreaker] stops calling
// a dependency that is down, a [Retrier] tries again what failed for a moment, a
// [Timeout], a [Bulkhead], a [RateLimit], a [Hedge] and a [Fallback] do what their names
// say, and [Chain] puts them around each other. Every decision can be heard; see package
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
// dependency: that the caller cancelled, an error marked with [Ignore], that a Bulkhead
// or RateLimit inside turned the call away, and what ErrorClassifier, by default [DefaultErrorClassifier], does not call a failure.
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
// has ended and, unless RetryIf says otherwise, the rejections of other policies and
// errors marked with [Ignore].
//
// # Policies
//
// All of these are policies, to be put around each other with [Chain], the outermost
// first; [Do] runs work that has a result. Run hands the work the context to use.
//
//	Fallback        gives a value when what is inside has failed
//	Retrier         runs what is inside again after a failure
//	Hedge           runs it again beside itself when it is slow
//	CircuitBreaker  does not run it while it is known to be down
//	RateLimit       does not run it more often than a limiter allows
//	Bulkhead        does not run more than so many at once
//	Timeout         ends its context after a while
//
// That is the order to use them in, those you need. Each line has its reason:
//
//   - A Fallback is outermost, so that all others see what truly happened, and so that
//     it stands in once, for the operation.
//   - A Timeout around the Retrier, beside the one inside, limits the operation with its
//     waits. A wait that does not fit is then not begun.
//   - The Retrier is around the breaker, so that each attempt counts and the retry ends
//     when the breaker opens. [RetryWithCircuitBreaker] does this. The other way round,
//     an operation counts once, as what its last attempt came to.
//   - A Hedge is inside the Retrier: a retry answers a failure, a hedge slowness, and a
//     failure that comes while an attempt is hedged may yet become a success. It is
//     around the breaker, which then judges each attempt; that one was overtaken it
//     ignores.
//   - The breaker is around what holds calls back, so that while it is open calls fail at
//     once, and not after their turn in a queue. What RateLimit and Bulkhead turn away
//     it ignores: that says nothing about the dependency, but how much is asked of it.
//   - RateLimit is around the Bulkhead, so that no slot is held by a call that waits for
//     its turn.
//   - The Timeout is innermost: it measures the dependency, and not the queue in front of
//     it, and what it ends the breaker counts and the Retrier retries. The slot it gives
//     back is free when the work has returned, so the work must heed its context.
//
// As code, for a read that may be done twice:
//
//	stack := resilience.Chain(cached, retrier, hedge, breaker, limit, bulkhead, timeout)
//	page, err := resilience.Do(ctx, stack, fetch)
//
// The rejections of breaker, RateLimit and Bulkhead are not retried, and neither is what
// is marked with [Ignore], unless RetryIf says otherwise. [PolicyFunc] makes a policy of
// a function, for what is missing here.
//
// A [RetryBudget], shared by all retries that call one dependency, caps their share of
// its calls. A [Registry] has a breaker for each host, tenant or shard.
//
// # Errors
//
// The error of the work comes back unchanged, but for these:
//
//   - [*RejectedError]: a breaker did not run the call. It is [ErrCircuitBreakerOpen].
//   - [*RetryError]: a retry gave up. It says why, reaches the error of every attempt,
//     and is [ErrRetriesExhausted] if the attempts were used up.
//   - [*TimeoutError]: work failed after a Timeout's limit. It is
//     context.DeadlineExceeded, and reaches the work's error.
//   - [*BulkheadFullError] and [*RateLimitError]: the work was not run. They are
//     [ErrBulkheadFull] and [ErrRateLimited].
//   - [*HedgeError]: several attempts ran side by side and all failed.
//   - [*FallbackError]: the work failed, and its fallback too.
//   - [*ConfigError]: a configuration can never work. It is [ErrInvalidConfig].
//
// A first attempt's error that is not retried comes back as it is, and the error of a
// context that is done already without running anything.
package resilience
