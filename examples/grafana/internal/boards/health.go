package boards

// telemetryHealth is the row, on every dashboard, that says whether to believe the rest.
func telemetryHealth() row {
	return row{id: 900, title: "Telemetry health", panels: []panel{
		lines("Instances that report", 6, 6, "short",
			"Processes of each job whose metrics arrive, with or without breakers at the time. A step down that is no deployment is lost telemetry, or a lost process. Runbook: ResilienceTelemetryAbsent.",
			overTime("{{job}}", `
			count by (job) (group by (job, instance) (resilience_events_dropped_total{$PROCESSES}))`)).
			custom("lineInterpolation", "stepAfter"),
		lines("Age of the newest metrics", 6, 6, "s",
			"Time since the last export, in the instance of each job that is the furthest behind. It rises and falls by the time between two exports; more than that is an export that failed. After five minutes an instance is forgotten.",
			overTime("{{job}}", `
			max by (job) (time() - timestamp(resilience_events_dropped_total{$PROCESSES}))`)).
			custom("axisSoftMax", 60),
		lines("Events not reported as they should be", 6, 6, "short",
			"Events that were dropped or put under the name _OTHER, by reason, and breakers that live under that name. Anything but 0 means that other panels show too little. Runbooks: ResilienceEventsDropped, ResilienceCardinalityOverflow.",
			overTime("{{job}}: {{resilience_events_drop_reason}}", `
			sum by (job, resilience_events_drop_reason) (increase(resilience_events_dropped_total{$PROCESSES}[$__rate_interval]))`),
			overTime("{{job}}: breakers called _OTHER", `
			sum by (job) (resilience_circuit_breaker_status{$PROCESSES, resilience_circuit_breaker_name="_OTHER"}) > 0`)).
			custom("axisSoftMax", 1),
		lines("Lost by the collector", 6, 6, "short",
			"Spans, metric points and log records that a collector could not deliver or did not take, by kind. Counters catch up with the next export; spans and logs are gone. It is empty where no collector reports its own metrics, or the recording rules are not loaded. Runbook: CollectorDropping.",
			overTime("{{loss}}", `
			sum by (loss) (increase(job_instance_loss:otelcol_items:sum[$__rate_interval]))`)).
			custom("axisSoftMax", 1).noValue("no collector reports"),
	}}
}
