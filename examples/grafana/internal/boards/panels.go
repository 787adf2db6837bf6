package boards

import (
	"strconv"
	"strings"
)

// value is something that a label can say: what people call it, and its colour. The
// colours are names, which Grafana turns into what can be read in the theme at hand.
type value struct{ label, name, color string }

// states are those of a breaker. Where they are numbers, they count from 1: what
// matters more is more.
var states = []value{
	{"closed", "Closed", "green"},
	{"shadow_half_open", "Shadow half-open", "super-light-orange"},
	{"shadow_open", "Shadow open", "super-light-red"},
	{"half_open", "Half-open", "orange"},
	{"open", "Open", "red"},
	{"forced_closed", "Forced closed", "blue"},
	{"forced_open", "Forced open", "purple"},
}

// callOutcomes are what calls come to.
var callOutcomes = []value{
	{"success", "Success", "green"},
	{"ignored", "Ignored", "blue"},
	{"failure", "Failure", "red"},
	{"rejected", "Rejected", "purple"},
}

// retryOutcomes are what retried operations come to.
var retryOutcomes = []value{
	{"success", "Success", "green"},
	{"success_after_retry", "Success after a retry", "yellow"},
	{"canceled", "Canceled", "super-light-blue"},
	{"not_retryable", "Not retryable", "blue"},
	{"rejected", "Rejected", "purple"},
	{"deadline", "Deadline", "super-light-red"},
	{"budget_exhausted", "Budget exhausted", "orange"},
	{"exhausted", "Exhausted", "red"},
}

// numbered returns a query for the most serious of states, as a number. The query for
// one state is what of makes of its label.
func numbered(of func(state string) string) string {
	var all []string
	for i, s := range states {
		all = append(all, of(s.label)+" * "+strconv.Itoa(i+1))
	}
	return strings.Join(all, "\n\t\t\t\tor ")
}

// numbersToStates has numbers shown as states.
func numbersToStates() []mapping {
	options := make(map[string]mappedText)
	for i, s := range states {
		options[strconv.Itoa(i+1)] = mappedText{Text: s.name, Color: s.color, Index: i}
	}
	return []mapping{{Type: "value", Options: options}}
}

// labelsToStates has the labels of states shown as people call them.
func labelsToStates() []mapping {
	options := make(map[string]mappedText)
	for i, s := range states {
		options[s.label] = mappedText{Text: s.name, Color: s.color, Index: i}
	}
	return []mapping{{Type: "value", Options: options}}
}

// named gives series that are called by a label the names and colours of its values.
func named(values []value) []override {
	var all []override
	for _, v := range values {
		all = append(all, byName(v.label, "displayName", v.name, "color", fixed(v.color)))
	}
	return all
}

func fixed(name string) color { return color{Mode: "fixed", FixedColor: name} }

// byName overrides properties, given in pairs, of the series or the column with a name.
func byName(name string, pairs ...any) override { return overridden("byName", name, pairs) }

// byRegexp overrides properties of the series whose names match.
func byRegexp(pattern string, pairs ...any) override {
	return overridden("byRegexp", pattern, pairs)
}

func overridden(id, options string, pairs []any) override {
	o := override{Matcher: matcher{ID: id, Options: options}}
	for i := 0; i < len(pairs); i += 2 {
		o.Properties = append(o.Properties, property{ID: pairs[i].(string), Value: pairs[i+1]})
	}
	return o
}

// above returns thresholds: what is below the first has the first colour.
func above(first string, pairs ...any) *thresholds {
	t := &thresholds{Mode: "absolute", Steps: []step{{Color: first}}}
	for i := 0; i < len(pairs); i += 2 {
		t.Steps = append(t.Steps, step{Value: new(pairs[i].(float64)), Color: pairs[i+1].(string)})
	}
	return t
}

// overTime is a query for the whole time range.
func overTime(legend, text string) target {
	return target{Datasource: prometheus, EditorMode: "code", Expr: query(text), Format: "time_series", LegendFormat: legend, Range: true}
}

// now is a query for its end.
func now(legend, text string) target {
	return target{Datasource: prometheus, EditorMode: "code", Expr: query(text), Format: "time_series", LegendFormat: legend, Instant: true}
}

// cells is a query for a column of a table.
func cells(text string) target {
	return target{Datasource: prometheus, EditorMode: "code", Expr: query(text), Format: "table", Instant: true}
}

// quantile is a query for a quantile of a histogram, by labels if there are any, with
// exemplars. Histograms have buckets of their own, or are native ones: one of the two
// halves is without a result.
func quantile(legend string, q float64, histogram, filter, by string) target {
	le, group := "le", ""
	if by != "" {
		le, group = "le, "+by, " by ("+by+")"
	}
	rank := strconv.FormatFloat(q, 'g', -1, 64)
	t := overTime(legend, `
		histogram_quantile(`+rank+`, sum by (`+le+`) (rate(`+histogram+`_bucket{`+filter+`}[$__rate_interval])))
		or
		histogram_quantile(`+rank+`, sum`+group+` (rate(`+histogram+`{`+filter+`}[$__rate_interval])))`)
	t.Exemplar = true
	return t
}

// newPanel returns a panel of a type, w of 24 wide and h high, with queries named A, B and so on.
func newPanel(kind, title string, w, h int, description string, defaults field, targets []target) panel {
	for i := range targets {
		targets[i].RefID = string(rune('A' + i))
	}
	return panel{
		Type: kind, Title: title, GridPos: grid{W: w, H: h},
		Description: description,
		Datasource:  &prometheus,
		FieldConfig: &fieldConfig{Defaults: defaults, Overrides: []override{}},
		Options:     map[string]any{},
		Targets:     targets,
	}
}

func (p panel) overriding(overrides ...override) panel {
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, overrides...)
	return p
}

func (p panel) linking(links ...dataLink) panel {
	p.FieldConfig.Defaults.Links = append(p.FieldConfig.Defaults.Links, links...)
	return p
}

// custom sets an option of how series are drawn.
func (p panel) custom(key string, v any) panel {
	p.FieldConfig.Defaults.Custom[key] = v
	return p
}

func (p panel) noValue(text string) panel {
	p.FieldConfig.Defaults.NoValue = text
	return p
}

// lines is a panel of lines over time, from 0 upwards.
func lines(title string, w, h int, unit, description string, targets ...target) panel {
	p := newPanel("timeseries", title, w, h, description, field{
		Color: &color{Mode: "palette-classic"},
		Unit:  unit,
		Min:   new(0.0),
		Custom: map[string]any{
			"axisPlacement": "auto", "drawStyle": "line", "fillOpacity": 0, "lineInterpolation": "linear",
			"lineWidth": 2, "pointSize": 4, "showPoints": "never", "spanNulls": false,
			"stacking": map[string]any{"group": "A", "mode": "none"},
		},
	}, targets)
	p.Options["legend"] = map[string]any{"calcs": []string{}, "displayMode": "list", "placement": "bottom", "showLegend": true}
	p.Options["tooltip"] = map[string]any{"mode": "multi", "sort": "desc", "hideZeros": true}
	return p
}

// shares are lines of what is in [0,1], shown in percent.
func shares(title string, w, h int, description string, targets ...target) panel {
	p := lines(title, w, h, "percentunit", description, targets...)
	p.FieldConfig.Defaults.Max = new(1.0)
	return p
}

// stacked puts areas on top of each other.
func (p panel) stacked() panel {
	return p.custom("stacking", map[string]any{"group": "A", "mode": "normal"}).custom("fillOpacity", 40).custom("lineWidth", 1)
}

// bars draws counts per step, in steps that are wide enough to be seen.
func (p panel) bars() panel {
	p.MaxDataPoints = 100
	return p.stacked().custom("drawStyle", "bars").custom("fillOpacity", 80).custom("barAlignment", -1)
}

// legend has figures beside the names of the series.
func (p panel) legend(calcs ...string) panel {
	p.Options["legend"] = map[string]any{"calcs": calcs, "displayMode": "list", "placement": "bottom", "showLegend": true}
	return p
}

// line draws a line at a value, to see what is beyond it.
func (p panel) line(at float64) panel {
	p.FieldConfig.Defaults.Thresholds = above("transparent", at, "red")
	return p.custom("thresholdsStyle", map[string]any{"mode": "dashed"})
}

// figures is a panel of large figures.
func figures(title string, w, h int, unit, description string, limits *thresholds, targets ...target) panel {
	p := newPanel("stat", title, w, h, description, field{
		Color:      &color{Mode: "thresholds"},
		Thresholds: limits,
		Unit:       unit,
	}, targets)
	p.Options = map[string]any{
		"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "vertical",
		"percentChangeColorMode": "standard", "showPercentChange": false, "textMode": "auto", "wideLayout": false,
		"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
	}
	return p
}

// column is a column of a table.
type column struct {
	title string
	label string // if it shows a label
	expr  string // if it shows the result of a query
	width int
	pairs []any // properties, in pairs
}

// table is a table with a row for each set of labels. It is sorted by columns, the
// greatest first.
func table(title string, w, h int, unit, description string, sortBy []string, columns ...column) panel {
	var targets []target
	hidden := map[string]bool{"Time": true}
	order, names := make(map[string]int), make(map[string]string)
	var overrides []override
	for i, c := range columns {
		field := c.label
		if c.expr != "" {
			field = "Value #" + string(rune('A'+len(targets)))
			targets = append(targets, cells(c.expr))
		}
		order[field], names[field] = i, c.title
		pairs := c.pairs
		if c.width > 0 {
			pairs = append([]any{"custom.width", c.width}, pairs...)
		}
		if len(pairs) > 0 {
			overrides = append(overrides, byName(c.title, pairs...))
		}
	}
	p := newPanel("table", title, w, h, description, field{
		Color:      &color{Mode: "thresholds"},
		Thresholds: above("text"),
		Unit:       unit,
		Custom: map[string]any{
			"align": "auto", "cellOptions": map[string]any{"type": "auto"}, "filterable": false, "inspect": false,
		},
	}, targets).overriding(overrides...)
	var sorted []any
	for _, c := range sortBy {
		sorted = append(sorted, map[string]any{"displayName": c, "desc": true})
	}
	p.Options = map[string]any{
		"cellHeight": "sm", "enablePagination": false, "frameIndex": 0, "showHeader": true,
		"sortBy": sorted,
	}
	p.Transformations = []transform{
		{ID: "merge", Options: map[string]any{}},
		{ID: "organize", Options: map[string]any{"excludeByName": hidden, "includeByName": map[string]bool{}, "indexByName": order, "renameByName": names}},
	}
	return p
}

// gauge has a cell show a share as a bar beside the figure.
func gauge(limits *thresholds) []any {
	return []any{
		"unit", "percentunit", "decimals", 1, "min", 0, "max", 1, "thresholds", limits,
		"custom.cellOptions", map[string]any{"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
	}
}
