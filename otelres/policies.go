package otelres

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/events"
)

// What the policies besides breaker and retry have to say.

// held is what became of a call that a bulkhead or a rate limit held up.
type held int

const (
	heldAdmitted held = iota // it ran
	heldRejected             // it was not run
	heldCanceled             // it was not run, its context having ended
	heldCount
)

func (h held) String() string { return [...]string{"admitted", "rejected", "canceled"}[h] }

// heldOf translates the outcome of a wait.
func heldOf(o events.Outcome) held {
	switch o {
	case events.OutcomeSuccess:
		return heldAdmitted
	case events.OutcomeRejected:
		return heldRejected
	default:
		return heldCanceled
	}
}

// hedgeOutcome is what an attempt of a hedged operation came to.
type hedgeOutcome int

const (
	hedgeWon      hedgeOutcome = iota // its result is the operation's
	hedgeLost                         // it was overtaken, or its caller gave up
	hedgeFailure                      // it failed
	hedgeRejected                     // a policy inside did not run it
	hedgeOutcomeCount
)

func (o hedgeOutcome) String() string {
	return [...]string{"won", "lost", "failure", "rejected"}[o]
}

func hedgeOutcomeOf(e *events.HedgeAttemptFinished) hedgeOutcome {
	switch {
	case e.Won:
		return hedgeWon
	case e.Outcome == events.OutcomeFailure:
		return hedgeFailure
	case e.Outcome == events.OutcomeRejected:
		return hedgeRejected
	default: // ignored, or a success that came too late
		return hedgeLost
	}
}

// hedgeKind is the index of the kind of a hedged operation's attempt.
type hedgeKind int

const (
	hedgeInitial hedgeKind = iota // the first attempt
	hedgeHedge                    // any other
	hedgeKindCount
)

func (k hedgeKind) String() string { return [...]string{"initial", "hedge"}[k] }

func hedgeKindOf(attempt int) hedgeKind {
	if attempt > 1 {
		return hedgeHedge
	}
	return hedgeInitial
}

// The options that the names of policies are recorded with, made once so that a
// measurement allocates nothing.
type (
	timeoutSeries struct {
		expired []metric.AddOption
		seeded  atomic.Bool
	}
	rateLimitSeries struct {
		limited [heldCount][]metric.AddOption
		wait    [heldCount][]metric.RecordOption
		seeded  atomic.Bool
	}
	fallbackSeries struct {
		used   [2][]metric.AddOption // by OutcomeSuccess and OutcomeFailure
		seeded atomic.Bool
	}
	hedgeSeries struct {
		attempts [hedgeKindCount][hedgeOutcomeCount][]metric.AddOption
		delay    []metric.RecordOption
		seeded   atomic.Bool
	}
	bulkheadSeries struct {
		name  string
		plain []metric.ObserveOption
		calls [heldCount][]metric.ObserveOption
		wait  [heldCount][]metric.RecordOption
	}
)

// policies are the series of policies by name.
type policies struct {
	timeouts   *names[timeoutSeries]
	rateLimits *names[rateLimitSeries]
	fallbacks  *names[fallbackSeries]
	hedges     *names[hedgeSeries]
	bulkheads  *bulkheads
}

func (t *Telemetry) newPolicies() policies {
	add := func(attrs ...attribute.KeyValue) []metric.AddOption { return []metric.AddOption{t.measured(attrs...)} }
	record := func(attrs ...attribute.KeyValue) []metric.RecordOption {
		return []metric.RecordOption{t.measured(attrs...)}
	}
	observe := func(attrs ...attribute.KeyValue) []metric.ObserveOption {
		return []metric.ObserveOption{t.measured(attrs...)}
	}
	return policies{
		timeouts: newNames(t.nameLimit, func(name string) *timeoutSeries {
			return &timeoutSeries{expired: add(keyTimeoutName.String(name))}
		}),
		rateLimits: newNames(t.nameLimit, func(name string) *rateLimitSeries {
			s := new(rateLimitSeries)
			for h := range heldCount {
				s.limited[h] = add(keyRateLimitName.String(name), keyRateLimitOutcome.String(h.String()))
				s.wait[h] = record(keyRateLimitName.String(name), keyRateLimitOutcome.String(h.String()))
			}
			return s
		}),
		fallbacks: newNames(t.nameLimit, func(name string) *fallbackSeries {
			s := new(fallbackSeries)
			for o := range s.used {
				s.used[o] = add(keyFallbackName.String(name), keyFallbackOutcome.String(events.Outcome(o).String()))
			}
			return s
		}),
		hedges: newNames(t.nameLimit, func(name string) *hedgeSeries {
			s := &hedgeSeries{delay: record(keyHedgeName.String(name))}
			for k := range hedgeKindCount {
				for o := range hedgeOutcomeCount {
					s.attempts[k][o] = add(keyHedgeName.String(name),
						keyHedgeAttemptKind.String(k.String()), keyHedgeAttemptOutcome.String(o.String()))
				}
			}
			return s
		}),
		bulkheads: newBulkheads(t.nameLimit, func(name string) *bulkheadSeries {
			s := &bulkheadSeries{name: name, plain: observe(keyBulkheadName.String(name))}
			for h := range heldCount {
				s.calls[h] = observe(keyBulkheadName.String(name), keyBulkheadOutcome.String(h.String()))
				s.wait[h] = record(keyBulkheadName.String(name), keyBulkheadOutcome.String(h.String()))
			}
			return s
		}),
	}
}

// names are series by name, of something that has no end that one could see: so a name
// keeps its place for good.
type names[S any] struct {
	limit    int
	record   func(name string) *S
	overflow *S

	byName     atomic.Pointer[map[string]*S] // never changed, only replaced, under mu
	overflowed atomic.Bool                   // something is recorded under the overflow's name

	// byLength has the first name of each length, modulo theirs: comparing a string
	// with itself is less than finding it in a map, by 14 ns in a retry's first attempt,
	// which is a third of what that costs beyond its instruments.
	byLength [16]atomic.Pointer[named[S]]

	mu sync.Mutex
}

// named is a name that has a place. It is never changed.
type named[S any] struct {
	name   string
	series *S
}

func newNames[S any](limit int, record func(string) *S) *names[S] {
	n := &names[S]{limit: limit, record: record, overflow: record(other)}
	n.byName.Store(&map[string]*S{})
	return n
}

// series returns the series of name, making them if there is room and the overflow's if
// there is not.
func (n *names[S]) series(name string) *S {
	if first := n.byLength[len(name)%len(n.byLength)].Load(); first != nil && first.name == name {
		return first.series
	}
	known := *n.byName.Load()
	if s := known[name]; s != nil {
		return s
	}
	name = exportable(name)
	if s := known[name]; s != nil {
		return s
	}
	if len(known) < n.limit && name != other {
		if s := n.admit(name); s != nil {
			return s
		}
	}
	if !n.overflowed.Load() {
		n.overflowed.Store(true)
	}
	return n.overflow
}

// beyond reports whether name has to go by the overflow's.
func (n *names[S]) beyond(name string) bool { return n.series(name) == n.overflow && name != other }

// admit gives name a place, or returns nil if the last one was taken meanwhile.
func (n *names[S]) admit(name string) *S {
	n.mu.Lock()
	defer n.mu.Unlock()
	known := *n.byName.Load()
	if s := known[name]; s != nil || len(known) == n.limit {
		return s
	}
	s := n.record(name)
	next := maps.Clone(known)
	next[name] = s
	n.byName.Store(&next)
	n.byLength[len(name)%len(n.byLength)].CompareAndSwap(nil, &named[S]{name, s})
	return s
}

// each calls f with all series that something is recorded with.
func (n *names[S]) each(f func(*S)) {
	for _, s := range *n.byName.Load() {
		f(s)
	}
	if n.overflowed.Load() {
		f(n.overflow)
	}
}

// policyCreated gives the policy its series, and counts it if it has none of its own.
func (t *Telemetry) policyCreated(ctx context.Context, e events.PolicyCreated) {
	if t.closed.Load() {
		return
	}
	var beyond bool
	switch e.Policy {
	case events.PolicyTimeout:
		beyond = t.timeouts.beyond(e.Name)
	case events.PolicyRateLimit:
		beyond = t.rateLimits.beyond(e.Name)
	case events.PolicyFallback:
		beyond = t.fallbacks.beyond(e.Name)
	case events.PolicyHedge:
		beyond = t.hedges.beyond(e.Name)
	}
	if beyond {
		t.drop(ctx)
	}
}

// seedPolicies makes the series of policies exist. See seed.
func (t *Telemetry) seedPolicies(ctx context.Context) {
	zero := func(c metric.Int64Counter, o []metric.AddOption) { c.Add(ctx, 0, o...) }
	t.timeouts.each(func(s *timeoutSeries) {
		if !s.seeded.Swap(true) {
			zero(t.expired, s.expired)
		}
	})
	t.rateLimits.each(func(s *rateLimitSeries) {
		if !s.seeded.Swap(true) {
			for _, o := range s.limited {
				zero(t.limited, o)
			}
		}
	})
	t.fallbacks.each(func(s *fallbackSeries) {
		if !s.seeded.Swap(true) {
			for _, o := range s.used {
				zero(t.used, o)
			}
		}
	})
	t.hedges.each(func(s *hedgeSeries) {
		if !s.seeded.Swap(true) {
			for _, outcomes := range s.attempts {
				for _, o := range outcomes {
					zero(t.hedgeAttempts, o)
				}
			}
		}
	})
}

// timedOut counts a timeout that passed and tells of it.
func (t *Telemetry) timedOut(ctx context.Context, e events.TimedOut) {
	if t.closed.Load() {
		return
	}
	if t.expired.Enabled(ctx) {
		t.expired.Add(ctx, 1, t.timeouts.series(e.Name).expired...)
	}
	if x, ok := t.exit(ctx, eventTimeoutExpired, trace.SpanFromContext(ctx), log.SeverityDebug); ok {
		t.emit(ctx, eventTimeoutExpired, x, time.Now(),
			keyTimeoutName.String(exportable(e.Name)),
			keyTimeoutLimit.Float64(e.Limit.Seconds()),
			t.errorTypes.of(e.Err, false))
	}
}

// rateLimited counts a call that was held up and tells of it.
func (t *Telemetry) rateLimited(ctx context.Context, e events.RateLimited) {
	if t.closed.Load() {
		return
	}
	outcome := heldOf(e.Outcome)
	if t.limited.Enabled(ctx) {
		s := t.rateLimits.series(e.Name)
		t.limited.Add(ctx, 1, s.limited[outcome]...)
		if e.Duration > 0 {
			t.rateLimitWait.Record(ctx, e.Duration.Seconds(), s.wait[outcome]...)
		}
	}
	if x, ok := t.exit(ctx, eventRateLimited, trace.SpanFromContext(ctx), log.SeverityDebug); ok {
		t.emit(ctx, eventRateLimited, x, time.Now(),
			keyRateLimitName.String(exportable(e.Name)),
			keyRateLimitOutcome.String(outcome.String()),
			keyRateLimitWait.Float64(e.Duration.Seconds()))
	}
}

// fellBack counts a fallback that stood in and tells of it.
func (t *Telemetry) fellBack(ctx context.Context, e events.FellBack) {
	if t.closed.Load() {
		return
	}
	if t.used.Enabled(ctx) {
		t.used.Add(ctx, 1, t.fallbacks.series(e.Name).used[e.Outcome]...)
	}
	severity := log.SeverityDebug
	if e.Outcome == events.OutcomeFailure {
		severity = log.SeverityWarn
	}
	if x, ok := t.exit(ctx, eventFallbackUsed, trace.SpanFromContext(ctx), severity); ok {
		t.emit(ctx, eventFallbackUsed, x, time.Now(),
			keyFallbackName.String(exportable(e.Name)),
			keyFallbackOutcome.String(e.Outcome.String()),
			t.errorTypes.of(e.Err, false))
	}
}

// hedgeAttemptStarted records how long it took until the attempt began, and begins its
// span, linked to that of the attempt before it.
func (t *Telemetry) hedgeAttemptStarted(ctx context.Context, e events.HedgeAttemptStarted) context.Context {
	if e.Attempt > 1 && !t.closed.Load() && t.hedgeDelay.Enabled(ctx) {
		t.hedgeDelay.Record(ctx, e.Delay.Seconds(), t.hedges.series(e.Name).delay...)
	}
	if t.spans != Attempts {
		return ctx
	}
	if !t.tracing() {
		return t.untraced(ctx)
	}
	return t.startHedgeAttempt(ctx, e)
}

// hedgeAttemptFinished counts the attempt and ends its span.
func (t *Telemetry) hedgeAttemptFinished(ctx context.Context, e events.HedgeAttemptFinished) {
	outcome := hedgeOutcomeOf(&e)
	if !t.closed.Load() && t.hedgeAttempts.Enabled(ctx) {
		t.hedgeAttempts.Add(ctx, 1, t.hedges.series(e.Name).attempts[hedgeKindOf(e.Attempt)][outcome]...)
	}
	if t.spans == Attempts {
		t.finishHedgeAttempt(ctx, e, outcome)
	}
}

func (t *Telemetry) startHedgeAttempt(ctx context.Context, e events.HedgeAttemptStarted) context.Context {
	attrs := [4]attribute.KeyValue{
		keyHedgeName.String(exportable(e.Name)),
		keyHedgeAttemptNumber.Int(e.Attempt),
		keyHedgeAttemptKind.String(hedgeKindOf(e.Attempt).String()),
		keyHedgeDelay.Float64(e.Delay.Seconds()),
	}
	if e.Attempt == 1 {
		return t.start(ctx, spanHedge+e.Name, attrs[:3]...) // nothing was waited for
	}
	var links []trace.Link
	if e.Previous != nil {
		if before := t.kept(e.Previous); before != nil {
			links = []trace.Link{{SpanContext: before.SpanContext()}}
		}
	}
	return t.startLinked(ctx, links, spanHedge+e.Name, attrs[:]...)
}

func (t *Telemetry) finishHedgeAttempt(ctx context.Context, e events.HedgeAttemptFinished, outcome hedgeOutcome) {
	span := t.kept(ctx)
	if span == nil {
		return
	}
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(keyHedgeAttemptOutcome.String(outcome.String()))
	t.fail(span, e.Outcome, e.Err, e.Panicked)
}

// bulkheadCreated begins a bulkhead's series.
func (t *Telemetry) bulkheadCreated(ctx context.Context, e events.BulkheadCreated) {
	if own, added := t.bulkheads.born(e); added && !own {
		t.drop(ctx)
	}
}

// bulkheadRetired ends a bulkhead's series.
func (t *Telemetry) bulkheadRetired(_ context.Context, e events.BulkheadRetired) {
	t.bulkheads.end(e.ID)
}

// bulkheadWaited records a wait and tells of it.
func (t *Telemetry) bulkheadWaited(ctx context.Context, e events.BulkheadWaited) {
	if t.closed.Load() {
		return
	}
	outcome := heldOf(e.Outcome)
	if t.bulkheadWait.Enabled(ctx) {
		t.bulkheadWait.Record(ctx, e.Duration.Seconds(), t.bulkheads.series(e.ID).wait[outcome]...)
	}
	if x, ok := t.exit(ctx, eventBulkheadWaited, trace.SpanFromContext(ctx), log.SeverityDebug); ok {
		t.emit(ctx, eventBulkheadWaited, x, time.Now(),
			keyBulkheadName.String(exportable(e.Name)),
			keyBulkheadOutcome.String(outcome.String()),
			keyBulkheadWait.Float64(e.Duration.Seconds()))
	}
}

// bulkheadRejected tells of a rejection. Metrics read it off the bulkhead.
func (t *Telemetry) bulkheadRejected(ctx context.Context, e events.BulkheadRejected) {
	if t.closed.Load() {
		return
	}
	if x, ok := t.exit(ctx, eventBulkheadRejected, trace.SpanFromContext(ctx), log.SeverityDebug); ok {
		t.emit(ctx, eventBulkheadRejected, x, time.Now(),
			keyBulkheadName.String(exportable(e.Name)),
			keyBulkheadReason.String(string(e.Reason)))
	}
}

// bulkheads knows the bulkheads there are, by name, and what each name's series add up
// to. What is observed at collection ends with the last bulkhead of a name; the name
// keeps its place and its sums, so that its counters go on where they stopped when it is
// born again.
type bulkheads struct {
	limit    int
	record   func(name string) *bulkheadSeries
	overflow *bulkheadPlace

	// living is where each living bulkhead is, by ID. The map is never changed, only
	// replaced, under mu.
	living atomic.Pointer[map[uint64]*bulkheadPlace]

	mu     sync.Mutex // taken by births, ends and collections, never by a call
	places map[string]*bulkheadPlace
	closed bool
}

// bulkheadPlace is where bulkheads of one name add up.
type bulkheadPlace struct {
	series  *bulkheadSeries
	living  map[uint64]events.BulkheadCreated
	retired [heldCount]uint64
}

func newBulkheads(limit int, record func(string) *bulkheadSeries) *bulkheads {
	b := &bulkheads{limit: limit, record: record, places: make(map[string]*bulkheadPlace)}
	b.overflow = &bulkheadPlace{series: record(other), living: make(map[uint64]events.BulkheadCreated)}
	b.living.Store(&map[uint64]*bulkheadPlace{})
	return b
}

// series returns what calls of a bulkhead record with.
func (b *bulkheads) series(id uint64) *bulkheadSeries {
	if p := (*b.living.Load())[id]; p != nil {
		return p.series
	}
	return b.overflow.series // it is retired, or its birth was not heard of
}

// born adds a bulkhead and tells whether its series are its name's own. One that is known
// already, because the sink was joined to itself, is not added again.
func (b *bulkheads) born(e events.BulkheadCreated) (own, added bool) {
	name := exportable(e.Name)
	b.mu.Lock()
	defer b.mu.Unlock()
	if known := *b.living.Load(); known[e.ID] != nil || b.closed || e.Snapshot == nil {
		return false, false
	}
	p := b.places[name]
	switch {
	case p != nil:
	case name == other || len(b.places) == b.limit:
		p = b.overflow
	default:
		p = &bulkheadPlace{series: b.record(name), living: make(map[uint64]events.BulkheadCreated)}
		b.places[name] = p
	}
	p.living[e.ID] = e
	b.change(func(living map[uint64]*bulkheadPlace) { living[e.ID] = p })
	return p.series.name == name, true
}

// change replaces living by a changed copy. It requires b.mu.
func (b *bulkheads) change(f func(map[uint64]*bulkheadPlace)) {
	next := maps.Clone(*b.living.Load())
	f(next)
	b.living.Store(&next)
}

// end takes a bulkhead out of its name's series and keeps what it counted.
func (b *bulkheads) end(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := (*b.living.Load())[id]
	if p == nil {
		return
	}
	add(&p.retired, p.living[id].Snapshot())
	delete(p.living, id)
	b.change(func(living map[uint64]*bulkheadPlace) { delete(living, id) })
}

func add(sums *[heldCount]uint64, s events.BulkheadSnapshot) {
	sums[heldAdmitted] += s.Admitted
	sums[heldRejected] += s.Rejected
	sums[heldCanceled] += s.Canceled
}

// bulkheadObservation is what there is to observe of a name.
type bulkheadObservation struct {
	series                  *bulkheadSeries
	inFlight, queued, limit int64
	calls                   [heldCount]uint64
}

// observations returns what there is to observe of each name with a living bulkhead.
// Snapshots are taken under b.mu, so that one that is retired meanwhile is counted once.
func (b *bulkheads) observations() []bulkheadObservation {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []bulkheadObservation
	observe := func(p *bulkheadPlace) {
		if len(p.living) == 0 {
			return
		}
		o := bulkheadObservation{series: p.series, calls: p.retired}
		for _, e := range p.living {
			s := e.Snapshot()
			o.inFlight += int64(s.InFlight)
			o.queued += int64(s.Queued)
			o.limit += int64(e.MaxConcurrent)
			add(&o.calls, s)
		}
		all = append(all, o)
	}
	for _, p := range b.places {
		observe(p)
	}
	observe(b.overflow)
	return all
}

// close forgets all bulkheads and takes no more.
func (b *bulkheads) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	clear(b.places)
	clear(b.overflow.living)
	b.living.Store(&map[uint64]*bulkheadPlace{})
}

// observeBulkheads reports every bulkhead as it is now. See observe.
func (t *Telemetry) observeBulkheads(o metric.Observer) {
	for _, b := range t.bulkheads.observations() {
		s := b.series
		o.ObserveInt64(t.bulkheadInFlight, b.inFlight, s.plain...)
		o.ObserveInt64(t.bulkheadQueued, b.queued, s.plain...)
		o.ObserveInt64(t.bulkheadLimit, b.limit, s.plain...)
		for i, n := range b.calls {
			o.ObserveInt64(t.bulkheadCalls, int64(n), s.calls[i]...)
		}
	}
}
