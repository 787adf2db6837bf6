package e2e

import (
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/liveres"
	"github.com/breakwater-go/breakwater/resilience"
)

// shop is a scene with some of everything: an outage, a flaky dependency, a forced
// circuit, one that probes, idle ones.
func shop(t *testing.T, opts ...liveres.Option) (*liveres.Live, map[string]*dependency) {
	t.Helper()
	l := liveres.New(append([]liveres.Option{
		liveres.WithHistory(2 * time.Minute),
		liveres.WithControls(func(*http.Request) error { return nil }),
	}, opts...)...)
	t.Cleanup(l.Close)
	all := map[string]*dependency{}
	for i, name := range []string{"payment", "inventory", "shipping", "pricing", "recommendations", "mail", "search", "geocoder"} {
		d := newDependency(l, resilience.CircuitBreakerConfig{
			Name: name, WindowSize: 10 * time.Second, SleepWindow: 6 * time.Second, HalfOpenRequests: 5,
		})
		require.NoError(t, l.Control(d.breaker))
		d.took.Store(int64(time.Duration(8+9*i) * time.Millisecond))
		all[name] = d
	}
	all["inventory"].failing.Store(60)
	all["shipping"].failing.Store(240)
	for name, rate := range map[string]float64{"payment": 30, "inventory": 60, "shipping": 18, "pricing": 90, "recommendations": 12, "search": 45} {
		all[name].drive(t, rate)
	}
	return l, all
}

func TestPictures(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	dir := os.Getenv("BREAKWATER_SHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	require.NoError(t, os.MkdirAll(dir, 0o700))
	l, all := shop(t)
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.theme("light")
	tt.visit(host)
	time.Sleep(9 * time.Second)
	all["recommendations"].failing.Store(900)
	time.Sleep(3 * time.Second)
	all["payment"].failing.Store(1000)
	all["geocoder"].breaker.ForceOpen()
	time.Sleep(9 * time.Second)
	all["recommendations"].failing.Store(0)
	tt.until(`document.querySelector('[data-kind="half"],[data-kind="open"]') !== null`)

	for _, theme := range []string{"light", "dark"} {
		tt.theme(theme)
		for _, width := range []int64{1280, 820, 390} {
			tt.size(width)
			time.Sleep(300 * time.Millisecond)
			tt.shoot(dir, fmt.Sprintf("%s-%d", theme, width))
		}
	}
	tt.size(1280)
	tt.click(`//button[contains(@class,"toggle")][contains(.,"payment")]`)
	tt.click(`//table[@id="retry-table"]//button[contains(@class,"toggle")][contains(.,"shipping")]`)
	for _, theme := range []string{"light", "dark"} {
		tt.theme(theme)
		for _, width := range []int64{1280, 390} {
			tt.size(width)
			time.Sleep(300 * time.Millisecond)
			tt.shoot(dir, fmt.Sprintf("details-%s-%d", theme, width))
		}
	}
	tt.size(1280)
	tt.click(`//div[@class="controls"]/button[.="Force open"]`)
	for _, theme := range []string{"light", "dark"} {
		tt.theme(theme)
		tt.shootView(dir, "dialog-"+theme)
	}
	t.Log("pictures are in", dir)
}
