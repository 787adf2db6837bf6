// Command grafana shows circuit breakers and retries at work: a small order system
// with real HTTP between its services, a load on it, and an outage. It prints what
// happens as it does, and what it came to in the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/demo"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/report"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/script"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		// The first signal ends the demo in good order, the second one at once.
		<-signals
		stop()
		<-signals
		for _, f := range []*os.File{os.Stdout, os.Stderr} {
			if term.IsTerminal(int(f.Fd())) {
				_, _ = f.WriteString(report.ShowCursor + "\n") // it is no matter if that fails
			}
		}
		os.Exit(exitKilled)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The codes that run returns.
const (
	exitOK     = 0
	exitFailed = 1 // it could not run, as when a port is taken
	exitUsage  = 2 // it was told something that cannot work
	exitKilled = 130
)

// run is the command but for the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		complain(stderr, "%v\nThe flag -h explains all flags.", err)
		return exitUsage
	}
	o.Log = stdout
	if o.json {
		o.Log = stderr
	}
	o.Colour = colourful(o.Log)
	if !o.plain && !o.EveryEvent {
		if o.Screen = screenOn(o.Log); o.Screen != nil {
			o.Log = o.Screen
		}
	}
	o.Environment = true
	summary, err := demo.Run(ctx, o.Config)
	if summary != nil {
		write := summary.WriteJSON
		if !o.json {
			write = func(w io.Writer) error { return summary.WriteText(w, o.Colour, columnsOf(stdout)) }
		}
		if werr := write(stdout); err == nil {
			err = werr
		}
	}
	if err != nil {
		complain(stderr, "%s", explain(err))
		return exitFailed
	}
	return exitOK
}

func complain(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, "demo: "+format+"\n", args...) // there is nobody else to tell
}

// explain names the flag that helps, if there is one.
func explain(err error) string {
	listen, ok := errors.AsType[*shop.ListenError](err)
	if !ok {
		return err.Error()
	}
	why := listen.Err.Error()
	if errors.Is(err, syscall.EADDRINUSE) {
		why = "the port is taken"
	}
	who := listen.Service
	if who == demo.Web {
		who = "the server of the pages"
	}
	return fmt.Sprintf("%s cannot listen on %s: %s\nChoose another address with -%s host:port; port 0 means any that is free.",
		who, listen.Address, why, listenFlag(listen.Service))
}

// colourful reports whether w is a terminal whose user does not mind colour.
func colourful(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// screenOn returns a screen for a live summary, nil if w is not a terminal that can
// draw one. (Consoles of Windows can in its Terminal.)
func screenOn(w io.Writer) *report.Screen {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) ||
		runtime.GOOS == "windows" && os.Getenv("WT_SESSION") == "" {
		return nil
	}
	return report.NewScreen(f, func() (columns, rows int) {
		columns, rows, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 0, 0 // a usual size will do
		}
		return columns, rows
	})
}

// columnsOf returns how wide w is, 0 if it is not a terminal.
func columnsOf(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return columns
}

// options is what the flags say.
type options struct {
	demo.Config
	json  bool
	plain bool
}

// listenFlag returns the name of the flag with the address of a service, or of the
// pages.
func listenFlag(service string) string {
	switch service {
	case demo.Web:
		return "web"
	case shop.Order:
		return "listen"
	default:
		return "listen-" + service
	}
}

// pagesAddress is where the pages are unless a flag says otherwise: always in the same
// place, so that a browser finds them again.
const pagesAddress = "127.0.0.1:8765"

const usage = `Usage: make demo ARGS="flags", or in examples/grafana: go run . [flags]

Runs an order system with a circuit breaker and a retry around every call, makes its
services fail, and prints what happens.

`

// scenarios explains the flag of that name.
func scenarios() string {
	var b strings.Builder
	b.WriteString("what happens, by `name` (default outage):")
	for _, s := range script.Scenarios() {
		fmt.Fprintf(&b, "\n%-9s %s", s.Name, s.Text)
	}
	return b.String()
}

// parse reads the flags. If they ask for help, it is written to help, and the error
// is flag.ErrHelp.
func parse(args []string, help io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are reported once, by run
	flags.Usage = func() {}
	scenario := flags.String("scenario", "", scenarios())
	phases := flags.String("phases", "", "`list` of what happens instead, such as healthy=5s,outage=20s,recovery=15s;\nthe phases are "+script.Names())
	flags.DurationVar(&o.Duration, "duration", 0, "how long to run: stretches or compresses the script and the\ncircuits' windows (default as long as the script, 1m for most)")
	flags.Float64Var(&o.Speed, "speed", 0, "how many times faster, instead of a duration: 2 takes half as long (default 1)")
	flags.BoolVar(&o.Repeat, "repeat", false, "play the script again and again until stopped, or for the duration,\nwhich then does not stretch it")
	flags.Float64Var(&o.Rate, "rate", 40, "orders a second")
	flags.Uint64Var(&o.Seed, "seed", 1, "decides which requests fail while a service is failing")
	flags.BoolVar(&o.EveryEvent, "v", false, "print every event, hundreds a second")
	flags.BoolVar(&o.plain, "plain", false, "print plain lines also on a terminal, where a summary is redrawn in place")
	flags.BoolVar(&o.json, "json", false, "print the closing summary as JSON, and the log on standard error")
	flags.StringVar(&o.Web, listenFlag(demo.Web), pagesAddress, "`host:port` of the pages; port 0 means any that is free")
	addresses := make(map[string]*string)
	for _, service := range shop.Services() {
		addresses[service] = flags.String(listenFlag(service), shop.AnyPort, "`host:port` of the "+service+" service; port 0 means any that is free")
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			var b strings.Builder
			b.WriteString(usage)
			flags.SetOutput(&b)
			flags.PrintDefaults()
			if _, err := io.WriteString(help, b.String()); err != nil {
				return o, err
			}
		}
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is not a flag", flags.Arg(0))
	}
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var err error
	switch {
	case given["scenario"] && given["phases"]:
		return o, fmt.Errorf("-scenario %s and -phases %s both say what happens: give one of them", *scenario, *phases)
	case given["phases"]:
		if o.Script, err = script.Parse(*phases); err != nil {
			return o, fmt.Errorf("-phases: %w", err)
		}
	case given["scenario"]:
		found, err := script.Find(*scenario)
		if err != nil {
			return o, fmt.Errorf("-scenario: %w", err)
		}
		o.Script = found.Script
	default:
		o.Script = script.Outage()
	}
	if given["duration"] && o.Duration <= 0 {
		return o, fmt.Errorf("-duration %v is not a time to run", o.Duration)
	}
	if given["speed"] && o.Speed == 0 {
		return o, fmt.Errorf("-speed 0 is not a speed; 2 is twice as fast")
	}
	o.Listen = make(map[string]string)
	for _, service := range shop.Services() {
		address := *addresses[service]
		if err := checkAddress(address); err != nil {
			return o, fmt.Errorf("-%s: %w", listenFlag(service), err)
		}
		o.Listen[service] = address
	}
	if err := checkAddress(o.Web); err != nil {
		return o, fmt.Errorf("-%s: %w", listenFlag(demo.Web), err)
	}
	return o, o.Validate()
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not of the form host:port", address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is not a port, which is a number from 0 to 65535", port)
	}
	return nil
}
