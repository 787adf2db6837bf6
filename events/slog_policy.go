package events

import (
	"context"
	"log/slog"
	"time"
)

func (s logSink) policyCreated(ctx context.Context, e PolicyCreated) {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, e.Time, slog.LevelDebug, "policy created", slog.String(e.Policy.String(), e.Name),
			slog.String("policy", e.Policy.String()))
	}
}

func (s logSink) timedOut(ctx context.Context, e TimedOut) {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "call timed out", slog.String("timeout", e.Name),
			slog.Duration("limit", e.Limit),
			slog.Duration("duration", e.Duration),
			logError(e.Err))
	}
}

func (s logSink) bulkheadCreated(ctx context.Context, e BulkheadCreated) {
	if h := s.handler(ctx, slog.LevelInfo); h != nil {
		write(ctx, h, e.Time, slog.LevelInfo, "bulkhead created", logBulkhead(e.Header), logBulkheadID(e.Header),
			slog.Int("max_concurrent", e.MaxConcurrent),
			slog.Int("max_queue", e.MaxQueue))
	}
}

func (s logSink) bulkheadWaited(ctx context.Context, e BulkheadWaited) {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "bulkhead call waited", logBulkhead(e.Header), logBulkheadID(e.Header),
			slog.String("outcome", e.Outcome.String()),
			slog.Duration("duration", e.Duration))
	}
}

func (s logSink) bulkheadRejected(ctx context.Context, e BulkheadRejected) {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "bulkhead call rejected", logBulkhead(e.Header), logBulkheadID(e.Header),
			slog.String("reason", string(e.Reason)))
	}
}

func (s logSink) bulkheadRetired(ctx context.Context, e BulkheadRetired) {
	if h := s.handler(ctx, slog.LevelInfo); h != nil {
		write(ctx, h, e.Time, slog.LevelInfo, "bulkhead retired", logBulkhead(e.Header), logBulkheadID(e.Header))
	}
}

func (s logSink) rateLimited(ctx context.Context, e RateLimited) {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "call rate limited", slog.String("rate_limit", e.Name),
			slog.String("outcome", e.Outcome.String()),
			slog.Duration("duration", e.Duration),
			logError(e.Err))
	}
}

func (s logSink) fellBack(ctx context.Context, e FellBack) {
	level := slog.LevelDebug
	if e.Outcome == OutcomeFailure {
		level = slog.LevelWarn
	}
	if h := s.handler(ctx, level); h != nil {
		write(ctx, h, time.Time{}, level, "fallback used", slog.String("fallback", e.Name),
			slog.String("outcome", e.Outcome.String()),
			slog.Any("replaced", e.Err),
			unlessZero("panicked", e.Panicked, slog.Bool),
			logError(e.FallbackErr))
	}
}

func (s logSink) hedgeAttemptStarted(ctx context.Context, e HedgeAttemptStarted) context.Context {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "hedge attempt started", slog.String("hedge", e.Name),
			slog.Int("attempt", e.Attempt),
			slog.Duration("delay", e.Delay))
	}
	return ctx
}

func (s logSink) hedgeAttemptFinished(ctx context.Context, e HedgeAttemptFinished) {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "hedge attempt finished", slog.String("hedge", e.Name),
			slog.Int("attempt", e.Attempt),
			slog.String("outcome", e.Outcome.String()),
			unlessZero("won", e.Won, slog.Bool),
			slog.Duration("duration", e.Duration),
			unlessZero("panicked", e.Panicked, slog.Bool),
			logError(e.Err))
	}
}

func logBulkhead(h Header) slog.Attr   { return slog.String("bulkhead", h.Name) }
func logBulkheadID(h Header) slog.Attr { return slog.Uint64("bulkhead_id", h.ID) }
