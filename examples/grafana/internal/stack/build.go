package stack

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// The versions of the programs are those of the images in docker-compose.yml. The
// modules of Prometheus and Jaeger have numbers of their own.
const (
	Prometheus   = "3.15.0"
	Alertmanager = "0.30.1"
	Collector    = "0.161.0"
	Jaeger       = "2.13.0"
	Compose      = "2.40.3"

	prometheusModule   = "github.com/prometheus/prometheus@v0.315.0"
	alertmanagerModule = "github.com/prometheus/alertmanager@v" + Alertmanager
	builderModule      = "go.opentelemetry.io/collector/cmd/builder@v" + Collector
	jaegerModule       = "github.com/jaegertracing/jaeger@v1.76.0"
	composeModule      = "github.com/docker/compose/v2@v" + Compose
)

// manifest says what the collector is built of: what collector.yaml uses of the
// contrib distribution.
//
//go:embed collector-builder.yaml
var manifest string

// Tools builds the programs of the stack from source and keeps them in a folder, each
// version in one of its own. It needs the go command and a module proxy.
type Tools struct {
	Dir      string // where they are kept
	Progress *Progress
}

// DefaultCache is where programs are kept unless somebody wants them elsewhere.
func DefaultCache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w: say with -cache where programs are to be kept", err)
	}
	return filepath.Join(dir, "breakwater-stack"), nil
}

// recipe is how some programs of one version are built.
type recipe struct {
	name, version string
	programs      []string
	build         func(ctx context.Context, b builder) error
}

var recipes = []recipe{
	// Without the tag, the discovery of services drags in the clients of two dozen clouds.
	{"prometheus", Prometheus, []string{"prometheus", "promtool"}, func(ctx context.Context, b builder) error {
		return b.fromModule(ctx, prometheusModule, "-tags=remove_all_sd", "./cmd/prometheus", "./cmd/promtool")
	}},
	{"alertmanager", Alertmanager, []string{"alertmanager", "amtool"}, func(ctx context.Context, b builder) error {
		return b.fromModule(ctx, alertmanagerModule, "./cmd/alertmanager", "./cmd/amtool")
	}},
	{"collector", Collector, []string{"otelcol"}, func(ctx context.Context, b builder) error { return b.collector(ctx) }},
	{"jaeger", Jaeger, []string{"jaeger"}, func(ctx context.Context, b builder) error {
		return b.fromModule(ctx, jaegerModule, "./cmd/jaeger")
	}},
}

var composeRecipe = recipe{"docker-compose", Compose, []string{"docker-compose"}, func(ctx context.Context, b builder) error {
	if err := b.fromModule(ctx, composeModule, "./cmd"); err != nil {
		return err
	}
	return os.Rename(filepath.Join(b.dir, "cmd"), filepath.Join(b.dir, "docker-compose"))
}}

// Build returns the paths of the programs by name, and builds those that are missing.
func (t Tools) Build(ctx context.Context) (map[string]string, error) { return t.build(ctx, recipes) }

// BuildCompose is Build for docker compose.
func (t Tools) BuildCompose(ctx context.Context) (string, error) {
	programs, err := t.build(ctx, []recipe{composeRecipe})
	return programs["docker-compose"], err
}

func (t Tools) build(ctx context.Context, recipes []recipe) (map[string]string, error) {
	programs := make(map[string]string)
	for _, r := range recipes {
		dir := filepath.Join(t.Dir, fmt.Sprintf("%s-%s-%s-%s", r.name, r.version, runtime.GOOS, runtime.GOARCH))
		if err := t.provide(ctx, r, dir); err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.name, r.version, err)
		}
		for _, p := range r.programs {
			programs[p] = filepath.Join(dir, p)
		}
	}
	return programs, nil
}

// provide makes sure that dir has what r builds. The folder appears when it is complete,
// so that one that is there can be relied on.
func (t Tools) provide(ctx context.Context, r recipe, dir string) error {
	if complete(dir, r.programs) {
		t.Progress.Done("%s %s is in the cache", r.name, r.version)
		return nil
	}
	if err := os.MkdirAll(t.Dir, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(t.Dir, r.name+"-*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	b := builder{dir: filepath.Join(work, "bin"), work: work, log: filepath.Join(work, "log")}
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		return err
	}
	end := t.Progress.Begin("building %s %s", r.name, r.version)
	err = r.build(ctx, b)
	end()
	if err != nil {
		return err
	}
	if !complete(b.dir, r.programs) {
		return fmt.Errorf("the build did not leave %s", strings.Join(r.programs, " and "))
	}
	if err := os.RemoveAll(dir); err != nil { // one that was not complete
		return err
	}
	return os.Rename(b.dir, dir)
}

func complete(dir string, programs []string) bool {
	for _, p := range programs {
		if info, err := os.Stat(filepath.Join(dir, p)); err != nil || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// builder builds one recipe.
type builder struct {
	dir, work, log string // where programs go, other files, and what is printed
}

// env is that of builds: nothing but the module itself decides what is built.
func (b builder) env() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false -trimpath", "GOOS=", "GOARCH=")
}

// fromModule builds packages of a module inside of it, so that it is the main module:
// `go install` refuses modules that replace others. The last arguments are those of go
// build.
func (b builder) fromModule(ctx context.Context, module string, args ...string) error {
	out, err := output(ctx, b.log, "go", []string{"mod", "download", "-json", module}, b.env(), b.work)
	if err != nil {
		return err
	}
	var m struct{ Dir string }
	if err := json.Unmarshal([]byte(out), &m); err != nil || m.Dir == "" {
		return fmt.Errorf("go mod download -json %s: no Dir in %q", module, out)
	}
	args = append([]string{"build", "-C", m.Dir, "-ldflags=-s -w", "-o", b.dir + string(filepath.Separator)}, args...)
	return run(ctx, b.log, "go", args, b.env(), b.work)
}

// collector builds the collector with its builder.
func (b builder) collector(ctx context.Context) error {
	path, out := filepath.Join(b.work, "builder.yaml"), filepath.Join(b.work, "collector")
	there := strings.Replace(manifest, "dist:\n", fmt.Sprintf("dist:\n  output_path: %q\n", out), 1)
	if err := os.WriteFile(path, []byte(there), 0o644); err != nil {
		return err
	}
	if err := run(ctx, b.log, "go", []string{"run", builderModule, "--config=" + path}, b.env(), b.work); err != nil {
		return err
	}
	return os.Rename(filepath.Join(out, "otelcol"), filepath.Join(b.dir, "otelcol"))
}

// BuildDemo builds the program of a module's folder to the given path: as tests and
// `make demo` build it, so that little is compiled anew, or so that it runs where there
// is nothing else.
func BuildDemo(ctx context.Context, p *Progress, module, path string, static bool) error {
	defer p.Begin("building the demo")()
	env := append(os.Environ(), "GOWORK=off")
	if static {
		env = append(env, "CGO_ENABLED=0")
	}
	return run(ctx, path+".build.log", "go", []string{"build", "-C", module, "-o", path, "."}, env, filepath.Dir(path))
}

// heartbeat is how often something that takes long says that it is still at it.
const heartbeat = 20 * time.Second
