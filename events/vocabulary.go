package events

import "time"

// State is one of the three states of a circuit breaker. A forced breaker shows
// the state it is forced into; Forced beside a State tells the two apart, and
// [Status] has a value of its own for each.
type State uint8

// The states of a circuit breaker. The zero State is StateClosed, in which a
// breaker is born.
const (
	StateClosed   State = iota // calls run, outcomes are judged
	StateOpen                  // calls are rejected until the sleep window ends
	StateHalfOpen              // a few probes run and decide what comes next
)

// String returns "closed", "open" or "half-open".
func (s State) String() string {
	switch s {
	case StateClosed:
		return "closed"
	case StateOpen:
		return "open"
	case StateHalfOpen:
		return "half-open"
	default:
		return "unknown"
	}
}

// Status is a State that also tells whether it is forced, or in shadow mode: the seven
// ways a breaker can be, each of which is worth a series on a dashboard. What is open
// in shadow mode is not "open" there, since nobody is turned away.
type Status uint8

// The statuses of a circuit breaker.
const (
	StatusClosed Status = iota
	StatusOpen
	StatusHalfOpen
	StatusForcedOpen
	StatusForcedClosed
	StatusShadowOpen     // a breaker in shadow mode would reject calls, and lets them run
	StatusShadowHalfOpen // the same for those that are not probes

	// StatusCount is the number of statuses, the length of an array indexed by Status.
	StatusCount = iota
)

// StatusOf returns the status of a breaker in state s. There is no forced
// half-open: forced is ignored there.
func StatusOf(s State, forced bool) Status {
	switch {
	case forced && s == StateOpen:
		return StatusForcedOpen
	case forced && s == StateClosed:
		return StatusForcedClosed
	default:
		return Status(s)
	}
}

// Shadowed returns the status of a breaker in shadow mode that without would have s: what
// is not forced rejects nothing.
func (s Status) Shadowed() Status {
	switch s {
	case StatusOpen:
		return StatusShadowOpen
	case StatusHalfOpen:
		return StatusShadowHalfOpen
	default:
		return s
	}
}

// shadowed is Shadowed if shadow is true.
func (s Status) shadowed(shadow bool) Status {
	if shadow {
		return s.Shadowed()
	}
	return s
}

// FromStatus returns From, FromForced and Shadow as one value.
func (e StateChanged) FromStatus() Status { return StatusOf(e.From, e.FromForced).shadowed(e.Shadow) }

// ToStatus returns To, Forced and Shadow as one value.
func (e StateChanged) ToStatus() Status { return StatusOf(e.To, e.Forced).shadowed(e.Shadow) }

// String returns "closed", "open", "half_open", "forced_open", "forced_closed",
// "shadow_open" or "shadow_half_open":
// the spelling of attribute values, with an underscore where [State.String] has a hyphen.
func (s Status) String() string {
	switch s {
	case StatusClosed:
		return "closed"
	case StatusOpen:
		return "open"
	case StatusHalfOpen:
		return "half_open"
	case StatusForcedOpen:
		return "forced_open"
	case StatusForcedClosed:
		return "forced_closed"
	case StatusShadowOpen:
		return "shadow_open"
	case StatusShadowHalfOpen:
		return "shadow_half_open"
	default:
		return "unknown"
	}
}

// Outcome is what one call or attempt came to.
type Outcome uint8

// The outcomes. A finished call is never OutcomeRejected, since a rejected call
// was never run; an attempt can be, when a policy inside it rejected the call.
const (
	OutcomeSuccess  Outcome = iota // counts for the dependency
	OutcomeFailure                 // counts against it; panics and Goexit are failures
	OutcomeIgnored                 // says nothing about it, as a cancellation by the caller
	OutcomeRejected                // not run

	// OutcomeCount is the number of outcomes, the length of an array indexed by Outcome.
	OutcomeCount = iota
)

// String returns "success", "failure", "ignored" or "rejected".
func (o Outcome) String() string {
	switch o {
	case OutcomeSuccess:
		return "success"
	case OutcomeFailure:
		return "failure"
	case OutcomeIgnored:
		return "ignored"
	case OutcomeRejected:
		return "rejected"
	default:
		return "unknown"
	}
}

// Reason says why something happened. Reasons are a closed set of short stable
// strings, fit to be values of a metric attribute.
type Reason string

// Why a breaker changed its state, as found in [StateChanged].
const (
	ReasonErrorRate          Reason = "error_rate"           // closed to open: failures reached ErrorThreshold
	ReasonSlowCallRate       Reason = "slow_call_rate"       // closed to open: slow calls reached SlowCallThreshold
	ReasonSleepWindowElapsed Reason = "sleep_window_elapsed" // open to half-open
	ReasonProbesPassed       Reason = "probes_passed"        // half-open to closed
	ReasonProbesFailed       Reason = "probes_failed"        // half-open to open
	ReasonProbeTimeout       Reason = "probe_timeout"        // half-open to open: the probe that decided never came back in time
	ReasonForced             Reason = "forced"               // ForceOpen or ForceClosed was called
	ReasonForceCleared       Reason = "force_cleared"        // ClearForce was called
	ReasonReset              Reason = "reset"                // Reset was called
)

// What a retry decided after an attempt, and why it ended, as found in
// [AttemptFinished] and [RetryFinished].
const (
	ReasonRetry             Reason = "retry"                // another attempt follows; never the end of a retry
	ReasonSuccess           Reason = "success"              // the first attempt succeeded
	ReasonSuccessAfterRetry Reason = "success_after_retry"  // a later attempt succeeded
	ReasonExhausted         Reason = "exhausted"            // MaxAttempts attempts failed
	ReasonNotRetryable      Reason = "not_retryable"        // the error is not one to try again after
	ReasonDeadline          Reason = "deadline"             // the context's deadline passed, or would pass during the next wait
	ReasonCanceled          Reason = "canceled"             // the caller gave up
	ReasonRejected          Reason = "rejected"             // a breaker, a bulkhead or a rate limit rejected the attempt
	ReasonRetryAfterTooLong Reason = "retry_after_too_long" // the server asked for a longer wait than MaxRetryAfter
	ReasonBudgetExhausted   Reason = "budget_exhausted"     // a retry budget shared with other callers is used up
	ReasonPanic             Reason = "panic"                // the work, RetryIf or a sink panicked or ended its goroutine
)

// Counts is how many calls had which outcome. In the counts of a window only
// Success, Failure and Slow are used, since it holds nothing else.
type Counts struct {
	Success  uint64
	Failure  uint64
	Ignored  uint64
	Rejected uint64
	Slow     uint64 // calls that took SlowCallDuration or longer; each is a Success or a Failure as well

	// WouldReject is the number of calls that a breaker in shadow mode would have
	// rejected. They ran, and each is in Success, Failure or Ignored as well once it
	// has ended.
	WouldReject uint64
}

// Volume is the number of calls that count: successes and failures.
func (c Counts) Volume() uint64 { return c.Success + c.Failure }

// FailureRatio is the share of failures in the volume, in [0,1]; 0 without volume.
func (c Counts) FailureRatio() float64 { return ratio(c.Failure, c.Volume()) }

// SlowRatio is the share of slow calls in the volume, in [0,1]; 0 without volume.
func (c Counts) SlowRatio() float64 { return ratio(c.Slow, c.Volume()) }

func ratio(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// Thresholds is what a breaker decides by: its configuration with the defaults
// filled in.
type Thresholds struct {
	ErrorThreshold    float64       // failure ratio at which it opens, in (0,1]
	VolumeThreshold   int           // calls the window must hold before a ratio is judged
	SlowCallThreshold float64       // slow-call ratio at which it opens, in (0,1]; 0: off
	SlowCallDuration  time.Duration // how long a call takes that is slow; 0: off
	SleepWindow       time.Duration // how long it stays open
	SleepWindowFactor float64       // what that is multiplied by after each recovery that failed; 0: it stays as it is
	MaxSleepWindow    time.Duration // the longest it grows to; 0 without SleepWindowFactor
	SleepWindowJitter float64       // share of it that is left to chance, in [0,1]; 0: none
	HalfOpenRequests  int           // most probes of one half-open period
	SuccessThreshold  float64       // share of those probes that must pass, in (0,1]
	ProbeTimeout      time.Duration // age at which a probe counts as failed
	WindowSize        time.Duration // how far back calls are judged
	BucketCount       int           // buckets the window is made of
	Shadow            bool          // it decides and tells, and rejects nothing
}

// Snapshot is a breaker at one moment.
type Snapshot struct {
	Time       time.Time // when it was taken
	State      State
	Forced     bool      // State was set by ForceOpen or ForceClosed
	Shadow     bool      // the breaker is in shadow mode: unless Forced, State rejects nothing
	Since      time.Time // when the present state began
	Generation uint64    // 1 at birth, one more with each state change

	// TimeIn is the time spent in each status since birth, the present one
	// included. The entries add up to the breaker's age.
	TimeIn [StatusCount]time.Duration

	// LastClosed is when the breaker was last closed: Time while it is closed.
	LastClosed time.Time

	// Totals counts every call that finished or was rejected since birth, results
	// that came too late to influence anything included. It only grows.
	Totals Counts

	// Window counts the calls of the sliding window while the breaker is closed
	// and the results of the present probes while it is half-open; it is zero
	// while open.
	Window Counts

	// Judged reports that the breaker is closed, is not forced and holds
	// VolumeThreshold calls, so that Window.FailureRatio is what decides.
	Judged bool

	// ProbesInFlight is the number of probes running now; 0 unless half-open.
	ProbesInFlight int

	// RetryAfter is how long until the sleep window ends; 0 unless the breaker is
	// open and not forced.
	RetryAfter time.Duration

	// SinkPanics counts panics of sinks and callbacks that happened where there
	// was no caller to receive them: on the timer that ends a sleep window or a
	// probe. Those are recovered and logged through [log/slog.Default].
	SinkPanics uint64
}

// Status returns State, Forced and Shadow as one value.
func (s Snapshot) Status() Status { return StatusOf(s.State, s.Forced).shadowed(s.Shadow) }
