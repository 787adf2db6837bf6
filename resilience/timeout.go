package resilience

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// TimeoutConfig says how long work may take. The zero value of a field means its
// default. A Timeout keeps a copy.
type TimeoutConfig struct {
	// Name says which timeout it is in errors, events and telemetry. Empty means
	// "default".
	Name string

	// Limit is how long the work may take. Zero means 10 s.
	Limit time.Duration

	// Events receives what the timeout has to say. The zero Sink receives nothing.
	Events events.Sink
}

func (c *TimeoutConfig) withDefaults() TimeoutConfig {
	var d TimeoutConfig
	if c != nil {
		d = *c
	}
	setDefault(&d.Name, "default")
	setDefault(&d.Limit, 10*time.Second)
	return d
}

// Validate reports the first field whose value can never work, as a [*ConfigError],
// or nil. A nil configuration is valid.
func (c *TimeoutConfig) Validate() error {
	d := c.withDefaults()
	var v validation
	v.duration("Limit", d.Limit)
	return v.error("TimeoutConfig")
}

// Timeout is a [Policy] that limits how long the work may take. Around a retry it
// limits the operation, waits included; inside one it limits each attempt.
//
// It does so by the work's context, and the work runs on the caller's goroutine: work
// that does not heed its context runs on, and so does its caller. In return nothing is
// left behind when Run returns.
//
// All methods may be called concurrently.
type Timeout struct {
	name    string
	limit   time.Duration
	sink    events.Sink
	expired *TimeoutError // the cause of contexts whose limit has passed; never changed
}

// NewTimeout returns a Timeout with a copy of config, nil for all defaults. It panics
// with a [*ConfigError] if the configuration is invalid.
func NewTimeout(config *TimeoutConfig) *Timeout {
	if err := config.Validate(); err != nil {
		panic(err)
	}
	c := config.withDefaults()
	announce(&c.Events, c.Name, events.PolicyTimeout)
	return &Timeout{
		name: c.Name, limit: c.Limit, sink: c.Events,
		expired: &TimeoutError{Name: c.Name, Limit: c.Limit},
	}
}

// Name returns the timeout's name.
func (t *Timeout) Name() string { return t.name }

// Run runs fn with a context that ends after the limit, or with ctx itself if that
// ends earlier. A context of its own ends when Run returns: what the work hands out, as
// the body of a response, must be read by then.
//
// An error that fn returns after the limit has passed comes back as a [*TimeoutError],
// which is context.DeadlineExceeded and reaches fn's own error. So a retry around it
// tries again, since its own context has not ended, and a breaker around it counts a
// failure. If ctx ended first, by its caller's deadline or because the caller
// cancelled, fn's error comes back as it is. A success is a success, however late.
//
// If ctx is done already, fn is not run and ctx's error comes back.
func (t *Timeout) Run(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("resilience: Run of a nil function")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	deadline := time.Now().Add(t.limit)
	if earlier, ok := ctx.Deadline(); ok && !earlier.After(deadline) {
		return fn(ctx)
	}
	limited, cancel := context.WithDeadlineCause(ctx, deadline, t.expired)
	defer cancel()
	err := fn(limited)
	if err == nil {
		return nil
	}
	return t.judge(ctx, limited, deadline, err)
}

// judge returns what becomes of the error of work that ran with limited, derived from
// ctx.
func (t *Timeout) judge(ctx, limited context.Context, deadline time.Time, err error) error {
	late := time.Since(deadline)
	if limited.Err() == nil {
		// Work that looks at the deadline itself, as connections do, may be faster than
		// the timer that ends the context.
		if late < 0 {
			return err
		}
	} else if context.Cause(limited) != error(t.expired) { //nolint:errorlint // identity is meant: another timeout's cause is one too
		return err // ctx ended first
	}
	if t.sink.TimedOut != nil && listens(ctx, &t.sink) {
		t.sink.TimedOut(ctx, events.TimedOut{
			Header: events.Header{Name: t.name}, Limit: t.limit, Duration: t.limit + max(0, late), Err: err,
		})
	}
	return &TimeoutError{Name: t.name, Limit: t.limit, Err: err}
}

// TimeoutError says that work failed after the limit of a [Timeout] had passed. It is
// also the cause, as [context.Cause] tells it, of the context that the work had.
type TimeoutError struct {
	Name  string        // the timeout's name
	Limit time.Duration // that passed
	Err   error         // what the work returned; nil in a context's cause
}

// Error names the timeout and its limit, and the work's error if it says more than
// that the context ended.
func (e *TimeoutError) Error() string {
	if e.Err == nil || errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, context.Canceled) {
		return fmt.Sprintf("resilience: timeout %q of %v passed", e.Name, e.Limit)
	}
	return fmt.Sprintf("resilience: timeout %q of %v passed: %v", e.Name, e.Limit, e.Err)
}

// Is reports whether target is context.DeadlineExceeded.
func (e *TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Unwrap returns Err, unless that says that the context was cancelled, which is how
// some work reports the end of its context for whatever reason: nobody cancelled.
func (e *TimeoutError) Unwrap() error {
	if errors.Is(e.Err, context.Canceled) {
		return nil
	}
	return e.Err
}

// Timeout returns true, as [net.Error] wants it.
func (e *TimeoutError) Timeout() bool { return true }

// ErrorType returns "timeout". See [events.ErrorType].
func (e *TimeoutError) ErrorType() string { return "timeout" }
