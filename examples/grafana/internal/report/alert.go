package report

import "time"

// Alert is one episode of an alert: from when its condition began to hold.
type Alert struct {
	Rule     string
	About    string // the circuit or retry it is about; empty if about none
	Severity string

	PendingAt  time.Time // when its condition began to hold
	FiringAt   time.Time // when it began to fire; zero if it did not
	ResolvedAt time.Time // when it ceased to fire; zero if it did not
	EndedAt    time.Time // when its condition ceased to hold before it fired; zero if it did not
}

// Over returns when it was over, zero if it is not.
func (a Alert) Over() time.Time {
	if a.ResolvedAt.IsZero() {
		return a.EndedAt
	}
	return a.ResolvedAt
}

// Name says which alert it is, and about what.
func (a Alert) Name() string {
	if a.About == "" {
		return a.Rule
	}
	return a.Rule + " of " + a.About
}
