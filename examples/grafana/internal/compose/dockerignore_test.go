package compose

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ignored reports whether the patterns of a .dockerignore keep a file, given by its
// path from the root, out of what an image is built from. It knows the kinds of patterns
// that the one of this repository has: the last one that matches decides.
func ignored(t *testing.T, patterns []string, file string) bool {
	t.Helper()
	out := false
	for _, pattern := range patterns {
		kept := strings.HasPrefix(pattern, "!")
		if covers(t, strings.TrimPrefix(pattern, "!"), file) {
			out = !kept
		}
	}
	return out
}

// covers reports whether a pattern matches a file or a folder that it is in.
func covers(t *testing.T, pattern, file string) bool {
	t.Helper()
	below, anywhere := strings.CutPrefix(pattern, "**/")
	for at := file; at != "."; at = path.Dir(at) {
		name := at
		if anywhere {
			name = path.Base(at)
		}
		match, err := path.Match(below, name)
		require.NoError(t, err)
		if match {
			return true
		}
	}
	return false
}

func TestIgnored(t *testing.T) {
	patterns := []string{"*", "!go.mod", "!events", "!examples/grafana", "**/*_test.go", "**/testdata"}
	for file, want := range map[string]bool{
		"go.mod":                            false,
		"go.sum":                            true,
		"events/event.go":                   false,
		"events/eventstest/x.go":            false,
		"events/event_test.go":              true,
		"events/testdata/a/b.txt":           true,
		"examples/grafana/main.go":          false,
		"examples/other/main.go":            true,
		"docs/events":                       true,
		"examples/grafana/rules/a_test.go":  true,
		"examples/grafana/internal/x/y.css": false,
	} {
		require.Equal(t, want, ignored(t, patterns, file), file)
	}
}

// TestImageOfTheDemoHasWhatItIsBuiltFrom asks the go command for the files that the demo
// is built from, and .dockerignore for each of them. Nobody builds the image here.
func TestImageOfTheDemoHasWhatItIsBuiltFrom(t *testing.T) {
	content, err := os.ReadFile(root + "/.dockerignore")
	require.NoError(t, err)
	var patterns []string
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, line)
		}
	}
	here, err := filepath.Abs(root)
	require.NoError(t, err)
	here, err = filepath.EvalSymlinks(here)
	require.NoError(t, err)

	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=Dir,GoFiles,EmbedFiles,Module", ".")
	list.Dir = filepath.Join(root, "examples", "grafana")
	out, err := list.Output()
	require.NoError(t, err)
	files := []string{"go.mod", "go.sum", "examples/grafana/go.mod", "examples/grafana/go.sum"}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			Dir                 string
			GoFiles, EmbedFiles []string
			Module              *struct{ Path string }
		}
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if p.Module == nil || !strings.HasPrefix(p.Module.Path, "github.com/breakwater-go/breakwater") {
			continue
		}
		folder, err := filepath.Rel(here, p.Dir)
		require.NoError(t, err)
		for _, name := range append(p.GoFiles, p.EmbedFiles...) {
			files = append(files, path.Join(filepath.ToSlash(folder), filepath.ToSlash(name)))
		}
	}
	require.Contains(t, files, "examples/grafana/main.go")
	require.Contains(t, files, "resilience/breaker.go")
	for _, file := range files {
		require.False(t, ignored(t, patterns, file), "the image is built without %s", file)
	}
	require.True(t, ignored(t, patterns, "README.md"), "what changes often, and is not in it, would have it built anew")
	require.True(t, ignored(t, patterns, ".env"), "a password would be among what is sent to who builds")
}
