package otelres_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/log"

	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

const (
	mWouldReject      = "resilience.circuit_breaker.would_reject"
	mBudgetAvailable  = "resilience.retry.budget.available"
	mBudgetLimit      = "resilience.retry.budget.limit"
	mBudgetOperations = "resilience.retry.budget.operations"
	mBudgetRetries    = "resilience.retry.budget.retries"
)

// A breaker in shadow mode must not look as if it turned anybody away: not by its
// status, its time, its transitions, its rejections or when it was last closed. What it
// would have done is in series of its own, from birth.
func TestShadowModeIsToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loggers, records := newLogs(0)
		k := newKit(t, otelres.WithLoggerProvider(loggers), otelres.WithBreakerSpans())
		config := &resilience.CircuitBreakerConfig{Name: "gateway", VolumeThreshold: 1, HalfOpenRequests: 1, Shadow: true, Events: k.sink}
		b := resilience.NewCircuitBreaker(config)
		require.Equal(t, map[string]float64{"name=gateway": 0}, series(k.collect(t), mWouldReject))
		down := func(context.Context) error { return errDown }
		run := func() { _ = b.Run(t.Context(), down) }
		status := func(state string) {
			t.Helper()
			for key, n := range series(k.collect(t), mStatus) {
				if key == "name=gateway,state="+state {
					require.InDelta(t, 1, n, 0)
				} else {
					require.Zero(t, n, key)
				}
			}
		}
		run()
		status("shadow_open")
		run()
		run()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		status("shadow_half_open")
		time.Sleep(5 * time.Second)
		run()
		status("shadow_open")

		rm := k.collect(t)
		spent := series(rm, mTime)
		require.InDelta(t, 30, spent["name=gateway,state=shadow_open"], 0)
		require.InDelta(t, 5, spent["name=gateway,state=shadow_half_open"], 0)
		require.Zero(t, spent["name=gateway,state=open"]+spent["name=gateway,state=half_open"])
		require.Equal(t, map[string]float64{"name=gateway": 2}, series(rm, mWouldReject))
		require.Equal(t, map[string]float64{
			"outcome=success,name=gateway": 0, "outcome=failure,name=gateway": 4,
			"outcome=ignored,name=gateway": 0, "outcome=rejected,name=gateway": 0,
		}, series(rm, mCalls))
		require.Equal(t, allTransitions("gateway"), series(rm, mTransitions), "none is counted")
		require.Equal(t, map[string]float64{"name=gateway": float64(time.Now().Unix())}, series(rm, mLastClosed))

		states := make(map[string]int)
		for _, s := range k.spans.Ended() {
			states[attributeMap(s.Attributes())["resilience.circuit_breaker.state"]]++
			require.Equal(t, codes.Error, s.Status().Code, "the calls failed")
		}
		require.Equal(t, map[string]int{"closed": 1, "shadow_open": 2, "half_open": 1}, states)
		for _, r := range records.all() {
			require.Equal(t, log.SeverityInfo, r.Severity(), "nothing to warn of")
		}
		require.Len(t, records.all(), 3)

		// What is real from now on is told as real.
		require.NoError(t, b.Reconfigure(&resilience.CircuitBreakerConfig{ErrorThreshold: 0.25, VolumeThreshold: 1}))
		run()
		time.Sleep(10 * time.Second)
		rm = k.collect(t)
		require.InDelta(t, 1, series(rm, mCalls)["outcome=rejected,name=gateway"], 0)
		require.InDelta(t, 10, series(rm, mTime)["name=gateway,state=open"], 0)
		require.InDelta(t, 1, series(rm, mStatus)["name=gateway,state=open"], 0)
		require.InDelta(t, 30, series(rm, mTime)["name=gateway,state=shadow_open"], 0.001, "what was spent stays")
		require.Empty(t, series(rm, mWouldReject), "its presence says that a breaker is in shadow mode")
		require.Equal(t, map[string]float64{"name=gateway": float64(time.Now().Add(-10 * time.Second).Unix())}, series(rm, mLastClosed), "until then nobody was turned away")
		require.Equal(t, map[string]float64{"name=gateway": .25}, series(rm, mFailureThreshold), "the threshold follows")
		b.Close()
		require.Empty(t, series(k.collect(t), mWouldReject))
	})
}

// Breakers that were never in shadow mode have no series of it.
func TestNoSeriesOfShadowModeWithoutIt(t *testing.T) {
	k := newKit(t)
	breaker(k, "gateway")
	rm := k.collect(t)
	require.Empty(t, series(rm, mWouldReject))
	require.Len(t, series(rm, mStatus), 5)
	require.Len(t, series(rm, mTime), 5)
}

// The threshold that is shown is that of the present configuration, the lowest of a name.
func TestThresholdFollowsReconfigure(t *testing.T) {
	k := newKit(t)
	first, second := breaker(k, "gateway"), breaker(k, "gateway")
	at := func(want float64) {
		t.Helper()
		require.Equal(t, map[string]float64{"name=gateway": want}, series(k.collect(t), mFailureThreshold))
	}
	at(.5)
	require.NoError(t, first.Reconfigure(&resilience.CircuitBreakerConfig{ErrorThreshold: .3}))
	at(.3)
	require.NoError(t, first.Reconfigure(&resilience.CircuitBreakerConfig{ErrorThreshold: .9}))
	at(.5)
	second.Close()
	at(.9)
	first.Close()
	require.NoError(t, first.Reconfigure(nil))
	require.Empty(t, series(k.collect(t), mFailureThreshold))
}

// A budget's series are there from birth, tell what it has, and end with it; those of
// one name are sums.
func TestBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		newBudget := func(name string) *resilience.RetryBudget {
			return resilience.NewRetryBudget(&resilience.BudgetConfig{Name: name, Events: k.sink})
		}
		first := newBudget("payment")
		expect := func(available, limit, operations, granted, refused float64) {
			t.Helper()
			rm := k.collect(t)
			require.InDelta(t, available, series(rm, mBudgetAvailable)["name=payment"], 1e-9)
			require.InDelta(t, limit, series(rm, mBudgetLimit)["name=payment"], 1e-9)
			require.Equal(t, map[string]float64{"name=payment": operations}, series(rm, mBudgetOperations))
			require.Equal(t, map[string]float64{"name=payment,outcome=granted": granted, "name=payment,outcome=refused": refused}, series(rm, mBudgetRetries))
		}
		expect(10, 10, 0, 0, 0)
		r := resilience.NewRetrier(&resilience.RetryConfig{Name: "charge", MaxAttempts: 20, InitialDelay: 1, MaxDelay: 1, Budget: first, Events: k.sink})
		_ = r.Run(t.Context(), func(context.Context) error { return errDown })
		expect(.2, 10.2, 1, 10, 1)
		require.InDelta(t, 1, series(k.collect(t), mOperations)["name=charge,outcome=budget_exhausted"], 0)
		events := k.ended(t, "retry charge").Events()
		last := events[len(events)-1]
		require.Equal(t, "resilience.retry.budget_exhausted", last.Name)
		require.Equal(t, "payment", attributeMap(last.Attributes)["resilience.retry.budget.name"])
		require.Equal(t, "12", attributeMap(last.Attributes)["resilience.retry.attempt.number"])

		second := newBudget("payment")
		expect(10.2, 20.2, 1, 10, 1)
		first.Close()
		expect(10, 10, 1, 10, 1)
		second.Close()
		rm := k.collect(t)
		for _, m := range []string{mBudgetAvailable, mBudgetLimit, mBudgetOperations, mBudgetRetries} {
			require.Empty(t, series(rm, m), m)
		}
	})
}

// Budgets are bounded by names like all else, and what is beyond is counted.
func TestBudgetsBeyondTheNameLimit(t *testing.T) {
	k := newKit(t, otelres.WithNameLimit(1))
	newBudget := func(name string) *resilience.RetryBudget {
		return resilience.NewRetryBudget(&resilience.BudgetConfig{Name: name, Events: k.sink})
	}
	a, b := newBudget("a"), newBudget("b")
	newBudget("c")
	newBudget("_OTHER")
	rm := k.collect(t)
	require.Equal(t, map[string]float64{"name=a": 0, "name=_OTHER": 0}, series(rm, mBudgetOperations))
	require.InEpsilon(t, 30, series(rm, mBudgetAvailable)["name=_OTHER"], 0.01)
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 2}, series(rm, mDropped))
	retrier := resilience.NewRetrier(&resilience.RetryConfig{Budget: b})
	require.NoError(t, retrier.Run(t.Context(), func(context.Context) error { return nil }))
	require.InDelta(t, 1, series(k.collect(t), mBudgetOperations)["name=_OTHER"], 0)
	b.Close()
	require.InDelta(t, 1, series(k.collect(t), mBudgetOperations)["name=_OTHER"], 0, "a counter does not go back while others of its name count on")
	a.Close()
	newBudget("d")
	require.Contains(t, series(k.collect(t), mBudgetOperations), "name=d")
}

// The series of a breaker that has to make room in a registry end, and its place is free
// for the one that it makes room for: with a limit of names, none is beyond it.
func TestRegistryKeepsSeriesBounded(t *testing.T) {
	k := newKit(t, otelres.WithNameLimit(3))
	r := resilience.NewRegistry(&resilience.RegistryConfig{Max: 2, Template: &resilience.CircuitBreakerConfig{Events: k.sink}})
	for _, host := range []string{"a", "b", "c", "d", "a"} {
		require.NoError(t, r.Get(host).Run(t.Context(), func(context.Context) error { return nil }))
		require.LessOrEqual(t, len(series(k.collect(t), mCalls)), 2*4)
	}
	require.Equal(t, map[string]float64{"name=a": .5, "name=d": .5}, series(k.collect(t), mFailureThreshold))
	r.Get("a").ForceOpen()
	r.Get("d").ForceOpen()
	r.Get("e")
	require.Contains(t, series(k.collect(t), mFailureThreshold), "name=_OVERFLOW")
	r.Close()
	require.Empty(t, series(k.collect(t), mFailureThreshold))
}
