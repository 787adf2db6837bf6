// Package leaktest fails a test binary that ends with more goroutines than it
// began with.
package leaktest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience is how long goroutines that are about to end get to do so.
const patience = 2 * time.Second

// Main runs the tests of m and exits, with code 1 and the stacks of the goroutines
// on standard error if the tests passed but left goroutines behind. It is all that
// a TestMain needs:
//
//	func TestMain(m *testing.M) { leaktest.Main(m) }
//
// A goroutine is left behind if it was started after Main was called and is still
// there two seconds after the last test, unless package testing or the runtime
// started it, or os/signal, which never ends its own. After a test failed nothing is
// checked, since a test that stops half-way cleans up half-way.
func Main(m *testing.M) {
	os.Exit(run(m, patience, os.Stderr))
}

// run returns the exit code for m, having written what is wrong to w.
func run(m interface{ Run() int }, patience time.Duration, w io.Writer) int {
	before := make(map[string]bool)
	for _, g := range goroutines() {
		before[g.id] = true // the present one too
	}
	if code := m.Run(); code != 0 {
		return code
	}
	leaked := leaks(before)
	for pause := time.Millisecond; len(leaked) > 0 && patience > 0; pause *= 2 {
		pause = min(pause, patience)
		time.Sleep(pause)
		patience -= pause
		leaked = leaks(before)
	}
	if len(leaked) == 0 {
		return 0
	}
	_, _ = fmt.Fprintf(w, "leaktest: %d goroutine(s) left behind by the tests:\n", len(leaked))
	for _, g := range leaked {
		_, _ = fmt.Fprintf(w, "\n%s\n", g.stack)
	}
	return 1
}

// leaks returns the goroutines that are not in before and that tests answer for.
func leaks(before map[string]bool) []goroutine {
	var leaked []goroutine
	for _, g := range goroutines() {
		if !before[g.id] && !g.foreign() {
			leaked = append(leaked, g)
		}
	}
	return leaked
}

// goroutine is one goroutine as [runtime.Stack] describes it.
type goroutine struct {
	id    string // never reused, so that it tells old goroutines from new
	stack string
}

// goroutines returns all goroutines but the runtime's own.
func goroutines() []goroutine {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf)) // full: it may have been cut short
	}
	var all []goroutine
	for stack := range bytes.SplitSeq(bytes.TrimSpace(buf), []byte("\n\n")) {
		text := string(stack)
		id, _, _ := strings.Cut(strings.TrimPrefix(text, "goroutine "), " ")
		all = append(all, goroutine{id: id, stack: text})
	}
	return all
}

// foreign reports that g was not started by code under test.
func (g goroutine) foreign() bool {
	_, creator, ok := strings.Cut(g.stack, "\ncreated by ")
	if !ok {
		return false
	}
	for _, prefix := range []string{"testing.", "internal/fuzz.", "runtime.", "runtime/", "os/signal."} {
		if strings.HasPrefix(creator, prefix) {
			return true
		}
	}
	return false
}
