package resilience_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// failRecovery lets the probes of a half-open breaker of configuration small fail.
func failRecovery(t *testing.T, cb *resilience.CircuitBreaker) {
	t.Helper()
	require.Equal(t, halfOpen, cb.State())
	failIn(t, cb, 2)
	require.Equal(t, open, cb.State())
}

func TestSleepWindowConfigErrors(t *testing.T) {
	for _, c := range []struct {
		config resilience.CircuitBreakerConfig
		want   string
	}{
		{resilience.CircuitBreakerConfig{SleepWindowFactor: 0.5}, "SleepWindowFactor is 0.5, want a finite number of at least 1, or 0 for no growth"},
		{resilience.CircuitBreakerConfig{SleepWindowFactor: -2}, "SleepWindowFactor is -2, want a finite number of at least 1, or 0 for no growth"},
		{resilience.CircuitBreakerConfig{SleepWindowFactor: math.NaN()}, "SleepWindowFactor is NaN, want a finite number of at least 1, or 0 for no growth"},
		{resilience.CircuitBreakerConfig{SleepWindowFactor: math.Inf(1)}, "SleepWindowFactor is +Inf, want a finite number of at least 1, or 0 for no growth"},
		{resilience.CircuitBreakerConfig{MaxSleepWindow: time.Minute}, "SleepWindowFactor is 0, want at least 1 when MaxSleepWindow is set"},
		{resilience.CircuitBreakerConfig{SleepWindowFactor: 2, MaxSleepWindow: time.Second}, "MaxSleepWindow is 1s, want at least SleepWindow, which is 30s"},
		{resilience.CircuitBreakerConfig{SleepWindowFactor: 2, MaxSleepWindow: -1}, "MaxSleepWindow is -1ns, want at least SleepWindow, which is 30s"},
		{resilience.CircuitBreakerConfig{SleepWindowFactor: 2, MaxSleepWindow: math.MaxInt64}, "MaxSleepWindow is 2562047h47m16.854775807s, want at most 876000h (100 years)"},
		{resilience.CircuitBreakerConfig{SleepWindowJitter: 1.5}, "SleepWindowJitter is 1.5, want a ratio from 0 to 1"},
		{resilience.CircuitBreakerConfig{SleepWindowJitter: -0.1}, "SleepWindowJitter is -0.1, want a ratio from 0 to 1"},
		{resilience.CircuitBreakerConfig{SleepWindowJitter: math.NaN()}, "SleepWindowJitter is NaN, want a ratio from 0 to 1"},
	} {
		require.EqualError(t, c.config.Validate(), "resilience: CircuitBreakerConfig."+c.want)
	}
	require.NoError(t, (&resilience.CircuitBreakerConfig{SleepWindow: 876000 * time.Hour, SleepWindowFactor: 2}).Validate(), "ten times that is capped")
	require.NoError(t, (&resilience.CircuitBreakerConfig{SleepWindowFactor: 1, SleepWindowJitter: 1}).Validate())
}

// A sleep window that grows with every recovery that fails, up to its maximum, and is
// short again after one that does not. What is told is what happens.
func TestSleepWindowGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := small()
		config.SleepWindowFactor, config.MaxSleepWindow = 2, 200*time.Second
		before := *config
		cb, rec := observed(t, config)
		sleeps := func(want time.Duration) {
			t.Helper()
			require.Equal(t, want, last[events.StateChanged](t, rec).RetryAfter)
			require.Equal(t, want, cb.GetStats().RetryAfter)
			rejected := rejection(t, cb)
			require.Equal(t, want, rejected.RetryAfter())
			require.Equal(t, rejected.Since.Add(want), rejected.Until)
			require.Equal(t, want, last[events.CallRejected](t, rec).RetryAfter)
			pass(want - time.Nanosecond)
			requireRejected(t, cb)
			pass(time.Nanosecond)
			require.Equal(t, halfOpen, cb.State())
		}
		for range 2 {
			trip(t, cb)
			for _, want := range []time.Duration{30, 60, 120, 200, 200} {
				sleeps(want * time.Second)
				failRecovery(t, cb)
			}
			sleeps(200 * time.Second)
			requireRecovers(t, cb)
			cb.Reset() // what requireRecovers left in the window
		}

		// Probes that time out fail as well; Reset and force begin anew.
		trip(t, cb)
		pass(30 * time.Second)
		stuck := []resilience.Permit{acquire(t, cb), acquire(t, cb)}
		pass(5 * time.Second)
		require.Equal(t, probesStuck, changes(rec)[len(changes(rec))-1])
		sleeps(60 * time.Second)
		failRecovery(t, cb)
		cb.ForceOpen()
		cb.ClearForce()
		sleeps(120 * time.Second) // force is no recovery, failed or not
		failRecovery(t, cb)
		cb.Reset()
		trip(t, cb)
		sleeps(30 * time.Second)
		failRecovery(t, cb)
		cb.ForceClosed()
		cb.ClearForce()
		trip(t, cb)
		sleeps(30 * time.Second)

		before.Events, config.Events = events.Sink{}, events.Sink{}
		require.Equal(t, before, *config, "it is never written to")
		th := rec.Events()[0].(events.BreakerCreated).Thresholds
		require.Equal(t, 30*time.Second, th.SleepWindow)
		require.Equal(t, 200*time.Second, th.MaxSleepWindow)
		require.InDelta(t, 2, th.SleepWindowFactor, 0)
		for _, p := range stuck {
			p.Done(nil)
		}
		cb.Close()
	})
}

func TestSleepWindowGrowsTenfoldByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := small()
		config.SleepWindow, config.SleepWindowFactor = time.Second, 1e300
		cb := resilience.NewCircuitBreaker(config)
		trip(t, cb)
		for _, want := range []time.Duration{1, 10, 10} {
			require.Equal(t, want*time.Second, cb.GetStats().RetryAfter)
			pass(want * time.Second)
			failRecovery(t, cb)
		}
		cb.Close()
	})
}

// Jitter shortens a sleep window by up to its share, evenly, and differs from breaker to
// breaker and from one window to the next.
func TestSleepWindowJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, jitter := range []float64{0.2, 1} {
			config := small()
			config.SleepWindowJitter = jitter
			var sum float64
			seen := make(map[time.Duration]bool)
			const n = 1000
			shortest := time.Duration(30 * (1 - jitter) * float64(time.Second))
			for range n {
				cb := resilience.NewCircuitBreaker(config)
				trip(t, cb)
				d := cb.GetStats().RetryAfter
				require.GreaterOrEqual(t, d, max(shortest, 1))
				require.LessOrEqual(t, d, 30*time.Second)
				require.Equal(t, d, rejection(t, cb).RetryAfter())
				seen[d] = true
				sum += d.Seconds()
				cb.Close()
			}
			require.Greater(t, len(seen), n*9/10)
			require.InDelta(t, 30*(1-jitter/2), sum/n, 30*jitter*0.05)
		}
		cb, rec := observed(t, func() *resilience.CircuitBreakerConfig {
			c := small()
			c.SleepWindowJitter, c.SleepWindowFactor, c.MaxSleepWindow = 0.5, 2, time.Minute
			return c
		}())
		trip(t, cb)
		for i := range 20 {
			d := last[events.StateChanged](t, rec).RetryAfter
			whole := min(30<<min(i, 4), 60)
			require.GreaterOrEqual(t, d, time.Duration(whole)*time.Second/2)
			require.LessOrEqual(t, d, time.Duration(whole)*time.Second, "never above the maximum")
			pass(d - time.Nanosecond)
			requireRejected(t, cb)
			pass(time.Nanosecond)
			failRecovery(t, cb)
		}
		cb.Close()
	})
}

// A probe's time out is the configured sleep window, however long the present one is.
func TestProbeTimeoutDoesNotGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := small()
		config.ProbeTimeout, config.SleepWindowFactor = 0, 3
		cb, rec := observed(t, config)
		trip(t, cb)
		pass(30 * time.Second)
		failRecovery(t, cb)
		pass(90 * time.Second)
		stuck := []resilience.Permit{acquire(t, cb), acquire(t, cb)}
		pass(30*time.Second - time.Nanosecond)
		require.Equal(t, halfOpen, cb.State())
		pass(time.Nanosecond)
		require.Equal(t, open, cb.State())
		require.Equal(t, 270*time.Second, last[events.StateChanged](t, rec).RetryAfter)
		for _, p := range stuck {
			p.Done(nil)
		}
		cb.Close()
	})
}

func ExampleCircuitBreakerConfig_sleepWindowFactor() {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		Name:              "payment",
		SleepWindow:       30 * time.Second,
		SleepWindowFactor: 2, // 30 s, 1 min, 2 min, 4 min, 5 min, 5 min …
		MaxSleepWindow:    5 * time.Minute,
		SleepWindowJitter: 0.1,
	})
	err := cb.Run(context.Background(), func(context.Context) error { return nil })
	fmt.Println(cb.State(), err)
	// Output: closed <nil>
}
