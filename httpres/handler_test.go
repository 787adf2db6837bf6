package httpres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/httpres"
	"github.com/breakwater-go/breakwater/resilience"
)

func newBreaker(t testing.TB, config resilience.CircuitBreakerConfig) *resilience.CircuitBreaker {
	t.Helper()
	b := resilience.NewCircuitBreaker(&config)
	t.Cleanup(b.Close)
	return b
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRejectionsOfAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", VolumeThreshold: 2, SleepWindow: 10 * time.Second})
		defer b.Close()
		calls := 0
		h := httpres.Handler(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls++
			http.Error(w, "broken", http.StatusInternalServerError)
		}))
		for range 2 {
			w := serve(h, httptest.NewRequest("GET", "/", nil))
			require.Equal(t, 500, w.Code)
			require.Equal(t, "broken\n", w.Body.String())
		}
		for _, step := range []struct {
			wait time.Duration
			want string
		}{{0, "10"}, {time.Millisecond, "10"}, {999 * time.Millisecond, "9"}, {8500 * time.Millisecond, "1"}} {
			time.Sleep(step.wait)
			w := serve(h, httptest.NewRequest("GET", "/", nil))
			require.Equal(t, 503, w.Code)
			require.Equal(t, step.want, w.Header().Get("Retry-After"))
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			require.JSONEq(t, fmt.Sprintf(`{"error":"service unavailable","circuit":"payment","circuit_state":"open","retry_after":%s}`, step.want), w.Body.String())
		}
		require.Equal(t, 2, calls)
		b.ForceOpen()
		w := serve(h, httptest.NewRequest("GET", "/", nil))
		require.Equal(t, "1", w.Header().Get("Retry-After"), "nobody knows when")
	})
}

func TestOutcomesOfAHandler(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	rejected := &resilience.RejectedError{Name: "other"}
	for name, c := range map[string]struct {
		next http.HandlerFunc
		ctx  context.Context // that next ends with
		want events.Counts
		code int
	}{
		"200":              {next: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }, want: events.Counts{Success: 1}, code: 200},
		"nothing":          {next: func(http.ResponseWriter, *http.Request) {}, want: events.Counts{Success: 1}, code: 200},
		"a body":           {next: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x"); w.WriteHeader(500) }, want: events.Counts{Success: 1}, code: 200},
		"404":              {next: http.NotFound, want: events.Counts{Success: 1}, code: 404},
		"429":              {next: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, want: events.Counts{Success: 1}, code: 429},
		"500":              {next: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, want: events.Counts{Failure: 1}, code: 500},
		"500, then 200":    {next: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); w.WriteHeader(200) }, want: events.Counts{Failure: 1}, code: 500},
		"103, then 503":    {next: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(503) }, want: events.Counts{Failure: 1}, code: 103 /* to a recorder */},
		"flush, then 500":  {next: func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); w.WriteHeader(500) }, want: events.Counts{Success: 1}, code: 200},
		"client gone, 500": {next: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, ctx: gone, want: events.Counts{Ignored: 1}, code: 500},
		"client gone, 200": {next: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }, ctx: gone, want: events.Counts{Ignored: 1}, code: 200},
		"too late, 504":    {next: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(504) }, ctx: late, want: events.Counts{Failure: 1}, code: 504},
		"another breaker's rejection": {next: func(w http.ResponseWriter, _ *http.Request) {
			require.True(t, httpres.WriteRejection(w, fmt.Errorf("x: %w", rejected)))
		}, want: events.Counts{Ignored: 1}, code: 503},
		"a rejection after something was written": {next: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "x")
			require.True(t, httpres.WriteRejection(w, rejected))
		}, want: events.Counts{Success: 1}, code: 200},
	} {
		b := newBreaker(t, resilience.CircuitBreakerConfig{})
		r := httptest.NewRequest("GET", "/", nil)
		ctx := &switched{Context: r.Context()}
		w := serve(httpres.Handler(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c.next(w, r)
			if c.ctx != nil {
				ctx.Context = c.ctx
			}
		})), r.WithContext(ctx))
		require.Equal(t, c.want, b.GetStats().Totals, name)
		require.Equal(t, c.code, w.Code, name)
		if c.want.Success == 1 && strings.Contains(name, "rejection") {
			require.Equal(t, "x", w.Body.String())
		}
	}
}

// switched is a context that becomes another.
type switched struct{ context.Context }

func TestPanicsOfAHandler(t *testing.T) {
	for name, c := range map[string]struct {
		value any
		gone  bool
		want  events.Counts
	}{
		"a panic":                        {"x", false, events.Counts{Failure: 1}},
		"an abort":                       {http.ErrAbortHandler, false, events.Counts{Failure: 1}},
		"an abort after the client":      {http.ErrAbortHandler, true, events.Counts{Ignored: 1}},
		"another panic after the client": {"x", true, events.Counts{Failure: 1}},
	} {
		b := newBreaker(t, resilience.CircuitBreakerConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		h := httpres.Handler(b, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			if c.gone {
				cancel()
			}
			panic(c.value)
		}))
		require.PanicsWithValue(t, c.value, func() { serve(h, httptest.NewRequest("GET", "/", nil).WithContext(ctx)) }, name)
		require.Equal(t, c.want, b.GetStats().Totals, name)
		cancel()
	}
}

// A proxy whose client goes away in the middle is no failure of what it proxies.
func TestProxyWhoseClientGoesAway(t *testing.T) {
	backend, _ := newFlaky(t, false, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "beginning")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	target, err := url.Parse(backend.URL)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	proxy.Transport = tr
	proxy.FlushInterval = -1
	b := newBreaker(t, resilience.CircuitBreakerConfig{})
	ended := make(chan struct{})
	protected := httpres.Handler(b, proxy)
	front, client := newFlaky(t, false, func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		protected.ServeHTTP(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := client.RoundTrip(request(t, "GET", front.URL, nil).WithContext(ctx))
	require.NoError(t, err)
	_, err = io.ReadFull(resp.Body, make([]byte, len("beginning")))
	require.NoError(t, err)
	cancel()
	<-ended
	require.Equal(t, events.Counts{Ignored: 1}, b.GetStats().Totals)
}

// A request whose context is done is not served, and not counted.
func TestRequestsThatAreTooLate(t *testing.T) {
	b := newBreaker(t, resilience.CircuitBreakerConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := serve(httpres.Handler(b, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("served") })),
		httptest.NewRequest("GET", "/", nil).WithContext(ctx))
	require.Equal(t, 503, w.Code)
	require.Zero(t, b.GetStats().Totals)
}

func TestKeyedHandler(t *testing.T) {
	breakers := resilience.NewRegistry(&resilience.RegistryConfig{Template: &resilience.CircuitBreakerConfig{VolumeThreshold: 1}})
	defer breakers.Close()
	mux := http.NewServeMux()
	protect := func(h http.HandlerFunc) http.Handler { return httpres.KeyedHandler(breakers, nil, h) }
	mux.Handle("GET /good", protect(func(http.ResponseWriter, *http.Request) {}))
	mux.Handle("GET /bad", protect(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	for path, want := range map[string][]int{"/good": {200, 200}, "/bad": {500, 503}} {
		for _, code := range want {
			require.Equal(t, code, serve(mux, httptest.NewRequest("GET", path, nil)).Code, path)
		}
	}
	require.Equal(t, resilience.StateOpen, breakers.Get("GET /bad").State())
	require.Equal(t, 2, breakers.Len())

	h := httpres.KeyedHandler(breakers, func(r *http.Request) string { return r.Header.Get("Tenant") }, http.NotFoundHandler())
	require.Equal(t, 404, serve(h, httptest.NewRequest("GET", "/", nil)).Code)
	require.Equal(t, 2, breakers.Len(), "no key, no breaker")
}

func TestHandlersThatCannotBe(t *testing.T) {
	b := newBreaker(t, resilience.CircuitBreakerConfig{})
	for want, f := range map[string]func(){
		"resilience: Handler.breaker is <nil>, want a circuit breaker": func() { httpres.Handler(nil, http.NotFoundHandler()) },
		"resilience: Handler.next is <nil>, want a handler":            func() { httpres.Handler(b, nil) },
		"resilience: KeyedHandler.breakers is <nil>, want a registry":  func() { httpres.KeyedHandler(nil, nil, http.NotFoundHandler()) },
	} {
		require.PanicsWithError(t, want, f)
	}
}

func TestWriteRejection(t *testing.T) {
	for _, err := range []error{nil, errDown, resilience.ErrCircuitBreakerOpen} {
		w := httptest.NewRecorder()
		require.False(t, httpres.WriteRejection(w, err))
		require.False(t, w.Flushed)
		require.Empty(t, w.Header())
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Length", "5")
	require.True(t, httpres.WriteRejection(w, &resilience.RetryError{Errs: []error{errDown, &resilience.RejectedError{
		Name: "a \"b\"", State: resilience.StateHalfOpen}}}))
	require.Equal(t, 503, w.Code)
	require.JSONEq(t, `{"error":"service unavailable","circuit":"a \"b\"","circuit_state":"half-open","retry_after":1}`, w.Body.String())
	require.Empty(t, w.Header().Get("Content-Length"))
}

// A handler within another: what the inner rejects is ignored by the outer, also through
// a middleware that wraps the writer, and nothing is written twice.
func TestHandlersWithinHandlers(t *testing.T) {
	outer, inner := newBreaker(t, resilience.CircuitBreakerConfig{}), newBreaker(t, resilience.CircuitBreakerConfig{Name: "inner"})
	inner.ForceOpen()
	h := httpres.Handler(outer, wrapping(httpres.Handler(inner, http.NotFoundHandler())))
	w := serve(h, httptest.NewRequest("GET", "/", nil))
	require.Equal(t, 503, w.Code)
	require.Contains(t, w.Body.String(), `"circuit":"inner"`)
	require.Equal(t, events.Counts{Ignored: 1}, outer.GetStats().Totals)

	h = httpres.Handler(outer, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		httpres.Handler(inner, http.NotFoundHandler()).ServeHTTP(w, r)
	}))
	w = serve(h, httptest.NewRequest("GET", "/", nil))
	require.Equal(t, 200, w.Code)
	require.Equal(t, "first", w.Body.String())
}

// A flush through a middleware that cannot flush itself is a beginning all the same: the
// status is known, and nothing is written twice.
func TestFlushThroughAMiddleware(t *testing.T) {
	b := newBreaker(t, resilience.CircuitBreakerConfig{})
	h := wrapping(httpres.Handler(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		require.NoError(t, http.NewResponseController(w).Flush())
		require.True(t, httpres.WriteRejection(w, &resilience.RejectedError{}))
		w.WriteHeader(http.StatusInternalServerError)
	})))
	w := serve(h, httptest.NewRequest("GET", "/", nil))
	require.Equal(t, 200, w.Code)
	require.Empty(t, w.Body.String())
	require.Equal(t, events.Counts{Success: 1}, b.GetStats().Totals)
}

// Who copies from what fails at once has written nothing, and can still say so.
func TestCopyOfNothing(t *testing.T) {
	both(t, func(t *testing.T, http2 bool) {
		b := newBreaker(t, resilience.CircuitBreakerConfig{})
		server, tr := newFlaky(t, http2, httpres.Handler(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if _, err := io.Copy(w, failing{errDown}); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})).ServeHTTP)
		resp, err := tr.RoundTrip(request(t, "GET", server.URL, nil))
		require.NoError(t, err)
		require.Equal(t, errDown.Error()+"\n", readAll(t, resp))
		require.Equal(t, 500, resp.StatusCode)
		require.Equal(t, events.Counts{Failure: 1}, b.GetStats().Totals)
	})
}

func wrapping(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(unwrapper{w}, r) })
}

type unwrapper struct{ http.ResponseWriter }

func (u unwrapper) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// Over a real connection a handler finds what it looks for: to flush, to hijack, to send
// a file without copying, and deadlines, each as far as the protocol has it.
func TestWhatAResponseWriterCan(t *testing.T) {
	both(t, func(t *testing.T, http2 bool) {
		b := newBreaker(t, resilience.CircuitBreakerConfig{})
		protect := func(f http.HandlerFunc) http.HandlerFunc { return httpres.Handler(b, f).ServeHTTP }
		server, tr := newFlaky(t, http2, protect(func(w http.ResponseWriter, _ *http.Request) {
			_, flushes := w.(http.Flusher)
			_, hijacks := w.(http.Hijacker)
			_, reads := w.(io.ReaderFrom)
			c := http.NewResponseController(w)
			_, _ = fmt.Fprint(w, flushes, hijacks, reads, c.Flush(), c.SetWriteDeadline(time.Time{}))
			_, _ = io.Copy(w, stream(" copied"))
			_, _ = io.WriteString(w, " written")
		}))
		resp, err := tr.RoundTrip(request(t, "GET", server.URL, nil))
		require.NoError(t, err)
		want := "true true true <nil> <nil> copied written"
		if http2 {
			want = "true false false <nil> <nil> copied written"
		}
		require.Equal(t, want, readAll(t, resp))
	})

	b := newBreaker(t, resilience.CircuitBreakerConfig{})
	server, tr := newFlaky(t, false, httpres.Handler(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = conn.Write([]byte(line))
	})).ServeHTTP)
	// And the other side: a connection that is the caller's after a switch of protocols.
	rt := transport(t, httpres.TransportConfig{Base: tr, AttemptTimeout: time.Hour})
	req := request(t, "GET", server.URL, nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := rt.RoundTrip(req)
	require.NoError(t, err)
	require.Equal(t, 101, resp.StatusCode)
	conn, ok := resp.Body.(io.ReadWriteCloser)
	require.True(t, ok)
	_, err = io.WriteString(conn, "hello\n")
	require.NoError(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", line)
	require.NoError(t, conn.Close())
}

// A ResponseWriter that can do nothing special is not said to.
func TestPlainResponseWriter(t *testing.T) {
	b := newBreaker(t, resilience.CircuitBreakerConfig{})
	h := httpres.Handler(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, flushes := w.(http.Flusher)
		_, hijacks := w.(http.Hijacker)
		require.False(t, flushes || hijacks)
		require.ErrorIs(t, http.NewResponseController(w).Flush(), errors.ErrUnsupported)
		w.WriteHeader(500)
	}))
	h.ServeHTTP(struct{ http.ResponseWriter }{httptest.NewRecorder()}, httptest.NewRequest("GET", "/", nil))
	require.Equal(t, events.Counts{Failure: 1}, b.GetStats().Totals, "a flush that did not happen is no beginning")
}

// The context that a sink derives for the call is the request's in next.
func TestContextOfAHandler(t *testing.T) {
	type key struct{}
	b := newBreaker(t, resilience.CircuitBreakerConfig{Events: events.Sink{
		CallStarted: func(ctx context.Context, _ events.CallStarted) context.Context {
			return context.WithValue(ctx, key{}, "derived")
		},
	}})
	serve(httpres.Handler(b, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		require.Equal(t, "derived", r.Context().Value(key{}))
	})), httptest.NewRequest("GET", "/", nil))
}
