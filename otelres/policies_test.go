package otelres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// observedOfBulkheads are the metrics that end with a bulkhead.
var observedOfBulkheads = []string{mBulkheadInFlight, mBulkheadQueued, mBulkheadLimit, mBulkheadCalls}

func bulkhead(k *kit, name string) *resilience.Bulkhead {
	return resilience.NewBulkhead(&resilience.BulkheadConfig{Name: name, MaxConcurrent: 2, MaxQueue: 1, Events: k.sink})
}

// A policy's series exist from its birth on, with value 0.
func TestPoliciesAreSeeded(t *testing.T) {
	k := newKit(t)
	resilience.NewTimeout(&resilience.TimeoutConfig{Name: "a", Events: k.sink})
	resilience.NewRateLimit(&resilience.RateLimitConfig{Name: "b", Allow: tokens(nil), Events: k.sink})
	resilience.NewFallback(&resilience.FallbackConfig[int]{Name: "c", Value: func(context.Context, error) (int, error) { return 0, nil }, Events: k.sink})
	resilience.NewHedge(&resilience.HedgeConfig{Name: "d", Events: k.sink})
	bulkhead(k, "e")
	rm := k.collect(t)
	require.Equal(t, map[string]float64{"name=a": 0}, series(rm, mTimeoutExpired))
	require.Equal(t, map[string]float64{"name=b,outcome=admitted": 0, "name=b,outcome=rejected": 0, "name=b,outcome=canceled": 0}, series(rm, mRateLimited))
	require.Equal(t, map[string]float64{"name=c,outcome=success": 0, "name=c,outcome=failure": 0}, series(rm, mFallbackUsed))
	hedges := make(map[string]float64)
	for _, kind := range []string{"initial", "hedge"} {
		for _, outcome := range []string{"won", "lost", "failure", "rejected"} {
			hedges[fmt.Sprintf("kind=%s,outcome=%s,name=d", kind, outcome)] = 0
		}
	}
	require.Equal(t, hedges, series(rm, mHedgeAttempts))
	require.Equal(t, map[string]float64{"outcome=admitted,name=e": 0, "outcome=rejected,name=e": 0, "outcome=canceled,name=e": 0}, series(rm, mBulkheadCalls))
	require.Equal(t, map[string]float64{"name=e": 2}, series(rm, mBulkheadLimit))
	for _, m := range []string{mBulkheadWait, mRateLimitWait, mHedgeDelay} {
		require.Empty(t, series(rm, m), "histograms begin with their first value")
	}
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 0}, series(rm, mDropped))
}

// Gauges of a bulkhead are true at each collection, without a call.
func TestBulkheadMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		a, twin := bulkhead(k, "gateway"), bulkhead(k, "gateway")
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { _ = a.Run(t.Context(), lasting(time.Second, nil)) })
		}
		wg.Go(func() { _ = twin.Run(t.Context(), lasting(time.Second, nil)) })
		synctest.Wait()
		rm := k.collect(t)
		require.Equal(t, map[string]float64{"name=gateway": 3}, series(rm, mBulkheadInFlight), "both together")
		require.Equal(t, map[string]float64{"name=gateway": 1}, series(rm, mBulkheadQueued))
		require.Equal(t, map[string]float64{"name=gateway": 4}, series(rm, mBulkheadLimit))
		want := map[string]float64{"outcome=admitted,name=gateway": 3, "outcome=rejected,name=gateway": 1, "outcome=canceled,name=gateway": 0}
		require.Equal(t, want, series(rm, mBulkheadCalls))
		wg.Wait()
		rm = k.collect(t)
		require.Equal(t, map[string]float64{"name=gateway": 0}, series(rm, mBulkheadInFlight))
		require.Equal(t, map[string]float64{"outcome=admitted,name=gateway": 1}, series(rm, mBulkheadWait))
		want["outcome=admitted,name=gateway"] = 4
		require.Equal(t, want, series(rm, mBulkheadCalls))

		// The series end with the last one, and no sum goes back when it is born again.
		a.Close()
		require.Equal(t, want, series(k.collect(t), mBulkheadCalls))
		twin.Close()
		rm = k.collect(t)
		for _, m := range observedOfBulkheads {
			require.Empty(t, series(rm, m), m)
		}
		again := bulkhead(k, "gateway")
		_ = again.Run(t.Context(), lasting(0, nil))
		want["outcome=admitted,name=gateway"] = 5
		require.Equal(t, want, series(k.collect(t), mBulkheadCalls))
		require.NoError(t, k.Shutdown(t.Context()))
		require.Empty(t, series(k.collect(t), mBulkheadCalls))
	})
}

func TestHedgeMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		h := hedge(k.sink)
		require.NoError(t, h.Run(t.Context(), lasting(time.Millisecond, nil)))
		require.NoError(t, h.Run(t.Context(), inTurn(lasting(time.Minute, nil), lasting(time.Second, errDown), lasting(time.Millisecond, nil))))
		require.Error(t, h.Run(t.Context(), lasting(time.Millisecond, errDown)))
		rm := k.collect(t)
		require.Equal(t, map[string]float64{
			"kind=initial,outcome=won,name=search": 1, "kind=initial,outcome=lost,name=search": 1, "kind=initial,outcome=failure,name=search": 1,
			"kind=hedge,outcome=won,name=search": 1, "kind=hedge,outcome=lost,name=search": 1,
		}, nonZero(series(rm, mHedgeAttempts)))
		require.Equal(t, map[string]float64{"name=search": 2}, series(rm, mHedgeDelay))
	})
}

// What policies have to say goes where events go, by the mode.
func TestPolicyEventsByMode(t *testing.T) {
	for _, tt := range []struct {
		mode   otelres.Events
		onSpan bool
		logs   bool
	}{{otelres.Auto, true, false}, {otelres.SpanEvents, true, false}, {otelres.Logs, false, true}, {otelres.Both, true, true}} {
		synctest.Test(t, func(t *testing.T) {
			loggers, records := newLogs(0)
			k := newKit(t, otelres.WithLoggerProvider(loggers), otelres.WithEvents(tt.mode))
			ctx, span := k.tracers.Tracer("application").Start(t.Context(), "GET /")
			everyPolicyHappens(ctx, k.sink)
			span.End()
			all := map[string]bool{
				"resilience.timeout.expired": true, "resilience.bulkhead.waited": true, "resilience.bulkhead.call_rejected": true,
				"resilience.rate_limit.limited": true, "resilience.fallback.used": true,
			}
			onSpan, logged := make(map[string]bool), make(map[string]bool)
			for _, e := range k.ended(t, "GET /").Events() {
				onSpan[e.Name] = true
			}
			for _, name := range records.names() {
				logged[name] = true
			}
			for got, want := range map[*map[string]bool]bool{&onSpan: tt.onSpan, &logged: tt.logs} {
				if want {
					require.Equal(t, all, *got, "%v", tt.mode)
				} else {
					require.Empty(t, *got, "%v", tt.mode)
				}
			}
		})
	}
}

// The work of each attempt of a hedge runs in the attempt's span.
func TestWorkRunsInHedgeSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		var mu sync.Mutex
		inside := make(map[trace.SpanID]bool)
		work := inTurn(lasting(time.Minute, nil), lasting(time.Millisecond, nil))
		require.NoError(t, hedge(k.sink).Run(t.Context(), func(ctx context.Context) error {
			mu.Lock()
			inside[trace.SpanContextFromContext(ctx).SpanID()] = true
			mu.Unlock()
			return work(ctx)
		}))
		require.Len(t, inside, 2)
		for _, s := range k.spans.Ended() {
			require.Equal(t, "hedge search", s.Name())
			require.True(t, inside[s.SpanContext().SpanID()])
		}
	})
}

// Beyond the limit policies share a name, and each birth is counted.
func TestPolicyNameLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, otelres.WithNameLimit(2))
		var all []*resilience.Bulkhead
		for i := range 5 {
			name := fmt.Sprint("policy-", i)
			to := resilience.NewTimeout(&resilience.TimeoutConfig{Name: name, Limit: time.Second, Events: k.sink})
			_ = to.Run(t.Context(), lasting(time.Minute, nil))
			b := bulkhead(k, name)
			_ = b.Run(t.Context(), lasting(0, nil))
			all = append(all, b)
		}
		rm := k.collect(t)
		require.Equal(t, map[string]float64{"name=policy-0": 1, "name=policy-1": 1, "name=_OTHER": 3}, series(rm, mTimeoutExpired))
		require.Equal(t, map[string]float64{"name=policy-0": 2, "name=policy-1": 2, "name=_OTHER": 6}, series(rm, mBulkheadLimit))
		require.Equal(t, map[string]float64{"drop_reason=cardinality": 6}, series(rm, mDropped))
		for _, b := range all {
			b.Close()
		}
		require.Empty(t, series(k.collect(t), mBulkheadLimit))
	})
}

// 10 000 policies of as many names keep every instrument within the SDK's limit.
func TestBurstOf10000Policies(t *testing.T) {
	k := newKit(t)
	for i := range 10_000 {
		name := fmt.Sprint("policy-", i)
		for kind := range events.PolicyKind(events.PolicyKindCount) {
			k.sink.PolicyCreated(t.Context(), events.PolicyCreated{Header: events.Header{Name: name}, Policy: kind})
		}
		h := events.Header{Name: name}
		k.sink.RateLimited(t.Context(), events.RateLimited{Header: h, Duration: time.Second})
		ctx := k.sink.HedgeAttemptStarted(t.Context(), events.HedgeAttemptStarted{Header: h, Attempt: 2, Delay: time.Second})
		k.sink.HedgeAttemptFinished(ctx, events.HedgeAttemptFinished{Header: h, Attempt: 2, Won: true})
	}
	n := points(t, k.collect(t))
	require.Equal(t, 101, n[mTimeoutExpired])
	require.Equal(t, 303, n[mRateLimited])
	require.Equal(t, 202, n[mFallbackUsed])
	require.Equal(t, 808, n[mHedgeAttempts])
	require.Equal(t, 101, n[mHedgeDelay])
	require.Equal(t, 9_900., series(k.collect(t), mRateLimited)["name=_OTHER,outcome=admitted"])
}

// After Shutdown nothing of a policy makes anything, and a span under way is ended.
func TestShutdownWithinAHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		require.NoError(t, hedge(k.sink).Run(t.Context(), func(ctx context.Context) error {
			require.NoError(t, k.Shutdown(ctx))
			everyPolicyHappens(ctx, k.sink)
			bulkhead(k, "late")
			return nil
		}))
		require.Len(t, k.spans.Started(), 1)
		k.ended(t, "hedge search")
		require.Empty(t, nonZero(series(k.collect(t), mHedgeAttempts)))
	})
}
