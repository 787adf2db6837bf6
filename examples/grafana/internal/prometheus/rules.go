package prometheus

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
)

// loader hands rule groups that are already read and scaled to the rules manager.
type loader struct {
	parser.Parser
	files map[string]*rulefmt.RuleGroups
}

// Load returns the groups of a file.
func (l loader) Load(file string, _ bool, _ model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	return l.files[file], nil
}

// Parse parses the expression of a rule.
func (l loader) Parse(expr string) (parser.Expr, error) { return l.ParseExpr(expr) }

// inOrder sorts groups into the order of their files and, within one, of its text.
func (l loader) inOrder(groups []*rules.Group) []*rules.Group {
	position := func(g *rules.Group) int {
		return slices.IndexFunc(l.files[g.File()].Groups, func(r rulefmt.RuleGroup) bool { return r.Name == g.Name() })
	}
	slices.SortFunc(groups, func(x, y *rules.Group) int {
		return cmp.Or(strings.Compare(x.File(), y.File()), cmp.Compare(position(x), position(y)))
	})
	return groups
}

// load reads the rule files in fsys, if there is one, and returns their names beside
// the loader, in order.
func load(fsys fs.FS, scale float64, language parser.Parser) (loader, []string, error) {
	l := loader{Parser: language, files: make(map[string]*rulefmt.RuleGroups)}
	if fsys == nil {
		return l, nil, nil
	}
	names, err := fs.Glob(fsys, RuleFiles)
	if err != nil {
		return l, nil, fmt.Errorf("prometheus: rule files: %w", err)
	}
	if len(names) == 0 {
		return l, nil, fmt.Errorf("prometheus: there is no rule file %s", RuleFiles)
	}
	for _, name := range names {
		content, err := fs.ReadFile(fsys, name)
		if err != nil {
			return l, nil, fmt.Errorf("prometheus: %w", err)
		}
		groups, errs := rulefmt.Parse(content, false, model.UTF8Validation, language, promslog.NewNopLogger())
		if err := errors.Join(errs...); err != nil {
			return l, nil, fmt.Errorf("prometheus: %s: %w", name, err)
		}
		if err := scaleGroups(groups, scale, language); err != nil {
			return l, nil, fmt.Errorf("prometheus: %s: %w", name, err)
		}
		l.files[name] = groups
	}
	return l, names, nil
}

// scaleGroups multiplies every duration of the groups with scale.
func scaleGroups(groups *rulefmt.RuleGroups, scale float64, language parser.Parser) error {
	if scale == 1 {
		return nil
	}
	for i := range groups.Groups {
		g := &groups.Groups[i]
		g.Interval = scaledModel(g.Interval, scale)
		if g.QueryOffset != nil {
			offset := scaledModel(*g.QueryOffset, scale)
			g.QueryOffset = &offset
		}
		for j := range g.Rules {
			r := &g.Rules[j]
			r.For = scaledModel(r.For, scale)
			r.KeepFiringFor = scaledModel(r.KeepFiringFor, scale)
			expr, err := scaleExpr(r.Expr, scale, language)
			if err != nil {
				return fmt.Errorf("rule %s%s: %w", r.Record, r.Alert, err)
			}
			r.Expr = expr
		}
	}
	return nil
}

// scaleExpr multiplies the durations in a PromQL expression with scale: ranges,
// offsets, steps of subqueries, and numbers written as durations.
func scaleExpr(expr string, scale float64, language parser.Parser) (string, error) {
	tree, err := language.ParseExpr(expr)
	if err != nil {
		return "", err
	}
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.MatrixSelector:
			n.Range = scaled(n.Range, scale)
		case *parser.VectorSelector:
			n.OriginalOffset = scaled(n.OriginalOffset, scale)
		case *parser.SubqueryExpr:
			n.Range = scaled(n.Range, scale)
			n.Step = scaled(n.Step, scale)
			n.OriginalOffset = scaled(n.OriginalOffset, scale)
		case *parser.NumberLiteral:
			if n.Duration {
				n.Val = scaled(time.Duration(n.Val*float64(time.Second)), scale).Seconds()
			}
		}
		return nil
	})
	return tree.String(), nil
}

func scaledModel(d model.Duration, scale float64) model.Duration {
	return model.Duration(scaled(time.Duration(d), scale))
}

// scaled returns d times scale in whole milliseconds, which is how finely Prometheus
// knows time. Only 0 becomes 0.
func scaled(d time.Duration, scale float64) time.Duration {
	if d == 0 {
		return 0
	}
	ms := math.Round(float64(d) * scale / float64(time.Millisecond))
	if ms == 0 {
		ms = math.Copysign(1, float64(d))
	}
	return time.Duration(ms) * time.Millisecond
}
