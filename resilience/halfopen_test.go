package resilience_test

import (
	"context"
	"fmt"
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

// Rule 4: the verdict falls with the probe that makes it certain, and not before.
func TestVerdictFallsAsSoonAsItIsCertain(t *testing.T) {
	for _, tt := range []struct {
		probes  int
		ratio   float64
		script  string // must leave it half-open
		last    string // must bring the verdict
		verdict change
	}{
		{5, 0.6, "ss", "s", closes},
		{5, 0.6, "ff", "f", reopens},
		{5, 0.6, "sfsf", "s", closes},
		{5, 0.6, "sfsf", "f", reopens},
		{5, 0.6, "ffss", "s", closes},
		{5, 0.6, "sisiiiiiiiif", "s", closes},
		{5, 0.6, "pfii", "p", reopens},
		{1, 0.6, "", "s", closes},
		{1, 0.6, "", "f", reopens},
		{1, 0.01, "", "f", reopens},
		{1, 1, "iii", "s", closes},
		{2, 0.5, "", "s", closes},
		{2, 0.5, "f", "f", reopens},
		{2, 0.51, "", "f", reopens},
		{2, 0.51, "s", "s", closes},
		{5, 1, "ssss", "s", closes},
		{5, 1, "", "f", reopens},
		{5, 1, "ssss", "f", reopens},
		{5, 0.01, "ffff", "s", closes},
		{5, 0.01, "ffff", "f", reopens},
		{3, 2.0 / 3, "s", "s", closes},
		{3, 2.0 / 3, "f", "f", reopens},
		{10, 0.3, "ssfffffff", "s", closes},
		{10, 0.3, "ssfffffff", "f", reopens},
		{10, 0.7, "ssssss", "s", closes},
		{10, 0.7, "fff", "f", reopens},
	} {
		t.Run(fmt.Sprintf("%v of %d: %s %s", tt.ratio, tt.probes, tt.script, tt.last), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := small()
				c.HalfOpenRequests, c.SuccessThreshold = tt.probes, tt.ratio
				cb, rec := observed(t, c)
				toHalfOpen(t, cb, 30*time.Second)
				runScript(t, cb, tt.script)
				require.Equal(t, halfOpen, cb.State())
				runScript(t, cb, tt.last)
				require.Equal(t, []change{trips, wakes, tt.verdict}, changes(rec))
			})
		})
	}
}

func TestVerdictTellsTheProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		toHalfOpen(t, cb, 30*time.Second)
		time.Sleep(2 * time.Second)
		runScript(t, cb, "sif")
		time.Sleep(time.Second)
		runScript(t, cb, "f")
		e := last[events.StateChanged](t, rec)
		require.Equal(t, events.Counts{Success: 1, Failure: 2}, e.Counts)
		require.Equal(t, 3*time.Second, e.Elapsed)
		require.Equal(t, 30*time.Second, e.RetryAfter, "a whole sleep window anew")
		time.Sleep(30*time.Second - 1)
		requireRejected(t, cb)
		pass(1)
		requireRecovers(t, cb)
	})
}

// Rule 4: at most HalfOpenRequests probes are out, however many ask at once.
func TestHalfOpenAdmitsNoMoreThanItsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		c.HalfOpenRequests, c.SuccessThreshold = 5, 1
		cb, rec := observed(t, c)
		toHalfOpen(t, cb, 30*time.Second)
		var running, most, ran, rejected atomic.Int64
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				err := cb.Execute(t.Context(), func() error {
					most.Store(max(most.Load(), running.Add(1)))
					defer running.Add(-1)
					ran.Add(1)
					time.Sleep(time.Second)
					return nil
				})
				if err != nil {
					rejected.Add(1)
				}
			})
		}
		synctest.Wait()
		require.Equal(t, 5, cb.GetStats().ProbesInFlight)
		rejection := rejection(t, cb)
		require.Equal(t, halfOpen, rejection.State)
		require.Zero(t, rejection.RetryAfter())
		callers.Wait()
		require.Equal(t, int64(5), most.Load())
		require.Equal(t, int64(5), ran.Load())
		require.Equal(t, int64(45), rejected.Load())
		require.Equal(t, closes, changes(rec)[2])
	})
}

// Rule 4: a probe that passed or failed has used up its place; the others decide.
func TestAPlaceIsUsedUpByAResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, _ := observed(t, small())
		toHalfOpen(t, cb, 30*time.Second)
		a, b := acquire(t, cb), acquire(t, cb)
		runScript(t, cb, "f")
		requireRejected(t, cb)
		a.Done(nil)
		requireRejected(t, cb)
		require.Equal(t, halfOpen, cb.State())
		b.Done(nil)
		require.Equal(t, closed, cb.State())
	})
}

// useless are probes that bring no verdict.
var useless = []struct {
	name    string
	probe   func(t *testing.T, cb *resilience.CircuitBreaker)
	outcome events.Outcome // what it counts as at once
	stuck   bool           // it holds its place until ProbeTimeout
}{
	{"cancelled", func(t *testing.T, cb *resilience.CircuitBreaker) {
		ctx, cancel := context.WithCancel(t.Context())
		_ = cb.Execute(ctx, func() error { cancel(); return ctx.Err() })
	}, ignored, false},
	{"cancelled with a cause", func(t *testing.T, cb *resilience.CircuitBreaker) {
		ctx, cancel := context.WithCancelCause(t.Context())
		_ = cb.Run(ctx, func(ctx context.Context) error { cancel(errOther); return context.Cause(ctx) })
	}, ignored, false},
	{"ignored by marker", func(t *testing.T, cb *resilience.CircuitBreaker) {
		runScript(t, cb, "i")
	}, ignored, false},
	{"ignored by the classifier", func(t *testing.T, cb *resilience.CircuitBreaker) {
		_ = cb.Execute(t.Context(), func() error { return context.Canceled })
	}, ignored, false},
	{"ignored through a permit", func(t *testing.T, cb *resilience.CircuitBreaker) {
		acquire(t, cb).Done(resilience.Ignore(errOther))
	}, ignored, false},
	{"panicking", func(t *testing.T, cb *resilience.CircuitBreaker) {
		runScript(t, cb, "p")
	}, failure, false},
	{"ending its goroutine", func(t *testing.T, cb *resilience.CircuitBreaker) {
		goexits(t, func() { _ = cb.Execute(t.Context(), exit) })
	}, failure, false},
	{"ending its goroutine in Run", func(t *testing.T, cb *resilience.CircuitBreaker) {
		goexits(t, func() { _ = cb.Run(t.Context(), func(context.Context) error { return exit() }) })
	}, failure, false},
	{"never returning", func(t *testing.T, cb *resilience.CircuitBreaker) {
		hold := make(chan struct{})
		t.Cleanup(func() { close(hold) })
		go func() { _ = cb.Execute(t.Context(), func() error { <-hold; return nil }) }()
		synctest.Wait()
	}, 0, true},
	{"a forgotten permit", func(t *testing.T, cb *resilience.CircuitBreaker) {
		_ = acquire(t, cb)
	}, 0, true},
}

// It must hold: half-open cannot wedge. All places are given to useless probes of
// each kind, three periods in a row, and after each the breaker can recover.
func TestHalfOpenCannotWedge(t *testing.T) {
	for _, tt := range useless {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := small()
				cb := resilience.NewCircuitBreaker(c) // no Recorder: some calls never finish
				toHalfOpen(t, cb, 30*time.Second)
				for range 3 {
					for range c.HalfOpenRequests {
						if cb.State() == halfOpen {
							tt.probe(t, cb)
						}
					}
					if tt.stuck {
						require.Equal(t, c.HalfOpenRequests, cb.GetStats().ProbesInFlight)
						requireRejected(t, cb)
						pass(c.ProbeTimeout - 1)
						require.Equal(t, halfOpen, cb.State())
						pass(1)
						require.Equal(t, open, cb.State(), "unasked")
					}
					require.Zero(t, cb.GetStats().ProbesInFlight)
					if cb.State() == open {
						pass(c.SleepWindow)
					}
					require.Equal(t, halfOpen, cb.State())
				}
				requireRecovers(t, cb)
			})
		})
	}
}

// One useless probe of each kind beside useful ones.
func TestAUselessProbeAmongUsefulOnes(t *testing.T) {
	for _, tt := range useless {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cb := resilience.NewCircuitBreaker(small())
				toHalfOpen(t, cb, 30*time.Second)
				before := cb.GetStats().Totals
				tt.probe(t, cb)
				s := cb.GetStats()
				switch {
				case tt.stuck:
					require.Equal(t, 1, s.ProbesInFlight)
					require.Equal(t, before, s.Totals)
				case tt.outcome == ignored:
					require.Zero(t, s.ProbesInFlight)
					require.Zero(t, s.Window)
					require.Equal(t, before.Ignored+1, s.Totals.Ignored)
				default:
					require.Zero(t, s.ProbesInFlight)
					require.Equal(t, events.Counts{Failure: 1}, s.Window)
					require.Equal(t, before.Failure+1, s.Totals.Failure)
				}
				requireRecovers(t, cb)
			})
		})
	}
}

// A sink that panics before the work begins gives the place back, at every kind of
// admission.
func TestAPlaceIsGivenBackWhenCallStartedPanics(t *testing.T) {
	for name, call := range map[string]func(t *testing.T, cb *resilience.CircuitBreaker){
		"Execute panics": func(t *testing.T, cb *resilience.CircuitBreaker) {
			require.Equal(t, "sink", panics(t, func() { _ = cb.Execute(t.Context(), healthy) }))
		},
		"Run panics": func(t *testing.T, cb *resilience.CircuitBreaker) {
			panics(t, func() { _ = cb.Run(t.Context(), func(context.Context) error { return nil }) })
		},
		"Acquire panics": func(t *testing.T, cb *resilience.CircuitBreaker) {
			panics(t, func() { _, _ = cb.Acquire(t.Context()) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var armed bool
				rec := eventstest.New(t)
				cb := resilience.NewCircuitBreaker(small(events.Sink{
					CallStarted: func(ctx context.Context, _ events.CallStarted) context.Context {
						if armed {
							panic("sink")
						}
						return ctx
					},
				}, rec.Sink()))
				toHalfOpen(t, cb, 30*time.Second)
				before := cb.GetStats()
				armed = true
				times(10, func() { call(t, cb) })
				require.Equal(t, before, cb.GetStats(), "the calls never began")
				armed = false
				requireRecovers(t, cb)
			})
		})
	}
}

func TestAPlaceIsGivenBackWhenCallStartedGoexits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var armed bool
		cb := resilience.NewCircuitBreaker(small(events.Sink{
			CallStarted: func(ctx context.Context, _ events.CallStarted) context.Context {
				if armed {
					_ = exit()
				}
				return ctx
			},
		}))
		toHalfOpen(t, cb, 30*time.Second)
		armed = true
		times(5, func() { goexits(t, func() { _ = cb.Execute(t.Context(), healthy) }) })
		armed = false
		require.Zero(t, cb.GetStats().ProbesInFlight)
		requireRecovers(t, cb)
	})
}

// Rule 4: a probe older than ProbeTimeout counts as failed, to the nanosecond, and
// its late result is inert.
func TestProbeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		toHalfOpen(t, cb, 30*time.Second)
		late := acquire(t, cb)
		pass(5*time.Second - 1)
		require.Equal(t, 1, cb.GetStats().ProbesInFlight)
		require.Zero(t, cb.GetStats().Window)
		pass(1)
		require.Equal(t, 0, cb.GetStats().ProbesInFlight)
		require.Equal(t, events.Counts{Failure: 1}, cb.GetStats().Window, "it counts as failed")
		require.Equal(t, halfOpen, cb.State())

		late.Done(nil)
		e := last[events.CallFinished](t, rec)
		require.True(t, e.Stale)
		require.Equal(t, success, e.Outcome)
		require.Equal(t, 5*time.Second, e.Duration)
		require.Equal(t, events.Counts{Failure: 1}, cb.GetStats().Window)
		require.Equal(t, events.Counts{Failure: 4, Success: 1}, cb.GetStats().Totals, "what it came to is known now")
		succeedIn(t, cb, 2)
		require.Equal(t, []change{trips, wakes, closes}, changes(rec))
	})
}

func TestAProbeJustInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		toHalfOpen(t, cb, 30*time.Second)
		a, b := acquire(t, cb), acquire(t, cb)
		time.Sleep(5*time.Second - 1)
		a.Done(nil)
		b.Done(nil)
		require.Equal(t, []change{trips, wakes, closes}, changes(rec))
		time.Sleep(time.Hour)
		require.Equal(t, closed, cb.State())
	})
}

// Rule 4: timeouts decide when they make the verdict certain, each probe at its own
// time, and the event says so.
func TestProbeTimeoutsDecide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		toHalfOpen(t, cb, 30*time.Second)
		halfOpened := time.Now()
		a := acquire(t, cb)
		time.Sleep(time.Second)
		b := acquire(t, cb)
		time.Sleep(time.Second)
		c := acquire(t, cb)
		a.Done(errBroken)
		pass(4*time.Second - 1)
		require.Equal(t, halfOpen, cb.State())
		pass(1)
		require.Equal(t, open, cb.State(), "b made it two of three")
		e := last[events.StateChanged](t, rec)
		require.Equal(t, events.ReasonProbeTimeout, e.Reason)
		require.Equal(t, halfOpened.Add(6*time.Second), e.Time)
		require.Equal(t, events.Counts{Failure: 2}, e.Counts)
		b.Done(nil)
		c.Done(nil)
		require.Equal(t, open, cb.State())
		require.Equal(t, []change{trips, wakes, probesStuck}, changes(rec))
	})
}

// A timer that was set for a probe that has come back must not miss the next one.
func TestProbeTimeoutOfTheSecondOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		c.SuccessThreshold = 1 // one failure decides
		cb, rec := observed(t, c)
		toHalfOpen(t, cb, 30*time.Second)
		a := acquire(t, cb)
		time.Sleep(2 * time.Second)
		b := acquire(t, cb)
		time.Sleep(time.Second)
		a.Done(resilience.Ignore(errOther))
		pass(4*time.Second - 1)
		require.Equal(t, halfOpen, cb.State())
		pass(1)
		require.Equal(t, []change{trips, wakes, probesStuck}, changes(rec))
		b.Done(nil)
	})
}

// The timer is set anew for a probe that comes after all others have gone.
func TestProbeTimeoutAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		c.SuccessThreshold = 1
		cb, rec := observed(t, c)
		toHalfOpen(t, cb, 30*time.Second)
		runScript(t, cb, "i")
		time.Sleep(time.Hour)
		require.Equal(t, halfOpen, cb.State(), "nothing times out while nothing runs")
		p := acquire(t, cb)
		pass(5*time.Second - 1)
		require.Equal(t, halfOpen, cb.State())
		pass(1)
		require.Equal(t, []change{trips, wakes, probesStuck}, changes(rec))
		p.Done(nil)
	})
}

// Without a timer, after Close, admission and settlement notice what is overdue.
func TestProbeTimeoutWithoutATimer(t *testing.T) {
	t.Run("an admission does", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cb, _ := observed(t, small())
			toHalfOpen(t, cb, 30*time.Second)
			stuck := []resilience.Permit{acquire(t, cb), acquire(t, cb), acquire(t, cb)}
			cb.Close()
			pass(5 * time.Second)
			require.Equal(t, halfOpen, cb.State())
			requireRejected(t, cb)
			require.Equal(t, open, cb.State())
			for _, p := range stuck {
				p.Done(nil)
			}
			require.Equal(t, open, cb.State())
		})
	})
	t.Run("a settlement does, of another probe", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cb, rec := observed(t, small())
			toHalfOpen(t, cb, 30*time.Second)
			a, b := acquire(t, cb), acquire(t, cb)
			cb.Close()
			time.Sleep(time.Second)
			c := acquire(t, cb)
			time.Sleep(4 * time.Second)
			c.Done(nil) // in time; a and b are not
			require.Equal(t, open, cb.State())
			require.True(t, last[events.BreakerRetired](t, rec).ID > 0)
			a.Done(nil)
			b.Done(nil)
			require.Equal(t, open, cb.State())
		})
	})
	t.Run("a settlement does, of its own probe", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cb, rec := observed(t, small())
			toHalfOpen(t, cb, 30*time.Second)
			late := acquire(t, cb)
			cb.Close()
			time.Sleep(5 * time.Second)
			late.Done(nil)
			require.True(t, last[events.CallFinished](t, rec).Stale)
			require.Equal(t, events.Counts{Failure: 1}, cb.GetStats().Window)
			require.Equal(t, halfOpen, cb.State())
		})
	})
}

// Rule 4: a result of an earlier half-open period does nothing in a later one.
func TestAProbeOfAnEarlierPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		toHalfOpen(t, cb, 30*time.Second)
		old := acquire(t, cb)
		failIn(t, cb, 2)
		pass(30 * time.Second)
		require.Equal(t, halfOpen, cb.State())
		succeedIn(t, cb, 1)
		old.Done(nil)
		require.True(t, last[events.CallFinished](t, rec).Stale)
		require.Equal(t, halfOpen, cb.State(), "the second success must be its own")
		require.Equal(t, events.Counts{Success: 1}, cb.GetStats().Window)
		require.Zero(t, cb.GetStats().ProbesInFlight)
		succeedIn(t, cb, 1)
		require.Equal(t, closed, cb.State())
	})
}

// ProbeTimeout is the sleep window unless it is set.
func TestProbeTimeoutIsTheSleepWindowByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		c.ProbeTimeout, c.SleepWindow, c.HalfOpenRequests = 0, 7*time.Second, 1
		cb, rec := observed(t, c)
		toHalfOpen(t, cb, 7*time.Second)
		p := acquire(t, cb)
		pass(7*time.Second - 1)
		require.Equal(t, halfOpen, cb.State())
		pass(1)
		require.Equal(t, open, cb.State())
		p.Done(nil)
		require.Equal(t, probesStuck, changes(rec)[2])
	})
}

// A dependency that stays down keeps the breaker going round, with probes of every
// kind, for a day; then it comes back.
func TestALongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb := resilience.NewCircuitBreaker(small())
		trip(t, cb)
		began := time.Now()
		for i := 0; time.Since(began) < 24*time.Hour; i++ {
			pass(7 * time.Second)
			if cb.State() == halfOpen {
				useless[i%len(useless)].probe(t, cb)
			}
		}
		pass(time.Minute)
		for range 3 {
			if cb.State() == halfOpen {
				_ = cb.Execute(t.Context(), healthy)
			}
		}
		require.Equal(t, closed, cb.State())
	})
}
