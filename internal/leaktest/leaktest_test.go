package leaktest

import (
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// child names the test that a copy of this test binary is to run as its only one.
// The copy leaks, or not, on purpose; what its Main makes of that is what is tested.
const child = "LEAKTEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(child) {
	case "": // a broken Main must not be the judge of itself
		os.Exit(m.Run())
	case "TestChildInheritsAGoroutine":
		go block() // there before Main is called
	}
	Main(m)
}

func block() { select {} }

func TestChildLeaks(t *testing.T) {
	inChild(t)
	go block()
}

func TestChildLeaksInASubtest(t *testing.T) {
	inChild(t)
	t.Run("sub", func(t *testing.T) {
		t.Cleanup(func() { time.AfterFunc(0, block) })
	})
}

func TestChildIsTidy(t *testing.T) {
	inChild(t)
	done := make(chan struct{})
	go close(done)
	<-done
}

func TestChildIsTidyAfterAWhile(t *testing.T) {
	inChild(t)
	go time.Sleep(100 * time.Millisecond)
}

func TestChildInheritsAGoroutine(t *testing.T) {
	inChild(t)
}

func TestChildIsNotifiedOfSignals(t *testing.T) {
	inChild(t)
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt) // which starts a goroutine that never ends
	signal.Stop(c)
}

func TestChildFails(t *testing.T) {
	inChild(t)
	go block()
	t.Error("failed on purpose")
}

// inChild skips the test unless this process was started to run it.
func inChild(t *testing.T) {
	t.Helper()
	if os.Getenv(child) != t.Name() {
		t.Skip("runs in a process of its own")
	}
}

func TestMainFailsOnALeakOnly(t *testing.T) {
	for _, tt := range []struct {
		test string
		code int
		says string // "" means that leaktest is to be silent
	}{
		{"TestChildLeaks", 1, "1 goroutine(s) left behind"},
		{"TestChildLeaksInASubtest", 1, "1 goroutine(s) left behind"},
		{"TestChildIsTidy", 0, ""},
		{"TestChildIsTidyAfterAWhile", 0, ""},
		{"TestChildInheritsAGoroutine", 0, ""},
		{"TestChildIsNotifiedOfSignals", 0, ""},
		{"TestChildFails", 1, ""},
	} {
		t.Run(tt.test, func(t *testing.T) {
			t.Parallel()
			self, err := os.Executable()
			require.NoError(t, err)
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+tt.test+"$", "-test.v")
			cmd.Env = append(os.Environ(), child+"="+tt.test)
			out, _ := cmd.CombinedOutput() // its error is the exit code, judged below
			require.NotNil(t, cmd.ProcessState, "the child did not run")
			require.Equal(t, tt.code, cmd.ProcessState.ExitCode(), "%s", out)
			require.Contains(t, string(out), "=== RUN   "+tt.test)
			require.NotContains(t, string(out), "--- SKIP")
			if tt.says == "" {
				require.NotContains(t, string(out), "leaktest:")
				return
			}
			require.Contains(t, string(out), tt.says)
			require.Contains(t, string(out), "leaktest.block", "the leaked stack is shown")
		})
	}
}

func TestForeignGoroutines(t *testing.T) {
	for _, tt := range []struct {
		creator string
		want    bool
	}{
		{"testing.(*T).Run in goroutine 1", true},
		{"internal/fuzz.(*workerServer).serve in goroutine 1", true},
		{"runtime.gcenable in goroutine 1", true},
		{"runtime/trace.Start in goroutine 1", true},
		{"os/signal.Notify.func1.1 in goroutine 8", true},
		{"time.goFunc", false},
		{"net/http.(*Transport).dialConn in goroutine 9", false},
		{"example.com/testing.Start in goroutine 9", false},
		{"", false},
	} {
		g := goroutine{stack: "goroutine 7 [select (no cases)]:\nmain.block()\n\t/src/main.go:3"}
		if tt.creator != "" {
			g.stack += "\ncreated by " + tt.creator + "\n\t/src/main.go:9"
		}
		require.Equal(t, tt.want, g.foreign(), "created by %q", tt.creator)
	}
}

func TestGoroutinesSeesAllOfThem(t *testing.T) {
	const n = 500 // more text than the first buffer holds
	var started sync.WaitGroup
	started.Add(n)
	stop := make(chan struct{})
	defer close(stop)
	for range n {
		go func() {
			started.Done()
			<-stop
		}()
	}
	started.Wait()

	all, ids, found := goroutines(), map[string]bool{}, 0
	for _, g := range all {
		ids[g.id] = true
		if strings.Contains(g.stack, "TestGoroutinesSeesAllOfThem.func") {
			found++
		}
	}
	require.Len(t, ids, len(all), "each has an id of its own")
	require.Equal(t, n, found)
}
