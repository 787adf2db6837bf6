package httpres_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/httpres"
	"github.com/breakwater-go/breakwater/resilience"
)

// Against a real server that misbehaves, over both versions: what a caller sees, and how
// many requests the server saw.
func TestServersThatMisbehave(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the client has gone
		<-r.Context().Done()
	}
	early := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	chunks := func(w http.ResponseWriter, _ *http.Request) { // without an end
		w.WriteHeader(http.StatusServiceUnavailable)
		for err := error(nil); err == nil; {
			_, err = w.Write(make([]byte, 16<<10))
		}
	}
	trickle := func(w http.ResponseWriter, r *http.Request) { // headers, and then nothing
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = http.NewResponseController(w).Flush()
		hang(w, r)
	}
	zipped := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(http.StatusServiceUnavailable)
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, "the beginning")
		_ = z.Flush()
		_ = http.NewResponseController(w).Flush()
		hang(w, r)
	}
	ok := answer(200)
	for name, c := range map[string]struct {
		steps    []http.HandlerFunc
		timeout  time.Duration // of an attempt
		status   int           // 0 for an error
		requests int64
	}{
		"resets":                        {steps: []http.HandlerFunc{reset, reset, ok}, status: 200, requests: 3},
		"resets always":                 {steps: []http.HandlerFunc{reset}, requests: 3},
		"unavailable":                   {steps: []http.HandlerFunc{answer(503), answer(502), ok}, status: 200, requests: 3},
		"unavailable always":            {steps: []http.HandlerFunc{answer(503)}, status: 503, requests: 3},
		"unavailable, then resets":      {steps: []http.HandlerFunc{answer(503), reset, ok}, status: 200, requests: 3},
		"wrong Retry-After":             {steps: []http.HandlerFunc{answer(429, "Retry-After", "tomorrow"), ok}, status: 200, requests: 2},
		"absurd Retry-After":            {steps: []http.HandlerFunc{answer(429, "Retry-After", "99999999999999999999"), ok}, status: 429, requests: 1},
		"slow headers":                  {steps: []http.HandlerFunc{hang, ok}, timeout: 150 * time.Millisecond, status: 200, requests: 2},
		"half a body, discarded":        {steps: []http.HandlerFunc{die(503), ok}, status: 200, requests: 2},
		"a body without end, discarded": {steps: []http.HandlerFunc{chunks, ok}, status: 200, requests: 2},
		"a body that stalls, discarded": {steps: []http.HandlerFunc{trickle, ok}, status: 200, requests: 2},
		"and one in gzip":               {steps: []http.HandlerFunc{zipped, ok}, status: 200, requests: 2},
		"103 and 503":                   {steps: []http.HandlerFunc{early, ok}, status: 200, requests: 2},
		"not found":                     {steps: []http.HandlerFunc{answer(404), ok}, status: 404, requests: 1},
		"internal error":                {steps: []http.HandlerFunc{answer(500), ok}, status: 500, requests: 1},
	} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			both(t, func(t *testing.T, http2 bool) {
				server, base := newFlaky(t, http2, c.steps...)
				rt := transport(t, httpres.TransportConfig{Base: base, AttemptTimeout: c.timeout})
				defer rt.CloseIdleConnections()
				body := io.Reader(nil)
				if method != "GET" {
					body = stream("the body")
				}
				resp, err := (&http.Client{Transport: rt}).Do(request(t, method, server.URL, body))
				if c.status == 0 {
					require.ErrorIs(t, err, resilience.ErrRetriesExhausted, name)
				} else {
					require.NoError(t, err, name)
					require.Equal(t, c.status, resp.StatusCode, name)
					got := readAll(t, resp)
					if method != "GET" {
						require.Equal(t, "the body", got, "%s: the last attempt had all of it", name)
					}
				}
				require.Equal(t, c.requests, server.requests.Load(), "%s %s", method, name)
			})
		}
	}
}

// A server that dies in the middle of the body that the caller reads: the error is the
// caller's, nobody tries again, and the breaker hears of it if it is to.
func TestServerDiesMidBody(t *testing.T) {
	both(t, func(t *testing.T, http2 bool) {
		for _, until := range []bool{false, true} {
			server, base := newFlaky(t, http2, die(200))
			rt := transport(t, httpres.TransportConfig{Base: base, UntilBodyEnd: until})
			resp, err := rt.RoundTrip(request(t, "GET", server.URL, nil))
			require.NoError(t, err)
			got, err := io.ReadAll(resp.Body)
			require.Error(t, err)
			require.Equal(t, "half a body", string(got))
			require.NoError(t, resp.Body.Close())
			require.Equal(t, int64(1), server.requests.Load())
			success, failure, _, _ := counts(rt, server.URL)
			require.Equal(t, until, failure == 1)
			require.Equal(t, !until, success == 1)
		}
	})
}

// Connections are used again: three attempts need one, whether the body of a discarded
// response has a length or not, and so does the next request.
func TestConnectionsAreUsedAgain(t *testing.T) {
	page := strings.Repeat("sorry", 4000)
	long := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, page)
	}
	known := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(page)))
		long(w, r)
	}
	gone := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write(make([]byte, 1_000_000))
	}
	for name, c := range map[string]struct {
		step  http.HandlerFunc
		conns int64 // over HTTP/1
	}{
		"chunked":      {long, 1},
		"known length": {known, 1},
		"too long":     {gone, 3},
	} {
		both(t, func(t *testing.T, http2 bool) {
			server, base := newFlaky(t, http2, c.step, c.step, answer(200))
			rt := transport(t, httpres.TransportConfig{Base: base})
			var reused []bool
			trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = append(reused, i.Reused) }}
			for range 2 {
				req := request(t, "GET", server.URL, nil)
				resp, err := rt.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
				require.NoError(t, err)
				require.Equal(t, 200, resp.StatusCode)
				_ = readAll(t, resp)
			}
			conns := c.conns
			if http2 {
				conns = 1
			}
			require.Equal(t, conns, server.conns.Load(), name)
			if conns == 1 {
				require.Equal(t, []bool{false, true, true, true}, reused, name)
			}
		})
	}
}

// During a wait no connection is held: with one connection to the host, others get it.
func TestNoConnectionIsHeldWhileWaiting(t *testing.T) {
	waiting := make(chan struct{})
	server, tr := newFlaky(t, false, answer(503, "Retry-After", "30"), answer(200))
	tr.MaxConnsPerHost = 1
	var once sync.Once
	rt := transport(t, httpres.TransportConfig{Base: tr, Retry: &resilience.RetryConfig{MaxRetryAfter: time.Minute,
		Events: scheduled(func() { once.Do(func() { close(waiting) }) })}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := rt.RoundTrip(request(t, "GET", server.URL, nil).WithContext(ctx))
		done <- err
	}()
	<-waiting
	resp, err := rt.RoundTrip(request(t, "GET", server.URL, nil))
	require.NoError(t, err)
	_ = readAll(t, resp)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Equal(t, int64(1), server.conns.Load())
}

// A connection that the server closed while it was idle is the business of net/http, and
// where it does not send again, as a PUT, ours. Either way the caller gets an answer and
// the body arrives once.
func TestIdleConnectionsThatBreak(t *testing.T) {
	for _, method := range []string{"GET", "PUT", "POST"} {
		var got atomic.Value
		server, tr := newFlaky(t, false, func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			got.Store(string(body))
		})
		rt := transport(t, httpres.TransportConfig{Base: tr})
		for i := range 5 {
			req := request(t, method, server.URL, stream(fmt.Sprintf("body %d", i)))
			if method == "POST" {
				req.Header.Set("Idempotency-Key", "1")
			}
			resp, err := rt.RoundTrip(req)
			require.NoError(t, err, method)
			_ = readAll(t, resp)
			require.Equal(t, fmt.Sprintf("body %d", i), got.Load())
			server.CloseClientConnections()
		}
	}
}

func TestNobodyIsThere(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	rt := transport(t, httpres.TransportConfig{Base: tr})
	_, err = rt.RoundTrip(request(t, "GET", "http://"+l.Addr().String(), nil))
	require.ErrorIs(t, err, resilience.ErrRetriesExhausted)
	op, ok := errors.AsType[*net.OpError](err)
	require.True(t, ok)
	require.Equal(t, "dial", op.Op)
}

func TestCertificatesThatDoNotVerify(t *testing.T) {
	server, _ := newFlaky(t, true, answer(200))
	tr := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	defer tr.CloseIdleConnections()
	_, err := transport(t, httpres.TransportConfig{Base: tr}).RoundTrip(request(t, "GET", server.URL, nil))
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	require.True(t, ok, "%v", err)
	_, several := errors.AsType[*resilience.RetryError](err)
	require.False(t, several)
	require.Equal(t, int64(1), server.conns.Load())

	// The server wants a certificate of the client: an alert, which is the same next time.
	var alerts atomic.Int64
	strict := httptest.NewUnstartedServer(answer(200))
	strict.Config.ErrorLog = log.New(io.Discard, "", 0)
	strict.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			alerts.Add(1)
		}
	}
	strict.TLS = &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert}
	strict.StartTLS()
	defer strict.Close()
	_, err = transport(t, httpres.TransportConfig{Base: strict.Client().Transport}).RoundTrip(request(t, "GET", strict.URL, nil))
	op, ok := errors.AsType[*net.OpError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "remote error", op.Op)
	require.Equal(t, int64(1), alerts.Load())

	// A server that does not speak TLS.
	plain, tr2 := newFlaky(t, false, answer(200))
	_, err = (&http.Client{Transport: transport(t, httpres.TransportConfig{Base: tr2})}).
		Do(request(t, "GET", strings.Replace(plain.URL, "http:", "https:", 1), nil))
	require.ErrorIs(t, err, http.ErrSchemeMismatch, "the client knows the error by its type")
	require.Equal(t, int64(1), plain.conns.Load())
}

// Early hints, trailers of both sides, and what a caller traces, pass through.
func TestWhatPassesThrough(t *testing.T) {
	both(t, func(t *testing.T, http2 bool) {
		server, tr := newFlaky(t, http2, answer(503), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.Copy(w, r.Body)
			w.Header().Set("X-Sum", r.Trailer.Get("X-Sum"))
		})
		rt := transport(t, httpres.TransportConfig{Base: tr})
		hints := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
			hints++
			return nil
		}})
		// The trailer is known when the body was read, which is when net/http looks at it.
		body := io.Reader(strings.NewReader("body"))
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, server.URL, nil)
		require.NoError(t, err)
		req.Trailer = http.Header{"X-Sum": nil}
		req.Body = io.NopCloser(io.MultiReader(body, atEnd(func() { req.Trailer.Set("X-Sum", "4") })))
		req.ContentLength = -1
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		require.Empty(t, resp.Trailer.Get("X-Sum"))
		require.Equal(t, "body", readAll(t, resp))
		require.Equal(t, "4", resp.Trailer.Get("X-Sum"))
		require.Equal(t, 1, hints)
	})
}

type atEnd func()

func (f atEnd) Read([]byte) (int, error) { f(); return 0, io.EOF }

// Redirects are the client's, and each hop is a request of its own.
func TestRedirects(t *testing.T) {
	both(t, func(t *testing.T, http2 bool) {
		server, tr := newFlaky(t, http2,
			answer(503), answer(307, "Location", "/elsewhere"),
			answer(503), func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				_, _ = fmt.Fprint(w, r.URL.Path, " ", string(body))
			})
		client := &http.Client{Transport: transport(t, httpres.TransportConfig{Base: tr})}
		resp, err := client.Do(request(t, "PUT", server.URL+"/here", strings.NewReader("body")))
		require.NoError(t, err)
		require.Equal(t, "/elsewhere", resp.Request.URL.Path)
		require.Equal(t, "/elsewhere body", readAll(t, resp))

		loop, tr := newFlaky(t, http2, answer(302, "Location", "/"))
		_, err = (&http.Client{Transport: transport(t, httpres.TransportConfig{Base: tr})}).Do(request(t, "GET", loop.URL, nil))
		require.ErrorContains(t, err, "stopped after 10 redirects")
		require.Equal(t, int64(10), loop.requests.Load())
	})
}

// A body that is too large to be kept is sent as it comes, whole, and once.
func TestLargeBodies(t *testing.T) {
	both(t, func(t *testing.T, http2 bool) {
		for name, c := range map[string]struct {
			size, declared int64
			requests       int64
		}{
			"fits":                      {1000, -1, 2},
			"just fits":                 {4096, -1, 2},
			"too large":                 {4097, -1, 1},
			"much too large":            {1 << 20, -1, 1},
			"declared, fits":            {4096, 4096, 2},
			"declared, too large":       {4097, 4097, 1},
			"declared, much too large":  {1 << 20, 1 << 20, 1},
			"empty, and nobody said so": {0, -1, 2},
		} {
			want := bytes.Repeat([]byte("x"), int(c.size))
			var sums []int
			step := func(code int) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					if bytes.Equal(body, want) {
						sums = append(sums, len(body))
					}
					w.WriteHeader(code)
				}
			}
			server, tr := newFlaky(t, http2, step(503), step(200))
			rt := transport(t, httpres.TransportConfig{Base: tr, MaxBody: 4096})
			body := &tracked{Reader: bytes.NewReader(want)}
			req := request(t, "PUT", server.URL, body)
			req.ContentLength = c.declared
			resp, err := rt.RoundTrip(req)
			require.NoError(t, err, name)
			_ = readAll(t, resp)
			require.Equal(t, c.requests, server.requests.Load(), name)
			require.Equal(t, c.requests == 1, resp.StatusCode == 503, name)
			require.Len(t, sums, int(c.requests), "%s: each of them was whole", name)
			body.awaitClosed()
		}
	})
}

// The same when there is no answer: the error is the attempt's own.
func TestLargeBodiesAndErrors(t *testing.T) {
	both(t, func(t *testing.T, http2 bool) {
		server, tr := newFlaky(t, http2, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			reset(w, r)
		})
		rt := transport(t, httpres.TransportConfig{Base: tr, MaxBody: 4096})
		_, err := rt.RoundTrip(request(t, "PUT", server.URL, stream(strings.Repeat("x", 5000))))
		require.Error(t, err)
		_, several := errors.AsType[*resilience.RetryError](err)
		require.False(t, several, "%v", err)
		require.Equal(t, int64(1), server.requests.Load())
		_, failures, _, _ := counts(rt, server.URL)
		require.Equal(t, uint64(1), failures)
	})
}

// A body that the caller cannot read is nobody's failure but his.
func TestBodiesThatFail(t *testing.T) {
	both(t, func(t *testing.T, http2 bool) {
		for _, method := range []string{"PUT", "POST"} { // kept, and not
			server, tr := newFlaky(t, http2, answer(200))
			rt := transport(t, httpres.TransportConfig{Base: tr})
			_, err := rt.RoundTrip(request(t, method, server.URL, io.MultiReader(strings.NewReader("half"), failing{errDown})))
			require.ErrorIs(t, err, errDown)
			_, several := errors.AsType[*resilience.RetryError](err)
			require.False(t, several)
			_, failures, ignored, _ := counts(rt, server.URL)
			require.Equal(t, [2]uint64{0, 1}, [2]uint64{failures, ignored}, method)
		}
	})
}

// A body that is longer or shorter than its request says is the request's fault: it is
// not sent again, and says nothing about the server.
func TestBodiesThatAreNotOfTheirSize(t *testing.T) {
	both(t, func(t *testing.T, http2 bool) {
		for _, method := range []string{"PUT", "POST"} { // kept, and not
			for _, length := range []int64{2, 5} {
				if http2 && length == 5 {
					continue // the server has to notice
				}
				server, tr := newFlaky(t, http2, func(_ http.ResponseWriter, r *http.Request) {
					if _, err := io.ReadAll(r.Body); err == nil {
						<-r.Context().Done() // an answer would be one
					}
				})
				rt := transport(t, httpres.TransportConfig{Base: tr})
				req := request(t, method, server.URL, stream("xyz"))
				req.ContentLength = length
				_, err := rt.RoundTrip(req)
				require.Error(t, err)
				_, several := errors.AsType[*resilience.RetryError](err)
				require.False(t, several, "%v", err)
				_, failures, ignored, _ := counts(rt, server.URL)
				require.Equal(t, [2]uint64{0, 1}, [2]uint64{failures, ignored}, "%s of %d: %v", method, length, err)
			}
		}
	})
}

// What one protocol minds and the other does not.
func TestBadRequestsOfAProtocol(t *testing.T) {
	for name, c := range map[string]struct {
		http2  bool
		change func(*http.Request)
	}{
		"nil Body": {false, func(r *http.Request) { r.ContentLength = 5 }},
		"Host":     {true, func(r *http.Request) { r.Host = "a b" }},
	} {
		server, tr := newFlaky(t, c.http2, answer(200))
		rt := transport(t, httpres.TransportConfig{Base: tr})
		req := request(t, "GET", server.URL, nil)
		c.change(req)
		_, err := rt.RoundTrip(req)
		require.Error(t, err, name) // whose words vary: the connection is closed meanwhile
		_, failures, ignored, _ := counts(rt, server.URL)
		require.Equal(t, [2]uint64{0, 1}, [2]uint64{failures, ignored}, name)
	}
}

// A body that is written while it is sent, and as an answer to what comes back, works:
// nothing is read in advance.
func TestBodiesThatAreConversations(t *testing.T) {
	server, tr := newFlaky(t, true, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(flushing{w}, r.Body)
	})
	rt := transport(t, httpres.TransportConfig{Base: tr})
	in, out := io.Pipe()
	resp, err := rt.RoundTrip(request(t, "PUT", server.URL, in))
	require.NoError(t, err)
	for i := range 5 {
		_, err = fmt.Fprintf(out, "line %d\n", i)
		require.NoError(t, err)
		line := make([]byte, 7)
		_, err = io.ReadFull(resp.Body, line)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("line %d\n", i), string(line))
	}
	require.NoError(t, out.Close())
	require.Empty(t, readAll(t, resp))
}

type flushing struct{ http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	return n, errors.Join(err, http.NewResponseController(f.ResponseWriter).Flush())
}

// Many requests at once, of which some fail, over few connections.
func TestManyAtOnce(t *testing.T) {
	both(t, func(t *testing.T, http2 bool) {
		var n atomic.Int64
		server, tr := newFlaky(t, http2, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1)%3 == 0 {
				reset(w, r)
				return
			}
			answer(200+int(n.Add(1)%2)*303)(w, r)
		})
		rt := transport(t, httpres.TransportConfig{Base: tr, Breaker: &resilience.CircuitBreakerConfig{ErrorThreshold: 1}})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 20 {
					resp, err := rt.RoundTrip(request(t, "PUT", server.URL, stream("the body")))
					if err != nil {
						continue
					}
					body, err := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if err == nil && string(body) != "the body" {
						t.Errorf("body is %q", body)
					}
				}
			})
		}
		all.Wait()
	})
}
