package resilience

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// CircuitBreaker protects calls to one dependency. While closed it lets every call
// through and counts failures in a sliding window; at the error threshold it opens
// and rejects every call for the sleep window; then it is half-open and lets a few
// probes through, whose results close it or open it again.
//
// Prefer [CircuitBreaker.Run], which hands the work a context, over
// [CircuitBreaker.Execute]; use [CircuitBreaker.Acquire] where the work does not
// fit into a function. All methods may be called concurrently, and from sinks,
// callbacks and classifiers of the same breaker.
//
// A CircuitBreaker has no goroutine. While open, half-open, or closed and busy it has
// a timer; one that is dropped without [CircuitBreaker.Close] is collected when that
// has run.
//
// How it works: all that a state consists of is a [phase], found through one atomic
// pointer. A closed call loads the pointer, runs, adds to one counter of that phase
// and judges only if the window holds more failures than an earlier judgement found
// to be fine; it takes no lock except when it is the first to reach a new bucket.
// Everything rarer happens under mu, which guards arithmetic only: events are queued
// there and delivered after it is released.
type CircuitBreaker struct {
	// Written by the constructor only, and read by every call.
	name     string
	id       uint64
	sink     *events.Sink // never nil
	base     time.Time    // the zero of the breaker's monotonic clock
	flights  *flights     // nil unless it matters whether calls are under way
	observed bool         // the sink wants to hear of calls, if it is enabled

	retired atomic.Bool // set by Close, under mu

	// rules is what the breaker decides by. Like phase it is stored under mu and loaded
	// by anyone, and what it points to does not change.
	rules atomic.Pointer[rules]

	// phase is the present phase. It is stored under mu and loaded by anyone.
	phase atomic.Pointer[phase]

	// Guarded by mu. What most breakers never need is behind a pointer and nil until
	// it is needed. Who changes or reads the state under mu also reads the clock
	// there: so the times of changes, and those spent in each state, never run
	// backwards from one holder to the next.
	mu     sync.Mutex
	past   *past       // the phases before the present one
	outbox *outbox     // who listens, and what is to be told
	timer  *time.Timer // ends the sleep window or the oldest probe

	reopened int // recoveries that failed since the breaker was closed
}

// NewCircuitBreaker returns a closed breaker. A nil config means all defaults. It
// panics with a [*ConfigError] if the configuration is invalid; ask
// [CircuitBreakerConfig.Validate] first where it comes from users.
func NewCircuitBreaker(config *CircuitBreakerConfig) *CircuitBreaker {
	if err := config.Validate(); err != nil {
		panic(err)
	}
	return newBreaker(config, nil, nil)
}

// newBreaker is NewCircuitBreaker of a valid configuration, whose rules, nil if they are
// not made yet, may be shared. Flights, if there are, are kept of the breaker's calls.
func newBreaker(config *CircuitBreakerConfig, shared *rules, flights *flights) *CircuitBreaker {
	c := config.withDefaults()
	b := &CircuitBreaker{
		name:    c.Name,
		id:      lastID.Add(1),
		sink:    c.sink(),
		flights: flights,
		base:    time.Now(),
	}
	if shared == nil {
		shared = newRules(&c)
	}
	b.rules.Store(shared)
	b.observed = b.sink.CallStarted != nil || b.sink.CallFinished != nil
	b.phase.Store(b.newPhase(StateClosed, false, b.base, 0, 1))
	if b.sink.BreakerCreated != nil {
		b.tellCreated()
	}
	return b
}

// tellCreated tells that b exists. If a sink panics nobody gets b, and those who have
// heard of it hear that it is retired.
func (b *CircuitBreaker) tellCreated() {
	told := false
	defer func() {
		if !told {
			b.Close()
		}
	}()
	b.sink.BreakerCreated(context.Background(), events.BreakerCreated{
		Header:     b.header(),
		Time:       b.base,
		Thresholds: b.rules.Load().thresholds(),
		Snapshot:   b.snapshot,
	})
	told = true
}

// lastID numbers the breakers of a process. It is the one mutable variable of the
// package: a breaker's identity must differ from all others', and nothing is
// decided by it.
var lastID atomic.Uint64

// Name returns the breaker's name.
func (b *CircuitBreaker) Name() string { return b.name }

// ID returns the number that the breaker's events carry as [events.Header.ID], which
// tells it apart from others of its name.
func (b *CircuitBreaker) ID() uint64 { return b.id }

// State returns the breaker's state. One that is forced shows the state it is
// forced into; [CircuitBreaker.GetStats] tells them apart.
func (b *CircuitBreaker) State() CircuitState { return b.phase.Load().state }

// run is protect where a call is more than counted: it may be a probe, or be rejected,
// or somebody wants to know of it. Told says that the sink was asked and does.
func (b *CircuitBreaker) run(ctx context.Context, plain func() error, withContext func(context.Context) error, told bool) error {
	var c call // a literal would be made elsewhere and copied
	c.told = told
	if err := b.admit(ctx, &c); err != nil {
		return err
	}
	defer c.abandon()
	var err error
	if plain != nil {
		err = plain()
	} else {
		err = withContext(c.ctx)
	}
	c.finish(err)
	return err
}

// Acquire is the first half of a call that does not fit into a function, such as a
// stream or work that another goroutine ends. Without an error the caller must end
// the call with [Permit.Done]; a permit of a half-open breaker that is forgotten
// counts as a failed probe after ProbeTimeout.
func (b *CircuitBreaker) Acquire(ctx context.Context) (Permit, error) {
	if err := ctx.Err(); err != nil {
		return Permit{}, err
	}
	h := new(held)
	if err := b.admit(ctx, &h.call); err != nil {
		return Permit{}, err
	}
	return Permit{h}, nil
}

// Permit is an admitted call that has not ended. Its copies are the same call. The
// zero Permit is no call, and its methods do nothing.
type Permit struct{ held *held }

type held struct {
	call call
	done atomic.Bool // the first Done wins; the others return without touching call
}

// Context returns the context for the work: the one that was given to Acquire, or
// what a sink derived from it.
func (p Permit) Context() context.Context {
	if p.held == nil {
		return context.Background()
	}
	return p.held.call.ctx
}

// Done ends the call with the work's error, nil for success. Only the first Done
// counts. It may be called from any goroutine.
func (p Permit) Done(err error) {
	if p.held == nil || p.held.done.Swap(true) {
		return
	}
	defer p.held.call.abandon()
	p.held.call.finish(err)
}

// call is one admitted call. It lives on the stack of run.
type call struct {
	b     *CircuitBreaker
	phase *phase          // that admitted it
	probe *probe          // nil if that is closed; &wouldReject if the call runs in shadow mode only
	ctx   context.Context // for the work and for its events
	start time.Duration   // on the breaker's clock, if timed
	timed bool            // somebody wants to know how long it takes
	slows bool            // it can be slow
	told  bool            // the sink hears of it: it was enabled when the call began
	done  bool            // settled; what follows is only told
}

// admit fills c in or says why the call may not run. It does not ask ctx.
func (b *CircuitBreaker) admit(ctx context.Context, c *call) error {
	c.b, c.ctx, c.phase = b, ctx, b.phase.Load()
	if c.phase.state != StateClosed {
		if err := b.admitProbe(c); err != nil {
			return err
		}
	}
	switch {
	case b.flights == nil && !b.observed && !b.rules.Load().slows():
	case c.probe == nil && b.flights == nil:
		c.observe()
	default:
		c.observeGuarded()
	}
	return nil
}

// listens reports whether the sink wants to hear of a call that begins now.
func (b *CircuitBreaker) listens(ctx context.Context) bool {
	return (b.sink.Enabled == nil || b.sink.Enabled(ctx)) && !b.retired.Load()
}

// observe finds out who wants to know what of the call, notes when it starts, tells
// of it and takes over the context that sinks derive.
func (c *call) observe() {
	b := c.b
	c.told = c.told || b.observed && b.listens(c.ctx)
	c.slows = b.rules.Load().slows()
	if c.timed = c.told || c.slows; c.timed {
		c.start = time.Since(b.base)
	}
	if c.told && b.sink.CallStarted != nil {
		e := events.CallStarted{Header: b.header(), State: c.phase.state, WouldReject: c.probe == &wouldReject}
		if ctx := b.sink.CallStarted(c.ctx, e); ctx != nil {
			c.ctx = ctx
		}
	}
}

// observeGuarded is observe for a probe, whose place is free again if a sink panics, and
// for a call that is a flight: the call then does not begin, and no event follows.
func (c *call) observeGuarded() {
	begun := false
	if c.b.flights != nil {
		c.b.flights.started.add()
	}
	defer func() {
		if begun {
			return
		}
		if c.probe != nil && c.probe != &wouldReject {
			c.b.mu.Lock()
			c.phase.probes.settle(c.probe, events.OutcomeIgnored)
			c.b.mu.Unlock()
		}
		if c.b.flights != nil {
			c.b.flights.canceled.Add(1)
		}
	}()
	c.observe()
	begun = true
}

// finish settles the call with the error its work returned.
func (c *call) finish(err error) {
	outcome := events.OutcomeSuccess
	if err != nil {
		outcome = c.b.outcome(c.ctx, err) // if this panics, abandon settles
	}
	c.settle(outcome, err, false)
}

// abandon settles a call whose work, or whose classifier, did not return: it
// panicked or ended the goroutine. Deferred without a recover, it sees both and
// leaves the stack as it is.
func (c *call) abandon() {
	if !c.done {
		c.settle(events.OutcomeFailure, nil, true)
	}
}

// outcome says what a call came to that returned err.
func (b *CircuitBreaker) outcome(ctx context.Context, err error) events.Outcome {
	if gaveUp(ctx, err) || !isPlain(err) && isIgnored(err) || !b.rules.Load().classify(err) {
		return events.OutcomeIgnored
	}
	return events.OutcomeFailure
}

// settle counts the outcome, draws the consequences and tells of all of it, in
// this order: a sink that panics finds everything committed.
func (c *call) settle(outcome events.Outcome, err error, panicked bool) {
	c.done = true
	b, p := c.b, c.phase
	now := unread
	if c.timed {
		now = time.Since(b.base)
	}
	slow := false
	if c.slows && outcome != events.OutcomeIgnored {
		r := b.rules.Load() // those of the end decide
		slow = r.slows() && now-c.start >= r.slowAfter
	}

	var rotated *marks
	var changed, stale bool
	if c.probe == &wouldReject {
		p.count(outcome, slow)
		p.turned.wouldReject.Add(1)
		stale = b.late(p)
	} else if c.probe != nil {
		changed, stale = b.settleProbe(c, outcome, slow)
	} else {
		rotated, changed, stale = b.settleClosed(c.ctx, p, outcome, slow, now)
	}
	told := c.told && b.sink.CallFinished != nil
	switch news := rotated != nil || changed; {
	case news && told:
		c.announceAll(rotated, changed, c.finished(outcome, now, err, panicked, stale))
	case news:
		b.announce(c.ctx, rotated, changed)
	case told:
		b.sink.CallFinished(c.ctx, c.finished(outcome, now, err, panicked, stale))
	}
}

func (c *call) finished(outcome events.Outcome, now time.Duration, err error, panicked, stale bool) events.CallFinished {
	return events.CallFinished{
		Header:   c.b.header(),
		State:    c.phase.state,
		Outcome:  outcome,
		Duration: now - c.start,
		Err:      err,
		Panicked: panicked,
		Stale:    stale,

		WouldReject: c.probe == &wouldReject,
	}
}

// announce tells what a call brought about. Deferred, so that a sink that panics at one
// event does not cost the others.
func (b *CircuitBreaker) announce(ctx context.Context, rotated *marks, changed bool) {
	if changed {
		defer b.deliver()
	}
	if rotated != nil {
		b.tellRotated(ctx, rotated)
	}
}

func (c *call) announceAll(rotated *marks, changed bool, e events.CallFinished) {
	defer c.b.sink.CallFinished(c.ctx, e)
	c.b.announce(c.ctx, rotated, changed)
}

// settleClosed counts the outcome of a call that the closed phase p admitted, and
// opens the breaker if that is due. Now is unread if the clock was not read yet.
func (b *CircuitBreaker) settleClosed(ctx context.Context, p *phase, outcome events.Outcome, slow bool, now time.Duration) (rotated *marks, changed, stale bool) {
	if outcome == events.OutcomeIgnored {
		p.ignored.Add(1)
		return nil, false, b.late(p)
	}
	w := &p.window
	m := w.marks.Load()
	if !m.hot {
		if now == unread {
			now = time.Since(b.base)
		}
		if now >= m.end {
			if m, rotated = w.crossed(now); !p.judged {
				rotated = nil
			}
		}
	}
	if outcome == events.OutcomeSuccess {
		w.countSuccess(m)
	} else {
		w.countFailure(m)
	}
	if slow {
		w.slow.Add(1) // after the call itself: see tally
	}
	if b.late(p) {
		return nil, false, true
	}
	// Of two calls that finish at once each counts before it reads, so the later reading
	// of the two sees both: no outcome goes unjudged.
	if w.failure.Load() > m.fine.failure.Load() || w.slow.Load() > m.fine.slow.Load() {
		changed = b.judge(ctx, p, m)
	}
	return rotated, changed, false
}

// unread stands for a time that was not read from the clock.
const unread = time.Duration(-1)

// late reports whether p is over, after something was counted in it, and sees to it
// that the count is in the totals: see fold.
func (b *CircuitBreaker) late(p *phase) bool {
	if b.phase.Load() == p {
		return false
	}
	b.mu.Lock()
	b.fold(p)
	b.mu.Unlock()
	return true
}

// judge opens the breaker if the window of p, whose marks are m, demands it. If not,
// it notes how many failures and slow calls are fine from now on, and calls look no
// further while there are no more: under the same marks the volume only grows, so what
// is below the thresholds now is so later.
func (b *CircuitBreaker) judge(ctx context.Context, p *phase, m *marks) (changed bool) {
	if !p.judged {
		return false
	}
	counts := p.window.tally().since(m.oldest)
	j := &b.rules.Load().judgement // m was loaded before: see Reconfigure
	if counts.Volume() < j.volume {
		return false
	}
	if j.of(counts) != "" {
		return b.open(ctx, p)
	}
	failures, slow := j.fine(counts.Volume())
	m.fine.failure.Store(m.oldest.failure + failures)
	m.fine.slow.Store(m.oldest.slow + slow)
	return false
}

// open opens the breaker if p is still its phase and its window still demands it:
// other calls may have been faster, or have rotated the window since.
func (b *CircuitBreaker) open(ctx context.Context, p *phase) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := time.Now()
	if b.phase.Load() != p {
		return false
	}
	reason := b.rules.Load().judgement.of(p.window.countsAt(at.Sub(b.base)))
	if reason == "" {
		return false
	}
	b.enter(ctx, at, StateOpen, false, reason)
	return true
}

// admitProbe decides on a call that found the breaker open or half-open. It goes
// around once for each change of state it meets or makes.
func (b *CircuitBreaker) admitProbe(c *call) error {
	for {
		p := b.phase.Load()
		c.phase = p
		switch p.state {
		case StateClosed:
			return nil
		case StateOpen:
			if p.calls.Load() != near || time.Since(b.base) < p.until {
				return b.reject(c, p)
			}
			b.endSleep(c.ctx, p) // a call was earlier than the timer
			b.deliver()
		default:
			probe, changed := b.takeProbe(c.ctx, p)
			if changed {
				b.deliver()
				continue
			}
			if probe == nil {
				return b.reject(c, p)
			}
			c.probe = probe
			return nil
		}
	}
}

// takeProbe admits a probe of the half-open phase p, nil if its probes are taken.
// Changed tells that p has ended instead, or was over already.
func (b *CircuitBreaker) takeProbe(ctx context.Context, p *phase) (taken *probe, changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := time.Now()
	if b.phase.Load() != p || b.expireProbes(ctx, p, at) {
		return nil, true
	}
	r := &b.rules.Load().recovery
	taken = p.probes.admit(*r, at.Sub(b.base))
	if taken != nil && len(p.probes.out) == 1 {
		b.wakeAfter(r.timeout, p)
	}
	return taken, false
}

// settleProbe takes a probe back and draws the verdict if it is certain.
func (b *CircuitBreaker) settleProbe(c *call, outcome events.Outcome, slow bool) (changed, stale bool) {
	p := c.phase
	b.mu.Lock()
	defer b.mu.Unlock()
	at := time.Now()
	p.count(outcome, slow)
	if b.phase.Load() != p {
		b.fold(p)
		return false, true
	}
	if slow {
		outcome = events.OutcomeFailure // it answered, but has not recovered
	}
	// Those that are overdue failed first, should their timer be late; c's own probe
	// may be one of them.
	if b.expireProbes(c.ctx, p, at) {
		return true, true
	}
	if !p.probes.settle(c.probe, outcome) {
		return false, true
	}
	return b.conclude(c.ctx, p, at, events.ReasonProbesFailed), false
}

// count adds to the counters of a phase that is not closed.
func (p *phase) count(outcome events.Outcome, slow bool) {
	switch outcome {
	case events.OutcomeSuccess:
		p.window.success.Add(1)
	case events.OutcomeFailure:
		p.window.failure.Add(1)
	default:
		p.ignored.Add(1)
	}
	if slow {
		p.window.slow.Add(1)
	}
}

// expireProbes fails the probes of p that are overdue and reports whether that
// ended the phase. It requires mu.
func (b *CircuitBreaker) expireProbes(ctx context.Context, p *phase, at time.Time) (changed bool) {
	return p.probes.expire(b.rules.Load().recovery, at.Sub(b.base)) &&
		b.conclude(ctx, p, at, events.ReasonProbeTimeout)
}

// conclude ends the half-open phase p if its verdict is certain, and reports
// whether it is. Failed is the reason to give if it opens. It requires mu.
func (b *CircuitBreaker) conclude(ctx context.Context, p *phase, at time.Time, failed events.Reason) (changed bool) {
	state, certain := p.probes.verdict(b.rules.Load().recovery)
	if !certain {
		return false
	}
	reason := events.ReasonProbesPassed
	if state == StateOpen {
		reason = failed
	}
	b.enter(ctx, at, state, false, reason)
	return true
}

// reject counts and tells of a call that p does not admit. In shadow mode it only marks
// the call, which runs then.
func (b *CircuitBreaker) reject(c *call, p *phase) error {
	if b.rules.Load().shadow && !p.forced {
		c.probe = &wouldReject
		return nil
	}
	ctx := c.ctx
	p.turned.rejected.Add(1)
	b.late(p)
	if b.sink.CallRejected != nil && b.listens(ctx) {
		e := events.CallRejected{Header: b.header(), State: p.state, Forced: p.forced}
		if p.until != never {
			e.RetryAfter = max(0, p.until-time.Since(b.base))
		}
		b.sink.CallRejected(ctx, e)
	}
	return &p.turned.err
}

// wouldReject is the probe of every call that runs although the breaker, which is in
// shadow mode, would have rejected it. Nothing is ever written to it.
var wouldReject probe

// wake is what the timer does: it ends the sleep window or the oldest probe of p.
// It runs on the timer's goroutine, where no caller can receive a panic.
func (b *CircuitBreaker) wake(p *phase) {
	ctx := context.Background()
	switch p.state {
	case StateOpen:
		if p.calls.Swap(near) == near {
			b.endSleep(ctx, p)
			break
		}
		b.mu.Lock()
		if b.phase.Load() == p {
			b.wakeAfter(p.until-time.Since(b.base), p)
		}
		b.mu.Unlock()
	case StateHalfOpen:
		b.mu.Lock()
		at := time.Now()
		if b.phase.Load() == p && !b.expireProbes(ctx, p, at) && len(p.probes.out) > 0 {
			b.wakeAfter(p.probes.out[0].since+b.rules.Load().recovery.timeout-at.Sub(b.base), p)
		}
		b.mu.Unlock()
	}
	b.deliverFromTimer()
}

// endSleep turns the open phase p half-open if it is still the present one.
func (b *CircuitBreaker) endSleep(ctx context.Context, p *phase) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := time.Now()
	if b.phase.Load() == p && at.Sub(b.base) >= p.until {
		b.enter(ctx, at, StateHalfOpen, false, events.ReasonSleepWindowElapsed)
	}
}

// wakeAfter sets the timer for p. A timer that was set before, and even one that
// has run but not yet taken mu, does no harm: wake looks at the state again. It
// requires mu.
func (b *CircuitBreaker) wakeAfter(d time.Duration, p *phase) {
	b.stopTimer()
	if b.retired.Load() {
		p.calls.Store(near) // no timer will say so
		return
	}
	b.timer = time.AfterFunc(d, func() { b.wake(p) })
}

func (b *CircuitBreaker) stopTimer() {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
}

// enter ends the present phase and begins the next, and queues the event that
// tells of it. The caller delivers after releasing mu. It requires mu.
func (b *CircuitBreaker) enter(ctx context.Context, at time.Time, state CircuitState, forced bool, reason events.Reason) {
	old := b.phase.Load()
	now := at.Sub(b.base)
	switch {
	case state == StateClosed:
		b.reopened = 0
	case state == StateOpen && !forced && old.state == StateHalfOpen:
		b.reopened++
	}
	next := b.newPhase(state, forced, at, now, old.generation+1)
	e := events.StateChanged{
		Header:     b.header(),
		Time:       at,
		From:       old.state,
		FromForced: old.forced,
		To:         state,
		Forced:     forced,
		Shadow:     b.rules.Load().shadow,
		Reason:     reason,
		Generation: next.generation,
		Counts:     old.deciding(now),
		Elapsed:    now - old.since,
	}
	b.phase.Store(next)
	b.history().end(old, b.status(old), at, now)
	b.fold(old)
	old.window.cool() // takes the window's mu under b.mu, which nobody does the other way round
	b.stopTimer()
	if next.until != never {
		e.RetryAfter = next.until - now
		rest := e.RetryAfter - approach(e.RetryAfter)
		if rest == 0 { // near from the beginning
			next.calls.Store(near)
			rest = e.RetryAfter
		}
		b.wakeAfter(rest, next)
	}
	if !b.retired.Load() {
		b.post(fact{ctx: ctx, changed: e})
	}
}

// newPhase returns a phase that begins at the given time, now on the breaker's clock.
func (b *CircuitBreaker) newPhase(state CircuitState, forced bool, at time.Time, now time.Duration, generation uint64) *phase {
	r := b.rules.Load()
	p := &phase{
		breaker:    b,
		state:      state,
		forced:     forced,
		judged:     state == StateClosed && !forced,
		generation: generation,
		began:      at,
		since:      now,
		until:      never,
	}
	if state == StateClosed {
		b.simplify(p, r)
		// Rotations are told by calls, not by a timer; a closed breaker sets no timer.
		heats := b.sink.WindowRotated == nil && !b.retired.Load()
		p.window.init(b.base, now, r.windowSize, int(r.bucketCount), heats, r.slows())
		return p
	}
	p.turned = &turnedAway{err: RejectedError{Name: b.name, State: state, Forced: forced, Since: at}}
	if state == StateOpen && !forced {
		sleep := r.sleepAfter(b.reopened)
		p.until = now + sleep
		p.turned.err.Until = at.Add(sleep)
	}
	if state == StateHalfOpen {
		p.probes = new(probes)
	}
	return p
}

// deciding returns what the state of p is judged by: the window, or the probes.
// For a half-open phase it requires the breaker's mu.
func (p *phase) deciding(now time.Duration) events.Counts {
	switch p.state {
	case StateClosed:
		return p.window.countsAt(now)
	case StateHalfOpen:
		return p.probes.counts()
	default:
		return events.Counts{}
	}
}

// fold brings the totals up to date with what was counted in p, which is over. It
// requires mu.
//
// No count is lost, though calls count without a lock and may be late: a call
// counts first and then loads b.phase; a change stores b.phase first and then
// folds. Either the call's load comes after the store, then it sees that p is over
// and folds its own count; or it comes before, then its count, which is earlier
// still, is seen by the fold that follows the store.
func (b *CircuitBreaker) fold(p *phase) {
	if p.folded == nil {
		p.folded = new(events.Counts)
	}
	now := p.counts()
	b.history().totals = add(b.history().totals, subtract(now, *p.folded))
	*p.folded = now
}

// history returns what remains of the phases before the present one. It requires mu.
func (b *CircuitBreaker) history() *past {
	if b.past == nil {
		b.past = new(past)
	}
	return b.past
}

// ForceOpen rejects every call until ClearForce, ForceClosed or Reset. It beats
// everything, in any state.
func (b *CircuitBreaker) ForceOpen() { b.force(StateOpen) }

// ForceClosed admits every call, whatever comes of it, until ClearForce, ForceOpen
// or Reset. It beats everything, in any state.
func (b *CircuitBreaker) ForceClosed() { b.force(StateClosed) }

func (b *CircuitBreaker) force(state CircuitState) {
	b.control(func(p *phase) (CircuitState, bool, events.Reason) {
		if p.forced && p.state == state {
			return state, true, ""
		}
		return state, true, events.ReasonForced
	})
}

// ClearForce lifts ForceOpen or ForceClosed. The breaker stays in the state it
// showed and enters it anew: open for a whole sleep window, or closed with an empty
// window. A breaker that is not forced stays as it is.
func (b *CircuitBreaker) ClearForce() {
	b.control(func(p *phase) (CircuitState, bool, events.Reason) {
		if !p.forced {
			return p.state, false, ""
		}
		return p.state, false, events.ReasonForceCleared
	})
}

// Reset lifts any force and begins afresh: closed, with an empty window. Calls that
// are under way influence nothing any more. Totals stay.
func (b *CircuitBreaker) Reset() {
	b.control(func(*phase) (CircuitState, bool, events.Reason) {
		return StateClosed, false, events.ReasonReset
	})
}

// control makes the change that decide asks for, none if its reason is empty.
func (b *CircuitBreaker) control(decide func(*phase) (state CircuitState, forced bool, reason events.Reason)) {
	b.mu.Lock()
	if state, forced, reason := decide(b.phase.Load()); reason != "" {
		b.enter(context.Background(), time.Now(), state, forced, reason)
	}
	b.mu.Unlock()
	b.deliver()
}

// Close retires the breaker: sinks get BreakerRetired as its last event, so that its
// series stop, and it sets no timer any more. Calls that are under way finish as
// they would have. Who still holds it is still protected, silently. Closing again
// does nothing.
func (b *CircuitBreaker) Close() {
	b.mu.Lock()
	if !b.retired.Swap(true) {
		b.stopTimer()
		p := b.phase.Load()
		if p.until != never {
			p.calls.Store(near) // no timer will say so
		}
		p.window.cool()
		b.post(fact{
			ctx:     context.Background(),
			retired: &events.BreakerRetired{Header: b.header(), Time: time.Now()},
		})
	}
	b.mu.Unlock()
	b.deliver()
}

func (b *CircuitBreaker) header() events.Header { return events.Header{Name: b.name, ID: b.id} }
