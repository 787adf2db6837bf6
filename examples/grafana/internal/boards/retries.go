package boards

// retries is the dashboard of retried operations.
func retries() dashboard {
	return board(dashboard{
		Title:       "Breakwater / Retries",
		UID:         retriesUID,
		Tags:        []string{tag, "resilience"},
		Description: "Retried operations: what they come to, what retries save, and what they cost. A retry is all retries of one name in a job; panels sum its instances.",
		Links:       []boardLink{linkTo(circuitsUID, "Circuits")},
		Annotations: annotations{List: []annotation{openings("$PROCESSES")}},
		Templating: variables(
			traces,
			choice("job", "Job", "The services that retry.",
				`label_values(resilience_retry_operations_total, job)`),
			choice("retry", "Retry", "The names of the retries.",
				`label_values(resilience_retry_operations_total{job=~"$job"}, resilience_retry_name)`),
			choice("instance", "Instance", "The processes that retry.",
				`label_values(resilience_retry_operations_total{job=~"$job", resilience_retry_name=~"$retry"}, instance)`),
		),
	},
		row{id: 100, panels: []panel{operationsNow(), succeededNow(), savedNow(), helpedNow(), amplificationNow(), exhaustedNow()}},
		row{id: 200, title: "Operations", panels: []panel{operationsByOutcome(), retryTable()}},
		row{id: 300, title: "What retries do", panels: []panel{amplification(), savedShare(), givenUp()}},
		row{id: 400, title: "Duration", panels: []panel{operationAgainstAttempt(), delays(), attempts()}},
		budgets(),
		telemetryHealth(),
	)
}

// retryName is how series of a retry are called: who calls, and what.
const retryName = "{{job}} → {{resilience_retry_name}}"

// retryLinks lead from a series of a retry to that retry alone, and to its traces.
func retryLinks() []dataLink {
	job, name := "${__field.labels.job:percentencode}", "${__field.labels.resilience_retry_name:percentencode}"
	return []dataLink{
		retryLink("This retry alone", job, name),
		circuitLink("Circuit of this name", job, name),
		tracesLink("Traces of this retry", job, "resilience.retry.name", name),
	}
}

// The shares that are both figures and lines, of what is left of by: nothing, or a
// grouping. Where nothing was tried there is no result.
func succeeded(by string) string {
	return `
			sum` + by + ` (rate(resilience_retry_operations_total{$RETRIES, resilience_retry_outcome=~"success|success_after_retry"}[$__rate_interval]))
			/
			(sum` + by + ` (rate(resilience_retry_operations_total{$RETRIES, resilience_retry_outcome!="canceled"}[$__rate_interval])) > 0)`
}

func saved(by string) string {
	return `
			sum` + by + ` (rate(resilience_retry_operations_total{$RETRIES, resilience_retry_outcome="success_after_retry"}[$__rate_interval]))
			/
			(sum` + by + ` (rate(resilience_retry_operations_total{$RETRIES}[$__rate_interval])) > 0)`
}

func helped(by string) string {
	return `
			sum` + by + ` (rate(resilience_retry_operations_total{$RETRIES, resilience_retry_outcome="success_after_retry"}[$__rate_interval]))
			/
			(sum` + by + ` (rate(resilience_retry_operations_total{$RETRIES, resilience_retry_outcome=~"success_after_retry|exhausted|deadline|budget_exhausted"}[$__rate_interval])) > 0)`
}

func amplified(by string) string {
	return `
			sum` + by + ` (rate(resilience_retry_attempts_total{$RETRIES, resilience_retry_attempt_outcome!="rejected"}[$__rate_interval]))
			/
			(sum` + by + ` (rate(resilience_retry_attempts_total{$RETRIES, resilience_retry_attempt_kind="initial"}[$__rate_interval])) > 0)`
}

func outcomeShare(by, outcome string) string {
	return `
			sum` + by + ` (rate(resilience_retry_operations_total{$RETRIES, resilience_retry_outcome="` + outcome + `"}[$__rate_interval]))
			/
			(sum` + by + ` (rate(resilience_retry_operations_total{$RETRIES}[$__rate_interval])) > 0)`
}

const (
	succeededIs     = "Operations that ended well, at once or after a retry, among those whose caller did not give up. This is what callers feel."
	savedIs         = "Operations that failed at first and ended well after a retry, among all."
	helpedIs        = "Operations that ended well after a retry, among those that were retried or would have been: the others were exhausted, or ran out of time or budget. Low means that retries are no remedy for what is wrong."
	amplificationIs = "Attempts that reached the dependency, for each operation: 1 is no retries. Attempts that a circuit rejected are not in it, so that it is below 1 while one is open. A dependency that is short of capacity gets this much more load. Runbook: RetryAmplification."
	exhaustedIs     = "Operations whose last attempt failed, among all. Runbook: RetriesExhausted."
)

func operationsNow() panel {
	return figures("Operations now", 4, 4, "ops", "Retried operations that ended, per second.", above("text"),
		overTime("Operations", `sum(rate(resilience_retry_operations_total{$RETRIES}[$__rate_interval]))`))
}

func succeededNow() panel {
	return figures("Succeeded now", 4, 4, "percentunit", succeededIs, above("red", 0.9, "orange", 0.99, "text"),
		overTime("Succeeded", succeeded(""))).noValue("no calls")
}

func savedNow() panel {
	return figures("Saved by a retry now", 4, 4, "percentunit", savedIs, above("text"),
		overTime("Saved by a retry", saved(""))).noValue("no calls")
}

func helpedNow() panel {
	return figures("Retries that helped now", 4, 4, "percentunit", helpedIs, above("red", 0.3, "orange", 0.7, "text"),
		overTime("Retries that helped", helped(""))).noValue("none needed")
}

func amplificationNow() panel {
	p := figures("Amplification now", 4, 4, "none", amplificationIs, above("text", 1.2, "orange", 1.5, "red"),
		overTime("Amplification", amplified(""))).noValue("no calls")
	p.FieldConfig.Defaults.Decimals = new(2)
	return p
}

func exhaustedNow() panel {
	return figures("Exhausted now", 4, 4, "percentunit", exhaustedIs, above("text", 0.01, "orange", 0.05, "red"),
		overTime("Exhausted", outcomeShare("", "exhausted"))).noValue("no calls")
}

func operationsByOutcome() panel {
	return lines("Operations by outcome", 10, 9, "ops",
		"Operations per second, by what they came to. Not retryable: an error that is not worth another attempt. Rejected: a circuit did not run an attempt, which ends the retry.",
		overTime("{{resilience_retry_outcome}}", `
			sum by (resilience_retry_outcome) (rate(resilience_retry_operations_total{$RETRIES}[$__rate_interval]))`)).
		stacked().overriding(named(retryOutcomes)...)
}

func retryTable() panel {
	const by = " by ($RETRY)"
	bad := above("green", 0.01, "orange", 0.05, "red")
	p95 := quantile("", 0.95, operationDuration, "$RETRIES", "$RETRY").Expr
	return table("Retries, most exhausted first", 14, 9, "percentunit",
		"Each retry, those with the most exhausted operations first. p95: 95 of 100 operations took less, waits included.",
		[]string{"Exhausted"},
		column{title: "Retry", label: "resilience_retry_name", pairs: []any{"links", []dataLink{
			retryLink("This retry alone", "${__data.fields.Job:percentencode}", "${__value.text:percentencode}"),
			circuitLink("Circuit of this name", "${__data.fields.Job:percentencode}", "${__value.text:percentencode}"),
			tracesLink("Traces of this retry", "${__data.fields.Job:percentencode}", "resilience.retry.name", "${__value.text:percentencode}"),
		}}},
		column{title: "Job", label: "job"},
		column{title: "Operations", width: 105, pairs: []any{"unit", "ops"}, expr: `sum by ($RETRY) (rate(resilience_retry_operations_total{$RETRIES}[$__rate_interval]))`},
		column{title: "Exhausted", width: 150, pairs: gauge(bad), expr: outcomeShare(by, "exhausted")},
		column{title: "Not retryable", width: 110, pairs: []any{"decimals", 1}, expr: outcomeShare(by, "not_retryable")},
		column{title: "Saved", width: 80, pairs: []any{"decimals", 1}, expr: saved(by)},
		column{title: "Amplification", width: 110, pairs: []any{
			"unit", "none", "decimals", 2, "thresholds", above("text", 1.2, "orange", 1.5, "red"), "custom.cellOptions", map[string]any{"type": "color-text"},
		}, expr: amplified(by)},
		column{title: "p95", width: 80, pairs: []any{"unit", "s"}, expr: p95},
	)
}

func amplification() panel {
	p := lines("Amplification", 8, 8, "none", amplificationIs, overTime(retryName, amplified(" by ($RETRY)")+everyRetry)).
		line(1.5).linking(retryLinks()...)
	p.FieldConfig.Defaults.Decimals = new(2)
	return p.custom("axisSoftMax", 1.6).custom("fillOpacity", 0)
}

func savedShare() panel {
	return lines("Share that retries saved", 8, 8, "percentunit", savedIs+" A share that stays high is a dependency that fails all the time, and that nobody would notice otherwise.",
		overTime(retryName, saved(" by ($RETRY)")+everyRetry)).
		linking(retryLinks()...).custom("axisSoftMax", 0.05)
}

func givenUp() panel {
	return lines("Exhausted and not retryable", 8, 8, "ops",
		"Operations per second that failed for their callers: after their last attempt, or at an error that is not worth another. "+exhaustedIs,
		overTime(retryName+": {{resilience_retry_outcome}}", `
			sum by ($RETRY, resilience_retry_outcome) (rate(resilience_retry_operations_total{$RETRIES, resilience_retry_outcome=~"exhausted|not_retryable"}[$__rate_interval])) > 0`)).
		overriding(byRegexp(": not_retryable$", "custom.lineStyle", map[string]any{"fill": "dash", "dash": []int{8, 4}})).
		linking(retryLinks()...).noValue("none")
}

const (
	operationDuration = "resilience_retry_operation_duration_seconds"
	attemptDuration   = "resilience_retry_attempt_duration_seconds"
)

func operationAgainstAttempt() panel {
	dashed := map[string]any{"fill": "dash", "dash": []int{8, 4}}
	return lines("Operation against attempt", 9, 9, "s",
		"How long whole operations take, waits included, beside single attempts. The gap is what retrying costs those who wait. Diamonds are single operations and attempts: each leads to its trace.",
		quantile("operation p95", 0.95, operationDuration, "$RETRIES", ""),
		quantile("attempt p95", 0.95, attemptDuration, "$RETRIES", ""),
		quantile("operation p50", 0.5, operationDuration, "$RETRIES", ""),
		quantile("attempt p50", 0.5, attemptDuration, "$RETRIES", "")).
		overriding(
			byName("operation p95", "color", fixed("dark-blue")),
			byName("attempt p95", "color", fixed("dark-orange"), "custom.lineStyle", dashed),
			byName("operation p50", "color", fixed("light-blue")),
			byName("attempt p50", "color", fixed("light-orange"), "custom.lineStyle", dashed),
		)
}

func delays() panel {
	const delay = "resilience_retry_delay_seconds"
	return lines("Delay before a retry", 7, 9, "s",
		"Quantiles of single waits between attempts, as they were scheduled: by backoff and jitter, or because the dependency asked for it.",
		quantile("p50", 0.5, delay, "$RETRIES", ""),
		quantile("p95", 0.95, delay, "$RETRIES", ""),
		quantile("p99", 0.99, delay, "$RETRIES", "")).
		overriding(quantileStyles("")...).noValue("no retries")
}

func attempts() panel {
	return lines("Attempts", 8, 9, "ops",
		"Attempts per second, first ones and retries, by what they came to. Rejected attempts did not reach the dependency.",
		overTime("{{resilience_retry_attempt_kind}}: {{resilience_retry_attempt_outcome}}", `
			sum by (resilience_retry_attempt_kind, resilience_retry_attempt_outcome) (rate(resilience_retry_attempts_total{$RETRIES}[$__rate_interval])) > 0`)).
		stacked().overriding(
		byRegexp("initial: success", "displayName", "First, success", "color", fixed("green")),
		byRegexp("initial: ignored", "displayName", "First, ignored", "color", fixed("blue")),
		byRegexp("initial: failure", "displayName", "First, failure", "color", fixed("red")),
		byRegexp("initial: rejected", "displayName", "First, rejected", "color", fixed("purple")),
		byRegexp("retry: success", "displayName", "Retry, success", "color", fixed("light-green")),
		byRegexp("retry: ignored", "displayName", "Retry, ignored", "color", fixed("light-blue")),
		byRegexp("retry: failure", "displayName", "Retry, failure", "color", fixed("light-red")),
		byRegexp("retry: rejected", "displayName", "Retry, rejected", "color", fixed("light-purple")),
	)
}
