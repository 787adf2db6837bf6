package resilience

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
)

// fewest is newRecovery's rule in its own words: the fewest probes whose share
// reaches the ratio.
func fewest(most int, ratio float64) int {
	for n := 1; n < most; n++ {
		if float64(n)/float64(most) >= ratio {
			return n
		}
	}
	return most
}

func TestProbesNeeded(t *testing.T) {
	for _, tt := range []struct {
		most  int
		ratio float64
		want  int
	}{
		{5, 0.6, 3}, {5, 0.61, 4}, {5, 0.2, 1}, {5, 0.01, 1}, {5, 1, 5}, {1, 0.6, 1}, {3, 0.6, 2}, {10, 0.3, 3},
		{100, 0.55, 55}, {100, 0.07, 7}, {3, 1.0 / 3, 1}, {3, 2.0 / 3, 2}, {math.MaxInt32, 1, math.MaxInt32},
		{math.MaxInt32, math.SmallestNonzeroFloat64, 1},
	} {
		require.Equal(t, tt.want, newRecovery(tt.most, tt.ratio, 0).needed, "%v of %d", tt.ratio, tt.most)
	}
	for most := 1; most <= 120; most++ {
		for i := 1; i <= 1000; i++ {
			for _, ratio := range []float64{
				float64(i) / 1000,
				math.Nextafter(float64(i)/1000, 0), math.Nextafter(float64(i)/1000, 1),
			} {
				if ratio > 1 {
					continue
				}
				if got, want := newRecovery(most, ratio, 0).needed, fewest(most, ratio); got != want {
					t.Fatalf("%v of %d probes: %d needed, want %d", ratio, most, got, want)
				}
			}
		}
	}
}

func TestJudgement(t *testing.T) {
	for _, tt := range []struct {
		j    judgement
		c    events.Counts
		want events.Reason
	}{
		{judgement{volume: 10, errorRatio: 0.5}, events.Counts{}, ""},
		{judgement{volume: 10, errorRatio: 0.5}, events.Counts{Failure: 9}, ""},
		{judgement{volume: 10, errorRatio: 0.5}, events.Counts{Failure: 10}, events.ReasonErrorRate},
		{judgement{volume: 10, errorRatio: 0.5}, events.Counts{Success: 5, Failure: 5}, events.ReasonErrorRate},
		{judgement{volume: 10, errorRatio: 0.5}, events.Counts{Success: 6, Failure: 5}, ""},
		{judgement{volume: 10, errorRatio: 0.5}, events.Counts{Success: 10, Slow: 10}, ""},
		{judgement{volume: 10, errorRatio: 0.5, slowRatio: 0.2}, events.Counts{Success: 10, Slow: 2}, events.ReasonSlowCallRate},
		{judgement{volume: 10, errorRatio: 0.5, slowRatio: 0.2}, events.Counts{Success: 10, Slow: 1}, ""},
		{judgement{volume: 10, errorRatio: 0.5, slowRatio: 0.2}, events.Counts{Success: 9, Slow: 9}, ""},
		{judgement{volume: 10, errorRatio: 0.5, slowRatio: 0.2}, events.Counts{Failure: 10, Slow: 10}, events.ReasonErrorRate},
		{judgement{volume: 1, errorRatio: 1}, events.Counts{Success: 1}, ""},
		{judgement{volume: 1, errorRatio: math.SmallestNonzeroFloat64}, events.Counts{Success: 1}, ""},
		{judgement{volume: 1, errorRatio: math.SmallestNonzeroFloat64}, events.Counts{Success: 1e15, Failure: 1}, events.ReasonErrorRate},
	} {
		require.Equal(t, tt.want, tt.j.of(tt.c), "%+v of %+v", tt.j, tt.c)
	}
}

// What is fine in a window neither opens a breaker in it nor in a larger one, and one
// more does, at every decimal threshold: calls that are not judged need not be.
func TestFineIsBelowTheThresholds(t *testing.T) {
	reason := func(failures, slow, volume uint64, ratio float64) events.Reason {
		j := judgement{volume: 1, errorRatio: ratio, slowRatio: ratio}
		return j.of(events.Counts{Success: volume - failures, Failure: failures, Slow: slow})
	}
	for percent := 1; percent <= 100; percent++ {
		ratio := float64(percent) / 100
		for _, volume := range []uint64{1, 2, 3, 7, 10, 99, 100, 300, 1e4, 1e6, 1e9, 1 << 40, 1 << 53} {
			failures, slow := judgement{errorRatio: ratio, slowRatio: ratio}.fine(volume)
			for _, larger := range []uint64{0, 1, 2, volume, 1 << 52} {
				if got := reason(failures, slow, volume+larger, ratio); got != "" {
					t.Fatalf("%d failures and %d slow of %d: %q at %v", failures, slow, volume+larger, got, ratio)
				}
			}
			if got := reason(failures+1, 0, volume, ratio); got != events.ReasonErrorRate {
				t.Fatalf("%d failures of %d: %q at %v", failures+1, volume, got, ratio)
			}
			if got := reason(0, slow+1, volume, ratio); got != events.ReasonSlowCallRate {
				t.Fatalf("%d slow of %d: %q at %v", slow+1, volume, got, ratio)
			}
		}
	}
	failures, slow := judgement{errorRatio: 0.5}.fine(10)
	require.Equal(t, [2]uint64{4, 0}, [2]uint64{failures, slow}, "no call is slow where none can be")
}

// TestProbes steps through admission, settlement, expiry and verdict.
func TestProbes(t *testing.T) {
	r := newRecovery(3, 0.6, 10) // two of three must pass
	var ps probes
	verdict := func() string {
		state, certain := ps.verdict(r)
		return fmt.Sprint(state, certain, ps.passed, ps.failed, len(ps.out))
	}
	a, b, c := ps.admit(r, 0), ps.admit(r, 5), ps.admit(r, 5)
	require.NotNil(t, c)
	require.Nil(t, ps.admit(r, 5), "no more than three")
	require.Equal(t, "half-open false 0 0 3", verdict())

	require.True(t, ps.settle(b, events.OutcomeIgnored))
	require.False(t, ps.settle(b, events.OutcomeSuccess), "it is not out any more")
	require.Equal(t, "half-open false 0 0 2", verdict())
	d := ps.admit(r, 6)
	require.NotNil(t, d, "the place is free again")

	require.False(t, ps.expire(r, 9))
	require.True(t, ps.expire(r, 10), "a is as old as the timeout")
	require.False(t, ps.settle(a, events.OutcomeSuccess))
	require.Equal(t, "half-open false 0 1 2", verdict())
	require.Nil(t, ps.admit(r, 10), "a failed probe has used up its place")

	require.True(t, ps.settle(d, events.OutcomeSuccess))
	require.Equal(t, "half-open false 1 1 1", verdict())
	lost := ps
	lost.out = append([]*probe(nil), ps.out...)
	require.True(t, ps.settle(c, events.OutcomeSuccess))
	require.Equal(t, "closed true 2 1 0", verdict())
	ps = lost
	require.True(t, ps.expire(r, 1000))
	require.Equal(t, "open true 1 2 0", verdict())
}

// Two probes that never return expire together, and count as two.
func TestProbesExpireTogether(t *testing.T) {
	r := newRecovery(5, 0.6, 10)
	var ps probes
	for i := range 5 {
		ps.admit(r, time.Duration(i))
	}
	require.True(t, ps.expire(r, 12))
	require.Equal(t, 3, ps.failed)
	require.Len(t, ps.out, 2)
	require.False(t, ps.expire(r, 12))
}

// Rule 15: an idle breaker has no timer, neither new nor after a recovery, and a
// half-open one has none while no probe is out.
func TestIdleBreakersHaveNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timed := func(b *CircuitBreaker) bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			w := &b.phase.Load().window
			w.mu.Lock()
			defer w.mu.Unlock()
			return b.timer != nil || w.timer != nil
		}
		fail := func() error { return errors.New("down") }
		for range 10_000 {
			require.False(t, timed(NewCircuitBreaker(nil)))
		}
		b := NewCircuitBreaker(&CircuitBreakerConfig{VolumeThreshold: 1, SleepWindow: time.Second, HalfOpenRequests: 1})
		for range 3 {
			_ = b.Execute(t.Context(), func() error { return nil })
			require.False(t, timed(b), "closed")
			for b.State() == StateClosed {
				_ = b.Execute(t.Context(), fail)
			}
			require.True(t, timed(b), "open: it must wake by itself")
			time.Sleep(time.Second)
			synctest.Wait()
			require.Equal(t, StateHalfOpen, b.State())
			require.False(t, b.timer != nil && b.timer.Stop(), "half-open and idle: none is pending")
			_ = b.Execute(t.Context(), func() error { return nil })
			require.Equal(t, StateClosed, b.State())
			require.False(t, timed(b), "recovered")
		}
		b.ForceOpen()
		require.False(t, timed(b), "forced open waits for nothing")
		b.ClearForce()
		require.True(t, timed(b))
		b.Reset()
		require.False(t, timed(b))
		b.ForceOpen()
		b.ClearForce()
		b.Close()
		require.False(t, timed(b), "retired")
	})
}

// Rule 3: the first of the two timers of a sleep window may be late, even later than
// the window's end: the second follows at once.
func TestALateTimerEndsTheSleepWindow(t *testing.T) {
	for _, late := range []time.Duration{0, 1, time.Second / 4, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			b := NewCircuitBreaker(&CircuitBreakerConfig{VolumeThreshold: 1})
			_ = b.Execute(t.Context(), func() error { return errors.New("down") })
			p := b.phase.Load()
			require.Equal(t, StateOpen, p.state)
			b.timer.Stop()
			time.Sleep(p.until - approach(b.rules.Load().sleepWindow) + late)
			b.wake(p) // what the timer would have done in time
			synctest.Wait()
			if wait := p.until - time.Since(b.base); wait > 0 {
				require.Equal(t, StateOpen, b.State())
				time.Sleep(wait)
				synctest.Wait()
			}
			require.Equal(t, StateHalfOpen, b.State())
			require.NoError(t, b.Execute(t.Context(), func() error { return nil }))
		})
	}
}

// A timer of a state that is over, which was about to run as the state ended, leaves
// the next alone.
func TestATimerThatComesTooLateDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewCircuitBreaker(&CircuitBreakerConfig{VolumeThreshold: 1, SleepWindow: time.Minute, ProbeTimeout: time.Minute})
		fail := func() { _ = b.Execute(t.Context(), func() error { return errors.New("down") }) }
		fail()
		asleep := b.phase.Load() // neither of its timers has run
		b.Reset()
		fail()
		first := b.phase.Load()
		time.Sleep(time.Minute)
		synctest.Wait()
		probing := b.phase.Load()
		require.Equal(t, StateHalfOpen, probing.state)
		_, err := b.Acquire(t.Context())
		require.NoError(t, err)
		b.Reset()
		fail()
		second := b.phase.Load()
		require.Equal(t, StateOpen, second.state)
		for range 3 {
			b.wake(asleep)
			b.wake(first)
			b.wake(probing)
			synctest.Wait()
		}
		require.Same(t, second, b.phase.Load())
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		require.Equal(t, StateOpen, b.State())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, StateHalfOpen, b.State(), "its own timer is untouched")
		b.Close()
		b.wake(b.phase.Load())
		require.Nil(t, b.timer)
	})
}

// Rule 15: nothing that a breaker consists of is a map, so nothing is keyed by an
// error or grows with names.
func TestABreakerHoldsNoMap(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(at string, typ reflect.Type)
	walk = func(at string, typ reflect.Type) {
		if seen[typ] || typ.PkgPath() == "time" {
			return
		}
		seen[typ] = true
		switch typ.Kind() {
		case reflect.Map:
			t.Errorf("%s is a map", at)
		case reflect.Struct:
			for field := range typ.Fields() {
				walk(at+"."+field.Name, field.Type)
			}
		case reflect.Pointer, reflect.Slice, reflect.Array:
			walk(at, typ.Elem())
		}
	}
	for _, part := range []any{CircuitBreaker{}, phase{}, call{}, held{}, marks{}, stripes{}} {
		walk(fmt.Sprintf("%T", part), reflect.TypeOf(part))
	}
	require.True(t, seen[reflect.TypeFor[SlidingWindow]()], "it walked")
}
