package dashboards_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/examples/grafana/dashboards"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/boards"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/vocabulary"
)

// root is the folder of the repository.
const root = "../../.."

var update = flag.Bool("update", false, "write the dashboards")

func TestFilesAreCurrent(t *testing.T) {
	made, err := boards.Files()
	require.NoError(t, err)
	if *update {
		for name, text := range made {
			require.NoError(t, os.WriteFile(name, text, 0o644))
		}
		return
	}
	kept, err := filepath.Glob("*.json")
	require.NoError(t, err)
	require.Equal(t, slices.Sorted(maps.Keys(made)), kept)
	for name, text := range made {
		file, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, string(text), string(file), "%s is not what is made now; write it with: go test ./dashboards -run TestFilesAreCurrent -update", name)
	}
}

// What a Grafana reads of a dashboard, as far as it is checked here.
type (
	board struct {
		file          string
		top, all      []panel // without and with those in collapsed rows
		Title, UID    string
		Description   string
		SchemaVersion int
		Tags          []string
		Refresh       string
		Links         []link
		Panels        []panel
		Templating    struct{ List []variable }
		Annotations   struct{ List []annotation }
	}
	variable struct {
		Name, Type, Label, Description string
		Datasource                     *source
		Multi, IncludeAll              bool
		AllValue                       string
		Query                          any
	}
	annotation struct {
		Name, TitleFormat string
		Datasource        source
		Enable            bool
		Target            target
	}
	source struct{ Type, UID string }
	link   struct {
		Title, URL string
	}
	panel struct {
		ID                       int
		Type, Title, Description string
		Datasource               source
		GridPos                  struct{ X, Y, W, H int }
		MaxDataPoints            int
		Collapsed                bool
		Panels                   []panel
		Targets                  []target
		FieldConfig              struct {
			Defaults  field
			Overrides []struct {
				Matcher    struct{ ID, Options string }
				Properties []struct {
					ID    string
					Value json.RawMessage
				}
			}
		}
		Options struct {
			Legend *struct{ ShowLegend, Show bool }
		}
	}
	field struct {
		Unit     string
		Links    []link
		Mappings []struct {
			Options map[string]struct{ Text, Color string }
		}
	}
	target struct {
		RefID, Expr, Format, LegendFormat, Interval string
		Datasource                                  source
		Instant, Range, Exemplar                    bool
	}
)

// all returns the dashboards.
func all(t *testing.T) []board {
	t.Helper()
	embedded, err := fs.Glob(dashboards.Files, "*")
	require.NoError(t, err)
	files, err := filepath.Glob("*.json")
	require.NoError(t, err)
	require.Equal(t, embedded, files)
	require.Len(t, files, 2)
	var found []board
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		b := board{file: file}
		require.NoError(t, json.Unmarshal(text, &b), file)
		require.NotEmpty(t, b.Panels, file)
		for _, p := range b.Panels {
			b.top = append(b.top, p)
			if p.Collapsed {
				require.NotEmpty(t, p.Panels, p.Title)
			}
			b.all = append(append(b.all, p), p.Panels...)
		}
		b.Panels = b.all
		found = append(found, b)
	}
	return found
}

// each calls check with all panels but the rows.
func each(t *testing.T, check func(t *testing.T, b board, p panel)) {
	for _, b := range all(t) {
		for _, p := range b.Panels {
			if p.Type != "row" {
				t.Run(b.file+"/"+p.Title, func(t *testing.T) { check(t, b, p) })
			}
		}
	}
}

func TestDashboards(t *testing.T) {
	uids := make(map[string]bool)
	for _, b := range all(t) {
		require.Regexp(t, `^breakwater-[a-z]+$`, b.UID)
		require.False(t, uids[b.UID], "two dashboards have the id %s", b.UID)
		uids[b.UID] = true
	}
	for _, b := range all(t) {
		t.Run(b.file, func(t *testing.T) {
			require.Equal(t, 42, b.SchemaVersion, "of Grafana 13: others are migrated each time they are read")
			require.Contains(t, b.Tags, "breakwater")
			require.NotEmpty(t, b.Description)
			require.NotEmpty(t, b.Refresh)

			var names []string
			for _, v := range b.Templating.List {
				names = append(names, v.Name)
				require.NotEmpty(t, v.Label, v.Name)
				require.NotEmpty(t, v.Description, v.Name)
				if v.Type == "query" {
					require.True(t, v.Multi && v.IncludeAll, v.Name)
					require.Equal(t, ".*", v.AllValue, v.Name)
					require.Equal(t, "${datasource}", v.Datasource.UID, v.Name)
				}
			}
			subject := map[string]string{"circuits.json": "circuit", "retries.json": "retry"}[b.file]
			require.Equal(t, []string{"datasource", "traces", "job", subject, "instance"}, names)

			require.NotEmpty(t, b.Annotations.List)
			for _, a := range b.Annotations.List {
				require.Equal(t, source{"prometheus", "${datasource}"}, a.Datasource, a.Name)
				require.Equal(t, a.Datasource, a.Target.Datasource, a.Name)
				require.True(t, a.Enable, a.Name)
			}

			ids, titles := make(map[int]string), make(map[string]bool)
			for _, p := range b.Panels {
				require.Positive(t, p.ID, p.Title)
				require.Empty(t, ids[p.ID], "%s has the id of another panel", p.Title)
				ids[p.ID] = p.Title
				require.NotEmpty(t, p.Title)
				require.False(t, titles[p.Title], "two panels are called %s", p.Title)
				titles[p.Title] = true
			}
			require.True(t, titles["Telemetry health"])

			var everyLink []link
			everyLink = append(everyLink, b.Links...)
			for _, p := range b.Panels {
				everyLink = append(everyLink, links(t, p)...)
			}
			toOther := false
			for _, l := range everyLink {
				require.NotEmpty(t, l.Title)
				if uid, isBoard := strings.CutPrefix(l.URL, "/d/"); isBoard {
					uid, _, _ = strings.Cut(uid, "?")
					require.True(t, uids[uid], "%s: there is no dashboard %s", l.Title, uid)
					toOther = toOther || uid != b.UID
					for _, name := range regexp.MustCompile(`var-([a-z]+)=`).FindAllStringSubmatch(l.URL, -1) {
						require.Contains(t, []string{"job", "circuit", "retry", "instance"}, name[1], l.Title)
					}
				} else {
					requireSearch(t, l)
				}
			}
			require.True(t, toOther, "no link to the other dashboard")
		})
	}
}

// requireSearch fails unless a link leads to a search for traces, by a tag, in the chosen
// data source.
func requireSearch(t *testing.T, l link) {
	t.Helper()
	u, err := url.Parse(l.URL)
	require.NoError(t, err, l.Title)
	require.Equal(t, "/explore", u.Path, l.Title)
	var panes map[string]struct {
		Datasource string
		Queries    []struct {
			Datasource               source
			QueryType, Service, Tags string
		}
		Range struct{ From, To string }
	}
	require.NoError(t, json.Unmarshal([]byte(u.Query().Get("panes")), &panes), l.Title)
	require.Len(t, panes, 1, l.Title)
	for _, p := range panes {
		require.Equal(t, "${traces}", p.Datasource, l.Title)
		require.Equal(t, struct{ From, To string }{"${__from}", "${__to}"}, p.Range, l.Title)
		require.Len(t, p.Queries, 1, l.Title)
		q := p.Queries[0]
		require.Equal(t, source{"jaeger", "${traces}"}, q.Datasource, l.Title)
		require.Equal(t, "search", q.QueryType, l.Title)
		require.Regexp(t, `^\$\{__(field\.labels\.job|data\.fields\.Job):percentencode\}$`, q.Service, l.Title)
		require.Regexp(t, `^resilience\.(circuit_breaker|retry)\.name=\$\{__\S+:percentencode\}( error=true)?$`, q.Tags, l.Title)
	}
}

// links returns the links of a panel: of all its fields, and of some.
func links(t *testing.T, p panel) []link {
	t.Helper()
	found := slices.Clone(p.FieldConfig.Defaults.Links)
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if property.ID == "links" {
				var more []link
				require.NoError(t, json.Unmarshal(property.Value, &more), p.Title)
				found = append(found, more...)
			}
		}
	}
	return found
}

// Panels fill their rows from left to right, without a gap and without lying on each
// other.
func TestPanelsHaveTheirPlace(t *testing.T) {
	for _, b := range all(t) {
		filled(t, b.file, 0, b.top)
		for _, row := range b.top {
			if row.Collapsed {
				filled(t, b.file+": "+row.Title, row.GridPos.Y+1, row.Panels)
			}
		}
	}
}

// filled fails unless panels fill the width from a height downwards.
func filled(t *testing.T, where string, from int, panels []panel) {
	t.Helper()
	taken := make(map[[2]int]string)
	height := from
	for _, p := range panels {
		g := p.GridPos
		require.Positive(t, g.H, p.Title)
		require.Positive(t, g.W, p.Title)
		require.GreaterOrEqual(t, g.Y, from, p.Title)
		require.LessOrEqual(t, g.X+g.W, 24, "%s: %s is beyond the edge", where, p.Title)
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				require.Empty(t, taken[[2]int{x, y}], "%s: %s lies on another panel", where, p.Title)
				taken[[2]int{x, y}] = p.Title
			}
		}
		height = max(height, g.Y+g.H)
	}
	require.Len(t, taken, 24*(height-from), "%s has a gap", where)
}

// Whoever looks at a panel for the first time finds out what it shows.
func TestPanelsExplainThemselves(t *testing.T) {
	each(t, func(t *testing.T, _ board, p panel) {
		require.Regexp(t, `^[A-Z0-9].{30,}\.$`, p.Description)
		require.NotEmpty(t, p.FieldConfig.Defaults.Unit)
		for _, runbook := range regexp.MustCompile(`Runbooks?: ([A-Za-z, ]+)`).FindAllStringSubmatch(p.Description, -1) {
			for name := range strings.SplitSeq(runbook[1], ", ") {
				require.FileExists(t, filepath.Join(root, "docs/runbooks", name+".md"))
			}
		}
		require.NotEmpty(t, p.Targets)
		require.Equal(t, source{"prometheus", "${datasource}"}, p.Datasource)
		refs := make(map[string]bool)
		for _, q := range p.Targets {
			require.Equal(t, source{"prometheus", "${datasource}"}, q.Datasource)
			require.Regexp(t, `^[A-Z]$`, q.RefID)
			require.False(t, refs[q.RefID], "two queries %s", q.RefID)
			refs[q.RefID] = true
			require.NotEqual(t, q.Instant, q.Range, q.RefID)
			if q.Format == "table" {
				require.Equal(t, "table", p.Type)
				continue
			}
			require.NotEmpty(t, q.LegendFormat, "query %s", q.RefID)
			tree, err := language.ParseExpr(grafana{}.fill(q.Expr))
			require.NoError(t, err)
			require.Subset(t, labelsOf(tree), placeholders(q.LegendFormat), "the legend has labels that the result has not")
			if strings.Contains(q.Expr, "histogram_quantile") {
				require.True(t, q.Exemplar, "query %s shows no traces", q.RefID)
			}
		}
		if p.Type == "timeseries" || p.Type == "state-timeline" {
			require.NotNil(t, p.Options.Legend)
			require.True(t, p.Options.Legend.ShowLegend)
		}
	})
}

var language = parser.NewParser(parser.Options{})

// labelsOf returns the labels that the result of an aggregation has.
func labelsOf(tree parser.Expr) []string {
	var found []string
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		if a, ok := node.(*parser.AggregateExpr); ok && found == nil {
			found = append([]string{}, a.Grouping...)
		}
		return nil
	})
	return found
}

// placeholders returns the labels in a legend.
func placeholders(legend string) []string {
	found := []string{}
	for _, match := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(legend, -1) {
		found = append(found, match[1])
	}
	return found
}

// A state, and an outcome, has the same colour wherever it is.
func TestColoursMeanOneThing(t *testing.T) {
	want := map[string]string{
		"Closed": "green", "Half-open": "orange", "Open": "red", "Forced closed": "blue", "Forced open": "purple",
		"Success": "green", "Failure": "red", "Rejected": "purple",
	}
	seen := make(map[string]int)
	says := func(t *testing.T, name, colour string) {
		name = strings.TrimPrefix(name, "to ")
		if c, fixed := want[name]; fixed {
			require.Equal(t, c, colour, name)
			seen[name]++
		}
	}
	each(t, func(t *testing.T, _ board, p panel) {
		for _, m := range p.FieldConfig.Defaults.Mappings {
			for _, o := range m.Options {
				says(t, o.Text, o.Color)
			}
		}
		for _, o := range p.FieldConfig.Overrides {
			name, colour := o.Matcher.Options, ""
			for _, property := range o.Properties {
				switch property.ID {
				case "displayName":
					require.NoError(t, json.Unmarshal(property.Value, &name))
				case "color":
					var c struct{ FixedColor string }
					require.NoError(t, json.Unmarshal(property.Value, &c))
					colour = c.FixedColor
				case "mappings":
					var mappings []struct {
						Options map[string]struct{ Text, Color string }
					}
					require.NoError(t, json.Unmarshal(property.Value, &mappings))
					for _, m := range mappings {
						for _, o := range m.Options {
							says(t, o.Text, o.Color)
						}
					}
				}
			}
			if colour != "" {
				says(t, name, colour)
			}
		}
	})
	for name := range want {
		require.Positive(t, seen[name], name)
	}
}

// Dashboards ask for what TELEMETRY.md says is sent: no other metric, no other label, and
// no value that a label does not have.
func TestDashboardsUseWhatIsSent(t *testing.T) {
	v, err := vocabulary.Read(filepath.Join(root, "otelres/TELEMETRY.md"))
	require.NoError(t, err)
	v = v.WithNative()
	recorded := map[string]bool{"job_instance_loss:otelcol_items:sum": true}
	used := make(map[string]bool)
	check := func(t *testing.T, what, expr string) {
		tree, err := language.ParseExpr(grafana{}.fill(expr))
		require.NoError(t, err, what)
		for problem := range v.Expr(tree, recorded, "le", "loss") {
			t.Errorf("%s: %s", what, problem)
		}
		for _, selector := range parser.ExtractSelectors(tree) {
			for _, m := range selector {
				used[m.Value] = true
			}
		}
		for _, r := range regexp.MustCompile(`\[[^\]]+\]`).FindAllString(expr, -1) {
			require.Contains(t, []string{"[$__rate_interval]", "[$__range]", "[5m]", "[10m]", "[1h:15s]"}, r, what)
		}
	}
	each(t, func(t *testing.T, _ board, p panel) {
		for _, q := range p.Targets {
			check(t, p.Title+" "+q.RefID, q.Expr)
		}
	})
	for _, b := range all(t) {
		for _, a := range b.Annotations.List {
			check(t, a.Name, a.Target.Expr)
		}
		for _, x := range b.Templating.List {
			if x.Type != "query" {
				continue
			}
			selector, label := labelValues(t, x)
			check(t, x.Name, fmt.Sprintf("group by (%s) (%s)", label, selector))
		}
	}
	for name := range v.Series() {
		if name := strings.TrimSuffix(name, "_count"); strings.HasSuffix(name, "_sum") || used[name+"_bucket"] {
			continue
		}
		require.True(t, used[name], "%s is on no dashboard", name)
	}
}

// What is chosen in the variables is what every query asks for.
func TestQueriesAreFiltered(t *testing.T) {
	chosen := grafana{variables: map[string]string{"job": "J", "instance": "I", "circuit": "C", "retry": "R"}}
	each(t, func(t *testing.T, b board, p panel) {
		for _, q := range p.Targets {
			tree, err := language.ParseExpr(chosen.fill(q.Expr))
			require.NoError(t, err)
			for _, selector := range parser.ExtractSelectors(tree) {
				matchers := make(map[string]string)
				for _, m := range selector {
					matchers[m.Name] += m.Value
				}
				name := matchers["__name__"]
				if !strings.HasPrefix(name, "resilience_") {
					require.Equal(t, "Lost by the collector", p.Title, "%s is not ours", name)
					continue
				}
				require.Equal(t, "J", matchers["job"], q.Expr)
				require.Equal(t, "I", matchers["instance"], q.Expr)
				switch {
				case p.Title == "Events not reported as they should be": // of all circuits and retries
				case b.file == "circuits.json" && strings.HasPrefix(name, "resilience_circuit_breaker_"):
					require.Equal(t, "C", matchers["resilience_circuit_breaker_name"], q.Expr)
				case strings.HasPrefix(name, "resilience_retry_budget_"): // which several retries may share
				case b.file == "retries.json" && strings.HasPrefix(name, "resilience_retry_"):
					require.Equal(t, "R", matchers["resilience_retry_name"], q.Expr)
				}
			}
		}
	})
}
