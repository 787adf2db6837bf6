// Package vocabulary reads from otelres/TELEMETRY.md what is sent, as Prometheus stores
// it, so that tests can tell whether the rules and the dashboards ask for what there is.
package vocabulary

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Vocabulary is what TELEMETRY.md says is sent.
type Vocabulary struct {
	values map[string][]string            // of a label; nil means any
	series map[string]map[string]struct{} // labels by name
}

// common are the labels of all series.
var common = []string{"job", "instance"}

// Read reads a TELEMETRY.md.
func Read(file string) (Vocabulary, error) {
	v := Vocabulary{values: make(map[string][]string), series: make(map[string]map[string]struct{})}
	text, err := os.ReadFile(file)
	if err != nil {
		return v, err
	}
	attributes, err1 := table(string(text), "Attributes")
	metrics, err2 := table(string(text), "Metrics")
	if err := errors.Join(err1, err2); err != nil {
		return v, fmt.Errorf("%s: %w", file, err)
	}
	for _, row := range attributes {
		name, err := label(words(row[0])[0])
		if err != nil {
			return v, err
		}
		v.values[name] = words(row[4])
	}
	for _, row := range metrics {
		if err := v.add(row); err != nil {
			return v, fmt.Errorf("%s: %w", file, err)
		}
	}
	return v, nil
}

var kinds = map[string]otlptranslator.MetricType{
	"Counter":                 otlptranslator.MetricTypeMonotonicCounter,
	"ObservableCounter":       otlptranslator.MetricTypeMonotonicCounter,
	"UpDownCounter":           otlptranslator.MetricTypeNonMonotonicCounter,
	"ObservableUpDownCounter": otlptranslator.MetricTypeNonMonotonicCounter,
	"Gauge":                   otlptranslator.MetricTypeGauge,
	"ObservableGauge":         otlptranslator.MetricTypeGauge,
	"Histogram":               otlptranslator.MetricTypeHistogram,
}

// add adds a row of the table of metrics: name, Prometheus name, instrument, unit,
// attributes.
func (v Vocabulary) add(row []string) error {
	_, instrument, _ := strings.Cut(row[2], " ")
	kind, known := kinds[instrument]
	if !known {
		return fmt.Errorf("%s: what is a %q?", row[0], instrument)
	}
	namer := otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes)
	name, err := namer.Build(otlptranslator.Metric{Name: words(row[0])[0], Unit: words(row[3])[0], Type: kind})
	if err != nil {
		return err
	}
	has := make(map[string]struct{})
	for _, attribute := range words(row[4]) {
		l, err := label(attribute)
		if err != nil {
			return err
		}
		has[l] = struct{}{}
	}
	if kind != otlptranslator.MetricTypeHistogram {
		v.series[name] = has
		return nil
	}
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		v.series[name+suffix] = has
	}
	return nil
}

// WithNative returns the vocabulary with what exponential histograms are called, which
// a view makes of the histograms: what it was, without a suffix.
func (v Vocabulary) WithNative() Vocabulary {
	wider := Vocabulary{values: v.values, series: make(map[string]map[string]struct{})}
	for name, has := range v.series {
		wider.series[name] = has
		if native, is := strings.CutSuffix(name, "_bucket"); is {
			wider.series[native] = has
		}
	}
	return wider
}

// Series yields the names of all series.
func (v Vocabulary) Series() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range v.series {
			if !yield(name) {
				return
			}
		}
	}
}

// collectorSeries are the collector's own: they are not in TELEMETRY.md.
var collectorSeries = regexp.MustCompile(`^otelcol_`)

// Expr yields what is wrong with an expression: selectors of what is not sent, and
// groupings by labels that are not, which come and go with the path that data took.
// What rules record is known by name, and its own labels are those given as extra.
func (v Vocabulary) Expr(expr parser.Expr, recorded map[string]bool, extra ...string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, selector := range parser.ExtractSelectors(expr) {
			for problem := range v.Selector(selector, recorded) {
				if !yield(problem) {
					return
				}
			}
		}
		var problems []string
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			var grouping []string
			switch n := node.(type) {
			case *parser.AggregateExpr:
				if n.Without {
					problems = append(problems, "without keeps labels that nobody knows of")
				}
				grouping = n.Grouping
			case *parser.BinaryExpr:
				if n.VectorMatching != nil {
					grouping = append(slices.Clone(n.VectorMatching.MatchingLabels), n.VectorMatching.Include...)
				}
			}
			for _, l := range grouping {
				if _, sent := v.values[l]; !sent && !slices.Contains(common, l) && !slices.Contains(extra, l) {
					problems = append(problems, "label "+l+" is not sent")
				}
			}
			return nil
		})
		for _, p := range problems {
			if !yield(p) {
				return
			}
		}
	}
}

// Selector yields what is wrong with a selector.
func (v Vocabulary) Selector(selector []*labels.Matcher, recorded map[string]bool) iter.Seq[string] {
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
				if m != metric && !ok && m.Value != "" && !slices.Contains(common, m.Name) && !yield(fmt.Sprintf("%s has no label %s", name, m.Name)) {
					return
				}
			}
		}
		if !found {
			yield(metric.String() + " matches nothing that is sent")
			return
		}
		for _, m := range selector {
			values, sent := v.values[m.Name]
			if m == metric || !sent && (m.Value == "" || slices.Contains(common, m.Name)) {
				continue
			}
			if !sent {
				yield(m.Name + " is not sent")
				return
			}
			if m.Value == "" || values == nil || m.Value == anything {
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

// anything is the pattern for all values of a label.
const anything = ".*"

var word = regexp.MustCompile("`([^`]+)`")

// words returns what is in backquotes.
func words(cell string) []string {
	var all []string
	for _, match := range word.FindAllStringSubmatch(cell, -1) {
		all = append(all, match[1])
	}
	return all
}

func label(attribute string) (string, error) {
	return (&otlptranslator.LabelNamer{}).Build(attribute)
}

// table returns the cells of the table under a heading, without those that head it.
func table(text, heading string) ([][]string, error) {
	_, section, found := strings.Cut(text, "\n## "+heading+"\n")
	if !found {
		return nil, fmt.Errorf("there is no heading %q", heading)
	}
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
	if len(rows) < 2 {
		return nil, fmt.Errorf("there is no table under %q", heading)
	}
	return rows[1:], nil
}
