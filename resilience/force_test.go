package resilience_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

// statuses brings a new breaker into each status it can have. They must be called in
// a bubble.
var statuses = map[events.Status]func(t *testing.T, cb *resilience.CircuitBreaker){
	events.StatusClosed: func(t *testing.T, cb *resilience.CircuitBreaker) { failIn(t, cb, 1) },
	events.StatusOpen:   trip,
	events.StatusHalfOpen: func(t *testing.T, cb *resilience.CircuitBreaker) {
		toHalfOpen(t, cb, 30*time.Second)
	},
	events.StatusForcedOpen:   func(_ *testing.T, cb *resilience.CircuitBreaker) { cb.ForceOpen() },
	events.StatusForcedClosed: func(_ *testing.T, cb *resilience.CircuitBreaker) { cb.ForceClosed() },
}

type control struct {
	name string
	do   func(*resilience.CircuitBreaker)
}

var (
	forceOpen   = control{"ForceOpen", (*resilience.CircuitBreaker).ForceOpen}
	forceClosed = control{"ForceClosed", (*resilience.CircuitBreaker).ForceClosed}
	clearForce  = control{"ClearForce", (*resilience.CircuitBreaker).ClearForce}
	reset       = control{"Reset", (*resilience.CircuitBreaker).Reset}
)

// Rule 8: what each control does in each status, and the event it is.
func TestControls(t *testing.T) {
	for _, tt := range []struct {
		in      events.Status
		control control
		to      events.Status
		reason  events.Reason // "" if nothing happens
	}{
		{events.StatusClosed, forceOpen, events.StatusForcedOpen, events.ReasonForced},
		{events.StatusOpen, forceOpen, events.StatusForcedOpen, events.ReasonForced},
		{events.StatusHalfOpen, forceOpen, events.StatusForcedOpen, events.ReasonForced},
		{events.StatusForcedOpen, forceOpen, events.StatusForcedOpen, ""},
		{events.StatusForcedClosed, forceOpen, events.StatusForcedOpen, events.ReasonForced},

		{events.StatusClosed, forceClosed, events.StatusForcedClosed, events.ReasonForced},
		{events.StatusOpen, forceClosed, events.StatusForcedClosed, events.ReasonForced},
		{events.StatusHalfOpen, forceClosed, events.StatusForcedClosed, events.ReasonForced},
		{events.StatusForcedOpen, forceClosed, events.StatusForcedClosed, events.ReasonForced},
		{events.StatusForcedClosed, forceClosed, events.StatusForcedClosed, ""},

		{events.StatusClosed, clearForce, events.StatusClosed, ""},
		{events.StatusOpen, clearForce, events.StatusOpen, ""},
		{events.StatusHalfOpen, clearForce, events.StatusHalfOpen, ""},
		{events.StatusForcedOpen, clearForce, events.StatusOpen, events.ReasonForceCleared},
		{events.StatusForcedClosed, clearForce, events.StatusClosed, events.ReasonForceCleared},

		{events.StatusClosed, reset, events.StatusClosed, events.ReasonReset},
		{events.StatusOpen, reset, events.StatusClosed, events.ReasonReset},
		{events.StatusHalfOpen, reset, events.StatusClosed, events.ReasonReset},
		{events.StatusForcedOpen, reset, events.StatusClosed, events.ReasonReset},
		{events.StatusForcedClosed, reset, events.StatusClosed, events.ReasonReset},
	} {
		t.Run(tt.control.name+" in "+tt.in.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cb, rec := observed(t, small())
				var listened []change
				cb.OnStateChange(func(from, to resilience.CircuitState) {
					listened = append(listened, change{from: from, to: to})
				})
				statuses[tt.in](t, cb)
				time.Sleep(time.Second)
				before, told := cb.GetStats(), len(changes(rec))
				require.Equal(t, tt.in, before.Status())
				listened = nil
				tt.control.do(cb)
				after := cb.GetStats()
				require.Equal(t, tt.to, after.Status())
				if tt.reason == "" {
					require.Equal(t, before, after, "nothing happens")
					require.Len(t, changes(rec), told)
					return
				}

				require.Len(t, changes(rec), told+1)
				e := last[events.StateChanged](t, rec)
				require.Equal(t, tt.reason, e.Reason)
				require.Equal(t, tt.in, events.StatusOf(e.From, e.FromForced))
				require.Equal(t, tt.to, events.StatusOf(e.To, e.Forced))
				require.Equal(t, before.Generation+1, e.Generation)
				require.Equal(t, before.Window, e.Counts)
				require.Equal(t, time.Now(), e.Time)
				require.Equal(t, time.Now(), after.Since)
				require.Equal(t, time.Since(before.Since), e.Elapsed)
				require.Zero(t, after.Window, "entered anew")
				require.Equal(t, before.Totals, after.Totals, "totals stay")
				if tt.to == events.StatusOpen {
					require.Equal(t, 30*time.Second, e.RetryAfter)
					require.Equal(t, 30*time.Second, after.RetryAfter)
				} else {
					require.Zero(t, e.RetryAfter)
					require.Zero(t, after.RetryAfter)
				}
				if before.State == after.State {
					require.Empty(t, listened, "State shows no change")
				} else {
					require.Equal(t, []change{{from: before.State, to: after.State}}, listened)
				}
			})
		})
	}
}

// Rule 8: forced open rejects every call on every path, for as long as it takes.
func TestForcedOpenRejectsEverything(t *testing.T) {
	for status, move := range statuses {
		t.Run("in "+status.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cb, rec := observed(t, small())
				move(t, cb)
				cb.ForceOpen()
				told := len(changes(rec))
				for range 10 {
					rejected := rejection(t, cb)
					require.True(t, rejected.Forced)
					require.Zero(t, rejected.RetryAfter())
					require.True(t, rejected.Until.IsZero())
					_, err := cb.Acquire(t.Context())
					require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
					e := last[events.CallRejected](t, rec)
					require.True(t, e.Forced)
					require.Zero(t, e.RetryAfter)
					pass(time.Hour)
				}
				require.Equal(t, open, cb.State())
				require.Len(t, changes(rec), told, "no sleep window ends it")
			})
		})
	}
}

// Rule 8: forced closed admits every call, whatever comes of it.
func TestForcedClosedAdmitsEverything(t *testing.T) {
	for status, move := range statuses {
		t.Run("in "+status.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := small()
				c.SlowCallDuration, c.SlowCallThreshold = time.Minute, 0.1
				cb, rec := observed(t, c)
				move(t, cb)
				cb.ForceClosed()
				told, before := len(changes(rec)), cb.GetStats().Totals
				for range 5 {
					failIn(t, cb, 10)
					runScript(t, cb, "ppi")
					_ = cb.Execute(t.Context(), func() error { time.Sleep(time.Hour); return nil })
				}
				require.Equal(t, closed, cb.State())
				require.True(t, cb.GetStats().Forced)
				require.False(t, cb.GetStats().Judged)
				require.Len(t, changes(rec), told)
				before.Failure += 60
				before.Ignored += 5
				before.Success += 5
				before.Slow += 5
				require.Equal(t, before, cb.GetStats().Totals)

				cb.ClearForce()
				require.Zero(t, cb.GetStats().Window, "nothing of that is held against it")
				failIn(t, cb, 3)
				require.Equal(t, closed, cb.State())
				failIn(t, cb, 1)
				require.Equal(t, open, cb.State())
			})
		})
	}
}

// Rule 8: lifted from forced open, it sleeps a whole window and then probes.
func TestClearForceOfForcedOpenSleepsAWholeWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, _ := observed(t, small())
		trip(t, cb)
		time.Sleep(29 * time.Second)
		cb.ForceOpen()
		time.Sleep(time.Hour)
		cb.ClearForce()
		pass(30*time.Second - 1)
		require.False(t, rejection(t, cb).Forced)
		pass(1)
		requireRecovers(t, cb)
	})
}

// The timer of a state that a control ended does nothing in the next.
func TestControlsDisarmTheTimer(t *testing.T) {
	for _, c := range []control{forceOpen, forceClosed, reset} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cb, rec := observed(t, small())
				trip(t, cb)
				time.Sleep(29 * time.Second)
				c.do(cb)
				told := len(changes(rec))
				pass(24 * time.Hour)
				require.Len(t, changes(rec), told)

				cb.Reset()
				toHalfOpen(t, cb, 30*time.Second)
				p := acquire(t, cb)
				c.do(cb)
				told = len(changes(rec))
				pass(24 * time.Hour)
				require.Len(t, changes(rec), told)
				p.Done(nil)
				require.Len(t, changes(rec), told)
			})
		})
	}
}

func TestResetIsAFreshStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, _ := observed(t, small())
		failIn(t, cb, 3)
		cb.Reset()
		failIn(t, cb, 3)
		require.Equal(t, closed, cb.State())
		failIn(t, cb, 1)
		require.Equal(t, open, cb.State())
		cb.Reset()
		succeedIn(t, cb, 1)
	})
}

// Close retires a breaker in every status: it tells so once, as the last event, and
// what is under way finishes as it would have.
func TestCloseRetires(t *testing.T) {
	for status, move := range statuses {
		t.Run("in "+status.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cb, rec := observed(t, small())
				created := last[events.BreakerCreated](t, rec)
				move(t, cb)
				var underWay []resilience.Permit
				if cb.State() != open {
					underWay = append(underWay, acquire(t, cb), acquire(t, cb))
				}
				cb.Close()
				require.Equal(t, events.BreakerRetired{Header: created.Header, Time: time.Now()},
					last[events.BreakerRetired](t, rec))
				told := len(rec.Events())

				for _, p := range underWay {
					p.Done(nil)
				}
				finished := rec.Events()[told:]
				require.Len(t, finished, len(underWay), "calls under way finish, and tell so")
				for _, e := range finished {
					require.Equal(t, events.KindCallFinished, e.Kind())
				}

				told = len(rec.Events())
				cb.Close()
				cb.Reset()
				runScript(t, cb, "ssfsiff")
				requireRejected(t, cb)
				cb.ForceOpen()
				cb.ForceClosed()
				cb.ClearForce()
				pass(24 * time.Hour)
				require.Len(t, rec.Events(), told, "silent afterwards")
				require.Len(t, eventstest.Of[events.BreakerRetired](rec), 1)
			})
		})
	}
}

// Who still holds a closed breaker is still protected.
func TestAClosedDownBreakerStillProtects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, _ := observed(t, small())
		cb.Close()
		for range 3 {
			succeedIn(t, cb, 1)
			failIn(t, cb, 3)
			require.Equal(t, open, cb.State())
			rejected := rejection(t, cb)
			require.Equal(t, 30*time.Second, rejected.RetryAfter())
			pass(30 * time.Second)
			succeedIn(t, cb, 2)
			require.Equal(t, closed, cb.State())
		}
		failIn(t, cb, 4)
		pass(30 * time.Second)
		failIn(t, cb, 2)
		requireRejected(t, cb)
		require.Equal(t, events.Counts{Success: 9, Failure: 15, Rejected: 4}, cb.GetStats().Totals)
	})
}

// Close stops the timers: the state does not change by itself any more.
func TestCloseStopsTheTimers(t *testing.T) {
	t.Run("of the sleep window", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cb, _ := observed(t, small())
			trip(t, cb)
			before := cb.GetStats().Generation
			cb.Close()
			pass(24 * time.Hour)
			require.Equal(t, open, cb.State())
			require.Equal(t, before, cb.GetStats().Generation)
			require.Zero(t, cb.GetStats().RetryAfter, "not negative")
		})
	})
	t.Run("of the probes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cb, _ := observed(t, small())
			toHalfOpen(t, cb, 30*time.Second)
			p, q := acquire(t, cb), acquire(t, cb)
			cb.Close()
			pass(24 * time.Hour)
			require.Equal(t, 2, cb.GetStats().ProbesInFlight)
			p.Done(nil)
			q.Done(nil)
		})
	})
}

// Listeners hear nothing of a closed breaker either.
func TestListenersOfAClosedDownBreaker(t *testing.T) {
	cb, _ := observed(t, small())
	heard := 0
	cb.OnStateChange(func(_, _ resilience.CircuitState) { heard++ })
	cb.Close()
	cb.ForceOpen()
	cb.Reset()
	require.Zero(t, heard)
}

// Close may come at any moment of a call. In a bubble, so that a timer's goroutine that
// delivers the last events can be waited for.
func TestCloseRacesWithCalls(t *testing.T) {
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			c := small()
			c.SleepWindow, c.ProbeTimeout = 1, 1
			cb, rec := observed(t, c)
			var all sync.WaitGroup
			for range 2 {
				all.Go(func() {
					for range 20 {
						_ = cb.Execute(t.Context(), broken)
						_ = cb.Execute(t.Context(), healthy)
						time.Sleep(time.Nanosecond)
					}
				})
			}
			all.Go(cb.ForceOpen)
			all.Go(cb.Close)
			all.Go(cb.Reset)
			all.Wait()
			synctest.Wait()
			require.Len(t, eventstest.Of[events.BreakerRetired](rec), 1)
			require.Equal(t, uint64(80), sum(cb.GetStats().Totals))
		})
	}
}

func sum(c events.Counts) uint64 { return c.Success + c.Failure + c.Ignored + c.Rejected }
