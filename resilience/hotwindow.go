package resilience

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A breaker that is called thousands of times a second pays for two things more
// than for all others: reading the clock at every call, only to find that the
// bucket has not ended, and handing the counter's cache line from processor to
// processor. So a window that counted hotCalls successes or failures in one bucket
// becomes hot: a timer rotates it at each boundary, calls do not read the clock any
// more, and once two of them have got into each other's way, successes are counted
// in stripes, one for each processor. It becomes cold again at the end of a bucket
// with fewer calls, so an idle breaker has no timer.
//
// No bucket expires early in a hot window, though the timer may be late: the next
// boundary is a whole span after the moment the timer really ran. So each bucket
// lasts at least a span, whatever was counted before a rotation was counted in a
// bucket that had not ended, and that bucket leaves the window n-1 rotations later,
// which is no sooner than n-1 spans. A late timer makes a window longer, by as much
// as it is late.

// hotCalls is how many successes or failures in one bucket make a window hot: so
// many that a timer's run, about a microsecond, is lost among them.
const hotCalls = 2000

// heat makes the window hot if m still are its marks.
func (w *SlidingWindow) heat(m *marks) {
	at := time.Since(w.base)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.heats || w.marks.Load() != m || at >= m.end {
		return // it was cooled for good, somebody was faster, or the next call rotates
	}
	w.publish(m.with(true, m.end))
	w.timer = time.AfterFunc(m.end-at, w.tick)
}

// with returns a copy of m that is hot or not, does not get hot by itself, and whose
// newest bucket ends at end.
func (m *marks) with(hot bool, end time.Duration) *marks {
	return &marks{
		end: end, readings: m.readings, slows: m.slows,
		hot: hot, heatAtSuccess: math.MaxUint64, heatAtFailure: math.MaxUint64,
	}
}

// tick rotates a hot window.
func (w *SlidingWindow) tick() {
	at := time.Since(w.base)
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.marks.Load()
	if !m.hot {
		return // cooled while the timer was about to run
	}
	now := w.tally()
	passed := max(1, m.passed(at, w.span))
	next := w.next(at+w.span, now, m.buckets())
	last := next.buckets() - 1
	for i := range last {
		next.set(i, m.after(int64(i)+passed, now))
	}
	next.set(last, now)

	if !w.follow(m, next, now, w.span) {
		w.timer = nil
	}
	w.publish(next)
}

// follow makes next hot if the bucket that ended, the newest of m, was busy enough,
// and sets the timer to its end. It requires mu.
func (w *SlidingWindow) follow(m, next *marks, now tally, left time.Duration) bool {
	calls := now.since(m.newest())
	if !w.heats || calls.Success < hotCalls && calls.Failure < hotCalls {
		return false
	}
	next.hot, next.heatAtSuccess, next.heatAtFailure = true, math.MaxUint64, math.MaxUint64
	if w.timer == nil {
		w.timer = time.AfterFunc(left, w.tick)
	} else {
		w.timer.Reset(left)
	}
	return true
}

// cool makes the window cold for good: its phase is over, or its breaker closed, and
// no timer shall hold it. Should the timer be late, the newest bucket lasts until now.
func (w *SlidingWindow) cool() {
	at := time.Since(w.base)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heats = false
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	switch m := w.marks.Load(); {
	case m == nil: // the window of a phase that has none
	case m.hot:
		w.publish(m.with(false, max(m.end, at)))
	default:
		w.publish(m.with(false, m.end))
	}
}

// countSuccess adds a success to a window whose marks are m. The addition is a
// compare-and-swap, whose failure is the one sign there is that another processor
// writes to the same line. The idea of spreading a counter on contention is that of
// Java's LongAdder, by Doug Lea.
func (w *SlidingWindow) countSuccess(m *marks) {
	if s := w.stripes.Load(); s != nil {
		s.add()
		return
	}
	n := w.success.Load()
	switch {
	case w.success.CompareAndSwap(n, n+1):
		if n >= m.heatAtSuccess {
			w.heat(m)
		}
	case m.hot:
		w.spread()
	default:
		w.success.Add(1)
	}
}

// spread adds a success that met another at the counter, and makes stripes of it.
func (w *SlidingWindow) spread() {
	w.stripes.CompareAndSwap(nil, newStripes())
	w.stripes.Load().add()
}

// countFailure adds a failure to a window whose marks are m.
func (w *SlidingWindow) countFailure(m *marks) {
	if n := w.failure.Add(1); n > m.heatAtFailure {
		w.heat(m)
	}
}

// stripes is a counter spread over cache lines, so that processors that add to it
// at once do not wait for each other.
type stripes struct {
	// tokens hands each processor the stripe it had last: sync.Pool keeps one item
	// per processor within reach, without a lock. A collection empties the pool, and
	// then the processors are dealt new stripes. Any stripe is right at any time;
	// only speed depends on which.
	tokens sync.Pool
	dealt  atomic.Uint32
	each   []stripe
}

// cacheLine is the size of a cache line on the processors Go runs on most.
const cacheLine = 64

// stripe is as long as a cache line.
type stripe struct {
	n atomic.Uint64
	_ [cacheLine - 8]byte
}

func newStripes() *stripes {
	s := &stripes{each: make([]stripe, runtime.GOMAXPROCS(0))}
	s.tokens.New = func() any {
		return &s.each[s.dealt.Add(1)%uint32(len(s.each))]
	}
	return s
}

func (s *stripes) add() {
	mine := s.tokens.Get().(*stripe)
	mine.n.Add(1)
	s.tokens.Put(mine)
}

// sum returns the count; 0 for nil.
func (s *stripes) sum() (n uint64) {
	if s == nil {
		return 0
	}
	for i := range s.each {
		n += s.each[i].n.Load()
	}
	return n
}
