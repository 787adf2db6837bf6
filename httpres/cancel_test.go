package httpres_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/httpres"
	"github.com/breakwater-go/breakwater/resilience"
)

// The caller gives up at every point that a request goes through. Each time nothing is
// tried after it, the body of the request is closed, what was held of a response too, no
// context of an attempt is left alive, and the breaker counts no failure for it.
func TestCancelAtEveryPoint(t *testing.T) {
	type point string
	const (
		before   point = "before"
		key      point = "key"
		reading  point = "while the body is read"
		sending  point = "during the attempt"
		headers  point = "when the headers are in"
		deciding point = "while deciding"
		draining point = "while draining"
		waiting  point = "during the wait"
		second   point = "during the second attempt"
		never    point = ""
	)
	for _, at := range []point{before, key, reading, sending, headers, deciding, draining, waiting, second, never} {
		for i := range 4 {
			until, timeout := i&1 != 0, time.Duration(i&2)*time.Hour
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				reach := func(p point) {
					if p == at {
						cancel(errDown)
					}
				}
				var contexts []context.Context
				var bodies []*tracked
				b := base(func(req *http.Request) (*http.Response, error) {
					contexts = append(contexts, req.Context())
					defer func() { _ = req.Body.Close() }()
					if _, err := io.ReadAll(req.Body); err != nil {
						return nil, err
					}
					if len(contexts) == 1 {
						reach(sending)
					} else {
						reach(second)
					}
					if err := req.Context().Err(); err != nil {
						return nil, err
					}
					reach(headers)
					body := &tracked{Reader: io.MultiReader(during(func() { reach(draining) }), strings.NewReader("body"))}
					bodies = append(bodies, body)
					code := 503
					if len(contexts) > 1 {
						code = 200
					}
					return &http.Response{StatusCode: code, Body: body, ContentLength: 4}, nil
				})
				rt := httpres.NewTransport(&httpres.TransportConfig{
					Base: b, UntilBodyEnd: until, AttemptTimeout: timeout, Retry: &resilience.RetryConfig{InitialDelay: time.Minute, MaxDelay: time.Minute},
					Key:     func(*http.Request) string { reach(key); return "k" },
					RetryIf: func(resp *http.Response, err error) bool { reach(deciding); return httpres.DefaultRetryIf(resp, err) },
					Events:  scheduled(func() { time.AfterFunc(time.Second, func() { reach(waiting) }) }),
				})
				defer rt.Close()
				sent := &tracked{Reader: io.MultiReader(during(func() { reach(reading) }), strings.NewReader("sent"))}
				req := request(t, "PUT", there, sent).WithContext(ctx)
				reach(before)
				resp, err := rt.RoundTrip(req)
				synctest.Wait()

				require.Equal(t, int64(1), sent.closed.Load(), at)
				attempts := map[point]int{before: 0, key: 0, second: 2, never: 2}
				want, ok := attempts[at]
				if !ok {
					want = 1
				}
				require.Len(t, contexts, want, at)
				_, failures, _, _ := counts(rt, "k")
				if at == waiting || at == second || at == never || at == draining {
					require.Equal(t, uint64(1), failures, "%s: the 503 before", at)
				}
				switch at {
				case headers, deciding: // there is an answer already, and it says more than an error
					require.NoError(t, err, at)
					require.Equal(t, 503, resp.StatusCode)
					_ = readAll(t, resp)
				case never:
					require.NoError(t, err)
					require.Equal(t, 200, resp.StatusCode)
					require.NoError(t, contexts[1].Err())
					require.Equal(t, "body", readAll(t, resp))
				default:
					require.ErrorIs(t, err, context.Canceled, at)
					require.Nil(t, resp)
					if at != waiting && at != second && at != draining {
						require.Zero(t, failures, at)
					}
				}
				for i, ctx := range contexts {
					if timeout == 0 {
						break // it is the caller's
					}
					require.Error(t, ctx.Err(), "%s: attempt %d", at, i+1)
				}
				for i, body := range bodies {
					require.Equal(t, int64(1), body.closed.Load(), "%s: response %d", at, i+1)
				}
			})
		}
	}
}

// during is a reader that does something and ends.
type during func()

func (f during) Read([]byte) (int, error) { f(); return 0, io.EOF }

// The same over real connections, at times that nobody chose: whatever happens, nothing
// hangs, nothing is left behind (TestMain sees to that), and a response that came is
// whole or fails.
func TestCancelAtAnyTime(t *testing.T) {
	both(t, func(t *testing.T, http2 bool) {
		var n atomic.Int64
		server, tr := newFlaky(t, http2, func(w http.ResponseWriter, r *http.Request) {
			switch n.Add(1) % 4 {
			case 0:
				reset(w, r)
			case 1:
				die(503)(w, r)
			case 2:
				answer(503)(w, r)
			default:
				answer(200)(w, r)
			}
		})
		rt := transport(t, httpres.TransportConfig{Base: tr, Breaker: &resilience.CircuitBreakerConfig{ErrorThreshold: 1}})
		var all sync.WaitGroup
		for worker := range 4 {
			all.Go(func() {
				for i := range 50 {
					ctx, cancel := context.WithCancel(t.Context())
					timer := time.AfterFunc(time.Duration(i*(worker+1))*20*time.Microsecond, cancel)
					resp, err := rt.RoundTrip(request(t, "PUT", server.URL, stream("the body")).WithContext(ctx))
					if err == nil {
						body, err := io.ReadAll(resp.Body)
						_ = resp.Body.Close()
						if err == nil && string(body) != "the body" && resp.StatusCode != 503 {
							t.Errorf("%d %q", resp.StatusCode, body)
						}
					}
					timer.Stop()
					cancel()
				}
			})
		}
		all.Wait()
	})
}

// A request that was cancelled in the old way is not sent again.
func TestOldCancel(t *testing.T) {
	cancel := make(chan struct{})
	var why reasons
	b := answering(func(*http.Request) (*http.Response, error) { close(cancel); return nil, errDown })
	rt := transport(t, httpres.TransportConfig{Base: b, Events: why.sink()})
	req := request(t, "GET", there, nil)
	req.Cancel = cancel //nolint:staticcheck // callers may still use it
	_, err := rt.RoundTrip(req)
	require.Same(t, errDown, err)
	require.Equal(t, 1, b.count())
	_, failures, ignored, _ := counts(rt, "http://there.test")
	require.Equal(t, [2]uint64{0, 1}, [2]uint64{failures, ignored})
	require.Equal(t, []events.Reason{events.ReasonNotRetryable}, why.all)
}

// The timeout of a client ends a request by its context and by the old way, in either
// order. A server that does not answer in time has failed in both.
func TestTimeoutOfTheClientIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts []events.AttemptFinished
		hangs := func(req *http.Request) (*http.Response, error) {
			<-req.Cancel //nolint:staticcheck // as a client sets it
			return nil, errDown
		}
		rt := transport(t, httpres.TransportConfig{Base: base(hangs), Breaker: &resilience.CircuitBreakerConfig{VolumeThreshold: 1000},
			Events: events.Sink{AttemptFinished: func(_ context.Context, e events.AttemptFinished) { attempts = append(attempts, e) }}})
		client := &http.Client{Transport: rt, Timeout: time.Second}
		const calls = 200
		for range calls {
			_, err := client.Do(request(t, "GET", there, nil)) //nolint:bodyclose // there is none
			require.True(t, os.IsTimeout(err), "%v", err)
		}
		_, failures, ignored, _ := counts(rt, "http://there.test")
		require.Equal(t, [2]uint64{calls, 0}, [2]uint64{failures, ignored})
		require.Len(t, attempts, calls)
	})

	// The same, where it is certain that the context comes second.
	rt := transport(t, httpres.TransportConfig{Base: base(down)})
	cancelled := make(chan struct{})
	close(cancelled)
	req := request(t, "GET", there, nil).WithContext(&overdue{t.Context()})
	req.Cancel = cancelled //nolint:staticcheck // as a client sets it
	_, err := rt.RoundTrip(req)
	require.Same(t, errDown, err)
	_, failures, ignored, _ := counts(rt, "http://there.test")
	require.Equal(t, [2]uint64{1, 0}, [2]uint64{failures, ignored})
}

// overdue is a context that should be done, and is not yet.
type overdue struct{ context.Context }

func (overdue) Deadline() (time.Time, bool) { return time.Now(), true }

// The timeout of a client covers all attempts.
func TestTimeoutOfTheClient(t *testing.T) {
	server, tr := newFlaky(t, false, answer(503, "Retry-After", "5"))
	rt := transport(t, httpres.TransportConfig{Base: tr, Retry: &resilience.RetryConfig{MaxRetryAfter: time.Hour}})
	client := &http.Client{Transport: rt, Timeout: 4 * time.Second}
	resp, err := client.Do(request(t, "GET", server.URL, nil))
	require.NoError(t, err, "the wait does not fit, so the response comes back at once")
	require.Equal(t, 503, resp.StatusCode)
	_ = readAll(t, resp)
	require.Equal(t, int64(1), server.requests.Load())
}

// Over connections in memory, in fake time: a server that stops in the middle of what is
// drained costs the time that drains may take, and the connection.
func TestDrainingOverAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
		requests := 0
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			if requests > 1 {
				_, _ = io.WriteString(w, "good")
				return
			}
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})}
		done := make(chan error)
		go func() { done <- server.Serve(l) }()
		tr := &http.Transport{DialContext: l.dial}
		rt := httpres.NewTransport(&httpres.TransportConfig{Base: tr, Retry: noWait()})
		began := time.Now()
		resp, err := rt.RoundTrip(request(t, "GET", there, nil))
		require.NoError(t, err)
		require.Equal(t, "good", readAll(t, resp))
		require.Equal(t, 100*time.Millisecond, time.Since(began))
		require.Equal(t, 2, l.dialed)

		rt.Close()
		rt.CloseIdleConnections()
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-done, http.ErrServerClosed)
	})
}

// pipes is a listener whose connections are pipes, on which time passes in a bubble.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
	dialed int
}

func (l *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	l.dialed++
	select {
	case l.accept <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, errors.New("closed")
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
