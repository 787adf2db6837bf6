package demo

import (
	"bytes"
	"context"
	"math"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/load"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/memnet"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/report"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/script"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
	"github.com/breakwater-go/breakwater/internal/leaktest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// inMemory returns the configuration of a whole minute, over a network in memory.
func inMemory(log *bytes.Buffer) Config {
	network := new(memnet.Network)
	return Config{
		Script:  script.Outage(),
		Rate:    40,
		Seed:    1,
		Network: shop.Network{Listen: network.Listen, Dial: network.Dial},
		Log:     log,
	}
}

func TestWholeMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		config := inMemory(&log)
		recorder := eventstest.New(t)
		config.Events = recorder.Sink()
		s, err := Run(t.Context(), config)
		require.NoError(t, err)

		require.False(t, s.Early)
		require.Equal(t, time.Minute, s.Length.Truncate(time.Second))
		require.Zero(t, s.Unseen)
		requireOutage(t, s)
		requireConsistent(t, s)
		requireSameAsEvents(t, s, recorder)
		require.Equal(t, 2400, s.Orders.Orders())
		require.Positive(t, s.Orders[load.TurnedAway].Orders)
		require.Positive(t, s.Circuits[0].Saved()+s.Circuits[2].Saved(), "healthy services fail now and then, too")
		require.Less(t, s.Orders[load.TurnedAway].Mean(), s.Orders[load.Failed].Mean()/5, "a rejection spares the waiting")

		requireInOrder(t, log.String(),
			"── healthy ──", "── flaky ──", "saved by a retry", "── outage ──", "OPEN", "rejected",
			"HALF-OPEN", "probes failed", "── recovery ──", "HALF-OPEN", "CLOSED")
		for line := range strings.Lines(log.String()) {
			require.NotContains(t, line, "\x1b")
			require.LessOrEqual(t, len([]rune(line)), 111, line)
		}
		lines := strings.Count(log.String(), "\n")
		require.Less(t, lines, 150, "the log is calm")
	})
}

// requireOutage fails unless payment alone opened: in the outage, flipped through
// half-open until it was over, and closed in the recovery, for good.
func requireOutage(t *testing.T, s *report.Summary) {
	t.Helper()
	began := make(map[string]time.Time)
	for _, p := range s.Phases {
		began[p.Name] = s.Start.Add(p.At)
	}
	require.Len(t, began, 4)
	for _, c := range s.Circuits {
		require.Equal(t, events.StateClosed, c.Final.State, c.Name)
		if c.Name != shop.Payment {
			require.Empty(t, c.Changes, c.Name)
			continue
		}
		require.Equal(t, 1, c.Opened())
		n := len(c.Changes)
		require.GreaterOrEqual(t, n, 5, "it should open, try at least once in vain, and recover")
		for i, e := range c.Changes {
			want := events.StateChanged{From: events.StateHalfOpen, To: events.StateOpen, Reason: events.ReasonProbesFailed}
			switch {
			case i == 0:
				want = events.StateChanged{From: events.StateClosed, To: events.StateOpen, Reason: events.ReasonErrorRate}
				require.False(t, e.Time.Before(began["outage"]), "opened before the outage")
				require.True(t, e.Time.Before(began["recovery"]), "opened after the outage")
				require.GreaterOrEqual(t, e.Counts.FailureRatio(), c.Thresholds.ErrorThreshold)
			case i == n-1:
				want = events.StateChanged{From: events.StateHalfOpen, To: events.StateClosed, Reason: events.ReasonProbesPassed}
				require.True(t, e.Time.After(began["recovery"]), "closed during the outage")
			case i%2 == 1:
				want = events.StateChanged{From: events.StateOpen, To: events.StateHalfOpen, Reason: events.ReasonSleepWindowElapsed}
			}
			require.Equal(t, want, events.StateChanged{From: e.From, To: e.To, Reason: e.Reason}, "change %d", i)
			require.Equal(t, uint64(i+2), e.Generation)
		}
	}
}

// requireConsistent fails unless what the customers counted is what the circuits
// did, operation by operation.
func requireConsistent(t *testing.T, s *report.Summary) {
	t.Helper()
	require.Len(t, s.Circuits, 3)
	require.Zero(t, s.Orders[load.Lost].Orders)
	arriving := s.Orders.Orders()
	var refused, turnedAway, failed int
	for i, name := range shop.Dependencies() {
		c := s.Circuits[i]
		require.Equal(t, name, c.Name)
		var operations int
		for _, n := range c.Operations {
			operations += n
		}
		require.Equal(t, arriving, operations, "orders that came as far as %s", name)
		arriving = c.Operations[events.ReasonSuccess] + c.Saved()
		refused += c.Operations[events.ReasonNotRetryable]
		turnedAway += c.Operations[events.ReasonRejected]
		failed += c.GivenUp()

		totals := c.Final.Totals
		require.Equal(t, uint64(arriving), totals.Success, "every operation succeeds at most once")
		require.Equal(t, uint64(c.Operations[events.ReasonRejected]), totals.Rejected, "a rejection ends the retry")
		require.Equal(t, uint64(c.Operations[events.ReasonNotRetryable]), totals.Ignored, "a refusal ends the retry")
		var sum time.Duration
		for _, d := range c.Final.TimeIn {
			sum += d
		}
		require.Zero(t, c.Final.ProbesInFlight)
		require.InDelta(t, s.Length, sum, float64(time.Second))
	}
	require.Equal(t, arriving, s.Orders[load.Accepted].Orders)
	require.Equal(t, refused, s.Orders[load.Refused].Orders)
	require.Equal(t, turnedAway, s.Orders[load.TurnedAway].Orders)
	require.Equal(t, failed, s.Orders[load.Failed].Orders)
}

// requireSameAsEvents fails unless the summary is what the events add up to.
func requireSameAsEvents(t *testing.T, s *report.Summary, recorder *eventstest.Recorder) {
	t.Helper()
	type sums struct {
		calls      events.Counts
		attempts   int
		operations map[events.Reason]int
		open       time.Duration
		changes    int
	}
	got, want := make(map[string]sums), make(map[string]sums)
	for _, c := range s.Circuits {
		totals := c.Final.Totals
		totals.Slow = 0
		got[c.Name] = sums{totals, c.Calls(), c.Operations, c.Final.TimeIn[events.StatusOpen], len(c.Changes)}
		want[c.Name] = sums{operations: make(map[events.Reason]int)}
	}
	for _, c := range s.Circuits {
		if c.Final.State == events.StateOpen { // no event has told of this time yet
			want[c.Name] = sums{operations: make(map[events.Reason]int), open: c.Final.Time.Sub(c.Final.Since)}
		}
	}
	for _, e := range recorder.Events() {
		x := want[e.About().Name]
		switch e := e.(type) {
		case events.CallFinished:
			switch e.Outcome {
			case events.OutcomeSuccess:
				x.calls.Success++
			case events.OutcomeFailure:
				x.calls.Failure++
			case events.OutcomeIgnored:
				x.calls.Ignored++
			}
		case events.CallRejected:
			x.calls.Rejected++
		case events.AttemptFinished:
			x.attempts++
		case events.RetryFinished:
			x.operations[e.Reason]++
		case events.StateChanged:
			x.changes++
			if e.From == events.StateOpen {
				x.open += e.Elapsed
			}
		}
		want[e.About().Name] = x
	}
	require.Equal(t, want, got)
}

func requireInOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		require.True(t, found, "%q is missing, or not where it should be, in:\n%s", part, text)
		rest = after
	}
}

// TestOverTCP is the demo as it is run, only shorter. On a busy machine a healthy service
// may be as slow as a sick one, so the story may take more than one telling to come to its
// end. What is counted must be true in each.
func TestOverTCP(t *testing.T) {
	for range 3 {
		var log bytes.Buffer
		recorder := eventstest.New(t)
		s, err := Run(t.Context(), Config{
			Script:   script.Outage(),
			Duration: 6 * time.Second,
			Rate:     80,
			Seed:     1,
			Log:      &log,
			Events:   recorder.Sink(),
		})
		require.NoError(t, err)
		t.Log(log.String())
		requireConsistent(t, s)
		requireSameAsEvents(t, s, recorder)
		payment := s.Circuits[1]
		require.Positive(t, payment.Opened())
		last := payment.Changes[len(payment.Changes)-1]
		if last.To == events.StateClosed && last.Reason == events.ReasonProbesPassed && payment.Saved() > 0 {
			return
		}
	}
	t.Error("payment never closed again by probes that passed, or no retry saved a call")
}

func TestStoppedEarly(t *testing.T) {
	for _, c := range []struct {
		name  string
		after time.Duration
		state events.State
	}{
		{"before it began", 0, events.StateClosed},
		{"while all is well", 3 * time.Second, events.StateClosed},
		{"while calls wait to be retried", 20 * time.Second, events.StateClosed},
		{"while calls hang", 22500 * time.Millisecond, events.StateClosed},
		{"while open", 30 * time.Second, events.StateOpen},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				config := inMemory(&log)
				recorder := eventstest.New(t)
				config.Events = recorder.Sink()
				ctx, stop := context.WithCancel(t.Context())
				if c.after == 0 {
					stop()
				} else {
					time.AfterFunc(c.after, stop)
				}
				start := time.Now()
				s, err := Run(ctx, config)
				require.NoError(t, err)
				require.True(t, s.Early)
				require.LessOrEqual(t, time.Since(start), c.after+2*Grace)
				require.Equal(t, c.state, s.Circuits[1].Final.State)
				requireConsistent(t, s)
				requireSameAsEvents(t, s, recorder)
			})
		})
	}
}

func TestEveryEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		config := inMemory(&log)
		recorder := eventstest.New(t)
		config.Events = recorder.Sink()
		config.EveryEvent = true
		config.Duration = 6 * time.Second
		s, err := Run(t.Context(), config)
		require.NoError(t, err)
		require.Zero(t, s.Unseen)
		var lines int
		for line := range strings.Lines(log.String()) {
			for _, c := range s.Circuits {
				if strings.Contains(line, "s  "+c.Name+" ") {
					lines++
				}
			}
		}
		require.Len(t, recorder.Events(), lines)
	})
}

// blocked is a terminal that shows nothing until it is let go.
type blocked struct{ gone chan struct{} }

func (b blocked) Write(p []byte) (int, error) {
	<-b.gone
	return len(p), nil
}

func TestBlockedTerminalDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := inMemory(nil)
		config.Duration = 6 * time.Second
		terminal := blocked{make(chan struct{})}
		config.Log = terminal
		time.AfterFunc(time.Minute, func() { close(terminal.gone) })
		s, err := Run(t.Context(), config)
		require.NoError(t, err)
		require.False(t, s.Early)
		requireOutage(t, s)
		requireConsistent(t, s)
		last := s.Phases[len(s.Phases)-1]
		require.Equal(t, 4200*time.Millisecond, last.At)
	})
}

func TestLogThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := inMemory(nil)
		config.Duration = 6 * time.Second
		config.Log = broken{}
		s, err := Run(t.Context(), config)
		require.ErrorIs(t, err, syscall.EIO)
		requireConsistent(t, s)
	})
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, syscall.EIO }

func TestSeed(t *testing.T) {
	// Rejections depend on time, but which requests fail in the phases before does
	// not, so the orders that are saved are the same.
	run := func(seed uint64) map[events.Reason]int {
		var s *report.Summary
		synctest.Test(t, func(t *testing.T) {
			config := inMemory(new(bytes.Buffer))
			config.Script, _ = script.Parse("flaky=10s")
			config.Seed = seed
			var err error
			s, err = Run(t.Context(), config)
			require.NoError(t, err)
		})
		return s.Circuits[1].Operations
	}
	require.Equal(t, run(1), run(1))
	require.NotEqual(t, run(1), run(2))
}

func TestPortOfThePagesTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	s, err := Run(t.Context(), Config{Script: script.Outage(), Rate: 40, Web: taken.Addr().String(), Log: new(bytes.Buffer)})
	require.Nil(t, s)
	var at *shop.ListenError
	require.ErrorAs(t, err, &at)
	require.Equal(t, Web, at.Service)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
}

func TestPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, free.Close())

	s, err := Run(t.Context(), Config{
		Script: script.Outage(),
		Rate:   40,
		Listen: map[string]string{shop.Order: free.Addr().String(), shop.Payment: taken.Addr().String()},
		Log:    new(bytes.Buffer),
	})
	require.Nil(t, s)
	var at *shop.ListenError
	require.ErrorAs(t, err, &at)
	require.Equal(t, shop.Payment, at.Service)
	require.Equal(t, taken.Addr().String(), at.Address)
	require.ErrorIs(t, err, syscall.EADDRINUSE)

	again, err := net.Listen("tcp", free.Addr().String())
	require.NoError(t, err, "what was listened on before the failure is closed")
	require.NoError(t, again.Close())
}

func scene(name string) script.Script {
	s, err := script.Find(name)
	if err != nil {
		panic(err)
	}
	return s.Script
}

func TestValidate(t *testing.T) {
	minute := script.Outage()
	for _, c := range []struct {
		name   string
		config Config
		want   string // part of the error; empty for none
	}{
		{"as it is", Config{Script: minute, Rate: 40}, ""},
		{"shortest", Config{Script: minute, Rate: 40, Duration: 5 * time.Second}, ""},
		{"too short", Config{Script: minute, Rate: 40, Duration: time.Second}, "-duration 1s is too short for this script: at least 5s"},
		{"longest", Config{Script: minute, Rate: 40, Duration: 24 * time.Hour}, ""},
		{"too long", Config{Script: minute, Rate: 40, Duration: 25 * time.Hour}, "-duration 25h0m0s is too long for this script: at most 24h0m0s"},
		{"no phases", Config{Rate: 40}, "no phases"},
		{"no phases in a time", Config{Rate: 40, Duration: time.Minute}, "no phases"},
		{"slowest", Config{Script: minute, Rate: 2.5}, ""},
		{"too slow", Config{Script: minute, Rate: 2.4}, "-rate 2.4 is too low for a circuit to judge by within its window of 8s: at least 2.5"},
		{"too slow for a short time", Config{Script: minute, Rate: 20, Duration: 5 * time.Second}, "-rate 20 is too low for a circuit to judge by within its window of 667ms: at least 30"},
		{"that much then", Config{Script: minute, Rate: 30, Duration: 5 * time.Second}, ""},
		{"too fast", Config{Script: minute, Rate: 501}, "-rate 501 is too high: at most 500"},
		{"no rate", Config{Script: minute}, "-rate 0 is not"},
		{"NaN", Config{Script: minute, Rate: math.NaN()}, "-rate NaN is not"},
		{"fastest", Config{Script: minute, Rate: 40, Speed: 12}, ""},
		{"too fast", Config{Script: minute, Rate: 40, Speed: 12.1}, "-speed 12.1 is too fast: at most 12"},
		{"slowly", Config{Script: minute, Rate: 40, Speed: 0.0007}, ""},
		{"too slowly", Config{Script: minute, Rate: 40, Speed: 0.0006}, "-speed 0.0006 is too slow: at least 0.0007"},
		{"backwards", Config{Script: minute, Rate: 40, Speed: -2}, "-speed -2 is not a speed; 2 is twice as fast"},
		{"at no speed", Config{Script: minute, Rate: 40, Speed: math.NaN()}, "-speed NaN is not a speed"},
		{"both", Config{Script: minute, Rate: 40, Speed: 2, Duration: time.Minute}, "-speed 2 and -duration 1m0s both say how long it takes: give one of them, or -repeat"},
		{"both with reason", Config{Script: minute, Rate: 40, Speed: 2, Duration: time.Second, Repeat: true}, ""},
		{"less than nothing", Config{Script: minute, Rate: 40, Duration: -time.Second, Repeat: true}, "-duration -1s is not a time to run"},
		{"a busy storm", Config{Script: scene("storm"), Rate: 166}, ""},
		{"too busy a storm", Config{Script: scene("storm"), Rate: 167}, "-rate 167 is too high for this script, which comes to 3 times as much: at most 166"},
		{"infinite", Config{Script: minute, Rate: math.Inf(1)}, "-rate +Inf is too high"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.config.Validate()
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			_, err = Run(t.Context(), c.config)
			require.ErrorContains(t, err, c.want)
		})
	}
}
