package main

import (
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// batch is how long the calls take between two readings of the clock, at least: so
// long that the reading does not show.
const batch = 50 * time.Microsecond

// figures is what was measured of one contestant on one path. Times are nanoseconds.
type figures struct {
	min, median   float64
	allocs, bytes float64 // per call
}

// measured is what was found on one path.
type measured struct {
	figures  []figures // by contestant
	handover float64   // of a cache line, the median of the rounds; 0 unless contestants contend
}

// measure times the path's contestants, for a slice each in every round, and in a new
// order in every round: what disturbs the machine for longer than a slice disturbs
// all of them, and nobody always comes after the same neighbour.
func (p *path) measure(subjects []*subject, rounds int, slice time.Duration) (measured, error) {
	results := make([]figures, len(subjects))
	var handovers []float64
	batches := make([]int, len(subjects))
	samples := make([][]float64, len(subjects))
	for i, s := range subjects {
		var err error
		if batches[i], err = batchOf(s); err != nil {
			return measured{}, err
		}
		if results[i].allocs, results[i].bytes, err = allocations(s, batches[i]); err != nil {
			return measured{}, err
		}
	}
	random := rand.New(rand.NewPCG(1, 2)) // the same orders in every run
	for round := range rounds {
		if p.parallel {
			handovers = append(handovers, handover())
		}
		for _, i := range random.Perm(len(subjects)) {
			ns, err := p.time(subjects[i], batches[i], slice, round*37%101)
			if err != nil {
				return measured{}, err
			}
			samples[i] = append(samples[i], ns)
		}
	}
	for i := range results {
		slices.Sort(samples[i])
		results[i].min, results[i].median = samples[i][0], median(samples[i])
	}
	p.subtract(subjects, results)
	m := measured{figures: results}
	if p.parallel {
		slices.Sort(handovers)
		m.handover = median(handovers)
	}
	return m, nil
}

// subtract takes from the times what is not the library's: what a call has to wait,
// and on a path that tells what a call adds, the time of the work alone. That is the
// least of one less the least of the other, not the least of differences: a round in
// which the work alone was disturbed must not show as a call that costs nothing.
func (p *path) subtract(subjects []*subject, results []figures) {
	least, mid := float64(p.waited), float64(p.waited)
	if p.added {
		i := slices.IndexFunc(subjects, func(s *subject) bool { return s.bare })
		least, mid = results[i].min, results[i].median
	}
	for i, s := range subjects {
		if p.added && s.bare {
			continue // it keeps its time, which is the loop's
		}
		results[i].min -= least
		results[i].median -= mid
	}
}

// median returns the middle of sorted values, between the two if there is none.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// batchOf returns how many calls take about as long as a batch. Of a few readings the
// least counts: one that was disturbed, or that paid for what is done once, would
// make the batch so short that reading the clock is timed with every call.
func batchOf(s *subject) (int, error) {
	for n := s.unit; ; n *= 2 {
		least := time.Duration(math.MaxInt64)
		for range 5 {
			began := time.Now()
			if err := s.call(n); err != nil {
				return 0, err
			}
			least = min(least, time.Since(began))
		}
		if least >= batch {
			return n, nil
		}
	}
}

// time calls for the length of a slice, in batches of n, and returns nanoseconds: of
// wall time per call, or, on a path that tells what a call adds, of a goroutine's
// time per call. Depth is how many frames deeper the stack is than it need be.
func (p *path) time(s *subject, n int, slice time.Duration, depth int) (float64, error) {
	workers := p.workers()
	perCall, errs := make([]float64, workers), make([]error, workers)
	runtime.GC() // nobody pays for the garbage of another
	atOnce(workers, func(i int) {
		deeper(depth, func() {
			began, calls := time.Now(), 0
			for elapsed := time.Duration(0); elapsed < slice; elapsed = time.Since(began) {
				if errs[i] = s.call(n); errs[i] != nil {
					return
				}
				calls += n
			}
			perCall[i] = float64(time.Since(began)) / float64(calls)
		})
	})
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	if p.added {
		return sum(perCall) / float64(workers), nil
	}
	// Goroutines that need a and b per call make 1/a + 1/b calls in the time.
	rate := 0.0
	for _, ns := range perCall {
		rate += 1 / ns
	}
	return 1 / rate, nil
}

// deeper calls f so many frames of 40 bytes further down the stack.
//
//go:noinline
func deeper(frames int, f func()) {
	if frames == 0 {
		f()
		return
	}
	deeper(frames-1, f)
}

// atOnce runs f on so many goroutines, all of which are running when the first
// begins, and returns when all have ended.
func atOnce(workers int, f func(i int)) {
	var (
		missing atomic.Int64
		all     sync.WaitGroup
	)
	missing.Store(int64(workers))
	for i := range workers {
		all.Go(func() {
			for missing.Add(-1); missing.Load() > 0; {
				runtime.Gosched()
			}
			f(i)
		})
	}
	all.Wait()
}

func sum(xs []float64) (total float64) {
	for _, x := range xs {
		total += x
	}
	return total
}

// allocations returns what a call allocates, on one goroutine. What the loop itself
// allocates, once, is the same for n calls and for twice as many, and drops out. Of a
// few readings the least counts, since the runtime allocates for itself now and then.
func allocations(s *subject, n int) (count, bytes float64, err error) {
	n = max(n, 16*s.unit)
	once, err := leastAllocated(s, n)
	if err != nil {
		return 0, 0, err
	}
	twice, err := leastAllocated(s, 2*n)
	if err != nil {
		return 0, 0, err
	}
	perCall := func(once, twice uint64) float64 {
		return max(0, float64(int64(twice-once))) / float64(n)
	}
	return perCall(once.Mallocs, twice.Mallocs), perCall(once.TotalAlloc, twice.TotalAlloc), nil
}

// leastAllocated returns the counts of n calls, in the two fields that count.
func leastAllocated(s *subject, n int) (least runtime.MemStats, err error) {
	least.Mallocs, least.TotalAlloc = math.MaxUint64, math.MaxUint64
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := s.call(n); err != nil {
			return least, err
		}
		runtime.ReadMemStats(&after)
		least.Mallocs = min(least.Mallocs, after.Mallocs-before.Mallocs)
		least.TotalAlloc = min(least.TotalAlloc, after.TotalAlloc-before.TotalAlloc)
	}
	return least, nil
}

// spin is the private work of the paced path: n steps of a random number generator,
// each of which needs the one before.
//
//go:noinline
func spin(x uint64, n int) uint64 {
	for range n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

const pace = 400 * time.Nanosecond

// spins returns how many steps of spin take as long as the pace asks for.
var spins = sync.OnceValue(func() int {
	const steps = 100_000
	least := time.Hour
	for range 20 {
		began := time.Now()
		if spin(1, steps) == 0 {
			panic("the generator is stuck")
		}
		least = min(least, time.Since(began))
	}
	return max(1, int(pace*steps/least))
})
