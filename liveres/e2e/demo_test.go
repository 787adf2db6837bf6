package e2e

import (
	"bufio"
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
	pages := startDemo(t, program)
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

// sharp sets the size of the window, and two dots for each of its pixels.
func (tt *tab) sharp(width, height int64) {
	tt.t.Helper()
	command(tt, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 2,
	})
}

// startDemo runs the demo until the test ends and returns the addresses of its pages.
func startDemo(t *testing.T, program string) map[string]string {
	t.Helper()
	program, err := filepath.Abs(program)
	require.NoError(t, err)
	demo := exec.Command(program, "-web", "127.0.0.1:0", "-plain", "-duration", "45s")
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
