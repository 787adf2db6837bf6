package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/traces"
)

// The attributes of spans that a tree tells of, as package otelres and the
// conventions for HTTP name them.
const (
	attemptNumber  = "resilience.retry.attempt.number"
	attemptOutcome = "resilience.retry.attempt.outcome"
	attemptDelay   = "resilience.retry.delay"
	retryName      = "resilience.retry.name"
	statusCode     = "http.response.status_code"
	errorType      = "error.type"
)

// branch is a line of a tree: a span, or the wait before one.
type branch struct {
	label string // indented and with the lines that lead to it
	start time.Time
	took  time.Duration
	note  string
	paint paint
	wait  bool
}

// branches returns the lines of a span and of those below it, as deep as they are.
// Calls that went well at once are one line.
func branches(s *traces.Span, prefix, below string) []branch {
	lines := []branch{{label: prefix + label(s), start: s.Start, took: s.Duration}}
	lines[0].note, lines[0].paint = note(s)
	if s.Attribute(traces.AttemptCount) == "1" {
		return lines
	}
	var last time.Time // when the one before ended
	for i, child := range s.Children {
		fork, under := "├─ ", "│  "
		if i == len(s.Children)-1 {
			fork, under = "└─ ", "   "
		}
		if d := delay(child); d > 0 {
			if last.IsZero() {
				last = child.Start.Add(-d)
			}
			lines = append(lines, branch{label: below + "│  wait", start: last, took: child.Start.Sub(last), wait: true})
		}
		last = child.End()
		lines = append(lines, branches(child, below+fork, below+under)...)
	}
	return lines
}

// label says what a span is.
func label(s *traces.Span) string {
	switch number := s.Attribute(attemptNumber); {
	case number != "":
		return "attempt " + number
	case s.Attribute(traces.RetryOutcome) != "":
		return s.Attribute(retryName)
	case s.Kind == trace.SpanKindServer && !strings.HasPrefix(s.Name, s.Service):
		return s.Service + ": " + s.Name
	default:
		return s.Name
	}
}

// note says what a span came to.
func note(s *traces.Span) (string, paint) {
	outcome := s.Attribute(attemptOutcome)
	if saved := s.Attribute(traces.RetryOutcome); saved != "" {
		if saved == "success_after_retry" {
			return "saved by a retry", style.good
		}
		outcome = saved
	}
	kind := s.Attribute(errorType)
	switch {
	case kind == "timeout", kind == "context.deadlineExceededError":
		return "no answer in time", style.warn
	case kind == "canceled":
		return "given up", style.warn
	case strings.ContainsAny(kind, "*."):
		return "failed", style.warn // the name of a Go type says nothing to people
	case kind != "":
		return "failed: " + kind, style.warn
	case s.Failed:
		return "failed", style.warn
	case s.Attribute(statusCode) != "":
		return s.Attribute(statusCode), nil
	}
	if outcome == "success" {
		return "succeeded", nil
	}
	return strings.ReplaceAll(outcome, "_", " "), nil
}

// delay returns how long was waited before an attempt.
func delay(s *traces.Span) time.Duration {
	if s.Attribute(attemptNumber) == "" {
		return 0
	}
	seconds, err := strconv.ParseFloat(s.Attribute(attemptDelay), 64)
	if err != nil {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

// deepest is how many lines of a tree are shown. One of an order has fewer than this,
// also with three attempts at each of its services.
const deepest = 60

// tree draws a trace: its spans as they lie within each other and, beside them, when
// each was, if there is room for that.
func tree(t *traces.Trace, st style, room int) []string {
	var all []branch
	for _, root := range t.Roots {
		all = append(all, branches(root, "", "")...)
	}
	left := 0
	for _, b := range all {
		left = max(left, cells(b.label))
	}
	notes := room >= 46
	if left = min(left, 34, room-2-2-6); notes {
		left = min(left, room-2-2-6-2-noteWidth)
	}
	gauge := min(16, room-2-left-2-6-2-2-noteWidth)
	var more int
	if len(all) > deepest {
		all, more = all[:deepest], len(all)-deepest
	}
	lines := make([]string, 0, len(all)+1)
	for _, b := range all {
		label := cut(b.label, left)
		line := fmt.Sprintf("  %s%s  %6s", label, strings.Repeat(" ", max(0, left-cells(label))), span(b.took))
		padding := 0
		if gauge >= 6 {
			from := place(b.start.Sub(t.Start), t.Duration, gauge)
			to := max(from+1, place(b.start.Add(b.took).Sub(t.Start), t.Duration, gauge))
			mark := "━"
			if b.wait {
				mark = "┄"
			}
			line += "  " + b.paint.on(st, strings.Repeat(" ", from)+strings.Repeat(mark, to-from))
			padding = gauge - to
		}
		if b.note != "" && notes {
			line += strings.Repeat(" ", padding) + "  " + b.paint.on(st, b.note)
		}
		if b.wait {
			line = st.dim(line)
		}
		lines = append(lines, cut(line, room))
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("  and %s more", count(more, "span")))
	}
	return lines
}

// noteWidth is how wide most notes are.
const noteWidth = 17

// place returns the column of a gauge that a time is in.
func place(at, whole time.Duration, columns int) int {
	if whole <= 0 {
		return 0
	}
	return min(columns-1, max(0, int(float64(at)/float64(whole)*float64(columns))))
}
