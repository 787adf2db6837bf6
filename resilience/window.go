package resilience

import (
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// SlidingWindow counts successes and failures of the recent past. It is made of
// buckets: a record stays until the bucket it fell into is as old as the window,
// so what it counts reaches back at least WindowSize less one bucket and at most
// WindowSize. [CircuitBreaker] judges by one; it is exported for who wants to
// judge something else the same way.
//
// Time is monotonic: a wall clock that is set back revives nothing, and a time
// earlier than the newest bucket's start counts in that bucket.
//
// All methods may be called concurrently. Recording takes no lock except when it
// is the first to reach a new bucket.
//
// How it works: the counters only ever grow. What a bucket holds is not stored;
// stored is where the counters stood when each bucket began, and the window's
// counts are the difference between now and the start of the oldest bucket. So a
// record is one atomic addition that no rotation can lose, and a record that races
// with a rotation counts in the newer bucket, never in one that expires earlier.
// What a breaker's window does beyond that when it is busy is in hotwindow.go.
type SlidingWindow struct {
	// marks is replaced, never changed, and only by the holder of mu. Whoever loads
	// it sees a boundary and the counts that belong to it, without a lock.
	marks atomic.Pointer[marks]

	// stripes takes the successes of a window that several processors write to at
	// once; nil until then.
	stripes atomic.Pointer[stripes]

	span time.Duration // of one bucket; guarded by mu, and whoever reads it without keeps reshape away
	base time.Time     // what time offsets count from; has a monotonic reading

	// mu makes one of the calls that reach a new bucket rotate and the others wait,
	// so that none of them records before the new bucket has begun.
	mu    sync.Mutex
	timer *time.Timer // rotates while the window is hot; guarded by mu
	heats bool        // may become hot; guarded by mu
	slows bool        // keeps slow calls apart; set by init

	// The counters are written by every call, and a cache line away from the two
	// pointers that every call reads, so that a write on one processor does not take
	// those from the caches of the others. They share a line themselves, so that a
	// cold window is small.
	success, failure, slow atomic.Uint64
}

// marks is where the counters of a window stood when each of its buckets began.
// It is immutable once published, but for fine.
type marks struct {
	end    time.Duration // of the newest bucket
	oldest tally         // the counters at the start of the oldest bucket

	// readings holds the counters at the start of each bucket, the newest last: two
	// numbers for each, or three if the window keeps slow calls apart.
	readings []uint64
	slows    bool

	// These are explained in hotwindow.go.
	hot                          bool
	heatAtSuccess, heatAtFailure uint64

	// fine holds where the counters of failures and slow calls may stand under these
	// marks with nothing to judge: at oldest, since a window without either cannot open
	// a breaker, and further on once a judgement has said so.
	fine struct{ failure, slow atomic.Uint64 }
}

// tally is a reading of a window's counters.
type tally struct {
	success, failure, slow uint64
}

// NewSlidingWindow returns an empty window of the given size, divided into
// buckets. It panics with a [*ConfigError] if size is less than a millisecond for
// each bucket, or buckets is not between 1 and 1000.
func NewSlidingWindow(size time.Duration, buckets int) *SlidingWindow {
	var v validation
	switch {
	case buckets < 1 || buckets > maxBuckets:
		v.refuse("buckets", buckets, "1 to "+strconv.Itoa(maxBuckets))
	case size > maxDuration:
		v.refuse("size", size, longestSentence)
	default:
		v.buckets("size", size, buckets)
	}
	if err := v.error("NewSlidingWindow"); err != nil {
		panic(err)
	}
	w := new(SlidingWindow)
	w.init(time.Now(), 0, size, buckets, false, false)
	return w
}

// init makes w an empty window whose first bucket begins start after base. Heats says
// that it may become hot, slows that it keeps slow calls apart.
func (w *SlidingWindow) init(base time.Time, start, size time.Duration, buckets int, heats, slows bool) {
	n := time.Duration(buckets)
	w.base = base
	w.span = (size + n - 1) / n // rounded up: no bucket expires early
	w.heats, w.slows = heats, slows
	w.publish(w.next(start+w.span, tally{}, buckets))
}

// Record counts one outcome now. Outcomes other than success and failure are not
// counted.
func (w *SlidingWindow) Record(o events.Outcome) { w.recordAt(time.Since(w.base), o) }

// RecordAt is Record at time t. A t before the newest bucket, as after a clock
// step, counts in the newest one.
func (w *SlidingWindow) RecordAt(t time.Time, o events.Outcome) { w.recordAt(t.Sub(w.base), o) }

// latest is the latest time a window tells apart, 146 years after its base: late
// enough, and early enough for a boundary after it not to overflow.
const latest = time.Duration(math.MaxInt64 / 2)

func (w *SlidingWindow) recordAt(at time.Duration, o events.Outcome) {
	if at = min(at, latest); at >= w.marks.Load().end {
		w.rotate(at)
	}
	switch o {
	case events.OutcomeSuccess:
		w.success.Add(1)
	case events.OutcomeFailure:
		w.failure.Add(1)
	}
}

// Counts returns what the window holds now.
func (w *SlidingWindow) Counts() events.Counts { return w.countsAt(time.Since(w.base)) }

// CountsAt is Counts at time t: what had been recorded by then and has not expired.
// It changes nothing, so asking about the future is harmless. It does not reach into
// the past: a t before the newest bucket gives what the window holds now.
func (w *SlidingWindow) CountsAt(t time.Time) events.Counts { return w.countsAt(t.Sub(w.base)) }

// countsAt never takes the lock, so that a reader cannot hold up a call. Loading
// marks before the counters makes every difference non-negative: the counters have
// only grown since the marks were taken.
func (w *SlidingWindow) countsAt(at time.Duration) events.Counts {
	m := w.marks.Load()
	now := w.tally()
	oldest := m.oldest
	if at = min(at, latest); at >= m.end {
		oldest = m.after(m.passed(at, w.span), now)
	}
	return now.since(oldest)
}

// crossed is rotate for who wants to know whether it did: rotated are the new marks
// if it did, nil if another call has.
func (w *SlidingWindow) crossed(at time.Duration) (m, rotated *marks) {
	m, did := w.rotate(at)
	if did {
		rotated = m
	}
	return m, rotated
}

// rotate begins the bucket that holds the given time, unless another call has.
// The counters are read after the boundary was reached and before the new marks
// are published, so every record of the new bucket is counted after the reading.
// Records of the old bucket that are late end up in the new one.
func (w *SlidingWindow) rotate(at time.Duration) (m *marks, rotated bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m = w.marks.Load()
	if at < m.end || m.hot {
		return m, false
	}
	passed := m.passed(at, w.span)
	now := w.tally()
	next := w.next(m.end+time.Duration(passed)*w.span, now, m.buckets())
	for i := range next.buckets() {
		next.set(i, m.after(int64(i)+passed, now))
	}
	if passed == 1 {
		w.follow(m, next, now, next.end-at)
	}
	w.publish(next)
	return next, true
}

// next returns marks with n buckets, not yet filled in, the newest of which begins
// at the reading now and ends at end.
func (w *SlidingWindow) next(end time.Duration, now tally, n int) *marks {
	m := &marks{end: end, slows: w.slows, heatAtSuccess: math.MaxUint64, heatAtFailure: math.MaxUint64}
	m.readings = make([]uint64, n*m.width())
	if w.heats {
		m.heatAtSuccess, m.heatAtFailure = now.success+hotCalls, now.failure+hotCalls
	}
	return m
}

// publish makes m the marks of the window. It requires mu.
func (w *SlidingWindow) publish(m *marks) {
	m.oldest = m.at(0)
	m.fine.failure.Store(m.oldest.failure)
	m.fine.slow.Store(m.oldest.slow)
	w.marks.Store(m)
}

func (m *marks) width() int {
	if m.slows {
		return 3
	}
	return 2
}

// buckets returns the number of buckets.
func (m *marks) buckets() int { return len(m.readings) / m.width() }

// at returns the reading at the start of bucket i, 0 being the oldest.
func (m *marks) at(i int) tally {
	r := m.readings[i*m.width():]
	t := tally{success: r[0], failure: r[1]}
	if m.slows {
		t.slow = r[2]
	}
	return t
}

// set makes t the reading at the start of bucket i, before m is published.
func (m *marks) set(i int, t tally) {
	r := m.readings[i*m.width():]
	r[0], r[1] = t.success, t.failure
	if m.slows {
		r[2] = t.slow
	}
}

// newest returns the reading at the start of the newest bucket.
func (m *marks) newest() tally { return m.at(m.buckets() - 1) }

// passed returns how many buckets have ended by the given time, which must not be
// before m.end, counting the newest one.
func (m *marks) passed(at, span time.Duration) int64 {
	return int64((at-m.end)/span) + 1
}

// after returns the reading at the start of bucket i, counted on past the newest of
// m where i is larger: a bucket that begins after m begins at the reading now. The
// newest bucket of a hot window is written to until it is rotated, however late that
// is, so there all that it holds belongs to the last bucket that passed.
func (m *marks) after(i int64, now tally) tally {
	switch {
	case i < int64(m.buckets()):
		return m.at(int(i))
	case m.hot:
		return m.newest()
	default:
		return now
	}
}

// tally reads the counters, those that speak against the dependency first, so that
// no ratio comes out higher than it was: what is counted between two loads is in
// the later one only. A slow call counts as slow after it was counted itself.
func (w *SlidingWindow) tally() tally {
	t := tally{slow: w.slow.Load()}
	t.failure = w.failure.Load()
	t.success = w.success.Load() + w.stripes.Load().sum()
	return t
}

// since returns what was counted between the reading earlier and t. A call that was
// half counted at the earlier reading must not make more calls slow than there were.
func (t tally) since(earlier tally) events.Counts {
	c := events.Counts{Success: t.success - earlier.success, Failure: t.failure - earlier.failure}
	c.Slow = min(t.slow-earlier.slow, c.Volume())
	return c
}

// reshape gives the window another size and number of buckets, and publishes new marks
// even if they are the same, so that what was remembered under the old ones is
// forgotten. Only its breaker calls it, under the breaker's mu, which keeps away those
// that read span without w.mu.
//
// The counters stay, so that no record is lost that races with it: all that changes is
// where they are said to have stood when each bucket began. The newest bucket begins
// now. Of an older one that is known only for the beginnings of the old buckets; the
// latest that is not after its own is taken. So what was recorded stays in the window
// as if it had been of the new size all along, and for one old bucket longer at most,
// except that what has left the old window does not come back. One of a single bucket,
// which reaches back to the beginning of that, is empty.
func (w *SlidingWindow) reshape(at, size time.Duration, buckets int, slows bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, now := w.marks.Load(), w.tally()
	slows = slows || w.slows // the counter does not go back to zero
	n := time.Duration(buckets)
	span := (size + n - 1) / n
	if span == w.span && buckets == m.buckets() {
		w.slows = slows
		same := w.next(m.end, now, buckets)
		same.hot, same.heatAtSuccess, same.heatAtFailure = m.hot, m.heatAtSuccess, m.heatAtFailure
		for i := range buckets {
			r := m.at(i)
			if !m.slows {
				r.slow = now.slow // no call was slow then
			}
			same.set(i, r)
		}
		w.publish(same)
		return
	}
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	left := int64(0) // buckets of m that have left the window by now
	if at >= m.end {
		left = m.passed(at, w.span)
	}
	// stood returns where the counters stood at a time that is before the present one.
	stood := func(t time.Duration) tally {
		if t >= m.end && !m.hot {
			return now // nobody has recorded since: the next record would have rotated
		}
		back := max(0, m.end-1-t) / w.span // buckets between that of t and the newest
		r := m.after(max(left, int64(m.buckets()-1)-int64(back)), now)
		if !m.slows {
			r.slow = now.slow
		}
		return r
	}
	w.slows = slows
	next := w.next(at+span, now, buckets)
	for i := range buckets - 1 {
		next.set(i, stood(at-time.Duration(buckets-1-i)*span))
	}
	next.set(buckets-1, now)
	w.span = span
	w.publish(next)
}
