package resilience

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/breakwater-go/breakwater/events"
)

// FallbackConfig says what to give when work fails. A Fallback keeps a copy.
type FallbackConfig[T any] struct {
	// Name says which fallback it is in errors, events and telemetry. Empty means
	// "default".
	Name string

	// Value returns what stands in for the result of work that failed with err, or an
	// error if there is nothing to give. It gets the context that Run was given, runs
	// on the caller's goroutine and may be called from many at once. It must be set.
	Value func(ctx context.Context, err error) (T, error)

	// If reports whether Value is to stand in for an error. Nil means for any. It is
	// not asked when the caller's own context has ended: there is nobody to give to. It
	// may be called from many goroutines at once.
	If func(error) bool

	// Events receives what the fallback has to say. The zero Sink receives nothing.
	Events events.Sink
}

// Validate reports the first field whose value can never work, as a [*ConfigError],
// or nil.
func (c *FallbackConfig[T]) Validate() error {
	var v validation
	if c == nil || c.Value == nil {
		v.refuse("Value", nil, "a function that returns the value")
	}
	return v.error("FallbackConfig")
}

// Fallback is a [Policy] that gives a value in place of an error. It belongs outermost:
// what is inside sees the failures.
//
// A Policy knows nothing of results, so the value has to get to whom it is for: use a
// Fallback under [Do] of the same T, anywhere in its chain.
//
//	cached := resilience.NewFallback(&resilience.FallbackConfig[Page]{Value: fromCache})
//	page, err := resilience.Do(ctx, resilience.Chain(cached, retrier, breaker), fetch)
//
// Work without a result takes a Fallback[struct{}], with or without Do. All methods may
// be called concurrently.
type Fallback[T any] struct {
	name  string
	value func(context.Context, error) (T, error)
	when  func(error) bool
	sink  events.Sink
}

// NewFallback returns a Fallback with a copy of config. It panics with a [*ConfigError]
// if the configuration is invalid.
func NewFallback[T any](config *FallbackConfig[T]) *Fallback[T] {
	if err := config.Validate(); err != nil {
		panic(err)
	}
	f := &Fallback[T]{name: config.Name, value: config.Value, when: config.If, sink: config.Events}
	setDefault(&f.name, "default")
	announce(&f.sink, f.name, events.PolicyFallback)
	return f
}

// Name returns the fallback's name.
func (f *Fallback[T]) Name() string { return f.name }

// Run runs fn and returns nil, or what the fallback comes to if fn fails: nil if it
// gives a value, else its error. That reaches fn's error, in a [*FallbackError] if it
// does not by itself.
//
// Without a [Do] of the same T around it there is nowhere to put a value. Run then runs
// nothing and returns a [*ConfigError], so that the mistake shows at the first call and
// not at the first failure.
//
// If ctx is done already, fn is not run and ctx's error comes back.
func (f *Fallback[T]) Run(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("resilience: Run of a nil function")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	place := resultOf[T](ctx)
	if place == nil {
		if _, none := any(*new(T)).(struct{}); !none {
			return &ConfigError{
				Config: "Fallback", Field: "Run", Value: fmt.Sprintf("%q without Do", f.name),
				Want: fmt.Sprintf("a Do[%v] around it", reflect.TypeFor[T]()),
			}
		}
	}
	err := fn(ctx)
	if err == nil || ctx.Err() != nil || f.when != nil && !f.when(err) {
		return err
	}
	value, err := f.standIn(ctx, err)
	if err == nil && place != nil {
		place.value = value
	}
	return err
}

// standIn returns what the fallback gives for err, and tells of it.
func (f *Fallback[T]) standIn(ctx context.Context, err error) (value T, failed error) {
	e := events.FellBack{
		Header: events.Header{Name: f.name}, Err: err, Outcome: events.OutcomeFailure, Panicked: true,
	}
	if f.sink.FellBack != nil && listens(ctx, &f.sink) {
		defer func() { f.sink.FellBack(ctx, e) }()
	}
	value, failed = f.value(ctx, err)
	e.Panicked, e.FallbackErr = false, failed
	if failed == nil {
		e.Outcome = events.OutcomeSuccess
		return value, nil
	}
	if !reaches(failed, err) {
		failed = &FallbackError{Name: f.name, Err: err, FallbackErr: failed}
	}
	return value, failed
}

// reaches reports whether err is cause or wraps it.
func reaches(err, cause error) bool {
	return reflect.ValueOf(cause).Comparable() && errors.Is(err, cause) // comparing others would panic
}

// FallbackError says that work failed, and the fallback for it too. Errors.Is and
// errors.As reach both errors, the work's first.
type FallbackError struct {
	Name        string // the fallback's name
	Err         error  // what the work returned
	FallbackErr error  // what the fallback returned
}

// Error says what the work returned and what the fallback did.
func (e *FallbackError) Error() string {
	return fmt.Sprintf("resilience: fallback %q has nothing (%v) for: %v", e.Name, e.FallbackErr, e.Err)
}

// Unwrap returns the work's error and the fallback's.
func (e *FallbackError) Unwrap() []error { return []error{e.Err, e.FallbackErr} }

// ErrorType returns the type of the work's error. See [events.ErrorType].
func (e *FallbackError) ErrorType() string { return events.ErrorType(e.Err) }
