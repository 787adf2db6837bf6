package liveres

import (
	"sync"
	"sync/atomic"
	"time"
)

// clock says which column is the present one for the price of an atomic load: to
// read the real clock would cost a call more than all the rest. A timer turns it at
// the end of each column, and stops at the end of one in which nothing was counted;
// the next event reads the real clock and starts it again. So it is as late as a
// timer may be, and a Live that is not used has none.
type clock struct {
	tick atomic.Uint64 // column, and stretch in the upper half; 0 when stopped
	mu   sync.Mutex    // held to start, turn and stop it
}

// stretchSpan is the length of a stretch, of which latency is made: as many columns
// as make up this, or one if it is longer.
const stretchSpan = 10 * time.Second

// present returns the present column and stretch.
func (l *Live) present() (column, stretch uint32) {
	tick := l.clock.tick.Load()
	if tick == 0 {
		tick = l.startClock()
	}
	return uint32(tick), uint32(tick >> 32)
}

// column returns the column of a time since base. The first one is 1.
func (l *Live) column(at time.Duration) uint32 { return uint32(at/l.width) + 1 }

// stretch returns the stretch that a column is part of. The first one is 1.
func (l *Live) stretch(column uint32) uint32 { return (column-1)/l.columnsPerStretch + 1 }

func (l *Live) tickOf(column uint32) uint64 {
	return uint64(l.stretch(column))<<32 | uint64(column)
}

func (l *Live) startClock() uint64 {
	l.clock.mu.Lock()
	defer l.clock.mu.Unlock()
	if tick := l.clock.tick.Load(); tick != 0 {
		return tick // others were faster
	}
	return l.turnClock()
}

// turnClock sets the clock and the timer that sets it next. It requires clock.mu.
func (l *Live) turnClock() uint64 {
	now := l.now()
	column := l.column(now)
	tick := l.tickOf(column)
	l.clock.tick.Store(tick)
	time.AfterFunc(time.Duration(column)*l.width-now, l.endColumn)
	return tick
}

// endColumn is what the timer does.
func (l *Live) endColumn() {
	l.clock.mu.Lock()
	defer l.clock.mu.Unlock()
	if column := uint32(l.clock.tick.Load()); l.active(column) {
		l.turnClock()
	} else {
		l.clock.tick.Store(0)
	}
}

// active reports that something was counted in a column.
func (l *Live) active(column uint32) bool {
	for _, c := range l.circuits.all() {
		if !c.calls.begins(column) {
			return true
		}
	}
	for _, r := range l.retries.all() {
		if !r.operations.begins(column) {
			return true
		}
	}
	return false
}
