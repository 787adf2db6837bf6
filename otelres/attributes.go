package otelres

import (
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/breakwater-go/breakwater/events"
)

// Attribute keys. Each is described in attributeTable.
const (
	keyBreakerName      = attribute.Key("resilience.circuit_breaker.name")
	keyBreakerState     = attribute.Key("resilience.circuit_breaker.state")
	keyPreviousState    = attribute.Key("resilience.circuit_breaker.previous_state")
	keyCallOutcome      = attribute.Key("resilience.circuit_breaker.call.outcome")
	keyTransitionReason = attribute.Key("resilience.circuit_breaker.transition.reason")
	keyFailureRatio     = attribute.Key("resilience.circuit_breaker.failure.ratio")
	keyRetryAfter       = attribute.Key("resilience.circuit_breaker.retry_after")

	keyBudgetName    = attribute.Key("resilience.retry.budget.name")
	keyBudgetOutcome = attribute.Key("resilience.retry.budget.outcome")

	keyRetryName       = attribute.Key("resilience.retry.name")
	keyRetryOutcome    = attribute.Key("resilience.retry.outcome")
	keyRetryReason     = attribute.Key("resilience.retry.reason")
	keyMaxAttempts     = attribute.Key("resilience.retry.max_attempts")
	keyAttemptCount    = attribute.Key("resilience.retry.attempt.count")
	keyAttemptNumber   = attribute.Key("resilience.retry.attempt.number")
	keyAttemptKind     = attribute.Key("resilience.retry.attempt.kind")
	keyAttemptOutcome  = attribute.Key("resilience.retry.attempt.outcome")
	keyAttemptDecision = attribute.Key("resilience.retry.attempt.decision")
	keyDelay           = attribute.Key("resilience.retry.delay")
	keyTotalDelay      = attribute.Key("resilience.retry.total_delay")

	keyTimeoutName  = attribute.Key("resilience.timeout.name")
	keyTimeoutLimit = attribute.Key("resilience.timeout.limit")

	keyBulkheadName    = attribute.Key("resilience.bulkhead.name")
	keyBulkheadOutcome = attribute.Key("resilience.bulkhead.call.outcome")
	keyBulkheadReason  = attribute.Key("resilience.bulkhead.rejection.reason")
	keyBulkheadWait    = attribute.Key("resilience.bulkhead.wait")

	keyRateLimitName    = attribute.Key("resilience.rate_limit.name")
	keyRateLimitOutcome = attribute.Key("resilience.rate_limit.outcome")
	keyRateLimitWait    = attribute.Key("resilience.rate_limit.wait")

	keyFallbackName    = attribute.Key("resilience.fallback.name")
	keyFallbackOutcome = attribute.Key("resilience.fallback.outcome")

	keyHedgeName           = attribute.Key("resilience.hedge.name")
	keyHedgeAttemptNumber  = attribute.Key("resilience.hedge.attempt.number")
	keyHedgeAttemptKind    = attribute.Key("resilience.hedge.attempt.kind")
	keyHedgeAttemptOutcome = attribute.Key("resilience.hedge.attempt.outcome")
	keyHedgeDelay          = attribute.Key("resilience.hedge.delay")

	keyDropReason = attribute.Key("resilience.events.drop_reason")

	keyErrorType = semconv.ErrorTypeKey
)

// Values that are not spelled by package events.
const (
	// other stands for what a bound leaves no room for: the name of a breaker, retry
	// or other policy beyond the name limit, an error.type beyond the sixteenth.
	other = "_OTHER"

	errorTypePanic = "panic"

	dropCardinality = "cardinality"
)

// budgetOutcome is what a retry budget made of a retry.
type budgetOutcome int

const (
	budgetGranted budgetOutcome = iota
	budgetRefused
	budgetOutcomeCount
)

func (o budgetOutcome) String() string { return [...]string{"granted", "refused"}[o] }

// kind is the index of an attempt's kind.
type kind int

const (
	kindInitial kind = iota // the first attempt
	kindRetry               // any other
	kindCount
)

func kindOf(attempt int) kind {
	if attempt > 1 {
		return kindRetry
	}
	return kindInitial
}

func (k kind) String() string {
	if k == kindRetry {
		return "retry"
	}
	return "initial"
}

// retryOutcome is what a retried operation came to, as metrics tell it: the
// reason for its end with the two that are rare folded into not_retryable.
type retryOutcome int

const (
	retrySuccess retryOutcome = iota
	retrySuccessAfterRetry
	retryExhausted
	retryNotRetryable
	retryDeadline
	retryCanceled
	retryRejected
	retryBudgetExhausted
	retryOutcomeCount
)

var retryOutcomeReasons = [retryOutcomeCount]events.Reason{
	events.ReasonSuccess,
	events.ReasonSuccessAfterRetry,
	events.ReasonExhausted,
	events.ReasonNotRetryable,
	events.ReasonDeadline,
	events.ReasonCanceled,
	events.ReasonRejected,
	events.ReasonBudgetExhausted,
}

func (o retryOutcome) String() string { return string(retryOutcomeReasons[o]) }

// retryOutcomeOf folds a reason into the closed set. A panic and a Retry-After
// beyond the maximum are errors that were not retried.
func retryOutcomeOf(r events.Reason) retryOutcome {
	if i := slices.Index(retryOutcomeReasons[:], r); i >= 0 {
		return retryOutcome(i)
	}
	return retryNotRetryable
}

// transition is a change from one status to another.
type transition struct{ from, to events.Status }

// enforced is the number of statuses outside of shadow mode, which come first.
const enforced = events.StatusForcedClosed + 1

// legalTransitions returns the changes a breaker can go through: by itself, by
// force from anywhere, and back. Those of a breaker in shadow mode, in which nobody is
// turned away, are not among them. Of the 25 pairs eight cannot happen: only an open
// breaker turns half-open, nothing opens one without force but its own judgement
// or the end of force, and force that is there already changes nothing.
func legalTransitions() []transition {
	legal := []transition{
		{events.StatusClosed, events.StatusOpen},
		{events.StatusOpen, events.StatusHalfOpen},
		{events.StatusHalfOpen, events.StatusClosed},
		{events.StatusHalfOpen, events.StatusOpen},

		{events.StatusClosed, events.StatusClosed}, // Reset
		{events.StatusOpen, events.StatusClosed},
		{events.StatusForcedOpen, events.StatusClosed}, // Reset
		{events.StatusForcedClosed, events.StatusClosed},
		{events.StatusForcedOpen, events.StatusOpen}, // ClearForce
	}
	for from := range enforced {
		for _, forced := range []events.Status{events.StatusForcedOpen, events.StatusForcedClosed} {
			if from != forced {
				legal = append(legal, transition{from, forced})
			}
		}
	}
	return legal
}

// attributeSet returns the attributes of a data point: the user's with the given
// ones, which win where keys are equal.
func (t *Telemetry) attributeSet(attrs ...attribute.KeyValue) attribute.Set {
	return attribute.NewSet(t.with(attrs...)...)
}

// with returns the user's attributes followed by attrs, in a slice of its own.
func (t *Telemetry) with(attrs ...attribute.KeyValue) []attribute.KeyValue {
	return slices.Concat(t.attributes, attrs)
}

// exportable returns name as it may be exported: protocols refuse a batch for one
// string that is not UTF-8.
func exportable(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }
