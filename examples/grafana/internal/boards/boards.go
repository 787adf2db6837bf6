// Package boards makes the Grafana dashboards that are in the folder dashboards. What
// is the same in all of their panels is written down here once: states and outcomes
// have one colour and one name everywhere, every query has the same filter, every
// panel its description and its unit.
//
// The files are written by
//
//	go test ./dashboards -run TestFilesAreCurrent -update
package boards

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Files returns the dashboards as JSON by the names of their files.
func Files() (map[string][]byte, error) {
	files := make(map[string][]byte)
	for name, board := range map[string]dashboard{"circuits.json": circuits(), "retries.json": retries()} {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false) // queries are to be read
		e.SetIndent("", "  ")
		if err := e.Encode(board); err != nil {
			return nil, fmt.Errorf("boards: %s: %w", name, err)
		}
		files[name] = b.Bytes()
	}
	return files, nil
}

// The dashboards' ids, which links to them are made of.
const (
	circuitsUID = "breakwater-circuits"
	retriesUID  = "breakwater-retries"
	tag         = "breakwater"
)

// prometheus is whatever data source is chosen in the variable.
var prometheus = source{Type: "prometheus", UID: "${datasource}"}

// words are what queries here are abbreviated with: filters by the variables, and the
// labels that tell circuits and retries from each other.
var words = strings.NewReplacer(
	"$CIRCUITS", `job=~"$job", instance=~"$instance", resilience_circuit_breaker_name=~"$circuit"`,
	"$RETRIES", `job=~"$job", instance=~"$instance", resilience_retry_name=~"$retry"`,
	"$PROCESSES", `job=~"$job", instance=~"$instance"`,
	"$EACH_CIRCUIT", `job, instance, resilience_circuit_breaker_name`,
	"$CIRCUIT", `job, resilience_circuit_breaker_name`,
	"$RETRY", `job, resilience_retry_name`,
)

// query spells out a query, without the indentation that it has in the source: that of
// its last line, which closes what its first line opens.
func query(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := lines[len(lines)-1]
	indent := last[:len(last)-len(strings.TrimLeft(last, "\t"))]
	for i, line := range lines {
		line = strings.TrimPrefix(line, indent)
		tabs := len(line) - len(strings.TrimLeft(line, "\t"))
		lines[i] = strings.Repeat("  ", tabs) + line[tabs:]
	}
	return words.Replace(strings.Join(lines, "\n"))
}

// board fills in what all dashboards have in common, and places the panels.
func board(b dashboard, rows ...row) dashboard {
	b.Editable = true
	b.GraphTooltip = 1
	b.Refresh = "10s"
	b.SchemaVersion = 42
	b.Time = timeRange{From: "now-30m", To: "now"}
	b.Timezone = "browser"
	y := 0
	for _, r := range rows {
		if r.title == "" {
			var placed []panel
			placed, y = r.placed(y)
			b.Panels = append(b.Panels, placed...)
			continue
		}
		head := panel{ID: r.id, Type: "row", Title: r.title, GridPos: grid{H: 1, W: 24, Y: y}, Collapsed: new(r.collapsed), Panels: &[]panel{}}
		y++
		placed, end := r.placed(y)
		if r.collapsed {
			head.Panels = &placed
			b.Panels = append(b.Panels, head)
			continue
		}
		b.Panels = append(append(b.Panels, head), placed...)
		y = end
	}
	return b
}

// row is some panels, from left to right and then down, under a title if it has one.
type row struct {
	id        int // of the row; its panels are counted from there
	title     string
	collapsed bool // what most services do not have: it is there for those who open it
	panels    []panel
}

// placed returns the panels of a row in their places, from y downwards, and where they
// end. Ids are stable while panels come and go in other rows: links contain them.
func (r row) placed(y int) (placed []panel, end int) {
	x, height := 0, 0
	for i, p := range r.panels {
		if x+p.GridPos.W > 24 {
			x, y, height = 0, y+height, 0
		}
		p.ID = r.id + 1 + i
		p.GridPos.X, p.GridPos.Y = x, y
		x, height = x+p.GridPos.W, max(height, p.GridPos.H)
		placed = append(placed, p)
	}
	return placed, y + height
}

// openings marks when circuits open, in every panel over time. Reopenings after a probe
// are not among them.
//
// It takes more, not increase: ranges would overlap, and mark an opening again and again.
func openings(filter string) annotation {
	opened := overTime("", `
			sum by ($CIRCUIT) (
				`+more(`resilience_circuit_breaker_transitions_total{`+filter+`, resilience_circuit_breaker_previous_state="closed", resilience_circuit_breaker_state=~"open|forced_open"}`, "$__interval")+`
			) > 0`)
	opened.RefID, opened.Interval = "Anno", "15s"
	return annotation{
		Datasource:  prometheus,
		Enable:      true,
		IconColor:   "red",
		Name:        "Circuit opened",
		Target:      opened,
		TagKeys:     "job",
		TextFormat:  "in {{job}}",
		TitleFormat: "{{resilience_circuit_breaker_name}} opened",
	}
}

// more returns a query for how much more a counter is than a step earlier: exactly, each
// increase in one step, in the one in which it was exported. A counter that was not there
// for ten minutes, as that of a new process, was 0: what it says at first has just
// happened. A counter that began anew is less than it was.
func more(counter, step string) string {
	return counter + `
				- (last_over_time(` + counter + `[10m] offset ` + step + `) or ` + counter + ` * 0)`
}

// everyCircuit and everyRetry are alternatives to a query, for what it has no result of.
// Colours are given to series in order: if all are there in every panel, also without a
// value, each has the same colour in all of them.
const (
	everyCircuit = `
			or
			sum by ($CIRCUIT) (resilience_circuit_breaker_status{$CIRCUITS}) * NaN`
	everyRetry = `
			or
			sum by ($RETRY) (resilience_retry_operations_total{$RETRIES}) * NaN`
)

func variables(list ...variable) templating {
	return templating{List: append([]variable{{
		Type: "datasource", Name: "datasource", Label: "Data source", Query: "prometheus", Refresh: 1,
		Description: "The Prometheus that has the metrics.",
		Current:     map[string]any{},
	}}, list...)}
}

// traces is the data source that links to traces lead to.
var traces = variable{
	Type: "datasource", Name: "traces", Label: "Traces", Query: "jaeger", Refresh: 1,
	Description: "The Jaeger that links from these panels lead to.",
	Current:     map[string]any{},
}

// choice is a variable with the values of a label. All of them is what matches
// anything, so that a circuit which is born later is in it.
func choice(name, label, description, values string) variable {
	return variable{
		Type: "query", Name: name, Label: label, Description: description,
		AllValue:   ".*",
		Current:    map[string]any{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
		Datasource: &prometheus,
		IncludeAll: true,
		Multi:      true,
		Query:      map[string]any{"qryType": 1, "query": values, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
		Refresh:    2,
		Sort:       1,
	}
}

// linkTo is the link to the other dashboard. It takes along what both have.
func linkTo(uid, title string) boardLink {
	return boardLink{
		Icon: "dashboard", Type: "link", Title: title, Tooltip: "The same jobs and instances, at the same time", Tags: []string{},
		KeepTime: true,
		URL:      "/d/" + uid + "?${datasource:queryparam}&${job:queryparam}&${instance:queryparam}",
	}
}

// circuitLink leads to the dashboard of circuits with nothing but one circuit.
func circuitLink(title, job, circuit string) dataLink {
	return dataLink{Title: title, URL: "/d/" + circuitsUID + "?${datasource:queryparam}&${__url_time_range}&var-job=" + job + "&var-circuit=" + circuit}
}

// retryLink leads to the dashboard of retries with nothing but one retry.
func retryLink(title, job, retry string) dataLink {
	return dataLink{Title: title, URL: "/d/" + retriesUID + "?${datasource:queryparam}&${__url_time_range}&var-job=" + job + "&var-retry=" + retry}
}

// tracesLink leads to a search for traces of a service that have a tag, and more of
// them if there is more: each is a pair of key and value.
func tracesLink(title, service string, tags ...string) dataLink {
	var search []string
	for i := 0; i < len(tags); i += 2 {
		search = append(search, tags[i]+"="+tags[i+1])
	}
	panes, err := json.Marshal(map[string]any{"traces": map[string]any{
		"datasource": "${traces}",
		"queries": []any{map[string]any{
			"refId": "A", "datasource": source{Type: "jaeger", UID: "${traces}"},
			"queryType": "search", "service": service, "tags": strings.Join(search, " "), "limit": 20,
		}},
		"range": map[string]string{"from": "${__from}", "to": "${__to}"},
	}})
	if err != nil {
		panic(err) // strings and numbers alone
	}
	// All but the variables is encoded; they are by Grafana.
	var b strings.Builder
	rest := string(panes)
	for _, v := range regexp.MustCompile(`\$\{[^}]+\}`).FindAllString(rest, -1) {
		before, after, _ := strings.Cut(rest, v)
		b.WriteString(url.QueryEscape(before) + v)
		rest = after
	}
	b.WriteString(url.QueryEscape(rest))
	return dataLink{Title: title, URL: "/explore?schemaVersion=1&panes=" + strings.ReplaceAll(b.String(), "+", "%20")}
}
