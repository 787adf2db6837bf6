package resilience_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

var errNoCopy = errors.New("nothing in the cache")

// fallback returns a Fallback to the given value with a Recorder.
func fallback[T any](t *testing.T, value T, err error) (*resilience.Fallback[T], *eventstest.Recorder) {
	t.Helper()
	rec := eventstest.New(t)
	return resilience.NewFallback(&resilience.FallbackConfig[T]{
		Name:   "cache",
		Value:  func(context.Context, error) (T, error) { return value, err },
		Events: rec.Sink(),
	}), rec
}

func broke[T any](context.Context) (T, error) { return *new(T), errBroken }

func TestFallbackStandsIn(t *testing.T) {
	f, rec := fallback(t, "old news", nil)
	require.Equal(t, "cache", f.Name())
	got, err := resilience.Do(t.Context(), f, func(context.Context) (string, error) { return "news", nil })
	require.NoError(t, err)
	require.Equal(t, "news", got)
	require.Equal(t, []events.Kind{events.KindPolicyCreated}, rec.Kinds())

	got, err = resilience.Do(t.Context(), f, broke[string])
	require.NoError(t, err)
	require.Equal(t, "old news", got)
	require.Equal(t, events.FellBack{Header: events.Header{Name: "cache"}, Err: errBroken}, last[events.FellBack](t, rec))
	require.Equal(t, events.PolicyFallback, last[events.PolicyCreated](t, rec).Policy)
}

// It may be anywhere in the chain, and the value is that of the run that counts.
func TestFallbackAnywhereInAChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := fallback(t, 7, nil)
		cb := resilience.NewCircuitBreaker(nil)
		retrier := resilience.NewRetrier(&resilience.RetryConfig{MaxAttempts: 3})
		for _, tt := range []struct {
			name  string
			chain resilience.Policy
			want  events.Counts
		}{
			{"outermost", resilience.Chain(f, retrier, cb), events.Counts{Failure: 3}},
			{"in the middle", resilience.Chain(retrier, f, cb), events.Counts{Failure: 4}},
			{"innermost", resilience.Chain(retrier, cb, f), events.Counts{Success: 1, Failure: 4}},
			{"twice", resilience.Chain(f, retrier, cb, f), events.Counts{Success: 2, Failure: 4}},
		} {
			got, err := resilience.Do(t.Context(), tt.chain, broke[int])
			require.NoError(t, err, tt.name)
			require.Equal(t, 7, got, tt.name)
			require.Equal(t, tt.want, cb.GetStats().Totals, tt.name)
		}
		cb.ForceOpen()
		got, err := resilience.Do(t.Context(), resilience.Chain(f, retrier, cb), broke[int])
		require.NoError(t, err)
		require.Equal(t, 7, got, "also for what is not run")
	})
}

// Nested uses of Do have results of their own.
func TestFallbackIsForTheDoAroundIt(t *testing.T) {
	words, _ := fallback(t, "seven", nil)
	numbers, _ := fallback(t, 7, nil)
	got, err := resilience.Do(t.Context(), words, func(ctx context.Context) (string, error) {
		n, err := resilience.Do(ctx, numbers, broke[int])
		require.NoError(t, err)
		require.Equal(t, 7, n)
		n, err = resilience.Do(ctx, resilience.Chain(), broke[int])
		require.Zero(t, n)
		return "half", err
	})
	require.NoError(t, err)
	require.Equal(t, "seven", got)

	// A policy that runs what is inside it by a Do of another type.
	wrapper := resilience.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
		_, err := resilience.Do(ctx, resilience.Chain(), func(ctx context.Context) (int, error) { return 1, fn(ctx) })
		return err
	})
	// One of the same type.
	twin := resilience.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
		_, err := resilience.Do(ctx, resilience.Chain(), func(ctx context.Context) (string, error) { return "twin's", fn(ctx) })
		return err
	})
	got, err = resilience.Do(t.Context(), resilience.Chain(wrapper, words), broke[string])
	require.NoError(t, err)
	require.Equal(t, "seven", got)
	for _, p := range []resilience.Policy{wrapper, twin} {
		got, err = resilience.Do(t.Context(), p, func(context.Context) (string, error) { return "own", nil })
		require.NoError(t, err)
		require.Equal(t, "own", got)
	}
	// A policy that runs the work with a context of its own.
	cut := resilience.PolicyFunc(func(_ context.Context, fn func(context.Context) error) error { return fn(context.Background()) })
	got, err = resilience.Do(t.Context(), cut, func(context.Context) (string, error) { return "own", nil })
	require.NoError(t, err)
	require.Equal(t, "own", got)
}

func TestFallbackWithNowhereToPutItsValue(t *testing.T) {
	f, rec := fallback(t, 7, nil)
	for _, run := range []func() error{
		func() error { return f.Run(t.Context(), mustNotRun(t)) },
		func() error {
			_, err := resilience.Do(t.Context(), f, func(context.Context) (string, error) { return "", mustNotRun(t)(nil) })
			return err
		},
	} {
		err := run()
		require.ErrorIs(t, err, resilience.ErrInvalidConfig)
		require.EqualError(t, err, `resilience: Fallback.Run is "cache" without Do, want a Do[int] around it`)
	}
	require.Equal(t, []events.Kind{events.KindPolicyCreated}, rec.Kinds())

	nothing, _ := fallback(t, struct{}{}, nil)
	require.NoError(t, nothing.Run(t.Context(), func(context.Context) error { return errBroken }), "work without a result")
}

func TestFallbackThatHasNothing(t *testing.T) {
	f, rec := fallback(t, "", errNoCopy)
	got, err := resilience.Do(t.Context(), f, broke[string])
	require.Empty(t, got)
	require.EqualError(t, err, `resilience: fallback "cache" has nothing (nothing in the cache) for: dependency is broken`)
	require.ErrorIs(t, err, errBroken)
	require.ErrorIs(t, err, errNoCopy)
	require.Equal(t, events.ErrorType(errBroken), events.ErrorType(err))
	require.Equal(t, events.FellBack{
		Header: events.Header{Name: "cache"}, Err: errBroken, Outcome: events.OutcomeFailure, FallbackErr: errNoCopy,
	}, last[events.FellBack](t, rec))

	// One that gives the error back, as it is or wrapped.
	for _, work := range []error{errBroken, unhashable{"a"}} {
		back := resilience.NewFallback(&resilience.FallbackConfig[string]{
			Value: func(_ context.Context, err error) (string, error) { return "", err },
		})
		_, err = resilience.Do(t.Context(), back, func(context.Context) (string, error) { return "", work })
		if work == errBroken { //nolint:errorlint // identity is meant
			require.Equal(t, errBroken, err)
		} else {
			require.Equal(t, work, err.(*resilience.FallbackError).Err) //nolint:errorlint // one that cannot be compared
		}
	}
}

func TestFallbackIf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		f := resilience.NewFallback(&resilience.FallbackConfig[int]{
			If:    func(err error) bool { asked++; return errors.Is(err, resilience.ErrCircuitBreakerOpen) },
			Value: func(_ context.Context, err error) (int, error) { require.Error(t, err); return 7, nil },
		})
		_, err := resilience.Do(t.Context(), f, broke[int])
		require.Equal(t, errBroken, err)
		cb := resilience.NewCircuitBreaker(nil)
		cb.ForceOpen()
		got, err := resilience.Do(t.Context(), resilience.Chain(f, cb), broke[int])
		require.NoError(t, err)
		require.Equal(t, 7, got)
		require.Equal(t, 2, asked)

		// Nobody is there to be given a value.
		always, rec := fallback(t, 7, nil)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = resilience.Do(ctx, always, func(ctx context.Context) (int, error) { return 1, patient(time.Hour)(ctx) })
		require.Equal(t, context.Canceled, err)
		_, err = resilience.Do(ctx, always, func(context.Context) (int, error) { return 1, mustNotRun(t)(nil) })
		require.Equal(t, context.Canceled, err)
		require.Empty(t, eventstest.Of[events.FellBack](rec))
	})
}

func TestFallbackThatPanics(t *testing.T) {
	rec := eventstest.New(t)
	for _, end := range []func(){func() { panic("boom") }, func() { _ = exit() }} {
		f := resilience.NewFallback(&resilience.FallbackConfig[int]{
			Value:  func(context.Context, error) (int, error) { end(); return 0, nil },
			Events: rec.Sink(),
		})
		done := make(chan any, 1)
		go func() {
			defer func() { done <- recover() }()
			_, _ = resilience.Do(t.Context(), f, broke[int])
			t.Error("it returned")
		}()
		<-done
		e := last[events.FellBack](t, rec)
		require.True(t, e.Panicked)
		require.Equal(t, errBroken, e.Err)
	}
	f, _ := fallback(t, 7, nil)
	require.Equal(t, "boom", panics(t, func() {
		_, _ = resilience.Do(t.Context(), f, func(context.Context) (int, error) { panic("boom") })
	}), "the work's panic is no error")
	require.PanicsWithValue(t, "resilience: Run of a nil function", func() { _ = f.Run(t.Context(), nil) })
}

func TestFallbackConfig(t *testing.T) {
	want := "resilience: FallbackConfig.Value is <nil>, want a function that returns the value"
	require.EqualError(t, configError(t, func() { resilience.NewFallback[int](nil) }), want)
	require.EqualError(t, configError(t, func() { resilience.NewFallback(&resilience.FallbackConfig[int]{}) }), want)
}
