package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
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

// hedge returns a Hedge of up to n attempts, a second apart, with a Recorder.
func hedge(t *testing.T, n int) (*resilience.Hedge, *eventstest.Recorder) {
	t.Helper()
	rec := eventstest.New(t)
	return resilience.NewHedge(&resilience.HedgeConfig{Name: "search", MaxAttempts: n, Delay: time.Second, Events: rec.Sink()}), rec
}

// attempts is work that does another thing each time that it is begun.
type attempts struct {
	begun atomic.Int32
	ended atomic.Int32
	do    []func(context.Context) error
}

func (a *attempts) run(ctx context.Context) error {
	n := a.begun.Add(1)
	defer a.ended.Add(1)
	return a.do[n-1](ctx)
}

func beginning(do ...func(context.Context) error) *attempts { return &attempts{do: do} }

// failing is work that fails after d, unless its context ends before.
func failingAfter(d time.Duration, err error) func(context.Context) error {
	return func(ctx context.Context) error {
		if ended := patient(d)(ctx); ended != nil {
			return ended
		}
		return err
	}
}

func TestHedge(t *testing.T) {
	type attempt struct {
		attempt int
		outcome events.Outcome
		won     bool
	}
	const (
		success  = events.OutcomeSuccess
		failure  = events.OutcomeFailure
		ignored  = events.OutcomeIgnored
		rejected = events.OutcomeRejected
	)
	full := &resilience.BulkheadFullError{Name: "b"}
	for _, tt := range []struct {
		name string
		most int
		do   []func(context.Context) error
		want error // nil: success
		took time.Duration
		told []attempt
	}{
		{"fast enough", 3, []func(context.Context) error{patient(time.Second - 1)}, nil, time.Second - 1,
			[]attempt{{1, success, true}}},
		{"the second wins", 2, []func(context.Context) error{patient(time.Minute), patient(time.Second)}, nil, 2 * time.Second,
			[]attempt{{1, ignored, false}, {2, success, true}}},
		{"the first wins after all", 2, []func(context.Context) error{patient(1500 * time.Millisecond), patient(time.Second)}, nil, 1500 * time.Millisecond,
			[]attempt{{1, success, true}, {2, ignored, false}}},
		{"the third wins", 3, []func(context.Context) error{patient(time.Minute), patient(time.Minute), patient(time.Second)}, nil, 3 * time.Second,
			[]attempt{{1, ignored, false}, {2, ignored, false}, {3, success, true}}},
		{"a failure is not hedged", 3, []func(context.Context) error{failingAfter(time.Second-1, errBroken)}, errBroken, time.Second - 1,
			[]attempt{{1, failure, false}}},
		{"a rejection is not hedged", 3, []func(context.Context) error{failingAfter(0, full)}, full, 0,
			[]attempt{{1, rejected, false}}},
		{"the first fails, the second wins", 2, []func(context.Context) error{failingAfter(1500*time.Millisecond, errBroken), patient(time.Second)}, nil, 2 * time.Second,
			[]attempt{{1, failure, false}, {2, success, true}}},
		{"the second fails, the first wins", 2, []func(context.Context) error{patient(3 * time.Second), failingAfter(time.Second, errBroken)}, nil, 3 * time.Second,
			[]attempt{{1, success, true}, {2, failure, false}}},
		{"all fail", 2, []func(context.Context) error{failingAfter(1500*time.Millisecond, errBroken), failingAfter(time.Second, errOther)}, errBroken, 2 * time.Second,
			[]attempt{{1, failure, false}, {2, failure, false}}},
		{"all that began fail, and no other begins", 5, []func(context.Context) error{failingAfter(1100*time.Millisecond, errBroken), failingAfter(200*time.Millisecond, errOther)}, errOther, 1200 * time.Millisecond,
			[]attempt{{1, failure, false}, {2, failure, false}}},
		{"one does not look at its context", 2, []func(context.Context) error{working(time.Minute), patient(time.Second)}, nil, time.Minute,
			[]attempt{{1, success, false}, {2, success, true}}},
		{"not hedged at all", 1, []func(context.Context) error{patient(time.Minute)}, nil, time.Minute,
			[]attempt{{1, success, true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, rec := hedge(t, tt.most)
				work, began := beginning(tt.do...), time.Now()
				err := h.Run(t.Context(), work.run)
				require.Equal(t, tt.took, time.Since(began))
				require.Equal(t, work.begun.Load(), work.ended.Load(), "attempts that began and ended")
				require.Equal(t, int32(len(tt.do)), work.ended.Load())
				if tt.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, tt.want)
				}
				var told []attempt
				for _, e := range eventstest.Of[events.HedgeAttemptFinished](rec) {
					told = append(told, attempt{e.Attempt, e.Outcome, e.Won})
				}
				// The winner may still be telling when the others have ended.
				slices.SortFunc(told, func(a, b attempt) int { return a.attempt - b.attempt })
				require.Equal(t, tt.told, told)
				for i, e := range eventstest.Of[events.HedgeAttemptStarted](rec) {
					require.Equal(t, i+1, e.Attempt)
					require.Equal(t, i > 0, e.Delay == time.Second)
				}
				time.Sleep(time.Hour) // nothing else begins
				require.Equal(t, int32(len(tt.do)), work.begun.Load())
			})
		})
	}
}

func TestHedgeErrorReachesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := hedge(t, 3)
		err := h.Run(t.Context(), beginning(
			failingAfter(4*time.Second, errBroken), failingAfter(time.Minute, resilience.Permanent(errOther)), failingAfter(time.Second, errPipe)).run)
		require.EqualError(t, err, `resilience: all 3 attempts of hedge "search" failed: dependency is broken`)
		e, ok := errors.AsType[*resilience.HedgeError](err)
		require.True(t, ok)
		require.Len(t, e.Errs, 3)
		for i, want := range []error{errBroken, errOther, errPipe} {
			require.ErrorIs(t, e.Errs[i], want)
			require.ErrorIs(t, err, want)
		}
		require.Equal(t, "*errors.errorString", events.ErrorType(err))
		require.Empty(t, (&resilience.HedgeError{}).ErrorType())

		// A mark on one of them is one for the retry.
		var runs atomic.Int32
		retrier := resilience.NewRetrier(nil)
		err = resilience.Chain(retrier, h).Run(t.Context(), func(ctx context.Context) error {
			runs.Add(1)
			return failingAfter(1500*time.Millisecond, resilience.Permanent(errBroken))(ctx)
		})
		require.ErrorIs(t, err, errBroken)
		require.Equal(t, int32(3), runs.Load(), "the attempts of one operation")
	})
}

// That one attempt was turned away, or cancelled, excuses nothing that another met: a
// breaker around the hedge counts the failure, and a retry goes on.
func TestHedgeErrorIsARejectionOnlyIfAllAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outcomes := func(first, second error) (counts events.Counts, attempts int) {
			outer := resilience.NewCircuitBreaker(nil)
			defer outer.Close()
			retrier := resilience.NewRetrier(&resilience.RetryConfig{MaxAttempts: 2, InitialDelay: 1})
			hedge := resilience.NewHedge(&resilience.HedgeConfig{Delay: time.Second})
			_ = resilience.Chain(retrier, outer, hedge).Run(t.Context(), func() func(context.Context) error {
				var n atomic.Int32
				return func(context.Context) error {
					if n.Add(1)%2 == 0 {
						return second
					}
					attempts++
					time.Sleep(2 * time.Second)
					return first
				}
			}())
			return outer.GetStats().Totals, attempts
		}
		full, limited := &resilience.BulkheadFullError{}, &resilience.RateLimitError{}
		for _, excuse := range []error{full, limited, resilience.Ignore(errBroken)} {
			counts, attempts := outcomes(errBroken, excuse)
			require.Equal(t, events.Counts{Failure: 2}, counts, "%v", excuse)
			require.Equal(t, 2, attempts, "%v", excuse)
			counts, attempts = outcomes(excuse, errBroken)
			require.Equal(t, events.Counts{Failure: 2}, counts, "%v", excuse)
			require.Equal(t, 2, attempts, "%v", excuse)
			counts, attempts = outcomes(excuse, full)
			require.Equal(t, events.Counts{Ignored: 1}, counts, "%v", excuse)
			require.Equal(t, 1, attempts, "%v", excuse)
		}
		counts, _ := outcomes(context.Canceled, errBroken)
		require.Equal(t, events.Counts{Failure: 2}, counts)
		counts, _ = outcomes(context.Canceled, context.Canceled)
		require.Equal(t, events.Counts{Ignored: 2}, counts)
		_, attempts := outcomes(resilience.Permanent(errBroken), errBroken)
		require.Equal(t, 1, attempts, "one is enough to know that no retry mends it")
	})
}

// An attempt that says it was cancelled, and was not, has failed: that it was the last and
// so ended the operation does not make it one that was overtaken.
func TestHedgeTellsWhoWasNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, rec := hedge(t, 2)
		require.Equal(t, context.Canceled, h.Run(t.Context(), failingAfter(0, context.Canceled)))
		require.Equal(t, events.OutcomeFailure, last[events.HedgeAttemptFinished](t, rec).Outcome)
	})
}

func TestHedgeHeedsTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Cancelled at every point: before, during the first attempt, when the second is
		// due, and during that.
		for _, after := range []time.Duration{0, time.Second / 2, time.Second, 1500 * time.Millisecond} {
			h, rec := hedge(t, 5)
			ctx, cancel := context.WithCancel(t.Context())
			if after == 0 {
				cancel()
			} else {
				time.AfterFunc(after, cancel)
			}
			began := time.Now()
			err := h.Run(ctx, patient(time.Minute))
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, after, time.Since(began))
			for _, e := range eventstest.Of[events.HedgeAttemptFinished](rec) {
				require.Equal(t, events.OutcomeIgnored, e.Outcome)
				require.False(t, e.Won)
			}
			time.Sleep(time.Hour)
			require.LessOrEqual(t, len(eventstest.Of[events.HedgeAttemptStarted](rec)), 2)
		}
	})
}

// Work that does not heed its context is not begun again once that has ended.
func TestHedgeBeginsNothingForACallerWhoLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, rec := hedge(t, 3)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second/2, cancel)
		require.Equal(t, errBroken, h.Run(ctx, func(context.Context) error { time.Sleep(time.Minute); return errBroken }))
		require.Len(t, eventstest.Of[events.HedgeAttemptStarted](rec), 1)
	})
}

// The contexts of all attempts end with the operation, and carry what the caller's does.
func TestHedgeContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := hedge(t, 2)
		ctx := withMark(t.Context(), "mark")
		var mu sync.Mutex
		var all []context.Context
		work := beginning(patient(time.Minute), patient(time.Second))
		require.NoError(t, h.Run(ctx, func(ctx context.Context) error {
			mu.Lock()
			all = append(all, ctx)
			mu.Unlock()
			require.Equal(t, "mark", ctx.Value(ctxKey{}))
			return work.run(ctx)
		}))
		require.Len(t, all, 2)
		for _, ctx := range all {
			require.ErrorIs(t, ctx.Err(), context.Canceled)
		}
		require.NoError(t, ctx.Err())
	})
}

// Of several attempts that succeed the result is the winner's, whoever ends last, and no
// two of them write to one place (which the race detector would see).
func TestHedgeUnderDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			took []time.Duration // of each attempt, whatever its context says
			want int
		}{
			{[]time.Duration{time.Minute, time.Second}, 2},
			{[]time.Duration{1500 * time.Millisecond, time.Second}, 1},
			{[]time.Duration{time.Minute, time.Minute, time.Second}, 3},
		} {
			h, _ := hedge(t, len(tt.took))
			var begun atomic.Int32
			work := func(context.Context) (int, error) {
				n := int(begun.Add(1))
				time.Sleep(tt.took[n-1])
				return n, nil
			}
			got, err := resilience.Do(t.Context(), h, work)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)

			// With a Do inside a Do, and a Do of a policy's own in between.
			begun.Store(0)
			twin := resilience.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
				_, err := resilience.Do(ctx, h, func(ctx context.Context) (int, error) { return -1, fn(ctx) })
				return err
			})
			got, err = resilience.Do(t.Context(), twin, work)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)

			// And one more around that.
			begun.Store(0)
			around := resilience.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
				_, err := resilience.Do(ctx, twin, func(ctx context.Context) (string, error) { return "-1", fn(ctx) })
				return err
			})
			got, err = resilience.Do(t.Context(), around, work)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		}

		// A fallback inside gives to the attempt it is for; one outside to the operation.
		h, _ := hedge(t, 2)
		f, _ := fallback(t, 70, nil)
		var begun atomic.Int32
		got, err := resilience.Do(t.Context(), resilience.Chain(h, f), func(ctx context.Context) (int, error) {
			if begun.Add(1) == 1 {
				return 1, patient(time.Minute)(ctx)
			}
			return 2, failingAfter(time.Second, errBroken)(ctx)
		})
		require.NoError(t, err)
		require.Equal(t, 70, got)
		got, err = resilience.Do(t.Context(), resilience.Chain(f, h), func(ctx context.Context) (int, error) {
			return 2, failingAfter(1500*time.Millisecond, errBroken)(ctx)
		})
		require.NoError(t, err)
		require.Equal(t, 70, got)
		// Of an attempt that a policy inside lets fail nothing is kept.
		strict := resilience.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
			if err := fn(ctx); err != nil || begun.Load() == 2 {
				return errors.Join(err, errPipe)
			}
			return nil
		})
		begun.Store(0)
		got, err = resilience.Do(t.Context(), resilience.Chain(h, strict), func(context.Context) (int, error) {
			n := int(begun.Add(1))
			if n == 1 {
				time.Sleep(3 * time.Second)
				begun.Store(1)
			}
			return n, nil
		})
		require.NoError(t, err)
		require.Equal(t, 1, got)
	})
}

// A breaker inside counts what the attempts came to, and ignores those overtaken.
func TestHedgeAroundABreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, rec := hedge(t, 2)
		cb := resilience.NewCircuitBreaker(small(rec.Sink()))
		slowThenFast := func() func(context.Context) error { return beginning(patient(time.Minute), patient(time.Second)).run }
		for range 20 {
			require.NoError(t, resilience.Chain(h, cb).Run(t.Context(), slowThenFast()))
		}
		require.Equal(t, events.Counts{Success: 20, Ignored: 20}, cb.GetStats().Totals)

		// Wherever the cancellation meets a timeout, a bulkhead or a retry on its way.
		cb = resilience.NewCircuitBreaker(small(rec.Sink()))
		bulkhead, _ := bulkhead(t, 1, 1, 0)
		stack := resilience.Chain(h, cb, resilience.NewRetrier(nil), bulkhead, resilience.NewTimeout(nil))
		for range 20 { // the second waits for the slot of the first, which wins
			require.NoError(t, stack.Run(t.Context(), patient(1500*time.Millisecond)))
		}
		require.Equal(t, events.Counts{Success: 20, Ignored: 20}, cb.GetStats().Totals)
		require.Equal(t, closed, cb.State())
		requireEmpty(t, bulkhead, 1)

		cb.ForceOpen()
		require.ErrorIs(t, stack.Run(t.Context(), mustNotRun(t)), resilience.ErrCircuitBreakerOpen)
		require.Equal(t, events.OutcomeRejected, last[events.HedgeAttemptFinished](t, rec).Outcome)
	})
}

func TestHedgePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := func(d time.Duration) func(context.Context) error {
			return func(ctx context.Context) error { _ = patient(d)(ctx); panic(errBroken) }
		}
		run := func(most int, do ...func(context.Context) error) any {
			h, rec := hedge(t, most)
			work := beginning(do...)
			v := panics(t, func() { _ = h.Run(t.Context(), work.run) })
			require.Equal(t, work.begun.Load(), work.ended.Load(), "attempts that began and ended")
			var panicked int
			for _, e := range eventstest.Of[events.HedgeAttemptFinished](rec) {
				if e.Panicked {
					panicked++
				}
			}
			require.NotZero(t, panicked)
			return v
		}
		requireWrapped := func(v any) {
			t.Helper()
			p, ok := v.(*resilience.PanicError)
			require.True(t, ok, "%T", v)
			require.Equal(t, errBroken, p.Value)
			require.ErrorIs(t, p, errBroken)
			require.Contains(t, string(p.Stack), "TestHedgePanics")
			require.Contains(t, p.Error(), "dependency is broken")
		}
		require.Equal(t, errBroken, run(2, boom(0)), "the first attempt's as it is")
		require.Equal(t, errBroken, run(2, boom(1500*time.Millisecond), patient(time.Minute)), "with another beside it")
		requireWrapped(run(2, patient(time.Minute), boom(time.Second)))
		requireWrapped(run(2, failingAfter(1100*time.Millisecond, errOther), boom(time.Second)))
		requireWrapped(run(3, patient(time.Minute), boom(time.Minute), patient(time.Second))) // of one that lost
		requireWrapped(run(2, patient(1500*time.Millisecond), boom(time.Minute)))
		require.Equal(t, errBroken, run(2, boom(time.Minute), boom(time.Second)), "of two the first attempt's")
		require.NoError(t, (&resilience.PanicError{Value: "text"}).Unwrap())

		h, _ := hedge(t, 2)
		require.PanicsWithValue(t, "resilience: Run of a nil function", func() { _ = h.Run(t.Context(), nil) })
	})
}

func TestHedgeGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := func(d time.Duration) func(context.Context) error {
			return func(ctx context.Context) error { _ = patient(d)(ctx); return exit() }
		}
		for _, do := range [][]func(context.Context) error{
			{ends(0)},
			{ends(1500 * time.Millisecond), patient(time.Minute)},
			{patient(time.Minute), ends(time.Second)},
			{patient(1500 * time.Millisecond), ends(time.Minute)},
		} {
			h, _ := hedge(t, 2)
			work := beginning(do...)
			goexits(t, func() { _ = h.Run(t.Context(), work.run) })
			require.Equal(t, work.begun.Load(), work.ended.Load())
		}
	})
}

// A sink's panic at any of the events reaches the caller, and leaves nothing behind.
func TestHedgeSurvivesItsSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, at := range []string{"start 1", "start 2", "finish 1", "finish 2"} {
			boom := func(event string, n int) {
				if fmt.Sprint(event, " ", n) == at {
					panic(at)
				}
			}
			h := resilience.NewHedge(&resilience.HedgeConfig{Delay: time.Second, Events: events.Sink{
				HedgeAttemptStarted: func(ctx context.Context, e events.HedgeAttemptStarted) context.Context {
					boom("start", e.Attempt)
					return ctx
				},
				HedgeAttemptFinished: func(_ context.Context, e events.HedgeAttemptFinished) { boom("finish", e.Attempt) },
			}})
			v := panics(t, func() { _ = h.Run(t.Context(), beginning(patient(time.Minute), patient(time.Second)).run) })
			if p, ok := v.(*resilience.PanicError); ok {
				v = p.Value
			}
			require.Equal(t, at, v)
		}
	})
}

func TestHedgeAsksWhetherAnybodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		h := resilience.NewHedge(&resilience.HedgeConfig{Delay: time.Second, Events: events.Sink{
			Enabled:              func(context.Context) bool { asked++; return false },
			HedgeAttemptStarted:  func(ctx context.Context, _ events.HedgeAttemptStarted) context.Context { t.Error("told"); return ctx },
			HedgeAttemptFinished: func(context.Context, events.HedgeAttemptFinished) { t.Error("told") },
		}})
		require.NoError(t, h.Run(t.Context(), beginning(patient(time.Minute), patient(time.Second)).run))
		require.Equal(t, 1, asked)
	})
}

// The delay follows what is observed: nine of ten operations take ten milliseconds, one
// takes a second.
func TestHedgeDelayFollowsTheQuantile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := resilience.NewHedge(&resilience.HedgeConfig{MaxAttempts: 1, Delay: time.Minute, Quantile: 0.8})
		for i := range 63 {
			took := 10 * time.Millisecond
			if i%10 == 0 {
				took = time.Second
			}
			require.NoError(t, h.Run(t.Context(), working(took)))
			require.Equal(t, time.Minute, h.Delay(), "too few to know")
		}
		_ = h.Run(t.Context(), func(context.Context) error { time.Sleep(time.Hour); return errBroken }) // says nothing
		require.Equal(t, time.Minute, h.Delay())
		require.NoError(t, h.Run(t.Context(), working(10*time.Millisecond)))
		require.InEpsilon(t, 10*time.Millisecond, h.Delay(), 0.125)

		// It forgets: after as many that are slower, those count.
		for range 2048 {
			_ = h.Run(t.Context(), working(50*time.Millisecond))
		}
		require.InEpsilon(t, 50*time.Millisecond, h.Delay(), 0.125)

		// An operation that was overtaken counts as what it had taken.
		h = resilience.NewHedge(&resilience.HedgeConfig{Delay: time.Second, Quantile: 0.5})
		for range 64 {
			require.NoError(t, h.Run(t.Context(), beginning(patient(time.Minute), patient(time.Second)).run))
		}
		require.InEpsilon(t, 2*time.Second, h.Delay(), 0.125)
	})
}

// A budget caps the share of operations that are hedged, from a hundred goroutines too.
func TestHedgeBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := eventstest.New(t)
		budget := resilience.NewRetryBudget(&resilience.BudgetConfig{MinPerSecond: 1e-9, Window: 24 * time.Hour, Events: rec.Sink()})
		h := resilience.NewHedge(&resilience.HedgeConfig{MaxAttempts: 3, Delay: time.Second, Budget: budget, Events: rec.Sink()})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { require.NoError(t, h.Run(t.Context(), patient(time.Minute))) })
		}
		wg.Wait()
		hedges := 0
		for _, e := range eventstest.Of[events.HedgeAttemptStarted](rec) {
			if e.Attempt > 1 {
				hedges++
			}
		}
		require.LessOrEqual(t, hedges, 20, "a fifth of a hundred")
		require.GreaterOrEqual(t, hedges, 19, "less what fades in a second")
		stats := budget.Stats()
		require.Equal(t, uint64(100), stats.Operations)
		require.Equal(t, uint64(hedges), stats.Granted)
		require.NotZero(t, stats.Refused)
		budget.Close()
	})
}

func TestHedgeConfig(t *testing.T) {
	require.NoError(t, (*resilience.HedgeConfig)(nil).Validate())
	h := resilience.NewHedge(nil)
	require.Equal(t, "default", h.Name())
	require.Equal(t, 100*time.Millisecond, h.Delay())
	const quantile = "want a ratio above 0 and below 1, or 0 to turn it off"
	for want, c := range map[string]resilience.HedgeConfig{
		"resilience: HedgeConfig.MaxAttempts is -1, want at least 1, or 0 for the default":     {MaxAttempts: -1},
		"resilience: HedgeConfig.Delay is -1s, want a positive duration, or 0 for the default": {Delay: -time.Second},
		"resilience: HedgeConfig.Quantile is 1, " + quantile:                                   {Quantile: 1},
		"resilience: HedgeConfig.Quantile is -0.5, " + quantile:                                {Quantile: -0.5},
		"resilience: HedgeConfig.Quantile is NaN, " + quantile:                                 {Quantile: math.NaN()},
	} {
		require.EqualError(t, configError(t, func() { resilience.NewHedge(&c) }), want)
	}
}

// Attempts that begin the moment another ends, from many goroutines: each operation has
// one winner, and all its attempts have ended when it returns.
func TestHedgeOfAHundredGoroutines(t *testing.T) {
	rec := eventstest.New(t)
	h := resilience.NewHedge(&resilience.HedgeConfig{MaxAttempts: 4, Delay: 20 * time.Microsecond, Quantile: 0.5, Events: rec.Sink()})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range 50 {
				var running atomic.Int32
				got, err := resilience.Do(context.Background(), h, func(ctx context.Context) (int32, error) {
					n := running.Add(1)
					defer running.Add(-1)
					select {
					case <-time.After(20 * time.Microsecond):
					case <-ctx.Done():
						return 0, ctx.Err()
					}
					runtime.Gosched()
					return n, nil
				})
				if err != nil || got == 0 || running.Load() != 0 {
					t.Errorf("got %d, error %v, %d still running", got, err, running.Load())
				}
			}
		})
	}
	wg.Wait()
	won := 0
	for _, e := range eventstest.Of[events.HedgeAttemptFinished](rec) {
		if e.Won {
			won++
		}
	}
	require.Equal(t, 5000, won)
}

// bearing is an error that holds something.
type bearing struct{ released *atomic.Int32 }

func (e *bearing) Error() string { return "unavailable" }
func (e *bearing) Discard()      { e.released.Add(1) }

// What losers and failed operations hold is given back, each once.
func TestHedgeDiscards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var released atomic.Int32
		held := fmt.Errorf("wrapped: %w", &bearing{&released})
		h, _ := hedge(t, 3)
		work := beginning(failingAfter(1500*time.Millisecond, held), failingAfter(1500*time.Millisecond, held), patient(time.Second))
		require.NoError(t, h.Run(t.Context(), work.run))
		require.Equal(t, int32(2), released.Load())

		released.Store(0)
		h, _ = hedge(t, 2)
		work = beginning(failingAfter(1500*time.Millisecond, held), failingAfter(time.Second, held), patient(0))
		require.NoError(t, resilience.Chain(resilience.NewRetrier(nil), h).Run(t.Context(), work.run))
		require.Equal(t, int32(2), released.Load(), "both, when another attempt of the retry follows")

		released.Store(0)
		require.Error(t, h.Run(t.Context(), failingAfter(1500*time.Millisecond, held)))
		require.Zero(t, released.Load(), "the caller's")
	})
}
