package events

import (
	"context"
	"time"
)

// What the policies besides breaker and retry have to say.

// PolicyKind tells the policies apart that have no state to show.
type PolicyKind uint8

// The kinds of policy that [PolicyCreated] tells of.
const (
	PolicyTimeout PolicyKind = iota
	PolicyRateLimit
	PolicyFallback
	PolicyHedge

	// PolicyKindCount is the number of kinds of policy, the length of an array
	// indexed by PolicyKind.
	PolicyKindCount = iota
)

// String returns "timeout", "rate_limit", "fallback" or "hedge".
func (p PolicyKind) String() string {
	switch p {
	case PolicyTimeout:
		return "timeout"
	case PolicyRateLimit:
		return "rate_limit"
	case PolicyFallback:
		return "fallback"
	case PolicyHedge:
		return "hedge"
	default:
		return "unknown"
	}
}

// Why a bulkhead did not run a call, as found in [BulkheadRejected].
const (
	ReasonQueueFull Reason = "queue_full" // all slots were taken, and so was every place in the queue
	ReasonMaxWait   Reason = "max_wait"   // no slot was free within MaxWait
)

// PolicyCreated says that a timeout, a rate limit, a fallback or a hedge exists. They
// have nothing to say while all is well; what counts their events can begin at zero.
type PolicyCreated struct {
	Header
	Time   time.Time
	Policy PolicyKind
}

// TimedOut says that work failed after the limit of its timeout had passed. Work that
// succeeds in spite of that is not told of.
type TimedOut struct {
	Header
	Limit    time.Duration
	Duration time.Duration // until the work returned; far beyond Limit if it does not heed its context
	Err      error         // what the work returned
}

// BulkheadCreated is the first event of a bulkhead.
type BulkheadCreated struct {
	Header
	Time          time.Time
	MaxConcurrent int // calls that may run at once
	MaxQueue      int // calls that may wait

	// Snapshot returns the bulkhead as it is at the time of the call. It may be
	// called from any goroutine at any time, from within a sink too, also after the
	// bulkhead is retired; it never waits for a call under way. Holding on to it keeps
	// the bulkhead in memory.
	Snapshot func() BulkheadSnapshot
}

// BulkheadSnapshot is a bulkhead at one moment.
type BulkheadSnapshot struct {
	InFlight int // calls that run
	Queued   int // calls that wait

	// What became of the calls that asked since birth. They only grow.
	Admitted uint64 // they ran, or are running
	Rejected uint64 // they were not run: see [BulkheadRejected]
	Canceled uint64 // they were not run: their context ended while they waited
}

// BulkheadWaited says that a call left the queue of a bulkhead.
type BulkheadWaited struct {
	Header
	Duration time.Duration // that it spent there
	Outcome  Outcome       // success when it got a slot, rejected when MaxWait passed, ignored when its context ended
}

// BulkheadRejected says that a call was not run, because there was no slot for it.
type BulkheadRejected struct {
	Header
	Reason Reason // ReasonQueueFull or ReasonMaxWait
}

// BulkheadRetired is the last event of a bulkhead, but for those of calls that were
// under way when it was closed.
type BulkheadRetired struct {
	Header
	Time time.Time
}

// RateLimited says that a rate limit held a call up. A call that may go at once is not
// told of.
type RateLimited struct {
	Header
	Duration time.Duration // of the wait; 0 without one
	Outcome  Outcome       // success when it went after the wait, rejected when it was not run, ignored when its context ended
	Err      error         // what the limiter's Wait returned
}

// FellBack says that a fallback stood in for work that failed.
type FellBack struct {
	Header
	Err         error   // what the work returned
	Outcome     Outcome // of the fallback: success or failure
	FallbackErr error   // what the fallback returned; nil too when it panicked
	Panicked    bool    // the fallback panicked or ended its goroutine with runtime.Goexit
}

// HedgeAttemptStarted says that an attempt of a hedged operation is about to run: the
// first one on the goroutine of the call, each further one beside those that still
// run, on a goroutine of its own.
type HedgeAttemptStarted struct {
	Header
	Attempt int           // 1 for the first
	Delay   time.Duration // how long after the attempt before it; 0 for the first

	// Previous is the context that HedgeAttemptStarted derived for the attempt before,
	// so that the two can be linked; nil for the first. It says nothing of whether
	// that attempt still runs.
	Previous context.Context
}

// HedgeAttemptFinished says that an attempt of a hedged operation ended.
type HedgeAttemptFinished struct {
	Header
	Attempt  int
	Duration time.Duration
	Outcome  Outcome // ignored when it was cancelled because another had won, or by the caller; rejected when a policy inside did not run it
	Won      bool    // it was the first to succeed: its result is the operation's
	Err      error   // what the work returned; nil too when that panicked
	Panicked bool    // the work panicked or ended its goroutine with runtime.Goexit
}

// Kind returns KindPolicyCreated.
func (PolicyCreated) Kind() Kind { return KindPolicyCreated }

// Kind returns KindTimedOut.
func (TimedOut) Kind() Kind { return KindTimedOut }

// Kind returns KindBulkheadCreated.
func (BulkheadCreated) Kind() Kind { return KindBulkheadCreated }

// Kind returns KindBulkheadWaited.
func (BulkheadWaited) Kind() Kind { return KindBulkheadWaited }

// Kind returns KindBulkheadRejected.
func (BulkheadRejected) Kind() Kind { return KindBulkheadRejected }

// Kind returns KindBulkheadRetired.
func (BulkheadRetired) Kind() Kind { return KindBulkheadRetired }

// Kind returns KindRateLimited.
func (RateLimited) Kind() Kind { return KindRateLimited }

// Kind returns KindFellBack.
func (FellBack) Kind() Kind { return KindFellBack }

// Kind returns KindHedgeAttemptStarted.
func (HedgeAttemptStarted) Kind() Kind { return KindHedgeAttemptStarted }

// Kind returns KindHedgeAttemptFinished.
func (HedgeAttemptFinished) Kind() Kind { return KindHedgeAttemptFinished }
