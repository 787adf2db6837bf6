package stack

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/compose"
)

// Containers is the stack as docker compose brings it up, without Grafana, in an engine
// of its own that knows no registry. The images have the names that the compose file
// gives them and the entrypoint, user and folders of the official ones, but nothing else
// in them than the programs built from source. So this proves the wiring, the
// configuration, the mounts, the limits, the health checks and the ports, and nothing
// about what else is in the official images.
//
// It must run in a network namespace of its own, see [Isolated]: ports are published
// as the file says.
type Containers struct {
	dir, file string
	programs  map[string]string // docker-compose among them
	env       map[string]string // variables of the file

	services map[string]compose.Service
	engine   *Process
	stopped  map[string]bool // services that were stopped on purpose
}

// outside are the services that are not brought up: nobody can build an image of them.
var outside = map[string]bool{"grafana": true}

// NewContainers returns the stack of a compose file, which writes into dir only.
func NewContainers(dir, composeFile string, programs map[string]string, pace Pace) (*Containers, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	env, err := pace.Environment(filepath.Join(dir, "rules"))
	if err != nil {
		return nil, err
	}
	file, err := compose.Read(composeFile, Lookup(env))
	if err != nil {
		return nil, err
	}
	return &Containers{
		dir: dir, file: composeFile, programs: programs, env: env,
		services: file.Services, stopped: make(map[string]bool),
	}, nil
}

// NoEngine says why there can be no engine here, nil if there can be one.
func NoEngine() error {
	if runtime.GOOS != "linux" {
		return errors.New("it needs Linux")
	}
	if os.Getuid() != 0 {
		return errors.New("it needs root, to start a Docker engine of its own")
	}
	for _, program := range []string{"dockerd", "iptables", "ip", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is missing; on Debian: apt-get install docker.io iptables iproute2", program)
		}
	}
	return nil
}

// Isolated runs a program in namespaces of its own for networks and mounts, so that
// nothing is left of either when it has ended. Its output is ours. When ctx is done it is
// asked to end, and it is waited for.
func Isolated(ctx context.Context, program string, args ...string) error {
	args = append([]string{"--net", "--mount", "--", program}, args...)
	p, err := start("unshare", "unshare", args, os.Environ(), "", os.Stdout, os.Stderr)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), p.stopWithin(time.Minute))
	}
}

func (c *Containers) path(name string) string { return filepath.Join(c.dir, name) }

func (c *Containers) socket() string { return c.path("docker.sock") }

// startEngine starts the engine and waits until it answers.
func (c *Containers) startEngine(ctx context.Context) error {
	if err := run(ctx, c.path("engine.log"), "ip", []string{"link", "set", "lo", "up"}, os.Environ(), c.dir); err != nil {
		return err
	}
	if err := os.WriteFile(c.path("daemon.json"), []byte("{}\n"), 0o644); err != nil {
		return err
	}
	log, err := os.OpenFile(c.path("engine.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	c.engine, err = start("dockerd", "dockerd", []string{
		"--config-file=" + c.path("daemon.json"),
		"--data-root=" + c.path("data"),
		"--exec-root=" + c.path("exec"),
		"--pidfile=" + c.path("pid"),
		"--host=unix://" + c.socket(),
	}, os.Environ(), c.dir, log, log)
	if err := errors.Join(err, log.Close()); err != nil {
		return err
	}
	err = until(ctx, time.Minute, c.engine.exited, func() error { return c.api(ctx, http.MethodGet, "/_ping", nil, nil, nil) })
	if err != nil {
		return fmt.Errorf("the Docker engine does not start: %w\n%s", err, tail(c.path("engine.log"), 20))
	}
	return nil
}

// api calls the engine.
func (c *Containers) api(ctx context.Context, method, path string, params url.Values, body io.Reader, into any) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", c.socket())
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path+"?"+params.Encode(), body)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 || bytes.Contains(text, []byte(`"errorDetail"`)) {
		return fmt.Errorf("docker: %s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// folder is one that an image has for a service to write to.
type folder struct {
	path  string
	owner int
}

// image is what stands in for an official image: the paths of its programs, the first of
// which is its entrypoint, and the folders that volumes are mounted on.
type image struct {
	programs map[string]string // path in the image, by name of the program
	entry    string
	folders  []folder
}

// images returns what the images of the services are made of.
func images() map[string]image {
	return map[string]image{
		"alertmanager": {map[string]string{"alertmanager": "/bin/alertmanager", "amtool": "/bin/amtool"}, "/bin/alertmanager", []folder{{"/alertmanager", 65534}}},
		"collector":    {map[string]string{"otelcol": "/otelcol-contrib"}, "/otelcol-contrib", nil},
		"demo":         {map[string]string{"demo": "/demo"}, "/demo", nil},
		"jaeger":       {map[string]string{"jaeger": "/cmd/jaeger/jaeger-linux"}, "/cmd/jaeger/jaeger-linux", nil},
		"prometheus":   {map[string]string{"prometheus": "/bin/prometheus", "promtool": "/bin/promtool"}, "/bin/prometheus", []folder{{"/prometheus", 65534}}},
	}
}

// importImages makes the images.
func (c *Containers) importImages(ctx context.Context) error {
	for service, i := range images() {
		reader, writer := io.Pipe()
		go func() { writer.CloseWithError(c.writeImage(writer, i)) }()
		name, version, _ := strings.Cut(c.services[service].Image, ":")
		err := c.api(ctx, http.MethodPost, "/images/create", url.Values{
			"fromSrc": {"-"},
			"repo":    {name},
			"tag":     {version},
			"changes": {fmt.Sprintf("ENTRYPOINT [%q]", i.entry), "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		}, reader, nil)
		if err := errors.Join(err, reader.Close()); err != nil {
			return fmt.Errorf("image of %s: %w", service, err)
		}
	}
	return nil
}

func (c *Containers) writeImage(w io.Writer, i image) error {
	archive := tar.NewWriter(w)
	for _, f := range i.folders {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: f.path[1:] + "/", Mode: 0o755, Uid: f.owner, Gid: f.owner}); err != nil {
			return err
		}
	}
	for program, path := range i.programs {
		content, err := os.ReadFile(c.programs[program])
		if err != nil {
			return err
		}
		if err := archive.WriteHeader(&tar.Header{Name: path[1:], Mode: 0o755, Size: int64(len(content))}); err != nil {
			return err
		}
		if _, err := archive.Write(content); err != nil {
			return err
		}
	}
	return archive.Close()
}

// compose runs docker compose.
func (c *Containers) compose(ctx context.Context, args ...string) (string, error) {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "DOCKER_HOST=unix://" + c.socket()}
	for name, value := range c.env {
		env = append(env, name+"="+value)
	}
	args = append([]string{"--file", c.file, "--progress", "plain"}, args...)
	return output(ctx, c.path("compose.log"), c.programs["docker-compose"], args, env, c.dir)
}

// Up starts the engine and all services but the demo.
func (c *Containers) Up(ctx context.Context) error {
	if _, err := c.compose(ctx, "config", "--quiet"); err != nil {
		return err
	}
	if err := c.startEngine(ctx); err != nil {
		return err
	}
	if err := c.importImages(ctx); err != nil {
		return err
	}
	services := []string{"up", "--detach", "--no-build", "--pull", "never", "--wait"}
	for name := range c.services {
		if !outside[name] && name != "demo" {
			services = append(services, name)
		}
	}
	if _, err := c.compose(ctx, services...); err != nil {
		return c.because(ctx, err)
	}
	for _, page := range []struct{ service, port, path string }{{"collector", "13133", "/"}, {"jaeger", "16686", "/api/services"}} {
		if err := c.ready(ctx, page.service, page.port, page.path); err != nil {
			return err
		}
	}
	return c.healthy(ctx)
}

func (c *Containers) ready(ctx context.Context, service, port, path string) error {
	to, err := c.URL(ctx, service, port)
	if err != nil {
		return err
	}
	if err := until(ctx, 30*time.Second, c.Running, func() error { return get(ctx, to+path, nil) }); err != nil {
		return c.because(ctx, fmt.Errorf("%s is not ready: %w", service, err))
	}
	return nil
}

// because adds what the services have printed lately to an error.
func (c *Containers) because(ctx context.Context, err error) error {
	logs, _ := c.compose(ctx, "logs", "--tail", "15") // the error is what counts
	return fmt.Errorf("%w\n%s", err, logs)
}

// container is what the engine says of one.
type container struct {
	State  string
	Status string
	Labels map[string]string
}

func (c *Containers) containers(ctx context.Context) (map[string]container, error) {
	var all []container
	if err := c.api(ctx, http.MethodGet, "/containers/json", url.Values{"all": {"1"}}, nil, &all); err != nil {
		return nil, err
	}
	services := make(map[string]container)
	for _, one := range all {
		services[one.Labels["com.docker.compose.service"]] = one
	}
	return services, nil
}

// healthy checks that the engine has asked those with a health check how they are, and
// was answered.
func (c *Containers) healthy(ctx context.Context) error {
	found, err := c.containers(ctx)
	if err != nil {
		return err
	}
	asked := 0
	for name, s := range c.services {
		if s.Healthcheck == nil || outside[name] || name == "demo" {
			continue
		}
		asked++
		if !strings.Contains(found[name].Status, "(healthy)") {
			return fmt.Errorf("%s is %q, want it healthy", name, found[name].Status)
		}
	}
	if asked == 0 {
		return errors.New("no service has a health check")
	}
	return nil
}

// Running returns an error if a container has ended that was not told to.
func (c *Containers) Running() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := c.engine.exited(); err != nil {
		return err
	}
	found, err := c.containers(ctx)
	if err != nil {
		return nil // busy; it is asked again
	}
	for name, one := range found {
		if one.State != "running" && one.State != "created" && !c.stopped[name] {
			return c.because(ctx, fmt.Errorf("the container of %s is %s: %s", name, one.State, one.Status))
		}
	}
	return nil
}

// URL returns where a port of a service is published.
func (c *Containers) URL(_ context.Context, service, port string) (string, error) {
	for _, p := range c.services[service].Ports {
		if p.Container == port {
			return "http://" + net.JoinHostPort(p.HostIP, p.Host), nil
		}
	}
	return "", fmt.Errorf("port %s of %s is not published", port, service)
}

// StartDemo starts the demo.
func (c *Containers) StartDemo(ctx context.Context) error {
	if _, err := c.compose(ctx, "up", "--detach", "--no-build", "--pull", "never", "demo"); err != nil {
		return c.because(ctx, err)
	}
	return nil
}

// DemoLog returns what the demo has printed.
func (c *Containers) DemoLog(ctx context.Context) (string, error) {
	return c.compose(ctx, "logs", "--no-log-prefix", "--no-color", "demo")
}

// logLine is a line of the demo's log. The log is on standard error and the summary on
// standard output, and the engine that collects both may put a late line of the one into
// the middle of the other. No line of JSON looks like one.
var logLine = regexp.MustCompile(`(?m)^ *\d+\.\ds .*\n`)

// StopDemo ends the demo. Its summary is what it printed last.
func (c *Containers) StopDemo(ctx context.Context) ([]byte, error) {
	if err := c.stop(ctx, "demo"); err != nil {
		return nil, err
	}
	log, err := c.DemoLog(ctx)
	if err != nil {
		return nil, err
	}
	at := strings.LastIndex("\n"+log, "\n{\n")
	if at < 0 {
		return nil, fmt.Errorf("the demo ended without a summary; its log ends with %q", log[max(0, len(log)-300):])
	}
	summary := logLine.ReplaceAllString(log[at:], "")
	end := strings.Index(summary, "\n}\n")
	if end < 0 {
		return nil, errors.New("the demo's summary has no end")
	}
	return []byte(summary[:end+2]), nil
}

func (c *Containers) stop(ctx context.Context, service string) error {
	c.stopped[service] = true
	_, err := c.compose(ctx, "stop", "--timeout", strconv.Itoa(int(patience.Seconds())), service)
	return err
}

// StopCollector stops the collector.
func (c *Containers) StopCollector(ctx context.Context) error { return c.stop(ctx, "collector") }

// StartCollector starts the collector again.
func (c *Containers) StartCollector(ctx context.Context) error {
	if _, err := c.compose(ctx, "start", "collector"); err != nil {
		return err
	}
	c.stopped["collector"] = false
	return c.ready(ctx, "collector", "13133", "/")
}

// Close removes the containers and their volumes, and stops the engine.
func (c *Containers) Close() error {
	if c.engine == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	if c.engine.exited() == nil {
		_, err := c.compose(ctx, "down", "--volumes", "--timeout", strconv.Itoa(int(patience.Seconds())))
		errs = append(errs, err)
		left, err := c.containers(ctx)
		errs = append(errs, err)
		for name := range left {
			errs = append(errs, fmt.Errorf("the container of %s is left", name))
		}
	}
	return errors.Join(append(errs, c.engine.stop())...)
}
