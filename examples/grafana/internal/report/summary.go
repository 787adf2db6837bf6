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

// WriteText writes the summary for people: a table and the story.
func (s *Summary) WriteText(w io.Writer, colour bool) error {
	var b strings.Builder
	st := style{colour}
	b.WriteString("\n" + st.bold("Summary") + " of " + span(s.Length))
	if s.Early {
		b.WriteString(", stopped early")
	}
	b.WriteString("\n\n")
	s.writeTable(&b, st)
	if lines := s.timeline(st, width-1); lines != nil {
		b.WriteString("\n" + strings.Join(lines, "\n") + "\n")
	}
	for _, paragraph := range s.story() {
		b.WriteString("\n" + wrap(paragraph, "  ", width))
	}
	s.writeAlerts(&b, st)
	s.writeSaved(&b, st)
	if s.Unseen > 0 {
		b.WriteString("\n" + wrap(fmt.Sprintf("The log above misses %s: it was not read fast enough. Nothing is missing in the table.",
			count(int(s.Unseen), "event")), "  ", width))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Summary) writeTable(b *strings.Builder, st style) {
	b.WriteString(st.dim("  circuit      calls  succeeded  failed  ignored  rejected  saved by  time") + "\n")
	b.WriteString(st.dim("                                                             a retry  open") + "\n")
	for _, c := range s.Circuits {
		t := c.Final.Totals
		fmt.Fprintf(b, "  %-9s  %7d  %9d  %6d  %7d  %8d  %8d  ",
			c.Name, c.Calls(), t.Success, t.Failure, t.Ignored, t.Rejected, c.Saved())
		open := c.Final.TimeIn[events.StatusOpen] + c.Final.TimeIn[events.StatusForcedOpen]
		switch {
		case open == 0:
			b.WriteString(st.good("never"))
		case c.Final.State == events.StateClosed:
			b.WriteString(st.bad(span(open)))
		default:
			b.WriteString(st.bad(span(open)) + ", " + st.state(c.Final.State, "still "+c.Final.State.String()))
		}
		b.WriteByte('\n')
	}
	b.WriteString("\n")
	b.WriteString(st.dim(wrap("Each attempt of a retry is a call. Ignored are those that the service refused (4xx): they say nothing about its health.", "  ", width)))
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
func (s *Summary) writeAlerts(b *strings.Builder, st style) {
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
	b.WriteString("\n" + st.dim(fmt.Sprintf("  %-44s  %8s  %8s  %8s", "alert", "pending", "firing", "over")) + "\n")
	for _, a := range told {
		firing, over := fmt.Sprintf("%8s", "never"), fmt.Sprintf("%8s", "not yet")
		if !a.FiringAt.IsZero() {
			firing = st.bad(fmt.Sprintf("%8s", s.at(a.FiringAt)))
		}
		if !a.Over().IsZero() {
			over = fmt.Sprintf("%8s", s.at(a.Over()))
		}
		fmt.Fprintf(b, "  %s  %8s  %s  %s\n", cut(fmt.Sprintf("%-44s", a.Name()), 44), s.at(a.PendingAt), firing, over)
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
func (s *Summary) writeSaved(b *strings.Builder, st style) {
	if s.Trace == nil {
		s.writeRescue(b, st)
		return
	}
	fmt.Fprintf(b, "\n  One of the orders saved, at %s (trace %s):\n", s.at(s.Trace.Start), s.Trace.ID)
	b.WriteString(strings.Join(tree(s.Trace, st), "\n") + "\n")
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
			o.Time[events.Status(status).String()] = seconds(d)
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
