package resilience_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

// next to nothing is free, so that what operations pay can be seen.
const nothing = 1e-12

// eager is a configuration that retries at once, at most four times.
func eager(b *resilience.RetryBudget, sinks ...events.Sink) *resilience.RetryConfig {
	return &resilience.RetryConfig{Name: "charge", MaxAttempts: 5, InitialDelay: 1, MaxDelay: 1, Budget: b, Events: events.Join(sinks...)}
}

func TestBudgetConfigErrors(t *testing.T) {
	require.NoError(t, (*resilience.BudgetConfig)(nil).Validate())
	for _, c := range []struct {
		config resilience.BudgetConfig
		want   string
	}{
		{resilience.BudgetConfig{Ratio: -0.1}, "resilience: BudgetConfig.Ratio is -0.1, want a ratio above 0 and at most 1, or 0 for the default"},
		{resilience.BudgetConfig{Ratio: 1.1}, "resilience: BudgetConfig.Ratio is 1.1, want a ratio above 0 and at most 1, or 0 for the default"},
		{resilience.BudgetConfig{Ratio: math.NaN()}, "resilience: BudgetConfig.Ratio is NaN, want a ratio above 0 and at most 1, or 0 for the default"},
		{resilience.BudgetConfig{MinPerSecond: -1}, "resilience: BudgetConfig.MinPerSecond is -1, want a number above 0 and at most 2147483647, or 0 for the default"},
		{resilience.BudgetConfig{MinPerSecond: math.Inf(1)}, "resilience: BudgetConfig.MinPerSecond is +Inf, want a number above 0 and at most 2147483647, or 0 for the default"},
		{resilience.BudgetConfig{Window: -1}, "resilience: BudgetConfig.Window is -1ns, want a positive duration, or 0 for the default"},
	} {
		require.EqualError(t, c.config.Validate(), c.want)
		require.EqualError(t, configError(t, func() { resilience.NewRetryBudget(&c.config) }), c.want)
	}
}

func TestBudgetDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := eventstest.New(t)
		b := resilience.NewRetryBudget(&resilience.BudgetConfig{Events: rec.Sink()})
		require.Equal(t, "default", b.Name())
		created := last[events.BudgetCreated](t, rec)
		require.Equal(t, events.Header{Name: "default", ID: b.ID()}, created.Header)
		require.InDelta(t, 0.2, created.Ratio, 0)
		require.InDelta(t, 1, created.MinPerSecond, 0)
		require.Equal(t, 10*time.Second, created.Window)
		require.Equal(t, events.BudgetSnapshot{Available: 10, Limit: 10}, created.Snapshot())

		b.Close()
		b.Close()
		require.Len(t, eventstest.Of[events.BudgetRetired](rec), 1)
	})
}

// An exhausted budget ends a retry before it waits, with the error it has, and says so
// in the error, in the retry's events and in one of its own.
func TestBudgetExhausted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := eventstest.New(t)
		b := resilience.NewRetryBudget(&resilience.BudgetConfig{
			Name: "payment", Ratio: 1, MinPerSecond: nothing, Events: rec.Sink(),
		})
		for _, observed := range []bool{false, true} {
			c := eager(b)
			if observed {
				c.Events = rec.Sink()
			}
			c.InitialDelay, c.MaxDelay = time.Second, time.Second
			start, ran := time.Now(), 0
			err := resilience.Retry(t.Context(), c, func() error { ran++; return errBroken })
			require.Equal(t, 2, ran, "it paid for one retry")
			require.Equal(t, time.Second, time.Since(start), "no wait after the last attempt")
			require.ErrorIs(t, err, resilience.ErrBudgetExhausted)
			require.NotErrorIs(t, err, resilience.ErrRetriesExhausted)
			require.ErrorIs(t, err, errBroken)
			failed, ok := errors.AsType[*resilience.RetryError](err)
			require.True(t, ok)
			require.Equal(t, events.ReasonBudgetExhausted, failed.Reason)
			require.Equal(t, 2, failed.Attempts)
			require.EqualError(t, err, `resilience: retry "charge" gave up after 2 attempts (budget exhausted): dependency is broken`)
			require.Equal(t, events.BudgetExhausted{
				Header: events.Header{Name: "payment", ID: b.ID()}, Retry: "charge", Attempt: 3, Err: errBroken,
			}, last[events.BudgetExhausted](t, rec))
		}
		finished := last[events.RetryFinished](t, rec)
		require.Equal(t, events.ReasonBudgetExhausted, finished.Reason)
		require.Equal(t, events.OutcomeFailure, finished.Outcome)
		require.Equal(t, events.ReasonBudgetExhausted, last[events.AttemptFinished](t, rec).Decision)
		s := b.Stats()
		require.Equal(t, [3]uint64{2, 2, 2}, [3]uint64{s.Operations, s.Granted, s.Refused})

		b.Close()
		n := len(eventstest.Of[events.BudgetExhausted](rec))
		require.NoError(t, resilience.Retry(t.Context(), eager(b), healthy))
		_ = resilience.Retry(t.Context(), eager(b), broken)
		require.Len(t, eventstest.Of[events.BudgetExhausted](rec), n, "closed, it is silent")
		require.Equal(t, uint64(3), b.Stats().Refused, "and caps all the same")
	})
}

// It must hold: 100 goroutines at once get what there is, to the last one and no more.
func TestBudgetAgainst100Goroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.NewRetryBudget(nil)
		var retries, operations atomic.Int64
		begin := make(chan struct{})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				r := resilience.NewRetrier(eager(b))
				<-begin
				operations.Add(1)
				_ = r.Run(t.Context(), func(ctx context.Context) error {
					if resilience.AttemptFromContext(ctx) > 1 {
						retries.Add(1)
					}
					runtime.Gosched()
					return errBroken
				})
			})
		}
		close(begin)
		wg.Wait()
		require.Equal(t, int64(100), operations.Load())
		s := b.Stats()
		require.Equal(t, uint64(retries.Load()), s.Granted)
		require.LessOrEqual(t, s.Granted, uint64(30), "10 of the beginning, and 0.2 for each of 100")
		require.GreaterOrEqual(t, float64(s.Granted)+s.Available, 30-1e-6, "none is lost, as no time passed")
		require.Less(t, s.Available, 20.0)
	})
}

// Of operations that all fail, each tried up to five times, the share that is retried
// tends to Ratio.
func TestBudgetShareTendsToRatio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, ratio := range []float64{0.01, 0.1, 0.2, 1} {
			b := resilience.NewRetryBudget(&resilience.BudgetConfig{Ratio: ratio, MinPerSecond: nothing})
			c := eager(b)
			for range 20_000 {
				_ = resilience.Retry(t.Context(), c, broken)
				time.Sleep(time.Millisecond)
			}
			s := b.Stats()
			require.Equal(t, uint64(20_000), s.Operations)
			// What fades is at most a share of the one token that is being saved for.
			require.InEpsilon(t, ratio, float64(s.Granted)/20_000, 0.03, "%v", ratio)
			require.LessOrEqual(t, float64(s.Granted), ratio*20_000+1)
		}
	})
}

// With little traffic there is a floor: MinPerSecond retries a second, however few pay.
func TestBudgetFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.NewRetryBudget(&resilience.BudgetConfig{MinPerSecond: 2, Ratio: nothing})
		c := eager(b)
		c.MaxAttempts = 1000
		_ = resilience.Retry(t.Context(), c, broken)
		require.Equal(t, uint64(20), b.Stats().Granted, "what a Window brings in is there at the beginning")
		for range 100 {
			time.Sleep(time.Second)
			_ = resilience.Retry(t.Context(), c, broken)
		}
		require.InDelta(t, 20+200, float64(b.Stats().Granted), 20, "less what fades while it is saved up: a tenth of what is there, each second")
		require.LessOrEqual(t, b.Stats().Granted, uint64(220))
	})
}

// Saved up is at most what a Window brings in, and a quiet time does not save more.
func TestBudgetFades(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.NewRetryBudget(&resilience.BudgetConfig{MinPerSecond: nothing})
		c := eager(b)
		for range 60_000 { // 100 a second for 10 minutes
			_ = resilience.Retry(t.Context(), c, healthy)
			time.Sleep(10 * time.Millisecond)
		}
		s := b.Stats()
		require.InDelta(t, 200, s.Available, 1, "0.2 of 100 a second for 10 s")
		require.InDelta(t, s.Limit, s.Available, 1e-6)
		time.Sleep(10 * time.Second)
		require.InDelta(t, s.Available/math.E, b.Stats().Available, 1e-6)
		time.Sleep(time.Hour)
		require.Less(t, b.Stats().Available, 1e-6)
		require.Less(t, b.Stats().Limit, 1e-6)
	})
}

// It does not matter how often somebody looks: operations count as spread over the time
// since, which is what they were.
func TestBudgetDoesNotDependOnWhenItIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		often := resilience.NewRetryBudget(nil)
		seldom := resilience.NewRetryBudget(nil)
		for range 3000 {
			_ = resilience.Retry(t.Context(), eager(often), healthy)
			_ = resilience.Retry(t.Context(), eager(seldom), healthy)
			time.Sleep(10 * time.Millisecond)
			often.Stats()
		}
		require.InEpsilon(t, often.Stats().Available, seldom.Stats().Available, 0.001)
	})
}

// A naive budget that fades every operation by itself.
func TestBudgetModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(20) {
			rnd := rand.New(rand.NewPCG(seed, 5))
			ratio, floor, window := 0.05+0.95*rnd.Float64(), 5*rnd.Float64(), time.Duration(1+rnd.IntN(20))*time.Second
			b := resilience.NewRetryBudget(&resilience.BudgetConfig{Ratio: ratio, MinPerSecond: floor, Window: window})
			balance := floor * window.Seconds()
			for range 1000 {
				d := time.Duration(rnd.IntN(200)) * time.Millisecond
				time.Sleep(d)
				left := math.Exp(-d.Seconds() / window.Seconds())
				balance = balance*left + floor*window.Seconds()*(1-left)
				require.InDelta(t, balance, b.Stats().Available, 1e-6, "looked at, so that what is paid next is paid now")
				granted := b.Stats().Granted
				want := uint64(0)
				balance += ratio
				for range 4 {
					if balance >= 1-1e-9 {
						balance, want = max(0, balance-1), want+1
						continue
					}
					break
				}
				_ = resilience.Retry(t.Context(), eager(b), broken)
				require.Equal(t, granted+want, b.Stats().Granted)
			}
		}
	})
}

// A budget that several retries share is one for all of them, in every form a retry has.
func TestBudgetIsShared(t *testing.T) {
	b := resilience.NewRetryBudget(&resilience.BudgetConfig{Ratio: nothing, MinPerSecond: 3e-9, Window: 1e9 * time.Second})
	c := eager(b)
	c.MaxAttempts = 2
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{ErrorThreshold: 1})
	runs := []func() error{
		func() error { return resilience.Retry(t.Context(), c, broken) },
		func() error {
			return resilience.NewRetrier(c).Run(t.Context(), func(context.Context) error { return errBroken })
		},
		func() error { return resilience.RetryWithCircuitBreaker(t.Context(), c, cb, broken) },
	}
	for _, run := range runs {
		require.ErrorIs(t, run(), resilience.ErrRetriesExhausted)
	}
	for _, run := range runs {
		require.ErrorIs(t, run(), resilience.ErrBudgetExhausted)
	}
	require.Equal(t, uint64(6), b.Stats().Operations)
}

// What a budget tells of belongs to the operation, whose context sinks may have derived.
func TestBudgetExhaustedComesWithTheContextOfTheOperation(t *testing.T) {
	type key struct{}
	for _, observed := range []bool{false, true} {
		var of any
		b := resilience.NewRetryBudget(&resilience.BudgetConfig{Ratio: nothing, MinPerSecond: nothing, Events: events.Sink{
			BudgetExhausted: func(ctx context.Context, _ events.BudgetExhausted) { of = ctx.Value(key{}) },
		}})
		c := eager(b)
		want := any("caller")
		if observed {
			want = "operation"
			c.Events.RetryStarted = func(ctx context.Context, _ events.RetryStarted) context.Context {
				return context.WithValue(ctx, key{}, "operation")
			}
		}
		ctx := context.WithValue(t.Context(), key{}, "caller")
		require.ErrorIs(t, resilience.Retry(ctx, c, broken), resilience.ErrBudgetExhausted)
		require.Equal(t, want, of)
	}
}

// What is taken out is for an attempt that follows: not for one that is refused for
// another reason.
func TestBudgetIsAskedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.NewRetryBudget(nil)
		c := eager(b)
		c.InitialDelay, c.MaxDelay = time.Minute, time.Minute
		canceled, cancel := context.WithCancel(t.Context())
		short, cancelShort := context.WithTimeout(t.Context(), time.Second)
		defer cancelShort()
		_ = resilience.Retry(canceled, c, func() error { cancel(); return errBroken })
		_ = resilience.Retry(short, c, broken)
		_ = resilience.Retry(t.Context(), c, func() error { return resilience.Permanent(errBroken) })
		_ = resilience.Retry(t.Context(), c, func() error { return resilience.RetryAfter(errBroken, time.Hour) })
		_ = resilience.Retry(t.Context(), &resilience.RetryConfig{MaxAttempts: 1, Budget: b}, broken)
		require.Zero(t, b.Stats().Granted+b.Stats().Refused)
		require.Equal(t, uint64(5), b.Stats().Operations)
		_ = resilience.Retry(canceled, c, broken)
		require.Equal(t, uint64(5), b.Stats().Operations, "it did not begin")
	})
}

// Cancelled at every point, in panics and exits, the accounts stay right.
func TestBudgetSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trouble := func() {}
		b := resilience.NewRetryBudget(&resilience.BudgetConfig{Ratio: nothing, MinPerSecond: nothing, Events: events.Sink{
			BudgetExhausted: func(context.Context, events.BudgetExhausted) { trouble() },
		}})
		rec := eventstest.New(t)
		for _, c := range []*resilience.RetryConfig{eager(b), eager(b, rec.Sink())} {
			trouble = func() { panic("sink") }
			require.Equal(t, "sink", panics(t, func() { _ = resilience.Retry(t.Context(), c, broken) }))
			trouble = runtime.Goexit
			goexits(t, func() { _ = resilience.Retry(t.Context(), c, broken) })
			trouble = func() {}
			require.ErrorIs(t, resilience.Retry(t.Context(), c, broken), resilience.ErrBudgetExhausted)
			panics(t, func() { _ = resilience.Retry(t.Context(), c, func() error { panic("work") }) })
			goexits(t, func() { _ = resilience.Retry(t.Context(), c, exit) })
		}
		s := b.Stats()
		require.Equal(t, [3]uint64{10, 0, 6}, [3]uint64{s.Operations, s.Granted, s.Refused})

		waiting := resilience.NewRetryBudget(nil)
		c := eager(waiting)
		c.InitialDelay, c.MaxDelay = time.Minute, time.Minute
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		require.ErrorIs(t, resilience.Retry(ctx, c, broken), context.Canceled)
		require.Equal(t, uint64(1), waiting.Stats().Granted, "it was taken out before the wait")
	})
}

// Enabled speaks for BudgetExhausted.
func TestBudgetAsksWhetherItsSinkIsEnabled(t *testing.T) {
	b := resilience.NewRetryBudget(&resilience.BudgetConfig{Ratio: nothing, MinPerSecond: nothing, Events: events.Sink{
		BudgetExhausted: func(context.Context, events.BudgetExhausted) { t.Error("told") },
		Enabled:         func(context.Context) bool { return false },
	}})
	require.ErrorIs(t, resilience.Retry(t.Context(), eager(b), broken), resilience.ErrBudgetExhausted)
}

func TestBudgetsDoNotAllocate(t *testing.T) {
	b := resilience.NewRetryBudget(&resilience.BudgetConfig{Ratio: 1})
	c := eager(b)
	n := 0
	work := func() error {
		if n++; n%2 == 0 {
			return nil
		}
		return errBroken
	}
	r := resilience.NewRetrier(c)
	success := func(context.Context) error { return nil }
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(1000, func() { _ = resilience.Retry(ctx, c, healthy) }))
	require.Zero(t, testing.AllocsPerRun(1000, func() { _ = r.Run(ctx, success) }))
	without := testing.AllocsPerRun(1000, func() { _ = resilience.Retry(ctx, eager(nil), work) })
	with := testing.AllocsPerRun(1000, func() { _ = resilience.Retry(ctx, eager(b), work) })
	require.InDelta(t, without, with, 0)
	require.Positive(t, b.Stats().Granted)
}
