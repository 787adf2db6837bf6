package events

import (
	"context"
	"log/slog"
	"time"
)

// Log returns a sink that writes each event to l as a structured record. A nil l
// means [slog.Default], looked up for each record, so that it follows
// [slog.SetDefault].
//
// What happens with every call has level Debug. Info and Warn are for what is rare
// in a healthy service: a breaker's birth, end and changes of state, and retries
// that gave up. The handler's Enabled is asked before anything is built: an event
// whose level is off costs that question and no allocation. Who logs no calls at
// all can leave the question out too, by setting functions of the sink to nil.
//
// Messages, levels and keys are stable:
//
//	event                 message                          level  attributes besides the name
//	BreakerCreated        circuit breaker created          Info   error_threshold, volume_threshold,
//	                                                              slow_call_threshold?, slow_call_duration?,
//	                                                              sleep_window, half_open_requests,
//	                                                              success_threshold, probe_timeout,
//	                                                              window_size, bucket_count,
//	                                                              sleep_window_factor?, max_sleep_window?,
//	                                                              sleep_window_jitter?, shadow?
//	CallStarted           circuit breaker call started     Debug  state, would_reject?
//	CallFinished          circuit breaker call finished    Debug  state, outcome, duration, panicked?,
//	                                                              would_reject?, stale?, error?
//	CallRejected          circuit breaker call rejected    Debug  state, retry_after?
//	StateChanged          circuit breaker state changed    Warn   from, to, reason, generation, elapsed,
//	                      (to anything but open, and       Info)  counts, failure_ratio, retry_after?
//	                      in shadow mode:
//	WindowRotated         circuit breaker window rotated   Debug  counts, failure_ratio
//	BreakerRetired        circuit breaker retired          Info
//	BreakerReconfigured   circuit breaker reconfigured     Info   error_threshold, volume_threshold,
//	                                                              slow_call_threshold?, slow_call_duration?,
//	                                                              sleep_window, half_open_requests,
//	                                                              success_threshold, probe_timeout,
//	                                                              window_size, bucket_count,
//	                                                              sleep_window_factor?, max_sleep_window?,
//	                                                              sleep_window_jitter?, shadow?
//	RetryStarted          retry started                    Debug  max_attempts
//	AttemptStarted        retry attempt started            Debug  attempt, delay
//	AttemptFinished       retry attempt finished           Debug  attempt, outcome, decision, duration,
//	                                                              panicked?, error?
//	RetryScheduled        retry scheduled                  Debug  attempt, delay, server_asked?, error?
//	RetryFinished         retry finished                   Debug  outcome, reason, attempts, duration,
//	                      (gave up:                        Warn)  delay, error?
//	PolicyCreated         policy created                   Debug  policy
//	TimedOut              call timed out                   Debug  limit, duration, error
//	BulkheadCreated       bulkhead created                 Info   max_concurrent, max_queue
//	BulkheadWaited        bulkhead call waited             Debug  outcome, duration
//	BulkheadRejected      bulkhead call rejected           Debug  reason
//	BulkheadRetired       bulkhead retired                 Info
//	RateLimited           call rate limited                Debug  outcome, duration, error?
//	FellBack              fallback used                    Debug  outcome, replaced, panicked?, error?
//	                      (failed too:                     Warn)
//	HedgeAttemptStarted   hedge attempt started            Debug  attempt, delay
//	HedgeAttemptFinished  hedge attempt finished           Debug  attempt, outcome, won?, duration,
//	                                                              panicked?, error?
//	BudgetCreated         retry budget created             Info   ratio, min_per_second, window
//	BudgetExhausted       retry budget exhausted           Debug  retry, attempt, error
//	BudgetRetired         retry budget retired             Info
//
// A retry gave up if its reason is exhausted, deadline, retry_after_too_long,
// budget_exhausted or panic. The others are no news to whom they concern: the
// operation succeeded, the caller left, its error was not one to retry after, or a
// policy inside rejected it, which has told of that already.
//
// The first attributes of a breaker's records are breaker, its name, and breaker_id,
// its ID; a bulkhead's are bulkhead and bulkhead_id, a budget's budget and budget_id. The first of the others is the
// name, under retry, timeout, rate_limit, fallback or hedge. Attributes with a question
// mark are left out when they are zero, nil or false. Of the values,
//
//   - state, from and to are spelled as by [Status]: "closed", "open", "half_open",
//     "forced_open", "forced_closed", "shadow_open", "shadow_half_open"; the state of a
//     call that ran is never forced_closed, and shadow_… is that of one that would not have;
//   - outcome is spelled as by [Outcome], reason and decision are a [Reason];
//   - duration, delay, limit, elapsed, retry_after, sleep_window, probe_timeout,
//     window_size and slow_call_duration are durations;
//   - counts is a group of success, failure, ignored and slow;
//   - error is the error value itself, and replaced the one that a fallback stood in for.
//
// A record has the event's Time, or the present time for events without one, and no
// source location. The context goes to the handler. What the handler returns is lost,
// as in package slog.
func Log(l *slog.Logger) Sink {
	to := logSink{l}
	return Sink{
		BreakerCreated:  to.breakerCreated,
		CallStarted:     to.callStarted,
		CallFinished:    to.callFinished,
		CallRejected:    to.callRejected,
		StateChanged:    to.stateChanged,
		WindowRotated:   to.windowRotated,
		BreakerRetired:  to.breakerRetired,
		RetryStarted:    to.retryStarted,
		AttemptStarted:  to.attemptStarted,
		AttemptFinished: to.attemptFinished,
		RetryScheduled:  to.retryScheduled,
		RetryFinished:   to.retryFinished,

		PolicyCreated:        to.policyCreated,
		TimedOut:             to.timedOut,
		BulkheadCreated:      to.bulkheadCreated,
		BulkheadWaited:       to.bulkheadWaited,
		BulkheadRejected:     to.bulkheadRejected,
		BulkheadRetired:      to.bulkheadRetired,
		RateLimited:          to.rateLimited,
		FellBack:             to.fellBack,
		HedgeAttemptStarted:  to.hedgeAttemptStarted,
		HedgeAttemptFinished: to.hedgeAttemptFinished,
		BreakerReconfigured:  to.breakerReconfigured,
		BudgetCreated:        to.budgetCreated,
		BudgetExhausted:      to.budgetExhausted,
		BudgetRetired:        to.budgetRetired,
	}
}

// logSink holds the functions of [Log]'s sink.
type logSink struct {
	l *slog.Logger // nil means slog.Default()
}

// handler returns the handler for records of this level, or nil if it wants none.
func (s logSink) handler(ctx context.Context, level slog.Level) slog.Handler {
	l := s.l
	if l == nil {
		l = slog.Default()
	}
	if h := l.Handler(); h.Enabled(ctx, level) {
		return h
	}
	return nil
}

// write sends h a record with those of attrs that are not the zero Attr.
func write(ctx context.Context, h slog.Handler, t time.Time, level slog.Level, msg string, attrs ...slog.Attr) {
	if t.IsZero() {
		t = time.Now()
	}
	r := slog.NewRecord(t, level, msg, 0) // no PC: the caller is an engine, never user code
	for _, a := range attrs {
		if a.Key != "" {
			r.AddAttrs(a)
		}
	}
	_ = h.Handle(ctx, r) // as slog.Logger does: a log that fails must not fail the call
}

func (s logSink) breakerCreated(ctx context.Context, e BreakerCreated) {
	s.thresholds(ctx, e.Time, "circuit breaker created", e.Header, e.Thresholds)
}

func (s logSink) breakerReconfigured(ctx context.Context, e BreakerReconfigured) {
	s.thresholds(ctx, e.Time, "circuit breaker reconfigured", e.Header, e.New)
}

func (s logSink) thresholds(ctx context.Context, at time.Time, msg string, about Header, t Thresholds) {
	if h := s.handler(ctx, slog.LevelInfo); h != nil {
		write(ctx, h, at, slog.LevelInfo, msg, logName(about), logID(about),
			slog.Float64("error_threshold", t.ErrorThreshold),
			slog.Int("volume_threshold", t.VolumeThreshold),
			unlessZero("slow_call_threshold", t.SlowCallThreshold, slog.Float64),
			unlessZero("slow_call_duration", t.SlowCallDuration, slog.Duration),
			slog.Duration("sleep_window", t.SleepWindow),
			slog.Int("half_open_requests", t.HalfOpenRequests),
			slog.Float64("success_threshold", t.SuccessThreshold),
			slog.Duration("probe_timeout", t.ProbeTimeout),
			slog.Duration("window_size", t.WindowSize),
			slog.Int("bucket_count", t.BucketCount),
			unlessZero("sleep_window_factor", t.SleepWindowFactor, slog.Float64),
			unlessZero("max_sleep_window", t.MaxSleepWindow, slog.Duration),
			unlessZero("sleep_window_jitter", t.SleepWindowJitter, slog.Float64),
			unlessZero("shadow", t.Shadow, slog.Bool))
	}
}

func (s logSink) callStarted(ctx context.Context, e CallStarted) context.Context {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "circuit breaker call started", logName(e.Header), logID(e.Header),
			slog.String("state", StatusOf(e.State, false).shadowed(e.WouldReject).String()),
			unlessZero("would_reject", e.WouldReject, slog.Bool))
	}
	return ctx
}

func (s logSink) callFinished(ctx context.Context, e CallFinished) {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "circuit breaker call finished", logName(e.Header), logID(e.Header),
			slog.String("state", StatusOf(e.State, false).shadowed(e.WouldReject).String()),
			slog.String("outcome", e.Outcome.String()),
			slog.Duration("duration", e.Duration),
			unlessZero("panicked", e.Panicked, slog.Bool),
			unlessZero("would_reject", e.WouldReject, slog.Bool),
			unlessZero("stale", e.Stale, slog.Bool),
			logError(e.Err))
	}
}

func (s logSink) callRejected(ctx context.Context, e CallRejected) {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "circuit breaker call rejected", logName(e.Header), logID(e.Header),
			logStatus("state", e.State, e.Forced),
			unlessZero("retry_after", e.RetryAfter, slog.Duration))
	}
}

func (s logSink) stateChanged(ctx context.Context, e StateChanged) {
	level := slog.LevelInfo
	if e.To == StateOpen && e.ToStatus() != StatusShadowOpen {
		level = slog.LevelWarn
	}
	if h := s.handler(ctx, level); h != nil {
		write(ctx, h, e.Time, level, "circuit breaker state changed", logName(e.Header), logID(e.Header),
			slog.String("from", e.FromStatus().String()),
			slog.String("to", e.ToStatus().String()),
			slog.String("reason", string(e.Reason)),
			slog.Uint64("generation", e.Generation),
			slog.Duration("elapsed", e.Elapsed),
			logCounts(e.Counts),
			slog.Float64("failure_ratio", e.Counts.FailureRatio()),
			unlessZero("retry_after", e.RetryAfter, slog.Duration))
	}
}

func (s logSink) windowRotated(ctx context.Context, e WindowRotated) {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, e.Time, slog.LevelDebug, "circuit breaker window rotated", logName(e.Header), logID(e.Header),
			logCounts(e.Counts),
			slog.Float64("failure_ratio", e.Counts.FailureRatio()))
	}
}

func (s logSink) breakerRetired(ctx context.Context, e BreakerRetired) {
	if h := s.handler(ctx, slog.LevelInfo); h != nil {
		write(ctx, h, e.Time, slog.LevelInfo, "circuit breaker retired", logName(e.Header), logID(e.Header))
	}
}

func (s logSink) retryStarted(ctx context.Context, e RetryStarted) context.Context {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "retry started", logRetry(e.Header),
			slog.Int("max_attempts", e.MaxAttempts))
	}
	return ctx
}

func (s logSink) attemptStarted(ctx context.Context, e AttemptStarted) context.Context {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "retry attempt started", logRetry(e.Header),
			slog.Int("attempt", e.Attempt),
			slog.Duration("delay", e.Delay))
	}
	return ctx
}

func (s logSink) attemptFinished(ctx context.Context, e AttemptFinished) {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "retry attempt finished", logRetry(e.Header),
			slog.Int("attempt", e.Attempt),
			slog.String("outcome", e.Outcome.String()),
			slog.String("decision", string(e.Decision)),
			slog.Duration("duration", e.Duration),
			unlessZero("panicked", e.Panicked, slog.Bool),
			logError(e.Err))
	}
}

func (s logSink) retryScheduled(ctx context.Context, e RetryScheduled) {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "retry scheduled", logRetry(e.Header),
			slog.Int("attempt", e.Attempt),
			slog.Duration("delay", e.Delay),
			unlessZero("server_asked", e.RetryAfter, slog.Bool),
			logError(e.Err))
	}
}

func (s logSink) retryFinished(ctx context.Context, e RetryFinished) {
	level := slog.LevelDebug
	switch e.Reason {
	case ReasonExhausted, ReasonDeadline, ReasonRetryAfterTooLong, ReasonBudgetExhausted, ReasonPanic:
		level = slog.LevelWarn
	}
	if h := s.handler(ctx, level); h != nil {
		write(ctx, h, time.Time{}, level, "retry finished", logRetry(e.Header),
			slog.String("outcome", e.Outcome.String()),
			slog.String("reason", string(e.Reason)),
			slog.Int("attempts", e.Attempts),
			slog.Duration("duration", e.Duration),
			slog.Duration("delay", e.Delay),
			logError(e.Err))
	}
}

func logName(h Header) slog.Attr  { return slog.String("breaker", h.Name) }
func logID(h Header) slog.Attr    { return slog.Uint64("breaker_id", h.ID) }
func logRetry(h Header) slog.Attr { return slog.String("retry", h.Name) }

func logStatus(key string, s State, forced bool) slog.Attr {
	return slog.String(key, StatusOf(s, forced).String())
}

func logCounts(c Counts) slog.Attr {
	return slog.Attr{Key: "counts", Value: slog.GroupValue(
		slog.Uint64("success", c.Success),
		slog.Uint64("failure", c.Failure),
		slog.Uint64("ignored", c.Ignored),
		slog.Uint64("slow", c.Slow))}
}

// logError returns the attribute for err, the zero Attr for none.
func logError(err error) slog.Attr {
	if err == nil {
		return slog.Attr{}
	}
	return slog.Any("error", err)
}

// unlessZero returns the attribute that attr makes of v, the zero Attr for a zero v.
func unlessZero[T comparable](key string, v T, attr func(string, T) slog.Attr) slog.Attr {
	if v == *new(T) {
		return slog.Attr{}
	}
	return attr(key, v)
}
