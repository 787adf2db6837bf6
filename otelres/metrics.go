package otelres

import (
	"context"
	"errors"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/breakwater-go/breakwater/events"
)

// instruments are all there are. Those of durations are nil without durations.
type instruments struct {
	status           metric.Int64ObservableUpDownCounter
	time             metric.Float64ObservableCounter
	lastClosed       metric.Float64ObservableGauge
	calls            metric.Int64ObservableCounter
	failureRatio     metric.Float64ObservableGauge
	failureThreshold metric.Float64ObservableGauge
	wouldReject      metric.Int64ObservableCounter

	budgetAvailable  metric.Float64ObservableGauge
	budgetLimit      metric.Float64ObservableGauge
	budgetOperations metric.Int64ObservableCounter
	budgetRetries    metric.Int64ObservableCounter

	transitions       metric.Int64Counter
	callDuration      metric.Float64Histogram
	operations        metric.Int64Counter
	attempts          metric.Int64Counter
	operationDuration metric.Float64Histogram
	attemptDuration   metric.Float64Histogram
	delay             metric.Float64Histogram
	dropped           metric.Int64Counter

	bulkheadInFlight metric.Int64ObservableUpDownCounter
	bulkheadQueued   metric.Int64ObservableUpDownCounter
	bulkheadLimit    metric.Int64ObservableUpDownCounter
	bulkheadCalls    metric.Int64ObservableCounter

	expired       metric.Int64Counter
	bulkheadWait  metric.Float64Histogram
	limited       metric.Int64Counter
	rateLimitWait metric.Float64Histogram
	used          metric.Int64Counter
	hedgeAttempts metric.Int64Counter
	hedgeDelay    metric.Float64Histogram
}

// creator makes instruments by the table and collects what goes wrong.
type creator struct {
	meter metric.Meter
	errs  []error
}

func made[I any](c *creator, i I, err error) I {
	if err != nil {
		c.errs = append(c.errs, err)
	}
	return i
}

func describe(id metricID) (name string, unit, brief metric.InstrumentOption) {
	d := metricTable[id]
	return d.name, metric.WithUnit(d.unit), metric.WithDescription(d.brief)
}

func (c *creator) counter(id metricID) metric.Int64Counter {
	name, unit, brief := describe(id)
	i, err := c.meter.Int64Counter(name, unit, brief)
	return made(c, i, err)
}

func (c *creator) histogram(id metricID) metric.Float64Histogram {
	name, unit, brief := describe(id)
	i, err := c.meter.Float64Histogram(name, unit, brief, metric.WithExplicitBucketBoundaries(metricTable[id].buckets...))
	return made(c, i, err)
}

func (c *creator) gauge(id metricID) metric.Float64ObservableGauge {
	name, unit, brief := describe(id)
	i, err := c.meter.Float64ObservableGauge(name, unit, brief)
	return made(c, i, err)
}

func (c *creator) level(id metricID) metric.Int64ObservableUpDownCounter {
	name, unit, brief := describe(id)
	i, err := c.meter.Int64ObservableUpDownCounter(name, unit, brief)
	return made(c, i, err)
}

func (c *creator) total(id metricID) metric.Int64ObservableCounter {
	name, unit, brief := describe(id)
	i, err := c.meter.Int64ObservableCounter(name, unit, brief)
	return made(c, i, err)
}

func newInstruments(m metric.Meter, durations bool) (instruments, error) {
	c := &creator{meter: m}
	i := instruments{
		lastClosed:       c.gauge(metricLastClosed),
		failureRatio:     c.gauge(metricFailureRatio),
		failureThreshold: c.gauge(metricFailureThreshold),
		wouldReject:      c.total(metricWouldReject),
		budgetAvailable:  c.gauge(metricBudgetAvailable),
		budgetLimit:      c.gauge(metricBudgetLimit),
		budgetOperations: c.total(metricBudgetOperations),
		budgetRetries:    c.total(metricBudgetRetries),
		transitions:      c.counter(metricTransitions),
		operations:       c.counter(metricOperations),
		attempts:         c.counter(metricAttempts),
		delay:            c.histogram(metricDelay),
		dropped:          c.counter(metricDropped),
		status:           c.level(metricStatus),
		calls:            c.total(metricCalls),

		bulkheadInFlight: c.level(metricBulkheadInFlight),
		bulkheadQueued:   c.level(metricBulkheadQueued),
		bulkheadLimit:    c.level(metricBulkheadLimit),
		bulkheadCalls:    c.total(metricBulkheadCalls),
		expired:          c.counter(metricTimeoutExpired),
		bulkheadWait:     c.histogram(metricBulkheadWait),
		limited:          c.counter(metricRateLimited),
		rateLimitWait:    c.histogram(metricRateLimitWait),
		used:             c.counter(metricFallbackUsed),
		hedgeAttempts:    c.counter(metricHedgeAttempts),
		hedgeDelay:       c.histogram(metricHedgeDelay),
	}
	name, unit, brief := describe(metricTime)
	time, err := m.Float64ObservableCounter(name, unit, brief)
	i.time = made(c, time, err)
	if durations {
		i.callDuration = c.histogram(metricCallDuration)
		i.operationDuration = c.histogram(metricOperationDuration)
		i.attemptDuration = c.histogram(metricAttemptDuration)
	}
	return i, errors.Join(c.errs...)
}

// observables are the instruments that observe serves.
func (i *instruments) observables() []metric.Observable {
	return []metric.Observable{
		i.status, i.time, i.lastClosed, i.calls, i.failureRatio, i.failureThreshold, i.wouldReject,
		i.budgetAvailable, i.budgetLimit, i.budgetOperations, i.budgetRetries,
		i.bulkheadInFlight, i.bulkheadQueued, i.bulkheadLimit, i.bulkheadCalls,
	}
}

// observedSeries holds the options that one name is observed with at collection.
type observedSeries struct {
	name   string
	plain  []metric.ObserveOption
	status [events.StatusCount][]metric.ObserveOption
	calls  [events.OutcomeCount][]metric.ObserveOption
}

func (t *Telemetry) newObservedSeries(name string) *observedSeries {
	s := &observedSeries{name: name}
	s.plain = []metric.ObserveOption{t.measured(keyBreakerName.String(name))}
	for i := range s.status {
		s.status[i] = []metric.ObserveOption{t.measured(keyBreakerName.String(name), keyBreakerState.String(events.Status(i).String()))}
	}
	for i := range s.calls {
		s.calls[i] = []metric.ObserveOption{t.measured(keyBreakerName.String(name), keyCallOutcome.String(events.Outcome(i).String()))}
	}
	return s
}

// recordedSeries holds the options that a breaker's name is recorded with, made
// once so that a measurement allocates nothing.
type recordedSeries struct {
	name        string
	transitions [enforced][enforced][]metric.AddOption
	duration    [events.OutcomeCount][]metric.RecordOption
	onSpan      [events.StatusCount][]attribute.KeyValue // the breaker on a span of others

	seeded atomic.Bool
}

func (t *Telemetry) newRecordedSeries(name string) *recordedSeries {
	s := &recordedSeries{name: name}
	for from := range s.transitions {
		for to := range s.transitions[from] {
			s.transitions[from][to] = []metric.AddOption{t.measured(keyBreakerName.String(name),
				keyPreviousState.String(events.Status(from).String()), keyBreakerState.String(events.Status(to).String()))}
		}
	}
	for i := range s.duration {
		s.duration[i] = []metric.RecordOption{t.measured(keyBreakerName.String(name), keyCallOutcome.String(events.Outcome(i).String()))}
	}
	for i := range s.onSpan {
		s.onSpan[i] = onSpan(name, events.Status(i))
	}
	return s
}

// retrySeries holds the options that a retry's name is recorded with.
type retrySeries struct {
	operations        [retryOutcomeCount][]metric.AddOption
	operationDuration [retryOutcomeCount][]metric.RecordOption
	attempts          [kindCount][events.OutcomeCount][]metric.AddOption
	attemptDuration   [events.OutcomeCount][]metric.RecordOption
	delay             []metric.RecordOption

	seeded atomic.Bool
}

func (t *Telemetry) newRetrySeries(name string) *retrySeries {
	s := new(retrySeries)
	for o := range retryOutcomeCount {
		m := t.measured(keyRetryName.String(name), keyRetryOutcome.String(o.String()))
		s.operations[o], s.operationDuration[o] = []metric.AddOption{m}, []metric.RecordOption{m}
	}
	for o := range s.attemptDuration {
		outcome := keyAttemptOutcome.String(events.Outcome(o).String())
		for k := range kindCount {
			s.attempts[k][o] = []metric.AddOption{t.measured(keyRetryName.String(name), keyAttemptKind.String(k.String()), outcome)}
		}
		s.attemptDuration[o] = []metric.RecordOption{t.measured(keyRetryName.String(name), outcome)}
	}
	s.delay = []metric.RecordOption{t.measured(keyRetryName.String(name))}
	return s
}

func (t *Telemetry) measured(attrs ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(t.attributeSet(attrs...))
}

// drop counts an event that is reported under the overflow's name.
func (t *Telemetry) drop(ctx context.Context) {
	if t.dropped.Enabled(ctx) {
		t.dropped.Add(ctx, 1, t.droppedByName...)
		return
	}
	t.uncounted.Add(1)
}

// observe reports every breaker and bulkhead as it is now. The SDK calls it at collection,
// under a lock of its own, so it takes none but the registries', which are never held
// while an instrument is used.
func (t *Telemetry) observe(_ context.Context, o metric.Observer) error {
	if t.closed.Load() {
		return nil
	}
	t.seed()
	for _, b := range t.breakers.observations() {
		s := b.series
		for i, n := range b.status {
			if i >= int(enforced) && !b.shadowed {
				break
			}
			o.ObserveInt64(t.status, n, s.status[i]...)
			o.ObserveFloat64(t.time, b.timeIn[i].Seconds(), s.status[i]...)
		}
		for i, n := range b.calls {
			o.ObserveInt64(t.calls, int64(n), s.calls[i]...)
		}
		o.ObserveFloat64(t.lastClosed, unixSeconds(b.lastClosed), s.plain...)
		o.ObserveFloat64(t.failureThreshold, b.threshold, s.plain...)
		if b.judged {
			o.ObserveFloat64(t.failureRatio, b.window.FailureRatio(), s.plain...)
		}
		if b.shadow {
			o.ObserveInt64(t.wouldReject, int64(b.wouldReject), s.plain...)
		}
	}
	for s, b := range t.budgets.observations() {
		o.ObserveFloat64(t.budgetAvailable, b.Available, s.plain...)
		o.ObserveFloat64(t.budgetLimit, b.Limit, s.plain...)
		o.ObserveInt64(t.budgetOperations, int64(b.Operations), s.plain...)
		o.ObserveInt64(t.budgetRetries, int64(b.Granted), s.retries[budgetGranted]...)
		o.ObserveInt64(t.budgetRetries, int64(b.Refused), s.retries[budgetRefused]...)
	}
	t.observeBulkheads(o)
	return nil
}

// seed makes the series of counters exist that are not recorded yet, with value 0,
// and counts the drops that no SDK was there to count. It runs at the beginning of
// each collection, which therefore has every series of what was born before it,
// also if an SDK was installed only since. A seed is nobody's measurement and
// comes without the context of a call.
func (t *Telemetry) seed() {
	ctx := context.Background()
	if n := t.uncounted.Swap(0); n > 0 || !t.droppedSeeded.Swap(true) {
		t.dropped.Add(ctx, n, t.droppedByName...)
	}
	for _, s := range *t.breakers.recorded.Load() {
		t.seedBreaker(ctx, s)
	}
	if t.breakers.overflowed.Load() {
		t.seedBreaker(ctx, t.breakers.overflow.recorded)
	}
	t.retries.each(func(s *retrySeries) { t.seedRetry(ctx, s) })
	t.seedPolicies(ctx)
}

func (t *Telemetry) seedBreaker(ctx context.Context, s *recordedSeries) {
	if s.seeded.Swap(true) {
		return
	}
	for _, tr := range legalTransitions() {
		t.transitions.Add(ctx, 0, s.transitions[tr.from][tr.to]...)
	}
}

func (t *Telemetry) seedRetry(ctx context.Context, s *retrySeries) {
	if s.seeded.Swap(true) {
		return
	}
	for _, o := range s.operations {
		t.operations.Add(ctx, 0, o...)
	}
	for _, outcomes := range s.attempts {
		for _, o := range outcomes {
			t.attempts.Add(ctx, 0, o...)
		}
	}
}
