package resilience

import (
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// Stats is a breaker at one moment, for people and for decisions of the caller's
// own. Rates are ratios in [0,1], but for HalfOpenSuccessRate.
type Stats struct {
	Name string

	// Snapshot holds the state, since when, whether it is forced, the counts and
	// the times spent in each state.
	events.Snapshot

	// ErrorRate is the ratio of failures in the window; 0 unless closed.
	ErrorRate float64

	// SlowCallRate is the ratio of slow calls in the window; 0 unless closed.
	SlowCallRate float64

	// HalfOpenSuccessRate is the share of the probes that passed among those that
	// have come back, in percent; 0 unless half-open.
	HalfOpenSuccessRate float64
}

// GetStats returns the breaker as it is now. It never waits for a call under way.
func (b *CircuitBreaker) GetStats() Stats {
	s := Stats{Name: b.name, Snapshot: b.snapshot()}
	switch s.State {
	case StateClosed:
		s.ErrorRate, s.SlowCallRate = s.Window.FailureRatio(), s.Window.SlowRatio()
	case StateHalfOpen:
		if v := s.Window.Volume(); v > 0 {
			s.HalfOpenSuccessRate = 100 * float64(s.Window.Success) / float64(v)
		}
	}
	return s
}

// snapshot takes mu, which a closed breaker's calls do not, and holds it for
// a clock reading and arithmetic only.
func (b *CircuitBreaker) snapshot() events.Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := time.Now() // see mu
	now := at.Sub(b.base)
	p := b.phase.Load()
	r := b.rules.Load()
	var before past
	if b.past != nil {
		before = *b.past
	}
	s := events.Snapshot{
		Time:       at,
		State:      p.state,
		Forced:     p.forced,
		Shadow:     r.shadow,
		Since:      p.began,
		Generation: p.generation,
		TimeIn:     before.spent,
		LastClosed: before.lastClosed,
		Totals:     add(before.totals, p.counts()),
		Window:     p.deciding(now),
	}
	if b.outbox != nil {
		s.SinkPanics = b.outbox.sinkPanics
	}
	s.TimeIn[b.status(p)] += now - max(p.since, before.spentUntil)
	if p.state == StateClosed {
		s.LastClosed = at
		s.Judged = p.judged && s.Window.Volume() >= r.judgement.volume
	}
	if p.state == StateHalfOpen {
		s.ProbesInFlight = len(p.probes.out)
	}
	if p.until != never {
		s.RetryAfter = max(0, p.until-now)
	}
	return s
}
