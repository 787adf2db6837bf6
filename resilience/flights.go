package resilience

import (
	"sync/atomic"
	"time"
)

// flights tells whether calls of a breaker are under way. Calls are counted when they
// end anyway, so it is enough to count beginnings too.
type flights struct {
	started  atomic.Uint64
	stripes  atomic.Pointer[stripes] // takes over started when calls get into each other's way
	canceled atomic.Uint64           // did not run after all, and are not counted as ended
}

// begin counts a call that begins. See countSuccess.
func (f *flights) begin() {
	if s := f.stripes.Load(); s != nil {
		s.add()
		return
	}
	if n := f.started.Load(); !f.started.CompareAndSwap(n, n+1) {
		if n < hotCalls {
			f.started.Add(1)
			return
		}
		f.stripes.CompareAndSwap(nil, newStripes())
		f.stripes.Load().add()
	}
}

func (f *flights) begun() uint64 { return f.started.Load() + f.stripes.Load().sum() }

// idle reports whether b is closed, not forced, and has no call under way. It is for
// breakers with flights.
//
// Calls are counted as begun before they are counted as ended, both counts only grow,
// and the ended are read first. So what is read as ended had ended, and begun, when the
// reading of the begun started; if that gives no more, there was no other call then.
func (b *CircuitBreaker) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.phase.Load()
	if p.state != StateClosed || p.forced {
		return false
	}
	ended := p.counts()
	if b.past != nil {
		ended = add(ended, b.past.totals)
	}
	n := ended.Volume() + ended.Ignored + b.flights.canceled.Load()
	return b.flights.begun() == n
}

// busyAt returns the end of the bucket that the window of b last wrote to, a zero time
// if b is not closed.
func (b *CircuitBreaker) busyAt() time.Time {
	if m := b.phase.Load().window.marks.Load(); m != nil {
		return b.base.Add(m.end)
	}
	return time.Time{}
}
