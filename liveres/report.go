package liveres

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// The types of this file are the JSON that the package documentation describes.
// Fields may be added to it; none changes its meaning.

// report is everything there is to say.
type report struct {
	frame
	Circuits []circuitReport `json:"circuits"`
	Retries  []retryReport   `json:"retries"`
}

// update is what may have changed since the update, or the report, before.
type update struct {
	frame
	Gone     []uint64          `json:"gone,omitempty"`     // ids of circuits
	Circuits []json.RawMessage `json:"circuits,omitempty"` // circuitReport if new, else circuitUpdate
	Retries  []json.RawMessage `json:"retries,omitempty"`  // retryReport if new, else retryUpdate
}

type frame struct {
	Version  int            `json:"version"`
	Time     stamp          `json:"time"`
	Process  processReport  `json:"process"`
	Columns  columnsReport  `json:"columns"`
	Controls bool           `json:"controls"`
	Watchers watchersReport `json:"watchers"`
	Hidden   hiddenReport   `json:"hidden"`
}

type processReport struct {
	ID      string `json:"id"`
	Program string `json:"program"`
	Started stamp  `json:"started"`
}

type columnsReport struct {
	Count         uint32  `json:"count"`
	Seconds       float64 `json:"seconds"`
	Last          uint32  `json:"last"`
	RateSeconds   float64 `json:"rate_seconds"`
	RecentSeconds float64 `json:"recent_seconds"`
}

type watchersReport struct {
	Now         int    `json:"now"`
	LostUpdates uint64 `json:"lost_updates"`
	TurnedAway  uint64 `json:"turned_away"`
}

type hiddenReport struct {
	Circuits uint64 `json:"circuits"`
	Retries  uint64 `json:"retries"`
}

// circuitReport is everything about a circuit.
type circuitReport struct {
	Name       string           `json:"name"`
	Thresholds thresholdsReport `json:"thresholds"`
	circuitFigures
	TimeIn      map[string]float64 `json:"time_in_seconds"`
	History     circuitHistory     `json:"history"`
	Transitions []transitionReport `json:"transitions"`
}

// circuitUpdate is what may change about a circuit, with what is new of its history.
type circuitUpdate struct {
	circuitFigures
	Thresholds  *thresholdsReport  `json:"thresholds,omitempty"` // if they changed
	History     *circuitHistory    `json:"history,omitempty"`
	Transitions []transitionReport `json:"transitions,omitempty"`
}

type circuitFigures struct {
	ID         uint64         `json:"id"`
	State      string         `json:"state"`
	Forced     bool           `json:"forced"`
	Shadow     bool           `json:"shadow"`
	Since      stamp          `json:"since"`
	OpenUntil  *stamp         `json:"open_until,omitempty"`
	Generation uint64         `json:"generation"`
	Totals     countsReport   `json:"totals"`
	Window     windowReport   `json:"window"`
	Probes     *probesReport  `json:"probes,omitempty"`
	Rates      ratesReport    `json:"rates"`
	Latency    *latencyReport `json:"latency,omitempty"`
	Control    bool           `json:"control"`
}

type thresholdsReport struct {
	FailureRatio       float64 `json:"failure_ratio"`
	Volume             int     `json:"volume"`
	SlowRatio          float64 `json:"slow_ratio"`
	SlowSeconds        float64 `json:"slow_seconds"`
	SleepSeconds       float64 `json:"sleep_seconds"`
	Probes             int     `json:"probes"`
	ProbeSuccessRatio  float64 `json:"probe_success_ratio"`
	ProbeTimeoutSecond float64 `json:"probe_timeout_seconds"`
	WindowSeconds      float64 `json:"window_seconds"`
}

type countsReport struct {
	Success  uint64 `json:"success"`
	Failure  uint64 `json:"failure"`
	Ignored  uint64 `json:"ignored"`
	Rejected uint64 `json:"rejected"`
	Slow     uint64 `json:"slow"`

	WouldReject uint64 `json:"would_reject"` // of them that ran although a breaker in shadow mode would have rejected them
}

type windowReport struct {
	Success      uint64  `json:"success"`
	Failure      uint64  `json:"failure"`
	Slow         uint64  `json:"slow"`
	FailureRatio float64 `json:"failure_ratio"`
	SlowRatio    float64 `json:"slow_ratio"`
	Judged       bool    `json:"judged"`
}

type probesReport struct {
	InFlight int    `json:"in_flight"`
	Passed   uint64 `json:"passed"`
	Failed   uint64 `json:"failed"`
}

type ratesReport struct {
	Success  float64 `json:"success"`
	Failure  float64 `json:"failure"`
	Ignored  float64 `json:"ignored"`
	Rejected float64 `json:"rejected"`
}

type latencyReport struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_seconds"`
	P90   float64 `json:"p90_seconds"`
	P99   float64 `json:"p99_seconds"`
}

type circuitHistory struct {
	First    uint32   `json:"first"`
	States   string   `json:"states"`
	Success  []uint64 `json:"success"`
	Failure  []uint64 `json:"failure"`
	Ignored  []uint64 `json:"ignored"`
	Rejected []uint64 `json:"rejected"`
}

type transitionReport struct {
	Time       stamp   `json:"time"`
	Generation uint64  `json:"generation"`
	From       string  `json:"from"`
	FromForced bool    `json:"from_forced"`
	To         string  `json:"to"`
	Forced     bool    `json:"forced"`
	Shadow     bool    `json:"shadow"`
	Reason     string  `json:"reason"`
	Elapsed    float64 `json:"elapsed_seconds"`
	Success    uint64  `json:"success"`
	Failure    uint64  `json:"failure"`
	Slow       uint64  `json:"slow"`
	TraceID    string  `json:"trace_id,omitempty"`
}

// retryReport is everything about the retries of a name.
type retryReport struct {
	retryFigures
	History retryHistory      `json:"history"`
	Last    []operationReport `json:"last"`
}

// retryUpdate is what may change about them.
type retryUpdate struct {
	retryFigures
	History *retryHistory     `json:"history,omitempty"`
	Last    []operationReport `json:"last,omitempty"` // all of them, if there are new ones
}

type retryFigures struct {
	Name        string         `json:"name"`
	MaxAttempts int64          `json:"max_attempts"`
	Rate        float64        `json:"rate"`
	Totals      resultsReport  `json:"totals"`
	Recent      *resultsReport `json:"recent,omitempty"`
}

type resultsReport struct {
	Operations    uint64            `json:"operations"`
	Attempts      uint64            `json:"attempts"`
	Amplification float64           `json:"amplification"`
	Waited        uint64            `json:"waited"`
	DelaySeconds  float64           `json:"delay_seconds"`
	Results       map[string]uint64 `json:"results"`
}

type retryHistory struct {
	First    uint32   `json:"first"`
	Success  []uint64 `json:"success"`
	Saved    []uint64 `json:"success_after_retry"`
	Failure  []uint64 `json:"failure"`
	Ignored  []uint64 `json:"ignored"`
	Rejected []uint64 `json:"rejected"`
}

type operationReport struct {
	Time     stamp        `json:"time"`
	Seconds  float64      `json:"seconds"`
	Attempts int          `json:"attempts"`
	Result   string       `json:"result"`
	TraceID  string       `json:"trace_id,omitempty"`
	Steps    []stepReport `json:"steps"`
}

type stepReport struct {
	Attempt    int      `json:"attempt"`
	Began      float64  `json:"began_seconds"`
	Seconds    float64  `json:"seconds"`
	Outcome    string   `json:"outcome"`
	Panicked   bool     `json:"panicked,omitempty"`
	ErrorType  string   `json:"error_type,omitempty"`
	Delay      *float64 `json:"delay_seconds,omitempty"`
	RetryAfter bool     `json:"retry_after,omitempty"`
}

// stamp is a time in UTC with milliseconds.
type stamp time.Time

const stampLayout = "2006-01-02T15:04:05.000Z"

func (s stamp) MarshalText() ([]byte, error) {
	return time.Time(s).UTC().AppendFormat(nil, stampLayout), nil
}

// A moment is what a report is about: now, and the columns that go with it.
type moment struct {
	at    time.Duration // since base
	last  uint32        // column
	first uint32        // column, the oldest that is kept

	stretch                    uint32
	rateColumns, recentColumns uint32 // before the last one
	rateSeconds, recentSeconds float64
}

const (
	rateSpan   = 5 * time.Second // rates are of this time at least, but for columns
	recentSpan = time.Minute     // and other recent figures of this
)

func (l *Live) moment() moment {
	m := moment{at: l.now()}
	m.last = l.column(m.at)
	m.first = m.last - min(m.last-1, columnCount-1)
	m.stretch = l.stretch(m.last)
	m.rateColumns, m.rateSeconds = l.lookBack(m, rateSpan)
	m.recentColumns, m.recentSeconds = l.lookBack(m, recentSpan)
	return m
}

// before returns the column before the present one, in which something may still be
// counted: the clock, or an event of a change of state, may be a little late.
func (m moment) before() uint32 { return max(1, m.last-1) }

// lookBack returns how many columns before the present one reach back at least as
// far as d, and the time that they and the present one take up, a second at least.
func (l *Live) lookBack(m moment, d time.Duration) (columns uint32, seconds float64) {
	columns = uint32((d + l.width - 1) / l.width)
	columns = min(columns, m.last-1)
	from := time.Duration(m.last-1-columns) * l.width
	return columns, max(1, (m.at - from).Seconds())
}

func (l *Live) frame(m moment) frame {
	return frame{
		Version: 1,
		Time:    stamp(l.base.Add(m.at)),
		Process: processReport{ID: l.processID, Program: l.program, Started: stamp(l.base)},
		Columns: columnsReport{
			Count:         columnCount,
			Seconds:       l.width.Seconds(),
			Last:          m.last,
			RateSeconds:   millis(m.rateSeconds),
			RecentSeconds: millis(m.recentSeconds),
		},
		Controls: l.authorize != nil,
		Watchers: l.audience.report(),
		Hidden:   hiddenReport{Circuits: l.circuits.refused.Load(), Retries: l.retries.refused.Load()},
	}
}

// report returns everything there is to say. What depends on the time is of the
// given moment; counts are of now.
func (l *Live) report(m moment) report {
	l.building.Lock()
	defer l.building.Unlock()
	r := report{frame: l.frame(m)}
	circuits, retries := l.sorted()
	r.Circuits = make([]circuitReport, 0, len(circuits))
	for _, c := range circuits {
		r.Circuits = append(r.Circuits, c.report(m))
	}
	r.Retries = make([]retryReport, 0, len(retries))
	for _, y := range retries {
		r.Retries = append(r.Retries, y.report(m))
	}
	return r
}

// sorted returns the circuits in the order in which they were created, and the
// retries by name.
func (l *Live) sorted() ([]*circuit, []*retry) {
	circuits := make([]*circuit, 0, len(l.circuits.all()))
	for _, c := range l.circuits.all() {
		circuits = append(circuits, c)
	}
	slices.SortFunc(circuits, func(a, b *circuit) int { return cmp.Compare(a.id, b.id) })
	retries := make([]*retry, 0, len(l.retries.all()))
	for _, r := range l.retries.all() {
		retries = append(retries, r)
	}
	slices.SortFunc(retries, func(a, b *retry) int { return cmp.Compare(a.name, b.name) })
	return circuits, retries
}

func (c *circuit) report(m moment) circuitReport {
	s := c.snapshot()
	r := circuitReport{
		Name:           c.name,
		Thresholds:     c.thresholdsReport(),
		circuitFigures: c.figures(m, s),
		TimeIn:         make(map[string]float64, events.StatusCount),
		History:        c.history(max(m.first, min(c.born, m.last)), m.last),
		Transitions:    transitionReports(c.latest(0)),
	}
	for status, d := range s.TimeIn {
		r.TimeIn[events.Status(status).String()] = millis(d.Seconds())
	}
	return r
}

func (c *circuit) thresholdsReport() thresholdsReport {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.thresholds
	return thresholdsReport{
		FailureRatio:       t.ErrorThreshold,
		Volume:             t.VolumeThreshold,
		SlowRatio:          t.SlowCallThreshold,
		SlowSeconds:        t.SlowCallDuration.Seconds(),
		SleepSeconds:       t.SleepWindow.Seconds(),
		Probes:             t.HalfOpenRequests,
		ProbeSuccessRatio:  t.SuccessThreshold,
		ProbeTimeoutSecond: t.ProbeTimeout.Seconds(),
		WindowSeconds:      t.WindowSize.Seconds(),
	}
}

// reconfiguredSince reports whether the thresholds changed in the column or later.
func (c *circuit) reconfiguredSince(column uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reconfiguredIn >= column && c.reconfiguredIn > 0
}

// update returns what may have changed since the report before: since the given
// column began and the given generation was new.
func (c *circuit) update(m moment, column uint32, generation uint64) circuitUpdate {
	s := c.snapshot()
	u := circuitUpdate{circuitFigures: c.figures(m, s)}
	if column = max(column, m.first); c.stirred(column, m.last) {
		history := c.history(column, m.last)
		u.History = &history
	}
	if c.reconfiguredSince(column) {
		t := c.thresholdsReport()
		u.Thresholds = &t
	}
	if transitions := c.latest(generation); len(transitions) > 0 {
		u.Transitions = transitionReports(transitions)
	}
	return u
}

func (c *circuit) figures(m moment, s events.Snapshot) circuitFigures {
	f := circuitFigures{
		ID:         c.id,
		State:      s.State.String(),
		Forced:     s.Forced,
		Shadow:     s.Shadow,
		Since:      stamp(s.Since),
		Generation: s.Generation,
		Totals:     countsReport(s.Totals),
		Window: windowReport{
			Success:      s.Window.Success,
			Failure:      s.Window.Failure,
			Slow:         s.Window.Slow,
			FailureRatio: s.Window.FailureRatio(),
			SlowRatio:    s.Window.SlowRatio(),
			Judged:       s.Judged,
		},
		Rates: ratesReport{
			Success:  c.rate(m, events.OutcomeSuccess),
			Failure:  c.rate(m, events.OutcomeFailure),
			Ignored:  c.rate(m, events.OutcomeIgnored),
			Rejected: c.rate(m, events.OutcomeRejected),
		},
		Control: c.control() != nil,
	}
	if s.State == events.StateOpen && !s.Forced {
		until := stamp(s.Time.Add(s.RetryAfter))
		f.OpenUntil = &until
	}
	if s.State == events.StateHalfOpen {
		f.Probes = &probesReport{InFlight: s.ProbesInFlight, Passed: s.Window.Success, Failed: s.Window.Failure}
	}
	if n, q := c.latency.quantiles(m.stretch, 0.5, 0.9, 0.99); n > 0 {
		f.Latency = &latencyReport{Count: n, P50: q[0].Seconds(), P90: q[1].Seconds(), P99: q[2].Seconds()}
	}
	return f
}

func (c *circuit) rate(m moment, o events.Outcome) float64 {
	return millis(float64(c.calls.recent(int(o), m.last, m.rateColumns)) / m.rateSeconds)
}

func (c *circuit) history(first, last uint32) circuitHistory {
	return circuitHistory{
		First:    first,
		States:   c.timeline(first, last),
		Success:  c.calls.span(int(events.OutcomeSuccess), first, last),
		Failure:  c.calls.span(int(events.OutcomeFailure), first, last),
		Ignored:  c.calls.span(int(events.OutcomeIgnored), first, last),
		Rejected: c.calls.span(int(events.OutcomeRejected), first, last),
	}
}

func transitionReports(transitions []transition) []transitionReport {
	reports := make([]transitionReport, 0, len(transitions))
	for _, t := range transitions {
		reports = append(reports, transitionReport{
			Time:       stamp(t.Time),
			Generation: t.Generation,
			From:       t.From.String(),
			FromForced: t.FromForced,
			To:         t.To.String(),
			Forced:     t.Forced,
			Shadow:     t.Shadow,
			Reason:     string(t.Reason),
			Elapsed:    millis(t.Elapsed.Seconds()),
			Success:    t.Counts.Success,
			Failure:    t.Counts.Failure,
			Slow:       t.Counts.Slow,
			TraceID:    t.traceID,
		})
	}
	return reports
}

func (r *retry) report(m moment) retryReport {
	return retryReport{
		retryFigures: r.figures(m),
		History:      r.history(max(m.first, min(r.born, m.last)), m.last),
		Last:         operationReports(r.latest()),
	}
}

// update returns what may have changed since the given column began and the given
// number of operations was remembered, and how many are now.
func (r *retry) update(m moment, column uint32, remembered uint64) (retryUpdate, uint64) {
	u := retryUpdate{retryFigures: r.figures(m)}
	if column = max(column, m.first); r.stirred(column, m.last) {
		history := r.history(column, m.last)
		u.History = &history
	}
	n := r.remembered()
	if n != remembered {
		u.Last = operationReports(r.latest())
	}
	return u, n
}

func (r *retry) figures(m moment) retryFigures {
	totals := resultsOf(r.operations.totals())
	recent := make([]uint64, retryKinds)
	for kind := range recent {
		recent[kind] = r.operations.recent(kind, m.last, m.recentColumns)
	}
	f := retryFigures{Name: r.name, MaxAttempts: r.maxAttempts.Load(), Totals: totals}
	if lately := resultsOf(recent); lately.Operations > 0 {
		f.Recent = &lately
	}
	ops := uint64(0)
	for result := range results {
		ops += r.operations.recent(result, m.last, m.rateColumns)
	}
	f.Rate = millis(float64(ops) / m.rateSeconds)
	return f
}

// resultsOf says in words what was counted per kind.
func resultsOf(counts []uint64) resultsReport {
	r := resultsReport{Results: make(map[string]uint64, len(results))}
	for i, reason := range results {
		r.Results[string(reason)] = counts[i]
		r.Operations += counts[i]
	}
	r.Attempts = r.Operations + counts[kindAgain]
	if r.Operations > 0 {
		r.Amplification = millis(float64(r.Attempts) / float64(r.Operations))
	}
	r.Waited = counts[kindWaited]
	r.DelaySeconds = millis(time.Duration(counts[kindDelay]).Seconds())
	return r
}

func (r *retry) history(first, last uint32) retryHistory {
	h := retryHistory{
		First:    first,
		Success:  r.operations.span(0, first, last),
		Failure:  make([]uint64, last-first+1),
		Ignored:  make([]uint64, last-first+1),
		Rejected: make([]uint64, last-first+1),
	}
	h.Saved = r.operations.span(1, first, last)
	for i := 2; i < len(results); i++ {
		into := h.Failure
		switch results[i] {
		case events.ReasonCanceled:
			into = h.Ignored
		case events.ReasonRejected:
			into = h.Rejected
		}
		for at, n := range r.operations.span(i, first, last) {
			into[at] += n
		}
	}
	return h
}

func operationReports(operations []operation) []operationReport {
	reports := make([]operationReport, 0, len(operations))
	for _, o := range operations {
		r := operationReport{
			Time:     stamp(o.began),
			Seconds:  micros(o.duration),
			Attempts: o.attempts,
			Result:   string(results[resultOf(o.reason)]),
			TraceID:  o.traceID,
			Steps:    make([]stepReport, 0, len(o.steps)),
		}
		for _, s := range o.steps {
			step := stepReport{
				Attempt:    s.attempt,
				Began:      micros(s.began),
				Seconds:    micros(s.duration),
				Outcome:    s.outcome.String(),
				Panicked:   s.panicked,
				ErrorType:  s.errorType,
				RetryAfter: s.retryAfter,
			}
			if s.waited {
				delay := micros(s.delay)
				step.Delay = &delay
			}
			r.Steps = append(r.Steps, step)
		}
		reports = append(reports, r)
	}
	return reports
}

// millis rounds to three decimals.
func millis(x float64) float64 { return math.Round(x*1e3) / 1e3 }

// micros returns d in seconds, rounded to microseconds.
func micros(d time.Duration) float64 { return d.Round(time.Microsecond).Seconds() }
