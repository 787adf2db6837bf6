package dashboards_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// grafana does with a query what a Grafana does before Prometheus sees it. The zero
// grafana has the time range of a dashboard that was just opened, and all of everything.
type grafana struct {
	from, to  time.Time
	exports   time.Duration // the time between two exports, as the data source is told; zero means 15 seconds
	points    int           // of the panel, which is its width unless it says otherwise; zero means 1000
	variables map[string]string
}

func (g grafana) span() time.Duration {
	if g.to.IsZero() {
		return 30 * time.Minute
	}
	return g.to.Sub(g.from)
}

func (g grafana) scrape() time.Duration {
	if g.exports == 0 {
		return 15 * time.Second
	}
	return g.exports
}

// step is $__interval: a round duration, as many of which as there are points make up
// the time range, and no shorter than the time between two exports.
func (g grafana) step() time.Duration {
	points := g.points
	if points == 0 {
		points = 1000
	}
	exact := g.span() / time.Duration(points)
	round := time.Second
	for _, next := range []time.Duration{2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600} {
		if exact > round*3/2 {
			round = next * time.Second
		}
	}
	return max(round, g.scrape())
}

// rateInterval is $__rate_interval: wide enough for four exports.
func (g grafana) rateInterval() time.Duration {
	return max(g.step()+g.scrape(), 4*g.scrape())
}

var variablePattern = regexp.MustCompile(`\$(\w+)`)

// fill puts values for the variables into a query.
func (g grafana) fill(expr string) string {
	return variablePattern.ReplaceAllStringFunc(expr, func(name string) string {
		switch name = name[1:]; name {
		case "__interval":
			return seconds(g.step())
		case "__rate_interval":
			return seconds(g.rateInterval())
		case "__range":
			return seconds(g.span())
		case "job", "instance", "circuit", "retry":
			if v, chosen := g.variables[name]; chosen {
				return v
			}
			return ".*"
		default:
			return "$" + name // which does not parse
		}
	})
}

func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int(d.Seconds())) }

// aligned returns the times of the first and last step: Grafana has steps begin at
// multiples of themselves.
func (g grafana) aligned() (from, to time.Time) {
	return g.from.Truncate(g.step()), g.to.Truncate(g.step())
}

var labelValuesPattern = regexp.MustCompile(`^label_values\((.+), ?(\w+)\)$`)

// labelValues takes apart the query of a variable.
func labelValues(t *testing.T, v variable) (selector, label string) {
	t.Helper()
	query, ok := v.Query.(map[string]any)
	require.True(t, ok, v.Name)
	text, ok := query["query"].(string)
	require.True(t, ok, v.Name)
	match := labelValuesPattern.FindStringSubmatch(text)
	require.NotNil(t, match, "%q is not of the form label_values(selector, label)", text)
	return match[1], match[2]
}

// The durations are those of Grafana's own documentation and source.
func TestGrafana(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		span, exports  time.Duration
		points         int
		interval, rate time.Duration
	}{
		{30 * time.Minute, 15 * time.Second, 0, 15 * time.Second, time.Minute},
		{30 * time.Minute, time.Second, 0, 2 * time.Second, 4 * time.Second},
		{time.Minute, time.Second, 100, time.Second, 4 * time.Second},
		{24 * time.Hour, 15 * time.Second, 1440, time.Minute, 75 * time.Second},
	} {
		g := grafana{from: at, to: at.Add(c.span), exports: c.exports, points: c.points}
		require.Equal(t, c.interval, g.step(), c)
		require.Equal(t, c.rate, g.rateInterval(), c)
	}
	g := grafana{from: at, to: at.Add(time.Hour), variables: map[string]string{"job": "order"}}
	require.Equal(t, `rate(x{job=~"order", instance=~".*"}[60s])`, g.fill(`rate(x{job=~"$job", instance=~"$instance"}[$__rate_interval])`))
	require.Equal(t, `x[3600s] offset 15s`, g.fill(`x[$__range] offset $__interval`))
	require.True(t, strings.Contains(g.fill(`$other`), "$other"))
}
