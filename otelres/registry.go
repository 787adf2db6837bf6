package otelres

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// registry knows the breakers there are, by name, and what each name's series
// add up to.
//
// Two kinds of series have to be bounded. What is observed at collection ends
// with the breaker, so a name has a place there while one of its breakers lives.
// What is recorded by synchronous instruments stays in the SDK for good, so a
// name that was given a place there keeps it. Both have limit places; who finds
// none goes by the overflow's name.
//
// A name that keeps its place keeps the sums of its retired breakers too, so that
// its counters go on where they stopped when it is born again.
type registry struct {
	limit    int
	observe  func(name string) *observedSeries
	record   func(name string) *recordedSeries
	overflow *place

	// recorded is what calls look up: the series of the names that have their
	// own, at most limit. The map is never changed, only replaced, under mu.
	recorded atomic.Pointer[map[string]*recordedSeries]

	// latest is the same for the breakers born last, by the end of their ID. Looking a
	// name up takes 12 ns more, and all else that a call costs beyond its instrument 6.
	latest [64]atomic.Pointer[identified]

	// mu is taken by births, retirements and collections, never by a call. No
	// instrument is used while it is held: the SDK collects under a lock of its own.
	mu       sync.Mutex
	places   map[string]*place // by name; at most 2·limit
	breakers map[uint64]*place // where each living breaker is, by ID
	living   int               // places with a living breaker
	closed   bool

	overflowed atomic.Bool // something is recorded under the overflow's name
}

// identified is what a breaker records with. It is never changed, and stays true after
// the breaker's end: an ID is not used again, and a series does not lose its name.
type identified struct {
	id     uint64
	series *recordedSeries
}

// place is where breakers of one name add up.
type place struct {
	observed *observedSeries
	recorded *recordedSeries // the overflow's if there was no room
	living   map[uint64]*breaker
	retired  totals
}

type breaker struct {
	snapshot  func() events.Snapshot
	threshold float64
	shadowed  time.Time // when shadow mode ended; until then nobody was turned away
}

// totals are what only grows.
type totals struct {
	timeIn [events.StatusCount]time.Duration
	calls  [events.OutcomeCount]uint64

	wouldReject uint64
}

func (t *totals) add(s *events.Snapshot) {
	for i, d := range s.TimeIn {
		t.timeIn[i] += d
	}
	t.calls[events.OutcomeSuccess] += s.Totals.Success
	t.calls[events.OutcomeFailure] += s.Totals.Failure
	t.calls[events.OutcomeIgnored] += s.Totals.Ignored
	t.calls[events.OutcomeRejected] += s.Totals.Rejected
	t.wouldReject += s.Totals.WouldReject
}

// observation is one name at the time of a collection.
type observation struct {
	series *observedSeries
	totals
	status     [events.StatusCount]int64
	lastClosed time.Time
	window     events.Counts // of those that judge by it
	judged     bool
	threshold  float64
	shadow     bool // one of them is in shadow mode
	shadowed   bool // or was
}

func newRegistry(limit int, observe func(string) *observedSeries, record func(string) *recordedSeries) *registry {
	r := &registry{
		limit:    limit,
		observe:  observe,
		record:   record,
		overflow: &place{observed: observe(other), recorded: record(other), living: make(map[uint64]*breaker)},
		breakers: make(map[uint64]*place),
	}
	// A breaker that is named like the overflow is not beyond any limit.
	r.places = map[string]*place{other: r.overflow}
	r.recorded.Store(&map[string]*recordedSeries{})
	return r
}

func (r *registry) slot(id uint64) *atomic.Pointer[identified] {
	return &r.latest[id%uint64(len(r.latest))]
}

// seriesOf returns what calls of a breaker record with.
func (r *registry) seriesOf(h events.Header) *recordedSeries {
	if b := r.slot(h.ID).Load(); b != nil && b.id == h.ID {
		return b.series
	}
	return r.series(h.Name)
}

// series returns what calls of a breaker of this name record with.
func (r *registry) series(name string) *recordedSeries {
	own := *r.recorded.Load()
	if s := own[name]; s != nil {
		return s
	}
	if s := own[exportable(name)]; s != nil {
		return s
	}
	return r.overflow.recorded
}

// born adds a breaker and tells whether all of its series are its name's own. A
// breaker that is known already, because the sink was joined to itself, is not
// added again.
func (r *registry) born(e events.BreakerCreated) (own, added bool) {
	name := exportable(e.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.breakers[e.ID]; known || r.closed || e.Snapshot == nil {
		return false, false
	}
	p := r.placeFor(name)
	if len(p.living) == 0 && p != r.overflow {
		r.living++
	}
	p.living[e.ID] = &breaker{snapshot: e.Snapshot, threshold: e.Thresholds.ErrorThreshold}
	r.breakers[e.ID] = p
	r.slot(e.ID).Store(&identified{id: e.ID, series: p.recorded})
	if p.recorded == r.overflow.recorded {
		r.overflowed.Store(true)
	}
	return p.recorded.name == name, true
}

// reconfigured takes over a breaker's new threshold, and the end of its shadow mode.
func (r *registry) reconfigured(e events.BreakerReconfigured) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, known := r.breakers[e.ID]
	if !known {
		return
	}
	b := p.living[e.ID]
	b.threshold = e.New.ErrorThreshold
	if e.Old.Shadow && !e.New.Shadow {
		b.shadowed = e.Time
	}
}

// placeFor returns where a new breaker of this name goes. It requires r.mu.
func (r *registry) placeFor(name string) *place {
	p := r.places[name]
	switch {
	case p == r.overflow, p != nil && len(p.living) > 0:
		return p
	case r.living == r.limit:
		return r.overflow
	case p != nil: // all its breakers are retired, and it kept its sums
		return p
	}
	p = &place{observed: r.observe(name), recorded: r.overflow.recorded, living: make(map[uint64]*breaker)}
	if own := *r.recorded.Load(); len(own) < r.limit {
		p.recorded = r.record(name)
		next := maps.Clone(own)
		next[name] = p.recorded
		r.recorded.Store(&next)
	}
	r.places[name] = p
	return p
}

// retired takes a breaker out of its name's series and adds what it did to the
// name's sums, at the same moment as far as collections can tell.
func (r *registry) retired(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, known := r.breakers[id]
	if !known {
		return
	}
	last := p.living[id].snapshot()
	p.retired.add(&last)
	delete(p.living, id)
	delete(r.breakers, id)
	if len(p.living) > 0 || p == r.overflow {
		return
	}
	r.living--
	if p.recorded == r.overflow.recorded {
		delete(r.places, p.observed.name)
	}
}

// observations returns what there is to observe of each name with a living
// breaker. Snapshots are taken under r.mu, so that a breaker retired meanwhile is
// counted once, and no sum is smaller than in an earlier collection.
func (r *registry) observations() []observation {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]observation, 0, r.living+1)
	for _, p := range r.places {
		if len(p.living) == 0 {
			continue
		}
		o := observation{series: p.observed, totals: p.retired, threshold: 1}
		for _, b := range p.living {
			o.add(b)
		}
		o.shadowed = o.shadow || o.timeIn[events.StatusShadowOpen]+o.timeIn[events.StatusShadowHalfOpen] > 0
		all = append(all, o)
	}
	return all
}

func (o *observation) add(b *breaker) {
	s := b.snapshot()
	o.totals.add(&s)
	o.status[s.Status()]++
	lastClosed := s.LastClosed
	if lastClosed.Before(b.shadowed) && !s.Forced {
		lastClosed = b.shadowed
	}
	if status := s.Status(); status != events.StatusOf(s.State, s.Forced) {
		lastClosed = s.Time // in shadow mode nobody is turned away
	}
	if o.lastClosed.IsZero() || lastClosed.Before(o.lastClosed) {
		o.lastClosed = lastClosed
	}
	if s.Judged {
		o.judged = true
		o.window.Success += s.Window.Success
		o.window.Failure += s.Window.Failure
	}
	o.threshold = min(o.threshold, b.threshold)
	o.shadow = o.shadow || s.Shadow
}

// close forgets all breakers and takes no more.
func (r *registry) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	clear(r.places)
	clear(r.breakers)
	r.living = 0
}
