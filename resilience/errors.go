package resilience

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// The questions a caller asks of an error, for [errors.Is].
var (
	// ErrCircuitBreakerOpen matches every call that a breaker rejected, whether it
	// was open, forced open, or half-open with all probes taken. The details are in
	// [*RejectedError].
	ErrCircuitBreakerOpen = newSentinel("resilience: circuit breaker is open")

	// ErrRetriesExhausted matches a retry that ended because its last attempt
	// failed too. The details are in [*RetryError].
	ErrRetriesExhausted = newSentinel("resilience: retries exhausted")

	// ErrBudgetExhausted matches a retry that ended because its [RetryBudget] was used
	// up. The details are in [*RetryError].
	ErrBudgetExhausted = newSentinel("resilience: retry budget exhausted")

	// ErrInvalidConfig matches every [*ConfigError].
	ErrInvalidConfig = newSentinel("resilience: invalid configuration")
)

// sentinel is a question for [errors.Is]. That it has a method Is, which says no more than
// a comparison would, makes it an error that is not plain: so plain errors, which are
// nearly all, need not be compared with our sentinels. See isPlain.
type sentinel struct{ text string }

func newSentinel(text string) error { return &sentinel{text} }

func (s *sentinel) Error() string { return s.text }

func (s *sentinel) Is(target error) bool { return target == s }

// ConfigError says which field of a configuration can never work, and what could.
type ConfigError struct {
	Config string // the configuration's type, such as "RetryConfig"
	Field  string // its field, such as "MaxDelay"
	Value  any    // what the field holds
	Want   string // what it should hold, as in "at least 1"
}

// Error names the field, its value and what it should be.
func (e *ConfigError) Error() string {
	return fmt.Sprintf("resilience: %s.%s is %v, want %s", e.Config, e.Field, e.Value, e.Want)
}

// Is reports whether target is [ErrInvalidConfig].
func (e *ConfigError) Is(target error) bool { return target == ErrInvalidConfig }

// RejectedError says that a breaker did not run a call. All rejections of one open
// period share one value: do not change it.
type RejectedError struct {
	Name   string       // the breaker's name
	State  CircuitState // open, or half-open when all probes were taken
	Forced bool         // the breaker was opened by ForceOpen
	Since  time.Time    // when that state began
	Until  time.Time    // when the sleep window ends; zero when half-open or forced
}

// RetryAfter returns how long it is until the breaker lets a probe through, 0 if
// that is not known: a half-open breaker may any moment, one forced open will not
// by itself. It reads the clock, so it shrinks as time passes.
func (e *RejectedError) RetryAfter() time.Duration {
	if e.Until.IsZero() {
		return 0
	}
	return max(0, time.Until(e.Until))
}

// Error names the breaker and its state.
func (e *RejectedError) Error() string {
	switch {
	case e.Forced:
		return fmt.Sprintf("resilience: circuit breaker %q is forced open", e.Name)
	case e.State == StateHalfOpen:
		return fmt.Sprintf("resilience: circuit breaker %q is half-open and its probes are taken", e.Name)
	default:
		return fmt.Sprintf("resilience: circuit breaker %q is open", e.Name)
	}
}

// Is reports whether target is [ErrCircuitBreakerOpen].
func (e *RejectedError) Is(target error) bool { return target == ErrCircuitBreakerOpen }

// ErrorType returns "circuit_open". See [events.ErrorType].
func (e *RejectedError) ErrorType() string { return "circuit_open" }

// RetryError says that a retried operation failed, after how many attempts and why
// it was not tried again. Errors.Is and errors.As reach the errors of all attempts,
// the latest first, and what ended the context if that is what ended the retry.
type RetryError struct {
	Name     string // the retry's name
	Attempts int    // that were run, at least 1

	// Elapsed is what retrying added: the time from the beginning of the first wait
	// to the end; 0 if there was no wait. What went before is not in it, since
	// timing it would make every success pay for a clock reading.
	Elapsed time.Duration

	// Reason is why no further attempt was made: ReasonExhausted,
	// ReasonNotRetryable, ReasonDeadline, ReasonCanceled, ReasonRejected,
	// ReasonRetryAfterTooLong or ReasonBudgetExhausted of package events.
	Reason events.Reason

	// Errs holds the error of each attempt, the first attempt's first.
	Errs []error

	// Cause is what ended the context, as [context.Cause] tells it, when Reason is
	// ReasonCanceled or ReasonDeadline; context.DeadlineExceeded when the next wait
	// would have passed the deadline. Else nil.
	Cause error
}

// Last returns the error of the last attempt, nil if there is none.
func (e *RetryError) Last() error {
	if len(e.Errs) == 0 {
		return nil
	}
	return e.Errs[len(e.Errs)-1]
}

// Error says how many attempts were made, why no more, and the last one's error.
func (e *RetryError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "resilience: retry %q gave up after %d attempt", e.Name, e.Attempts)
	if e.Attempts != 1 {
		b.WriteByte('s')
	}
	fmt.Fprintf(&b, " (%s): %v", reasonText(e.Reason), e.Last())
	return b.String()
}

func reasonText(r events.Reason) string { return strings.ReplaceAll(string(r), "_", " ") }

// Is reports whether target is the sentinel that goes with Reason:
// [ErrRetriesExhausted], [ErrBudgetExhausted], context.Canceled or context.DeadlineExceeded, the latter
// two also when the context was given a cause of its own.
func (e *RetryError) Is(target error) bool {
	switch target {
	case ErrRetriesExhausted:
		return e.Reason == events.ReasonExhausted
	case ErrBudgetExhausted:
		return e.Reason == events.ReasonBudgetExhausted
	case context.Canceled:
		return e.Reason == events.ReasonCanceled
	case context.DeadlineExceeded:
		return e.Reason == events.ReasonDeadline
	default:
		return false
	}
}

// Unwrap returns the errors of all attempts, the latest first, then Cause if any.
func (e *RetryError) Unwrap() []error {
	errs := make([]error, 0, len(e.Errs)+1)
	for _, err := range slices.Backward(e.Errs) {
		errs = append(errs, err)
	}
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	return errs
}

// Timeout reports whether the context's deadline ended the retry, or the last attempt's
// error is a timeout, as [net.Error] and [os.IsTimeout] understand it.
func (e *RetryError) Timeout() bool {
	if e.Reason == events.ReasonDeadline {
		return true
	}
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](e.Last())
	return ok && t.Timeout()
}

// ErrorType returns the type of the last attempt's error. See [events.ErrorType].
func (e *RetryError) ErrorType() string { return events.ErrorType(e.Last()) }

// Permanent marks err as one that no retry mends: a retry that meets it, also
// wrapped, stops. It does not change what a breaker makes of err. Permanent(nil)
// is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{marker{err}}
}

// Ignore marks err as one that says nothing about the dependency: a breaker that
// meets it, also wrapped, counts neither a success nor a failure, and a retry stops
// unless its RetryIf says otherwise. Ignore(nil) is nil.
func Ignore(err error) error {
	if err == nil {
		return nil
	}
	return &ignoredError{marker{err}}
}

// RetryAfter marks err with how long its server asked to be left alone. A retry
// that meets it, also wrapped, waits d instead of its backoff, or stops if d is
// longer than its MaxRetryAfter. A d of zero or less leaves the backoff as it is.
// RetryAfter(nil, d) is nil.
//
// Any error with the method RetryAfter() time.Duration does the same.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{marker{err}, d}
}

// marker wraps an error without changing its text.
type marker struct{ err error }

func (m *marker) Error() string { return m.err.Error() }
func (m *marker) Unwrap() error { return m.err }

type permanentError struct{ marker }

type ignoredError struct{ marker }

type retryAfterError struct {
	marker
	after time.Duration
}

func (e *retryAfterError) RetryAfter() time.Duration { return e.after }

// isPlain reports whether err is nothing but itself: it wraps no error, has no
// opinion on which it is, does not say when to come back and holds nothing, so that
// comparing it says all that errors.Is and errors.As could find out, at a fraction of
// the price.
// Most errors of a failing dependency are plain, and an outage is no time to be slow.
func isPlain(err error) bool {
	switch err.(type) { //nolint:errorlint // it asks about the error itself
	case interface{ Unwrap() error },
		interface{ Unwrap() []error },
		interface{ Is(error) bool },
		interface{ As(any) bool },
		interface{ RetryAfter() time.Duration },
		interface{ Discard() }:
		return false
	default:
		return true
	}
}

// find reports whether match holds for err or for an error it wraps, as far as these
// have a say in decisions: of a retry inside another policy that is the last attempt
// only, while errors.Is and errors.As reach all of them.
func find(err error, match func(error) bool) bool { return search(err, match, false) }

// finds is find for what excuses a failure: of a hedged operation it has to hold for all
// attempts. That one of them was turned away says nothing about what the others met.
func finds(err error, match func(error) bool) bool { return search(err, match, true) }

func search(err error, match func(error) bool, all bool) bool {
	for err != nil {
		if match(err) {
			return true
		}
		switch x := err.(type) { //nolint:errorlint // it walks the tree itself
		case *RetryError:
			err = x.Last()
		case interface{ Unwrap() error }:
			err = x.Unwrap()
		case interface{ Unwrap() []error }:
			branches := x.Unwrap()
			matches := func(err error) bool { return search(err, match, all) }
			if _, hedged := err.(*HedgeError); hedged && all { //nolint:errorlint // as above
				return len(branches) > 0 && !slices.ContainsFunc(branches, func(err error) bool { return !matches(err) })
			}
			return slices.ContainsFunc(branches, matches)
		default:
			return false
		}
	}
	return false
}

// is is errors.Is for decisions: see finds. Target is a sentinel of pointer type, so
// comparing it with an error that cannot be compared does no harm.
func is(err, target error) bool {
	return finds(err, func(err error) bool {
		if err == target { //nolint:errorlint // find does the unwrapping
			return true
		}
		x, ok := err.(interface{ Is(error) bool })
		return ok && x.Is(target)
	})
}

func isPermanent(err error) bool {
	return find(err, func(err error) bool { _, ok := err.(*permanentError); return ok }) //nolint:errorlint // as above
}

// isIgnored reports whether err says nothing about the dependency: it is marked so, or
// a bulkhead or a rate limit did not run the work.
func isIgnored(err error) bool {
	return finds(err, func(err error) bool {
		switch err.(type) { //nolint:errorlint // as above
		case *ignoredError, *BulkheadFullError, *RateLimitError:
			return true
		default:
			return false
		}
	})
}

// isRejection reports whether a policy did not run the work: a breaker, a bulkhead or a
// rate limit.
func isRejection(err error) bool {
	return finds(err, func(err error) bool {
		switch x := err.(type) { //nolint:errorlint // as above
		case *RejectedError, *BulkheadFullError, *RateLimitError:
			return true
		case interface{ Is(error) bool }: // ErrCircuitBreakerOpen itself, too
			return x.Is(ErrCircuitBreakerOpen)
		default:
			return false
		}
	})
}

// retryAfter returns how long err asks to wait, 0 if it does not ask.
func retryAfter(err error) (d time.Duration) {
	if isPlain(err) {
		return 0
	}
	find(err, func(err error) bool {
		x, ok := err.(interface{ RetryAfter() time.Duration })
		if ok {
			d = max(0, x.RetryAfter())
		}
		return ok
	})
	return d
}

// DefaultErrorClassifier reports whether err counts as a failure of the dependency.
// These do not, since they say nothing about its health: nil, context.Canceled,
// errors marked with [Ignore], an invalid configuration ([ErrInvalidConfig]), and
// something that was not found ([io/fs.ErrNotExist]) unless it is a network
// address. Everything else does, context.DeadlineExceeded included.
func DefaultErrorClassifier(err error) bool {
	if isPlain(err) {
		return err != nil && err != context.Canceled && err != fs.ErrNotExist //nolint:errorlint // it wraps nothing
	}
	switch {
	case is(err, context.Canceled), isIgnored(err), is(err, ErrInvalidConfig):
		return false
	case is(err, fs.ErrNotExist):
		// Dialing the socket of a server that is gone is "no such file" as well.
		return find(err, func(err error) bool { _, ok := err.(*net.OpError); return ok }) //nolint:errorlint // find does the unwrapping
	default:
		return true
	}
}

// gaveUp reports whether err is how work ends that noticed its caller's
// cancellation: context.Canceled, or the cause that the caller gave.
func gaveUp(ctx context.Context, err error) bool {
	if ended := ctx.Err(); ended == nil || !errors.Is(ended, context.Canceled) {
		return false
	}
	if errors.Is(err, context.Canceled) {
		return true
	}
	// A cause is anybody's error; comparing one that cannot be compared would panic.
	cause := context.Cause(ctx)
	return reflect.ValueOf(cause).Comparable() && errors.Is(err, cause)
}
