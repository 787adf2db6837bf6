package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/liveres"
	"github.com/breakwater-go/breakwater/resilience"
)

// row is a JavaScript expression for the row of a circuit.
func row(name string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('#circuit-table .row')].find((r) => r.querySelector('.name').textContent === %s)`, jsString(name))
}

// rowText is a JavaScript expression for the text of that row, with plain blanks.
func rowText(name string) string {
	return row(name) + `?.innerText.replace(/\s+/g, ' ')`
}

// click clicks what an XPath finds first.
func (tt *tab) click(xpath string) {
	tt.t.Helper()
	tt.do(chromedp.Click(chromedp.Search(xpath)))
}

func succeed(context.Context) error { return nil }
func fail(context.Context) error    { return unreachable{"dependency"} }

func TestStatesAppear(t *testing.T) {
	l := liveres.New()
	defer l.Close()
	create := func(name string) *resilience.CircuitBreaker {
		return resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
			Name: name, VolumeThreshold: 4, SleepWindow: time.Second, HalfOpenRequests: 3, SuccessThreshold: 1, Events: l.Sink(),
		})
	}
	open := func(cb *resilience.CircuitBreaker) {
		for range 4 {
			_ = cb.Run(t.Context(), fail)
		}
	}
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.visit(host)
	tt.until(`document.getElementById('circuit-empty').innerText.includes('No circuit breaker')`)

	closed, half, forcedOpen, forcedClosed := create("closed one"), create("probing one"), create("forced open one"), create("forced closed one")
	for i := range 8 {
		work := succeed
		if i%4 == 0 {
			work = fail
		}
		_ = closed.Run(t.Context(), work)
	}
	open(half)
	time.Sleep(1100 * time.Millisecond)
	_ = half.Run(t.Context(), succeed)
	forcedOpen.ForceOpen()
	_ = forcedOpen.Run(t.Context(), succeed)
	forcedClosed.ForceClosed()
	stuck := create("open one")
	stuck.ForceOpen()
	stuck.ClearForce()

	tt.until(`document.querySelectorAll('#circuit-table .row').length === 5`)
	for name, want := range map[string][]string{
		"closed one":        {"Closed", "25 %"},
		"probing one":       {"Half-open", "1 of 3 passed"},
		"forced open one":   {"Forced open"},
		"forced closed one": {"Forced closed"},
	} {
		for _, w := range want {
			tt.until(fmt.Sprintf(`%s?.includes(%s)`, rowText(name), jsString(w)))
		}
	}
	require.Equal(t, "forced open one", eval[string](tt, `document.querySelector('#circuit-table .row .name').textContent`), "trouble first")
	require.Equal(t, "5", eval[string](tt, `document.querySelector('.chip.all b').textContent`))
	require.Equal(t, "2", eval[string](tt, `document.querySelector('.chip.forced b').textContent`))

	// The shape of the pills differs, and so does the height of the band of states.
	require.Equal(t, "6", eval[string](tt, row("forced open one")+`.querySelector('.band.open').getAttribute('height')`))
	require.Equal(t, "2", eval[string](tt, row("closed one")+`.querySelector('.band.closed').getAttribute('height')`))
	require.Regexp(t, `^Last .*: .*forced open.* of the time$`, eval[string](tt, row("forced open one")+`.querySelector('.timeline').getAttribute('aria-label')`))

	// Filters.
	tt.click(`//button[contains(@class,"chip")][contains(.,"Half-open")]`)
	tt.until(`document.querySelectorAll('#circuit-table .row').length === 1`)
	require.Contains(t, eval[string](tt, rowText("probing one")), "Half-open")

	closed.Close()
	tt.click(`//button[contains(@class,"chip")][contains(.,"All")]`)
	tt.until(row("closed one") + ` === undefined`)
}

func TestOutageTurnsACircuitRedAndBack(t *testing.T) {
	l := liveres.New()
	defer l.Close()
	d := newDependency(l, resilience.CircuitBreakerConfig{
		Name: "payment", WindowSize: 2 * time.Second, SleepWindow: time.Second, HalfOpenRequests: 3, SuccessThreshold: 1,
	})
	d.took.Store(int64(time.Millisecond))
	calm := newDependency(l, resilience.CircuitBreakerConfig{Name: "search"})
	calm.took.Store(int64(time.Millisecond))
	d.drive(t, 60)
	calm.drive(t, 60)
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.visit(host)
	background := func() string {
		return eval[string](tt, fmt.Sprintf(`getComputedStyle(%s.querySelector('.shape')).backgroundColor`, row("payment")))
	}
	tt.until(row("payment") + `?.dataset.kind === 'closed'`)
	green := background()
	require.Regexp(t, `^Circuits – `, eval[string](tt, `document.title`))

	d.failing.Store(1000)
	tt.until(row("payment") + `?.dataset.kind === 'open'`)
	require.NotEqual(t, green, background())
	require.Equal(t, "rgb(213, 56, 47)", background(), "red")
	tt.until(`document.title.startsWith('(1) ')`)
	tt.until(`document.getElementById('announce').textContent === 'payment is open.'`)
	tt.until(rowText("payment") + `.includes('probes in')`)
	tt.until(fmt.Sprintf(`Number(%s.lastElementChild.innerText) > 5`, row("payment")))
	require.Equal(t, "closed", eval[string](tt, row("search")+`.dataset.kind`))

	d.failing.Store(0)
	tt.until(row("payment") + `?.dataset.kind === 'closed'`)
	require.Equal(t, green, background())
	tt.until(`!document.title.startsWith('(')`)

	tt.click(`//button[contains(@class,"toggle")][contains(.,"payment")]`)
	tt.until(`document.querySelectorAll('.details .plain tbody tr').length >= 3`)
	details := eval[string](tt, `document.querySelector('.details').innerText`)
	require.Contains(t, details, "the failure ratio reached its threshold")
	require.Contains(t, details, "the sleep window ended")
	require.Contains(t, details, "enough probes passed")
}

func TestRetriesAppear(t *testing.T) {
	type key struct{}
	l := liveres.New(liveres.WithTraceID(func(ctx context.Context) string {
		id, _ := ctx.Value(key{}).(string)
		return id
	}))
	defer l.Close()
	retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "charge", InitialDelay: 50 * time.Millisecond, Events: l.Sink()})
	n := 0
	require.NoError(t, retrier.Run(context.WithValue(t.Context(), key{}, "4bf92f3577b34da6a3ce929d0e0e4736"), func(context.Context) error {
		if n++; n == 1 {
			return unreachable{"bank"}
		}
		return nil
	}))
	require.Error(t, retrier.Run(t.Context(), fail))
	require.NoError(t, retrier.Run(t.Context(), succeed))
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.visit(host)
	tt.click(`//table[@id="retry-table"]//button[contains(@class,"toggle")]`)
	tt.until(`document.querySelectorAll('.operations > li').length === 2`)
	operations := strings.ReplaceAll(eval[string](tt, `document.querySelector('.operations').innerText`), "\u00a0", " ")
	require.Contains(t, operations, "Saved by attempt 2")
	require.Contains(t, operations, "trace 4bf92f3577b34da6a3ce929d0e0e4736")
	require.Contains(t, operations, "connection_refused")
	require.Contains(t, operations, "wait 50 ms")
	require.Contains(t, operations, "Exhausted")
	require.NotContains(t, operations, "is unreachable", "messages of errors stay in the process")
	require.Equal(t, []string{"failure", "wait", "success"}, eval[[]string](tt, `[...document.querySelectorAll('.operations > li:last-child .bar')].map((b) => b.classList[1])`))
	require.Contains(t, eval[string](tt, `document.querySelector('#retry-table .row').innerText`), "×2")

	// Bars are where they were in time, side by side.
	edges := eval[[]float64](tt, `[...document.querySelectorAll('.operations > li:last-child .bar')].flatMap((b) => [b.offsetLeft, b.offsetLeft + b.offsetWidth])`)
	require.Len(t, edges, 6)
	require.InDelta(t, edges[1], edges[2], 4)
	require.InDelta(t, edges[3], edges[4], 4)
	require.Greater(t, edges[3]-edges[2], 100.0, "the wait took nearly all of the time")
}

func TestControlsNeedAuthorization(t *testing.T) {
	l := liveres.New(liveres.WithControls(func(r *http.Request) error {
		if c, err := r.Cookie("operator"); err != nil || c.Value != "yes" {
			return errors.New("no")
		}
		return nil
	}))
	defer l.Close()
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: l.Sink()})
	require.NoError(t, l.Control(cb))
	resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "not handed over", Events: l.Sink()})
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.visit(host)
	tt.click(`//button[contains(@class,"toggle")][contains(.,"not handed over")]`)
	tt.until(`document.querySelector('.details .controls').hidden`)
	tt.click(`//button[contains(@class,"toggle")][contains(.,"not handed over")]`)
	tt.click(`//button[contains(@class,"toggle")][contains(.,"payment")]`)
	tt.until(`!document.querySelector('.details .controls').hidden`)

	// Cancelled: nothing happens. The harmless button has the focus at first.
	tt.click(`//div[@class="controls"]/button[.="Force open"]`)
	require.Equal(t, "confirm-no", eval[string](tt, `document.activeElement.id`))
	require.Contains(t, eval[string](tt, `document.getElementById('confirm').innerText`), "Every call is rejected from now on")
	tt.do(chromedp.KeyEvent(kb.Escape))
	tt.until(`!document.getElementById('confirm').open`)
	require.Equal(t, "closed", cb.State().String())

	// Refused, and it says so.
	tt.expectErrors() // the browser logs that the status was 403
	tt.click(`//div[@class="controls"]/button[.="Force open"]`)
	tt.click(`//button[@id="confirm-yes"]`)
	tt.until(`document.getElementById('confirm-error').innerText.includes('It was refused: not authorized.')`)
	require.Equal(t, "closed", cb.State().String())
	tt.click(`//button[@id="confirm-no"]`)

	eval[any](tt, `document.cookie = 'operator=yes'`)
	tt.click(`//div[@class="controls"]/button[.="Force open"]`)
	tt.click(`//button[@id="confirm-yes"]`)
	tt.until(`!document.getElementById('confirm').open`)
	require.True(t, cb.GetStats().Forced)
	require.Equal(t, "open", cb.State().String())
	tt.until(rowText("payment") + `.includes('Forced open')`)
	tt.until(`document.querySelector('.details').innerText.includes('it was forced')`)
	tt.click(`//div[@class="controls"]/button[.="Lift the force"]`)
	tt.click(`//button[@id="confirm-yes"]`)
	tt.until(rowText("payment") + `.includes('Open')`)
	tt.until(`!` + rowText("payment") + `.includes('Forced')`)
	tt.click(`//div[@class="controls"]/button[.="Reset"]`)
	tt.click(`//button[@id="confirm-yes"]`)
	tt.until(rowText("payment") + `.includes('Closed')`)
	require.Equal(t, "closed", cb.State().String())
}

// A page of another site cannot force a circuit, though the browser has the cookie.
func TestAnotherSiteCannotControl(t *testing.T) {
	l := liveres.New(liveres.WithControls(func(*http.Request) error { return nil }))
	defer l.Close()
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: l.Sink()})
	require.NoError(t, l.Control(cb))
	target := serve(t, mount(l))
	other := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<link rel="icon" href="data:,">`)
	}))
	tt := openTab(t, other)
	tt.allow(target)
	tt.expectErrors()
	tt.do(chromedp.Navigate("http://" + other + "/"))
	body := jsString(fmt.Sprintf(`{"circuit": %d, "action": "force_open"}`, cb.ID()))
	for _, options := range []string{
		`{method: 'POST', mode: 'no-cors', body: ` + body + `}`,
		`{method: 'POST', mode: 'no-cors', headers: {'Content-Type': 'text/plain'}, body: ` + body + `}`,
		`{method: 'POST', headers: {'Content-Type': 'application/json', 'X-Breakwater-Control': '1'}, body: ` + body + `}`,
	} {
		eval[any](tt, fmt.Sprintf(`fetch('http://%s/debug/circuits/control', %s).then(() => 1, () => 0)`, target, options))
	}
	require.Equal(t, uint64(1), cb.GetStats().Generation)
	require.Equal(t, 0, eval[int](tt, fmt.Sprintf(`new Promise((done) => {
		const frame = document.createElement('iframe');
		frame.onload = () => done(frame.contentWindow.length);
		frame.src = 'http://%s/debug/circuits/';
		document.body.append(frame);
	})`, target)))
	require.Zero(t, eval[int](tt, `(() => { try { return document.querySelector('iframe').contentDocument ? 1 : 0 } catch { return 0 } })()`))
}

func TestNoControlsUnlessAskedFor(t *testing.T) {
	l := liveres.New()
	defer l.Close()
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: l.Sink()})
	require.NoError(t, l.Control(cb))
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.visit(host)
	tt.click(`//button[contains(@class,"toggle")][contains(.,"payment")]`)
	tt.until(`document.querySelector('.details .controls').hidden`)
	require.Equal(t, []string{}, eval[[]string](tt, `[...document.querySelectorAll('button:not(.chip)')].filter((b) => b.checkVisibility() && /force|reset/i.test(b.innerText)).map((b) => b.innerText)`))
}

func TestNamesAreShownSafely(t *testing.T) {
	names := []string{
		`<script>window.stolen = 1</script>`,
		`<img src=x onerror="window.stolen = 1">`,
		`"><svg onload=window.stolen=1>`,
		`'; window.stolen = 1; '`,
		"${window.stolen = 1}",
		"javascript:window.stolen=1",
		"emoji 🙈🧨 family 👩‍👩‍👧‍👦",
		"right to left \u202e gnp.exe",
		"line\nbreak\tand\u2028more\x00",
		"not text \xff\xfe",
		strings.Repeat("ten kB of 🙈 ", 700),
		strings.Repeat("W", 10000),
		"__proto__",
		"constructor",
		" ",
	}
	l := liveres.New(liveres.WithControls(func(*http.Request) error { return nil }))
	defer l.Close()
	for _, name := range names {
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: name, Events: l.Sink()})
		require.NoError(t, l.Control(cb))
		n := 0
		_ = resilience.Retry(t.Context(), &resilience.RetryConfig{Name: name, InitialDelay: 1, MaxDelay: 1, Events: l.Sink()}, func() error {
			if n++; n == 1 {
				return named(name)
			}
			return nil
		})
	}
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.visit(host)
	tt.until(fmt.Sprintf(`document.querySelectorAll('#circuit-table .row').length === %d`, len(names)))
	tt.until(fmt.Sprintf(`document.querySelectorAll('#retry-table .row').length === %d`, len(names)))
	eval[any](tt, `document.querySelectorAll('.toggle').forEach((b) => b.click())`)
	tt.until(fmt.Sprintf(`document.querySelectorAll('.details').length === %d`, 2*len(names)))
	for _, width := range []int64{1280, 390} {
		tt.size(width)
		time.Sleep(200 * time.Millisecond)
		require.False(t, eval[bool](tt, `document.documentElement.scrollWidth > document.documentElement.clientWidth`), "the page scrolls sideways at %d px", width)
	}
	shown := eval[[]string](tt, `[...document.querySelectorAll('#circuit-table .toggle .name')].map((n) => n.textContent)`)
	for _, name := range names[:8] {
		require.Contains(t, shown, name, "short names are shown as they are")
	}
	for _, text := range shown {
		require.LessOrEqual(t, len([]rune(text)), 120)
	}
	require.True(t, eval[bool](tt, `[...document.querySelectorAll('.full-name')].some((p) => p.textContent.length === 10000)`), "details have the whole name")
	require.True(t, eval[bool](tt, `[...document.querySelectorAll('[title]')].every((e) => e.title.length <= 1000)`))
	eval[any](tt, `document.querySelector('.details .controls button').click()`)
	require.True(t, eval[bool](tt, `document.getElementById('confirm').open`))
	require.False(t, eval[bool](tt, `'stolen' in window`), "a name was run as a script")
	require.Equal(t, 1, eval[int](tt, `document.scripts.length`))
	require.Zero(t, eval[int](tt, `document.querySelectorAll('img, iframe, main script').length`))
}

// named is an error whose type is whatever it likes.
type named string

func (named) Error() string       { return "failed" }
func (e named) ErrorType() string { return string(e) }

func TestReconnectsAfterARestart(t *testing.T) {
	first := liveres.New()
	resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "before", Events: first.Sink()})
	server := newServer(t, mount(first))
	tt := openTab(t, server.host)
	tt.visit(server.host)
	tt.until(row("before") + ` !== undefined`)
	tt.expectErrors() // requests will fail for a while
	server.stop()
	first.Close()
	tt.until(`document.getElementById('connection').dataset.mode === 'disconnected'`)
	require.Contains(t, eval[string](tt, `document.getElementById('connection').innerText`), "reconnecting")
	require.True(t, eval[bool](tt, row("before")+` !== undefined`), "what was known stays to be read")

	second := liveres.New()
	defer second.Close()
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "after", Events: second.Sink()})
	server.start(mount(second))
	tt.until(`document.getElementById('connection').dataset.mode === 'live'`)
	tt.until(row("after") + ` !== undefined`)
	require.True(t, eval[bool](tt, row("before")+` === undefined`))
	require.Contains(t, eval[string](tt, `document.getElementById('notice').innerText`), "The process was restarted")
	cb.ForceOpen()
	tt.until(row("after") + `?.dataset.kind === 'open'`)
}

func TestThroughAProxyThatBuffers(t *testing.T) {
	l := liveres.New()
	defer l.Close()
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: l.Sink()})
	backend := serve(t, mount(l))
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: backend})
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, "/outer")
		},
		ErrorLog: log.New(io.Discard, "", 0), // the page gives up on streams
		ModifyResponse: func(r *http.Response) error { // it passes on what is complete, and nothing before
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			return nil
		},
	}
	front := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
		defer cancel()
		defer func() { _ = recover() }() // the client has gone
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}))
	tt := openTab(t, front)
	tt.expectErrors() // the stream ends without an answer
	tt.do(chromedp.Navigate("http://" + front + "/outer/debug/circuits/"))
	tt.until(row("payment") + ` !== undefined`)
	tt.until(`document.getElementById('connection').dataset.mode === 'polling'`)
	cb.ForceOpen()
	tt.until(row("payment") + `?.dataset.kind === 'open'`)
	cb.Reset()
	tt.until(row("payment") + `?.dataset.kind === 'closed'`)
}

func TestMoreThanCanWatch(t *testing.T) {
	l := liveres.New()
	l.Close() // turns streams away as too many would be
	resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: l.Sink()})
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.expectErrors() // the status 503
	tt.do(chromedp.Navigate(address(host)))
	tt.until(row("payment") + ` !== undefined`)
	tt.until(`document.getElementById('connection').innerText.trim() === 'Every 2 s'`)
}

// gate holds back what a handler writes, as a browser that has no time for it.
type gate struct {
	http.Handler
	mu    sync.Mutex
	delay chan struct{}
}

type gated struct {
	http.ResponseWriter
	gate *gate
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.Handler.ServeHTTP(gated{w, g}, r)
}

func (w gated) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w gated) Write(p []byte) (int, error) {
	w.gate.mu.Lock()
	delay := w.gate.delay
	w.gate.mu.Unlock()
	if delay != nil {
		<-delay
	}
	return w.ResponseWriter.Write(p)
}

func TestLostUpdatesAreShown(t *testing.T) {
	l := liveres.New()
	defer l.Close()
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: l.Sink()})
	g := &gate{Handler: mount(l)}
	host := serve(t, g)
	tt := openTab(t, host)
	tt.visit(host)
	g.mu.Lock()
	g.delay = make(chan struct{})
	g.mu.Unlock()
	cb.ForceOpen()
	time.Sleep(4500 * time.Millisecond) // less than the page waits for an update
	g.mu.Lock()
	close(g.delay)
	g.delay = nil
	g.mu.Unlock()
	tt.until(`/\d updates? lost/.test(document.getElementById('connection').innerText)`)
	tt.until(row("payment") + `?.dataset.kind === 'open'`)
	require.Equal(t, "live", eval[string](tt, `document.getElementById('connection').dataset.mode`))
}

func TestHundredsOfCircuits(t *testing.T) {
	l := liveres.New()
	defer l.Close()
	var breakers []*resilience.CircuitBreaker
	for i := range 500 {
		breakers = append(breakers, resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: fmt.Sprintf("shard %d", i+1), Events: l.Sink()}))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	calls.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			for range 100 {
				_ = breakers[i%len(breakers)].Run(context.Background(), succeed)
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	breakers[346].ForceOpen()
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.visit(host)
	rows := `document.querySelectorAll('#circuit-table .row').length`
	names := `[...document.querySelectorAll('#circuit-table .name')].map((n) => n.textContent)`
	tt.until(rows + ` === 50`)
	require.Equal(t, "shard 347", eval[[]string](tt, names)[0])
	tt.do(chromedp.SendKeys(chromedp.CSS("#search"), "SHARD 49"))
	tt.until(rows + ` === 15`) // both words, anywhere
	require.Equal(t, "shard 49", eval[[]string](tt, names)[0])
	require.Equal(t, "shard 149", eval[[]string](tt, names)[1], "as numbers are ordered")
	tt.do(chromedp.SendKeys(chromedp.CSS("#search"), "9 x"))
	tt.until(`document.getElementById('circuit-empty').innerText.includes('No circuit fits')`)
	eval[any](tt, `(() => { const s = document.getElementById('search'); s.value = ''; s.dispatchEvent(new Event('input')) })()`)
	tt.until(rows + ` === 50`)
	tt.click(`//button[@id="circuit-more"]`)
	tt.until(rows + ` === 500`)
	tt.do(chromedp.SetValue(chromedp.CSS("#sort"), "name"))
	eval[any](tt, `document.getElementById('sort').dispatchEvent(new Event('change'))`)
	tt.until(names + `.slice(0, 3).join() === 'shard 1,shard 2,shard 3'`)
	require.Equal(t, "ascending", eval[string](tt, `document.querySelector('#circuit-head [aria-sort]:not([aria-sort="none"])').getAttribute('aria-sort')`))
	for i := range breakers {
		if i == 123 {
			for range 5000 {
				_ = breakers[i].Run(context.Background(), succeed)
			}
		}
	}
	tt.click(`//th[contains(.,"Calls/s")]/button`)
	tt.until(names + `[0] === 'shard 124'`)

	// The page keeps up: what an update costs it is a fraction of the second between two.
	slow := eval[float64](tt, `new Promise((done) => {
		let worst = 0;
		new PerformanceObserver((list) => { for (const e of list.getEntries()) worst = Math.max(worst, e.duration) }).observe({type: 'longtask', buffered: false});
		setTimeout(() => done(worst), 5000);
	})`)
	t.Logf("500 rows, all of them changing: the longest task took %.0f ms", slow)
	require.Less(t, slow, 700.0)
	require.Equal(t, "live", eval[string](tt, `document.getElementById('connection').dataset.mode`))
}

func TestKeyboard(t *testing.T) {
	l, all := shop(t)
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.visit(host)
	focused := func() string {
		return eval[string](tt, `(() => { const e = document.activeElement; return (e.innerText || e.id).trim().replace(/\s+/g, ' ') })()`)
	}
	tab := func() string {
		tt.do(chromedp.KeyEvent(kb.Tab))
		require.True(t, eval[bool](tt, `(() => {
			const e = document.activeElement;
			const s = getComputedStyle(e);
			const r = e.getBoundingClientRect();
			return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 && r.width > 0 && r.bottom > 0 && r.top < innerHeight;
		})()`), "focus on %q cannot be seen", focused())
		return focused()
	}
	require.Equal(t, "Skip to the circuits", tab())
	var order []string
	for range 11 {
		order = append(order, tab())
	}
	require.Regexp(t, `^Retries \d`, order[0])
	require.Equal(t, "Pause", order[1])
	require.Regexp(t, `All$`, order[2])
	require.Regexp(t, `Forced$`, order[6])
	require.Equal(t, "search", order[7])
	require.Regexp(t, `^Trouble first`, order[8])
	require.Equal(t, []string{"Circuit", "State"}, order[9:11])
	for range 4 {
		tab()
	}
	first := tab()
	tt.do(chromedp.KeyEvent(kb.Enter))
	tt.until(`document.activeElement.getAttribute('aria-expanded') === 'true'`)
	require.True(t, eval[bool](tt, `document.getElementById(document.activeElement.getAttribute('aria-controls')) !== null`))

	// The focus stays where it is when the rows get another order.
	place := `[...document.querySelectorAll('#circuit-table tbody')].indexOf(document.activeElement.closest('tbody'))`
	require.Equal(t, 0, eval[int](tt, place))
	for _, d := range all {
		if d.name != strings.TrimSpace(first) {
			d.breaker.ForceOpen()
		}
	}
	tt.until(place + ` === 7`)
	require.Equal(t, first, focused())
	for _, d := range all {
		if d.name == strings.TrimSpace(first) {
			d.breaker.ForceOpen()
		} else {
			d.breaker.Reset()
		}
	}
	tt.until(place + ` === 0`)
	require.Equal(t, first, focused())
	tt.do(chromedp.KeyEvent(" "))
	tt.until(`document.activeElement.getAttribute('aria-expanded') === 'false'`)
}

func TestPauseHoldsThePage(t *testing.T) {
	l := liveres.New()
	defer l.Close()
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: l.Sink()})
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.visit(host)
	tt.until(row("payment") + ` !== undefined`)
	tt.click(`//button[@id="pause"]`)
	cb.ForceOpen()
	before := eval[string](tt, `document.body.innerText`)
	time.Sleep(2500 * time.Millisecond)
	require.Equal(t, before, eval[string](tt, `document.body.innerText`))
	require.Contains(t, before, "Paused")
	tt.click(`//button[@id="pause"]`)
	tt.until(row("payment") + `?.dataset.kind === 'open'`)
}

func TestNarrowScreens(t *testing.T) {
	l, all := shop(t)
	all["payment"].failing.Store(1000)
	host := serve(t, mount(l))
	tt := openTab(t, host)
	tt.visit(host)
	eval[any](tt, `new Promise((done) => setTimeout(done, 1500)).then(() => document.querySelectorAll('.toggle').forEach((b) => b.click()))`)
	for _, width := range []int64{320, 390, 641, 820, 1000, 1024, 1220, 1920} {
		tt.size(width)
		time.Sleep(200 * time.Millisecond)
		wide := eval[[]string](tt, `[...document.querySelectorAll('body *')]
			.filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, .sr, .skip') && e.checkVisibility())
			.map((e) => e.tagName + '.' + e.className.baseVal ?? e.className)`)
		require.Empty(t, wide, "at %d px", width)
		require.False(t, eval[bool](tt, `document.documentElement.scrollWidth > document.documentElement.clientWidth`), "the page scrolls sideways at %d px", width)
		cut := eval[[]string](tt, `[...document.querySelectorAll('.toggle .name')].filter((n) => n.scrollWidth > n.clientWidth).map((n) => n.textContent)`)
		require.Empty(t, cut, "names that do not fit at %d px", width)
	}
}
