package otelres_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The package sees the standard library, package events and the OpenTelemetry
// API: neither the engine nor an SDK.
func TestImports(t *testing.T) {
	allowed := []string{
		"github.com/breakwater-go/breakwater/events",
		"go.opentelemetry.io/otel", "go.opentelemetry.io/otel/attribute", "go.opentelemetry.io/otel/codes",
		"go.opentelemetry.io/otel/log", "go.opentelemetry.io/otel/metric", "go.opentelemetry.io/otel/metric/noop",
		"go.opentelemetry.io/otel/semconv/v1.43.0", "go.opentelemetry.io/otel/trace", "go.opentelemetry.io/otel/trace/noop",
	}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
				require.Contains(t, allowed, path, name)
			}
		}
	}
}
