package tally

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/internal/leaktest"
	"github.com/breakwater-go/breakwater/resilience"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var errDown = errors.New("down")

// shop returns a policy that reports to the tally as the services of the demo do.
func policy(t *Tally, name string) (resilience.Policy, *resilience.CircuitBreaker) {
	breaker := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		Name: name, VolumeThreshold: 4, Events: t.Sink(),
	})
	retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: name, Events: t.Sink()})
	return resilience.Chain(retrier, breaker), breaker
}

// failing returns work that fails n times and then succeeds.
func failing(n int, err error) func(context.Context) error {
	return func(context.Context) error {
		time.Sleep(10 * time.Millisecond)
		if n--; n >= 0 {
			return err
		}
		return nil
	}
}

func TestTally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tally Tally
		require.Empty(t, tally.Circuits())
		require.Empty(t, tally.Rescue().Tries)

		p, b := policy(&tally, "payment")
		defer b.Close()
		_, other := policy(&tally, "shipping")
		defer other.Close()
		start := time.Now()
		require.NoError(t, p.Run(t.Context(), failing(0, nil)))
		require.NoError(t, p.Run(t.Context(), failing(1, errDown)))
		require.Error(t, p.Run(t.Context(), failing(1, resilience.Ignore(errDown))))
		require.Error(t, p.Run(t.Context(), failing(3, errDown)))
		require.ErrorIs(t, p.Run(t.Context(), failing(0, nil)), resilience.ErrCircuitBreakerOpen)

		circuits := tally.Circuits()
		require.Len(t, circuits, 2)
		require.Equal(t, "shipping", circuits[1].Name)
		require.Zero(t, circuits[1].Calls)
		c := circuits[0]
		require.Equal(t, "payment", c.Name)
		require.Equal(t, 4, c.Thresholds.VolumeThreshold)
		// The fourth operation is cut short: its first failure opens the breaker.
		require.Equal(t, events.Counts{Success: 2, Failure: 2, Ignored: 1, Rejected: 2}, c.Calls)
		require.Equal(t, c.Calls, c.Snapshot().Totals)
		require.Equal(t, map[events.Reason]int{
			events.ReasonSuccess: 1, events.ReasonSuccessAfterRetry: 1,
			events.ReasonNotRetryable: 1, events.ReasonRejected: 2,
		}, c.Operations)
		require.Equal(t, map[events.Reason]time.Duration{
			events.ReasonSuccess: 10 * time.Millisecond, events.ReasonSuccessAfterRetry: 120 * time.Millisecond,
			events.ReasonNotRetryable: 10 * time.Millisecond, events.ReasonRejected: 110 * time.Millisecond,
		}, c.Took)
		require.Equal(t, 1, c.Again, "an attempt that is rejected is not run")
		require.Len(t, c.Changes, 1)
		require.Zero(t, c.Forgotten)
		require.Equal(t, events.StateOpen, c.Changes[0].To)

		require.Equal(t, Rescue{
			Name: "payment", At: start.Add(10 * time.Millisecond), Took: 120 * time.Millisecond,
			Tries: []Try{
				{Took: 10 * time.Millisecond, Err: errDown},
				{Delay: 100 * time.Millisecond, Took: 10 * time.Millisecond},
			},
		}, tally.Rescue())

		c.Operations[events.ReasonSuccess] = 100
		require.Equal(t, 1, tally.Circuits()[0].Operations[events.ReasonSuccess], "what is handed out is a copy")
	})
}

func TestOldChangesAreForgotten(t *testing.T) {
	var tally Tally
	for i := range MostChanges + 3 {
		tally.Sink().StateChanged(t.Context(), events.StateChanged{Header: events.Header{Name: "payment"}, Generation: uint64(i)})
	}
	c := tally.Circuits()[0]
	require.Len(t, c.Changes, MostChanges)
	require.Equal(t, 3, c.Forgotten)
	require.Equal(t, uint64(3), c.Changes[0].Generation)
	require.Equal(t, uint64(MostChanges+2), c.Changes[MostChanges-1].Generation)
}

func TestRescueIsTheFirstWithMostAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tally Tally
		retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "payment", Events: tally.Sink()})
		saved := func(failures int, err error) {
			require.NoError(t, retrier.Run(t.Context(), failing(failures, err)))
		}
		saved(0, nil)
		require.Empty(t, tally.Rescue().Tries, "it needed no retry")
		saved(1, errDown)
		require.Len(t, tally.Rescue().Tries, 2)
		at := time.Now()
		saved(2, resilience.RetryAfter(errDown, time.Second))
		saved(2, errDown)
		saved(1, errDown)
		require.Error(t, retrier.Run(t.Context(), failing(3, errDown)))
		r := tally.Rescue()
		require.Equal(t, at, r.At)
		require.Len(t, r.Tries, 3)
		require.False(t, r.Tries[0].Asked)
		require.True(t, r.Tries[1].Asked)
		require.Equal(t, time.Second, r.Tries[1].Delay)
		require.ErrorIs(t, r.Tries[1].Err, errDown)
		require.NoError(t, r.Tries[2].Err)
	})
}
