package liveres

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// The latency of a circuit is kept in a few histograms, one for each stretch of
// time, so that old calls are forgotten a whole stretch at a time.
const (
	stretchesKept = 6

	// Durations are counted in microseconds: up to subBuckets each has its own
	// bucket, above there are subBuckets to each power of two. So a bucket is at
	// most 1/subBuckets as wide as it is high, and its middle is at most half that,
	// 6 %, away from any duration in it.
	subBits       = 3
	subBuckets    = 1 << subBits
	highestBits   = 28 // 2²⁸ µs are 268 s; what takes longer counts as that
	latencyCounts = (highestBits - subBits + 1) * subBuckets
)

// latency is a histogram of the durations of the last stretches, a minute in all
// unless columns are long. Recording is lock-free but for the first call of each.
type latency struct {
	epochs [stretchesKept]atomic.Uint32 // the stretch in each place; 0 for none
	counts [stretchesKept][latencyCounts]atomic.Uint32
	mu     sync.Mutex // held to empty a histogram
}

// record counts a call that took d.
func (l *latency) record(stretch uint32, d time.Duration) {
	place := stretch % stretchesKept
	if l.epochs[place].Load() != stretch {
		l.turn(stretch)
	}
	l.counts[place][bucketOf(d)].Add(1)
}

// turn gives a stretch the place of the oldest one. A call that is recorded there at
// this moment may be forgotten: these counts are for quantiles only.
func (l *latency) turn(stretch uint32) {
	place := stretch % stretchesKept
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epochs[place].Load() >= stretch {
		return
	}
	for i := range l.counts[place] {
		l.counts[place][i].Store(0)
	}
	l.epochs[place].Store(stretch)
}

// quantiles returns how many calls there were up to the given stretch, and the
// durations that the given shares of them did not exceed, each at most 6 % off.
// Shares must ascend. Without calls the durations are 0.
func (l *latency) quantiles(stretch uint32, shares ...float64) (count uint64, durations []time.Duration) {
	var sum [latencyCounts]uint64
	for place := range l.counts {
		epoch := l.epochs[place].Load()
		if epoch == 0 || epoch+stretchesKept <= stretch {
			continue
		}
		for i := range l.counts[place] {
			n := uint64(l.counts[place][i].Load())
			sum[i] += n
			count += n
		}
	}
	durations = make([]time.Duration, len(shares))
	if count == 0 {
		return 0, durations
	}
	seen, i := uint64(0), -1
	for q, share := range shares {
		for rank := share * float64(count); i < 0 || float64(seen) < rank; {
			i++
			seen += sum[i]
		}
		durations[q] = middleOf(i)
	}
	return count, durations
}

// bucketOf returns the bucket for d.
func bucketOf(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < subBuckets {
		return int(us)
	}
	if us >= 1<<highestBits {
		return latencyCounts - 1
	}
	exponent := bits.Len64(us) - subBits - 1 // at least 0: us has more than subBits bits
	return (exponent+1)<<subBits + int(us>>exponent) - subBuckets
}

// middleOf returns the duration in the middle of bucket i.
func middleOf(i int) time.Duration {
	if i < subBuckets {
		return time.Duration(i)*time.Microsecond + time.Microsecond/2
	}
	exponent := i>>subBits - 1
	low := uint64(subBuckets+i&(subBuckets-1)) << exponent
	return time.Duration(low)*time.Microsecond + time.Duration(1)<<exponent*time.Microsecond/2
}
