package liveres

import (
	"context"
	"sync"

	"github.com/breakwater-go/breakwater/events"
)

// transitionsKept is how many of its last transitions a circuit remembers.
const transitionsKept = 32

// circuit is what is remembered of one breaker. What the breaker knows itself is
// not: that is asked for when somebody looks.
type circuit struct {
	id       uint64
	name     string
	snapshot func() events.Snapshot
	born     uint32 // column

	calls   *series // kinds are outcomes
	latency latency // of the calls that ran

	mu          sync.Mutex
	status      events.Status // after the last transition
	transitions []transition  // oldest first
	states      [columnCount]stateColumn
	breaker     Breaker // nil unless it was handed over for control
	thresholds  events.Thresholds

	reconfiguredIn uint32 // the column in which that was changed last; 0 if never
}

// transition is one change of state.
type transition struct {
	events.StateChanged
	traceID string
}

// stateColumn is what is known of the states during one column: nothing, unless
// there was a change.
type stateColumn struct {
	epoch uint32 // the column; 0 for none
	first events.Status
	worst events.Status
}

func newCircuit(e events.BreakerCreated, column uint32) *circuit {
	return &circuit{
		id:         e.ID,
		name:       e.Name,
		thresholds: e.Thresholds,
		snapshot:   e.Snapshot,
		born:       column,
		calls:      newSeries(events.OutcomeCount),
	}
}

// changed remembers a change of state in its column.
func (c *circuit) changed(column uint32, t transition) {
	from, to := t.FromStatus(), t.ToStatus()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.transitions) == transitionsKept {
		copy(c.transitions, c.transitions[1:])
		c.transitions = c.transitions[:transitionsKept-1]
	}
	c.transitions = append(c.transitions, t)
	c.turn(column, from, to)
}

// reconfigured takes over new thresholds, by which the breaker has the given status.
func (c *circuit) reconfigured(column uint32, t events.Thresholds, status events.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.thresholds, c.reconfiguredIn = t, column
	if status != c.status { // shadow mode began or ended
		c.turn(column, c.status, status)
	}
}

// turn remembers in its column that the status changed. It requires c.mu.
func (c *circuit) turn(column uint32, from, to events.Status) {
	c.status = to
	s := &c.states[column%columnCount]
	switch {
	case s.epoch > column: // an event from long ago, or a clock that jumped
	case s.epoch < column:
		*s = stateColumn{epoch: column, first: from, worst: worse(from, to)}
	default:
		s.worst = worse(s.worst, to)
	}
}

// statusLetters spells each status in a timeline.
const statusLetters = "cohOCsp"

// severity orders statuses by how much they keep from working.
var severity = [events.StatusCount]int{
	events.StatusClosed:       0,
	events.StatusForcedClosed: 1,
	events.StatusHalfOpen:     2,
	events.StatusOpen:         3,
	events.StatusForcedOpen:   4,

	events.StatusShadowHalfOpen: 1, // nobody is turned away
	events.StatusShadowOpen:     1,
}

func worse(a, b events.Status) events.Status {
	if severity[b] > severity[a] {
		return b
	}
	return a
}

// timeline returns a letter for each column from first to last: of the worst status
// there was during it. It works backwards from the last transition that it was told
// of, not from what the breaker says, which may be ahead: a column without changes
// was what the one after it began as.
func (c *circuit) timeline(first, last uint32) string {
	letters := make([]byte, last-first+1)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.status
	for column := first + columnCount - 1; column >= first; column-- {
		worst := now
		if s := c.states[column%columnCount]; s.epoch == column {
			worst, now = s.worst, s.first
		}
		if column <= last { // it may have changed after the time in question
			letters[column-first] = statusLetters[worst]
		}
	}
	return string(letters)
}

// latest returns the transitions after the given generation, newest first.
func (c *circuit) latest(after uint64) []transition {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []transition
	for i := len(c.transitions) - 1; i >= 0 && c.transitions[i].Generation > after; i-- {
		found = append(found, c.transitions[i])
	}
	return found
}

// newest returns the generation of the last transition, 0 without any.
func (c *circuit) newest() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.transitions) == 0 {
		return 0
	}
	return c.transitions[len(c.transitions)-1].Generation
}

// stirred reports that there was a call or a change in the columns from first to last.
func (c *circuit) stirred(first, last uint32) bool {
	for column := first; column <= last; column++ {
		if !c.calls.begins(column) {
			return true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for column := first; column <= last; column++ {
		if c.states[column%columnCount].epoch == column {
			return true
		}
	}
	return false
}

// control returns the breaker that was handed over for control, if any.
func (c *circuit) control() Breaker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.breaker
}

// The functions of the sink. They are called by the engine, on the goroutine of a
// call: no lock in those that every call runs, except when a column begins.

func (l *Live) breakerCreated(_ context.Context, e events.BreakerCreated) {
	if e.Snapshot == nil {
		return // not from an engine
	}
	l.circuits.add(e.ID, maxCircuits, func() *circuit { return newCircuit(e, l.column(l.now())) })
}

func (l *Live) breakerReconfigured(_ context.Context, e events.BreakerReconfigured) {
	if c := l.circuits.find(e.ID); c != nil {
		column, _ := l.present()
		c.reconfigured(column, e.New, c.snapshot().Status())
	}
}

func (l *Live) breakerRetired(_ context.Context, e events.BreakerRetired) {
	l.circuits.remove(e.ID)
}

func (l *Live) callFinished(_ context.Context, e events.CallFinished) {
	c := l.circuits.find(e.ID)
	if c == nil || e.Outcome >= events.OutcomeCount {
		return
	}
	column, stretch := l.present()
	c.calls.add(column, int(e.Outcome), 1)
	c.latency.record(stretch, e.Duration)
}

func (l *Live) callRejected(_ context.Context, e events.CallRejected) {
	if c := l.circuits.find(e.ID); c != nil {
		column, _ := l.present()
		c.calls.add(column, int(events.OutcomeRejected), 1)
	}
}

func (l *Live) stateChanged(ctx context.Context, e events.StateChanged) {
	if c := l.circuits.find(e.ID); c != nil && e.From <= events.StateHalfOpen && e.To <= events.StateHalfOpen {
		at := max(0, e.Time.Sub(l.base))
		c.changed(l.column(at), transition{StateChanged: e, traceID: l.traceIDOf(ctx)})
	}
}
