package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/traces"
)

// shown is how many traces are on the page. The JSON has all that are kept.
const shown = 20

func (f *front) traces(w http.ResponseWriter, r *http.Request) {
	json, handled := asJSON(w, r)
	switch all := f.Traces.Latest(); {
	case handled:
	case json:
		records := make([]traceRecord, 0, len(all))
		for _, t := range all {
			records = append(records, recordOf(t))
		}
		tell(w, map[string]any{"traces": records})
	default:
		var data struct {
			Traces []waterfall
			Kept   int
		}
		data.Kept = len(all)
		for i, t := range all[:min(len(all), shown)] {
			data.Traces = append(data.Traces, draw(t, i == 0))
		}
		f.show(w, page{Name: "traces.html", Title: "Retried traces · Breakwater demo", Data: data})
	}
}

func (f *front) trace(w http.ResponseWriter, r *http.Request) {
	json, handled := asJSON(w, r)
	if handled {
		return
	}
	t, ok := f.Traces.Find(r.PathValue("id"))
	switch {
	case json && ok:
		tell(w, recordOf(t))
	case json:
		http.Error(w, "there is no such trace, or not any more", http.StatusNotFound)
	default:
		var data struct {
			Found bool
			ID    string
			waterfall
		}
		data.ID = r.PathValue("id")
		if data.Found = ok; ok {
			data.waterfall = draw(t, true)
		} else {
			w.WriteHeader(http.StatusNotFound)
		}
		f.show(w, page{Name: "trace.html", Title: "Trace · Breakwater demo", Root: "../", Data: data})
	}
}

// waterfall is a trace as it is drawn.
type waterfall struct {
	traces.Trace
	Title   string // of the request
	Outcome string // in a word or two, for people
	Good    bool   // it is one that one likes
	Retried string // which calls were tried how often
	Waited  time.Duration
	Rows    []row
	Open    bool
}

// row is one line of a waterfall: a span, or a wait between two of them.
type row struct {
	*traces.Span        // nil for a wait
	Wait         bool   // before another attempt
	Depth        int    // in the tree, from 0
	Colour       string // class of the service
	Text         string // what is to be said of it, besides its name
	Start        time.Duration
	Length       time.Duration
	X, Width     string   // of its bar, as shares of the trace
	Children     []row    // in order
	Events       []moment // of the span
}

// moment is an event of a span.
type moment struct {
	traces.Event
	After time.Duration // the beginning of the trace
}

// draw lays out a trace.
func draw(t traces.Trace, open bool) waterfall {
	w := waterfall{Trace: t, Open: open}
	for _, root := range t.Roots {
		w.Rows = append(w.Rows, w.row(root, 0))
	}
	if len(t.Roots) > 0 {
		w.Title = t.Roots[0].Name
	}
	switch {
	case t.Saved && !t.Failed:
		w.Outcome, w.Good = "saved", true
	case t.Saved:
		w.Outcome = "saved, failed later"
	default:
		w.Outcome = "failed"
	}
	return w
}

// row lays out a span and what is below it.
func (w *waterfall) row(s *traces.Span, depth int) row {
	r := w.bar(s.Start, s.Duration)
	r.Span, r.Depth, r.Colour, r.Text = s, depth, colour(s.Service), say(s)
	for _, e := range s.Events {
		r.Events = append(r.Events, moment{e, e.Time.Sub(w.Trace.Start)})
	}
	attempts := s.Attribute(traces.AttemptCount)
	operation := attempts != ""
	if operation && attempts != "1" {
		if w.Retried != "" {
			w.Retried += " and "
		}
		w.Retried += fmt.Sprintf("%s tried %s times", s.Attribute("resilience.retry.name"), attempts)
	}
	for i, c := range s.Children {
		if gap := s.Children[max(i-1, 0)].End(); operation && i > 0 && c.Start.After(gap) {
			wait := w.bar(gap, c.Start.Sub(gap))
			wait.Wait, wait.Depth = true, depth+1
			w.Waited += wait.Length
			r.Children = append(r.Children, wait)
		}
		r.Children = append(r.Children, w.row(c, depth+1))
	}
	return r
}

// bar places a stretch of time in the width of the trace.
func (w *waterfall) bar(start time.Time, length time.Duration) row {
	r := row{Start: start.Sub(w.Trace.Start), Length: length}
	total := float64(max(w.Duration, 1))
	x, width := float64(r.Start)/total, float64(length)/total
	r.X = fmt.Sprintf("%.2f%%", 100*min(x, 0.996))
	r.Width = fmt.Sprintf("%.2f%%", 100*max(width, 0.004)) // so that it can be seen
	return r
}

// colour returns the class of a service.
func colour(service string) string {
	return fmt.Sprintf("c%d", 1+slices.Index(shop.Services(), service)) // c0 for one that is not known
}

// say says what a span is about that its name does not.
func say(s *traces.Span) string {
	text := ""
	add := func(format string, a any) {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf(format, a)
	}
	if n := s.Attribute(traces.AttemptCount); n != "" {
		outcome := s.Attribute(traces.RetryOutcome)
		switch outcome {
		case "success":
			return ""
		case "success_after_retry":
			add("saved by attempt %s", n)
		case "exhausted":
			add("given up after %s attempts", n)
		default:
			add("%s", words(outcome))
		}
		return text
	}
	if n := s.Attribute("resilience.retry.attempt.number"); n != "" {
		add("number %s", n)
	}
	if state := s.Attribute("resilience.circuit_breaker.state"); state != "" && state != "closed" {
		add("circuit %s", strings.ReplaceAll(state, "_", "-"))
	}
	if code := s.Attribute("http.response.status_code"); code != "" {
		add("%s", code)
	}
	if kind := s.Attribute("error.type"); kind != "" && kind != s.Attribute("http.response.status_code") && kind != "circuit_open" {
		add("%s", words(kind))
	}
	return text
}

// The JSON of traces. Times in it are seconds.
type (
	traceRecord struct {
		ID       string       `json:"id"`
		Start    time.Time    `json:"start"`
		Seconds  float64      `json:"seconds"`
		Attempts int          `json:"attempts"` // of the operation with the most
		Saved    bool         `json:"saved"`    // by a retry
		Failed   bool         `json:"failed"`
		Spans    int          `json:"spans"`
		Dropped  int          `json:"dropped_spans"`
		Roots    []spanRecord `json:"roots"`
	}
	spanRecord struct {
		ID         string            `json:"id"`
		Service    string            `json:"service"`
		Name       string            `json:"name"`
		Kind       string            `json:"kind"`
		Began      float64           `json:"began_seconds"` // since the trace did
		Seconds    float64           `json:"seconds"`
		Failed     bool              `json:"failed"`
		Status     string            `json:"status,omitempty"`
		Attributes map[string]string `json:"attributes"`
		Events     []eventRecord     `json:"events"`
		Children   []spanRecord      `json:"children"`
	}
	eventRecord struct {
		Name       string            `json:"name"`
		At         float64           `json:"at_seconds"` // since the trace began
		Attributes map[string]string `json:"attributes"`
	}
)

func recordOf(t traces.Trace) traceRecord {
	r := traceRecord{
		ID: t.ID, Start: t.Start, Seconds: t.Duration.Seconds(), Attempts: t.Attempts,
		Saved: t.Saved, Failed: t.Failed, Spans: t.Spans, Dropped: t.Dropped, Roots: []spanRecord{},
	}
	for _, s := range t.Roots {
		r.Roots = append(r.Roots, spanRecordOf(s, t.Start))
	}
	return r
}

func spanRecordOf(s *traces.Span, start time.Time) spanRecord {
	r := spanRecord{
		ID: s.ID, Service: s.Service, Name: s.Name, Kind: s.Kind.String(),
		Began: s.Start.Sub(start).Seconds(), Seconds: s.Duration.Seconds(), Failed: s.Failed, Status: s.Status,
		Attributes: mapOf(s.Attributes), Events: []eventRecord{}, Children: []spanRecord{},
	}
	for _, e := range s.Events {
		r.Events = append(r.Events, eventRecord{Name: e.Name, At: e.Time.Sub(start).Seconds(), Attributes: mapOf(e.Attributes)})
	}
	for _, c := range s.Children {
		r.Children = append(r.Children, spanRecordOf(c, start))
	}
	return r
}

func mapOf(all []traces.Attribute) map[string]string {
	m := make(map[string]string, len(all))
	for _, a := range all {
		m[a.Key] = a.Value
	}
	return m
}

// kindOf says on which side of a call a span is, empty for neither.
func kindOf(k trace.SpanKind) string {
	if k == trace.SpanKindInternal {
		return ""
	}
	return k.String()
}
