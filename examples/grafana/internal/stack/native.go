package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/compose"
)

// Native runs the services of a compose file as plain processes: the command, the
// environment and the files of each are those of the file. A service has a folder that
// stands for the root of its container. Mounts are links in it, so that programs read
// the very files of the repository.
//
// What cannot be the same is replaced: paths in commands are put below that folder, and
// addresses (0.0.0.0:9090 in the service prometheus, prometheus:9090 elsewhere) become
// free ports of 127.0.0.1. The files that hold nothing but addresses, in the folder
// addresses, are copied with the same replacement.
type Native struct {
	dir      string            // all that it writes
	programs map[string]string // by service
	file     *compose.File

	addresses map[string]net.Listener // by service and port: kept from others until the service starts
	at        map[string]string       // what their addresses are, by service and port
	running   map[string]*Process
	logs      map[string]*os.File
}

// NewNative returns one that writes into dir only.
func NewNative(dir string, file *compose.File, programs map[string]string) *Native {
	return &Native{
		dir:       dir,
		programs:  programs,
		file:      file,
		addresses: make(map[string]net.Listener),
		at:        make(map[string]string),
		running:   make(map[string]*Process),
		logs:      make(map[string]*os.File),
	}
}

// address returns where a port of a service is, host:port.
func (n *Native) address(ctx context.Context, service, port string) (string, error) {
	key := service + ":" + port
	if at, known := n.at[key]; known {
		return at, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	n.addresses[key], n.at[key] = l, l.Addr().String()
	return n.at[key], nil
}

// URL returns where a port of a service is.
func (n *Native) URL(ctx context.Context, service, port string) (string, error) {
	at, err := n.address(ctx, service, port)
	return "http://" + at, err
}

var hostPort = regexp.MustCompile(`([a-z0-9.]+):([0-9]{2,5})\b`)

// translate replaces the addresses in a text of the given service.
func (n *Native) translate(ctx context.Context, service, text string) (string, error) {
	var errs []error
	text = hostPort.ReplaceAllStringFunc(text, func(found string) string {
		host, port, _ := strings.Cut(found, ":")
		switch _, other := n.file.Services[host]; {
		case host == "0.0.0.0" || host == "127.0.0.1":
			host = service
		case !other:
			return found
		}
		at, err := n.address(ctx, host, port)
		errs = append(errs, err)
		return at
	})
	return text, errors.Join(errs...)
}

// root returns the folder that stands for the root of a service's container.
func (n *Native) root(service string) string { return filepath.Join(n.dir, service, "root") }

// LogPath returns where the output of a service is.
func (n *Native) LogPath(service string) string { return filepath.Join(n.dir, service, "log") }

// OutputPath returns where the standard output of a service is.
func (n *Native) OutputPath(service string) string { return filepath.Join(n.dir, service, "out") }

// Start starts a service.
func (n *Native) Start(ctx context.Context, service string) error {
	s, known := n.file.Services[service]
	if !known {
		return fmt.Errorf("there is no service %q", service)
	}
	if err := n.mount(ctx, service, s); err != nil {
		return fmt.Errorf("%s: %w", service, err)
	}
	var args []string
	for _, arg := range s.Command {
		arg, err := n.translate(ctx, service, n.below(service, s, arg))
		if err != nil {
			return fmt.Errorf("%s: %w", service, err)
		}
		args = append(args, arg)
	}
	// Of the environment of this process, only what a process cannot do without, and the
	// mark by which .ci/run knows what it has started.
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + n.root(service), "TMPDIR=" + filepath.Join(n.root(service), "tmp")}
	if mark, found := os.LookupEnv("BREAKWATER_CI_RUN"); found {
		env = append(env, "BREAKWATER_CI_RUN="+mark)
	}
	for name, value := range s.Environment {
		value, err := n.translate(ctx, service, value)
		if err != nil {
			return fmt.Errorf("%s: %w", service, err)
		}
		env = append(env, name+"="+value)
	}
	return n.launch(service, args, env, filepath.Join(n.root(service), s.WorkingDir))
}

func (n *Native) launch(service string, args, env []string, dir string) error {
	log, err := os.OpenFile(n.LogPath(service), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(n.OutputPath(service), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return errors.Join(err, log.Close())
	}
	for key, l := range n.addresses {
		if strings.HasPrefix(key, service+":") {
			delete(n.addresses, key)
			err = errors.Join(err, l.Close())
		}
	}
	p, startErr := start(service, n.programs[service], args, env, dir, out, log)
	// The process has descriptors of its own.
	if err := errors.Join(err, startErr, log.Close(), out.Close()); err != nil {
		return err
	}
	n.running[service] = p
	return nil
}

// mount makes the folder of a service.
func (n *Native) mount(ctx context.Context, service string, s compose.Service) error {
	root := n.root(service)
	if err := os.MkdirAll(filepath.Join(root, "tmp"), 0o755); err != nil {
		return err
	}
	for _, m := range s.Volumes {
		target := filepath.Join(root, m.Target)
		if !m.Bind() {
			if err := os.MkdirAll(target, 0o755); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		source, err := filepath.Abs(n.file.Path(m.Source))
		if err != nil {
			return err
		}
		if filepath.Base(source) == "addresses" {
			err = n.copyAddresses(ctx, service, source, target)
		} else if err = os.Symlink(source, target); errors.Is(err, os.ErrExist) {
			err = nil // it was started before
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (n *Native) copyAddresses(ctx context.Context, service, source, target string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	files, err := os.ReadDir(source)
	if err != nil {
		return err
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(source, f.Name()))
		if err != nil {
			return err
		}
		text, err := n.translate(ctx, service, string(content))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(target, f.Name()), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// below puts the paths in an argument below the root of the service.
func (n *Native) below(service string, s compose.Service, arg string) string {
	for _, m := range s.Volumes {
		before, after, found := strings.Cut(arg, "="+m.Target)
		if found && (after == "" || after[0] == '/') {
			return before + "=" + filepath.Join(n.root(service), m.Target) + after
		}
	}
	return arg
}

// Running returns an error if a service that was started and not stopped has ended.
func (n *Native) Running() error {
	for service, p := range n.running {
		if err := p.exited(); err != nil {
			return fmt.Errorf("%w\n%s", err, tail(n.LogPath(service), 20))
		}
	}
	return nil
}

// Stop stops a service.
func (n *Native) Stop(service string) error {
	p := n.running[service]
	if p == nil {
		return nil
	}
	delete(n.running, service)
	return p.stop()
}

// Close stops what is running, whoever sends before who receives. Nothing of it is left
// when it returns nil.
func (n *Native) Close() error {
	var errs []error
	for _, service := range []string{"demo", "collector", "prometheus", "alertmanager", "jaeger"} {
		errs = append(errs, n.Stop(service))
	}
	for service := range n.running {
		errs = append(errs, n.Stop(service))
	}
	for key, l := range n.addresses {
		delete(n.addresses, key)
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// Ready waits until a page of a service answers.
func (n *Native) Ready(ctx context.Context, service, port, path string) error {
	url, err := n.URL(ctx, service, port)
	if err != nil {
		return err
	}
	err = until(ctx, 30*time.Second, n.Running, func() error { return get(ctx, url+path, nil) })
	if err != nil {
		return fmt.Errorf("%s is not ready: %w", service, err)
	}
	return nil
}
