package otelres

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
)

// TestTelemetryDocument compares TELEMETRY.md with the tables that instruments,
// spans and events are made from.
func TestTelemetryDocument(t *testing.T) {
	got := document()
	if *Update {
		require.NoError(t, os.WriteFile("TELEMETRY.md", []byte(got), 0o644))
	}
	want, err := os.ReadFile("TELEMETRY.md")
	require.NoError(t, err)
	require.Equal(t, string(want), got, "TELEMETRY.md is not what the tables say: go test ./otelres -run TestTelemetryDocument -update")
}

func document() string {
	var b strings.Builder
	b.WriteString(`# Telemetry

What package otelres sends. Generated from schema.go by ` + "`go test ./otelres -run TestTelemetryDocument -update`" + `; do not edit.

Scope: ` + "`" + ScopeName + "`" + `, version ` + "`" + Version + "`" + `, schema URL ` + "`" + schemaURL + "`" + `.

The attributes of ` + "`WithAttributes`" + ` are on all of it, and on nothing that is not made here. Error messages are on none of it.

## Metrics

Prometheus names are those of an OTLP receiver or exporter with its default translation; a histogram has its name followed by ` + "`_bucket`, `_count` and `_sum`" + `. Attributes become labels with underscores for dots.

| Metric | Prometheus | Instrument | Unit | Attributes | Meaning |
|---|---|---|---|---|---|
`)
	for _, m := range metricTable {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s %s | `%s` | %s | %s |\n", m.name, prometheusName(m), numberType(m), m.kind, m.unit, keyList(m.attributes), m.brief)
	}
	b.WriteString(`
### Which series there are, and when

- What is observed (of breakers status, time, last_closed_time, calls, failure.ratio, failure.threshold; of bulkheads in_flight, queued, limit, calls) is read off them at each collection: true while idle, free on the call path. It begins with a breaker or bulkhead and ends with its ` + "`Close`" + `. Series that a breaker may never use exist with value 0, failure.ratio excepted.
- Of breakers that were never in shadow mode there are no states of shadow mode. would_reject is there while a breaker of the name is in shadow mode, with value 0 from the beginning, and says so by that.
- What is observed of retry budgets (retry.budget.*) begins and ends with the budget in the same way. Where several have one name it is their sum, which begins at zero when the last of them is closed.
- What is counted (the Counters above) begins with value 0 for every combination that can occur: when a breaker or another policy is born, when a name is first retried, when the Telemetry is made. Histograms begin with their first value. The SDK keeps reporting these for as long as it lives, also after a breaker's ` + "`Close`" + `.
- Of several breakers of one name, status, time and calls are the sums, failure.ratio is that of their windows together, failure.threshold the lowest, last_closed_time the earliest: an alert on it sees the one that has been open longest. Of several bulkheads of one name everything is the sum.
- Sums of a name do not go backwards when one of its breakers is closed, and go on where they stopped when the name is born again. What calls do that are still running when their breaker is closed is not in them, nor is, for a name whose last breaker is closed, what happened since the last collection until the name is born again. With delta temporality a name that was absent from a collection and returns reports its whole sum once more.

### How many series there can be

The SDK gives an instrument 2000 attribute sets and adds up what is beyond. Before that happens, ` + "`WithNameLimit`" + ` (` + strconv.Itoa(defaultNameLimit) + ` by default, for breakers, retries, bulkheads, timeouts, rate limits, fallbacks and hedges each) gathers what is beyond under the name ` + "`" + other + "`" + `, in series that look like any other, and counts it in ` + "`" + metricTable[metricDropped].name + "`" + `.

| Metric | Sets a name | Sets at the default limit |
|---|---|---|
`)
	for _, m := range metricTable {
		n := setsPerName(m)
		total := n * (defaultNameLimit + 1)
		if !slices.ContainsFunc(m.attributes, isName) {
			total = n
		}
		fmt.Fprintf(&b, "| `%s` | %d | %d |\n", m.name, n, total)
	}
	b.WriteString(`
- Observed series are given to names with a living breaker: a closed one's place is free for another name. A breaker keeps the place it was born into.
- Counters and histograms are given to the first ` + strconv.Itoa(defaultNameLimit) + ` names for good, since the SDK forgets none; a later breaker name has its own observed series if there is room, and ` + "`" + other + "`" + ` for transitions and durations. Bulkhead names keep their places for good in both.
- Each breaker or other policy that is born without all of its own series counts as one dropped event, and so does each retried operation of a name without. Spans, events and logs are not limited and show every name.
- A name that is used again, however often, is one name.

### Buckets

In seconds, as advice that views override:

`)
	for _, m := range metricTable {
		if m.kind == histogram {
			fmt.Fprintf(&b, "- `%s`: %s\n", m.name, bucketList(m.buckets))
		}
	}
	b.WriteString(`
` + "`WithoutDurations()`" + ` leaves out the three histograms of how long calls, operations and attempts take; those of waits and delays stay.

## Spans

All are of kind internal. The operation's and the attempt's spans are for ` + "`WithSpans(Attempts)`" + `; an attempt's context carries its span, so a client's span is its child and each attempt sends a traceparent of its own.

| Span | Attributes | Status | When |
|---|---|---|---|
`)
	for _, s := range spanTable {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.name, keyList(s.attributes), s.status, s.brief)
	}
	b.WriteString(`
A panic, or the end of the goroutine by runtime.Goexit, ends the spans with status Error and error.type ` + "`" + errorTypePanic + "`" + `.

` + "`ResendCount`" + ` sets ` + "`http.request.resend_count`" + `, the number of the attempt less one, on the span that others made of an HTTP request, if that is not the first attempt.

## Events

On the operation's span, or else the current one, and as log records with that name as event name and the ids of trace and span.

| Event | Attributes | Severity | Auto | SpanEvents | Logs | Both | When |
|---|---|---|---|---|---|---|---|
`)
	for _, e := range eventTable {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s | %s |\n", e.name, keyList(e.attributes), e.severity,
			paths(e, Auto), paths(e, SpanEvents), paths(e, Logs), paths(e, Both), e.brief)
	}
	b.WriteString(`
Of Auto, "log" is for a Telemetry that was given a LoggerProvider.

## Attributes

| Attribute | Prometheus label | Type | Unit | Values | Meaning |
|---|---|---|---|---|---|
`)
	for _, a := range attributeTable {
		values := "any"
		if a.values != nil {
			values = "`" + strings.Join(a.values, "`, `") + "`"
		}
		label := "–"
		if inMetrics(a.key) {
			label = "`" + prometheusLabel(a.key) + "`"
		}
		unit := "–"
		if a.unit != "" {
			unit = "`" + a.unit + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", a.key, label, strings.ToLower(a.typ.String()), unit, values, a.brief)
	}
	return b.String()
}

// isName reports that an attribute holds a name, of which there may be as many as the
// name limit allows.
func isName(key attribute.Key) bool { return strings.HasSuffix(string(key), ".name") }

func numberType(m metricDef) string {
	if m.float {
		return "float64"
	}
	return "int64"
}

func keyList(keys []attribute.Key) string {
	words := make([]string, len(keys))
	for i, k := range keys {
		words[i] = "`" + string(k) + "`"
	}
	return strings.Join(words, ", ")
}

func bucketList(bounds []float64) string {
	words := make([]string, len(bounds))
	for i, x := range bounds {
		words[i] = strconv.FormatFloat(x, 'g', -1, 64)
	}
	return strings.Join(words, " ")
}

func paths(e eventDef, mode Events) string {
	t := &Telemetry{config: config{eventMode: mode, logging: true}}
	var words []string
	if mode != Logs && e.spanEvent {
		words = append(words, "span")
	}
	if t.logs(&e) {
		words = append(words, "log")
	}
	if words == nil {
		return "–"
	}
	return strings.Join(words, ", ")
}

func inMetrics(key attribute.Key) bool {
	return slices.ContainsFunc(metricTable[:], func(m metricDef) bool { return slices.Contains(m.attributes, key) })
}

// setsPerName returns how many attribute sets an instrument has for one name.
func setsPerName(m metricDef) int {
	switch m.name {
	case metricTable[metricTransitions].name:
		return len(legalTransitions())
	case metricTable[metricCallDuration].name:
		return 3 // a rejected call has no duration
	}
	n := 1
	for _, key := range m.attributes {
		i := slices.IndexFunc(attributeTable, func(a attributeDef) bool { return a.key == key })
		n *= max(1, len(attributeTable[i].values))
	}
	return n
}

// prometheusName follows the default translation of OTLP metric names. The e2e
// module compares its results with the translator that Prometheus uses.
func prometheusName(m metricDef) string {
	words := strings.Split(m.name, ".")
	add := func(suffix string) {
		words = slices.DeleteFunc(words, func(w string) bool { return w == suffix })
		words = append(words, suffix)
	}
	if m.unit == "s" && words[len(words)-1] != "seconds" {
		words = append(words, "seconds")
	}
	switch m.kind {
	case counter, observableCounter:
		add("total")
	case observableGauge:
		if m.unit == "1" {
			add("ratio")
		}
	}
	return strings.Join(words, "_")
}

func prometheusLabel(key attribute.Key) string { return strings.ReplaceAll(string(key), ".", "_") }

// Every name an instrument can have is within the limit that the SDK sets by default.
func TestDefaultNameLimitFitsTheSDK(t *testing.T) {
	const sdkLimit = 2000 // one of which is the SDK's own overflow
	for _, m := range metricTable {
		require.Less(t, setsPerName(m)*(defaultNameLimit+1), sdkLimit, m.name)
	}
}

// Every attribute that is used is described, and every one described is used.
func TestAttributeTableIsComplete(t *testing.T) {
	used := make(map[attribute.Key]bool)
	for _, m := range metricTable {
		for _, k := range m.attributes {
			used[k] = true
			require.True(t, strings.HasPrefix(string(k), "resilience."), "%s: %s", m.name, k)
		}
	}
	for _, s := range spanTable {
		for _, k := range s.attributes {
			used[k] = true
		}
	}
	for _, e := range eventTable {
		for _, k := range e.attributes {
			used[k] = true
		}
	}
	described := make(map[attribute.Key]bool)
	for _, a := range attributeTable {
		require.False(t, described[a.key], "%s twice", a.key)
		described[a.key] = true
	}
	require.Equal(t, used, described)
}

// Metrics have no attribute whose values are not a closed set but for names.
func TestMetricAttributesAreClosedSets(t *testing.T) {
	for _, m := range metricTable {
		for _, key := range m.attributes {
			i := slices.IndexFunc(attributeTable, func(a attributeDef) bool { return a.key == key })
			if !isName(key) {
				require.NotEmpty(t, attributeTable[i].values, "%s: %s", m.name, key)
			}
		}
	}
}
