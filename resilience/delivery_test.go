package resilience_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
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

// everything calls each method of cb but Close, and drives it through its states.
func everything(ctx context.Context, cb *resilience.CircuitBreaker) {
	_ = cb.Name()
	_ = cb.State()
	_ = cb.GetStats()
	stop := cb.OnStateChange(func(_, _ resilience.CircuitState) { _ = cb.State() })
	defer stop()
	_ = cb.Execute(ctx, healthy)
	_ = cb.Execute(ctx, broken)
	_ = cb.Run(ctx, func(context.Context) error { return errBroken })
	if p, err := cb.Acquire(ctx); err == nil {
		p.Done(nil)
	}
	cb.ForceOpen()
	_ = cb.Execute(ctx, healthy)
	cb.ForceClosed()
	_ = cb.Execute(ctx, broken)
	cb.ClearForce()
	cb.Reset()
}

// hooks are all places where a breaker calls code that is not its own. Each attaches
// f to one of them.
var hooks = map[string]func(c *resilience.CircuitBreakerConfig, f func()){
	"CallStarted": func(c *resilience.CircuitBreakerConfig, f func()) {
		c.Events.CallStarted = func(ctx context.Context, _ events.CallStarted) context.Context { f(); return ctx }
	},
	"CallFinished": func(c *resilience.CircuitBreakerConfig, f func()) {
		c.Events.CallFinished = func(context.Context, events.CallFinished) { f() }
	},
	"CallRejected": func(c *resilience.CircuitBreakerConfig, f func()) {
		c.Events.CallRejected = func(context.Context, events.CallRejected) { f() }
	},
	"StateChanged": func(c *resilience.CircuitBreakerConfig, f func()) {
		c.Events.StateChanged = func(context.Context, events.StateChanged) { f() }
	},
	"WindowRotated": func(c *resilience.CircuitBreakerConfig, f func()) {
		c.Events.WindowRotated = func(context.Context, events.WindowRotated) { f() }
	},
	"BreakerRetired": func(c *resilience.CircuitBreakerConfig, f func()) {
		c.Events.BreakerRetired = func(context.Context, events.BreakerRetired) { f() }
	},
	"Enabled": func(c *resilience.CircuitBreakerConfig, f func()) {
		c.Events.Enabled = func(context.Context) bool { f(); return true }
		c.Events.CallFinished = func(context.Context, events.CallFinished) {}
		c.Events.CallRejected = func(context.Context, events.CallRejected) {}
	},
	"ErrorClassifier": func(c *resilience.CircuitBreakerConfig, f func()) {
		c.ErrorClassifier = func(err error) bool { f(); return resilience.DefaultErrorClassifier(err) }
	},
	"Logger":  func(c *resilience.CircuitBreakerConfig, f func()) { c.Logger = funcLogger(f) },
	"Metrics": func(c *resilience.CircuitBreakerConfig, f func()) { c.Metrics = funcMetrics(f) },
}

type funcLogger func()

func (f funcLogger) Info(string, map[string]any)  { f() }
func (f funcLogger) Error(string, map[string]any) { f() }

type funcMetrics func()

func (f funcMetrics) RecordSuccess(string)                     { f() }
func (f funcMetrics) RecordFailure(string, string)             { f() }
func (f funcMetrics) RecordStateChange(string, string, string) { f() }
func (f funcMetrics) RecordRejection(string)                   { f() }

// life takes a breaker of configuration small through all it can meet. Nothing is
// checked: hooks may have led it elsewhere.
func life(ctx context.Context, cb *resilience.CircuitBreaker) {
	for range 2 {
		times(8, func() { _ = cb.Execute(ctx, broken) })
		pass(30 * time.Second)
		p, err := cb.Acquire(ctx)
		times(4, func() { _ = cb.Execute(ctx, healthy) })
		if err == nil {
			p.Done(errBroken)
		}
		time.Sleep(11 * time.Second) // into another bucket
		_ = cb.Execute(ctx, healthy)
		cb.ForceOpen()
		_ = cb.Execute(ctx, healthy)
		cb.ClearForce()
		pass(30 * time.Second)
		times(3, func() { _, _ = cb.Acquire(ctx) }) // forgotten: the timer fails them
		pass(time.Minute)
		cb.Reset()
	}
}

// It must hold: nothing deadlocks. Each hook calls every method of its breaker.
func TestHooksMayCallEveryMethod(t *testing.T) {
	for name, attach := range hooks {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var cb *resilience.CircuitBreaker
				var calls atomic.Int64
				var inside atomic.Bool
				c := small()
				attach(c, func() {
					if calls.Add(1) > 40 || inside.Swap(true) {
						return
					}
					defer inside.Store(false)
					everything(t.Context(), cb)
				})
				// Calls whose permit is forgotten never finish, so a Recorder checks the
				// state changes only.
				rec := eventstest.New(t)
				c.Events = events.Join(onlyStates(rec.Sink()), c.Events)
				cb = resilience.NewCircuitBreaker(c)
				life(t.Context(), cb)
				cb.Close()
				require.Positive(t, calls.Load(), "it was never called")
				cb.Reset()
				succeedIn(t, cb, 1)
			})
		})
	}
}

func TestListenersMayCallEveryMethod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := eventstest.New(t)
		cb := resilience.NewCircuitBreaker(small(onlyStates(rec.Sink())))
		var calls atomic.Int64
		var inside atomic.Bool
		cb.OnStateChange(func(_, _ resilience.CircuitState) {
			if calls.Add(1) > 40 || inside.Swap(true) {
				return
			}
			defer inside.Store(false)
			everything(t.Context(), cb)
		})
		life(t.Context(), cb)
		require.Positive(t, calls.Load())
	})
}

// onlyStates returns what of s is about the breaker and not about its calls.
func onlyStates(s events.Sink) events.Sink {
	return events.Sink{
		BreakerCreated: s.BreakerCreated,
		StateChanged:   s.StateChanged,
		BreakerRetired: s.BreakerRetired,
	}
}

// It must hold: nothing deadlocks. Each hook retires its breaker.
func TestHooksMayClose(t *testing.T) {
	for name, attach := range hooks {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var cb *resilience.CircuitBreaker
				c := small()
				attach(c, func() { cb.Close() })
				rec := eventstest.New(t)
				c.Events = events.Join(onlyStates(rec.Sink()), c.Events)
				cb = resilience.NewCircuitBreaker(c)
				life(t.Context(), cb)
				if name == "BreakerRetired" {
					cb.Close()
				}
				require.Len(t, eventstest.Of[events.BreakerRetired](rec), 1)
			})
		})
	}
}

// A sink that is in no hurry holds up the goroutine it runs on and nobody else.
func TestASlowSinkHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		cb, rec := observed(t, small(events.Sink{StateChanged: func(context.Context, events.StateChanged) { <-hold }}))
		var listened []string
		cb.OnStateChange(func(from, to resilience.CircuitState) {
			listened = append(listened, fmt.Sprint(from, "→", to))
		})
		done := make(chan struct{})
		go func() { // trips it, and is held in the sink
			defer close(done)
			times(4, func() { _ = cb.Execute(t.Context(), broken) })
		}()
		synctest.Wait()

		require.Equal(t, open, cb.State(), "committed before it is told")
		require.Equal(t, open, cb.GetStats().State)
		requireRejected(t, cb)
		stop := cb.OnStateChange(func(_, _ resilience.CircuitState) { t.Error("it was stopped before its time came") })
		stop()
		pass(30 * time.Second)
		require.Equal(t, halfOpen, cb.State(), "nor the timer")
		succeedIn(t, cb, 2)
		require.Equal(t, closed, cb.State())
		cb.ForceOpen()
		cb.ClearForce()
		cb.Reset()
		failIn(t, cb, 4)
		require.Equal(t, open, cb.State())
		cb.Close()
		require.Len(t, changes(rec), 1, "the rest waits for its turn")
		select {
		case <-done:
			t.Fatal("the goroutine in the sink went on")
		default:
		}

		close(hold)
		<-done
		require.Equal(t, []change{
			trips, wakes, closes,
			{closed, open, events.ReasonForced},
			{open, open, events.ReasonForceCleared},
			{open, closed, events.ReasonReset},
			trips,
		}, changes(rec))
		require.Equal(t, []string{
			"closed→open", "open→half-open", "half-open→closed", "closed→open", "open→closed", "closed→open",
		}, listened)
		require.Len(t, eventstest.Of[events.BreakerRetired](rec), 1)
	})
}

// A sink that is slow on the timer's goroutine is no different.
func TestASlowSinkOnTheTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		cb, rec := observed(t, small(events.Sink{StateChanged: func(_ context.Context, e events.StateChanged) {
			if e.To == halfOpen {
				<-hold
			}
		}}))
		toHalfOpen(t, cb, 30*time.Second)
		succeedIn(t, cb, 2)
		trip(t, cb)
		require.Equal(t, []change{trips, wakes}, changes(rec))
		close(hold)
		synctest.Wait()
		require.Equal(t, []change{trips, wakes, closes, trips}, changes(rec))
	})
}

// The events of one call come in the order of their causes, and each finds the
// breaker in the state that it tells of.
func TestOrderOfEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := eventstest.New(t)
		var cb *resilience.CircuitBreaker
		cb = resilience.NewCircuitBreaker(small(rec.Sink(events.Sink{
			StateChanged: func(_ context.Context, e events.StateChanged) {
				require.Equal(t, e.To, cb.State())
			},
		})))
		failIn(t, cb, 3)
		time.Sleep(10 * time.Second)
		told := len(rec.Kinds())
		failIn(t, cb, 1)
		require.Equal(t, []events.Kind{
			events.KindCallStarted, events.KindWindowRotated, events.KindStateChanged, events.KindCallFinished,
		}, rec.Kinds()[told:])

		pass(30 * time.Second)
		succeedIn(t, cb, 1)
		told = len(rec.Kinds())
		succeedIn(t, cb, 1)
		require.Equal(t, []events.Kind{
			events.KindCallStarted, events.KindStateChanged, events.KindCallFinished,
		}, rec.Kinds()[told:])
	})
}

// Rule 14, as told: a rotation is told by the call that crossed into a bucket, with
// what is left in the window, and not while idle, open or half-open.
func TestWindowRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		c.VolumeThreshold, c.WindowSize, c.BucketCount = 100, 6*time.Second, 6
		cb, rec := observed(t, c)
		header := last[events.BreakerCreated](t, rec).Header
		var want []events.WindowRotated
		rotated := func(s, f uint64) {
			want = append(want, events.WindowRotated{
				Header: header, Time: time.Now(), Counts: events.Counts{Success: s, Failure: f},
			})
		}
		succeedIn(t, cb, 2)
		time.Sleep(time.Second)
		failIn(t, cb, 3)
		rotated(2, 0)
		time.Sleep(time.Second)
		runScript(t, cb, "i") // is not in the window
		time.Sleep(2*time.Second - 1)
		succeedIn(t, cb, 1)
		rotated(2, 3)
		time.Sleep(3*time.Second - 1)
		succeedIn(t, cb, 1) // the first bucket is gone
		rotated(1, 3)
		time.Sleep(10 * time.Hour)
		require.Len(t, eventstest.Of[events.WindowRotated](rec), 3, "nothing while idle")
		failIn(t, cb, 1)
		rotated(0, 0)
		require.Equal(t, want, eventstest.Of[events.WindowRotated](rec))

		late := acquire(t, cb)
		cb.ForceOpen()
		time.Sleep(10 * time.Second)
		requireRejected(t, cb)
		late.Done(errBroken)
		cb.ClearForce()
		pass(30 * time.Second)
		succeedIn(t, cb, 1)
		time.Sleep(10 * time.Second)
		succeedIn(t, cb, 1)
		require.Equal(t, closed, cb.State())
		succeedIn(t, cb, 1)
		require.Equal(t, want, eventstest.Of[events.WindowRotated](rec), "only a closed breaker has a window")
	})
}

// The contexts of events: that of the call that caused them.
func TestContextsOfEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // one of the events comes from a timer
		got := map[string][]any{}
		see := func(ctx context.Context, kind string) {
			mu.Lock()
			defer mu.Unlock()
			got[kind] = append(got[kind], ctx.Value(ctxKey{}))
		}
		cb, _ := observed(t, small(events.Sink{
			CallStarted: func(ctx context.Context, _ events.CallStarted) context.Context {
				see(ctx, "CallStarted")
				return withMark(ctx, fmt.Sprint(ctx.Value(ctxKey{}), "+span"))
			},
			CallFinished:  func(ctx context.Context, _ events.CallFinished) { see(ctx, "CallFinished") },
			CallRejected:  func(ctx context.Context, _ events.CallRejected) { see(ctx, "CallRejected") },
			StateChanged:  func(ctx context.Context, _ events.StateChanged) { see(ctx, "StateChanged") },
			WindowRotated: func(ctx context.Context, _ events.WindowRotated) { see(ctx, "WindowRotated") },
		}))
		run := func(mark string, err error) {
			_ = cb.Run(withMark(t.Context(), mark), func(ctx context.Context) error {
				see(ctx, "work")
				return err
			})
		}
		run("a", nil)
		time.Sleep(10 * time.Second)
		run("b", errBroken)
		run("c", errBroken)
		run("d", errBroken)
		run("e", nil)
		pass(30 * time.Second)
		run("f", nil)
		run("g", nil)
		require.Equal(t, map[string][]any{
			"CallStarted":   {"a", "b", "c", "d", "f", "g"},
			"work":          {"a+span", "b+span", "c+span", "d+span", "f+span", "g+span"},
			"CallFinished":  {"a+span", "b+span", "c+span", "d+span", "f+span", "g+span"},
			"CallRejected":  {"e"},
			"StateChanged":  {"d+span", nil, "g+span"},
			"WindowRotated": {"b+span"},
		}, got)
	})
}

// A sink that breaks its promise and returns no context does not break the call.
func TestCallStartedThatReturnsNoContext(t *testing.T) {
	cb := resilience.NewCircuitBreaker(small(events.Sink{
		CallStarted: func(context.Context, events.CallStarted) context.Context { return nil },
	}))
	ctx := withMark(t.Context(), 1)
	require.NoError(t, cb.Run(ctx, func(got context.Context) error {
		require.Equal(t, ctx, got)
		return nil
	}))
}

// Calls say what they came to, and how long they took.
func TestCallFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		header := last[events.BreakerCreated](t, rec).Header
		ign := resilience.Ignore(errOther)
		for i, tt := range []struct {
			takes   time.Duration
			err     error
			outcome events.Outcome
		}{
			{0, nil, success}, {time.Second, nil, success}, {1, ign, ignored}, {time.Hour, errBroken, failure},
		} {
			_ = cb.Execute(t.Context(), func() error { time.Sleep(tt.takes); return tt.err })
			require.Equal(t, events.CallStarted{Header: header, State: closed}, last[events.CallStarted](t, rec))
			require.Equal(t, events.CallFinished{
				Header: header, State: closed, Outcome: tt.outcome, Duration: tt.takes, Err: tt.err,
			}, last[events.CallFinished](t, rec), "call %d", i)
		}
		p := acquire(t, cb)
		time.Sleep(time.Minute)
		p.Done(nil)
		require.Equal(t, time.Minute, last[events.CallFinished](t, rec).Duration)
		cb.Reset()
		toHalfOpen(t, cb, 30*time.Second)
		succeedIn(t, cb, 1)
		require.Equal(t, halfOpen, last[events.CallStarted](t, rec).State)
		require.Equal(t, halfOpen, last[events.CallFinished](t, rec).State)
	})
}

func TestCallRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		header := last[events.BreakerCreated](t, rec).Header
		trip(t, cb)
		time.Sleep(12 * time.Second)
		requireRejected(t, cb)
		require.Equal(t, events.CallRejected{Header: header, State: open, RetryAfter: 18 * time.Second},
			last[events.CallRejected](t, rec))
		pass(18 * time.Second)
		permits := []resilience.Permit{acquire(t, cb), acquire(t, cb), acquire(t, cb)}
		requireRejected(t, cb)
		require.Equal(t, events.CallRejected{Header: header, State: halfOpen}, last[events.CallRejected](t, rec))
		cb.ForceOpen()
		requireRejected(t, cb)
		require.Equal(t, events.CallRejected{Header: header, State: open, Forced: true}, last[events.CallRejected](t, rec))
		for _, p := range permits {
			p.Done(nil)
		}
	})
}

func TestOnStateChange(t *testing.T) {
	hear := func(heard *[]string, name string) func(from, to resilience.CircuitState) {
		return func(from, to resilience.CircuitState) {
			*heard = append(*heard, fmt.Sprint(name, ":", from, "→", to))
		}
	}
	t.Run("several listeners, in the order of registration", func(t *testing.T) {
		cb, _ := observed(t, small())
		var heard []string
		cb.OnStateChange(hear(&heard, "a"))
		cb.OnStateChange(hear(&heard, "b"))
		cb.ForceOpen()
		require.Equal(t, []string{"a:closed→open", "b:closed→open"}, heard)
	})
	t.Run("stop ends one of them", func(t *testing.T) {
		cb, _ := observed(t, small())
		var heard []string
		same := hear(&heard, "x")
		stopFirst := cb.OnStateChange(same)
		stopSecond := cb.OnStateChange(same)
		stopFirst()
		stopFirst()
		cb.ForceOpen()
		require.Equal(t, []string{"x:closed→open"}, heard)
		stopSecond()
		cb.Reset()
		require.Len(t, heard, 1)
	})
	t.Run("stop from within, of itself and of others", func(t *testing.T) {
		cb, _ := observed(t, small())
		var heard []string
		var stops []func()
		for i := range 3 {
			stops = append(stops, cb.OnStateChange(func(_, _ resilience.CircuitState) {
				heard = append(heard, fmt.Sprint(i))
				for _, stop := range stops {
					stop()
				}
			}))
		}
		cb.ForceOpen()
		cb.Reset()
		require.Equal(t, "0", heard[0])
		require.Less(t, len(heard), 4, "none hears of the second change")
	})
	t.Run("registration from within", func(t *testing.T) {
		cb, _ := observed(t, small())
		var heard []string
		var once sync.Once
		cb.OnStateChange(func(_, _ resilience.CircuitState) {
			once.Do(func() { cb.OnStateChange(hear(&heard, "new")) })
		})
		cb.ForceOpen()
		cb.Reset()
		require.Equal(t, []string{"new:open→closed"}, heard)
	})
	t.Run("nil", func(t *testing.T) {
		cb, _ := observed(t, small())
		stop := cb.OnStateChange(nil)
		cb.ForceOpen()
		stop()
		cb.Reset()
	})
	t.Run("after the sink, and also after one that panics", func(t *testing.T) {
		var heard []string
		cb := resilience.NewCircuitBreaker(small(events.Sink{StateChanged: func(context.Context, events.StateChanged) {
			heard = append(heard, "sink")
			panic("sink")
		}}))
		cb.OnStateChange(func(_, _ resilience.CircuitState) { heard = append(heard, "a"); panic("a") })
		cb.OnStateChange(func(_, _ resilience.CircuitState) { heard = append(heard, "b") })
		panics(t, cb.ForceOpen)
		require.Equal(t, []string{"sink", "a", "b"}, heard)
	})
}

// A change made from within StateChanged is told after the present one, to all.
func TestChangesFromWithinStateChanged(t *testing.T) {
	var cb *resilience.CircuitBreaker
	rec := eventstest.New(t)
	second := eventstest.New(t)
	var seen []uint64
	cb = resilience.NewCircuitBreaker(small(rec.Sink(events.Sink{
		StateChanged: func(_ context.Context, e events.StateChanged) {
			seen = append(seen, e.Generation)
			if e.Generation < 20 {
				cb.Reset()
				cb.ForceOpen()
				seen = append(seen, 0) // it returned without telling
			}
		},
	}), second.Sink()))
	cb.ForceOpen()
	require.Equal(t, cb.GetStats().Generation, uint64(len(changes(rec))+1))
	require.Equal(t, changes(rec), changes(second))
	var generations []uint64
	for _, g := range seen {
		if g != 0 {
			generations = append(generations, g)
		}
	}
	require.True(t, slices.IsSorted(generations))
	require.Equal(t, []uint64{2, 0, 3, 0}, seen[:4])
}

// State changes are told in order under a storm of controls, calls and timers.
func TestOrderUnderAStorm(t *testing.T) {
	for _, withRecorder := range []bool{true, false} { // which hides data races
		t.Run(fmt.Sprint("recorder ", withRecorder), func(t *testing.T) {
			c := small()
			c.SleepWindow, c.ProbeTimeout, c.VolumeThreshold = time.Microsecond, time.Microsecond, 2
			retired := make(chan struct{})
			c.Events = events.Sink{BreakerRetired: func(context.Context, events.BreakerRetired) { close(retired) }}
			if withRecorder {
				c.Events = events.Join(eventstest.New(t).Sink(), c.Events)
			}
			cb := resilience.NewCircuitBreaker(c)
			// Without a lock: listeners are called one at a time.
			state, heard := closed, 0
			cb.OnStateChange(func(from, to resilience.CircuitState) {
				if from != state || from == to {
					t.Errorf("heard %v→%v in %v", from, to, state)
				}
				state = to
				heard++
			})
			storm := []func(){
				cb.ForceOpen, cb.ForceClosed, cb.ClearForce, cb.Reset,
				func() { _ = cb.Execute(t.Context(), broken) },
				func() { _ = cb.Execute(t.Context(), healthy) },
				func() {
					if p, err := cb.Acquire(t.Context()); err == nil {
						p.Done(errBroken)
					}
				},
				func() { _ = cb.GetStats() },
				func() { cb.OnStateChange(func(_, _ resilience.CircuitState) {})() },
			}
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					for n := range 400 {
						storm[(n*(i+1)+i)%len(storm)]()
					}
				})
			}
			all.Wait()
			cb.Close()
			cb.ForceOpen() // waits for nobody, but nothing is told any more
			<-retired      // a timer's goroutine may still be at it
			require.Positive(t, heard)
		})
	}
}

// panicPoint makes a sink panic at one kind of event, and says which call makes it
// happen and what must be true after it.
type panicPoint struct {
	name   string
	attach func(c *resilience.CircuitBreakerConfig, f func())
	before func(t *testing.T, cb *resilience.CircuitBreaker)
	cause  func(t *testing.T, cb *resilience.CircuitBreaker)
	state  events.State
	totals events.Counts // that cause adds
	kinds  []events.Kind // that other sinks receive from cause
}

func execute(work func() error) func(t *testing.T, cb *resilience.CircuitBreaker) {
	return func(t *testing.T, cb *resilience.CircuitBreaker) { _ = cb.Execute(t.Context(), work) }
}

func steps(all ...func(t *testing.T, cb *resilience.CircuitBreaker)) func(t *testing.T, cb *resilience.CircuitBreaker) {
	return func(t *testing.T, cb *resilience.CircuitBreaker) {
		for _, step := range all {
			step(t, cb)
		}
	}
}

func by(c control) func(t *testing.T, cb *resilience.CircuitBreaker) {
	return func(_ *testing.T, cb *resilience.CircuitBreaker) { c.do(cb) }
}

func sleeps(d time.Duration) func(t *testing.T, cb *resilience.CircuitBreaker) {
	return func(*testing.T, *resilience.CircuitBreaker) { pass(d) }
}

// It must hold: a panicking sink is the caller's panic; the state is committed, no
// place is lost, and whatever else is to be told is told.
func TestSinksThatPanic(t *testing.T) {
	nothing := func(*testing.T, *resilience.CircuitBreaker) {}
	failing := func(n int) func(t *testing.T, cb *resilience.CircuitBreaker) {
		return func(t *testing.T, cb *resilience.CircuitBreaker) { failIn(t, cb, n) }
	}
	succeeding := func(t *testing.T, cb *resilience.CircuitBreaker) { succeedIn(t, cb, 1) }
	halfOpened := steps(failing(4), sleeps(30*time.Second))
	listener := func(*resilience.CircuitBreakerConfig, func()) {} // attached by the test
	started, finished, changed := events.KindCallStarted, events.KindCallFinished, events.KindStateChanged
	one := events.Counts{Success: 1}
	for _, tt := range []panicPoint{
		{"CallFinished of a success", hooks["CallFinished"], nothing, execute(healthy), closed, one, []events.Kind{started, finished}},
		{"CallFinished of the trip", hooks["CallFinished"], failing(3), execute(broken), open, events.Counts{Failure: 1}, []events.Kind{started, changed, finished}},
		{"CallFinished of a panic", hooks["CallFinished"], nothing, execute(func() error { panic("work") }), closed, events.Counts{Failure: 1}, []events.Kind{started, finished}},
		{"CallFinished of a probe", hooks["CallFinished"], halfOpened, execute(healthy), halfOpen, one, []events.Kind{started, finished}},
		{"CallFinished of an ignored probe", hooks["CallFinished"], halfOpened, execute(func() error { return resilience.Ignore(errOther) }), halfOpen, events.Counts{Ignored: 1}, []events.Kind{started, finished}},
		{"CallFinished of the last probe", hooks["CallFinished"], steps(halfOpened, succeeding), execute(healthy), closed, one, []events.Kind{started, changed, finished}},
		{"CallFinished of a permit", hooks["CallFinished"], halfOpened, func(t *testing.T, cb *resilience.CircuitBreaker) { acquire(t, cb).Done(nil) }, halfOpen, one, []events.Kind{started, finished}},
		{"CallRejected of a taken probe", hooks["CallRejected"], steps(halfOpened, succeeding, func(t *testing.T, cb *resilience.CircuitBreaker) {
			p, q := acquire(t, cb), acquire(t, cb)
			t.Cleanup(func() { p.Done(nil); q.Done(nil) })
		}), execute(healthy), halfOpen, events.Counts{Rejected: 1}, []events.Kind{events.KindCallRejected}},
		{"CallRejected while open", hooks["CallRejected"], failing(4), execute(healthy), open, events.Counts{Rejected: 1}, []events.Kind{events.KindCallRejected}},
		{"StateChanged of the trip", hooks["StateChanged"], failing(3), execute(broken), open, events.Counts{Failure: 1}, []events.Kind{started, changed, finished}},
		{"StateChanged of the last probe", hooks["StateChanged"], steps(halfOpened, succeeding), execute(healthy), closed, one, []events.Kind{started, changed, finished}},
		{"StateChanged of a probe that reopens", hooks["StateChanged"], steps(halfOpened, failing(1)), execute(broken), open, events.Counts{Failure: 1}, []events.Kind{started, changed, finished}},
		{"StateChanged of ForceOpen", hooks["StateChanged"], nothing, by(forceOpen), open, events.Counts{}, []events.Kind{changed}},
		{"StateChanged of ForceClosed", hooks["StateChanged"], nothing, by(forceClosed), closed, events.Counts{}, []events.Kind{changed}},
		{"StateChanged of ClearForce", hooks["StateChanged"], by(forceOpen), by(clearForce), open, events.Counts{}, []events.Kind{changed}},
		{"StateChanged of Reset", hooks["StateChanged"], failing(4), by(reset), closed, events.Counts{}, []events.Kind{changed}},
		{"WindowRotated", hooks["WindowRotated"], steps(failing(1), sleeps(10*time.Second)), execute(healthy), closed, one, []events.Kind{started, events.KindWindowRotated, finished}},
		{"WindowRotated of the trip", hooks["WindowRotated"], steps(failing(3), sleeps(10*time.Second)), execute(broken), open, events.Counts{Failure: 1}, []events.Kind{started, events.KindWindowRotated, changed, finished}},
		{"Logger at the trip", hooks["Logger"], failing(3), execute(broken), open, events.Counts{Failure: 1}, []events.Kind{started, changed, finished}},
		{"Metrics of a success", hooks["Metrics"], nothing, execute(healthy), closed, one, []events.Kind{started, finished}},
		{"Metrics of the trip", hooks["Metrics"], failing(3), execute(broken), open, events.Counts{Failure: 1}, []events.Kind{started, changed, finished}},
		{"Metrics of a rejection", hooks["Metrics"], failing(4), execute(healthy), open, events.Counts{Rejected: 1}, []events.Kind{events.KindCallRejected}},
		{"listener at the trip", listener, failing(3), execute(broken), open, events.Counts{Failure: 1}, []events.Kind{started, changed, finished}},
		{"listener at the last probe", listener, steps(halfOpened, succeeding), execute(healthy), closed, one, []events.Kind{started, changed, finished}},
		{"BreakerRetired", hooks["BreakerRetired"], nothing, func(_ *testing.T, cb *resilience.CircuitBreaker) { cb.Close() }, closed, events.Counts{}, []events.Kind{events.KindBreakerRetired}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var armed atomic.Bool
				bomb := func() {
					if armed.Load() {
						panic("sink")
					}
				}
				c := small()
				tt.attach(c, bomb)
				rec := eventstest.New(t)
				c.Events = events.Join(c.Events, rec.Sink())
				cb := resilience.NewCircuitBreaker(c)
				var heard []change
				cb.OnStateChange(func(_, _ resilience.CircuitState) {
					if tt.name[:8] == "listener" {
						bomb()
					}
				})
				cb.OnStateChange(func(from, to resilience.CircuitState) { heard = append(heard, change{from: from, to: to}) })

				tt.before(t, cb)
				before, told := cb.GetStats(), len(rec.Kinds())
				heard = nil
				armed.Store(true)
				require.Equal(t, "sink", panics(t, func() { tt.cause(t, cb) }))
				armed.Store(false)

				after := cb.GetStats()
				require.Equal(t, tt.state, after.State)
				require.Equal(t, plus(before.Totals, tt.totals), after.Totals)
				require.Equal(t, before.ProbesInFlight, after.ProbesInFlight, "none is lost, none is leaked")
				require.Zero(t, after.SinkPanics, "its caller received it")
				require.Equal(t, tt.kinds, rec.Kinds()[told:])
				if before.State != after.State {
					require.Equal(t, []change{{from: before.State, to: after.State}}, heard)
				}
				if tt.name == "BreakerRetired" {
					return
				}
				cb.Reset()
				require.Equal(t, events.KindStateChanged, rec.Kinds()[len(rec.Kinds())-1], "what comes later is told")
				toHalfOpen(t, cb, 30*time.Second)
				requireRecovers(t, cb)
			})
		})
	}
}

func plus(a, b events.Counts) events.Counts {
	return events.Counts{
		Success:  a.Success + b.Success,
		Failure:  a.Failure + b.Failure,
		Ignored:  a.Ignored + b.Ignored,
		Rejected: a.Rejected + b.Rejected,
		Slow:     a.Slow + b.Slow,
	}
}

// All sinks panic at all events of one call.
func TestEverySinkPanicsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var armed atomic.Bool
		var seen []string
		bomb := func(name string) {
			if armed.Load() {
				seen = append(seen, name)
				panic(name)
			}
		}
		c := small(events.Sink{
			CallFinished:  func(context.Context, events.CallFinished) { bomb("CallFinished") },
			StateChanged:  func(context.Context, events.StateChanged) { bomb("StateChanged") },
			WindowRotated: func(context.Context, events.WindowRotated) { bomb("WindowRotated") },
		})
		c.Logger = funcLogger(func() { bomb("Logger") })
		cb := resilience.NewCircuitBreaker(c)
		cb.OnStateChange(func(_, _ resilience.CircuitState) { bomb("listener") })
		failIn(t, cb, 3)
		time.Sleep(10 * time.Second)
		armed.Store(true)
		require.Equal(t, "CallFinished", panics(t, func() {
			_ = cb.Execute(t.Context(), func() error { panic("work") })
		}), "the last one")
		require.Equal(t, []string{"WindowRotated", "StateChanged", "Logger", "listener", "CallFinished"}, seen)
		require.Equal(t, open, cb.State())
		armed.Store(false)
		pass(30 * time.Second)
		requireRecovers(t, cb)
	})
}

// A delivery that panics goes on with the changes that were queued behind it.
func TestAPanicDoesNotCostTheChangesBehindIt(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("sink") }, "Goexit": func() { _ = exit() }} {
		t.Run(name, func(t *testing.T) {
			var cb *resilience.CircuitBreaker
			rec := eventstest.New(t)
			cb = resilience.NewCircuitBreaker(small(rec.Sink(events.Sink{
				StateChanged: func(_ context.Context, e events.StateChanged) {
					if e.Generation == 2 {
						cb.Reset()
						cb.ForceClosed()
						cb.Close()
					}
					end()
				},
				BreakerRetired: func(context.Context, events.BreakerRetired) { end() },
			})))
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				cb.ForceOpen()
			}()
			<-done
			require.Equal(t, []events.Kind{
				events.KindBreakerCreated, events.KindStateChanged, events.KindStateChanged,
				events.KindStateChanged, events.KindBreakerRetired,
			}, rec.Kinds())
		})
	}
}

// The turn to deliver is given back when a sink ends its goroutine.
func TestASinkThatGoexits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var armed atomic.Bool
		armed.Store(true)
		cb, rec := observed(t, small(events.Sink{StateChanged: func(context.Context, events.StateChanged) {
			if armed.Load() {
				_ = exit()
			}
		}}))
		failIn(t, cb, 3)
		goexits(t, func() { _ = cb.Execute(t.Context(), broken) })
		require.Equal(t, open, cb.State())
		pass(30 * time.Second) // on the timer's goroutine, too
		synctest.Wait()
		require.Equal(t, halfOpen, cb.State())
		armed.Store(false)
		requireRecovers(t, cb)
		require.Equal(t, []change{trips, wakes, closes}, changes(rec))
	})
}

// The constructor's caller receives a panic of BreakerCreated.
func TestBreakerCreatedThatPanics(t *testing.T) {
	require.Equal(t, "sink", panics(t, func() {
		resilience.NewCircuitBreaker(small(events.Sink{
			BreakerCreated: func(context.Context, events.BreakerCreated) { panic("sink") },
		}))
	}))
}

func TestBreakerCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at events.Snapshot
		cb, rec := observed(t, small(events.Sink{BreakerCreated: func(_ context.Context, e events.BreakerCreated) {
			at = e.Snapshot() // at once, from within
		}}))
		e := last[events.BreakerCreated](t, rec)
		require.Equal(t, "payment", e.Name)
		require.NotZero(t, e.ID)
		require.Equal(t, time.Now(), e.Time)
		require.Equal(t, events.Snapshot{Time: e.Time, Since: e.Time, LastClosed: e.Time, Generation: 1}, at)
		trip(t, cb)
		cb.Close()
		require.Equal(t, cb.GetStats().Snapshot, e.Snapshot(), "also after it is retired")
	})
}

// A panic where there is no caller is counted and logged, and ends nothing.
func TestASinkThatPanicsOnTheTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		before := slog.Default()
		slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
		defer slog.SetDefault(before)

		var armed atomic.Bool
		bomb := func(s string) {
			if armed.Load() {
				panic(s)
			}
		}
		rec := eventstest.New(t)
		cb := resilience.NewCircuitBreaker(small(events.Sink{
			StateChanged: func(context.Context, events.StateChanged) { bomb("the sink's words") },
		}, rec.Sink()))
		var heard []change
		cb.OnStateChange(func(from, to resilience.CircuitState) { heard = append(heard, change{from: from, to: to}) })
		trip(t, cb)
		armed.Store(true)
		pass(30 * time.Second)
		require.Equal(t, halfOpen, cb.State())
		require.Equal(t, uint64(1), cb.GetStats().SinkPanics)
		require.Contains(t, logged.String(), "level=ERROR")
		require.Contains(t, logged.String(), "payment")
		require.Contains(t, logged.String(), "the sink's words")
		require.Contains(t, logged.String(), "TestASinkThatPanicsOnTheTimer", "the stack")
		require.Equal(t, []change{trips, wakes}, changes(rec), "other sinks are told")
		require.Len(t, heard, 2, "and listeners")

		p, q := acquire(t, cb), acquire(t, cb)
		pass(5 * time.Second)
		require.Equal(t, open, cb.State(), "a probe's timeout is no different")
		require.Equal(t, uint64(2), cb.GetStats().SinkPanics)
		armed.Store(false)
		p.Done(nil)
		q.Done(nil)
		pass(30 * time.Second)
		requireRecovers(t, cb)
		require.Equal(t, uint64(2), cb.GetStats().SinkPanics)
	})
}

// It is logged for a listener as well.
func TestAListenerThatPanicsOnTheTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		before := slog.Default()
		slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
		defer slog.SetDefault(before)
		cb, _ := observed(t, small())
		stop := cb.OnStateChange(func(_, to resilience.CircuitState) {
			if to == halfOpen {
				panic("the listener's words")
			}
		})
		toHalfOpen(t, cb, 30*time.Second)
		require.Equal(t, uint64(1), cb.GetStats().SinkPanics)
		require.Contains(t, logged.String(), "the listener's words")
		stop()
		requireRecovers(t, cb)
	})
}

// Join passes every event on, in the order of the sinks, and threads the contexts.
func TestSeveralSinks(t *testing.T) {
	var order []string
	sink := func(name string) events.Sink {
		return events.Sink{
			CallStarted: func(ctx context.Context, _ events.CallStarted) context.Context {
				order = append(order, name+" started")
				return withMark(ctx, fmt.Sprint(ctx.Value(ctxKey{}), name))
			},
			CallFinished: func(ctx context.Context, _ events.CallFinished) {
				order = append(order, fmt.Sprint(name, " finished in ", ctx.Value(ctxKey{})))
			},
		}
	}
	cb := resilience.NewCircuitBreaker(small(sink("a"), sink("b")))
	_ = cb.Execute(withMark(t.Context(), "ctx-"), healthy)
	require.Equal(t, []string{"a started", "b started", "a finished in ctx-ab", "b finished in ctx-ab"}, order)
}

// A breaker whose birth makes a sink panic reaches nobody, so its series must not stay.
func TestSinkPanicsAtBirth(t *testing.T) {
	armed := true
	rec := eventstest.New(t)
	sink := events.Join(rec.Sink(), events.Sink{BreakerCreated: func(context.Context, events.BreakerCreated) {
		if armed {
			panic("sink")
		}
	}})
	r := resilience.NewRegistry(&resilience.RegistryConfig{Template: small(sink)})
	require.Equal(t, "sink", panics(t, func() { resilience.NewCircuitBreaker(small(sink)) }))
	require.Equal(t, "sink", panics(t, func() { r.Get("a") }))
	require.Equal(t, []events.Kind{
		events.KindBreakerCreated, events.KindBreakerRetired, events.KindBreakerCreated, events.KindBreakerRetired,
	}, rec.Kinds())
	armed = false
	r.Get("a")
	require.Len(t, rec.Events(), 5)
	r.Close()
}
