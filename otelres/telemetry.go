package otelres

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/events"
)

// Telemetry turns events into spans, span events, log records and metrics. Make
// one with [New] and give its [Telemetry.Sink] to every breaker and retry: one
// per process is the rule, since names are summed and bounded within one. All
// methods may be called concurrently, and on a nil Telemetry.
type Telemetry struct {
	config
	errorTypes *errorTypes

	tracer trace.Tracer
	// placeholder is the global TracerProvider that does nothing, if that is
	// where spans go; until another takes its place there is nothing to trace.
	placeholder trace.TracerProvider
	spanEvents  bool // events go on spans

	logger    log.Logger
	logsAtAll bool // the mode makes log records of some event

	instruments
	breakers *registry
	retries  *names[retrySeries]
	policies
	budgets       *budgets
	droppedByName []metric.AddOption
	droppedSeeded atomic.Bool
	uncounted     atomic.Int64 // drops that no SDK was there to count
	registration  metric.Registration

	closed   atomic.Bool
	shutdown sync.Once
	done     chan struct{} // closed when the callback is unregistered, after which:
	err      error         // is what came of it

	sink events.Sink
}

// New returns a Telemetry that reports to the global providers, or to those that
// opts name. It may be called before an SDK is installed globally: what is
// reported begins to arrive when it is, the state of breakers born before then
// included. Until then a call costs a question or two, and nothing is put on spans of
// other providers either. An error means that an option or an instrument was refused; nothing is
// left behind then.
func New(opts ...Option) (*Telemetry, error) {
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	t := &Telemetry{
		config:     c,
		errorTypes: newErrorTypes(c.errorType),
		spanEvents: c.eventMode != Logs,
		logsAtAll:  c.eventMode == Logs || c.eventMode == Both || c.eventMode == Auto && c.logging,
		done:       make(chan struct{}),
	}
	t.tracer = c.tracers.Tracer(ScopeName, trace.WithInstrumentationVersion(Version), trace.WithSchemaURL(schemaURL))
	if isPlaceholder(c.tracers) {
		t.placeholder = c.tracers
	}
	if tracesNowhere(c.tracers) {
		t.spans, t.breakerSpans, t.spanEvents = Off, false, false
	}
	t.logger = c.loggers.Logger(ScopeName, log.WithInstrumentationVersion(Version), log.WithSchemaURL(schemaURL))

	meter := c.meters.Meter(ScopeName, metric.WithInstrumentationVersion(Version), metric.WithSchemaURL(schemaURL))
	t.instruments, err = newInstruments(meter, c.durations)
	if err != nil {
		return nil, err
	}
	t.breakers = newRegistry(c.nameLimit, t.newObservedSeries, t.newRecordedSeries)
	t.retries = newNames(c.nameLimit, t.newRetrySeries)
	t.policies = t.newPolicies()
	t.budgets = newBudgets(c.nameLimit, t.newBudgetSeries)
	t.droppedByName = []metric.AddOption{t.measured(keyDropReason.String(dropCardinality))}
	t.registration, err = meter.RegisterCallback(t.observe, t.observables()...)
	if err != nil {
		if t.registration != nil {
			err = errors.Join(err, t.registration.Unregister())
		}
		return nil, err
	}
	t.sink = t.newSink()
	return t, nil
}

// Sink returns the sink to give to breakers and retries, joined with others or
// alone. Its functions are nil where there is nothing to report: a call costs
// what is listened to.
func (t *Telemetry) Sink() events.Sink {
	if t == nil {
		return events.Sink{}
	}
	return t.sink
}

// Shutdown stops reporting: series of breakers end, and events that come later
// make nothing, except that spans under way are ended. It waits for a collection
// under way until ctx is done, and returns ctx's error then; the rest happens without it.
// Breakers and retries go on working. A second call waits for the same and
// returns the same.
//
// The last export of a MeterProvider asks for the state of breakers once more, so
// shut the providers down first; a process that ends needs nothing else.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.shutdown.Do(func() {
		t.closed.Store(true)
		t.breakers.close()
		t.bulkheads.close()
		t.budgets.close()
		// The SDK takes the lock of a collection to unregister.
		go func() {
			defer close(t.done)
			t.err = t.registration.Unregister()
		}()
	})
	select {
	case <-t.done:
		return t.err
	default:
	}
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// newSink returns the functions for what is wanted and nil for the rest. The events that
// every call ends with are handed on by their address: a method value would copy them once
// more, and so would each function that they go through, for 50 ns in a retry.
func (t *Telemetry) newSink() events.Sink {
	metered := !metersNowhere(t.meters)
	onSpans := t.spans != Off // breakers describe themselves on the current span
	logs := t.logsAtAll

	var s events.Sink
	if metered {
		s.BreakerCreated = t.breakerCreated
		s.BreakerRetired = t.breakerRetired
		s.BreakerReconfigured = t.breakerReconfigured
		s.BudgetCreated = t.budgetCreated
		s.BudgetRetired = t.budgetRetired
	}
	if t.breakerSpans && onSpans {
		s.CallStarted = t.callStarted
	}
	if s.CallStarted != nil || t.durations && (metered || onSpans) {
		s.CallFinished = func(ctx context.Context, e events.CallFinished) { t.callFinished(ctx, &e) }
	}
	if onSpans || t.spanEvents || logs {
		s.CallRejected = t.callRejected
	}
	if t.spanEvents || logs {
		s.BudgetExhausted = t.budgetExhausted
	}
	if metered || t.spanEvents || logs {
		s.StateChanged = t.stateChanged
	}
	switch {
	case onSpans:
		s.RetryStarted = t.retryStarted
	case metered:
		s.RetryStarted = t.retryBegan
	}
	if t.spans == Attempts {
		s.AttemptStarted = t.attemptStarted
	}
	if metered || t.spans == Attempts {
		s.AttemptFinished = func(ctx context.Context, e events.AttemptFinished) { t.attemptFinished(ctx, &e) }
	}
	if metered || t.spanEvents || logs {
		s.RetryScheduled = t.retryScheduled
	}
	if metered || onSpans || logs {
		s.RetryFinished = func(ctx context.Context, e events.RetryFinished) { t.retryFinished(ctx, &e) }
	}
	if metered {
		s.PolicyCreated = t.policyCreated
		s.BulkheadCreated = t.bulkheadCreated
		s.BulkheadRetired = t.bulkheadRetired
	}
	if metered || t.spanEvents || logs {
		s.TimedOut = t.timedOut
		s.BulkheadWaited = t.bulkheadWaited
		s.RateLimited = t.rateLimited
		s.FellBack = t.fellBack
	}
	if t.spanEvents || logs {
		s.BulkheadRejected = t.bulkheadRejected
	}
	if metered || t.spans == Attempts {
		s.HedgeAttemptStarted = t.hedgeAttemptStarted
		s.HedgeAttemptFinished = t.hedgeAttemptFinished
	}
	if metered || onSpans || t.spanEvents || logs {
		s.Enabled = t.enabled
	}
	return s
}

// enabled reports whether anything can come of a call or a retry that begins now:
// there is a meter that records, a tracer that traces or a logger that logs. Without
// an SDK there is none of it, and the engine then does not even read the clock.
func (t *Telemetry) enabled(ctx context.Context) bool {
	return !t.closed.Load() && (t.operations.Enabled(ctx) || t.tracing() ||
		t.logsAtAll && t.logger.Enabled(ctx, log.EnabledParameters{Severity: log.SeverityWarn}))
}

// breakerCreated begins a breaker's series.
func (t *Telemetry) breakerCreated(ctx context.Context, e events.BreakerCreated) {
	if own, added := t.breakers.born(e); added && !own {
		t.drop(ctx)
	}
}

// breakerRetired ends a breaker's series.
func (t *Telemetry) breakerRetired(_ context.Context, e events.BreakerRetired) {
	t.breakers.retired(e.ID)
}

// breakerReconfigured takes over what is shown of a configuration.
func (t *Telemetry) breakerReconfigured(_ context.Context, e events.BreakerReconfigured) {
	t.breakers.reconfigured(e)
}

// callStarted begins the span of a call.
func (t *Telemetry) callStarted(ctx context.Context, e events.CallStarted) context.Context {
	if !t.tracing() {
		return t.untraced(ctx)
	}
	return t.startCall(ctx, e)
}

// callFinished records a call's duration and describes its breaker on the span.
func (t *Telemetry) callFinished(ctx context.Context, e *events.CallFinished) {
	if t.callDuration != nil && !t.closed.Load() {
		t.callDuration.Record(ctx, seconds(e.Duration), t.breakers.seriesOf(e.Header).duration[e.Outcome]...)
	}
	if t.spans != Off {
		t.finishCall(ctx, e)
	}
}

// callRejected tells of a rejection on the span. Metrics read it off the breaker.
func (t *Telemetry) callRejected(ctx context.Context, e events.CallRejected) {
	if t.closed.Load() {
		return
	}
	span := trace.SpanFromContext(ctx)
	status := events.StatusOf(e.State, e.Forced)
	if t.spans != Off && span.IsRecording() {
		t.describeBreaker(span, e.Name, status)
	}
	x, ok := t.exit(ctx, eventCallRejected, span, log.SeverityDebug)
	if !ok {
		return
	}
	attrs := []attribute.KeyValue{keyBreakerName.String(exportable(e.Name)), keyBreakerState.String(status.String())}
	if e.RetryAfter > 0 {
		attrs = append(attrs, keyRetryAfter.Float64(e.RetryAfter.Seconds()))
	}
	t.emit(ctx, eventCallRejected, x, time.Now(), attrs...)
}

// stateChanged counts a transition and tells of it.
func (t *Telemetry) stateChanged(ctx context.Context, e events.StateChanged) {
	if t.closed.Load() {
		return
	}
	from, to := e.FromStatus(), e.ToStatus()
	if from < enforced && to < enforced {
		t.transitions.Add(ctx, 1, t.breakers.series(e.Name).transitions[from][to]...)
	}
	severity := log.SeverityInfo
	if to == events.StatusOpen || to == events.StatusForcedOpen {
		severity = log.SeverityWarn
	}
	x, ok := t.exit(ctx, eventStateChange, trace.SpanFromContext(ctx), severity)
	if !ok {
		return
	}
	attrs := []attribute.KeyValue{
		keyBreakerName.String(exportable(e.Name)),
		keyPreviousState.String(from.String()),
		keyBreakerState.String(to.String()),
		keyTransitionReason.String(string(e.Reason)),
	}
	if e.Counts.Volume() > 0 {
		attrs = append(attrs, keyFailureRatio.Float64(e.Counts.FailureRatio()))
	}
	t.emit(ctx, eventStateChange, x, e.Time, attrs...)
}

// retryBegan gives the retry its series.
func (t *Telemetry) retryBegan(_ context.Context, e events.RetryStarted) context.Context {
	if !t.closed.Load() {
		t.retries.series(e.Name)
	}
	return nil // as it was
}

// retryStarted gives the retry its series and begins its span.
func (t *Telemetry) retryStarted(ctx context.Context, e events.RetryStarted) context.Context {
	if !t.closed.Load() {
		t.retries.series(e.Name)
	}
	if !t.tracing() {
		return t.untraced(ctx)
	}
	return t.startOperation(ctx, e)
}

// attemptStarted begins the attempt's span.
func (t *Telemetry) attemptStarted(ctx context.Context, e events.AttemptStarted) context.Context {
	if !t.tracing() {
		return t.untraced(ctx)
	}
	return t.startAttempt(ctx, e)
}

// attemptFinished counts the attempt and ends its span.
func (t *Telemetry) attemptFinished(ctx context.Context, e *events.AttemptFinished) {
	if !t.closed.Load() && t.attempts.Enabled(ctx) {
		t.countAttempt(ctx, t.retries.series(e.Name), e.Attempt, e.Outcome, e.Duration)
	}
	if t.spans == Attempts {
		t.finishAttempt(ctx, e)
	}
}

func (t *Telemetry) countAttempt(ctx context.Context, s *retrySeries, attempt int, o events.Outcome, d time.Duration) {
	t.attempts.Add(ctx, 1, s.attempts[kindOf(attempt)][o]...)
	if t.attemptDuration != nil {
		t.attemptDuration.Record(ctx, seconds(d), s.attemptDuration[o]...)
	}
}

// retryScheduled records a wait and tells of it.
func (t *Telemetry) retryScheduled(ctx context.Context, e events.RetryScheduled) {
	if t.closed.Load() {
		return
	}
	if t.delay.Enabled(ctx) {
		t.delay.Record(ctx, e.Delay.Seconds(), t.retries.series(e.Name).delay...)
	}
	x, ok := t.exit(ctx, eventRetryScheduled, t.operationSpan(ctx), log.SeverityDebug)
	if !ok {
		return
	}
	t.emit(ctx, eventRetryScheduled, x, time.Now(),
		keyRetryName.String(exportable(e.Name)),
		keyAttemptNumber.Int(e.Attempt),
		keyDelay.Float64(e.Delay.Seconds()),
		t.errorTypes.of(e.Err, false))
}

// retryFinished counts the operation, tells of it if its attempts are used up,
// and ends its span.
func (t *Telemetry) retryFinished(ctx context.Context, e *events.RetryFinished) {
	if !t.closed.Load() {
		t.countOperation(ctx, e)
		if e.Reason == events.ReasonExhausted {
			t.exhausted(ctx, e)
		}
	}
	if t.spans != Off {
		t.finishOperation(ctx, e)
	}
}

func (t *Telemetry) countOperation(ctx context.Context, e *events.RetryFinished) {
	if !t.operations.Enabled(ctx) {
		return
	}
	s := t.retries.series(e.Name)
	outcome := retryOutcomeOf(e.Reason)
	t.operations.Add(ctx, 1, s.operations[outcome]...)
	if t.operationDuration != nil {
		t.operationDuration.Record(ctx, seconds(e.Duration), s.operationDuration[outcome]...)
	}
	if s == t.retries.overflow && e.Name != other {
		t.drop(ctx)
	}
}

func (t *Telemetry) exhausted(ctx context.Context, e *events.RetryFinished) {
	x, ok := t.exit(ctx, eventRetryExhausted, t.operationSpan(ctx), log.SeverityWarn)
	if !ok {
		return
	}
	t.emit(ctx, eventRetryExhausted, x, time.Now(),
		keyRetryName.String(exportable(e.Name)),
		keyAttemptCount.Int(e.Attempts),
		keyTotalDelay.Float64(e.Delay.Seconds()),
		t.errorTypes.of(e.Err, false))
}

// unixSeconds is t as a number of seconds, with what precision a float64 has for
// the present, a quarter of a microsecond.
func unixSeconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// seconds is d.Seconds() in one division, exact for the first 104 days.
func seconds(d time.Duration) float64 { return float64(d) / 1e9 }

// tracing reports whether a span that is started now can come to anything.
func (t *Telemetry) tracing() bool {
	if t.closed.Load() || t.spans == Off {
		return false
	}
	return t.placeholder == nil || otel.GetTracerProvider() != t.placeholder
}
