package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/prometheus/otlptranslator"
	"github.com/stretchr/testify/require"
)

// rows returns the rows of the table under a heading of TELEMETRY.md, without the
// cells' code quotes.
func rows(t *testing.T, heading string) [][]string {
	t.Helper()
	text, err := os.ReadFile("../TELEMETRY.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	section, _, _ = strings.Cut(section, "\n### ")
	var table [][]string
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(c), "`", "")
		}
		table = append(table, cells)
	}
	require.Greater(t, len(table), 1, heading)
	return table[1:]
}

// The Prometheus names in TELEMETRY.md are what the translator of Prometheus makes.
func TestPrometheusMetricNames(t *testing.T) {
	types := map[string]otlptranslator.MetricType{
		"Counter":                 otlptranslator.MetricTypeMonotonicCounter,
		"ObservableCounter":       otlptranslator.MetricTypeMonotonicCounter,
		"ObservableUpDownCounter": otlptranslator.MetricTypeNonMonotonicCounter,
		"ObservableGauge":         otlptranslator.MetricTypeGauge,
		"Histogram":               otlptranslator.MetricTypeHistogram,
	}
	namer := otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes)
	for _, row := range rows(t, "Metrics") {
		_, instrument, _ := strings.Cut(row[2], " ")
		require.Contains(t, types, instrument)
		name, err := namer.Build(otlptranslator.Metric{Name: row[0], Unit: row[3], Type: types[instrument]})
		require.NoError(t, err)
		require.Equal(t, name, row[1], row[0])
	}
}

func TestPrometheusLabelNames(t *testing.T) {
	namer := otlptranslator.LabelNamer{}
	labels := 0
	for _, row := range rows(t, "Attributes") {
		if row[1] == "–" {
			continue
		}
		labels++
		name, err := namer.Build(row[0])
		require.NoError(t, err)
		require.Equal(t, name, row[1], row[0])
	}
	require.Equal(t, 21, labels, "attributes of metrics")
}
