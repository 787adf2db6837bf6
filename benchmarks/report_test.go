package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Whoever pays for something once, as for a calibration, must not pay for a reading
// of the clock with each call ever after.
func TestABatchIsNotCutShortByOneSlowCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		once := time.Second
		s := &subject{contestant: &contestant{}, unit: 1, loop: func(n int) (int, error) {
			time.Sleep(once + time.Duration(n)*time.Nanosecond)
			once = 0
			return 0, nil
		}}
		n, err := batchOf(s)
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Duration(n)*time.Nanosecond, batch)
	})
}

func TestMedian(t *testing.T) {
	require.Equal(t, 3.0, median([]float64{3}))
	require.Equal(t, 2.5, median([]float64{1, 2, 3, 9}))
	require.Equal(t, 2.0, median([]float64{1, 2, 9}))
}

func TestSubtract(t *testing.T) {
	subjects := []*subject{{contestant: &contestant{}}, {contestant: &bare}}
	for _, test := range []struct {
		name string
		path path
		want []figures
	}{
		{"as measured", path{}, []figures{{min: 430, median: 470}, {min: 400, median: 420}}},
		{"added", path{added: true}, []figures{{min: 30, median: 50}, {min: 400, median: 420}}},
		{"waited", path{waited: 400 * time.Nanosecond}, []figures{{min: 30, median: 70}, {min: 0, median: 20}}},
	} {
		got := []figures{{min: 430, median: 470}, {min: 400, median: 420}}
		test.path.subtract(subjects, got)
		require.Equal(t, test.want, got, test.name)
	}
}

// aSection has ours and peers, whose figures are minimum and median.
func aSection(contended bool, rows ...row) *section {
	s := &section{Path: "p", Title: "The path", Contended: contended}
	for _, r := range rows {
		r.Contestant = r.contestant.name
		r.Ours = r.contestant.ours
		s.Rows = append(s.Rows, r)
	}
	return s
}

var (
	oursTest     = &contestant{name: "ours", ours: true, windowed: true}
	windowTest   = &contestant{name: "window", module: "w", windowed: true}
	noWindowTest = &contestant{name: "no window", module: "n", faster: "it counts nothing"}
)

func TestRivalIsOfTheSameKind(t *testing.T) {
	slow := &contestant{name: "slow", module: "s", windowed: true}
	s := aSection(false,
		row{contestant: oursTest, Min: 10},
		row{contestant: noWindowTest, Min: 1},
		row{contestant: slow, Min: 90},
		row{contestant: windowTest, Min: 50},
		row{contestant: &bare, Min: 1})
	require.Equal(t, "window", s.rival("").Contestant)
	require.Equal(t, "no window", s.rival("no window").Contestant)
	require.Nil(t, s.rival("nobody"))

	retry := &contestant{name: "our retry", ours: true}
	s.Rows[0].contestant = retry
	require.Equal(t, "no window", s.rival("").Contestant, "retries have no windows")
}

func TestWhoIsFasterIsSaid(t *testing.T) {
	s := aSection(false,
		row{contestant: oursTest, Min: 10, Median: 10},
		row{contestant: noWindowTest, Min: 9, Median: 11},
		row{contestant: windowTest, Min: 9.8, Median: 5},
		row{contestant: &bare, Min: 1, Median: 1})
	require.Equal(t, []string{"no window is faster here: it counts nothing."}, s.faster())
	s.Contended = true
	require.Equal(t, []string{"window is faster here: it does the same job, and we have no excuse."}, s.faster())
	s.waits = true
	require.Empty(t, s.faster(), "what remains is how late timers are")
}

func TestVerdict(t *testing.T) {
	s := aSection(false,
		row{contestant: oursTest, Min: 10, Median: 30},
		row{contestant: windowTest, Min: 100, Median: 100})
	require.Equal(t, verdict{Aim: "The path: at most 0.12 of window", Reached: "0.10", Held: true},
		(&aim{"p", "", 0.12}).verdict(s))
	require.Equal(t, verdict{Aim: "The path: at most 0.08 of window", Reached: "0.10"},
		(&aim{"p", "window", 0.08}).verdict(s))
	floor := aSection(false, s.Rows[0], s.Rows[1], row{contestant: &contestant{name: askedAlone, bare: true}, Min: 9})
	require.Equal(t, verdict{Aim: "The path: at most 0.08 of window", Reached: "0.10 (asked and alone: 0.090)"},
		(&aim{"p", "window", 0.08}).verdict(floor), "what is missed is beside what can be had")
	require.Equal(t, "0.10", (&aim{"p", "window", 0.1}).verdict(floor).Reached)
	s.Contended = true
	require.Equal(t, verdict{Aim: "The path: at most 0.12 of window", Reached: "0.30"},
		(&aim{"p", "", 0.12}).verdict(s))
	s.Rows[1].Median = -3
	require.Equal(t, verdict{Aim: "The path", Reached: "lost in noise"}, (&aim{"p", "window", 1}).verdict(s))
	require.Equal(t, verdict{Aim: "The path", Reached: "lost in noise"}, (&aim{"p", "", 1}).verdict(s))
}

func TestAnAllocationIsNoticed(t *testing.T) {
	const noAllocation = "No allocation where nothing is waited for"
	r := report{Paths: []section{
		*aSection(false, row{contestant: oursTest, Min: 1, Allocs: 0.01}),
		*aSection(false, row{contestant: oursTest, Min: 1, Allocs: 3}),
	}}
	r.Paths[1].waits = true
	require.Equal(t, []verdict{{Aim: noAllocation, Reached: "0", Held: true}}, r.judge())
	r.Paths[1].waits = false
	require.Equal(t, []verdict{{Aim: noAllocation, Reached: "The path: 3"}}, r.judge())
	require.Empty(t, (&report{}).judge())
}

func TestWhoIsSmallerIsSaid(t *testing.T) {
	r := report{}
	r.addMemory([]*contestant{oursTest, windowTest, noWindowTest},
		[]footprint{{cold: 700, hot: 900}, {cold: 1400, hot: 1400}, {cold: 70, hot: 70}})
	require.Equal(t, []string{"no window"}, r.smaller())
	require.Equal(t, []float64{1, 0.5, 10}, []float64{r.Memory[0].ColdRatio, r.Memory[1].ColdRatio, r.Memory[2].ColdRatio})
	var out strings.Builder
	require.NoError(t, r.Markdown(&out))
	require.Contains(t, out.String(), "Smaller than ours before the first call: no window.\n")
}

func TestAllocations(t *testing.T) {
	var kept []byte
	s := &subject{contestant: &contestant{}, unit: 1, loop: func(n int) (int, error) {
		kept = make([]byte, 512) // the loop's own
		for range n {
			kept = make([]byte, 64)
		}
		return 0, nil
	}}
	count, bytes, err := allocations(s, 1000)
	require.NoError(t, err)
	require.InDelta(t, 1, count, 0.05)
	require.InDelta(t, 64, bytes, 3)
	require.NotEmpty(t, kept)
}

// Every name in aims is that of a path, and of a contestant on it.
func TestAimsAreOfWhatIsMeasured(t *testing.T) {
	for _, a := range aims {
		p := smoke(t, "-paths", a.path)
		require.Len(t, p.paths, 1, a.path)
		found := a.against == ""
		for _, c := range p.paths[0].contestants() {
			found = found || c.name == a.against
		}
		require.True(t, found, "%s: %s", a.path, a.against)
	}
}

func TestGrid(t *testing.T) {
	g := grid{{"", "min"}, {"ours", "1.0"}, {"gobreaker", "127"}}
	require.Equal(t, "             min\n  ours       1.0\n  gobreaker  127\n", g.text())
	require.Equal(t, strings.Join([]string{
		"|           | min |",
		"|-----------|----:|",
		"| ours      | 1.0 |",
		"| gobreaker | 127 |",
		"",
	}, "\n"), g.markdown())
}

func TestFormats(t *testing.T) {
	require.Equal(t, []string{"8.0", "-0.3", "127"}, []string{formatTime(8.04), formatTime(-0.31), formatTime(126.9)})
	require.Equal(t, []string{"", "0.057", "0.12", "2.40"},
		[]string{formatRatio(0), formatRatio(0.0571), formatRatio(0.123), formatRatio(2.4)})
	require.Zero(t, ratio(-1, 5))
	require.Zero(t, ratio(5, -1))
	require.Equal(t, 0.5, ratio(1, 2))
}
