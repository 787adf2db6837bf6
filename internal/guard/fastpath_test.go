package guard

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The fast path of the engine: what a call goes through that succeeds or fails in a
// busy breaker with nobody listening, and a retry's attempts that need no wait. Each
// function may call what is listed here, and has at most so many instructions and bytes
// on the stack: a tenth more than when this was written. That shows what timing on a shared machine
// would not: one more call, a lock, a clock reading, an allocation, a structure that
// grew. Who means such a change writes it down here, and its price in the commit.
var fastPath = map[string]struct {
	calls []string
	most  size // on amd64, by the compiler below
}{
	"(*CircuitBreaker).Execute": {
		calls: []string{"(*CircuitBreaker).protect"},
		most:  size{32, 56}, // inlined, and so nowhere in a program
	},
	"(*CircuitBreaker).Run": {
		calls: []string{"(*CircuitBreaker).protect"},
		most:  size{32, 56},
	},
	"(*CircuitBreaker).protect": {
		calls: []string{
			"(*CircuitBreaker).outcome",                              // of a failure
			"(*CircuitBreaker).onlyCounted", "(*CircuitBreaker).run", // with somebody listening, or not closed
		},
		most: size{139, 176},
	},
	"(*CircuitBreaker).protect.func1": {
		calls: []string{
			"(*plainCall).count", "(*plainCall).reconsider", // rarely
			"(*SlidingWindow).spread", "sync.(*Pool).Get", "sync.(*Pool).Put", // between processors
		},
		most: size{94, 72},
	},
	"(*work).run": { // with Execute inlined
		calls: []string{"(*CircuitBreaker).protect", "withAttempt"},
		most:  size{70, 56},
	},
	"(*stripes).add": {
		calls: []string{"sync.(*Pool).Get", "sync.(*Pool).Put"},
		most:  size{34, 40},
	},
	"(*CircuitBreaker).outcome": {
		calls: []string{"gaveUp", "runtime.interfaceSwitch", "isIgnored"},
		most:  size{100, 88},
	},
	"(*Retrier).Execute": {
		calls: []string{"(*Retrier).goOn", "retry", "runtime.interfaceSwitch"},
		most:  size{194, 160},
	},
	"Retry": {
		calls: []string{"goOn", "retry"},
		most:  size{104, 80},
	},
	"goOn": {
		calls: []string{"(*work).run", "runtime.interfaceSwitch", "(*retrying).goOn"},
		most:  size{266, 688},
	},
}

const compiler = "go1.26"

type size struct{ instructions, frame int }

// everywhere are the beginnings of what the compiler makes any function call.
var everywhere = []string{"runtime.morestack", "runtime.deferreturn", "runtime.gopanic", "runtime.panic", "runtime.gcWriteBarrier"}

func TestTheFastPathStaysShort(t *testing.T) {
	functions := compiled(t, "resilience")
	for name, want := range fastPath {
		f := functions[name]
		if f == nil {
			t.Errorf("resilience.%s is gone: is there a fast path still?", name)
			continue
		}
		t.Logf("%s: %+v", name, f.size)
		for called := range f.calls {
			begins := func(with string) bool { return strings.HasPrefix(called, with) }
			if !slices.Contains(want.calls, called) && !slices.ContainsFunc(everywhere, begins) {
				t.Errorf("resilience.%s calls %s", name, called)
			}
		}
		for _, called := range want.calls {
			if !f.calls[called] {
				t.Errorf("resilience.%s does not call %s any more: take it from the list", name, called)
			}
		}
		if runtime.GOARCH == "amd64" && strings.HasPrefix(runtime.Version(), compiler) &&
			(f.instructions > want.most.instructions || f.frame > want.most.frame) {
			t.Errorf("resilience.%s has %+v, want %+v at most", name, f.size, want.most)
		}
	}
}

type function struct {
	size
	calls map[string]bool // by name, without the path of their module; not those of function values
}

// compiled returns the functions of a package of the root module by name, without the
// package's, as the compiler lists them.
func compiled(t *testing.T, pkg string) map[string]*function {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-gcflags=-S", "./"+pkg)
	cmd.Dir = root
	listing, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", listing)
	all := make(map[string]*function)
	var f *function
	lines := bufio.NewScanner(bytes.NewReader(listing))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "\t") { // a symbol begins
			f = nil
			if symbol, attributes, text := strings.Cut(line, " STEXT"); text {
				f = &function{calls: make(map[string]bool)}
				_, locals, _ := strings.Cut(attributes, " locals=")
				_, err := fmt.Sscanf(locals, "0x%x", &f.frame)
				require.NoError(t, err, "%s", line)
				all[short(symbol, pkg)] = f
			}
			continue
		}
		fields := strings.Split(line, "\t") // offset and position, instruction, operands
		if f == nil || len(fields) < 3 || !strings.HasPrefix(fields[1], "0x") {
			continue
		}
		switch op := fields[2]; op {
		case "TEXT", "PCDATA", "FUNCDATA", "NOP", "END":
			continue
		case "CALL":
			if callee, direct := strings.CutSuffix(fields[len(fields)-1], "(SB)"); direct {
				f.calls[short(callee, pkg)] = true
			}
		}
		f.instructions++
	}
	require.NoError(t, lines.Err())
	require.NotEmpty(t, all, "the compiler lists nothing: %.200s", listing)
	return all
}

// short returns a symbol without its module's path, and without its package if that is pkg.
func short(symbol, pkg string) string {
	if i := strings.LastIndex(symbol, "/"); i >= 0 {
		symbol = symbol[i+1:]
	}
	return strings.TrimPrefix(symbol, pkg+".")
}
