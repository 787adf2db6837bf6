// Package compose reads the compose file of the stack, as far as the stack has use for
// it: to check what the file promises, and to run the same services without containers.
package compose

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// File is a compose file. Keys that it does not know are an error: a misspelt one would
// promise what nobody keeps.
type File struct {
	Name     string             `yaml:"name"`
	Services map[string]Service `yaml:"services"`
	Volumes  map[string]*Volume `yaml:"volumes"`

	Service Service `yaml:"x-service"` // what the services have in common

	dir string
}

// Volume is a named volume with the defaults of the engine.
type Volume struct{}

// Service is one service of a [File].
type Service struct {
	Build       *Build                `yaml:"build"`
	Image       string                `yaml:"image"`
	User        string                `yaml:"user"`
	Restart     string                `yaml:"restart"`
	ReadOnly    bool                  `yaml:"read_only"`
	Tmpfs       []string              `yaml:"tmpfs"`
	CapDrop     []string              `yaml:"cap_drop"`
	SecurityOpt []string              `yaml:"security_opt"`
	PidsLimit   int                   `yaml:"pids_limit"`
	MemLimit    string                `yaml:"mem_limit"`
	Logging     map[string]any        `yaml:"logging"`
	WorkingDir  string                `yaml:"working_dir"`
	Command     []string              `yaml:"command"`
	Environment map[string]string     `yaml:"environment"`
	Volumes     []Mount               `yaml:"volumes"`
	Ports       []Port                `yaml:"ports"`
	Healthcheck *Healthcheck          `yaml:"healthcheck"`
	DependsOn   map[string]Dependency `yaml:"depends_on"`
	StopGrace   string                `yaml:"stop_grace_period"`
}

// Build says what an image is built from.
type Build struct {
	Context    string `yaml:"context"`
	Dockerfile string `yaml:"dockerfile"` // relative to Context
}

// Healthcheck says how a container is asked how it is.
type Healthcheck struct {
	Test        []string `yaml:"test"`
	Interval    string   `yaml:"interval"`
	Timeout     string   `yaml:"timeout"`
	Retries     int      `yaml:"retries"`
	StartPeriod string   `yaml:"start_period"`
}

// Dependency says what another service must have come to.
type Dependency struct {
	Condition string `yaml:"condition"`
}

// Mount is what a container sees at a path of its own.
type Mount struct {
	Source string // a path of the host as written, or the name of a volume
	Target string
	Mode   string // "ro", or empty for one that can be written to
}

// Bind reports whether the source is a path, not a volume.
func (m Mount) Bind() bool { return strings.HasPrefix(m.Source, ".") || filepath.IsAbs(m.Source) }

// UnmarshalYAML reads the short form, source:target[:mode].
func (m *Mount) UnmarshalYAML(node *yaml.Node) error {
	parts := strings.Split(node.Value, ":")
	if node.Kind != yaml.ScalarNode || len(parts) < 2 || len(parts) > 3 {
		return fmt.Errorf("line %d: %q is not of the form source:target[:mode]", node.Line, node.Value)
	}
	m.Source, m.Target = parts[0], parts[1]
	if len(parts) == 3 {
		m.Mode = parts[2]
	}
	return nil
}

// Port is a port of a container that can be reached from the host.
type Port struct {
	HostIP, Host, Container string
}

// UnmarshalYAML reads the short form, [[ip:]host:]container.
func (p *Port) UnmarshalYAML(node *yaml.Node) error {
	parts := strings.Split(node.Value, ":")
	if node.Kind != yaml.ScalarNode || len(parts) > 3 {
		return fmt.Errorf("line %d: %q is not of the form [[ip:]host:]container", node.Line, node.Value)
	}
	last := len(parts) - 1
	p.Container = parts[last]
	if last > 0 {
		p.Host = parts[last-1]
	}
	if last > 1 {
		p.HostIP = parts[0]
	}
	return nil
}

// Read reads a file. Variables in it are replaced as compose does, with what env says:
// it is asked like [os.LookupEnv]. A variable that is required and missing is an error
// with the text that the file has for it.
func Read(path string, env func(string) (string, bool)) (*File, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("compose: %w", err)
	}
	f, err := Parse(content, env)
	if err != nil {
		return nil, fmt.Errorf("compose: %s: %w", path, err)
	}
	f.dir = filepath.Dir(path)
	return f, nil
}

// Path returns the path of a mount's or a build's source, which is relative to the file.
func (f *File) Path(source string) string {
	if filepath.IsAbs(source) {
		return source
	}
	return filepath.Join(f.dir, source)
}

// Parse is Read of a content that is already there.
func Parse(content []byte, env func(string) (string, bool)) (*File, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(content, &root); err != nil {
		return nil, err
	}
	if err := interpolate(&root, env); err != nil {
		return nil, err
	}
	// Once more as text, since only a decoder of text refuses unknown keys.
	plain, err := yaml.Marshal(&root)
	if err != nil {
		return nil, err
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(plain)))
	decoder.KnownFields(true)
	var f File
	if err := decoder.Decode(&f); err != nil {
		return nil, err
	}
	return &f, nil
}

// interpolate replaces the variables in all values below node.
func interpolate(node *yaml.Node, env func(string) (string, bool)) error {
	var errs []error
	if node.Kind == yaml.ScalarNode {
		value, err := Expand(node.Value, env)
		if err != nil {
			return fmt.Errorf("line %d: %w", node.Line, err)
		}
		node.Value = value
	}
	for _, child := range node.Content {
		errs = append(errs, interpolate(child, env))
	}
	return errors.Join(errs...)
}

// Expand replaces $NAME, ${NAME}, ${NAME:-default} and ${NAME:?text} in s, and $$ by a
// dollar sign. A variable that is not set, without a default, is empty.
func Expand(s string, env func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		switch {
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			s = after[1:]
		case strings.HasPrefix(after, "{"):
			inner, rest, closed := strings.Cut(after[1:], "}")
			if !closed {
				return "", fmt.Errorf("%q is not closed", "$"+after)
			}
			value, err := variable(inner, env)
			if err != nil {
				return "", err
			}
			b.WriteString(value)
			s = rest
		default:
			end := strings.IndexFunc(after, func(r rune) bool { return !inName(r) })
			if end < 0 {
				end = len(after)
			}
			if end == 0 {
				return "", fmt.Errorf("%q: a dollar sign is written $$", "$"+after)
			}
			value, _ := env(after[:end])
			b.WriteString(value)
			s = after[end:]
		}
	}
}

func inName(r rune) bool {
	return r == '_' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
}

// variable returns the value of what is between braces.
func variable(inner string, env func(string) (string, bool)) (string, error) {
	end := strings.IndexFunc(inner, func(r rune) bool { return !inName(r) })
	if end < 0 {
		value, _ := env(inner)
		return value, nil
	}
	name, operator := inner[:end], inner[end:]
	value, _ := env(name)
	switch {
	case strings.HasPrefix(operator, ":-"):
		if value == "" {
			value = operator[2:]
		}
		return value, nil
	case strings.HasPrefix(operator, ":?"):
		if value == "" {
			return "", &MissingError{Variable: name, Text: operator[2:]}
		}
		return value, nil
	default:
		return "", fmt.Errorf("${%s} is more than this package knows of variables", inner)
	}
}

// MissingError says that a variable is required and not set.
type MissingError struct {
	Variable string
	Text     string // what the file says about it
}

// Error is worded as compose does it.
func (e *MissingError) Error() string {
	return fmt.Sprintf("required variable %s is missing a value: %s", e.Variable, e.Text)
}
