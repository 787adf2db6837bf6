package resilience

import (
	"context"

	"github.com/breakwater-go/breakwater/events"
)

// Logger is told of a breaker's state changes: an opening as an error, any other as
// information. The fields are "name", "from", "to", "reason", "forced",
// "generation", and for an opening "failures", "volume" and "error_rate". An opening in
// shadow mode, where nobody is turned away, is information, and "shadow" is true. Its
// methods are called as sinks are; see package events. For more than state changes,
// see [events.Log].
type Logger interface {
	Info(msg string, fields map[string]any)
	Error(msg string, fields map[string]any)
}

// MetricsCollector is told of a breaker's outcomes and state changes. ErrorType is
// what [events.ErrorType] says, "panic" for work that did not return; from and to
// are names of states, as "half-open", or "shadow-open" and "shadow-half-open" in shadow
// mode. A collector that also has the method
//
//	RecordRejection(name string)
//
// is told of rejected calls by it. The methods are called as sinks are; see package
// events.
type MetricsCollector interface {
	RecordSuccess(name string)
	RecordFailure(name string, errorType string)
	RecordStateChange(name string, from, to string)
}

// sink joins what the configuration asks to be told of, Events first.
func (c *CircuitBreakerConfig) sink() *events.Sink {
	joined := c.Events
	if c.Metrics != nil {
		joined = events.Join(joined, metricsSink(c.Metrics))
	}
	if c.Logger != nil {
		joined = events.Join(joined, loggerSink(c.Logger))
	}
	if silent(&joined) {
		return &noSink
	}
	return &joined
}

// noSink is shared by all breakers that tell nobody. It is never changed.
var noSink events.Sink

// silent reports whether s wants no event of a breaker.
func silent(s *events.Sink) bool {
	return s.BreakerCreated == nil && s.CallStarted == nil && s.CallFinished == nil && s.CallRejected == nil &&
		s.StateChanged == nil && s.WindowRotated == nil && s.BreakerRetired == nil &&
		s.BreakerReconfigured == nil
}

func loggerSink(l Logger) events.Sink {
	return events.Sink{StateChanged: func(_ context.Context, e events.StateChanged) {
		fields := map[string]any{
			"name":       e.Name,
			"from":       e.From.String(),
			"to":         e.To.String(),
			"reason":     string(e.Reason),
			"forced":     e.Forced,
			"generation": e.Generation,
		}
		if e.To == StateOpen {
			fields["failures"] = e.Counts.Failure
			fields["volume"] = e.Counts.Volume()
			fields["error_rate"] = e.Counts.FailureRatio()
		}
		if e.Shadow {
			fields["shadow"] = true
		}
		switch msg := "circuit breaker " + stateName(e.To, e.ToStatus()); e.ToStatus() {
		case events.StatusOpen, events.StatusForcedOpen:
			l.Error(msg, fields)
		default:
			l.Info(msg, fields)
		}
	}}
}

// stateName returns the name of a state, which differs for one that rejects nothing.
func stateName(s CircuitState, as events.Status) string {
	if as == events.StatusShadowOpen || as == events.StatusShadowHalfOpen {
		return "shadow-" + s.String()
	}
	return s.String()
}

func metricsSink(m MetricsCollector) events.Sink {
	s := events.Sink{
		CallFinished: func(_ context.Context, e events.CallFinished) {
			switch {
			case e.Outcome == events.OutcomeSuccess:
				m.RecordSuccess(e.Name)
			case e.Panicked:
				m.RecordFailure(e.Name, "panic")
			case e.Outcome == events.OutcomeFailure:
				m.RecordFailure(e.Name, events.ErrorType(e.Err))
			}
		},
		StateChanged: func(_ context.Context, e events.StateChanged) {
			if from, to := stateName(e.From, e.FromStatus()), stateName(e.To, e.ToStatus()); from != to {
				m.RecordStateChange(e.Name, from, to)
			}
		},
	}
	if r, ok := m.(interface{ RecordRejection(name string) }); ok {
		s.CallRejected = func(_ context.Context, e events.CallRejected) { r.RecordRejection(e.Name) }
	}
	return s
}
