package httpres_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/httpres"
	"github.com/breakwater-go/breakwater/resilience"
)

// base is a round tripper made of a function.
type base func(*http.Request) (*http.Response, error)

func (f base) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// answers returns a Base that gives the answers one after the other, the last one ever
// after. It reads and closes the bodies of requests, as a transport does.
type answers struct {
	mu    sync.Mutex
	list  []func(*http.Request) (*http.Response, error)
	calls []*http.Request
	sent  []string // the bodies
}

func answering(list ...func(*http.Request) (*http.Response, error)) *answers {
	return &answers{list: list}
}

func (a *answers) RoundTrip(req *http.Request) (*http.Response, error) {
	var sent []byte
	if req.Body != nil {
		sent, _ = io.ReadAll(req.Body)
		_ = req.Body.Close()
	}
	a.mu.Lock()
	a.calls = append(a.calls, req)
	a.sent = append(a.sent, string(sent))
	answer := a.list[min(len(a.calls), len(a.list))-1]
	a.mu.Unlock()
	return answer(req)
}

func (a *answers) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.calls)
}

// status answers with a status, a short body, and pairs of header fields.
func status(code int, header ...string) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		resp := &http.Response{StatusCode: code, Header: http.Header{}, Request: req,
			Body: &tracked{Reader: strings.NewReader(http.StatusText(code))}, ContentLength: -1}
		for i := 0; i < len(header); i += 2 {
			resp.Header.Set(header[i], header[i+1])
		}
		return resp, nil
	}
}

var errDown = errors.New("connection lost")

func down(*http.Request) (*http.Response, error) { return nil, errDown }

// tracked is a body that knows what became of it.
type tracked struct {
	io.Reader
	closed atomic.Int64
}

func (b *tracked) Close() error {
	b.closed.Add(1)
	return nil
}

// awaitClosed returns when the body is closed, which a transport may do after it has
// returned.
func (b *tracked) awaitClosed() {
	for b.closed.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
}

// transport returns a Transport that does not wait between attempts.
func transport(t testing.TB, config httpres.TransportConfig) *httpres.Transport {
	t.Helper()
	if config.Retry == nil {
		config.Retry = noWait()
	}
	rt := httpres.NewTransport(&config)
	t.Cleanup(rt.Close)
	return rt
}

func noWait() *resilience.RetryConfig {
	return &resilience.RetryConfig{InitialDelay: 1, MaxDelay: 1, MaxRetryAfter: time.Minute}
}

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	require.NoError(t, err)
	return req
}

// stream hides from net/http what it could read a body from again.
func stream(s string) io.Reader { return struct{ io.Reader }{strings.NewReader(s)} }

func readAll(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return string(b)
}

// counts returns what the breaker of a key has counted.
func counts(rt *httpres.Transport, key string) (success, failure, ignored, rejected uint64) {
	s := rt.Breakers().Get(key).GetStats().Totals
	return s.Success, s.Failure, s.Ignored, s.Rejected
}

// reasons collects why retried operations ended.
type reasons struct {
	mu  sync.Mutex
	all []events.Reason
}

func (r *reasons) sink() events.Sink {
	return events.Sink{RetryFinished: func(_ context.Context, e events.RetryFinished) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, e.Reason)
	}}
}

// flaky is a server that misbehaves: each request takes the next step, the last one
// ever after.
type flaky struct {
	*httptest.Server
	requests atomic.Int64
	conns    atomic.Int64
}

func newFlaky(t testing.TB, http2 bool, steps ...http.HandlerFunc) (*flaky, *http.Transport) {
	t.Helper()
	f := new(flaky)
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := f.requests.Add(1)
		steps[min(int(n), len(steps))-1](w, r)
	}))
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			f.conns.Add(1)
		}
	}
	base := &http.Transport{}
	if http2 {
		f.EnableHTTP2 = true
		f.StartTLS()
		base = f.Client().Transport.(*http.Transport).Clone()
		base.ForceAttemptHTTP2 = true
	} else {
		f.Start()
	}
	t.Cleanup(func() {
		base.CloseIdleConnections()
		f.CloseClientConnections()
		f.Close()
	})
	return f, base
}

// both runs a test over HTTP/1.1 and over HTTP/2.
func both(t *testing.T, test func(t *testing.T, http2 bool)) {
	for name, http2 := range map[string]bool{"HTTP1": false, "HTTP2": true} {
		t.Run(name, func(t *testing.T) { test(t, http2) })
	}
}

func answer(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.Copy(w, bytes.NewReader(body))
	}
}

// reset ends a connection, or over HTTP/2 a stream, before anything was answered.
func reset(w http.ResponseWriter, _ *http.Request) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.(interface{ SetLinger(int) error }).SetLinger(0)
		_ = conn.Close()
		return
	}
	panic(http.ErrAbortHandler)
}

// die sends half of a body, and ends.
func die(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "half a body")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// scheduled returns a sink that tells when a retry begins to wait.
func scheduled(f func()) events.Sink {
	return events.Sink{RetryScheduled: func(context.Context, events.RetryScheduled) { f() }}
}
