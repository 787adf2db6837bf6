package liveres

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

const (
	// operationsKept is how many retried operations a retry remembers.
	operationsKept = 10

	// stepsKept is how many attempts are remembered of one of them.
	stepsKept = 20

	// followedAtMost is how many operations of a retry are followed in each column.
	// Following one costs an allocation.
	followedAtMost = 100
)

// results are the reasons for which a retry ends, in the order in which they are
// counted. What is none of them counts as the last.
var results = [...]events.Reason{
	events.ReasonSuccess,
	events.ReasonSuccessAfterRetry,
	events.ReasonExhausted,
	events.ReasonNotRetryable,
	events.ReasonDeadline,
	events.ReasonCanceled,
	events.ReasonRejected,
	events.ReasonRetryAfterTooLong,
	events.ReasonBudgetExhausted,
	events.ReasonPanic,
	"other",
}

// The kinds that a retry counts: results, and then these.
const (
	kindAgain  = len(results) + iota // attempts but the first
	kindWaited                       // operations that waited
	kindDelay                        // nanoseconds spent waiting
	retryKinds
)

func resultOf(r events.Reason) int {
	if r == events.ReasonSuccess { // nearly always
		return 0
	}
	if i := slices.Index(results[:], r); i >= 0 {
		return i
	}
	return len(results) - 1
}

// retry is what is remembered of the retries of one name.
type retry struct {
	live *Live
	name string
	born uint32

	operations  *series
	maxAttempts atomic.Int64 // of the last operation that began
	budget      atomic.Int64 // how many more operations may be followed in this column

	mu   sync.Mutex
	last []operation // retried ones, oldest first
	seen uint64      // how many there were
}

// operation is one retried operation that has ended.
type operation struct {
	began    time.Time
	duration time.Duration
	attempts int // that were run; may be more than there are steps
	reason   events.Reason
	traceID  string
	steps    []step
}

// step is an attempt and the wait after it.
type step struct {
	attempt   int
	began     time.Duration // since the operation began
	duration  time.Duration
	outcome   events.Outcome
	panicked  bool
	errorType string

	waited     bool
	delay      time.Duration // as scheduled
	retryAfter bool
}

// followed is the context of an operation that is followed. It is how later events
// find what earlier ones noted: all of an operation's events come from its own
// goroutine, so there is no lock.
type followed struct {
	context.Context
	retry *retry
	since time.Duration
	steps []step // of attempts that are not the first or have failed
}

// followedKey finds a followed operation in a context. Another Live has its own.
type followedKey struct{ *Live }

func (f *followed) Value(key any) any {
	if k, ok := key.(followedKey); ok && k.Live == f.retry.live {
		return f
	}
	return f.Context.Value(key)
}

// followedIn returns the operation of the named retry that ctx belongs to, nil if it
// is not followed.
func (l *Live) followedIn(ctx context.Context, name string) *followed {
	if f, ok := ctx.Value(followedKey{l}).(*followed); ok && f.retry.name == name {
		return f
	}
	return nil
}

func (l *Live) retryStarted(ctx context.Context, e events.RetryStarted) context.Context {
	r := l.retries.find(e.Name)
	if r == nil {
		r = l.retries.add(e.Name, maxRetries, func() *retry {
			r := &retry{live: l, name: e.Name, born: l.column(l.now()), operations: newSeries(retryKinds)}
			r.budget.Store(followedAtMost)
			return r
		})
		if r == nil {
			return ctx
		}
	}
	if n := int64(e.MaxAttempts); r.maxAttempts.Load() != n {
		r.maxAttempts.Store(n)
	}
	// An operation within one that is followed must be followed too, or its events
	// would be taken for those of the outer one.
	if r.budget.Load() > 0 && r.budget.Add(-1) >= 0 || l.followedIn(ctx, e.Name) != nil {
		return &followed{Context: ctx, retry: r, since: l.now()}
	}
	return ctx
}

func (l *Live) attemptFinished(ctx context.Context, e events.AttemptFinished) {
	if e.Attempt == 1 && e.Decision != events.ReasonRetry {
		return // the usual case: nothing is retried
	}
	f := l.followedIn(ctx, e.Name)
	if f == nil || len(f.steps) == stepsKept {
		return
	}
	f.steps = append(f.steps, step{
		attempt:   e.Attempt,
		began:     max(0, l.now()-f.since-e.Duration),
		duration:  e.Duration,
		outcome:   e.Outcome,
		panicked:  e.Panicked,
		errorType: short(events.ErrorType(e.Err)),
	})
}

func (l *Live) retryScheduled(ctx context.Context, e events.RetryScheduled) {
	if f := l.followedIn(ctx, e.Name); f != nil && len(f.steps) > 0 {
		if s := &f.steps[len(f.steps)-1]; s.attempt == e.Attempt-1 {
			s.waited, s.delay, s.retryAfter = true, e.Delay, e.RetryAfter
		}
	}
}

func (l *Live) retryFinished(ctx context.Context, e events.RetryFinished) {
	r := l.retries.find(e.Name)
	if r == nil {
		return
	}
	column, _ := l.present()
	if r.operations.begins(column) {
		r.budget.Store(followedAtMost)
	}
	r.operations.add(column, resultOf(e.Reason), 1)
	if e.Attempts > 1 {
		r.operations.add(column, kindAgain, uint64(e.Attempts-1))
	}
	if e.Delay > 0 {
		r.operations.add(column, kindWaited, 1)
		r.operations.add(column, kindDelay, uint64(e.Delay))
	}
	if e.Attempts == 1 && e.Delay == 0 {
		return
	}
	f := l.followedIn(ctx, e.Name)
	if f == nil || len(f.steps) == 0 {
		return
	}
	r.remember(operation{
		began:    l.base.Add(f.since),
		duration: e.Duration,
		attempts: e.Attempts,
		reason:   e.Reason,
		traceID:  l.traceIDOf(ctx),
		steps:    f.steps,
	})
}

// remember keeps an operation that has ended, in place of the oldest one.
func (r *retry) remember(o operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.last) == operationsKept {
		copy(r.last, r.last[1:])
		r.last = r.last[:operationsKept-1]
	}
	r.last = append(r.last, o)
	r.seen++
}

// remembered returns how many operations were ever remembered.
func (r *retry) remembered() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// latest returns the last retried operations, newest first.
func (r *retry) latest() []operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := slices.Clone(r.last)
	slices.Reverse(last)
	return last
}

// stirred reports that an operation ended in the columns from first to last.
func (r *retry) stirred(first, last uint32) bool {
	for column := first; column <= last; column++ {
		if !r.operations.begins(column) {
			return true
		}
	}
	return false
}
