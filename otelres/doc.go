// Package otelres shows circuit breakers, retries and the other policies in
// OpenTelemetry: it turns the events of package events into spans, span events, log
// records and metrics.
//
//	tel, err := otelres.New()
//	...
//	breaker := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: tel.Sink()})
//	retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "payment", Events: tel.Sink()})
//
// # What there is to see
//
// A trace has a span "retry payment" for the operation and a child "attempt
// payment" for each attempt, in whose context the work runs: a client's span nests
// inside, and each attempt sends a traceparent of its own. The operation is an
// error only if it finally failed. The waits in between are events of the
// operation's span. A breaker writes its name and state on the span that is
// current, and an event when it rejects the call or changes its state. So do a timeout
// that passed, a bulkhead that let a call wait or rejected it, a rate limit and a
// fallback. The attempts of a hedged operation are spans "hedge payment" beside each
// other, each linked to the one before.
//
// Metrics are read off the breakers at collection where they can be, so they are
// true while no call is made, and a breaker's counts cost its calls nothing. The
// time spent in each state is a counter: an open period shorter than the export
// interval shows in it. TELEMETRY.md, beside this file, lists everything with its
// type, unit and values, and the name it has in Prometheus.
//
// # What does not leave the process
//
// Error messages, unless [WithErrorType] makes them an error.type. Metrics have
// names, states, outcomes and kinds as attributes, all of them bounded: names by
// [WithNameLimit], the others by being closed sets.
//
// # What it costs
//
// A call with metrics attached allocates nothing and records one duration;
// [WithoutDurations] takes that away too. Without an SDK the functions of the sink
// return after a few nanoseconds, and the engine reads the clock for them; with the
// no-op providers there are none. BenchmarkPrice has the figures.
//
// # When what is called
//
// [New] may come before an SDK is installed globally, or before the providers it
// was given have readers. A breaker is kept in memory from its birth to its Close:
// close those that are made for a while. [Telemetry.Shutdown] is for a process that
// goes on without telemetry.
package otelres
