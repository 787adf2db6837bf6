// Package eventstest checks in tests that events are delivered as package events
// promises, and keeps them for the test to look at.
package eventstest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// Recorder is a sink that keeps the events it receives and fails its test if
// their delivery breaks the contract of package events:
//
//   - An event has a context, the Name and ID of its breaker, bulkhead or budget, or the Name of
//     its retry or other policy and no ID; where it has a Time it is not zero, and no duration is negative.
//   - BreakerCreated is a breaker's first event, comes once and has a Snapshot.
//     After BreakerRetired, which comes once, there are only events of calls that
//     were under way: no StateChanged, no WindowRotated without a call, and no
//     CallStarted or CallRejected from a goroutine that told of the end, or of
//     anything since.
//   - Each CallStarted is followed by exactly one CallFinished, which has the
//     context that CallStarted derived and the same Name, ID, State and WouldReject.
//     State is open only for a call that would have been rejected, which is never in
//     the closed state. Outcome is never rejected, and a panic is a failure without Err.
//     The State of a CallRejected is never closed.
//   - The StateChanged events of a breaker come one at a time. The first has
//     Generation 2 and leaves the closed state; each of the others has the next
//     Generation and leaves the state, and the Forced, that the one before entered.
//     The breaker's Snapshot shows that Generation by then, or a later one. A
//     half-open state is never forced, and RetryAfter is for unforced open ones.
//   - Each RetryStarted is followed by exactly one RetryFinished, each
//     AttemptStarted by exactly one AttemptFinished before anything else happens in
//     that operation, with the context derived, the same Name and the same Attempt.
//     Attempts are numbered from 1 without gap, up to MaxAttempts. They begin in
//     the operation's context, not in an earlier attempt's.
//   - An attempt follows only where the one before decided [events.ReasonRetry].
//     RetryScheduled announces the next attempt, at most once. The first attempt
//     has no Delay.
//   - RetryFinished has the number of attempts that began, the reason that the last
//     attempt decided for unless that was ReasonRetry, [events.ReasonSuccess] only
//     after one attempt and [events.ReasonSuccessAfterRetry] only after several, and
//     these two with OutcomeSuccess and no others. Its Delay is part of its Duration.
//     Nothing of the operation comes after it.
//   - BulkheadCreated is a bulkhead's first event, comes once and has a Snapshot. After
//     BulkheadRetired, which comes once, no goroutine that told of it tells that the
//     queue is full. Waits end in success, rejected or ignored, those for a rate limit
//     too.
//   - BreakerReconfigured comes neither before BreakerCreated nor after BreakerRetired,
//     and while no StateChanged is being delivered.
//   - BudgetCreated is a budget's first event, comes once and has a Snapshot.
//     BudgetRetired comes once. BudgetExhausted has an Err, a Retry and an Attempt of at
//     least 2.
//   - TimedOut and FellBack have an Err. TimedOut's Duration is at least its Limit, and
//     FellBack has a FallbackErr if its Outcome is a failure, unless it Panicked.
//   - Each HedgeAttemptStarted is followed by exactly one HedgeAttemptFinished, with the
//     context derived, the same Name and the same Attempt. Attempts are numbered from 1
//     without gap; each but the first has as Previous the context of the one before,
//     and does not begin in it. At most one attempt of an operation Won, and that with
//     a success.
//   - Timeouts, rate limits, fallbacks and hedges have no ID.
//
// [New] makes one. A Recorder is safe for concurrent use, has no goroutine, waits
// for nothing and works inside the bubbles of package testing/synctest. An event costs
// constant time, and stays in memory with its breaker until the test ends. The
// Recorder's mutex orders the goroutines that meet in it, which may hide their data
// races from the race detector: let a race test run without a Recorder as well.
type Recorder struct {
	t testing.TB

	mu         sync.Mutex // guards the fields below, and all that the files beside this one keep
	seen       []events.Event
	breakers   map[uint64]*breaker
	bulkheads  map[uint64]*bulkhead
	budgets    map[uint64]*budget
	begun      map[begun]uint64 // and not finished; the value is the order of beginning
	begins     uint64
	violations []string // found and not yet reported
	unlisted   int      // violations that found no room in violations
}

// maxListed is the number of violations that one check spells out; one mistake in
// an engine may break the contract with each of a million events.
const maxListed = 50

// begun is a call, an operation or an attempt, for as long as it has not finished.
type begun interface{ unfinished() (subject, what string) }

// New returns a Recorder that checks its events when t ends, as [Recorder.Check] does.
// Cleanup functions that t registers later run before that check.
func New(t testing.TB) *Recorder {
	t.Helper()
	r := &Recorder{
		t:         t,
		breakers:  make(map[uint64]*breaker),
		bulkheads: make(map[uint64]*bulkhead),
		budgets:   make(map[uint64]*budget),
		begun:     make(map[begun]uint64),
	}
	t.Cleanup(r.Check)
	return r
}

// Check reports with t.Errorf each violation that it or an earlier Check has not
// reported, and counts calls, attempts and retries that have not finished among
// them: call it only when none is under way. It must be called before t ends, and runs
// by itself when t does.
func (r *Recorder) Check() {
	r.t.Helper()
	for _, v := range r.takeViolations() {
		r.t.Errorf("eventstest: %s", v)
	}
}

func (r *Recorder) takeViolations() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := slices.SortedFunc(maps.Keys(r.begun), func(a, b begun) int {
		return cmp.Compare(r.begun[a], r.begun[b])
	})
	for _, b := range left {
		r.violation(b.unfinished())
	}
	clear(r.begun)

	found := r.violations
	if r.unlisted > 0 {
		found = append(found, fmt.Sprintf("and %d more violations", r.unlisted))
	}
	r.violations, r.unlisted = nil, 0
	return found
}

// Events returns the events received so far, in the order in which they came.
func (r *Recorder) Events() []events.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

// Kinds returns the kinds of the events received so far, in order.
func (r *Recorder) Kinds() []events.Kind {
	r.mu.Lock()
	defer r.mu.Unlock()
	kinds := make([]events.Kind, len(r.seen))
	for i, e := range r.seen {
		kinds[i] = e.Kind()
	}
	return kinds
}

// Of returns the events of type E that r received so far, in order.
func Of[E events.Event](r *Recorder) []E {
	r.mu.Lock()
	defer r.mu.Unlock()
	var of []E
	for _, e := range r.seen {
		if e, ok := e.(E); ok {
			of = append(of, e)
		}
	}
	return of
}

// Sink returns the sink that records, for any number of breakers and retries.
// Sinks passed as then receive each event after the recorder, as from [events.Join].
// The recorder takes a StateChanged event to be under way until they have returned,
// so that slow sinks, and sinks that change the breaker's state themselves, show
// whether another StateChanged overlaps it. A …Started function of theirs that
// panics leaves the recorder with a call that does not finish.
func (r *Recorder) Sink(then ...events.Sink) events.Sink {
	after := events.Join(then...)
	changed := after.StateChanged
	after.StateChanged = nil
	return events.Join(events.Sink{
		BreakerCreated: r.breakerCreated,
		CallStarted:    r.callStarted,
		CallFinished:   r.callFinished,
		CallRejected:   r.callRejected,
		StateChanged: func(ctx context.Context, e events.StateChanged) {
			r.stateChanged(ctx, e, changed)
		},
		WindowRotated:   r.windowRotated,
		BreakerRetired:  r.breakerRetired,
		RetryStarted:    r.retryStarted,
		AttemptStarted:  r.attemptStarted,
		AttemptFinished: r.attemptFinished,
		RetryScheduled:  r.retryScheduled,
		RetryFinished:   r.retryFinished,

		PolicyCreated:        r.policyCreated,
		TimedOut:             r.timedOut,
		BulkheadCreated:      r.bulkheadCreated,
		BulkheadWaited:       r.bulkheadWaited,
		BulkheadRejected:     r.bulkheadRejected,
		BulkheadRetired:      r.bulkheadRetired,
		RateLimited:          r.rateLimited,
		FellBack:             r.fellBack,
		HedgeAttemptStarted:  r.hedgeAttemptStarted,
		HedgeAttemptFinished: r.hedgeAttemptFinished,
		BreakerReconfigured:  r.breakerReconfigured,
		BudgetCreated:        r.budgetCreated,
		BudgetExhausted:      r.budgetExhausted,
		BudgetRetired:        r.budgetRetired,
	}, after)
}

// received keeps e and returns ctx, or a context to go on with if it is nil.
// received requires r.mu.
func (r *Recorder) received(ctx context.Context, e events.Event) context.Context {
	r.seen = append(r.seen, e)
	if ctx == nil {
		r.violate(e, "its context is nil")
		return context.Background()
	}
	return ctx
}

// timed checks the Time of an event that has one. timed requires r.mu.
func (r *Recorder) timed(e events.Event, t time.Time) {
	if t.IsZero() {
		r.violate(e, "its Time is zero")
	}
}

// duration checks a field that is a length of time. duration requires r.mu.
func (r *Recorder) duration(e events.Event, field string, d time.Duration) {
	if d < 0 {
		r.violate(e, "its %s is negative: %v", field, d)
	}
}

// outcome checks what holds for outcomes of every kind. outcome requires r.mu.
func (r *Recorder) outcome(e events.Event, o events.Outcome, panicked bool, err error) {
	if o >= events.OutcomeCount {
		r.violate(e, "its Outcome is %d, which is none", uint8(o))
	}
	if panicked && (o != events.OutcomeFailure || err != nil) {
		r.violate(e, "it panicked, and has Outcome %v and Err %v, want failure and nil", o, err)
	}
}

// begin notes that b is to finish. begin requires r.mu.
func (r *Recorder) begin(b begun) {
	r.begins++
	r.begun[b] = r.begins
}

// violate notes what is wrong with e. violate requires r.mu.
func (r *Recorder) violate(e events.Event, format string, args ...any) {
	r.violation(subject(e), e.Kind().String()+": "+fmt.Sprintf(format, args...))
}

// violation notes what is wrong with subject. violation requires r.mu.
func (r *Recorder) violation(subject, what string) {
	if len(r.violations) == maxListed {
		r.unlisted++
		return
	}
	r.violations = append(r.violations, subject+": "+what)
}
