package resilience

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// BulkheadConfig says how many calls may run at once and how many may wait. The zero
// value of a field means its default. A Bulkhead keeps a copy.
type BulkheadConfig struct {
	// Name says which bulkhead it is in errors, events and telemetry. Empty means
	// "default". Bulkheads that share a name are told apart by [events.Header.ID] and
	// summed on dashboards.
	Name string

	// MaxConcurrent is how many calls may run at once. Zero means 10.
	MaxConcurrent int

	// MaxQueue is how many calls may wait for a slot; those that come when so many
	// wait are rejected. Zero means that none waits.
	MaxQueue int

	// MaxWait is how long a call waits, at most. Zero means until its context ends. It
	// needs MaxQueue.
	MaxWait time.Duration

	// Events receives everything the bulkhead has to say. The zero Sink receives
	// nothing and costs next to nothing.
	Events events.Sink
}

func (c *BulkheadConfig) withDefaults() BulkheadConfig {
	var d BulkheadConfig
	if c != nil {
		d = *c
	}
	setDefault(&d.Name, "default")
	setDefault(&d.MaxConcurrent, 10)
	return d
}

// Validate reports the first field whose value can never work, as a [*ConfigError],
// or nil. A nil configuration is valid.
func (c *BulkheadConfig) Validate() error {
	d := c.withDefaults()
	var v validation
	v.count("MaxConcurrent", d.MaxConcurrent, maxCalls)
	if d.MaxQueue < 0 {
		v.refuse("MaxQueue", d.MaxQueue, "at least 1, or 0 for no queue")
	}
	v.count("MaxQueue", d.MaxQueue, maxCalls)
	if d.MaxWait < 0 {
		v.refuse("MaxWait", d.MaxWait, "a positive duration, or 0 to wait as long as the context lives")
	}
	v.duration("MaxWait", d.MaxWait)
	if d.MaxWait > 0 && d.MaxQueue == 0 {
		v.refuse("MaxQueue", d.MaxQueue, "at least 1 when MaxWait is set")
	}
	return v.error("BulkheadConfig")
}

// Bulkhead is a [Policy] that lets a bounded number of calls run at once, so that a
// slow dependency cannot take all of a process's goroutines, memory and connections.
// Calls beyond that wait in a bounded queue, first come first served, or are rejected
// with a [*BulkheadFullError].
//
// All methods may be called concurrently. A Bulkhead has no goroutine.
//
// How it works: one atomic word holds the number of calls that run and, above it, the
// number that wait. While nobody waits, a call adds and subtracts one. Who finds all
// slots taken, or others waiting, takes mu; and as long as anybody waits all slots are
// taken, since a slot that comes back is handed to the first in the queue without ever
// being free. So nobody overtakes the queue, and no slot is lost or made.
type Bulkhead struct {
	name     string
	id       uint64
	sink     events.Sink
	slots    uint64 // MaxConcurrent
	maxQueue uint64
	maxWait  time.Duration

	// What rejected calls return. They are never changed.
	full, tooLong *BulkheadFullError

	word     atomic.Uint64 // calls that run, and oneWaiting times those that wait
	admitted atomic.Uint64 // beside word, whose cache line its calls have anyway
	rejected atomic.Uint64
	canceled atomic.Uint64
	retired  atomic.Bool

	mu    sync.Mutex
	queue waiters // as many as word says while mu is free
}

// oneWaiting is what a call that waits adds to Bulkhead.word, and oneLess what it adds
// when it does not any more. Both limits are below it.
const (
	oneWaiting = uint64(1) << 32
	oneLess    = ^(oneWaiting - 1)
)

// NewBulkhead returns a Bulkhead with a copy of config, nil for all defaults. It panics
// with a [*ConfigError] if the configuration is invalid.
func NewBulkhead(config *BulkheadConfig) *Bulkhead {
	if err := config.Validate(); err != nil {
		panic(err)
	}
	c := config.withDefaults()
	b := &Bulkhead{
		name: c.Name, id: lastID.Add(1), sink: c.Events,
		slots: uint64(c.MaxConcurrent), maxQueue: uint64(c.MaxQueue), maxWait: c.MaxWait,
		full:    &BulkheadFullError{Name: c.Name, MaxConcurrent: c.MaxConcurrent, MaxQueue: c.MaxQueue},
		tooLong: &BulkheadFullError{Name: c.Name, MaxConcurrent: c.MaxConcurrent, MaxQueue: c.MaxQueue, Waited: c.MaxWait},
	}
	if b.sink.BulkheadCreated != nil {
		b.sink.BulkheadCreated(context.Background(), events.BulkheadCreated{
			Header: b.header(), Time: time.Now(),
			MaxConcurrent: c.MaxConcurrent, MaxQueue: c.MaxQueue, Snapshot: b.Snapshot,
		})
	}
	return b
}

// Name returns the bulkhead's name.
func (b *Bulkhead) Name() string { return b.name }

// ID returns the number that the bulkhead's events carry as [events.Header.ID].
func (b *Bulkhead) ID() uint64 { return b.id }

func (b *Bulkhead) header() events.Header { return events.Header{Name: b.name, ID: b.id} }

// Snapshot returns the bulkhead as it is now. It takes no lock. Each number is true by
// itself; they are read one after the other.
func (b *Bulkhead) Snapshot() events.BulkheadSnapshot {
	w := b.word.Load()
	return events.BulkheadSnapshot{
		InFlight: int(w % oneWaiting),
		Queued:   int(w / oneWaiting),
		Admitted: b.admitted.Load(),
		Rejected: b.rejected.Load(),
		Canceled: b.canceled.Load(),
	}
}

// Run runs fn when there is a slot for it, and returns fn's error unchanged. It returns
// a [*BulkheadFullError], which is [ErrBulkheadFull], if there is no place in the queue
// or no slot within MaxWait, and ctx's error if that ends first, also if it is done
// already. Fn is not run then.
//
// Fn runs on the caller's goroutine. However it ends, its slot comes back.
func (b *Bulkhead) Run(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("resilience: Run of a nil function")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !b.take() {
		if err := b.enter(ctx); err != nil {
			return err
		}
	}
	b.admitted.Add(1)
	defer b.release()
	return fn(ctx)
}

// take takes a slot that is free, unless others wait for one.
func (b *Bulkhead) take() bool {
	for {
		w := b.word.Load()
		if w >= b.slots { // also if anybody waits, who counts as so many more
			return false
		}
		if b.word.CompareAndSwap(w, w+1) {
			return true
		}
	}
}

// release gives a slot back, and to the first that waits if any do. It gives before it
// looks: one addition is half the price of reading and comparing where calls contend.
func (b *Bulkhead) release() {
	if b.word.Add(^uint64(0)) < oneWaiting {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// Who waited may have left, others may have taken the slot and more have queued up
	// since. While anybody waits only holders of mu take slots, so one that is free now
	// is free still when it is handed on; if none is, whoever has one comes by here.
	if b.word.Load()%oneWaiting >= b.slots {
		return
	}
	if first := b.queue.pop(); first != nil {
		b.word.Add(oneLess + 1)
		first.granted = true
		close(first.slot)
	}
}

// enter is what a call does that finds no slot free. Without an error it has one.
func (b *Bulkhead) enter(ctx context.Context) error {
	w, verdict := b.enqueue()
	switch verdict {
	case slotFree:
		return nil
	case queueFull:
		b.reject(ctx, events.ReasonQueueFull)
		return b.full
	}
	return b.wait(ctx, w)
}

// What enqueue came to.
const (
	queued = iota
	slotFree
	queueFull
)

// enqueue puts a call into the queue, unless that is full or a slot is free after all.
func (b *Bulkhead) enqueue() (*waiter, int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch w := b.word.Load(); {
		case w < b.slots:
			if b.word.CompareAndSwap(w, w+1) {
				return nil, slotFree
			}
		case w/oneWaiting >= b.maxQueue:
			return nil, queueFull
		case b.word.CompareAndSwap(w, w+oneWaiting): // while all slots were taken
			q := &waiter{slot: make(chan struct{})}
			b.queue.push(q)
			return q, queued
		}
	}
}

// wait waits in the queue as w, and tells of it.
func (b *Bulkhead) wait(ctx context.Context, w *waiter) error {
	told := b.sink.BulkheadWaited != nil && b.listens(ctx)
	var began time.Time
	if told {
		began = time.Now()
	}
	outcome := b.await(ctx, w)
	kept := false
	defer func() {
		if outcome == events.OutcomeSuccess && !kept { // a sink panicked
			b.release()
		}
	}()
	var err error
	switch outcome {
	case events.OutcomeRejected:
		err = b.tooLong
	case events.OutcomeIgnored:
		b.canceled.Add(1)
		err = ctx.Err()
	}
	if told {
		b.sink.BulkheadWaited(ctx, events.BulkheadWaited{Header: b.header(), Duration: time.Since(began), Outcome: outcome})
	}
	if outcome == events.OutcomeRejected {
		b.reject(ctx, events.ReasonMaxWait)
	}
	kept = true
	return err
}

// await waits until w has a slot (success), has waited MaxWait (rejected) or ctx is done
// (ignored). Only after success is there a slot to give back.
func (b *Bulkhead) await(ctx context.Context, w *waiter) events.Outcome {
	var tooLong <-chan time.Time
	if b.maxWait > 0 {
		timer := time.NewTimer(b.maxWait)
		defer timer.Stop()
		tooLong = timer.C
	}
	select {
	case <-w.slot:
	case <-tooLong:
		if b.leave(w) {
			return events.OutcomeRejected
		}
	case <-ctx.Done():
		if b.leave(w) {
			return events.OutcomeIgnored
		}
	}
	if ctx.Err() != nil { // it got a slot and has no use for it
		b.release()
		return events.OutcomeIgnored
	}
	return events.OutcomeSuccess
}

// leave takes w out of the queue, and reports false if it has been given a slot.
func (b *Bulkhead) leave(w *waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.granted {
		return false
	}
	b.queue.remove(w)
	b.word.Add(oneLess)
	return true
}

// reject counts and tells of a call that is not run.
func (b *Bulkhead) reject(ctx context.Context, reason events.Reason) {
	b.rejected.Add(1)
	if b.sink.BulkheadRejected != nil && b.listens(ctx) {
		b.sink.BulkheadRejected(ctx, events.BulkheadRejected{Header: b.header(), Reason: reason})
	}
}

func (b *Bulkhead) listens(ctx context.Context) bool {
	return listens(ctx, &b.sink) && !b.retired.Load()
}

// Close retires the bulkhead: sinks get BulkheadRetired as its last event, so that its
// series stop. Who still holds it is still held back, silently. Closing again does
// nothing.
func (b *Bulkhead) Close() {
	if !b.retired.Swap(true) && b.sink.BulkheadRetired != nil {
		b.sink.BulkheadRetired(context.Background(), events.BulkheadRetired{Header: b.header(), Time: time.Now()})
	}
}

// waiter is a call in the queue. The Bulkhead's mu guards all but slot.
type waiter struct {
	slot       chan struct{} // closed when it gets a slot
	granted    bool          // it has
	prev, next *waiter
}

// waiters is a list of calls, the one that has waited longest first.
type waiters struct{ first, last *waiter }

func (q *waiters) push(w *waiter) {
	if w.prev = q.last; w.prev == nil {
		q.first = w
	} else {
		w.prev.next = w
	}
	q.last = w
}

// pop takes the first one out, nil if there is none.
func (q *waiters) pop() *waiter {
	w := q.first
	if w != nil {
		q.remove(w)
	}
	return w
}

func (q *waiters) remove(w *waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
}

// ErrBulkheadFull matches every call that a bulkhead rejected. The details are in
// [*BulkheadFullError].
var ErrBulkheadFull = newSentinel("resilience: bulkhead is full")

// BulkheadFullError says that a [Bulkhead] did not run a call. All rejections of one
// kind share one value: do not change it.
//
// It says nothing about the dependency, so a breaker that meets it ignores it, as if it
// were marked with [Ignore], and a retry stops unless its RetryIf says otherwise: who
// is to wait for a slot should do so in the queue, where it is their turn some time.
type BulkheadFullError struct {
	Name          string        // the bulkhead's name
	MaxConcurrent int           // so many calls run
	MaxQueue      int           // and so many may wait
	Waited        time.Duration // MaxWait if that passed; 0 if the queue was full
}

// Error names the bulkhead and says what there was no room for.
func (e *BulkheadFullError) Error() string {
	if e.Waited > 0 {
		return fmt.Sprintf("resilience: bulkhead %q had none of its %d slots free for %v", e.Name, e.MaxConcurrent, e.Waited)
	}
	return fmt.Sprintf("resilience: bulkhead %q is full: %d calls run and %d wait", e.Name, e.MaxConcurrent, e.MaxQueue)
}

// Is reports whether target is [ErrBulkheadFull].
func (e *BulkheadFullError) Is(target error) bool { return target == ErrBulkheadFull }

// ErrorType returns "bulkhead_full". See [events.ErrorType].
func (e *BulkheadFullError) ErrorType() string { return "bulkhead_full" }
