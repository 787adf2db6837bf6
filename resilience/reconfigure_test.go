package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// changed returns configuration small without a sink, with a change.
func changed(change func(c *resilience.CircuitBreakerConfig)) *resilience.CircuitBreakerConfig {
	c := small()
	change(c)
	return c
}

func TestReconfigureErrors(t *testing.T) {
	cb, rec := observed(t, small())
	failIn(t, cb, 2)
	before := cb.GetStats()
	for _, c := range []struct {
		config resilience.CircuitBreakerConfig
		want   string
	}{
		{resilience.CircuitBreakerConfig{ErrorThreshold: 2}, "ErrorThreshold is 2, want a ratio above 0 and at most 1, or 0 for the default"},
		{resilience.CircuitBreakerConfig{Name: "other"}, `Name is other, want "payment", which cannot change, or none`},
		{resilience.CircuitBreakerConfig{Events: events.Log(slog.Default())}, "Events is set, want none: who is told cannot change"},
		{resilience.CircuitBreakerConfig{Events: events.Sink{Enabled: func(context.Context) bool { return true }}}, "Events is set, want none: who is told cannot change"},
		{resilience.CircuitBreakerConfig{Logger: &recordingLogger{}}, "Logger is set, want none: who is told cannot change"},
		{resilience.CircuitBreakerConfig{Metrics: &rejectionCounter{}}, "Metrics is set, want none: who is told cannot change"},
	} {
		err := cb.Reconfigure(&c.config)
		require.EqualError(t, err, "resilience: CircuitBreakerConfig."+c.want)
		require.ErrorIs(t, err, resilience.ErrInvalidConfig)
	}
	after := cb.GetStats()
	require.Equal(t, before.Window, after.Window)
	require.Empty(t, eventstest.Of[events.BreakerReconfigured](rec))
	failIn(t, cb, 2)
	require.Equal(t, open, cb.State(), "everything stayed as it was")
	cb.Close()
}

// It must hold: the new thresholds judge what the window holds already, at the next
// outcome, and are told.
func TestReconfigureThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, changed(func(c *resilience.CircuitBreakerConfig) { c.VolumeThreshold = 100 }))
		succeedIn(t, cb, 3)
		failIn(t, cb, 3)
		require.NoError(t, cb.Reconfigure(changed(func(c *resilience.CircuitBreakerConfig) { c.ErrorThreshold = 0.4 })))
		require.Equal(t, closed, cb.State())
		require.True(t, cb.GetStats().Judged)
		require.Equal(t, events.Counts{Success: 3, Failure: 3}, cb.GetStats().Window)
		succeedIn(t, cb, 1)
		require.Equal(t, open, cb.State(), "3 of 7 are above 0.4")

		e := last[events.BreakerReconfigured](t, rec)
		require.Equal(t, 100, e.Old.VolumeThreshold)
		require.Equal(t, 4, e.New.VolumeThreshold)
		require.InDelta(t, 0.5, e.Old.ErrorThreshold, 0)
		require.InDelta(t, 0.4, e.New.ErrorThreshold, 0)
		e.New.VolumeThreshold, e.New.ErrorThreshold = e.Old.VolumeThreshold, e.Old.ErrorThreshold
		require.Equal(t, e.Old, e.New)
		require.Equal(t, e.Old, rec.Events()[0].(events.BreakerCreated).Thresholds)
		cb.Close()
	})
}

// What was found to be fine by the old thresholds is judged anew.
func TestReconfigureForgetsJudgements(t *testing.T) {
	cb := resilience.NewCircuitBreaker(changed(func(c *resilience.CircuitBreakerConfig) { c.ErrorThreshold = 0.9 }))
	failIn(t, cb, 3)
	succeedIn(t, cb, 5) // judged, and fine
	require.NoError(t, cb.Reconfigure(changed(func(c *resilience.CircuitBreakerConfig) { c.ErrorThreshold = 0.3 })))
	succeedIn(t, cb, 1)
	require.Equal(t, open, cb.State())
	cb.Close()
}

func TestReconfigureClassifier(t *testing.T) {
	cb := resilience.NewCircuitBreaker(small())
	require.NoError(t, cb.Reconfigure(changed(func(c *resilience.CircuitBreakerConfig) {
		c.ErrorClassifier = func(err error) bool { return !errors.Is(err, errBroken) }
	})))
	failIn(t, cb, 9)
	require.Equal(t, closed, cb.State())
	require.Equal(t, uint64(9), cb.GetStats().Totals.Ignored)
	require.NoError(t, cb.Reconfigure(nil), "the default classifier again, as all")
	failIn(t, cb, 10)
	require.Equal(t, open, cb.State())
	cb.Close()
}

// An open breaker keeps its deadline; the next sleep window is a new one.
func TestReconfigureOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, small())
		trip(t, cb)
		pass(10 * time.Second)
		require.NoError(t, cb.Reconfigure(changed(func(c *resilience.CircuitBreakerConfig) { c.SleepWindow = time.Second })))
		require.Equal(t, 20*time.Second, cb.GetStats().RetryAfter)
		require.Equal(t, 20*time.Second, rejection(t, cb).RetryAfter())
		pass(20*time.Second - time.Nanosecond)
		requireRejected(t, cb)
		pass(time.Nanosecond)
		failRecovery(t, cb)
		require.Equal(t, time.Second, last[events.StateChanged](t, rec).RetryAfter)
		pass(time.Second)
		require.NoError(t, cb.Reconfigure(changed(func(c *resilience.CircuitBreakerConfig) { c.SleepWindowFactor = 2 })))
		failRecovery(t, cb)
		require.Equal(t, 120*time.Second, last[events.StateChanged](t, rec).RetryAfter, "two recoveries have failed")
		cb.Close()
	})
}

// In a half-open one, probes remain what they are, and the verdict falls when it is
// certain by the new thresholds.
func TestReconfigureHalfOpen(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(c *resilience.CircuitBreakerConfig)
		want   resilience.CircuitState
	}{
		"nothing":             {func(*resilience.CircuitBreakerConfig) {}, halfOpen},
		"fewer must pass":     {func(c *resilience.CircuitBreakerConfig) { c.SuccessThreshold = 0.3 }, closed},
		"fewer are asked":     {func(c *resilience.CircuitBreakerConfig) { c.HalfOpenRequests = 1 }, closed},
		"all must pass":       {func(c *resilience.CircuitBreakerConfig) { c.SuccessThreshold = 1 }, open},
		"more are asked":      {func(c *resilience.CircuitBreakerConfig) { c.HalfOpenRequests = 10 }, halfOpen},
		"one is out for long": {func(c *resilience.CircuitBreakerConfig) { c.ProbeTimeout = time.Second }, open},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cb, rec := observed(t, small())
				toHalfOpen(t, cb, 30*time.Second)
				out := acquire(t, cb)
				succeedIn(t, cb, 1)
				failIn(t, cb, 1)
				pass(2 * time.Second)
				require.NoError(t, cb.Reconfigure(changed(tt.change)))
				require.Equal(t, tt.want, cb.State())
				if tt.want != halfOpen {
					kinds := rec.Kinds()
					require.Equal(t, []events.Kind{events.KindBreakerReconfigured, events.KindStateChanged}, kinds[len(kinds)-2:])
				}
				pass(3*time.Second - time.Nanosecond) // the timer is that of the probe still
				require.Equal(t, tt.want, cb.State())
				pass(time.Nanosecond)
				if name == "nothing" {
					require.Equal(t, open, cb.State())
				}
				out.Done(nil)
				cb.Close()
			})
		})
	}
	t.Run("a shorter time out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cb, _ := observed(t, small())
			toHalfOpen(t, cb, 30*time.Second)
			out := []resilience.Permit{acquire(t, cb), acquire(t, cb)}
			require.NoError(t, cb.Reconfigure(changed(func(c *resilience.CircuitBreakerConfig) { c.ProbeTimeout = time.Second })))
			pass(time.Second - time.Nanosecond)
			require.Equal(t, halfOpen, cb.State())
			pass(time.Nanosecond)
			require.Equal(t, open, cb.State())
			for _, p := range out {
				p.Done(nil)
			}
			cb.Close()
		})
	})
}

// Turning slow calls on and off: those count that began when calls could be slow.
func TestReconfigureSlowCalls(t *testing.T) {
	for _, sink := range []events.Sink{{}, eventstest.New(t).Sink()} {
		testReconfigureSlowCalls(t, sink)
	}
}

func testReconfigureSlowCalls(t *testing.T, sink events.Sink) {
	synctest.Test(t, func(t *testing.T) {
		cb := resilience.NewCircuitBreaker(small(sink))
		slow := changed(func(c *resilience.CircuitBreakerConfig) { c.SlowCallDuration, c.SlowCallThreshold = time.Second, 0.5 })
		take := func(d time.Duration) { _ = cb.Execute(t.Context(), func() error { time.Sleep(d); return nil }) }
		early := acquire(t, cb)
		times(10, func() { take(2 * time.Second) })
		require.NoError(t, cb.Reconfigure(slow))
		require.Zero(t, cb.GetStats().Window.Slow)
		time.Sleep(2 * time.Second)
		early.Done(nil)
		require.Zero(t, cb.GetStats().Totals.Slow, "it began before, whether somebody times it or not")
		take(2 * time.Second)
		late := acquire(t, cb)
		require.Equal(t, uint64(1), cb.GetStats().Window.Slow)
		require.NoError(t, cb.Reconfigure(small()))
		time.Sleep(2 * time.Second)
		late.Done(nil)
		require.Equal(t, uint64(1), cb.GetStats().Totals.Slow, "by the rules at its end none is slow")
		times(10, func() { take(2 * time.Second) })
		pass(time.Minute)
		require.Zero(t, cb.GetStats().Window.Slow)
		require.NoError(t, cb.Reconfigure(slow))
		times(4, func() { take(2 * time.Second) })
		require.Equal(t, open, cb.State())
		cb.Close()
	})
}

// Shadow mode can be left and entered in any state; what follows is real from then on,
// and the time is accounted for where it was spent.
func TestReconfigureShadow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb, rec := observed(t, shadow())
		trip(t, cb)
		pass(10 * time.Second)
		succeedIn(t, cb, 1)
		require.NoError(t, cb.Reconfigure(small()))
		require.Equal(t, events.StatusOpen, cb.GetStats().Status())
		requireRejected(t, cb)
		pass(5 * time.Second)
		require.NoError(t, cb.Reconfigure(shadow()))
		require.NoError(t, cb.Reconfigure(shadow()), "again")
		succeedIn(t, cb, 1)
		pass(15 * time.Second)
		require.Equal(t, halfOpen, cb.State())
		s := cb.GetStats()
		require.Equal(t, 25*time.Second, s.TimeIn[events.StatusShadowOpen])
		require.Equal(t, 5*time.Second, s.TimeIn[events.StatusOpen])
		var sum time.Duration
		for _, d := range s.TimeIn {
			sum += d
		}
		require.Equal(t, s.Time.Sub(rec.Events()[0].(events.BreakerCreated).Time), sum)
		require.Equal(t, events.Counts{Success: 2, Failure: 4, Rejected: 1, WouldReject: 2}, s.Totals)
		cb.Close()
	})
}

// The window keeps what it holds as far as the new one reaches: nothing leaves early,
// nothing returns.
func TestReconfigureWindow(t *testing.T) {
	window := func(size time.Duration, buckets int) *resilience.CircuitBreakerConfig {
		return changed(func(c *resilience.CircuitBreakerConfig) {
			c.WindowSize, c.BucketCount, c.VolumeThreshold = size, buckets, 1<<30
		})
	}
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(300) {
			rnd := rand.New(rand.NewPCG(seed, 11))
			size, buckets := 60*time.Second, 6
			span := func() time.Duration { n := time.Duration(buckets); return (size + n - 1) / n }
			cb := resilience.NewCircuitBreaker(window(size, buckets))
			type record struct {
				at    time.Time
				fail  bool
				stays bool          // it was never so old that it could leave
				gone  bool          // it was once so old that it must have left
				slack time.Duration // by which reconfigurations may have made its bucket younger
			}
			var all []*record
			check := func() {
				t.Helper()
				now, got := time.Now(), cb.GetStats().Window
				var least, most [2]uint64
				for _, r := range all {
					age := now.Sub(r.at)
					r.stays = r.stays && age < size-span()
					r.gone = r.gone || age > span()*time.Duration(buckets)+r.slack
					kind := 0
					if r.fail {
						kind = 1
					}
					if r.stays {
						least[kind]++
					}
					if !r.gone {
						most[kind]++
					}
				}
				for kind, n := range []uint64{got.Success, got.Failure} {
					require.GreaterOrEqual(t, n, least[kind], "seed %d", seed)
					require.LessOrEqual(t, n, most[kind], "seed %d", seed)
				}
			}
			for range 300 {
				time.Sleep(time.Duration(rnd.IntN(int(size / 10))))
				check()
				switch n := rnd.IntN(15); {
				case n == 0:
					for _, r := range all {
						r.slack += span()
					}
					if rnd.IntN(4) > 0 {
						size, buckets = time.Duration(1+rnd.IntN(120))*time.Second, 1+rnd.IntN(12)
					}
					require.NoError(t, cb.Reconfigure(window(size, buckets)))
					check()
				case n < 6:
					failIn(t, cb, 1)
					all = append(all, &record{at: time.Now(), fail: true, stays: true})
				default:
					succeedIn(t, cb, 1)
					all = append(all, &record{at: time.Now(), stays: true})
				}
			}
			pass(span() * time.Duration(buckets))
			check()
			cb.Close()
		}
	})
}

// The exact counts of a few changes.
func TestReconfigureWindowExactly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		window := func(size time.Duration, buckets int) *resilience.CircuitBreakerConfig {
			return changed(func(c *resilience.CircuitBreakerConfig) { c.WindowSize, c.BucketCount = size, buckets })
		}
		cb := resilience.NewCircuitBreaker(window(60*time.Second, 6))
		for range 6 { // one success in each bucket, 5 s after its beginning
			time.Sleep(5 * time.Second)
			succeedIn(t, cb, 1)
			time.Sleep(5 * time.Second)
		}
		volume := func() uint64 { return cb.GetStats().Window.Volume() }
		require.Equal(t, uint64(5), volume(), "the seventh bucket begins")
		require.NoError(t, cb.Reconfigure(window(120*time.Second, 12)))
		require.Equal(t, uint64(5), volume(), "what has left does not come back")
		time.Sleep(70*time.Second - time.Nanosecond)
		require.Equal(t, uint64(5), volume(), "the rest stays for the new size")
		time.Sleep(time.Nanosecond)
		require.Equal(t, uint64(4), volume())
		require.NoError(t, cb.Reconfigure(window(90*time.Second, 9)))
		require.Equal(t, uint64(1), volume(), "what is too old leaves at once: all but what is 75 s old")
		require.NoError(t, cb.Reconfigure(window(90*time.Second, 9)))
		require.Equal(t, uint64(1), volume(), "the same again changes nothing")
		time.Sleep(10*time.Second - time.Nanosecond)
		require.Equal(t, uint64(1), volume())
		time.Sleep(time.Nanosecond)
		require.Zero(t, volume())
		cb.Close()
	})
}

// While thousands of calls run, some of them in hot windows, the rules change all the
// time, and no call is lost.
func TestReconfigureUnderLoad(t *testing.T) {
	cb, rec := observed(t, changed(func(c *resilience.CircuitBreakerConfig) { c.VolumeThreshold = 1 << 30 }))
	silent := resilience.NewCircuitBreaker(changed(func(c *resilience.CircuitBreakerConfig) { c.VolumeThreshold = 1 << 30 }))
	var calls, rejections atomic.Uint64
	begun, stop := make(chan struct{}), make(chan struct{})
	var reconfiguring sync.WaitGroup
	reconfiguring.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 2))
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			c := changed(func(c *resilience.CircuitBreakerConfig) {
				c.WindowSize, c.BucketCount = time.Duration(1+rnd.IntN(50))*10*time.Millisecond, 1+rnd.IntN(9)
				c.Shadow = rnd.IntN(2) == 0
				c.VolumeThreshold = 1 + rnd.IntN(10_000)
				c.SleepWindow = time.Millisecond
				if rnd.IntN(2) == 0 {
					c.SlowCallDuration, c.SlowCallThreshold = time.Hour, 1
				}
			})
			if cb.Reconfigure(c) != nil || silent.Reconfigure(c) != nil {
				t.Error("refused")
			}
			cb.GetStats()
			silent.GetStats()
			if n == 0 {
				close(begun)
			}
		}
	})
	<-begun // a busy machine may finish the calls before it runs another goroutine
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20_000 {
				fn := healthy
				if i%3 == w%3 {
					fn = broken
				}
				for _, b := range []*resilience.CircuitBreaker{silent, cb} {
					if b == cb && i%20 != 0 {
						continue
					}
					err := b.Execute(t.Context(), fn)
					if errors.Is(err, resilience.ErrCircuitBreakerOpen) {
						rejections.Add(1)
					} else {
						calls.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	reconfiguring.Wait()
	a, b := cb.GetStats(), silent.GetStats()
	require.Equal(t, calls.Load(), a.Totals.Volume()+b.Totals.Volume())
	require.Equal(t, rejections.Load(), a.Totals.Rejected+b.Totals.Rejected)
	require.NotEmpty(t, eventstest.Of[events.BreakerReconfigured](rec))
	require.LessOrEqual(t, b.Window.Volume(), b.Totals.Volume())
	var sum time.Duration
	for _, d := range a.TimeIn {
		require.GreaterOrEqual(t, d, time.Duration(0))
		sum += d
	}
	require.Equal(t, a.Time.Sub(rec.Events()[0].(events.BreakerCreated).Time), sum)
	cb.Close()
	silent.Close()
}

// A closed breaker is reconfigured silently; sinks may reconfigure.
func TestReconfigureFromSinkAndAfterClose(t *testing.T) {
	var cb *resilience.CircuitBreaker
	again := 3
	sink := events.Sink{BreakerReconfigured: func(context.Context, events.BreakerReconfigured) {
		if again--; again > 0 {
			require.NoError(t, cb.Reconfigure(nil))
		}
	}}
	cb, rec := observed(t, small(sink))
	require.NoError(t, cb.Reconfigure(nil))
	require.Len(t, eventstest.Of[events.BreakerReconfigured](rec), 3)
	cb.Close()
	require.NoError(t, cb.Reconfigure(changed(func(c *resilience.CircuitBreakerConfig) { c.VolumeThreshold = 1 })))
	failIn(t, cb, 1)
	require.Equal(t, open, cb.State())
	require.Len(t, eventstest.Of[events.BreakerReconfigured](rec), 3)
}

func ExampleCircuitBreaker_Reconfigure() {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", ErrorThreshold: 0.9})
	for i := range 10 {
		_ = cb.Execute(context.Background(), func() error {
			if i%2 == 0 {
				return errors.New("503")
			}
			return nil
		})
	}
	fmt.Println(cb.State())

	if err := cb.Reconfigure(&resilience.CircuitBreakerConfig{ErrorThreshold: 0.3}); err != nil {
		fmt.Println(err)
	}
	_ = cb.Execute(context.Background(), func() error { return nil })
	fmt.Println(cb.State())
	// Output:
	// closed
	// open
}
