package demo

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/report"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/script"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
	"github.com/stretchr/testify/require"
)

// promises are what each scenario says of itself, as something to be checked.
var promises = map[string]func(t *testing.T, s *report.Summary){
	"outage": func(t *testing.T, s *report.Summary) {
		requireOutage(t, s)
		require.Equal(t, []string{shop.Payment}, opened(s))
		require.Positive(t, circuit(s, shop.Payment).Final.Totals.Rejected)
		var fired []string
		for _, a := range s.Alerts {
			if !a.FiringAt.IsZero() {
				fired = append(fired, a.Name())
				require.True(t, a.PendingAt.Before(a.FiringAt) && a.FiringAt.Before(a.ResolvedAt), "%+v", a)
			}
		}
		require.Equal(t, []string{"CircuitOpenTooLong of payment"}, fired)
		require.NotNil(t, s.Trace)
		require.Equal(t, 3, s.Trace.Attempts)
	},
	"flaky": func(t *testing.T, s *report.Summary) {
		require.Empty(t, opened(s))
		payment := circuit(s, shop.Payment)
		require.Greater(t, payment.Saved(), 50)
		require.Less(t, payment.GivenUp(), payment.Saved()/5, "retries save most of them")
	},
	"slow": func(t *testing.T, s *report.Summary) {
		require.Equal(t, []string{shop.Shipping}, opened(s))
		shipping := circuit(s, shop.Shipping)
		require.Equal(t, events.ReasonSlowCallRate, shipping.Changes[0].Reason)
		require.Less(t, shipping.Changes[0].Counts.FailureRatio(), 0.05, "next to nothing fails")
		require.Positive(t, reopened(shipping), "slow probes do not close it")
	},
	"storm": func(t *testing.T, s *report.Summary) {
		require.Equal(t, []string{shop.Payment, shop.Shipping}, opened(s), "more than one opens")
		require.Greater(t, circuit(s, shop.Inventory).Saved(), 50)
		// The orders are those of 28 s at the usual rate, 14 s at twice and 18 s at thrice.
		share := float64(s.Length.Truncate(time.Second)) / float64(time.Minute)
		require.InDelta(t, share*(40*28+80*14+120*18), s.Orders.Orders(), 4)
	},
	"recovery": func(t *testing.T, s *report.Summary) {
		require.Equal(t, []string{shop.Payment}, opened(s))
		payment := circuit(s, shop.Payment)
		shaky, well := phase(t, s, "shaky"), phase(t, s, "recovery")
		var inVain int
		for _, e := range payment.Changes {
			if e.Reason == events.ReasonProbesFailed && e.Time.After(shaky) && e.Time.Before(well) {
				inVain++
			}
		}
		require.Positive(t, inVain, "it should open anew while payment is half well")
		last := payment.Changes[len(payment.Changes)-1]
		require.Equal(t, events.ReasonProbesPassed, last.Reason)
		require.True(t, last.Time.After(well))
	},
	"all": func(t *testing.T, s *report.Summary) {
		require.Equal(t, []string{shop.Payment, shop.Shipping}, opened(s))
		require.Equal(t, map[string][]string{
			shop.Payment:  {"outage", "storm", "recovery"},
			shop.Shipping: {"slow", "storm"},
		}, openedDuring(s))
		require.Len(t, s.Phases, 4+3+3+4+4)
	},
}

func opened(s *report.Summary) []string {
	var names []string
	for _, c := range s.Circuits {
		if c.Opened() > 0 {
			names = append(names, c.Name)
		}
	}
	return names
}

// openedDuring returns the scenarios during which each circuit opened.
func openedDuring(s *report.Summary) map[string][]string {
	during := make(map[string][]string)
	for _, c := range s.Circuits {
		for _, e := range c.Changes {
			if e.From != events.StateClosed {
				continue
			}
			var scenario string
			for _, p := range s.Phases {
				if !e.Time.Before(s.Start.Add(p.At)) {
					scenario = p.Scenario
				}
			}
			if !slices.Contains(during[c.Name], scenario) {
				during[c.Name] = append(during[c.Name], scenario)
			}
		}
	}
	return during
}

func circuit(s *report.Summary, name string) report.Circuit {
	for _, c := range s.Circuits {
		if c.Name == name {
			return c
		}
	}
	return report.Circuit{}
}

// reopened is how often the probes of a circuit failed.
func reopened(c report.Circuit) int {
	var n int
	for _, e := range c.Changes {
		if e.Reason == events.ReasonProbesFailed {
			n++
		}
	}
	return n
}

// phase returns when the phase of the given name began.
func phase(t *testing.T, s *report.Summary, name string) time.Time {
	t.Helper()
	for _, p := range s.Phases {
		if p.Name == name {
			return s.Start.Add(p.At)
		}
	}
	require.Fail(t, "no phase "+name)
	return time.Time{}
}

// Each scenario shows what it promises, at full length and in a third of it, and
// leaves every circuit closed, so that the next one can begin. The race detector, which
// makes it five times as slow, sees nothing at full length that is not in the third.
func TestScenarios(t *testing.T) {
	for _, scenario := range script.Scenarios() {
		speeds := []float64{1, 3}
		if scenario.Name == script.All || raceDetector {
			speeds = speeds[1:]
		}
		for _, speed := range speeds {
			t.Run(scenario.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var log bytes.Buffer
					config := inMemory(&log)
					config.Script, config.Speed = scenario.Script, speed
					recorder := eventstest.New(t)
					config.Events = recorder.Sink()
					s, err := Run(t.Context(), config)
					require.NoError(t, err)
					t.Log(log.String())
					require.Contains(t, promises, scenario.Name, "a scenario without a promise")
					promises[scenario.Name](t, s)
					for _, c := range s.Circuits {
						require.Equal(t, events.StateClosed, c.Final.State, c.Name)
					}
					requireConsistent(t, s)
					requireSameAsEvents(t, s, recorder)
				})
			})
		}
	}
}

// Played again and again, the script begins anew when it is over, until the time is
// over or somebody stops it, which is then no early end.
func TestRepeat(t *testing.T) {
	for _, c := range []struct {
		name        string
		duration    time.Duration
		stop        time.Duration
		length      time.Duration
		early       bool
		wantOpening int
	}{
		{"for a time", 38 * time.Second, time.Hour, 38 * time.Second, false, 3},
		{"until stopped", 0, 18 * time.Second, 18 * time.Second, false, 1},
		{"stopped before its time", 10 * time.Minute, 18 * time.Second, 18 * time.Second, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.stop)
				defer cancel()
				var log bytes.Buffer
				config := inMemory(&log)
				config.Repeat, config.Duration, config.Speed = true, c.duration, 4
				s, err := Run(ctx, config)
				require.NoError(t, err)
				require.Equal(t, c.early, s.Early)
				require.Equal(t, c.length, s.Length.Truncate(time.Second))
				require.Equal(t, c.wantOpening, circuit(s, shop.Payment).Opened())
				require.Equal(t, []string{shop.Payment}, opened(s))
				requireInOrder(t, log.String(), "── recovery ──", "CLOSED", "15.0s  ── healthy ──", "17.0s  ── flaky ──")
				requireConsistent(t, s)
			})
		})
	}
}

func TestSpeedIsTheScriptsAlone(t *testing.T) {
	minute := script.Outage()
	for _, c := range []struct {
		config Config
		pace   float64
	}{
		{Config{}, 1},
		{Config{Speed: 4}, 0.25},
		{Config{Speed: 0.5}, 2},
		{Config{Duration: 30 * time.Second}, 0.5},
		{Config{Duration: 30 * time.Second, Repeat: true}, 1},
		{Config{Duration: 30 * time.Second, Repeat: true, Speed: 2}, 0.5},
	} {
		c.config.Script = minute
		require.InDelta(t, c.pace, c.config.pace(), 0)
		require.Equal(t, time.Duration(c.pace*float64(time.Minute)), c.config.played().Length())
		require.Equal(t, time.Duration(c.pace*float64(8*time.Second)), c.config.circuit().WindowSize)
	}
	require.Equal(t, time.Minute, minute.Length(), "the original stays")
}
