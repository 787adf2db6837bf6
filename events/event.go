package events

import "time"

// Kind tells the events apart without a type switch.
type Kind uint8

// One Kind for each event, in the order of the fields of [Sink].
const (
	KindBreakerCreated Kind = iota
	KindCallStarted
	KindCallFinished
	KindCallRejected
	KindStateChanged
	KindWindowRotated
	KindBreakerRetired
	KindRetryStarted
	KindAttemptStarted
	KindAttemptFinished
	KindRetryScheduled
	KindRetryFinished
	KindPolicyCreated
	KindTimedOut
	KindBulkheadCreated
	KindBulkheadWaited
	KindBulkheadRejected
	KindBulkheadRetired
	KindRateLimited
	KindFellBack
	KindHedgeAttemptStarted
	KindHedgeAttemptFinished
	KindBreakerReconfigured
	KindBudgetCreated
	KindBudgetExhausted
	KindBudgetRetired

	// KindCount is the number of kinds, the length of an array indexed by Kind.
	KindCount = iota
)

var kindNames = [KindCount]string{
	"BreakerCreated", "CallStarted", "CallFinished", "CallRejected",
	"StateChanged", "WindowRotated", "BreakerRetired",
	"RetryStarted", "AttemptStarted", "AttemptFinished", "RetryScheduled", "RetryFinished",
	"PolicyCreated", "TimedOut", "BulkheadCreated", "BulkheadWaited", "BulkheadRejected", "BulkheadRetired",
	"RateLimited", "FellBack", "HedgeAttemptStarted", "HedgeAttemptFinished",
	"BreakerReconfigured", "BudgetCreated", "BudgetExhausted", "BudgetRetired",
}

// String returns the name of the event's type, such as "StateChanged".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Event is implemented by the event structs of this package. Switch on the type for
// what an event says, on Kind for which it is.
type Event interface {
	Kind() Kind
	About() Header
	sealed()
}

// Header says which breaker, retry or other policy an event is about. Every event has
// one.
type Header struct {
	// Name is the policy's name. Names need not be unique.
	Name string

	// ID tells breakers of one name apart, bulkheads, and retry budgets: unique in the process and
	// never reused. It is 0 in the events of other policies, which keep nothing that
	// would have to be told apart; operations are by the context that …Started derives.
	ID uint64
}

// About returns the header itself, so that every event has the method.
func (h Header) About() Header { return h }

func (Header) sealed() {}

// BreakerCreated is the first event of a breaker.
type BreakerCreated struct {
	Header
	Time       time.Time
	Thresholds Thresholds

	// Snapshot returns the breaker as it is at the time of the call. It may be
	// called from any goroutine at any time, from within a sink too, also after
	// the breaker is retired; it never waits for a call under way. Holding on to
	// it keeps the breaker in memory.
	Snapshot func() Snapshot
}

// CallStarted says that a call was admitted and is about to run.
type CallStarted struct {
	Header
	State State // in which it was admitted: closed, or half-open for a probe

	// WouldReject reports that a breaker in shadow mode lets the call run that it would
	// have rejected in State, which then is open or half-open.
	WouldReject bool
}

// CallFinished says that an admitted call ended.
type CallFinished struct {
	Header
	State    State         // in which it was admitted
	Outcome  Outcome       // never OutcomeRejected
	Duration time.Duration // from admission to the end of the work
	Err      error         // what the work returned; nil too when it panicked
	Panicked bool          // the work panicked or ended its goroutine with runtime.Goexit

	// WouldReject is that of CallStarted. Such a call counts in the totals and
	// influences nothing.
	WouldReject bool

	// Stale reports that the state the call was admitted in had ended before its
	// result was in: the call counts in the totals and influences nothing.
	Stale bool
}

// CallRejected says that a call was not run.
type CallRejected struct {
	Header
	State      State         // open, or half-open when all probes were taken
	Forced     bool          // State was set by ForceOpen
	RetryAfter time.Duration // until a probe may be admitted; 0 when that is not known
}

// StateChanged says that a breaker left one state for another, or began the same
// one anew (Reset of a closed breaker, ForceOpen of an open one).
type StateChanged struct {
	Header
	Time       time.Time
	From, To   State
	FromForced bool          // From was set by ForceOpen or ForceClosed
	Forced     bool          // To is
	Shadow     bool          // the breaker is in shadow mode: unless Forced, To rejects nothing
	Reason     Reason        // why
	Generation uint64        // of the state that begins; one more than that of the previous event
	Counts     Counts        // of the state that ends: its window if closed, its probes if half-open
	Elapsed    time.Duration // time spent in the state that ends
	RetryAfter time.Duration // until the first probe, when To is open and not forced
}

// BreakerReconfigured says that a breaker decides by other thresholds from now on. Its
// state is what it was, and so are its counts as far as the new window reaches.
type BreakerReconfigured struct {
	Header
	Time     time.Time
	Old, New Thresholds
}

// WindowRotated says that a bucket of the sliding window was closed and, where the
// window was full, the oldest one dropped. A call reports it that recorded its
// outcome in a newer bucket than any before it, so an idle breaker reports nothing,
// and a busy one at most once a bucket.
type WindowRotated struct {
	Header
	Time   time.Time
	Counts Counts // of the window after the rotation, before that call is recorded
}

// BreakerRetired is the last event of a breaker, but for those of calls that were
// under way when it was closed.
type BreakerRetired struct {
	Header
	Time time.Time
}

// RetryStarted says that a retried operation begins.
type RetryStarted struct {
	Header
	MaxAttempts int
}

// AttemptStarted says that an attempt is about to run.
type AttemptStarted struct {
	Header
	Attempt int           // 1 for the first
	Delay   time.Duration // the wait that preceded it; 0 for the first
}

// AttemptFinished says that an attempt ended, and what the retry decided.
type AttemptFinished struct {
	Header
	Attempt  int
	Duration time.Duration
	Outcome  Outcome // OutcomeRejected when a policy inside rejected it
	Err      error   // what the work returned; nil too when that panicked
	Panicked bool    // the work panicked or ended its goroutine with runtime.Goexit

	// Decision is ReasonRetry when another attempt is to follow, else the reason
	// for which the retry ends: ReasonPanic too when it was RetryIf that panicked.
	Decision Reason
}

// RetryScheduled says that the retry begins to wait for its next attempt.
type RetryScheduled struct {
	Header
	Attempt    int           // the one that is to follow
	Delay      time.Duration // how long the wait is
	RetryAfter bool          // Delay is what the failed attempt's error asked for, not the backoff
	Err        error         // of the attempt that failed
}

// RetryFinished says that a retried operation ended.
type RetryFinished struct {
	Header
	Attempts int           // that were run
	Duration time.Duration // of the whole operation, waits included
	Delay    time.Duration // spent waiting, of Duration
	Outcome  Outcome       // success; ignored when the caller gave up; rejected when a policy inside did; else failure
	Reason   Reason        // why it ended
	Err      error         // what the caller gets; nil too when the work panicked
}

// Kind returns KindBreakerCreated.
func (BreakerCreated) Kind() Kind { return KindBreakerCreated }

// Kind returns KindCallStarted.
func (CallStarted) Kind() Kind { return KindCallStarted }

// Kind returns KindCallFinished.
func (CallFinished) Kind() Kind { return KindCallFinished }

// Kind returns KindCallRejected.
func (CallRejected) Kind() Kind { return KindCallRejected }

// Kind returns KindStateChanged.
func (StateChanged) Kind() Kind { return KindStateChanged }

// Kind returns KindWindowRotated.
func (WindowRotated) Kind() Kind { return KindWindowRotated }

// Kind returns KindBreakerRetired.
func (BreakerRetired) Kind() Kind { return KindBreakerRetired }

// Kind returns KindBreakerReconfigured.
func (BreakerReconfigured) Kind() Kind { return KindBreakerReconfigured }

// Kind returns KindRetryStarted.
func (RetryStarted) Kind() Kind { return KindRetryStarted }

// Kind returns KindAttemptStarted.
func (AttemptStarted) Kind() Kind { return KindAttemptStarted }

// Kind returns KindAttemptFinished.
func (AttemptFinished) Kind() Kind { return KindAttemptFinished }

// Kind returns KindRetryScheduled.
func (RetryScheduled) Kind() Kind { return KindRetryScheduled }

// Kind returns KindRetryFinished.
func (RetryFinished) Kind() Kind { return KindRetryFinished }
