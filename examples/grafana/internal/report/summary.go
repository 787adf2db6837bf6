package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/load"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/tally"
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
	Rescue   tally.Rescue // an operation that a retry saved, if there is any

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
	Changes    []events.StateChanged // of the breaker's state
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
	for _, paragraph := range s.story() {
		b.WriteString("\n" + wrap(paragraph, "  ", width))
	}
	s.writeRescue(&b, st)
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
	return []string{strings.Join(story, " "), s.retryStory() + " " + s.orderStory()}
}

func (s *Summary) outageStory(c Circuit, outages []outage) string {
	first := outages[0]
	var b strings.Builder
	fmt.Fprintf(&b, "%s opened at %s%s: %s.", c.Name, s.at(first.opened.Time), s.into(first.opened.Time), opening(first.opened, c.Thresholds))
	if first.failed > 0 {
		fmt.Fprintf(&b, " Its probes failed %s.", times(first.failed))
	}
	if first.closed != nil {
		fmt.Fprintf(&b, " It closed at %s%s.", s.at(first.closed.Time), s.into(first.closed.Time))
	} else {
		b.WriteString(" It had not closed when the demo ended.")
	}
	if more := len(outages) - 1; more > 0 {
		fmt.Fprintf(&b, " It opened %s more.", times(more))
	}
	if n := c.Final.Totals.Rejected; n > 0 {
		fmt.Fprintf(&b, " Meanwhile it rejected %s at once, instead of letting them wait for a service that was down.",
			count(int(n), "call"))
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
	var saved, givenUp int
	var where []string
	for _, c := range s.Circuits {
		if n := c.Saved(); n > 0 {
			saved += n
			where = append(where, fmt.Sprintf("%s %d", c.Name, n))
		}
		givenUp += c.GivenUp()
	}
	text := "Retries saved no call"
	if saved > 0 {
		text = fmt.Sprintf("Retries saved %s (%s)", count(saved, "call"), strings.Join(where, ", "))
	}
	if givenUp > 0 {
		text += fmt.Sprintf("; %d failed in spite of them", givenUp)
	}
	return text + "."
}

func (s *Summary) orderStory() string {
	n := s.Orders.Orders()
	if n == 0 {
		return "No order was sent."
	}
	return fmt.Sprintf("%s came in: %s.", count(n, "order"), ordersText(s.Orders, " on average"))
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
		Name string  `json:"name"`
		At   float64 `json:"at"`
	}
	type change struct {
		At      float64 `json:"at"`
		From    string  `json:"from"`
		To      string  `json:"to"`
		Reason  string  `json:"reason"`
		Volume  uint64  `json:"volume"`
		Failure uint64  `json:"failure"`
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
		Opened       int                `json:"opened"`
		Time         map[string]float64 `json:"time"`
		Operations   map[string]int     `json:"operations"`
		Changes      []change           `json:"changes"`
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
	}{Length: seconds(s.Length), Early: s.Early, Seed: s.Seed, Orders: make(map[string]orders)}
	for _, p := range s.Phases {
		out.Phases = append(out.Phases, phase{p.Name, seconds(p.At)})
	}
	for r, name := range [load.ResultCount]string{"accepted", "refused", "failed", "turned_away", "lost"} {
		out.Orders[name] = orders{s.Orders[r].Orders, seconds(s.Orders[r].Mean())}
	}
	for _, c := range s.Circuits {
		t := c.Final.Totals
		o := circuit{
			Name: c.Name, State: c.Final.Status().String(),
			Calls: c.Calls(), Succeeded: t.Success, Failed: t.Failure, Ignored: t.Ignored, Rejected: t.Rejected,
			SavedByRetry: c.Saved(), GivenUp: c.GivenUp(), Opened: c.Opened(),
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
				Reason: string(e.Reason), Volume: e.Counts.Volume(), Failure: e.Counts.Failure,
			})
		}
		out.Circuits = append(out.Circuits, o)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}

// seconds returns a duration in seconds, to the microsecond.
func seconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }
