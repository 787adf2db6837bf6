package report

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/fault"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/load"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/script"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/tally"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/traces"
	"github.com/breakwater-go/breakwater/internal/leaktest"
	"github.com/breakwater-go/breakwater/resilience"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var update = flag.Bool("update", false, "write the golden files anew")

func requireGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return start.Add(d) }

func named(name string) events.Header { return events.Header{Name: name, ID: 1} }

var thresholds = events.Thresholds{
	ErrorThreshold: 0.5, VolumeThreshold: 10, SlowCallThreshold: 0.8, SlowCallDuration: 150 * time.Millisecond, SleepWindow: 5 * time.Second,
	HalfOpenRequests: 3, SuccessThreshold: 0.6, WindowSize: 8 * time.Second, BucketCount: 10,
}

// changes is an outage as payment's circuit has it.
var changes = []events.StateChanged{
	{
		Header: named("payment"), Time: at(23700 * time.Millisecond),
		From: events.StateClosed, To: events.StateOpen, Reason: events.ReasonErrorRate,
		Generation: 2, Counts: events.Counts{Success: 214, Failure: 216}, Elapsed: 23700 * time.Millisecond, RetryAfter: 5 * time.Second,
	},
	{
		Header: named("payment"), Time: at(28700 * time.Millisecond),
		From: events.StateOpen, To: events.StateHalfOpen, Reason: events.ReasonSleepWindowElapsed,
		Generation: 3, Elapsed: 5 * time.Second,
	},
	{
		Header: named("payment"), Time: at(28950 * time.Millisecond),
		From: events.StateHalfOpen, To: events.StateOpen, Reason: events.ReasonProbesFailed,
		Generation: 4, Counts: events.Counts{Failure: 2}, Elapsed: 250 * time.Millisecond, RetryAfter: 5 * time.Second,
	},
	{
		Header: named("payment"), Time: at(33950 * time.Millisecond),
		From: events.StateOpen, To: events.StateHalfOpen, Reason: events.ReasonSleepWindowElapsed,
		Generation: 5, Elapsed: 5 * time.Second,
	},
	{
		Header: named("payment"), Time: at(34 * time.Second),
		From: events.StateHalfOpen, To: events.StateClosed, Reason: events.ReasonProbesPassed,
		Generation: 6, Counts: events.Counts{Success: 2}, Elapsed: 50 * time.Millisecond,
	},
}

func snapshot(success, failure uint64) func() events.Snapshot {
	return func() events.Snapshot {
		return events.Snapshot{Window: events.Counts{Success: success, Failure: failure}}
	}
}

func orders(counts ...int) load.Counts {
	var c load.Counts
	for i, n := range counts {
		c[i] = load.Count{Orders: n, Time: time.Duration(n) * 40 * time.Millisecond * time.Duration(i+1)}
	}
	return c
}

// writeLog writes a log of some made-up seconds, in which everything occurs.
func writeLog(colour bool) string {
	var b bytes.Buffer
	var sofar load.Counts
	l := NewLog(Config{
		Out: &b, Start: start, Colour: colour,
		Orders:      func() load.Counts { return sofar },
		OrdersEvery: 5 * time.Second,
	})
	l.Intro(Intro{
		Rate: 40, Length: time.Minute, Attempts: 3, Timeout: 250 * time.Millisecond,
		Opens: 0.5, Window: 8 * time.Second, Slow: 150 * time.Millisecond, SlowAt: 0.8,
		Orders: "http://127.0.0.1:8080/orders", Fault: "http://127.0.0.1:8765/faults/shipping",
	})
	retried := func(name string, reason events.Reason, n int) {
		for range n {
			l.event(time.Time{}, events.RetryFinished{Header: events.Header{Name: name}, Reason: reason})
		}
	}
	rejected := func(name string, n int) {
		for range n {
			l.event(time.Time{}, events.CallRejected{Header: named(name), State: events.StateOpen})
		}
	}
	l.phase(Announcement{at(0), script.Phase{Name: "flaky", Text: "some requests fail", Length: 23 * time.Second}})
	l.event(at(0), events.BreakerCreated{Header: named("inventory"), Time: start, Thresholds: thresholds, Snapshot: snapshot(99, 1)})
	l.event(at(0), events.BreakerCreated{Header: named("payment"), Time: start, Thresholds: thresholds, Snapshot: snapshot(80, 20)})
	l.tick(at(time.Second)) // nothing to say
	retried("inventory", events.ReasonSuccess, 40)
	retried("payment", events.ReasonSuccess, 30)
	retried("payment", events.ReasonSuccessAfterRetry, 11)
	retried("inventory", events.ReasonNotRetryable, 1)
	l.tick(at(2 * time.Second))
	l.tick(at(3 * time.Second)) // it was told already
	retried("inventory", events.ReasonSuccessAfterRetry, 1)
	retried("payment", events.ReasonSuccessAfterRetry, 9)
	retried("payment", events.ReasonExhausted, 1)
	retried("payment", events.ReasonDeadline, 1)
	retried("payment", events.ReasonRetryAfterTooLong, 1)
	sofar = orders(190, 4, 3)
	l.tick(at(5001 * time.Millisecond))
	l.tick(at(6 * time.Second))
	rejected("payment", 2) // between the last tick and the next phase
	sofar = orders(240, 8, 9, 120, 1)
	l.phase(Announcement{at(23 * time.Second), script.Phase{Name: "outage", Text: "all of them do", Length: 90 * time.Second}})
	l.event(time.Time{}, changes[0])
	rejected("payment", 38)
	retried("payment", events.ReasonExhausted, 12)
	retried("payment", events.ReasonRejected, 38)
	l.tick(at(24 * time.Second))
	l.event(time.Time{}, changes[1])
	rejected("payment", 1)
	l.tick(at(28800 * time.Millisecond))
	for _, e := range changes[2:] {
		l.event(time.Time{}, e)
	}
	for _, e := range []events.StateChanged{
		{From: events.StateClosed, To: events.StateOpen, Reason: events.ReasonSlowCallRate, Counts: events.Counts{Success: 9, Failure: 1, Slow: 8}, RetryAfter: 30 * time.Second},
		{From: events.StateHalfOpen, To: events.StateOpen, Reason: events.ReasonProbeTimeout, RetryAfter: 30 * time.Second},
		{From: events.StateOpen, To: events.StateOpen, Forced: true, Reason: events.ReasonForced},
		{From: events.StateOpen, To: events.StateClosed, Forced: true, FromForced: true, Reason: events.ReasonForced},
		{From: events.StateClosed, To: events.StateClosed, FromForced: true, Reason: events.ReasonForceCleared},
	} {
		e.Header, e.Time = named("payment"), at(40*time.Second)
		l.event(time.Time{}, e)
	}
	return b.String()
}

func TestLog(t *testing.T) {
	plain := writeLog(false)
	requireGolden(t, "log.txt", plain)
	colourful := writeLog(true)
	requireGolden(t, "log-colour.txt", colourful)
	require.Equal(t, plain, uncoloured(colourful), "colour is all that differs")
	require.NotContains(t, plain, "\x1b")
}

// uncoloured removes what a style adds.
func uncoloured(text string) string {
	for _, code := range []string{"0", "1", "2", "32", "33", "1;31"} {
		text = strings.ReplaceAll(text, "\x1b["+code+"m", "")
	}
	return text
}

func TestLogOfEveryEvent(t *testing.T) {
	var b bytes.Buffer
	l := NewLog(Config{Out: &b, Start: start, EveryEvent: true})
	down := errors.New("down")
	cut := &url.Error{Op: "Post", URL: "http://127.0.0.1:1/charge", Err: io.EOF}
	retry := events.Header{Name: "payment"}
	all := []events.Event{
		events.BreakerCreated{Header: named("payment"), Thresholds: thresholds, Snapshot: snapshot(1, 1)},
		events.CallStarted{Header: named("payment")},
		events.CallStarted{Header: named("payment"), State: events.StateHalfOpen},
		events.CallFinished{Header: named("payment"), Duration: 20 * time.Millisecond},
		events.CallFinished{Header: named("payment"), Outcome: events.OutcomeFailure, Duration: 250 * time.Millisecond, Err: fmt.Errorf("post: %w", context.DeadlineExceeded)},
		events.CallFinished{Header: named("payment"), Outcome: events.OutcomeFailure, Duration: 90 * time.Microsecond, Panicked: true},
		events.CallRejected{Header: named("payment"), State: events.StateOpen},
		changes[0],
		events.WindowRotated{Header: named("payment"), Counts: events.Counts{Success: 3, Failure: 1}},
		events.BreakerRetired{Header: named("payment")},
		events.RetryStarted{Header: retry, MaxAttempts: 3},
		events.AttemptStarted{Header: retry, Attempt: 1},
		events.AttemptFinished{Header: retry, Attempt: 1, Outcome: events.OutcomeFailure, Duration: 3 * time.Millisecond, Err: cut},
		events.AttemptFinished{Header: retry, Attempt: 2, Outcome: events.OutcomeRejected, Err: &resilience.RejectedError{Name: "payment"}},
		events.RetryScheduled{Header: retry, Attempt: 2, Delay: 48 * time.Millisecond, Err: down},
		events.RetryScheduled{Header: retry, Attempt: 3, Delay: time.Second, RetryAfter: true, Err: down},
		events.RetryFinished{Header: retry, Attempts: 2, Duration: 1234 * time.Millisecond, Reason: events.ReasonSuccessAfterRetry},
	}
	seen := make(map[events.Kind]bool)
	for i, e := range all {
		seen[e.Kind()] = true
		l.event(at(time.Duration(i)*time.Millisecond+12*time.Second), e)
	}
	require.Len(t, seen, int(events.KindRetryFinished)+1, "an event of each kind that breakers and retries have")
	l.tick(at(time.Minute))
	requireGolden(t, "events.txt", b.String())
	require.Equal(t, len(all), strings.Count(b.String(), "\n"), "a line for each event, and no others")
}

func TestRequestedFaults(t *testing.T) {
	var b bytes.Buffer
	half := fault.Fault{Share: 0.5, Kinds: []fault.Kind{fault.Hang}}
	inventory, payment := fault.Status{Service: "inventory"}, fault.Status{Service: "payment", Fault: fault.Fault{Share: 1}}
	l := NewLog(Config{Out: &b, Start: start, Faults: func() []fault.Status { return []fault.Status{inventory, payment} }})
	take := func() string {
		defer b.Reset()
		return b.String()
	}
	l.tick(at(time.Second))
	require.Empty(t, take(), "what the script has is no news")
	payment = fault.Status{Service: "payment", Requested: true, Fault: half, Until: at(32400 * time.Millisecond)}
	l.tick(at(2 * time.Second))
	require.Equal(t, "   2.0s  payment    fault      by request: 50% of requests fail (hang), for 30s\n", take())
	l.tick(at(3 * time.Second))
	require.Empty(t, take(), "it was told")
	payment.Until = time.Time{}
	inventory = fault.Status{Service: "inventory", Requested: true}
	l.tick(at(4 * time.Second))
	require.Equal(t, "   4.0s  inventory  fault      by request: no request fails\n"+
		"   4.0s  payment    fault      by request: 50% of requests fail (hang)\n", take())
	payment = fault.Status{Service: "payment", Fault: fault.Fault{Share: 1}}
	l.tick(at(5 * time.Second))
	require.Equal(t, "   5.0s  payment    fault      request is over; again as the script has it: every request fails (error)\n", take())
}

func TestKinds(t *testing.T) {
	require.Nil(t, Kinds(true))
	require.NotContains(t, Kinds(false), events.KindCallFinished)
	require.Contains(t, Kinds(false), events.KindStateChanged)
}

// locked is a buffer that may be looked at while it is written.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns what was written since it was last called.
func (l *locked) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.b.String()
	l.b.Reset()
	return text
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(locked)
		l := NewLog(Config{Out: b, Start: time.Now()})
		stream := events.NewStream(10)
		phases := make(chan Announcement, 2)
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.Follow(stream, phases)
		}()
		sink := stream.Sink(Kinds(false)...)
		finished := events.RetryFinished{Header: events.Header{Name: "payment"}, Reason: events.ReasonSuccessAfterRetry}
		phases <- Announcement{time.Now(), script.Phase{Name: "healthy", Text: "all is well", Length: time.Minute}}
		synctest.Wait()
		require.Equal(t, "\n   0.0s  ── healthy ── all is well, for 1m\n", b.take())

		sink.RetryFinished(t.Context(), finished)
		sink.RetryFinished(t.Context(), finished)
		time.Sleep(time.Second - time.Nanosecond)
		synctest.Wait()
		require.Empty(t, b.take(), "a second is not over")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, "   1.0s  payment    closed       2 saved by a retry\n", b.take())

		time.Sleep(1500 * time.Millisecond)
		sink.RetryFinished(t.Context(), finished)
		phases <- Announcement{time.Now(), script.Phase{Name: "flaky", Text: "not so well", Length: time.Second}}
		stream.Close()
		<-done
		rest := b.take()
		require.Contains(t, rest, "   2.5s  payment    closed       1 saved by a retry\n", "what is left is written in the end")
		require.Contains(t, rest, "── flaky ──")
	})
}

func TestErr(t *testing.T) {
	broken := &breaking{left: 1}
	l := NewLog(Config{Out: broken, Start: start})
	l.event(time.Time{}, changes[0])
	require.NoError(t, l.Err())
	l.event(time.Time{}, changes[1])
	require.ErrorIs(t, l.Err(), syscall.ENOSPC)
	broken.left = 1
	l.event(time.Time{}, changes[2])
	require.ErrorIs(t, l.Err(), syscall.ENOSPC)
	require.Equal(t, 1, broken.left, "nothing is written after an error")
}

type breaking struct{ left int }

func (b *breaking) Write(p []byte) (int, error) {
	if b.left == 0 {
		return 0, syscall.ENOSPC
	}
	b.left--
	return len(p), nil
}

// summary is of a made-up run with an outage.
func summary() *Summary {
	timeIn := func(closed, open, halfOpen time.Duration) (d [events.StatusCount]time.Duration) {
		d[events.StatusClosed], d[events.StatusOpen], d[events.StatusHalfOpen] = closed, open, halfOpen
		return d
	}
	return &Summary{
		Start: start, Length: 60012 * time.Millisecond, Seed: 7,
		Phases: []Phase{{"outage", "healthy", 0}, {"outage", "flaky", 8 * time.Second}, {"outage", "outage", 22 * time.Second}, {"outage", "recovery", 32 * time.Second}},
		Orders: orders(1471, 60, 57, 812),
		Circuits: []Circuit{
			{
				Name: "inventory", Thresholds: thresholds,
				Final:      events.Snapshot{Totals: events.Counts{Success: 2373, Failure: 14, Ignored: 27}, TimeIn: timeIn(60*time.Second, 0, 0)},
				Operations: map[events.Reason]int{events.ReasonSuccess: 2359, events.ReasonSuccessAfterRetry: 14, events.ReasonNotRetryable: 27},
			},
			{
				Name: "payment", Thresholds: thresholds, Changes: changes,
				Final:      events.Snapshot{Totals: events.Counts{Success: 1471, Failure: 324, Ignored: 33, Rejected: 812}, TimeIn: timeIn(49700*time.Millisecond, 10*time.Second, 300*time.Millisecond)},
				Operations: map[events.Reason]int{events.ReasonSuccess: 1356, events.ReasonSuccessAfterRetry: 115, events.ReasonNotRetryable: 33, events.ReasonRejected: 812, events.ReasonExhausted: 56, events.ReasonDeadline: 1},
				Took:       map[events.Reason]time.Duration{events.ReasonSuccess: time.Minute, events.ReasonExhausted: 19 * time.Second, events.ReasonDeadline: 950 * time.Millisecond},
				Again:      180,
			},
			{
				Name: "shipping", Thresholds: thresholds,
				Final:      events.Snapshot{Totals: events.Counts{Success: 1471, Failure: 3}, TimeIn: timeIn(60*time.Second, 0, 0)},
				Operations: map[events.Reason]int{events.ReasonSuccess: 1468, events.ReasonSuccessAfterRetry: 3},
			},
		},
		Alerts: []Alert{
			{Rule: "CircuitBreakerMostlyNotClosed", About: "payment", Severity: "page", PendingAt: at(25 * time.Second), FiringAt: at(28 * time.Second), ResolvedAt: at(36 * time.Second)},
			{Rule: "TelemetryMissing", Severity: "ticket", PendingAt: at(30 * time.Second), EndedAt: at(31 * time.Second)},
		},
		Rescue: tally.Rescue{
			Name: "payment", At: at(9900 * time.Millisecond), Took: 1300 * time.Millisecond,
			Tries: []tally.Try{
				{Took: 250 * time.Millisecond, Err: context.DeadlineExceeded},
				{Delay: 4300 * time.Microsecond, Took: 800 * time.Microsecond, Err: errors.New("payment answered 503 Service Unavailable")},
				{Delay: time.Second, Asked: true, Took: 21 * time.Millisecond},
			},
		},
	}
}

func text(t *testing.T, s *Summary, colour bool) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, s.WriteText(&b, colour, 0))
	return b.String()
}

func TestSummary(t *testing.T) {
	plain := text(t, summary(), false)
	requireGolden(t, "summary.txt", plain)
	for line := range strings.Lines(plain) {
		require.LessOrEqual(t, len([]rune(line)), width+1, line)
	}
	colourful := text(t, summary(), true)
	require.NotEqual(t, plain, colourful)
	require.Equal(t, plain, uncoloured(colourful))
}

func TestSummaryAsJSON(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, summary().WriteJSON(&b))
	requireGolden(t, "summary.json", b.String())
}

// savedTrace is an order whose payment was saved by its third attempt.
func savedTrace() *traces.Trace {
	const ms = time.Millisecond
	attr := func(pairs ...string) (list []traces.Attribute) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, traces.Attribute{Key: pairs[i], Value: pairs[i+1]})
		}
		return list
	}
	began := at(9900 * ms)
	span := func(service, name string, kind trace.SpanKind, at, took time.Duration, attributes []traces.Attribute, children ...*traces.Span) *traces.Span {
		return &traces.Span{Service: service, Name: name, Kind: kind, Start: began.Add(at), Duration: took, Attributes: attributes, Children: children}
	}
	attempt := func(n string, at, took time.Duration, delay, outcome, errorType string, children ...*traces.Span) *traces.Span {
		a := attr("resilience.retry.name", "payment", "resilience.retry.attempt.number", n, "resilience.retry.delay", delay, "resilience.retry.attempt.outcome", outcome)
		if errorType != "" {
			a = append(a, attr("error.type", errorType)...)
		}
		s := span(shop.Order, "attempt payment", trace.SpanKindInternal, at, took, a, children...)
		s.Failed = errorType != ""
		return s
	}
	retry := func(name, attempts, outcome string, at, took time.Duration, children ...*traces.Span) *traces.Span {
		return span(shop.Order, "retry "+name, trace.SpanKindInternal, at, took,
			attr("resilience.retry.name", name, "resilience.retry.attempt.count", attempts, "resilience.retry.outcome", outcome), children...)
	}
	server := func(at, took time.Duration, code string) *traces.Span {
		return span(shop.Payment, "POST /charge", trace.SpanKindServer, at, took, attr("http.response.status_code", code))
	}
	client := func(at, took time.Duration, code, errorType string, children ...*traces.Span) *traces.Span {
		a := attr("http.response.status_code", code)
		if errorType != "" {
			a = attr("error.type", errorType)
		}
		return span(shop.Order, "POST /charge", trace.SpanKindClient, at, took, a, children...)
	}
	hung := server(2*ms, 248*ms, "")
	hung.Attributes, hung.Failed = attr("error.type", "canceled"), true
	root := span(shop.Order, "POST /orders", trace.SpanKindServer, 0, 1320*ms, attr("http.response.status_code", "201"),
		retry("inventory", "1", "success", ms, 7*ms, attempt("1", ms, 7*ms, "0", "success", "")),
		retry("payment", "3", "success_after_retry", 8*ms, 1300*ms,
			attempt("1", 8*ms, 250*ms, "0", "failure", "timeout", client(8*ms, 250*ms, "", "timeout", hung)),
			attempt("2", 262300*time.Microsecond, 800*time.Microsecond, "0.0043", "failure", "503", client(262300*time.Microsecond, 800*time.Microsecond, "503", "503", server(262500*time.Microsecond, 300*time.Microsecond, "503"))),
			attempt("3", 1264*ms, 21*ms, "1", "success", "", client(1264*ms, 21*ms, "200", "", server(1265*ms, 20*ms, "200")))),
		retry("shipping", "1", "success", 1309*ms, 10*ms))
	return &traces.Trace{ID: "4bf92f3577b34da6a3ce929d0e0e4736", Roots: []*traces.Span{root}, Start: began, Duration: 1320 * ms, Spans: 14, Attempts: 3, Saved: true}
}

func TestSummaryWithATrace(t *testing.T) {
	s := summary()
	s.Trace = savedTrace()
	plain := text(t, s, false)
	requireGolden(t, "summary-trace.txt", plain)
	for line := range strings.Lines(plain) {
		require.LessOrEqual(t, len([]rune(line)), width+1, line)
	}
	require.Equal(t, plain, uncoloured(text(t, s, true)))
	var b bytes.Buffer
	require.NoError(t, s.WriteJSON(&b))
	requireGolden(t, "summary-trace.json", b.String())
}

func TestSummaryOnNarrowTerminals(t *testing.T) {
	s := summary()
	s.Trace = savedTrace()
	for _, columns := range []int{60, 50, 40} {
		var b bytes.Buffer
		require.NoError(t, s.WriteText(&b, false, columns))
		requireGolden(t, fmt.Sprintf("summary-%d.txt", columns), b.String())
		for line := range strings.Lines(b.String()) {
			require.LessOrEqual(t, len([]rune(line)), columns+1, line)
		}
	}
	var wide, usual bytes.Buffer
	require.NoError(t, s.WriteText(&wide, false, 300))
	require.NoError(t, s.WriteText(&usual, false, 0))
	require.Equal(t, usual.String(), wide.String())
}

func TestTooManyAlerts(t *testing.T) {
	s := &Summary{Start: start}
	for i := range 12 {
		a := Alert{Rule: fmt.Sprintf("Rule%d", i), PendingAt: at(time.Duration(i) * time.Second)}
		if i > 8 {
			a.FiringAt = a.PendingAt.Add(time.Second)
		}
		s.Alerts = append(s.Alerts, a)
	}
	var b strings.Builder
	s.writeAlerts(&b, style{}, width)
	lines := strings.Split(strings.Trim(b.String(), "\n"), "\n")
	require.Len(t, lines, 1+toldAlerts+1)
	require.Contains(t, lines[1], "Rule0 ")
	require.Contains(t, lines[toldAlerts], "Rule11 ")
	require.NotContains(t, b.String(), "Rule7 ", "of those that never fired, the later ones are left out")
	require.Equal(t, "  and 2 more", lines[toldAlerts+1])
}

func TestTreeOfManySpans(t *testing.T) {
	root := &traces.Span{Name: "root", Start: start, Duration: time.Second}
	for range 100 {
		root.Children = append(root.Children, &traces.Span{Name: strings.Repeat("x", 60), Start: start, Duration: time.Second})
	}
	lines := tree(&traces.Trace{Roots: []*traces.Span{root}, Start: start, Duration: time.Second}, style{}, width)
	require.Len(t, lines, deepest+1)
	require.Equal(t, "  and 41 spans more", lines[deepest])
}

func TestTimelineOfScenarios(t *testing.T) {
	s := summary()
	s.Phases = nil
	for i, scenario := range []string{"outage", "flaky", "slow"} {
		for j, name := range []string{"healthy", "trouble", "recovery"} {
			s.Phases = append(s.Phases, Phase{scenario, name, time.Duration(20*i+5*j) * time.Second})
		}
	}
	require.Equal(t, "│outage              │flaky                │slow", s.ruler(65))
	require.Equal(t, "│ou│fl│slo", s.ruler(10))
	require.Equal(t, "││f│s", s.ruler(5))
	s.Circuits[1].Forgotten = 1
	require.Nil(t, s.timeline(style{}, 80), "what is not known is not drawn")
	s.Circuits[1].Forgotten = 0
	require.Nil(t, s.timeline(style{}, 20), "nor where there is no room")
}

func TestSummaryOfARunThatEndedEarly(t *testing.T) {
	s := summary()
	s.Early, s.Length, s.Unseen = true, 30*time.Second, 3
	s.Rescue = tally.Rescue{}
	payment := &s.Circuits[1]
	payment.Changes = payment.Changes[:3]
	payment.Final.State = events.StateOpen
	s.Alerts[0].ResolvedAt = time.Time{}
	s.Alerts = append(s.Alerts[:1], Alert{Rule: "RetriesExhausted", About: "payment", PendingAt: at(29 * time.Second)})
	requireGolden(t, "summary-early.txt", text(t, s, false))
}

func TestSummaryOfNothing(t *testing.T) {
	s := &Summary{Start: start, Circuits: []Circuit{{Name: "payment"}}}
	require.Contains(t, text(t, s, false), "\n  No circuit opened.\n\n  Retries saved no call. No order was sent.\n")
	var b bytes.Buffer
	require.NoError(t, s.WriteJSON(&b))
	require.Contains(t, b.String(), `"changes": []`)
}

func TestOutages(t *testing.T) {
	later := func(e events.StateChanged, d time.Duration) events.StateChanged {
		e.Time = e.Time.Add(d)
		return e
	}
	c := Circuit{Name: "payment", Thresholds: thresholds, Changes: append([]events.StateChanged(nil), changes...)}
	c.Changes = append(c.Changes, later(changes[0], time.Minute), later(changes[1], time.Minute), later(changes[2], time.Minute))
	require.Equal(t, 2, c.Opened())
	s := &Summary{Start: start, Circuits: []Circuit{c}}
	require.Contains(t, strings.Join(strings.Fields(text(t, s, false)), " "),
		"payment opened at 23.7s: 50% of 430 calls failed (threshold 50%). Its probes failed once. It closed at 34.0s. "+
			"It opened again at 83.7s: 50% of 430 calls failed (threshold 50%). Its probes failed once. It had not closed when the demo ended. ")

	for i := range 3 {
		c.Changes = append(c.Changes, later(changes[4], time.Minute), later(changes[0], time.Duration(i+2)*time.Minute))
	}
	require.Equal(t, 5, c.Opened())
	s.Circuits[0] = c
	story := strings.Join(strings.Fields(text(t, s, false)), " ")
	require.Equal(t, 2, strings.Count(story, "opened again"), "three are told")
	require.Contains(t, story, "It opened twice more.")
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                         "0s",
		400:                       "0µs",
		310 * time.Microsecond:    "310µs",
		999 * time.Microsecond:    "999µs",
		999600 * time.Nanosecond:  "1ms",
		time.Millisecond:          "1ms",
		4250 * time.Microsecond:   "4.2ms",
		9960 * time.Microsecond:   "10ms",
		43 * time.Millisecond:     "43ms",
		999 * time.Millisecond:    "999ms",
		999600 * time.Microsecond: "1s",
		1649 * time.Millisecond:   "1.6s",
		59 * time.Second:          "59s",
		59960 * time.Millisecond:  "1m",
		60 * time.Second:          "1m",
		125 * time.Second:         "2m5s",
		time.Hour:                 "1h0m",
		time.Hour + time.Second:   "1h0m1s",
		-1500 * time.Millisecond:  "-1.5s",
	} {
		require.Equal(t, want, span(d), "%v", d)
	}
}

func TestWrap(t *testing.T) {
	require.Equal(t, "  a bb\n  ccc\n  dddddddd\n", wrap(" a bb ccc\ndddddddd", "  ", 8))
	require.Equal(t, "  éé é\n", wrap("éé é", "  ", 8), "characters count, not bytes")
}

func TestWords(t *testing.T) {
	require.Equal(t, []string{"0%", "under 1%", "1%", "50%"}, []string{share(0), share(0.004), share(0.01), share(0.5)})
	require.Equal(t, "1 call", count(1, "call"))
	require.Equal(t, "0 calls", count(0, "call"))
	require.Equal(t, "", list(nil))
	require.Equal(t, "a", list([]string{"a"}))
	require.Equal(t, "a, b and c", list([]string{"a", "b", "c"}))
	require.Equal(t, []string{"once", "twice", "3 times"}, []string{times(1), times(2), times(3)})
}
