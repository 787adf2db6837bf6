package liveres_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/liveres"
	"github.com/breakwater-go/breakwater/resilience"
)

// model is what the page makes of the events, in Go.
type model struct {
	t        *testing.T
	frame    object
	circuits map[float64]object
	retries  map[string]object
	lost     float64
	updates  int
}

// take takes over events.
func (m *model) take(events []sseEvent) {
	for _, e := range events {
		switch e.kind {
		case "snapshot":
			m.frame = decode(m.t, e.data)
			m.circuits, m.retries = map[float64]object{}, map[string]object{}
			m.merge()
		case "update":
			require.NotNil(m.t, m.circuits, "an update before the snapshot")
			m.frame = decode(m.t, e.data)
			m.updates++
			m.merge()
		case "lost":
			m.lost += float64(decodeInt(m.t, e.data))
		default:
			require.Fail(m.t, "unknown event", e.kind)
		}
	}
}

func (m *model) merge() {
	last := at(m.t, m.frame, "columns.last").(float64)
	if gone, ok := m.frame["gone"].([]any); ok {
		for _, id := range gone {
			delete(m.circuits, id.(float64)) // it may have been and gone before we came
		}
	}
	for _, r := range optional(m.frame, "circuits") {
		id := r["id"].(float64)
		m.circuits[id] = m.record(m.circuits[id], r, []string{"open_until", "probes", "latency"})
	}
	for _, r := range optional(m.frame, "retries") {
		name := r["name"].(string)
		m.retries[name] = m.record(m.retries[name], r, []string{"recent"})
	}
	for _, records := range []any{m.circuits, m.retries} {
		switch records := records.(type) {
		case map[float64]object:
			for _, r := range records {
				extend(r["history"].(object), last, letter(r))
			}
		case map[string]object:
			for _, r := range records {
				extend(r["history"].(object), last, 'c')
			}
		}
	}
}

// record returns what a record is after a change of it. Absent is what may be absent.
func (m *model) record(old, change object, absent []string) object {
	if old == nil || change["thresholds"] != nil && change["name"] != nil {
		return change
	}
	merged := maps.Clone(old)
	for _, key := range absent {
		delete(merged, key)
	}
	for key, value := range change {
		switch key {
		case "history":
			extend(merged["history"].(object), value.(object)["first"].(float64)-1, letter(old))
			overwrite(merged["history"].(object), value.(object))
		case "transitions":
			var all []any
			known := old["transitions"].([]any)
			for _, t := range value.([]any) {
				if len(known) == 0 || t.(object)["generation"].(float64) > known[0].(object)["generation"].(float64) {
					all = append(all, t)
				}
			}
			all = append(all, known...)
			merged["transitions"] = all[:min(len(all), 32)]
		default:
			merged[key] = value
		}
	}
	return merged
}

func letter(r object) byte {
	if r["state"] == nil {
		return 'c'
	}
	l := r["state"].(string)[0]
	switch {
	case r["forced"].(bool):
		l -= 'a' - 'A'
	case r["shadow"].(bool):
		l = map[byte]byte{'c': 'c', 'o': 's', 'h': 'p'}[l]
	}
	return l
}

// extend adds columns without calls up to the last.
func extend(h object, last float64, state byte) {
	for length(h) < last-h["first"].(float64)+1 {
		for key, value := range h {
			switch value := value.(type) {
			case []any:
				h[key] = append(value, 0.)
			case string:
				h[key] = value + string(state)
			}
		}
	}
	for length(h) > 120 {
		for key, value := range h {
			switch value := value.(type) {
			case []any:
				h[key] = value[1:]
			case string:
				h[key] = value[1:]
			case float64:
				h[key] = value + 1
			}
		}
	}
}

func length(h object) float64 { return float64(len(h["success"].([]any))) }

// overwrite puts the columns of a change in place of those that h has.
func overwrite(h, change object) {
	from := int(change["first"].(float64) - h["first"].(float64))
	for key, value := range change {
		switch value := value.(type) {
		case []any:
			skip := max(0, -from)
			h[key] = append(h[key].([]any)[:from+skip], value[skip:]...)
		case string:
			skip := max(0, -from)
			h[key] = h[key].(string)[:from+skip] + value[skip:]
		}
	}
}

func optional(o object, key string) (records []object) {
	list, _ := o[key].([]any)
	for _, r := range list {
		records = append(records, r.(object))
	}
	return records
}

func decodeInt(t *testing.T, data []byte) (n int) {
	t.Helper()
	_, err := fmt.Sscan(string(data), &n)
	require.NoError(t, err)
	return n
}

// equals checks that the model is what the page would be told if it asked now.
func (m *model) equals(l *liveres.Live) {
	m.t.Helper()
	m.equalsPage(snapshot(m.t, l))
}

func (m *model) equalsPage(page object) {
	m.t.Helper()
	for _, r := range optional(page, "circuits") {
		mine := m.circuits[r["id"].(float64)]
		require.NotNil(m.t, mine, "circuit %v", r["id"])
		for key := range r {
			if key != "time_in_seconds" { // which is not kept up to date
				require.Equal(m.t, r[key], mine[key], "%s of circuit %v", key, r["id"])
			}
		}
		require.Len(m.t, mine, len(r))
	}
	require.Equal(m.t, len(page["circuits"].([]any)), len(m.circuits))
	for _, r := range optional(page, "retries") {
		require.Equal(m.t, r, m.retries[r["name"].(string)])
	}
	require.Equal(m.t, len(page["retries"].([]any)), len(m.retries))
	for _, key := range []string{"time", "process", "columns", "hidden", "controls", "version"} {
		require.Equal(m.t, page[key], m.frame[key])
	}
}

// play makes something happen for exactly d: calls, retries, forced states, breakers
// that come and go.
func play(t *testing.T, l *liveres.Live, random *rand.Rand, breakers *[]*resilience.CircuitBreaker, d time.Duration) {
	t.Helper()
	end := time.Now().Add(d)
	for {
		step := time.Duration(1+random.IntN(200)) * time.Millisecond
		if step >= time.Until(end) {
			time.Sleep(time.Until(end))
			return
		}
		time.Sleep(step)
		switch n := random.IntN(60); {
		case n == 0 && len(*breakers) < 6:
			*breakers = append(*breakers, breaker(l, resilience.CircuitBreakerConfig{
				Name: fmt.Sprint("circuit ", len(*breakers)), VolumeThreshold: 3, SleepWindow: 700 * time.Millisecond,
			}))
		case len(*breakers) == 0:
		case n == 1 && len(*breakers) > 3:
			i := random.IntN(len(*breakers))
			(*breakers)[i].Close()
			*breakers = slices.Delete(*breakers, i, i+1)
		case n == 2:
			(*breakers)[random.IntN(len(*breakers))].ForceOpen()
		case n == 3:
			(*breakers)[random.IntN(len(*breakers))].Reset()
		case n == 4:
			require.NoError(t, (*breakers)[random.IntN(len(*breakers))].Reconfigure(&resilience.CircuitBreakerConfig{
				ErrorThreshold: 0.3 + 0.1*float64(random.IntN(5)), VolumeThreshold: 3, SleepWindow: 700 * time.Millisecond,
				Shadow: random.IntN(2) == 0,
			}))
		case n < 20:
			_ = (*breakers)[random.IntN(len(*breakers))].Run(t.Context(), fail)
		case n < 25:
			config := &resilience.RetryConfig{Name: fmt.Sprint("retry ", n), InitialDelay: 1, MaxDelay: 1, Events: l.Sink()}
			cb := (*breakers)[random.IntN(len(*breakers))]
			_ = resilience.RetryWithCircuitBreaker(t.Context(), config, cb, func() error {
				if random.IntN(2) == 0 {
					return errFailed
				}
				return nil
			})
		case n < 50:
			_ = (*breakers)[random.IntN(len(*breakers))].Run(t.Context(), succeed)
		default: // a while without anything
			time.Sleep(min(time.Until(end), time.Duration(random.IntN(900))*time.Millisecond))
		}
	}
}

// Whoever takes over a snapshot and the updates after it knows what a whole report
// would say, after each update, whenever it came.
func TestUpdatesAddUp(t *testing.T) {
	seeds := uint64(2)
	if raceEnabled {
		seeds = 1 // comparing is slow then
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 99))
			l := liveres.New(liveres.WithHistory(2 * time.Minute))
			defer l.Close()
			var breakers []*resilience.CircuitBreaker
			play(t, l, random, &breakers, 10700*time.Millisecond) // so that updates and columns do not coincide

			models := map[*browser]*model{}
			join := func() {
				b, leave := watch(t, l)
				t.Cleanup(leave)
				models[b] = &model{t: t}
			}
			join()
			for second := range 150 { // more than there are columns
				play(t, l, random, &breakers, time.Second)
				synctest.Wait() // the update of this second was sent
				page := snapshot(t, l)
				for b, m := range models {
					events := b.events(t)
					if m.frame != nil {
						require.Len(t, events, 1)
					}
					m.take(events)
					m.equalsPage(page)
				}
				if second%60 == 3 {
					// A second one joins between two updates.
					play(t, l, random, &breakers, 400*time.Millisecond)
					join()
					play(t, l, random, &breakers, 600*time.Millisecond)
					synctest.Wait()
					for b, m := range models {
						m.take(b.events(t))
						m.equals(l)
					}
				}
			}
			require.Len(t, models, 4)
			for _, m := range models {
				require.Zero(t, m.lost)
			}
		})
	}
}

func TestStreamSaysWhatItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		b, leave := watch(t, l)
		synctest.Wait()
		require.Equal(t, "text/event-stream", b.header.Get("Content-Type"))
		require.Equal(t, "no", b.header.Get("X-Accel-Buffering"))
		require.Equal(t, "no-store, no-transform", b.header.Get("Cache-Control"))
		safeHeaders(t, b.header)
		require.Greater(t, b.body.Len(), 2048, "padding for proxies that hold back the beginning")
		require.Contains(t, b.body.String(), "\nretry: 2000\n")
		first := b.events(t)
		require.Len(t, first, 1)
		require.Equal(t, "snapshot", first[0].kind)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		updates := b.events(t)
		require.Len(t, updates, 3, "one each second, though nothing happens: that tells the page it is connected")
		process := at(t, decode(t, first[0].data), "process.id").(string)
		for i, u := range updates {
			require.Equal(t, "update", u.kind)
			require.Equal(t, fmt.Sprintf("%s-%d", process, i+1), u.id)
			require.Less(t, len(u.data), 600, "%s", u.data)
			require.InDelta(t, 1, at(t, decode(t, u.data), "watchers.now"), 0)
		}
		leave()
		require.InDelta(t, 0, at(t, snapshot(t, l), "watchers.now"), 0)
		require.NotEqual(t, process, at(t, snapshot(t, liveres.New()), "process.id"), "a restart can be told")
	})
}

// A browser that takes nothing loses updates, and nobody waits for it. When it is back
// it is told how many, and gets everything.
func TestStuckBrowserLosesUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		defer l.Close()
		cb := breaker(l, resilience.CircuitBreakerConfig{})
		stuck, leave := watch(t, l)
		defer leave()
		good, leaveToo := watch(t, l)
		defer leaveToo()
		mine, other := &model{t: t}, &model{t: t}
		synctest.Wait()
		mine.take(stuck.events(t))
		loose := stuck.stick()
		for range 100 {
			began := time.Now()
			_ = cb.Run(t.Context(), succeed)
			require.Zero(t, time.Since(began), "a call had to wait")
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		other.take(good.events(t))
		other.equals(l)
		require.Zero(t, other.lost)
		// One is in Write, two wait, the others of ten are lost.
		require.InDelta(t, 7, at(t, snapshot(t, l), "watchers.lost_updates"), 0)
		loose()
		synctest.Wait()
		mine.take(stuck.events(t))
		require.InDelta(t, 9, mine.lost, 0, "the two that waited are of no use without the others")
		require.InDelta(t, 9, at(t, snapshot(t, l), "watchers.lost_updates"), 0)
		mine.equals(l)
		time.Sleep(time.Second)
		synctest.Wait()
		mine.take(stuck.events(t))
		mine.equals(l)
		require.InDelta(t, 9, mine.lost, 0)
		require.Equal(t, 2, mine.updates)
	})
}

// timed is a browser whose writes fail at the deadline, as those of a connection do.
type timed struct {
	*browser
	deadline time.Time
}

func (b *timed) SetWriteDeadline(at time.Time) error {
	b.deadline = at
	return nil
}

func (b *timed) Write(p []byte) (int, error) {
	b.mu.Lock()
	stuck := b.stuck
	b.mu.Unlock()
	if stuck != nil {
		select {
		case <-stuck:
		case <-time.After(time.Until(b.deadline)):
			return 0, os.ErrDeadlineExceeded
		}
	}
	return b.browser.Write(p)
}

// A browser that takes nothing for long is let go: it does not hold a place for ever.
func TestStuckBrowserIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		b := &timed{browser: newBrowser()}
		began := time.Now()
		done := make(chan time.Duration, 1)
		go func() {
			l.ServeHTTP(b, httptest.NewRequest(http.MethodGet, "/events", nil))
			done <- time.Since(began)
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.InDelta(t, 1, at(t, snapshot(t, l), "watchers.now"), 0, "one that reads may stay")
		loose := b.stick()
		require.Equal(t, 61*time.Second+15*time.Second, <-done)
		loose()
		require.InDelta(t, 0, at(t, snapshot(t, l), "watchers.now"), 0)
		require.InDelta(t, 12, at(t, snapshot(t, l), "watchers.lost_updates"), 1)
	})
}

func TestTooManyAreTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		for range 256 {
			_, leave := watch(t, l)
			defer leave()
		}
		synctest.Wait()
		w := get(l, "/events")
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, "10", w.Header().Get("Retry-After"))
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		watchers := at(t, snapshot(t, l), "watchers")
		require.Equal(t, object{"now": 256., "lost_updates": 0., "turned_away": 1.}, watchers)
	})
}

func TestCloseEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		cb := breaker(l, resilience.CircuitBreakerConfig{})
		for range 3 {
			b := newBrowser()
			go l.ServeHTTP(b, httptest.NewRequest(http.MethodGet, "/events", nil)) // nobody ends it but Close
		}
		synctest.Wait()
		l.Close()
		l.Close()
		synctest.Wait()
		require.InDelta(t, 0, at(t, snapshot(t, l), "watchers.now"), 0)
		require.Equal(t, http.StatusServiceUnavailable, get(l, "/events").Code)
		require.Equal(t, http.StatusOK, get(l, "/").Code)
		_ = cb.Run(t.Context(), succeed)
		require.InDelta(t, 1, at(t, snapshot(t, l), "circuits.0.totals.success"), 0, "the sink stays in use")
	}) // a goroutine that is left makes synctest panic
}

// The goroutine that sends is there while somebody watches, and begins anew.
func TestWatchersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		random := rand.New(rand.NewPCG(1, 1))
		var breakers []*resilience.CircuitBreaker
		for range 30 {
			play(t, l, random, &breakers, 5*time.Second)
			b, leave := watch(t, l)
			play(t, l, random, &breakers, 3*time.Second)
			synctest.Wait()
			m := &model{t: t}
			m.take(b.events(t))
			require.Equal(t, 3, m.updates)
			m.equals(l)
			leave()

			// One who leaves before the first update, and one who comes after him.
			for range 2 {
				play(t, l, random, &breakers, 300*time.Millisecond)
				b, leave := watch(t, l)
				synctest.Wait()
				m := &model{t: t}
				m.take(b.events(t))
				m.equals(l)
				leave()
			}
		}
	})
}

// A change of state may be told a little late, because a sink before ours was slow.
func TestLateEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New(liveres.WithHistory(2 * time.Minute))
		defer l.Close()
		s := l.Sink()
		h := events.Header{ID: 1}
		var open atomic.Bool
		s.BreakerCreated(t.Context(), events.BreakerCreated{Header: h, Snapshot: func() events.Snapshot {
			if open.Load() {
				return events.Snapshot{State: events.StateOpen}
			}
			return events.Snapshot{}
		}})
		time.Sleep(500 * time.Millisecond)
		b, leave := watch(t, l)
		defer leave()
		time.Sleep(3100 * time.Millisecond) // the last update was at 3.5 s, in the fourth column
		open.Store(true)
		s.StateChanged(t.Context(), events.StateChanged{Header: h, Time: liveStart.Add(2900 * time.Millisecond), Generation: 2, To: events.StateOpen})
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		m := &model{t: t}
		m.take(b.events(t))
		m.equals(l)
		require.Equal(t, "ccooo", at(t, m.circuits[1], "history.states"))
	})
}

// Who joins is told of the time of the last update. What came after it, in a later
// column, must not colour the columns before.
func TestJoinAfterAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New(liveres.WithHistory(2 * time.Minute))
		defer l.Close()
		cb := breaker(l, resilience.CircuitBreakerConfig{})
		time.Sleep(700 * time.Millisecond)
		_, leave := watch(t, l)
		defer leave()
		time.Sleep(3350 * time.Millisecond) // the last update was at 3.7 s
		cb.ForceOpen()
		b, leaveToo := watch(t, l)
		defer leaveToo()
		synctest.Wait()
		m := &model{t: t}
		m.take(b.events(t))
		require.Equal(t, "cccc", at(t, m.circuits[float64(cb.ID())], "history.states"))
		time.Sleep(time.Second)
		synctest.Wait()
		m.take(b.events(t))
		require.Equal(t, "ccccO", at(t, m.circuits[float64(cb.ID())], "history.states"))
	})
}

// A timeline says what is known from events, though the breaker may be ahead of them.
func TestBreakerAheadOfItsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New()
		s := l.Sink()
		s.BreakerCreated(t.Context(), events.BreakerCreated{Header: events.Header{ID: 1}, Snapshot: func() events.Snapshot {
			return events.Snapshot{State: events.StateOpen}
		}})
		time.Sleep(11 * time.Second)
		require.Equal(t, "open", at(t, snapshot(t, l), "circuits.0.state"))
		require.Equal(t, "ccc", at(t, snapshot(t, l), "circuits.0.history.states"))
	})
}

// A server whose writer cannot flush gets an error, not a stream that never arrives.
func TestStreamNeedsFlush(t *testing.T) {
	l := liveres.New()
	w := httptest.NewRecorder()
	l.ServeHTTP(struct{ http.ResponseWriter }{w}, httptest.NewRequestWithContext(canceled(t), http.MethodGet, "/events", nil))
	require.NotContains(t, w.Body.String(), "event: update")
}

func canceled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// A control shows at once, not with the next update.
func TestControlShowsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveres.New(liveres.WithControls(allow))
		defer l.Close()
		cb := breaker(l, resilience.CircuitBreakerConfig{})
		require.NoError(t, l.Control(cb))
		b, leave := watch(t, l)
		defer leave()
		time.Sleep(1300 * time.Millisecond)
		m := &model{t: t}
		m.take(b.events(t))
		r := httptest.NewRequest(http.MethodPost, "/control", strings.NewReader(`{"circuit": `+id(cb)+`, "action": "force_open"}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Breakwater-Control", "yes")
		l.ServeHTTP(httptest.NewRecorder(), r)
		synctest.Wait()
		m.take(b.events(t))
		require.Equal(t, "open", m.circuits[float64(cb.ID())]["state"])
		m.equals(l)
	})
}
