package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

// runScript makes calls by a script: one letter for each call, s for a success, f for a failure,
// i for an ignored error, p for a panic.
func runScript(t *testing.T, cb *resilience.CircuitBreaker, outcomes string) {
	t.Helper()
	for _, o := range outcomes {
		switch o {
		case 's':
			succeedIn(t, cb, 1)
		case 'f':
			failIn(t, cb, 1)
		case 'i':
			require.ErrorIs(t, cb.Execute(t.Context(), func() error { return resilience.Ignore(errOther) }), errOther)
		case 'p':
			panics(t, func() { _ = cb.Execute(t.Context(), func() error { panic("down") }) })
		default:
			t.Fatalf("no outcome %q", o)
		}
	}
}

// Rule 2: what opens a breaker.
func TestOpensWhenVolumeAndRateAreReached(t *testing.T) {
	for _, tt := range []struct {
		name   string
		volume int
		rate   float64
		script string // must leave the breaker closed
		opens  string // must open it with its last call, "" if the script is all
	}{
		{"no call", 4, 0.5, "", ""},
		{"volume not reached", 4, 0.5, "fff", ""},
		{"failure that completes the volume", 4, 0.5, "fff", "f"},
		{"success that completes the volume", 4, 0.5, "fff", "s"},
		{"success that completes volume and exact rate", 4, 0.5, "sff", "s"},
		{"rate not reached", 4, 0.5, "sssff", "f"},
		{"a single call", 1, 1, "", "f"},
		{"a single success", 1, 1, "s", ""},
		{"all must fail", 3, 1, "s" + "ffffffffff", ""},
		{"all failed", 3, 1, "ff", "f"},
		{"panics are failures", 4, 0.5, "ssp", "p"},
		{"ignored calls are no volume", 4, 0.5, "fffiiiiii", "f"},
		{"ignored calls are no successes", 4, 0.5, "sfiiiis", "f"},
		{"ignored calls open nothing", 1, 0.1, "iiiiiiiiiiii", ""},
		{"low rate", 10, 0.1, "sssssssss", "f"},
		{"low rate just missed", 10, 0.1, "ssssssssss" + "f", "f"},
		{"a decimal rate that no float64 holds", 100, 0.55, strings.Repeat("s", 45) + strings.Repeat("f", 54), "f"},
		{"one below it", 100, 0.55, strings.Repeat("s", 46) + strings.Repeat("f", 54), ""},
		{"a third", 3, 1.0 / 3, "ss", "f"},
		{"rate reached before volume, lost, reached again", 6, 0.5, "ffssss" + "f", "f"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := small()
			c.VolumeThreshold, c.ErrorThreshold = tt.volume, tt.rate
			cb, rec := observed(t, c)
			runScript(t, cb, tt.script)
			require.Equal(t, closed, cb.State())
			require.Empty(t, changes(rec))
			if tt.opens == "" {
				return
			}
			runScript(t, cb, tt.opens)
			require.Equal(t, open, cb.State())
			require.Equal(t, []change{trips}, changes(rec))
		})
	}
}

// Rule 2: the event that tells of an opening.
func TestOpeningTellsWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		time.Sleep(3 * time.Second)
		runScript(t, cb, "siif")
		time.Sleep(4 * time.Second)
		runScript(t, cb, "ff")
		require.Equal(t, []events.StateChanged{{
			Header:     last[events.BreakerCreated](t, rec).Header,
			Time:       time.Now(),
			From:       closed,
			To:         open,
			Reason:     events.ReasonErrorRate,
			Generation: 2,
			Counts:     events.Counts{Success: 1, Failure: 3},
			Elapsed:    7 * time.Second,
			RetryAfter: 30 * time.Second,
		}}, eventstest.Of[events.StateChanged](rec))
	})
}

func TestExpiredFailuresOpenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, _ := observed(t, small())
		failIn(t, cb, 3)
		time.Sleep(60*time.Second - 1)
		require.Equal(t, uint64(3), cb.GetStats().Window.Failure)
		time.Sleep(time.Nanosecond)
		require.Equal(t, uint64(0), cb.GetStats().Window.Failure)
		failIn(t, cb, 3)
		require.Equal(t, closed, cb.State())
		time.Sleep(59 * time.Second)
		failIn(t, cb, 1)
		require.Equal(t, open, cb.State(), "no bucket expires early")
	})
}

// When old successes expire, the rate rises without a failure; the next outcome of
// any kind is judged by it.
func TestASuccessIsJudgedAfterSuccessesExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		succeedIn(t, cb, 10)
		time.Sleep(10 * time.Second)
		failIn(t, cb, 3)
		time.Sleep(50 * time.Second)
		require.Equal(t, closed, cb.State())
		succeedIn(t, cb, 1)
		require.Equal(t, open, cb.State())
		require.Equal(t, events.Counts{Success: 1, Failure: 3}, last[events.StateChanged](t, rec).Counts)
	})
}

// Rule 3: the boundary of the sleep window.
func TestOpenUntilTheSleepWindowEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		trip(t, cb)
		requireRejected(t, cb)
		pass(30*time.Second - 1)
		require.Equal(t, open, cb.State(), "one nanosecond early")
		require.Equal(t, time.Nanosecond, rejection(t, cb).RetryAfter())
		pass(1)
		require.Equal(t, halfOpen, cb.State())
		succeedIn(t, cb, 1)
		require.Equal(t, []change{trips, wakes}, changes(rec))
	})
}

// Rule 3: nobody calls, and the state is true all the same.
func TestTurnsHalfOpenWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		ctx := context.WithValue(t.Context(), key{}, "caller")
		var told []any
		cb, rec := observed(t, small(events.Sink{StateChanged: func(ctx context.Context, _ events.StateChanged) {
			told = append(told, ctx.Value(key{}))
		}}))
		var listened []string
		cb.OnStateChange(func(from, to resilience.CircuitState) {
			listened = append(listened, fmt.Sprint(from, " to ", to))
		})
		times(4, func() { _ = cb.Execute(ctx, broken) })
		opened := time.Now()
		pass(24 * time.Hour)

		require.Equal(t, halfOpen, cb.State())
		require.Equal(t, halfOpen, cb.GetStats().State)
		require.Equal(t, opened.Add(30*time.Second), cb.GetStats().Since)
		e := last[events.StateChanged](t, rec)
		require.Equal(t, opened.Add(30*time.Second), e.Time)
		require.Equal(t, 30*time.Second, e.Elapsed)
		require.Zero(t, e.RetryAfter)
		require.Zero(t, e.Counts)
		require.Equal(t, []any{"caller", nil}, told, "a timer has no caller")
		require.Equal(t, []string{"closed to open", "open to half-open"}, listened)
	})
}

// Rule 3: a call that comes before the timer, here because Close stopped it.
func TestAdmissionEndsTheSleepWindowWithoutATimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, _ := observed(t, small())
		trip(t, cb)
		cb.Close()
		time.Sleep(30*time.Second - 1)
		requireRejected(t, cb)
		pass(1)
		require.Equal(t, open, cb.State(), "there is no timer any more")
		succeedIn(t, cb, 1)
		require.Equal(t, halfOpen, cb.State())
		require.Equal(t, uint64(3), cb.GetStats().Generation)
	})
}

// Rule 3: the boundary is exact for sleep windows of every length, whether calls come
// all the time, only at the end, or not at all, and whether the timer runs or Close has
// stopped it.
func TestTheEndOfEverySleepWindow(t *testing.T) {
	for _, sleep := range []time.Duration{
		1, 2, 3, 4, 5, time.Microsecond, 10 * time.Millisecond, time.Second, time.Second + 1, time.Minute, 24 * time.Hour, 876000 * time.Hour,
	} {
		for _, steps := range []time.Duration{1, 2, 7, 1000} { // calls on the way
			for _, close := range []bool{false, true} {
				t.Run(fmt.Sprint(sleep, " in ", int(steps), " steps, close ", close), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c := small()
						c.SleepWindow = sleep
						cb, _ := observed(t, c)
						trip(t, cb)
						opened := time.Now()
						if close {
							cb.Close()
						}
						for i := range steps {
							if at := opened.Add(sleep / steps * i); at.After(time.Now()) {
								pass(time.Until(at))
							}
							require.Equal(t, sleep-time.Since(opened), rejection(t, cb).RetryAfter())
						}
						pass(sleep - 1 - time.Since(opened))
						require.Equal(t, open, cb.State())
						requireRejected(t, cb)
						pass(1)
						if !close {
							require.Equal(t, halfOpen, cb.State())
						}
						succeedIn(t, cb, 1)
						require.Equal(t, halfOpen, cb.State())
						cb.Close()
					})
				})
			}
		}
	}
}

// Rule 3: Close in the middle of a sleep window, at any point of it.
func TestCloseWithinASleepWindow(t *testing.T) {
	const sleep = 2 * time.Second
	for _, at := range []time.Duration{0, 1, time.Second, sleep - 250*time.Millisecond - 1, sleep - 250*time.Millisecond, sleep - 1, sleep} {
		t.Run(at.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := small()
				c.SleepWindow = sleep
				cb, _ := observed(t, c)
				trip(t, cb)
				time.Sleep(at)
				cb.Close() // at the very end, the timer may be earlier or not
				synctest.Wait()
				if at < sleep {
					requireRejected(t, cb)
					pass(sleep - at - 1)
					requireRejected(t, cb)
					pass(1)
				}
				succeedIn(t, cb, 1)
				require.Equal(t, halfOpen, cb.State())
				failIn(t, cb, 2)
				require.Equal(t, open, cb.State())
				pass(sleep - 1)
				requireRejected(t, cb)
				pass(1)
				succeedIn(t, cb, 2)
				require.Equal(t, closed, cb.State(), "it goes on like that")
			})
		})
	}
}

// Rule 3: a call and the timer at the same instant make one change.
func TestTimerAndAdmissionTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		trip(t, cb)
		for range 10 {
			go func() {
				time.Sleep(30 * time.Second)
				_ = cb.Execute(t.Context(), func() error {
					time.Sleep(time.Second)
					return nil
				})
			}()
		}
		pass(30 * time.Second)
		require.Equal(t, []change{trips, wakes}, changes(rec))
		require.Equal(t, 3, cb.GetStats().ProbesInFlight)
		require.Equal(t, uint64(7), cb.GetStats().Totals.Rejected)
		pass(time.Second)
		require.Equal(t, []change{trips, wakes, closes}, changes(rec))
	})
}

// Rule 5: a call that began before a change influences nothing after it, whatever it
// comes to and whatever the state has become.
func TestResultsOfAnEarlierStateAreInert(t *testing.T) {
	later := []struct {
		name string
		move func(t *testing.T, cb *resilience.CircuitBreaker)
	}{
		{"open", trip},
		{"half-open", func(t *testing.T, cb *resilience.CircuitBreaker) { toHalfOpen(t, cb, 30*time.Second) }},
		{"half-open with a probe out", func(t *testing.T, cb *resilience.CircuitBreaker) {
			toHalfOpen(t, cb, 30*time.Second)
			p := acquire(t, cb)
			t.Cleanup(func() { p.Done(nil) })
		}},
		{"closed again", func(t *testing.T, cb *resilience.CircuitBreaker) {
			toHalfOpen(t, cb, 30*time.Second)
			succeedIn(t, cb, 2)
		}},
		{"reset", func(_ *testing.T, cb *resilience.CircuitBreaker) { cb.Reset() }},
		{"reset with almost enough failures", func(t *testing.T, cb *resilience.CircuitBreaker) {
			cb.Reset()
			failIn(t, cb, 3)
		}},
		{"forced open", func(_ *testing.T, cb *resilience.CircuitBreaker) { cb.ForceOpen() }},
		{"forced closed", func(_ *testing.T, cb *resilience.CircuitBreaker) { cb.ForceClosed() }},
		{"open again, after a whole round", func(t *testing.T, cb *resilience.CircuitBreaker) {
			toHalfOpen(t, cb, 30*time.Second)
			succeedIn(t, cb, 2)
			trip(t, cb)
		}},
	}
	results := []struct {
		name    string
		finish  func(t *testing.T, p resilience.Permit)
		outcome events.Outcome
	}{
		{"success", func(_ *testing.T, p resilience.Permit) { p.Done(nil) }, success},
		{"failure", func(_ *testing.T, p resilience.Permit) { p.Done(errBroken) }, failure},
		{"ignored", func(_ *testing.T, p resilience.Permit) { p.Done(resilience.Ignore(errBroken)) }, ignored},
	}
	begun := []struct {
		name string
		from events.State
		move func(t *testing.T, cb *resilience.CircuitBreaker)
	}{
		{"closed", closed, func(*testing.T, *resilience.CircuitBreaker) {}},
		{"half-open", halfOpen, func(t *testing.T, cb *resilience.CircuitBreaker) { toHalfOpen(t, cb, 30*time.Second) }},
	}
	for _, b := range begun {
		for _, l := range later {
			for _, r := range results {
				t.Run(b.name+", then "+l.name+", "+r.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c := small()
						c.ProbeTimeout = 24 * time.Hour
						cb, rec := observed(t, c)
						b.move(t, cb)
						calls := []resilience.Permit{acquire(t, cb), acquire(t, cb), acquire(t, cb)}
						if b.from == halfOpen {
							cb.Reset() // else there would be no way on: all probes are out
						}
						l.move(t, cb)
						synctest.Wait()
						before, told := cb.GetStats(), len(changes(rec))
						for _, p := range calls {
							r.finish(t, p)
						}
						synctest.Wait()
						after := cb.GetStats()

						require.Len(t, changes(rec), told)
						for _, e := range eventstest.Of[events.CallFinished](rec)[len(eventstest.Of[events.CallFinished](rec))-3:] {
							require.True(t, e.Stale)
							require.Equal(t, b.from, e.State)
							require.Equal(t, r.outcome, e.Outcome)
						}
						want := before
						switch r.outcome {
						case success:
							want.Totals.Success += 3
						case failure:
							want.Totals.Failure += 3
						default:
							want.Totals.Ignored += 3
						}
						require.Equal(t, want, after, "they count in the totals and nowhere else")
					})
				})
			}
		}
	}
}

// Rule 5: a stale panic or Goexit is as inert as a stale error.
func TestAStalePanicIsInert(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, cb *resilience.CircuitBreaker, work func() error){
		"panic": func(t *testing.T, cb *resilience.CircuitBreaker, work func() error) {
			panics(t, func() {
				_ = cb.Execute(t.Context(), func() error { _ = work(); panic("late") })
			})
		},
		"Goexit": func(t *testing.T, cb *resilience.CircuitBreaker, work func() error) {
			goexits(t, func() {
				_ = cb.Execute(t.Context(), func() error { _ = work(); return exit() })
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cb, rec := observed(t, small())
				end(t, cb, func() error { trip(t, cb); return nil })
				e := last[events.CallFinished](t, rec)
				require.True(t, e.Stale)
				require.True(t, e.Panicked)
				require.Equal(t, []change{trips}, changes(rec))
				require.Equal(t, events.Counts{Failure: 5}, cb.GetStats().Totals)
			})
		})
	}
}

// Rule 5: each state begins with nothing counted, and generations have no gaps.
func TestEachStateBeginsAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		require.Equal(t, uint64(1), cb.GetStats().Generation)
		for round := range uint64(5) {
			trip(t, cb)
			require.Zero(t, cb.GetStats().Window)
			pass(30 * time.Second)
			require.Zero(t, cb.GetStats().Window)
			succeedIn(t, cb, 2)
			require.Equal(t, closed, cb.State())
			require.Zero(t, cb.GetStats().Window)
			require.Equal(t, 3*round+4, cb.GetStats().Generation)
		}
		require.Len(t, changes(rec), 15)
	})
}

// It must hold: recovery is clean.
func TestRecoveryIsClean(t *testing.T) {
	for _, script := range []string{"s", "f", "sf", "fs", "fff", "ifiifi", "pp"} {
		t.Run(script, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cb, _ := observed(t, small())
				old := []resilience.Permit{acquire(t, cb), acquire(t, cb), acquire(t, cb)}
				toHalfOpen(t, cb, 30*time.Second)
				succeedIn(t, cb, 2)
				require.Equal(t, closed, cb.State())
				for _, p := range old {
					p.Done(errBroken)
				}
				runScript(t, cb, script)
				require.Equal(t, closed, cb.State())
			})
		})
	}
}

// It must hold: with a volume of one, too, a success after closing reopens nothing.
func TestRecoveryIsCleanAtVolumeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		c.VolumeThreshold, c.ErrorThreshold, c.HalfOpenRequests = 1, 0.6, 1
		cb, _ := observed(t, c)
		late := acquire(t, cb)
		failIn(t, cb, 1)
		pass(30 * time.Second)
		succeedIn(t, cb, 1)
		require.Equal(t, closed, cb.State())
		late.Done(errBroken)
		succeedIn(t, cb, 1)
		require.Equal(t, closed, cb.State())
		failIn(t, cb, 1)
		require.Equal(t, closed, cb.State(), "one of two, and not two of three")
	})
}

// Rule 6: a context that is done already.
func TestADoneContextIsNotRun(t *testing.T) {
	cause := errors.New("the cause")
	contexts := map[string]struct {
		end  func(t *testing.T) context.Context
		want error
	}{
		"canceled": {func(t *testing.T) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return ctx
		}, context.Canceled},
		"canceled with a cause": {func(t *testing.T) context.Context {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(cause)
			return ctx
		}, context.Canceled},
		"past its deadline": {func(t *testing.T) context.Context {
			ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-1))
			t.Cleanup(cancel)
			return ctx
		}, context.DeadlineExceeded},
	}
	states := map[string]func(t *testing.T, cb *resilience.CircuitBreaker){
		"closed":    func(*testing.T, *resilience.CircuitBreaker) {},
		"open":      trip,
		"half-open": func(t *testing.T, cb *resilience.CircuitBreaker) { toHalfOpen(t, cb, 30*time.Second) },
		"forced":    func(_ *testing.T, cb *resilience.CircuitBreaker) { cb.ForceOpen() },
	}
	for ended, c := range contexts {
		for state, move := range states {
			t.Run(state+", "+ended, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cb, rec := observed(t, small())
					move(t, cb)
					before, told := cb.GetStats(), len(rec.Events())
					ctx := c.end(t)
					run := func() error { t.Error("it ran"); return nil }
					for range 5 {
						require.Equal(t, c.want, cb.Execute(ctx, run))
						require.Equal(t, c.want, cb.Run(ctx, func(context.Context) error { return run() }))
						p, err := cb.Acquire(ctx)
						require.Equal(t, c.want, err)
						require.Equal(t, resilience.Permit{}, p)
					}
					require.Equal(t, before, cb.GetStats())
					require.Len(t, rec.Events(), told)
				})
			})
		}
	}
}

// Rule 6: a context that ends while the call runs.
func TestContextErrorsOfTheWork(t *testing.T) {
	cause := errors.New("user went away")
	slice := unhashable{"a", "b"}
	all := func(error) bool { return true }
	for _, tt := range []struct {
		name     string
		cancel   error // the cause to cancel with; nil for none, errNoCancel for no cancellation
		deadline bool  // the context passes its deadline
		classify func(error) bool
		err      error
		want     events.Outcome
	}{
		{"canceled", nil, false, nil, context.Canceled, ignored},
		{"canceled, wrapped", nil, false, nil, fmt.Errorf("get: %w", context.Canceled), ignored},
		{"canceled, whatever the classifier thinks", nil, false, all, context.Canceled, ignored},
		{"canceled with a cause", cause, false, all, context.Canceled, ignored},
		{"canceled, the cause returned", cause, false, all, cause, ignored},
		{"canceled, the cause wrapped", cause, false, all, fmt.Errorf("get: %w", cause), ignored},
		{"canceled, another error", cause, false, nil, errBroken, failure},
		{"canceled, success", cause, false, nil, nil, success},
		{"a cause that cannot be compared", slice, false, all, slice, failure},
		{"a cause that cannot be compared, canceled", slice, false, all, context.Canceled, ignored},
		{"a cause that cannot be compared, another error", slice, false, all, errBroken, failure},
		{"an error that cannot be compared", cause, false, all, slice, failure},
		{"not the caller's cancellation", errNoCancel, false, nil, context.Canceled, ignored},
		{"not the caller's cancellation, classifier asked", errNoCancel, false, all, context.Canceled, failure},
		{"deadline", errNoCancel, true, nil, context.DeadlineExceeded, failure},
		{"deadline, wrapped", errNoCancel, true, nil, fmt.Errorf("get: %w", context.DeadlineExceeded), failure},
		{"deadline of the work's own", errNoCancel, false, nil, context.DeadlineExceeded, failure},
		{"deadline, but the work says canceled", errNoCancel, true, all, context.Canceled, failure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := small()
				c.ErrorClassifier = tt.classify
				cb, rec := observed(t, c)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if tt.deadline {
					var stop context.CancelFunc
					ctx, stop = context.WithTimeout(ctx, time.Second)
					defer stop()
				}
				err := cb.Run(ctx, func(ctx context.Context) error {
					if tt.deadline {
						<-ctx.Done()
					}
					if !errors.Is(tt.cancel, errNoCancel) {
						cancel(tt.cancel)
					}
					return tt.err
				})
				require.Equal(t, tt.err, err, "it comes back as it is")
				e := last[events.CallFinished](t, rec)
				require.Equal(t, tt.want, e.Outcome)
				require.Equal(t, tt.err, e.Err)
			})
		})
	}
}

var errNoCancel = errors.New("no cancellation")

// unhashable is an error that can neither be compared nor be the key of a map.
type unhashable []string

func (e unhashable) Error() string { return strings.Join(e, ", ") }

// boxed is an error whose type can be compared, and whose value cannot.
type boxed struct{ v any }

func (e boxed) Error() string { return fmt.Sprint(e.v) }

// It must hold: errors that cannot be hashed or compared are fine, everywhere.
func TestErrorsThatCannotBeCompared(t *testing.T) {
	for _, err := range []error{
		unhashable{"a"}, boxed{[]int{1}}, boxed{func() {}},
		fmt.Errorf("wrapped: %w", unhashable{"b"}),
		errors.Join(unhashable{"c"}, boxed{map[int]int{}}),
	} {
		t.Run(fmt.Sprintf("%T", err), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cb, rec := observed(t, small())
				for range 4 {
					got := cb.Execute(t.Context(), func() error { return err })
					require.Equal(t, err.Error(), got.Error())
				}
				require.Equal(t, open, cb.State())
				pass(30 * time.Second)
				for range 2 {
					_ = cb.Run(t.Context(), func(context.Context) error { return err })
				}
				require.Equal(t, []change{trips, wakes, reopens}, changes(rec))
				pass(30 * time.Second)
				for range 5 { // each gives its place back
					acquire(t, cb).Done(resilience.Ignore(err))
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				require.NotPanics(t, func() {
					_ = cb.Execute(ctx, func() error { cancel(err); return err })
				})
			})
		})
	}
}

// Rule 7: the work runs on its caller's goroutine.
func TestWorkRunsOnTheCallersGoroutine(t *testing.T) {
	cb, _ := observed(t, small())
	before := runtime.NumGoroutine()
	within := func() error {
		stack := make([]byte, 1<<16)
		stack = stack[:runtime.Stack(stack, false)]
		require.Contains(t, string(stack), "TestWorkRunsOnTheCallersGoroutine")
		require.LessOrEqual(t, runtime.NumGoroutine(), before)
		return nil
	}
	require.NoError(t, cb.Execute(t.Context(), within))
	require.NoError(t, cb.Run(t.Context(), func(context.Context) error { return within() }))
}

// Rule 7: panics and Goexit count as failures and go on their way.
func TestPanicsAndGoexitCountAsFailures(t *testing.T) {
	value := &struct{ n int }{7}
	for _, tt := range []struct {
		name string
		call func(t *testing.T, cb *resilience.CircuitBreaker)
	}{
		{"Execute panics", func(t *testing.T, cb *resilience.CircuitBreaker) {
			require.Same(t, value, panics(t, func() { _ = cb.Execute(t.Context(), func() error { panic(value) }) }))
		}},
		{"Run panics", func(t *testing.T, cb *resilience.CircuitBreaker) {
			require.Same(t, value, panics(t, func() { _ = cb.Run(t.Context(), func(context.Context) error { panic(value) }) }))
		}},
		{"Execute panics with an error", func(t *testing.T, cb *resilience.CircuitBreaker) {
			require.Equal(t, context.Canceled, panics(t, func() { _ = cb.Execute(t.Context(), func() error { panic(context.Canceled) }) }))
		}},
		{"Execute Goexits", func(t *testing.T, cb *resilience.CircuitBreaker) {
			goexits(t, func() { _ = cb.Execute(t.Context(), exit) })
		}},
		{"Run Goexits", func(t *testing.T, cb *resilience.CircuitBreaker) {
			goexits(t, func() { _ = cb.Run(t.Context(), func(context.Context) error { return exit() }) })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cb, rec := observed(t, small())
			for n := range uint64(4) {
				require.Equal(t, closed, cb.State())
				tt.call(t, cb)
				e := last[events.CallFinished](t, rec)
				require.True(t, e.Panicked)
				require.NoError(t, e.Err)
				require.Equal(t, failure, e.Outcome)
				require.Equal(t, events.Counts{Failure: n + 1}, cb.GetStats().Totals)
			}
			require.Equal(t, []change{trips}, changes(rec))
		})
	}
}

// The stack of a panic in the work is whole: nothing recovers it on its way.
func TestAPanicKeepsItsStack(t *testing.T) {
	cb, _ := observed(t, small())
	stack := make([]byte, 1<<16)
	func() {
		defer func() {
			stack = stack[:runtime.Stack(stack, false)]
			_ = recover()
		}()
		_ = cb.Execute(t.Context(), func() error { return panicsDeepInside() })
	}()
	require.Contains(t, string(stack), "panicsDeepInside")
}

func panicsDeepInside() error { panic("deep inside") }

func TestNilWorkIsRefusedAtOnce(t *testing.T) {
	cb, rec := observed(t, small())
	require.Contains(t, panics(t, func() { _ = cb.Execute(t.Context(), nil) }), "Execute")
	require.Contains(t, panics(t, func() { _ = cb.Run(t.Context(), nil) }), "Run")
	require.Zero(t, cb.GetStats().Totals)
	require.Equal(t, []events.Kind{events.KindBreakerCreated}, rec.Kinds())
}

// What an error is comes back untouched from every way to make a call.
func TestErrorsComeBackUnchanged(t *testing.T) {
	cb, _ := observed(t, resilience.DefaultConfig())
	for _, err := range []error{nil, errBroken, resilience.Ignore(errBroken), fmt.Errorf("x: %w", errOther)} {
		require.True(t, cb.Execute(t.Context(), func() error { return err }) == err)            //nolint:errorlint // the same value, not one like it
		require.True(t, cb.Run(t.Context(), func(context.Context) error { return err }) == err) //nolint:errorlint // the same value, not one like it
	}
}

// Rule 10: slow calls.
func TestSlowCalls(t *testing.T) {
	const limit = 100 * time.Millisecond
	type call struct {
		takes time.Duration
		err   error
	}
	ign := resilience.Ignore(errOther)
	fast, slow, just := call{limit - 1, nil}, call{limit, nil}, call{limit + 1, nil}
	for _, tt := range []struct {
		name   string
		calls  []call
		reason events.Reason // with the last call; "" if closed
		counts events.Counts // of the window in the end
	}{
		{"none is slow", []call{fast, fast, fast, fast}, "", events.Counts{Success: 4}},
		{"half are slow", []call{fast, fast, slow, just}, events.ReasonSlowCallRate, events.Counts{Success: 4, Slow: 2}},
		{"slow ones first", []call{slow, just, fast, fast}, events.ReasonSlowCallRate, events.Counts{Success: 4, Slow: 2}},
		{"less than half are slow", []call{fast, fast, slow, fast, just}, "", events.Counts{Success: 5, Slow: 2}},
		{"volume not reached", []call{slow, slow, slow}, "", events.Counts{Success: 3, Slow: 3}},
		{"a slow failure is both", []call{fast, fast, fast, {limit, errBroken}}, "", events.Counts{Success: 3, Failure: 1, Slow: 1}},
		{"slow failures and slow successes", []call{fast, slow, fast, {limit, errBroken}}, events.ReasonSlowCallRate, events.Counts{Success: 3, Failure: 1, Slow: 2}},
		{"errors before slowness", []call{fast, fast, {limit, errBroken}, {limit, errBroken}}, events.ReasonErrorRate, events.Counts{Success: 2, Failure: 2, Slow: 2}},
		{"ignored calls are not slow", []call{fast, {limit, ign}, {limit, ign}, fast, fast, fast, {limit, ign}}, "", events.Counts{Success: 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := small()
				c.SlowCallDuration, c.SlowCallThreshold = limit, 0.5
				cb, rec := observed(t, c)
				for i, call := range tt.calls {
					require.Equal(t, closed, cb.State(), "before call %d", i)
					_ = cb.Execute(t.Context(), func() error {
						time.Sleep(call.takes)
						return call.err
					})
				}
				if tt.reason == "" {
					require.Equal(t, closed, cb.State())
					require.Equal(t, tt.counts, cb.GetStats().Window)
					return
				}
				require.Equal(t, []change{{closed, open, tt.reason}}, changes(rec))
				require.Equal(t, tt.counts, last[events.StateChanged](t, rec).Counts)
				require.Equal(t, tt.counts.Slow, cb.GetStats().Totals.Slow)
			})
		})
	}
}

// Rule 10: slow calls that panic or are ended through a permit.
func TestSlowCallsEndedOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		c.SlowCallDuration, c.SlowCallThreshold, c.ErrorThreshold = time.Second, 0.75, 1
		cb, rec := observed(t, c)
		panics(t, func() {
			_ = cb.Execute(t.Context(), func() error { time.Sleep(time.Second); panic("slow") })
		})
		p := acquire(t, cb)
		time.Sleep(time.Second)
		p.Done(nil)
		goexits(t, func() {
			_ = cb.Execute(t.Context(), func() error { time.Sleep(time.Second); return exit() })
		})
		require.Equal(t, events.Counts{Success: 1, Failure: 2, Slow: 3}, cb.GetStats().Window)
		require.InDelta(t, 1, cb.GetStats().SlowCallRate, 0)
		succeedIn(t, cb, 1)
		require.Equal(t, []change{{closed, open, events.ReasonSlowCallRate}}, changes(rec))
	})
}

// Rule 10: a probe that passes slowly has not recovered.
func TestASlowProbeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		c.SlowCallDuration, c.SlowCallThreshold = time.Second, 1
		cb, rec := observed(t, c)
		toHalfOpen(t, cb, 30*time.Second)
		probe := func(takes time.Duration) {
			require.NoError(t, cb.Execute(t.Context(), func() error { time.Sleep(takes); return nil }))
		}
		probe(time.Second)
		require.Equal(t, events.Counts{Failure: 1}, cb.GetStats().Window)
		probe(time.Second - 1)
		require.Equal(t, events.Counts{Success: 1, Failure: 1}, cb.GetStats().Window)
		require.Equal(t, halfOpen, cb.State())
		probe(2 * time.Second)
		require.Equal(t, []change{trips, wakes, reopens}, changes(rec))
		require.Equal(t, events.OutcomeSuccess, last[events.CallFinished](t, rec).Outcome, "what the call came to is another matter")
		require.Equal(t, events.Counts{Success: 3, Failure: 4, Slow: 2}, cb.GetStats().Totals)
	})
}

// Rule 10: off when zero.
func TestNoCallIsSlowByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, _ := observed(t, small())
		for range 10 {
			_ = cb.Execute(t.Context(), func() error { time.Sleep(time.Hour); return nil })
		}
		require.Equal(t, closed, cb.State())
		require.Zero(t, cb.GetStats().Totals.Slow)
	})
}

func TestPermit(t *testing.T) {
	t.Run("Done counts once", func(t *testing.T) {
		cb, rec := observed(t, small())
		p := acquire(t, cb)
		q := p // the same call
		p.Done(errBroken)
		p.Done(nil)
		q.Done(errBroken)
		require.Equal(t, events.Counts{Failure: 1}, cb.GetStats().Totals)
		require.Len(t, eventstest.Of[events.CallFinished](rec), 1)
	})
	t.Run("Done from many goroutines counts once", func(t *testing.T) {
		cb, rec := observed(t, small())
		p := acquire(t, cb)
		done := make(chan struct{})
		for range 8 {
			go func() {
				defer func() { done <- struct{}{} }()
				p.Done(errBroken)
			}()
		}
		times(8, func() { <-done })
		require.Equal(t, events.Counts{Failure: 1}, cb.GetStats().Totals)
		require.Len(t, eventstest.Of[events.CallFinished](rec), 1)
	})
	t.Run("the zero Permit does nothing", func(t *testing.T) {
		var p resilience.Permit
		p.Done(nil)
		p.Done(errBroken)
		require.NotNil(t, p.Context())
		require.NoError(t, p.Context().Err())
	})
	t.Run("a rejected one does nothing", func(t *testing.T) {
		cb, _ := observed(t, small())
		trip(t, cb)
		before := cb.GetStats().Totals
		p, err := cb.Acquire(t.Context())
		require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
		p.Done(nil)
		before.Rejected++
		require.Equal(t, before, cb.GetStats().Totals)
	})
	t.Run("its context is what sinks derived", func(t *testing.T) {
		cb, _ := observed(t, small(events.Sink{CallStarted: func(ctx context.Context, _ events.CallStarted) context.Context {
			return withMark(ctx, "derived")
		}}))
		p := acquire(t, cb)
		require.Equal(t, "derived", p.Context().Value(ctxKey{}))
		p.Done(nil)
	})
	t.Run("without sinks it is the caller's", func(t *testing.T) {
		cb := resilience.NewCircuitBreaker(nil)
		ctx := withMark(t.Context(), 1)
		p, err := cb.Acquire(ctx)
		require.NoError(t, err)
		require.Equal(t, ctx, p.Context())
		p.Done(nil)
	})
	t.Run("a classifier that panics in Done counts a failure", func(t *testing.T) {
		c := small()
		c.ErrorClassifier = func(error) bool { panic("classifier") }
		cb, _ := observed(t, c)
		p := acquire(t, cb)
		require.Equal(t, "classifier", panics(t, func() { p.Done(errBroken) }))
		p.Done(nil)
		require.Equal(t, events.Counts{Failure: 1}, cb.GetStats().Totals)
	})
}

// A breaker may be called from within its own work.
func TestCallsWithinCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		require.NoError(t, cb.Execute(t.Context(), func() error { return cb.Execute(t.Context(), healthy) }))
		toHalfOpen(t, cb, 30*time.Second)
		err := cb.Execute(t.Context(), func() error { // three deep, and the fourth has no place
			return cb.Execute(t.Context(), func() error {
				return cb.Execute(t.Context(), func() error {
					requireRejected(t, cb)
					return nil
				})
			})
		})
		require.NoError(t, err)
		require.Equal(t, []change{trips, wakes, closes}, changes(rec))
	})
}

// The classifier is asked about what the documentation says, and about nothing else.
func TestErrorClassifierIsAsked(t *testing.T) {
	var asked []error
	c := small()
	c.VolumeThreshold = 100
	c.ErrorClassifier = func(err error) bool {
		asked = append(asked, err)
		return errors.Is(err, errBroken)
	}
	cb, rec := observed(t, c)
	runScript(t, cb, "sfip")
	_ = cb.Execute(t.Context(), func() error { return errOther })
	ctx, cancel := context.WithCancel(t.Context())
	_ = cb.Execute(ctx, func() error { cancel(); return context.Canceled })
	_ = cb.Execute(t.Context(), func() error { return fmt.Errorf("wrapped: %w", resilience.Ignore(errBroken)) })
	require.Equal(t, []error{errBroken, errOther}, asked)
	require.Equal(t, events.Counts{Success: 1, Failure: 2, Ignored: 4}, cb.GetStats().Totals)
	require.Equal(t, ignored, last[events.CallFinished](t, rec).Outcome)
}

func TestAClassifierThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		c.ErrorClassifier = func(error) bool { panic("classifier") }
		cb, rec := observed(t, c)
		for range 4 {
			require.Equal(t, "classifier", panics(t, func() { _ = cb.Execute(t.Context(), broken) }))
		}
		require.Equal(t, []change{trips}, changes(rec))
		pass(30 * time.Second)
		for range 2 {
			panics(t, func() { _ = cb.Execute(t.Context(), broken) })
		}
		require.Equal(t, []change{trips, wakes, reopens}, changes(rec), "no probe is lost")
	})
}

func TestName(t *testing.T) {
	require.Equal(t, "default", resilience.NewCircuitBreaker(nil).Name())
	require.Equal(t, "payment", resilience.NewCircuitBreaker(small()).Name())
}

// Breakers that share a name are told apart by their ID.
func TestBreakersOfOneName(t *testing.T) {
	rec := eventstest.New(t)
	c := small(rec.Sink())
	a, b := resilience.NewCircuitBreaker(c), resilience.NewCircuitBreaker(c)
	trip(t, a)
	succeedIn(t, b, 1)
	created := eventstest.Of[events.BreakerCreated](rec)
	require.Len(t, created, 2)
	require.NotEqual(t, created[0].ID, created[1].ID)
	require.Equal(t, []uint64{created[0].ID, created[1].ID}, []uint64{a.ID(), b.ID()})
	require.Equal(t, created[1].ID, last[events.CallFinished](t, rec).ID)
	require.Equal(t, open, created[0].Snapshot().State)
	require.Equal(t, closed, created[1].Snapshot().State)
}
