package boards

import "strings"

// circuits is the dashboard of circuit breakers.
func circuits() dashboard {
	return board(dashboard{
		Title:       "Breakwater / Circuits",
		UID:         circuitsUID,
		Tags:        []string{tag, "resilience"},
		Description: "Circuit breakers: which are open, for how long, and what that does to their callers. A circuit is all breakers of one name in a job; most panels sum its instances.",
		Links:       []boardLink{linkTo(retriesUID, "Retries")},
		Annotations: annotations{List: []annotation{openings("$CIRCUITS")}},
		Templating: variables(
			traces,
			choice("job", "Job", "The services that have the breakers.",
				`label_values(resilience_circuit_breaker_status, job)`),
			choice("circuit", "Circuit", "The names of the breakers.",
				`label_values(resilience_circuit_breaker_status{job=~"$job"}, resilience_circuit_breaker_name)`),
			choice("instance", "Instance", "The processes that have the breakers.",
				`label_values(resilience_circuit_breaker_status{job=~"$job", resilience_circuit_breaker_name=~"$circuit"}, instance)`),
		),
	},
		row{id: 100, panels: []panel{breakersByState(), longestOpen(), unavailableNow(), errorRateNow()}},
		row{id: 200, title: "State", panels: []panel{stateTimeline(), shareNotClosed(), circuitTable()}},
		row{id: 300, title: "Calls", panels: []panel{callsByOutcome(), errorRates(), rejectedShare(), unavailable(), failureRatio()}},
		row{id: 400, title: "Changes of state", panels: []panel{transitions(), stateChanges()}},
		row{id: 500, title: "Duration of calls", panels: []panel{callQuantiles(), callQuantileByCircuit(), callHeatmap()}},
		otherPolicies(),
		telemetryHealth(),
	)
}

// circuitName is how series of a circuit are called: who calls, and what.
const circuitName = "{{job}} → {{resilience_circuit_breaker_name}}"

// circuitLinks lead from a series of a circuit to that circuit alone, and to its traces.
func circuitLinks() []dataLink {
	job, name := "${__field.labels.job:percentencode}", "${__field.labels.resilience_circuit_breaker_name:percentencode}"
	return []dataLink{
		circuitLink("This circuit alone", job, name),
		tracesLink("Traces of this circuit", job, "resilience.circuit_breaker.name", name),
	}
}

func breakersByState() panel {
	var targets []target
	var overrides []override
	for _, s := range states {
		if strings.HasPrefix(s.label, "shadow_") {
			continue
		}
		targets = append(targets, now(s.name, `
			sum(resilience_circuit_breaker_status{$CIRCUITS, resilience_circuit_breaker_state="`+s.label+`"}) or vector(0)`))
		if s.label == "closed" {
			overrides = append(overrides, byName(s.name, "color", fixed(s.color)))
		} else { // quiet while there are none
			overrides = append(overrides, byName(s.name, "thresholds", above("text", 1.0, s.color)))
		}
	}
	return figures("Breakers by state", 10, 4, "short",
		"How many breakers are in each state, over all instances, as of their last export. A breaker that is open for less than the time between two exports may not be seen here; State timeline has it, and those in shadow mode.",
		above("text"), targets...).overriding(overrides...)
}

func longestOpen() panel {
	p := figures("Open for, at most", 4, 4, "s",
		"The longest time that a breaker which is not closed now has not been closed: probes that flip it to half-open and back do not start it anew. Runbook: CircuitOpenTooLong.",
		above("text", 1.0, "orange", 300.0, "red"),
		now("Open for, at most", `
			max(
				(time() - resilience_circuit_breaker_last_closed_time_seconds{$CIRCUITS})
				and on ($EACH_CIRCUIT)
				sum by ($EACH_CIRCUIT) (resilience_circuit_breaker_status{$CIRCUITS, resilience_circuit_breaker_state=~"open|half_open|forced_open"}) > 0
			) or vector(0)`))
	p.FieldConfig.Defaults.Mappings = []mapping{{Type: "value", Options: map[string]mappedText{"0": {Text: "none open"}}}}
	return p
}

// The two figures that are easily mistaken for each other.
const (
	errorRateIs = "Failed calls among those that were run to a success or a failure. Rejected calls are not in it: they were not run, and would make an open circuit look healthy."
	unavailIs   = "Calls that were of no avail, among all: failed, or rejected by an open circuit. It is what callers feel; the error rate is what the dependency does."
)

func errorRateNow() panel {
	return figures("Error rate now", 5, 4, "percentunit", errorRateIs,
		above("text", 0.01, "orange", 0.1, "red"),
		overTime("Error rate", `
			sum(rate(resilience_circuit_breaker_calls_total{$CIRCUITS, resilience_circuit_breaker_call_outcome="failure"}[$__rate_interval]))
			/
			(sum(rate(resilience_circuit_breaker_calls_total{$CIRCUITS, resilience_circuit_breaker_call_outcome=~"success|failure"}[$__rate_interval])) > 0)`)).
		noValue("no calls")
}

func unavailableNow() panel {
	return figures("Unavailable now", 5, 4, "percentunit", unavailIs,
		above("text", 0.01, "orange", 0.1, "red"),
		overTime("Unavailable", `
			sum(rate(resilience_circuit_breaker_calls_total{$CIRCUITS, resilience_circuit_breaker_call_outcome=~"failure|rejected"}[$__rate_interval]))
			/
			(sum(rate(resilience_circuit_breaker_calls_total{$CIRCUITS}[$__rate_interval])) > 0)`)).
		noValue("no calls")
}

func stateTimeline() panel {
	// How much more time there is in a state than there was a step ago. The function
	// increase would need four exports in its range, and its ranges would overlap: a short
	// time open would look like a long one.
	spent := func(state string) string {
		counter := `resilience_circuit_breaker_time_seconds_total{$CIRCUITS, resilience_circuit_breaker_state="` + state + `"}`
		return "(" + counter + " - " + counter + " offset $__interval > bool 0)"
	}
	p := newPanel("state-timeline", "State timeline", 15, 9,
		"Each breaker, in each instance. A step shows the most serious state in which any time was spent during it, taken from the time counters: an open period shorter than the time between two exports is seen as well. In order: forced open, forced closed, open, half-open, closed. A breaker in shadow mode rejects nothing: it shows what it would be.",
		field{
			Color:    &color{Mode: "fixed", FixedColor: "text"},
			Mappings: numbersToStates(),
			Unit:     "none",
			Custom:   map[string]any{"fillOpacity": 80, "lineWidth": 0},
		},
		[]target{overTime("{{resilience_circuit_breaker_name}} · {{instance}}", `
			max by ($EACH_CIRCUIT) (
				`+numbered(spent)+`
			) > 0`)}).linking(circuitLinks()...)
	p.MaxDataPoints = 200
	p.Options = map[string]any{
		"alignValue": "left", "mergeValues": true, "perPage": 20, "rowHeight": 0.85, "showValue": "auto",
		"legend":  map[string]any{"calcs": []string{}, "displayMode": "list", "placement": "bottom", "showLegend": true},
		"tooltip": map[string]any{"mode": "single", "sort": "none"},
	}
	return p
}

func shareNotClosed() panel {
	return shares("Share of time not closed", 9, 9,
		"Time spent in any state but closed, among all time, over all instances; shadow mode does not count. This is what the page is about (more than half, with callers): a state seen at one moment says little where probes flip it. Runbook: CircuitOpenTooLong.",
		overTime(circuitName, `
			sum by ($CIRCUIT) (rate(resilience_circuit_breaker_time_seconds_total{$CIRCUITS, resilience_circuit_breaker_state!~"closed|shadow_open|shadow_half_open"}[$__rate_interval]))
			/
			sum by ($CIRCUIT) (rate(resilience_circuit_breaker_time_seconds_total{$CIRCUITS}[$__rate_interval]))`+everyCircuit)).
		line(0.5).linking(circuitLinks()...)
}

func circuitTable() panel {
	status := func(state string) string {
		return `clamp_max(resilience_circuit_breaker_status{$CIRCUITS, resilience_circuit_breaker_state="` + state + `"}, 1)`
	}
	// What is pushed is shown for five minutes after it was last sent. A ratio that is
	// no longer there, for want of calls, must not be.
	closed := `
				and on ($EACH_CIRCUIT)
				resilience_circuit_breaker_status{$CIRCUITS, resilience_circuit_breaker_state="closed"} > 0`
	return table("Circuits", 24, 10, "none",
		"Each breaker, in each instance, those that have been open for longest first. Failures is the share of failures in the sliding window, and is empty unless the breaker is closed and has enough calls to be judged; it opens at the threshold beside it. Rejected is per second, transitions are those in the time range of the dashboard.",
		[]string{"Open for"},
		column{title: "Circuit", label: "resilience_circuit_breaker_name", pairs: []any{"links", []dataLink{
			circuitLink("This circuit alone", "${__data.fields.Job:percentencode}", "${__value.text:percentencode}"),
			retryLink("Retries of this name", "${__data.fields.Job:percentencode}", "${__value.text:percentencode}"),
			tracesLink("Traces of this circuit", "${__data.fields.Job:percentencode}", "resilience.circuit_breaker.name", "${__value.text:percentencode}"),
		}}},
		column{title: "Job", label: "job"},
		column{title: "Instance", label: "instance"},
		column{title: "State", width: 130, pairs: []any{
			"mappings", numbersToStates(), "custom.cellOptions", map[string]any{"type": "color-background", "mode": "basic"}, "custom.align", "left",
		}, expr: `
			max by ($EACH_CIRCUIT) (
				` + numbered(status) + `
			)`},
		column{title: "Open for", width: 110, pairs: []any{"unit", "s", "decimals", 0}, expr: `
			max by ($EACH_CIRCUIT) (
				(time() - resilience_circuit_breaker_last_closed_time_seconds{$CIRCUITS})
				and on ($EACH_CIRCUIT)
				sum by ($EACH_CIRCUIT) (resilience_circuit_breaker_status{$CIRCUITS, resilience_circuit_breaker_state=~"open|half_open|forced_open"}) > 0
			)`},
		column{title: "Failures", width: 190, pairs: gauge(above("green", 0.25, "orange", 0.5, "red")), expr: `
			max by ($EACH_CIRCUIT) (
				last_over_time(resilience_circuit_breaker_failure_ratio{$CIRCUITS}[$__rate_interval])` + closed + `
			)`},
		column{title: "Opens at", width: 100, pairs: []any{"unit", "percentunit"}, expr: `
			min by ($EACH_CIRCUIT) (resilience_circuit_breaker_failure_threshold_ratio{$CIRCUITS})`},
		column{title: "Rejected", width: 110, pairs: []any{"unit", "cps", "thresholds", above("text", 0.001, "purple"), "custom.cellOptions", map[string]any{"type": "color-text"}}, expr: `
			sum by ($EACH_CIRCUIT) (rate(resilience_circuit_breaker_calls_total{$CIRCUITS, resilience_circuit_breaker_call_outcome="rejected"}[$__rate_interval]))`},
		column{title: "Transitions", width: 110, pairs: []any{"unit", "locale"}, expr: `
			round(sum by ($EACH_CIRCUIT) (increase(resilience_circuit_breaker_transitions_total{$CIRCUITS}[$__range])))`},
	)
}

func callsByOutcome() panel {
	return lines("Calls by outcome", 10, 8, "cps",
		"Calls per second, by what they came to. Rejected calls were not run: the circuit was open. Ignored ones are no mark for or against the dependency, as when the caller gave up.",
		overTime("{{resilience_circuit_breaker_call_outcome}}", `
			sum by (resilience_circuit_breaker_call_outcome) (rate(resilience_circuit_breaker_calls_total{$CIRCUITS}[$__rate_interval]))`)).
		stacked().overriding(named(callOutcomes)...)
}

func errorRates() panel {
	increase := func(outcome string) string {
		return `increase(resilience_circuit_breaker_calls_total{$CIRCUITS` + outcome + `}[5m])`
	}
	const (
		failure  = `, resilience_circuit_breaker_call_outcome="failure"`
		judged   = `, resilience_circuit_breaker_call_outcome=~"success|failure"`
		success  = `, resilience_circuit_breaker_call_outcome="success"`
		rejected = `, resilience_circuit_breaker_call_outcome="rejected"`
		noAvail  = `, resilience_circuit_breaker_call_outcome=~"failure|rejected"`
	)
	limits := above("green", 0.01, "orange", 0.1, "red")
	return table("Error rate in the last five minutes, worst first", 14, 8, "locale",
		"What the service behind each circuit did in the five minutes before the end of the time range. "+errorRateIs+" Unavailable is beside it: "+unavailIs,
		[]string{"Error rate", "Unavailable"},
		column{title: "Circuit", label: "resilience_circuit_breaker_name", pairs: []any{"links", []dataLink{
			circuitLink("This circuit alone", "${__data.fields.Job:percentencode}", "${__value.text:percentencode}"),
			tracesLink("Failed traces of this circuit", "${__data.fields.Job:percentencode}", "resilience.circuit_breaker.name", "${__value.text:percentencode}", "error", "true"),
		}}},
		column{title: "Job", label: "job"},
		column{title: "Error rate", width: 170, pairs: gauge(limits), expr: `
			sort_desc(
				sum by ($CIRCUIT) (` + increase(failure) + `)
				/
				(sum by ($CIRCUIT) (` + increase(judged) + `) > 0)
			)`},
		column{title: "Unavailable", width: 170, pairs: gauge(limits), expr: `
			sum by ($CIRCUIT) (` + increase(noAvail) + `)
			/
			(sum by ($CIRCUIT) (` + increase("") + `) > 0)`},
		column{title: "Successes", width: 95, pairs: []any{"decimals", 0}, expr: `round(sum by ($CIRCUIT) (` + increase(success) + `))`},
		column{title: "Failures", width: 85, pairs: []any{"decimals", 0}, expr: `round(sum by ($CIRCUIT) (` + increase(failure) + `))`},
		column{title: "Rejected", width: 85, pairs: []any{"decimals", 0}, expr: `round(sum by ($CIRCUIT) (` + increase(rejected) + `))`},
	)
}

func rejectedShare() panel {
	return shares("Rejected share", 8, 8,
		"Calls that were not run because the circuit was open, or half-open with all probes taken, among all calls.",
		overTime(circuitName, `
			sum by ($CIRCUIT) (rate(resilience_circuit_breaker_calls_total{$CIRCUITS, resilience_circuit_breaker_call_outcome="rejected"}[$__rate_interval]))
			/
			(sum by ($CIRCUIT) (rate(resilience_circuit_breaker_calls_total{$CIRCUITS}[$__rate_interval])) > 0)`+everyCircuit)).
		linking(circuitLinks()...)
}

func unavailable() panel {
	return shares("Unavailable", 8, 8, unavailIs,
		overTime(circuitName, `
			sum by ($CIRCUIT) (rate(resilience_circuit_breaker_calls_total{$CIRCUITS, resilience_circuit_breaker_call_outcome=~"failure|rejected"}[$__rate_interval]))
			/
			(sum by ($CIRCUIT) (rate(resilience_circuit_breaker_calls_total{$CIRCUITS}[$__rate_interval])) > 0)`+everyCircuit)).
		linking(circuitLinks()...)
}

func failureRatio() panel {
	p := lines("Failures against the threshold", 8, 8, "percentunit",
		"How near each closed circuit is to opening, in its worst instance: the share of failures in its sliding window, divided by the threshold at which it opens. It opens at 100 %. Without a line where it is not closed, or has too few calls to be judged. Runbook: CircuitNearThreshold.",
		overTime(circuitName, `
			max by ($CIRCUIT) (
				last_over_time(resilience_circuit_breaker_failure_ratio{$CIRCUITS}[$__rate_interval])
				/ on ($EACH_CIRCUIT)
				resilience_circuit_breaker_failure_threshold_ratio{$CIRCUITS}
				and on ($EACH_CIRCUIT)
				resilience_circuit_breaker_status{$CIRCUITS, resilience_circuit_breaker_state="closed"} > 0
			)`+everyCircuit)).
		line(1).linking(circuitLinks()...)
	p.FieldConfig.Defaults.Custom["axisSoftMax"] = 1.1
	return p
}

const transitionsTotal = `resilience_circuit_breaker_transitions_total{$CIRCUITS}`

func transitions() panel {
	var overrides []override
	for _, s := range states {
		overrides = append(overrides, byName(s.label, "displayName", "to "+s.name, "color", fixed(s.color)))
	}
	return lines("Transitions", 11, 8, "short",
		"State changes in each step, by the state they led to. Many closings in a row, each followed by an opening, are a flapping circuit. Runbook: CircuitFlapping.",
		overTime("{{resilience_circuit_breaker_state}}", `
			sum by (resilience_circuit_breaker_state) (
				`+more(transitionsTotal, "$__interval")+`
				> 0
			)`)).
		bars().legend("sum").overriding(overrides...).custom("axisSoftMax", 2)
}

func stateChanges() panel {
	happened := more(transitionsTotal, "15s") + `
				> 0`
	const by = `job, resilience_circuit_breaker_name, resilience_circuit_breaker_previous_state, resilience_circuit_breaker_state`
	state := []any{"mappings", labelsToStates(), "custom.cellOptions", map[string]any{"type": "color-text"}}
	return table("State changes in the last hour", 13, 8, "locale",
		"How often each circuit went from one state to another in the hour before the end of the time range, over all instances, and when it last did: to within 15 seconds after, or the time between two exports if that is longer.",
		[]string{"Last transition"},
		column{title: "Circuit", label: "resilience_circuit_breaker_name", pairs: []any{"links", []dataLink{
			circuitLink("This circuit alone", "${__data.fields.Job:percentencode}", "${__value.text:percentencode}"),
		}}},
		column{title: "Job", label: "job"},
		column{title: "From", label: "resilience_circuit_breaker_previous_state", width: 125, pairs: state},
		column{title: "To", label: "resilience_circuit_breaker_state", width: 125, pairs: state},
		column{title: "Count", width: 80, pairs: []any{"decimals", 0}, expr: `
			sum by (` + by + `) (
				sum_over_time((
				` + happened + `
				)[1h:15s])
			)`},
		column{title: "Last transition", width: 180, pairs: []any{"unit", "dateTimeAsLocal"}, expr: `
			1000 * max by (` + by + `) (
				max_over_time((
				timestamp(` + transitionsTotal + `) and
				` + happened + `
				)[1h:15s])
			)`},
	)
}

const callDuration = "resilience_circuit_breaker_call_duration_seconds"

func callQuantiles() panel {
	return lines("Duration quantiles", 8, 9, "s",
		"Quantiles of the duration of calls that were run, whatever they came to. Diamonds are single calls: each leads to its trace.",
		quantile("p50", 0.5, callDuration, "$CIRCUITS", ""),
		quantile("p95", 0.95, callDuration, "$CIRCUITS", ""),
		quantile("p99", 0.99, callDuration, "$CIRCUITS", "")).
		overriding(quantileStyles("")...)
}

// quantileStyles are the colours of quantiles: the rarer the darker, and dashed.
func quantileStyles(prefix string) []override {
	return []override{
		byName(prefix+"p50", "color", fixed("super-light-blue")),
		byName(prefix+"p95", "color", fixed("blue")),
		byName(prefix+"p99", "color", fixed("dark-blue"), "custom.lineStyle", map[string]any{"fill": "dash", "dash": []int{8, 4}}),
	}
}

func callQuantileByCircuit() panel {
	q := quantile(circuitName, 0.95, callDuration, "$CIRCUITS", "$CIRCUIT")
	q.Expr += query(everyCircuit)
	return lines("p95 by circuit", 8, 9, "s",
		"95 of 100 calls of each circuit took less than this. Diamonds are single calls: each leads to its trace.", q).
		linking(circuitLinks()...)
}

func callHeatmap() panel {
	p := newPanel("heatmap", "Where the durations are", 8, 9,
		"Calls by how long they took, per step: a second band is often a timeout, or a dependency with two ways to answer. The colour is how many.",
		field{
			Unit:   "s",
			Custom: map[string]any{"scaleDistribution": map[string]any{"type": "linear"}, "hideFrom": map[string]bool{"legend": false, "tooltip": false, "viz": false}},
		},
		[]target{overTime("{{le}}", `
			sum by (le) (increase(`+callDuration+`_bucket{$CIRCUITS}[$__rate_interval]))
			or
			sum (increase(`+callDuration+`{$CIRCUITS}[$__rate_interval]))`)})
	p.Targets[0].Format = "heatmap"
	p.MaxDataPoints = 100
	p.Options = map[string]any{
		"calculate": false, "cellGap": 1, "showValue": "never",
		"cellValues":   map[string]any{"unit": "short"},
		"color":        map[string]any{"exponent": 0.5, "fill": "blue", "mode": "scheme", "reverse": false, "scale": "exponential", "scheme": "Turbo", "steps": 64},
		"exemplars":    map[string]any{"color": "rgba(255,0,255,0.7)"},
		"filterValues": map[string]any{"le": 1e-9},
		"legend":       map[string]any{"show": true},
		"rowsFrame":    map[string]any{"layout": "auto"},
		"tooltip":      map[string]any{"mode": "single", "showColorScale": true, "yHistogram": true},
		"yAxis":        map[string]any{"axisPlacement": "left", "reverse": false, "unit": "s"},
	}
	return p
}
