package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// holding is an error that holds something.
type holding struct {
	began     time.Time
	discarded []time.Duration // since began
}

func (*holding) Error() string { return "holding" }
func (h *holding) Discard()    { h.discarded = append(h.discarded, time.Since(h.began)) }

// What an error holds is discarded once, before the wait, if another attempt follows;
// of the last attempt it is kept.
func TestErrorsAreDiscardedBeforeTheWait(t *testing.T) {
	for name, sink := range map[string]events.Sink{
		"nobody listening": {},
		"observed": {RetryScheduled: func(_ context.Context, e events.RetryScheduled) {
			h, ok := errors.AsType[*holding](e.Err)
			require.True(t, ok)
			require.Len(t, h.discarded, 1, "before the sink, which may panic")
		}},
	} {
		for wrapping, wrap := range map[string]func(error) error{
			"plain":   func(err error) error { return err },
			"wrapped": func(err error) error { return resilience.RetryAfter(fmt.Errorf("x: %w", err), time.Minute) },
		} {
			synctest.Test(t, func(t *testing.T) {
				config := &resilience.RetryConfig{InitialDelay: time.Minute, MaxDelay: time.Minute, Events: sink}
				var made []*holding
				err := resilience.Retry(t.Context(), config, func() error {
					made = append(made, &holding{began: time.Now()})
					return wrap(made[len(made)-1])
				})
				require.ErrorIs(t, err, resilience.ErrRetriesExhausted)
				require.Len(t, made, 3)
				require.Equal(t, []time.Duration{0}, made[0].discarded, "%s, %s", name, wrapping)
				require.Equal(t, []time.Duration{0}, made[1].discarded, "%s, %s", name, wrapping)
				require.Empty(t, made[2].discarded, "%s, %s", name, wrapping)
			})
		}
	}
}

// An attempt after which the retry ends keeps what it holds, whatever the reason.
func TestWhatTheLastAttemptHoldsIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		config resilience.RetryConfig
		mark   func(error) error
	}{
		"permanent":            {mark: resilience.Permanent},
		"ignored":              {mark: resilience.Ignore},
		"refused":              {config: resilience.RetryConfig{RetryIf: func(error) bool { return false }}},
		"retry after too long": {mark: func(err error) error { return resilience.RetryAfter(err, time.Hour) }},
		"deadline":             {config: resilience.RetryConfig{InitialDelay: time.Hour, MaxDelay: time.Hour}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		h := new(holding)
		err := resilience.Retry(ctx, &c.config, func() error {
			if c.mark != nil {
				return c.mark(h)
			}
			return h
		})
		cancel()
		require.ErrorIs(t, err, h, name)
		require.Empty(t, h.discarded, name)
	}
}

func TestRetryErrorTellsTimeouts(t *testing.T) {
	attempt := func(err error, reason events.Reason) *resilience.RetryError {
		return &resilience.RetryError{Attempts: 1, Reason: reason, Errs: []error{err}}
	}
	require.False(t, attempt(errors.New("x"), events.ReasonExhausted).Timeout())
	require.False(t, attempt(&os.SyscallError{Err: errors.New("x")}, events.ReasonExhausted).Timeout())
	require.False(t, (&resilience.RetryError{}).Timeout())
	require.True(t, attempt(fmt.Errorf("x: %w", os.ErrDeadlineExceeded), events.ReasonExhausted).Timeout())
	require.True(t, attempt(context.DeadlineExceeded, events.ReasonExhausted).Timeout())
	require.True(t, attempt(errors.New("x"), events.ReasonDeadline).Timeout())
	require.True(t, os.IsTimeout(attempt(os.ErrDeadlineExceeded, events.ReasonExhausted)))
}
