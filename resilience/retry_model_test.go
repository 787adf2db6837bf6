package resilience_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

// script is a retry and the world it meets. All times are whole milliseconds, but
// for the ends of the context, so that no two things happen at once, and for the waits
// of a hasty retry.
type script struct {
	hasty         bool // delays are nanoseconds instead of milliseconds
	attempts      int  // 0: default
	initial, most time.Duration
	factor        int
	mostAfter     time.Duration
	retryIf       byte          // 0: nil, 1: always, 2: never
	budget        int           // 0: none; else one more than the retries it has
	canceled      time.Duration // 0: never
	deadline      time.Duration // 0: none
	steps         []step        // what the attempts meet; success when they run out
}

type step struct {
	kind  byte
	took  time.Duration
	after time.Duration // of kind asks
}

const (
	passes = iota
	fails
	isPermanent
	isIgnored
	isRejected
	asks
	notices // waits for its time or for the end of its context, and fails either way
	kinds
)

var errOf = [kinds]error{
	fails:       errRefused,
	isPermanent: resilience.Permanent(errRefused),
	isIgnored:   resilience.Ignore(errRefused),
	isRejected:  &resilience.RejectedError{},
}

// decodeScript makes a script of any bytes.
func decodeScript(data []byte) script {
	next := func() byte {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return b
	}
	first := next()
	unit := ms
	if first/9%2 == 1 {
		unit = 1
	}
	s := script{
		hasty:     unit == 1,
		attempts:  int(first % 9),
		initial:   time.Duration(next()) * unit,
		most:      time.Duration(next()) * 4 * unit,
		factor:    int(next() % 4),
		mostAfter: time.Duration(next()) * 2 * ms,
		retryIf:   next(), // and the budget, which see below
		canceled:  time.Duration(next()) * 8 * ms,
		deadline:  time.Duration(next()) * 8 * ms,
	}
	s.budget, s.retryIf = int(s.retryIf/3%5), s.retryIf%3
	if s.canceled > 0 {
		s.canceled += 7
	}
	if s.deadline > 0 {
		s.deadline += 3
	}
	for len(data) > 0 && len(s.steps) < 12 {
		s.steps = append(s.steps, step{next() % kinds, time.Duration(next()%32) * ms, time.Duration(next()) * 4 * ms})
	}
	return s
}

// course is what comes of a script.
type course struct {
	at     []time.Duration // of each attempt
	waits  []time.Duration
	reason events.Reason
	bare   bool // the first attempt's error comes back as it is
	ended  time.Duration
}

// expectedCourse works a script out with whole numbers and nothing of the engine.
func expectedCourse(s script) course {
	attempts, initial, most, factor := orDefault(s.attempts, 3), orDefault(s.initial, 100*ms), orDefault(s.most, 5000*ms), orDefault(s.factor, 2)
	mostAfter := orDefault(s.mostAfter, most)
	// The end of the context, and how the retry calls it.
	var end time.Duration = 1 << 62
	why := events.Reason("")
	if s.canceled > 0 {
		end, why = s.canceled, events.ReasonCanceled
	}
	if s.deadline > 0 && s.deadline < end {
		end, why = s.deadline, events.ReasonDeadline
	}

	var c course
	var now time.Duration
	wait := initial
	for n := 1; ; n++ {
		c.at = append(c.at, now)
		st := step{kind: passes}
		if n <= len(s.steps) {
			st = s.steps[n-1]
		}
		if st.kind == notices {
			now = max(now, min(now+st.took, end))
		} else {
			now += st.took
		}
		retryable := st.kind != isPermanent && (s.retryIf == 1 || s.retryIf == 0 && st.kind != isIgnored && st.kind != isRejected)
		delay, asked := min(wait, most), false
		wait *= time.Duration(factor) // at most 255 ms · 3¹¹
		if st.kind == asks && st.after > 0 {
			delay, asked = st.after, true
		}
		switch {
		case st.kind == passes && n == 1:
			c.reason = events.ReasonSuccess
		case st.kind == passes:
			c.reason = events.ReasonSuccessAfterRetry
		case now >= end:
			c.reason, c.bare = why, n == 1 && st.kind == notices
		case !retryable && st.kind == isRejected:
			c.reason, c.bare = events.ReasonRejected, n == 1
		case !retryable:
			c.reason, c.bare = events.ReasonNotRetryable, n == 1
		case n == attempts:
			c.reason = events.ReasonExhausted
		case asked && delay > mostAfter:
			c.reason = events.ReasonRetryAfterTooLong
		case s.deadline > 0 && delay >= shortest && now+delay >= s.deadline:
			c.reason = events.ReasonDeadline
		case s.budget == 1:
			c.reason = events.ReasonBudgetExhausted
		case delay >= shortest && now+delay >= end: // cancelled during the wait
			c.waits = append(c.waits, delay)
			now, c.reason = end, events.ReasonCanceled
		default:
			c.waits = append(c.waits, delay)
			if delay >= shortest {
				now += delay
			}
			s.budget = max(0, s.budget-1)
			continue
		}
		c.ended = now
		return c
	}
}

// shortest is the shortest delay that is waited.
const shortest = time.Microsecond

func orDefault[T comparable](x, d T) T {
	var zero T
	if x == zero {
		return d
	}
	return x
}

// A retrying is one of the ways to retry work.
type retrying func(context.Context, *resilience.RetryConfig, func() error) error

var waysToRetry = map[string]retrying{
	"Retry": resilience.Retry,
	"Execute": func(ctx context.Context, c *resilience.RetryConfig, fn func() error) error {
		return resilience.NewRetrier(c).Execute(ctx, fn)
	},
	"Run": func(ctx context.Context, c *resilience.RetryConfig, fn func() error) error {
		return resilience.NewRetrier(c).Run(ctx, func(context.Context) error { return fn() })
	},
}

// play runs a script through the engine.
func play(t *testing.T, retry retrying, s script, sink events.Sink) (c course, errs []error, err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := time.Now()
	if s.deadline > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, began.Add(s.deadline))
		defer stop()
	}
	if s.canceled > 0 {
		defer time.AfterFunc(s.canceled, cancel).Stop()
	}
	config := &resilience.RetryConfig{
		MaxAttempts: s.attempts, InitialDelay: s.initial, MaxDelay: s.most,
		BackoffFactor: float64(s.factor), MaxRetryAfter: s.mostAfter, Events: sink,
	}
	if s.budget > 0 {
		// Next to nothing comes in or fades while a script runs.
		const window = 1e9 * time.Second
		config.Budget = resilience.NewRetryBudget(&resilience.BudgetConfig{
			Ratio: nothing, MinPerSecond: (float64(s.budget-1) + 1e-6) / window.Seconds(), Window: window,
		})
	}
	if s.retryIf > 0 {
		config.RetryIf = func(error) bool { return s.retryIf == 1 }
	}
	err = retry(ctx, config, func() error {
		c.at = append(c.at, time.Since(began))
		n := len(c.at)
		if n > len(s.steps) {
			return nil
		}
		st := s.steps[n-1]
		err := errOf[st.kind]
		switch st.kind {
		case asks:
			err = resilience.RetryAfter(errRefused, st.after)
		case notices:
			err = errRefused
			select {
			case <-time.After(st.took):
			case <-ctx.Done():
				err = ctx.Err()
			}
			if st.took == 0 && ctx.Err() == nil {
				err = errRefused // both are ready: nothing has ended
			}
		}
		if st.kind != notices {
			time.Sleep(st.took)
		}
		if err != nil {
			errs = append(errs, err)
		}
		return err
	})
	c.ended = time.Since(began)
	return c, errs, err
}

func requireModel(t *testing.T, s script) {
	t.Helper()
	for _, way := range slices.Sorted(maps.Keys(waysToRetry)) {
		requireModelOf(t, way, s)
	}
}

func requireModelOf(t *testing.T, way string, s script) {
	t.Helper()
	want := expectedCourse(s)
	for _, listening := range []string{"nobody", "recorder", "not enabled"} {
		synctest.Test(t, func(t *testing.T) {
			var sink events.Sink
			rec := eventstest.New(t)
			if listening != "nobody" {
				sink = rec.Sink()
			}
			if listening == "not enabled" {
				sink.Enabled = func(context.Context) bool { return false }
			}
			got, errs, err := play(t, waysToRetry[way], s, sink)
			require.Equal(t, want.at, got.at, "%s: %+v", way, s)
			require.Equal(t, want.ended, got.ended, "%+v: %v", s, err)

			var e *resilience.RetryError
			switch {
			case want.reason == events.ReasonSuccess || want.reason == events.ReasonSuccessAfterRetry:
				require.NoError(t, err, "%+v", s)
			case want.bare:
				require.Equal(t, errs[0], err, "%+v", s)
			default:
				require.True(t, errors.As(err, &e), "%+v: %v", s, err)
				require.Equal(t, want.reason, e.Reason, "%+v", s)
				require.Equal(t, errs, e.Errs)
				require.Equal(t, len(want.at), e.Attempts)
				require.Equal(t, want.reason == events.ReasonCanceled || want.reason == events.ReasonDeadline, e.Cause != nil)
				require.Equal(t, want.reason == events.ReasonCanceled, errors.Is(e.Cause, context.Canceled))
			}
			if listening != "recorder" {
				require.Empty(t, rec.Events())
				return
			}
			var delays []time.Duration
			for _, e := range eventstest.Of[events.RetryScheduled](rec) {
				delays = append(delays, e.Delay)
			}
			require.Equal(t, want.waits, delays, "%+v", s)
			finished := eventstest.Of[events.RetryFinished](rec)
			require.Len(t, finished, 1)
			require.Equal(t, want.reason, finished[0].Reason, "%+v", s)
			require.Equal(t, want.ended, finished[0].Duration, "%+v", s)
		})
	}
}

// FuzzRetry compares the engine with the model.
func FuzzRetry(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{3, 100, 0, 2, 0, 0, 0, 0, fails, 0, 0, fails, 0, 0, fails, 0, 0})
	f.Add([]byte{8, 10, 10, 3, 0, 0, 0, 40, fails, 1, 0, notices, 2, 0, fails, 3, 0, fails, 0, 0, fails, 0, 0})
	f.Add([]byte{5, 10, 10, 2, 100, 1, 9, 0, isRejected, 1, 0, isIgnored, 2, 0, asks, 3, 20, isPermanent, 0, 0})
	f.Add([]byte{5, 1, 10, 2, 10, 2, 3, 7, fails, 31, 0})
	f.Fuzz(func(t *testing.T, data []byte) { requireModel(t, decodeScript(data)) })
}

func TestRetryAgainstTheModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	reasons := map[events.Reason]int{}
	for range 3000 {
		data := make([]byte, 8+3*r.IntN(8))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		for _, i := range []int{4, 5, 6, 7} { // half of the time without a limit of each sort
			data[i] *= byte(r.IntN(2))
		}
		for i := 8; i < len(data); i += 3 { // mostly failures worth another attempt
			if r.IntN(2) == 0 {
				data[i] = fails
			}
		}
		s := decodeScript(data)
		reasons[expectedCourse(s).reason]++
		requireModel(t, s)
	}
	for _, reason := range []events.Reason{
		events.ReasonSuccess, events.ReasonSuccessAfterRetry, events.ReasonExhausted, events.ReasonNotRetryable,
		events.ReasonDeadline, events.ReasonCanceled, events.ReasonRejected, events.ReasonRetryAfterTooLong,
		events.ReasonBudgetExhausted,
	} {
		require.Greater(t, reasons[reason], 30, "%s is hardly tried: %v", reason, reasons)
	}
}
