package resilience_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

const (
	success = events.OutcomeSuccess
	failure = events.OutcomeFailure
	ignored = events.OutcomeIgnored
)

// windowStep records an outcome, if record is set, at a time after the window's
// birth, and says what the window holds then.
type windowStep struct {
	at      time.Duration
	record  bool
	outcome events.Outcome
	success uint64
	failure uint64
}

func TestSlidingWindowCounts(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name    string
		size    time.Duration
		buckets int
		steps   []windowStep
	}{
		{"nothing recorded", 10 * s, 10, []windowStep{
			{at: 0}, {at: 5 * s}, {at: 1000 * s},
		}},
		{"outcomes are told apart", 10 * s, 10, []windowStep{
			{at: 0, record: true, outcome: success, success: 1},
			{at: 0, record: true, outcome: failure, success: 1, failure: 1},
			{at: 1, record: true, outcome: success, success: 2, failure: 1},
		}},
		{"other outcomes are not counted", 10 * s, 10, []windowStep{
			{at: 0, record: true, outcome: ignored},
			{at: 0, record: true, outcome: events.OutcomeRejected},
			{at: 0, record: true, outcome: events.Outcome(77)},
		}},
		{"a record stays until its bucket is as old as the window", 10 * s, 10, []windowStep{
			{at: 0, record: true, outcome: failure, failure: 1},
			{at: 10*s - 1, failure: 1},
			{at: 10 * s},
		}},
		{"and so does one at the end of its bucket", 10 * s, 10, []windowStep{
			{at: s - 1, record: true, outcome: failure, failure: 1},
			{at: 10*s - 1, failure: 1},
			{at: 10 * s},
		}},
		{"and one at the start of the second bucket a bucket longer", 10 * s, 10, []windowStep{
			{at: s, record: true, outcome: failure, failure: 1},
			{at: 11*s - 1, failure: 1},
			{at: 11 * s},
		}},
		{"buckets expire one at a time", 3 * s, 3, []windowStep{
			{at: 0, record: true, outcome: success, success: 1},
			{at: s, record: true, outcome: failure, success: 1, failure: 1},
			{at: 2 * s, record: true, outcome: success, success: 2, failure: 1},
			{at: 3 * s, success: 1, failure: 1},
			{at: 3 * s, record: true, outcome: success, success: 2, failure: 1},
			{at: 4 * s, success: 2},
			{at: 5 * s, success: 1},
			{at: 6 * s},
		}},
		{"a record after a gap of several buckets", 10 * s, 10, []windowStep{
			{at: 0, record: true, outcome: failure, failure: 1},
			{at: 7 * s, record: true, outcome: success, success: 1, failure: 1},
			{at: 10 * s, success: 1},
			{at: 16 * s, success: 1},
			{at: 17 * s},
		}},
		{"a record after a gap longer than the window", 10 * s, 10, []windowStep{
			{at: 0, record: true, outcome: failure, failure: 1},
			{at: 5 * s, record: true, outcome: failure, failure: 2},
			{at: 1e6 * s, record: true, outcome: success, success: 1},
			{at: 1e6*s + 10*s - 1, success: 1},
			{at: 1e6*s + 10*s},
		}},
		{"a gap of exactly the window", 10 * s, 10, []windowStep{
			{at: 0, record: true, outcome: failure, failure: 1},
			{at: 10 * s, record: true, outcome: success, success: 1},
		}},
		{"asking about the future changes nothing", 10 * s, 10, []windowStep{
			{at: 0, record: true, outcome: failure, failure: 1},
			{at: 1000 * s},
			{at: 0, failure: 1},
			{at: 0, record: true, outcome: failure, failure: 2},
			{at: 9 * s, failure: 2},
		}},
		{"a clock that steps back revives nothing", 3 * s, 3, []windowStep{
			{at: 0, record: true, outcome: failure, failure: 1},
			{at: 10 * s, record: true, outcome: success, success: 1},
			{at: 0, success: 1},
			{at: -100 * s, success: 1},
		}},
		{"and what comes then counts in the newest bucket", 3 * s, 3, []windowStep{
			{at: 10 * s, record: true, outcome: success, success: 1},
			{at: 0, record: true, outcome: failure, success: 1, failure: 1},
			{at: -100 * s, record: true, outcome: failure, success: 1, failure: 2},
			{at: 13*s - 1, success: 1, failure: 2},
			{at: 13 * s},
		}},
		{"a single bucket is emptied at once", 10 * s, 1, []windowStep{
			{at: 0, record: true, outcome: failure, failure: 1},
			{at: 10*s - 1, record: true, outcome: failure, failure: 2},
			{at: 10 * s},
			{at: 10 * s, record: true, outcome: success, success: 1},
		}},
		{"a size not divisible by the buckets is rounded up, so that none expires early", 10 * time.Millisecond, 3, []windowStep{
			{at: 0, record: true, outcome: failure, failure: 1},
			{at: 10 * time.Millisecond, failure: 1},
			{at: 3*3333334 - 1, failure: 1},
			{at: 3 * 3333334},
		}},
		{"as many buckets as there may be", time.Second, 1000, []windowStep{
			{at: 0, record: true, outcome: failure, failure: 1},
			{at: time.Millisecond - 1, record: true, outcome: failure, failure: 2},
			{at: time.Millisecond, record: true, outcome: failure, failure: 3},
			{at: time.Second - 1, failure: 3},
			{at: time.Second, failure: 1},
			{at: time.Second + time.Millisecond},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				birth := time.Now()
				w := resilience.NewSlidingWindow(tt.size, tt.buckets)
				for i, step := range tt.steps {
					at := birth.Add(step.at)
					if step.record {
						w.RecordAt(at, step.outcome)
					}
					require.Equal(t, events.Counts{Success: step.success, Failure: step.failure},
						w.CountsAt(at), "step %d, at %v", i, step.at)
				}
			})
		})
	}
}

// A time may come without a monotonic reading, as from a log or a parser.
func TestSlidingWindowTakesWallClockTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := resilience.NewSlidingWindow(10*time.Second, 10)
		wall := time.Now().Round(0)
		w.RecordAt(wall, failure)
		w.RecordAt(wall.Add(3*time.Second).UTC(), success)
		require.Equal(t, events.Counts{Success: 1, Failure: 1}, w.CountsAt(wall.Add(4*time.Second)))
		require.Equal(t, events.Counts{Success: 1}, w.CountsAt(wall.Add(10*time.Second)))
	})
}

// Times beyond what a duration can reach are as good as its limits, and what comes
// after them is counted like any record after a clock step.
func TestSlidingWindowTakesAbsurdTimes(t *testing.T) {
	for _, buckets := range []int{1, 7, 10, 1000} {
		for _, at := range []time.Time{time.Unix(1<<40, 0), time.Unix(-1<<40, 0), {}, time.Unix(1<<62, 0)} {
			w := resilience.NewSlidingWindow(time.Minute, buckets)
			w.RecordAt(at, failure)
			w.Record(failure)
			w.RecordAt(at, success)
			w.Record(success)
			require.Equal(t, events.Counts{Success: 2, Failure: 2}, w.CountsAt(at), "%d buckets, at %v", buckets, at)
			require.Equal(t, events.Counts{Success: 2, Failure: 2}, w.Counts())
		}
	}
	w := resilience.NewSlidingWindow(876000*time.Hour, 1)
	w.RecordAt(time.Unix(1<<40, 0), failure)
	w.Record(failure)
	require.Equal(t, events.Counts{Failure: 2}, w.Counts())
}

func TestSlidingWindowFollowsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := resilience.NewSlidingWindow(10*time.Second, 10)
		w.Record(failure)
		time.Sleep(9 * time.Second)
		w.Record(success)
		require.Equal(t, events.Counts{Success: 1, Failure: 1}, w.Counts())
		time.Sleep(time.Second - 1)
		require.Equal(t, events.Counts{Success: 1, Failure: 1}, w.Counts())
		time.Sleep(time.Nanosecond)
		require.Equal(t, events.Counts{Success: 1}, w.Counts())
		time.Sleep(9 * time.Second)
		require.Equal(t, events.Counts{}, w.Counts())
	})
}

func TestNewSlidingWindowRefuses(t *testing.T) {
	for _, tt := range []struct {
		size    time.Duration
		buckets int
		value   any
		want    string // a part of the wish
	}{
		{time.Minute, 0, 0, "1 to 1000"},
		{time.Minute, -1, -1, "1 to 1000"},
		{time.Minute, math.MinInt, math.MinInt, "1 to 1000"},
		{time.Hour, 1001, 1001, "1 to 1000"},
		{time.Minute, math.MaxInt, math.MaxInt, "1 to 1000"},
		{0, 10, time.Duration(0), "at least 10ms"},
		{-time.Second, 10, -time.Second, "at least 10ms"},
		{math.MinInt64, 10, time.Duration(math.MinInt64), "at least 10ms"},
		{10*time.Millisecond - 1, 10, 10*time.Millisecond - 1, "at least 10ms"},
		{time.Millisecond, 2, time.Millisecond, "at least 2ms"},
		{math.MaxInt64, 10, time.Duration(math.MaxInt64), "at most 876000h"},
	} {
		t.Run(fmt.Sprint(tt.size, " in ", tt.buckets), func(t *testing.T) {
			err := configError(t, func() { resilience.NewSlidingWindow(tt.size, tt.buckets) })
			require.Equal(t, tt.value, err.Value)
			require.Contains(t, err.Want, tt.want)
			require.NotContains(t, err.Want, "default", "there is none")
			require.Contains(t, err.Error(), fmt.Sprint(tt.value))
		})
	}
}

func TestNewSlidingWindowAccepts(t *testing.T) {
	for _, tt := range []struct {
		size    time.Duration
		buckets int
	}{
		{time.Millisecond, 1},
		{10 * time.Millisecond, 10},
		{time.Second, 1000},
		{876000 * time.Hour, 1},
		{876000 * time.Hour, 1000},
	} {
		w := resilience.NewSlidingWindow(tt.size, tt.buckets)
		w.Record(failure)
		require.Equal(t, events.Counts{Failure: 1}, w.Counts())
	}
}

// TestSlidingWindowConservesRecords has many goroutines record while the window
// rotates under them; nothing expires, so whatever was recorded is there.
func TestSlidingWindowConservesRecords(t *testing.T) {
	const (
		writers = 8
		each    = 4000
		span    = time.Millisecond
	)
	w := resilience.NewSlidingWindow(1000*span, 1000)
	birth := time.Now() // a little later than the window's
	var begun, ended [2]atomic.Uint64
	var write sync.WaitGroup
	for i := range writers {
		write.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for n := range each {
				kind := r.IntN(2)
				// Roughly in step, so that all meet at each boundary.
				at := birth.Add(time.Duration(n)*900*span/each + time.Duration(r.IntN(int(3*span))))
				begun[kind].Add(1)
				w.RecordAt(at, [2]events.Outcome{success, failure}[kind])
				ended[kind].Add(1)
			}
		})
	}
	var read sync.WaitGroup
	var stop atomic.Bool
	read.Go(func() {
		var last events.Counts
		for !stop.Load() {
			s, f := ended[0].Load(), ended[1].Load()
			c := w.CountsAt(birth)
			most := [2]uint64{begun[0].Load(), begun[1].Load()}
			if c.Success < s || c.Failure < f || c.Success > most[0] || c.Failure > most[1] {
				t.Errorf("read %+v, with %d and %d recorded before and %v begun after", c, s, f, most)
				return
			}
			if c.Success < last.Success || c.Failure < last.Failure {
				t.Errorf("read %+v after %+v", c, last)
				return
			}
			last = c
		}
	})
	write.Wait()
	stop.Store(true)
	read.Wait()

	got := w.CountsAt(birth.Add(900 * span))
	require.Equal(t, events.Counts{Success: ended[0].Load(), Failure: ended[1].Load()}, got)
	require.Equal(t, uint64(writers*each), got.Volume())
}

// Records at one and the same time lose nothing to each other either.
func TestSlidingWindowUnderContention(t *testing.T) {
	const each = 100_000
	w := resilience.NewSlidingWindow(time.Hour, 1)
	at := time.Now()
	var write sync.WaitGroup
	for i := range 4 {
		write.Go(func() {
			for range each {
				w.RecordAt(at, [2]events.Outcome{success, failure}[i%2])
			}
		})
	}
	write.Wait()
	require.Equal(t, events.Counts{Success: 2 * each, Failure: 2 * each}, w.CountsAt(at))
}

// TestSlidingWindowExpiresAllUnderConcurrency races records with the rotations that
// drop them: what is recent is there, and in the end nothing is left over.
func TestSlidingWindowExpiresAllUnderConcurrency(t *testing.T) {
	const (
		writers = 4
		rounds  = 2000
		span    = time.Millisecond
	)
	w := resilience.NewSlidingWindow(3*span, 3)
	birth := time.Now()
	var write sync.WaitGroup
	for range writers {
		write.Go(func() {
			for n := range rounds {
				w.RecordAt(birth.Add(time.Duration(n)*span), failure)
			}
		})
	}
	write.Wait()
	end := birth.Add((rounds - 1) * span)
	got := w.CountsAt(end).Failure
	require.GreaterOrEqual(t, got, uint64(writers), "those of the last bucket")
	require.LessOrEqual(t, got, uint64(writers*rounds))
	require.Equal(t, events.Counts{}, w.CountsAt(end.Add(4*span)))
	w.RecordAt(end.Add(5*span), success)
	require.Equal(t, events.Counts{Success: 1}, w.CountsAt(end.Add(5*span)))
}

// naiveWindow is the oracle: it remembers every record and the bucket it fell into.
type naiveWindow struct {
	span    time.Duration
	buckets int64
	newest  int64 // the newest bucket that anything was reported in
	records []naiveRecord
}

type naiveRecord struct {
	bucket  int64
	outcome events.Outcome
}

func newNaiveWindow(size time.Duration, buckets int) *naiveWindow {
	span := size / time.Duration(buckets)
	if size%time.Duration(buckets) != 0 {
		span++
	}
	return &naiveWindow{span: span, buckets: int64(buckets)}
}

// bucket returns the bucket of a time, the newest one for a time before that.
func (w *naiveWindow) bucket(at time.Duration) int64 { return max(int64(at/w.span), w.newest) }

func (w *naiveWindow) record(at time.Duration, o events.Outcome) {
	w.newest = w.bucket(at)
	if o == success || o == failure {
		w.records = append(w.records, naiveRecord{w.newest, o})
	}
}

func (w *naiveWindow) counts(at time.Duration) events.Counts {
	var c events.Counts
	for _, r := range w.records {
		if r.bucket <= w.bucket(at)-w.buckets {
			continue
		}
		if r.outcome == success {
			c.Success++
		} else {
			c.Failure++
		}
	}
	return c
}

// FuzzSlidingWindow drives a window and the oracle through the same script of
// pairs: what to do, and how far to move the clock.
func FuzzSlidingWindow(f *testing.F) {
	f.Add(uint32(10_000), uint16(10), []byte("\x00\x00\x01\x21\x02\x42\x03\x63\x00\x81\x01\xa3\x13\x04"))
	f.Add(uint32(10), uint16(3), []byte("\x00\x41\x01\x41\x00\x41\x01\x41\x00\x41\x03\x61\x00\x90\x01\xff"))
	f.Add(uint32(1), uint16(1), []byte("\x00\x01\x00\x21\x00\x41\x00\x61\x00\x81\x03\xa1"))
	f.Add(uint32(7), uint16(7), []byte("\x01\xc1\x00\xe1\x01\x01\x11\xc7\x03\x00"))
	f.Add(uint32(60_000), uint16(1000), []byte("\x00\x5f\x01\x7f\x00\x9f\x03\xbf\x03\xdf\x00\xff"))
	r := rand.New(rand.NewPCG(3, 14))
	for range 20 {
		script := make([]byte, 400)
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		f.Add(r.Uint32N(20_000), uint16(r.Uint32N(60)), script)
	}
	f.Fuzz(func(t *testing.T, ms uint32, n uint16, script []byte) {
		buckets := int(n)%1000 + 1
		size := time.Duration(buckets)*time.Millisecond + time.Duration(ms)*time.Millisecond + time.Duration(ms%7)
		synctest.Test(t, func(t *testing.T) {
			birth := time.Now()
			w, naive := resilience.NewSlidingWindow(size, buckets), newNaiveWindow(size, buckets)
			var now time.Duration
			script = script[:min(len(script), 2000)]
			for ; len(script) >= 2; script = script[2:] {
				unit := [...]time.Duration{0, 1, naive.span - 1, naive.span, naive.span + 1, size - 1, size, -naive.span}[script[1]>>5]
				now += time.Duration(script[1]&0x1f) * unit
				at := birth.Add(now)
				if script[0]&0x10 != 0 {
					at = at.Round(0) // the wall clock alone
				}
				switch script[0] & 3 {
				case 0:
					w.RecordAt(at, success)
					naive.record(now, success)
				case 1:
					w.RecordAt(at, failure)
					naive.record(now, failure)
				case 2:
					w.RecordAt(at, ignored)
					naive.record(now, ignored)
				}
				if got, want := w.CountsAt(at), naive.counts(now); got != want {
					t.Fatalf("size %v in %d buckets, at %v: counts %+v, want %+v", size, buckets, now, got, want)
				}
				for _, ahead := range [...]time.Duration{-size, naive.span, size - naive.span, size} {
					if got, want := w.CountsAt(at.Add(ahead)), naive.counts(now+ahead); got != want {
						t.Fatalf("size %v in %d buckets, at %v, asked about %v: counts %+v, want %+v",
							size, buckets, now, now+ahead, got, want)
					}
				}
			}
		})
	})
}
