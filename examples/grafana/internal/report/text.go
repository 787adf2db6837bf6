package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// style colours text, or leaves it as it is.
type style struct{ colour bool }

func (s style) with(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(text string) string { return s.with("1", text) }
func (s style) dim(text string) string  { return s.with("2", text) }
func (s style) good(text string) string { return s.with("32", text) }
func (s style) warn(text string) string { return s.with("33", text) }
func (s style) bad(text string) string  { return s.with("1;31", text) }

// state colours text that is about a breaker in the given state.
func (s style) state(state events.State, text string) string {
	switch state {
	case events.StateOpen:
		return s.bad(text)
	case events.StateHalfOpen:
		return s.warn(text)
	default:
		return s.good(text)
	}
}

// paint is a colour of a style; nil for none.
type paint func(s style, text string) string

func (p paint) on(s style, text string) string {
	if p == nil {
		return text
	}
	return p(s, text)
}

// span writes a duration for people, in few digits: 310µs, 4.2ms, 43ms, 1.6s, 2m5s.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-d)
	case d == 0:
		return "0s"
	case d < 999500*time.Nanosecond:
		return fmt.Sprintf("%dµs", d.Round(time.Microsecond).Microseconds())
	case d < 9950*time.Microsecond:
		return tenths(d, time.Millisecond) + "ms"
	case d < 999500*time.Microsecond:
		return fmt.Sprintf("%dms", d.Round(time.Millisecond).Milliseconds())
	case d < time.Minute-50*time.Millisecond:
		return tenths(d, time.Second) + "s"
	case d.Round(time.Second)%time.Minute == 0:
		return strings.TrimSuffix(d.Round(time.Second).String(), "0s")
	default:
		return d.Round(time.Second).String()
	}
}

func tenths(d, unit time.Duration) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(d)/float64(unit)), ".0")
}

// percent writes a ratio for people.
func percent(ratio float64) string { return fmt.Sprintf("%.0f%%", 100*ratio) }

// share writes a ratio for people that is not to look like none if it is small.
func share(ratio float64) string {
	if ratio > 0 && ratio < 0.01 {
		return "under 1%"
	}
	return percent(ratio)
}

// count writes a number of things: 1 call, 2 calls.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// list writes names as people do: a, b and c.
func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// cause says in a few words what went wrong, without the address it went wrong at.
func cause(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if rejection, ok := errors.AsType[*resilience.RejectedError](err); ok {
		return "the circuit is " + rejection.State.String()
	}
	if at, ok := errors.AsType[*url.Error](err); ok {
		err = at.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "connection closed without an answer"
	}
	return err.Error()
}

// wrap breaks text into lines of at most width characters, each after the indent.
func wrap(text, indent string, width int) string {
	var b strings.Builder
	line := 0
	for word := range strings.FieldsSeq(text) {
		n := len([]rune(word))
		switch {
		case line == 0:
			b.WriteString(indent)
		case line+1+n > width-len(indent):
			b.WriteString("\n" + indent)
			line = 0
		default:
			b.WriteByte(' ')
			line++
		}
		b.WriteString(word)
		line += n
	}
	b.WriteByte('\n')
	return b.String()
}
