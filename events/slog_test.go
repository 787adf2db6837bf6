package events_test

import (
	"bytes"
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
)

// at is the Time of events that have one; the clock of a bubble begins a quarter of a
// century before.
var at = time.Date(2026, 7, 1, 12, 30, 0, 0, time.UTC)

// logged lists events that set every field, or none but the header, with the record
// that Log makes of them.
var logged = []struct {
	event events.Event
	want  string
}{
	{events.BreakerCreated{Header: payment, Time: at, Thresholds: events.Thresholds{
		ErrorThreshold: 0.5, VolumeThreshold: 10, SlowCallThreshold: 0.8, SlowCallDuration: 2 * time.Second,
		SleepWindow: 30 * time.Second, HalfOpenRequests: 5, SuccessThreshold: 0.6, ProbeTimeout: 20 * time.Second,
		WindowSize: time.Minute, BucketCount: 12,
	}, Snapshot: func() events.Snapshot { return events.Snapshot{} }},
		`time=2026-07-01T12:30:00.000Z level=INFO msg="circuit breaker created" breaker=payment breaker_id=7 ` +
			`error_threshold=0.5 volume_threshold=10 slow_call_threshold=0.8 slow_call_duration=2s sleep_window=30s ` +
			`half_open_requests=5 success_threshold=0.6 probe_timeout=20s window_size=1m0s bucket_count=12`},
	{events.BreakerCreated{Header: payment},
		`time=2000-01-01T00:00:00.000Z level=INFO msg="circuit breaker created" breaker=payment breaker_id=7 ` +
			`error_threshold=0 volume_threshold=0 sleep_window=0s half_open_requests=0 success_threshold=0 ` +
			`probe_timeout=0s window_size=0s bucket_count=0`},
	{events.CallStarted{Header: payment, State: events.StateHalfOpen},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="circuit breaker call started" breaker=payment breaker_id=7 state=half_open`},
	{events.CallFinished{Header: payment, State: events.StateClosed, Outcome: events.OutcomeFailure,
		Duration: 1500 * time.Microsecond, Err: errDown, Panicked: true, Stale: true},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="circuit breaker call finished" breaker=payment breaker_id=7 ` +
			`state=closed outcome=failure duration=1.5ms panicked=true stale=true error=down`},
	{events.CallFinished{Header: payment},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="circuit breaker call finished" breaker=payment breaker_id=7 ` +
			`state=closed outcome=success duration=0s`},
	{events.CallRejected{Header: payment, State: events.StateOpen, RetryAfter: 12 * time.Second},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="circuit breaker call rejected" breaker=payment breaker_id=7 ` +
			`state=open retry_after=12s`},
	{events.CallRejected{Header: payment, State: events.StateOpen, Forced: true},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="circuit breaker call rejected" breaker=payment breaker_id=7 state=forced_open`},
	{events.StateChanged{Header: payment, Time: at, From: events.StateClosed, To: events.StateOpen,
		Reason: events.ReasonErrorRate, Generation: 4, Counts: events.Counts{Success: 4, Failure: 12, Slow: 3},
		Elapsed: time.Hour, RetryAfter: 30 * time.Second},
		`time=2026-07-01T12:30:00.000Z level=WARN msg="circuit breaker state changed" breaker=payment breaker_id=7 ` +
			`from=closed to=open reason=error_rate generation=4 elapsed=1h0m0s ` +
			`counts.success=4 counts.failure=12 counts.ignored=0 counts.slow=3 failure_ratio=0.75 retry_after=30s`},
	{events.StateChanged{Header: payment, Time: at, From: events.StateHalfOpen, To: events.StateOpen, Forced: true,
		Reason: events.ReasonForced, Generation: 5, Counts: events.Counts{Ignored: 1}, Elapsed: time.Second},
		`time=2026-07-01T12:30:00.000Z level=WARN msg="circuit breaker state changed" breaker=payment breaker_id=7 ` +
			`from=half_open to=forced_open reason=forced generation=5 elapsed=1s ` +
			`counts.success=0 counts.failure=0 counts.ignored=1 counts.slow=0 failure_ratio=0`},
	{events.StateChanged{Header: payment, Time: at, From: events.StateOpen, FromForced: true, To: events.StateHalfOpen,
		Reason: events.ReasonSleepWindowElapsed, Generation: 6},
		`time=2026-07-01T12:30:00.000Z level=INFO msg="circuit breaker state changed" breaker=payment breaker_id=7 ` +
			`from=forced_open to=half_open reason=sleep_window_elapsed generation=6 elapsed=0s ` +
			`counts.success=0 counts.failure=0 counts.ignored=0 counts.slow=0 failure_ratio=0`},
	{events.StateChanged{Header: payment, Time: at, From: events.StateClosed, FromForced: true, To: events.StateClosed,
		Reason: events.ReasonReset, Generation: 7},
		`time=2026-07-01T12:30:00.000Z level=INFO msg="circuit breaker state changed" breaker=payment breaker_id=7 ` +
			`from=forced_closed to=closed reason=reset generation=7 elapsed=0s ` +
			`counts.success=0 counts.failure=0 counts.ignored=0 counts.slow=0 failure_ratio=0`},
	{events.WindowRotated{Header: payment, Time: at, Counts: events.Counts{Success: 3, Failure: 1}},
		`time=2026-07-01T12:30:00.000Z level=DEBUG msg="circuit breaker window rotated" breaker=payment breaker_id=7 ` +
			`counts.success=3 counts.failure=1 counts.ignored=0 counts.slow=0 failure_ratio=0.25`},
	{events.BreakerRetired{Header: payment, Time: at},
		`time=2026-07-01T12:30:00.000Z level=INFO msg="circuit breaker retired" breaker=payment breaker_id=7`},

	{events.RetryStarted{Header: charge, MaxAttempts: 3},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="retry started" retry=charge max_attempts=3`},
	{events.AttemptStarted{Header: charge, Attempt: 2, Delay: 150 * time.Millisecond},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="retry attempt started" retry=charge attempt=2 delay=150ms`},
	{events.AttemptFinished{Header: charge, Attempt: 2, Duration: time.Second, Outcome: events.OutcomeFailure,
		Err: errDown, Panicked: true, Decision: events.ReasonRetry},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="retry attempt finished" retry=charge attempt=2 outcome=failure ` +
			`decision=retry duration=1s panicked=true error=down`},
	{events.AttemptFinished{Header: charge, Attempt: 1, Decision: events.ReasonSuccess},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="retry attempt finished" retry=charge attempt=1 outcome=success ` +
			`decision=success duration=0s`},
	{events.RetryScheduled{Header: charge, Attempt: 3, Delay: 7 * time.Second, RetryAfter: true, Err: errDown},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="retry scheduled" retry=charge attempt=3 delay=7s server_asked=true error=down`},
	{events.RetryScheduled{Header: charge, Attempt: 3},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="retry scheduled" retry=charge attempt=3 delay=0s`},
	{events.RetryFinished{Header: charge, Attempts: 3, Duration: 3 * time.Second, Delay: time.Second,
		Outcome: events.OutcomeFailure, Reason: events.ReasonExhausted, Err: errDown},
		`time=2000-01-01T00:00:00.000Z level=WARN msg="retry finished" retry=charge outcome=failure reason=exhausted ` +
			`attempts=3 duration=3s delay=1s error=down`},
	{events.RetryFinished{Header: charge, Attempts: 1, Reason: events.ReasonSuccess},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="retry finished" retry=charge outcome=success reason=success ` +
			`attempts=1 duration=0s delay=0s`},

	{events.CallStarted{Header: payment, State: events.StateOpen, WouldReject: true},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="circuit breaker call started" breaker=payment breaker_id=7 ` +
			`state=shadow_open would_reject=true`},
	{events.CallFinished{Header: payment, State: events.StateHalfOpen, WouldReject: true},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="circuit breaker call finished" breaker=payment breaker_id=7 ` +
			`state=shadow_half_open outcome=success duration=0s would_reject=true`},
	{events.StateChanged{Header: payment, Time: at, To: events.StateOpen, Shadow: true, Reason: events.ReasonErrorRate, Generation: 2},
		`time=2026-07-01T12:30:00.000Z level=INFO msg="circuit breaker state changed" breaker=payment breaker_id=7 ` +
			`from=closed to=shadow_open reason=error_rate generation=2 elapsed=0s ` +
			`counts.success=0 counts.failure=0 counts.ignored=0 counts.slow=0 failure_ratio=0`},
	{events.BreakerReconfigured{Header: payment, Time: at, New: events.Thresholds{ErrorThreshold: 0.3, VolumeThreshold: 5,
		SlowCallThreshold: 0.4, SlowCallDuration: time.Second,
		SleepWindow: time.Second, HalfOpenRequests: 1, SuccessThreshold: 1, ProbeTimeout: time.Second, WindowSize: time.Minute,
		BucketCount: 6, SleepWindowFactor: 2, MaxSleepWindow: time.Minute, SleepWindowJitter: 0.1, Shadow: true}},
		`time=2026-07-01T12:30:00.000Z level=INFO msg="circuit breaker reconfigured" breaker=payment breaker_id=7 ` +
			`error_threshold=0.3 volume_threshold=5 slow_call_threshold=0.4 slow_call_duration=1s sleep_window=1s half_open_requests=1 success_threshold=1 probe_timeout=1s ` +
			`window_size=1m0s bucket_count=6 sleep_window_factor=2 max_sleep_window=1m0s sleep_window_jitter=0.1 shadow=true`},
	{events.BreakerCreated{Header: payment, Time: at, Thresholds: events.Thresholds{SleepWindowFactor: 2, MaxSleepWindow: time.Minute,
		SleepWindowJitter: 0.1, Shadow: true}},
		`time=2026-07-01T12:30:00.000Z level=INFO msg="circuit breaker created" breaker=payment breaker_id=7 ` +
			`error_threshold=0 volume_threshold=0 sleep_window=0s half_open_requests=0 success_threshold=0 probe_timeout=0s ` +
			`window_size=0s bucket_count=0 sleep_window_factor=2 max_sleep_window=1m0s sleep_window_jitter=0.1 shadow=true`},
	{events.BudgetCreated{Header: payment, Time: at, Ratio: 0.2, MinPerSecond: 1, Window: 10 * time.Second},
		`time=2026-07-01T12:30:00.000Z level=INFO msg="retry budget created" budget=payment budget_id=7 ratio=0.2 min_per_second=1 window=10s`},
	{events.BudgetExhausted{Header: payment, Retry: "charge", Attempt: 2, Err: errDown},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="retry budget exhausted" budget=payment budget_id=7 retry=charge attempt=2 error=down`},
	{events.BudgetRetired{Header: payment, Time: at},
		`time=2026-07-01T12:30:00.000Z level=INFO msg="retry budget retired" budget=payment budget_id=7`},

	{events.PolicyCreated{Header: charge, Time: at, Policy: events.PolicyRateLimit},
		`time=2026-07-01T12:30:00.000Z level=DEBUG msg="policy created" rate_limit=charge policy=rate_limit`},
	{events.TimedOut{Header: charge, Limit: time.Second, Duration: 1500 * time.Millisecond, Err: errDown},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="call timed out" timeout=charge limit=1s duration=1.5s error=down`},
	{events.BulkheadCreated{Header: payment, Time: at, MaxConcurrent: 10, MaxQueue: 5},
		`time=2026-07-01T12:30:00.000Z level=INFO msg="bulkhead created" bulkhead=payment bulkhead_id=7 max_concurrent=10 max_queue=5`},
	{events.BulkheadWaited{Header: payment, Duration: time.Second, Outcome: events.OutcomeIgnored},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="bulkhead call waited" bulkhead=payment bulkhead_id=7 outcome=ignored duration=1s`},
	{events.BulkheadRejected{Header: payment, Reason: events.ReasonQueueFull},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="bulkhead call rejected" bulkhead=payment bulkhead_id=7 reason=queue_full`},
	{events.BulkheadRetired{Header: payment, Time: at},
		`time=2026-07-01T12:30:00.000Z level=INFO msg="bulkhead retired" bulkhead=payment bulkhead_id=7`},
	{events.RateLimited{Header: charge, Duration: time.Second, Outcome: events.OutcomeRejected, Err: errDown},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="call rate limited" rate_limit=charge outcome=rejected duration=1s error=down`},
	{events.RateLimited{Header: charge, Outcome: events.OutcomeRejected},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="call rate limited" rate_limit=charge outcome=rejected duration=0s`},
	{events.FellBack{Header: charge, Err: errDown},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="fallback used" fallback=charge outcome=success replaced=down`},
	{events.FellBack{Header: charge, Err: errDown, Outcome: events.OutcomeFailure, FallbackErr: errDown, Panicked: true},
		`time=2000-01-01T00:00:00.000Z level=WARN msg="fallback used" fallback=charge outcome=failure replaced=down panicked=true error=down`},
	{events.HedgeAttemptStarted{Header: charge, Attempt: 2, Delay: 150 * time.Millisecond},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="hedge attempt started" hedge=charge attempt=2 delay=150ms`},
	{events.HedgeAttemptFinished{Header: charge, Attempt: 2, Duration: time.Second, Won: true},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="hedge attempt finished" hedge=charge attempt=2 outcome=success won=true duration=1s`},
	{events.HedgeAttemptFinished{Header: charge, Attempt: 1, Outcome: events.OutcomeFailure, Err: errDown, Panicked: true},
		`time=2000-01-01T00:00:00.000Z level=DEBUG msg="hedge attempt finished" hedge=charge attempt=1 outcome=failure duration=0s panicked=true error=down`},
}

// text returns a logger from the given level on, and where it writes.
func text(level slog.Level) (*slog.Logger, *bytes.Buffer) {
	var buf bytes.Buffer
	return slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{
		AddSource: true, // which shows a wrong program counter
		Level:     level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindTime {
				a.Value = slog.TimeValue(a.Value.Time().UTC())
			}
			return a
		},
	})), &buf
}

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := make(map[events.Kind]bool)
		for _, tt := range logged {
			l, buf := text(slog.LevelDebug)
			require.Equal(t, t.Context(), deliver(t.Context(), events.Log(l), tt.event), "derives nothing")
			require.Equal(t, tt.want+"\n", buf.String())
			seen[tt.event.Kind()] = true
		}
		require.Len(t, seen, int(events.KindCount), "every kind is logged")
	})
}

func TestLogLevelOfARetryThatGaveUp(t *testing.T) {
	for reason, want := range map[events.Reason]string{
		events.ReasonSuccess:           "DEBUG",
		events.ReasonSuccessAfterRetry: "DEBUG",
		events.ReasonNotRetryable:      "DEBUG",
		events.ReasonCanceled:          "DEBUG",
		events.ReasonRejected:          "DEBUG",
		events.ReasonExhausted:         "WARN",
		events.ReasonDeadline:          "WARN",
		events.ReasonRetryAfterTooLong: "WARN",
		events.ReasonBudgetExhausted:   "WARN",
		events.ReasonPanic:             "WARN",
	} {
		l, buf := text(slog.LevelDebug)
		events.Log(l).RetryFinished(t.Context(), events.RetryFinished{Header: charge, Reason: reason})
		require.Contains(t, buf.String(), " level="+want+" ", reason)
	}
}

// The table in Log's comment says of each kind what the records say.
func TestLogDocumentsItsRecords(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "slog.go", nil, parser.ParseComments)
	require.NoError(t, err)
	var doc string
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "Log" {
			doc = f.Doc.Text()
		}
	}
	// A row begins with the kind; where that column is empty the row above goes on.
	type row struct{ level, attrs string }
	rows := map[string]*row{}
	columns := regexp.MustCompile(`^\t(.{20})  (.{31})  (.{5})(?:  (.*))?$`)
	var last *row
	for line := range strings.Lines(doc) {
		m := columns.FindStringSubmatch(strings.TrimRight(line, "\n") + strings.Repeat(" ", max(0, 62-len(line))))
		if m == nil {
			continue
		}
		if kind := strings.TrimSpace(m[1]); kind != "" {
			last = &row{}
			rows[kind+": "+strings.TrimSpace(m[2])] = last
		}
		last.level += " " + m[3]
		last.attrs += " " + m[4]
	}
	require.Len(t, rows, int(events.KindCount)+1, "and a head")

	optional := map[string]bool{} // seen of those that may be left out, by kind and key
	for _, tt := range logged {
		var buf bytes.Buffer
		deliver(t.Context(), events.Log(slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug}))), tt.event)
		record := regexp.MustCompile(`level=(\w+) msg="?([a-z ]+?)"? (?:(?:breaker|bulkhead|budget)=payment (?:breaker|bulkhead|budget)_id=7|(?:retry|timeout|rate_limit|fallback|hedge)=charge)(.*)\n`).FindStringSubmatch(buf.String())
		require.NotNil(t, record, buf.String())
		kind := tt.event.Kind().String()
		documented := rows[kind+": "+record[2]]
		require.NotNil(t, documented, "%s: %q", kind, record[2])
		require.Contains(t, strings.ToUpper(documented.level), record[1], kind)

		var keys []string
		for _, k := range regexp.MustCompile(` ([a-z_]+)[.=]`).FindAllStringSubmatch(record[3], -1) {
			keys = append(keys, k[1])
		}
		keys = slices.Compact(keys) // the members of a group
		var given []string
		for attr := range strings.FieldsFuncSeq(documented.attrs, func(r rune) bool { return r == ' ' || r == ',' }) {
			key, isOptional := strings.CutSuffix(attr, "?")
			if slices.Contains(keys, key) {
				given = append(given, key)
				if isOptional {
					optional[kind+"."+key] = true
				}
			} else {
				require.True(t, isOptional, "%s: %s is missing", kind, key)
			}
		}
		require.Equal(t, given, keys, "%s: the keys in the order of the table", kind)
	}
	require.Len(t, optional, strings.Count(doc, "?"), "each is logged by some event")
}

// spy is a handler that notes what it is asked and given.
type spy struct {
	on      bool
	asked   int
	level   slog.Level
	ctx     context.Context
	records []slog.Record
	err     error
}

func (s *spy) Enabled(ctx context.Context, level slog.Level) bool {
	s.asked++
	s.ctx, s.level = ctx, level
	return s.on
}

func (s *spy) Handle(ctx context.Context, r slog.Record) error {
	s.ctx = ctx
	s.records = append(s.records, r.Clone())
	return s.err
}

func (s *spy) WithAttrs([]slog.Attr) slog.Handler { return s }
func (s *spy) WithGroup(string) slog.Handler      { return s }

func TestLogAsksForTheLevelFirst(t *testing.T) {
	ctx := context.WithValue(t.Context(), key("k"), "v")
	for _, tt := range logged {
		h := &spy{}
		deliver(ctx, events.Log(slog.New(h)), tt.event)
		require.Equal(t, 1, h.asked)
		require.Equal(t, ctx, h.ctx, "Enabled gets the context")
		require.Empty(t, h.records, "it said no")
		asked := h.level

		h = &spy{on: true, err: errors.New("disk full")}
		deliver(ctx, events.Log(slog.New(h)), tt.event)
		require.Equal(t, 1, h.asked)
		require.Equal(t, ctx, h.ctx, "Handle gets the context")
		require.Len(t, h.records, 1)
		require.Equal(t, asked, h.records[0].Level, "it was asked for the level of the record")
		require.Contains(t, tt.want, "level="+asked.String())
		require.Zero(t, h.records[0].PC)
		h.records[0].Attrs(func(a slog.Attr) bool {
			require.NotEmpty(t, a.Key, "what is left out does not reach the handler")
			return true
		})
	}
}

func TestLogHasTheErrorItself(t *testing.T) {
	h := &spy{on: true}
	events.Log(slog.New(h)).CallFinished(t.Context(), events.CallFinished{Header: payment, Err: errDown})
	var found any
	h.records[0].Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			found = a.Value.Any()
		}
		return true
	})
	require.Equal(t, errDown, found)
}

func TestLogOfErrorsThatCannotBeCompared(t *testing.T) {
	l, buf := text(slog.LevelDebug)
	events.Log(l).CallFinished(t.Context(), events.CallFinished{Header: payment, Err: sliceError{"a"}})
	require.Contains(t, buf.String(), "error=slice")
}

func TestLogKeepsTheAttributesOfItsLogger(t *testing.T) {
	l, buf := text(slog.LevelDebug)
	events.Log(l.With("service", "order").WithGroup("resilience")).BreakerRetired(t.Context(), events.BreakerRetired{Header: payment, Time: at})
	require.Equal(t, `time=2026-07-01T12:30:00.000Z level=INFO msg="circuit breaker retired" service=order `+
		`resilience.breaker=payment resilience.breaker_id=7`+"\n", buf.String())
}

// restoreDefault has what slog.SetDefault changes restored when t ends.
func restoreDefault(t *testing.T) {
	t.Helper()
	logger, output, flags := slog.Default(), log.Writer(), log.Flags()
	t.Cleanup(func() {
		slog.SetDefault(logger)
		log.SetOutput(output) // which SetDefault does not undo
		log.SetFlags(flags)
	})
}

func TestLogWithoutLoggerFollowsTheDefault(t *testing.T) {
	restoreDefault(t)
	sink := events.Log(nil)
	for range 2 {
		h := &spy{on: true}
		slog.SetDefault(slog.New(h))
		for _, k := range kinds {
			deliver(t.Context(), sink, k.event)
		}
		require.Len(t, h.records, len(kinds))
	}
}

func TestLogAllocatesNothingForALevelThatIsOff(t *testing.T) {
	h := slog.DiscardHandler
	for name, l := range map[string]*slog.Logger{
		"discarded":   slog.New(h),
		"errors only": slog.New(slog.NewJSONHandler(&bytes.Buffer{}, &slog.HandlerOptions{Level: slog.LevelError})),
	} {
		sink, ctx, now := events.Log(l), t.Context(), time.Now()
		require.Zero(t, testing.AllocsPerRun(100, func() { deliverAll(ctx, sink, now) }), name)
	}
	restoreDefault(t)
	slog.SetDefault(slog.New(h))
	sink, ctx, now := events.Log(nil), t.Context(), time.Now()
	require.Zero(t, testing.AllocsPerRun(100, func() { deliverAll(ctx, sink, now) }), "by default")
}
