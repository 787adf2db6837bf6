package prometheus

import (
	"fmt"
	"io/fs"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// ScaledRules returns the rule files of fsys, by name, with every duration multiplied
// with scale, as a [Server] with that [Config.Scale] evaluates them. Groups without an
// interval of their own get that of such a Server. They are for a Prometheus server that
// somebody runs beside this process.
func ScaledRules(fsys fs.FS, scale float64) (map[string][]byte, error) {
	c, err := Config{Scale: scale}.withDefaults()
	if err != nil {
		return nil, err
	}
	loader, names, err := load(fsys, scale, parser.NewParser(parser.Options{}))
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte, len(names))
	for _, name := range names {
		groups := loader.files[name]
		for i := range groups.Groups {
			if g := &groups.Groups[i]; g.Interval == 0 {
				g.Interval = model.Duration(c.Interval)
			}
		}
		content, err := yaml.Marshal(groups)
		if err != nil {
			return nil, fmt.Errorf("prometheus: %s: %w", name, err)
		}
		files[name] = content
	}
	return files, nil
}

// ScaledLookback returns for how long a series without a new sample counts as present
// in a [Server] with that [Config.Scale].
func ScaledLookback(scale float64) time.Duration { return scaled(defaultLookback, scale) }
