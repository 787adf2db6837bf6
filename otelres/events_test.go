package otelres_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

const (
	eScheduled   = "resilience.retry.scheduled"
	eRejected    = "resilience.circuit_breaker.call_rejected"
	eStateChange = "resilience.circuit_breaker.state_change"
	eExhausted   = "resilience.retry.exhausted"
)

// eventful runs an operation under a span in which every kind of event happens: a
// wait, a state change, a rejection, and at last the attempts are used up.
func eventful(t *testing.T, k *kit) {
	t.Helper()
	ctx, root := k.tracers.Tracer("application").Start(t.Context(), "POST /orders")
	b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "gateway", VolumeThreshold: 1, Events: k.sink})
	r := resilience.NewRetrier(&resilience.RetryConfig{
		Name: "payment", MaxAttempts: 2, InitialDelay: time.Nanosecond, Events: k.sink,
		RetryIf: func(error) bool { return true }, // rejections too
	})
	_ = resilience.Chain(r, b).Run(ctx, func(context.Context) error { return errDown })
	root.End()
	b.Close()
}

// spanEvents returns the names of events by span.
func spanEvents(k *kit) map[string][]string {
	found := make(map[string][]string)
	for _, s := range k.spans.Ended() {
		for _, e := range s.Events() {
			found[s.Name()] = append(found[s.Name()], e.Name)
		}
	}
	return found
}

func TestEventModes(t *testing.T) {
	onSpans := map[string][]string{"retry payment": {eScheduled}, "attempt payment": {eStateChange, eRejected}}
	rare := []string{eStateChange, eExhausted}
	all := []string{eStateChange, eScheduled, eRejected, eExhausted}
	for _, c := range []struct {
		name   string
		mode   otelres.Events
		logger bool
		spans  map[string][]string
		logs   []string
	}{
		{"Auto", otelres.Auto, false, onSpans, nil},
		{"Auto with a LoggerProvider", otelres.Auto, true, onSpans, rare},
		{"SpanEvents", otelres.SpanEvents, true, onSpans, nil},
		{"Logs", otelres.Logs, true, map[string][]string{}, all},
		{"Both", otelres.Both, true, onSpans, all},
	} {
		t.Run(c.name, func(t *testing.T) {
			loggers, records := newLogs(0)
			opts := []otelres.Option{otelres.WithEvents(c.mode)}
			if c.logger {
				opts = append(opts, otelres.WithLoggerProvider(loggers))
			}
			k := newKit(t, opts...)
			eventful(t, k)
			require.Equal(t, c.spans, spanEvents(k))
			require.Equal(t, c.logs, records.names())
		})
	}
}

func TestLogRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loggers, records := newLogs(0)
		k := newKit(t, otelres.WithLoggerProvider(loggers), otelres.WithEvents(otelres.Logs))
		began := time.Now()
		eventful(t, k)
		byName := make(map[string]*sdklog.Record)
		for _, r := range records.all() {
			byName[r.EventName()] = &r
			require.Equal(t, began, r.Timestamp(), r.EventName())
			require.NotEmpty(t, r.Body().AsString(), r.EventName())
			require.Equal(t, otelres.ScopeName, r.InstrumentationScope().Name)
			require.Equal(t, otelres.Version, r.InstrumentationScope().Version)
			require.Equal(t, k.ended(t, "retry payment").SpanContext().TraceID(), r.TraceID(), r.EventName())
			require.True(t, r.TraceFlags().IsSampled(), r.EventName())
		}
		operation := k.ended(t, "retry payment").SpanContext().SpanID()
		attempts := make(map[string]string) // number by span id
		for _, s := range k.spans.Ended() {
			attempts[s.SpanContext().SpanID().String()] = attributeMap(s.Attributes())["resilience.retry.attempt.number"]
		}
		require.Equal(t, operation, byName[eScheduled].SpanID())
		require.Equal(t, operation, byName[eExhausted].SpanID())
		require.Equal(t, "1", attempts[byName[eStateChange].SpanID().String()])
		require.Equal(t, "2", attempts[byName[eRejected].SpanID().String()])

		for name, want := range map[string]struct {
			severity   log.Severity
			text       string
			attributes map[string]string
		}{
			eScheduled: {log.SeverityDebug, "DEBUG", map[string]string{
				"resilience.retry.name": "payment", "resilience.retry.attempt.number": "2", "resilience.retry.delay": "1e-09",
				"error.type": "*errors.errorString",
			}},
			eRejected: {log.SeverityDebug, "DEBUG", map[string]string{
				"resilience.circuit_breaker.name": "gateway", "resilience.circuit_breaker.state": "open",
				"resilience.circuit_breaker.retry_after": "30",
			}},
			eStateChange: {log.SeverityWarn, "WARN", map[string]string{
				"resilience.circuit_breaker.name": "gateway", "resilience.circuit_breaker.previous_state": "closed",
				"resilience.circuit_breaker.state": "open", "resilience.circuit_breaker.transition.reason": "error_rate",
				"resilience.circuit_breaker.failure.ratio": "1",
			}},
			eExhausted: {log.SeverityWarn, "WARN", map[string]string{
				"resilience.retry.name": "payment", "resilience.retry.attempt.count": "2", "resilience.retry.total_delay": "0",
				"error.type": "circuit_open",
			}},
		} {
			r := byName[name]
			require.Equal(t, want.severity, r.Severity(), name)
			require.Equal(t, want.text, r.SeverityText(), name)
			require.Equal(t, want.attributes, recordAttributes(*r), name)
		}
	})
}

// A change to open is a warning, any other is information; the time is the
// event's, also when a timer's goroutine delivers it without a span.
func TestStateChangeSeverity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loggers, records := newLogs(0)
		k := newKit(t, otelres.WithLoggerProvider(loggers))
		began := time.Now()
		b := breaker(k, "gateway")
		fail(b, 2)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		succeed(b, 1)
		b.ForceOpen()
		b.ForceClosed()
		b.Close()
		var got []string
		for _, r := range records.all() {
			a := recordAttributes(r)
			got = append(got, r.SeverityText()+" "+a["resilience.circuit_breaker.previous_state"]+" "+
				a["resilience.circuit_breaker.state"]+" "+a["resilience.circuit_breaker.transition.reason"]+" "+
				r.Timestamp().Sub(began).String())
		}
		require.Equal(t, []string{
			"WARN closed open error_rate 0s",
			"INFO open half_open sleep_window_elapsed 30s",
			"INFO half_open closed probes_passed 31s",
			"WARN closed forced_open forced 31s",
			"INFO forced_open forced_closed forced 31s",
		}, got)
		require.False(t, records.all()[1].TraceID().IsValid())
		_, hasRatio := recordAttributes(records.all()[1])["resilience.circuit_breaker.failure.ratio"]
		require.False(t, hasRatio, "an open breaker has no calls to have a ratio of")
	})
}

// A logger that does not want a severity is not given it.
func TestLogsAskWhetherEnabled(t *testing.T) {
	loggers, records := newLogs(log.SeverityWarn)
	named := 0
	k := newKit(t, otelres.WithLoggerProvider(loggers), otelres.WithEvents(otelres.Logs), otelres.WithSpans(otelres.Off),
		otelres.WithErrorType(func(error) string { named++; return "x" }))
	eventful(t, k)
	require.Equal(t, []string{eStateChange, eExhausted}, records.names())
	require.Equal(t, 1, named, "attributes are built only for what is enabled")
}

// A retry that ends for another reason has attempts left.
func TestExhaustedIsExhausted(t *testing.T) {
	loggers, records := newLogs(0)
	k := newKit(t, otelres.WithLoggerProvider(loggers))
	_ = retrier(k.sink).Run(t.Context(), func(context.Context) error { return resilience.Permanent(errDown) })
	require.Empty(t, records.all())
}

// In every mode of spans the events are on the span that is nearest.
func TestEventsWithoutOperationSpan(t *testing.T) {
	k := newKit(t, otelres.WithSpans(otelres.Off))
	eventful(t, k)
	require.Equal(t, map[string][]string{"POST /orders": {eStateChange, eScheduled, eRejected}}, spanEvents(k))

	k = newKit(t, otelres.WithSpans(otelres.Operations))
	eventful(t, k)
	require.Equal(t, map[string][]string{"retry payment": {eStateChange, eScheduled, eRejected}}, spanEvents(k))
}

// After Shutdown nothing is told.
func TestNoEventsAfterShutdown(t *testing.T) {
	loggers, records := newLogs(0)
	k := newKit(t, otelres.WithLoggerProvider(loggers), otelres.WithEvents(otelres.Both))
	require.NoError(t, k.Shutdown(t.Context()))
	eventful(t, k)
	require.Empty(t, records.all())
	require.Empty(t, spanEvents(k))
	for _, s := range k.spans.Ended() {
		require.Equal(t, "POST /orders", s.Name())
		require.Empty(t, s.Attributes())
	}
	eachPoint(k.collect(t), func(m metricdata.Metrics, attrs attribute.Set) {
		require.Fail(t, "a data point", "%s %s", m.Name, label(attrs))
	})
}
