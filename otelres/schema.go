package otelres

import (
	"go.opentelemetry.io/otel/attribute"

	"github.com/breakwater-go/breakwater/events"
)

// The tables in this file are the one description of what leaves this package:
// instruments are created from them and TELEMETRY.md is generated from them.

// attributeDef describes an attribute.
type attributeDef struct {
	key    attribute.Key
	typ    attribute.Type
	unit   string   // of a number, in UCUM; empty for counts and ratios
	values []string // all there are; nil when they come from the user
	brief  string
}

func spell[T interface{ String() string }](values ...T) []string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = v.String()
	}
	return words
}

func upTo[T ~int | ~uint8](n T) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = T(i)
	}
	return all
}

func reasons(all ...events.Reason) []string {
	words := make([]string, len(all))
	for i, r := range all {
		words[i] = string(r)
	}
	return words
}

const beyondLimit = "; `_OTHER` in metrics for those beyond the name limit"

// attributeTable describes every attribute, in the order of the document.
var attributeTable = []attributeDef{
	{key: keyBreakerName, typ: attribute.STRING, brief: "name of the breaker" + beyondLimit},
	{key: keyBreakerState, typ: attribute.STRING, values: spell(upTo(events.Status(events.StatusCount))...), brief: "state of the breaker; where a call is told of, the state it was admitted or rejected in; where a transition is, the new one; `shadow_` says that it is what a breaker in shadow mode would be in, while it rejects nothing"},
	{key: keyPreviousState, typ: attribute.STRING, values: spell(upTo(events.Status(events.StatusCount))...), brief: "state a transition left"},
	{key: keyCallOutcome, typ: attribute.STRING, values: spell(upTo(events.Outcome(events.OutcomeCount))...), brief: "what a call came to; `rejected` calls were not run"},
	{key: keyTransitionReason, typ: attribute.STRING, values: reasons(
		events.ReasonErrorRate, events.ReasonSlowCallRate, events.ReasonSleepWindowElapsed, events.ReasonProbesPassed,
		events.ReasonProbesFailed, events.ReasonProbeTimeout, events.ReasonForced, events.ReasonForceCleared, events.ReasonReset),
		brief: "why the state changed"},
	{key: keyFailureRatio, typ: attribute.FLOAT64, brief: "share of failures, in [0,1], in the state that ended"},
	{key: keyRetryAfter, typ: attribute.FLOAT64, unit: "s", brief: "time until a probe may be admitted; absent when that is not known"},

	{key: keyBudgetName, typ: attribute.STRING, brief: "name of the retry budget" + beyondLimit},
	{key: keyBudgetOutcome, typ: attribute.STRING, values: spell(upTo(budgetOutcomeCount)...), brief: "what the budget made of a retry that was to follow"},

	{key: keyRetryName, typ: attribute.STRING, brief: "name of the retry" + beyondLimit},
	{key: keyRetryOutcome, typ: attribute.STRING, values: spell(upTo(retryOutcomeCount)...), brief: "what a retried operation came to"},
	{key: keyRetryReason, typ: attribute.STRING, values: reasons(
		events.ReasonSuccess, events.ReasonSuccessAfterRetry, events.ReasonExhausted, events.ReasonNotRetryable,
		events.ReasonDeadline, events.ReasonCanceled, events.ReasonRejected, events.ReasonRetryAfterTooLong,
		events.ReasonBudgetExhausted, events.ReasonPanic),
		brief: "why a retried operation ended; finer than its outcome, which says `not_retryable` for `retry_after_too_long` and `panic`"},
	{key: keyMaxAttempts, typ: attribute.INT64, brief: "attempts the operation was allowed"},
	{key: keyAttemptCount, typ: attribute.INT64, brief: "attempts that were run"},
	{key: keyAttemptNumber, typ: attribute.INT64, brief: "number of the attempt, the first is 1; where a wait is told of, the attempt that follows it"},
	{key: keyAttemptKind, typ: attribute.STRING, values: spell(upTo(kindCount)...), brief: "whether the attempt is the first"},
	{key: keyAttemptOutcome, typ: attribute.STRING, values: spell(upTo(events.Outcome(events.OutcomeCount))...), brief: "what the attempt came to; `rejected` when a breaker inside it did not run the work"},
	{key: keyAttemptDecision, typ: attribute.STRING, values: reasons(
		events.ReasonRetry, events.ReasonSuccess, events.ReasonSuccessAfterRetry, events.ReasonExhausted, events.ReasonNotRetryable,
		events.ReasonDeadline, events.ReasonCanceled, events.ReasonRejected, events.ReasonRetryAfterTooLong,
		events.ReasonBudgetExhausted, events.ReasonPanic),
		brief: "what was decided after the attempt: `retry`, or the reason for the end"},
	{key: keyDelay, typ: attribute.FLOAT64, unit: "s", brief: "one wait: on an attempt, the one before it"},
	{key: keyTotalDelay, typ: attribute.FLOAT64, unit: "s", brief: "all waits of the operation together"},

	{key: keyTimeoutName, typ: attribute.STRING, brief: "name of the timeout" + beyondLimit},
	{key: keyTimeoutLimit, typ: attribute.FLOAT64, unit: "s", brief: "limit that passed"},

	{key: keyBulkheadName, typ: attribute.STRING, brief: "name of the bulkhead" + beyondLimit},
	{key: keyBulkheadOutcome, typ: attribute.STRING, values: spell(upTo(heldCount)...), brief: "what became of a call: it ran; it was not run for want of a slot, or because its context ended in the queue"},
	{key: keyBulkheadReason, typ: attribute.STRING, values: reasons(events.ReasonQueueFull, events.ReasonMaxWait), brief: "why a call was not run"},
	{key: keyBulkheadWait, typ: attribute.FLOAT64, unit: "s", brief: "time in the queue"},

	{key: keyRateLimitName, typ: attribute.STRING, brief: "name of the rate limit" + beyondLimit},
	{key: keyRateLimitOutcome, typ: attribute.STRING, values: spell(upTo(heldCount)...), brief: "what became of a call that was held up: it ran after a wait; it was not run, or its context ended in the wait"},
	{key: keyRateLimitWait, typ: attribute.FLOAT64, unit: "s", brief: "time waited; 0 without a wait"},

	{key: keyFallbackName, typ: attribute.STRING, brief: "name of the fallback" + beyondLimit},
	{key: keyFallbackOutcome, typ: attribute.STRING, values: spell(events.OutcomeSuccess, events.OutcomeFailure), brief: "whether the fallback had something to give"},

	{key: keyHedgeName, typ: attribute.STRING, brief: "name of the hedge" + beyondLimit},
	{key: keyHedgeAttemptNumber, typ: attribute.INT64, brief: "number of the attempt in its hedged operation, the first is 1"},
	{key: keyHedgeAttemptKind, typ: attribute.STRING, values: spell(upTo(hedgeKindCount)...), brief: "whether the attempt is the first; there are as many hedged operations as initial attempts"},
	{key: keyHedgeAttemptOutcome, typ: attribute.STRING, values: spell(upTo(hedgeOutcomeCount)...), brief: "what the attempt came to: `won` if its result is the operation's, `lost` if it was overtaken or its caller gave up, `rejected` when a policy inside did not run it"},
	{key: keyHedgeDelay, typ: attribute.FLOAT64, unit: "s", brief: "how long after the attempt before it a further one began"},

	{key: keyDropReason, typ: attribute.STRING, values: []string{dropCardinality}, brief: "why an event is not reported as it should be: `cardinality`, its name is beyond the name limit"},
	{key: keyErrorType, typ: attribute.STRING, brief: "kind of the error, never its message: `timeout`, `canceled`, `circuit_open`, `panic`, what the error's `ErrorType()` says, or a Go type; at most 16 values per process, then `_OTHER`"},
}

// instrumentKind tells instruments apart in the table.
type instrumentKind int

const (
	counter instrumentKind = iota
	histogram
	observableCounter
	observableUpDownCounter
	observableGauge
)

func (k instrumentKind) String() string {
	return [...]string{"Counter", "Histogram", "ObservableCounter", "ObservableUpDownCounter", "ObservableGauge"}[k]
}

// metricID is an index into metricTable.
type metricID int

const (
	metricStatus metricID = iota
	metricTime
	metricLastClosed
	metricTransitions
	metricCalls
	metricCallDuration
	metricFailureRatio
	metricFailureThreshold
	metricWouldReject
	metricOperations
	metricAttempts
	metricOperationDuration
	metricAttemptDuration
	metricDelay
	metricBudgetAvailable
	metricBudgetLimit
	metricBudgetOperations
	metricBudgetRetries
	metricTimeoutExpired
	metricBulkheadInFlight
	metricBulkheadQueued
	metricBulkheadLimit
	metricBulkheadCalls
	metricBulkheadWait
	metricRateLimited
	metricRateLimitWait
	metricFallbackUsed
	metricHedgeAttempts
	metricHedgeDelay
	metricDropped
	metricCount
)

// metricDef describes an instrument.
type metricDef struct {
	name       string
	kind       instrumentKind
	float      bool // a float64 instrument
	unit       string
	attributes []attribute.Key
	buckets    []float64
	brief      string
}

// Bucket boundaries in seconds. Operations and waits last longer than calls.
var (
	callBuckets = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
	longBuckets = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60}
)

var metricTable = [metricCount]metricDef{
	metricStatus: {name: "resilience.circuit_breaker.status", kind: observableUpDownCounter, unit: "{circuit_breaker}",
		attributes: []attribute.Key{keyBreakerName, keyBreakerState},
		brief:      "Breakers that are in the state: 1 in one state and 0 in the others, or how many where several have one name."},
	metricTime: {name: "resilience.circuit_breaker.time", kind: observableCounter, float: true, unit: "s",
		attributes: []attribute.Key{keyBreakerName, keyBreakerState},
		brief:      "Time spent in the state since the breaker's birth."},
	metricLastClosed: {name: "resilience.circuit_breaker.last_closed_time", kind: observableGauge, float: true, unit: "s",
		attributes: []attribute.Key{keyBreakerName},
		brief:      "Unix time at which the breaker was last closed: now while it is, and while what is open rejects nothing because it is in shadow mode; the earliest where several have one name."},
	metricTransitions: {name: "resilience.circuit_breaker.transitions", kind: counter, unit: "{transition}",
		attributes: []attribute.Key{keyBreakerName, keyPreviousState, keyBreakerState},
		brief:      "State changes, but for those from or to a state of shadow mode."},
	metricCalls: {name: "resilience.circuit_breaker.calls", kind: observableCounter, unit: "{call}",
		attributes: []attribute.Key{keyBreakerName, keyCallOutcome},
		brief:      "Calls that ended or were rejected."},
	metricCallDuration: {name: "resilience.circuit_breaker.call.duration", kind: histogram, float: true, unit: "s", buckets: callBuckets,
		attributes: []attribute.Key{keyBreakerName, keyCallOutcome},
		brief:      "Duration of calls that ran."},
	metricFailureRatio: {name: "resilience.circuit_breaker.failure.ratio", kind: observableGauge, float: true, unit: "1",
		attributes: []attribute.Key{keyBreakerName},
		brief:      "Share of failures in the sliding window, in [0,1]; absent unless the breaker is closed, not forced, and its window holds the volume threshold."},
	metricFailureThreshold: {name: "resilience.circuit_breaker.failure.threshold", kind: observableGauge, float: true, unit: "1",
		attributes: []attribute.Key{keyBreakerName},
		brief:      "Share of failures at which the breaker opens, in (0,1]; the lowest where several have one name."},
	metricWouldReject: {name: "resilience.circuit_breaker.would_reject", kind: observableCounter, unit: "{call}",
		attributes: []attribute.Key{keyBreakerName},
		brief:      "Calls that ran although a breaker in shadow mode would have rejected them; they are among the calls by their outcome."},
	metricOperations: {name: "resilience.retry.operations", kind: counter, unit: "{operation}",
		attributes: []attribute.Key{keyRetryName, keyRetryOutcome},
		brief:      "Retried operations that ended."},
	metricAttempts: {name: "resilience.retry.attempts", kind: counter, unit: "{attempt}",
		attributes: []attribute.Key{keyRetryName, keyAttemptKind, keyAttemptOutcome},
		brief:      "Attempts that ended."},
	metricOperationDuration: {name: "resilience.retry.operation.duration", kind: histogram, float: true, unit: "s", buckets: longBuckets,
		attributes: []attribute.Key{keyRetryName, keyRetryOutcome},
		brief:      "Duration of retried operations, waits included."},
	metricAttemptDuration: {name: "resilience.retry.attempt.duration", kind: histogram, float: true, unit: "s", buckets: callBuckets,
		attributes: []attribute.Key{keyRetryName, keyAttemptOutcome},
		brief:      "Duration of attempts."},
	metricDelay: {name: "resilience.retry.delay", kind: histogram, float: true, unit: "s", buckets: longBuckets,
		attributes: []attribute.Key{keyRetryName},
		brief:      "Waits between attempts, as scheduled."},
	metricBudgetAvailable: {name: "resilience.retry.budget.available", kind: observableGauge, float: true, unit: "{retry}",
		attributes: []attribute.Key{keyBudgetName},
		brief:      "Retries that the budget would grant at once; the sum where several have one name."},
	metricBudgetLimit: {name: "resilience.retry.budget.limit", kind: observableGauge, float: true, unit: "{retry}",
		attributes: []attribute.Key{keyBudgetName},
		brief:      "What that tends to while traffic stays as it is and nobody retries."},
	metricBudgetOperations: {name: "resilience.retry.budget.operations", kind: observableCounter, unit: "{operation}",
		attributes: []attribute.Key{keyBudgetName},
		brief:      "Retried operations that paid into the budget."},
	metricBudgetRetries: {name: "resilience.retry.budget.retries", kind: observableCounter, unit: "{retry}",
		attributes: []attribute.Key{keyBudgetName, keyBudgetOutcome},
		brief:      "Retries that the budget granted or refused."},
	metricTimeoutExpired: {name: "resilience.timeout.expired", kind: counter, unit: "{call}",
		attributes: []attribute.Key{keyTimeoutName},
		brief:      "Calls that failed after the limit of their timeout had passed."},
	metricBulkheadInFlight: {name: "resilience.bulkhead.in_flight", kind: observableUpDownCounter, unit: "{call}",
		attributes: []attribute.Key{keyBulkheadName},
		brief:      "Calls that hold a slot."},
	metricBulkheadQueued: {name: "resilience.bulkhead.queued", kind: observableUpDownCounter, unit: "{call}",
		attributes: []attribute.Key{keyBulkheadName},
		brief:      "Calls that wait for a slot."},
	metricBulkheadLimit: {name: "resilience.bulkhead.limit", kind: observableUpDownCounter, unit: "{call}",
		attributes: []attribute.Key{keyBulkheadName},
		brief:      "Slots there are: the most calls that may run at once."},
	metricBulkheadCalls: {name: "resilience.bulkhead.calls", kind: observableCounter, unit: "{call}",
		attributes: []attribute.Key{keyBulkheadName, keyBulkheadOutcome},
		brief:      "Calls that asked for a slot; those that wait are not in it yet."},
	metricBulkheadWait: {name: "resilience.bulkhead.wait.duration", kind: histogram, float: true, unit: "s", buckets: longBuckets,
		attributes: []attribute.Key{keyBulkheadName, keyBulkheadOutcome},
		brief:      "Time in the queue, of calls that were in it."},
	metricRateLimited: {name: "resilience.rate_limit.limited", kind: counter, unit: "{call}",
		attributes: []attribute.Key{keyRateLimitName, keyRateLimitOutcome},
		brief:      "Calls that could not go at once."},
	metricRateLimitWait: {name: "resilience.rate_limit.wait.duration", kind: histogram, float: true, unit: "s", buckets: longBuckets,
		attributes: []attribute.Key{keyRateLimitName, keyRateLimitOutcome},
		brief:      "Time waited, of calls that had to."},
	metricFallbackUsed: {name: "resilience.fallback.used", kind: counter, unit: "{call}",
		attributes: []attribute.Key{keyFallbackName, keyFallbackOutcome},
		brief:      "Failed calls that a fallback was to stand in for."},
	metricHedgeAttempts: {name: "resilience.hedge.attempts", kind: counter, unit: "{attempt}",
		attributes: []attribute.Key{keyHedgeName, keyHedgeAttemptKind, keyHedgeAttemptOutcome},
		brief:      "Attempts of hedged operations that ended."},
	metricHedgeDelay: {name: "resilience.hedge.delay", kind: histogram, float: true, unit: "s", buckets: callBuckets,
		attributes: []attribute.Key{keyHedgeName},
		brief:      "How long after the attempt before them further attempts began."},
	metricDropped: {name: "resilience.events.dropped", kind: counter, unit: "{event}",
		attributes: []attribute.Key{keyDropReason},
		brief:      "Births of breakers and other policies, and retried operations, that are reported under the name _OTHER."},
}

// spanDef describes a span.
type spanDef struct {
	name       string // with {name} for the breaker's or the retry's
	attributes []attribute.Key
	status     string
	brief      string
}

var spanTable = []spanDef{
	{name: spanRetry + "{name}",
		attributes: []attribute.Key{keyRetryName, keyMaxAttempts, keyAttemptCount, keyRetryOutcome, keyRetryReason, keyTotalDelay, keyErrorType},
		status:     "Error when the operation finally failed, its reason as description; Unset on success, also after a retry, and when the caller gave up",
		brief:      "A retried operation, waits included. With `WithSpans(Attempts)`, the default, and `WithSpans(Operations)`."},
	{name: spanAttempt + "{name}",
		attributes: []attribute.Key{keyRetryName, keyAttemptNumber, keyAttemptKind, keyDelay, keyAttemptOutcome, keyAttemptDecision, keyErrorType},
		status:     "Error when the attempt failed or was rejected; else Unset",
		brief:      "One attempt, child of `" + spanRetry + "{name}`; the work's own spans are its children. With `WithSpans(Attempts)`."},
	{name: spanBreaker + "{name}",
		attributes: []attribute.Key{keyBreakerName, keyBreakerState, keyCallOutcome, keyErrorType},
		status:     "Error when the call failed; else Unset",
		brief:      "A call that a breaker admitted. With `WithBreakerSpans()`."},
	{name: spanHedge + "{name}",
		attributes: []attribute.Key{keyHedgeName, keyHedgeAttemptNumber, keyHedgeAttemptKind, keyHedgeDelay, keyHedgeAttemptOutcome, keyErrorType},
		status:     "Error when the attempt failed or was rejected; Unset when it won or lost",
		brief:      "One attempt of a hedged operation; the work's own spans are its children. Each but the first has a link to the attempt before it, beside which it began. With `WithSpans(Attempts)`."},
	{name: "(the current span)",
		attributes: []attribute.Key{keyBreakerName, keyBreakerState},
		status:     "left alone",
		brief:      "Whatever span is current when a breaker's call ends or is rejected; of several breakers the last to report. Not with `WithSpans(Off)`; with `WithoutDurations()` only on rejection."},
}

// eventID is an index into eventTable.
type eventID int

const (
	eventRetryScheduled eventID = iota
	eventCallRejected
	eventStateChange
	eventRetryExhausted
	eventBudgetExhausted
	eventTimeoutExpired
	eventBulkheadWaited
	eventBulkheadRejected
	eventRateLimited
	eventFallbackUsed
	eventCount
)

// eventDef describes an event, which leaves as a span event, a log record or both.
type eventDef struct {
	name       string
	attributes []attribute.Key
	severity   string
	spanEvent  bool // it may be a span event
	frequent   bool // it is a log record only with Logs and Both
	brief      string
}

var eventTable = [eventCount]eventDef{
	eventRetryScheduled: {name: "resilience.retry.scheduled", spanEvent: true, frequent: true, severity: "DEBUG",
		attributes: []attribute.Key{keyRetryName, keyAttemptNumber, keyDelay, keyErrorType},
		brief:      "A retry begins to wait for its next attempt."},
	eventCallRejected: {name: "resilience.circuit_breaker.call_rejected", spanEvent: true, frequent: true, severity: "DEBUG",
		attributes: []attribute.Key{keyBreakerName, keyBreakerState, keyRetryAfter},
		brief:      "A breaker did not run a call."},
	eventStateChange: {name: "resilience.circuit_breaker.state_change", spanEvent: true, severity: "WARN to open and forced_open, else INFO",
		attributes: []attribute.Key{keyBreakerName, keyPreviousState, keyBreakerState, keyTransitionReason, keyFailureRatio},
		brief:      "A breaker changed its state, seen by the call that caused it; by no span when a timer did."},
	eventRetryExhausted: {name: "resilience.retry.exhausted", severity: "WARN",
		attributes: []attribute.Key{keyRetryName, keyAttemptCount, keyTotalDelay, keyErrorType},
		brief:      "A retry's last attempt failed."},
	eventBudgetExhausted: {name: "resilience.retry.budget_exhausted", spanEvent: true, frequent: true, severity: "DEBUG",
		attributes: []attribute.Key{keyBudgetName, keyRetryName, keyAttemptNumber, keyErrorType},
		brief:      "A retry budget refused the attempt of this number, and the retry ends."},
	eventTimeoutExpired: {name: "resilience.timeout.expired", spanEvent: true, frequent: true, severity: "DEBUG",
		attributes: []attribute.Key{keyTimeoutName, keyTimeoutLimit, keyErrorType},
		brief:      "Work failed after the limit of its timeout had passed."},
	eventBulkheadWaited: {name: "resilience.bulkhead.waited", spanEvent: true, frequent: true, severity: "DEBUG",
		attributes: []attribute.Key{keyBulkheadName, keyBulkheadOutcome, keyBulkheadWait},
		brief:      "A call left the queue of a bulkhead."},
	eventBulkheadRejected: {name: "resilience.bulkhead.call_rejected", spanEvent: true, frequent: true, severity: "DEBUG",
		attributes: []attribute.Key{keyBulkheadName, keyBulkheadReason},
		brief:      "A bulkhead did not run a call."},
	eventRateLimited: {name: "resilience.rate_limit.limited", spanEvent: true, frequent: true, severity: "DEBUG",
		attributes: []attribute.Key{keyRateLimitName, keyRateLimitOutcome, keyRateLimitWait},
		brief:      "A rate limit held a call up, or did not run it."},
	eventFallbackUsed: {name: "resilience.fallback.used", spanEvent: true, frequent: true, severity: "WARN when it failed too, else DEBUG",
		attributes: []attribute.Key{keyFallbackName, keyFallbackOutcome, keyErrorType},
		brief:      "A fallback stood in for work that failed."},
}
