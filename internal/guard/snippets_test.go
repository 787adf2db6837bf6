package guard

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A snippet is a block of Go in a Markdown file. It is one of
//
//   - a file, if it begins with a package clause; which one is of no matter;
//   - declarations, with or without imports before them;
//   - statements, with or without imports before them. They run in a function that
//     has a ctx and returns nothing.
//
// Declarations and statements without an import may use this module's packages and
// those of [wellKnown] by name. All the rest a snippet declares itself: what
// does not compile for us does not compile for its reader.
//
// A block compiles in the root module, or in the nested one that a comment on
// the line before its fence names: <!-- module: examples/grafana -->.
type snippet struct {
	file   string // relative to the root
	line   int    // of the first line of text
	module string // folder of the module that it compiles in: "." is the root
	text   string
}

// wellKnown is the part of the standard library that snippets need not import.
var wellKnown = []string{
	"context", "errors", "fmt", "io", "log", "log/slog", "math/rand/v2", "net/http", "os", "time",
}

var (
	fence      = regexp.MustCompile("^( *)(```+|~~~+) *([^ `]*)")
	moduleMark = regexp.MustCompile(`^ *<!-- module: (\S+) -->$`)
)

// snippets returns the Go blocks of a Markdown file.
func snippets(file, markdown string) ([]snippet, error) {
	var found []snippet
	var open []string // the submatches of the fence of the block we are in
	var current snippet
	before := ""
	for n, line := range strings.Split(markdown, "\n") {
		at := fence.FindStringSubmatch(line)
		switch {
		case open == nil && at != nil:
			open = at
			current = snippet{file: file, line: n + 2, module: "."}
			if mark := moduleMark.FindStringSubmatch(before); mark != nil {
				current.module = mark[1]
			}
		case open != nil && strings.HasPrefix(strings.TrimSpace(line), open[2]) && strings.Trim(line, " `~") == "":
			if language := strings.ToLower(open[3]); language == "go" || language == "golang" {
				found = append(found, current)
			}
			open = nil
		case open != nil:
			current.text += strings.TrimPrefix(line, open[1]) + "\n"
		}
		before = line
	}
	if open != nil {
		return nil, fmt.Errorf("%s:%d: the block is not closed", file, current.line-1)
	}
	return found, nil
}

// source returns the snippet as a Go file that reports errors where the Markdown
// file has them. own is the import paths of this repository's packages.
func (s snippet) source(own []string) (string, error) {
	at := fmt.Sprintf("//line %s:%d\n", s.file, s.line)
	if parsed, err := parser.ParseFile(token.NewFileSet(), "", s.text, parser.PackageClauseOnly); err == nil {
		// Any package will do but main, which would be linked, and the name of
		// a test package.
		name := int(parsed.Name.Pos()) - 1
		return at + s.text[:name] + "snippet" + s.text[name+len(parsed.Name.Name):], nil
	}

	// Imports are followed by declarations, or else by statements.
	text := s.text
	parsed, err := parser.ParseFile(token.NewFileSet(), "", clause+text, 0)
	if err != nil {
		split := endOfImports(text)
		text = text[:split] + "\nfunc _(ctx context.Context) { _ = ctx\n//line " +
			fmt.Sprintf("%s:%d\n", s.file, s.line+strings.Count(text[:split], "\n")) + text[split:] + "}\n"
		if parsed, err = parser.ParseFile(token.NewFileSet(), "", at+clause+text, 0); err != nil {
			return "", err
		}
	}
	return "package snippet\n" + imports(parsed, own) + at + text, nil
}

// clause makes a file of declarations and statements that have none.
const clause = "package snippet; "

// endOfImports returns how many bytes of text its import declarations take.
func endOfImports(text string) int {
	header, err := parser.ParseFile(token.NewFileSet(), "", clause+text, parser.ImportsOnly)
	if err != nil || len(header.Decls) == 0 {
		return 0
	}
	return int(header.Decls[len(header.Decls)-1].End()) - 1 - len(clause)
}

// formatted returns the snippet as gofmt has it. Imports before statements are no
// source that gofmt knows, so the two are formatted apart.
func (s snippet) formatted() (string, error) {
	whole, err := format.Source([]byte(s.text))
	split := endOfImports(s.text)
	if err == nil || split == 0 {
		return string(whole), err
	}
	imports, err := format.Source([]byte(s.text[:split]))
	if err != nil {
		return "", err
	}
	statements, err := format.Source([]byte(s.text[split:]))
	return string(imports) + string(statements), err
}

// imports returns import declarations for the packages that the file uses by name
// and neither imports nor declares.
func imports(file *ast.File, own []string) string {
	used := map[string]bool{}
	declared := map[string]bool{}
	declare := func(names ...*ast.Ident) {
		for _, name := range names {
			declared[name.Name] = true
		}
	}
	for _, spec := range file.Imports {
		name := packageName(strings.Trim(spec.Path.Value, "`\""))
		if spec.Name != nil {
			name = spec.Name.Name
		}
		declared[name] = true
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok {
				used[x.Name] = true
			}
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if name, ok := left.(*ast.Ident); ok && n.Tok == token.DEFINE {
					declare(name)
				}
			}
		case *ast.ValueSpec:
			declare(n.Names...)
		case *ast.Field:
			declare(n.Names...)
		}
		return true
	})
	var b strings.Builder
	for _, name := range slices.Concat(own, wellKnown) {
		if short := packageName(name); used[short] && !declared[short] {
			fmt.Fprintf(&b, "import %q\n", name)
		}
	}
	return b.String()
}

var relativeReplacement = regexp.MustCompile(`(?m)=> \.\.?/\S*$`)

var majorVersion = regexp.MustCompile(`/v\d+$`)

func packageName(importPath string) string {
	return path.Base(majorVersion.ReplaceAllString(importPath, ""))
}

// compile compiles all snippets, each as a package of its own, with one go build for
// each module that they name. The error is nil or says what the compiler said.
func compile(t *testing.T, repository string, all []snippet) error {
	t.Helper()
	repository, err := filepath.Abs(repository)
	require.NoError(t, err)
	rootMod, err := os.ReadFile(filepath.Join(repository, "go.mod"))
	require.NoError(t, err)
	rootPath := modulePath(rootMod)

	byModule := map[string][]snippet{}
	for _, s := range all {
		byModule[s.module] = append(byModule[s.module], s)
	}
	var errs []error
	for _, dir := range slices.Sorted(maps.Keys(byModule)) {
		// The folder is a module like the one named, with the same requirements, so
		// that all it needs is in go.sum, and the two modules themselves from here.
		work := t.TempDir()
		mod, err := os.ReadFile(filepath.Join(repository, dir, "go.mod"))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", byModule[dir][0].file, byModule[dir][0].line, err))
			continue
		}
		here := modulePath(mod)
		text := strings.Replace(string(mod), "module "+here, "module snippets.invalid", 1)
		text = relativeReplacement.ReplaceAllStringFunc(text, func(found string) string {
			return "=> " + filepath.Join(repository, dir, strings.TrimPrefix(found, "=> "))
		})
		text += fmt.Sprintf("\nrequire %s v0.0.0\nreplace %[1]s => %[2]q\n", here, filepath.Join(repository, dir))
		if here != rootPath && !strings.Contains(text, "replace "+rootPath+" =>") {
			text += fmt.Sprintf("\nreplace %s => %q\n", rootPath, repository)
		}
		require.NoError(t, os.WriteFile(filepath.Join(work, "go.mod"), []byte(text), 0o600))
		if sum, err := os.ReadFile(filepath.Join(repository, dir, "go.sum")); err == nil {
			require.NoError(t, os.WriteFile(filepath.Join(work, "go.sum"), sum, 0o600))
		}

		own := ownPackages(t, repository, rootPath)
		for i, s := range byModule[dir] {
			source, err := s.source(own)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: neither a file nor declarations nor statements: %w", s.file, s.line, err))
				continue
			}
			pkg := filepath.Join(work, fmt.Sprintf("snippet%d", i))
			require.NoError(t, os.Mkdir(pkg, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(pkg, "snippet.go"), []byte(source), 0o600))
		}
		if out, err := goBuild(t.Context(), work, dir != "."); err != nil {
			errs = append(errs, fmt.Errorf("%w:\n%s", err, out))
		}
	}
	return errors.Join(errs...)
}

func modulePath(mod []byte) string {
	found := regexp.MustCompile(`(?m)^module (\S+)`).FindSubmatch(mod)
	if found == nil {
		return ""
	}
	return string(found[1])
}

// ownPackages returns the import paths of the packages that users of the module at
// dir may import.
func ownPackages(t *testing.T, dir, module string) []string {
	t.Helper()
	var own []string
	files := walk(t, os.DirFS(dir))
	nested := inNestedModule(files) // programs, which nobody can import
	for _, file := range files {
		pkg := path.Dir(file)
		if path.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") ||
			strings.Contains("/"+pkg+"/", "/internal/") || nested(file) {
			continue
		}
		if name := path.Join(module, pkg); !slices.Contains(own, name) {
			own = append(own, name)
		}
	}
	return own
}

func goBuild(ctx context.Context, dir string, online bool) ([]byte, error) {
	args := []string{"build", "-mod=mod"}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race") // what we depend on is compiled already, for these tests
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./...")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "PWD="+dir)
	if !online {
		// These tests were built from the same requirements: nothing is missing.
		cmd.Env = append(cmd.Env, "GOPROXY=off")
	}
	return cmd.CombinedOutput()
}

func TestSnippetsCompile(t *testing.T) {
	var all []snippet
	files := repositoryFiles(t)
	require.Contains(t, files, "README.md")
	for _, file := range files {
		if path.Ext(file) != ".md" {
			continue
		}
		found, err := snippets(file, string(read(t, file)))
		require.NoError(t, err)
		if file == "README.md" {
			require.NotEmpty(t, found, "README.md shows no Go")
		}
		all = append(all, found...)
	}
	require.NoError(t, compile(t, root, all))
	for _, s := range all {
		formatted, err := s.formatted()
		require.NoError(t, err)
		require.Equal(t, formatted, s.text, "%s:%d is not as gofmt has it", s.file, s.line)
	}
}

func TestSnippets(t *testing.T) {
	found, err := snippets("x.md", strings.Join([]string{
		"text", "```go", "a", "```", "```sh", "```", "~~~~golang", "```", "b", "~~~~",
		"- item", "  <!-- module: examples/x -->", "  ```Go title", "  c", "    d", "  ```",
	}, "\n"))
	require.NoError(t, err)
	require.Equal(t, []snippet{
		{"x.md", 3, ".", "a\n"},
		{"x.md", 8, ".", "```\nb\n"},
		{"x.md", 14, "examples/x", "c\n  d\n"},
	}, found)

	_, err = snippets("x.md", "\n```go\na\n")
	require.EqualError(t, err, "x.md:2: the block is not closed")
}

// TestCompile holds compile to its promises on a small repository, with snippets
// that are right and with one thing wrong in each of those that are not.
func TestCompile(t *testing.T) {
	repository := t.TempDir()
	for file, text := range map[string]string{
		"go.mod":              "module example.invalid/top\n\ngo 1.26.0\n",
		"lib/lib.go":          "package lib\n\nfunc F() error { return nil }\n",
		"internal/log/log.go": "package log\n",
		"nested/app/go.mod":   "module example.invalid/top/nested/app\n\ngo 1.26.0\n\nrequire example.invalid/top v0.0.0\n\nreplace example.invalid/top => ../../\n",
		"nested/app/app.go":   "package app\n\nimport _ \"example.invalid/top/lib\"\n\nconst Answer = 42\n",
	} {
		file = filepath.Join(repository, filepath.FromSlash(file))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}

	good := []snippet{
		{"a.md", 10, ".", "package main\n\nimport \"example.invalid/top/lib\"\n\nfunc main() { _ = lib.F() }\n"},
		{"a.md", 20, ".", "// A comment.\npackage lib_test\n"},
		{"a.md", 30, ".", "import \"strings\"\n\nvar x = strings.ToUpper(\"x\")\n\nfunc f() error { return lib.F() }\n"},
		{"a.md", 40, ".", "if err := lib.F(); err != nil {\n\tlog.Print(ctx, err)\n}\n"},
		{"a.md", 50, ".", "import (\n\t\"strings\"\n)\n\nfmt.Println(strings.ToUpper(\"x\"))\n"},
		{"a.md", 60, ".", "log := struct{ X int }{1}\nfmt.Println(log.X)\n"},
		{"a.md", 70, "nested/app", "import \"example.invalid/top/nested/app\"\n\nfmt.Println(app.Answer, lib.F())\n"},
	}
	require.NoError(t, compile(t, repository, good))

	bad := []struct {
		snippet
		want string
	}{
		{snippet{"b.md", 10, ".", "package main\n\nfunc main() { undefined() }\n"}, "b.md:12: undefined: undefined"},
		{snippet{"b.md", 20, ".", "func f() error { return lib.G() }\n"}, "b.md:20: undefined: lib.G"},
		{snippet{"b.md", 30, ".", "fmt.Println()\nerr := lib.F()\n"}, "b.md:31: declared and not used: err"},
		{snippet{"b.md", 40, ".", "import \"strings\"\n\nfmt.Println()\nerr = lib.F()\n"}, `b.md:40: "strings" imported and not used`},
		{snippet{"b.md", 50, ".", "import \"strings\"\n\nfmt.Println(strings.ToUpper(\"\"))\nerr = lib.F()\n"}, "b.md:53: undefined: err"},
		{snippet{"b.md", 60, ".", "if {\n"}, "b.md:60: neither a file nor declarations nor statements"},
		{snippet{"b.md", 70, ".", "fmt.Println(app.Answer)\n"}, "b.md:70: undefined: app"},
		{snippet{"b.md", 80, "nested/app", "import \"example.invalid/top/nested/app\"\n\nfmt.Println(app.Question)\n"}, "b.md:82: undefined: app.Question"},
		{snippet{"b.md", 90, "nested/none", "fmt.Println()\n"}, "b.md:90: "},
	}
	var all []snippet
	for _, b := range bad {
		all = append(all, b.snippet)
	}
	err := compile(t, repository, append(all, good...))
	require.Error(t, err)
	for _, b := range bad {
		require.ErrorContains(t, err, b.want)
	}
	require.NotContains(t, err.Error(), "a.md")
}
