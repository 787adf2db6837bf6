// Package guard has no code of its own: its tests hold the whole repository to rules
// that no single package can check for itself.
package guard

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// root is the repository's root, seen from the folder that the tests run in.
const root = "../.."

// repositoryFiles returns the slash-separated paths, relative to the root, of the
// files that are or would be committed. Without git, or outside of a clone, it is
// every file but those of git and of installed packages.
func repositoryFiles(t *testing.T) []string {
	t.Helper()
	git := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	git.Dir = root
	var files []string
	if out, err := git.Output(); err == nil {
		for file := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			// A file that was deleted is listed until the deletion is committed.
			if info, err := os.Stat(filepath.Join(root, file)); err == nil && info.Mode().IsRegular() {
				files = append(files, file)
			}
		}
	} else {
		t.Logf("git ls-files: %v; walking the folders instead", err)
		files = walk(t, os.DirFS(root))
	}
	require.Contains(t, files, "go.mod", "these are not the files of the repository")
	return files
}

func walk(t *testing.T, fsys fs.FS) []string {
	t.Helper()
	var files []string
	require.NoError(t, fs.WalkDir(fsys, ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.Type().IsRegular():
			files = append(files, file)
		}
		return nil
	}))
	return files
}

// inNestedModule returns a function that reports whether a file belongs to a module
// below the root one.
func inNestedModule(files []string) func(file string) bool {
	var nested []string
	for _, file := range files {
		if dir, base := path.Split(file); base == "go.mod" && dir != "" {
			nested = append(nested, dir)
		}
	}
	return func(file string) bool {
		return slices.ContainsFunc(nested, func(dir string) bool { return strings.HasPrefix(file, dir) })
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
	require.NoError(t, err)
	return content
}

func TestChangelogHasUnreleased(t *testing.T) {
	require.Regexp(t, regexp.MustCompile(`(?m)^## \[Unreleased\]$`), string(read(t, "CHANGELOG.md")))
}

// machinePaths matches the beginning of a path that exists on one machine only. The
// expression is put together here so that this file does not match itself.
var machinePaths = regexp.MustCompile(`(^|[^\w./)}-])/(` + strings.Join([]string{"work", "root", "home", "Users"}, "|") + `)/\w`)

func TestNoPathsOfOneMachine(t *testing.T) {
	for _, file := range repositoryFiles(t) {
		content := read(t, file)
		if !utf8.Valid(content) || bytes.ContainsRune(content, 0) {
			continue // not text
		}
		for n, line := range bytes.Split(content, []byte("\n")) {
			if found := machinePaths.Find(line); found != nil {
				t.Errorf("%s:%d: a path of one machine: %s", file, n+1, bytes.TrimSpace(line))
			}
		}
	}
}

func TestMachinePaths(t *testing.T) {
	for line, want := range map[string]bool{
		"cd /" + "work/main":                  true,
		"/" + "root/go/pkg":                   true,
		`x := "/` + `home/me/x"`:              true,
		"at (/" + "Users/me/x.go)":            true,
		"src:/" + "work/main":                 true,
		"https://example.com/" + "work/order": false,
		"./" + "work/x":                       false,
		"$HOME/" + "work/x":                   false,
		"work" + "/life":                      false,
		"/" + "work/":                         false, // nothing in it: a route, or this very rule
	} {
		require.Equal(t, want, machinePaths.MatchString(line), line)
	}
}

var goLine = regexp.MustCompile(`(?m)^go (\S+)$`)

func TestModulesHaveOneGoLine(t *testing.T) {
	want := goLine.FindSubmatch(read(t, "go.mod"))
	require.NotNil(t, want, "go.mod has no go line")
	for _, file := range repositoryFiles(t) {
		if path.Base(file) != "go.mod" {
			continue
		}
		got := goLine.FindSubmatch(read(t, file))
		require.NotNil(t, got, "%s has no go line", file)
		require.Equal(t, string(want[1]), string(got[1]), "the go line of %s", file)
	}
}
