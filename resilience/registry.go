package resilience

import (
	"cmp"
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// OverflowKey takes the place of the key in the name of a [Registry]'s overflow breaker.
const OverflowKey = "_OVERFLOW"

// RegistryConfig says what breakers a [Registry] makes and how many. The zero value of
// a field means its default. A Registry keeps a copy.
type RegistryConfig struct {
	// Template is the configuration of every breaker, but for its Name. Nil means
	// all defaults.
	Template *CircuitBreakerConfig

	// Max is the largest number of breakers, the overflow breaker not counted, at
	// most 1 048 576. Zero means 100, the number of names that otelres by default
	// gives series of their own.
	Max int

	// Name returns the name of the breaker for a key, [OverflowKey] for the overflow
	// breaker. Nil means the key, after the template's name and a slash if it has
	// one; of an empty key it is the template's name alone, "default" without. It
	// may be called from many goroutines at once, and its panic is the caller's of
	// Get.
	Name func(key string) string
}

const (
	defaultMax = 100
	largestMax = 1 << 20
)

// Validate reports the first field whose value can never work, as a [*ConfigError],
// or nil. A nil configuration is valid.
func (c *RegistryConfig) Validate() error {
	if c == nil {
		return nil
	}
	if err := c.Template.Validate(); err != nil {
		return err
	}
	var v validation
	v.count("Max", c.Max, largestMax)
	return v.error("RegistryConfig")
}

// Registry holds a circuit breaker for each key: a host, a tenant, a shard. They are
// made from one template when they are asked for, and there are at most Max of them.
// When a new one needs room, the one leaves that was used least recently of those
// that are closed, not forced and have no call under way. It is closed, so that its
// series end, and its key begins afresh when it is asked for again. One that is open
// or half-open stays, since leaving would admit every call to what is known to be
// broken.
//
// If none may leave, new keys share the overflow breaker, which judges all their calls
// together; [Registry.Stats] counts how often that happens. For the 10 ms after a search
// for room that was in vain there is no other.
//
// Do not keep what Get returns: ask again for every call. A breaker that was kept, or
// has not been called by the time it has to make room, still protects, but silently and
// apart from its successor.
//
// All methods may be called concurrently. They may be called from sinks too, with one
// exception: a sink that is being told that a breaker was created or retired must not Get
// one that may not be there. To be made it may need the key, or the overflow breaker, that
// waits for this sink, or for another one that waits for this one.
//
// How it works: keys are found in a hash table of fixed size. Writers hold mu; readers
// take no lock: they follow atomic pointers, and an entry is whole before a pointer
// leads to it. One that was taken out still leads on to those behind it. What was used
// when is told by a clock that ticks when a breaker is made, so that a Get of a known
// key writes at most once a tick, and a busy one reads only.
type Registry struct {
	// Written by the constructor only.
	max   int
	name  func(string) string
	seed  maphash.Seed
	shift uint // of a hash, to get an index into table
	table []atomic.Pointer[entry]
	base  time.Time

	prefix string // the template's name

	tick     atomic.Uint64 // advances under mu
	crowded  atomic.Int64  // until when since base no room is looked for
	overflow atomic.Pointer[entry]
	evicted  atomic.Uint64
	spilled  atomic.Uint64

	// Guarded by mu.
	mu     sync.Mutex
	births map[place]chan struct{} // breakers being made or closed; closed when that is over
	count  int                     // entries in the table and on their way there
	queue  []candidate             // who leaves first, as of the last sorting
	closed bool

	// How breakers are made: for whom to tell, and by which rules, which all share. Also
	// guarded by mu.
	template CircuitBreakerConfig
	rules    *rules
}

// place is what a breaker is made for: a key, or the overflow.
type place struct {
	key      string
	overflow bool
}

// entry is a breaker in the table.
type entry struct {
	key     string
	breaker *CircuitBreaker
	born    uint64                // the tick, so no two are alike
	used    atomic.Uint64         // the tick at its latest Get
	leaving atomic.Bool           // it is being, or was, taken out
	next    atomic.Pointer[entry] // in the same slot of the table
}

// candidate is an entry as it was when the queue was sorted.
type candidate struct {
	*entry
	seen uint64    // its used
	busy time.Time // the end of the bucket it last wrote to
}

// NewRegistry returns a registry without breakers. A nil config means all defaults. It
// panics with a [*ConfigError] if the configuration is invalid.
func NewRegistry(config *RegistryConfig) *Registry {
	if err := config.Validate(); err != nil {
		panic(err)
	}
	var c RegistryConfig
	if config != nil {
		c = *config
	}
	setDefault(&c.Max, defaultMax)
	r := &Registry{
		max:    c.Max,
		name:   c.Name,
		seed:   maphash.MakeSeed(),
		base:   time.Now(),
		births: make(map[place]chan struct{}),
	}
	if c.Template != nil {
		r.template = *c.Template
	}
	filled := r.template.withDefaults()
	r.rules = newRules(&filled)
	r.prefix = r.template.Name
	if r.name == nil {
		r.name = nameAfter(r.prefix)
	}
	width := uint(bits.Len(uint(c.Max))) // so that slots outnumber entries
	r.table = make([]atomic.Pointer[entry], 1<<width)
	r.shift = 64 - width
	return r
}

// nameAfter returns the default of RegistryConfig.Name.
func nameAfter(prefix string) func(string) string {
	return func(key string) string {
		switch {
		case prefix == "":
			return key
		case key == "":
			return prefix
		default:
			return prefix + "/" + key
		}
	}
}

// Get returns the breaker for key. It is made if it is not there, and in that case
// what Name and sinks do happens on the caller's goroutine. The empty key is a key
// like any other.
func (r *Registry) Get(key string) *CircuitBreaker {
	slot := r.slot(key)
	e := lookup(slot, key)
	if e != nil && e.touch(r.tick.Load()) {
		return e.breaker
	}
	if e == nil && r.isCrowded() {
		return r.spill()
	}
	return r.obtain(slot, key)
}

func (r *Registry) slot(key string) *atomic.Pointer[entry] {
	return &r.table[maphash.String(r.seed, key)>>r.shift]
}

func lookup(slot *atomic.Pointer[entry], key string) *entry {
	e := slot.Load()
	for e != nil && e.key != key {
		e = e.next.Load()
	}
	return e
}

// touch notes that e is used and reports whether it may be handed out.
//
// An entry that leaves is marked first, and then its used is read once more. So either
// that reading sees what touch wrote, and e stays; or touch sees the mark, and its
// caller takes mu. A Get that was overtaken by a tick may write an older one: then e
// counts as used when that Get began.
func (e *entry) touch(tick uint64) bool {
	if e.used.Load() != tick {
		e.used.Store(tick)
	}
	return e.usable()
}

// usable reports whether e is there to stay. It is not, too, if its breaker was closed
// by whoever got it.
func (e *entry) usable() bool { return !e.leaving.Load() && !e.breaker.retired.Load() }

// crowdedFor is how long after a vain search for room there is no other, so that new
// keys during an outage of everything do not all search.
const crowdedFor = 10 * time.Millisecond

func (r *Registry) isCrowded() bool {
	until := r.crowded.Load()
	return until > 0 && int64(time.Since(r.base)) < until
}

// obtain is Get for a key that is not simply there. It goes around once for each birth
// of that key by somebody else that it waits for, and once for its own.
func (r *Registry) obtain(slot *atomic.Pointer[entry], key string) *CircuitBreaker {
	for {
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return r.spill()
		}
		e := lookup(slot, key)
		if e != nil && e.touch(r.tick.Load()) {
			r.mu.Unlock()
			return e.breaker
		}
		if e != nil { // closed by who got it
			r.remove(e)
		}
		p := place{key: key}
		if others := r.births[p]; others != nil {
			r.mu.Unlock()
			<-others
			continue
		}
		var leaves *entry
		if r.count >= r.max {
			if r.isCrowded() { // who searched in vain while this one waited for mu
				r.mu.Unlock()
				return r.spill()
			}
			if leaves = r.evict(); leaves == nil {
				r.crowded.Store(int64(time.Since(r.base) + crowdedFor))
				r.mu.Unlock()
				return r.spill()
			}
		}
		r.count++
		born := r.expect(p)
		var gone chan struct{}
		if leaves != nil {
			gone = r.expect(place{key: leaves.key}) // who asks for that one again waits until it is closed
		}
		r.mu.Unlock()
		return r.bear(p, born, leaves, gone)
	}
}

// spill returns the overflow breaker and counts that it was needed.
func (r *Registry) spill() *CircuitBreaker {
	r.spilled.Add(1)
	for {
		if e := r.overflow.Load(); e != nil && e.usable() {
			return e.breaker
		}
		p := place{overflow: true}
		r.mu.Lock()
		e, others := r.overflow.Load(), r.births[p]
		switch {
		case e != nil && (r.closed || e.usable()):
			r.mu.Unlock()
			return e.breaker
		case others != nil:
			r.mu.Unlock()
			<-others
		default:
			born := r.expect(p)
			r.mu.Unlock()
			return r.bear(p, born, nil, nil)
		}
	}
}

// expect notes that the breaker for p is being made, or closed. It requires mu.
func (r *Registry) expect(p place) (born chan struct{}) {
	born = make(chan struct{})
	r.births[p] = born
	return born
}

// bear closes who leaves, after which gone is closed, makes the breaker for p and puts it into its place. Both run
// strangers' code, so it is called without mu, and what it does in the end is done also
// if that panics or ends the goroutine: who waits for p then tries for itself.
func (r *Registry) bear(p place, born chan struct{}, leaves *entry, gone chan struct{}) *CircuitBreaker {
	e := &entry{key: p.key}
	defer func() {
		closed := r.settle(p, e)
		close(born)
		if e.breaker == nil {
			return
		}
		r.adapt(e) // the registry may have been reconfigured meanwhile
		if closed {
			e.breaker.Close()
		}
	}()
	if leaves != nil {
		r.dismiss(leaves, gone)
	}
	r.mu.Lock()
	c, rules, closed := r.template, r.rules, r.closed
	r.mu.Unlock()
	if closed { // nobody is to hear of a breaker any more
		c.Events, c.Logger, c.Metrics = events.Sink{}, nil, nil
	}
	key := p.key
	if p.overflow {
		key = OverflowKey
	}
	c.Name = r.name(key)
	e.breaker = newBreaker(&c, rules, new(flights))
	return e.breaker
}

// dismiss closes the breaker of e, which was taken out, and lets those go on who wait for
// its place.
func (r *Registry) dismiss(e *entry, gone chan struct{}) {
	defer func() {
		r.mu.Lock()
		delete(r.births, place{key: e.key})
		r.mu.Unlock()
		close(gone)
	}()
	e.breaker.Close()
}

// settle puts e into the place p that was kept for it, or gives the place up if e has
// no breaker. It reports whether the registry was closed meanwhile.
func (r *Registry) settle(p place, e *entry) (closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.births, p)
	switch {
	case e.breaker == nil:
		if !p.overflow && !r.closed {
			r.count--
		}
	case p.overflow:
		r.overflow.Store(e)
	case !r.closed:
		e.born = r.tick.Add(1)
		e.used.Store(e.born)
		r.tick.Add(1) // what is used after this is younger
		slot := r.slot(p.key)
		e.next.Store(slot.Load()) // before anybody can find e
		slot.Store(e)
	}
	return r.closed
}

// remove takes e out of the table. A reader that stands on e goes on to what was
// behind it. It requires mu.
func (r *Registry) remove(e *entry) {
	e.leaving.Store(true)
	at := r.slot(e.key)
	for at.Load() != e {
		at = &at.Load().next
	}
	at.Store(e.next.Load())
	r.count--
}

// evict takes out the entry that is to make room, nil if none may. It requires mu.
func (r *Registry) evict() *entry {
	if e := r.pick(); e != nil {
		return e
	}
	r.sort()
	return r.pick()
}

// pick takes out the first of the queue that may leave. Who was used since the queue was
// sorted is younger than all that were not, and leaves the queue; who may not leave now
// keeps its turn. It requires mu.
func (r *Registry) pick() *entry {
	stay := 0 // so many, at the front, have been passed and keep their turn
	for i, c := range r.queue {
		if c.used.Load() != c.seen || c.leaving.Load() {
			continue
		}
		if c.mayLeave() {
			c.leaving.Store(true)
			if c.used.Load() == c.seen && c.mayLeave() { // see touch
				copy(r.queue[i+1-stay:], r.queue[:stay])
				clear(r.queue[:i+1-stay])
				r.queue = r.queue[i+1-stay:] // the rest is not touched, however many there are
				r.remove(c.entry)
				r.evicted.Add(1)
				return c.entry
			}
			c.leaving.Store(false)
		}
		r.queue[stay] = c
		stay++
	}
	clear(r.queue[stay:])
	r.queue = r.queue[:stay]
	return nil
}

func (e *entry) mayLeave() bool { return e.breaker.retired.Load() || e.breaker.idle() }

// sort brings the entries into the order in which they leave: by when they were used.
// Of those used in one tick, the one leaves first whose window was last written to the
// longest ago, as far as its buckets tell. The tick advances, so that each use
// from now on shows. It requires mu.
func (r *Registry) sort() {
	r.tick.Add(1)
	r.queue = r.queue[:0]
	for _, e := range r.entries() {
		r.queue = append(r.queue, candidate{entry: e, seen: e.used.Load(), busy: e.breaker.busyAt()})
	}
	slices.SortFunc(r.queue, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.seen, b.seen), a.busy.Compare(b.busy), cmp.Compare(a.born, b.born))
	})
}

// entries returns all entries of the table. It requires mu.
func (r *Registry) entries() []*entry {
	all := make([]*entry, 0, r.count)
	for i := range r.table {
		for e := r.table[i].Load(); e != nil; e = e.next.Load() {
			all = append(all, e)
		}
	}
	return all
}

// All returns the keys and breakers there are, in the order of the keys, the overflow
// breaker not among them. It shows the registry as it is when the iteration begins, and
// to be shown is not a use.
func (r *Registry) All() iter.Seq2[string, *CircuitBreaker] {
	return func(yield func(string, *CircuitBreaker) bool) {
		r.mu.Lock()
		all := r.entries()
		r.mu.Unlock()
		slices.SortFunc(all, func(a, b *entry) int { return cmp.Compare(a.key, b.key) })
		for _, e := range all {
			if !yield(e.key, e.breaker) {
				return
			}
		}
	}
}

// Len returns the number of breakers, the overflow breaker not counted; of one that is
// just being made it may be ahead.
func (r *Registry) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// Overflow returns the overflow breaker, nil if there was no need for it yet.
func (r *Registry) Overflow() *CircuitBreaker {
	if e := r.overflow.Load(); e != nil {
		return e.breaker
	}
	return nil
}

// Reconfigure makes template that of the breakers to come, and reconfigures those there
// are, the overflow breaker among them: see [CircuitBreaker.Reconfigure]. Its Name must
// be empty or that of the first template, and Events, Logger and Metrics must be unset.
func (r *Registry) Reconfigure(template *CircuitBreakerConfig) error {
	if err := template.validateChange(r.prefix); err != nil {
		return err
	}
	filled := template.withDefaults()
	rules := newRules(&filled)
	r.mu.Lock()
	r.rules = rules
	all := r.entries()
	if e := r.overflow.Load(); e != nil {
		all = append(all, e)
	}
	r.mu.Unlock()
	r.adaptAll(all)
	return nil
}

// adaptAll adapts the breakers of all, also those after one whose sink panics.
func (r *Registry) adaptAll(all []*entry) {
	if len(all) == 0 {
		return
	}
	defer r.adaptAll(all[1:])
	r.adapt(all[0])
}

// adapt sees to it that e's breaker has the registry's rules. It looks again after it
// changed them, so that of several that do so at once, with rules old and new, the last
// leaves it with those that the registry has in the end.
func (r *Registry) adapt(e *entry) {
	for {
		r.mu.Lock()
		rules := r.rules
		r.mu.Unlock()
		if e.breaker.rules.Load() == rules {
			return
		}
		e.breaker.reconfigure(rules)
	}
}

// RegistryStats is a registry at one moment.
type RegistryStats struct {
	Len        int    // breakers, as Len counts them
	Max        int    // of which there can be
	Evicted    uint64 // breakers that had to make room
	Overflowed uint64 // times that Get returned the overflow breaker
}

// Stats returns the registry as it is now.
func (r *Registry) Stats() RegistryStats {
	return RegistryStats{Len: r.Len(), Max: r.max, Evicted: r.evicted.Load(), Overflowed: r.spilled.Load()}
}

// Close closes all breakers. Get afterwards returns the overflow breaker, for all keys
// and silent. Closing again does nothing.
func (r *Registry) Close() {
	r.mu.Lock()
	r.closed = true
	all := r.entries()
	for i := range r.table {
		r.table[i].Store(nil)
	}
	r.count, r.queue = 0, nil
	overflow := r.overflow.Load()
	r.mu.Unlock()
	if overflow != nil {
		all = append(all, overflow)
	}
	closeAll(all)
}

// closeAll closes the breakers of all, also those after one whose sink panics.
func closeAll(all []*entry) {
	if len(all) == 0 {
		return
	}
	defer closeAll(all[1:])
	all[0].breaker.Close()
}
