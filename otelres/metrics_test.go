package otelres_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

var statuses = []string{"closed", "open", "half_open", "forced_open", "forced_closed"}

// perState spells out the series of a name with one value for each state.
func perState(name string, values ...float64) map[string]float64 {
	all := make(map[string]float64)
	for i, s := range statuses {
		all["name="+name+",state="+s] = values[i]
	}
	return all
}

func breaker(k *kit, name string) *resilience.CircuitBreaker {
	return resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		Name: name, VolumeThreshold: 2, HalfOpenRequests: 1, SleepWindow: 30 * time.Second, Events: k.sink,
	})
}

func succeed(b *resilience.CircuitBreaker, n int) {
	for range n {
		_ = b.Execute(context.Background(), func() error { return nil })
	}
}

func fail(b *resilience.CircuitBreaker, n int) {
	for range n {
		_ = b.Execute(context.Background(), func() error { return errDown })
	}
}

// allTransitions is what a breaker's birth makes of the transitions metric: every
// change that can occur, and none that cannot.
func allTransitions(name string) map[string]float64 {
	all := make(map[string]float64)
	for _, pair := range []string{
		"closed→open", "open→half_open", "half_open→closed", "half_open→open",
		"closed→closed", "open→closed", "forced_open→closed", "forced_closed→closed", "forced_open→open",
		"closed→forced_open", "open→forced_open", "half_open→forced_open", "forced_closed→forced_open",
		"closed→forced_closed", "open→forced_closed", "half_open→forced_closed", "forced_open→forced_closed",
	} {
		from, to, _ := strings.Cut(pair, "→")
		all[fmt.Sprintf("name=%s,previous_state=%s,state=%s", name, from, to)] = 0
	}
	return all
}

func TestSeriesExistFromBirth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		breaker(k, "gateway")
		_ = retrier(k.sink).Run(t.Context(), func(context.Context) error {
			// The retry exists from its start: nothing has ended yet.
			rm := k.collect(t)
			operations := make(map[string]float64)
			for _, o := range []string{"success", "success_after_retry", "exhausted", "not_retryable", "deadline", "canceled", "rejected", "budget_exhausted"} {
				operations["name=payment,outcome="+o] = 0
			}
			require.Equal(t, operations, series(rm, mOperations))
			attempts := make(map[string]float64)
			for _, kind := range []string{"initial", "retry"} {
				for _, o := range []string{"success", "failure", "ignored", "rejected"} {
					attempts["kind="+kind+",outcome="+o+",name=payment"] = 0
				}
			}
			require.Equal(t, attempts, series(rm, mAttempts))
			return nil
		})

		rm := k.collect(t)
		require.Equal(t, perState("gateway", 1, 0, 0, 0, 0), series(rm, mStatus))
		require.Equal(t, perState("gateway", 0, 0, 0, 0, 0), series(rm, mTime))
		require.Equal(t, allTransitions("gateway"), series(rm, mTransitions))
		require.Equal(t, map[string]float64{
			"outcome=success,name=gateway": 0, "outcome=failure,name=gateway": 0,
			"outcome=ignored,name=gateway": 0, "outcome=rejected,name=gateway": 0,
		}, series(rm, mCalls))
		require.Equal(t, map[string]float64{"name=gateway": float64(time.Now().Unix())}, series(rm, mLastClosed))
		require.Equal(t, map[string]float64{"name=gateway": .5}, series(rm, mFailureThreshold))
		require.Empty(t, series(rm, mFailureRatio), "below the volume")
		require.Equal(t, map[string]float64{"drop_reason=cardinality": 0}, series(rm, mDropped))
	})
}

// The shape of each kind of metric: type, unit, temporality, monotonicity.
func TestShapeOfMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := breaker(k, "gateway")
		time.Sleep(3 * time.Second)
		succeed(b, 1)
		rm := k.collect(t)
		name := attribute.String("resilience.circuit_breaker.name", "gateway")
		state := func(s string) attribute.Set {
			return attribute.NewSet(name, attribute.String("resilience.circuit_breaker.state", s))
		}
		ignore := metricdatatest.IgnoreTimestamp()
		metricdatatest.AssertEqual(t, metricdata.Metrics{
			Name:        mStatus,
			Description: metricOf(rm, mStatus).Description,
			Unit:        "{circuit_breaker}",
			Data: metricdata.Sum[int64]{
				Temporality: metricdata.CumulativeTemporality,
				DataPoints: []metricdata.DataPoint[int64]{
					{Attributes: state("closed"), Value: 1}, {Attributes: state("open")}, {Attributes: state("half_open")},
					{Attributes: state("forced_open")}, {Attributes: state("forced_closed")},
				},
			},
		}, *metricOf(rm, mStatus), ignore)
		metricdatatest.AssertEqual(t, metricdata.Metrics{
			Name:        mTime,
			Description: metricOf(rm, mTime).Description,
			Unit:        "s",
			Data: metricdata.Sum[float64]{
				Temporality: metricdata.CumulativeTemporality,
				IsMonotonic: true,
				DataPoints: []metricdata.DataPoint[float64]{
					{Attributes: state("closed"), Value: 3}, {Attributes: state("open")}, {Attributes: state("half_open")},
					{Attributes: state("forced_open")}, {Attributes: state("forced_closed")},
				},
			},
		}, *metricOf(rm, mTime), ignore)
		metricdatatest.AssertEqual(t, metricdata.Metrics{
			Name:        mFailureThreshold,
			Description: metricOf(rm, mFailureThreshold).Description,
			Unit:        "1",
			Data:        metricdata.Gauge[float64]{DataPoints: []metricdata.DataPoint[float64]{{Attributes: attribute.NewSet(name), Value: .5}}},
		}, *metricOf(rm, mFailureThreshold), ignore)
		outcome := attribute.String("resilience.circuit_breaker.call.outcome", "success")
		metricdatatest.AssertEqual(t, metricdata.Metrics{
			Name:        mCallDuration,
			Description: metricOf(rm, mCallDuration).Description,
			Unit:        "s",
			Data: metricdata.Histogram[float64]{
				Temporality: metricdata.CumulativeTemporality,
				DataPoints: []metricdata.HistogramDataPoint[float64]{{
					Attributes:   attribute.NewSet(name, outcome),
					Count:        1,
					Bounds:       []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10},
					BucketCounts: []uint64{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
					Min:          metricdata.NewExtrema(0.),
					Max:          metricdata.NewExtrema(0.),
				}},
			},
		}, *metricOf(rm, mCallDuration), ignore)
		for _, scope := range rm.ScopeMetrics {
			require.Equal(t, otelres.ScopeName, scope.Scope.Name)
			require.Equal(t, otelres.Version, scope.Scope.Version)
			require.Equal(t, "https://opentelemetry.io/schemas/1.43.0", scope.Scope.SchemaURL)
		}
	})
}

// A breaker's life as a dashboard sees it, without a call in between where it
// changes by itself.
func TestMetricsFollowBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := breaker(k, "gateway")
		born := float64(time.Now().Unix())
		transitions := allTransitions("gateway")
		expect := func(status map[string]float64, spent map[string]float64, lastClosed float64) {
			t.Helper()
			rm := k.collect(t)
			require.Equal(t, status, series(rm, mStatus))
			require.Equal(t, spent, series(rm, mTime))
			require.Equal(t, map[string]float64{"name=gateway": lastClosed}, series(rm, mLastClosed))
			require.Equal(t, transitions, series(rm, mTransitions))
		}
		went := func(from, to string) {
			transitions["name=gateway,previous_state="+from+",state="+to]++
		}

		time.Sleep(10 * time.Second)
		expect(perState("gateway", 1, 0, 0, 0, 0), perState("gateway", 10, 0, 0, 0, 0), born+10)

		fail(b, 2)
		time.Sleep(20 * time.Second)
		went("closed", "open")
		expect(perState("gateway", 0, 1, 0, 0, 0), perState("gateway", 10, 20, 0, 0, 0), born+10)

		time.Sleep(15 * time.Second) // the sleep window ends at second 40, with no call
		synctest.Wait()
		went("open", "half_open")
		expect(perState("gateway", 0, 0, 1, 0, 0), perState("gateway", 10, 30, 5, 0, 0), born+10)

		succeed(b, 1)
		time.Sleep(time.Second)
		went("half_open", "closed")
		expect(perState("gateway", 1, 0, 0, 0, 0), perState("gateway", 11, 30, 5, 0, 0), born+46)

		b.ForceOpen()
		time.Sleep(7 * time.Second)
		went("closed", "forced_open")
		expect(perState("gateway", 0, 0, 0, 1, 0), perState("gateway", 11, 30, 5, 7, 0), born+46)

		b.ForceClosed()
		time.Sleep(3 * time.Second)
		went("forced_open", "forced_closed")
		expect(perState("gateway", 0, 0, 0, 0, 1), perState("gateway", 11, 30, 5, 7, 3), born+56)

		b.ClearForce()
		went("forced_closed", "closed")
		expect(perState("gateway", 1, 0, 0, 0, 0), perState("gateway", 11, 30, 5, 7, 3), born+56)
		b.Close()
	})
}

// An open period that begins and ends between two exports shows in the time
// counter and in the transitions, though no export ever sees it in the status.
func TestOpenPeriodShorterThanExportInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
			Name: "gateway", VolumeThreshold: 1, HalfOpenRequests: 1, SleepWindow: 2 * time.Second, Events: k.sink,
		})
		k.collect(t)
		time.Sleep(time.Second)
		fail(b, 1)
		time.Sleep(2 * time.Second)
		succeed(b, 1)
		time.Sleep(time.Second)
		rm := k.collect(t)
		require.Equal(t, perState("gateway", 1, 0, 0, 0, 0), series(rm, mStatus))
		require.Equal(t, perState("gateway", 2, 2, 0, 0, 0), series(rm, mTime))
		require.Equal(t, 1., series(rm, mTransitions)["name=gateway,previous_state=closed,state=open"])
		b.Close()
	})
}

func TestCallsAndDurations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := breaker(k, "gateway")
		take := func(d time.Duration, err error) {
			_ = b.Execute(t.Context(), func() error { time.Sleep(d); return err })
		}
		for range 7 {
			take(30*time.Millisecond, nil)
		}
		take(3*time.Second, resilience.Ignore(errDown))
		func() {
			defer func() { _ = recover() }()
			_ = b.Execute(t.Context(), func() error { panic("boom") })
		}()
		ratio := series(k.collect(t), mFailureRatio)
		require.Equal(t, map[string]float64{"name=gateway": 1. / 8}, ratio)
		fail(b, 6) // opens
		succeed(b, 5)

		rm := k.collect(t)
		require.Equal(t, map[string]float64{
			"outcome=success,name=gateway": 7, "outcome=failure,name=gateway": 7,
			"outcome=ignored,name=gateway": 1, "outcome=rejected,name=gateway": 5,
		}, series(rm, mCalls))
		require.Equal(t, map[string]float64{ // a rejected call has no duration
			"outcome=success,name=gateway": 7, "outcome=failure,name=gateway": 7, "outcome=ignored,name=gateway": 1,
		}, series(rm, mCallDuration))
		for _, p := range metricOf(rm, mCallDuration).Data.(metricdata.Histogram[float64]).DataPoints {
			sum := map[string]float64{"success": 7 * .03, "failure": 0, "ignored": 3}
			outcome, _ := p.Attributes.Value("resilience.circuit_breaker.call.outcome")
			require.InDelta(t, sum[outcome.AsString()], p.Sum, 1e-9, "seconds")
		}
		require.Empty(t, series(rm, mFailureRatio), "not judged while open")
		b.Close()
	})
}

// Each reason for the end of a retry, with the outcome that metrics show.
func TestRetryMetrics(t *testing.T) {
	outcomes := map[events.Reason]string{
		events.ReasonSuccess:           "success",
		events.ReasonSuccessAfterRetry: "success_after_retry",
		events.ReasonExhausted:         "exhausted",
		events.ReasonNotRetryable:      "not_retryable",
		events.ReasonDeadline:          "deadline",
		events.ReasonCanceled:          "canceled",
		events.ReasonRejected:          "rejected",
		events.ReasonRetryAfterTooLong: "not_retryable",
		events.ReasonBudgetExhausted:   "budget_exhausted",
		events.ReasonPanic:             "not_retryable",
		"a reason of the future":       "not_retryable",
	}
	for reason, outcome := range outcomes {
		t.Run(string(reason), func(t *testing.T) {
			k := newKit(t)
			h := events.Header{Name: "payment"}
			ctx := k.sink.RetryStarted(t.Context(), events.RetryStarted{Header: h, MaxAttempts: 3})
			k.sink.RetryFinished(ctx, events.RetryFinished{Header: h, Reason: reason, Duration: 2 * time.Second})
			rm := k.collect(t)
			require.Equal(t, map[string]float64{"name=payment,outcome=" + outcome: 1}, nonZero(series(rm, mOperations)))
			require.Equal(t, map[string]float64{"name=payment,outcome=" + outcome: 1}, series(rm, mOperationDuration))
			p := metricOf(rm, mOperationDuration).Data.(metricdata.Histogram[float64]).DataPoints[0]
			require.Equal(t, 2., p.Sum)
			require.Equal(t, []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60}, p.Bounds)
		})
	}
}

func TestAttemptMetrics(t *testing.T) {
	for name, spans := range map[string]otelres.Spans{
		"attempts": otelres.Attempts, "operations": otelres.Operations, "off": otelres.Off,
	} {
		t.Run(name, func(t *testing.T) { testAttemptMetrics(t, spans) })
	}
}

func testAttemptMetrics(t *testing.T, spans otelres.Spans) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, otelres.WithSpans(spans))
		_ = retrier(k.sink).Run(t.Context(), failTimes(2))
		_ = retrier(k.sink).Run(t.Context(), failTimes(0))
		b := openBreaker(k.sink)
		_ = resilience.Chain(retrier(k.sink), b).Run(t.Context(), failTimes(0))
		rm := k.collect(t)
		require.Equal(t, map[string]float64{
			"kind=initial,outcome=failure,name=payment":  1,
			"kind=retry,outcome=failure,name=payment":    1,
			"kind=retry,outcome=success,name=payment":    1,
			"kind=initial,outcome=success,name=payment":  1,
			"kind=initial,outcome=rejected,name=payment": 1,
		}, nonZero(series(rm, mAttempts)))
		require.Equal(t, map[string]float64{
			"outcome=failure,name=payment": 2, "outcome=success,name=payment": 2, "outcome=rejected,name=payment": 1,
		}, series(rm, mAttemptDuration))
		require.Equal(t, map[string]float64{
			"name=payment,outcome=success_after_retry": 1, "name=payment,outcome=success": 1, "name=payment,outcome=rejected": 1,
		}, nonZero(series(rm, mOperations)))
		require.Equal(t, map[string]float64{"name=payment": 2}, series(rm, mDelay))
		p := metricOf(rm, mDelay).Data.(metricdata.Histogram[float64]).DataPoints[0]
		require.InDelta(t, .18+.36, p.Sum, 1e-9)
		require.Len(t, p.Bounds, 16)
		b.Close()
	})
}

// What is remembered by ID is remembered of the right breaker, also when there are more
// of them than there is memory.
func TestManyBreakersRecordUnderTheirOwnNames(t *testing.T) {
	k := newKit(t)
	var breakers [90]*resilience.CircuitBreaker
	for i := range breakers {
		breakers[i] = resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: fmt.Sprint("gateway ", i), Events: k.sink})
		defer breakers[i].Close()
	}
	for i, b := range breakers {
		for range i + 1 {
			require.NoError(t, b.Execute(t.Context(), func() error { return nil }))
		}
	}
	got := series(k.collect(t), mCallDuration)
	require.Len(t, got, len(breakers))
	for i := range breakers {
		require.InDelta(t, i+1, got[fmt.Sprintf("outcome=success,name=gateway %d", i)], 0)
	}
}

// Two breakers of one name are one series in everything.
func TestBreakersOfOneNameAreSummed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		now := time.Now()
		a := newFakeBreaker(k.sink, "gateway", 1, events.Thresholds{ErrorThreshold: .5})
		b := newFakeBreaker(k.sink, "gateway", 2, events.Thresholds{ErrorThreshold: .3})
		a.set(func(s *events.Snapshot) {
			s.State = events.StateClosed
			s.LastClosed = now
			s.TimeIn[events.StatusClosed] = 60 * time.Second
			s.Totals = events.Counts{Success: 100, Failure: 20, Ignored: 3, Rejected: 4}
			s.Window = events.Counts{Success: 80, Failure: 20}
			s.Judged = true
		})
		b.set(func(s *events.Snapshot) {
			s.State = events.StateOpen
			s.LastClosed = now.Add(-40 * time.Second)
			s.TimeIn[events.StatusClosed], s.TimeIn[events.StatusOpen] = 20*time.Second, 40*time.Second
			s.Totals = events.Counts{Success: 1, Failure: 2, Ignored: 3, Rejected: 4}
		})
		rm := k.collect(t)
		require.Equal(t, perState("gateway", 1, 1, 0, 0, 0), series(rm, mStatus))
		require.Equal(t, perState("gateway", 80, 40, 0, 0, 0), series(rm, mTime))
		require.Equal(t, map[string]float64{
			"outcome=success,name=gateway": 101, "outcome=failure,name=gateway": 22,
			"outcome=ignored,name=gateway": 6, "outcome=rejected,name=gateway": 8,
		}, series(rm, mCalls))
		require.Equal(t, map[string]float64{"name=gateway": float64(now.Unix() - 40)}, series(rm, mLastClosed), "the one an alert is about")
		for range 20 { // in whatever order they come
			require.Equal(t, map[string]float64{"name=gateway": .3}, series(k.collect(t), mFailureThreshold), "the lowest")
			require.Equal(t, series(rm, mLastClosed), series(k.collect(t), mLastClosed))
		}
		require.Equal(t, map[string]float64{"name=gateway": .2}, series(rm, mFailureRatio), "of those that judge by it")
		b.set(func(s *events.Snapshot) {
			s.State, s.LastClosed = events.StateClosed, now
			s.Window, s.Judged = events.Counts{Success: 20, Failure: 30}, true
		})
		rm = k.collect(t)
		require.Equal(t, perState("gateway", 2, 0, 0, 0, 0), series(rm, mStatus))
		require.InDelta(t, 50./150, series(rm, mFailureRatio)["name=gateway"], 1e-9, "of the windows together")
	})
}

// A sink that is joined to itself reports a breaker once.
func TestBreakerIsObservedOnce(t *testing.T) {
	k := newKit(t)
	b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "gateway", Events: events.Join(k.sink, k.sink)})
	succeed(b, 1)
	rm := k.collect(t)
	require.Equal(t, perState("gateway", 1, 0, 0, 0, 0), series(rm, mStatus))
	require.Equal(t, 1., series(rm, mCalls)["outcome=success,name=gateway"])
	b.Close()
	require.Empty(t, series(k.collect(t), mStatus))

	k = newKit(t, otelres.WithNameLimit(1))
	twice := events.Join(k.sink, k.sink)
	newFakeBreaker(twice, "gateway", 1, events.Thresholds{})
	newFakeBreaker(twice, "beyond the limit", 2, events.Thresholds{})
	require.Equal(t, map[string]float64{"drop_reason=cardinality": 1}, series(k.collect(t), mDropped))
}

// observedOnly are the metrics that end with a breaker.
var observedOnly = []string{mStatus, mTime, mLastClosed, mCalls, mFailureRatio, mFailureThreshold,
	"resilience.circuit_breaker.would_reject", "resilience.retry.budget.available", "resilience.retry.budget.limit",
	"resilience.retry.budget.operations", "resilience.retry.budget.retries"}

// A closed breaker's series stop, those of the name's other breakers go on, and
// no counter goes backwards, also when the name is born again.
func TestRetirement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		first, second, bystander := breaker(k, "gateway"), breaker(k, "gateway"), breaker(k, "other")
		time.Sleep(10 * time.Second)
		succeed(first, 5)
		succeed(second, 3)
		fail(first, 5) // opens
		time.Sleep(5 * time.Second)
		rm := k.collect(t)
		calls, spent := series(rm, mCalls), series(rm, mTime)
		require.Equal(t, 8., calls["outcome=success,name=gateway"])

		first.Close()
		rm = k.collect(t)
		require.Equal(t, perState("gateway", 1, 0, 0, 0, 0), pick(series(rm, mStatus), "gateway"))
		require.Equal(t, calls, series(rm, mCalls))
		require.Equal(t, spent, series(rm, mTime))
		require.Equal(t, float64(time.Now().Unix()), series(rm, mLastClosed)["name=gateway"], "the open one is gone")

		time.Sleep(time.Second)
		succeed(first, 100) // it is retired: nobody counts
		succeed(second, 1)
		second.Close()
		rm = k.collect(t)
		for _, name := range observedOnly {
			require.Empty(t, pick(series(rm, name), "gateway"), name)
		}
		require.Equal(t, perState("other", 1, 0, 0, 0, 0), series(rm, mStatus), "the others are still there")

		time.Sleep(time.Hour)
		third := breaker(k, "gateway")
		succeed(third, 1)
		rm = k.collect(t)
		require.Equal(t, 10., series(rm, mCalls)["outcome=success,name=gateway"], "goes on where it stopped")
		require.Equal(t, 26., series(rm, mTime)["name=gateway,state=closed"], "15 s each and 1 s, less 5 s open")
		require.Equal(t, 5., series(rm, mTime)["name=gateway,state=open"])
		bystander.Close()
		third.Close()
	})
}

// pick returns the series of one name.
func pick(values map[string]float64, name string) map[string]float64 {
	maps.DeleteFunc(values, func(k string, _ float64) bool {
		return !slices.Contains(strings.Split(k, ","), "name="+name)
	})
	return values
}

// A panicking Snapshot is its caller's panic, and leaves nothing locked.
func TestSnapshotThatPanics(t *testing.T) {
	k := newKit(t)
	bad := true
	k.sink.BreakerCreated(t.Context(), events.BreakerCreated{
		Header: events.Header{Name: "gateway", ID: 1},
		Snapshot: func() events.Snapshot {
			if bad {
				panic("boom")
			}
			return events.Snapshot{LastClosed: time.Now()}
		},
	})
	require.Panics(t, func() {
		k.sink.BreakerRetired(t.Context(), events.BreakerRetired{Header: events.Header{Name: "gateway", ID: 1}})
	})
	bad = false
	require.Equal(t, perState("gateway", 1, 0, 0, 0, 0), series(k.collect(t), mStatus))
}

func TestWithoutDurations(t *testing.T) {
	k := newKit(t, otelres.WithoutDurations())
	require.Nil(t, k.sink.CallFinished, "the engine reads the clock for it")
	require.Nil(t, k.sink.CallStarted)
	b := breaker(k, "gateway")
	succeed(b, 2)
	_ = retrier(k.sink).Run(t.Context(), failTimes(0))
	rm := k.collect(t)
	for _, name := range []string{mCallDuration, mAttemptDuration, mOperationDuration} {
		require.Nil(t, metricOf(rm, name), name)
	}
	require.Equal(t, 2., series(rm, mCalls)["outcome=success,name=gateway"])
	require.Equal(t, 1., series(rm, mOperations)["name=payment,outcome=success"])
	require.Equal(t, 1., series(rm, mAttempts)["kind=initial,outcome=success,name=payment"])

	k = newKit(t, otelres.WithoutDurations(), otelres.WithBreakerSpans())
	require.NotNil(t, k.sink.CallFinished)
	succeed(breaker(k, "gateway"), 1)
	k.ended(t, "circuit_breaker gateway")
}

// Every value recorded inside a sampled span has that span's trace as exemplar.
func TestExemplars(t *testing.T) {
	k := newKit(t)
	ctx, span := sampled(t)
	b := breaker(k, "gateway")
	_ = b.Execute(ctx, func() error { return nil })
	fail := b.Execute
	_ = fail(ctx, func() error { return errDown }) // opens
	config := &resilience.RetryConfig{Name: "payment", InitialDelay: 2 * time.Microsecond, Events: k.sink}
	_ = resilience.NewRetrier(config).Run(ctx, failTimes(1))
	rm := k.collect(t)
	want := span.SpanContext().TraceID()
	for _, name := range []string{mCallDuration, mOperationDuration, mAttemptDuration, mDelay} {
		for _, p := range metricOf(rm, name).Data.(metricdata.Histogram[float64]).DataPoints {
			require.NotEmpty(t, p.Exemplars, name)
			require.Equal(t, want[:], p.Exemplars[0].TraceID, name)
		}
	}
	for _, name := range []string{mTransitions, mOperations, mAttempts} {
		seen := false
		for _, p := range metricOf(rm, name).Data.(metricdata.Sum[int64]).DataPoints {
			require.Equal(t, p.Value > 0, len(p.Exemplars) > 0, "%s %s: seeds are no measurements", name, label(p.Attributes))
			for _, e := range p.Exemplars {
				seen = true
				require.Equal(t, want[:], e.TraceID, name)
			}
		}
		require.True(t, seen, name)
	}

	// The exemplar of an attempt leads to the attempt, that of a call to what it ran in.
	attempts := metricOf(rm, mAttemptDuration).Data.(metricdata.Histogram[float64]).DataPoints
	var spans [][]byte
	for _, s := range k.spans.Ended() {
		if s.Name() == "attempt payment" {
			id := s.SpanContext().SpanID()
			spans = append(spans, id[:])
		}
	}
	for _, p := range attempts {
		require.Contains(t, spans, p.Exemplars[0].SpanID)
	}
	id := span.SpanContext().SpanID()
	require.Equal(t, id[:], metricOf(rm, mCallDuration).Data.(metricdata.Histogram[float64]).DataPoints[0].Exemplars[0].SpanID)
}

// Two readers see the same.
func TestTwoReaders(t *testing.T) {
	a, b := sdkmetric.NewManualReader(), sdkmetric.NewManualReader()
	k := newKit(t, otelres.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(a), sdkmetric.WithReader(b))))
	cb := breaker(k, "gateway")
	succeed(cb, 3)
	for _, r := range []sdkmetric.Reader{a, b} {
		rm := collect(t, r)
		require.Equal(t, 3., series(rm, mCalls)["outcome=success,name=gateway"])
		require.Equal(t, allTransitions("gateway"), series(rm, mTransitions))
		require.Equal(t, map[string]float64{"drop_reason=cardinality": 0}, series(rm, mDropped))
	}
}

// The transitions that exist from birth are the ones that the engine can make:
// random control of a real breaker makes all of them and no other.
func TestLegalTransitionsAreTheEngines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := breaker(k, "gateway")
		moves := []func(){
			b.ForceOpen, b.ForceClosed, b.ClearForce, b.Reset,
			func() { fail(b, 3) },
			func() { succeed(b, 1) },
			func() { time.Sleep(31 * time.Second); synctest.Wait() },
		}
		seed := uint64(1)
		for range 3000 {
			seed = seed*6364136223846793005 + 1442695040888963407
			moves[seed>>33%uint64(len(moves))]()
		}
		got := series(k.collect(t), mTransitions)
		require.ElementsMatch(t, slices.Collect(maps.Keys(allTransitions("gateway"))), slices.Collect(maps.Keys(got)))
		for name, n := range got {
			require.NotZero(t, n, name)
		}
		b.Close()
	})
}

// What callers' contexts hold does not keep anything from being counted.
func TestCancelledContextIsCounted(t *testing.T) {
	k := newKit(t)
	ctx, cancel := context.WithCancel(t.Context())
	b := breaker(k, "gateway")
	_ = b.Execute(ctx, func() error { cancel(); return errDown })
	_ = retrier(k.sink).Run(t.Context(), func(ctx context.Context) error {
		return resilience.Permanent(errors.Join(errDown, ctx.Err()))
	})
	rm := k.collect(t)
	require.Equal(t, 1., series(rm, mCalls)["outcome=failure,name=gateway"])
	require.Equal(t, 1., series(rm, mCallDuration)["outcome=failure,name=gateway"])
}

// A gauge of time is precise to a microsecond for as long as this will run.
func TestLastClosedTimePrecision(t *testing.T) {
	k := newKit(t)
	at := time.Unix(4_000_000_000, 123_456_000)
	newFakeBreaker(k.sink, "gateway", 1, events.Thresholds{}).set(func(s *events.Snapshot) { s.LastClosed = at })
	got := series(k.collect(t), mLastClosed)["name=gateway"]
	require.Less(t, math.Abs(got-4_000_000_000.123456), 1e-6)
}
