package prometheus

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"
)

// State is how far an alert has come.
type State string

// The states of an alert, in the order in which it has them.
const (
	Inactive State = "inactive" // its condition does not hold
	Pending  State = "pending"  // the condition holds, but not yet for long enough
	Firing   State = "firing"
	Resolved State = "resolved" // it fired and does no longer; so for 15 minutes, then it is inactive
)

// Alert is a rule, together with what it says of one thing: a rule that speaks of
// circuits has an alert for each circuit it found something about.
type Alert struct {
	Rule        string // its name
	Severity    string // label severity of the rule
	State       State
	Labels      map[string]string // what it is about, and those of the rule; without alertname
	Annotations map[string]string // for people: summary, description, runbook_url
	Value       float64           // of the rule's expression, when it last held

	Since      time.Time // when State began; zero if it was never another
	PendingAt  time.Time // when its condition began to hold; zero if it has not
	FiringAt   time.Time // when it began to fire; zero if it did not
	ResolvedAt time.Time // when it ceased to fire; zero if it did not
}

// Alerts returns all alerts as of the latest evaluation: in the order of the rules in
// their files, those of one rule ordered by labels. A rule without any is there once,
// as inactive, with the labels and annotations that need no data. The caller owns the
// result.
func (s *Server) Alerts() []Alert { return s.alerts.list() }

// board keeps the alerts of all rules, and tells who asked of their changes.
type board struct {
	onChange func(Alert)
	telling  chan struct{} // holds one while onChange runs; not a Mutex, which would stop the clock of synctest

	mu    sync.Mutex
	rules []*rules.AlertingRule                    // in the order of their files
	found map[*rules.AlertingRule]map[string]Alert // by labels
}

func newBoard(onChange func(Alert)) *board {
	return &board{onChange: onChange, telling: make(chan struct{}, 1), found: make(map[*rules.AlertingRule]map[string]Alert)}
}

// declare tells the board which rules there are, in order.
func (b *board) declare(groups []*rules.Group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range groups {
		b.rules = append(b.rules, alerting(g)...)
	}
}

// alerting returns the alerting rules of a group in order. (Its own method has them
// sorted by state.)
func alerting(g *rules.Group) []*rules.AlertingRule {
	var found []*rules.AlertingRule
	for _, r := range g.Rules() {
		if a, ok := r.(*rules.AlertingRule); ok {
			found = append(found, a)
		}
	}
	return found
}

// update notes the alerts of a group that has just been evaluated, at the given time.
// It is not called concurrently for the same group.
func (b *board) update(g *rules.Group, at time.Time) {
	var changes []Alert
	b.mu.Lock()
	for _, r := range alerting(g) {
		before, now := b.found[r], make(map[string]Alert)
		r.ForEachActiveAlert(func(a *rules.Alert) { now[a.Labels.String()] = alertOf(r, a) })
		for _, key := range slices.Sorted(maps.Keys(now)) {
			if old, a := before[key], now[key]; old.State != a.State || !old.PendingAt.Equal(a.PendingAt) {
				changes = append(changes, a)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(before)) {
			if _, still := now[key]; !still && before[key].State == Pending {
				a := before[key]
				a.State, a.Since, a.PendingAt = Inactive, at, time.Time{}
				changes = append(changes, a)
			}
		}
		b.found[r] = now
	}
	b.mu.Unlock()
	if b.onChange == nil {
		return
	}
	b.telling <- struct{}{}
	defer func() { <-b.telling }()
	for _, a := range changes {
		b.onChange(a.clone())
	}
}

// clone returns the alert with maps of its own.
func (a Alert) clone() Alert {
	a.Labels, a.Annotations = maps.Clone(a.Labels), maps.Clone(a.Annotations)
	return a
}

func (b *board) list() []Alert {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Alert
	for _, r := range b.rules {
		found := b.found[r]
		if len(found) == 0 {
			all = append(all, inactive(r))
		}
		for _, key := range slices.Sorted(maps.Keys(found)) {
			all = append(all, found[key].clone())
		}
	}
	return all
}

func alertOf(r *rules.AlertingRule, a *rules.Alert) Alert {
	alert := Alert{
		Rule:        r.Name(),
		Severity:    r.Labels().Get(severity),
		Labels:      a.Labels.Map(),
		Annotations: a.Annotations.Map(),
		Value:       a.Value,
		PendingAt:   a.ActiveAt,
		FiringAt:    a.FiredAt,
		ResolvedAt:  a.ResolvedAt,
	}
	delete(alert.Labels, labels.AlertName)
	switch {
	case a.State == rules.StatePending:
		alert.State, alert.Since = Pending, a.ActiveAt
	case a.State == rules.StateFiring:
		alert.State, alert.Since = Firing, a.FiredAt
	default:
		alert.State, alert.Since = Resolved, a.ResolvedAt
	}
	return alert
}

// inactive is the alert of a rule that has none.
func inactive(r *rules.AlertingRule) Alert {
	a := Alert{
		Rule:        r.Name(),
		Severity:    r.Labels().Get(severity),
		State:       Inactive,
		Labels:      r.Labels().Map(),
		Annotations: r.Annotations().Map(),
	}
	// What is a template says nothing without the data to fill it with.
	maps.DeleteFunc(a.Annotations, func(_, text string) bool { return strings.Contains(text, "{{") })
	return a
}

// severity is the label of a rule that says how urgent it is.
const severity = "severity"
