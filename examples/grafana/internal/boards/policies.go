package boards

// otherPolicies is the row of what else may be around a call. Their names are their
// own, so that the choice of a circuit does not narrow it.
func otherPolicies() row {
	const (
		bulkhead  = "resilience_bulkhead_name"
		rateLimit = "resilience_rate_limit_name"
		none      = "none"
	)
	return row{id: 700, title: "Other policies: timeouts, bulkheads, rate limits, fallbacks, hedges, shadow mode", collapsed: true, panels: []panel{
		lines("Timeouts that expired", 6, 7, "cps",
			"Calls per second that failed after the limit of their timeout had passed.",
			overTime("{{job}} → {{resilience_timeout_name}}", `
			sum by (job, resilience_timeout_name) (rate(resilience_timeout_expired_total{$PROCESSES}[$__rate_interval]))`)).noValue(none),
		shares("Bulkheads: slots in use", 6, 7,
			"Calls that hold a slot, among the slots there are, over all instances. At 100 % calls wait or are turned away.",
			overTime("{{job}} → {{resilience_bulkhead_name}}", `
			sum by (job, resilience_bulkhead_name) (resilience_bulkhead_in_flight{$PROCESSES})
			/
			(sum by (job, resilience_bulkhead_name) (resilience_bulkhead_limit{$PROCESSES}) > 0)`)).noValue(none),
		lines("Bulkheads: calls in the queue", 6, 7, "short",
			"Calls that wait for a slot, over all instances.",
			overTime("{{job}} → {{resilience_bulkhead_name}}", `
			sum by (job, resilience_bulkhead_name) (resilience_bulkhead_queued{$PROCESSES})`)).custom("axisSoftMax", 1).noValue(none),
		lines("Turned away by bulkheads and rate limits", 6, 7, "cps",
			"Calls per second that were not run for want of a slot, or because they would have been too many.",
			overTime("{{job}} → {{resilience_bulkhead_name}} (bulkhead)", `
			sum by (job, `+bulkhead+`) (rate(resilience_bulkhead_calls_total{$PROCESSES, resilience_bulkhead_call_outcome="rejected"}[$__rate_interval]))`),
			overTime("{{job}} → {{resilience_rate_limit_name}} (rate limit)", `
			sum by (job, `+rateLimit+`) (rate(resilience_rate_limit_limited_total{$PROCESSES, resilience_rate_limit_outcome="rejected"}[$__rate_interval]))`)).noValue(none),
		lines("Waits, p95", 6, 7, "s",
			"95 of 100 calls that had to wait, for a slot or for a rate limit, waited less than this; hedges: 95 of 100 further attempts began sooner than this after the one before them.",
			quantile("{{job}} → {{resilience_bulkhead_name}} (bulkhead)", 0.95, "resilience_bulkhead_wait_duration_seconds", "$PROCESSES", "job, "+bulkhead),
			quantile("{{job}} → {{resilience_rate_limit_name}} (rate limit)", 0.95, "resilience_rate_limit_wait_duration_seconds", "$PROCESSES", "job, "+rateLimit),
			quantile("{{job}} → {{resilience_hedge_name}} (hedge)", 0.95, "resilience_hedge_delay_seconds", "$PROCESSES", "job, resilience_hedge_name")).noValue(none),
		lines("Fallbacks used", 6, 7, "cps",
			"Failed calls per second that a fallback was to stand in for, and whether it had something to give.",
			overTime("{{job}} → {{resilience_fallback_name}}: {{resilience_fallback_outcome}}", `
			sum by (job, resilience_fallback_name, resilience_fallback_outcome) (rate(resilience_fallback_used_total{$PROCESSES}[$__rate_interval]))`)).noValue(none),
		lines("Hedges: attempts for each operation", 6, 7, "none",
			"How many attempts a hedged operation makes, on average: 1 is none beside the first. It is the load that hedging adds.",
			overTime("{{job}} → {{resilience_hedge_name}}", `
			sum by (job, resilience_hedge_name) (rate(resilience_hedge_attempts_total{$PROCESSES}[$__rate_interval]))
			/
			(sum by (job, resilience_hedge_name) (rate(resilience_hedge_attempts_total{$PROCESSES, resilience_hedge_attempt_kind="initial"}[$__rate_interval])) > 0)`)).custom("axisSoftMax", 2).noValue(none),
		lines("Shadow mode: would be rejected", 6, 7, "cps",
			"Calls per second that were run, although a breaker in shadow mode would have rejected them: what would change if it were not.",
			overTime(circuitName, `
			sum by ($CIRCUIT) (rate(resilience_circuit_breaker_would_reject_total{$CIRCUITS}[$__rate_interval]))`)).noValue(none),
	}}
}

// budgets is the row of retry budgets, which several retries may share.
func budgets() row {
	const none = "no budget"
	return row{id: 500, title: "Budget, where there is one", collapsed: true, panels: []panel{
		lines("Budget left", 8, 8, "short",
			"Retries that each budget would grant at once, beside what that tends to while nobody retries. At 0 retries are refused: what fails then fails at once, instead of adding load.",
			overTime("{{job}} → {{resilience_retry_budget_name}}", `
			sum by (job, resilience_retry_budget_name) (resilience_retry_budget_available{$PROCESSES})`),
			overTime("{{job}} → {{resilience_retry_budget_name}} (limit)", `
			sum by (job, resilience_retry_budget_name) (resilience_retry_budget_limit{$PROCESSES})`)).
			overriding(byRegexp("limit.$", "custom.lineStyle", map[string]any{"fill": "dash", "dash": []int{8, 4}})).noValue(none),
		lines("Retries granted and refused", 8, 8, "ops",
			"Retries per second that each budget was asked for. Refused retries end their operation as budget_exhausted.",
			overTime("{{job}} → {{resilience_retry_budget_name}}: {{resilience_retry_budget_outcome}}", `
			sum by (job, resilience_retry_budget_name, resilience_retry_budget_outcome) (rate(resilience_retry_budget_retries_total{$PROCESSES}[$__rate_interval]))`)).noValue(none),
		lines("Retries for each operation", 8, 8, "percentunit",
			"Retries that were granted, among the operations that paid into the budget. The budget keeps it below what it was configured with, apart from a few retries when there is next to no traffic.",
			overTime("{{job}} → {{resilience_retry_budget_name}}", `
			sum by (job, resilience_retry_budget_name) (rate(resilience_retry_budget_retries_total{$PROCESSES, resilience_retry_budget_outcome="granted"}[$__rate_interval]))
			/
			(sum by (job, resilience_retry_budget_name) (rate(resilience_retry_budget_operations_total{$PROCESSES}[$__rate_interval])) > 0)`)).noValue(none),
	}}
}
