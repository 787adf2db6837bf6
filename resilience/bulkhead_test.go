package resilience_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

// bulkhead returns a Bulkhead with a Recorder.
func bulkhead(t *testing.T, concurrent, queue int, wait time.Duration) (*resilience.Bulkhead, *eventstest.Recorder) {
	t.Helper()
	rec := eventstest.New(t)
	return resilience.NewBulkhead(&resilience.BulkheadConfig{
		Name: "search", MaxConcurrent: concurrent, MaxQueue: queue, MaxWait: wait, Events: rec.Sink(),
	}), rec
}

// working is work that takes d and does not heed its context.
func working(d time.Duration) func(context.Context) error {
	return func(context.Context) error { time.Sleep(d); return nil }
}

// requireEmpty checks that no slot is taken and nobody waits, and that all slots are
// there: as many calls as it has slots run at once, one more does not without a queue.
func requireEmpty(t *testing.T, b *resilience.Bulkhead, concurrent int) {
	t.Helper()
	s := b.Snapshot()
	require.Zero(t, s.InFlight, "slots taken")
	require.Zero(t, s.Queued, "calls waiting")
	var fill func(n int) error
	fill = func(n int) error {
		return b.Run(context.Background(), func(context.Context) error {
			require.Equal(t, n, b.Snapshot().InFlight)
			if n < concurrent {
				return fill(n + 1)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var canceling sync.WaitGroup
			canceling.Go(func() {
				for b.Snapshot().Queued == 0 && ctx.Err() == nil {
					time.Sleep(time.Microsecond)
				}
				cancel()
			})
			err := b.Run(ctx, func(context.Context) error { return errors.New("one call too many runs") })
			cancel()
			canceling.Wait() // in a bubble, time stops when its test returns
			if errors.Is(err, resilience.ErrBulkheadFull) || errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		})
	}
	require.NoError(t, fill(1))
}

func TestBulkheadRunsSoManyQueuesSoManyAndRejectsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, rec := bulkhead(t, 2, 3, 0)
		var wg sync.WaitGroup
		var rejected atomic.Int32
		for range 10 {
			wg.Go(func() {
				if err := b.Run(t.Context(), working(time.Second)); err != nil {
					require.ErrorIs(t, err, resilience.ErrBulkheadFull)
					require.EqualError(t, err, `resilience: bulkhead "search" is full: 2 calls run and 3 wait`)
					require.Equal(t, "bulkhead_full", events.ErrorType(err))
					rejected.Add(1)
				}
			})
		}
		synctest.Wait()
		require.Equal(t, events.BulkheadSnapshot{InFlight: 2, Queued: 3, Admitted: 2, Rejected: 5}, b.Snapshot())
		began := time.Now()
		wg.Wait()
		require.Equal(t, 3*time.Second, time.Since(began), "five calls, two at a time")
		require.Equal(t, int32(5), rejected.Load())
		require.Equal(t, events.BulkheadSnapshot{Admitted: 5, Rejected: 5}, b.Snapshot())
		requireEmpty(t, b, 2)

		created := last[events.BulkheadCreated](t, rec)
		require.Equal(t, 2, created.MaxConcurrent)
		require.Equal(t, 3, created.MaxQueue)
		require.Equal(t, b.Snapshot(), created.Snapshot())
		require.Equal(t, b.ID(), created.ID)
		var waits []time.Duration
		for _, e := range eventstest.Of[events.BulkheadWaited](rec)[:3] {
			require.Equal(t, events.OutcomeSuccess, e.Outcome)
			waits = append(waits, e.Duration)
		}
		require.Equal(t, []time.Duration{time.Second, time.Second, 2 * time.Second}, waits)
		require.Equal(t, events.ReasonQueueFull, eventstest.Of[events.BulkheadRejected](rec)[0].Reason)
		b.Close()
		b.Close()
		require.Equal(t, events.KindBulkheadRetired, rec.Kinds()[len(rec.Kinds())-1])
		require.Len(t, eventstest.Of[events.BulkheadRetired](rec), 1)
	})
}

func TestBulkheadServesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := bulkhead(t, 1, 100, 0)
		var order []int
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				require.NoError(t, b.Run(t.Context(), func(context.Context) error {
					order = append(order, i) // one at a time
					time.Sleep(time.Millisecond)
					return nil
				}))
			})
			synctest.Wait()
		}
		wg.Wait()
		require.Len(t, order, 100)
		require.True(t, slices.IsSorted(order), "%v", order)
	})
}

func TestBulkheadWaitsNoLongerThanMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, rec := bulkhead(t, 1, 2, time.Second)
		go func() { _ = b.Run(t.Context(), working(1500*time.Millisecond)) }()
		synctest.Wait()
		began := time.Now()
		err := b.Run(t.Context(), working(0))
		require.Equal(t, time.Second, time.Since(began))
		require.ErrorIs(t, err, resilience.ErrBulkheadFull)
		require.EqualError(t, err, `resilience: bulkhead "search" had none of its 1 slots free for 1s`)
		require.Equal(t, events.OutcomeRejected, last[events.BulkheadWaited](t, rec).Outcome)
		require.Equal(t, events.ReasonMaxWait, last[events.BulkheadRejected](t, rec).Reason)
		require.Equal(t, events.BulkheadSnapshot{InFlight: 1, Admitted: 1, Rejected: 1}, b.Snapshot())

		require.NoError(t, b.Run(t.Context(), working(0)), "half a second is within a second")
		requireEmpty(t, b, 1)
	})
}

func TestBulkheadHeedsTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, rec := bulkhead(t, 1, 2, 0)
		done, cancel := context.WithCancel(t.Context())
		cancel()
		require.Equal(t, context.Canceled, b.Run(done, func(context.Context) error { t.Error("run"); return nil }), "done already")
		require.Zero(t, b.Snapshot().Admitted)

		go func() { _ = b.Run(t.Context(), working(time.Minute)) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.Equal(t, context.DeadlineExceeded, b.Run(ctx, func(context.Context) error { t.Error("run"); return nil }))
		require.Equal(t, time.Second, time.Since(began))
		require.Equal(t, events.OutcomeIgnored, last[events.BulkheadWaited](t, rec).Outcome)
		require.Empty(t, eventstest.Of[events.BulkheadRejected](rec))
		require.Equal(t, events.BulkheadSnapshot{InFlight: 1, Admitted: 1, Canceled: 1}, b.Snapshot())

		// Who leaves the middle of the queue lets the others keep their turn.
		var order []int
		var wg sync.WaitGroup
		leaving, leave := context.WithCancel(t.Context())
		b2, _ := bulkhead(t, 1, 5, 0)
		wg.Go(func() { _ = b2.Run(t.Context(), working(time.Second)) })
		synctest.Wait()
		for i := range 5 {
			ctx := t.Context()
			if i == 0 || i == 2 || i == 4 {
				ctx = leaving
			}
			wg.Go(func() { _ = b2.Run(ctx, func(context.Context) error { order = append(order, i); return nil }) })
			synctest.Wait()
		}
		leave()
		synctest.Wait()
		require.Equal(t, 2, b2.Snapshot().Queued)
		wg.Wait()
		require.Equal(t, []int{1, 3}, order)
		requireEmpty(t, b2, 1)
		time.Sleep(time.Hour)
	})
}

// A call whose context ends at the moment it gets its slot hands it on.
func TestBulkheadGivesBackASlotNobodyWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 200 { // select chooses at random
			b, _ := bulkhead(t, 1, 1, time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			var wg sync.WaitGroup
			wg.Go(func() { _ = b.Run(t.Context(), working(time.Second)) })
			synctest.Wait()
			wg.Go(func() { _ = b.Run(ctx, func(context.Context) error { return nil }) })
			wg.Wait()
			cancel()
			s := b.Snapshot()
			require.Zero(t, s.InFlight)
			require.Zero(t, s.Queued)
			require.Equal(t, uint64(2), s.Admitted+s.Rejected+s.Canceled)
		}
	})
}

func TestBulkheadGetsItsSlotsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := bulkhead(t, 2, 0, 0)
		require.Equal(t, "search", b.Name())
		require.Equal(t, errBroken, b.Run(t.Context(), func(context.Context) error { return errBroken }))
		require.Equal(t, "boom", panics(t, func() { _ = b.Run(t.Context(), func(context.Context) error { panic("boom") }) }))
		goexits(t, func() { _ = b.Run(t.Context(), func(context.Context) error { return exit() }) })
		require.PanicsWithValue(t, "resilience: Run of a nil function", func() { _ = b.Run(t.Context(), nil) })
		requireEmpty(t, b, 2)
	})
}

// A sink that panics costs no slot.
func TestBulkheadSurvivesItsSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		armed := false
		boom := func() {
			if armed {
				panic("sink")
			}
		}
		b := resilience.NewBulkhead(&resilience.BulkheadConfig{MaxConcurrent: 1, MaxQueue: 1, MaxWait: time.Second, Events: events.Sink{
			BulkheadWaited:   func(context.Context, events.BulkheadWaited) { boom() },
			BulkheadRejected: func(context.Context, events.BulkheadRejected) { boom() },
		}})
		for _, held := range []time.Duration{time.Second / 2, time.Minute} { // it gets a slot, and waits in vain
			go func() { _ = b.Run(t.Context(), working(held)) }()
			synctest.Wait()
			armed = true
			require.Equal(t, "sink", panics(t, func() { _ = b.Run(t.Context(), working(0)) }))
			armed = false
			time.Sleep(time.Hour)
		}
		requireEmpty(t, b, 1)
	})
}

func TestBulkheadIsSilentWhenClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, rec := bulkhead(t, 1, 1, time.Second)
		b.Close()
		n := len(rec.Kinds())
		go func() { _ = b.Run(t.Context(), working(time.Minute)) }()
		synctest.Wait()
		require.ErrorIs(t, b.Run(t.Context(), working(0)), resilience.ErrBulkheadFull, "it still holds back")
		require.Len(t, rec.Kinds(), n)
		time.Sleep(time.Hour)
	})
}

// What a bulkhead turns away says nothing about the dependency, and is not retried.
func TestBulkheadInsideBreakerAndRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, rec := bulkhead(t, 1, 0, 0)
		cb := resilience.NewCircuitBreaker(small(rec.Sink()))
		retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "search", Events: rec.Sink()})
		go func() { _ = b.Run(t.Context(), working(time.Minute)) }()
		synctest.Wait()
		for range 10 {
			err := resilience.Chain(retrier, cb, b).Run(t.Context(), working(0))
			full, ok := err.(*resilience.BulkheadFullError) //nolint:errorlint // as it is
			require.True(t, ok)
			require.Equal(t, "search", full.Name)
		}
		require.Equal(t, events.Counts{Ignored: 10}, cb.GetStats().Totals)
		require.Equal(t, closed, cb.State())
		require.Equal(t, events.OutcomeRejected, last[events.AttemptFinished](t, rec).Outcome)
		require.Equal(t, events.ReasonRejected, last[events.RetryFinished](t, rec).Reason)

		stubborn := resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: time.Minute, MaxDelay: time.Minute,
			RetryIf: func(err error) bool { return errors.Is(err, resilience.ErrBulkheadFull) }})
		require.NoError(t, resilience.Chain(stubborn, cb, b).Run(t.Context(), working(0)), "who wants to, can")
	})
}

func TestBulkheadConfig(t *testing.T) {
	require.NoError(t, (*resilience.BulkheadConfig)(nil).Validate())
	b := resilience.NewBulkhead(nil)
	require.Equal(t, "default", b.Name())
	requireEmpty(t, b, 10)
	for want, c := range map[string]resilience.BulkheadConfig{
		"resilience: BulkheadConfig.MaxConcurrent is -1, want at least 1, or 0 for the default":                          {MaxConcurrent: -1},
		"resilience: BulkheadConfig.MaxQueue is -1, want at least 1, or 0 for no queue":                                  {MaxQueue: -1},
		"resilience: BulkheadConfig.MaxWait is -1s, want a positive duration, or 0 to wait as long as the context lives": {MaxQueue: 1, MaxWait: -time.Second},
		"resilience: BulkheadConfig.MaxQueue is 0, want at least 1 when MaxWait is set":                                  {MaxWait: time.Second},
		"resilience: BulkheadConfig.MaxQueue is 4294967296, want at most 2147483647":                                     {MaxQueue: 1 << 32},
	} {
		require.EqualError(t, configError(t, func() { resilience.NewBulkhead(&c) }), want)
	}
}

// A hundred goroutines that come, wait, give up, panic and exit: never more calls run
// than there are slots, and in the end all slots are there.
func TestBulkheadOfAHundredGoroutines(t *testing.T) {
	const slots, workers, calls = 7, 100, 200
	b, _ := bulkhead(t, slots, 20, 2*time.Millisecond)
	var running, most, ran atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for range calls {
				ctx, cancel := context.WithCancel(context.Background())
				if random.IntN(3) == 0 {
					ctx, cancel = context.WithTimeout(context.Background(), time.Duration(random.IntN(int(time.Millisecond))))
				}
				end := random.IntN(20)
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { _ = recover() }()
					_ = b.Run(ctx, func(context.Context) error {
						now := running.Add(1)
						defer running.Add(-1)
						if now > slots {
							most.Store(now)
						}
						ran.Add(1)
						time.Sleep(time.Duration(random.IntN(50)) * time.Microsecond)
						switch end {
						case 0:
							panic("boom")
						case 1:
							return exit()
						}
						return nil
					})
				}()
				<-done
				cancel()
			}
		})
	}
	wg.Wait()
	require.Zero(t, most.Load(), "calls that ran at once")
	s := b.Snapshot()
	require.Equal(t, uint64(ran.Load()), s.Admitted)
	require.LessOrEqual(t, s.Admitted+s.Rejected+s.Canceled, uint64(workers*calls))
	requireEmpty(t, b, slots)
}

// bulkheadModel is a bulkhead as one would write it for one goroutine.
type bulkheadModel struct {
	slots, places    int
	running, waiting []int // calls, in the order they began or came
}

func (m *bulkheadModel) arrive(call int) string {
	switch {
	case len(m.running) < m.slots:
		m.running = append(m.running, call)
		return "runs"
	case len(m.waiting) < m.places:
		m.waiting = append(m.waiting, call)
		return "waits"
	default:
		return "rejected"
	}
}

func (m *bulkheadModel) finish(i int) {
	m.running = slices.Delete(m.running, i, i+1)
	if len(m.waiting) > 0 {
		m.running = append(m.running, m.waiting[0])
		m.waiting = m.waiting[1:]
	}
}

// FuzzBulkhead compares a bulkhead with the model: each byte of the script lets a call
// come, a running one end, or a waiting one give up.
func FuzzBulkhead(f *testing.F) {
	f.Add(uint8(2), uint8(2), []byte{0, 0, 0, 0, 0, 1, 2, 1, 0, 2, 1, 1, 1})
	f.Add(uint8(1), uint8(0), []byte{0, 0, 1, 0})
	f.Add(uint8(3), uint8(7), []byte{0, 3, 6, 9, 12, 15, 2, 5, 8, 1, 4, 7, 1, 1, 1})
	f.Fuzz(func(t *testing.T, slots, places uint8, script []byte) {
		slots, places = slots%5+1, places%6
		if len(script) > 100 {
			script = script[:100]
		}
		synctest.Test(t, func(t *testing.T) { driveBulkhead(t, int(slots), int(places), script) })
	})
}

func driveBulkhead(t *testing.T, slots, places int, script []byte) {
	b, _ := bulkhead(t, slots, places, 0)
	m := &bulkheadModel{slots: slots, places: places}
	type call struct {
		end    chan struct{}
		cancel context.CancelFunc
		result chan error
	}
	calls := make(map[int]*call)
	var mu sync.Mutex
	var running []int
	begin := func(n int) *call {
		ctx, cancel := context.WithCancel(context.Background())
		c := &call{make(chan struct{}), cancel, make(chan error, 1)}
		go func() {
			c.result <- b.Run(ctx, func(context.Context) error {
				mu.Lock()
				running = append(running, n)
				mu.Unlock()
				<-c.end
				mu.Lock()
				running = slices.DeleteFunc(running, func(r int) bool { return r == n })
				mu.Unlock()
				return nil
			})
		}()
		return c
	}
	check := func(step int) {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.ElementsMatch(t, m.running, running, "step %d", step)
		s := b.Snapshot()
		require.Equal(t, len(m.running), s.InFlight, "step %d", step)
		require.Equal(t, len(m.waiting), s.Queued, "step %d", step)
	}
	for i, op := range script {
		pick := int(op / 3)
		switch {
		case op%3 == 0:
			c := begin(i)
			calls[i] = c
			synctest.Wait()
			if m.arrive(i) == "rejected" {
				require.ErrorIs(t, <-c.result, resilience.ErrBulkheadFull, "step %d", i)
				c.cancel()
			}
		case op%3 == 1 && len(m.running) > 0:
			n := m.running[pick%len(m.running)]
			close(calls[n].end)
			m.finish(pick % len(m.running))
			require.NoError(t, <-calls[n].result)
			calls[n].cancel()
		case op%3 == 2 && len(m.waiting) > 0:
			at := pick % len(m.waiting)
			n := m.waiting[at]
			calls[n].cancel()
			m.waiting = slices.Delete(m.waiting, at, at+1)
			require.ErrorIs(t, <-calls[n].result, context.Canceled)
		}
		check(i)
	}
	for len(m.running) > 0 {
		n := m.running[0]
		close(calls[n].end)
		m.finish(0)
		require.NoError(t, <-calls[n].result)
		calls[n].cancel()
		check(-1)
	}
}
