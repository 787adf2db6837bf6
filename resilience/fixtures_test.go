package resilience_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

// What follows serves the tests of the breaker in all files.

const (
	closed   = resilience.StateClosed
	open     = resilience.StateOpen
	halfOpen = resilience.StateHalfOpen
)

var (
	errBroken = errors.New("dependency is broken")
	errOther  = errors.New("another failure")
)

func healthy() error { return nil }
func broken() error  { return errBroken }

// small is a configuration whose numbers are quickly reached: it opens when half of
// four calls fail, sleeps for 30 s, and closes when two of three probes pass.
func small(sinks ...events.Sink) *resilience.CircuitBreakerConfig {
	return &resilience.CircuitBreakerConfig{
		Name:             "payment",
		ErrorThreshold:   0.5,
		VolumeThreshold:  4,
		SleepWindow:      30 * time.Second,
		HalfOpenRequests: 3,
		SuccessThreshold: 0.6,
		WindowSize:       60 * time.Second,
		BucketCount:      6,
		ProbeTimeout:     5 * time.Second,
		Events:           events.Join(sinks...),
	}
}

// observed returns a breaker of config with a Recorder attached before the sinks of
// config, so that every test that uses it checks the delivery contract as well.
func observed(t *testing.T, config *resilience.CircuitBreakerConfig) (*resilience.CircuitBreaker, *eventstest.Recorder) {
	t.Helper()
	rec := eventstest.New(t)
	c := *config
	c.Events = rec.Sink(config.Events)
	return resilience.NewCircuitBreaker(&c), rec
}

// times calls f n times.
func times(n int, f func()) {
	for range n {
		f()
	}
}

// succeedIn and failIn run n calls that end so.
func succeedIn(t *testing.T, cb *resilience.CircuitBreaker, n int) {
	t.Helper()
	for range n {
		require.NoError(t, cb.Execute(t.Context(), healthy))
	}
}

func failIn(t *testing.T, cb *resilience.CircuitBreaker, n int) {
	t.Helper()
	for range n {
		require.ErrorIs(t, cb.Execute(t.Context(), broken), errBroken)
	}
}

// pass lets time pass in a bubble, until all that was due by then is done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// trip opens a closed breaker of configuration small by failures.
func trip(t *testing.T, cb *resilience.CircuitBreaker) {
	t.Helper()
	for range 1000 {
		if cb.State() == open {
			return
		}
		failIn(t, cb, 1)
	}
	t.Fatal("1000 failures do not open the breaker")
}

// toHalfOpen trips a closed breaker and sleeps until it is half-open. It must be
// called in a bubble.
func toHalfOpen(t *testing.T, cb *resilience.CircuitBreaker, sleepWindow time.Duration) {
	t.Helper()
	trip(t, cb)
	pass(sleepWindow)
	require.Equal(t, halfOpen, cb.State())
}

// acquire takes a permit that must be given.
func acquire(t *testing.T, cb *resilience.CircuitBreaker) resilience.Permit {
	t.Helper()
	p, err := cb.Acquire(t.Context())
	require.NoError(t, err)
	return p
}

// requireRejected checks that the breaker rejects a call, and returns the error.
func requireRejected(t *testing.T, cb *resilience.CircuitBreaker) {
	t.Helper()
	_ = rejection(t, cb)
}

// rejection is requireRejected for who wants to look at the error.
func rejection(t *testing.T, cb *resilience.CircuitBreaker) *resilience.RejectedError {
	t.Helper()
	err := cb.Execute(t.Context(), func() error {
		t.Error("a rejected call ran")
		return nil
	})
	require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
	var rejected *resilience.RejectedError
	require.ErrorAs(t, err, &rejected)
	return rejected
}

// requireRecovers checks that a half-open breaker of configuration small closes
// after two more probes that pass, and that it works then.
func requireRecovers(t *testing.T, cb *resilience.CircuitBreaker) {
	t.Helper()
	require.Equal(t, halfOpen, cb.State())
	succeedIn(t, cb, 2)
	require.Equal(t, closed, cb.State())
	succeedIn(t, cb, 1)
	failIn(t, cb, 1)
	require.Equal(t, closed, cb.State())
}

// panics runs f, which must panic, and returns what with.
func panics(t *testing.T, f func()) (value any) {
	t.Helper()
	panicked := true
	defer func() {
		value = recover()
		require.True(t, panicked, "it did not panic")
	}()
	f()
	panicked = false
	return nil
}

// goexits runs f on a goroutine of its own, which must end there by runtime.Goexit.
func goexits(t *testing.T, f func()) {
	t.Helper()
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
		returned = true
	}()
	<-done
	require.False(t, returned, "it returned instead of ending its goroutine")
}

func exit() error {
	runtime.Goexit()
	return nil
}

// configError returns the error that f panics with.
func configError(t *testing.T, f func()) *resilience.ConfigError {
	t.Helper()
	v := panics(t, f)
	require.IsType(t, (*resilience.ConfigError)(nil), v)
	err := v.(*resilience.ConfigError)
	require.ErrorIs(t, err, resilience.ErrInvalidConfig)
	return err
}

// last returns the last of the events of one kind.
func last[E events.Event](t *testing.T, rec *eventstest.Recorder) E {
	t.Helper()
	all := eventstest.Of[E](rec)
	require.NotEmpty(t, all)
	return all[len(all)-1]
}

// changes returns the state changes recorded so far, reduced to what most tests are
// about.
func changes(rec *eventstest.Recorder) []change {
	var all []change
	for _, e := range eventstest.Of[events.StateChanged](rec) {
		all = append(all, change{e.From, e.To, e.Reason})
	}
	return all
}

type change struct {
	from, to events.State
	reason   events.Reason
}

// The usual ways of a breaker.
var (
	trips       = change{closed, open, events.ReasonErrorRate}
	wakes       = change{open, halfOpen, events.ReasonSleepWindowElapsed}
	closes      = change{halfOpen, closed, events.ReasonProbesPassed}
	reopens     = change{halfOpen, open, events.ReasonProbesFailed}
	probesStuck = change{halfOpen, open, events.ReasonProbeTimeout}
)

// ctxKey is the key of what tests put into contexts.
type ctxKey struct{}

func withMark(ctx context.Context, mark any) context.Context {
	return context.WithValue(ctx, ctxKey{}, mark)
}
