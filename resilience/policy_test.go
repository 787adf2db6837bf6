package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// around is a policy that notes when it is entered and left.
func around(name string, lines *[]string) resilience.Policy {
	return resilience.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
		*lines = append(*lines, name+" in")
		defer func() { *lines = append(*lines, name+" out") }()
		return fn(context.WithValue(ctx, layerKey{}, fmt.Sprint(ctx.Value(layerKey{}), name)))
	})
}

type layerKey struct{}

func TestChainOutermostFirst(t *testing.T) {
	for _, tt := range []struct {
		layers []string
		want   []string
		ctx    any
	}{
		{nil, []string{"work"}, nil},
		{[]string{"a"}, []string{"a in", "work", "a out"}, "<nil>a"},
		{[]string{"a", "b"}, []string{"a in", "b in", "work", "b out", "a out"}, "<nil>ab"},
		{[]string{"a", "b", "c"}, []string{"a in", "b in", "c in", "work", "c out", "b out", "a out"}, "<nil>abc"},
	} {
		var lines []string
		var layers []resilience.Policy
		for _, name := range tt.layers {
			layers = append(layers, around(name, &lines))
		}
		err := resilience.Chain(layers...).Run(t.Context(), func(ctx context.Context) error {
			lines = append(lines, "work")
			require.Equal(t, tt.ctx, ctx.Value(layerKey{}), "contexts go from layer to layer")
			return errRefused
		})
		require.Equal(t, errRefused, err)
		require.Equal(t, tt.want, lines)
	}
}

func TestChainMayBeChainedAndRunOften(t *testing.T) {
	var lines []string
	inner := resilience.Chain(around("b", &lines), around("c", &lines))
	p := resilience.Chain(around("a", &lines), inner)
	for range 3 {
		lines = nil
		require.NoError(t, p.Run(t.Context(), func(context.Context) error { return nil }))
		require.Equal(t, []string{"a in", "b in", "c in", "c out", "b out", "a out"}, lines)
	}
}

func TestChainKeepsACopyOfItsPolicies(t *testing.T) {
	var lines []string
	policies := []resilience.Policy{around("a", &lines), around("b", &lines)}
	p := resilience.Chain(policies...)
	policies[0] = nil
	require.NoError(t, p.Run(t.Context(), func(context.Context) error { return nil }))
	require.Equal(t, []string{"a in", "b in", "b out", "a out"}, lines)
}

func TestChainRefusesNilPolicies(t *testing.T) {
	breaker := resilience.NewCircuitBreaker(nil)
	for name, none := range map[string]resilience.Policy{
		"nil":             nil,
		"nil PolicyFunc":  resilience.PolicyFunc(nil),
		"nil Retrier":     (*resilience.Retrier)(nil),
		"nil breaker":     (*resilience.CircuitBreaker)(nil),
		"nil of a user's": (*plainPolicy)(nil),
	} {
		err := panicOf(t, func() { resilience.Chain(breaker, none) })
		e, ok := errors.AsType[*resilience.ConfigError](err)
		require.True(t, ok, "%s: %v", name, err)
		require.Equal(t, "Chain", e.Config)
		require.Equal(t, "policies[1]", e.Field)
		require.ErrorIs(t, err, resilience.ErrInvalidConfig)
		require.NotPanics(t, func() { _ = err.Error() }, name)
	}
	require.EqualError(t, panicOf(t, func() { resilience.Chain(nil) }), "resilience: Chain.policies[0] is <nil>, want a policy")
}

// plainPolicy is a policy whose values are no pointers: it must not be taken for nil.
type plainPolicy struct{}

func (plainPolicy) Run(ctx context.Context, fn func(context.Context) error) error { return fn(ctx) }

func TestChainTakesAnyPolicy(t *testing.T) {
	p := resilience.Chain(plainPolicy{}, &plainPolicy{}, new(resilience.Retrier))
	require.NoError(t, p.Run(t.Context(), func(context.Context) error { return nil }))
}

func TestChainRetryAroundBreakerAndBreakerAroundRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		retrier := resilience.NewRetrier(&resilience.RetryConfig{})
		for _, tt := range []struct {
			name  string
			chain func(*resilience.CircuitBreaker) resilience.Policy
			want  events.Counts
		}{
			{"each attempt counts", func(cb *resilience.CircuitBreaker) resilience.Policy {
				return resilience.Chain(retrier, cb)
			}, events.Counts{Success: 1, Failure: 2}},
			{"the operation counts", func(cb *resilience.CircuitBreaker) resilience.Policy {
				return resilience.Chain(cb, retrier)
			}, events.Counts{Success: 1}},
		} {
			cb := resilience.NewCircuitBreaker(nil)
			require.NoError(t, tt.chain(cb).Run(t.Context(), newFlaky(errRefused, errRefused).runContext), tt.name)
			require.Equal(t, tt.want, cb.GetStats().Totals, tt.name)
		}
	})
}

func TestChainARejectionIsFoundThroughEveryLayer(t *testing.T) {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment"})
	cb.ForceOpen()
	wrapping := resilience.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
		return fmt.Errorf("order 17: %w", fn(ctx))
	})
	p := resilience.Chain(wrapping, resilience.NewRetrier(nil), wrapping, cb)
	err := p.Run(t.Context(), func(context.Context) error { t.Error("run"); return nil })
	require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
	rejected, ok := errors.AsType[*resilience.RejectedError](err)
	require.True(t, ok)
	require.Equal(t, "payment", rejected.Name)
}

func TestDoReturnsTheResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		got, err := resilience.Do(t.Context(), resilience.NewRetrier(nil), func(context.Context) (string, error) {
			if n++; n < 3 {
				return fmt.Sprint("half of ", n), errRefused
			}
			return fmt.Sprint("answer ", n), nil
		})
		require.NoError(t, err)
		require.Equal(t, "answer 3", got)
	})
}

func TestDoReturnsZeroWithAnError(t *testing.T) {
	half := func(context.Context) (*int, error) { return new(int), errRefused }
	got, err := resilience.Do(t.Context(), resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: 1}), half)
	require.ErrorIs(t, err, errRefused)
	require.Nil(t, got)

	cb := resilience.NewCircuitBreaker(nil)
	cb.ForceOpen()
	got, err = resilience.Do(t.Context(), cb, half)
	require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
	require.Nil(t, got)

	// The work succeeded, but the policy says otherwise.
	strict := resilience.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
		return errors.Join(fn(ctx), errPipe)
	})
	n, err := resilience.Do(t.Context(), strict, func(context.Context) (int, error) { return 7, nil })
	require.ErrorIs(t, err, errPipe)
	require.Zero(t, n)
}

func TestDoKeepsNothingOfAFailedAttempt(t *testing.T) {
	forgiving := resilience.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
		_ = fn(ctx)
		return nil
	})
	got, err := resilience.Do(t.Context(), forgiving, func(context.Context) (int, error) { return 7, errRefused })
	require.NoError(t, err)
	require.Zero(t, got)
}

func TestDoHandsTheContextDown(t *testing.T) {
	var lines []string
	got, err := resilience.Do(t.Context(), around("a", &lines), func(ctx context.Context) (any, error) {
		return ctx.Value(layerKey{}), nil
	})
	require.NoError(t, err)
	require.Equal(t, "<nil>a", got)
}

func TestDoLetsPanicsThrough(t *testing.T) {
	cb := resilience.NewCircuitBreaker(nil)
	p := resilience.Chain(resilience.NewRetrier(nil), cb)
	require.PanicsWithValue(t, "boom", func() {
		_, _ = resilience.Do(t.Context(), p, func(context.Context) (int, error) { panic("boom") })
	})
	require.Equal(t, events.Counts{Failure: 1}, cb.GetStats().Totals)
}

func TestPolicyFuncIsTheFunction(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, 1)
	p := resilience.PolicyFunc(func(got context.Context, fn func(context.Context) error) error {
		require.Equal(t, ctx, got)
		return fmt.Errorf("said: %w", fn(got))
	})
	require.EqualError(t, p.Run(ctx, func(context.Context) error { return errRefused }), "said: connection refused")
}

// A timeout of one's own fits between the layers.
func TestPolicyFuncAsATimeoutForEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timeout := resilience.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return fn(ctx)
		})
		cb := resilience.NewCircuitBreaker(nil)
		n := 0
		got, err := resilience.Do(t.Context(), resilience.Chain(resilience.NewRetrier(nil), cb, timeout), func(ctx context.Context) (int, error) {
			if n++; n < 3 {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return n, nil
		})
		require.NoError(t, err)
		require.Equal(t, 3, got)
		require.Equal(t, events.Counts{Success: 1, Failure: 2}, cb.GetStats().Totals)
	})
}
