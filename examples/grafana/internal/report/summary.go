package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/load"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/tally"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/traces"
)

// Summary is what a run came to.
type Summary struct {
	Start    time.Time
	Length   time.Duration // of the run
	Early    bool          // it was stopped before its script was over
	Seed     uint64
	Phases   []Phase
	Orders   load.Counts
	Circuits []Circuit
	Alerts   []Alert // all episodes, in the order in which they began

	// Trace is one in which a retry saved an operation, nil if there is none. Rescue is
	// such an operation as its events told of it, for want of a trace.
	Trace  *traces.Trace
	Rescue tally.Rescue

	// Unseen is how many events the log missed because its reader did not keep up.
	// What is summed up here missed none.
	Unseen uint64
}

// Phase is when a phase of the script began.
type Phase struct {
	Scenario string // of which it is a part; empty if of none
	Name     string
	At       time.Duration
}

// Circuit is what happened at one circuit: as its breaker and its retry counted
// themselves, and as their events told.
type Circuit struct {
	Name       string
	Thresholds events.Thresholds
	Final      events.Snapshot       // of the breaker, in the end
	Operations map[events.Reason]int // of the retry, by how they ended
	Took       map[events.Reason]time.Duration
	Again      int                   // attempts that were run after the first of their operation
	Changes    []events.StateChanged // of the breaker's state
	Forgotten  int                   // changes before those
}

// Calls is how many calls came to the breaker, each attempt of a retry one.
func (c Circuit) Calls() int {
	t := c.Final.Totals
	return int(t.Success + t.Failure + t.Ignored + t.Rejected)
}

// Saved is how many operations succeeded because a retry tried again.
func (c Circuit) Saved() int { return c.Operations[events.ReasonSuccessAfterRetry] }

// GivenUp is how many operations failed in spite of the retry.
func (c Circuit) GivenUp() int {
	var n int
	for reason, k := range c.Operations {
		if gaveUp(reason) {
			n += k
		}
	}
	return n
}

// patience is how long an operation took, on average, that failed in spite of the
// retry; 0 if there was none.
func (c Circuit) patience() time.Duration {
	var sum time.Duration
	for reason, d := range c.Took {
		if gaveUp(reason) {
			sum += d
		}
	}
	if n := c.GivenUp(); n > 0 {
		return sum / time.Duration(n)
	}
	return 0
}

// Opened is how often the circuit left closed for open.
func (c Circuit) Opened() int { return len(c.outages()) }

// outage is one stretch of time in which a circuit was not closed.
type outage struct {
	opened events.StateChanged
	failed int                  // times that probes failed and it opened again
	closed *events.StateChanged // nil if it was not closed in the end
}

func (c Circuit) outages() []outage {
	var all []outage
	for i, e := range c.Changes {
		switch {
		case e.From == events.StateClosed && e.To != events.StateClosed:
			all = append(all, outage{opened: e})
		case len(all) == 0:
		case e.To == events.StateClosed && e.From != events.StateClosed:
			all[len(all)-1].closed = &c.Changes[i]
		case e.From == events.StateHalfOpen && e.To == events.StateOpen:
			all[len(all)-1].failed++
		}
	}
	return all
}

// width is the number of columns of a terminal that nobody has widened.
const width = 80

// narrowest is the number of columns below which lines wrap.
const narrowest = 40

// WriteText writes the summary for people: a table, a picture and the story. Columns
// is how wide what it is read on is; lines are at most 80 wide, and that is what 0
// means.
func (s *Summary) WriteText(w io.Writer, colour bool, columns int) error {
	room := width
	if columns > 0 {
		room = max(narrowest, min(width, columns))
	}
	var b strings.Builder
	st := style{colour}
	b.WriteString("\n" + st.bold("Summary") + " of " + span(s.Length))
	if s.Early {
		b.WriteString(", stopped early")
	}
	b.WriteString("\n\n")
	s.writeTable(&b, st, room)
	if lines := s.timeline(st, room-1); lines != nil {
		b.WriteString("\n" + strings.Join(lines, "\n") + "\n")
	}
	for _, paragraph := range s.story() {
		b.WriteString("\n" + wrap(paragraph, "  ", room))
	}
	s.writeAlerts(&b, st, room)
	s.writeSaved(&b, st, room)
	if s.Unseen > 0 {
		b.WriteString("\n" + wrap(fmt.Sprintf("The log above misses %s: it was not read fast enough. Nothing is missing in the table.",
			count(int(s.Unseen), "event")), "  ", room))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// summaryTable is the table of the summary. It has a second row of titles.
var summaryTable = table{
	{"circuit", -9, 0},
	{"calls", 7, 4},
	{"succeeded", 9, 5},
	{"failed", 6, 1},
	{"ignored", 7, 6},
	{"rejected", 8, 2},
	{"saved by", 8, 3},
	{"time", -5, 0},
}

func (s *Summary) writeTable(b *strings.Builder, st style, room int) {
	shown := summaryTable.fitting(2, room)
	dim := func(_ int, text string) string { return st.dim(text) }
	b.WriteString(summaryTable.row(2, shown, summaryTable.titles(), dim) + "\n")
	b.WriteString(summaryTable.row(2, shown, []string{"", "", "", "", "", "", "a retry", "open"}, dim) + "\n")
	for _, c := range s.Circuits {
		t := c.Final.Totals
		open := c.Final.TimeIn[events.StatusOpen] + c.Final.TimeIn[events.StatusForcedOpen]
		texts := []string{
			c.Name, fmt.Sprint(c.Calls()), fmt.Sprint(t.Success), fmt.Sprint(t.Failure), fmt.Sprint(t.Ignored),
			fmt.Sprint(t.Rejected), fmt.Sprint(c.Saved()), "never",
		}
		paint := st.good
		if open > 0 {
			texts[len(texts)-1], paint = span(open), st.bad
		}
		b.WriteString(summaryTable.row(2, shown, texts, func(i int, text string) string {
			if i < len(texts)-1 {
				return text
			}
			return paint(text)
		}))
		if open > 0 && c.Final.State != events.StateClosed && room == width {
			b.WriteString(", " + st.state(c.Final.State, "still "+c.Final.State.String()))
		}
		b.WriteByte('\n')
	}
	b.WriteString("\n")
	b.WriteString(st.dim(wrap("Each attempt of a retry is a call. Ignored are those that the service refused (4xx): they say nothing about its health.", "  ", room)))
}

// story tells what happened: to the circuits, and to calls and orders.
func (s *Summary) story() []string {
	var story, calm []string
	for _, c := range s.Circuits {
		if outages := c.outages(); len(outages) > 0 {
			story = append(story, s.outageStory(c, outages))
		} else {
			calm = append(calm, c.Name)
		}
	}
	switch {
	case len(calm) == len(s.Circuits):
		story = append(story, "No circuit opened.")
	case len(calm) > 0:
		story = append(story, list(calm)+" never opened.")
	}
	return append(story, s.retryStory()+" "+s.orderStory())
}

// toldOutages is how many outages of a circuit are told in full.
const toldOutages = 3

func (s *Summary) outageStory(c Circuit, outages []outage) string {
	var b strings.Builder
	for i, o := range outages[:min(len(outages), toldOutages)] {
		if i == 0 {
			b.WriteString(c.Name + " opened at ")
		} else {
			b.WriteString(" It opened again at ")
		}
		fmt.Fprintf(&b, "%s%s: %s.", s.at(o.opened.Time), s.into(o.opened.Time), opening(o.opened, c.Thresholds))
		if o.failed > 0 {
			fmt.Fprintf(&b, " Its probes failed %s.", times(o.failed))
		}
		if o.closed != nil {
			fmt.Fprintf(&b, " It closed at %s%s.", s.at(o.closed.Time), s.into(o.closed.Time))
		} else {
			b.WriteString(" It had not closed when the demo ended.")
		}
	}
	if more := len(outages) - toldOutages; more > 0 {
		fmt.Fprintf(&b, " It opened %s more.", times(more))
	}
	if n := c.Final.Totals.Rejected; n > 0 {
		fmt.Fprintf(&b, " Meanwhile it rejected %s at once, which spared %s as many requests and its callers the waiting",
			count(int(n), "call"), c.Name)
		if d := c.patience(); d > 0 {
			fmt.Fprintf(&b, ": a call that failed in spite of retries took %s on average", span(d))
		}
		b.WriteString(".")
	}
	return b.String()
}

// opening says why a breaker opened.
func opening(e events.StateChanged, t events.Thresholds) string {
	text, _, _ := strings.Cut(transition(e, t), ";")
	return text
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	default:
		return fmt.Sprintf("%d times", n)
	}
}

// at writes a time as the log does.
func (s *Summary) at(t time.Time) string { return fmt.Sprintf("%.1fs", t.Sub(s.Start).Seconds()) }

// into says how far into which phase a time is; empty if there is none.
func (s *Summary) into(t time.Time) string {
	at := t.Sub(s.Start)
	for _, p := range slices.Backward(s.Phases) {
		if p.At <= at {
			return fmt.Sprintf(", %s into %q", span(at-p.At), p.Name)
		}
	}
	return ""
}

func (s *Summary) retryStory() string {
	var saved, givenUp, again, operations int
	var where []string
	for _, c := range s.Circuits {
		if n := c.Saved(); n > 0 {
			saved += n
			where = append(where, fmt.Sprintf("%s %d", c.Name, n))
		}
		givenUp += c.GivenUp()
		again += c.Again
		for _, n := range c.Operations {
			operations += n
		}
	}
	text := "Retries saved no call"
	if saved > 0 {
		text = fmt.Sprintf("Retries saved %s (%s)", count(saved, "call"), strings.Join(where, ", "))
	}
	if givenUp > 0 {
		text += fmt.Sprintf("; %d failed in spite of them", givenUp)
	}
	if again > 0 {
		text += fmt.Sprintf(". That took %s more, %s on top of %d calls", count(again, "request"), share(float64(again)/float64(operations)), operations)
	}
	return text + "."
}

// toldAlerts is how many alerts are told of.
const toldAlerts = 10

// writeAlerts writes when alerts were pending, firing and resolved. Those that fired
// come first where there are too many.
func (s *Summary) writeAlerts(b *strings.Builder, st style, room int) {
	told := slices.Clone(s.Alerts)
	if len(told) > toldAlerts {
		slices.SortStableFunc(told, func(a, b Alert) int {
			return cmp.Compare(severity(b), severity(a))
		})
		told = told[:toldAlerts]
		slices.SortStableFunc(told, func(a, b Alert) int { return a.PendingAt.Compare(b.PendingAt) })
	}
	if len(told) == 0 {
		return
	}
	// Names take what the times leave them, if need be without the first of these.
	columns := table{{"alert", -min(44, room-2-3*10), 0}, {"pending", 8, 1}, {"firing", 8, 0}, {"over", 8, 0}}
	shown := []bool{true, true, true, true}
	if columns[0].width > -20 {
		columns[0].width = -(room - 2 - 2*10)
		shown[1] = false
	}
	b.WriteString("\n" + columns.row(2, shown, columns.titles(), func(_ int, text string) string { return st.dim(text) }) + "\n")
	for _, a := range told {
		texts := []string{cut(a.Name(), -columns[0].width), s.at(a.PendingAt), "never", "not yet"}
		if !a.FiringAt.IsZero() {
			texts[2] = s.at(a.FiringAt)
		}
		if !a.Over().IsZero() {
			texts[3] = s.at(a.Over())
		}
		b.WriteString(columns.row(2, shown, texts, func(i int, text string) string {
			if i == 2 && !a.FiringAt.IsZero() {
				return st.bad(text)
			}
			return text
		}) + "\n")
	}
	if more := len(s.Alerts) - len(told); more > 0 {
		fmt.Fprintf(b, "  and %d more\n", more)
	}
}

// severity orders alerts by how much they are worth telling.
func severity(a Alert) int {
	if a.FiringAt.IsZero() {
		return 0
	}
	return 1
}

func (s *Summary) orderStory() string {
	n := s.Orders.Orders()
	if n == 0 {
		return "No order was sent."
	}
	return fmt.Sprintf("%s came in: %s.", count(n, "order"), ordersText(s.Orders, " on average"))
}

// writeSaved writes one of the calls that a retry saved: its spans if they are known,
// else its attempts.
func (s *Summary) writeSaved(b *strings.Builder, st style, room int) {
	if s.Trace == nil {
		s.writeRescue(b, st)
		return
	}
	b.WriteString("\n" + wrap(fmt.Sprintf("One of the orders saved, at %s (trace %s):", s.at(s.Trace.Start), s.Trace.ID), "  ", room))
	b.WriteString(strings.Join(tree(s.Trace, st, room), "\n") + "\n")
}

// writeRescue writes the attempts of the operation that a retry saved.
func (s *Summary) writeRescue(b *strings.Builder, st style) {
	if len(s.Rescue.Tries) == 0 {
		return
	}
	fmt.Fprintf(b, "\n  One of the calls saved, to %s at %s:\n", s.Rescue.Name, s.at(s.Rescue.At))
	for i, try := range s.Rescue.Tries {
		if i > 0 {
			asked := ""
			if try.Asked {
				asked = "as the service asked"
			}
			b.WriteString(st.dim(strings.TrimRight(fmt.Sprintf("    wait       %6s  %s", span(try.Delay), asked), " ")) + "\n")
		}
		text := st.good("succeeded")
		if try.Err != nil {
			text = st.warn("failed: " + cause(try.Err))
		}
		fmt.Fprintf(b, "    attempt %d  %6s  %s\n", i+1, span(try.Took), text)
	}
}

// WriteJSON writes the summary for programs: one object. Times are seconds, those of
// events since the start of the run.
func (s *Summary) WriteJSON(w io.Writer) error {
	type phase struct {
		Scenario string  `json:"scenario,omitempty"`
		Name     string  `json:"name"`
		At       float64 `json:"at"`
	}
	type change struct {
		At      float64 `json:"at"`
		From    string  `json:"from"`
		To      string  `json:"to"`
		Reason  string  `json:"reason"`
		Volume  uint64  `json:"volume"`
		Failure uint64  `json:"failure"`
		Slow    uint64  `json:"slow"`
		Why     string  `json:"why"`
	}
	type thresholds struct {
		Error   float64 `json:"error"`
		Slow    float64 `json:"slow,omitempty"`
		Volume  int     `json:"volume"`
		Probes  int     `json:"probes"`
		Success float64 `json:"success"`
		Window  float64 `json:"window"`
		Sleep   float64 `json:"sleep_window"`
	}
	type circuit struct {
		Name         string             `json:"name"`
		State        string             `json:"state"`
		Calls        int                `json:"calls"`
		Succeeded    uint64             `json:"succeeded"`
		Failed       uint64             `json:"failed"`
		Ignored      uint64             `json:"ignored"`
		Rejected     uint64             `json:"rejected"`
		SavedByRetry int                `json:"saved_by_retry"`
		GivenUp      int                `json:"given_up"`
		GivenUpMean  float64            `json:"given_up_mean"`
		Again        int                `json:"attempts_again"`
		Opened       int                `json:"opened"`
		Time         map[string]float64 `json:"time"`
		Operations   map[string]int     `json:"operations"`
		Changes      []change           `json:"changes"`
		Forgotten    int                `json:"changes_forgotten,omitempty"`
		Thresholds   thresholds         `json:"thresholds"`
	}
	type alert struct {
		Rule     string   `json:"rule"`
		About    string   `json:"about,omitempty"`
		Severity string   `json:"severity,omitempty"`
		Pending  *float64 `json:"pending"`
		Firing   *float64 `json:"firing,omitempty"`
		Resolved *float64 `json:"resolved,omitempty"`
		Ended    *float64 `json:"ended,omitempty"`
	}
	when := func(t time.Time) *float64 {
		if t.IsZero() {
			return nil
		}
		at := seconds(t.Sub(s.Start))
		return &at
	}
	type orders struct {
		Orders int     `json:"orders"`
		Mean   float64 `json:"mean"`
	}
	out := struct {
		Length   float64           `json:"length"`
		Early    bool              `json:"stopped_early"`
		Seed     uint64            `json:"seed"`
		Phases   []phase           `json:"phases"`
		Orders   map[string]orders `json:"orders"`
		Circuits []circuit         `json:"circuits"`
		Alerts   []alert           `json:"alerts"`
		Saved    *savedJSON        `json:"saved,omitempty"`
		Unseen   uint64            `json:"events_unseen"`
	}{Length: seconds(s.Length), Early: s.Early, Seed: s.Seed, Orders: make(map[string]orders), Alerts: []alert{}, Saved: s.saved(), Unseen: s.Unseen}
	for _, p := range s.Phases {
		out.Phases = append(out.Phases, phase{p.Scenario, p.Name, seconds(p.At)})
	}
	for r, name := range [load.ResultCount]string{"accepted", "refused", "failed", "turned_away", "lost"} {
		out.Orders[name] = orders{s.Orders[r].Orders, seconds(s.Orders[r].Mean())}
	}
	for _, c := range s.Circuits {
		t := c.Final.Totals
		o := circuit{
			Name: c.Name, State: c.Final.Status().String(),
			Calls: c.Calls(), Succeeded: t.Success, Failed: t.Failure, Ignored: t.Ignored, Rejected: t.Rejected,
			SavedByRetry: c.Saved(), GivenUp: c.GivenUp(), GivenUpMean: seconds(c.patience()), Again: c.Again, Opened: c.Opened(), Forgotten: c.Forgotten,
			Thresholds: thresholds{
				Error: c.Thresholds.ErrorThreshold, Slow: c.Thresholds.SlowCallThreshold, Volume: c.Thresholds.VolumeThreshold,
				Probes: c.Thresholds.HalfOpenRequests, Success: c.Thresholds.SuccessThreshold,
				Window: seconds(c.Thresholds.WindowSize), Sleep: seconds(c.Thresholds.SleepWindow),
			},
			Time: make(map[string]float64), Operations: make(map[string]int), Changes: []change{},
		}
		for status, d := range c.Final.TimeIn {
			if d > 0 || events.Status(status) <= events.StatusHalfOpen { // the others are rare
				o.Time[events.Status(status).String()] = seconds(d)
			}
		}
		for reason, n := range c.Operations {
			o.Operations[string(reason)] = n
		}
		for _, e := range c.Changes {
			o.Changes = append(o.Changes, change{
				At:   seconds(e.Time.Sub(s.Start)),
				From: events.StatusOf(e.From, e.FromForced).String(), To: events.StatusOf(e.To, e.Forced).String(),
				Reason: string(e.Reason), Volume: e.Counts.Volume(), Failure: e.Counts.Failure, Slow: e.Counts.Slow,
				Why: opening(e, c.Thresholds),
			})
		}
		out.Circuits = append(out.Circuits, o)
	}
	for _, a := range s.Alerts {
		out.Alerts = append(out.Alerts, alert{a.Rule, a.About, a.Severity, when(a.PendingAt), when(a.FiringAt), when(a.ResolvedAt), when(a.EndedAt)})
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}

// savedJSON is one call that a retry saved: its spans if they are known, else its
// attempts.
type savedJSON struct {
	Trace    string        `json:"trace,omitempty"`
	Spans    []*spanJSON   `json:"spans,omitempty"`
	Circuit  string        `json:"circuit,omitempty"`
	Attempts []attemptJSON `json:"attempts,omitempty"`
}

type spanJSON struct {
	Service  string      `json:"service"`
	Name     string      `json:"name"`
	Kind     string      `json:"kind"`
	At       float64     `json:"at"`
	Duration float64     `json:"duration"`
	Wait     float64     `json:"wait,omitempty"` // before it, for a retry
	Note     string      `json:"note,omitempty"`
	Failed   bool        `json:"failed"`
	Children []*spanJSON `json:"children,omitempty"`
}

type attemptJSON struct {
	Wait     float64 `json:"wait"`
	Asked    bool    `json:"asked"` // the service asked for this wait
	Duration float64 `json:"duration"`
	Error    string  `json:"error,omitempty"`
}

func (s *Summary) saved() *savedJSON {
	if s.Trace != nil {
		saved := &savedJSON{Trace: s.Trace.ID}
		for _, root := range s.Trace.Roots {
			saved.Spans = append(saved.Spans, s.span(root))
		}
		return saved
	}
	if len(s.Rescue.Tries) == 0 {
		return nil
	}
	saved := &savedJSON{Circuit: s.Rescue.Name}
	for _, try := range s.Rescue.Tries {
		a := attemptJSON{Wait: seconds(try.Delay), Asked: try.Asked, Duration: seconds(try.Took)}
		if try.Err != nil {
			a.Error = cause(try.Err)
		}
		saved.Attempts = append(saved.Attempts, a)
	}
	return saved
}

func (s *Summary) span(t *traces.Span) *spanJSON {
	text, _ := note(t)
	j := &spanJSON{
		Service: t.Service, Name: t.Name, Kind: t.Kind.String(), Failed: t.Failed, Note: text,
		At: seconds(t.Start.Sub(s.Start)), Duration: seconds(t.Duration), Wait: seconds(delay(t)),
	}
	for _, child := range t.Children {
		j.Children = append(j.Children, s.span(child))
	}
	return j
}

// seconds returns a duration in seconds, to the microsecond.
func seconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }
