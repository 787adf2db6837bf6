package prometheus_test

import (
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/examples/grafana/rules"
)

func TestScaledRules(t *testing.T) {
	files := fstest.MapFS{
		"a.rules.yml": {Data: []byte(`
groups:
  - name: one
    rules:
      - {record: x:rate5m, expr: 'rate(x_total[5m])'}
      - {alert: X, expr: 'x:rate5m > 1 and last_over_time(y[1h] offset 10m)', for: 2m, keep_firing_for: 1m, labels: {severity: page}}
  - name: two
    interval: 30s
    rules:
      - {record: y:sum, expr: sum(y)}
`)},
		"README.md": {Data: []byte("not one")},
	}
	scaled, err := prometheus.ScaledRules(files, 0.1)
	require.NoError(t, err)
	require.Len(t, scaled, 1)
	require.YAMLEq(t, `
groups:
  - name: one
    interval: 1s500ms
    rules:
      - {record: x:rate5m, expr: 'rate(x_total[30s])'}
      - {alert: X, expr: 'x:rate5m > 1 and last_over_time(y[6m] offset 1m)', for: 12s, keep_firing_for: 6s, labels: {severity: page}}
  - name: two
    interval: 3s
    rules:
      - {record: y:sum, expr: sum(y)}
`, string(scaled["a.rules.yml"]))
	require.Equal(t, 30*time.Second, prometheus.ScaledLookback(0.1))

	_, err = prometheus.ScaledRules(files, -1)
	require.ErrorContains(t, err, "Scale is -1")
	_, err = prometheus.ScaledRules(fstest.MapFS{}, 0.1)
	require.ErrorContains(t, err, "there is no rule file")
}

// TestScaledRulesCanBeRead reads the scaled rules of the repository as a server reads
// them.
func TestScaledRulesCanBeRead(t *testing.T) {
	scaled, err := prometheus.ScaledRules(rules.Files, 1.0/40)
	require.NoError(t, err)
	require.NotEmpty(t, scaled)
	again := make(fstest.MapFS)
	for name, content := range scaled {
		again[name] = &fstest.MapFile{Data: content}
	}
	_, err = prometheus.ScaledRules(again, 1)
	require.NoError(t, err)
}
