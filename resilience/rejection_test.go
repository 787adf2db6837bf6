package resilience_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// It must hold: a rejected call knows which breaker, its state, and how long it is
// until a probe.
func TestRejectedErrorOfAnOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, _ := observed(t, small())
		trip(t, cb)
		opened := time.Now()
		time.Sleep(time.Second)
		first := rejection(t, cb)
		require.Equal(t, &resilience.RejectedError{
			Name: "payment", State: open, Since: opened, Until: opened.Add(30 * time.Second),
		}, first)
		require.Equal(t, 29*time.Second, first.RetryAfter())
		time.Sleep(10 * time.Second)
		require.Equal(t, 19*time.Second, first.RetryAfter(), "it shrinks")
		require.Same(t, first, rejection(t, cb), "one value for the whole period")
		_, err := cb.Acquire(t.Context())
		require.Same(t, first, err)
		err = cb.Run(t.Context(), func(context.Context) error { return nil })
		require.Same(t, first, err)

		pass(time.Hour)
		require.Zero(t, first.RetryAfter(), "and is never negative")
		failIn(t, cb, 2)
		second := rejection(t, cb)
		require.NotSame(t, first, second, "another period, another value")
		require.Equal(t, 30*time.Second, second.RetryAfter())
		require.Equal(t, opened.Add(30*time.Second), first.Until, "which leaves the first alone")
	})
}

func TestRejectedErrorOfAHalfOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, _ := observed(t, small())
		toHalfOpen(t, cb, 30*time.Second)
		since := time.Now()
		time.Sleep(time.Second)
		permits := []resilience.Permit{acquire(t, cb), acquire(t, cb), acquire(t, cb)}
		rejected := rejection(t, cb)
		require.Equal(t, &resilience.RejectedError{Name: "payment", State: halfOpen, Since: since}, rejected)
		require.Zero(t, rejected.RetryAfter(), "any moment")
		require.Same(t, rejected, rejection(t, cb))
		for _, p := range permits {
			p.Done(nil)
		}
	})
}

func TestRejectedErrorOfAForcedBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, _ := observed(t, small())
		cb.ForceOpen()
		rejected := rejection(t, cb)
		require.Equal(t, &resilience.RejectedError{Name: "payment", State: open, Forced: true, Since: time.Now()}, rejected)
		cb.ForceOpen()
		require.Same(t, rejected, rejection(t, cb))
		cb.ClearForce()
		require.Equal(t, 30*time.Second, rejection(t, cb).RetryAfter())
	})
}

func TestRejectedErrorText(t *testing.T) {
	for _, tt := range []struct {
		err  resilience.RejectedError
		text string
	}{
		{resilience.RejectedError{Name: "payment", State: open}, `resilience: circuit breaker "payment" is open`},
		{resilience.RejectedError{Name: "payment", State: open, Forced: true}, `resilience: circuit breaker "payment" is forced open`},
		{resilience.RejectedError{Name: "a \"b\"\n", State: halfOpen}, `resilience: circuit breaker "a \"b\"\n" is half-open and its probes are taken`},
	} {
		require.Equal(t, tt.text, tt.err.Error())
		coded, err := json.Marshal(map[string]string{"error": tt.err.Error()})
		require.NoError(t, err)
		var decoded map[string]string
		require.NoError(t, json.Unmarshal(coded, &decoded))
		require.Equal(t, tt.text, decoded["error"])
		require.NotContains(t, tt.err.Error(), "\n", "one line, whatever the name")
	}
}

// It must hold: errors.Is finds a rejection through wrapping, and a breaker's work
// that met another breaker's rejection keeps it.
func TestRejectionThroughWrapping(t *testing.T) {
	inner, outer := resilience.NewCircuitBreaker(small()), resilience.NewCircuitBreaker(nil)
	inner.ForceOpen()
	err := outer.Execute(t.Context(), func() error {
		return fmt.Errorf("order: %w", inner.Execute(t.Context(), healthy))
	})
	require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
	var rejected *resilience.RejectedError
	require.ErrorAs(t, err, &rejected)
	require.Equal(t, "payment", rejected.Name)
	require.Equal(t, "circuit_open", events.ErrorType(err))
	require.NotErrorIs(t, err, resilience.ErrInvalidConfig)
	require.NotErrorIs(t, errBroken, resilience.ErrCircuitBreakerOpen)
	require.NotErrorIs(t, err, resilience.ErrRetriesExhausted)
	require.Equal(t, uint64(1), outer.GetStats().Totals.Failure)
}

func TestIgnore(t *testing.T) {
	require.NoError(t, resilience.Ignore(nil))
	err := resilience.Ignore(errBroken)
	require.ErrorIs(t, err, errBroken)
	require.Equal(t, errBroken.Error(), err.Error(), "the text is the error's own")
	cb, _ := observed(t, small())
	for _, err := range []error{
		err,
		fmt.Errorf("wrapped: %w", err),
		errors.Join(errOther, err),
		resilience.Permanent(err),
		resilience.RetryAfter(err, time.Second),
		resilience.Ignore(unhashable{"x"}),
	} {
		_ = cb.Execute(t.Context(), func() error { return err })
	}
	require.Equal(t, events.Counts{Ignored: 6}, cb.GetStats().Totals)
	// The other markers are a retry's business, not a breaker's.
	_ = cb.Execute(t.Context(), func() error { return resilience.Permanent(errBroken) })
	_ = cb.Execute(t.Context(), func() error { return resilience.RetryAfter(errBroken, time.Second) })
	require.Equal(t, events.Counts{Ignored: 6, Failure: 2}, cb.GetStats().Totals)
}

// isError is an error with an opinion on what it is.
type isError struct{ target error }

func (isError) Error() string          { return "opinion" }
func (e isError) Is(target error) bool { return target == e.target }

func TestDefaultErrorClassifier(t *testing.T) {
	_, notFound := os.Open("no/such/file")
	require.Error(t, notFound)
	dial := &net.OpError{Op: "dial", Net: "unix", Err: &os.SyscallError{Syscall: "connect", Err: syscall.ENOENT}}
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{context.Canceled, false},
		{fmt.Errorf("get: %w", context.Canceled), false},
		{isError{context.Canceled}, false},
		{context.DeadlineExceeded, true},
		{fmt.Errorf("get: %w", context.DeadlineExceeded), true},
		{resilience.Ignore(errBroken), false},
		{fmt.Errorf("get: %w", resilience.Ignore(errBroken)), false},
		{resilience.ErrInvalidConfig, false},
		{&resilience.ConfigError{}, false},
		{fmt.Errorf("get: %w", (&resilience.CircuitBreakerConfig{ErrorThreshold: 2}).Validate()), false},
		{fs.ErrNotExist, false},
		{notFound, false},
		{syscall.ENOENT, false},
		{dial, true},
		{fmt.Errorf("get: %w", dial), true},
		{syscall.ECONNREFUSED, true},
		{&net.DNSError{IsNotFound: true}, true},
		{os.ErrPermission, true},
		{errBroken, true},
		{unhashable{"x"}, true},
		{boxed{[]int{1}}, true},
		{fmt.Errorf("get: %w", unhashable{"x"}), true},
		{errors.Join(errBroken, context.Canceled), false},
		{resilience.Permanent(errBroken), true},
		{&resilience.RejectedError{}, true},
		{resilience.ErrCircuitBreakerOpen, true},
	} {
		require.Equal(t, tt.want, resilience.DefaultErrorClassifier(tt.err), "%T %v", tt.err, tt.err)
	}
}
