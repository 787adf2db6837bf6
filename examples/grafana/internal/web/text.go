package web

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// functions are what templates use.
var functions = template.FuncMap{
	"span":  span,
	"since": func(at, start time.Time) string { return fmt.Sprintf("%.1f s", at.Sub(start).Seconds()) },
	"clock": func(t time.Time) string { return t.Format("15:04:05") },
	"stamp": func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"ago":   func(now, t time.Time) string { return span(now.Sub(t).Truncate(time.Second)) + " ago" },
	"words": words,
	"kind":  func(k trace.SpanKind) string { return kindOf(k) },
	"level": func(depth int) int { return min(depth, maxDepth) },
	"list":  labels,
	"nav":   nav,
	"num":   func(v float64) string { return fmt.Sprintf("%.3g", v) },
}

// maxDepth is how many levels of a tree are indented.
const maxDepth = 9

// link is one of the ways to go on.
type link struct {
	To, Text string
	Here     bool
}

// nav returns the ways to go on from the page of the given template.
func nav(name string) []link {
	all := []link{
		{To: "", Text: "Overview", Here: name == "index.html"},
		{To: Circuits[1:], Text: "Circuits"},
		{To: Traces[1:], Text: "Traces", Here: name == "traces.html"},
		{To: Alerts[1:], Text: "Alerts", Here: name == "alerts.html"},
		{To: Metrics[1:], Text: "Metrics"},
	}
	return all
}

// words writes an identifier for people.
func words(id string) string { return strings.ReplaceAll(id, "_", " ") }

// span writes a duration for people, in few digits.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "−" + span(-d)
	case d == 0:
		return "0 s"
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
	case d < time.Minute:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0") + " s"
	default:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
}
