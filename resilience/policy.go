package resilience

import (
	"context"
	"reflect"
	"strconv"
)

// Policy runs work under some protection: [CircuitBreaker], [Retrier], and what
// [Chain] makes of several. Run calls fn no, one or several times, never after it
// has returned, and returns fn's error or one of its own.
type Policy interface {
	Run(ctx context.Context, fn func(context.Context) error) error
}

// PolicyFunc makes a function a Policy.
type PolicyFunc func(ctx context.Context, fn func(context.Context) error) error

// Run calls p.
func (p PolicyFunc) Run(ctx context.Context, fn func(context.Context) error) error {
	return p(ctx, fn)
}

// Chain returns a policy that puts policies around each other, the first one
// outermost: Chain(retrier, breaker) asks the breaker at every attempt. A chain of
// none runs the work as it is. It panics with a [*ConfigError] if a policy is nil.
func Chain(policies ...Policy) Policy {
	for i, p := range policies {
		if isNil(p) {
			panic(&ConfigError{
				Config: "Chain", Field: "policies[" + strconv.Itoa(i) + "]", Value: nil, Want: "a policy",
			})
		}
	}
	return chain(append([]Policy(nil), policies...))
}

// isNil reports whether p is nil or holds a nil function or pointer.
func isNil(p Policy) bool {
	v := reflect.ValueOf(p)
	switch v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Func, reflect.Pointer:
		return v.IsNil()
	default:
		return false
	}
}

type chain []Policy

func (c chain) Run(ctx context.Context, fn func(context.Context) error) error {
	switch len(c) {
	case 0:
		return fn(ctx)
	case 1:
		return c[0].Run(ctx, fn)
	}
	return c[0].Run(ctx, func(ctx context.Context) error { return c[1:].Run(ctx, fn) })
}

// Do runs fn under p and returns its result, the zero T with an error.
func Do[T any](ctx context.Context, p Policy, fn func(context.Context) (T, error)) (T, error) {
	var result T
	err := p.Run(ctx, func(ctx context.Context) error {
		value, err := fn(ctx)
		if err == nil {
			result = value // of a failed attempt nothing is kept, even if p makes it good
		}
		return err
	})
	if err != nil {
		var zero T
		return zero, err
	}
	return result, nil
}
