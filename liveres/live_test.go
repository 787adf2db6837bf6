package liveres_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/liveres"
	"github.com/breakwater-go/breakwater/resilience"
)

// equalsEngine checks that what the page says of a circuit is what its breaker says.
func equalsEngine(t *testing.T, circuit any, cb *resilience.CircuitBreaker) {
	t.Helper()
	s := cb.GetStats()
	counts := func(path string) (success, failure, slow float64) {
		c := at(t, circuit, path).(object)
		return c["success"].(float64), c["failure"].(float64), c["slow"].(float64)
	}
	require.Equal(t, s.Name, at(t, circuit, "name"))
	require.Equal(t, s.State.String(), at(t, circuit, "state"))
	require.Equal(t, s.Forced, at(t, circuit, "forced"))
	require.InDelta(t, s.Generation, at(t, circuit, "generation"), 0)
	success, failure, slow := counts("totals")
	require.Equal(t, s.Totals, events.Counts{
		Success: uint64(success), Failure: uint64(failure), Slow: uint64(slow),
		Ignored:  uint64(at(t, circuit, "totals.ignored").(float64)),
		Rejected: uint64(at(t, circuit, "totals.rejected").(float64)),
	})
	success, failure, slow = counts("window")
	require.Equal(t, s.Window, events.Counts{Success: uint64(success), Failure: uint64(failure), Slow: uint64(slow)})
	require.InDelta(t, s.Window.FailureRatio(), at(t, circuit, "window.failure_ratio"), 1e-12)
	require.Equal(t, s.Judged, at(t, circuit, "window.judged"))
	since, err := time.Parse(time.RFC3339, at(t, circuit, "since").(string))
	require.NoError(t, err)
	require.WithinDuration(t, s.Since, since, time.Millisecond)

	// As counted from events: the history, as long as it reaches back far enough.
	for key, want := range map[string]uint64{
		"success": s.Totals.Success, "failure": s.Totals.Failure, "ignored": s.Totals.Ignored, "rejected": s.Totals.Rejected,
	} {
		sum := 0.0
		for _, n := range list(t, circuit, "history."+key) {
			sum += n.(float64)
		}
		require.InDelta(t, want, sum, 0, "the history's %s", key)
	}
}

func TestFiguresEqualTheEngines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		random := rand.New(rand.NewPCG(5, 5))
		var breakers []*resilience.CircuitBreaker
		for i := range 5 {
			breakers = append(breakers, breaker(l, resilience.CircuitBreakerConfig{
				Name: fmt.Sprint("circuit ", i), VolumeThreshold: 5, SleepWindow: 3 * time.Second,
				SlowCallDuration: 30 * time.Millisecond, SlowCallThreshold: 0.9,
				ErrorClassifier: func(err error) bool { return errors.Is(err, errFailed) },
			}))
		}
		checks := 0
		for range 3000 {
			cb := breakers[random.IntN(len(breakers))]
			switch n := random.IntN(100); {
			case n == 0:
				cb.ForceOpen()
			case n == 1:
				cb.ForceClosed()
			case n == 2:
				cb.ClearForce()
			case n == 3:
				cb.Reset()
			case n < 40:
				_ = cb.Run(t.Context(), fail)
			case n < 45:
				_ = cb.Run(t.Context(), func(context.Context) error { return errors.New("ignored") })
			default:
				_ = cb.Run(t.Context(), func(context.Context) error {
					time.Sleep(time.Duration(random.IntN(35)) * time.Millisecond)
					return nil
				})
			}
			time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
			if random.IntN(50) == 0 {
				checks++
				page := snapshot(t, l)
				require.Len(t, list(t, page, "circuits"), len(breakers))
				for i, cb := range breakers {
					equalsEngine(t, at(t, page, fmt.Sprint("circuits.", i)), cb)
				}
			}
		}
		require.Greater(t, checks, 20)
	})
}

// The same with calls at once, in real time.
func TestFiguresEqualTheEnginesInParallel(t *testing.T) {
	l := liveres.New(liveres.WithHistory(time.Minute))
	cb := breaker(l, resilience.CircuitBreakerConfig{VolumeThreshold: 20, ErrorThreshold: 0.4, SleepWindow: 5 * time.Millisecond})
	var workers sync.WaitGroup
	for w := range 4 {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 7))
			for i := range 20000 {
				if random.IntN(100) < 45 {
					_ = cb.Run(t.Context(), fail)
				} else {
					_ = cb.Run(t.Context(), succeed)
				}
				if i%1000 == 0 {
					get(l, "/?format=json")
				}
				if i%100 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	workers.Wait()
	cb.ForceClosed() // or its state may change while we look
	equalsEngine(t, at(t, snapshot(t, l), "circuits.0"), cb)
	require.Greater(t, cb.GetStats().Totals.Rejected, uint64(0), "the breaker never opened: the test is too tame")
}

func TestCircuitTellsItsStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New(liveres.WithTraceID(func(ctx context.Context) string {
			id, _ := ctx.Value(traceKey{}).(string)
			return id
		}))
		cb := breaker(l, resilience.CircuitBreakerConfig{Name: "payment", VolumeThreshold: 4, SleepWindow: 10 * time.Second})
		time.Sleep(12 * time.Second) // column 3 of 5 s
		ctx := context.WithValue(t.Context(), traceKey{}, "trace of the call that opened it")
		_ = cb.Run(ctx, succeed)
		for range 3 {
			_ = cb.Run(ctx, func(context.Context) error {
				time.Sleep(100 * time.Millisecond)
				return errFailed
			})
		}
		require.Equal(t, events.StateOpen, cb.State())
		_ = cb.Run(ctx, succeed) // rejected
		time.Sleep(time.Second)
		c := at(t, snapshot(t, l), "circuits.0")
		require.Equal(t, "open", at(t, c, "state"))
		require.Equal(t, "2000-01-01T00:00:12.300Z", at(t, c, "since"))
		require.Equal(t, "2000-01-01T00:00:22.300Z", at(t, c, "open_until"))
		require.Equal(t, "cco", at(t, c, "history.states"))
		require.Equal(t, []any{0., 0., 1.}, at(t, c, "history.success"))
		require.Equal(t, []any{0., 0., 3.}, at(t, c, "history.failure"))
		require.Equal(t, []any{0., 0., 1.}, at(t, c, "history.rejected"))
		// Columns 2 and 3 until now are 8.3 s.
		require.InDelta(t, 3/8.3, at(t, c, "rates.failure"), 0.001)
		require.InDelta(t, 1/8.3, at(t, c, "rates.rejected"), 0.001)
		require.InDelta(t, 4, at(t, c, "latency.count"), 0)
		require.InEpsilon(t, 0.1, at(t, c, "latency.p90_seconds"), 0.0625)
		require.NotContains(t, c, "probes")
		require.Equal(t, object{
			"time": "2000-01-01T00:00:12.300Z", "generation": 2.,
			"from": "closed", "from_forced": false, "to": "open", "forced": false, "shadow": false,
			"reason": "error_rate", "elapsed_seconds": 12.3, "success": 1., "failure": 3., "slow": 0.,
			"trace_id": "trace of the call that opened it",
		}, at(t, c, "transitions.0"))

		time.Sleep(10 * time.Second) // half-open by the timer, in column 5
		permit, err := cb.Acquire(t.Context())
		require.NoError(t, err)
		_ = cb.Run(t.Context(), succeed)
		c = at(t, snapshot(t, l), "circuits.0")
		require.Equal(t, "half-open", at(t, c, "state"))
		require.Equal(t, object{"in_flight": 1., "passed": 1., "failed": 0.}, at(t, c, "probes"))
		require.Equal(t, "ccooo", at(t, c, "history.states"), "the worst state of a column counts")
		require.NotContains(t, c, "open_until")
		require.NotContains(t, at(t, c, "transitions.0"), "trace_id", "no call ended the sleep window")
		permit.Done(nil)
		_ = cb.Run(t.Context(), succeed)
		require.Equal(t, events.StateClosed, cb.State())

		time.Sleep(10 * time.Second)
		cb.ForceOpen()
		time.Sleep(5 * time.Second)
		require.NotContains(t, at(t, snapshot(t, l), "circuits.0"), "open_until", "it has no end when forced")
		cb.ForceClosed()
		time.Sleep(5 * time.Second)
		c = at(t, snapshot(t, l), "circuits.0")
		require.Equal(t, "ccooocOOC", at(t, c, "history.states"))
		require.Equal(t, "closed", at(t, c, "state"))
		require.Equal(t, true, at(t, c, "forced"))
		require.Len(t, list(t, c, "transitions"), 5)
		in := at(t, c, "time_in_seconds").(object)
		sum := 0.0
		for _, seconds := range in {
			sum += seconds.(float64)
		}
		require.InDelta(t, 43.3, sum, 0.001)
		require.InDelta(t, 5, in["forced_open"], 0.001)

		time.Sleep(20 * time.Minute) // longer than the history
		c = at(t, snapshot(t, l), "circuits.0")
		require.Equal(t, strings.Repeat("C", 120), at(t, c, "history.states"))
		require.NotContains(t, c, "latency")

		cb.Close()
		require.Empty(t, list(t, snapshot(t, l), "circuits"), "a retired breaker is gone")
	})
}

type traceKey struct{}

func TestCircuitBornLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		time.Sleep(17 * time.Second)
		breaker(l, resilience.CircuitBreakerConfig{})
		time.Sleep(5 * time.Second)
		require.InDelta(t, 4, at(t, snapshot(t, l), "circuits.0.history.first"), 0)
		require.Equal(t, "cc", at(t, snapshot(t, l), "circuits.0.history.states"))
	})
}

func TestHistoryOption(t *testing.T) {
	for given, want := range map[time.Duration]float64{
		0: 5, time.Second: 1, -time.Hour: 1, 2 * time.Minute: 1, time.Hour: 30, 1e6 * time.Hour: 7 * 24 * 30,
	} {
		l := liveres.New(liveres.WithHistory(given), nil)
		require.InDelta(t, want, at(t, snapshot(t, l), "columns.seconds"), 0, "WithHistory(%v)", given)
	}
	require.InDelta(t, 5, at(t, snapshot(t, liveres.New()), "columns.seconds"), 0)
}

// The clock of a Live stops when nothing happens and goes on when something does.
func TestCallsAfterAnIdleTimeCountInTheirColumn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		cb := breaker(l, resilience.CircuitBreakerConfig{})
		want := make([]any, 60)
		for i := range want {
			want[i] = 0.
		}
		time.Sleep(time.Second) // so that calls are never on the border of two columns
		for _, column := range []int{1, 2, 3, 7, 8, 30, 31, 59} {
			time.Sleep(time.Until(liveStart.Add(time.Duration(column-1)*5*time.Second + time.Second)))
			for range column {
				_ = cb.Run(t.Context(), succeed)
			}
			want[column-1] = float64(column)
		}
		time.Sleep(5 * time.Second)
		require.Equal(t, want, at(t, snapshot(t, l), "circuits.0.history.success"))
	})
}

// liveStart is when a bubble of synctest begins.
var liveStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestRetryTellsItsStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New(liveres.WithTraceID(func(ctx context.Context) string {
			id, _ := ctx.Value(traceKey{}).(string)
			return id
		}))
		time.Sleep(time.Second)
		config := &resilience.RetryConfig{Name: "payment", InitialDelay: 100 * time.Millisecond, MaxAttempts: 3, Events: l.Sink()}
		work := func(errs ...error) func() error {
			return func() error {
				time.Sleep(10 * time.Millisecond)
				err := errs[0]
				errs = errs[1:]
				return err
			}
		}
		ctx := context.WithValue(t.Context(), traceKey{}, "4bf92f")
		require.NoError(t, resilience.Retry(ctx, config, work(nil)))
		require.NoError(t, resilience.Retry(ctx, config, work(context.DeadlineExceeded, resilience.RetryAfter(errFailed, 300*time.Millisecond), nil)))
		require.Error(t, resilience.Retry(t.Context(), config, work(errFailed, errFailed, errFailed)))
		require.Error(t, resilience.Retry(ctx, config, work(resilience.Permanent(errFailed))))
		require.Panics(t, func() {
			_ = resilience.Retry(ctx, config, func() error { panic("on purpose") })
		})
		canceled, cancel := context.WithCancel(ctx)
		time.AfterFunc(40*time.Millisecond, cancel)
		require.Error(t, resilience.Retry(canceled, config, work(errFailed)))

		r := at(t, snapshot(t, l), "retries.0")
		require.Equal(t, "payment", at(t, r, "name"))
		require.InDelta(t, 3, at(t, r, "max_attempts"), 0)
		for _, of := range []string{"totals", "recent"} {
			require.InDelta(t, 6, at(t, r, of+".operations"), 0)
			require.InDelta(t, 10, at(t, r, of+".attempts"), 0)
			require.InDelta(t, 10./6, at(t, r, of+".amplification"), 0.001)
			require.InDelta(t, 3, at(t, r, of+".waited"), 0)
			require.InDelta(t, 0.1+0.3+0.1+0.2+0.03, at(t, r, of+".delay_seconds"), 0.001)
			results := at(t, r, of+".results").(object)
			for result, want := range map[string]float64{
				"success": 1, "success_after_retry": 1, "exhausted": 1, "not_retryable": 1, "panic": 1, "canceled": 1,
				"deadline": 0, "rejected": 0, "retry_after_too_long": 0, "budget_exhausted": 0, "other": 0,
			} {
				require.InDelta(t, want, results[result], 0, result)
			}
			require.Len(t, results, 11)
		}
		require.Equal(t, object{
			"first": 1., "success": []any{1.}, "success_after_retry": []any{1.}, "failure": []any{3.}, "ignored": []any{1.}, "rejected": []any{0.},
		}, at(t, r, "history"))
		require.Equal(t, []any{
			object{
				"time": "2000-01-01T00:00:01.780Z", "seconds": 0.04, "attempts": 1., "result": "canceled", "trace_id": "4bf92f",
				"steps": []any{
					object{"attempt": 1., "began_seconds": 0., "seconds": 0.01, "outcome": "failure", "error_type": "*errors.errorString", "delay_seconds": 0.1},
				},
			},
			object{
				"time": "2000-01-01T00:00:01.440Z", "seconds": 0.33, "attempts": 3., "result": "exhausted",
				"steps": []any{
					object{"attempt": 1., "began_seconds": 0., "seconds": 0.01, "outcome": "failure", "error_type": "*errors.errorString", "delay_seconds": 0.1},
					object{"attempt": 2., "began_seconds": 0.11, "seconds": 0.01, "outcome": "failure", "error_type": "*errors.errorString", "delay_seconds": 0.2},
					object{"attempt": 3., "began_seconds": 0.32, "seconds": 0.01, "outcome": "failure", "error_type": "*errors.errorString"},
				},
			},
			object{
				"time": "2000-01-01T00:00:01.010Z", "seconds": 0.43, "attempts": 3., "result": "success_after_retry", "trace_id": "4bf92f",
				"steps": []any{
					object{"attempt": 1., "began_seconds": 0., "seconds": 0.01, "outcome": "failure", "error_type": "timeout", "delay_seconds": 0.1},
					object{"attempt": 2., "began_seconds": 0.11, "seconds": 0.01, "outcome": "failure", "error_type": "*errors.errorString", "delay_seconds": 0.3, "retry_after": true},
					object{"attempt": 3., "began_seconds": 0.42, "seconds": 0.01, "outcome": "success"},
				},
			},
		}, at(t, r, "last"))
	})
}

// Operations within operations are told apart, also when they have one name and only
// the outer one is followed from its beginning.
func TestNestedRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "same", InitialDelay: time.Second, Events: l.Sink()})
		for range 100 { // so that only one more may be followed
			require.NoError(t, retrier.Run(t.Context(), succeed))
		}
		outer := 0
		require.NoError(t, retrier.Run(t.Context(), func(ctx context.Context) error {
			inner := 0
			err := retrier.Run(ctx, func(context.Context) error {
				if inner++; inner < 2 {
					return errFailed
				}
				return nil
			})
			require.NoError(t, err)
			if outer++; outer < 3 {
				return errFailed
			}
			return nil
		}))
		operations := list(t, snapshot(t, l), "retries.0.last")
		require.Len(t, operations, 4)
		for i, want := range []float64{3, 2, 2, 2} {
			require.InDelta(t, want, at(t, operations[i], "attempts"), 0)
			require.Len(t, list(t, operations[i], "steps"), int(want), "operation %d: %v", i, operations[i])
		}
	})
}

// What happens within an attempt is not taken for what happens to it, also when it is
// of a retry that there is no place for.
func TestNestedRetriesOfOtherNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		retrier := func(name string) *resilience.Retrier {
			return resilience.NewRetrier(&resilience.RetryConfig{Name: name, InitialDelay: time.Second, Events: l.Sink()})
		}
		outer := retrier("outer")
		require.NoError(t, outer.Run(t.Context(), succeed))
		for i := range 499 {
			require.NoError(t, retrier(fmt.Sprint("retry ", i)).Run(t.Context(), succeed))
		}
		for _, inner := range []string{"retry 7", "one too many"} {
			require.Error(t, outer.Run(t.Context(), func(ctx context.Context) error { return retrier(inner).Run(ctx, fail) }))
			page := snapshot(t, l)
			require.Equal(t, "outer", at(t, page, "retries.0.name"))
			steps := list(t, page, "retries.0.last.0.steps")
			require.Len(t, steps, 3)
			require.InDelta(t, 3, at(t, steps, "0.seconds"), 0)
			require.InDelta(t, 3+1+3+2+3, at(t, page, "retries.0.last.0.seconds"), 0)
		}
	})
}

func TestOnlySomeOperationsAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		s := l.Sink()
		h := events.Header{Name: "r"}
		follow := func() (n int) {
			for range 1000 {
				ctx := s.RetryStarted(t.Context(), events.RetryStarted{Header: h})
				if ctx != t.Context() {
					n++
				}
				s.RetryFinished(ctx, events.RetryFinished{Header: h, Attempts: 1, Reason: events.ReasonSuccess})
			}
			return n
		}
		require.Equal(t, 101, follow(), "one before anything ends in the column, and 100")
		require.Equal(t, 0, follow())
		time.Sleep(6 * time.Second)
		require.Equal(t, 100, follow())
	})
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	l := liveres.New()
	s := l.Sink()
	for i := range 2010 {
		s.BreakerCreated(t.Context(), events.BreakerCreated{
			Header: events.Header{Name: "c", ID: uint64(i + 1)}, Snapshot: func() events.Snapshot { return events.Snapshot{} },
		})
	}
	for i := range 510 {
		h := events.Header{Name: fmt.Sprint("retry ", i)}
		ctx := s.RetryStarted(t.Context(), events.RetryStarted{Header: h})
		s.RetryFinished(ctx, events.RetryFinished{Header: h, Attempts: 1, Reason: events.ReasonSuccess})
	}
	// Beyond the bounds nothing is counted, and nothing breaks.
	s.CallFinished(t.Context(), events.CallFinished{Header: events.Header{ID: 2005}})
	s.CallRejected(t.Context(), events.CallRejected{Header: events.Header{ID: 2005}})
	s.StateChanged(t.Context(), events.StateChanged{Header: events.Header{ID: 2005}})
	s.BreakerRetired(t.Context(), events.BreakerRetired{Header: events.Header{ID: 2005}})
	page := snapshot(t, l)
	require.Len(t, list(t, page, "circuits"), 2000)
	require.Len(t, list(t, page, "retries"), 500)
	require.Equal(t, object{"circuits": 10., "retries": 10.}, at(t, page, "hidden"))

	h := events.Header{ID: 1}
	for i := range 100 {
		s.StateChanged(t.Context(), events.StateChanged{Header: h, Time: time.Now(), Generation: uint64(i + 2), To: events.StateOpen})
	}
	transitions := list(t, snapshot(t, l), "circuits.0.transitions")
	require.Len(t, transitions, 32)
	require.InDelta(t, 101, at(t, transitions[0], "generation"), 0)
	require.InDelta(t, 70, at(t, transitions[31], "generation"), 0)

	retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "retry 0", MaxAttempts: 30, InitialDelay: 1, MaxDelay: 1, Events: s})
	for range 15 {
		require.Error(t, retrier.Run(t.Context(), fail))
	}
	last := list(t, snapshot(t, l), "retries.0.last")
	require.Len(t, last, 10)
	require.Len(t, list(t, last[0], "steps"), 20)
	require.InDelta(t, 30, at(t, last[0], "attempts"), 0)
}

// An event that no engine makes must not do harm.
func TestStrangeEvents(t *testing.T) {
	l := liveres.New()
	s := l.Sink()
	s.BreakerCreated(t.Context(), events.BreakerCreated{Header: events.Header{ID: 1}}) // without a Snapshot
	require.Empty(t, list(t, snapshot(t, l), "circuits"))
	cb := breaker(l, resilience.CircuitBreakerConfig{})
	h := events.Header{ID: cb.ID()}
	s.CallFinished(t.Context(), events.CallFinished{Header: h, Outcome: 200, Duration: -1})
	s.CallFinished(t.Context(), events.CallFinished{Header: h, Duration: -1})
	s.StateChanged(t.Context(), events.StateChanged{Header: h, Generation: 2, From: 9, To: 1})
	s.StateChanged(t.Context(), events.StateChanged{Header: h, Generation: 2, From: 1, To: 9})
	s.StateChanged(t.Context(), events.StateChanged{Header: h, Generation: 2, To: 1, Reason: "new"}) // at the zero time
	s.AttemptFinished(t.Context(), events.AttemptFinished{Attempt: 7})
	s.RetryScheduled(t.Context(), events.RetryScheduled{Attempt: 7})
	s.RetryFinished(t.Context(), events.RetryFinished{Attempts: -7, Delay: -1, Reason: "new"})
	ctx := s.RetryStarted(t.Context(), events.RetryStarted{})
	s.RetryFinished(ctx, events.RetryFinished{Attempts: 7, Delay: 1, Reason: "new"})
	page := snapshot(t, l)
	require.InDelta(t, 1, at(t, page, "retries.0.totals.results.other"), 0)
	require.Len(t, list(t, page, "circuits.0.transitions"), 1)
	require.Equal(t, "new", at(t, page, "circuits.0.transitions.0.reason"))
}

// The sink must not have functions for what it does not need: WindowRotated, for one,
// keeps a breaker from counting in stripes.
func TestSinkListensToWhatItNeeds(t *testing.T) {
	s := liveres.New().Sink()
	require.Nil(t, s.CallStarted)
	require.Nil(t, s.WindowRotated)
	require.Nil(t, s.AttemptStarted)
}

// What the documentation shows is what is served: the same fields everywhere.
func TestJSONIsAsDocumented(t *testing.T) {
	var documented, served []string
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	require.NoError(t, err)
	collect(&documented, "", decode(t, documentedJSON(t, file.Doc)))

	synctest.Test(t, func(t *testing.T) {
		l := liveres.New(liveres.WithTraceID(func(context.Context) string { return "trace" }))
		for _, half := range []bool{true, false} { // together they have all fields
			cb := breaker(l, resilience.CircuitBreakerConfig{Name: "payment", VolumeThreshold: 1, SleepWindow: time.Minute})
			_ = cb.Run(t.Context(), fail)
			if half {
				time.Sleep(time.Minute)
				_, err := cb.Acquire(t.Context())
				require.NoError(t, err)
				_ = cb.Run(t.Context(), succeed)
			}
		}
		n := 0
		require.Panics(t, func() {
			_ = resilience.Retry(t.Context(), &resilience.RetryConfig{InitialDelay: 1, Events: l.Sink()}, func() error {
				if n++; n == 2 {
					panic("on purpose")
				}
				return resilience.RetryAfter(errFailed, time.Second)
			})
		})
		collect(&served, "", snapshot(t, l))
	})
	slices.Sort(documented)
	slices.Sort(served)
	require.Equal(t, documented, served)
	require.Greater(t, len(served), 100)
}

// documentedJSON returns the JSON of the package documentation, without the remarks
// at the ends of its lines.
func documentedJSON(t *testing.T, doc *ast.CommentGroup) []byte {
	t.Helper()
	_, text, ok := strings.Cut(doc.Text(), "# JSON\n")
	require.True(t, ok)
	text, _, ok = strings.Cut(text, "# Events\n")
	require.True(t, ok)
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "\t") {
			lines = append(lines, remark.ReplaceAllString(line, "$1"))
		}
	}
	return []byte(strings.Join(lines, "\n"))
}

// remark is what follows the end of a value: a comma or bracket, then blanks and words.
var remark = regexp.MustCompile(`([\[{}\],"0-9a-z])\s{2,}[a-zA-Z].*$`)

// collect adds the paths of all keys below v.
func collect(paths *[]string, path string, v any) {
	switch x := v.(type) {
	case object:
		for key, value := range x {
			below := path + "." + key
			if !slices.Contains(*paths, below) {
				*paths = append(*paths, below)
			}
			collect(paths, below, value)
		}
	case []any:
		for _, value := range x {
			collect(paths, path, value)
		}
	}
}

// A breaker that is reconfigured shows its new thresholds, and one in shadow mode that it
// turns nobody away.
func TestReconfiguredAndInShadowMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		config := resilience.CircuitBreakerConfig{Name: "payment", VolumeThreshold: 1, SleepWindow: 10 * time.Second,
			SleepWindowFactor: 3, HalfOpenRequests: 1, Shadow: true}
		cb := breaker(l, config)
		fail := func(context.Context) error { return errFailed }
		_ = cb.Run(t.Context(), fail)
		_ = cb.Run(t.Context(), fail)
		time.Sleep(6 * time.Second)
		c := at(t, snapshot(t, l), "circuits.0")
		require.Equal(t, "open", at(t, c, "state"))
		require.Equal(t, true, at(t, c, "shadow"))
		require.Equal(t, true, at(t, c, "transitions.0.shadow"))
		require.Equal(t, "ss", at(t, c, "history.states"))
		require.InDelta(t, 1, at(t, c, "totals.would_reject"), 0)
		require.InDelta(t, 0, at(t, c, "totals.rejected"), 0)
		require.InDelta(t, 6, at(t, c, "time_in_seconds.shadow_open"), 0)

		require.NoError(t, cb.Reconfigure(&resilience.CircuitBreakerConfig{ErrorThreshold: 0.25, VolumeThreshold: 1, SleepWindow: 10 * time.Second,
			SleepWindowFactor: 3, HalfOpenRequests: 1}))
		time.Sleep(4 * time.Second) // column 3
		synctest.Wait()
		_ = cb.Run(t.Context(), fail)
		time.Sleep(time.Second)
		c = at(t, snapshot(t, l), "circuits.0")
		require.InDelta(t, .25, at(t, c, "thresholds.failure_ratio"), 0)
		require.Equal(t, false, at(t, c, "shadow"))
		require.Equal(t, "soo", at(t, c, "history.states"), "real from the second column on")
		require.Equal(t, "2000-01-01T00:00:40.000Z", at(t, c, "open_until"), "the sleep window has grown to 30 s")
		cb.Close()
	})
}
