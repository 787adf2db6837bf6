package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/script"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
	"github.com/breakwater-go/breakwater/internal/leaktest"
	"github.com/stretchr/testify/require"
)

// asCommand is the environment variable that makes the test binary be the command.
const asCommand = "BREAKWATER_DEMO_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	leaktest.Main(m)
}

// Ctrl-C ends the process in good order: with the summary, and successfully.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no sending of Ctrl-C to another process")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, anyPages...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	begun := false
	for !begun && lines.Scan() {
		begun = strings.Contains(lines.Text(), "── healthy ──")
	}
	require.True(t, begun)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	var rest strings.Builder
	for lines.Scan() {
		rest.WriteString(lines.Text() + "\n")
	}
	require.NoError(t, cmd.Wait())
	require.Contains(t, rest.String(), "stopped early\n")
}

// anyPages has the pages on a port that is free, whoever else runs a demo.
var anyPages = []string{"-web", "127.0.0.1:0"}

// stopped returns a context that is done, so that a demo that gets it ends at once.
func stopped(t *testing.T) context.Context {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	return ctx
}

func TestBadFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		want string // what is said, first
	}{
		{"-duration 1s", "demo: -duration 1s is too short for this script: at least 5s\n"},
		{"-duration 0s", "demo: -duration 0s is not a time to run\n"},
		{"-duration -1m", "demo: -duration -1m0s is not a time to run\n"},
		{"-duration soon", `demo: invalid value "soon" for flag -duration: parse error` + "\n"},
		{"-duration 9s -phases outage=2m", "demo: -duration 9s is too short for this script: at least 10s\n"},
		{"-rate 0", "demo: -rate 0 is not a number of orders a second\n"},
		{"-rate 1", "demo: -rate 1 is too low for a circuit to judge by within its window of 8s: at least 2.5\n"},
		{"-rate 1e9", "demo: -rate 1e+09 is too high: at most 500\n"},
		{"-phases hail=1s", `demo: -phases: there is no phase "hail"; there are healthy, flaky, outage, shaky, slow, surge, storm and recovery` + "\n"},
		{"-phases=", `demo: -phases: "" is not of the form phase=duration` + "\n"},
		{"-scenario hail", `demo: -scenario: there is no scenario "hail"; there are outage, flaky, slow, storm, recovery and all` + "\n"},
		{"-scenario=", `demo: -scenario: there is no scenario ""; there are outage, flaky, slow, storm, recovery and all` + "\n"},
		{"-scenario slow -phases storm=1s", "demo: -scenario slow and -phases storm=1s both say what happens: give one of them\n"},
		{"-speed 0", "demo: -speed 0 is not a speed; 2 is twice as fast\n"},
		{"-speed 13", "demo: -speed 13 is too fast: at most 12\n"},
		{"-speed 2 -duration 30s", "demo: -speed 2 and -duration 30s both say how long it takes: give one of them, or -repeat\n"},
		{"-repeat -duration 0s", "demo: -duration 0s is not a time to run\n"},
		{"-scenario storm -rate 200", "demo: -rate 200 is too high for this script, which comes to 3 times as much: at most 166\n"},
		{"-seed -1", `demo: invalid value "-1" for flag -seed: parse error` + "\n"},
		{"-listen 8080", `demo: -listen: "8080" is not of the form host:port` + "\n"},
		{"-listen-payment 127.0.0.1:", `demo: -listen-payment: "" is not a port, which is a number from 0 to 65535` + "\n"},
		{"-listen-shipping 127.0.0.1:65536", `demo: -listen-shipping: "65536" is not a port, which is a number from 0 to 65535` + "\n"},
		{"-web 8080", `demo: -web: "8080" is not of the form host:port` + "\n"},
		{"-web :http", `demo: -web: "http" is not a port, which is a number from 0 to 65535` + "\n"},
		{"-nonsense", "demo: flag provided but not defined: -nonsense\n"},
		{"outage", `demo: "outage" is not a flag` + "\n"},
	} {
		t.Run(c.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, exitUsage, run(stopped(t), strings.Fields(c.args), &stdout, &stderr))
			require.Empty(t, stdout.String())
			require.Equal(t, c.want+"The flag -h explains all flags.\n", stderr.String())
		})
	}
}

func TestHelp(t *testing.T) {
	for _, flag := range []string{"-h", "-help", "--help"} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitOK, run(t.Context(), []string{flag}, &stdout, &stderr))
		require.Empty(t, stderr.String())
		for _, name := range []string{
			"scenario", "duration", "speed", "repeat", "rate", "phases", "seed", "v", "plain", "json",
			"web", "listen", "listen-inventory", "listen-payment", "listen-shipping",
		} {
			require.Contains(t, stdout.String(), "\n  -"+name)
		}
		require.True(t, strings.HasPrefix(stdout.String(), "Usage: make demo"))
	}
}

func TestDefaults(t *testing.T) {
	o, err := parse(nil, io.Discard)
	require.NoError(t, err)
	require.Equal(t, script.Outage(), o.Script)
	require.Zero(t, o.Duration, "as long as the script")
	require.False(t, o.json)
	require.False(t, o.EveryEvent)
	require.Equal(t, "127.0.0.1:8765", o.Web)
	require.Len(t, o.Listen, 4)
	for service, address := range o.Listen {
		require.Equal(t, "127.0.0.1:0", address, service)
	}
}

func TestFlags(t *testing.T) {
	o, err := parse(strings.Fields("-duration 2m -rate 100 -seed 9 -v -json -phases healthy=10s,outage=20s -listen-payment localhost:0"), io.Discard)
	require.NoError(t, err)
	require.Equal(t, 2*time.Minute, o.Duration)
	require.InDelta(t, 100, o.Rate, 0)
	require.Equal(t, uint64(9), o.Seed)
	require.True(t, o.EveryEvent)
	require.True(t, o.json)
	require.Len(t, o.Script, 2)
	require.Equal(t, "localhost:0", o.Listen[shop.Payment])
}

func TestScenarioFlags(t *testing.T) {
	o, err := parse(strings.Fields("-scenario storm -speed 2 -repeat"), io.Discard)
	require.NoError(t, err)
	storm, err := script.Find("storm")
	require.NoError(t, err)
	require.Equal(t, storm.Script, o.Script)
	require.InDelta(t, 2, o.Speed, 0)
	require.True(t, o.Repeat)
}

func TestStoppedAtOnce(t *testing.T) {
	var stdout, stderr bytes.Buffer
	// A name that has to be looked up, which takes a context.
	require.Equal(t, exitOK, run(stopped(t), append(anyPages, "-listen", "localhost:0"), &stdout, &stderr))
	require.Empty(t, stderr.String())
	require.Contains(t, stdout.String(), "Breakwater demo: ")
	require.Contains(t, stdout.String(), "stopped early")
	require.Contains(t, stdout.String(), "No order was sent.")
	require.NotContains(t, stdout.String(), "\x1b", "this is not a terminal")
}

func TestJSON(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitOK, run(ctx, append(anyPages, "-json", "-seed", "5"), &stdout, &stderr))
	var summary struct {
		Early    bool   `json:"stopped_early"`
		Seed     uint64 `json:"seed"`
		Circuits []struct {
			Name  string `json:"name"`
			Calls int    `json:"calls"`
		} `json:"circuits"`
	}
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &summary), "standard output is one object and nothing else")
	require.True(t, summary.Early)
	require.Equal(t, uint64(5), summary.Seed)
	require.Len(t, summary.Circuits, 3)
	require.Positive(t, summary.Circuits[0].Calls)
	require.Contains(t, stderr.String(), "── healthy ──", "the log is on standard error")
}

func TestPortTaken(t *testing.T) {
	for _, flag := range []string{"web", "listen", "listen-inventory", "listen-payment", "listen-shipping"} {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitFailed, run(t.Context(), append(slices.Clone(anyPages), "-"+flag, taken.Addr().String()), &stdout, &stderr))
		require.Empty(t, stdout.String())
		require.Contains(t, stderr.String(), "cannot listen on "+taken.Addr().String()+": the port is taken\n")
		require.Contains(t, stderr.String(), "-"+flag+" host:port")
		require.NoError(t, taken.Close())
	}
}

func TestAddressThatIsNotOurs(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitFailed, run(t.Context(), append(anyPages, "-listen", "192.0.2.1:0"), &stdout, &stderr))
	require.Contains(t, stderr.String(), "demo: order cannot listen on 192.0.2.1:0: ")
	require.Contains(t, stderr.String(), "-listen host:port")
}

type broken struct{}

var errBroken = errors.New("no space left")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestOutputThatCannotBeWritten(t *testing.T) {
	var stderr bytes.Buffer
	require.Equal(t, exitFailed, run(stopped(t), anyPages, broken{}, &stderr))
	require.Contains(t, stderr.String(), "no space left")
}

func TestNoScreenWithoutATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	require.Nil(t, screenOn(new(bytes.Buffer)))
	// A character device, but no terminal.
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, device.Close()) }()
	require.Nil(t, screenOn(device))
}

func TestColourful(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	require.False(t, colourful(new(bytes.Buffer)))
	file, err := os.Create(t.TempDir() + "/out")
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	require.False(t, colourful(file))

	// The one character device that is there in every environment.
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, device.Close()) }()
	require.True(t, colourful(device))
	t.Setenv("TERM", "dumb")
	require.False(t, colourful(device))
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	require.False(t, colourful(device))
}
