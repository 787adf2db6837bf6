package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

// told says in one line what an event of a retry says, but for durations.
func told(e events.Event) string {
	line := func(parts ...any) string {
		s := e.Kind().String()
		for _, p := range parts {
			if p != "" && p != false {
				s += fmt.Sprint(" ", p)
			}
		}
		return s
	}
	text := func(err error) string {
		switch err.(type) { //nolint:errorlint // which type err itself has is what is told
		case nil:
			return ""
		case *resilience.RetryError:
			return "[RetryError]"
		default:
			return "[" + err.Error() + "]"
		}
	}
	flag := func(set bool, name string) string {
		if set {
			return name
		}
		return ""
	}
	switch e := e.(type) {
	case events.RetryStarted:
		return line("max", e.MaxAttempts)
	case events.AttemptStarted:
		return line(e.Attempt, "after", e.Delay)
	case events.AttemptFinished:
		return line(e.Attempt, e.Outcome, e.Decision, flag(e.Panicked, "panicked"), text(e.Err))
	case events.RetryScheduled:
		return line(e.Attempt, "in", e.Delay, flag(e.RetryAfter, "as asked"), text(e.Err))
	case events.RetryFinished:
		return line(e.Attempts, e.Outcome, e.Reason, "waited", e.Delay, text(e.Err))
	default:
		return e.Kind().String()
	}
}

func toldAll(r *eventstest.Recorder) []string {
	lines := []string{}
	for _, e := range r.Events() {
		lines = append(lines, told(e))
	}
	return lines
}

// TestEventsOfEachEnding is the golden list: every way in which a retry can end, and
// all that it tells on its way there.
func TestEventsOfEachEnding(t *testing.T) {
	refused := func(context.Context, context.CancelFunc) error { return errRefused }
	returns := func(err error) func(context.Context, context.CancelFunc) error {
		return func(context.Context, context.CancelFunc) error { return err }
	}
	rejection := &resilience.RejectedError{Name: "payment", State: resilience.StateHalfOpen}
	for _, tt := range []struct {
		name     string
		deadline time.Duration
		config   resilience.RetryConfig
		attempts []func(ctx context.Context, cancel context.CancelFunc) error // the last is repeated
		want     []string
	}{
		{name: "success", attempts: []func(context.Context, context.CancelFunc) error{returns(nil)}, want: []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 success success",
			"RetryFinished 1 success success waited 0s",
		}},
		{name: "success after retry", attempts: []func(context.Context, context.CancelFunc) error{refused, refused, returns(nil)}, want: []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure retry [connection refused]",
			"RetryScheduled 2 in 100ms [connection refused]",
			"AttemptStarted 2 after 100ms",
			"AttemptFinished 2 failure retry [connection refused]",
			"RetryScheduled 3 in 200ms [connection refused]",
			"AttemptStarted 3 after 200ms",
			"AttemptFinished 3 success success_after_retry",
			"RetryFinished 3 success success_after_retry waited 300ms",
		}},
		{name: "exhausted", config: resilience.RetryConfig{MaxAttempts: 2}, attempts: []func(context.Context, context.CancelFunc) error{refused}, want: []string{
			"RetryStarted max 2",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure retry [connection refused]",
			"RetryScheduled 2 in 100ms [connection refused]",
			"AttemptStarted 2 after 100ms",
			"AttemptFinished 2 failure exhausted [connection refused]",
			"RetryFinished 2 failure exhausted waited 100ms [RetryError]",
		}},
		{name: "one attempt only", config: resilience.RetryConfig{MaxAttempts: 1}, attempts: []func(context.Context, context.CancelFunc) error{refused}, want: []string{
			"RetryStarted max 1",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure exhausted [connection refused]",
			"RetryFinished 1 failure exhausted waited 0s [RetryError]",
		}},
		{name: "permanent at once", attempts: []func(context.Context, context.CancelFunc) error{returns(resilience.Permanent(errRefused))}, want: []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure not_retryable [connection refused]",
			"RetryFinished 1 failure not_retryable waited 0s [connection refused]",
		}},
		{name: "permanent later", attempts: []func(context.Context, context.CancelFunc) error{refused, returns(resilience.Permanent(errPipe))}, want: []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure retry [connection refused]",
			"RetryScheduled 2 in 100ms [connection refused]",
			"AttemptStarted 2 after 100ms",
			"AttemptFinished 2 failure not_retryable [broken pipe]",
			"RetryFinished 2 failure not_retryable waited 100ms [RetryError]",
		}},
		{name: "ignored", attempts: []func(context.Context, context.CancelFunc) error{returns(resilience.Ignore(errRefused))}, want: []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 ignored not_retryable [connection refused]",
			"RetryFinished 1 failure not_retryable waited 0s [connection refused]",
		}},
		{name: "rejected at once", attempts: []func(context.Context, context.CancelFunc) error{returns(rejection)}, want: []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 rejected rejected [" + rejection.Error() + "]",
			"RetryFinished 1 rejected rejected waited 0s [" + rejection.Error() + "]",
		}},
		{name: "rejected later", attempts: []func(context.Context, context.CancelFunc) error{refused, returns(rejection)}, want: []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure retry [connection refused]",
			"RetryScheduled 2 in 100ms [connection refused]",
			"AttemptStarted 2 after 100ms",
			"AttemptFinished 2 rejected rejected [" + rejection.Error() + "]",
			"RetryFinished 2 rejected rejected waited 100ms [RetryError]",
		}},
		{name: "rejected and tried again", config: resilience.RetryConfig{MaxAttempts: 2, RetryIf: func(error) bool { return true }},
			attempts: []func(context.Context, context.CancelFunc) error{returns(rejection), returns(nil)}, want: []string{
				"RetryStarted max 2",
				"AttemptStarted 1 after 0s",
				"AttemptFinished 1 rejected retry [" + rejection.Error() + "]",
				"RetryScheduled 2 in 100ms [" + rejection.Error() + "]",
				"AttemptStarted 2 after 100ms",
				"AttemptFinished 2 success success_after_retry",
				"RetryFinished 2 success success_after_retry waited 100ms",
			}},
		{name: "the server asks to wait", attempts: []func(context.Context, context.CancelFunc) error{returns(resilience.RetryAfter(errRefused, time.Second)), returns(nil)}, want: []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure retry [connection refused]",
			"RetryScheduled 2 in 1s as asked [connection refused]",
			"AttemptStarted 2 after 1s",
			"AttemptFinished 2 success success_after_retry",
			"RetryFinished 2 success success_after_retry waited 1s",
		}},
		{name: "the server asks for too long", attempts: []func(context.Context, context.CancelFunc) error{returns(resilience.RetryAfter(errRefused, time.Minute))}, want: []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure retry_after_too_long [connection refused]",
			"RetryFinished 1 failure retry_after_too_long waited 0s [RetryError]",
		}},
		{name: "the wait does not fit", deadline: 250 * ms, attempts: []func(context.Context, context.CancelFunc) error{refused}, want: []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure retry [connection refused]",
			"RetryScheduled 2 in 100ms [connection refused]",
			"AttemptStarted 2 after 100ms",
			"AttemptFinished 2 failure deadline [connection refused]",
			"RetryFinished 2 failure deadline waited 100ms [RetryError]",
		}},
		{name: "deadline in an attempt", deadline: time.Second, attempts: []func(context.Context, context.CancelFunc) error{
			func(ctx context.Context, _ context.CancelFunc) error { <-ctx.Done(); return ctx.Err() },
		}, want: []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure deadline [context deadline exceeded]",
			"RetryFinished 1 failure deadline waited 0s [context deadline exceeded]",
		}},
		{name: "cancelled in an attempt", attempts: []func(context.Context, context.CancelFunc) error{
			refused,
			func(ctx context.Context, cancel context.CancelFunc) error { cancel(); return ctx.Err() },
		}, want: []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure retry [connection refused]",
			"RetryScheduled 2 in 100ms [connection refused]",
			"AttemptStarted 2 after 100ms",
			"AttemptFinished 2 ignored canceled [context canceled]",
			"RetryFinished 2 ignored canceled waited 100ms [RetryError]",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := eventstest.New(t)
				tt.config.Events = rec.Sink()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.deadline > 0 {
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				n := 0
				began := time.Now()
				err := resilience.Retry(ctx, &tt.config, func() error {
					n++
					return tt.attempts[min(n, len(tt.attempts))-1](ctx, cancel)
				})
				require.Equal(t, tt.want, toldAll(rec))
				finished := eventstest.Of[events.RetryFinished](rec)[0]
				require.Equal(t, err, finished.Err, "what the caller gets")
				require.Equal(t, time.Since(began), finished.Duration)
				for _, e := range rec.Events() {
					require.Equal(t, events.Header{Name: "default"}, e.About())
				}
			})
		})
	}
}

func TestEventsOfACancelledWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := eventstest.New(t)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(250*ms, cancel)
		_ = resilience.Retry(ctx, &resilience.RetryConfig{Events: rec.Sink()}, alwaysFails().run)
		got := toldAll(rec)
		require.Equal(t, []string{
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure retry [connection refused]",
			"RetryScheduled 2 in 100ms [connection refused]",
			"AttemptStarted 2 after 100ms",
			"AttemptFinished 2 failure retry [connection refused]",
			"RetryScheduled 3 in 200ms [connection refused]",
		}, got[:len(got)-1])
		finished := eventstest.Of[events.RetryFinished](rec)[0]
		require.Equal(t, 2, finished.Attempts)
		require.Equal(t, events.OutcomeIgnored, finished.Outcome)
		require.Equal(t, events.ReasonCanceled, finished.Reason)
		require.Equal(t, 250*ms, finished.Duration)
		require.Equal(t, 250*ms, finished.Delay, "the wait that was interrupted is in it")
	})
}

func TestEventsDurationsAreThoseOfTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := eventstest.New(t)
		n := 0
		err := resilience.Retry(t.Context(), &resilience.RetryConfig{Events: rec.Sink()}, func() error {
			n++
			time.Sleep(time.Duration(n) * 10 * ms)
			if n < 3 {
				return errRefused
			}
			return nil
		})
		require.NoError(t, err)
		for i, e := range eventstest.Of[events.AttemptFinished](rec) {
			require.Equal(t, time.Duration(i+1)*10*ms, e.Duration)
		}
		finished := eventstest.Of[events.RetryFinished](rec)[0]
		require.Equal(t, 360*ms, finished.Duration)
		require.Equal(t, 300*ms, finished.Delay)
	})
}

func TestEventsTheDurationOfAnAttemptIsWithoutRetryIf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := eventstest.New(t)
		config := &resilience.RetryConfig{MaxAttempts: 1, Events: rec.Sink(), RetryIf: func(error) bool {
			time.Sleep(time.Second)
			return true
		}}
		_ = resilience.Retry(t.Context(), config, fail)
		require.Zero(t, eventstest.Of[events.AttemptFinished](rec)[0].Duration)
	})
}

func TestEventsAttemptsOfARetryAroundABreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := eventstest.New(t)
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", VolumeThreshold: 1, Events: rec.Sink()})
		err := resilience.RetryWithCircuitBreaker(t.Context(), &resilience.RetryConfig{Events: rec.Sink()}, cb, alwaysFails().run)
		require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
		cb.Close()
		require.Equal(t, []string{
			"BreakerCreated",
			"RetryStarted max 3",
			"AttemptStarted 1 after 0s",
			"CallStarted",
			"StateChanged",
			"CallFinished",
			"AttemptFinished 1 failure retry [connection refused]",
			"RetryScheduled 2 in 100ms [connection refused]",
			"AttemptStarted 2 after 100ms",
			"CallRejected",
			`AttemptFinished 2 rejected rejected [resilience: circuit breaker "payment" is open]`,
			"RetryFinished 2 rejected rejected waited 100ms [RetryError]",
			"BreakerRetired",
		}, toldAll(rec))
	})
}

func TestEventsNoneForWhatIsNotRun(t *testing.T) {
	rec := eventstest.New(t)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_ = resilience.Retry(canceled, &resilience.RetryConfig{Events: rec.Sink()}, succeed)
	_ = resilience.Retry(t.Context(), &resilience.RetryConfig{MaxAttempts: -1, Events: rec.Sink()}, succeed)
	require.Empty(t, rec.Events())
}

// A sink with only one function is told as well, whichever that is.
func TestEventsOneFunctionIsEnough(t *testing.T) {
	got := map[string]int{}
	count := func(e events.Event) { got[e.Kind().String()]++ }
	for _, s := range []events.Sink{
		{RetryStarted: func(ctx context.Context, e events.RetryStarted) context.Context { count(e); return ctx }},
		{AttemptStarted: func(ctx context.Context, e events.AttemptStarted) context.Context { count(e); return ctx }},
		{AttemptFinished: func(_ context.Context, e events.AttemptFinished) { count(e) }},
		{RetryScheduled: func(_ context.Context, e events.RetryScheduled) { count(e) }},
		{RetryFinished: func(_ context.Context, e events.RetryFinished) { count(e) }},
	} {
		_ = resilience.Retry(t.Context(), &resilience.RetryConfig{InitialDelay: 1, Events: s}, alwaysFails().run)
	}
	require.Equal(t, map[string]int{
		"RetryStarted": 1, "AttemptStarted": 3, "AttemptFinished": 3, "RetryScheduled": 2, "RetryFinished": 1,
	}, got)
}

func TestEventsContextsAreThreadedIntoTheWork(t *testing.T) {
	type operation struct{}
	type attempt struct{}
	var lines []string
	see := func(who string, ctx context.Context) {
		lines = append(lines, fmt.Sprint(who, " ", ctx.Value(operation{}), " ", ctx.Value(attempt{})))
	}
	config := &resilience.RetryConfig{MaxAttempts: 2, InitialDelay: 1, Events: events.Sink{
		RetryStarted: func(ctx context.Context, _ events.RetryStarted) context.Context {
			see("RetryStarted", ctx)
			return context.WithValue(ctx, operation{}, "op")
		},
		AttemptStarted: func(ctx context.Context, e events.AttemptStarted) context.Context {
			see("AttemptStarted", ctx)
			return context.WithValue(ctx, attempt{}, e.Attempt)
		},
		AttemptFinished: func(ctx context.Context, _ events.AttemptFinished) { see("AttemptFinished", ctx) },
		RetryScheduled:  func(ctx context.Context, _ events.RetryScheduled) { see("RetryScheduled", ctx) },
		RetryFinished:   func(ctx context.Context, _ events.RetryFinished) { see("RetryFinished", ctx) },
	}}
	_ = resilience.NewRetrier(config).Run(t.Context(), func(ctx context.Context) error {
		see("work", ctx)
		return errRefused
	})
	require.Equal(t, []string{
		"RetryStarted <nil> <nil>",
		"AttemptStarted op <nil>",
		"work op 1",
		"AttemptFinished op 1",
		"RetryScheduled op <nil>",
		"AttemptStarted op <nil>",
		"work op 2",
		"AttemptFinished op 2",
		"RetryFinished op <nil>",
	}, lines)
}

func TestEventsContextsReachTheBreakerOfRetryWithCircuitBreaker(t *testing.T) {
	type key struct{}
	var seen []any
	config := &resilience.RetryConfig{InitialDelay: 1, Events: events.Sink{
		AttemptStarted: func(ctx context.Context, e events.AttemptStarted) context.Context {
			return context.WithValue(ctx, key{}, e.Attempt)
		},
	}}
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Events: events.Sink{
		CallFinished: func(ctx context.Context, _ events.CallFinished) { seen = append(seen, ctx.Value(key{})) },
	}})
	_ = resilience.RetryWithCircuitBreaker(t.Context(), config, cb, fail)
	require.Equal(t, []any{1, 2, 3}, seen)
}

func TestEventsASinkThatReturnsNoContextKeepsTheOldOne(t *testing.T) {
	config := &resilience.RetryConfig{Events: events.Sink{
		RetryStarted:   func(context.Context, events.RetryStarted) context.Context { return nil },
		AttemptStarted: func(context.Context, events.AttemptStarted) context.Context { return nil },
	}}
	err := resilience.NewRetrier(config).Run(t.Context(), func(ctx context.Context) error {
		require.Equal(t, t.Context(), ctx)
		return nil
	})
	require.NoError(t, err)
}

func TestEventsASinkMayUseTheRetryItHears(t *testing.T) {
	// A sink that retries with the configuration it was called from.
	config := &resilience.RetryConfig{MaxAttempts: 2, InitialDelay: 1}
	depth, most := 0, 0
	config.Events.RetryScheduled = func(ctx context.Context, _ events.RetryScheduled) {
		depth++
		most = max(most, depth)
		if depth < 3 {
			_ = resilience.Retry(ctx, config, fail)
		}
		depth--
	}
	_ = resilience.Retry(t.Context(), config, fail)
	require.Equal(t, 3, most)
}

// ways are those to end the work, or a sink, without returning from it.
var ways = map[string]func(){
	"panic":  func() { panic("on the way out") },
	"Goexit": runtime.Goexit,
}

// TestPanicsAndGoexit leaves a retry from every place where strangers' code runs.
// Whatever began is told to have finished, once, and the panic is the caller's.
func TestPanicsAndGoexit(t *testing.T) {
	for way, leave := range ways {
		for _, tt := range []struct {
			from string
			want []string
		}{
			{"work, attempt 1", []string{
				"RetryStarted max 3", "AttemptStarted 1 after 0s",
				"AttemptFinished 1 failure panic panicked",
				"RetryFinished 1 failure panic waited 0s",
			}},
			{"work, attempt 2", []string{
				"RetryStarted max 3", "AttemptStarted 1 after 0s",
				"AttemptFinished 1 failure retry [connection refused]",
				"RetryScheduled 2 in 100ms [connection refused]",
				"AttemptStarted 2 after 100ms",
				"AttemptFinished 2 failure panic panicked",
				"RetryFinished 2 failure panic waited 100ms",
			}},
			{"RetryIf", []string{
				"RetryStarted max 3", "AttemptStarted 1 after 0s",
				"AttemptFinished 1 failure panic [connection refused]",
				"RetryFinished 1 failure panic waited 0s",
			}},
			{"AttemptStarted", []string{
				"RetryStarted max 3",
				"RetryFinished 0 failure panic waited 0s",
			}},
			{"AttemptFinished", []string{
				"RetryStarted max 3", "AttemptStarted 1 after 0s",
				"AttemptFinished 1 failure retry [connection refused]",
				"RetryFinished 1 failure panic waited 0s",
			}},
			{"AttemptFinished of the last attempt", []string{
				"RetryStarted max 3", "AttemptStarted 1 after 0s",
				"AttemptFinished 1 success success",
				"RetryFinished 1 success success waited 0s",
			}},
			{"RetryScheduled", []string{
				"RetryStarted max 3", "AttemptStarted 1 after 0s",
				"AttemptFinished 1 failure retry [connection refused]",
				"RetryScheduled 2 in 100ms [connection refused]",
				"RetryFinished 1 failure panic waited 0s",
			}},
			{"RetryFinished", []string{
				"RetryStarted max 3", "AttemptStarted 1 after 0s",
				"AttemptFinished 1 failure retry [connection refused]",
				"RetryScheduled 2 in 100ms [connection refused]",
				"AttemptStarted 2 after 100ms",
				"AttemptFinished 2 failure retry [connection refused]",
				"RetryScheduled 3 in 200ms [connection refused]",
				"AttemptStarted 3 after 200ms",
				"AttemptFinished 3 failure exhausted [connection refused]",
				"RetryFinished 3 failure exhausted waited 300ms [RetryError]",
			}},
		} {
			t.Run(way+" in "+tt.from, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					rec := eventstest.New(t)
					began := time.Now()
					leave := func() {
						if tt.from != "RetryFinished" {
							time.Sleep(time.Second) // not to be lost from the duration
						}
						leave()
					}
					if tt.from == "AttemptStarted" {
						// The recorder would have seen an attempt begin; see its Sink method.
						// Joined after the sink that leaves, it has not.
						config := &resilience.RetryConfig{Events: events.Join(leaving(tt.from, leave), rec.Sink())}
						leaves(t, way, func() { _ = resilience.Retry(t.Context(), config, fail) })
					} else {
						config := &resilience.RetryConfig{Events: rec.Sink(leaving(tt.from, leave))}
						if tt.from == "RetryIf" {
							config.RetryIf = func(error) bool { leave(); return true }
						}
						n := 0
						leaves(t, way, func() {
							_ = resilience.Retry(t.Context(), config, func() error {
								if n++; tt.from == fmt.Sprint("work, attempt ", n) {
									leave()
								}
								if tt.from == "AttemptFinished of the last attempt" {
									return nil
								}
								return errRefused
							})
						})
					}
					require.Equal(t, tt.want, toldAll(rec))
					require.Equal(t, time.Since(began), eventstest.Of[events.RetryFinished](rec)[0].Duration)
					for _, e := range eventstest.Of[events.AttemptFinished](rec) {
						require.Equal(t, map[bool]time.Duration{true: time.Second}[e.Panicked], e.Duration)
					}
				})
			})
		}
	}
}

// Work that does not return, and then a sink that does not either: what ended is told.
func TestPanicsAndGoexitInWorkAndInTheSinkThatIsTold(t *testing.T) {
	for way, leave := range ways {
		rec := eventstest.New(t)
		config := &resilience.RetryConfig{Events: rec.Sink(leaving("AttemptFinished", leave))}
		leaves(t, way, func() {
			_ = resilience.Retry(t.Context(), config, func() error { leave(); return nil })
		})
		require.Equal(t, []string{
			"RetryStarted max 3", "AttemptStarted 1 after 0s",
			"AttemptFinished 1 failure panic panicked",
			"RetryFinished 1 failure panic waited 0s",
		}, toldAll(rec))
	}
}

// leaving is a sink whose function of the given name does not return.
func leaving(from string, leave func()) events.Sink {
	if from == "RetryStarted" {
		return events.Sink{RetryStarted: func(context.Context, events.RetryStarted) context.Context {
			leave()
			return nil
		}}
	}
	return map[string]events.Sink{
		"AttemptStarted": {AttemptStarted: func(ctx context.Context, _ events.AttemptStarted) context.Context {
			leave()
			return ctx
		}},
		"AttemptFinished":                     {AttemptFinished: func(context.Context, events.AttemptFinished) { leave() }},
		"AttemptFinished of the last attempt": {AttemptFinished: func(context.Context, events.AttemptFinished) { leave() }},
		"RetryScheduled":                      {RetryScheduled: func(context.Context, events.RetryScheduled) { leave() }},
		"RetryFinished":                       {RetryFinished: func(context.Context, events.RetryFinished) { leave() }},
	}[from]
}

// leaves runs f on a goroutine of its own and asserts that it is left in the given way.
func leaves(t *testing.T, way string, f func()) {
	t.Helper()
	returned := false
	var panicked any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		f()
		returned = true
	}()
	<-done
	require.False(t, returned, "it came back")
	if way == "panic" {
		require.Equal(t, "on the way out", panicked)
	} else {
		require.Nil(t, panicked)
	}
}

func TestPanicsAndGoexitInRetryStartedEndTheRetryBeforeItBegan(t *testing.T) {
	for way, leave := range ways {
		var after []string
		sink := events.Join(leaving("RetryStarted", leave), events.All(func(_ context.Context, e events.Event) {
			after = append(after, told(e))
		}))
		leaves(t, way, func() { _ = resilience.Retry(t.Context(), &resilience.RetryConfig{Events: sink}, succeed) })
		require.Empty(t, after, "a retry that has not begun does not finish")
	}
}

func TestPanicsAndGoexitInASilentRetry(t *testing.T) {
	for way, leave := range ways {
		for _, at := range []int{1, 2, 6} {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				leaves(t, way, func() {
					_ = resilience.Retry(t.Context(), &resilience.RetryConfig{MaxAttempts: 9}, func() error {
						if n++; n == at {
							leave()
						}
						return errRefused
					})
				})
				require.Equal(t, at, n)
			})
		}
		leaves(t, way, func() {
			_ = resilience.Retry(t.Context(), &resilience.RetryConfig{RetryIf: func(error) bool { leave(); return true }}, fail)
		})
	}
}

func TestPanicsAndGoexitInAProbeThroughARetryGiveItsPlaceBack(t *testing.T) {
	for way, leave := range ways {
		synctest.Test(t, func(t *testing.T) {
			rec := eventstest.New(t)
			cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
				VolumeThreshold: 1, HalfOpenRequests: 2, SuccessThreshold: 0.5, Events: rec.Sink(),
			})
			defer cb.Close()
			_ = cb.Execute(t.Context(), fail)
			time.Sleep(30 * time.Second)
			synctest.Wait()
			require.Equal(t, resilience.StateHalfOpen, cb.State())
			config := &resilience.RetryConfig{Events: rec.Sink()}
			leaves(t, way, func() {
				_ = resilience.RetryWithCircuitBreaker(t.Context(), config, cb, func() error { leave(); return nil })
			})
			require.NoError(t, resilience.RetryWithCircuitBreaker(t.Context(), config, cb, succeed))
			require.Equal(t, resilience.StateClosed, cb.State())
		})
	}
}

// TestEventsSilentAndObservedRetriesDecideAlike is the same work with and without a
// sink: listening changes nothing.
func TestEventsSilentAndObservedRetriesDecideAlike(t *testing.T) {
	for _, errs := range [][]error{
		{},
		{errRefused},
		{errRefused, errRefused, errRefused},
		{resilience.Permanent(errRefused)},
		{errRefused, resilience.Ignore(errRefused)},
		{resilience.RetryAfter(errRefused, time.Second), errRefused},
		{resilience.RetryAfter(errRefused, time.Hour)},
		{&resilience.RejectedError{}},
		{context.Canceled, context.DeadlineExceeded, errorList{errRefused}},
	} {
		at, err := retried(t, &resilience.RetryConfig{}, errs...)
		atObserved, errObserved := retried(t, &resilience.RetryConfig{Events: benchSink()}, errs...)
		require.Equal(t, at, atObserved)
		require.Equal(t, err, errObserved)
		if e, ok := errors.AsType[*resilience.RetryError](err); ok {
			require.True(t, slices.Equal(toStrings(e.Errs), toStrings(errs[:e.Attempts])))
		}
	}
}

func toStrings(errs []error) []string {
	var s []string
	for _, err := range errs {
		s = append(s, err.Error())
	}
	return s
}
