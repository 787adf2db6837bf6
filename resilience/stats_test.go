package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// Rule 9: HalfOpenSuccessRate is in percent, all other rates are ratios.
func TestRatesOfStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		c.HalfOpenRequests, c.VolumeThreshold, c.SlowCallDuration, c.SlowCallThreshold = 5, 8, time.Second, 1
		cb, _ := observed(t, c)
		require.Zero(t, cb.GetStats().ErrorRate)
		runScript(t, cb, "sfsi")
		_ = cb.Execute(t.Context(), func() error { time.Sleep(time.Second); return nil })
		s := cb.GetStats()
		require.Equal(t, "payment", s.Name)
		require.InDelta(t, 0.25, s.ErrorRate, 0)
		require.InDelta(t, 0.25, s.SlowCallRate, 0)
		require.Zero(t, s.HalfOpenSuccessRate)
		require.Equal(t, "25.00%", fmt.Sprintf("%.2f%%", 100*s.ErrorRate))

		trip(t, cb)
		s = cb.GetStats()
		require.Zero(t, s.ErrorRate)
		require.Zero(t, s.SlowCallRate)
		require.Zero(t, s.HalfOpenSuccessRate)

		pass(30 * time.Second)
		require.Zero(t, cb.GetStats().HalfOpenSuccessRate, "not NaN")
		runScript(t, cb, "s")
		require.InDelta(t, 100, cb.GetStats().HalfOpenSuccessRate, 0)
		runScript(t, cb, "fi")
		require.InDelta(t, 50, cb.GetStats().HalfOpenSuccessRate, 0)
		runScript(t, cb, "s")
		s = cb.GetStats()
		require.Equal(t, "66.67%", fmt.Sprintf("%.2f%%", s.HalfOpenSuccessRate))
		require.Zero(t, s.ErrorRate)
		runScript(t, cb, "s")
		require.Zero(t, cb.GetStats().HalfOpenSuccessRate, "closed")
	})
}

// A snapshot at each moment of a life.
func TestSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, _ := observed(t, small())
		born := time.Now()
		var spent [events.StatusCount]time.Duration
		counts := func(s, f, i, r uint64) events.Counts {
			return events.Counts{Success: s, Failure: f, Ignored: i, Rejected: r}
		}
		check := func(want events.Snapshot) {
			t.Helper()
			want.Time, want.TimeIn = time.Now(), spent
			got := cb.GetStats().Snapshot
			require.Equal(t, want, got)
			var sum time.Duration
			for _, d := range got.TimeIn {
				sum += d
			}
			require.Equal(t, time.Since(born), sum, "the times add up to the age")
		}
		wait := func(d time.Duration) {
			spent[cb.GetStats().Status()] += d
			pass(d)
		}

		check(events.Snapshot{Since: born, Generation: 1, LastClosed: time.Now()})
		wait(time.Second)
		runScript(t, cb, "sif")
		check(events.Snapshot{Since: born, Generation: 1, LastClosed: time.Now(),
			Totals: counts(1, 1, 1, 0), Window: counts(1, 1, 0, 0)})
		wait(time.Second)
		runScript(t, cb, "s")
		runScript(t, cb, "s")
		check(events.Snapshot{Since: born, Generation: 1, LastClosed: time.Now(), Judged: true,
			Totals: counts(3, 1, 1, 0), Window: counts(3, 1, 0, 0)})
		runScript(t, cb, "ff")
		opened := time.Now()
		wait(10 * time.Second)
		requireRejected(t, cb)
		check(events.Snapshot{State: open, Since: opened, Generation: 2, LastClosed: opened,
			Totals: counts(3, 3, 1, 1), RetryAfter: 20 * time.Second})
		wait(20 * time.Second)
		halfOpened := time.Now()
		p := acquire(t, cb)
		runScript(t, cb, "f")
		wait(time.Second)
		check(events.Snapshot{State: halfOpen, Since: halfOpened, Generation: 3, LastClosed: opened,
			Totals: counts(3, 4, 1, 1), Window: counts(0, 1, 0, 0), ProbesInFlight: 1})
		p.Done(errBroken)
		reopened := time.Now()
		check(events.Snapshot{State: open, Since: reopened, Generation: 4, LastClosed: opened,
			Totals: counts(3, 5, 1, 1), RetryAfter: 30 * time.Second})
		wait(time.Second)
		cb.ForceOpen()
		forced := time.Now()
		wait(time.Hour)
		check(events.Snapshot{State: open, Forced: true, Since: forced, Generation: 5, LastClosed: opened,
			Totals: counts(3, 5, 1, 1)})
		cb.ForceClosed()
		forced = time.Now()
		wait(time.Minute)
		failIn(t, cb, 7)
		check(events.Snapshot{Forced: true, Since: forced, Generation: 6, LastClosed: time.Now(),
			Totals: counts(3, 12, 1, 1), Window: counts(0, 7, 0, 0)})
		cb.ClearForce()
		cleared := time.Now()
		wait(time.Minute)
		check(events.Snapshot{Since: cleared, Generation: 7, LastClosed: time.Now(), Totals: counts(3, 12, 1, 1)})
		cb.Close()
		wait(time.Minute)
		check(events.Snapshot{Since: cleared, Generation: 7, LastClosed: time.Now(), Totals: counts(3, 12, 1, 1)})
		require.Equal(t, [events.StatusCount]time.Duration{
			events.StatusClosed: 2*time.Second + 2*time.Minute, events.StatusOpen: 31 * time.Second,
			events.StatusHalfOpen: time.Second, events.StatusForcedOpen: time.Hour, events.StatusForcedClosed: time.Minute,
		}, cb.GetStats().TimeIn)
	})
}

// tally counts calls as their callers see them.
type tally struct{ success, failure, ignored, rejected atomic.Uint64 }

func (c *tally) counts() events.Counts {
	return events.Counts{
		Success: c.success.Load(), Failure: c.failure.Load(), Ignored: c.ignored.Load(), Rejected: c.rejected.Load(),
	}
}

// hammer calls cb from many goroutines, with every outcome and through every way to
// call, while controls change the state, and counts what came of it.
func hammer(t *testing.T, cb *resilience.CircuitBreaker, callers, calls int, controls []func()) events.Counts {
	t.Helper()
	var c tally
	note := func(counter *atomic.Uint64, err error) {
		if errors.Is(err, resilience.ErrCircuitBreakerOpen) {
			counter = &c.rejected
		}
		counter.Add(1)
	}
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(i)))
			var held []resilience.Permit
			for range calls {
				switch r.IntN(9) {
				case 0, 1:
					note(&c.success, cb.Execute(t.Context(), healthy))
				case 2:
					note(&c.failure, cb.Execute(t.Context(), broken))
				case 3:
					note(&c.ignored, cb.Run(t.Context(), func(context.Context) error { return resilience.Ignore(errOther) }))
				case 4:
					func() {
						ran := false
						defer func() {
							_ = recover()
							if ran {
								c.failure.Add(1)
							}
						}()
						note(&c.rejected, cb.Execute(t.Context(), func() error { ran = true; panic("work") }))
					}()
				case 5, 6:
					p, err := cb.Acquire(t.Context())
					if err != nil {
						note(&c.rejected, err)
						break
					}
					held = append(held, p)
				case 7:
					for _, p := range held {
						p.Done(nil)
						p.Done(errBroken)
						c.success.Add(1)
					}
					held = held[:0]
				case 8:
					if len(controls) > 0 {
						controls[r.IntN(len(controls))]()
					}
				}
			}
			for _, p := range held {
				p.Done(errBroken)
				c.failure.Add(1)
			}
		})
	}
	all.Wait()
	return c.counts()
}

// The totals are exact: they are the calls, by outcome, whatever the state did
// meanwhile.
func TestTotalsAreExact(t *testing.T) {
	for _, tt := range []struct {
		name     string
		config   func(c *resilience.CircuitBreakerConfig)
		controls func(cb *resilience.CircuitBreaker) []func()
	}{
		{"closed", func(c *resilience.CircuitBreakerConfig) { c.VolumeThreshold = 1e9 }, nil},
		{"busy, with short buckets", func(c *resilience.CircuitBreakerConfig) {
			c.VolumeThreshold, c.WindowSize, c.BucketCount = 1e9, 2*time.Millisecond, 2
		}, nil},
		{"through all states", func(c *resilience.CircuitBreakerConfig) {
			c.SleepWindow, c.ProbeTimeout = time.Microsecond, time.Hour
		}, nil},
		{"with probes that time out", func(c *resilience.CircuitBreakerConfig) {
			c.SleepWindow, c.ProbeTimeout = time.Microsecond, time.Microsecond
		}, nil},
		{"under control", func(c *resilience.CircuitBreakerConfig) {
			c.SleepWindow, c.ProbeTimeout = time.Microsecond, time.Millisecond
		}, func(cb *resilience.CircuitBreaker) []func() {
			return []func(){cb.Reset, cb.ForceOpen, cb.ForceClosed, cb.ClearForce, cb.Reset, func() { _ = cb.GetStats() }}
		}},
		{"closed down", func(c *resilience.CircuitBreakerConfig) {
			c.SleepWindow = time.Microsecond
		}, func(cb *resilience.CircuitBreaker) []func() { return []func(){cb.Close, cb.Reset} }},
	} {
		for _, sink := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, ", sink ", sink), func(t *testing.T) {
				c := small()
				tt.config(c)
				var told tally
				if sink {
					c.Events = countingSink(&told)
				}
				cb := resilience.NewCircuitBreaker(c)
				var controls []func()
				if tt.controls != nil {
					controls = tt.controls(cb)
				}
				var stop atomic.Bool
				var watch sync.WaitGroup
				watch.Go(func() {
					var last events.Counts
					for !stop.Load() {
						s := cb.GetStats()
						if fell(last, s.Totals) {
							t.Errorf("totals fell from %+v to %+v", last, s.Totals)
							return
						}
						last = s.Totals
					}
				})
				want := hammer(t, cb, 6, 3000, controls)
				stop.Store(true)
				watch.Wait()
				require.Equal(t, want, cb.GetStats().Totals)
				require.Zero(t, cb.GetStats().ProbesInFlight)
				if sink && tt.name != "closed down" {
					require.Equal(t, want, told.counts(), "one event for each call")
				}
				cb.Close()
			})
		}
	}
}

func fell(before, after events.Counts) bool {
	return after.Success < before.Success || after.Failure < before.Failure ||
		after.Ignored < before.Ignored || after.Rejected < before.Rejected || after.Slow < before.Slow
}

// countingSink counts the events that end a call. It does not listen to
// WindowRotated, so that the window may become hot.
func countingSink(c *tally) events.Sink {
	return events.Sink{
		CallFinished: func(_ context.Context, e events.CallFinished) {
			switch e.Outcome {
			case success:
				c.success.Add(1)
			case failure:
				c.failure.Add(1)
			default:
				c.ignored.Add(1)
			}
		},
		CallRejected: func(context.Context, events.CallRejected) { c.rejected.Add(1) },
	}
}

// No count is lost at the very moment of a change: one goroutine does nothing but
// call, another nothing but change the state. The moments are short, so it takes many.
func TestTotalsAreExactAtTheMomentOfAChange(t *testing.T) {
	const changes = 60_000
	for name, tt := range map[string]struct {
		work   func() error
		change func(cb *resilience.CircuitBreaker)
	}{
		"successes": {healthy, (*resilience.CircuitBreaker).Reset},
		"failures":  {broken, (*resilience.CircuitBreaker).Reset},
		"ignored":   {func() error { return context.Canceled }, (*resilience.CircuitBreaker).Reset},
		"rejections": {healthy, func(cb *resilience.CircuitBreaker) {
			cb.ForceOpen()
			cb.ClearForce() // open, unforced
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := small()
			c.VolumeThreshold, c.SleepWindow = 1e9, time.Hour
			cb := resilience.NewCircuitBreaker(c)
			tt.change(cb)
			var stop atomic.Bool
			var calls uint64
			var all sync.WaitGroup
			all.Go(func() {
				for ; !stop.Load(); calls++ {
					_ = cb.Execute(t.Context(), tt.work)
				}
			})
			for range changes {
				tt.change(cb)
			}
			stop.Store(true)
			all.Wait()
			cb.Close()
			require.Equal(t, calls, sum(cb.GetStats().Totals))
		})
	}
}

// The same with the contract checked.
func TestTotalsUnderARecorder(t *testing.T) {
	c := small()
	c.SleepWindow, c.ProbeTimeout = time.Microsecond, time.Millisecond
	cb, rec := observed(t, c)
	want := hammer(t, cb, 4, 500, []func(){cb.Reset, cb.ForceOpen, cb.ForceClosed, cb.ClearForce})
	require.Equal(t, want, cb.GetStats().Totals)
	require.Equal(t, int(want.Rejected), len(eventstest.Of[events.CallRejected](rec)))
	require.Equal(t, int(want.Success+want.Failure+want.Ignored), len(eventstest.Of[events.CallFinished](rec)))
}

// No ratio a reader sees was never true: of calls that are each slow there are never
// more slow ones than calls, and of a success before each failure never more failures.
func TestSnapshotsUnderLoadAreConsistent(t *testing.T) {
	for name, work := range map[string]func() error{"successes": healthy, "failures": broken} {
		t.Run(name, func(t *testing.T) {
			cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
				SlowCallDuration: 1, SlowCallThreshold: 1, VolumeThreshold: 1e9,
			})
			var left atomic.Int64
			var all sync.WaitGroup
			for range 3 {
				left.Add(1)
				all.Go(func() {
					defer left.Add(-1)
					for range 100_000 {
						_ = cb.Execute(t.Context(), work)
					}
				})
			}
			for left.Load() > 0 {
				if s := cb.GetStats(); s.Window.Slow > s.Window.Volume() || s.SlowCallRate > 1 || s.Totals.Slow > s.Totals.Volume() {
					t.Errorf("more slow calls than calls: %+v", s.Snapshot)
					break
				}
			}
			all.Wait()
		})
	}
}

// A snapshot waits for nothing: neither for a call that never returns, nor for a
// sink, a listener or a classifier that does not.
func TestSnapshotDoesNotBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		defer close(hold)
		stuck := func() { <-hold }
		c := small(events.Sink{
			CallRejected: func(context.Context, events.CallRejected) { stuck() },
			StateChanged: func(context.Context, events.StateChanged) { stuck() },
		})
		c.ErrorClassifier = func(err error) bool {
			if errors.Is(err, errOther) {
				stuck()
			}
			return true
		}
		cb := resilience.NewCircuitBreaker(c)
		go func() { _ = cb.Execute(t.Context(), func() error { stuck(); return nil }) }()
		go func() { _ = cb.Execute(t.Context(), func() error { return errOther }) }()
		synctest.Wait()
		go func() { times(10, func() { _ = cb.Execute(t.Context(), broken) }) }()
		synctest.Wait()
		go func() { _ = cb.Execute(t.Context(), healthy) }() // rejected, and held in the sink
		synctest.Wait()
		s := cb.GetStats()
		require.Equal(t, open, s.State)
		require.Equal(t, events.Counts{Failure: 4, Rejected: 1}, s.Totals)
	})
}

// The times of a snapshot stay consistent while the state changes all the time.
func TestTimesOfSnapshotsUnderAStorm(t *testing.T) {
	var created events.BreakerCreated
	c := small(events.Sink{BreakerCreated: func(_ context.Context, e events.BreakerCreated) { created = e }})
	c.SleepWindow = time.Microsecond
	cb := resilience.NewCircuitBreaker(c)
	var stop atomic.Bool
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for !stop.Load() {
				cb.ForceOpen()
				cb.ClearForce()
				cb.ForceClosed()
				cb.Reset()
				_ = cb.Execute(t.Context(), broken)
			}
		})
	}
	var last events.Snapshot
	for range 5000 {
		s := created.Snapshot()
		var sum time.Duration
		for i, d := range s.TimeIn {
			sum += d
			if d < last.TimeIn[i] {
				t.Errorf("time in %v fell from %v to %v", events.Status(i), last.TimeIn[i], d)
			}
		}
		if age := s.Time.Sub(created.Time); sum != age {
			t.Errorf("times add up to %v at the age of %v", sum, age)
		}
		if s.Since.After(s.Time) || s.LastClosed.After(s.Time) || s.Generation < last.Generation {
			t.Errorf("inconsistent: %+v after %+v", s, last)
		}
		last = s
		if t.Failed() {
			break
		}
	}
	stop.Store(true)
	all.Wait()
	cb.Close()
}

// The times of state changes never run backwards.
func TestTimesOfChangesUnderAStorm(t *testing.T) {
	var last events.StateChanged
	c := small(events.Sink{StateChanged: func(_ context.Context, e events.StateChanged) {
		if !last.Time.IsZero() && (e.Time.Before(last.Time) || e.Elapsed != e.Time.Sub(last.Time)) {
			t.Errorf("generation %d at %v after %v, elapsed %v", e.Generation, e.Time, last.Time, e.Elapsed)
		}
		last = e
	}})
	cb := resilience.NewCircuitBreaker(c)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 500 {
				cb.ForceOpen()
				cb.Reset()
			}
		})
	}
	all.Wait()
}
