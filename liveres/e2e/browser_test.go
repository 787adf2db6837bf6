// Package e2e looks at the live page with a browser.
package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// browser is the one that all tests share; nil where there is none.
var browser context.Context

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	program := browserProgram()
	if program == "" {
		return m.Run() // every test says that it was skipped
	}
	profile, err := os.MkdirTemp("", "liveres-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(profile) }()
	allocator, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(program),
		chromedp.UserDataDir(profile),
		chromedp.Flag("headless", "new"),
		chromedp.Flag("no-sandbox", true),
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("no-first-run", true),
		chromedp.Flag("no-default-browser-check", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("lang", "en-US"),
		chromedp.WSURLReadTimeout(60*time.Second),
	)
	defer stop()
	ctx, end := chromedp.NewContext(allocator)
	defer end()
	if err := chromedp.Do(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s does not start: %v\n", program, err)
		return 1
	}
	browser = ctx
	code := m.Run()
	if err := chromedp.Cancel(ctx); err != nil { // waits for its processes to end
		fmt.Fprintln(os.Stderr, "the browser does not end:", err)
		return 1
	}
	return code
}

// browserProgram returns the path of a Chromium, empty without one.
func browserProgram() string {
	for _, name := range []string{os.Getenv("BREAKWATER_CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// skip skips a test so that nobody overlooks it; where CI is set, the test fails.
func skip(t *testing.T, missing string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("needs %s", missing)
	}
	bar := strings.Repeat("*", 78)
	fmt.Fprintf(os.Stderr, "%s\n*** NOT RUN: %s\n*** It needs %s\n%s\n", bar, t.Name(), missing, bar)
	t.Skipf("needs %s", missing)
}

// tab is a tab of the browser. At the end of its test nothing may have been logged,
// nor another host asked for anything.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex
	logged  []string
	asked   []string
	quiet   bool
	allowed []string // hosts
}

// endOfTest is what a test logs itself, to know that it has seen all before it.
const endOfTest = "the test ends here"

// openTab opens a tab for pages of the given host.
func openTab(t *testing.T, host string) *tab {
	t.Helper()
	if browser == nil {
		skip(t, "Chromium (on Debian: apt-get install chromium fonts-dejavu-core)")
	}
	ctx, end := chromedp.NewContext(browser)
	tt := &tab{t: t, ctx: ctx, allowed: []string{host}}
	var readers sync.WaitGroup
	ended := make(chan struct{})
	messages := chromedp.Console(ctx)
	requests := chromedp.Events(ctx, network.RequestWillBeSent)
	readers.Go(func() {
		for m, err := range messages {
			switch {
			case err != nil:
				return
			case m.Text == endOfTest:
				close(ended)
			default:
				tt.note(m.String() + " " + m.URL)
			}
		}
	})
	readers.Go(func() {
		for e, err := range requests {
			if err != nil {
				return
			}
			tt.mu.Lock()
			tt.asked = append(tt.asked, e.Request.URL)
			tt.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_, err := chromedp.Run(ctx, chromedp.Evaluate[chromedp.Void](fmt.Sprintf("console.log(%q)", endOfTest)))
		if err == nil {
			<-ended
		}
		end()
		readers.Wait()
		require.NoError(t, err, "the tab has ended before its test")
		require.Empty(t, tt.logged, "the console must stay empty")
		for _, url := range tt.asked {
			require.True(t, slices.ContainsFunc(tt.allowed, func(host string) bool {
				return strings.HasPrefix(url, "http://"+host+"/") || strings.HasPrefix(url, "data:")
			}), "a request to somebody else: %s", url)
		}
		require.NotEmpty(t, tt.asked, "no request was seen: one to somebody else would not be either")
	})
	command(tt, network.Enable, network.EnableParams{})
	command(tt, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "UTC"})
	tt.size(1280)
	return tt
}

func (tt *tab) note(s string) {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	if !tt.quiet {
		tt.logged = append(tt.logged, s)
	}
}

// expectErrors has what is logged from now on ignored: that a request failed is
// something that the browser logs itself.
func (tt *tab) expectErrors() {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	tt.quiet = true
}

// allow has requests to another host pass.
func (tt *tab) allow(host string) { tt.allowed = append(tt.allowed, host) }

// command runs a command of the browser's protocol.
func command[P, R any](tt *tab, c cdp.Command[P, R], params P) R {
	tt.t.Helper()
	r, err := chromedp.Call(tt.ctx, c, params)
	require.NoError(tt.t, err)
	return r
}

// do runs actions, for half a minute at most.
func (tt *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	tt.t.Helper()
	ctx, cancel := context.WithTimeout(tt.ctx, 30*time.Second)
	defer cancel()
	require.NoError(tt.t, chromedp.Do(ctx, actions...))
}

// eval returns the value of a JavaScript expression, or of its promise.
func eval[T any](tt *tab, expression string) T {
	tt.t.Helper()
	ctx, cancel := context.WithTimeout(tt.ctx, 60*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(tt.t, err, "%.200s", expression)
	return v
}

// until waits until a JavaScript expression is true, for at most 20 s.
func (tt *tab) until(expression string) {
	tt.t.Helper()
	ctx, cancel := context.WithTimeout(tt.ctx, 20*time.Second)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](expression,
		chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(0)))
	if err != nil {
		require.NoError(tt.t, err, "until %s; the page shows:\n%s", expression, eval[string](tt, "document.body.innerText"))
	}
}

// visit goes to the page of a host and waits until it shows data.
func (tt *tab) visit(host string) {
	tt.t.Helper()
	tt.do(chromedp.Navigate(address(host)))
	tt.until(`document.getElementById('connection').dataset.mode === 'live'`)
}

// theme sets the preferred colours, "light" or "dark", and animations off.
func (tt *tab) theme(name string) {
	tt.t.Helper()
	command(tt, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name},
		{Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// size sets the width of the window.
func (tt *tab) size(width int64) {
	tt.t.Helper()
	tt.do(chromedp.EmulateViewport(width, 800))
}

// shoot writes a picture of the whole page to dir.
func (tt *tab) shoot(dir, name string) {
	tt.t.Helper()
	eval[any](tt, "scrollTo(0, 0)")
	tt.save(chromedp.FullScreenshot(100), dir, name)
}

// shootView writes a picture of what is in the window.
func (tt *tab) shootView(dir, name string) {
	tt.t.Helper()
	tt.save(chromedp.CaptureScreenshot(), dir, name)
}

func (tt *tab) save(picture chromedp.Action[[]byte], dir, name string) {
	tt.t.Helper()
	png, err := chromedp.Run(tt.ctx, picture)
	require.NoError(tt.t, err)
	require.NoError(tt.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
}

// serve serves h on a free port and returns its host.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	return newServer(t, h).host
}
