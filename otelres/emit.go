package otelres

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/trace"
)

// exit is where an event leaves: as an event of a span, as a log record, or both.
type exit struct {
	span     trace.Span // nil: not as a span event
	log      bool
	severity log.Severity
}

// exit returns where an event leaves, by the mode and its row in the table, and
// whether it leaves at all. To be asked before attributes are built.
func (t *Telemetry) exit(ctx context.Context, id eventID, span trace.Span, s log.Severity) (exit, bool) {
	def := &eventTable[id]
	x := exit{severity: s}
	if t.spanEvents && def.spanEvent && span.IsRecording() {
		x.span = span
	}
	x.log = t.logs(def) && t.logger.Enabled(ctx, log.EnabledParameters{Severity: s, EventName: def.name})
	return x, x.span != nil || x.log
}

// logs reports whether the mode makes log records of the event.
func (t *Telemetry) logs(def *eventDef) bool {
	switch t.eventMode {
	case SpanEvents:
		return false
	case Auto:
		return t.logging && !def.frequent
	default: // Logs, Both
		return true
	}
}

// emit is the one way out for events. Span events are on their way out of
// OpenTelemetry in favour of log records; when they are gone, this is the place.
func (t *Telemetry) emit(ctx context.Context, id eventID, x exit, at time.Time, attrs ...attribute.KeyValue) {
	def := &eventTable[id]
	attrs = t.with(attrs...)
	if x.span != nil {
		x.span.AddEvent(def.name, trace.WithTimestamp(at), trace.WithAttributes(attrs...))
	}
	if x.log {
		var r log.Record
		r.SetEventName(def.name)
		r.SetTimestamp(at)
		r.SetSeverity(x.severity)
		r.SetSeverityText(x.severity.String())
		r.SetBody(attribute.StringValue(def.brief))
		r.AddAttributes(attrs...)
		t.logger.Emit(ctx, r)
	}
}
