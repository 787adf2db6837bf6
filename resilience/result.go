package resilience

import "context"

// result is where [Do] keeps what its work returns, and the context that the work runs
// in: so that policies, which know nothing of T, can find it. A [Fallback] puts a value
// into it, and a [Hedge] gives each further attempt one of its own, since attempts that
// run at once must not write to one place.
type result[T any] struct {
	context.Context
	root  *result[T] // Do's own, which the hedges' are copies of
	value T
}

// resultKey is the key of the innermost result in a context.
type resultKey struct{}

// Value returns the result itself for the keys that stand for it.
func (r *result[T]) Value(key any) any {
	if key == any(resultKey{}) || key == any(r.root) {
		return r
	}
	return r.Context.Value(key)
}

// in returns the place for what work returns that runs with ctx: r, or the copy of it
// that its attempt has. A policy that does not hand its context down has none.
func (r *result[T]) in(ctx context.Context) *result[T] {
	if ctx == context.Context(r) {
		return r
	}
	if own, ok := ctx.Value(r).(*result[T]); ok {
		return own
	}
	return r
}

// outer returns the context that r was put on top of.
func (r *result[T]) outer() context.Context { return r.Context }

// fork returns a place like r on top of ctx, and what takes over its value.
func (r *result[T]) fork(ctx context.Context) (forked context.Context, adopt func()) {
	f := &result[T]{Context: ctx, root: r.root}
	return f, func() { r.value = f.value }
}

// forkable is a result of whatever type.
type forkable interface {
	outer() context.Context
	fork(ctx context.Context) (forked context.Context, adopt func())
}

// forkResults returns ctx with places of its own for all results that are around, and
// what takes over their values; nil if there are none.
func forkResults(ctx context.Context) (forked context.Context, adopt func()) {
	r, ok := ctx.Value(resultKey{}).(forkable)
	if !ok {
		return ctx, nil
	}
	// The outer ones first, so that the innermost is the innermost again.
	ctx, outer := forkOuter(ctx, r)
	forked, inner := r.fork(ctx)
	if outer == nil {
		return forked, inner
	}
	return forked, func() { outer(); inner() }
}

func forkOuter(ctx context.Context, inner forkable) (forked context.Context, adopt func()) {
	r, ok := inner.outer().Value(resultKey{}).(forkable)
	if !ok {
		return ctx, nil
	}
	ctx, outer := forkOuter(ctx, r)
	forked, own := r.fork(ctx)
	if outer == nil {
		return forked, own
	}
	return forked, func() { outer(); own() }
}

// resultOf returns the innermost place for a T in ctx, nil if there is none.
func resultOf[T any](ctx context.Context) *result[T] {
	for {
		switch r := ctx.Value(resultKey{}).(type) {
		case *result[T]:
			return r
		case forkable:
			ctx = r.outer()
		default:
			return nil
		}
	}
}
