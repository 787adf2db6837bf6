package resilience

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
)

// patience is how long a test waits for what must not block. It is never waited out
// unless the test fails.
const patience = 20 * time.Second

// within fails the test if f does not return.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s blocks", what)
	}
}

func TestSlidingWindowNeverBlocksAReader(t *testing.T) {
	w := NewSlidingWindow(10*time.Second, 10)
	w.recordAt(0, events.OutcomeFailure)
	w.mu.Lock() // as a rotation under way does
	defer w.mu.Unlock()
	within(t, "CountsAt in the newest bucket", func() {
		require.Equal(t, events.Counts{Failure: 1}, w.countsAt(0))
	})
	within(t, "CountsAt beyond it", func() {
		require.Equal(t, events.Counts{Failure: 1}, w.countsAt(5*time.Second))
	})
	within(t, "CountsAt beyond the window", func() {
		require.Equal(t, events.Counts{}, w.countsAt(time.Hour))
	})
	within(t, "Record in the newest bucket", func() {
		w.recordAt(time.Second-1, events.OutcomeFailure)
	})
	within(t, "Counts", func() {
		require.Equal(t, events.Counts{Failure: 2}, w.countsAt(0))
	})
}

// A record that was late, because its goroutine was held up after it had looked at
// the clock, counts in the bucket that is the newest by then.
func TestSlidingWindowKeepsALateRecord(t *testing.T) {
	w := NewSlidingWindow(3*time.Second, 3)
	require.Less(t, time.Second-1, w.marks.Load().end, "where a record at this time belongs")
	w.recordAt(2*time.Second, events.OutcomeSuccess) // another call rotates meanwhile
	w.failure.Add(1)                                 // what the first one still had to do
	require.Equal(t, events.Counts{Success: 1, Failure: 1}, w.countsAt(2*time.Second))
	require.Equal(t, events.Counts{Success: 1, Failure: 1}, w.countsAt(5*time.Second-1))
	require.Equal(t, events.Counts{}, w.countsAt(5*time.Second))
}

func TestSlidingWindowRotatesOncePerBucket(t *testing.T) {
	w := NewSlidingWindow(3*time.Second, 3)
	for _, tt := range []struct {
		at   time.Duration
		want bool
	}{
		{0, false}, {time.Second - 1, false}, {time.Second, true}, {time.Second, false},
		{2*time.Second - 1, false}, {5 * time.Second, true}, {5 * time.Second, false}, {0, false},
		{6*time.Second - 1, false}, {6 * time.Second, true},
	} {
		before := w.marks.Load()
		w.recordAt(tt.at, events.OutcomeSuccess)
		require.Equal(t, tt.want, w.marks.Load() != before, "at %v", tt.at)
	}
}

// A slow call that is half counted as a bucket begins makes no more calls slow than
// there are.
func TestSlidingWindowWithAHalfCountedSlowCall(t *testing.T) {
	w := new(SlidingWindow)
	w.init(time.Now(), 0, 3*time.Second, 3, false, true)
	w.success.Add(1)
	w.rotate(10 * time.Second)
	w.slow.Add(1)
	require.Equal(t, events.Counts{}, w.countsAt(10*time.Second))
	w.success.Add(1)
	require.Equal(t, events.Counts{Success: 1, Slow: 1}, w.countsAt(10*time.Second))
}

// Of two calls that reach a boundary at once, one rotates.
func TestSlidingWindowRotatesOnceForTwo(t *testing.T) {
	w := NewSlidingWindow(2*time.Second, 2)
	w.recordAt(0, events.OutcomeFailure)
	m, rotated := w.rotate(time.Second)
	require.True(t, rotated)
	again, rotated := w.rotate(time.Second)
	require.False(t, rotated)
	require.Same(t, m, again)
	require.Equal(t, events.Counts{Failure: 1}, w.countsAt(time.Second))
}
