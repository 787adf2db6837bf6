package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Process is a program that was started, together with all that it has started: they
// are a process group of their own, so that they end together, and a Ctrl-C on the
// terminal reaches none of them before we have decided in which order they end.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // why it ended; read after done
}

// start starts a program whose output goes to out and errs. It does not end with ctx:
// who starts it stops it.
func start(name, program string, args, env []string, dir string, out, errs io.Writer) (*Process, error) {
	p := &Process{name: name, cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = dir, env, out, errs
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// exited returns an error if the program has ended.
func (p *Process) exited() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended: %w", p.name, errors.Join(p.err, errEnded))
	default:
		return nil
	}
}

var errEnded = errors.New("it should be running")

// patience is how long a program gets to end by itself.
const patience = 15 * time.Second

// stop asks the program to end, and ends it and all of its group when it does not. It
// returns an error if it had to be ended or something of it is left.
func (p *Process) stop() error { return p.stopWithin(patience) }

func (p *Process) stopWithin(patience time.Duration) error {
	group := -p.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM) // gone already is as good
	var err error
	select {
	case <-p.done:
	case <-time.After(patience):
		err = fmt.Errorf("%s did not end within %v and was killed", p.name, patience)
	}
	// Children may outlive it.
	_ = syscall.Kill(group, syscall.SIGKILL)
	<-p.done
	for range 250 { // who takes care of orphans may take a moment
		if errors.Is(syscall.Kill(group, 0), syscall.ESRCH) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.Join(err, fmt.Errorf("%s: something of process group %d is left", p.name, -group))
}

// run runs a program to its end, or that of ctx: then it and its children are stopped.
// What it prints is written to log as well. An error ends with the last lines of it.
func run(ctx context.Context, log, program string, args, env []string, dir string) error {
	_, err := output(ctx, log, program, args, env, dir)
	return err
}

// output is run that returns what the program printed on standard output.
func output(ctx context.Context, log, program string, args, env []string, dir string) (string, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // a log
	_, _ = fmt.Fprintf(f, "$ %s %s\n", program, strings.Join(args, " "))
	var out strings.Builder
	p, err := start(filepath.Base(program), program, args, env, dir, io.MultiWriter(f, &out), f)
	if err != nil {
		return "", err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), p.stop())
	}
	if p.err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), p.err, tail(log, 30))
	}
	return out.String(), nil
}

// tail returns the last lines of a file, indented.
func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return "    " + strings.Join(all[max(0, len(all)-lines):], "\n    ")
}
