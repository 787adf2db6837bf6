package main

import (
	"runtime"
	"sync/atomic"
	"time"
)

// handover returns how many nanoseconds a cache line takes from one processor to
// another, which is what contention costs: the least of a few games in which two
// goroutines hand one to each other. It is 0 where there is one processor. On a virtual
// machine it may change by the minute, with what its processors run on: two threads of
// one core share a cache, two cores do not.
func handover() float64 {
	if runtime.GOMAXPROCS(0) < 2 {
		return 0
	}
	const games, moves = 5, 500
	least := 0.0
	for range games {
		if ns := handoverOnce(moves); least == 0 || ns < least {
			least = ns
		}
	}
	return least
}

// handoverOnce plays one game, in which either side moves so many times.
func handoverOnce(moves int) float64 {
	var line struct {
		_    [cacheLine]byte
		turn atomic.Uint32
		_    [cacheLine]byte
	}
	times := make([]time.Duration, 2)
	atOnce(2, func(i int) {
		began := time.Now()
		for range moves {
			for line.turn.Load() != uint32(i) {
				continue
			}
			line.turn.Store(uint32(1 - i))
		}
		times[i] = time.Since(began)
	})
	return float64(max(times[0], times[1])) / float64(2*moves)
}

// cacheLine is the size of a cache line, or of the pair that some processors fetch.
const cacheLine = 128
