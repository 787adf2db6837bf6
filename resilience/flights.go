package resilience

import (
	"sync/atomic"
	"time"
)

// flights tells whether calls of a breaker are under way. Calls are counted when they
// end anyway, so it is enough to count beginnings too.
type flights struct {
	started  counter
	canceled atomic.Uint64 // did not run after all, and are not counted as ended
}

// counter counts up without a lock, in stripes once additions get into each other's way:
// see countSuccess.
type counter struct {
	n       atomic.Uint64
	stripes atomic.Pointer[stripes]
}

func (c *counter) add() {
	if s := c.stripes.Load(); s != nil {
		s.add()
		return
	}
	if n := c.n.Load(); !c.n.CompareAndSwap(n, n+1) {
		if n < hotCalls {
			c.n.Add(1)
			return
		}
		c.stripes.CompareAndSwap(nil, newStripes())
		c.stripes.Load().add()
	}
}

// sum returns the count. It has only grown since any earlier sum.
func (c *counter) sum() uint64 { return c.n.Load() + c.stripes.Load().sum() }

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
	return b.flights.started.sum() == n
}

// busyAt returns the end of the bucket that the window of b last wrote to, a zero time
// if b is not closed.
func (b *CircuitBreaker) busyAt() time.Time {
	if m := b.phase.Load().window.marks.Load(); m != nil {
		return b.base.Add(m.end)
	}
	return time.Time{}
}
