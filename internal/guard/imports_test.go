package guard

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/breakwater-go/breakwater"

// A pattern is an import path, or with /... at its end that path and all below it.

// otelAPI is the OpenTelemetry API, whose packages share a prefix with the SDK's.
var otelAPI = []string{
	"go.opentelemetry.io/otel",
	"go.opentelemetry.io/otel/attribute/...",
	"go.opentelemetry.io/otel/codes",
	"go.opentelemetry.io/otel/log/...",
	"go.opentelemetry.io/otel/metric/...",
	"go.opentelemetry.io/otel/semconv/...",
	"go.opentelemetry.io/otel/trace/...",
}

// floors says, for each top folder of the root module, what its packages may import
// beside the standard library and their own folder. Imports point down only.
var floors = map[string][]string{
	"events":     {},
	"resilience": {module + "/events"},
	"otelres":    append([]string{module + "/events"}, otelAPI...),
	"liveres":    {module + "/events"},
	"httpres":    {module + "/events", module + "/resilience"},
	"internal":   {},
}

// inTests is what test files may import as well.
var inTests = append([]string{
	module + "/...",
	"github.com/stretchr/testify/...",
	"go.opentelemetry.io/otel/propagation",
	"go.opentelemetry.io/otel/sdk/...",
}, otelAPI...)

// forbiddenImports returns a line for each import that the Go file may not have.
// file is relative to the root; src is nil to read it from there.
func forbiddenImports(file string, src any) ([]string, error) {
	if src == nil {
		content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			return nil, err
		}
		src = content
	}
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, src, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	top, _, _ := strings.Cut(path.Dir(file), "/")
	allowed, listed := floors[top]
	if !listed {
		return []string{fmt.Sprintf("%s: folder %q has no floor: say in floors what it may import", file, top)}, nil
	}
	allowed = append([]string{module + "/" + top + "/..."}, allowed...)
	if strings.HasSuffix(file, "_test.go") {
		allowed = append(allowed, inTests...)
	}
	var found []string
	for _, spec := range parsed.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		first, _, _ := strings.Cut(name, "/")
		if std := !strings.Contains(first, ".") && name != "C"; std {
			continue
		}
		if !slices.ContainsFunc(allowed, func(pattern string) bool { return covers(pattern, name) }) {
			found = append(found, fmt.Sprintf("%s imports %s", fset.Position(spec.Pos()), name))
		}
	}
	return found, nil
}

func covers(pattern, name string) bool {
	below, tree := strings.CutSuffix(pattern, "/...")
	return name == below || tree && strings.HasPrefix(name, below+"/")
}

// TestImportsPointDown reads every Go file of the root module, also those that build
// tags leave out. Nested modules are not asked: their go.mod says what they import.
func TestImportsPointDown(t *testing.T) {
	files := repositoryFiles(t)
	nested := inNestedModule(files)
	seen := map[string]bool{}
	for _, file := range files {
		if path.Ext(file) != ".go" || nested(file) || strings.Contains("/"+file, "/testdata/") {
			continue
		}
		found, err := forbiddenImports(file, nil)
		require.NoError(t, err)
		for _, line := range found {
			t.Error(line)
		}
		seen[path.Dir(file)] = true
	}
	require.Contains(t, seen, "events", "the guard did not find the packages it guards")
}

func TestForbiddenImports(t *testing.T) {
	for _, c := range []struct {
		file, imported string
		allowed        bool
	}{
		{"events/x.go", "log/slog", true},
		{"events/x.go", "C", false},
		{"events/x.go", module + "/resilience", false},
		{"events/x.go", "github.com/stretchr/testify/require", false},
		{"events/x_test.go", "github.com/stretchr/testify/require", true},
		{"events/x_test.go", "github.com/stretchr/objx", false},
		{"events/x_test.go", module + "/internal/x", true},
		{"events/eventstest/x.go", module + "/events", true},
		{"events/eventstest/x.go", "github.com/stretchr/testify/require", false},
		{"resilience/x.go", module + "/events", true},
		{"resilience/x.go", module + "/events/eventstest", false},
		{"resilience/x.go", module + "/otelres", false},
		{"resilience/x.go", "golang.org/x/sync/errgroup", false},
		{"resilience/x_test.go", module + "/events/eventstest", true},
		{"otelres/x.go", "go.opentelemetry.io/otel", true},
		{"otelres/x.go", "go.opentelemetry.io/otel/metric/noop", true},
		{"otelres/x.go", "go.opentelemetry.io/otel/semconv/v1.34.0", true},
		{"otelres/x.go", "go.opentelemetry.io/otel/sdk/metric", false},
		{"otelres/x.go", "go.opentelemetry.io/otel/exporters/stdout/stdouttrace", false},
		{"otelres/x.go", module + "/resilience", false},
		{"otelres/x_test.go", "go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest", true},
		{"httpres/x.go", module + "/resilience", true},
		{"httpres/x.go", module + "/liveres", false},
		{"liveres/x.go", module + "/resilience", false},
		{"internal/x/x.go", module + "/internal/y", true},
		{"internal/x/x.go", module + "/events", false},
		{"elsewhere/x.go", "context", false}, // a folder nobody has thought about
		{"x.go", "context", false},
	} {
		found, err := forbiddenImports(c.file, fmt.Sprintf("package x\nimport _ %q\n", c.imported))
		require.NoError(t, err)
		require.Equal(t, c.allowed, len(found) == 0, "%s imports %s: %v", c.file, c.imported, found)
	}
}
