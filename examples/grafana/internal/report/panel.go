package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// frameEvery is the time between two drawings of the panel.
const frameEvery = 250 * time.Millisecond

// rateOver is the time over which rates on the panel are taken, in frames.
const rateOver = 8

// history is the last readings of something that only grows.
type history[T any] struct {
	readings []T
	at       []time.Time
}

// add takes a reading and returns the oldest one that is kept, and when that was.
func (h *history[T]) add(at time.Time, reading T) (T, time.Time) {
	h.readings, h.at = append(h.readings, reading), append(h.at, at)
	if len(h.at) > rateOver+1 {
		h.readings, h.at = h.readings[1:], h.at[1:]
	}
	return h.readings[0], h.at[0]
}

// perSecond returns how many a second n in that time are.
func perSecond(n int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// column is a column of a table.
type column struct {
	title string
	width int // negative: to the left
	rank  int // those with the highest go first where there is no room
}

// table is a table of columns, with two spaces between them.
type table []column

// panelTable is the table of the panel.
var panelTable = table{
	{"circuit", -9, 0},
	{"state", -9, 0},
	{"for", 5, 2},
	{"calls/s", 7, 5},
	{"failing", 7, 1},
	{"rejected", 8, 3},
	{"saved", 5, 4},
	{"", -14, 6},
}

// fitting returns which columns there is room for, after an indent.
func (t table) fitting(indent, room int) []bool {
	shown := make([]bool, len(t))
	left := room - indent
	for rank := 0; ; rank++ {
		found := false
		for i, c := range t {
			if c.rank != rank {
				continue
			}
			found = true
			if need := max(c.width, -c.width); left >= need {
				shown[i] = true
				left -= need + 2
			} else {
				return shown
			}
		}
		if !found {
			return shown
		}
	}
}

// row lays out the texts of a row in the columns that are shown. Paint is given each,
// padded, to colour it.
func (t table) row(indent int, shown []bool, texts []string, paint func(i int, text string) string) string {
	last := len(t) - 1
	for last > 0 && (!shown[last] || texts[last] == "") {
		last-- // what is not there takes no room
	}
	var cells []string
	for i, c := range t[:last+1] {
		if !shown[i] {
			continue
		}
		text := texts[i]
		if i < last || c.width > 0 {
			text = fmt.Sprintf("%*s", c.width, text)
		}
		cells = append(cells, paint(i, text))
	}
	return strings.Repeat(" ", indent) + strings.Join(cells, "  ")
}

// titles returns the texts of the row above all others.
func (t table) titles() []string {
	titles := make([]string, len(t))
	for i, c := range t {
		titles[i] = c.title
	}
	return titles
}

// panel returns the lines at the end of the screen: what holds now.
func (l *Log) panel(now time.Time, room int) []string {
	lines := []string{
		l.style.dim(strings.Repeat("─", room-1)),
		l.panelHead(now),
	}
	shown := panelTable.fitting(1, room-1)
	lines = append(lines, panelTable.row(1, shown, panelTable.titles(), func(_ int, text string) string { return l.style.dim(text) }))
	for _, name := range l.order {
		if c := l.circuits[name]; c.snapshot != nil {
			lines = append(lines, l.panelRow(now, c, shown))
		}
	}
	if l.config.Orders != nil {
		lines = append(lines, l.panelOrders(now))
	}
	return append(lines, l.panelAlerts(now)...)
}

// panelHead says what time it is in the script.
func (l *Log) panelHead(now time.Time) string {
	at := fmt.Sprintf("%.1fs", now.Sub(l.config.Start).Seconds())
	if l.config.Length > 0 {
		at += " of " + span(l.config.Length)
	}
	head := " " + l.style.bold(at)
	if l.present.Phase.Name == "" {
		return head
	}
	left := max(0, l.present.At.Add(l.present.Phase.Length).Sub(now))
	return head + "  " + l.style.bold(l.present.Phase.Name) + l.style.dim(", "+wholeSpan(left)+" left: ") + l.present.Phase.Text
}

// wholeSpan writes a duration without fractions, which would flicker.
func wholeSpan(d time.Duration) string { return span(d.Round(time.Second)) }

// panelRow says how a circuit is.
func (l *Log) panelRow(now time.Time, c *circuit, shown []bool) string {
	s := c.snapshot()
	done := int(s.Totals.Success + s.Totals.Failure + s.Totals.Ignored)
	before, since := c.calls.add(now, done)

	state := s.State.String()
	if s.State == events.StateOpen {
		state = "OPEN"
	}
	failing, note := percent(s.Window.FailureRatio()), ""
	switch {
	case s.Forced:
		failing, note = "–", "forced"
	case s.State == events.StateOpen:
		failing, note = "–", "probes in "+tenthsOfSeconds(s.RetryAfter)
	case s.State == events.StateHalfOpen:
		failing, note = "–", "awaits a call"
		if s.ProbesInFlight > 0 || s.Window.Volume() > 0 {
			note = fmt.Sprintf("%d ok, %d failed", s.Window.Success, s.Window.Failure)
		}
	case c.thresholds.SlowCallThreshold > 0 && s.Window.SlowRatio() > s.Window.FailureRatio() && s.Window.SlowRatio() >= 0.05:
		note = percent(s.Window.SlowRatio()) + " slow"
	}
	texts := []string{
		c.name, state, wholeSpan(now.Sub(s.Since)),
		fmt.Sprintf("%.0f", perSecond(done-before, now.Sub(since))), failing,
		fmt.Sprint(s.Totals.Rejected), fmt.Sprint(c.saved), note,
	}
	return panelTable.row(1, shown, texts, func(i int, text string) string {
		switch title := panelTable[i].title; {
		case title == "state":
			return l.style.state(s.State, text)
		case title == "rejected" && s.Totals.Rejected > 0, title == "failing" && s.Window.FailureRatio() >= c.thresholds.ErrorThreshold/2:
			return l.style.warn(text)
		case title == "saved" && c.saved > 0:
			return l.style.good(text)
		case title == "":
			return l.style.dim(text)
		}
		return text
	})
}

func tenthsOfSeconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// panelOrders says what becomes of the orders now.
func (l *Log) panelOrders(now time.Time) string {
	counts := l.config.Orders()
	before, since := l.ordered.add(now, counts)
	recent, took := counts.Since(before), now.Sub(since)
	parts := make([]string, 0, len(words))
	for r, word := range words {
		if n := recent[r].Orders; n > 0 {
			parts = append(parts, fmt.Sprintf("%.0f %s", max(1, perSecond(n, took)), word))
		}
	}
	if len(parts) == 0 {
		parts = []string{"none"}
	}
	return " " + fmt.Sprintf("%-9s", "orders") + l.style.dim("  a second: ") + strings.Join(parts, ", ")
}

// panelAlerts says which alerts are pending or firing.
func (l *Log) panelAlerts(now time.Time) []string {
	if l.config.Alerts == nil {
		return nil
	}
	var lines []string
	for _, a := range l.config.Alerts() {
		since, state := a.PendingAt, l.style.warn(fmt.Sprintf("%-9s", "pending"))
		switch {
		case !a.Over().IsZero():
			continue
		case !a.FiringAt.IsZero():
			since, state = a.FiringAt, l.style.bad(fmt.Sprintf("%-9s", "FIRING"))
		}
		lines = append(lines, " "+fmt.Sprintf("%-9s", "alert")+"  "+state+"  "+fmt.Sprintf("%5s", wholeSpan(now.Sub(since)))+"  "+a.Name())
	}
	switch {
	case len(lines) == 0:
		return []string{" " + fmt.Sprintf("%-9s", "alerts") + "  none"}
	case len(lines) > mostAlerts:
		more := len(lines) - mostAlerts + 1
		return append(lines[:mostAlerts-1], " "+l.style.dim(fmt.Sprintf("%-9s  and %d more", "", more)))
	}
	return lines
}

// mostAlerts is how many lines of the panel there are for alerts.
const mostAlerts = 4
