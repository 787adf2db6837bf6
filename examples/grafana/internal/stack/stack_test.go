package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/compose"
	"github.com/breakwater-go/breakwater/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// shell starts a shell with the given script.
func shell(t *testing.T, script string, out io.Writer) *Process {
	t.Helper()
	p, err := start("shell", "sh", []string{"-c", script}, os.Environ(), t.TempDir(), out, nil)
	require.NoError(t, err)
	return p
}

func TestStopEndsTheWholeGroup(t *testing.T) {
	for name, script := range map[string]string{
		"who ends when asked":              "sleep 1000 & echo $! >&1; wait",
		"children that do not end":         "(trap '' TERM; echo ready >&2; while :; do sleep 1; done) & echo $! >&1; wait",
		"who does not end and is killed":   "trap '' TERM; sleep 1000 & echo $! >&1; while :; do sleep 1; done",
		"who has ended and left a child":   "sleep 1000 & echo $! >&1",
		"who has ended, and left it alone": "(sleep 1000 & echo $! >&1) & sleep 1000",
	} {
		t.Run(name, func(t *testing.T) {
			reader, writer, err := os.Pipe()
			require.NoError(t, err)
			p := shell(t, script, writer)
			line := make([]byte, 32)
			n, err := reader.Read(line)
			require.NoError(t, err)
			require.NoError(t, errors.Join(reader.Close(), writer.Close()))
			child, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
			require.NoError(t, err)

			err = p.stopWithin(500 * time.Millisecond)
			if strings.Contains(script, "trap '' TERM; sleep") {
				require.ErrorContains(t, err, "did not end within 500ms")
			} else {
				require.NoError(t, err)
			}
			// A child that is a zombie of somebody who does not care has ended as well.
			require.Eventually(t, func() bool { return gone(child) }, 5*time.Second, 10*time.Millisecond, "process %d is left", child)
			require.Error(t, p.exited())
		})
	}
}

// gone reports whether a process has ended.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func TestRunTellsWhatWasPrinted(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	err := run(t.Context(), log, "sh", []string{"-c", "echo to the one; echo to the other >&2; exit 3"}, os.Environ(), t.TempDir())
	require.ErrorContains(t, err, "exit status 3")
	require.ErrorContains(t, err, "to the one")
	require.ErrorContains(t, err, "to the other")

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	require.ErrorIs(t, run(ctx, log, "sleep", []string{"1000"}, os.Environ(), t.TempDir()), context.Canceled)
}

func TestProvide(t *testing.T) {
	tools := Tools{Dir: filepath.Join(t.TempDir(), "cache"), Progress: NewProgress(io.Discard)}
	builds, broken := 0, error(nil)
	r := recipe{"x", "1.2.3", []string{"a", "b"}, func(_ context.Context, b builder) error {
		builds++
		require.NoError(t, os.WriteFile(filepath.Join(b.dir, "a"), nil, 0o755))
		if broken == nil {
			require.NoError(t, os.WriteFile(filepath.Join(b.dir, "b"), nil, 0o755))
		}
		return broken
	}}

	broken = errors.New("no space left")
	_, err := tools.build(t.Context(), []recipe{r})
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "x 1.2.3")
	left, err := os.ReadDir(tools.Dir)
	require.NoError(t, err)
	require.Empty(t, left, "what a build that failed left")

	broken = nil
	programs, err := tools.build(t.Context(), []recipe{r})
	require.NoError(t, err)
	require.FileExists(t, programs["a"])
	require.FileExists(t, programs["b"])
	require.Equal(t, 2, builds)

	_, err = tools.build(t.Context(), []recipe{r})
	require.NoError(t, err)
	require.Equal(t, 2, builds, "what is there was built again")

	require.NoError(t, os.Remove(programs["b"]))
	_, err = tools.build(t.Context(), []recipe{r})
	require.NoError(t, err)
	require.Equal(t, 3, builds, "what is missing was not built")

	r.version, r.programs = "1.2.4", []string{"c"}
	_, err = tools.build(t.Context(), []recipe{r})
	require.ErrorContains(t, err, "did not leave c")
}

// TestVersionsAreThoseOfTheImages compares what is built here with what docker-compose.yml
// names.
func TestVersionsAreThoseOfTheImages(t *testing.T) {
	file, err := compose.Read("../../../../docker-compose.yml", Lookup(map[string]string{"GRAFANA_ADMIN_PASSWORD": "x"}))
	require.NoError(t, err)
	for service, version := range map[string]string{
		"alertmanager": "v" + Alertmanager,
		"collector":    Collector,
		"jaeger":       Jaeger,
		"prometheus":   "v" + Prometheus,
	} {
		_, tag, _ := strings.Cut(file.Services[service].Image, ":")
		require.Equal(t, version, tag, "the image of %s", service)
	}
	require.Contains(t, prometheusModule, "v0."+strings.ReplaceAll(strings.TrimSuffix(Prometheus, ".0"), "3.", "3"), "3.15.0 is v0.315.0")
	require.Contains(t, manifest, "otlpreceiver v"+Collector)
	require.Contains(t, manifest, "version: "+Collector)
}

// TestImagesHaveWhatServicesWriteTo compares the images that are made here with the
// services of docker-compose.yml: a volume is owned by who owns the folder it is mounted
// on.
func TestImagesHaveWhatServicesWriteTo(t *testing.T) {
	file, err := compose.Read("../../../../docker-compose.yml", Lookup(map[string]string{"GRAFANA_ADMIN_PASSWORD": "x"}))
	require.NoError(t, err)
	made := images()
	for name, s := range file.Services {
		if outside[name] {
			require.NotContains(t, made, name)
			continue
		}
		require.Contains(t, made, name)
		user, _, _ := strings.Cut(s.User, ":")
		for _, m := range s.Volumes {
			if m.Bind() {
				continue
			}
			owner := "nobody has it"
			for _, f := range made[name].folders {
				if f.path == m.Target {
					owner = strconv.Itoa(f.owner)
				}
			}
			require.Equal(t, user, owner, "%s in the image of %s", m.Target, name)
		}
	}
}

const testFile = `
services:
  store:
    command: [--config.file=/etc/store/store.yml, --path=/store, --web.listen-address=0.0.0.0:9090, --lookback=5m]
    working_dir: /etc/store
    environment: {ADDRESS: "0.0.0.0:9091", OTHER: "http://front:8080/x", TIME: "12:30"}
    volumes:
      - ./store.yml:/etc/store/store.yml:ro
      - ./addresses:/etc/store/addresses:ro
      - store:/store
  front: {}
volumes:
  store:
`

func TestNative(t *testing.T) {
	repository, dir := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{
		"docker-compose.yml":  testFile,
		"store.yml":           "kept: as it is, front:8080 and all\n",
		"addresses/front.url": "http://front:8080/hook\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(repository, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(repository, name), []byte(content), 0o644))
	}
	file, err := compose.Read(filepath.Join(repository, "docker-compose.yml"), Lookup(nil))
	require.NoError(t, err)
	// A program that says how it was started, and goes on until it is stopped.
	program := filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\npwd; for a; do echo \"$a\"; done; env; cat store.yml addresses/front.url; exec sleep 1000\n"), 0o755))

	n := NewNative(dir, file, map[string]string{"store": program})
	require.ErrorContains(t, n.Start(t.Context(), "nobody"), `no service "nobody"`)
	require.NoError(t, n.Start(t.Context(), "store"))
	store, err := n.URL(t.Context(), "store", "9090")
	require.NoError(t, err)
	other, err := n.URL(t.Context(), "store", "9091")
	require.NoError(t, err)
	front, err := n.URL(t.Context(), "front", "8080")
	require.NoError(t, err)
	require.NotEqual(t, store, other)

	root := filepath.Join(dir, "store", "root")
	var out string
	require.Eventually(t, func() bool {
		content, err := os.ReadFile(n.OutputPath("store"))
		out = string(content)
		return err == nil && strings.HasSuffix(out, "/hook\n")
	}, 5*time.Second, 10*time.Millisecond)
	for _, want := range []string{
		root + "/etc/store\n",
		"--config.file=" + root + "/etc/store/store.yml\n",
		"--path=" + root + "/store\n",
		"--web.listen-address=" + strings.TrimPrefix(store, "http://") + "\n",
		"--lookback=5m\n",
		"ADDRESS=" + strings.TrimPrefix(other, "http://") + "\n",
		"OTHER=" + front + "/x\n",
		"TIME=12:30\n",
		"kept: as it is, front:8080 and all\n", // a link to the file itself
		front + "/hook\n",
	} {
		require.Contains(t, out, want)
	}
	require.DirExists(t, filepath.Join(root, "store"))

	// The port is free for the service once it is started, and kept before.
	l, err := net.Listen("tcp", strings.TrimPrefix(store, "http://"))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = net.Listen("tcp", strings.TrimPrefix(front, "http://"))
	require.Error(t, err, "the port of a service that is not started is free for others")

	require.NoError(t, n.Running())
	require.NoError(t, n.Stop("store"))
	require.NoError(t, n.Start(t.Context(), "store"), "a second time")
	require.NoError(t, syscall.Kill(n.running["store"].cmd.Process.Pid, syscall.SIGKILL))
	require.Eventually(t, func() bool { return n.Running() != nil }, 5*time.Second, 10*time.Millisecond)
	require.ErrorContains(t, n.Running(), "store has ended")
	require.NoError(t, n.Close())
	require.NoError(t, n.Close(), "a second time")
}

// tree is a trace of one retried operation with two attempts.
func tree() trace {
	sp := func(id, parent, name, service, kind string, more ...tag) span {
		s := span{ID: id, Operation: name, Process: service, Tags: append(more, tag{"span.kind", kind})}
		if parent != "" {
			s.References = []reference{{"CHILD_OF", parent}}
		}
		return s
	}
	number := func(n int) tag { return tag{"resilience.retry.attempt.number", float64(n)} }
	return trace{
		ID:        "1",
		Processes: map[string]process{"order": {"order"}, "payment": {"payment"}},
		Spans: []span{
			sp("root", "", "POST /orders", "order", "server"),
			sp("op", "root", "retry payment", "order", "internal",
				tag{"resilience.retry.outcome", "success_after_retry"}, tag{"resilience.retry.attempt.count", float64(2)}),
			sp("a1", "op", "attempt payment", "order", "internal", number(1)),
			sp("c1", "a1", "POST /charge", "order", "client"),
			sp("s1", "c1", "payment", "payment", "server"),
			sp("a2", "op", "attempt payment", "order", "internal", number(2)),
			sp("c2", "a2", "POST /charge", "order", "client"),
			sp("s2", "c2", "payment", "payment", "server"),
		},
	}
}

func TestRetried(t *testing.T) {
	text, err := retried(tree())
	require.NoError(t, err)
	require.Contains(t, text, "2 attempts")

	at := func(id string, how func(*span)) func(*trace) {
		return func(tr *trace) {
			for i := range tr.Spans {
				if tr.Spans[i].ID == id {
					how(&tr.Spans[i])
				}
			}
		}
	}
	parent := func(id string) func(*span) {
		return func(s *span) { s.References = []reference{{"CHILD_OF", id}} }
	}
	for name, c := range map[string]struct {
		breaks func(*trace)
		want   string
	}{
		"no operation":                 {at("op", func(s *span) { s.Operation = "retry inventory" }), "not there yet"},
		"an operation of another":      {at("op", func(s *span) { s.Process = "payment" }), "a span of payment"},
		"an attempt elsewhere":         {at("a2", parent("root")), "1 spans below it, and says 2"},
		"attempts in the wrong order":  {at("a1", func(s *span) { s.Start = 1 }), "want attempt 1"},
		"a request beside its attempt": {at("c2", parent("op")), "3 spans below it"},
		"a request of another attempt": {at("c2", parent("a1")), "below attempt 1 are 2 spans"},
		"a request that is no client":  {at("c1", func(s *span) { s.Tags = nil }), "want one of kind client"},
		"a server without its client":  {at("s2", parent("a2")), "below attempt 2 are 2 spans"},
		"a server of another service":  {at("s2", func(s *span) { s.Process = "order" }), "want one of kind server, of payment"},
		"a link that is no parent":     {at("s2", func(s *span) { s.References[0].Type = "FOLLOWS_FROM" }), "request of attempt 2 are 0"},
	} {
		t.Run(name, func(t *testing.T) {
			broken := tree()
			c.breaks(&broken)
			_, err := retried(broken)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// fakePrometheus answers queries for one circuit.
func fakePrometheus(t *testing.T, answers map[string][]sample) prometheus {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var result []map[string]any
		for metric, samples := range answers {
			if !strings.Contains(r.FormValue("query"), metric) {
				continue
			}
			for _, s := range samples {
				result = append(result, map[string]any{"metric": s.labels, "value": []any{0, strconv.FormatFloat(s.value, 'g', -1, 64)}})
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"result": result}})
	}))
	t.Cleanup(func() {
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return prometheus{server.URL}
}

func TestCompare(t *testing.T) {
	by := func(label, value string, n float64) sample { return sample{map[string]string{label: value}, n} }
	const state, outcome, retry = "resilience_circuit_breaker_state", "resilience_circuit_breaker_call_outcome", "resilience_retry_outcome"
	engine := circuit{
		Name: payment, Succeeded: 10, Failed: 5, Ignored: 1, Rejected: 7,
		Time:       map[string]float64{"closed": 20, "open": 10, "half_open": 0},
		Operations: map[string]float64{"success": 8, "success_after_retry": 2, "exhausted": 1},
	}
	there := func() map[string][]sample {
		return map[string][]sample{
			"time_seconds_total":     {by(state, "closed", 19.6), by(state, "open", 10), by(state, "half_open", 0)},
			"calls_total":            {by(outcome, "success", 10), by(outcome, "failure", 5), by(outcome, "ignored", 1), by(outcome, "rejected", 7)},
			"retry_operations_total": {by(retry, "success", 8), by(retry, "success_after_retry", 2), by(retry, "exhausted", 1)},
			"transitions_total":      {{nil, 0}},
		}
	}
	compare := func(engine circuit, there map[string][]sample) error {
		s := Scenario{Pace: Pace{Export: 500 * time.Millisecond}, prometheus: fakePrometheus(t, there)}
		_, err := s.compare(t.Context(), engine)
		return err
	}
	require.NoError(t, compare(engine, there()))

	for metric, c := range map[string]struct {
		off  float64
		want string
	}{
		"time_seconds_total":     {-0.2, "payment was closed for 20.000 s by the engine and 19.400 s"},
		"calls_total":            {-1, "10 successes by the engine and 9"},
		"retry_operations_total": {1, "retried operations by the engine"},
		"transitions_total":      {1, "0 state changes by the engine and 1"},
	} {
		answers := there()
		answers[metric][0].value += c.off
		require.ErrorContains(t, compare(engine, answers), c.want)
	}
	calm := engine
	calm.Time = map[string]float64{"closed": 20}
	require.ErrorContains(t, compare(calm, there()), "the outage left no trace")
}

func TestUntil(t *testing.T) {
	n := 0
	require.NoError(t, until(t.Context(), time.Minute, nil, func() error {
		if n++; n < 3 {
			return errors.New("not yet")
		}
		return nil
	}))
	never := func() error { return errors.New("never") }
	require.ErrorContains(t, until(t.Context(), 0, nil, never), "after 0s: never")
	require.ErrorIs(t, until(t.Context(), time.Minute, func() error { return errEnded }, never), errEnded)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, until(ctx, time.Minute, nil, never), context.Canceled)
}

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	p := NewProgress(&b)
	p.Title("a section")
	p.Say("something")
	p.Done("%d things hold", 3)
	p.Begin("building")()
	require.Regexp(t, `^
 +0\.\ds == a section
 +0\.\ds    something
 +0\.\ds ok 3 things hold
 +0\.\ds    building
 +0\.\ds    building took 0\.\d s
$`, b.String())
}
