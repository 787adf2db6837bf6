package eventstest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
)

// fakeTB is a test for a Recorder to fail.
type fakeTB struct {
	testing.TB // nil: what is not defined here must not be called

	cleanups []func()
	errors   []string
}

func (f *fakeTB) Helper()           {}
func (f *fakeTB) Cleanup(fn func()) { f.cleanups = append(f.cleanups, fn) }
func (f *fakeTB) Errorf(format string, args ...any) {
	f.errors = append(f.errors, fmt.Sprintf(format, args...))
}

// end runs the cleanup functions as the end of a test does.
func (f *fakeTB) end() {
	for _, fn := range slices.Backward(f.cleanups) {
		fn()
	}
}

var (
	now      = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	payment  = events.Header{Name: "payment", ID: 7}
	shipping = events.Header{Name: "shipping", ID: 8}
	charge   = events.Header{Name: "charge"}
	errDown  = errors.New("down")
)

const (
	closed   = events.StateClosed
	open     = events.StateOpen
	halfOpen = events.StateHalfOpen
	again    = events.ReasonRetry
)

// feed is a sink with the words to tell a story briefly.
type feed struct {
	events.Sink
	ctx context.Context
}

// create makes a breaker whose state is always committed in time.
func (f feed) create(h events.Header) {
	f.createAt(h, ^uint64(0))
}

// createAt makes a breaker whose Snapshot is of the given generation.
func (f feed) createAt(h events.Header, generation uint64) {
	f.BreakerCreated(f.ctx, events.BreakerCreated{Header: h, Time: now, Snapshot: func() events.Snapshot {
		return events.Snapshot{Generation: generation}
	}})
}

func (f feed) call(h events.Header, s events.State) context.Context {
	return f.CallStarted(f.ctx, events.CallStarted{Header: h, State: s})
}

func (f feed) finish(ctx context.Context, h events.Header, s events.State) {
	f.CallFinished(ctx, events.CallFinished{Header: h, State: s, Duration: time.Millisecond})
}

// change tells of payment's change from closed, unless edit says otherwise.
func (f feed) change(generation uint64, edit func(e *events.StateChanged)) {
	e := events.StateChanged{
		Header: payment, Time: now, From: closed, To: open,
		Reason: events.ReasonErrorRate, Generation: generation, Elapsed: time.Second,
	}
	if edit != nil {
		edit(&e)
	}
	f.StateChanged(f.ctx, e)
}

func (f feed) retire(h events.Header) {
	f.BreakerRetired(f.ctx, events.BreakerRetired{Header: h, Time: now})
}

func (f feed) retry(attempts int) context.Context {
	return f.RetryStarted(f.ctx, events.RetryStarted{Header: charge, MaxAttempts: attempts})
}

// attempt begins attempt n in ctx, that of the retry.
func (f feed) attempt(ctx context.Context, n int) context.Context {
	e := events.AttemptStarted{Header: charge, Attempt: n}
	if n > 1 {
		e.Delay = time.Second
	}
	return f.AttemptStarted(ctx, e)
}

// decide ends attempt n in ctx, that of the attempt.
func (f feed) decide(ctx context.Context, n int, d events.Reason) {
	e := events.AttemptFinished{Header: charge, Attempt: n, Duration: time.Millisecond, Decision: d}
	if d != events.ReasonSuccess && d != events.ReasonSuccessAfterRetry {
		e.Outcome, e.Err = events.OutcomeFailure, errDown
	}
	f.AttemptFinished(ctx, e)
}

func (f feed) schedule(ctx context.Context, n int) {
	f.RetryScheduled(ctx, events.RetryScheduled{Header: charge, Attempt: n, Delay: time.Second, Err: errDown})
}

// end ends the retry of ctx for reason r after n attempts.
func (f feed) end(ctx context.Context, n int, r events.Reason) {
	e := events.RetryFinished{Header: charge, Attempts: n, Duration: time.Minute, Delay: time.Second, Reason: r}
	if r != events.ReasonSuccess && r != events.ReasonSuccessAfterRetry {
		e.Outcome, e.Err = events.OutcomeFailure, errDown
	}
	f.RetryFinished(ctx, e)
}

func (f feed) bulkhead(h events.Header) {
	f.BulkheadCreated(f.ctx, events.BulkheadCreated{Header: h, Time: now, MaxConcurrent: 1, Snapshot: func() events.BulkheadSnapshot {
		return events.BulkheadSnapshot{}
	}})
}

// hedge begins attempt n in ctx, that of the operation; previous is that of the attempt
// before.
func (f feed) hedge(ctx, previous context.Context, n int) context.Context {
	e := events.HedgeAttemptStarted{Header: charge, Attempt: n, Previous: previous}
	if n > 1 {
		e.Delay = time.Second
	}
	return f.HedgeAttemptStarted(ctx, e)
}

func (f feed) win(ctx context.Context, n int) {
	f.HedgeAttemptFinished(ctx, events.HedgeAttemptFinished{Header: charge, Attempt: n, Won: true})
}

func (f feed) lose(ctx context.Context, n int) {
	f.HedgeAttemptFinished(ctx, events.HedgeAttemptFinished{Header: charge, Attempt: n, Outcome: events.OutcomeIgnored, Err: context.Canceled})
}

// elsewhere runs fn on a goroutine of its own.
func elsewhere(fn func()) {
	var wg sync.WaitGroup
	wg.Go(fn)
	wg.Wait()
}

// A stream of events that keeps the contract, with everything in it that may look
// like a violation and is none.
var kept = []struct {
	name string
	feed func(f feed)
}{
	{"nothing", func(feed) {}},
	{"a breaker's life", func(f feed) {
		f.create(payment)
		f.finish(f.call(payment, closed), payment, closed)
		f.WindowRotated(f.ctx, events.WindowRotated{Header: payment, Time: now})
		f.change(2, func(e *events.StateChanged) { e.RetryAfter = time.Second })
		f.CallRejected(f.ctx, events.CallRejected{Header: payment, State: open, RetryAfter: time.Second})
		f.change(3, func(e *events.StateChanged) { e.From, e.To, e.Reason = open, halfOpen, events.ReasonSleepWindowElapsed })
		f.CallRejected(f.ctx, events.CallRejected{Header: payment, State: halfOpen})
		f.finish(f.call(payment, halfOpen), payment, halfOpen)
		f.change(4, func(e *events.StateChanged) { e.From, e.To = halfOpen, closed })
		f.change(5, func(e *events.StateChanged) { e.To, e.Reason = closed, events.ReasonReset })
		f.change(6, func(e *events.StateChanged) { e.Forced, e.Reason = true, events.ReasonForced })
		f.CallRejected(f.ctx, events.CallRejected{Header: payment, State: open, Forced: true})
		f.change(7, func(e *events.StateChanged) { e.From, e.FromForced = open, true })
		f.retire(payment)
	}},
	{"calls that end when they like", func(f feed) {
		f.create(payment)
		f.create(shipping)
		first := f.call(payment, closed)
		second := f.call(payment, closed)
		other := f.call(shipping, closed)
		f.finish(second, payment, closed)
		f.change(2, nil)
		f.CallFinished(other, events.CallFinished{Header: shipping, Outcome: events.OutcomeFailure, Panicked: true})
		f.retire(payment)
		f.WindowRotated(first, events.WindowRotated{Header: payment, Time: now})
		f.CallFinished(first, events.CallFinished{Header: payment, Outcome: events.OutcomeIgnored, Err: context.Canceled, Stale: true})
	}},
	{"a call within a call, and a context derived further", func(f feed) {
		f.create(payment)
		f.create(shipping)
		outer := f.call(payment, closed)
		inner := f.CallStarted(outer, events.CallStarted{Header: shipping})
		again := f.CallStarted(inner, events.CallStarted{Header: payment})
		f.finish(again, payment, closed)
		derived, cancel := context.WithCancel(inner)
		cancel()
		f.finish(derived, shipping, closed)
		f.finish(outer, payment, closed)
	}},
	{"calls that lose a race with the end", func(f feed) {
		f.create(payment)
		f.retire(payment)
		elsewhere(func() { f.finish(f.call(payment, closed), payment, closed) })
		elsewhere(func() { f.CallRejected(f.ctx, events.CallRejected{Header: payment, State: open}) })
	}},
	{"a retry that succeeds at once", func(f feed) {
		op := f.retry(3)
		f.decide(f.attempt(op, 1), 1, events.ReasonSuccess)
		f.RetryFinished(op, events.RetryFinished{Header: charge, Attempts: 1, Reason: events.ReasonSuccess})
	}},
	{"a retry that succeeds later, one wait not announced", func(f feed) {
		op := f.retry(3)
		f.decide(f.attempt(op, 1), 1, again)
		f.schedule(op, 2)
		f.decide(f.attempt(op, 2), 2, again)
		f.decide(f.attempt(op, 3), 3, events.ReasonSuccessAfterRetry)
		f.end(op, 3, events.ReasonSuccessAfterRetry)
	}},
	{"a retry that is exhausted", func(f feed) {
		op := f.retry(1)
		f.decide(f.attempt(op, 1), 1, events.ReasonExhausted)
		f.end(op, 1, events.ReasonExhausted)
	}},
	{"a retry that is cancelled in a wait announced in the attempt's context", func(f feed) {
		op := f.retry(3)
		at := f.attempt(op, 1)
		f.decide(at, 1, again)
		f.schedule(at, 2)
		f.end(op, 1, events.ReasonCanceled)
	}},
	{"a retry without attempts", func(f feed) {
		f.end(f.retry(3), 0, events.ReasonCanceled)
	}},
	{"an attempt that panics", func(f feed) {
		op := f.retry(3)
		f.AttemptFinished(f.attempt(op, 1), events.AttemptFinished{
			Header: charge, Attempt: 1, Outcome: events.OutcomeFailure, Panicked: true, Decision: events.ReasonPanic,
		})
		f.end(op, 1, events.ReasonPanic)
	}},
	{"a retry within an attempt of a retry of that name", func(f feed) {
		outer := f.retry(3)
		attempt := f.attempt(outer, 1)
		inner := f.RetryStarted(attempt, events.RetryStarted{Header: charge})
		f.decide(f.attempt(inner, 1), 1, events.ReasonSuccess)
		f.end(inner, 1, events.ReasonSuccess)
		f.decide(attempt, 1, events.ReasonSuccess)
		f.end(outer, 1, events.ReasonSuccess)
	}},
	{"policies and a bulkhead", func(f feed) {
		f.PolicyCreated(f.ctx, events.PolicyCreated{Header: charge, Time: now, Policy: events.PolicyHedge})
		f.TimedOut(f.ctx, events.TimedOut{Header: charge, Limit: time.Second, Duration: time.Second, Err: errDown})
		f.bulkhead(payment)
		f.BulkheadWaited(f.ctx, events.BulkheadWaited{Header: payment, Outcome: events.OutcomeIgnored})
		f.BulkheadRejected(f.ctx, events.BulkheadRejected{Header: payment, Reason: events.ReasonQueueFull})
		f.BulkheadRetired(f.ctx, events.BulkheadRetired{Header: payment, Time: now})
		f.BulkheadRejected(f.ctx, events.BulkheadRejected{Header: payment, Reason: events.ReasonMaxWait})
		elsewhere(func() {
			f.BulkheadRejected(f.ctx, events.BulkheadRejected{Header: payment, Reason: events.ReasonQueueFull})
		})
		f.RateLimited(f.ctx, events.RateLimited{Header: charge, Outcome: events.OutcomeRejected})
		f.FellBack(f.ctx, events.FellBack{Header: charge, Err: errDown})
		f.FellBack(f.ctx, events.FellBack{Header: charge, Err: errDown, Outcome: events.OutcomeFailure, FallbackErr: errDown})
		f.FellBack(f.ctx, events.FellBack{Header: charge, Err: errDown, Outcome: events.OutcomeFailure, Panicked: true})
	}},
	{"a breaker in shadow mode that is reconfigured, and a budget", func(f feed) {
		f.create(payment)
		call := f.CallStarted(f.ctx, events.CallStarted{Header: payment, State: events.StateOpen, WouldReject: true})
		f.BreakerReconfigured(f.ctx, events.BreakerReconfigured{Header: payment, Time: now})
		f.CallFinished(call, events.CallFinished{Header: payment, State: events.StateOpen, WouldReject: true})
		h := events.Header{Name: "clients", ID: 7}
		f.BudgetCreated(f.ctx, events.BudgetCreated{Header: h, Time: now, Snapshot: func() events.BudgetSnapshot {
			return events.BudgetSnapshot{}
		}})
		f.BudgetRetired(f.ctx, events.BudgetRetired{Header: h, Time: now})
		f.BudgetExhausted(f.ctx, events.BudgetExhausted{Header: h, Retry: "charge", Attempt: 2, Err: errDown})
	}},
	{"hedges, one within another, that end when they like", func(f feed) {
		first := f.hedge(f.ctx, nil, 1)
		second := f.hedge(f.ctx, first, 2)
		inner := f.hedge(second, nil, 1)
		f.lose(first, 1)
		f.win(inner, 1)
		third := f.hedge(f.ctx, second, 3)
		f.win(third, 3)
		f.lose(second, 2)
	}},
}

func TestRecorderAcceptsWhatTheContractAllows(t *testing.T) {
	for _, tt := range kept {
		t.Run(tt.name, func(t *testing.T) {
			fake := &fakeTB{}
			tt.feed(feed{eventstest.New(fake).Sink(), t.Context()})
			fake.end()
			require.Empty(t, fake.errors)
		})
	}
}

// Streams of events that break the contract, and all that the Recorder says of each.
var broken = []struct {
	name string
	feed func(f feed)
	want []string
}{
	{"created twice", func(f feed) { f.create(payment); f.create(payment) },
		[]string{`breaker "payment" (ID 7): BreakerCreated: comes a second time, or is not the breaker's first event`}},
	{"not created first", func(f feed) {
		f.finish(f.call(payment, closed), payment, closed)
		f.create(payment)
	}, []string{
		`breaker "payment" (ID 7): CallStarted: comes before BreakerCreated`,
		`breaker "payment" (ID 7): BreakerCreated: comes a second time, or is not the breaker's first event`,
	}},
	{"never created", func(f feed) {
		f.CallRejected(f.ctx, events.CallRejected{Header: payment, State: open})
		f.change(2, nil)
	}, []string{`breaker "payment" (ID 7): CallRejected: comes before BreakerCreated`}},
	{"another ID finishes", func(f feed) {
		f.create(payment)
		f.finish(f.call(payment, closed), events.Header{Name: "payment", ID: 9}, closed)
	}, []string{
		`breaker "payment" (ID 9): CallFinished: comes before BreakerCreated`,
		`breaker "payment" (ID 9): CallFinished: its context comes from the CallStarted of breaker "payment" (ID 7)`,
		`breaker "payment" (ID 7): CallStarted without CallFinished`,
	}},
	{"no Snapshot, no Time", func(f feed) {
		f.BreakerCreated(f.ctx, events.BreakerCreated{Header: payment})
	}, []string{
		`breaker "payment" (ID 7): BreakerCreated: its Time is zero`,
		`breaker "payment" (ID 7): BreakerCreated: its Snapshot is nil`,
	}},
	{"no ID", func(f feed) { f.create(events.Header{Name: "payment"}) },
		[]string{`breaker "payment" (ID 0): BreakerCreated: its ID is 0`}},
	{"renamed", func(f feed) {
		f.create(payment)
		f.finish(f.call(payment, closed), events.Header{Name: "pay", ID: 7}, closed)
	}, []string{`breaker "pay" (ID 7): CallFinished: its Name is not "payment", as in the breaker's first event`}},
	{"no context", func(f feed) {
		f.ctx = nil
		f.create(payment)
		f.finish(f.call(payment, closed), payment, closed)
		f.CallFinished(nil, events.CallFinished{Header: payment})
	}, []string{
		`breaker "payment" (ID 7): BreakerCreated: its context is nil`,
		`breaker "payment" (ID 7): CallStarted: its context is nil`,
		`breaker "payment" (ID 7): CallFinished: its context is nil`,
		`breaker "payment" (ID 7): CallFinished: its context does not come from a CallStarted`,
	}},

	{"a call never finishes", func(f feed) {
		f.create(payment)
		f.create(shipping)
		f.call(payment, closed)
		f.finish(f.call(payment, closed), payment, closed)
		f.call(shipping, closed)
	}, []string{
		`breaker "payment" (ID 7): CallStarted without CallFinished`,
		`breaker "shipping" (ID 8): CallStarted without CallFinished`,
	}},
	{"a call finishes twice", func(f feed) {
		f.create(payment)
		ctx := f.call(payment, closed)
		f.finish(ctx, payment, closed)
		f.finish(ctx, payment, closed)
	}, []string{`breaker "payment" (ID 7): CallFinished: comes a second time for one CallStarted`}},
	{"a call finishes in its caller's context", func(f feed) {
		f.create(payment)
		f.call(payment, closed)
		f.finish(f.ctx, payment, closed)
	}, []string{
		`breaker "payment" (ID 7): CallFinished: its context does not come from a CallStarted`,
		`breaker "payment" (ID 7): CallStarted without CallFinished`,
	}},
	{"a call within a call finishes in its caller's context", func(f feed) {
		f.create(payment)
		f.create(shipping)
		outer := f.call(payment, closed)
		f.CallStarted(outer, events.CallStarted{Header: shipping})
		f.finish(outer, shipping, closed)
		f.finish(outer, payment, closed)
	}, []string{
		`breaker "shipping" (ID 8): CallFinished: its context comes from the CallStarted of breaker "payment" (ID 7)`,
		`breaker "shipping" (ID 8): CallStarted without CallFinished`,
	}},
	{"a call runs while open", func(f feed) {
		f.create(payment)
		f.finish(f.call(payment, open), payment, open)
	}, []string{`breaker "payment" (ID 7): CallStarted: its State is open: only rejections happen there`}},
	{"a call finishes in another state than it began in", func(f feed) {
		f.create(payment)
		f.finish(f.call(payment, halfOpen), payment, closed)
	}, []string{`breaker "payment" (ID 7): CallFinished: its State is closed, and half-open in CallStarted`}},
	{"impossible outcomes of calls", func(f feed) {
		f.create(payment)
		for _, e := range []events.CallFinished{
			{Outcome: events.OutcomeRejected},
			{Outcome: 9},
			{Duration: -1},
			{Panicked: true},
			{Panicked: true, Outcome: events.OutcomeFailure, Err: errDown},
		} {
			e.Header = payment
			f.CallFinished(f.call(payment, closed), e)
		}
	}, []string{
		`breaker "payment" (ID 7): CallFinished: its Outcome is rejected: a rejected call has CallRejected only`,
		`breaker "payment" (ID 7): CallFinished: its Outcome is 9, which is none`,
		`breaker "payment" (ID 7): CallFinished: its Duration is negative: -1ns`,
		`breaker "payment" (ID 7): CallFinished: it panicked, and has Outcome success and Err <nil>, want failure and nil`,
		`breaker "payment" (ID 7): CallFinished: it panicked, and has Outcome failure and Err down, want failure and nil`,
	}},
	{"impossible rejections", func(f feed) {
		f.create(payment)
		f.CallRejected(f.ctx, events.CallRejected{Header: payment, State: closed})
		f.CallRejected(f.ctx, events.CallRejected{Header: payment, State: halfOpen, Forced: true, RetryAfter: -time.Second})
	}, []string{
		`breaker "payment" (ID 7): CallRejected: its State is closed: no call is rejected there`,
		`breaker "payment" (ID 7): CallRejected: its RetryAfter is negative: -1s`,
		`breaker "payment" (ID 7): CallRejected: its State is half-open and Forced`,
	}},

	{"the first generation is not the second", func(f feed) { f.create(payment); f.change(1, nil) },
		[]string{`breaker "payment" (ID 7): StateChanged: its Generation is 1, want 2`}},
	{"a generation is left out", func(f feed) {
		f.create(payment)
		f.change(2, nil)
		f.change(4, nil)
		f.change(5, func(e *events.StateChanged) { e.From, e.To = open, closed })
	}, []string{`breaker "payment" (ID 7): StateChanged: its Generation is 4, want 3`}},
	{"generations change places", func(f feed) {
		f.create(payment)
		f.change(3, nil)
		f.change(2, nil)
	}, []string{
		`breaker "payment" (ID 7): StateChanged: its Generation is 3, want 2`,
		`breaker "payment" (ID 7): StateChanged: its Generation is 2, want 4`,
	}},
	{"not born closed", func(f feed) {
		f.create(payment)
		f.change(2, func(e *events.StateChanged) { e.From = halfOpen })
	}, []string{`breaker "payment" (ID 7): StateChanged: its From is half-open, and the state entered before is closed`}},
	{"a state left that was not entered", func(f feed) {
		f.create(payment)
		f.change(2, nil)
		f.change(3, nil)
	}, []string{`breaker "payment" (ID 7): StateChanged: its From is closed, and the state entered before is open`}},
	{"a force that begins or ends unsaid", func(f feed) {
		f.create(payment)
		f.change(2, func(e *events.StateChanged) { e.To, e.FromForced = closed, true })
		f.change(3, func(e *events.StateChanged) { e.Forced = true })
		f.change(4, func(e *events.StateChanged) { e.From, e.To = open, closed })
	}, []string{
		`breaker "payment" (ID 7): StateChanged: its FromForced is true, and Forced was false before`,
		`breaker "payment" (ID 7): StateChanged: its FromForced is false, and Forced was true before`,
	}},
	{"impossible changes", func(f feed) {
		f.create(payment)
		f.change(2, func(e *events.StateChanged) { *e = events.StateChanged{Header: payment, Generation: 2} })
		f.change(3, func(e *events.StateChanged) { e.To, e.Forced = halfOpen, true })
		f.change(4, func(e *events.StateChanged) { e.From, e.FromForced, e.To, e.RetryAfter = halfOpen, true, closed, 1 })
		f.change(5, func(e *events.StateChanged) { e.Forced, e.RetryAfter = true, 1 })
		f.change(6, func(e *events.StateChanged) { e.From, e.FromForced, e.RetryAfter, e.Elapsed = open, true, -1, -2 })
	}, []string{
		`breaker "payment" (ID 7): StateChanged: its Time is zero`,
		`breaker "payment" (ID 7): StateChanged: it has no Reason`,
		`breaker "payment" (ID 7): StateChanged: it forces half-open`,
		`breaker "payment" (ID 7): StateChanged: its RetryAfter is 1ns, and it enters closed`,
		`breaker "payment" (ID 7): StateChanged: its RetryAfter is 1ns, and it enters forced_open`,
		`breaker "payment" (ID 7): StateChanged: its Elapsed is negative: -2ns`,
		`breaker "payment" (ID 7): StateChanged: its RetryAfter is negative: -1ns`,
	}},
	{"announced before it is so", func(f feed) {
		f.createAt(payment, 2)
		f.change(2, nil)
		f.change(3, func(e *events.StateChanged) { e.From, e.To = open, closed })
	}, []string{`breaker "payment" (ID 7): StateChanged: its Generation is 3, and Snapshot still shows 2`}},

	{"after the end", func(f feed) {
		f.create(payment)
		f.retire(payment)
		f.finish(f.call(payment, closed), payment, closed)
		f.CallRejected(f.ctx, events.CallRejected{Header: payment, State: open})
		f.change(2, nil)
		f.WindowRotated(f.ctx, events.WindowRotated{Header: payment, Time: now})
		f.retire(payment)
		f.create(payment)
	}, []string{
		`breaker "payment" (ID 7): CallStarted: comes after BreakerRetired`,
		`breaker "payment" (ID 7): CallRejected: comes after BreakerRetired`,
		`breaker "payment" (ID 7): StateChanged: comes after BreakerRetired`,
		`breaker "payment" (ID 7): WindowRotated: comes after BreakerRetired`,
		`breaker "payment" (ID 7): BreakerRetired: comes after BreakerRetired`,
		`breaker "payment" (ID 7): BreakerCreated: comes a second time, or is not the breaker's first event`,
		`breaker "payment" (ID 7): BreakerCreated: comes after BreakerRetired`,
	}},
	{"a call on a goroutine that has lost that race before", func(f feed) {
		f.create(payment)
		first := f.call(payment, closed)
		f.retire(payment)
		elsewhere(func() {
			f.CallRejected(f.ctx, events.CallRejected{Header: payment, State: open})
			f.CallRejected(f.ctx, events.CallRejected{Header: payment, State: open})
		})
		elsewhere(func() {
			f.finish(first, payment, closed)
			f.finish(f.call(payment, closed), payment, closed)
		})
		elsewhere(func() { f.retire(payment) })
	}, []string{
		`breaker "payment" (ID 7): CallRejected: comes after BreakerRetired`,
		`breaker "payment" (ID 7): CallStarted: comes after BreakerRetired`,
		`breaker "payment" (ID 7): BreakerRetired: comes after BreakerRetired`,
	}},
	{"another breaker's call rotates the window of one that has ended", func(f feed) {
		f.create(payment)
		f.create(shipping)
		other := f.call(shipping, closed)
		f.retire(payment)
		f.WindowRotated(other, events.WindowRotated{Header: payment, Time: now})
		f.finish(other, shipping, closed)
	}, []string{`breaker "payment" (ID 7): WindowRotated: comes after BreakerRetired`}},
	{"no time to rotate or retire", func(f feed) {
		f.create(payment)
		f.WindowRotated(f.ctx, events.WindowRotated{Header: payment})
		f.BreakerRetired(f.ctx, events.BreakerRetired{Header: payment})
	}, []string{
		`breaker "payment" (ID 7): WindowRotated: its Time is zero`,
		`breaker "payment" (ID 7): BreakerRetired: its Time is zero`,
	}},

	{"a retry and an attempt never finish", func(f feed) { f.attempt(f.retry(3), 1) }, []string{
		`retry "charge": RetryStarted without RetryFinished`,
		`retry "charge": AttemptStarted 1 without AttemptFinished`,
	}},
	{"a retry finishes during an attempt", func(f feed) {
		op := f.retry(3)
		attempt := f.attempt(op, 1)
		f.end(op, 1, events.ReasonCanceled)
		f.decide(attempt, 1, events.ReasonCanceled)
	}, []string{
		`retry "charge": RetryFinished: attempt 1 has not finished`,
		`retry "charge": AttemptFinished: comes after RetryFinished`,
	}},
	{"a retry goes on after its end", func(f feed) {
		op := f.retry(3)
		f.decide(f.attempt(op, 1), 1, again)
		f.end(op, 1, events.ReasonCanceled)
		f.schedule(op, 2)
		f.decide(f.attempt(op, 2), 2, again)
		f.end(op, 2, events.ReasonCanceled)
	}, []string{
		`retry "charge": RetryScheduled: comes after RetryFinished`,
		`retry "charge": AttemptStarted: comes after RetryFinished`,
		`retry "charge": RetryFinished: comes a second time for one RetryStarted`,
	}},
	{"a retry without beginning", func(f feed) {
		f.decide(f.attempt(f.ctx, 1), 1, again)
		f.schedule(f.ctx, 2)
		f.end(f.ctx, 1, events.ReasonCanceled)
	}, []string{
		`retry "charge": AttemptStarted: its context does not come from a RetryStarted`,
		`retry "charge": RetryScheduled: its context does not come from a RetryStarted`,
		`retry "charge": RetryFinished: its context does not come from a RetryStarted`,
	}},
	{"an attempt finishes in the retry's context", func(f feed) {
		op := f.retry(3)
		f.attempt(op, 1)
		f.decide(op, 1, events.ReasonExhausted)
		f.end(op, 1, events.ReasonExhausted)
	}, []string{
		`retry "charge": AttemptFinished: its context does not come from an AttemptStarted`,
		`retry "charge": RetryFinished: attempt 1 has not finished`,
		`retry "charge": AttemptStarted 1 without AttemptFinished`,
	}},
	{"an attempt of an inner retry finishes in that retry's context", func(f feed) {
		outer := f.retry(3)
		attempt := f.attempt(outer, 1)
		inner := f.RetryStarted(attempt, events.RetryStarted{Header: charge})
		within := f.attempt(inner, 1)
		f.decide(inner, 1, events.ReasonSuccess)
		f.decide(within, 1, events.ReasonSuccess)
		f.end(inner, 1, events.ReasonSuccess)
		f.decide(attempt, 1, events.ReasonSuccess)
		f.end(outer, 1, events.ReasonSuccess)
	}, []string{`retry "charge": AttemptFinished: its context comes from an AttemptStarted of another operation`}},
	{"an attempt finishes twice", func(f feed) {
		op := f.retry(3)
		attempt := f.attempt(op, 1)
		f.decide(attempt, 1, events.ReasonExhausted)
		f.decide(attempt, 1, events.ReasonExhausted)
		f.end(op, 1, events.ReasonExhausted)
	}, []string{`retry "charge": AttemptFinished: comes a second time for attempt 1`}},
	{"an attempt finishes as another", func(f feed) {
		op := f.retry(3)
		f.decide(f.attempt(op, 1), 2, events.ReasonExhausted)
		f.end(op, 1, events.ReasonExhausted)
	}, []string{`retry "charge": AttemptFinished: its Attempt is 2, and 1 in AttemptStarted`}},
	{"other names within a retry", func(f feed) {
		op := f.retry(3)
		refund := events.Header{Name: "refund"}
		f.AttemptFinished(f.attempt(op, 1), events.AttemptFinished{Header: refund, Attempt: 1, Decision: again})
		f.RetryScheduled(op, events.RetryScheduled{Header: refund, Attempt: 2})
		f.RetryFinished(op, events.RetryFinished{Header: refund, Attempts: 1, Reason: events.ReasonSuccess})
	}, []string{
		`retry "refund": AttemptFinished: its context comes from an AttemptStarted of retry "charge"`,
		`retry "refund": RetryScheduled: its context comes from the RetryStarted of retry "charge"`,
		`retry "refund": RetryFinished: its context comes from the RetryStarted of retry "charge"`,
		`retry "charge": RetryStarted without RetryFinished`,
		`retry "charge": AttemptStarted 1 without AttemptFinished`,
	}},
	{"a retry with an ID", func(f feed) {
		f.RetryFinished(f.RetryStarted(f.ctx, events.RetryStarted{Header: payment}),
			events.RetryFinished{Header: payment, Outcome: events.OutcomeIgnored, Reason: events.ReasonCanceled})
	}, []string{
		`retry "payment": RetryStarted: its ID is 7: a retry has none`,
		`retry "payment": RetryFinished: its ID is 7: a retry has none`,
	}},
	{"attempts numbered from 0", func(f feed) {
		op := f.retry(3)
		f.decide(f.attempt(op, 0), 0, again)
		f.decide(f.attempt(op, 1), 1, events.ReasonSuccessAfterRetry)
		f.end(op, 2, events.ReasonSuccessAfterRetry)
	}, []string{
		`retry "charge": AttemptStarted: its Attempt is 0, want 1`,
	}},
	{"an attempt is left out", func(f feed) {
		op := f.retry(3)
		f.decide(f.attempt(op, 1), 1, again)
		f.schedule(op, 3)
		f.decide(f.attempt(op, 3), 3, events.ReasonExhausted)
		f.end(op, 3, events.ReasonExhausted)
	}, []string{
		`retry "charge": RetryScheduled: its Attempt is 3, want 2`,
		`retry "charge": AttemptStarted: its Attempt is 3, want 2`,
		`retry "charge": RetryFinished: its Attempts is 3, and 2 began`,
	}},
	{"an attempt too many", func(f feed) {
		op := f.retry(1)
		f.decide(f.attempt(op, 1), 1, again)
		f.decide(f.attempt(op, 2), 2, events.ReasonExhausted)
		f.end(op, 2, events.ReasonExhausted)
	}, []string{`retry "charge": AttemptStarted: attempt 2 begins, and MaxAttempts is 1`}},
	{"attempts overlap", func(f feed) {
		op := f.retry(3)
		first := f.attempt(op, 1)
		second := f.attempt(op, 2)
		f.decide(first, 1, again)
		f.decide(second, 2, events.ReasonExhausted)
		f.end(op, 2, events.ReasonExhausted)
	}, []string{`retry "charge": AttemptStarted: attempt 1 has not finished`}},
	{"an attempt within the context of the one before", func(f feed) {
		op := f.retry(3)
		first := f.attempt(op, 1)
		f.decide(first, 1, again)
		second := f.attempt(first, 2)
		f.decide(second, 2, events.ReasonExhausted)
		f.end(second, 2, events.ReasonExhausted)
	}, []string{
		`retry "charge": AttemptStarted: attempt 2 begins in the context of attempt 1`,
		`retry "charge": RetryFinished: its context is that of attempt 2`,
	}},
	{"an attempt after the last decision", func(f feed) {
		op := f.retry(3)
		f.decide(f.attempt(op, 1), 1, events.ReasonNotRetryable)
		f.schedule(op, 2)
		f.decide(f.attempt(op, 2), 2, events.ReasonSuccessAfterRetry)
		f.end(op, 2, events.ReasonSuccessAfterRetry)
	}, []string{
		`retry "charge": RetryScheduled: attempt 1 decided "not_retryable"`,
		`retry "charge": AttemptStarted: attempt 1 decided "not_retryable"`,
	}},
	{"a wait announced too early, twice, and during an attempt", func(f feed) {
		op := f.retry(3)
		f.schedule(op, 1)
		first := f.attempt(op, 1)
		f.schedule(op, 2)
		f.decide(first, 1, again)
		f.schedule(op, 2)
		f.end(op, 1, events.ReasonCanceled)
	}, []string{
		`retry "charge": RetryScheduled: comes before the first attempt`,
		`retry "charge": RetryScheduled: attempt 1 has not finished`,
		`retry "charge": RetryScheduled: comes a second time for attempt 2`,
	}},
	{"impossible fields within a retry", func(f feed) {
		op := f.retry(3)
		first := f.AttemptStarted(op, events.AttemptStarted{Header: charge, Attempt: 1, Delay: 1})
		f.AttemptFinished(first, events.AttemptFinished{Header: charge, Attempt: 1, Duration: -1, Outcome: 4})
		f.decide(f.AttemptStarted(op, events.AttemptStarted{Header: charge, Attempt: 2, Delay: -1}), 2, again)
		f.RetryScheduled(op, events.RetryScheduled{Header: charge, Attempt: 3, Delay: -1})
		f.AttemptFinished(f.attempt(op, 3), events.AttemptFinished{Header: charge, Attempt: 3, Panicked: true, Decision: again})
		f.RetryFinished(op, events.RetryFinished{Header: charge, Attempts: 3, Duration: -2, Delay: -1, Outcome: 4, Reason: again})
	}, []string{
		`retry "charge": AttemptStarted: the first attempt has a Delay of 1ns`,
		`retry "charge": AttemptFinished: its Duration is negative: -1ns`,
		`retry "charge": AttemptFinished: its Outcome is 4, which is none`,
		`retry "charge": AttemptFinished: it has no Decision`,
		`retry "charge": AttemptStarted: its Delay is negative: -1ns`,
		`retry "charge": AttemptStarted: attempt 1 decided ""`,
		`retry "charge": RetryScheduled: its Delay is negative: -1ns`,
		`retry "charge": AttemptFinished: it panicked, and has Outcome success and Err <nil>, want failure and nil`,
		`retry "charge": RetryFinished: its Duration is negative: -2ns`,
		`retry "charge": RetryFinished: its Delay is negative: -1ns`,
		`retry "charge": RetryFinished: its Delay of -1ns is longer than its Duration of -2ns`,
		`retry "charge": RetryFinished: its Outcome is 4, which is none`,
		`retry "charge": RetryFinished: its Reason "retry" does not end a retry`,
	}},
	{"attempts counted wrong", func(f feed) {
		op := f.retry(3)
		f.decide(f.attempt(op, 1), 1, events.ReasonExhausted)
		f.end(op, 3, events.ReasonExhausted)
	}, []string{`retry "charge": RetryFinished: its Attempts is 3, and 1 began`}},
	{"a reason other than the decision", func(f feed) {
		op := f.retry(3)
		f.decide(f.attempt(op, 1), 1, events.ReasonNotRetryable)
		f.end(op, 1, events.ReasonExhausted)
	}, []string{`retry "charge": RetryFinished: its Reason is "exhausted", and attempt 1 decided "not_retryable"`}},
	{"reasons that do not fit", func(f feed) {
		for _, e := range []events.RetryFinished{
			{Outcome: events.OutcomeFailure},
			{Outcome: events.OutcomeSuccess, Reason: events.ReasonCanceled},
			{Outcome: events.OutcomeFailure, Reason: events.ReasonSuccess},
			{Outcome: events.OutcomeSuccess, Reason: events.ReasonSuccess},
		} {
			e.Header = charge
			f.RetryFinished(f.retry(3), e)
		}
		op := f.retry(3)
		f.decide(f.attempt(op, 1), 1, again)
		f.end(op, 1, events.ReasonSuccessAfterRetry)
	}, []string{
		`retry "charge": RetryFinished: its Reason "" does not end a retry`,
		`retry "charge": RetryFinished: its Outcome is success, and its Reason "canceled"`,
		`retry "charge": RetryFinished: its Outcome is failure, and its Reason "success"`,
		`retry "charge": RetryFinished: its Reason is "success" after 0 attempts`,
		`retry "charge": RetryFinished: its Reason is "success_after_retry" after 1 attempts`,
	}},
	{"policies that do not fit", func(f feed) {
		f.PolicyCreated(f.ctx, events.PolicyCreated{Header: payment, Policy: events.PolicyKindCount})
		f.TimedOut(f.ctx, events.TimedOut{Header: charge, Limit: time.Second})
		f.RateLimited(f.ctx, events.RateLimited{Header: charge, Duration: -1, Outcome: events.OutcomeFailure})
		f.FellBack(f.ctx, events.FellBack{Header: charge, Outcome: events.OutcomeFailure})
		f.FellBack(f.ctx, events.FellBack{Header: charge, Err: errDown, Panicked: true})
	}, []string{
		`unknown "payment": PolicyCreated: its ID is 7: such a policy has none`,
		`unknown "payment": PolicyCreated: its Time is zero`,
		`unknown "payment": PolicyCreated: its Policy is 4, which is none`,
		`timeout "charge": TimedOut: its Duration of 0s is not beyond its Limit of 1s`,
		`timeout "charge": TimedOut: it has no Err`,
		`rate_limit "charge": RateLimited: its Duration is negative: -1ns`,
		`rate_limit "charge": RateLimited: its Outcome is failure: a wait ends in success, rejected or ignored`,
		`fallback "charge": FellBack: it has no Err`,
		`fallback "charge": FellBack: its Outcome is failure, and its FallbackErr <nil>`,
		`fallback "charge": FellBack: it panicked, and has Outcome success and Err <nil>, want failure and nil`,
	}},
	{"a bulkhead without birth, born twice, dead twice", func(f feed) {
		f.BulkheadWaited(f.ctx, events.BulkheadWaited{Header: payment, Outcome: events.OutcomeFailure})
		f.BulkheadCreated(f.ctx, events.BulkheadCreated{Header: events.Header{Name: "other", ID: 7}, Time: now})
		f.BulkheadRetired(f.ctx, events.BulkheadRetired{Header: payment, Time: now})
		f.BulkheadRetired(f.ctx, events.BulkheadRetired{Header: payment, Time: now})
		f.BulkheadRejected(f.ctx, events.BulkheadRejected{Header: payment, Reason: events.ReasonQueueFull})
		f.BulkheadRejected(f.ctx, events.BulkheadRejected{Header: payment})
		f.BulkheadWaited(f.ctx, events.BulkheadWaited{Header: charge})
	}, []string{
		`bulkhead "payment" (ID 7): BulkheadWaited: comes before BulkheadCreated`,
		`bulkhead "payment" (ID 7): BulkheadWaited: its Outcome is failure: a wait ends in success, rejected or ignored`,
		`bulkhead "other" (ID 7): BulkheadCreated: comes a second time, or is not the bulkhead's first event`,
		`bulkhead "other" (ID 7): BulkheadCreated: its Name is not "payment", as in the bulkhead's first event`,
		`bulkhead "other" (ID 7): BulkheadCreated: its limits are 0 and 0`,
		`bulkhead "other" (ID 7): BulkheadCreated: its Snapshot is nil`,
		`bulkhead "payment" (ID 7): BulkheadRetired: comes a second time`,
		`bulkhead "payment" (ID 7): BulkheadRejected: comes after BulkheadRetired`,
		`bulkhead "payment" (ID 7): BulkheadRejected: its Reason is ""`,
		`bulkhead "charge" (ID 0): BulkheadWaited: its ID is 0`,
		`bulkhead "charge" (ID 0): BulkheadWaited: comes before BulkheadCreated`,
	}},
	{"shadow mode and reconfiguration that do not fit", func(f feed) {
		f.create(payment)
		f.CallFinished(f.CallStarted(f.ctx, events.CallStarted{Header: payment, WouldReject: true}),
			events.CallFinished{Header: payment})
		f.BreakerReconfigured(f.ctx, events.BreakerReconfigured{Header: payment})
		f.BreakerRetired(f.ctx, events.BreakerRetired{Header: payment, Time: now})
		f.BreakerReconfigured(f.ctx, events.BreakerReconfigured{Header: payment, Time: now})
	}, []string{
		`breaker "payment" (ID 7): CallStarted: its State is closed: no call would be rejected there`,
		`breaker "payment" (ID 7): CallFinished: its WouldReject is false, and true in CallStarted`,
		`breaker "payment" (ID 7): BreakerReconfigured: its Time is zero`,
		`breaker "payment" (ID 7): BreakerReconfigured: comes after BreakerRetired`,
	}},
	{"a budget without birth, born twice, dead twice", func(f feed) {
		f.BudgetExhausted(f.ctx, events.BudgetExhausted{Header: payment, Retry: "charge", Attempt: 1, Err: errDown})
		f.BudgetCreated(f.ctx, events.BudgetCreated{Header: events.Header{Name: "other", ID: 7}, Time: now})
		f.BudgetRetired(f.ctx, events.BudgetRetired{Header: payment, Time: now})
		f.BudgetRetired(f.ctx, events.BudgetRetired{Header: payment, Time: now})
		f.BudgetRetired(f.ctx, events.BudgetRetired{Header: charge})
	}, []string{
		`budget "payment" (ID 7): BudgetExhausted: comes before BudgetCreated`,
		`budget "payment" (ID 7): BudgetExhausted: attempt 1 of retry "charge", after error down: want one of at least 2, a name and an error`,
		`budget "other" (ID 7): BudgetCreated: comes a second time, or is not the budget's first event`,
		`budget "other" (ID 7): BudgetCreated: its Name is not "payment", as in the budget's first event`,
		`budget "other" (ID 7): BudgetCreated: its Snapshot is nil`,
		`budget "payment" (ID 7): BudgetRetired: comes a second time`,
		`budget "charge" (ID 0): BudgetRetired: its ID is 0`,
		`budget "charge" (ID 0): BudgetRetired: comes before BudgetCreated`,
		`budget "charge" (ID 0): BudgetRetired: its Time is zero`,
	}},
	{"hedges that do not fit", func(f feed) {
		first := f.HedgeAttemptStarted(f.ctx, events.HedgeAttemptStarted{Header: charge, Attempt: 1, Delay: 1})
		within := f.hedge(first, first, 2)
		fourth := f.hedge(f.ctx, within, 4)
		f.hedge(f.ctx, nil, 2)
		f.win(first, 1)
		f.win(first, 1)
		f.win(within, 2)
		f.HedgeAttemptFinished(fourth, events.HedgeAttemptFinished{Header: charge, Attempt: 3, Outcome: events.OutcomeFailure, Err: errDown, Won: true})
		f.win(f.ctx, 1)
		f.HedgeAttemptFinished(fourth, events.HedgeAttemptFinished{Header: events.Header{Name: "other"}, Attempt: 4})
	}, []string{
		`hedge "charge": HedgeAttemptStarted: the first attempt has a Delay of 1ns or a Previous`,
		`hedge "charge": HedgeAttemptStarted: attempt 2 begins in the context of attempt 1`,
		`hedge "charge": HedgeAttemptStarted: its Attempt is 4, want 3`,
		`hedge "charge": HedgeAttemptStarted: its Previous does not come from a HedgeAttemptStarted of this hedge`,
		`hedge "charge": HedgeAttemptStarted: its Attempt is 2, want 1`,
		`hedge "charge": HedgeAttemptFinished: comes a second time for attempt 1`,
		`hedge "charge": HedgeAttemptFinished: attempt 2 won, and so did attempt 1`,
		`hedge "charge": HedgeAttemptFinished: its Attempt is 3, and 4 in HedgeAttemptStarted`,
		`hedge "charge": HedgeAttemptFinished: it won, and its Outcome is failure`,
		`hedge "charge": HedgeAttemptFinished: attempt 3 won, and so did attempt 2`,
		`hedge "charge": HedgeAttemptFinished: its context does not come from a HedgeAttemptStarted`,
		`hedge "other": HedgeAttemptFinished: its context comes from the HedgeAttemptStarted of hedge "charge"`,
		`hedge "charge": HedgeAttemptStarted 2 without HedgeAttemptFinished`,
	}},
}

func TestRecorderReportsEachViolation(t *testing.T) {
	for _, tt := range broken {
		t.Run(tt.name, func(t *testing.T) {
			fake := &fakeTB{}
			tt.feed(feed{eventstest.New(fake).Sink(), t.Context()})
			require.Empty(t, fake.errors, "before the check")
			fake.end()
			for i, e := range fake.errors {
				fake.errors[i] = strings.TrimPrefix(e, "eventstest: ")
				require.NotEqual(t, e, fake.errors[i], "every message says where it comes from")
			}
			require.Equal(t, tt.want, fake.errors)
		})
	}
}

func TestCheckReportsEachViolationOnce(t *testing.T) {
	fake := &fakeTB{}
	r := eventstest.New(fake)
	f := feed{r.Sink(), t.Context()}
	f.create(payment)
	r.Check()
	require.Empty(t, fake.errors)

	ctx := f.call(payment, closed)
	f.create(payment)
	r.Check()
	require.Len(t, fake.errors, 2)
	r.Check()
	require.Len(t, fake.errors, 2)
	f.finish(ctx, payment, closed) // late, but paired
	r.Check()
	require.Len(t, fake.errors, 2)

	f.create(payment)
	fake.end()
	require.Len(t, fake.errors, 3)
}

func TestCheckSpellsOutABoundedNumber(t *testing.T) {
	fake := &fakeTB{}
	f := feed{eventstest.New(fake).Sink(), t.Context()}
	f.create(payment)
	for range 1000 {
		f.finish(f.ctx, payment, closed)
	}
	fake.end()
	require.Len(t, fake.errors, 51)
	require.Equal(t, "eventstest: and 950 more violations", fake.errors[50])
}

func TestRecorderSeesStateChangesOverlap(t *testing.T) {
	const overlap = `eventstest: breaker "payment" (ID 7): StateChanged: comes while another StateChanged is being delivered`

	t.Run("from within a sink", func(t *testing.T) {
		fake := &fakeTB{}
		var f feed
		f = feed{eventstest.New(fake).Sink(events.Sink{
			StateChanged: func(_ context.Context, e events.StateChanged) {
				if e.Generation == 2 {
					f.change(3, func(e *events.StateChanged) { e.From = open })
				}
			},
		}), t.Context()}
		f.create(payment)
		f.change(2, nil)
		f.change(4, func(e *events.StateChanged) { e.From = open }) // after both: no overlap
		fake.end()
		require.Equal(t, []string{overlap}, fake.errors)
	})

	t.Run("from within Snapshot, and from other goroutines", func(t *testing.T) {
		fake := &fakeTB{}
		f := feed{eventstest.New(fake).Sink(), t.Context()}
		inside, second := make(chan struct{}), make(chan struct{})
		var calls atomic.Int32
		f.BreakerCreated(f.ctx, events.BreakerCreated{Header: payment, Time: now, Snapshot: func() events.Snapshot {
			if calls.Add(1) == 1 {
				close(inside)
				<-second
			}
			return events.Snapshot{Generation: 3}
		}})
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.change(2, nil)
		}()
		<-inside
		f.change(3, func(e *events.StateChanged) { e.From = open })
		close(second)
		<-done
		fake.end()
		require.Equal(t, []string{overlap}, fake.errors)
	})

	t.Run("not of different breakers", func(t *testing.T) {
		fake := &fakeTB{}
		var f feed
		f = feed{eventstest.New(fake).Sink(events.Sink{
			StateChanged: func(_ context.Context, e events.StateChanged) {
				if e.ID == payment.ID {
					f.change(2, func(e *events.StateChanged) { e.Header = shipping })
				}
			},
		}), t.Context()}
		f.create(payment)
		f.create(shipping)
		f.change(2, nil)
		fake.end()
		require.Empty(t, fake.errors)
	})

	t.Run("not after a panic", func(t *testing.T) {
		fake := &fakeTB{}
		f := feed{eventstest.New(fake).Sink(events.Sink{
			StateChanged: func(context.Context, events.StateChanged) { panic("sink") },
		}), t.Context()}
		f.create(payment)
		require.Panics(t, func() { f.change(2, nil) })
		require.Panics(t, func() { f.change(3, func(e *events.StateChanged) { e.From = open }) })
		fake.end()
		require.Empty(t, fake.errors)
	})
}

func TestRecorderPassesEveryEventOn(t *testing.T) {
	first, second := eventstest.New(t), &fakeTB{}
	recorded := eventstest.New(second)
	for _, tt := range kept { // each with its own breakers
		fake := &fakeTB{}
		all := eventstest.New(fake)
		var passed []events.Kind
		tt.feed(feed{all.Sink(events.All(func(_ context.Context, e events.Event) {
			passed = append(passed, e.Kind())
		})), t.Context()})
		require.Equal(t, all.Kinds(), append([]events.Kind{}, passed...))
	}
	// Two recorders in one sink keep their contexts apart.
	f := feed{first.Sink(recorded.Sink()), t.Context()}
	kept[1].feed(f)
	kept[6].feed(f)
	second.end()
	require.Empty(t, second.errors)
	require.Len(t, recorded.Events(), len(first.Events()))
}

func TestEventsAndSelectors(t *testing.T) {
	r := eventstest.New(t)
	require.Empty(t, r.Events())
	require.Empty(t, eventstest.Of[events.CallStarted](r))

	f := feed{r.Sink(), t.Context()}
	f.create(payment)
	f.finish(f.call(payment, closed), payment, closed)
	f.change(2, nil)
	f.change(3, func(e *events.StateChanged) { e.From, e.To = open, halfOpen })

	kinds := []events.Kind{
		events.KindBreakerCreated, events.KindCallStarted, events.KindCallFinished,
		events.KindStateChanged, events.KindStateChanged,
	}
	require.Equal(t, kinds, r.Kinds())
	all := r.Events()
	require.Len(t, all, len(kinds))
	for i, k := range kinds {
		require.Equal(t, k, all[i].Kind())
	}
	changes := eventstest.Of[events.StateChanged](r)
	require.Len(t, changes, 2)
	require.Equal(t, all[3], changes[0])
	require.Equal(t, halfOpen, changes[1].To)
	require.Empty(t, eventstest.Of[events.RetryStarted](r))
	require.Len(t, eventstest.Of[events.Event](r), len(kinds))

	all[0] = nil // a copy
	require.NotNil(t, r.Events()[0])
}

func TestRecorderIsSafeForConcurrentUse(t *testing.T) {
	const workers, calls = 8, 200
	r := eventstest.New(t)
	f := feed{r.Sink(), t.Context()}
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			h := events.Header{Name: "worker", ID: uint64(i + 1)}
			f.create(h)
			for range calls {
				f.finish(f.call(h, closed), h, closed)
				op := f.retry(3)
				f.decide(f.attempt(op, 1), 1, events.ReasonSuccess)
				f.end(op, 1, events.ReasonSuccess)
			}
			f.change(2, func(e *events.StateChanged) { e.Header = h })
			f.retire(h)
			_ = r.Events()
		})
	}
	wg.Wait()
	r.Check()
	require.Len(t, eventstest.Of[events.CallFinished](r), workers*calls)
	require.Len(t, eventstest.Of[events.RetryFinished](r), workers*calls)
}

func TestRecorderWorksInABubble(t *testing.T) {
	outside := eventstest.New(t)
	synctest.Test(t, func(t *testing.T) {
		inside := eventstest.New(t)
		f := feed{outside.Sink(inside.Sink()), t.Context()}
		f.create(payment)
		ctx := f.call(payment, closed)
		time.AfterFunc(time.Hour, func() { f.change(2, nil) })
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		f.finish(ctx, payment, closed)
		require.Equal(t, outside.Kinds(), inside.Kinds())
		require.Len(t, inside.Kinds(), 4)
	})
}
