package resilience

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// CircuitState is the state of a circuit breaker.
type CircuitState = events.State

// The states of a circuit breaker.
const (
	StateClosed   = events.StateClosed   // calls run, outcomes are judged
	StateOpen     = events.StateOpen     // calls are rejected until the sleep window ends
	StateHalfOpen = events.StateHalfOpen // a few probes run and decide what comes next
)

// phase is one stay of a breaker in one state, from the change that began it to
// the change that ends it. A call reports to the phase that admitted it and to no
// other, so a result that comes after the phase has ended dies with it: it still
// counts in the totals, and nobody judges it.
//
// What is above the counters is written before the phase is published through
// [CircuitBreaker.phase] and never after.
type phase struct {
	breaker    *CircuitBreaker
	state      CircuitState
	forced     bool
	judged     bool          // closed and not forced: outcomes can open the breaker
	calls      atomic.Uint32 // what is to be done about its calls: one of the constants below; changes while it lasts
	generation uint64
	began      time.Time     // wall clock, for people
	since      time.Duration // the same on the breaker's monotonic clock
	until      time.Duration // when the sleep window ends; never if the phase has none
	turned     *turnedAway   // nil when closed

	// window holds the counters of successes, failures and slow calls in every
	// state; only a closed phase rotates it.
	window  SlidingWindow
	ignored atomic.Uint64

	// Guarded by the breaker's mu.
	probes *probes        // nil unless half-open
	folded *events.Counts // what of the counters is in past.totals; nil until the phase is over
}

// What is to be done about the calls of a phase.
const (
	anything uint32 = iota // closed: a call may be slow; else: it may be a probe, or be rejected
	heard                  // closed: somebody may want to hear of a call; if not, it is plain
	plain                  // closed: a call is counted, and that is all
	near                   // open: the sleep window's end is near or past, and a call looks at the clock
)

// simplify tells the closed phase p what its calls may do without under the rules r. A
// call that begins while the rules change may go by either.
func (b *CircuitBreaker) simplify(p *phase, r *rules) {
	switch {
	case r.slows():
		p.calls.Store(anything)
	case b.observed || b.flights != nil:
		p.calls.Store(heard)
	default:
		p.calls.Store(plain)
	}
}

// turnedAway is about calls that a phase does not admit.
type turnedAway struct {
	err                   RejectedError // one for the whole phase
	rejected, wouldReject atomic.Uint64
}

// never is a time that does not come: later than any configuration can reach.
const never = time.Duration(math.MaxInt64)

// approach returns how long before the end of a sleep window its calls begin to look
// at the clock. Until then they are rejected without: reading it is most of what a
// rejection costs. The timer that says when must not be later than this for the
// breaker to be half-open in time, so it is generous: a quarter of the sleep window,
// but not less than 10 ms (then all of it) and not more than 250.
func approach(sleepWindow time.Duration) time.Duration {
	return min(max(sleepWindow/4, 10*time.Millisecond), 250*time.Millisecond, sleepWindow)
}

// counts returns every outcome that was reported to p so far.
func (p *phase) counts() events.Counts {
	t := p.window.tally()
	c := events.Counts{Success: t.success, Failure: t.failure, Slow: t.slow, Ignored: p.ignored.Load()}
	if p.turned != nil {
		c.Rejected, c.WouldReject = p.turned.rejected.Load(), p.turned.wouldReject.Load()
	}
	return c
}

// status returns the status of b in p. It requires b's mu.
func (b *CircuitBreaker) status(p *phase) events.Status {
	s := events.StatusOf(p.state, p.forced)
	if b.rules.Load().shadow {
		return s.Shadowed()
	}
	return s
}

// past is what remains of the phases that are over.
type past struct {
	totals     events.Counts // of their calls, those that came late included
	spent      [events.StatusCount]time.Duration
	lastClosed time.Time     // when the latest closed one ended
	spentUntil time.Duration // what of the present one is in spent, if that is after it began
}

// spend adds the time of p up to now, on the breaker's clock, in which it had status s.
func (h *past) spend(p *phase, s events.Status, now time.Duration) {
	h.spent[s] += now - max(p.since, h.spentUntil)
	h.spentUntil = now
}

// end adds the time of a phase that ends: at on the wall clock, now on the breaker's.
func (h *past) end(p *phase, s events.Status, at time.Time, now time.Duration) {
	h.spend(p, s, now)
	if p.state == StateClosed {
		h.lastClosed = at
	}
}

func add(a, b events.Counts) events.Counts {
	return events.Counts{
		Success:  a.Success + b.Success,
		Failure:  a.Failure + b.Failure,
		Ignored:  a.Ignored + b.Ignored,
		Rejected: a.Rejected + b.Rejected,
		Slow:     a.Slow + b.Slow,

		WouldReject: a.WouldReject + b.WouldReject,
	}
}

func subtract(a, b events.Counts) events.Counts {
	return events.Counts{
		Success:  a.Success - b.Success,
		Failure:  a.Failure - b.Failure,
		Ignored:  a.Ignored - b.Ignored,
		Rejected: a.Rejected - b.Rejected,
		Slow:     a.Slow - b.Slow,

		WouldReject: a.WouldReject - b.WouldReject,
	}
}

// judgement is what a closed breaker decides by.
type judgement struct {
	volume     uint64
	errorRatio float64
	slowRatio  float64 // 0: off
}

// of returns why a breaker whose window holds c must open, empty if it need not.
//
// The ratios are divided, not multiplied out: a quotient of two integers is
// rounded to the float64 nearest to it, and so is a threshold written as a decimal,
// so 55 failures of 100 are 0.55, while 0.55·100 is more than 55.
func (j judgement) of(c events.Counts) events.Reason {
	switch {
	case c.Volume() < j.volume:
		return ""
	case c.FailureRatio() >= j.errorRatio:
		return events.ReasonErrorRate
	case j.slowRatio > 0 && c.SlowRatio() >= j.slowRatio:
		return events.ReasonSlowCallRate
	default:
		return ""
	}
}

// fine returns how many failures and slow calls of a window of the given volume are
// below the thresholds, at most. They are in a window of any larger volume too, since
// the quotient that of rounds does not grow with its divisor.
func (j judgement) fine(volume uint64) (failures, slow uint64) {
	return below(j.errorRatio, volume), below(j.slowRatio, volume)
}

// below returns the largest number whose share of the volume, as of divides it, is
// below the ratio. The product may be rounded up past it.
func below(ratio float64, volume uint64) uint64 {
	n := uint64(ratio * float64(volume))
	for n > 0 && float64(n)/float64(volume) >= ratio {
		n--
	}
	return n
}

// probe is one call of a half-open breaker. Its identity is its address.
type probe struct {
	since time.Duration
}

// probes is the state of a half-open breaker: who is out, and how those fared who
// came back. It is arithmetic only and is called under the breaker's mu.
type probes struct {
	passed, failed int
	out            []*probe // in the order of admission, so the oldest is first
}

// recovery is what a half-open breaker decides by.
type recovery struct {
	most    int           // probes of one half-open period
	needed  int           // of which must pass
	timeout time.Duration // age at which a probe counts as failed
}

// newRecovery turns a ratio into a number of probes: the fewest whose share
// reaches it.
func newRecovery(most int, ratio float64, timeout time.Duration) recovery {
	needed := int(math.Ceil(ratio * float64(most)))
	// The product is rounded: 0.55·100 is above 55, whose share is 0.55 all the same,
	// and a hair above 0.85 times 20 is 17, whose share is 0.85.
	switch share := func(n int) float64 { return float64(n) / float64(most) }; {
	case needed > 1 && share(needed-1) >= ratio:
		needed--
	case share(needed) < ratio:
		needed++
	}
	return recovery{most: most, needed: min(max(needed, 1), most), timeout: timeout}
}

// admit lets another probe out, nil if none may. Probes that passed or failed have
// used up their place for good; those that are out hold one.
func (ps *probes) admit(r recovery, now time.Duration) *probe {
	if ps.passed+ps.failed+len(ps.out) >= r.most {
		return nil
	}
	p := &probe{since: now}
	ps.out = append(ps.out, p)
	return p
}

// settle takes a probe back and reports whether it was out: one that had timed out
// is not, and its result counts no more.
func (ps *probes) settle(p *probe, o events.Outcome) bool {
	i := slices.Index(ps.out, p)
	if i < 0 {
		return false
	}
	ps.out = slices.Delete(ps.out, i, i+1)
	switch o {
	case events.OutcomeSuccess:
		ps.passed++
	case events.OutcomeFailure:
		ps.failed++
	}
	return true
}

// expire counts the probes as failed that have been out for the timeout, and
// reports whether there were any.
func (ps *probes) expire(r recovery, now time.Duration) bool {
	n := 0
	for n < len(ps.out) && now-ps.out[n].since >= r.timeout {
		n++
	}
	ps.out = slices.Delete(ps.out, 0, n)
	ps.failed += n
	return n > 0
}

// verdict returns the state that the results so far make certain, and whether they do.
func (ps *probes) verdict(r recovery) (CircuitState, bool) {
	switch {
	case ps.passed >= r.needed:
		return StateClosed, true
	case ps.failed > r.most-r.needed:
		return StateOpen, true
	default:
		return StateHalfOpen, false
	}
}

func (ps *probes) counts() events.Counts {
	return events.Counts{Success: uint64(ps.passed), Failure: uint64(ps.failed)}
}
