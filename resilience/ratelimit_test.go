package resilience_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

var errTooLong = errors.New("fake: the wait would be too long")

// fakeLimiter lets one call go each time that every passes, as a Limiter of
// golang.org/x/time/rate with a burst of 1 does.
type fakeLimiter struct {
	every time.Duration

	mu     sync.Mutex
	next   time.Time // when a call may go
	allows int       // how often Allow was asked
	waits  int       // how often Wait was
}

func (l *fakeLimiter) Allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.allows++
	if time.Now().Before(l.next) {
		return false
	}
	l.next = time.Now().Add(l.every)
	return true
}

func (l *fakeLimiter) Wait(ctx context.Context) error {
	l.mu.Lock()
	l.waits++
	at := l.next
	if now := time.Now(); at.Before(now) {
		at = now
	}
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(at) {
		l.mu.Unlock()
		return errTooLong
	}
	l.next = at.Add(l.every)
	l.mu.Unlock()
	select {
	case <-time.After(time.Until(at)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitOnly hides a limiter's Allow.
type waitOnly struct{ resilience.Waiter }

func rateLimit(t *testing.T, c resilience.RateLimitConfig) (*resilience.RateLimit, *eventstest.Recorder) {
	t.Helper()
	rec := eventstest.New(t)
	c.Name, c.Events = "search", rec.Sink()
	return resilience.NewRateLimit(&c), rec
}

func succeeds(context.Context) error { return nil }

func mustNotRun(t *testing.T) func(context.Context) error {
	return func(context.Context) error { t.Error("it ran"); return nil }
}

func TestRateLimitRejects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := &fakeLimiter{every: time.Second}
		l, rec := rateLimit(t, resilience.RateLimitConfig{Allow: limiter})
		require.Equal(t, "search", l.Name())
		require.Equal(t, errBroken, l.Run(t.Context(), func(context.Context) error { return errBroken }))
		err := l.Run(t.Context(), mustNotRun(t))
		require.ErrorIs(t, err, resilience.ErrRateLimited)
		require.EqualError(t, err, `resilience: rate limit "search" does not allow the call`)
		require.Equal(t, "rate_limited", events.ErrorType(err))
		time.Sleep(time.Second)
		require.NoError(t, l.Run(t.Context(), succeeds))
		require.Equal(t, []events.RateLimited{{Header: events.Header{Name: "search"}, Outcome: events.OutcomeRejected}}, eventstest.Of[events.RateLimited](rec))
		require.Equal(t, events.PolicyRateLimit, last[events.PolicyCreated](t, rec).Policy)
		require.Zero(t, limiter.waits)

		done, cancel := context.WithCancel(t.Context())
		cancel()
		require.Equal(t, context.Canceled, l.Run(done, mustNotRun(t)))
		require.Equal(t, 3, limiter.allows, "a call that is done already takes nothing from the limiter")
		require.PanicsWithValue(t, "resilience: Run of a nil function", func() { _ = l.Run(t.Context(), nil) })
	})
}

func TestRateLimitWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := &fakeLimiter{every: time.Second}
		l, rec := rateLimit(t, resilience.RateLimitConfig{Wait: limiter})
		began := time.Now()
		for range 3 {
			require.NoError(t, l.Run(t.Context(), succeeds))
		}
		require.Equal(t, 2*time.Second, time.Since(began))
		require.Equal(t, 2, limiter.waits, "who may go at once does not wait")
		waited := events.RateLimited{Header: events.Header{Name: "search"}, Duration: time.Second, Outcome: events.OutcomeSuccess}
		require.Equal(t, []events.RateLimited{waited, waited}, eventstest.Of[events.RateLimited](rec))

		// The caller's context ends first: by its deadline, which the limiter sees coming
		// (a rejection, since the context has not ended), or by surprise.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		err := l.Run(ctx, mustNotRun(t))
		require.ErrorIs(t, err, resilience.ErrRateLimited)
		require.Equal(t, errTooLong, err.(*resilience.RateLimitError).Err) //nolint:errorlint // as it is
		require.EqualError(t, err, `resilience: rate limit "search" does not allow the call: fake: the wait would be too long`)
		require.Equal(t, errTooLong, last[events.RateLimited](t, rec).Err)
		canceled, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second/2, cancel)
		require.Equal(t, context.Canceled, l.Run(canceled, mustNotRun(t)))
		require.Equal(t, events.OutcomeIgnored, last[events.RateLimited](t, rec).Outcome)
		require.Equal(t, time.Second/2, last[events.RateLimited](t, rec).Duration)
	})
}

// heedless is a limiter whose Wait lets a call go although its context has ended.
type heedless struct{ wait time.Duration }

func (l heedless) Wait(context.Context) error {
	time.Sleep(l.wait)
	return nil
}

// A call whose caller has gone by the time that it may go does not run.
func TestRateLimitRunsNothingForACallerWhoLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, rec := rateLimit(t, resilience.RateLimitConfig{Wait: heedless{time.Second}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		require.Equal(t, context.DeadlineExceeded, l.Run(ctx, mustNotRun(t)))
		require.Equal(t, events.OutcomeIgnored, last[events.RateLimited](t, rec).Outcome)
	})
}

func TestRateLimitWaitsNoLongerThanMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, rec := rateLimit(t, resilience.RateLimitConfig{Wait: &fakeLimiter{every: time.Second}, MaxWait: 1500 * time.Millisecond})
		var wg sync.WaitGroup
		results := make([]error, 4)
		for i := range results {
			wg.Go(func() { results[i] = l.Run(t.Context(), succeeds) })
			synctest.Wait()
		}
		wg.Wait()
		require.Equal(t, []error{nil, nil}, results[:2])
		require.ErrorIs(t, results[2], resilience.ErrRateLimited)
		require.ErrorIs(t, results[3], errTooLong)
		require.Len(t, eventstest.Of[events.RateLimited](rec), 3)
	})
}

// A limiter that does not look ahead waits until MaxWait has passed. That is no deadline of
// the caller's.
func TestRateLimitMaxWaitIsNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, rec := rateLimit(t, resilience.RateLimitConfig{Wait: blocked{}, MaxWait: time.Second})
		began := time.Now()
		err := l.Run(t.Context(), mustNotRun(t))
		require.Equal(t, time.Second, time.Since(began))
		require.ErrorIs(t, err, resilience.ErrRateLimited)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, events.OutcomeRejected, last[events.RateLimited](t, rec).Outcome)
		require.Equal(t, context.DeadlineExceeded, last[events.RateLimited](t, rec).Err)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		require.Equal(t, context.DeadlineExceeded, l.Run(ctx, mustNotRun(t)), "that is one")
	})
}

// blocked is a limiter that lets nothing go.
type blocked struct{}

func (blocked) Wait(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// Of a limiter that only waits it is not known who waited: short waits are not told of.
func TestRateLimitOfALimiterThatOnlyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := &fakeLimiter{every: time.Second}
		l, rec := rateLimit(t, resilience.RateLimitConfig{Wait: waitOnly{limiter}})
		require.NoError(t, l.Run(t.Context(), succeeds))
		require.Empty(t, eventstest.Of[events.RateLimited](rec))
		require.NoError(t, l.Run(t.Context(), succeeds))
		require.Len(t, eventstest.Of[events.RateLimited](rec), 1)
		require.Zero(t, limiter.allows)
	})
}

// What a rate limit turns away says nothing about the dependency, and is not retried.
func TestRateLimitInsideBreakerAndRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, rec := rateLimit(t, resilience.RateLimitConfig{Allow: &fakeLimiter{every: time.Hour}})
		cb := resilience.NewCircuitBreaker(small(rec.Sink()))
		retrier := resilience.NewRetrier(&resilience.RetryConfig{Events: rec.Sink()})
		stack := resilience.Chain(retrier, cb, l)
		require.NoError(t, stack.Run(t.Context(), succeeds))
		for range 10 {
			err := stack.Run(t.Context(), mustNotRun(t))
			require.IsType(t, (*resilience.RateLimitError)(nil), err)
		}
		require.Equal(t, events.Counts{Success: 1, Ignored: 10}, cb.GetStats().Totals)
		require.Equal(t, events.OutcomeRejected, last[events.AttemptFinished](t, rec).Outcome)
		require.Equal(t, events.ReasonRejected, last[events.RetryFinished](t, rec).Reason)
	})
}

func TestRateLimitConfig(t *testing.T) {
	limiter := &fakeLimiter{}
	var none *fakeLimiter
	for want, c := range map[string]*resilience.RateLimitConfig{
		"resilience: RateLimitConfig.Allow is <nil>, want a limiter, or Wait to be one":                {Wait: none},
		"resilience: RateLimitConfig.Wait is *resilience_test.fakeLimiter, want nil when Allow is set": {Allow: limiter, Wait: limiter},
		"resilience: RateLimitConfig.MaxWait is 1s, want 0 without Wait":                               {Allow: limiter, MaxWait: time.Second},
		"resilience: RateLimitConfig.MaxWait is -1s, want a positive duration, or 0 to turn it off":    {Wait: limiter, MaxWait: -time.Second},
	} {
		require.EqualError(t, configError(t, func() { resilience.NewRateLimit(c) }), want)
	}
	_ = configError(t, func() { resilience.NewRateLimit(nil) })
	require.Equal(t, "default", resilience.NewRateLimit(&resilience.RateLimitConfig{Allow: limiter, Wait: none}).Name())
}

func TestRateLimitOfAHundredGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := rateLimit(t, resilience.RateLimitConfig{Wait: &fakeLimiter{every: time.Millisecond}})
		began := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { require.NoError(t, l.Run(t.Context(), succeeds)) })
		}
		wg.Wait()
		require.Equal(t, 99*time.Millisecond, time.Since(began))
	})
}
