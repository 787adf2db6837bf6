package script

import (
	"context"
	"os"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-go/breakwater/internal/leaktest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func names(s Script) (names []string, lengths []time.Duration) {
	for _, p := range s {
		names, lengths = append(names, p.Name), append(lengths, p.Length)
	}
	return names, lengths
}

func TestOutageTakesAMinute(t *testing.T) {
	s := Outage()
	require.Equal(t, time.Minute, s.Length())
	for _, p := range s {
		require.NotEmpty(t, p.Text)
		for _, service := range []string{"inventory", "shipping"} {
			require.Equal(t, noise, p.Faults[service], "%s in %s", service, p.Name)
		}
	}
	s[0].Name = "changed"
	require.Equal(t, "healthy", Outage()[0].Name, "each caller has a script of his own")
}

func TestScenarios(t *testing.T) {
	var sum time.Duration
	var names []string
	for _, s := range Scenarios() {
		names = append(names, s.Name)
		require.NotEmpty(t, s.Text)
		if s.Name == All {
			require.Equal(t, sum, s.Script.Length(), "one after the other")
			continue
		}
		require.Equal(t, time.Minute, s.Script.Length(), s.Name)
		require.Equal(t, "healthy", s.Script[0].Name)
		require.Equal(t, "recovery", s.Script[len(s.Script)-1].Name, "the next one finds all well")
		for _, p := range s.Script {
			require.Equal(t, s.Name, p.Scenario)
		}
		sum += s.Script.Length()
	}
	require.Equal(t, []string{"outage", "flaky", "slow", "storm", "recovery", "all"}, names)

	storm, err := Find("storm")
	require.NoError(t, err)
	require.InDelta(t, 3, storm.Script.Peak(), 0)
	require.InDelta(t, 1, Outage().Peak(), 0)
	require.InDelta(t, 1, Outage()[0].LoadFactor(), 0)

	_, err = Find("hail")
	require.EqualError(t, err, `there is no scenario "hail"; there are outage, flaky, slow, storm, recovery and all`)
}

func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../../../docs/demo.md")
	require.NoError(t, err)
	for _, s := range Scenarios() {
		require.Contains(t, string(text), "\n| `"+s.Name+"` |")
	}
	own := regexp.MustCompile("`-phases (.*?)`").FindStringSubmatch(string(text))
	require.NotNil(t, own)
	_, err = Parse(own[1])
	require.NoError(t, err)
}

func TestParse(t *testing.T) {
	s, err := Parse("healthy=1s, outage = 1m30s,healthy=2s")
	require.NoError(t, err)
	n, l := names(s)
	require.Equal(t, []string{"healthy", "outage", "healthy"}, n)
	require.Equal(t, []time.Duration{time.Second, 90 * time.Second, 2 * time.Second}, l)
	require.InDelta(t, 1, s[1].Faults["payment"].Share, 0)

	for list, want := range map[string]string{
		"":                       `"" is not of the form phase=duration`,
		"healthy":                `"healthy" is not of the form phase=duration`,
		"healthy=1s,":            `"" is not of the form phase=duration`,
		"hail=1s":                `there is no phase "hail"; there are healthy, flaky, outage, shaky, slow, surge, storm and recovery`,
		"healthy=1":              `"1" is not a duration such as 10s`,
		"healthy=0s":             `phase "healthy" cannot take 0s`,
		"outage=-3s":             `phase "outage" cannot take -3s`,
		"flaky=2e6h,outage=2e6h": `"2e6h" is not a duration such as 10s`,
		"flaky=2000000h,outage=2000000h,healthy=2000000h": "the phases take longer than can be counted",
	} {
		_, err := Parse(list)
		require.EqualError(t, err, want, list)
	}
}

func TestScaled(t *testing.T) {
	s, err := Parse("healthy=1s,flaky=1s,outage=1s")
	require.NoError(t, err)
	for _, length := range []time.Duration{10, time.Second, 10 * time.Second, time.Hour + 1} {
		scaled := s.Scaled(length)
		require.Equal(t, length, scaled.Length(), "nothing is lost by rounding")
		for _, p := range scaled {
			require.InDelta(t, length/3, p.Length, 1)
		}
	}
	require.Equal(t, 3*time.Second, s.Length(), "the original stays")
}

func TestPlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Parse("healthy=1s,outage=5s,recovery=2s")
		require.NoError(t, err)
		start := time.Now()
		var at []time.Duration
		var entered []string
		require.NoError(t, s.Play(t.Context(), func(p Phase) {
			at, entered = append(at, time.Since(start)), append(entered, p.Name)
			time.Sleep(100 * time.Millisecond) // is part of the phase, and does not add up
		}))
		require.Equal(t, []string{"healthy", "outage", "recovery"}, entered)
		require.Equal(t, []time.Duration{0, time.Second, 6 * time.Second}, at)
		require.Equal(t, 8*time.Second, time.Since(start))
	})
}

func TestPlayStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inTheLast, cancel := context.WithTimeout(t.Context(), 59*time.Second)
		defer cancel()
		require.ErrorIs(t, Outage().Play(inTheLast, func(Phase) {}), context.DeadlineExceeded)

		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var last string
		require.ErrorIs(t, Outage().Play(ctx, func(p Phase) { last = p.Name }), context.DeadlineExceeded)
		require.Equal(t, 10*time.Second, time.Since(start))
		require.Equal(t, "flaky", last)

		require.ErrorIs(t, Outage().Play(ctx, func(Phase) { t.Error("entered a phase") }), context.DeadlineExceeded)
	})
}
