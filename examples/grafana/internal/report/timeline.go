package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// The marks of a timeline, by state.
var marks = map[events.State]string{
	events.StateClosed:   "─",
	events.StateOpen:     "█",
	events.StateHalfOpen: "▒",
}

// timeline draws the states of all circuits over the run, below the phases it had; nil
// if there is nothing to draw.
func (s *Summary) timeline(st style, room int) []string {
	cols := room - 2 - 9 - 2
	if s.Length <= 0 || cols < 10 {
		return nil
	}
	var drawn []string
	for _, c := range s.Circuits {
		if c.Forgotten > 0 {
			return nil // the beginning is not known any more
		}
		drawn = append(drawn, fmt.Sprintf("  %-9s  ", c.Name)+s.bar(st, c, cols))
	}
	lines := []string{"  " + strings.Repeat(" ", 9) + "  " + st.dim(s.ruler(cols))}
	lines = append(lines, drawn...)
	legend := "─ closed  █ open  ▒ half-open, for however short"
	if cells(legend) > cols {
		legend = "─ closed █ open ▒ probing"
	}
	return append(lines, st.dim("  "+strings.Repeat(" ", 9)+"  "+legend))
}

// bar draws the states of one circuit. Of the states within a column, the rarest is
// shown: half-open before open before closed.
func (s *Summary) bar(st style, c Circuit, cols int) string {
	// column returns in which one a time is.
	column := func(t time.Time) int {
		return min(cols-1, max(0, int(float64(t.Sub(s.Start))/float64(s.Length)*float64(cols))))
	}
	shown := make([]events.State, cols)
	fill := func(from, to time.Time, state events.State) {
		for i := column(from); i <= column(to); i++ {
			shown[i] = max(shown[i], state) // closed, open, half-open: in that order
		}
	}
	at, state := s.Start, events.StateClosed
	for _, e := range c.Changes {
		fill(at, e.Time, state)
		at, state = e.Time, e.To
	}
	fill(at, s.Start.Add(s.Length), state)

	var b strings.Builder
	for i := 0; i < cols; {
		n := i
		for n < cols && shown[n] == shown[i] {
			n++
		}
		b.WriteString(st.state(shown[i], strings.Repeat(marks[shown[i]], n-i)))
		i = n
	}
	return b.String()
}

// ruler writes the names of the phases, or of the scenarios if there were several,
// where they began.
func (s *Summary) ruler(cols int) string {
	type part struct {
		name string
		at   int
	}
	several := false
	for _, p := range s.Phases {
		several = several || p.Scenario != s.Phases[0].Scenario
	}
	var parts []part
	for i, p := range s.Phases {
		name := p.Name
		if several {
			if i > 0 && p.Scenario == s.Phases[i-1].Scenario {
				continue
			}
			name = p.Scenario
		}
		parts = append(parts, part{name, int(float64(p.At) / float64(s.Length) * float64(cols))})
	}
	line := []rune(strings.Repeat(" ", cols))
	for i, p := range parts {
		end := cols
		if i+1 < len(parts) {
			end = parts[i+1].at
		}
		text := []rune("│" + p.name)
		if room := end - p.at; len(text) > room {
			text = text[:max(0, room)]
		}
		copy(line[min(p.at, cols):], text)
	}
	return strings.TrimRight(string(line), " ")
}
