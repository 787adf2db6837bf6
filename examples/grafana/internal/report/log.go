// Package report tells people what happens in a demo: a log while it does, and a
// summary in the end.
package report

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/fault"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/load"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/script"
)

// Config says how a log is written.
type Config struct {
	Out    io.Writer
	Start  time.Time // what times are counted from
	Colour bool

	// EveryEvent writes a line for each event, instead of one a second for what
	// happens all the time.
	EveryEvent bool

	// Orders returns what became of the orders so far. It is written every
	// OrdersEvery, at whole seconds. Nil if that is not of interest.
	Orders      func() load.Counts
	OrdersEvery time.Duration

	// Faults returns the faults that services have. Those that were requested are told
	// of when they begin and end. Nil if nobody can request any.
	Faults func() []fault.Status

	// Screen has Follow draw at its end what holds now, several times a second. What
	// would be a line a second or more of calls and orders is not written then. Out is
	// the screen, too. Nil if it is not a terminal.
	Screen *Screen

	// Length is how long the demo takes; zero if it goes on until it is stopped. It and
	// Alerts, which returns all alerts so far, are for the screen. Alerts may be nil.
	Length time.Duration
	Alerts func() []Alert

	// Notes is read by Follow, for lines about something else. Nil means none.
	Notes <-chan Note
}

// Log writes what happens, as it does: a line for each phase and each change of a
// circuit's state, and at most one a second and circuit for the calls that retries
// saved and that the circuit rejected.
//
// It is fed from a stream, not by a sink: a terminal that does not keep up holds up
// the log and never a call. A Log belongs to one goroutine.
type Log struct {
	config   Config
	style    style
	err      error // the first one of writing
	circuits map[string]*circuit
	order    []string // names, as they came
	orders   load.Counts
	ordersAt time.Time // when they were last written
	present  Announcement
	requests map[string]fault.Status // by service
	ordered  history[load.Counts]
}

// circuit is what the log knows of one circuit.
type circuit struct {
	name       string
	state      events.State
	forced     bool
	thresholds events.Thresholds
	snapshot   func() events.Snapshot // nil if unknown
	second     second
	saved      int          // operations, by a retry, so far
	calls      history[int] // that were let through
}

// second is what happened at a circuit since it was last written about.
type second struct{ saved, givenUp, rejected int }

// NewLog returns a log.
func NewLog(config Config) *Log {
	return &Log{
		config:   config,
		style:    style{config.Colour},
		circuits: make(map[string]*circuit),
		ordersAt: config.Start,
		requests: make(map[string]fault.Status),
	}
}

// Intro is what is to be said before anything happens.
type Intro struct {
	Rate     float64       // orders a second
	Length   time.Duration // zero: until it is stopped
	Attempts int           // of each call
	Timeout  time.Duration // of each attempt
	Opens    float64       // a circuit, at this ratio of failures
	Window   time.Duration // among the calls of
	Slow     time.Duration // or, of calls that took so long,
	SlowAt   float64       // at this ratio
	Orders   string        // URL to which orders are posted
	Fault    string        // URL at which a fault of a service can be requested; empty for none
	Pages    []Page        // to look at meanwhile
}

// Page is something to look at in a browser.
type Page struct{ Name, URL string }

// Intro writes what the demo is about to do.
func (l *Log) Intro(i Intro) {
	columns := width
	if l.config.Screen != nil {
		columns = min(width, l.config.Screen.columns())
	}
	long := "until you stop it"
	if i.Length > 0 {
		long = "for " + span(i.Length)
	}
	text := "\n" + l.style.bold("Breakwater demo") + ": an order service calls inventory, payment and shipping.\n" +
		wrap(fmt.Sprintf("%v orders a second %s. Each call is tried up to %s, %s each, behind a circuit that opens when %s of the calls of the last %s have failed, or %s took %s or longer.",
			i.Rate, long, times(i.Attempts), span(i.Timeout), percent(i.Opens), span(i.Window), percent(i.SlowAt), span(i.Slow)), "", columns) +
		"Order something yourself:  curl -X POST " + i.Orders + "\n"
	if i.Fault != "" {
		text += "Break something yourself:  curl -X PUT --json '{}' " + i.Fault + "\n"
	}
	text += "Stop early with Ctrl-C.\n"
	if len(i.Pages) > 0 {
		text += "\n"
	}
	l.write(text)
	for _, p := range i.Pages {
		l.write(fmt.Sprintf("  %-9s ", p.Name) + l.style.bold(p.URL) + "\n")
	}
}

// Kinds returns the kinds of events that a log has a use for, to be given to
// [events.Stream.Sink]; nil if that is all of them.
func Kinds(everyEvent bool) []events.Kind {
	if everyEvent {
		return nil
	}
	return []events.Kind{
		events.KindBreakerCreated, events.KindCallRejected,
		events.KindStateChanged, events.KindRetryFinished,
	}
}

// Announcement says that a phase of the script begins.
type Announcement struct {
	At    time.Time
	Phase script.Phase
}

// Note is one line of the log about something that is not an event of a circuit.
type Note struct {
	At      time.Time
	Subject string // what it is about, in up to 9 characters
	State   string // of the subject, in up to 9 characters
	Tone    Tone   // of the state
	Text    string
}

// Tone is how a state is to be taken.
type Tone uint8

// The tones.
const (
	Plain Tone = iota
	Good
	Warning
	Bad
)

// Follow writes what the stream holds and the phases that are announced, with a look
// at the clock once a second, or as often as the screen is drawn. It returns when the
// stream is closed and read, having written what is announced by then, and closed the
// screen.
func (l *Log) Follow(stream *events.Stream, phases <-chan Announcement) {
	read := make(chan events.Event)
	go func() {
		defer close(read)
		for e := range stream.All(context.Background()) {
			read <- e
		}
	}()
	every := time.Second
	if l.config.Screen != nil {
		every = frameEvery
		defer l.closeScreen()
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case e, ok := <-read:
			if ok {
				l.event(time.Now(), e)
				continue
			}
			for len(phases) > 0 {
				l.phase(<-phases)
			}
			for len(l.config.Notes) > 0 {
				l.note(<-l.config.Notes)
			}
			l.tick(time.Now())
			return
		case p := <-phases:
			l.phase(p)
		case n := <-l.config.Notes:
			l.note(n)
		case <-ticker.C:
			l.tick(time.Now())
		}
	}
}

// Err returns the first error of writing. After it nothing was written.
func (l *Log) Err() error { return l.err }

// note writes a line about something else.
func (l *Log) note(n Note) {
	state := pad(n.State)
	switch n.Tone {
	case Good:
		state = l.style.good(state)
	case Warning:
		state = l.style.warn(state)
	case Bad:
		state = l.style.bad(state)
	}
	l.line(n.At, n.Subject, state, n.Text)
}

// phase writes that a phase begins.
func (l *Log) phase(a Announcement) {
	at, p := a.At, a.Phase
	l.tick(at)
	if p.Scenario != l.present.Phase.Scenario {
		if scenario, err := script.Find(p.Scenario); err == nil {
			l.write("\n" + l.stamp(at) + l.style.bold("══ scenario "+scenario.Name+" ══") + " " + scenario.Text + "\n")
		}
	}
	l.present = a
	l.write("\n" + l.stamp(at) + l.style.bold("── "+p.Name+" ──") + " " + p.Text +
		l.style.dim(", for "+span(p.Length)) + "\n")
}

// event takes note of an event that was read at the given time.
func (l *Log) event(at time.Time, e events.Event) {
	c := l.circuit(e.About().Name)
	switch e := e.(type) {
	case events.BreakerCreated:
		c.thresholds, c.snapshot = e.Thresholds, e.Snapshot
	case events.CallRejected:
		c.second.rejected++
	case events.RetryFinished:
		switch {
		case e.Reason == events.ReasonSuccessAfterRetry:
			c.second.saved++
			c.saved++
		case gaveUp(e.Reason):
			c.second.givenUp++
		}
	case events.StateChanged:
		c.state, c.forced = e.To, e.Forced
		status := strings.ToUpper(strings.ReplaceAll(events.StatusOf(e.To, e.Forced).String(), "_", "-"))
		why := transition(e, c.thresholds)
		if l.config.Screen != nil {
			why, _, _ = strings.Cut(why, probesIn) // is counted down on the screen
		}
		l.line(e.Time, c.name, l.style.state(e.To, pad(status)), why)
		return
	}
	if l.config.EveryEvent {
		l.write(l.stamp(at) + fmt.Sprintf("%-9s  %s\n", c.name, describe(e)))
	}
}

// gaveUp reports whether a retry that ended for the given reason had failed in spite
// of trying, or would have, had there been time.
func gaveUp(r events.Reason) bool {
	return r == events.ReasonExhausted || r == events.ReasonDeadline || r == events.ReasonRetryAfterTooLong
}

// circuit returns the circuit of the given name.
func (l *Log) circuit(name string) *circuit {
	c := l.circuits[name]
	if c == nil {
		c = &circuit{name: name}
		l.circuits[name] = c
		l.order = append(l.order, name)
	}
	return c
}

// closeScreen takes what was drawn away.
func (l *Log) closeScreen() {
	if err := l.config.Screen.Close(); l.err == nil {
		l.err = err
	}
}

// tick writes what has gathered, or draws what holds.
func (l *Log) tick(now time.Time) {
	l.tellFaults(now)
	if l.config.Screen != nil {
		if l.err == nil {
			l.err = l.config.Screen.Draw(l.panel(now, l.config.Screen.columns()))
		}
		return
	}
	for _, name := range l.order {
		c := l.circuits[name]
		s := c.second
		c.second = second{}
		if s == (second{}) || l.config.EveryEvent {
			continue
		}
		var parts []string
		if c.snapshot != nil && c.state == events.StateClosed && !c.forced {
			parts = append(parts, fmt.Sprintf("%4s failing", percent(c.snapshot().Window.FailureRatio())))
		}
		if s.rejected > 0 {
			parts = append(parts, l.style.warn(fmt.Sprintf("%3d rejected", s.rejected)))
		}
		if s.saved > 0 {
			parts = append(parts, l.style.good(fmt.Sprintf("%3d saved by a retry", s.saved)))
		}
		if s.givenUp > 0 {
			parts = append(parts, l.style.warn(fmt.Sprintf("%3d given up", s.givenUp)))
		}
		l.line(now, c.name, l.style.state(c.state, pad(c.state.String())), strings.Join(parts, "  "))
	}
	if l.config.Orders != nil && now.Sub(l.ordersAt) >= l.config.OrdersEvery-50*time.Millisecond {
		l.tellOrders(now)
	}
}

// tellFaults writes which faults were requested, and which are no more.
func (l *Log) tellFaults(now time.Time) {
	if l.config.Faults == nil {
		return
	}
	for _, s := range l.config.Faults() {
		before, was := l.requests[s.Service]
		text := ""
		switch {
		case !s.Requested && was:
			delete(l.requests, s.Service)
			text = "request is over; again as the script has it: " + s.Fault.String()
		case s.Requested && (!was || s.Fault.String() != before.Fault.String() || !s.Until.Equal(before.Until)):
			l.requests[s.Service] = s
			text = "by request: " + s.Fault.String()
			if !s.Until.IsZero() {
				text += ", for " + span(s.Until.Sub(now).Round(time.Second))
			}
		default:
			continue
		}
		l.line(now, s.Service, l.style.warn(pad("fault")), text)
	}
}

// tellOrders writes what became of the orders since it last did.
func (l *Log) tellOrders(now time.Time) {
	counts := l.config.Orders()
	since := counts.Since(l.orders)
	took := now.Sub(l.ordersAt)
	l.orders, l.ordersAt = counts, now
	if n := since.Orders(); n > 0 {
		rate := fmt.Sprintf("%.0f/s", float64(n)/took.Seconds())
		l.line(now, "orders", pad(rate), l.style.dim(ordersText(since, "")))
	}
}

// words are the results of orders.
var words = [load.ResultCount]string{"accepted", "refused", "failed", "turned away", "lost"}

// ordersText says what became of orders, and how long they took on average, with the
// note beside the first such time: "190 accepted (48ms), 4 refused". Refused ones are
// without, since that depends on who refused.
func ordersText(c load.Counts, note string) string {
	var parts []string
	for r, word := range words {
		if c[r].Orders == 0 {
			continue
		}
		text := fmt.Sprintf("%d %s", c[r].Orders, word)
		if load.Result(r) != load.Refused {
			text += " (" + span(c[r].Mean()) + note + ")"
			note = ""
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// line writes a line of the log.
func (l *Log) line(at time.Time, subject, state, text string) {
	l.write(l.stamp(at) + fmt.Sprintf("%-9s  ", subject) + state + "  " + text + "\n")
}

// pad fills the column of states, before it is coloured.
func pad(state string) string { return fmt.Sprintf("%-9s", state) }

func (l *Log) stamp(at time.Time) string {
	since := at.Sub(l.config.Start).Seconds()
	if l.config.EveryEvent {
		return l.style.dim(fmt.Sprintf("%8.3fs", since)) + "  "
	}
	return l.style.dim(fmt.Sprintf("%6.1fs", since)) + "  "
}

// write writes text, unless that has failed before.
func (l *Log) write(text string) {
	if l.err == nil {
		_, l.err = io.WriteString(l.config.Out, text)
	}
}

const probesIn = "; probes in "

// transition says why a breaker changed its state, and what comes next.
func transition(e events.StateChanged, t events.Thresholds) string {
	next := ""
	if e.RetryAfter > 0 {
		next = probesIn + span(e.RetryAfter)
	}
	volume, failed := int(e.Counts.Volume()), int(e.Counts.Failure)
	switch e.Reason {
	case events.ReasonErrorRate:
		return fmt.Sprintf("%s of %s failed (threshold %s)%s",
			percent(e.Counts.FailureRatio()), count(volume, "call"), percent(t.ErrorThreshold), next)
	case events.ReasonSlowCallRate:
		return fmt.Sprintf("%s of %s took %s or longer (threshold %s)%s",
			percent(e.Counts.SlowRatio()), count(volume, "call"), span(t.SlowCallDuration), percent(t.SlowCallThreshold), next)
	case events.ReasonSleepWindowElapsed:
		return "has slept for " + span(e.Elapsed) + "; up to " + count(t.HalfOpenRequests, "probe") + " may try"
	case events.ReasonProbesFailed:
		what := fmt.Sprintf("%d of %s failed", failed, count(volume, "probe"))
		if slow := int(e.Counts.Slow); slow > failed { // which is held against a probe as well
			what = fmt.Sprintf("%d of %s were slow", slow, count(volume, "probe"))
		}
		return what + next
	case events.ReasonProbeTimeout:
		return "a probe did not come back in time" + next
	case events.ReasonProbesPassed:
		return fmt.Sprintf("%d of %s passed", int(e.Counts.Success), count(volume, "probe"))
	default:
		return strings.ReplaceAll(string(e.Reason), "_", " ") + next
	}
}

// describe says what an event says, in one line.
func describe(e events.Event) string {
	switch e := e.(type) {
	case events.BreakerCreated:
		t := e.Thresholds
		return fmt.Sprintf("circuit created: opens at %s of at least %s in %s, sleeps for %s",
			percent(t.ErrorThreshold), count(t.VolumeThreshold, "call"), span(t.WindowSize), span(t.SleepWindow))
	case events.CallStarted:
		if e.State == events.StateHalfOpen {
			return "call started as a probe"
		}
		return "call started"
	case events.CallFinished:
		return "call finished: " + outcome(e.Outcome, e.Duration, e.Err, e.Panicked)
	case events.CallRejected:
		return "call rejected: " + e.State.String()
	case events.StateChanged:
		return fmt.Sprintf("state changed from %v to %v: %s", e.From, e.To, e.Reason)
	case events.WindowRotated:
		return fmt.Sprintf("window rotated: %s, %s failed", count(int(e.Counts.Volume()), "call"), percent(e.Counts.FailureRatio()))
	case events.BreakerRetired:
		return "circuit retired"
	case events.RetryStarted:
		return fmt.Sprintf("retry started: up to %s", count(e.MaxAttempts, "attempt"))
	case events.AttemptStarted:
		return fmt.Sprintf("attempt %d started", e.Attempt)
	case events.AttemptFinished:
		return fmt.Sprintf("attempt %d finished: %s", e.Attempt, outcome(e.Outcome, e.Duration, e.Err, e.Panicked))
	case events.RetryScheduled:
		if e.RetryAfter {
			return fmt.Sprintf("attempt %d follows in %s, as the service asked", e.Attempt, span(e.Delay))
		}
		return fmt.Sprintf("attempt %d follows in %s", e.Attempt, span(e.Delay))
	case events.RetryFinished:
		return fmt.Sprintf("retry finished: %s (%s in %s)",
			strings.ReplaceAll(string(e.Reason), "_", " "), count(e.Attempts, "attempt"), span(e.Duration))
	default:
		return e.Kind().String()
	}
}

func outcome(o events.Outcome, took time.Duration, err error, panicked bool) string {
	text := o.String() + " after " + span(took)
	switch {
	case o == events.OutcomeRejected:
		return o.String()
	case panicked:
		return text + ": panic"
	case err != nil:
		return text + ": " + cause(err)
	default:
		return text
	}
}
