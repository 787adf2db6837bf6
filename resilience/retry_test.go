package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

var errRefused = errors.New("connection refused")

// flaky is work that ends with one error of errs after the other and then with nil,
// and notes when it was run.
type flaky struct {
	errs  []error
	began time.Time
	at    []time.Duration // since began
}

func newFlaky(errs ...error) *flaky { return &flaky{errs: errs, began: time.Now()} }

// alwaysFails is work that does not succeed in a test's lifetime.
func alwaysFails() *flaky { return newFlaky(slices.Repeat([]error{errRefused}, 1000)...) }

func (f *flaky) run() error {
	f.at = append(f.at, time.Since(f.began))
	if n := len(f.at); n <= len(f.errs) {
		return f.errs[n-1]
	}
	return nil
}

func (f *flaky) runContext(context.Context) error { return f.run() }

// retried runs newFlaky(errs...) in a bubble and returns when its attempts were
// made and what came of it.
func retried(t *testing.T, config *resilience.RetryConfig, errs ...error) (at []time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFlaky(errs...)
		err = resilience.Retry(t.Context(), config, f.run)
		at = f.at
	})
	return at, err
}

// requireRetryError asserts that err is a *RetryError itself, for the given reason
// after so many attempts.
func requireRetryError(t *testing.T, err error, reason events.Reason, attempts int) {
	t.Helper()
	_ = asRetryError(t, err, reason, attempts)
}

// asRetryError is requireRetryError for who wants to know more.
func asRetryError(t *testing.T, err error, reason events.Reason, attempts int) *resilience.RetryError {
	t.Helper()
	e, ok := err.(*resilience.RetryError) //nolint:errorlint // that it is not wrapped is part of what is tested
	require.True(t, ok, "%#v is not a *RetryError", err)
	require.Equal(t, reason, e.Reason)
	require.Equal(t, attempts, e.Attempts)
	require.Len(t, e.Errs, attempts)
	return e
}

const ms = time.Millisecond

// Rule 1: defaults.

func TestRule1DefaultRetryConfig(t *testing.T) {
	c := resilience.DefaultRetryConfig()
	require.Equal(t, 3, c.MaxAttempts)
	require.Equal(t, 100*ms, c.InitialDelay)
	require.Equal(t, 5*time.Second, c.MaxDelay)
	require.InDelta(t, 2.0, c.BackoffFactor, 0)
	require.True(t, c.JitterEnabled)
	require.Empty(t, c.Name, "else RetryWithCircuitBreaker could not give it the breaker's")
	require.Nil(t, c.RetryIf)
	require.NoError(t, c.Validate())

	c.MaxAttempts = 99
	require.Equal(t, 3, resilience.DefaultRetryConfig().MaxAttempts, "each call gives a new one")
}

func TestRule1ZeroFieldsMeanDefaults(t *testing.T) {
	refused := slices.Repeat([]error{errRefused}, 20)
	for _, tt := range []struct {
		name   string
		config *resilience.RetryConfig
		waits  []time.Duration
	}{
		{"zero value", &resilience.RetryConfig{}, []time.Duration{100 * ms, 200 * ms}},
		{"attempts only", &resilience.RetryConfig{MaxAttempts: 10}, []time.Duration{
			100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms, 5000 * ms,
		}},
		{"attempts and cap", &resilience.RetryConfig{MaxAttempts: 10, MaxDelay: time.Hour}, []time.Duration{
			100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 12800 * ms, 25600 * ms,
		}},
		{"initial delay only", &resilience.RetryConfig{InitialDelay: time.Second}, []time.Duration{1000 * ms, 2000 * ms}},
		{"factor only", &resilience.RetryConfig{BackoffFactor: 3}, []time.Duration{100 * ms, 300 * ms}},
		{"negative zero factor", &resilience.RetryConfig{BackoffFactor: math.Copysign(0, -1)}, []time.Duration{100 * ms, 200 * ms}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := *tt.config
			at, err := retried(t, tt.config, refused...)
			require.Equal(t, tt.waits, waitsBetween(at))
			requireRetryError(t, err, events.ReasonExhausted, len(tt.waits)+1)
			require.Equal(t, before.MaxAttempts, tt.config.MaxAttempts, "a configuration is only read")
			require.Equal(t, before.MaxRetryAfter, tt.config.MaxRetryAfter)
		})
	}
}

func waitsBetween(at []time.Duration) []time.Duration {
	waits := []time.Duration{}
	for i := 1; i < len(at); i++ {
		waits = append(waits, at[i]-at[i-1])
	}
	return waits
}

func TestRule1NilConfigIsTheDefaultWithJitter(t *testing.T) {
	distinct := map[time.Duration]bool{}
	for range 50 {
		at, err := retried(t, nil, errRefused, errRefused, errRefused, errRefused)
		requireRetryError(t, err, events.ReasonExhausted, 3)
		w := waitsBetween(at)
		require.LessOrEqual(t, w[0], 100*ms)
		require.LessOrEqual(t, w[1], 200*ms)
		distinct[w[0]] = true
	}
	require.Greater(t, len(distinct), 10, "nobody drew the waits")
	require.NotPanics(t, func() { resilience.NewRetrier(nil) })
}

func TestRule1WhatFollowsAnotherFieldFollowsIt(t *testing.T) {
	// As the seed configures: take the defaults, then set what differs.
	retry := resilience.DefaultRetryConfig()
	retry.MaxDelay = time.Minute
	at, err := retried(t, retry, resilience.RetryAfter(errRefused, 30*time.Second))
	require.NoError(t, err, "MaxRetryAfter follows MaxDelay")
	require.Equal(t, []time.Duration{0, 30 * time.Second}, at)

	var got events.Thresholds
	config := resilience.DefaultConfig()
	config.SleepWindow = 5 * time.Second
	config.Events.BreakerCreated = func(_ context.Context, e events.BreakerCreated) { got = e.Thresholds }
	resilience.NewCircuitBreaker(config)
	require.Equal(t, 5*time.Second, got.ProbeTimeout, "ProbeTimeout follows SleepWindow")
}

// Rule 11: waits.

func TestRule11WaitsGrowByTheFactorUpToTheCap(t *testing.T) {
	for _, tt := range []struct {
		name         string
		initial, cap time.Duration
		factor       float64
		want         []time.Duration
	}{
		{"doubling", 10 * ms, time.Second, 2, []time.Duration{10 * ms, 20 * ms, 40 * ms, 80 * ms}},
		{"capped between two powers", 10 * ms, 50 * ms, 2, []time.Duration{10 * ms, 20 * ms, 40 * ms, 50 * ms, 50 * ms}},
		{"capped at a power", 10 * ms, 40 * ms, 2, []time.Duration{10 * ms, 20 * ms, 40 * ms, 40 * ms}},
		{"constant", 7 * ms, time.Second, 1, []time.Duration{7 * ms, 7 * ms, 7 * ms}},
		{"a fraction", 16 * ms, time.Second, 1.5, []time.Duration{16 * ms, 24 * ms, 36 * ms, 54 * ms}},
		{"first wait above the cap", 10 * time.Second, 3 * time.Second, 2, []time.Duration{3 * time.Second, 3 * time.Second}},
		{"first wait at the cap", 3 * time.Second, 3 * time.Second, 2, []time.Duration{3 * time.Second, 3 * time.Second}},
		{"the largest factor", ms, time.Minute, math.MaxFloat64, []time.Duration{ms, time.Minute, time.Minute}},
		{"a microsecond is waited", time.Microsecond, time.Second, 1, []time.Duration{time.Microsecond, time.Microsecond}},
		{"less is not", time.Microsecond - 1, time.Second, 1, []time.Duration{0, 0}},
		{"until it is more", 500, time.Second, 2, []time.Duration{0, 1000, 2000, 4000}},
		{"soon by a large factor", 1, time.Second, 1000, []time.Duration{0, 1000, ms, time.Second}},
		{"late by a small one", 9, time.Second, 10, []time.Duration{0, 0, 0, 9000, 90_000}},
		{"one step earlier", 10, time.Second, 10, []time.Duration{0, 0, 1000, 10_000}},
		{"never below the cap", time.Second, time.Microsecond - 1, 2, []time.Duration{0, 0, 0, 0, 0}},
		{"a cap that is waited", time.Second, time.Microsecond, 2, []time.Duration{1000, 1000}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := &resilience.RetryConfig{
				MaxAttempts: len(tt.want) + 1, InitialDelay: tt.initial, MaxDelay: tt.cap, BackoffFactor: tt.factor,
			}
			at, err := retried(t, config, slices.Repeat([]error{errRefused}, len(tt.want)+1)...)
			require.Equal(t, tt.want, waitsBetween(at))
			requireRetryError(t, err, events.ReasonExhausted, len(tt.want)+1)
		})
	}
}

func TestRule11JitterSpreadsOverTheWholeWaitAndNoFurther(t *testing.T) {
	const most = 800 * ms
	var delays []time.Duration
	config := &resilience.RetryConfig{
		MaxAttempts: 4001, InitialDelay: 10 * time.Second, MaxDelay: most, JitterEnabled: true,
		Events: events.Sink{RetryScheduled: func(_ context.Context, e events.RetryScheduled) {
			delays = append(delays, e.Delay)
		}},
	}
	at, _ := retried(t, config, slices.Repeat([]error{errRefused}, 5000)...)
	require.Equal(t, delays, waitsAsWaited(at, delays), "what was announced is what was waited")
	var perQuarter [4]int
	for _, d := range delays {
		require.GreaterOrEqual(t, d, time.Duration(0))
		require.LessOrEqual(t, d, most)
		perQuarter[min(3, 4*d/most)]++
	}
	for q, n := range perQuarter {
		// 1000 each is expected; 200 off is seven standard deviations.
		require.InDelta(t, 1000, n, 200, "quarter %d of the wait", q)
	}
}

// waitsAsWaited is waitsBetween, but for the waits too short for a timer, which are
// taken from announced.
func waitsAsWaited(at, announced []time.Duration) []time.Duration {
	waits := waitsBetween(at)
	for i, d := range announced {
		if d < time.Microsecond && waits[i] == 0 {
			waits[i] = d
		}
	}
	return waits
}

func TestRule11JitterDiffersFromCallToCall(t *testing.T) {
	config := &resilience.RetryConfig{InitialDelay: time.Hour, MaxDelay: time.Hour, JitterEnabled: true}
	first, _ := retried(t, config, errRefused)
	second, _ := retried(t, config, errRefused)
	require.NotEqual(t, first, second)
}

// backpressure is an error of somebody else's that says how long to wait.
type backpressure struct{ after time.Duration }

func (e backpressure) Error() string             { return "slow down" }
func (e backpressure) RetryAfter() time.Duration { return e.after }

func TestRule11RetryAfterWinsOverTheBackoff(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want time.Duration // 0: the backoff
	}{
		{"marker", resilience.RetryAfter(errRefused, 3*time.Second), 3 * time.Second},
		{"shorter than the backoff", resilience.RetryAfter(errRefused, 20*ms), 20 * ms},
		{"wrapped marker", fmt.Errorf("get: %w", resilience.RetryAfter(errRefused, 3*time.Second)), 3 * time.Second},
		{"joined marker", errors.Join(errRefused, resilience.RetryAfter(errRefused, 3*time.Second)), 3 * time.Second},
		{"own method", backpressure{2 * time.Second}, 2 * time.Second},
		{"wrapped own method", fmt.Errorf("get: %w", backpressure{2 * time.Second}), 2 * time.Second},
		{"the outer of two", resilience.RetryAfter(backpressure{2 * time.Second}, time.Second), time.Second},
		{"exactly the most", resilience.RetryAfter(errRefused, 5*time.Second), 5 * time.Second},
		{"zero", resilience.RetryAfter(errRefused, 0), 0},
		{"negative", resilience.RetryAfter(errRefused, -time.Second), 0},
		{"the smallest", backpressure{math.MinInt64}, 0},
		{"with Ignore", resilience.RetryAfter(resilience.Ignore(errRefused), 2*time.Second), 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var scheduled events.RetryScheduled
			config := &resilience.RetryConfig{
				JitterEnabled: tt.want > 0, // which must not touch what a server asked for
				RetryIf:       func(error) bool { return true },
				Events: events.Sink{RetryScheduled: func(_ context.Context, e events.RetryScheduled) {
					scheduled = e
				}},
			}
			at, err := retried(t, config, tt.err)
			require.NoError(t, err)
			want := tt.want
			if want == 0 {
				want = 100 * ms
			}
			require.Equal(t, []time.Duration{0, want}, at)
			require.Equal(t, want, scheduled.Delay)
			require.Equal(t, tt.want > 0, scheduled.RetryAfter)
			require.Equal(t, tt.err, scheduled.Err)
		})
	}
}

func TestRule11RetryAfterDoesNotDisturbTheBackoffOfLaterAttempts(t *testing.T) {
	at, err := retried(t, &resilience.RetryConfig{MaxAttempts: 4},
		errRefused, resilience.RetryAfter(errRefused, time.Second), errRefused)
	require.NoError(t, err)
	require.Equal(t, []time.Duration{100 * ms, time.Second, 400 * ms}, waitsBetween(at))
}

func TestRule11RetryAfterTooLongEndsTheRetry(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config resilience.RetryConfig
		after  time.Duration
		waited bool
	}{
		{"default: MaxDelay's default", resilience.RetryConfig{}, 5 * time.Second, true},
		{"above MaxDelay's default", resilience.RetryConfig{}, 5*time.Second + 1, false},
		{"default: MaxDelay", resilience.RetryConfig{MaxDelay: time.Second}, time.Second, true},
		{"above MaxDelay", resilience.RetryConfig{MaxDelay: time.Second}, time.Second + 1, false},
		{"MaxRetryAfter above MaxDelay", resilience.RetryConfig{MaxRetryAfter: time.Minute}, time.Minute, true},
		{"above MaxRetryAfter", resilience.RetryConfig{MaxRetryAfter: time.Minute}, time.Minute + 1, false},
		{"MaxRetryAfter below MaxDelay", resilience.RetryConfig{MaxRetryAfter: time.Second}, time.Second + 1, false},
		{"the longest", resilience.RetryConfig{}, math.MaxInt64, false},
	} {
		for _, how := range []string{"Retry", "Retrier"} {
			t.Run(tt.name+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					asks := resilience.RetryAfter(errRefused, tt.after)
					f := newFlaky(asks)
					var err error
					if how == "Retry" {
						err = resilience.Retry(t.Context(), &tt.config, f.run)
					} else {
						err = resilience.NewRetrier(&tt.config).Run(t.Context(), f.runContext)
					}
					if tt.waited {
						require.NoError(t, err)
						require.Equal(t, []time.Duration{0, tt.after}, f.at)
						return
					}
					e := asRetryError(t, err, events.ReasonRetryAfterTooLong, 1)
					require.Equal(t, []error{asks}, e.Errs)
					require.Nil(t, e.Cause)
					require.ErrorIs(t, err, errRefused)
					require.NotErrorIs(t, err, resilience.ErrRetriesExhausted)
					require.Zero(t, time.Since(f.began), "it did not wait to say so")
				})
			})
		}
	}
}

func TestRule11TheLastAttemptIsExhaustedWhateverItAsks(t *testing.T) {
	_, err := retried(t, &resilience.RetryConfig{MaxAttempts: 1}, resilience.RetryAfter(errRefused, time.Hour))
	requireRetryError(t, err, events.ReasonExhausted, 1)
}

func TestRule11AWaitThatDoesNotFitBeforeTheDeadlineEndsTheRetryAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name     string
		deadline time.Duration
		errs     []error
		attempts int
		ended    time.Duration // when
	}{
		{"fourth wait", time.Second, []error{errRefused, errRefused, errRefused, errRefused}, 4, 700 * ms},
		{"first wait", 99 * ms, []error{errRefused}, 1, 0},
		{"to the very deadline", 100 * ms, []error{errRefused}, 1, 0},
		{"asked for by the server", time.Second, []error{resilience.RetryAfter(errRefused, 2*time.Second)}, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
				defer cancel()
				f := newFlaky(tt.errs...)
				err := resilience.Retry(ctx, &resilience.RetryConfig{MaxAttempts: 10}, f.run)
				e := asRetryError(t, err, events.ReasonDeadline, tt.attempts)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.ErrorIs(t, err, errRefused)
				require.Equal(t, context.DeadlineExceeded, e.Cause)
				require.Equal(t, tt.ended, time.Since(f.began))
				require.NoError(t, ctx.Err(), "it ended before the deadline")
			})
		})
	}
}

func TestRule11AWaitThatFitsBeforeTheDeadlineIsWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*ms+1)
		defer cancel()
		f := newFlaky(errRefused)
		require.NoError(t, resilience.Retry(ctx, &resilience.RetryConfig{}, f.run))
		require.Equal(t, []time.Duration{0, 100 * ms}, f.at)
	})
}

func TestRule11TheLongestDelays(t *testing.T) {
	config := &resilience.RetryConfig{
		MaxAttempts: math.MaxInt, InitialDelay: math.MaxInt64, MaxDelay: math.MaxInt64,
		BackoffFactor: math.MaxFloat64, MaxRetryAfter: math.MaxInt64,
	}
	t.Run("wait until cancelled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const year = 365 * 24 * time.Hour
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			time.AfterFunc(10*year, cancel)
			f := alwaysFails()
			err := resilience.Retry(ctx, config, f.run)
			requireRetryError(t, err, events.ReasonCanceled, 1)
			require.Equal(t, 10*year, time.Since(f.began))
		})
	})
	t.Run("do not fit before any deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*365*24*time.Hour)
			defer cancel()
			f := newFlaky(resilience.RetryAfter(errRefused, math.MaxInt64))
			err := resilience.Retry(ctx, config, f.run)
			requireRetryError(t, err, events.ReasonDeadline, 1)
			require.Zero(t, time.Since(f.began))
		})
	})
	t.Run("with jitter", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := *config
			c.JitterEnabled = true
			var delay time.Duration
			ctx, cancel := context.WithCancel(t.Context())
			c.Events.RetryScheduled = func(_ context.Context, e events.RetryScheduled) {
				delay = e.Delay
				cancel()
			}
			requireRetryError(t, resilience.Retry(ctx, &c, alwaysFails().run), events.ReasonCanceled, 1)
			require.Positive(t, delay)
		})
	})
}

func TestRule11ManyAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlaky(slices.Repeat([]error{errRefused}, 2500)...)
		config := &resilience.RetryConfig{MaxAttempts: math.MaxInt, MaxDelay: time.Second}
		require.NoError(t, resilience.Retry(t.Context(), config, f.run))
		require.Len(t, f.at, 2501)
		waits := waitsBetween(f.at)
		require.Equal(t, time.Second, slices.Min(waits[5:]), "no wait overflows to less than the cap")
		require.Equal(t, time.Second, slices.Max(waits))
	})
}

// Rule 11 and 12: the caller's context.

func TestRule11CancelledDuringTheWait(t *testing.T) {
	shutdown := errors.New("shutting down")
	for _, tt := range []struct {
		name string
		with func(context.Context) (context.Context, func())
		is   error
	}{
		{"without a cause", func(ctx context.Context) (context.Context, func()) {
			return context.WithCancel(ctx)
		}, context.Canceled},
		{"with a cause", func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(ctx)
			return ctx, func() { cancel(shutdown) }
		}, shutdown},
		{"with a cause that cannot be compared", func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(ctx)
			return ctx, func() { cancel(errorList{shutdown}) }
		}, shutdown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := tt.with(t.Context())
				defer cancel()
				time.AfterFunc(250*ms, cancel) // 150 ms into the second wait
				f := alwaysFails()
				err := resilience.Retry(ctx, &resilience.RetryConfig{}, f.run)
				e := asRetryError(t, err, events.ReasonCanceled, 2)
				require.ErrorIs(t, err, context.Canceled, "whatever the cause")
				require.ErrorIs(t, err, tt.is)
				require.ErrorIs(t, err, errRefused)
				require.ErrorIs(t, e.Cause, tt.is)
				require.NotErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, 250*ms, time.Since(f.began), "it did not wait on")
				require.Equal(t, 250*ms, e.Elapsed)
			})
		})
	}
}

func TestRule11ADeadlineWithACauseIsStillADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := errors.New("too slow")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, slow)
		defer cancel()
		err := resilience.Retry(ctx, nil, func() error { time.Sleep(2 * time.Second); return errRefused })
		requireRetryError(t, err, events.ReasonDeadline, 1)
		for _, is := range []error{slow, context.DeadlineExceeded, errRefused} {
			require.ErrorIs(t, err, is)
		}
		require.NotErrorIs(t, err, context.Canceled)
	})
}

// lateDone is a context that ends, as it happens, at the moment at which the wait
// ends: when the retry looks, both are ready.
type lateDone struct {
	context.Context
	wait time.Duration
	done chan struct{}
	over bool
}

func (c *lateDone) Done() <-chan struct{} {
	if !c.over {
		c.over = true
		time.Sleep(c.wait)
		close(c.done)
	}
	return c.done
}

func (c *lateDone) Err() error {
	if c.over {
		return context.Canceled
	}
	return nil
}

func TestRule12NoAttemptBeginsInAContextThatIsDone(t *testing.T) {
	for range 32 { // one in two times the end of the wait would be seen first
		for _, delay := range []time.Duration{1, 100 * ms} { // waited and not
			synctest.Test(t, func(t *testing.T) {
				ctx := &lateDone{Context: t.Context(), wait: delay, done: make(chan struct{})}
				n := 0
				err := resilience.Retry(ctx, &resilience.RetryConfig{InitialDelay: delay}, func() error {
					require.False(t, ctx.over, "the work is run though its context is done")
					if n++; n == 2 {
						<-ctx.Done()
					}
					return errRefused
				})
				requireRetryError(t, err, events.ReasonCanceled, map[bool]int{true: 2, false: 1}[delay == 1])
				require.ErrorIs(t, err, context.Canceled)
			})
		}
	}
}

func TestRule12NoAttemptAfterASinkCancelled(t *testing.T) {
	for _, delay := range []time.Duration{1, 100 * ms} { // waited and not
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			config := &resilience.RetryConfig{InitialDelay: delay, Events: events.Sink{
				RetryScheduled: func(context.Context, events.RetryScheduled) { cancel() },
			}}
			f := alwaysFails()
			requireRetryError(t, resilience.Retry(ctx, config, f.run), events.ReasonCanceled, 1)
			require.Len(t, f.at, 1)
			require.Zero(t, time.Since(f.began))
		})
	}
}

// errorList is an error whose values cannot be compared, nor be keys of a map.
type errorList []error

func (e errorList) Error() string   { return fmt.Sprint([]error(e)) }
func (e errorList) Unwrap() []error { return e }

func TestRule12AContextThatIsDoneRunsNothing(t *testing.T) {
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("a cause"))
	expired, cancelExpired := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelExpired()
	for want, ctx := range map[error]context.Context{context.Canceled: canceled, context.DeadlineExceeded: expired} {
		var told []events.Event
		observed := resilience.DefaultRetryConfig()
		observed.Events = events.All(func(_ context.Context, e events.Event) { told = append(told, e) })
		for _, config := range []*resilience.RetryConfig{nil, resilience.DefaultRetryConfig(), observed} {
			f := newFlaky()
			cb := resilience.NewCircuitBreaker(nil)
			require.Equal(t, want, resilience.Retry(ctx, config, f.run), "its error as it is")
			require.Equal(t, want, resilience.RetryWithCircuitBreaker(ctx, config, cb, f.run))
			require.Equal(t, want, resilience.NewRetrier(config).Run(ctx, f.runContext))
			require.Empty(t, f.at)
			require.Zero(t, cb.GetStats().Totals)
		}
		require.Empty(t, told)
	}
}

func TestRule12TheCallersOwnContextEndsTheRetry(t *testing.T) {
	shutdown := errors.New("shutting down")
	for _, tt := range []struct {
		name   string
		n      int                                      // the attempt in which the context ends
		ret    func(ctx context.Context) error          // what that attempt returns
		end    func(ctx context.Context, cancel func()) // how it ends
		reason events.Reason
		itself bool // comes back as it is
	}{
		{"cancelled in the first attempt", 1, context.Context.Err, cancelIt, events.ReasonCanceled, true},
		{"wrapped", 1, func(ctx context.Context) error { return fmt.Errorf("get: %w", ctx.Err()) }, cancelIt, events.ReasonCanceled, true},
		{"cancelled in a later one", 2, context.Context.Err, cancelIt, events.ReasonCanceled, false},
		{"another error when cancelled", 1, func(context.Context) error { return errRefused }, cancelIt, events.ReasonCanceled, false},
		{"deadline in the first attempt", 1, context.Context.Err, awaitIt, events.ReasonDeadline, true},
		{"deadline in a later one", 2, context.Context.Err, awaitIt, events.ReasonDeadline, false},
		{"another error after the deadline", 1, func(context.Context) error { return errRefused }, awaitIt, events.ReasonDeadline, false},
		{"a permanent error when cancelled", 2, func(context.Context) error { return resilience.Permanent(errRefused) }, cancelIt, events.ReasonCanceled, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancelTimeout := context.WithTimeout(t.Context(), time.Hour)
				defer cancelTimeout()
				ctx, cancel := context.WithCancelCause(ctx)
				asked := 0
				config := &resilience.RetryConfig{MaxAttempts: 10, RetryIf: func(error) bool { asked++; return true }}
				n := 0
				var last error
				err := resilience.Retry(ctx, config, func() error {
					if n++; n < tt.n {
						return errRefused
					}
					tt.end(ctx, func() { cancel(shutdown) })
					last = tt.ret(ctx)
					return last
				})
				require.Equal(t, tt.n, n)
				require.Equal(t, tt.n-1, asked, "RetryIf is not asked when the context has ended")
				require.ErrorIs(t, err, last)
				if tt.itself {
					require.Equal(t, last, err)
					return
				}
				e := asRetryError(t, err, tt.reason, tt.n)
				require.Equal(t, context.Cause(ctx), e.Cause)
				require.ErrorIs(t, err, e.Cause)
				if tt.n > 1 {
					require.ErrorIs(t, err, errRefused, "the attempts before it")
				}
			})
		})
	}
}

func cancelIt(_ context.Context, cancel func()) { cancel() }

func awaitIt(ctx context.Context, _ func()) { <-ctx.Done() }

func TestRule12ATimeoutOfTheWorksOwnIsRetried(t *testing.T) {
	for _, own := range []error{context.DeadlineExceeded, context.Canceled, fmt.Errorf("read: %w", context.DeadlineExceeded)} {
		at, err := retried(t, &resilience.RetryConfig{}, own, own)
		require.NoError(t, err)
		require.Len(t, at, 3)
	}
}

// What ended is the wait, not the first attempt, so that its error is not that of
// the caller's context, though it looks the same.
func TestRule12ATimeoutOfTheWorksOwnIsNotTakenForTheCallers(t *testing.T) {
	t.Run("the wait does not fit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			own := fmt.Errorf("read: %w", context.DeadlineExceeded)
			err := resilience.Retry(ctx, &resilience.RetryConfig{InitialDelay: 3 * time.Second}, newFlaky(own).run)
			e := asRetryError(t, err, events.ReasonDeadline, 1)
			require.Equal(t, []error{own}, e.Errs)
		})
	})
	t.Run("cancelled during the wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			shutdown := errors.New("shutting down")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(50*ms, func() { cancel(shutdown) })
			err := resilience.Retry(ctx, &resilience.RetryConfig{}, newFlaky(context.Canceled).run)
			requireRetryError(t, err, events.ReasonCanceled, 1)
			require.ErrorIs(t, err, shutdown)
		})
	})
}

// The context that a sink derives for an attempt, or for the retry, may end before
// the caller's: that ends the attempt, and the caller has not given up.
func TestRule12AContextOfASinkIsNotTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := &resilience.RetryConfig{Events: events.Sink{
			AttemptStarted: func(ctx context.Context, _ events.AttemptStarted) context.Context {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				t.Cleanup(cancel)
				return ctx
			},
		}}
		n := 0
		err := resilience.NewRetrier(config).Run(t.Context(), func(ctx context.Context) error {
			if n++; n == 1 {
				<-ctx.Done()
			}
			return ctx.Err()
		})
		require.NoError(t, err)
		require.Equal(t, 2, n)
	})
	synctest.Test(t, func(t *testing.T) {
		config := &resilience.RetryConfig{Events: events.Sink{
			RetryStarted: func(ctx context.Context, _ events.RetryStarted) context.Context {
				ctx, cancel := context.WithTimeout(ctx, 50*ms) // half of the wait
				t.Cleanup(cancel)
				return ctx
			},
		}}
		f := newFlaky(errRefused)
		require.NoError(t, resilience.Retry(t.Context(), config, f.run))
		require.Equal(t, []time.Duration{0, 100 * ms}, f.at)
	})
}

func TestRule12SuccessIsSuccessEvenIfTheContextHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, resilience.Retry(ctx, nil, func() error { cancel(); return nil }))
}

// Rule 12: errors that are not retried.

func TestRule12NotRetried(t *testing.T) {
	rejection := &resilience.RejectedError{Name: "payment", State: resilience.StateOpen}
	for _, tt := range []struct {
		name   string
		err    error
		reason events.Reason
	}{
		{"permanent", resilience.Permanent(errRefused), events.ReasonNotRetryable},
		{"wrapped permanent", fmt.Errorf("get: %w", resilience.Permanent(errRefused)), events.ReasonNotRetryable},
		{"joined permanent", errors.Join(errRefused, resilience.Permanent(errRefused)), events.ReasonNotRetryable},
		{"permanent with a time to wait", resilience.RetryAfter(resilience.Permanent(errRefused), time.Second), events.ReasonNotRetryable},
		{"ignored", resilience.Ignore(errRefused), events.ReasonNotRetryable},
		{"wrapped ignored", fmt.Errorf("get: %w", resilience.Ignore(errRefused)), events.ReasonNotRetryable},
		{"rejection", rejection, events.ReasonRejected},
		{"wrapped rejection", fmt.Errorf("get: %w", rejection), events.ReasonRejected},
		{"the sentinel", resilience.ErrCircuitBreakerOpen, events.ReasonRejected},
		{"permanent rejection", resilience.Permanent(rejection), events.ReasonRejected},
	} {
		// What need not wait goes a way of its own and must come to the same.
		for how, config := range map[string]*resilience.RetryConfig{"": {}, ", in haste": {InitialDelay: 1}} {
			t.Run(tt.name+"/first attempt"+how, func(t *testing.T) {
				at, err := retried(t, config, tt.err)
				require.Equal(t, tt.err, err, "it comes back as it is")
				require.Len(t, at, 1)
			})
			t.Run(tt.name+"/later attempt"+how, func(t *testing.T) {
				earlier := errors.New("reset by peer")
				at, err := retried(t, config, earlier, tt.err)
				e := asRetryError(t, err, tt.reason, 2)
				require.Len(t, at, 2)
				require.Equal(t, []error{earlier, tt.err}, e.Errs)
				require.ErrorIs(t, err, earlier)
				require.ErrorIs(t, err, tt.err)
				require.NotErrorIs(t, err, resilience.ErrRetriesExhausted)
				require.Nil(t, e.Cause)
			})
			t.Run(tt.name+"/last attempt"+how, func(t *testing.T) {
				_, err := retried(t, config, errRefused, errRefused, tt.err)
				requireRetryError(t, err, tt.reason, 3)
			})
		}
	}
}

func TestRule12RetryIf(t *testing.T) {
	rejection := &resilience.RejectedError{Name: "payment", State: resilience.StateOpen}
	yes := func(error) bool { return true }
	no := func(error) bool { return false }
	for _, tt := range []struct {
		name    string
		err     error
		retryIf func(error) bool
		again   bool
		asked   bool
		reason  events.Reason
	}{
		{"agrees", errRefused, yes, true, true, ""},
		{"refuses", errRefused, no, false, true, events.ReasonNotRetryable},
		{"opts in to ignored", resilience.Ignore(errRefused), yes, true, true, ""},
		{"leaves ignored", resilience.Ignore(errRefused), no, false, true, events.ReasonNotRetryable},
		{"opts in to a rejection", rejection, yes, true, true, ""},
		{"leaves a rejection", rejection, no, false, true, events.ReasonRejected},
		{"permanent is not up to it", resilience.Permanent(errRefused), yes, false, false, events.ReasonNotRetryable},
		{"nor is a permanent rejection", resilience.Permanent(rejection), yes, false, false, events.ReasonRejected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []error
			config := &resilience.RetryConfig{RetryIf: func(err error) bool {
				asked = append(asked, err)
				return tt.retryIf(err)
			}}
			at, err := retried(t, config, tt.err)
			if tt.asked {
				require.Equal(t, []error{tt.err}, asked, "once, about the error as it is")
			} else {
				require.Empty(t, asked)
			}
			if tt.again {
				require.NoError(t, err)
				require.Len(t, at, 2)
				return
			}
			require.Equal(t, tt.err, err)
			require.Len(t, at, 1)

			second := func(err error) bool { return errors.Is(err, errPipe) || tt.retryIf(err) }
			_, err = retried(t, &resilience.RetryConfig{RetryIf: second}, errPipe, tt.err)
			requireRetryError(t, err, tt.reason, 2)
		})
	}
}

var errPipe = errors.New("broken pipe")

// Configuration.

func TestRule1InvalidRetryConfig(t *testing.T) {
	for _, tt := range []struct {
		field  string
		value  any
		config resilience.RetryConfig
	}{
		{"MaxAttempts", -1, resilience.RetryConfig{MaxAttempts: -1}},
		{"MaxAttempts", math.MinInt, resilience.RetryConfig{MaxAttempts: math.MinInt}},
		{"InitialDelay", time.Duration(-1), resilience.RetryConfig{InitialDelay: -1}},
		{"InitialDelay", time.Duration(math.MinInt64), resilience.RetryConfig{InitialDelay: math.MinInt64}},
		{"MaxDelay", -time.Second, resilience.RetryConfig{MaxDelay: -time.Second}},
		{"BackoffFactor", 0.5, resilience.RetryConfig{BackoffFactor: 0.5}},
		{"BackoffFactor", math.Nextafter(1, 0), resilience.RetryConfig{BackoffFactor: math.Nextafter(1, 0)}},
		{"BackoffFactor", -2.0, resilience.RetryConfig{BackoffFactor: -2}},
		{"BackoffFactor", math.NaN(), resilience.RetryConfig{BackoffFactor: math.NaN()}},
		{"BackoffFactor", math.Inf(1), resilience.RetryConfig{BackoffFactor: math.Inf(1)}},
		{"BackoffFactor", math.Inf(-1), resilience.RetryConfig{BackoffFactor: math.Inf(-1)}},
		{"BackoffFactor", math.SmallestNonzeroFloat64, resilience.RetryConfig{BackoffFactor: math.SmallestNonzeroFloat64}},
		{"MaxRetryAfter", time.Duration(-1), resilience.RetryConfig{MaxRetryAfter: -1}},
	} {
		t.Run(fmt.Sprintf("%s=%v", tt.field, tt.value), func(t *testing.T) {
			f := newFlaky()
			told := 0
			tt.config.Events = events.All(func(context.Context, events.Event) { told++ })
			cb := resilience.NewCircuitBreaker(nil)
			for name, err := range map[string]error{
				"Validate":                tt.config.Validate(),
				"Retry":                   resilience.Retry(t.Context(), &tt.config, f.run),
				"RetryWithCircuitBreaker": resilience.RetryWithCircuitBreaker(t.Context(), &tt.config, cb, f.run),
				"NewRetrier":              panicOf(t, func() { resilience.NewRetrier(&tt.config) }),
			} {
				e, ok := errors.AsType[*resilience.ConfigError](err)
				require.True(t, ok, "%s: %v", name, err)
				require.ErrorIs(t, err, resilience.ErrInvalidConfig)
				require.Equal(t, "RetryConfig", e.Config)
				require.Equal(t, tt.field, e.Field)
				require.Equal(t, fmt.Sprint(tt.value), fmt.Sprint(e.Value)) // NaN is not equal to itself
				require.NotEmpty(t, e.Want)
				require.Contains(t, err.Error(), "RetryConfig."+tt.field)
				require.Contains(t, err.Error(), fmt.Sprint(tt.value))
			}
			require.Empty(t, f.at, "the work is not run")
			require.Zero(t, told)
			require.Zero(t, cb.GetStats().Totals)
		})
	}
}

// panicOf returns the error that f panics with.
func panicOf(t *testing.T, f func()) (err error) {
	t.Helper()
	defer func() {
		v := recover()
		var ok bool
		err, ok = v.(error)
		require.True(t, ok, "panicked with %#v, want an error", v)
	}()
	f()
	return nil
}

func TestRule1ValidRetryConfig(t *testing.T) {
	for _, c := range []*resilience.RetryConfig{
		nil,
		{},
		resilience.DefaultRetryConfig(),
		{MaxAttempts: 1},
		{MaxAttempts: math.MaxInt},
		{BackoffFactor: 1},
		{BackoffFactor: math.MaxFloat64},
		{InitialDelay: time.Hour, MaxDelay: time.Nanosecond},
		{InitialDelay: math.MaxInt64, MaxDelay: math.MaxInt64, MaxRetryAfter: math.MaxInt64},
		{MaxDelay: time.Second, MaxRetryAfter: time.Nanosecond},
	} {
		require.NoError(t, c.Validate(), "%+v", c)
		f := newFlaky()
		require.NoError(t, resilience.Retry(t.Context(), c, f.run))
		require.NoError(t, resilience.NewRetrier(c).Run(t.Context(), f.runContext))
		require.Len(t, f.at, 2)
	}
}

func TestARetrierKeepsACopyOfItsConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &resilience.RetryConfig{MaxAttempts: 2, Name: "before"}
		r := resilience.NewRetrier(c)
		c.MaxAttempts, c.InitialDelay, c.Name = 7, time.Hour, "after"
		f := alwaysFails()
		err := r.Run(t.Context(), f.runContext)
		e := asRetryError(t, err, events.ReasonExhausted, 2)
		require.Equal(t, "before", e.Name)
		require.Equal(t, []time.Duration{0, 100 * ms}, f.at)
	})
}

func TestAZeroRetrierHasTheDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := alwaysFails()
		requireRetryError(t, new(resilience.Retrier).Run(t.Context(), f.runContext), events.ReasonExhausted, 3)
		require.Equal(t, []time.Duration{0, 100 * ms, 300 * ms}, f.at)

		f = alwaysFails()
		requireRetryError(t, new(resilience.Retrier).Execute(t.Context(), f.run), events.ReasonExhausted, 3)
		require.Equal(t, []time.Duration{0, 100 * ms, 300 * ms}, f.at)
	})
}

func TestRetryOfNilFunctionPanicsAtOnce(t *testing.T) {
	cb := resilience.NewCircuitBreaker(nil)
	require.PanicsWithValue(t, "resilience: Retry of a nil function", func() {
		_ = resilience.Retry(t.Context(), nil, nil)
	})
	require.PanicsWithValue(t, "resilience: RetryWithCircuitBreaker of a nil function", func() {
		_ = resilience.RetryWithCircuitBreaker(t.Context(), nil, cb, nil)
	})
	require.PanicsWithValue(t, "resilience: Run of a nil function", func() {
		_ = resilience.NewRetrier(nil).Run(t.Context(), nil)
	})
	require.PanicsWithValue(t, "resilience: Execute of a nil function", func() {
		_ = resilience.NewRetrier(nil).Execute(t.Context(), nil)
	})
	require.Zero(t, cb.GetStats().Totals)
}

// Rule 12: retry and breaker together.

func TestRule12RetryWithCircuitBreakerCountsEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment"})
		f := newFlaky(errRefused, errRefused)
		require.NoError(t, resilience.RetryWithCircuitBreaker(t.Context(), &resilience.RetryConfig{}, cb, f.run))
		require.Equal(t, []time.Duration{0, 100 * ms, 300 * ms}, f.at)
		require.Equal(t, events.Counts{Success: 1, Failure: 2}, cb.GetStats().Totals)
	})
}

func TestRule12ARejectionEndsTheRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", VolumeThreshold: 2})
		defer cb.Close()
		f := alwaysFails()
		config := &resilience.RetryConfig{MaxAttempts: 10}

		err := resilience.RetryWithCircuitBreaker(t.Context(), config, cb, f.run)
		e := asRetryError(t, err, events.ReasonRejected, 3)
		require.Equal(t, "payment", e.Name, "named as its breaker")
		require.Len(t, f.at, 2, "the third attempt was rejected")
		require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
		require.ErrorIs(t, err, errRefused, "why it opened is in there as well")
		rejected, ok := errors.AsType[*resilience.RejectedError](err)
		require.True(t, ok)
		require.Equal(t, "payment", rejected.Name)
		require.Equal(t, 30*time.Second-200*ms, rejected.RetryAfter(), "the wait before the third attempt is over")

		err = resilience.RetryWithCircuitBreaker(t.Context(), config, cb, f.run)
		require.Same(t, rejected, err, "rejected at once, the rejection comes back as it is")
		require.Len(t, f.at, 2)
		require.ErrorIs(t, fmt.Errorf("order 17: %w", err), resilience.ErrCircuitBreakerOpen)
	})
}

func TestRule12RetryIfMayWaitForTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
			VolumeThreshold: 2, SleepWindow: 2 * time.Second, HalfOpenRequests: 1,
		})
		defer cb.Close()
		f := newFlaky(errRefused, errRefused)
		config := &resilience.RetryConfig{MaxAttempts: 5, RetryIf: func(err error) bool {
			return errors.Is(err, resilience.ErrCircuitBreakerOpen) || errors.Is(err, errRefused)
		}}
		require.NoError(t, resilience.RetryWithCircuitBreaker(t.Context(), config, cb, f.run))
		// Opened at 100 ms; rejected at 300 ms, with 1.8 s to go.
		require.Equal(t, []time.Duration{0, 100 * ms, 2100 * ms}, f.at)
		require.Equal(t, resilience.StateClosed, cb.State())
		require.Equal(t, uint64(1), cb.GetStats().Totals.Rejected)
	})
}

func TestRule12RetryIfDoesNotWaitLongerForTheBreakerThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{VolumeThreshold: 1})
		defer cb.Close()
		f := alwaysFails()
		config := &resilience.RetryConfig{MaxAttempts: 5, RetryIf: func(error) bool { return true }}
		err := resilience.RetryWithCircuitBreaker(t.Context(), config, cb, f.run)
		requireRetryError(t, err, events.ReasonRetryAfterTooLong, 2)
		require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
		require.Equal(t, 100*ms, time.Since(f.began))
	})
}

func TestRule12RetryIfAndAForcedBreakerUseTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb := resilience.NewCircuitBreaker(nil)
		cb.ForceOpen()
		f := newFlaky()
		config := &resilience.RetryConfig{RetryIf: func(error) bool { return true }}
		time.AfterFunc(200*ms, cb.ForceClosed)
		require.NoError(t, resilience.RetryWithCircuitBreaker(t.Context(), config, cb, f.run))
		require.Equal(t, []time.Duration{300 * ms}, f.at, "100 ms and 200 ms after the rejections")
	})
}

func TestRetryWithCircuitBreakerWithoutABreaker(t *testing.T) {
	f := newFlaky()
	err := resilience.RetryWithCircuitBreaker(t.Context(), nil, nil, f.run)
	e, ok := errors.AsType[*resilience.ConfigError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "cb", e.Field)
	require.EqualError(t, err, "resilience: RetryWithCircuitBreaker.cb is <nil>, want a circuit breaker")
	require.ErrorIs(t, err, resilience.ErrInvalidConfig)
	require.Empty(t, f.at)
}

func TestRule12TheNameOfARetry(t *testing.T) {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", VolumeThreshold: 1000})
	for _, tt := range []struct {
		name string
		want string
		run  func(*resilience.RetryConfig) error
	}{
		{"", "default", func(c *resilience.RetryConfig) error { return resilience.Retry(t.Context(), c, fail) }},
		{"", "payment", func(c *resilience.RetryConfig) error {
			return resilience.RetryWithCircuitBreaker(t.Context(), c, cb, fail)
		}},
		{"charge", "charge", func(c *resilience.RetryConfig) error {
			return resilience.RetryWithCircuitBreaker(t.Context(), c, cb, fail)
		}},
		{"charge", "charge", func(c *resilience.RetryConfig) error { return resilience.Retry(t.Context(), c, fail) }},
		{"", "default", func(c *resilience.RetryConfig) error {
			return resilience.NewRetrier(c).Run(t.Context(), alwaysFails().runContext)
		}},
	} {
		var told []string
		e := asRetryError(t, tt.run(&resilience.RetryConfig{
			Name: tt.name, InitialDelay: 1,
			Events: events.All(func(_ context.Context, e events.Event) {
				require.Zero(t, e.About().ID)
				told = append(told, e.About().Name)
			}),
		}), events.ReasonExhausted, 3)
		require.Equal(t, tt.want, e.Name)
		require.Equal(t, []string{tt.want}, slices.Compact(told))

		silent := asRetryError(t, tt.run(&resilience.RetryConfig{Name: tt.name, InitialDelay: 1}), events.ReasonExhausted, 3)
		require.Equal(t, tt.want, silent.Name)
	}
}

// A retry inside another policy counts as what its last attempt came to, though
// errors.Is and errors.As find the others as well.
func TestRule12ARetryInsideAPolicyIsJudgedByItsLastAttempt(t *testing.T) {
	always := resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: 1, RetryIf: func(error) bool { return true }})
	rejection := &resilience.RejectedError{Name: "inner"}
	for _, first := range []error{
		context.Canceled, // of a request of its own
		resilience.Ignore(errRefused),
		rejection,
		resilience.ErrInvalidConfig,
		resilience.RetryAfter(errRefused, time.Microsecond),
	} {
		work := func(calls *int) func(context.Context) error {
			return func(ctx context.Context) error {
				*calls++
				return always.Run(ctx, newFlaky(first, errRefused, errRefused).runContext)
			}
		}
		t.Run("breaker/"+first.Error(), func(t *testing.T) {
			cb := resilience.NewCircuitBreaker(nil)
			calls := 0
			err := cb.Run(t.Context(), work(&calls))
			require.ErrorIs(t, err, first)
			require.Equal(t, events.Counts{Failure: 1}, cb.GetStats().Totals)
		})
		t.Run("retry/"+first.Error(), func(t *testing.T) {
			calls := 0
			err := resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: 1}).Run(t.Context(), work(&calls))
			require.ErrorIs(t, err, first)
			require.Equal(t, 3, calls)
		})
	}
	t.Run("the last is permanent", func(t *testing.T) {
		calls := 0
		_ = resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: 1}).Run(t.Context(), func(ctx context.Context) error {
			calls++
			return always.Run(ctx, newFlaky(errRefused, resilience.Permanent(errRefused)).runContext)
		})
		require.Equal(t, 1, calls)
	})
}

// What is put around the error of a retry has its say before that retry's last
// attempt has.
func TestRule12MarkersAroundTheErrorOfARetryCount(t *testing.T) {
	inner := resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: 1})
	for _, tt := range []struct {
		name   string
		mark   func(error) error
		calls  int           // of the inner retry
		took   time.Duration // by the outer one
		counts events.Counts // of a breaker
	}{
		{"as it is", func(err error) error { return err }, 3, 300 * ms, events.Counts{Failure: 1}},
		{"Permanent", resilience.Permanent, 1, 0, events.Counts{Failure: 1}},
		{"wrapped Permanent", func(err error) error { return fmt.Errorf("get: %w", resilience.Permanent(err)) }, 1, 0, events.Counts{Failure: 1}},
		{"Ignore", resilience.Ignore, 1, 0, events.Counts{Ignored: 1}},
		{"RetryAfter", func(err error) error { return resilience.RetryAfter(err, time.Second) }, 3, 2 * time.Second, events.Counts{Failure: 1}},
		{"joined before it", func(err error) error { return errors.Join(resilience.Permanent(errPipe), err) }, 1, 0, events.Counts{Failure: 1}},
		{"joined after it", func(err error) error { return errors.Join(err, resilience.Permanent(errPipe)) }, 1, 0, events.Counts{Failure: 1}},
		{"joined rejection", func(err error) error { return errors.Join(err, resilience.ErrCircuitBreakerOpen) }, 1, 0, events.Counts{Failure: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				work := func(ctx context.Context) error {
					calls++
					return tt.mark(inner.Run(ctx, alwaysFails().runContext))
				}
				began := time.Now()
				err := resilience.NewRetrier(&resilience.RetryConfig{}).Run(t.Context(), work)
				require.ErrorIs(t, err, errRefused)
				require.Equal(t, tt.calls, calls)
				require.Equal(t, tt.took, time.Since(began))

				cb := resilience.NewCircuitBreaker(nil)
				require.Error(t, cb.Run(t.Context(), work))
				require.Equal(t, tt.counts, cb.GetStats().Totals)
			})
		})
	}
}

// Rule 13: attempt numbers.

func TestRule13AttemptFromContext(t *testing.T) {
	require.Equal(t, 1, resilience.AttemptFromContext(t.Context()), "outside of any retry")

	var seen []int
	r := resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: 1, MaxAttempts: 6})
	_ = r.Run(t.Context(), func(ctx context.Context) error {
		seen = append(seen, resilience.AttemptFromContext(ctx))
		return errRefused
	})
	require.Equal(t, []int{1, 2, 3, 4, 5, 6}, seen)
}

func TestRule13NestedRetriesTellTheInnermostNumber(t *testing.T) {
	var seen []string
	note := func(where string, ctx context.Context) {
		seen = append(seen, fmt.Sprint(where, resilience.AttemptFromContext(ctx)))
	}
	outer := resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: 1, MaxAttempts: 3})
	inner := resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: 1, MaxAttempts: 3})
	_ = outer.Run(t.Context(), func(ctx context.Context) error {
		note("outer", ctx)
		err := inner.Run(ctx, func(ctx context.Context) error {
			note("inner", ctx)
			return errRefused
		})
		note("outer", ctx)
		return err
	})
	one := []string{"inner1", "inner2", "inner3"}
	require.Equal(t, slices.Concat(
		[]string{"outer1"}, one, []string{"outer1"},
		[]string{"outer2"}, one, []string{"outer2"},
		[]string{"outer3"}, one, []string{"outer3"},
	), seen)
}

func TestRule13ThroughABreakerAndASink(t *testing.T) {
	type key struct{}
	var seen []int
	config := &resilience.RetryConfig{InitialDelay: 1, Events: events.Sink{
		AttemptStarted: func(ctx context.Context, e events.AttemptStarted) context.Context {
			return context.WithValue(ctx, key{}, e.Attempt)
		},
	}}
	p := resilience.Chain(resilience.NewRetrier(config), resilience.NewCircuitBreaker(nil))
	_ = p.Run(t.Context(), func(ctx context.Context) error {
		require.Equal(t, resilience.AttemptFromContext(ctx), ctx.Value(key{}))
		seen = append(seen, resilience.AttemptFromContext(ctx))
		return errRefused
	})
	require.Equal(t, []int{1, 2, 3}, seen)
}

func TestRule13TheSinksOfTheBreakerSeeTheAttempt(t *testing.T) {
	var seen []string
	see := func(kind string, ctx context.Context) {
		seen = append(seen, fmt.Sprint(kind, " ", resilience.AttemptFromContext(ctx)))
	}
	for name, sink := range map[string]events.Sink{
		"CallFinished": {CallFinished: func(ctx context.Context, _ events.CallFinished) { see("finished", ctx) }},
		"StateChanged": {StateChanged: func(ctx context.Context, _ events.StateChanged) { see("changed", ctx) }},
		"CallRejected": {CallRejected: func(ctx context.Context, _ events.CallRejected) { see("rejected", ctx) }},
	} {
		seen = nil
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{VolumeThreshold: 2, Events: sink})
		defer cb.Close()
		_ = resilience.RetryWithCircuitBreaker(t.Context(), &resilience.RetryConfig{InitialDelay: 1}, cb, fail)
		require.Equal(t, map[string][]string{
			"CallFinished": {"finished 1", "finished 2"},
			"StateChanged": {"changed 2"},
			"CallRejected": {"rejected 3"},
		}[name], seen)
	}
}

func TestRule13TheSinksOfABreakerInANestedRetrySeeTheInnermostAttempt(t *testing.T) {
	for name, sink := range map[string]events.Sink{"silent": {}, "observed": benchSink()} {
		var seen []int
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Events: events.Sink{
			CallFinished: func(ctx context.Context, _ events.CallFinished) {
				seen = append(seen, resilience.AttemptFromContext(ctx))
			},
		}})
		config := &resilience.RetryConfig{InitialDelay: 1, MaxAttempts: 2, Events: sink}
		_ = resilience.NewRetrier(config).Run(t.Context(), func(ctx context.Context) error {
			return resilience.RetryWithCircuitBreaker(ctx, config, cb, fail)
		})
		require.Equal(t, []int{1, 2, 1, 2}, seen, name)
	}
}

func TestRule13TheFirstAttemptRunsInTheCallersContextItself(t *testing.T) {
	_ = resilience.NewRetrier(nil).Run(t.Context(), func(ctx context.Context) error {
		require.Equal(t, t.Context(), ctx)
		return nil
	})
}

// Concurrency.

func TestOneRetrierServesManyGoroutines(t *testing.T) {
	for _, sink := range []events.Sink{{}, benchSink()} {
		config := &resilience.RetryConfig{
			InitialDelay: 1, JitterEnabled: true, MaxAttempts: 7, Name: "shared", Events: sink,
			RetryIf: func(error) bool { return true },
		}
		r := resilience.NewRetrier(config)
		var runs atomic.Int64
		var wg sync.WaitGroup
		for g := range 16 {
			wg.Go(func() {
				for i := range 50 {
					own := fmt.Errorf("%d/%d", g, i)
					n := 0
					work := func(ctx context.Context) error {
						runs.Add(1)
						n++
						if resilience.AttemptFromContext(ctx) != n {
							t.Errorf("attempt %d sees %d", n, resilience.AttemptFromContext(ctx))
						}
						return own
					}
					err := r.Run(t.Context(), work)
					e, ok := errors.AsType[*resilience.RetryError](err)
					if !ok || e.Attempts != 7 || !slices.Equal(e.Errs, slices.Repeat([]error{own}, 7)) {
						t.Errorf("%d/%d: %#v", g, i, err)
					}
					if err := resilience.Retry(t.Context(), config, func() error { return nil }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.Equal(t, int64(16*50*7), runs.Load())
	}
}

func TestARetryHasNoGoroutineOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		before := goroutinesInBubble(t)
		const waiting = 20
		for range waiting {
			go func() {
				_ = resilience.Retry(ctx, &resilience.RetryConfig{InitialDelay: time.Second}, func() error { return errRefused })
			}()
		}
		synctest.Wait() // all are waiting for their second attempt
		require.Equal(t, before+waiting, goroutinesInBubble(t))
		cancel()
		synctest.Wait()
		require.Equal(t, before, goroutinesInBubble(t))
	})
}

// goroutinesInBubble counts the goroutines of the bubble it is called in. Those of
// earlier tests that are about to end are not in it.
func goroutinesInBubble(t *testing.T) int {
	t.Helper()
	buf := make([]byte, 1<<20)
	all := string(buf[:runtime.Stack(buf, true)])
	own, _, _ := strings.Cut(all, "]:") // goroutine 7 [running, synctest bubble 3
	_, bubble, ok := strings.Cut(own, ", synctest ")
	require.True(t, ok, "not in a bubble: %s", own)
	return strings.Count(all, ", synctest "+bubble+"]:")
}
