package resilience

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// Allower is a limiter that says whether a call may go now, and takes note of it if so.
// The Limiter of golang.org/x/time/rate is one. Allow is called from many goroutines
// at once.
type Allower interface{ Allow() bool }

// Waiter is a limiter that waits until a call may go. The Limiter of
// golang.org/x/time/rate is one. Wait returns an error, and takes no note of the call,
// if ctx ends before, or would. It is called from many goroutines at once.
type Waiter interface {
	Wait(ctx context.Context) error
}

// RateLimitConfig says which limiter to ask and what to do when it says no. Exactly one
// of Allow and Wait must be set. A RateLimit keeps a copy.
type RateLimitConfig struct {
	// Name says which rate limit it is in errors, events and telemetry. Empty means
	// "default".
	Name string

	// Allow is asked for each call, which is rejected if it does not allow it.
	Allow Allower

	// Wait is where each call waits until it may go. If it has a method Allow() bool as
	// well, that is asked first, so that a call which may go at once is not delayed.
	Wait Waiter

	// MaxWait is how long a call waits, at most. Zero means until its context ends. It
	// needs Wait.
	MaxWait time.Duration

	// Events receives what the rate limit has to say. The zero Sink receives nothing.
	Events events.Sink
}

// Validate reports the first field whose value can never work, as a [*ConfigError],
// or nil.
func (c *RateLimitConfig) Validate() error {
	var d RateLimitConfig
	if c != nil {
		d = *c
	}
	var v validation
	switch allow, wait := !isNil(d.Allow), !isNil(d.Wait); {
	case !allow && !wait:
		v.refuse("Allow", d.Allow, "a limiter, or Wait to be one")
	case allow && wait:
		v.refuse("Wait", fmt.Sprintf("%T", d.Wait), "nil when Allow is set")
	case d.MaxWait != 0 && !wait:
		v.refuse("MaxWait", d.MaxWait, "0 without Wait")
	}
	v.optional("MaxWait", d.MaxWait)
	return v.error("RateLimitConfig")
}

// RateLimit is a [Policy] that asks a limiter, of yours or of golang.org/x/time/rate,
// before it runs a call.
//
//	resilience.NewRateLimit(&resilience.RateLimitConfig{Wait: rate.NewLimiter(100, 10)})
//
// All methods may be called concurrently.
type RateLimit struct {
	name    string
	allow   Allower // nil if there is only Wait
	wait    Waiter  // nil if calls are rejected
	maxWait time.Duration
	sink    events.Sink
}

// NewRateLimit returns a RateLimit with a copy of config. It panics with a
// [*ConfigError] if the configuration is invalid.
func NewRateLimit(config *RateLimitConfig) *RateLimit {
	if err := config.Validate(); err != nil {
		panic(err)
	}
	l := &RateLimit{
		name: config.Name, allow: config.Allow, wait: config.Wait, maxWait: config.MaxWait, sink: config.Events,
	}
	setDefault(&l.name, "default")
	if isNil(l.allow) {
		l.allow, _ = l.wait.(Allower)
	}
	if isNil(l.wait) {
		l.wait = nil
	}
	announce(&l.sink, l.name, events.PolicyRateLimit)
	return l
}

// Name returns the rate limit's name.
func (l *RateLimit) Name() string { return l.name }

// Run runs fn when the limiter allows it, and returns fn's error unchanged. Else it
// returns a [*RateLimitError], which is [ErrRateLimited], or ctx's error if that ended
// during the wait or is done already. Fn is not run then.
func (l *RateLimit) Run(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("resilience: Run of a nil function")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.allow == nil || !l.allow.Allow() {
		if err := l.hold(ctx); err != nil {
			return err
		}
	}
	return fn(ctx)
}

// hold holds a call up that may not go at once, or may not be asked about.
func (l *RateLimit) hold(ctx context.Context) error {
	told := l.sink.RateLimited != nil && listens(ctx, &l.sink)
	e := events.RateLimited{Header: events.Header{Name: l.name}, Outcome: events.OutcomeRejected}
	if l.wait == nil {
		if told {
			l.sink.RateLimited(ctx, e)
		}
		return &RateLimitError{Name: l.name}
	}
	var began time.Time
	if told {
		began = time.Now()
	}
	outcome, err, cause := l.await(ctx)
	if told {
		e.Duration, e.Outcome, e.Err = time.Since(began), outcome, cause
		if l.allow != nil || outcome != events.OutcomeSuccess || e.Duration >= noticeable {
			l.sink.RateLimited(ctx, e)
		}
	}
	return err
}

// noticeable is how long a wait is, at least, that is told of where it cannot be known
// whether there was one.
const noticeable = time.Millisecond

// await waits for the limiter. It returns what it came to, the error for the caller and
// the one of the limiter.
func (l *RateLimit) await(ctx context.Context) (outcome events.Outcome, err, cause error) {
	limited := ctx
	if l.maxWait > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, l.maxWait)
		defer cancel()
	}
	cause = l.wait.Wait(limited)
	switch {
	case ctx.Err() != nil: // also if it may go by now: nobody waits for it
		return events.OutcomeIgnored, ctx.Err(), cause
	case cause == nil:
		return events.OutcomeSuccess, nil, nil
	default:
		return events.OutcomeRejected, &RateLimitError{Name: l.name, Err: cause}, cause
	}
}

// ErrRateLimited matches every call that a rate limit rejected. The details are in
// [*RateLimitError].
var ErrRateLimited = newSentinel("resilience: rate limited")

// RateLimitError says that a [RateLimit] did not run a call.
//
// It says nothing about the dependency, so a breaker that meets it ignores it, as if it
// were marked with [Ignore], and a retry stops unless its RetryIf says otherwise: who
// is to wait should do so with Wait, which knows how long.
type RateLimitError struct {
	Name string // the rate limit's name
	Err  error  // what the limiter's Wait returned; nil if its Allow said no
}

// Error names the rate limit, and what the limiter said.
func (e *RateLimitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("resilience: rate limit %q does not allow the call", e.Name)
	}
	return fmt.Sprintf("resilience: rate limit %q does not allow the call: %v", e.Name, e.Err)
}

// Is reports whether target is [ErrRateLimited].
func (e *RateLimitError) Is(target error) bool { return target == ErrRateLimited }

// Unwrap returns Err, unless that says that MaxWait passed: no deadline of the caller's
// was exceeded.
func (e *RateLimitError) Unwrap() error {
	if errors.Is(e.Err, context.DeadlineExceeded) {
		return nil
	}
	return e.Err
}

// ErrorType returns "rate_limited". See [events.ErrorType].
func (e *RateLimitError) ErrorType() string { return "rate_limited" }
