package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// statusError is an error that a caller looks for with errors.As.
type statusError struct{ code int }

func (e *statusError) Error() string { return fmt.Sprint("status ", e.code) }

// payload is an error that can neither be compared nor be the key of a map.
type payload struct{ body []byte }

func (e payload) Error() string { return "payload " + string(e.body) }

func TestRule12RetryErrorReachesEveryAttemptsError(t *testing.T) {
	first, second, third := &statusError{500}, payload{[]byte("x")}, &statusError{503}
	_, err := retried(t, &resilience.RetryConfig{}, first, fmt.Errorf("get: %w", second), third)
	e := asRetryError(t, fmtWrapped(err), events.ReasonExhausted, 3)

	for _, attempt := range []error{first, third} {
		require.ErrorIs(t, err, attempt)
	}
	found, ok := errors.AsType[payload](err)
	require.True(t, ok)
	require.Equal(t, second, found)
	status, ok := errors.AsType[*statusError](err)
	require.True(t, ok)
	require.Same(t, third, status, "the newest comes first")

	require.Equal(t, []error{third, fmt.Errorf("get: %w", second), first}, e.Unwrap())
	require.Equal(t, third, e.Last())
	require.Len(t, e.Errs, 3, "Unwrap leaves Errs as it is")
	require.Equal(t, error(first), e.Errs[0])

	require.NotErrorIs(t, err, io.EOF)
	_, ok = errors.AsType[*fs.PathError](err)
	require.False(t, ok)
}

// fmtWrapped checks that err is found through wrapping and returns err.
func fmtWrapped(err error) error {
	if e, ok := errors.AsType[*resilience.RetryError](fmt.Errorf("order 17: %w", err)); ok {
		return e
	}
	return nil
}

func TestRule12RetryErrorOfManyAttemptsKeepsTheirOrder(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 6, 9, 40} {
		var errs []error
		for i := range n {
			errs = append(errs, &statusError{500 + i})
		}
		_, err := retried(t, &resilience.RetryConfig{MaxAttempts: n}, errs...)
		e := asRetryError(t, err, events.ReasonExhausted, n)
		require.Equal(t, errs, e.Errs)
		for _, attempt := range errs {
			require.ErrorIs(t, err, attempt)
		}
	}
}

func TestRule12ErrorsThatCannotBeCompared(t *testing.T) {
	refused := payload{[]byte("refused")}
	for _, wrapped := range []error{refused, fmt.Errorf("get: %w", refused), errorList{refused}} {
		for name, mark := range map[string]func(error) error{
			"plain":     func(err error) error { return err },
			"permanent": resilience.Permanent,
			"ignored":   resilience.Ignore,
			"asks":      func(err error) error { return resilience.RetryAfter(err, time.Millisecond) },
		} {
			_, err := retried(t, &resilience.RetryConfig{RetryIf: func(error) bool { return true }}, mark(wrapped), mark(wrapped), mark(wrapped))
			found, ok := errors.AsType[payload](err)
			require.True(t, ok, name)
			require.Equal(t, refused, found)
			// Targets that cannot be compared match nothing, and do no harm.
			require.NotErrorIs(t, err, refused)
			require.NotErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
		}
	}
}

func TestRule12RetryErrorSaysWhyItStopped(t *testing.T) {
	for _, tt := range []struct {
		err  resilience.RetryError
		text string
		is   bool // ErrRetriesExhausted
	}{
		{resilience.RetryError{Name: "payment", Attempts: 3, Reason: events.ReasonExhausted, Errs: []error{io.EOF, io.ErrNoProgress}},
			`resilience: retry "payment" gave up after 3 attempts (exhausted): multiple Read calls return no data or error`, true},
		{resilience.RetryError{Name: "default", Attempts: 1, Reason: events.ReasonRetryAfterTooLong, Errs: []error{io.EOF}},
			`resilience: retry "default" gave up after 1 attempt (retry after too long): EOF`, false},
		{resilience.RetryError{Name: "payment", Attempts: 2, Reason: events.ReasonDeadline, Errs: []error{io.EOF}, Cause: context.DeadlineExceeded},
			`resilience: retry "payment" gave up after 2 attempts (deadline): EOF`, false},
	} {
		require.EqualError(t, &tt.err, tt.text)
		require.Equal(t, tt.is, errors.Is(&tt.err, resilience.ErrRetriesExhausted))
	}
	require.NotPanics(t, func() { _ = new(resilience.RetryError).Error() }, "made by hand, without errors")
	require.NoError(t, new(resilience.RetryError).Last())
	require.Empty(t, new(resilience.RetryError).Unwrap())
}

func TestRule12RetryErrorElapsed(t *testing.T) {
	const took = 30 * time.Millisecond
	for _, tt := range []struct {
		name   string
		config resilience.RetryConfig
		want   time.Duration // from the first wait to the end
	}{
		{"without a wait", resilience.RetryConfig{MaxAttempts: 1}, 0},
		{"two waits and what came after them", resilience.RetryConfig{}, 300*time.Millisecond + 2*took},
		{"waits too short to wait", resilience.RetryConfig{InitialDelay: 1}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			err := resilience.Retry(t.Context(), &tt.config, func() error {
				time.Sleep(took)
				return errRefused
			})
			e, ok := errors.AsType[*resilience.RetryError](err)
			require.True(t, ok)
			require.Equal(t, tt.want, e.Elapsed, tt.name)
		})
	}
}

func TestRetryErrorType(t *testing.T) {
	require.Equal(t, "*resilience_test.statusError", events.ErrorType(&resilience.RetryError{Errs: []error{io.EOF, &statusError{500}}}))
	require.Equal(t, "timeout", events.ErrorType(&resilience.RetryError{Errs: []error{io.EOF, context.DeadlineExceeded}}))
	require.Equal(t, "circuit_open", events.ErrorType(fmt.Errorf("pay: %w", &resilience.RetryError{Errs: []error{&resilience.RejectedError{}}})))
}

func TestMarkersKeepTheErrorAsItIs(t *testing.T) {
	base := &statusError{409}
	for name, marked := range map[string]error{
		"Permanent":  resilience.Permanent(base),
		"Ignore":     resilience.Ignore(base),
		"RetryAfter": resilience.RetryAfter(base, time.Second),
		"all":        resilience.Permanent(resilience.Ignore(resilience.RetryAfter(base, time.Second))),
	} {
		require.EqualError(t, marked, "status 409", name)
		require.ErrorIs(t, marked, base, name)
		found, ok := errors.AsType[*statusError](marked)
		require.True(t, ok, name)
		require.Same(t, base, found)
	}
	require.NoError(t, resilience.Permanent(nil))
	require.NoError(t, resilience.Ignore(nil))
	require.NoError(t, resilience.RetryAfter(nil, time.Second))
}

func TestMarkersAreFoundBehindEachOther(t *testing.T) {
	// Whichever of the two is outside, both count.
	for _, err := range []error{
		resilience.Permanent(resilience.RetryAfter(errRefused, time.Second)),
		resilience.RetryAfter(resilience.Permanent(errRefused), time.Second),
		fmt.Errorf("a: %w", errors.Join(errRefused, fmt.Errorf("b: %w", resilience.Permanent(errRefused)))),
	} {
		at, _ := retried(t, nil, err)
		require.Len(t, at, 1)
	}
	cb := resilience.NewCircuitBreaker(nil)
	for _, err := range []error{
		resilience.Permanent(resilience.Ignore(errRefused)),
		resilience.Ignore(resilience.Permanent(errRefused)),
	} {
		require.Equal(t, err, cb.Execute(t.Context(), func() error { return err }))
	}
	require.Equal(t, events.Counts{Ignored: 2}, cb.GetStats().Totals)
}

func TestPermanentDoesNotChangeWhatABreakerMakesOfAnError(t *testing.T) {
	cb := resilience.NewCircuitBreaker(nil)
	_ = cb.Execute(t.Context(), func() error { return resilience.Permanent(errRefused) })
	_ = cb.Execute(t.Context(), func() error { return resilience.RetryAfter(errRefused, time.Second) })
	_ = cb.Execute(t.Context(), func() error { return resilience.Permanent(fs.ErrNotExist) })
	require.Equal(t, events.Counts{Failure: 2, Ignored: 1}, cb.GetStats().Totals)
}

func TestConfigErrorText(t *testing.T) {
	err := (&resilience.RetryConfig{BackoffFactor: 0.5}).Validate()
	require.EqualError(t, err, "resilience: RetryConfig.BackoffFactor is 0.5, want a finite number of at least 1, or 0 for the default")
	err = (&resilience.RetryConfig{MaxDelay: -time.Second}).Validate()
	require.EqualError(t, err, "resilience: RetryConfig.MaxDelay is -1s, want a positive duration, or 0 for the default")
	require.NotErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
}
