package resilience

import (
	"context"
	"reflect"
	"strconv"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// Policy runs work under some protection: [CircuitBreaker], [Retrier], [Timeout],
// [Bulkhead], [RateLimit], [Hedge], [Fallback], and what [Chain] makes of several. Run
// calls fn no, one or several times, a Hedge also several times at once, never after it
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

// isNil reports whether p, an interface, is nil or holds a nil function or pointer.
func isNil(p any) bool {
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

// Do runs fn under p and returns its result, the zero T with an error. Of several runs
// of fn the last one's that succeeded counts; of a [Hedge], the one's that won. A
// [Fallback] of the same T in p may give a result instead.
func Do[T any](ctx context.Context, p Policy, fn func(context.Context) (T, error)) (T, error) {
	r := &result[T]{Context: ctx}
	r.root = r
	err := p.Run(r, func(ctx context.Context) error {
		value, err := fn(ctx)
		if err == nil {
			r.in(ctx).value = value // of a failed attempt nothing is kept, even if p makes it good
		}
		return err
	})
	if err != nil {
		var zero T
		return zero, err
	}
	return r.value, nil
}

// announce tells that a policy of the given kind exists.
func announce(s *events.Sink, name string, kind events.PolicyKind) {
	if s.PolicyCreated != nil {
		s.PolicyCreated(context.Background(), events.PolicyCreated{
			Header: events.Header{Name: name}, Time: time.Now(), Policy: kind,
		})
	}
}

// listens reports whether s wants to hear of what happens with ctx.
func listens(ctx context.Context, s *events.Sink) bool { return s.Enabled == nil || s.Enabled(ctx) }
