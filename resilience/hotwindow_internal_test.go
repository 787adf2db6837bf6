package resilience

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// locked returns what f finds under the window's lock.
func locked[T any](w *SlidingWindow, f func() T) T {
	w.mu.Lock()
	defer w.mu.Unlock()
	return f()
}

func (w *SlidingWindow) hot() bool { return w.marks.Load().hot }

func (w *SlidingWindow) timed() bool { return locked(w, func() bool { return w.timer != nil }) }

// busy makes so many calls that a window of a single bucket becomes hot.
func busy(t *testing.T, b *CircuitBreaker) {
	t.Helper()
	for range hotCalls + 1 {
		require.NoError(t, b.Execute(t.Context(), func() error { return nil }))
	}
}

// A window is hot while it is busy, and has its timer only then.
func TestAWindowIsHotWhileBusy(t *testing.T) {
	for name, outcome := range map[string]error{"successes": nil, "failures": errors.New("down")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := NewCircuitBreaker(&CircuitBreakerConfig{VolumeThreshold: 1e9})
				w := &b.phase.Load().window
				for range hotCalls {
					_ = b.Execute(t.Context(), func() error { return outcome })
				}
				require.False(t, w.hot())
				require.False(t, w.timed())
				_ = b.Execute(t.Context(), func() error { return outcome })
				require.True(t, w.hot())
				require.True(t, w.timed())

				time.Sleep(w.span)
				synctest.Wait()
				require.True(t, w.hot(), "the bucket was busy")
				time.Sleep(w.span)
				synctest.Wait()
				require.False(t, w.hot(), "this one was not")
				require.False(t, w.timed())

				for range hotCalls + 1 {
					_ = b.Execute(t.Context(), func() error { return outcome })
				}
				require.True(t, w.hot(), "and it is busy again")
				b.Close()
			})
		})
	}
}

// Two processors that write at once turn a hot window to stripes, and nothing of
// what was counted before and after is lost.
func TestStripesLoseNothing(t *testing.T) {
	b := NewCircuitBreaker(nil)
	busy(t, b)
	w := &b.phase.Load().window
	m := w.marks.Load()
	require.True(t, m.hot)
	w.stripes.CompareAndSwap(nil, newStripes())
	for range 100 {
		w.countSuccess(m)
	}
	require.Equal(t, uint64(hotCalls+1), w.success.Load(), "it has ceased to count there")
	require.Equal(t, uint64(100), w.stripes.Load().sum())
	require.Equal(t, uint64(hotCalls+101), b.GetStats().Totals.Success)
	require.Equal(t, uint64(hotCalls+101), b.GetStats().Window.Success)
	b.Reset()
	require.Equal(t, uint64(hotCalls+101), b.GetStats().Totals.Success)
	b.Close()
}

// Close stops a busy window's timer, and none is set afterwards.
func TestCloseCoolsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewCircuitBreaker(nil)
		busy(t, b)
		w := &b.phase.Load().window
		require.True(t, w.timed())
		b.Close()
		require.False(t, w.timed())
		require.False(t, w.hot(), "else nobody would rotate it")
		require.Equal(t, uint64(hotCalls+1), b.GetStats().Window.Success)
		busy(t, b)
		require.False(t, w.timed(), "and none is set any more")
		time.Sleep(60 * time.Second)
		require.Zero(t, b.GetStats().Window, "what was counted expires in time")
		busy(t, b)
		b.Reset()
		busy(t, b)
		require.False(t, b.phase.Load().window.timed(), "nor in a later state")
	})
}

// A state that is over has no timer.
func TestTheEndOfAStateCoolsTheWindow(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, b *CircuitBreaker){
		"ForceOpen":   func(_ *testing.T, b *CircuitBreaker) { b.ForceOpen() },
		"ForceClosed": func(_ *testing.T, b *CircuitBreaker) { b.ForceClosed() },
		"Reset":       func(_ *testing.T, b *CircuitBreaker) { b.Reset() },
		"a trip": func(t *testing.T, b *CircuitBreaker) {
			for b.State() == StateClosed {
				_ = b.Execute(t.Context(), func() error { return errors.New("down") })
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := NewCircuitBreaker(nil)
				busy(t, b)
				w := &b.phase.Load().window
				require.True(t, w.timed())
				end(t, b)
				require.False(t, w.timed())
				require.NotSame(t, w, &b.phase.Load().window)
			})
		})
	}
}

// The timer of a hot window may be late, for want of a processor. Calls go on
// meanwhile and count in the newest bucket, which must not expire under them.
func TestAHotWindowWithALateTimer(t *testing.T) {
	for _, buckets := range []int{1, 2, 10} {
		w := new(SlidingWindow)
		w.init(time.Now(), 0, time.Hour, buckets, true, false)
		for range hotCalls + 1 {
			w.countFailure(w.marks.Load())
		}
		require.True(t, w.hot())
		w.timer.Stop()
		for _, late := range []time.Duration{0, time.Hour / 2, time.Hour, 5 * time.Hour} {
			at := w.marks.Load().end + late
			before := w.countsAt(at).Failure
			w.countFailure(w.marks.Load()) // a call at that time does not read the clock
			require.Equal(t, before+1, w.countsAt(at).Failure, "%d buckets, timer late by %v", buckets, late)
		}
	}
}

// A breaker whose window's timer is late opens all the same.
func TestAHotBreakerOpensWithALateTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewCircuitBreaker(&CircuitBreakerConfig{WindowSize: time.Second, BucketCount: 1, ErrorThreshold: 0.9})
		busy(t, b)
		w := &b.phase.Load().window
		require.True(t, w.hot())
		w.timer.Stop() // never was a timer as late as this one
		time.Sleep(time.Hour)
		for range 100 * hotCalls {
			_ = b.Execute(t.Context(), func() error { return errors.New("down") })
			if b.State() == StateOpen {
				return
			}
		}
		t.Fatal("it never opens")
	})
}

// A late timer does not make buckets that ended long ago younger.
func TestALateTickDropsWhatIsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewCircuitBreaker(&CircuitBreakerConfig{WindowSize: 3 * time.Second, BucketCount: 3, VolumeThreshold: 1e9})
		_ = b.Execute(t.Context(), func() error { return errors.New("old") })
		time.Sleep(time.Second)
		busy(t, b)
		w := &b.phase.Load().window
		require.True(t, w.hot())
		w.timer.Stop()
		time.Sleep(time.Hour)
		w.tick()
		require.Zero(t, b.GetStats().Window.Failure, "it was in an earlier bucket")
		require.Equal(t, uint64(hotCalls+1), b.GetStats().Window.Success, "which are in the bucket that ended just now")
		time.Sleep(2*time.Second - 1)
		synctest.Wait()
		require.Equal(t, uint64(hotCalls+1), b.GetStats().Window.Success)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Zero(t, b.GetStats().Window.Success)
		b.Close()
	})
}

// A timer that was about to run as the window was cooled does nothing.
func TestATickAfterTheEndDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewCircuitBreaker(nil)
		busy(t, b)
		w := &b.phase.Load().window
		b.Close()
		before := w.marks.Load()
		time.Sleep(time.Hour)
		w.tick()
		require.Same(t, before, w.marks.Load())
		require.False(t, w.timed())
	})
}

// Stripes take the successes of a busy window once there are any, and hide them from
// what makes a window hot within a bucket. The end of the bucket sees them.
func TestAStripedWindowBecomesHotAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewCircuitBreaker(nil)
		w := &b.phase.Load().window
		w.stripes.Store(newStripes())
		call := func() { require.NoError(t, b.Execute(t.Context(), func() error { return nil })) }
		for range hotCalls {
			call()
		}
		require.False(t, w.marks.Load().hot)
		time.Sleep(w.span)
		call()
		require.True(t, w.marks.Load().hot, "the bucket that ended was busy")
		time.Sleep(w.span)
		synctest.Wait()
		require.False(t, w.marks.Load().hot, "the one after it was not")
		for range 2 * w.marks.Load().buckets() {
			time.Sleep(w.span)
			call()
		}
		require.False(t, w.marks.Load().hot)
		b.Close()
	})
}

// Marks that a closed breaker is left with do not ask to be made hot, call after call.
func TestAClosedBreakersWindowStaysCold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewCircuitBreaker(nil)
		b.Close()
		for range 3 * hotCalls {
			require.NoError(t, b.Execute(t.Context(), func() error { return nil }))
		}
		w := &b.phase.Load().window
		require.False(t, w.marks.Load().hot)
		require.Equal(t, uint64(math.MaxUint64), w.marks.Load().heatAtSuccess)
	})
}

// What calls write is not in the cache line of what all calls read.
func TestCountersHaveALineOfTheirOwn(t *testing.T) {
	var p phase
	read := unsafe.Offsetof(p.window) + unsafe.Offsetof(p.window.stripes) // the last of it
	require.GreaterOrEqual(t, unsafe.Offsetof(p.window)+unsafe.Offsetof(p.window.success), read+cacheLine)
	require.GreaterOrEqual(t, unsafe.Offsetof(p.ignored), read+cacheLine)
	require.Equal(t, uintptr(cacheLine), unsafe.Sizeof(stripe{}))
}

// What a hot window counted since its timer should have run belongs to its last bucket
// when it is given another shape, and leaves with what is that young.
func TestReshapeOfAHotWindowWhoseTimerIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(SlidingWindow)
		w.init(time.Now(), 0, 10*time.Second, 10, true, false)
		for range hotCalls + 1 {
			w.countSuccess(w.marks.Load())
		}
		require.True(t, w.marks.Load().hot)
		w.timer.Stop()
		time.Sleep(1500 * time.Millisecond) // half a bucket late
		w.countSuccess(w.marks.Load())
		w.reshape(1500*time.Millisecond, 10*time.Second, 50, false)
		require.False(t, w.marks.Load().hot)
		for at, want := range map[time.Duration]uint64{
			1500 * time.Millisecond:    hotCalls + 2,
			11300*time.Millisecond - 1: hotCalls + 2, // the window less a bucket
			11300 * time.Millisecond:   0,
		} {
			require.Equal(t, want, w.countsAt(at).Success, "%v", at)
		}
		w.cool()
	})
}

// A phase may end between the moment that its last call finds it hot and the moment
// that the call is counted. What is counted then is in the totals all the same, and
// nobody judges it.
func TestACallThatIsCountedAsItsPhaseEnds(t *testing.T) {
	b := NewCircuitBreaker(&CircuitBreakerConfig{VolumeThreshold: 1})
	defer b.Close()
	work := func() error { return nil }
	calls := uint64(0)
	for w := &b.phase.Load().window; !w.marks.Load().hot; calls++ {
		require.NoError(t, b.Execute(t.Context(), work))
	}
	s := newStripes()
	s.tokens.New = func() any { // asked by a call that is about to count
		b.ForceOpen()
		return &s.each[0]
	}
	b.phase.Load().window.stripes.Store(s)
	require.NoError(t, b.Execute(t.Context(), work))
	require.Equal(t, StateOpen, b.State())
	require.Equal(t, calls+1, b.GetStats().Totals.Success)
}
