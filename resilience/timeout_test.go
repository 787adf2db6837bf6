package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

// patient is work that heeds its context and would take d.
func patient(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// timeout returns a Timeout of a second with a Recorder.
func timeout(t *testing.T) (*resilience.Timeout, *eventstest.Recorder) {
	t.Helper()
	rec := eventstest.New(t)
	return resilience.NewTimeout(&resilience.TimeoutConfig{Name: "search", Limit: time.Second, Events: rec.Sink()}), rec
}

// requireTimeout checks that err is of timeout "search" and returns it.
func requireTimeout(t *testing.T, err error) *resilience.TimeoutError {
	t.Helper()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	timedOut, ok := errors.AsType[*resilience.TimeoutError](err)
	require.True(t, ok, "%T: %v", err, err)
	require.Equal(t, "search", timedOut.Name)
	require.Equal(t, time.Second, timedOut.Limit)
	return timedOut
}

func TestTimeoutIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, rec := timeout(t)
		began := time.Now()
		err := to.Run(t.Context(), patient(time.Minute))
		require.Equal(t, time.Second, time.Since(began))
		require.Equal(t, context.DeadlineExceeded, requireTimeout(t, err).Err)
		require.EqualError(t, err, `resilience: timeout "search" of 1s passed`)
		require.Equal(t, "timeout", events.ErrorType(err))
		require.True(t, os.IsTimeout(err))
		var netErr interface{ Timeout() bool }
		require.ErrorAs(t, err, &netErr)
		require.Equal(t, []events.TimedOut{{
			Header: events.Header{Name: "search"}, Limit: time.Second, Duration: time.Second, Err: context.DeadlineExceeded,
		}}, eventstest.Of[events.TimedOut](rec))
		require.Equal(t, []events.Kind{events.KindPolicyCreated, events.KindTimedOut}, rec.Kinds())
		require.Equal(t, events.PolicyTimeout, last[events.PolicyCreated](t, rec).Policy)
	})
}

func TestTimeoutLeavesTheRestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, rec := timeout(t)
		require.Equal(t, "search", to.Name())
		require.NoError(t, to.Run(t.Context(), patient(time.Second-1)))
		require.Equal(t, errBroken, to.Run(t.Context(), func(context.Context) error { return errBroken }))

		// A success is one, however late.
		require.NoError(t, to.Run(t.Context(), func(context.Context) error { time.Sleep(time.Minute); return nil }))

		// The caller's own deadline, and the caller's cancellation.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		require.Equal(t, context.DeadlineExceeded, to.Run(ctx, patient(time.Minute)))
		ctx, cancel = context.WithTimeout(t.Context(), time.Second) // the same moment is the caller's
		defer cancel()
		require.Equal(t, context.DeadlineExceeded, to.Run(ctx, patient(time.Minute)))
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second/2, cancel)
		require.Equal(t, context.Canceled, to.Run(ctx, patient(time.Minute)))
		require.Equal(t, context.Canceled, to.Run(ctx, func(context.Context) error { t.Error("run"); return nil }), "done already")

		// One that is cancelled while the work, which does not look, is on its way.
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second/2, cancel)
		require.Equal(t, errBroken, to.Run(ctx, func(context.Context) error { time.Sleep(time.Minute); return errBroken }))
		require.Equal(t, []events.Kind{events.KindPolicyCreated}, rec.Kinds())
	})
}

func TestTimeoutKeepsTheWorksError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, rec := timeout(t)
		err := to.Run(t.Context(), func(context.Context) error { time.Sleep(3 * time.Second); return errBroken })
		require.ErrorIs(t, err, errBroken)
		require.Equal(t, errBroken, requireTimeout(t, err).Err)
		require.EqualError(t, err, `resilience: timeout "search" of 1s passed: dependency is broken`)
		require.Equal(t, 3*time.Second, last[events.TimedOut](t, rec).Duration, "all of it, since it did not look")

		// A connection looks at the deadline itself and may be faster than the timer.
		err = to.Run(t.Context(), func(ctx context.Context) error {
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			for ctx.Err() == nil && time.Now().Before(deadline) {
				time.Sleep(time.Until(deadline))
			}
			return &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
		})
		require.ErrorIs(t, requireTimeout(t, err), os.ErrDeadlineExceeded)

		// Work that says that it was cancelled is not taken at its word: nobody did.
		err = to.Run(t.Context(), func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("rpc: %w", context.Canceled)
		})
		_ = requireTimeout(t, err)
		require.NotErrorIs(t, err, context.Canceled)
		require.True(t, resilience.DefaultErrorClassifier(err))
		require.EqualError(t, err, `resilience: timeout "search" of 1s passed`)
	})
}

// The cause of the context tells the work whose limit has passed.
func TestTimeoutIsTheCauseOfItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, _ := timeout(t)
		outer := resilience.NewTimeout(&resilience.TimeoutConfig{Name: "all", Limit: 2 * time.Second})
		var causes []string
		look := func(ctx context.Context) error {
			<-ctx.Done()
			cause, ok := errors.AsType[*resilience.TimeoutError](context.Cause(ctx))
			require.True(t, ok)
			causes = append(causes, cause.Name)
			return ctx.Err()
		}
		_ = requireTimeout(t, to.Run(t.Context(), look))
		require.Equal(t, []string{"search"}, causes)

		// The outer one passes within the second inner one, and says so; within itself
		// a timeout is passed once.
		err := outer.Run(t.Context(), func(ctx context.Context) error {
			_ = requireTimeout(t, to.Run(ctx, look))
			time.Sleep(time.Second / 2)
			err := to.Run(ctx, look)
			require.Equal(t, context.DeadlineExceeded, err)
			return err
		})
		passed, ok := errors.AsType[*resilience.TimeoutError](err)
		require.True(t, ok)
		require.Equal(t, "all", passed.Name)
		require.Equal(t, []string{"search", "search", "all"}, causes)
		again, rec := timeout(t)
		_ = requireTimeout(t, again.Run(t.Context(), func(ctx context.Context) error { return again.Run(ctx, look) }))
		require.Len(t, eventstest.Of[events.TimedOut](rec), 1)
	})
}

// Inside a retry it is a reason to try again; a breaker counts it as a failure.
func TestTimeoutInRetryAndBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, rec := timeout(t)
		breaker := resilience.NewCircuitBreaker(small(rec.Sink()))
		retrier := resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: time.Second, Events: rec.Sink()})
		err := resilience.Chain(retrier, breaker, to).Run(t.Context(), patient(time.Minute))
		require.ErrorIs(t, err, resilience.ErrRetriesExhausted)
		_ = requireTimeout(t, err)
		require.Equal(t, events.Counts{Failure: 3}, breaker.GetStats().Totals)
		require.Len(t, eventstest.Of[events.TimedOut](rec), 3)

		// Around the retry it ends the operation, in an attempt or in a wait.
		err = resilience.Chain(to, retrier).Run(t.Context(), patient(time.Minute))
		_ = requireTimeout(t, err)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		e, ok := errors.AsType[*resilience.RetryError](err)
		require.False(t, ok, "one attempt that the context ended comes back as it is: %v", e)
	})
}

func TestTimeoutLetsPanicsAndGoexitThrough(t *testing.T) {
	to, rec := timeout(t)
	var inside context.Context
	require.Equal(t, "boom", panics(t, func() {
		_ = to.Run(t.Context(), func(ctx context.Context) error { inside = ctx; panic("boom") })
	}))
	require.ErrorIs(t, inside.Err(), context.Canceled, "the context is released")
	goexits(t, func() { _ = to.Run(t.Context(), func(ctx context.Context) error { inside = ctx; return exit() }) })
	require.ErrorIs(t, inside.Err(), context.Canceled)
	require.Equal(t, []events.Kind{events.KindPolicyCreated}, rec.Kinds())
	require.PanicsWithValue(t, "resilience: Run of a nil function", func() { _ = to.Run(t.Context(), nil) })
}

func TestTimeoutConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, (*resilience.TimeoutConfig)(nil).Validate())
		began := time.Now()
		err := resilience.NewTimeout(nil).Run(t.Context(), patient(time.Hour))
		require.Equal(t, 10*time.Second, time.Since(began))
		require.EqualError(t, err, `resilience: timeout "default" of 10s passed`)
		for limit, want := range map[time.Duration]string{
			-time.Second:          "resilience: TimeoutConfig.Limit is -1s, want a positive duration, or 0 for the default",
			1_000_000 * time.Hour: "resilience: TimeoutConfig.Limit is 1000000h0m0s, want at most 876000h (100 years)",
		} {
			require.EqualError(t, configError(t, func() { resilience.NewTimeout(&resilience.TimeoutConfig{Limit: limit}) }), want)
		}
		c := &resilience.TimeoutConfig{Limit: time.Second}
		to := resilience.NewTimeout(c)
		c.Limit = time.Hour
		began = time.Now()
		require.Error(t, to.Run(t.Context(), patient(time.Minute)))
		require.Equal(t, time.Second, time.Since(began), "it keeps a copy")
	})
}
