package events_test

import (
	"context"
	"iter"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
)

// send puts events with the given numbers into s, as Attempts.
func send(ctx context.Context, s *events.Stream, numbers ...int) {
	sink := s.Sink()
	for _, n := range numbers {
		sink.RetryScheduled(ctx, events.RetryScheduled{Header: charge, Attempt: n})
	}
}

// number is what send was given for e.
func number(e events.Event) int { return e.(events.RetryScheduled).Attempt }

// take returns the numbers of up to n events, leaving by break.
func take(n int, from iter.Seq[events.Event]) []int {
	got := []int{}
	if n == 0 {
		return got
	}
	for e := range from {
		got = append(got, number(e))
		if len(got) == n {
			break
		}
	}
	return got
}

// rest closes s and returns the numbers of all events in it.
func rest(ctx context.Context, s *events.Stream) []int {
	s.Close()
	return take(-1, s.All(ctx))
}

func TestStreamKeepsEventsInOrder(t *testing.T) {
	s := events.NewStream(100)
	for _, k := range kinds {
		require.Equal(t, t.Context(), deliver(t.Context(), s.Sink(), k.event), "derives nothing")
	}
	s.Close()
	var got []events.Event
	for e := range s.All(t.Context()) {
		got = append(got, e)
	}
	require.Len(t, got, len(kinds))
	for i, k := range kinds {
		require.Equal(t, k.event, got[i])
	}
	require.Zero(t, s.Dropped())
}

func TestStreamDropsTheNewEventWhenFull(t *testing.T) {
	s := events.NewStream(3)
	send(t.Context(), s, 1, 2, 3)
	require.Zero(t, s.Dropped())
	send(t.Context(), s, 4, 5)
	require.EqualValues(t, 2, s.Dropped())
	require.Equal(t, []int{1, 2}, take(2, s.All(t.Context())))
	send(t.Context(), s, 6, 7, 8)
	require.EqualValues(t, 3, s.Dropped())
	require.Equal(t, []int{3, 6, 7}, rest(t.Context(), s))
	require.EqualValues(t, 3, s.Dropped())
}

func TestStreamCapacity(t *testing.T) {
	for capacity, want := range map[int]int{1: 1, 2: 2, 1025: 1025, 0: 1024, -1: 1024, math.MinInt: 1024} {
		s := events.NewStream(capacity)
		for i := range want {
			send(t.Context(), s, i)
		}
		require.Zero(t, s.Dropped(), "NewStream(%d)", capacity)
		send(t.Context(), s, want)
		require.EqualValues(t, 1, s.Dropped(), "NewStream(%d)", capacity)
		require.Len(t, rest(t.Context(), s), want)
	}
}

func TestStreamClosed(t *testing.T) {
	s := events.NewStream(10)
	send(t.Context(), s, 1, 2)
	s.Close()
	s.Close()
	send(t.Context(), s, 3) // there is room, but no reader need be left
	require.EqualValues(t, 1, s.Dropped())
	require.Equal(t, []int{1}, take(1, s.All(t.Context())), "what is buffered comes first")
	s.Close()
	require.Equal(t, []int{2}, take(9, s.All(t.Context())))
	require.Empty(t, take(9, s.All(t.Context())), "and then the end, again and again")
	send(t.Context(), s, 4)
	require.EqualValues(t, 2, s.Dropped())
}

func TestStreamBreakAndRangeAgain(t *testing.T) {
	s := events.NewStream(10)
	send(t.Context(), s, 1, 2, 3, 4, 5)
	all := s.All(t.Context())
	require.Equal(t, []int{1}, take(1, all))
	require.Equal(t, []int{2, 3}, take(2, all), "the same iterator")
	require.Equal(t, []int{4}, take(1, s.All(t.Context())), "another one")
	next, stop := iter.Pull(all)
	e, ok := next()
	require.True(t, ok)
	require.Equal(t, 5, number(e))
	send(t.Context(), s, 6)
	stop()
	require.Equal(t, []int{6}, rest(t.Context(), s))
	require.Zero(t, s.Dropped())
}

func TestStreamBodyMayPanic(t *testing.T) {
	s := events.NewStream(10)
	send(t.Context(), s, 1, 2)
	require.Panics(t, func() {
		for range s.All(t.Context()) {
			panic("consumer")
		}
	})
	require.Equal(t, []int{2}, rest(t.Context(), s))
}

func TestStreamBodyMayUseTheStream(t *testing.T) {
	s := events.NewStream(2)
	send(t.Context(), s, 1, 2)
	var got []int
	for e := range s.All(t.Context()) {
		got = append(got, number(e))
		send(t.Context(), s, 10*number(e))
		if len(got) == 4 {
			require.Zero(t, s.Dropped())
			s.Close()
		}
	}
	require.Equal(t, []int{1, 2, 10, 20, 100, 200}, got)
}

func TestStreamContextEndsTheIteration(t *testing.T) {
	t.Run("before it begins", func(t *testing.T) {
		s := events.NewStream(100)
		for i := range 100 { // often enough that a select among ready cases would take one
			send(t.Context(), s, i)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 100 {
			require.Empty(t, take(-1, s.All(ctx)))
		}
		require.Len(t, rest(t.Context(), s), 100)
	})
	t.Run("from within the body", func(t *testing.T) {
		s := events.NewStream(100)
		send(t.Context(), s, 1, 2, 3)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got []int
		for e := range s.All(ctx) {
			got = append(got, number(e))
			cancel()
		}
		require.Equal(t, []int{1}, got)
		require.Equal(t, []int{2, 3}, rest(t.Context(), s))
	})
	t.Run("while it waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := events.NewStream(100)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			began := time.Now()
			require.Empty(t, take(-1, s.All(ctx)))
			require.Equal(t, time.Minute, time.Since(began))
			send(t.Context(), s, 1)
			require.Equal(t, []int{1}, rest(t.Context(), s))
		})
	})
}

func TestStreamWakesAReaderThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := events.NewStream(1)
		var got []int
		go func() { got = take(-1, s.All(t.Context())) }()
		for i := range 5 {
			synctest.Wait() // until the reader has nothing left to do
			send(t.Context(), s, i)
		}
		synctest.Wait()
		require.Nil(t, got, "the reader still waits")
		s.Close()
		synctest.Wait()
		require.Equal(t, []int{0, 1, 2, 3, 4}, got)
		require.Zero(t, s.Dropped())
	})
}

func TestStreamCloseWakesEveryReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const readers = 10
		s := events.NewStream(1)
		var waiting atomic.Int32
		for range readers {
			waiting.Add(1)
			go func() {
				defer waiting.Add(-1)
				for range s.All(t.Context()) {
					t.Error("there is no event to yield")
				}
			}()
		}
		synctest.Wait()
		require.EqualValues(t, readers, waiting.Load())
		s.Close()
		synctest.Wait()
		require.Zero(t, waiting.Load())
	})
}

// A reader that is stuck, and a full buffer, are not felt by who sends.
func TestStreamNeverBlocksTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := events.NewStream(2)
		stuck := make(chan struct{})
		var got int
		go func() {
			for range s.All(t.Context()) {
				got++
				<-stuck
			}
		}()
		send(t.Context(), s, 0)
		synctest.Wait()
		began := time.Now()
		for i := range 1000 {
			send(t.Context(), s, i)
		}
		require.Equal(t, began, time.Now())
		require.EqualValues(t, 998, s.Dropped())
		s.Close()
		close(stuck)
		synctest.Wait()
		require.Equal(t, 3, got)
	})
}

// Whatever senders, readers that come and go, and Close do at the same time, each
// event is received once or counted as dropped, and those of one sender that one
// reader receives are in order.
func TestStreamAccountsForEveryEvent(t *testing.T) {
	const senders, readers, each = 4, 4, 2000
	for _, tt := range []struct {
		name     string
		capacity int
		closeAt  int // events a sender has sent by then; -1: Close comes last
	}{
		{"room for all", senders * each, -1},
		{"small", 4, -1},
		{"closed midway", 64, each / 2},
		{"closed at once", 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := events.NewStream(tt.capacity)
			received, before := make([][]int, readers), make([]uint64, senders)
			var reading, sending sync.WaitGroup
			for i := range readers {
				reading.Go(func() {
					for n := 1; ; n++ {
						got := leave(t.Context(), s, n)
						received[i] = append(received[i], got...)
						if len(got) < n { // it was not the reader that ended it
							return
						}
					}
				})
			}
			for i := range senders {
				sending.Go(func() {
					for j := range each {
						if i == 0 && j == tt.closeAt {
							s.Close()
						}
						send(t.Context(), s, i*each+j)
						if dropped := s.Dropped(); dropped < before[i] || dropped > senders*each {
							t.Errorf("Dropped went from %d to %d", before[i], dropped)
						} else {
							before[i] = dropped
						}
					}
				})
			}
			sending.Wait()
			s.Close()
			reading.Wait()

			seen := make(map[int]bool)
			for _, numbers := range received {
				last := make([]int, senders)
				for _, n := range numbers {
					require.False(t, seen[n], "%d was received twice", n)
					seen[n] = true
					require.GreaterOrEqual(t, n, last[n/each], "out of order")
					last[n/each] = n
				}
			}
			require.Equal(t, senders*each, len(seen)+int(s.Dropped()))
			if tt.capacity == senders*each {
				require.Zero(t, s.Dropped())
			}
		})
	}
}

// leave returns the numbers of n events or a few more, having left by break if n is
// even and else because its context is done; of fewer if the stream ends.
func leave(ctx context.Context, s *events.Stream, n int) []int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var got []int
	for e := range s.All(ctx) {
		got = append(got, number(e))
		switch {
		case len(got) < n:
		case n%2 == 0:
			return got
		default:
			go cancel() // at any moment from now on
		}
	}
	return got
}

func TestStreamSinkOfSomeKinds(t *testing.T) {
	var every []events.Kind
	for _, k := range kinds {
		every = append(every, k.kind)
	}
	for _, tt := range []struct{ give, want []events.Kind }{
		{nil, every},
		{every, every},
		{[]events.Kind{events.KindStateChanged, events.KindRetryFinished}, []events.Kind{events.KindStateChanged, events.KindRetryFinished}},
		{[]events.Kind{events.KindCallStarted, events.KindCallStarted}, []events.Kind{events.KindCallStarted}},
		{[]events.Kind{events.KindCount, 255}, []events.Kind{}}, // kinds of a later version, perhaps
	} {
		s := events.NewStream(0)
		sink := s.Sink(tt.give...)
		for _, k := range kinds {
			require.Equal(t, slices.Contains(tt.want, k.kind), !function(sink, k.kind).IsNil(), "%v of %v", k.kind, tt.give)
			deliver(t.Context(), sink, k.event)
		}
		s.Close()
		got := []events.Kind{}
		for e := range s.All(t.Context()) {
			got = append(got, e.Kind())
		}
		require.Equal(t, tt.want, got)
	}
	for _, k := range kinds {
		s := events.NewStream(0)
		deliver(t.Context(), s.Sink(k.kind), k.event)
		for e := range s.All(t.Context()) {
			require.Equal(t, k.event, e)
			break
		}
	}
}

// FuzzStream holds a stream against a slice: each byte is an operation.
func FuzzStream(f *testing.F) {
	f.Add(uint8(2), []byte("ssssrrr"))
	f.Add(uint8(0), []byte("srs4r1c4r"))
	f.Add(uint8(1), []byte("sscsr2rcs"))
	f.Add(uint8(3), []byte("sssssx9xr1xcx9"))
	f.Fuzz(func(t *testing.T, capacity uint8, ops []byte) {
		size := int(capacity)
		if size == 0 {
			size = 1024
		}
		s := events.NewStream(int(capacity))
		done, cancel := context.WithCancel(t.Context())
		cancel()
		var (
			model   = []int{}
			dropped uint64
			closed  bool
		)
		for i, op := range ops {
			switch {
			case op == 'c':
				s.Close()
				closed = true
			case op == 'x':
				require.Empty(t, take(-1, s.All(done)))
			case op >= '0' && op <= '9', op == 'r': // take some, or all
				n := len(model)
				if op != 'r' {
					n = int(op - '0')
				}
				want := model[:min(n, len(model))]
				if !closed {
					n = min(n, len(model)) // more would wait
				}
				require.Equal(t, want, take(n, s.All(t.Context())))
				model = model[len(want):]
			default:
				send(t.Context(), s, i)
				if closed || len(model) == size {
					dropped++
				} else {
					model = append(model, i)
				}
			}
			require.Equal(t, dropped, s.Dropped())
		}
		require.Equal(t, model, rest(t.Context(), s))
	})
}
