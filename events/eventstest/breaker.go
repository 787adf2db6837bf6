package eventstest

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/breakwater-go/breakwater/events"
)

// breaker is what the events so far said of a breaker.
type breaker struct {
	name       string
	snapshot   func() events.Snapshot
	generation uint64
	state      events.State // of that generation
	forced     bool
	delivering int // StateChanged events under way

	// The goroutines that have received BreakerRetired or an event after it; nil
	// before that.
	informed map[string]bool
}

// call is a call that was admitted; the contexts of its events hold it.
type call struct {
	header   events.Header
	state    events.State
	finished bool

	wouldReject bool
}

// callKey is the key of the call in a context. It holds the Recorder because
// several may be joined.
type callKey struct{ r *Recorder }

func (c *call) unfinished() (subject, what string) {
	return breakerSubject(c.header), "CallStarted without CallFinished"
}

func breakerSubject(h events.Header) string { return fmt.Sprintf("breaker %q (ID %d)", h.Name, h.ID) }

// breaker returns what is known of the breaker that e is about, after checking what
// holds for each of its events. breaker requires r.mu.
func (r *Recorder) breaker(ctx context.Context, e events.Event) *breaker {
	h := e.About()
	if h.ID == 0 {
		r.violate(e, "its ID is 0")
	}
	b := r.breakers[h.ID]
	if b == nil {
		b = &breaker{name: h.Name, generation: 1, state: events.StateClosed}
		r.breakers[h.ID] = b
		if e.Kind() != events.KindBreakerCreated {
			r.violate(e, "comes before BreakerCreated")
		}
	} else if e.Kind() == events.KindBreakerCreated {
		r.violate(e, "comes a second time, or is not the breaker's first event")
	}
	if h.Name != b.name {
		r.violate(e, "its Name is not %q, as in the breaker's first event", b.name)
	}
	if b.informed != nil {
		r.late(ctx, b, e)
	}
	return b
}

// late checks that e may come after BreakerRetired, as the events may of calls that
// were under way then. late requires r.mu.
//
// Whether a call was under way cannot be seen from its CallStarted or CallRejected,
// which may lose a race with BreakerRetired: those are let off, once. But if its
// goroutine has been through here since, the call that it reports next began later.
func (r *Recorder) late(ctx context.Context, b *breaker, e events.Event) {
	ok := false
	switch e.Kind() {
	case events.KindCallFinished:
		ok = true
	case events.KindCallStarted, events.KindCallRejected:
		ok = !b.informed[goroutine()]
	case events.KindWindowRotated:
		c, within := ctx.Value(callKey{r}).(*call)
		ok = within && c.header == e.About()
	}
	if !ok {
		r.violate(e, "comes after BreakerRetired")
	}
	b.informed[goroutine()] = true
}

// goroutine returns the number of the calling goroutine, "goroutine 7".
func goroutine() string {
	var buf [64]byte
	stack := string(buf[:runtime.Stack(buf[:], false)])
	number, _, _ := strings.Cut(stack, " [")
	return number
}

func (r *Recorder) breakerCreated(ctx context.Context, e events.BreakerCreated) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	b := r.breaker(ctx, e)
	r.timed(e, e.Time)
	if e.Snapshot == nil {
		r.violate(e, "its Snapshot is nil")
	}
	b.snapshot = e.Snapshot
}

func (r *Recorder) callStarted(ctx context.Context, e events.CallStarted) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	r.breaker(ctx, e)
	switch {
	case e.State == events.StateOpen && !e.WouldReject:
		r.violate(e, "its State is open: only rejections happen there")
	case e.State == events.StateClosed && e.WouldReject:
		r.violate(e, "its State is closed: no call would be rejected there")
	}
	c := &call{header: e.Header, state: e.State, wouldReject: e.WouldReject}
	r.begin(c)
	return context.WithValue(ctx, callKey{r}, c)
}

func (r *Recorder) callFinished(ctx context.Context, e events.CallFinished) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	r.breaker(ctx, e)
	r.duration(e, "Duration", e.Duration)
	r.outcome(e, e.Outcome, e.Panicked, e.Err)
	if e.Outcome == events.OutcomeRejected {
		r.violate(e, "its Outcome is rejected: a rejected call has CallRejected only")
	}
	c, ok := ctx.Value(callKey{r}).(*call)
	switch {
	case !ok:
		r.violate(e, "its context does not come from a CallStarted")
		return
	case c.header.ID != e.ID:
		r.violate(e, "its context comes from the CallStarted of %s", breakerSubject(c.header))
		return
	case c.finished:
		r.violate(e, "comes a second time for one CallStarted")
		return
	}
	c.finished = true
	delete(r.begun, c)
	if c.state != e.State {
		r.violate(e, "its State is %v, and %v in CallStarted", e.State, c.state)
	}
	if c.wouldReject != e.WouldReject {
		r.violate(e, "its WouldReject is %t, and %t in CallStarted", e.WouldReject, c.wouldReject)
	}
}

func (r *Recorder) callRejected(ctx context.Context, e events.CallRejected) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	r.breaker(ctx, e)
	r.duration(e, "RetryAfter", e.RetryAfter)
	if e.State == events.StateClosed {
		r.violate(e, "its State is closed: no call is rejected there")
	}
	if e.Forced && e.State == events.StateHalfOpen {
		r.violate(e, "its State is half-open and Forced")
	}
}

// stateChanged checks e and passes it to then, if that is not nil. For all this time
// e is under way.
func (r *Recorder) stateChanged(ctx context.Context, e events.StateChanged, then func(context.Context, events.StateChanged)) {
	b, snapshot := r.stateEntered(ctx, e)
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		b.delivering--
	}()
	runtime.Gosched() // lets another delivery overlap this one, if anything does
	if snapshot != nil {
		r.committed(e, snapshot().Generation) // not under r.mu: it is code under test
	}
	if then != nil {
		then(ctx, e)
	}
}

// committed checks e against the Generation that the breaker is in.
func (r *Recorder) committed(e events.StateChanged, generation uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if generation < e.Generation {
		r.violate(e, "its Generation is %d, and Snapshot still shows %d", e.Generation, generation)
	}
}

// stateEntered checks e against the StateChanged before it and begins its delivery.
func (r *Recorder) stateEntered(ctx context.Context, e events.StateChanged) (*breaker, func() events.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	b := r.breaker(ctx, e)
	r.timed(e, e.Time)
	r.duration(e, "Elapsed", e.Elapsed)
	r.duration(e, "RetryAfter", e.RetryAfter)
	if b.delivering > 0 {
		r.violate(e, "comes while another StateChanged is being delivered")
	}
	b.delivering++

	switch {
	case e.Generation != b.generation+1:
		r.violate(e, "its Generation is %d, want %d", e.Generation, b.generation+1)
	case e.From != b.state:
		r.violate(e, "its From is %v, and the state entered before is %v", e.From, b.state)
	case e.FromForced != b.forced:
		r.violate(e, "its FromForced is %t, and Forced was %t before", e.FromForced, b.forced)
	}
	b.generation, b.state, b.forced = e.Generation, e.To, e.Forced

	if e.Reason == "" {
		r.violate(e, "it has no Reason")
	}
	if e.Forced && e.To == events.StateHalfOpen {
		r.violate(e, "it forces half-open")
	}
	if e.RetryAfter > 0 && (e.To != events.StateOpen || e.Forced) {
		r.violate(e, "its RetryAfter is %v, and it enters %v", e.RetryAfter, events.StatusOf(e.To, e.Forced))
	}
	return b, b.snapshot
}

func (r *Recorder) windowRotated(ctx context.Context, e events.WindowRotated) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	r.breaker(ctx, e)
	r.timed(e, e.Time)
}

func (r *Recorder) breakerRetired(ctx context.Context, e events.BreakerRetired) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	b := r.breaker(ctx, e)
	r.timed(e, e.Time)
	b.informed = map[string]bool{goroutine(): true}
}
