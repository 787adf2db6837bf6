// Package tally counts what breakers and retries have to say, and keeps the few
// events that tell the story of a run.
package tally

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// Tally is what happened so far, by name of the circuit. Its sink loses nothing and
// takes a lock for a few instructions. All methods may be called concurrently. The
// zero Tally is ready to use.
type Tally struct {
	mu       sync.Mutex
	circuits map[string]*Circuit
	order    []string // names, as they came
	rescue   Rescue
}

// Circuit is what happened at one breaker and the retry of the same name.
type Circuit struct {
	Name       string
	Thresholds events.Thresholds
	Snapshot   func() events.Snapshot // nil if no breaker of that name was created

	// Calls is what the calls of the breaker came to.
	Calls events.Counts

	// Operations is how many retried operations ended for which reason, and Took is how
	// long they took together.
	Operations map[events.Reason]int
	Took       map[events.Reason]time.Duration

	// Again is how many attempts were run that were not the first of their operation.
	Again int

	// Changes are the breaker's state changes, in order: the latest [MostChanges] of
	// them. Forgotten is how many came before.
	Changes   []events.StateChanged
	Forgotten int
}

// MostChanges is how many state changes of a circuit are kept. It is more than a few
// hours have, and keeps a demo small that runs for weeks.
const MostChanges = 4096

// Rescue is one operation that a retry saved.
type Rescue struct {
	Name  string
	At    time.Time // when it began
	Took  time.Duration
	Tries []Try // empty if no operation was saved
}

// Try is one attempt of a [Rescue].
type Try struct {
	Delay time.Duration // the wait before it
	Asked bool          // Delay is what the service asked for
	Took  time.Duration
	Err   error // nil for the last one
}

// Circuits returns what happened so far, in the order in which the circuits came up.
func (t *Tally) Circuits() []Circuit {
	t.mu.Lock()
	defer t.mu.Unlock()
	circuits := make([]Circuit, 0, len(t.order))
	for _, name := range t.order {
		c := *t.circuits[name]
		c.Changes = slices.Clone(c.Changes)
		c.Operations, c.Took = maps.Clone(c.Operations), maps.Clone(c.Took)
		circuits = append(circuits, c)
	}
	return circuits
}

// Rescue returns the most remarkable operation that a retry saved so far: the first
// of those with the most attempts.
func (t *Tally) Rescue() Rescue {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rescue
}

// circuit returns the circuit of the given name. It requires t.mu.
func (t *Tally) circuit(name string) *Circuit {
	c := t.circuits[name]
	if c == nil {
		if t.circuits == nil {
			t.circuits = make(map[string]*Circuit)
		}
		c = &Circuit{Name: name, Operations: make(map[events.Reason]int), Took: make(map[events.Reason]time.Duration)}
		t.circuits[name] = c
		t.order = append(t.order, name)
	}
	return c
}

// Sink returns the sink that counts.
func (t *Tally) Sink() events.Sink {
	return events.Sink{
		BreakerCreated:  t.breakerCreated,
		CallFinished:    t.callFinished,
		CallRejected:    t.callRejected,
		StateChanged:    t.stateChanged,
		RetryStarted:    t.retryStarted,
		AttemptStarted:  t.attemptStarted,
		AttemptFinished: t.attemptFinished,
		RetryScheduled:  t.retryScheduled,
		RetryFinished:   t.retryFinished,
	}
}

func (t *Tally) breakerCreated(_ context.Context, e events.BreakerCreated) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.circuit(e.Name)
	c.Thresholds, c.Snapshot = e.Thresholds, e.Snapshot
}

func (t *Tally) callFinished(_ context.Context, e events.CallFinished) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch c := &t.circuit(e.Name).Calls; e.Outcome {
	case events.OutcomeSuccess:
		c.Success++
	case events.OutcomeFailure:
		c.Failure++
	default:
		c.Ignored++
	}
}

func (t *Tally) callRejected(_ context.Context, e events.CallRejected) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.circuit(e.Name).Calls.Rejected++
}

func (t *Tally) stateChanged(_ context.Context, e events.StateChanged) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.circuit(e.Name)
	c.Changes = append(c.Changes, e)
	if len(c.Changes) > MostChanges {
		c.Changes = slices.Delete(c.Changes, 0, 1)
		c.Forgotten++
	}
}

// operation is one retried operation on its way, found through its context. Its
// events come one after the other, so it needs no lock.
type operation struct {
	begun time.Time
	tries []Try
	asked bool // of the wait that comes next
}

type operationKey struct{}

func operationOf(ctx context.Context) *operation {
	op, _ := ctx.Value(operationKey{}).(*operation)
	return op
}

func (t *Tally) retryStarted(ctx context.Context, _ events.RetryStarted) context.Context {
	return context.WithValue(ctx, operationKey{}, &operation{begun: time.Now()})
}

func (t *Tally) attemptStarted(ctx context.Context, e events.AttemptStarted) context.Context {
	if op := operationOf(ctx); op != nil {
		op.tries = append(op.tries, Try{Delay: e.Delay, Asked: op.asked})
	}
	return ctx
}

func (t *Tally) attemptFinished(ctx context.Context, e events.AttemptFinished) {
	if op := operationOf(ctx); op != nil && len(op.tries) > 0 {
		last := &op.tries[len(op.tries)-1]
		last.Took, last.Err = e.Duration, e.Err
	}
	if e.Attempt > 1 && e.Outcome != events.OutcomeRejected {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.circuit(e.Name).Again++
	}
}

func (t *Tally) retryScheduled(ctx context.Context, e events.RetryScheduled) {
	if op := operationOf(ctx); op != nil {
		op.asked = e.RetryAfter
	}
}

func (t *Tally) retryFinished(ctx context.Context, e events.RetryFinished) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.circuit(e.Name)
	c.Operations[e.Reason]++
	c.Took[e.Reason] += e.Duration
	op := operationOf(ctx)
	if e.Reason == events.ReasonSuccessAfterRetry && op != nil && len(op.tries) > len(t.rescue.Tries) {
		t.rescue = Rescue{Name: e.Name, At: op.begun, Took: e.Duration, Tries: op.tries}
	}
}
