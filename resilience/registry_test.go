package resilience_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
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

// newRegistry returns a registry of small breakers, at most most, that a Recorder
// listens to.
func newRegistry(t *testing.T, most int, sinks ...events.Sink) (*resilience.Registry, *eventstest.Recorder) {
	t.Helper()
	rec := eventstest.New(t)
	template := small(rec.Sink(events.Join(sinks...)))
	template.Name = ""
	r := resilience.NewRegistry(&resilience.RegistryConfig{Template: template, Max: most})
	t.Cleanup(r.Close)
	return r, rec
}

// keys returns the keys of r.
func keys(r *resilience.Registry) []string {
	var all []string
	for key := range r.All() {
		all = append(all, key)
	}
	return all
}

func TestRegistryMakesOneBreakerForEachKey(t *testing.T) {
	r, rec := newRegistry(t, 3)
	a := r.Get("a")
	require.Equal(t, "a", a.Name())
	require.Same(t, a, r.Get("a"))
	require.NotSame(t, a, r.Get("b"))
	require.Equal(t, []string{"a", "b"}, keys(r))
	require.Equal(t, resilience.RegistryStats{Len: 2, Max: 3}, r.Stats())
	require.Len(t, eventstest.Of[events.BreakerCreated](rec), 2)
	require.Nil(t, r.Overflow())

	trip(t, a) // the template's thresholds
	require.Equal(t, open, r.Get("a").State())
	require.Equal(t, closed, r.Get("b").State())
}

func TestRegistryNames(t *testing.T) {
	named := &resilience.CircuitBreakerConfig{Name: "http"}
	for _, c := range []struct {
		config    *resilience.RegistryConfig
		key, want string
	}{
		{nil, "a", "a"},
		{nil, "", "default"},
		{&resilience.RegistryConfig{}, "a", "a"},
		{&resilience.RegistryConfig{Template: named}, "a", "http/a"},
		{&resilience.RegistryConfig{Template: named}, "", "http"},
		{&resilience.RegistryConfig{Template: named, Name: func(key string) string { return "to " + key }}, "a", "to a"},
	} {
		require.Equal(t, c.want, resilience.NewRegistry(c.config).Get(c.key).Name())
	}
	require.Equal(t, "http", named.Name, "the template is not written to")
}

func TestRegistryKeepsACopyOfItsTemplate(t *testing.T) {
	template := small()
	template.Name = ""
	r := resilience.NewRegistry(&resilience.RegistryConfig{Template: template})
	template.ErrorThreshold, template.VolumeThreshold = -1, -1
	trip(t, r.Get("a"))
}

func TestRegistryConfigErrors(t *testing.T) {
	require.NoError(t, (*resilience.RegistryConfig)(nil).Validate())
	for want, c := range map[string]resilience.RegistryConfig{
		"resilience: RegistryConfig.Max is -1, want at least 1, or 0 for the default":                                    {Max: -1},
		"resilience: RegistryConfig.Max is 1048577, want at most 1048576":                                                {Max: 1<<20 + 1},
		"resilience: CircuitBreakerConfig.ErrorThreshold is 2, want a ratio above 0 and at most 1, or 0 for the default": {Template: &resilience.CircuitBreakerConfig{ErrorThreshold: 2}},
	} {
		require.EqualError(t, c.Validate(), want)
		require.EqualError(t, configError(t, func() { resilience.NewRegistry(&c) }), want)
	}
}

// It must hold: the least recently used one makes room, and is retired before its
// successor is born, so that there is a place for the latter's series.
func TestRegistryEvictsTheLeastRecentlyUsed(t *testing.T) {
	var told []string
	r, _ := newRegistry(t, 3, events.Sink{
		BreakerCreated: func(_ context.Context, e events.BreakerCreated) { told = append(told, "+"+e.Name) },
		BreakerRetired: func(_ context.Context, e events.BreakerRetired) { told = append(told, "-"+e.Name) },
	})
	for _, key := range []string{"a", "b", "c", "a", "d", "a", "e", "c"} {
		r.Get(key)
	}
	require.Equal(t, []string{"+a", "+b", "+c", "-b", "+d", "-c", "+e", "-d", "+c"}, told)
	require.Equal(t, []string{"a", "c", "e"}, keys(r))
	require.Equal(t, uint64(3), r.Stats().Evicted)
}

// A call that nobody listens to is one under way as well, however it is made.
func TestRegistryKeepsPlainCallsUnderWay(t *testing.T) {
	for name, call := range map[string]func(cb *resilience.CircuitBreaker, fn func()) error{
		"Execute": func(cb *resilience.CircuitBreaker, fn func()) error {
			return cb.Execute(t.Context(), func() error { fn(); return nil })
		},
		"Run": func(cb *resilience.CircuitBreaker, fn func()) error {
			return cb.Run(t.Context(), func(context.Context) error { fn(); return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := resilience.NewRegistry(&resilience.RegistryConfig{Max: 1})
				require.NoError(t, call(r.Get("a"), func() {
					r.Get("b")
					require.Equal(t, []string{"a"}, keys(r))
				}))
				time.Sleep(time.Second)
				r.Get("b")
				require.Equal(t, []string{"b"}, keys(r))
				r.Close()
			})
		})
	}
}

// One that may not leave when it is its turn is passed, and keeps its turn.
func TestRegistryPassesWhoMayNotLeave(t *testing.T) {
	r, _ := newRegistry(t, 5)
	busy := make(map[string]resilience.Permit)
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		cb := r.Get(key)
		if key < "d" {
			busy[key] = acquire(t, cb)
		}
	}
	r.Get("f") // d makes room
	require.Equal(t, []string{"a", "b", "c", "e", "f"}, keys(r))
	busy["b"].Done(nil)
	r.Get("g")
	require.Equal(t, []string{"a", "c", "e", "f", "g"}, keys(r))
	busy["c"].Done(nil)
	busy["a"].Done(nil)
	r.Get("h")
	require.Equal(t, []string{"c", "e", "f", "g", "h"}, keys(r))
	r.Get("i")
	require.Equal(t, []string{"e", "f", "g", "h", "i"}, keys(r))
	r.Close()
}

// Between births the registry's clock stands still, and the windows tell who was
// called last.
func TestRegistryEvictsTheLeastRecentlyCalledOfThoseUsedSinceTheLastBirth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newRegistry(t, 3)
		for _, key := range []string{"a", "b", "c"} {
			r.Get(key)
		}
		for _, key := range []string{"c", "a", "b"} {
			pass(time.Minute)
			succeedIn(t, r.Get(key), 1)
		}
		for _, key := range []string{"b", "a", "c"} { // used, but not called
			r.Get(key)
		}
		r.Get("d")
		require.Equal(t, []string{"a", "b", "d"}, keys(r))
		r.Close()
	})
}

// It must hold: an open, half-open or forced one never leaves, nor one with a call
// under way; when none may leave there is the overflow breaker.
func TestRegistryKeepsWhatIsNotIdleAndClosed(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, cb *resilience.CircuitBreaker) (end func()){
		"open": func(t *testing.T, cb *resilience.CircuitBreaker) func() {
			trip(t, cb)
			return cb.Reset
		},
		"half-open": func(t *testing.T, cb *resilience.CircuitBreaker) func() {
			toHalfOpen(t, cb, 30*time.Second)
			return func() { requireRecovers(t, cb) }
		},
		"forced open": func(_ *testing.T, cb *resilience.CircuitBreaker) func() {
			cb.ForceOpen()
			return cb.Reset
		},
		"forced closed": func(_ *testing.T, cb *resilience.CircuitBreaker) func() {
			cb.ForceClosed()
			return cb.ClearForce
		},
		"a call under way": func(t *testing.T, cb *resilience.CircuitBreaker) func() {
			p := acquire(t, cb)
			return func() { p.Done(nil) }
		},
		"an ignored call under way": func(t *testing.T, cb *resilience.CircuitBreaker) func() {
			p := acquire(t, cb)
			return func() { p.Done(resilience.Ignore(errBroken)) }
		},
		"a call under way of a phase that is over": func(t *testing.T, cb *resilience.CircuitBreaker) func() {
			p := acquire(t, cb)
			cb.Reset()
			return func() { p.Done(errBroken) }
		},
		"a probe under way that timed out": func(t *testing.T, cb *resilience.CircuitBreaker) func() {
			toHalfOpen(t, cb, 30*time.Second)
			p := acquire(t, cb)
			pass(5 * time.Second)
			requireRecovers(t, cb)
			return func() { p.Done(nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, rec := newRegistry(t, 1)
				a := r.Get("a")
				end := make(t, a)
				require.Equal(t, "_OVERFLOW", r.Get("b").Name())
				require.Same(t, r.Overflow(), r.Get("c"), "one for all")
				require.Same(t, a, r.Get("a"), "what is there is handed out")
				require.Equal(t, resilience.RegistryStats{Len: 1, Max: 1, Overflowed: 2}, r.Stats())
				require.Empty(t, eventstest.Of[events.BreakerRetired](rec))
				end()
				require.Same(t, r.Overflow(), r.Get("b"), "no search for 10 ms")
				pass(10 * time.Millisecond)
				require.Equal(t, "b", r.Get("b").Name())
				require.Equal(t, a.ID(), last[events.BreakerRetired](t, rec).ID)
				r.Close()
			})
		})
	}
}

// Calls that panic, exit, or do not begin because a sink panics are not under way.
func TestRegistryEvictsAfterCallsThatDidNotReturn(t *testing.T) {
	armed := false
	r := resilience.NewRegistry(&resilience.RegistryConfig{Max: 1, Template: small(events.Sink{
		CallStarted: func(ctx context.Context, _ events.CallStarted) context.Context {
			if armed {
				panic("sink")
			}
			return ctx
		},
	})})
	a := r.Get("a")
	panics(t, func() { _ = a.Execute(t.Context(), func() error { panic("work") }) })
	goexits(t, func() { _ = a.Execute(t.Context(), exit) })
	armed = true
	require.Equal(t, "sink", panics(t, func() { _ = a.Execute(t.Context(), healthy) }))
	armed = false
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, a.Execute(canceled, healthy), context.Canceled)
	require.Equal(t, "payment/b", r.Get("b").Name())
}

func TestRegistryReplacesABreakerThatItsUserClosed(t *testing.T) {
	r, rec := newRegistry(t, 2)
	a := r.Get("a")
	a.Close()
	require.NotSame(t, a, r.Get("a"))
	require.Same(t, r.Get("a"), r.Get("a"))
	require.Equal(t, 1, r.Len())
	require.Len(t, eventstest.Of[events.BreakerCreated](rec), 2)

	require.Equal(t, "b", r.Get("b").Name())
	r.Get("a").ForceOpen()
	r.Get("b").ForceOpen()
	r.Get("b").Close()
	require.Equal(t, "c", r.Get("c").Name(), "a closed one makes room whatever its state")
}

// Bad input: what strangers' code does is its caller's trouble and nobody else's.
func TestRegistrySurvivesStrangersCode(t *testing.T) {
	var trouble func()
	meet := func() {
		if f := trouble; f != nil {
			f()
		}
	}
	onName := false
	r := resilience.NewRegistry(&resilience.RegistryConfig{
		Max: 1,
		Name: func(key string) string {
			if onName {
				meet()
			}
			return key
		},
		Template: small(events.Sink{
			BreakerCreated: func(context.Context, events.BreakerCreated) { meet() },
			BreakerRetired: func(context.Context, events.BreakerRetired) { meet() },
		}),
	})
	for n, at := range []string{"name", "birth", "eviction"} {
		for _, what := range []string{"panic", "exit"} {
			t.Run(what+" at "+at, func(t *testing.T) {
				key := strconv.Itoa(n) + what
				onName = at == "name"
				if at != "eviction" {
					for _, cb := range r.All() {
						cb.Close()
					}
				}
				switch what {
				case "panic":
					trouble = func() { panic("trouble") }
					require.Equal(t, "trouble", panics(t, func() { r.Get(key) }))
				default:
					trouble = runtime.Goexit
					goexits(t, func() { r.Get(key) })
				}
				trouble = nil
				require.Zero(t, r.Len())
				require.Equal(t, key, r.Get(key).Name())
				require.Equal(t, 1, r.Len())
			})
		}
	}
	t.Run("a sink asks for another key", func(t *testing.T) {
		trouble = func() {
			trouble = nil
			r.Get("other")
		}
		require.Equal(t, "outer", r.Get("outer").Name())
		require.LessOrEqual(t, r.Len(), 1)
	})
}

// Who asks for a key whose breaker is being made waits for that one, and if it does not
// come to be makes it.
func TestRegistryWaitsForABirth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		r := resilience.NewRegistry(&resilience.RegistryConfig{Template: small(events.Sink{
			BreakerCreated: func(context.Context, events.BreakerCreated) {
				time.Sleep(time.Second)
				if made++; made == 1 {
					runtime.Goexit()
				}
			},
		})})
		got := make(chan *resilience.CircuitBreaker, 3)
		for range cap(got) {
			go func() { got <- r.Get("a") }()
		}
		pass(time.Second)
		require.Empty(t, got)
		pass(time.Second)
		require.Len(t, got, 2, "the third one's goroutine ended")
		require.Same(t, <-got, <-got)
		require.Equal(t, 2, made)
	})
}

func TestRegistryClose(t *testing.T) {
	r, rec := newRegistry(t, 2)
	a, b := r.Get("a"), r.Get("b")
	a.ForceOpen()
	b.ForceOpen()
	over := r.Get("c")
	r.Close()
	r.Close()
	require.Len(t, eventstest.Of[events.BreakerRetired](rec), 3)
	requireRejected(t, a)
	require.Zero(t, r.Len())
	require.Empty(t, keys(r))
	require.Same(t, over, r.Get("a"))
	require.Same(t, over, r.Get("d"))
	succeedIn(t, r.Get("d"), 1)

	r, rec = newRegistry(t, 2)
	r.Close()
	require.Same(t, r.Get("a"), r.Get("b"))
	require.Empty(t, rec.Events(), "one that is made after Close is silent")
}

// A breaker whose birth is overtaken by Close is closed as well.
func TestRegistryCloseDuringABirth(t *testing.T) {
	var r *resilience.Registry
	r, rec := newRegistry(t, 2, events.Sink{
		BreakerCreated: func(context.Context, events.BreakerCreated) { r.Close() },
	})
	require.Equal(t, "a", r.Get("a").Name())
	require.Len(t, eventstest.Of[events.BreakerRetired](rec), 1)
	require.Zero(t, r.Len())
}

// All breakers of a registry are reconfigured, also those that are being born, and those
// to come are born so.
func TestRegistryReconfigure(t *testing.T) {
	var during func()
	r, rec := newRegistry(t, 2, events.Sink{BreakerCreated: func(context.Context, events.BreakerCreated) {
		if f := during; f != nil {
			during = nil
			f()
		}
	}})
	a := r.Get("a")
	a.ForceOpen()
	stricter := &resilience.CircuitBreakerConfig{VolumeThreshold: 1}
	during = func() { require.NoError(t, r.Reconfigure(stricter)) }
	b := r.Get("b")
	b.ForceOpen()
	over := r.Get("c")
	require.Equal(t, open, a.State(), "it keeps its state")
	a.Reset()
	b.Reset()
	for _, cb := range []*resilience.CircuitBreaker{a, b, over} {
		failIn(t, cb, 1)
		require.Equal(t, open, cb.State())
	}
	require.Len(t, eventstest.Of[events.BreakerReconfigured](rec), 2, "the overflow breaker was born so")

	require.NoError(t, r.Reconfigure(nil))
	require.Len(t, eventstest.Of[events.BreakerReconfigured](rec), 5)
	require.EqualError(t, r.Reconfigure(&resilience.CircuitBreakerConfig{Name: "x"}),
		`resilience: CircuitBreakerConfig.Name is x, want "", which cannot change, or none`)
	require.ErrorIs(t, r.Reconfigure(&resilience.CircuitBreakerConfig{BucketCount: -1}), resilience.ErrInvalidConfig)
}

func TestRegistryKnownKeysDoNotAllocate(t *testing.T) {
	r := resilience.NewRegistry(&resilience.RegistryConfig{Max: 16})
	all := make([]string, 16)
	for i := range all {
		all[i] = "host-" + strconv.Itoa(i)
		r.Get(all[i])
	}
	work := func(context.Context) error { return nil }
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, key := range all {
			_ = r.Get(key).Run(t.Context(), work)
		}
	}))
}

// It must hold: 10 000 keys, many goroutines. There are never more breakers than Max,
// never two of one key, nobody gets one that was retired before it asked, and every
// call is counted.
func TestRegistryUnderLoad(t *testing.T) {
	const most, workers, distinct = 128, 16, 10_000
	const rounds = 3000
	var living, highest, retiredCalls atomic.Int64
	var mu sync.Mutex
	byName := make(map[string]uint64)
	snapshots := make(map[uint64]func() events.Snapshot)
	template := small(events.Sink{
		BreakerCreated: func(_ context.Context, e events.BreakerCreated) {
			mu.Lock()
			defer mu.Unlock()
			if id, twice := byName[e.Name]; twice {
				t.Errorf("%q lives twice: %d and %d", e.Name, id, e.ID)
			}
			byName[e.Name] = e.ID
			snapshots[e.ID] = e.Snapshot
			if e.Name != resilience.OverflowKey {
				highest.Store(max(highest.Load(), living.Add(1)))
			}
		},
		BreakerRetired: func(_ context.Context, e events.BreakerRetired) {
			mu.Lock()
			defer mu.Unlock()
			delete(byName, e.Name)
			if e.Name != resilience.OverflowKey {
				living.Add(-1)
			}
			s := snapshots[e.ID]()
			retiredCalls.Add(int64(s.Totals.Volume() + s.Totals.Rejected))
		},
	})
	template.Name = ""
	r := resilience.NewRegistry(&resilience.RegistryConfig{Template: template, Max: most})
	var calls atomic.Int64
	var late sync.Map // breakers that were called after they had left
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 7))
			for range rounds {
				// Most calls are for few keys, as with hosts.
				key := rnd.IntN(distinct)
				if rnd.IntN(2) == 0 {
					key = rnd.IntN(most / 2)
				}
				cb := r.Get(strconv.Itoa(key))
				if name := cb.Name(); name != strconv.Itoa(key) && name != resilience.OverflowKey {
					t.Errorf("the breaker for %d is called %q", key, name)
				}
				fn := healthy
				if rnd.IntN(3) == 0 {
					fn = broken
				}
				calls.Add(1)
				_ = cb.Execute(t.Context(), fn)
				if n := rnd.IntN(1000); n == 0 {
					cb.Reset()
				}
				late.Store(cb.ID(), cb)
				if r.Len() > most {
					t.Errorf("Len() = %d", r.Len())
				}
			}
		})
	}
	wg.Wait()
	s := r.Stats()
	t.Logf("%+v, highest number of living ones %d", s, highest.Load())
	require.LessOrEqual(t, highest.Load(), int64(most))
	require.Positive(t, s.Evicted)
	r.Close()
	require.Zero(t, living.Load())
	// No call is lost; those that came late are in the last snapshots, if not yet in
	// those that were taken at retirement.
	var total int64
	mu.Lock()
	defer mu.Unlock()
	for _, snapshot := range snapshots {
		totals := snapshot().Totals
		total += int64(totals.Volume() + totals.Rejected)
	}
	require.Equal(t, calls.Load(), total)
	require.LessOrEqual(t, retiredCalls.Load(), total)
}

// The registry against a naive one that looks at everything at every step.
func TestRegistryModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { modelRegistry(t, seed) })
		})
	}
}

type modelEntry struct {
	cb      *resilience.CircuitBreaker
	used    int // births by then, twice, and one more if it is not its own birth
	permits []resilience.Permit
}

func modelRegistry(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	most := 1 + rnd.IntN(6)
	r, rec := newRegistry(t, most)
	model := make(map[string]*modelEntry)
	births, spilled := 0, uint64(0)
	mayLeave := func(m *modelEntry) bool {
		s := m.cb.GetStats()
		return s.State == closed && !s.Forced && len(m.permits) == 0
	}
	for range 400 {
		time.Sleep(time.Second) // past any search in vain
		key := strconv.Itoa(rnd.IntN(most + 3))
		cb := r.Get(key)
		known := model[key]
		switch {
		case known != nil:
			require.Same(t, known.cb, cb)
			known.used = 2*births + 1
		case len(model) < most:
			require.Equal(t, key, cb.Name())
		default:
			oldest := -1
			for _, m := range model {
				if mayLeave(m) && (oldest < 0 || m.used < oldest) {
					oldest = m.used
				}
			}
			if oldest < 0 {
				require.Same(t, r.Overflow(), cb)
				spilled++
				continue
			}
			require.Equal(t, key, cb.Name())
			gone := last[events.BreakerRetired](t, rec)
			victim := model[gone.Name]
			require.NotNil(t, victim, gone.Name)
			require.Equal(t, victim.cb.ID(), gone.ID)
			require.True(t, mayLeave(victim), gone.Name)
			require.Equal(t, oldest, victim.used, "one of those used least recently")
			delete(model, gone.Name)
		}
		if known == nil {
			births++
			known = &modelEntry{cb: cb, used: 2 * births}
			model[key] = known
		}
		switch rnd.IntN(9) {
		case 0:
			for range 4 {
				_ = cb.Execute(t.Context(), broken)
			}
		case 1:
			if p, err := cb.Acquire(t.Context()); err == nil {
				known.permits = append(known.permits, p)
			}
		case 2, 3:
			for _, p := range known.permits {
				p.Done(nil)
			}
			known.permits = nil
		case 4:
			cb.ForceOpen()
		case 5, 6:
			cb.Reset()
		default:
			_ = cb.Execute(t.Context(), healthy)
		}
		require.Equal(t, slices.Sorted(maps.Keys(model)), keys(r))
	}
	require.Equal(t, spilled, r.Stats().Overflowed)
	for _, m := range model {
		for _, p := range m.permits {
			p.Done(nil)
		}
	}
	r.Close()
}

// A sink that hears of a birth may ask for other keys, also for the one that made room.
func TestRegistrySinkAsksForWhatMadeRoom(t *testing.T) {
	var r *resilience.Registry
	born := make(map[string]int)
	r = resilience.NewRegistry(&resilience.RegistryConfig{Max: 1, Template: &resilience.CircuitBreakerConfig{Events: events.Sink{
		BreakerCreated: func(_ context.Context, e events.BreakerCreated) {
			if born[e.Name]++; e.Name == "b" {
				r.Get("a")
			}
		},
	}}})
	r.Get("a")
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Get("b")
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		require.FailNow(t, "a waits for the sink that asked for it")
	}
	require.Equal(t, 1, born["b"])
	require.LessOrEqual(t, r.Len(), 1)
	r.Close()
}
