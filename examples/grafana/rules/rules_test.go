package rules_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/examples/grafana/rules"
)

// root is the folder of the repository.
const root = "../../.."

var language = parser.NewParser(parser.Options{})

// all returns the rules of all files.
func all(t *testing.T) []rulefmt.Rule {
	t.Helper()
	files, err := fs.Glob(rules.Files, "*")
	require.NoError(t, err)
	onDisk, err := filepath.Glob("*.yml")
	require.NoError(t, err)
	require.Equal(t, onDisk, files, "a rule file that is not embedded")
	var found []rulefmt.Rule
	groups := make(map[string]bool)
	for _, file := range files {
		text, err := fs.ReadFile(rules.Files, file)
		require.NoError(t, err)
		parsed, errs := rulefmt.Parse(text, false, model.LegacyValidation, language, promslog.NewNopLogger())
		require.Empty(t, errs, file)
		for _, g := range parsed.Groups {
			require.False(t, groups[g.Name], "two groups are called %s", g.Name)
			groups[g.Name] = true
			found = append(found, g.Rules...)
		}
	}
	require.NotEmpty(t, found)
	return found
}

func alerts(t *testing.T) []rulefmt.Rule {
	return slices.DeleteFunc(all(t), func(r rulefmt.Rule) bool { return r.Alert == "" })
}

// Who is called by an alert finds in it what to do.
func TestAlertsSayWhatToDo(t *testing.T) {
	runbooks := make(map[string]bool)
	for _, a := range alerts(t) {
		t.Run(a.Alert, func(t *testing.T) {
			require.False(t, runbooks[a.Alert], "two alerts of this name")
			require.Contains(t, []string{"page", "ticket", "info"}, a.Labels["severity"])
			require.Equal(t, []string{"severity"}, slices.Collect(maps.Keys(a.Labels)))
			require.Equal(t, []string{"description", "runbook_url", "summary"}, slices.Sorted(maps.Keys(a.Annotations)))
			require.Contains(t, a.Annotations["summary"], "{{ $labels.job }}")
			require.NotRegexp(t, `\s$|^\s|\n`, a.Annotations["summary"])
			require.NotRegexp(t, `\.$`, a.Annotations["summary"], "a headline, not a sentence")
			require.Regexp(t, `\.$`, a.Annotations["description"])
			for _, text := range a.Annotations {
				require.NotRegexp(t, `\d+ ?(s|m|h|seconds?|minutes?|hours?)\b`, text, "durations are other ones where the rules are scaled")
			}

			file := "docs/runbooks/" + a.Alert + ".md"
			require.Equal(t, "https://github.com/breakwater-go/breakwater/blob/main/"+file, a.Annotations["runbook_url"])
			text, err := os.ReadFile(filepath.Join(root, file))
			require.NoError(t, err)
			require.Equal(t, "# "+a.Alert, strings.SplitN(string(text), "\n", 2)[0])
			for _, heading := range []string{"\n## What it means\n", "\n## What to look at\n", "\n## What to do\n"} {
				require.Equal(t, 1, strings.Count(string(text), heading), heading)
			}
			require.Contains(t, string(text), "Severity: "+a.Labels["severity"]+".")
		})
		runbooks[a.Alert] = true
	}
	files, err := filepath.Glob(filepath.Join(root, "docs/runbooks/*.md"))
	require.NoError(t, err)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".md")
		require.True(t, runbooks[name] || name == "README", "%s is of no alert", file)
	}
}

// Every alert has a scenario in which it fires, and promtool's tests know it as well.
func TestEveryAlertIsTested(t *testing.T) {
	var tests, promtool strings.Builder
	for pattern, b := range map[string]*strings.Builder{"*_test.go": &tests, "tests/*.test.yml": &promtool} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			b.Write(text)
		}
	}
	for _, a := range alerts(t) {
		require.Contains(t, tests.String(), `rule: "`+a.Alert+`"`)
		require.Contains(t, promtool.String(), `ALERTS{alertname="`+a.Alert+`", alertstate="firing"`)
	}
}

// vocabulary is what TELEMETRY.md says is sent, as Prometheus stores it.
type vocabulary struct {
	labels map[string][]string            // values by label; nil means any
	series map[string]map[string]struct{} // labels by name
}

func telemetry(t *testing.T) vocabulary {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "otelres/TELEMETRY.md"))
	require.NoError(t, err)
	v := vocabulary{labels: make(map[string][]string), series: make(map[string]map[string]struct{})}
	namer := otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes)
	word := regexp.MustCompile("`([^`]+)`")
	words := func(cell string) []string {
		var all []string
		for _, match := range word.FindAllStringSubmatch(cell, -1) {
			all = append(all, match[1])
		}
		return all
	}
	label := func(attribute string) string {
		name, err := (&otlptranslator.LabelNamer{}).Build(attribute)
		require.NoError(t, err)
		return name
	}
	for _, row := range table(t, string(text), "Attributes") {
		v.labels[label(words(row[0])[0])] = words(row[4])
	}
	kinds := map[string]otlptranslator.MetricType{
		"Counter":                 otlptranslator.MetricTypeMonotonicCounter,
		"ObservableCounter":       otlptranslator.MetricTypeMonotonicCounter,
		"ObservableUpDownCounter": otlptranslator.MetricTypeNonMonotonicCounter,
		"ObservableGauge":         otlptranslator.MetricTypeGauge,
		"Histogram":               otlptranslator.MetricTypeHistogram,
	}
	for _, row := range table(t, string(text), "Metrics") {
		_, instrument, _ := strings.Cut(row[2], " ")
		require.Contains(t, kinds, instrument)
		name, err := namer.Build(otlptranslator.Metric{Name: words(row[0])[0], Unit: words(row[3])[0], Type: kinds[instrument]})
		require.NoError(t, err)
		names := []string{name}
		if instrument == "Histogram" {
			names = []string{name + "_bucket", name + "_count", name + "_sum"}
		}
		for _, name := range names {
			v.series[name] = make(map[string]struct{})
			for _, attribute := range words(row[4]) {
				v.series[name][label(attribute)] = struct{}{}
			}
		}
	}
	return v
}

// table returns the cells of the table under a heading.
func table(t *testing.T, text, heading string) [][]string {
	t.Helper()
	_, section, found := strings.Cut(text, "\n## "+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	section, _, _ = strings.Cut(section, "\n### ")
	var rows [][]string
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		rows = append(rows, cells)
	}
	require.Greater(t, len(rows), 1, heading)
	return rows[1:]
}

// collectorSeries are the collector's own: they are not in TELEMETRY.md.
var collectorSeries = regexp.MustCompile(`^otelcol_`)

// Rules use what is sent: names, labels and values as in TELEMETRY.md, job and instance,
// and what rules record. Nothing else: labels of the scope or the service come and go
// with the path that the data took.
func TestRulesUseWhatIsSent(t *testing.T) {
	v := telemetry(t)
	recorded := make(map[string]bool)
	for _, r := range all(t) {
		recorded[r.Record] = true
	}
	used := make(map[string]bool)
	for _, r := range all(t) {
		name := r.Record + r.Alert
		expr, err := language.ParseExpr(r.Expr)
		require.NoError(t, err)
		for _, selector := range parser.ExtractSelectors(expr) {
			for problem := range v.problems(selector, recorded) {
				t.Errorf("%s: %s", name, problem)
			}
			for _, m := range selector {
				used[m.Value] = true
			}
		}
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			var grouping []string
			switch n := node.(type) {
			case *parser.AggregateExpr:
				require.False(t, n.Without, "%s: without keeps labels that nobody knows of", name)
				grouping = n.Grouping
			case *parser.BinaryExpr:
				if n.VectorMatching != nil {
					grouping = append(slices.Clone(n.VectorMatching.MatchingLabels), n.VectorMatching.Include...)
				}
			}
			for _, l := range grouping {
				if _, sent := v.labels[l]; !sent && !slices.Contains([]string{"job", "instance", "loss"}, l) {
					t.Errorf("%s: label %s is not sent", name, l)
				}
			}
			return nil
		})
	}
	for name := range recorded {
		require.True(t, name == "" || used[name], "%s is recorded and used by no rule", name)
	}
}

// problems yields what is wrong with a selector.
func (v vocabulary) problems(selector []*labels.Matcher, recorded map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		var metric *labels.Matcher
		for _, m := range selector {
			if m.Name == model.MetricNameLabel {
				metric = m
			}
		}
		if metric == nil {
			yield("a selector without a name")
			return
		}
		if recorded[metric.Value] || collectorSeries.MatchString(metric.Value) {
			if len(selector) > 1 {
				yield("labels of " + metric.Value + " are not known here")
			}
			return
		}
		found := false
		for name, has := range v.series {
			if !metric.Matches(name) {
				continue
			}
			found = true
			for _, m := range selector {
				_, ok := has[m.Name]
				if m != metric && !ok && m.Value != "" && !yield(fmt.Sprintf("%s has no label %s", name, m.Name)) {
					return
				}
			}
		}
		if !found {
			yield(metric.String() + " matches nothing that is sent")
			return
		}
		for _, m := range selector {
			values, sent := v.labels[m.Name]
			if m == metric || !sent && m.Value == "" {
				continue
			}
			if !sent {
				yield(m.Name + " is not sent")
				return
			}
			if m.Value == "" || values == nil {
				continue
			}
			for value := range strings.SplitSeq(m.Value, "|") {
				if !slices.Contains(values, value) && !yield(fmt.Sprintf("%s is never %q", m.Name, value)) {
					return
				}
			}
		}
	}
}

// The check finds what is wrong.
func TestProblems(t *testing.T) {
	v := telemetry(t)
	for expr, want := range map[string]string{
		`resilience_circuit_breaker_status{resilience_circuit_breaker_state="open"}`:            "",
		`resilience_circuit_breaker_status{resilience_circuit_breaker_state=~"open|half_open"}`: "",
		`resilience_circuit_breaker_status{resilience_circuit_breaker_state=~"open|half-open"}`: `resilience_circuit_breaker_state is never "half-open"`,
		`resilience_circuit_breaker_status{resilience_circuit_breaker_name="any"}`:              "",
		`resilience_circuit_breaker_status{resilience_circuit_breaker_call_outcome="failure"}`:  "resilience_circuit_breaker_status has no label resilience_circuit_breaker_call_outcome",
		`resilience_circuit_breaker_status{service_name="order"}`:                               "resilience_circuit_breaker_status has no label service_name",
		`resilience_circuit_breaker_status_ratio`:                                               `__name__="resilience_circuit_breaker_status_ratio" matches nothing that is sent`,
		`resilience_circuit_breaker_call_duration_seconds`:                                      `__name__="resilience_circuit_breaker_call_duration_seconds" matches nothing that is sent`,
		`resilience_circuit_breaker_call_duration_seconds_bucket`:                               "",
		`{__name__=~"resilience_retry_.+", resilience_retry_name=""}`:                           "",
		`{__name__=~"resilience_retry_.+", resilience_circuit_breaker_name="x"}`:                "has no label resilience_circuit_breaker_name",
		`{job="order"}`:               "a selector without a name",
		`otelcol_exporter_sent_spans`: "",
	} {
		tree, err := language.ParseExpr(expr)
		require.NoError(t, err)
		problems := slices.Collect(v.problems(parser.ExtractSelectors(tree)[0], nil))
		if want == "" {
			require.Empty(t, problems, expr)
		} else {
			require.NotEmpty(t, problems, expr)
			require.Contains(t, problems[0], want, expr)
		}
	}
}
