package resilience

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// latencies estimates a quantile of durations in a memory of fixed size: it counts them
// in buckets that are an eighth of their power of two wide, so that the estimate, the
// upper end of a bucket, is less than an eighth too high and never too low. It counts in
// two generations, of which the older one is dropped when the younger is full, and so
// forgets what is more than 2·generation durations ago. It reads no clock.
//
// It may be used concurrently. Nobody waits: a duration that finds the lock taken is
// left out.
type latencies struct {
	quantile float64
	estimate atomic.Int64 // nanoseconds; 0 until there are enough

	mu       sync.Mutex
	young    [latencyBuckets]uint16
	old      [latencyBuckets]uint16
	counted  int // in young
	countOld int
}

const (
	generation   = 1024 // durations; the counts of a bucket fit 16 bits
	latencyStep  = 64   // durations between two estimates, and before the first one
	latencyParts = 8    // buckets for each power of two

	// The first latencyParts buckets are for one nanosecond each, the others for the 60
	// powers of two from there on.
	latencyBuckets = latencyParts + 60*latencyParts
)

// bucketOf returns the bucket for d.
func bucketOf(d time.Duration) int {
	n := uint64(max(0, d))
	if n < latencyParts {
		return int(n)
	}
	power := bits.Len64(n) - 4 // that n/latencyParts has
	return latencyParts + power*latencyParts + int(n>>power)%latencyParts
}

// upperEnd returns the largest duration that has bucket i.
func upperEnd(i int) time.Duration {
	if i < latencyParts {
		return time.Duration(i)
	}
	power, part := i/latencyParts-1, i%latencyParts
	return time.Duration(uint64(latencyParts+part+1)<<power - 1)
}

// add counts d.
func (l *latencies) add(d time.Duration) {
	if !l.mu.TryLock() {
		return
	}
	defer l.mu.Unlock()
	if l.counted == generation {
		l.old, l.countOld = l.young, l.counted
		l.young, l.counted = [latencyBuckets]uint16{}, 0
	}
	l.young[bucketOf(d)]++
	if l.counted++; l.counted%latencyStep == 0 {
		l.estimate.Store(int64(l.find()))
	}
}

// find returns the estimate. It requires mu.
func (l *latencies) find() time.Duration {
	all := l.counted + l.countOld
	// The rank of the quantile, counted from 1: at least so many are not above it.
	rank := int(l.quantile * float64(all))
	if float64(rank) < l.quantile*float64(all) {
		rank++
	}
	seen := 0
	for i := range l.young {
		if seen += int(l.young[i]) + int(l.old[i]); seen >= max(1, rank) {
			return upperEnd(i)
		}
	}
	return upperEnd(latencyBuckets - 1)
}

// known returns the estimate, 0 if there is none yet.
func (l *latencies) known() time.Duration { return time.Duration(l.estimate.Load()) }
