package compose

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// root is the repository's root, where the file of the stack is.
const root = "../../../.."

const stackFile = root + "/docker-compose.yml"

// environment returns what is asked for variables: those given, and none else.
func environment(variables map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, found := variables[name]
		return value, found
	}
}

// withPassword is the least that the file of the stack needs.
func withPassword() func(string) (string, bool) {
	return environment(map[string]string{"GRAFANA_ADMIN_PASSWORD": "secret"})
}

func readStack(t *testing.T) *File {
	t.Helper()
	f, err := Read(stackFile, withPassword())
	require.NoError(t, err)
	return f
}

func TestStackKeepsItsPromises(t *testing.T) {
	f := readStack(t)
	require.NoError(t, f.Check())
	require.Equal(t, "breakwater", f.Name)
	require.ElementsMatch(t, []string{"alertmanager", "collector", "demo", "grafana", "jaeger", "prometheus"}, keys(f.Services))
}

func keys[V any](m map[string]V) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	return all
}

// TestCheckFindsWhatIsBroken breaks each promise of the stack's own file once.
func TestCheckFindsWhatIsBroken(t *testing.T) {
	for _, c := range []struct {
		name   string
		breaks func(f *File)
		want   string
	}{
		{"latest", func(f *File) { image(f, "prometheus", "prom/prometheus:latest") }, "service prometheus: image \"prom/prometheus:latest\" is not pinned"},
		{"no tag", func(f *File) { image(f, "jaeger", "jaegertracing/jaeger") }, "is not pinned"},
		{"half a version", func(f *File) { image(f, "grafana", "grafana/grafana:13") }, "is not pinned"},
		{"a broken digest", func(f *File) { image(f, "grafana", "grafana/grafana:13.1.3@sha256:12") }, "is not pinned"},
		{"a built image that could be pulled", func(f *File) { image(f, "demo", "breakwater/demo:1.0.0") }, "want the tag dev"},
		{"a Dockerfile that is not there", func(f *File) { f.Services["demo"].Build.Dockerfile = "Dockerfile.none" }, "no such file"},
		{"a mount that is not there", func(f *File) { f.Services["collector"].Volumes[0].Source = "./examples/none.yaml" }, "no such file"},
		{"a mount that can be written to", func(f *File) { f.Services["collector"].Volumes[0].Mode = "" }, "can be written to"},
		{"a volume that is not declared", func(f *File) { delete(f.Volumes, "prometheus") }, "volume prometheus is not declared"},
		{"a volume that nobody has", func(f *File) { f.Volumes["spare"] = &Volume{} }, "volume spare: nobody has it"},
		{"a port for everybody", func(f *File) { f.Services["grafana"].Ports[0].HostIP = "" }, "port 3000 is published on \"\""},
		{"a port on all addresses", func(f *File) { f.Services["grafana"].Ports[0].HostIP = "0.0.0.0" }, "published on \"0.0.0.0\""},
		{"a port that is none", func(f *File) { f.Services["grafana"].Ports[0].Host = "http" }, "port \"http\""},
		{"root", func(f *File) { change(f, "demo", func(s *Service) { s.User = "0:0" }) }, "service demo: user"},
		{"no user", func(f *File) { change(f, "demo", func(s *Service) { s.User = "" }) }, "user is \"\""},
		{"a user by name", func(f *File) { change(f, "demo", func(s *Service) { s.User = "grafana" }) }, "user is \"grafana\""},
		{"a file system that can be written to", func(f *File) { change(f, "jaeger", func(s *Service) { s.ReadOnly = false }) }, "read_only"},
		{"capabilities", func(f *File) { change(f, "jaeger", func(s *Service) { s.CapDrop = nil }) }, "cap_drop"},
		{"privileges to gain", func(f *File) { change(f, "jaeger", func(s *Service) { s.SecurityOpt = nil }) }, "no-new-privileges"},
		{"no limit to memory", func(f *File) { change(f, "jaeger", func(s *Service) { s.MemLimit = "" }) }, "mem_limit"},
		{"no limit to processes", func(f *File) { change(f, "jaeger", func(s *Service) { s.PidsLimit = 0 }) }, "pids_limit"},
		{"memory for files without end", func(f *File) { change(f, "jaeger", func(s *Service) { s.Tmpfs = []string{"/tmp"} }) }, "tmpfs /tmp"},
		{"somebody who is not there", func(f *File) { f.Services["demo"].DependsOn["database"] = Dependency{"service_started"} }, "depends on database"},
		{"health that nobody asks for", func(f *File) { f.Services["demo"].DependsOn["collector"] = Dependency{"service_healthy"} }, "waits for the health of collector"},
		{"a condition that is none", func(f *File) { f.Services["demo"].DependsOn["collector"] = Dependency{"ready"} }, "\"ready\""},
		{"a shell for a healthcheck", func(f *File) { f.Services["prometheus"].Healthcheck.Test = []string{"CMD-SHELL", "true"} }, "needs a shell"},
		{"nothing", func(f *File) { f.Services = nil }, "there are no services"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := readStack(t)
			c.breaks(f)
			require.ErrorContains(t, f.Check(), c.want)
		})
	}
}

func change(f *File, service string, how func(*Service)) {
	s := f.Services[service]
	how(&s)
	f.Services[service] = s
}

func image(f *File, service, name string) { change(f, service, func(s *Service) { s.Image = name }) }

func TestFromInDockerfileIsPinned(t *testing.T) {
	for content, want := range map[string]string{
		"FROM golang:1.26.8 AS build\nFROM scratch\n": "",
		"FROM golang:1.26.8${GO_DIGEST} AS build\n":   "",
		"FROM golang AS build\nFROM scratch\n":        `image "golang" is not pinned`,
		"FROM golang:latest\n":                        `image "golang:latest" is not pinned`,
		"# nothing\n":                                 "has no FROM",
	} {
		f := &File{dir: t.TempDir()}
		require.NoError(t, os.WriteFile(filepath.Join(f.dir, "Dockerfile"), []byte(content), 0o644))
		errs := f.pinned(Service{Image: "x:dev", Build: &Build{Context: ".", Dockerfile: "Dockerfile"}})
		if want == "" {
			require.Empty(t, errs, content)
			continue
		}
		require.Len(t, errs, 1, content)
		require.ErrorContains(t, errs[0], want)
	}
}

func TestPasswordIsRequired(t *testing.T) {
	for _, env := range []map[string]string{{}, {"GRAFANA_ADMIN_PASSWORD": ""}} {
		_, err := Read(stackFile, environment(env))
		var missing *MissingError
		require.ErrorAs(t, err, &missing)
		require.Equal(t, "GRAFANA_ADMIN_PASSWORD", missing.Variable)
		require.Contains(t, missing.Text, "password", "the message does not say what is to be done")
	}
	grafana := readStack(t).Services["grafana"].Environment
	require.Equal(t, "secret", grafana["GF_SECURITY_ADMIN_PASSWORD"])
	require.Equal(t, "false", grafana["GF_AUTH_ANONYMOUS_ENABLED"])
	require.NotContains(t, grafana, "GF_AUTH_ANONYMOUS_ORG_ROLE")
}

// TestDigests gives each image its digest by the variable that the file documents.
func TestDigests(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0a", 32)
	f, err := Read(stackFile, func(name string) (string, bool) {
		if strings.HasSuffix(name, "_DIGEST") {
			return digest, true
		}
		return withPassword()(name)
	})
	require.NoError(t, err)
	require.NoError(t, f.Check())
	for name, s := range f.Services {
		if s.Build == nil {
			require.True(t, strings.HasSuffix(s.Image, digest), "service %s: image %s has no variable for a digest", name, s.Image)
		}
	}
}

// TestConfigurationIsMounted says that no configuration file of the stack is forgotten.
func TestConfigurationIsMounted(t *testing.T) {
	f := readStack(t)
	var mounted []string
	for _, s := range f.Services {
		for _, m := range s.Volumes {
			if m.Bind() {
				mounted = append(mounted, filepath.Base(m.Source))
			}
		}
	}
	for _, name := range []string{"addresses", "alertmanager.yml", "collector.yaml", "dashboards", "jaeger.yaml", "prometheus.yml", "provisioning", "rules"} {
		require.Contains(t, mounted, name)
	}
}

// TestAddressesAreThoseOfServices looks for everything of the form service:port that
// configuration speaks of: the service must be there, and listen.
func TestAddressesAreThoseOfServices(t *testing.T) {
	f := readStack(t)
	listens := map[string][]string{ // in the configuration of each, see below
		"alertmanager": {"9093"},
		"collector":    {"4317", "4318", "13133"},
		"demo":         {"8080", "8765"},
		"grafana":      {"3000"},
		"jaeger":       {"4317", "16686"},
		"prometheus":   {"9090"},
	}
	for name, s := range f.Services {
		text := strings.Join(s.Command, " ") + fmt.Sprint(s.Environment)
		for _, p := range s.Ports {
			require.Contains(t, listens[name], p.Container, "a published port of %s", name)
		}
		if name == "grafana" { // listens where it does unless told otherwise
			continue
		}
		for _, port := range listens[name] {
			require.Contains(t, text, "0.0.0.0:"+port, "%s is not told to listen on %s", name, port)
		}
	}
	var texts []string
	for _, pattern := range []string{"addresses/*", "provisioning/*/*.yml"} {
		files, err := filepath.Glob(root + "/examples/grafana/" + pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		for _, file := range files {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			texts = append(texts, string(content))
		}
	}
	for _, s := range f.Services {
		for _, value := range s.Environment {
			texts = append(texts, value)
		}
	}
	found := 0
	for _, text := range texts {
		for service := range f.Services {
			for rest := text; ; found++ {
				_, after, ok := strings.Cut(rest, service+":")
				rest = after
				if !ok {
					break
				}
				port := after[:max(0, strings.IndexFunc(after+" ", func(r rune) bool { return r < '0' || r > '9' }))]
				if port == "" {
					continue
				}
				require.Contains(t, listens[service], port, "somebody calls %s:%s", service, port)
			}
		}
	}
	require.Greater(t, found, 5, "the test does not find the addresses it checks")
}

// TestGrafanaKnowsTheExportInterval compares the time between two exports with what the
// data source is told: $__rate_interval is made of it.
func TestGrafanaKnowsTheExportInterval(t *testing.T) {
	content, err := os.ReadFile(root + "/examples/grafana/provisioning/datasources/stack.yml")
	require.NoError(t, err)
	var provisioned struct {
		Datasources []struct {
			UID      string
			URL      string
			JSONData struct {
				TimeInterval                string `yaml:"timeInterval"`
				ExemplarTraceIDDestinations []struct {
					Name          string
					DatasourceUID string `yaml:"datasourceUid"`
				} `yaml:"exemplarTraceIdDestinations"`
				TracesToMetrics struct {
					DatasourceUID string `yaml:"datasourceUid"`
					Queries       []struct{ Query string }
				} `yaml:"tracesToMetrics"`
			} `yaml:"jsonData"`
		}
	}
	require.NoError(t, yaml.Unmarshal(content, &provisioned))
	var uids []string
	for _, d := range provisioned.Datasources {
		uids = append(uids, d.UID)
	}
	require.Equal(t, []string{"prometheus", "jaeger", "alertmanager"}, uids, "dashboards refer to these")
	prometheus, jaeger := provisioned.Datasources[0].JSONData, provisioned.Datasources[1].JSONData

	interval := readStack(t).Services["demo"].Environment["OTEL_METRIC_EXPORT_INTERVAL"]
	require.Equal(t, strings.TrimSuffix(prometheus.TimeInterval, "s")+"000", interval)
	require.Len(t, prometheus.ExemplarTraceIDDestinations, 1)
	require.Equal(t, "trace_id", prometheus.ExemplarTraceIDDestinations[0].Name)
	require.True(t, slices.Contains(uids, prometheus.ExemplarTraceIDDestinations[0].DatasourceUID))
	require.Equal(t, "prometheus", jaeger.TracesToMetrics.DatasourceUID)
	require.NotEmpty(t, jaeger.TracesToMetrics.Queries)
	for _, q := range jaeger.TracesToMetrics.Queries {
		require.NotContains(t, strings.ReplaceAll(q.Query, "$$", ""), "$", "Grafana takes a single dollar sign for a variable of the environment")
		require.Contains(t, q.Query, "$$__tags", "the query is not about the circuit of the span")
	}
}

func TestUnknownKeysAreRefused(t *testing.T) {
	_, err := Parse([]byte("services:\n  x:\n    readonly: true\n"), environment(nil))
	require.ErrorContains(t, err, "readonly")
}

func TestExpand(t *testing.T) {
	env := environment(map[string]string{"A": "a", "EMPTY": ""})
	for _, c := range []struct{ text, want, err string }{
		{"x", "x", ""},
		{"$A-${A}-$B", "a-a-", ""},
		{"${A:-b} ${B:-b} ${EMPTY:-b}", "a b b", ""},
		{"$$A $${A}", "$A ${A}", ""},
		{"${B:?say what}", "", "required variable B is missing a value: say what"},
		{"${EMPTY:?say what}", "", "required variable EMPTY"},
		{"${A", "", "not closed"},
		{"${A+b}", "", "more than this package knows"},
		{"5 $ ", "", "written $$"},
	} {
		got, err := Expand(c.text, env)
		if c.err != "" {
			require.ErrorContains(t, err, c.err, c.text)
			continue
		}
		require.NoError(t, err, c.text)
		require.Equal(t, c.want, got, c.text)
	}
}
