package otelres

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/events"
)

// Span names, each followed by the name of the retry, the breaker or the hedge.
const (
	spanRetry   = "retry "
	spanAttempt = "attempt "
	spanBreaker = "circuit_breaker "
	spanHedge   = "hedge "
)

// keep returns ctx with span as what the matching …Finished event will end. The
// current span will not do: another sink may have put its own on top. The
// Telemetry is the key, so that two of them do not end each other's spans.
func (t *Telemetry) keep(ctx context.Context, span trace.Span) context.Context {
	return context.WithValue(ctx, t, span)
}

// kept returns the span that was kept last, or nil.
func (t *Telemetry) kept(ctx context.Context) trace.Span {
	span, _ := ctx.Value(t).(trace.Span)
	return span
}

// untraced returns ctx for work that gets no span. One of an enclosing operation
// must not be mistaken for it.
func (t *Telemetry) untraced(ctx context.Context) context.Context {
	if t.closed.Load() && t.kept(ctx) != nil {
		return t.keep(ctx, nil)
	}
	return ctx
}

func (t *Telemetry) start(ctx context.Context, name string, attrs ...attribute.KeyValue) context.Context {
	ctx = t.around(ctx)
	ctx, span := t.tracer.Start(ctx, exportable(name),
		trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(t.with(attrs...)...))
	return t.keep(ctx, span)
}

// startLinked is start with links to other spans.
func (t *Telemetry) startLinked(ctx context.Context, links []trace.Link, name string, attrs ...attribute.KeyValue) context.Context {
	ctx = t.around(ctx)
	ctx, span := t.tracer.Start(ctx, exportable(name), trace.WithLinks(links...),
		trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(t.with(attrs...)...))
	return t.keep(ctx, span)
}

func (t *Telemetry) startOperation(ctx context.Context, e events.RetryStarted) context.Context {
	return t.start(ctx, spanRetry+e.Name,
		keyRetryName.String(exportable(e.Name)),
		keyMaxAttempts.Int(e.MaxAttempts))
}

func (t *Telemetry) finishOperation(ctx context.Context, e *events.RetryFinished) {
	span := t.kept(ctx)
	if span == nil {
		return
	}
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		keyAttemptCount.Int(e.Attempts),
		keyRetryOutcome.String(retryOutcomeOf(e.Reason).String()),
		keyRetryReason.String(string(e.Reason)),
		keyTotalDelay.Float64(e.Delay.Seconds()))
	panicked := e.Reason == events.ReasonPanic
	if e.Err != nil || panicked {
		span.SetAttributes(t.errorTypes.of(e.Err, panicked))
	}
	if e.Outcome == events.OutcomeFailure || e.Outcome == events.OutcomeRejected {
		span.SetStatus(codes.Error, string(e.Reason))
	}
}

// operationSpan returns the span of the operation that ctx is of, or the current
// one where operations have none.
func (t *Telemetry) operationSpan(ctx context.Context) trace.Span {
	if span := t.kept(ctx); span != nil && t.spans != Off {
		return span
	}
	return trace.SpanFromContext(ctx)
}

func (t *Telemetry) startAttempt(ctx context.Context, e events.AttemptStarted) context.Context {
	attrs := [4]attribute.KeyValue{
		keyRetryName.String(exportable(e.Name)),
		keyAttemptNumber.Int(e.Attempt),
		keyAttemptKind.String(kindOf(e.Attempt).String()),
		keyDelay.Float64(e.Delay.Seconds()),
	}
	if kindOf(e.Attempt) == kindInitial {
		return t.start(ctx, spanAttempt+e.Name, attrs[:3]...) // nothing was waited for
	}
	return t.start(ctx, spanAttempt+e.Name, attrs[:]...)
}

func (t *Telemetry) finishAttempt(ctx context.Context, e *events.AttemptFinished) {
	span := t.kept(ctx)
	if span == nil {
		return
	}
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		keyAttemptOutcome.String(e.Outcome.String()),
		keyAttemptDecision.String(string(e.Decision)))
	t.fail(span, e.Outcome, e.Err, e.Panicked)
}

func (t *Telemetry) startCall(ctx context.Context, e events.CallStarted) context.Context {
	return t.start(ctx, spanBreaker+e.Name,
		keyBreakerName.String(exportable(e.Name)),
		keyBreakerState.String(statusOfCall(e.State, e.WouldReject).String()))
}

// statusOfCall is the status in which a call was admitted.
func statusOfCall(s events.State, wouldReject bool) events.Status {
	status := events.StatusOf(s, false)
	if wouldReject {
		return status.Shadowed()
	}
	return status
}

// finishCall ends the span of a call, or describes the breaker on the span that is
// current where calls have none.
func (t *Telemetry) finishCall(ctx context.Context, e *events.CallFinished) {
	if !t.breakerSpans {
		if span := trace.SpanFromContext(ctx); span.IsRecording() && !t.closed.Load() {
			t.describeBreaker(span, e.Name, statusOfCall(e.State, e.WouldReject))
		}
		return
	}
	span := t.kept(ctx)
	if span == nil {
		return
	}
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(keyCallOutcome.String(e.Outcome.String()))
	t.fail(span, e.Outcome, e.Err, e.Panicked)
}

// fail says on an attempt's or a call's span what went wrong, if anything did.
func (t *Telemetry) fail(span trace.Span, outcome events.Outcome, err error, panicked bool) {
	if err != nil || panicked {
		span.SetAttributes(t.errorTypes.of(err, panicked))
	}
	if outcome == events.OutcomeFailure || outcome == events.OutcomeRejected {
		span.SetStatus(codes.Error, "")
	}
}

// describeBreaker puts the breaker's name and state on a span of others.
func (t *Telemetry) describeBreaker(span trace.Span, name string, status events.Status) {
	if s := t.breakers.series(name); s.name == name {
		span.SetAttributes(s.onSpan[status]...)
		return
	}
	span.SetAttributes(onSpan(exportable(name), status)...)
}

func onSpan(name string, status events.Status) []attribute.KeyValue {
	return []attribute.KeyValue{keyBreakerName.String(name), keyBreakerState.String(status.String())}
}
