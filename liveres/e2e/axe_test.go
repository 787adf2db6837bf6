package e2e

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// axeVersion is the release of axe-core, a npm package, that pages are checked with.
const axeVersion = "4.14.1"

// axe returns the source of axe-core: of the file that BREAKWATER_AXE names, or as
// npm fetches it into a temporary folder.
var axe = sync.OnceValues(func() (string, error) {
	if file := os.Getenv("BREAKWATER_AXE"); file != "" {
		source, err := os.ReadFile(file)
		return string(source), err
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "axe-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	pack := exec.CommandContext(ctx, npm, "pack", "--silent", "--pack-destination", dir, "axe-core@"+axeVersion)
	pack.Dir = dir
	if out, err := pack.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return fileInTarball(filepath.Join(dir, "axe-core-"+axeVersion+".tgz"), "package/axe.min.js")
})

func fileInTarball(tarball, name string) (string, error) {
	file, err := os.Open(tarball)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return "", err
	}
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return "", fmt.Errorf("%s is not in %s", name, tarball)
		}
		if err != nil {
			return "", err
		}
		if header.Name == name {
			content, err := io.ReadAll(archive)
			return string(content), err
		}
	}
}

// accessible checks that axe-core finds no fault in the page as it is, whatever its
// impact. It fails too if axe found nothing to check.
func (tt *tab) accessible(what string) {
	tt.t.Helper()
	source, err := axe()
	if err != nil {
		skip(tt.t, "axe-core "+axeVersion+", by npm from its registry or as a file that BREAKWATER_AXE names: "+err.Error())
	}
	tt.do(chromedp.Evaluate[chromedp.Void](source))
	type result struct {
		Violations []struct {
			ID, Impact, Help string
			Nodes            []struct {
				HTML           string
				FailureSummary string
			}
		}
		Passes int
	}
	found := eval[result](tt, `axe.run(document, {resultTypes: ['violations']}).then((r) => ({violations: r.violations, passes: r.passes.length}))`)
	require.Greater(tt.t, found.Passes, 15, "axe checked next to nothing")
	var report strings.Builder
	for _, v := range found.Violations {
		fmt.Fprintf(&report, "%s (%s): %s\n", v.ID, v.Impact, v.Help)
		for _, n := range v.Nodes[:min(3, len(v.Nodes))] {
			fmt.Fprintf(&report, "\t%s\n\t%s\n", n.HTML, strings.ReplaceAll(n.FailureSummary, "\n", " "))
		}
	}
	require.Empty(tt.t, report.String(), "%s: axe finds faults", what)
}

// jsString returns s as a JavaScript string.
func jsString(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestAccessible(t *testing.T) {
	l, all := shop(t)
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.visit(host)
	all["payment"].failing.Store(1000)
	all["geocoder"].breaker.ForceOpen()
	all["mail"].breaker.ForceClosed()
	tt.until(`document.querySelector('[data-kind="open"] .pill:not(.forced)') !== null`)
	for _, theme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 390} {
			tt.theme(theme)
			tt.size(width)
			tt.accessible(fmt.Sprintf("%s, %d px", theme, width))
		}
	}
	tt.size(1280)
	tt.click(`//button[contains(@class,"toggle")][contains(.,"payment")]`)
	tt.click(`//table[@id="retry-table"]//button[contains(@class,"toggle")][contains(.,"shipping")]`)
	for _, theme := range []string{"dark", "light"} {
		for _, width := range []int64{390, 1280} {
			tt.theme(theme)
			tt.size(width)
			tt.accessible(fmt.Sprintf("details, %s, %d px", theme, width))
		}
	}
	tt.click(`//div[@class="controls"]/button[.="Force open"]`)
	for _, theme := range []string{"light", "dark"} {
		tt.theme(theme)
		tt.accessible("dialog, " + theme)
	}
}
