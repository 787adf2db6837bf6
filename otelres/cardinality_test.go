package otelres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// points returns the number of series of each metric, and fails if the SDK had to
// add up any beyond its limit.
func points(t *testing.T, rm *metricdata.ResourceMetrics) map[string]int {
	t.Helper()
	n := make(map[string]int)
	eachPoint(rm, func(m metricdata.Metrics, attrs attribute.Set) {
		n[m.Name]++
		require.False(t, attrs.HasValue("otel.metric.overflow"), m.Name)
	})
	return n
}

// use makes the breaker go through a call of each outcome and a change of state.
func use(b *resilience.CircuitBreaker) {
	_ = b.Execute(context.Background(), func() error { return nil })
	_ = b.Execute(context.Background(), func() error { return resilience.Ignore(errDown) })
	_ = b.Execute(context.Background(), func() error { return errDown }) // opens
	_ = b.Execute(context.Background(), func() error { return nil })     // rejected
}

func TestNameReused10000Times(t *testing.T) {
	k := newKit(t)
	for range 10_000 {
		b := breaker(k, "gateway")
		use(b)
		b.Close()
	}
	require.Empty(t, points(t, k.collect(t))[mStatus])
	last := breaker(k, "gateway")
	rm := k.collect(t)
	require.Equal(t, map[string]int{
		mStatus: 5, mTime: 5, mLastClosed: 1, mTransitions: 17, mCalls: 4, mCallDuration: 3, mFailureThreshold: 1, mDropped: 1,
	}, points(t, rm))
	require.Equal(t, map[string]float64{
		"outcome=success,name=gateway": 10_000, "outcome=failure,name=gateway": 10_000,
		"outcome=ignored,name=gateway": 10_000, "outcome=rejected,name=gateway": 10_000,
	}, series(rm, mCalls))
	require.Equal(t, 10_000., series(rm, mTransitions)["name=gateway,previous_state=closed,state=open"])
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 0}, series(rm, mDropped))
	last.Close()
}

// A burst of 10 000 breakers of as many names: a hundred have series of their own,
// the others are one name together, exactly, and each of them is counted.
func TestBurstOf10000Breakers(t *testing.T) {
	k := newKit(t)
	var all []*resilience.CircuitBreaker
	for i := range 10_000 {
		b := breaker(k, fmt.Sprintf("breaker-%d", i))
		use(b)
		all = append(all, b)
	}
	rm := k.collect(t)
	require.Equal(t, map[string]int{
		mStatus: 505, mTime: 505, mLastClosed: 101, mTransitions: 1717, mCalls: 404, mCallDuration: 303, mFailureThreshold: 101, mDropped: 1,
	}, points(t, rm))
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 9_900}, series(rm, mDropped))
	require.Equal(t, perState("_OTHER", 0, 9_900, 0, 0, 0), pick(series(rm, mStatus), "_OTHER"))
	require.Equal(t, perState("breaker-99", 0, 1, 0, 0, 0), pick(series(rm, mStatus), "breaker-99"))
	calls := series(rm, mCalls)
	require.Equal(t, 9_900., calls["outcome=success,name=_OTHER"])
	require.Equal(t, 9_900., calls["outcome=rejected,name=_OTHER"])
	require.Equal(t, 9_900., series(rm, mTransitions)["name=_OTHER,previous_state=closed,state=open"])
	require.Equal(t, 9_900., series(rm, mCallDuration)["outcome=failure,name=_OTHER"])

	// Closing half of those beyond the limit lets no counter go back.
	for _, b := range all[5_000:] {
		b.Close()
	}
	rm = k.collect(t)
	require.Equal(t, 9_900., series(rm, mCalls)["outcome=success,name=_OTHER"])
	require.Equal(t, perState("_OTHER", 0, 4_900, 0, 0, 0), pick(series(rm, mStatus), "_OTHER"))
	for _, b := range all[:5_000] {
		b.Close()
	}
	require.Empty(t, series(k.collect(t), mStatus))
}

// 10 000 names one after another: a closed one's place is free for the observed
// series of the next, while what the SDK never forgets stays bounded.
func TestProcessionOf10000Names(t *testing.T) {
	k := newKit(t)
	for i := range 10_000 {
		b := breaker(k, fmt.Sprintf("breaker-%d", i))
		use(b)
		if i%1000 == 999 {
			name := b.Name()
			rm := k.collect(t)
			points(t, rm)
			require.Equal(t, perState(name, 0, 1, 0, 0, 0), series(rm, mStatus))
			require.Equal(t, 1., series(rm, mCalls)["outcome=failure,name="+name])
			require.Contains(t, series(rm, mTransitions), "name=_OTHER,previous_state=closed,state=open")
		}
		b.Close()
	}
	rm := k.collect(t)
	require.Equal(t, map[string]int{mTransitions: 1717, mCallDuration: 303, mDropped: 1}, points(t, rm))
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 9_900}, series(rm, mDropped))
	require.Equal(t, 9_900., series(rm, mTransitions)["name=_OTHER,previous_state=closed,state=open"])
}

func TestNameLimit(t *testing.T) {
	k := newKit(t, otelres.WithNameLimit(2))
	a, b, c := breaker(k, "a"), breaker(k, "b"), breaker(k, "c")
	names := func() map[string]float64 { return series(k.collect(t), mFailureThreshold) }
	require.Equal(t, map[string]float64{"name=a": .5, "name=b": .5, "name=_OTHER": .5}, names())

	another := breaker(k, "a") // a name that has a place needs no other
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 1}, series(k.collect(t), mDropped))

	b.Close() // frees the place; c stays where it was born
	require.Equal(t, map[string]float64{"name=a": .5, "name=_OTHER": .5}, names())
	d := breaker(k, "d")
	require.Equal(t, map[string]float64{"name=a": .5, "name=d": .5, "name=_OTHER": .5}, names())
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 2}, series(k.collect(t), mDropped), "d has no transitions of its own")

	use(d)
	require.Equal(t, 1., series(k.collect(t), mCalls)["outcome=failure,name=d"])
	d.Close()
	d = breaker(k, "d") // nothing was kept of a name without a place for good
	require.Equal(t, 0., series(k.collect(t), mCalls)["outcome=failure,name=d"])
	d.Close()

	b = breaker(k, "b") // one that has is as it was
	require.Equal(t, map[string]float64{"name=a": .5, "name=b": .5, "name=_OTHER": .5}, names())
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 3}, series(k.collect(t), mDropped))

	// A breaker that happens to be named like the overflow is not beyond the limit.
	o := breaker(k, "_OTHER")
	require.Equal(t, perState("_OTHER", 2, 0, 0, 0, 0), pick(series(k.collect(t), mStatus), "_OTHER"))
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 3}, series(k.collect(t), mDropped))
	for _, cb := range []*resilience.CircuitBreaker{a, another, b, c, o} {
		cb.Close()
	}
	require.Empty(t, names())
}

func TestRetryNameLimit(t *testing.T) {
	k := newKit(t)
	run := func(name string) {
		_ = resilience.Retry(t.Context(), &resilience.RetryConfig{Name: name, MaxAttempts: 1, Events: k.sink}, func() error { return errDown })
	}
	for i := range 10_000 {
		run(fmt.Sprintf("retry-%d", i))
	}
	run("retry-0")
	rm := k.collect(t)
	require.Equal(t, map[string]int{
		mOperations: 808, mAttempts: 808, mOperationDuration: 101, mAttemptDuration: 101, mDropped: 1,
	}, points(t, rm))
	require.Equal(t, 9_900., series(rm, mOperations)["name=_OTHER,outcome=not_retryable"]+series(rm, mOperations)["name=_OTHER,outcome=exhausted"])
	require.Equal(t, 2., series(rm, mOperations)["name=retry-0,outcome=exhausted"])
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 9_900}, series(rm, mDropped))
	require.Len(t, k.spans.Ended(), 2*10_001, "spans are not limited")
	k.ended(t, "retry retry-9999")
}

// Breakers beyond the limit show their own name on spans.
func TestSpansShowEveryName(t *testing.T) {
	k := newKit(t, otelres.WithNameLimit(1))
	breaker(k, "first")
	second := breaker(k, "second")
	ctx, span := k.tracers.Tracer("application").Start(t.Context(), "GET /")
	_ = second.Execute(ctx, func() error { return nil })
	span.End()
	require.Equal(t, "second", attributeMap(k.ended(t, "GET /").Attributes())["resilience.circuit_breaker.name"])
	require.Equal(t, 1., series(k.collect(t), mCallDuration)["outcome=success,name=_OTHER"])
}

// An event of a breaker that nobody has heard of is somebody's, and harms nothing.
func TestUnknownBreaker(t *testing.T) {
	k := newKit(t)
	h := events.Header{Name: "unheard of", ID: 77}
	k.sink.CallFinished(t.Context(), events.CallFinished{Header: h})
	k.sink.StateChanged(t.Context(), events.StateChanged{Header: h, To: events.StateOpen})
	k.sink.BreakerRetired(t.Context(), events.BreakerRetired{Header: h})
	k.sink.BreakerCreated(t.Context(), events.BreakerCreated{Header: h}) // without a Snapshot
	rm := k.collect(t)
	require.Equal(t, map[string]float64{"outcome=success,name=_OTHER": 1}, series(rm, mCallDuration))
	require.Empty(t, series(rm, mStatus))
}

// The bound holds when many names come at once.
func TestNamesThatComeAtOnce(t *testing.T) {
	k := newKit(t, otelres.WithNameLimit(1))
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range 64 {
		all.Go(func() {
			<-begin
			h := events.Header{Name: fmt.Sprintf("retry-%d", i)}
			k.sink.RetryFinished(k.sink.RetryStarted(t.Context(), events.RetryStarted{Header: h}), events.RetryFinished{Header: h, Reason: events.ReasonSuccess})
		})
	}
	close(begin)
	all.Wait()
	rm := k.collect(t)
	require.Equal(t, 2*8, points(t, rm)[mOperations])
	require.Equal(t, 63., series(rm, mOperations)["name=_OTHER,outcome=success"])
}
