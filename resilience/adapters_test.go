package resilience_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// record is one call of a Logger.
type record struct {
	level, msg string
	fields     map[string]any
}

type recordingLogger struct{ records []record }

func (l *recordingLogger) Info(msg string, fields map[string]any) {
	l.records = append(l.records, record{"info", msg, fields})
}

func (l *recordingLogger) Error(msg string, fields map[string]any) {
	l.records = append(l.records, record{"error", msg, fields})
}

func TestLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		l := &recordingLogger{}
		c.Logger = l
		cb := resilience.NewCircuitBreaker(c)
		runScript(t, cb, "sfff")
		requireRejected(t, cb)
		pass(30 * time.Second)
		succeedIn(t, cb, 2)
		cb.ForceOpen()
		type fields = map[string]any
		require.Equal(t, []record{
			{"error", "circuit breaker open", fields{
				"name": "payment", "from": "closed", "to": "open", "reason": "error_rate", "forced": false,
				"generation": uint64(2), "failures": uint64(3), "volume": uint64(4), "error_rate": 0.75,
			}},
			{"info", "circuit breaker half-open", fields{
				"name": "payment", "from": "open", "to": "half-open", "reason": "sleep_window_elapsed", "forced": false,
				"generation": uint64(3),
			}},
			{"info", "circuit breaker closed", fields{
				"name": "payment", "from": "half-open", "to": "closed", "reason": "probes_passed", "forced": false,
				"generation": uint64(4),
			}},
			{"error", "circuit breaker open", fields{
				"name": "payment", "from": "closed", "to": "open", "reason": "forced", "forced": true,
				"generation": uint64(5), "failures": uint64(0), "volume": uint64(0), "error_rate": 0.0,
			}},
		}, l.records)
	})
}

// A breaker in shadow mode must not look as if it turned anybody away, nor wake anybody.
func TestLoggerAndMetricsInShadowMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		l, m := &recordingLogger{}, &rejectionCollector{}
		c.Logger, c.Metrics, c.Shadow = l, m, true
		cb := resilience.NewCircuitBreaker(c)
		runScript(t, cb, "sfff")
		succeedIn(t, cb, 1)
		pass(30 * time.Second)
		cb.ForceOpen()
		cb.ClearForce()
		cb.Reset()
		require.Equal(t, []string{
			"success:payment", "failure:payment*errors.errorString", "failure:payment*errors.errorString",
			"change:paymentclosedshadow-open", "failure:payment*errors.errorString", "success:payment",
			"change:paymentshadow-openshadow-half-open", "change:paymentshadow-half-openopen",
			"change:paymentopenshadow-open", "change:paymentshadow-openclosed",
		}, m.seen)
		var told []string
		for _, r := range l.records {
			require.Equal(t, true, r.fields["shadow"])
			told = append(told, r.level+" "+r.msg)
		}
		require.Equal(t, []string{
			"info circuit breaker shadow-open", "info circuit breaker shadow-half-open",
			"error circuit breaker open", "info circuit breaker shadow-open", "info circuit breaker closed",
		}, told)
		require.Equal(t, uint64(3), l.records[0].fields["failures"])
	})
}

// collector is the interface of three methods and no more.
type collector struct {
	mu   sync.Mutex
	seen []string
}

func (c *collector) RecordSuccess(name string) { c.add("success", name) }
func (c *collector) RecordFailure(name, errorType string) {
	c.add("failure", name, errorType)
}
func (c *collector) RecordStateChange(name, from, to string) { c.add("change", name, from, to) }

func (c *collector) add(what string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, fmt.Sprint(append([]any{what + ":"}, args...)...))
}

// rejectionCollector has the optional fourth.
type rejectionCollector struct{ collector }

func (c *rejectionCollector) RecordRejection(name string) { c.add("rejection", name) }

// typedError says what type it is.
type typedError struct{ error }

func (typedError) ErrorType() string { return "teapot" }

func TestMetricsCollector(t *testing.T) {
	run := func(t *testing.T, m resilience.MetricsCollector) {
		c := small()
		c.Metrics, c.VolumeThreshold = m, 6
		cb := resilience.NewCircuitBreaker(c)
		runScript(t, cb, "sifp")
		_ = cb.Execute(t.Context(), func() error { return typedError{errBroken} })
		_ = cb.Execute(t.Context(), func() error { return context.DeadlineExceeded })
		failIn(t, cb, 1)
		requireRejected(t, cb)
		cb.ForceOpen() // shows no change of state
		pass(30 * time.Second)
		cb.Reset()
	}
	want := []string{
		"success:payment", "failure:payment*errors.errorString", "failure:paymentpanic", "failure:paymentteapot",
		"failure:paymenttimeout", "change:paymentclosedopen", "failure:payment*errors.errorString",
	}
	t.Run("three methods", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := &collector{}
			run(t, m)
			require.Equal(t, append(want, "change:paymentopenclosed"), m.seen)
		})
	})
	t.Run("and rejections", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := &rejectionCollector{}
			run(t, m)
			require.Equal(t, append(want, "rejection:payment", "change:paymentopenclosed"), m.seen)
		})
	})
}

// The classic collectors are told beside Events, after it.
func TestAdaptersBesideEvents(t *testing.T) {
	var order []string
	c := small(events.Sink{StateChanged: func(context.Context, events.StateChanged) { order = append(order, "events") }})
	c.Logger = funcLogger(func() { order = append(order, "logger") })
	c.Metrics = funcMetrics(func() { order = append(order, "metrics") })
	cb := resilience.NewCircuitBreaker(c)
	cb.OnStateChange(func(_, _ resilience.CircuitState) { order = append(order, "listener") })
	cb.ForceOpen()
	require.Equal(t, []string{"events", "metrics", "logger", "listener"}, order)
}
