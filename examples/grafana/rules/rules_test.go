package rules_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/vocabulary"
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

func telemetry(t *testing.T) vocabulary.Vocabulary {
	t.Helper()
	v, err := vocabulary.Read(filepath.Join(root, "otelres/TELEMETRY.md"))
	require.NoError(t, err)
	return v
}

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
		for problem := range v.Expr(expr, recorded, "loss") {
			t.Errorf("%s: %s", name, problem)
		}
		for _, selector := range parser.ExtractSelectors(expr) {
			for _, m := range selector {
				used[m.Value] = true
			}
		}
	}
	for name := range recorded {
		require.True(t, name == "" || used[name], "%s is recorded and used by no rule", name)
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
		problems := slices.Collect(v.Selector(parser.ExtractSelectors(tree)[0], nil))
		if want == "" {
			require.Empty(t, problems, expr)
		} else {
			require.NotEmpty(t, problems, expr)
			require.Contains(t, problems[0], want, expr)
		}
	}
}
