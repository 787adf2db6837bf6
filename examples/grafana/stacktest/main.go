// Command stacktest runs the stack of docker-compose.yml for about a minute, with an
// outage in it, and checks that what the demo's circuits and retries did arrives where
// it should: counters in Prometheus, spans in Jaeger, alerts at a webhook.
//
// The programs of the stack are built from source and kept. They run as processes of
// their own on 127.0.0.1 with the repository's configuration, or with -compose in
// containers, and have ended when stacktest ends.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/stack"
)

func main() {
	// One of the metrics' senders is in this process, and the collector is stopped on
	// purpose.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const usage = `Usage: make stack-test ARGS="flags", or in examples/grafana: go run ./stacktest [flags]

Builds the programs of the stack, starts them without containers, plays an outage, and
checks what arrives in Prometheus, Jaeger and Alertmanager.

`

// run is the command but for the process around it. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("stacktest", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = io.WriteString(stderr, usage) // there is nobody else to tell
		flags.PrintDefaults()
	}
	var o options
	cache, cacheErr := stack.DefaultCache()
	flags.StringVar(&o.cache, "cache", cache, "`folder` in which the programs are kept once they are built")
	flags.StringVar(&o.work, "work", "", "`folder` for data and logs, kept if given (default a temporary one, kept after a failure)")
	flags.BoolVar(&o.real, "real", false, "at the pace of production, with the rules as they are: half an hour")
	flags.BoolVar(&o.compose, "compose", false, "run the stack with docker compose, in an engine that is started for it; needs root")
	flags.StringVar(&o.demo, "demo", "", "the demo's `program` (default: it is built)")
	flags.BoolVar(&o.inside, "inside", false, "with -compose: the namespaces are made already")
	flags.BoolVar(&o.buildOnly, "build", false, "build the programs and check the configuration, and run nothing")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		_, _ = fmt.Fprintf(stderr, "stacktest: %q is not a flag\n", flags.Arg(0))
		return 2
	case o.cache == "":
		_, _ = fmt.Fprintf(stderr, "stacktest: %v\n", cmp.Or(cacheErr, errors.New("-cache is empty, want a folder")))
		return 2
	}
	progress := stack.NewProgress(stdout)
	if err := test(ctx, o, progress); err != nil {
		_, _ = fmt.Fprintf(stderr, "\nstacktest: FAILED after %.1f s: %v\n", progress.Elapsed().Seconds(), err)
		return 1
	}
	progress.Title("all of it holds")
	return 0
}

// options is what the flags say.
type options struct {
	cache, work, demo                string
	real, compose, inside, buildOnly bool
}

func test(ctx context.Context, o options, progress *stack.Progress) (err error) {
	repository, err := findRepository()
	if err != nil {
		return err
	}
	if o.compose {
		if err := stack.NoEngine(); err != nil {
			progress.Say("************************************************************************")
			progress.Say("*** NOT RUN: the stack in containers. %v.", err)
			progress.Say("*** make stack-test runs the same stack without containers.")
			progress.Say("************************************************************************")
			return nil
		}
	}
	temporary := o.work == ""
	if temporary {
		if o.work, err = os.MkdirTemp("", "stacktest-"); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(o.work)
			} else {
				progress.Say("data and logs are in %s", o.work)
			}
		}()
	}
	if o.work, err = filepath.Abs(o.work); err != nil {
		return err
	}
	if err := os.MkdirAll(o.work, 0o755); err != nil {
		return err
	}
	composeFile := filepath.Join(repository, "docker-compose.yml")
	programs, err := build(ctx, o, repository, progress)
	if err != nil {
		return err
	}
	if o.inside {
		return play(ctx, o, composeFile, programs, progress)
	}
	progress.Title("configuration")
	if err := stack.Validate(ctx, progress, filepath.Join(o.work, "validate"), composeFile, programs); err != nil || o.buildOnly {
		return err
	}
	if !o.compose {
		return play(ctx, o, composeFile, programs, progress)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return stack.Isolated(ctx, self, "-compose", "-inside", fmt.Sprintf("-real=%t", o.real),
		"-cache="+o.cache, "-work="+o.work, "-demo="+programs["demo"])
}

// build returns the paths of all programs.
func build(ctx context.Context, o options, repository string, progress *stack.Progress) (map[string]string, error) {
	progress.Title("programs, kept in %s", o.cache)
	tools := stack.Tools{Dir: o.cache, Progress: progress}
	programs, err := tools.Build(ctx)
	if err != nil {
		return nil, err
	}
	if o.compose {
		if programs["docker-compose"], err = tools.BuildCompose(ctx); err != nil {
			return nil, err
		}
	}
	programs["demo"] = o.demo
	if o.demo == "" {
		programs["demo"] = filepath.Join(o.work, "demo")
		err = stack.BuildDemo(ctx, progress, filepath.Join(repository, "examples", "grafana"), programs["demo"], o.compose)
	}
	return programs, err
}

// play runs the stack.
func play(ctx context.Context, o options, composeFile string, programs map[string]string, progress *stack.Progress) error {
	var (
		dir        = filepath.Join(o.work, "stack")
		pace       = stack.Quick
		deployment stack.Deployment
		err        error
	)
	if o.real {
		pace = stack.Real
	}
	if o.compose {
		deployment, err = stack.NewContainers(dir, composeFile, programs, pace)
	} else {
		deployment, err = stack.NewPlain(dir, composeFile, programs, pace)
	}
	if err != nil {
		return err
	}
	began := time.Now()
	s := stack.Scenario{Stack: deployment, Pace: pace, Progress: progress}
	if err := s.Play(ctx); err != nil {
		return err
	}
	progress.Done("the run took %.0f s", time.Since(began).Seconds())
	return nil
}

// findRepository returns the root of the repository, which the working directory is in.
func findRepository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "docker-compose.yml")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("run it in the repository: there is no docker-compose.yml above the working directory")
		}
		dir = parent
	}
}
