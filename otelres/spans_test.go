package otelres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

var errDown = errors.New("the secret text of an error")

// failTimes returns work of 20 ms that fails n times and then succeeds.
func failTimes(n int) func(context.Context) error {
	return func(context.Context) error {
		time.Sleep(20 * time.Millisecond)
		if n--; n >= 0 {
			return errDown
		}
		return nil
	}
}

func retrier(sink events.Sink) *resilience.Retrier {
	return resilience.NewRetrier(&resilience.RetryConfig{Name: "payment", InitialDelay: 180 * time.Millisecond, Events: sink})
}

func openBreaker(sink events.Sink) *resilience.CircuitBreaker {
	b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "gateway", VolumeThreshold: 1, Events: sink})
	_ = b.Execute(context.Background(), func() error { return errDown })
	return b
}

// lasting is work that takes d, unless its context ends before, and then returns err.
func lasting(d time.Duration, err error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inTurn is work that does another thing each time that it is begun.
func inTurn(work ...func(context.Context) error) func(context.Context) error {
	var begun atomic.Int32
	return func(ctx context.Context) error { return work[begun.Add(1)-1](ctx) }
}

func hedge(sink events.Sink) *resilience.Hedge {
	return resilience.NewHedge(&resilience.HedgeConfig{Name: "search", MaxAttempts: 3, Delay: 100 * time.Millisecond, Events: sink})
}

// goldenCases are retried operations, each in its own bubble at time zero, under
// a span that an application would have.
var goldenCases = []struct {
	name string
	opts []otelres.Option
	run  func(ctx context.Context, sink events.Sink)
}{
	{name: "success_at_once", run: func(ctx context.Context, sink events.Sink) {
		_ = retrier(sink).Run(ctx, failTimes(0))
	}},
	{name: "success_after_two_retries", run: func(ctx context.Context, sink events.Sink) {
		_ = retrier(sink).Run(ctx, failTimes(2))
	}},
	{name: "exhausted", run: func(ctx context.Context, sink events.Sink) {
		_ = retrier(sink).Run(ctx, failTimes(3))
	}},
	{name: "not_retryable", run: func(ctx context.Context, sink events.Sink) {
		_ = retrier(sink).Run(ctx, func(context.Context) error { return resilience.Permanent(errDown) })
	}},
	{name: "rejected_by_open_breaker", run: func(ctx context.Context, sink events.Sink) {
		_ = resilience.Chain(retrier(sink), openBreaker(sink)).Run(ctx, failTimes(0))
	}},
	{name: "cancelled_during_the_wait", run: func(ctx context.Context, sink events.Sink) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(50*time.Millisecond, cancel)
		_ = retrier(sink).Run(ctx, failTimes(1))
	}},
	{name: "deadline_stop", run: func(ctx context.Context, sink events.Sink) {
		ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_ = retrier(sink).Run(ctx, failTimes(1))
	}},
	{name: "panic", run: func(ctx context.Context, sink events.Sink) {
		defer func() { _ = recover() }()
		_ = retrier(sink).Run(ctx, func(context.Context) error { panic("boom") })
	}},
	{name: "goexit", run: func(ctx context.Context, sink events.Sink) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = retrier(sink).Run(ctx, func(context.Context) error { runtime.Goexit(); return nil })
		}()
		<-ended
	}},
	{name: "retry_after", run: func(ctx context.Context, sink events.Sink) {
		first := true
		_ = retrier(sink).Run(ctx, func(context.Context) error {
			if !first {
				return resilience.RetryAfter(errDown, time.Minute)
			}
			first = false
			return resilience.RetryAfter(errDown, 3*time.Second)
		})
	}},
	{name: "opening_breaker_inside", run: func(ctx context.Context, sink events.Sink) {
		b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "gateway", VolumeThreshold: 2, Events: sink})
		_ = resilience.Chain(retrier(sink), b).Run(ctx, failTimes(3))
	}},
	{name: "operations_only", opts: []otelres.Option{otelres.WithSpans(otelres.Operations)}, run: func(ctx context.Context, sink events.Sink) {
		_ = retrier(sink).Run(ctx, failTimes(1))
	}},
	{name: "spans_off", opts: []otelres.Option{otelres.WithSpans(otelres.Off), otelres.WithBreakerSpans()}, run: func(ctx context.Context, sink events.Sink) {
		b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "gateway", Events: sink})
		_ = resilience.Chain(retrier(sink), b).Run(ctx, failTimes(1))
	}},
	{name: "breaker_spans", opts: []otelres.Option{otelres.WithBreakerSpans()}, run: func(ctx context.Context, sink events.Sink) {
		b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "gateway", Events: sink})
		_ = resilience.Chain(retrier(sink), b).Run(ctx, failTimes(1))
		func() {
			defer func() { _ = recover() }()
			_ = b.Run(ctx, func(context.Context) error { panic("boom") })
		}()
	}},
	{name: "hedge_second_wins", run: func(ctx context.Context, sink events.Sink) {
		_ = hedge(sink).Run(ctx, inTurn(lasting(time.Minute, nil), lasting(20*time.Millisecond, nil)))
	}},
	{name: "hedge_not_needed", run: func(ctx context.Context, sink events.Sink) {
		_ = hedge(sink).Run(ctx, lasting(20*time.Millisecond, nil))
	}},
	{name: "hedge_in_retry_all_fail", run: func(ctx context.Context, sink events.Sink) {
		_ = resilience.Chain(retrier(sink), hedge(sink)).Run(ctx, inTurn(
			lasting(150*time.Millisecond, errDown), lasting(70*time.Millisecond, errDown), // both fail
			lasting(time.Minute, nil), lasting(time.Minute, nil), lasting(5*time.Millisecond, nil))) // the third wins
	}},
	{name: "hedge_panics", run: func(ctx context.Context, sink events.Sink) {
		defer func() { _ = recover() }()
		_ = hedge(sink).Run(ctx, inTurn(lasting(time.Minute, nil), func(context.Context) error { panic("boom") }))
	}},
	{name: "hedge_operations_only", opts: []otelres.Option{otelres.WithSpans(otelres.Operations)}, run: func(ctx context.Context, sink events.Sink) {
		_ = resilience.Chain(retrier(sink), hedge(sink)).Run(ctx, inTurn(lasting(time.Minute, nil), lasting(20*time.Millisecond, nil)))
	}},
	{name: "stack_of_policies", run: func(ctx context.Context, sink events.Sink) {
		bulkhead := resilience.NewBulkhead(&resilience.BulkheadConfig{Name: "gateway", MaxConcurrent: 1, MaxQueue: 1, Events: sink})
		go func() { _ = bulkhead.Run(context.Background(), lasting(30*time.Millisecond, nil)) }()
		synctest.Wait()
		tokens := make(tokens, 1)
		time.AfterFunc(10*time.Millisecond, func() { tokens <- struct{}{} })
		time.AfterFunc(time.Second, func() { tokens <- struct{}{} })
		stack := resilience.Chain(
			resilience.NewFallback(&resilience.FallbackConfig[struct{}]{
				Name: "later", Value: func(context.Context, error) (struct{}, error) { return struct{}{}, nil }, Events: sink,
			}),
			retrier(sink),
			resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "gateway", Events: sink}),
			resilience.NewRateLimit(&resilience.RateLimitConfig{Name: "gateway", Wait: tokens, MaxWait: 2 * time.Second, Events: sink}),
			bulkhead,
			resilience.NewTimeout(&resilience.TimeoutConfig{Name: "gateway", Limit: 50 * time.Millisecond, Events: sink}),
		)
		_ = stack.Run(ctx, inTurn(
			lasting(time.Minute, nil),            // waited for a token and a slot, and times out
			lasting(5*time.Millisecond, errDown), // waited for a token
		)) // the third waits for a token in vain
	}},
	{name: "breaker_on_the_current_span", run: func(ctx context.Context, sink events.Sink) {
		b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "gateway", Events: sink})
		_ = b.Run(ctx, failTimes(0))
	}},
}

// TestGoldenSpanTrees compares whole span trees with testdata/spans: names,
// parents, offsets, durations, status, attributes and events.
func TestGoldenSpanTrees(t *testing.T) {
	for _, c := range goldenCases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, c.opts...)
				ctx, root := k.tracers.Tracer("application").Start(t.Context(), "POST /orders")
				began := time.Now()
				c.run(ctx, k.sink)
				root.End()
				require.Equal(t, len(k.spans.Started()), len(k.spans.Ended()), "spans that were started and ended")
				golden(t, filepath.Join("testdata", "spans", c.name+".txt"), tree(k.spans.Ended(), began))
			})
		})
	}
}

// golden compares got with a file, or writes it there with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *otelres.Update {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// tree prints spans as a tree, children in the order they began.
func tree(spans []sdktrace.ReadOnlySpan, began time.Time) string {
	var b strings.Builder
	var branch func(parent trace.SpanID, indent string)
	branch = func(parent trace.SpanID, indent string) {
		children := slices.DeleteFunc(slices.Clone(spans), func(s sdktrace.ReadOnlySpan) bool { return s.Parent().SpanID() != parent })
		slices.SortStableFunc(children, func(x, y sdktrace.ReadOnlySpan) int { return x.StartTime().Compare(y.StartTime()) })
		for _, s := range children {
			fmt.Fprintf(&b, "%s%s  [%s +%s] %s %s", indent, s.Name(), s.StartTime().Sub(began), s.EndTime().Sub(s.StartTime()), s.SpanKind(), s.Status().Code)
			if s.Status().Description != "" {
				fmt.Fprintf(&b, " (%s)", s.Status().Description)
			}
			b.WriteByte('\n')
			attributeLines(&b, indent+"    ", s.Attributes())
			for _, l := range s.Links() {
				i := slices.IndexFunc(spans, func(s sdktrace.ReadOnlySpan) bool { return s.SpanContext().SpanID() == l.SpanContext.SpanID() })
				fmt.Fprintf(&b, "%s  ~ %s  [%s]\n", indent, spans[i].Name(), spans[i].StartTime().Sub(began))
				attributeLines(&b, indent+"      ", l.Attributes)
			}
			for _, e := range s.Events() {
				fmt.Fprintf(&b, "%s  * %s  [%s]\n", indent, e.Name, e.Time.Sub(began))
				attributeLines(&b, indent+"      ", e.Attributes)
			}
			branch(s.SpanContext().SpanID(), indent+"  ")
		}
	}
	branch(trace.SpanID{}, "")
	return b.String()
}

func attributeLines(b *strings.Builder, indent string, attrs []attribute.KeyValue) {
	for _, kv := range attrs {
		fmt.Fprintf(b, "%s%s = %s\n", indent, kv.Key, kv.Value.String())
	}
}

// The context that the work gets carries the attempt's span, so that a client's
// span nests inside and its traceparent differs with each attempt.
func TestWorkRunsInAttemptSpan(t *testing.T) {
	k := newKit(t)
	var inside []trace.SpanContext
	config := &resilience.RetryConfig{Name: "payment", InitialDelay: time.Nanosecond, Events: k.sink}
	_ = resilience.NewRetrier(config).Run(t.Context(), func(ctx context.Context) error {
		inside = append(inside, trace.SpanContextFromContext(ctx))
		return errDown
	})
	var attempts []trace.SpanContext
	for _, s := range k.spans.Ended() {
		if s.Name() == "attempt payment" {
			attempts = append(attempts, s.SpanContext())
		}
	}
	require.Len(t, attempts, 3)
	require.Equal(t, attempts, inside)
}

// A retry inside an attempt of another is a tree of its own in that attempt, and
// the end of the inner one leaves the outer one open.
func TestNestedRetries(t *testing.T) {
	k := newKit(t)
	outer := resilience.NewRetrier(&resilience.RetryConfig{Name: "outer", InitialDelay: time.Nanosecond, Events: k.sink})
	inner := resilience.NewRetrier(&resilience.RetryConfig{Name: "inner", InitialDelay: time.Nanosecond, Events: k.sink})
	_ = outer.Run(t.Context(), func(ctx context.Context) error {
		_ = inner.Run(ctx, func(context.Context) error { return nil })
		require.True(t, trace.SpanFromContext(ctx).IsRecording(), "the outer attempt has ended")
		return nil
	})
	require.Equal(t, k.ended(t, "attempt outer").SpanContext().SpanID(), k.ended(t, "retry inner").Parent().SpanID())
	require.Equal(t, k.ended(t, "retry outer").SpanContext().SpanID(), k.ended(t, "attempt outer").Parent().SpanID())
	require.Equal(t, k.ended(t, "retry inner").SpanContext().SpanID(), k.ended(t, "attempt inner").Parent().SpanID())
}

// Two Telemetry values joined end their own spans, whatever span is current.
func TestJoinedTelemetries(t *testing.T) {
	a, b := newKit(t), newKit(t)
	config := &resilience.RetryConfig{Name: "payment", InitialDelay: time.Nanosecond, Events: events.Join(a.sink, b.sink)}
	_ = resilience.NewRetrier(config).Run(t.Context(), failTimes(1))
	for _, k := range []*kit{a, b} {
		require.Equal(t, "success_after_retry", attributeMap(k.ended(t, "retry payment").Attributes())["resilience.retry.outcome"])
		require.Len(t, k.spans.Ended(), 3)
		require.Equal(t, map[string][]string{"retry payment": {eScheduled}}, spanEvents(k))
		for _, s := range k.spans.Ended() {
			require.NotEmpty(t, attributeMap(s.Attributes())["resilience.retry.name"])
		}
	}
}

// What a breaker says of itself reaches a span of another provider, which is what
// the application's own span may be.
func TestBreakerDescribesForeignSpan(t *testing.T) {
	k, foreign := newKit(t), newKit(t)
	ctx, span := foreign.tracers.Tracer("application").Start(t.Context(), "GET /")
	b := openBreaker(k.sink)
	require.ErrorIs(t, b.Execute(ctx, func() error { return nil }), resilience.ErrCircuitBreakerOpen)
	span.End()
	s := foreign.ended(t, "GET /")
	require.Equal(t, map[string]string{
		"resilience.circuit_breaker.name":  "gateway",
		"resilience.circuit_breaker.state": "open",
	}, attributeMap(s.Attributes()))
	require.Len(t, s.Events(), 1)
	require.Equal(t, "resilience.circuit_breaker.call_rejected", s.Events()[0].Name)
	require.Equal(t, codes.Unset, s.Status().Code)
	require.Empty(t, k.spans.Started())
}

// Without spans the caller's own span gets events, and no attributes.
func TestSpansOffLeavesAttributesAlone(t *testing.T) {
	k := newKit(t, otelres.WithSpans(otelres.Off))
	b := openBreaker(k.sink)
	closed := breaker(k, "closed")
	ctx, span := k.tracers.Tracer("application").Start(t.Context(), "GET /")
	_ = b.Execute(ctx, func() error { return nil })
	_ = closed.Execute(ctx, func() error { return nil })
	span.End()
	s := k.ended(t, "GET /")
	require.Empty(t, s.Attributes())
	require.Len(t, s.Events(), 1)
}

// Forced states are told apart on spans and in events.
func TestForcedOpenOnSpan(t *testing.T) {
	k := newKit(t)
	ctx, span := k.tracers.Tracer("application").Start(t.Context(), "GET /")
	b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "gateway", Events: k.sink})
	b.ForceOpen()
	_ = b.Execute(ctx, func() error { return nil })
	span.End()
	s := k.ended(t, "GET /")
	require.Equal(t, "forced_open", attributeMap(s.Attributes())["resilience.circuit_breaker.state"])
	require.Equal(t, map[string]string{ // no retry_after: a forced breaker will not admit by itself
		"resilience.circuit_breaker.name":  "gateway",
		"resilience.circuit_breaker.state": "forced_open",
	}, attributeMap(s.Events()[0].Attributes))
}

// A name that is not UTF-8 would cost the exporter its batch.
func TestNamesAreMadeUTF8(t *testing.T) {
	k := newKit(t)
	_ = resilience.NewRetrier(&resilience.RetryConfig{Name: "pay\xff", Events: k.sink}).Run(t.Context(), failTimes(0))
	b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "gate\xff", Events: k.sink})
	_ = b.Execute(t.Context(), func() error { return nil })
	require.Equal(t, "pay\uFFFD", attributeMap(k.ended(t, "retry pay\uFFFD").Attributes())["resilience.retry.name"])
	rm := k.collect(t)
	require.Equal(t, 1., series(rm, mCalls)["outcome=success,name=gate\uFFFD"])
	require.Equal(t, 1., series(rm, mCallDuration)["outcome=success,name=gate\uFFFD"])
	require.Equal(t, 1., series(rm, mOperations)["name=pay\uFFFD,outcome=success"])
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 0}, series(rm, mDropped))
}

// After Shutdown, work under way still ends its spans and new work gets none.
func TestShutdownWithinOperation(t *testing.T) {
	k := newKit(t)
	outer := resilience.NewRetrier(&resilience.RetryConfig{Name: "outer", Events: k.sink})
	inner := resilience.NewRetrier(&resilience.RetryConfig{Name: "inner", Events: k.sink})
	_ = outer.Run(t.Context(), func(ctx context.Context) error {
		require.NoError(t, k.Shutdown(ctx))
		_ = inner.Run(ctx, func(context.Context) error { return nil })
		require.Empty(t, k.spans.Ended(), "the inner retry ended a span of the outer one")
		return nil
	})
	require.Len(t, k.spans.Started(), 2)
	k.ended(t, "retry outer")
	k.ended(t, "attempt outer")
}
