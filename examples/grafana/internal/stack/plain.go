package stack

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/compose"
	prom "github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/examples/grafana/rules"
)

// Plain is the stack without containers: see [Native].
type Plain struct {
	*Native
	pace Pace
}

// NewPlain returns the stack of a compose file, which writes into dir only. programs are
// those of [Tools.Build] and the demo.
func NewPlain(dir, composeFile string, programs map[string]string, pace Pace) (*Plain, error) {
	env, err := pace.Environment(filepath.Join(dir, "rules"))
	if err != nil {
		return nil, err
	}
	file, err := compose.Read(composeFile, Lookup(env))
	if err != nil {
		return nil, err
	}
	return &Plain{
		Native: NewNative(dir, file, map[string]string{
			"alertmanager": programs["alertmanager"],
			"collector":    programs["otelcol"],
			"demo":         programs["demo"],
			"jaeger":       programs["jaeger"],
			"prometheus":   programs["prometheus"],
		}),
		pace: pace,
	}, nil
}

// Environment returns the variables of docker-compose.yml that make its services as fast
// as p says, and writes the rule files, with shorter durations, to a folder.
func (p Pace) Environment(dir string) (map[string]string, error) {
	if err := writeRules(dir, rules.Files, p.Scale()); err != nil {
		return nil, err
	}
	return map[string]string{
		"GRAFANA_ADMIN_PASSWORD": "unused: Grafana is not started",
		"PROMETHEUS_RULES":       dir,
		"PROMETHEUS_LOOKBACK":    fmt.Sprintf("%dms", prom.ScaledLookback(p.Scale()).Milliseconds()),
		"DEMO_EXPORT_INTERVAL":   strconv.FormatInt(p.Export.Milliseconds(), 10),
		"DEMO_PHASES":            p.Phases,
		"DEMO_JSON":              "true",
	}, nil
}

// Lookup returns a function like [os.LookupEnv] for variables that are in a map.
func Lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, found := env[name]
		return value, found
	}
}

// writeRules writes the rule files with all durations scaled, as the tests of the rules
// evaluate them.
func writeRules(dir string, files fs.FS, scale float64) error {
	scaled, err := prom.ScaledRules(files, scale)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range scaled {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Up starts all services but the demo, who is called before who calls.
func (p *Plain) Up(ctx context.Context) error {
	for _, s := range []struct{ service, port, path string }{
		{"alertmanager", "9093", "/-/ready"},
		{"jaeger", "16686", "/api/services"},
		{"prometheus", "9090", "/-/ready"},
	} {
		if err := p.Start(ctx, s.service); err != nil {
			return err
		}
		if err := p.Ready(ctx, s.service, s.port, s.path); err != nil {
			return err
		}
	}
	return p.StartCollector(ctx)
}

// StartCollector starts the collector.
func (p *Plain) StartCollector(ctx context.Context) error {
	if err := p.Start(ctx, "collector"); err != nil {
		return err
	}
	return p.Ready(ctx, "collector", "13133", "/")
}

// StopCollector stops the collector.
func (p *Plain) StopCollector(context.Context) error { return p.Stop("collector") }

// StartDemo starts the demo.
func (p *Plain) StartDemo(ctx context.Context) error { return p.Start(ctx, "demo") }

// DemoLog returns what the demo has told people: with -json, that is its standard error.
func (p *Plain) DemoLog(context.Context) (string, error) {
	content, err := os.ReadFile(p.LogPath("demo"))
	return string(content), err
}

// StopDemo ends the demo.
func (p *Plain) StopDemo(context.Context) ([]byte, error) {
	if err := p.Stop("demo"); err != nil {
		return nil, err
	}
	return os.ReadFile(p.OutputPath("demo"))
}

// Validate has each configuration checked by the program it is for, as the file is when
// nobody shortens anything.
func Validate(ctx context.Context, progress *Progress, dir, composeFile string, programs map[string]string) error {
	file, err := compose.Read(composeFile, Lookup(map[string]string{"GRAFANA_ADMIN_PASSWORD": "unused"}))
	if err != nil {
		return err
	}
	if err := file.Check(); err != nil {
		return err
	}
	progress.Done("docker-compose.yml keeps what it promises")
	n := NewNative(dir, file, nil)
	defer func() { _ = n.Close() }() // nothing runs: only listeners
	for _, service := range []string{"alertmanager", "collector", "jaeger", "prometheus"} {
		if err := n.mount(ctx, service, file.Services[service]); err != nil {
			return err
		}
	}
	in := func(service, path string) string { return filepath.Join(n.root(service), path) }
	ruleFiles, err := filepath.Glob(in("prometheus", "/etc/prometheus/rules/*.rules.yml"))
	if err != nil {
		return err
	}
	ruleTests, err := filepath.Glob(in("prometheus", "/etc/prometheus/rules/tests/*.test.yml"))
	if err != nil {
		return err
	}
	if len(ruleFiles) == 0 || len(ruleTests) == 0 {
		return fmt.Errorf("there are %d rule files and %d tests of rules", len(ruleFiles), len(ruleTests))
	}
	for _, check := range []struct {
		what, program string
		args          []string
	}{
		{"prometheus.yml", "promtool", []string{"check", "config", "--lint=all", "--lint-fatal", in("prometheus", "/etc/prometheus/prometheus.yml")}},
		{"rules", "promtool", append([]string{"check", "rules", "--lint=all", "--lint-fatal"}, ruleFiles...)},
		{"tests of the rules", "promtool", append([]string{"test", "rules"}, ruleTests...)},
		{"alertmanager.yml", "amtool", []string{"check-config", in("alertmanager", "/etc/alertmanager/alertmanager.yml")}},
		{"collector.yaml", "otelcol", []string{"validate", "--config=" + in("collector", "/etc/collector/collector.yaml")}},
		{"jaeger.yaml", "jaeger", []string{"validate", "--config=" + in("jaeger", "/etc/jaeger/jaeger.yaml")}},
	} {
		begun := time.Now()
		if err := run(ctx, filepath.Join(dir, "validate.log"), programs[check.program], check.args, nil, dir); err != nil {
			return fmt.Errorf("%s: %w", check.what, err)
		}
		progress.Done("%s: %s %s (%.1f s)", check.what, check.program, strings.Join(words(check.args), " "), time.Since(begun).Seconds())
	}
	return nil
}

// words returns the arguments that are commands.
func words(args []string) []string {
	var all []string
	for _, a := range args {
		if strings.HasPrefix(a, "-") || strings.HasPrefix(a, "/") {
			break
		}
		all = append(all, a)
	}
	return all
}
