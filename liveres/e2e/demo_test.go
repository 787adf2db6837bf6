package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// TestPicturesOfTheDemo takes the pictures of the README: the pages of the real demo, in
// the middle of its outage. `make shots` runs it; it needs the demo's program.
func TestPicturesOfTheDemo(t *testing.T) {
	program, dir := os.Getenv("BREAKWATER_DEMO"), os.Getenv("BREAKWATER_SHOTS")
	if program == "" || dir == "" {
		t.Skip("takes half a minute and writes pictures: make shots")
	}
	pages := startDemo(t, program, "-duration", "45s")
	tt := openTab(t, strings.Trim(strings.TrimPrefix(pages["All"], "http:"), "/"))
	tt.sharp(1120, 700)

	// While one call in five fails, retries save most orders.
	tt.do(chromedp.Navigate(pages["Traces"]))
	for _, theme := range []string{"light", "dark"} {
		tt.theme(theme)
		tt.until(`document.querySelector('details[open] > summary')?.innerText.includes('POST') &&
			!document.querySelector('details[open]').innerText.includes('open')`)
		tt.until(`!document.querySelector('details[open] > summary').innerText.includes('failed')`)
		tt.shootView(dir, "traces-"+theme)
	}

	tt.theme("light")
	tt.do(chromedp.Navigate(pages["Circuits"]))
	tt.until(`document.querySelector('[data-kind="open"]') !== null`)
	time.Sleep(6 * time.Second) // until probes have failed
	for _, theme := range []string{"light", "dark"} {
		tt.theme(theme)
		tt.until(`document.querySelector('[data-kind="open"]') !== null`)
		tt.shootView(dir, "live-"+theme)
	}
}

// The demo's own pages are checked as the live page is: in both themes, at desktop and
// phone width, when there is something on them. `make shots` runs it as well.
func TestPagesOfTheDemo(t *testing.T) {
	program := os.Getenv("BREAKWATER_DEMO")
	if program == "" {
		t.Skip("needs the demo's program: make shots")
	}
	pages := startDemo(t, program, "-repeat", "-speed", "2")
	tt := openTab(t, strings.Trim(strings.TrimPrefix(pages["All"], "http:"), "/"))
	tt.do(chromedp.Navigate(pages["Alerts"]))
	tt.until(`document.querySelector('.alert.pending') !== null`) // by its own updates
	tt.until(`document.querySelector('.alert.firing') !== null`)
	tt.do(chromedp.Navigate(pages["Traces"]))
	tt.until(`document.querySelector('.trace .more a') !== null`)
	one := eval[string](tt, `document.querySelector('.trace .more a').href`)
	for _, page := range []string{one, pages["Alerts"], pages["Traces"], pages["All"]} {
		for _, width := range []int64{1280, 360} {
			for _, theme := range []string{"light", "dark"} {
				tt.size(width)
				tt.theme(theme)
				tt.do(chromedp.Navigate(page))
				tt.until(`document.readyState === 'complete'`)
				what := fmt.Sprintf("%s, %d wide, %s", page, width, theme)
				tt.accessible(what)
				require.LessOrEqual(t, eval[int64](tt, `document.documentElement.scrollWidth`), width, "%s: it has to be scrolled sideways", what)
			}
		}
	}

	// Who opens a trace reads it: it stays where it is.
	tt.do(chromedp.Navigate(pages["Traces"]))
	tt.until(`document.getElementById('updates').checked && document.querySelectorAll('.trace').length > 1`)
	eval[any](tt, `document.querySelectorAll('.trace > summary')[1].click()`)
	tt.until(`!document.getElementById('updates').checked && document.querySelectorAll('.trace')[1].open`)
}

// sharp sets the size of the window, and two dots for each of its pixels.
func (tt *tab) sharp(width, height int64) {
	tt.t.Helper()
	command(tt, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 2,
	})
}

// startDemo runs the demo until the test ends and returns the addresses of its pages.
func startDemo(t *testing.T, program string, args ...string) map[string]string {
	t.Helper()
	program, err := filepath.Abs(program)
	require.NoError(t, err)
	demo := exec.Command(program, append(args, "-web", "127.0.0.1:0", "-plain")...)
	demo.Stderr = os.Stderr
	output, err := demo.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, demo.Start())
	pages := make(map[string]string)
	lines := bufio.NewScanner(output)
	for len(pages) < 4 && lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) == 2 && strings.HasPrefix(f[1], "http://") {
			pages[f[0]] = f[1]
		}
	}
	require.Len(t, pages, 4, "the demo ended before it said where its pages are: %v", lines.Err())
	rest := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, output)
		rest <- err
	}()
	t.Cleanup(func() {
		require.NoError(t, demo.Process.Signal(os.Interrupt))
		require.NoError(t, <-rest)
		require.NoError(t, demo.Wait())
	})
	return pages
}
