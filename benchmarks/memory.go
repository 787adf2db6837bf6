package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// memoryName is what -paths calls the measurement of memory, which is not a path.
const memoryName = "memory"

// memory is how the memory of breakers is measured.
type memory struct {
	cold int           // breakers that are made and never called
	hot  int           // breakers that are called from every processor
	warm int           // calls of a hot breaker, from each processor, twice
	rest time.Duration // between the two, longer than a bucket
}

// footprint is what one breaker holds on to, in bytes as the allocator hands them out.
type footprint struct {
	cold, hot  float64
	goroutines int // that idle breakers run, all of them together
}

// breakersHeld returns the contestants whose memory is measured, ours first.
func breakersHeld() []*contestant {
	return slices.DeleteFunc(breakers(), func(c *contestant) bool { return !c.held })
}

// measureAll returns the footprints of the contestants, in their order. It begins
// with the last: a busy breaker of ours has a timer that holds it for as long as a
// bucket lasts, and would be taken for another's if that came after.
func (m memory) measureAll(all []*contestant, progress io.Writer) ([]footprint, error) {
	time.Sleep(2 * m.rest) // for the breakers of the paths, for the same reason
	prints := make([]footprint, len(all))
	for i, c := range slices.Backward(all) {
		_, _ = fmt.Fprintf(progress, "%s: %s\n", memoryName, c.name)
		var err error
		if prints[i], err = m.measure(c); err != nil {
			return nil, fmt.Errorf("%s: %w", memoryName, err)
		}
	}
	return prints, nil
}

// measure returns the footprint of a contestant's breakers.
func (m memory) measure(c *contestant) (f footprint, err error) {
	goroutines := runtime.NumGoroutine()
	cold, before := make([]any, m.cold), heap(2)
	for i := range cold {
		cold[i] = c.create(usual)
	}
	f.cold = float64(heap(1)-before) / float64(m.cold)
	f.goroutines = runtime.NumGoroutine() - goroutines
	runtime.KeepAlive(cold)
	clear(cold)

	hot, before := make([]any, m.hot), heap(2)
	for i := range hot {
		hot[i] = c.create(usual)
	}
	// Twice, in two buckets: a breaker may decide by the last bucket that it is hot.
	for pass := range 2 {
		if pass > 0 {
			time.Sleep(m.rest)
		}
		if err := m.heat(c, hot); err != nil {
			return f, err
		}
	}
	f.hot = float64(heap(1)-before) / float64(m.hot)
	runtime.KeepAlive(hot)
	return f, nil
}

// heat calls the breakers one after the other, each from all processors at once. The
// goroutines are the same for all breakers: what the runtime keeps of one that has
// ended would look like memory of the breakers.
func (m memory) heat(c *contestant, all []any) error {
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var arrived atomic.Int64
	atOnce(workers, func(i int) {
		for n, b := range all {
			arrived.Add(1)
			for arrived.Load() < int64((n+1)*workers) {
				runtime.Gosched()
			}
			s := subject{contestant: c, loop: func(n int) (int, error) {
				return c.caller(b).calls(n, succeeding, nil)
			}}
			if err := s.call(m.warm); err != nil {
				errs[i] = err
			}
		}
	})
	return errors.Join(errs...)
}

// heap returns how much is in use, garbage excluded. It collects garbage as often as
// said: twice empties every sync.Pool as well, once leaves them what they hold.
func heap(collections int) int64 {
	for range collections {
		runtime.GC()
	}
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
