package httpres_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/httpres"
	"github.com/breakwater-go/breakwater/resilience"
)

const there = "http://there.test/"

func TestStatusesThatAreTriedAgain(t *testing.T) {
	for code, again := range map[int]bool{
		200: false, 204: false, 301: false, 400: false, 404: false, 408: false, 425: false,
		429: true, 500: false, 501: false, 502: true, 503: true, 504: true, 599: false,
	} {
		b := answering(status(code), status(http.StatusOK))
		resp, err := transport(t, httpres.TransportConfig{Base: b}).RoundTrip(request(t, "GET", there, nil))
		require.NoError(t, err)
		if again {
			require.Equal(t, http.StatusOK, resp.StatusCode, code)
			require.Equal(t, 2, b.count(), code)
		} else {
			require.Equal(t, code, resp.StatusCode)
			require.Equal(t, 1, b.count(), code)
		}
		require.Equal(t, http.StatusText(resp.StatusCode), readAll(t, resp))
	}
}

// When no attempt is left the last response comes back, readable, and every attempt was
// a failure for the breaker.
func TestLastResponseComesBack(t *testing.T) {
	var why reasons
	b := answering(status(503), status(502), status(504))
	rt := transport(t, httpres.TransportConfig{Base: b, Events: why.sink()})
	resp, err := rt.RoundTrip(request(t, "GET", there, nil))
	require.NoError(t, err)
	require.Equal(t, 504, resp.StatusCode)
	require.Equal(t, "Gateway Timeout", readAll(t, resp))
	require.Equal(t, 3, b.count())
	require.Equal(t, []events.Reason{events.ReasonExhausted}, why.all)
	_, failures, _, _ := counts(rt, "http://there.test")
	require.Equal(t, uint64(3), failures)
}

// A status that is not tried again counts as well.
func TestWhatCountsForTheBreaker(t *testing.T) {
	for code, want := range map[int][3]uint64{
		200: {1, 0, 0}, 302: {1, 0, 0}, 404: {1, 0, 0}, 408: {1, 0, 0},
		429: {0, 0, 1}, 500: {0, 1, 0}, 501: {0, 1, 0}, 503: {0, 1, 0},
	} {
		rt := transport(t, httpres.TransportConfig{Base: answering(status(code))})
		resp, err := rt.RoundTrip(request(t, "POST", there, nil))
		require.NoError(t, err)
		require.Equal(t, code, resp.StatusCode)
		success, failure, ignored, _ := counts(rt, "http://there.test")
		require.Equal(t, want, [3]uint64{success, failure, ignored}, code)
	}
}

func TestOnlySafeRequestsAreSentAgain(t *testing.T) {
	const yes, no = 3, 1
	for _, c := range []struct {
		method string
		header string
		mark   any
		sent   int
	}{
		{"GET", "", nil, yes}, {"HEAD", "", nil, yes}, {"OPTIONS", "", nil, yes}, {"TRACE", "", nil, yes},
		{"PUT", "", nil, yes}, {"DELETE", "", nil, yes}, {"", "", nil, yes},
		{"POST", "", nil, no}, {"PATCH", "", nil, no}, {"CONNECT", "", nil, no}, {"get", "", nil, no}, {"BREW", "", nil, no},
		{"POST", "Idempotency-Key", nil, yes}, {"PATCH", "X-Idempotency-Key", nil, yes}, {"POST", "X-Request-Id", nil, no},
		{"POST", "", true, yes}, {"GET", "", false, no}, {"POST", "Idempotency-Key", false, no},
	} {
		for name, answer := range map[string]func(*http.Request) (*http.Response, error){"503": status(503), "an error": down} {
			b := answering(answer)
			var why reasons
			req := request(t, c.method, there, nil)
			req.Method = c.method
			if c.header != "" {
				req.Header.Set(c.header, "1")
			}
			if mark, ok := c.mark.(bool); ok {
				req = req.WithContext(httpres.WithIdempotent(req.Context(), mark))
			}
			resp, err := transport(t, httpres.TransportConfig{Base: b, Events: why.sink()}).RoundTrip(req)
			require.Equal(t, c.sent, b.count(), "%v, %s", c, name)
			if name == "503" {
				require.NoError(t, err)
				require.Equal(t, 503, resp.StatusCode)
			} else {
				require.ErrorIs(t, err, errDown)
			}
			want := events.ReasonExhausted
			if c.sent == no {
				want = events.ReasonNotRetryable
			}
			require.Equal(t, []events.Reason{want}, why.all, "%v, %s", c, name)
		}
	}
}

// A key in the header map makes a request idempotent even without a value, as in
// net/http.
func TestIdempotencyKeyWithoutValue(t *testing.T) {
	b := answering(status(503))
	req := request(t, "POST", there, nil)
	req.Header["Idempotency-Key"] = nil
	_, err := transport(t, httpres.TransportConfig{Base: b}).RoundTrip(req)
	require.NoError(t, err)
	require.Equal(t, 3, b.count())
}

func TestErrorsComeBackAsTheyAre(t *testing.T) {
	wrapped := fmt.Errorf("x: %w", errDown)
	fails := func(*http.Request) (*http.Response, error) { return nil, wrapped }

	_, err := transport(t, httpres.TransportConfig{Base: answering(fails)}).RoundTrip(request(t, "POST", there, nil))
	require.Same(t, wrapped, err, "a single attempt's error is that of Base")

	_, err = transport(t, httpres.TransportConfig{Base: answering(fails)}).RoundTrip(request(t, "GET", there, nil))
	require.ErrorIs(t, err, resilience.ErrRetriesExhausted)
	require.ErrorIs(t, err, errDown)
	failed, ok := errors.AsType[*resilience.RetryError](err)
	require.True(t, ok)
	require.Equal(t, 3, failed.Attempts)
	require.Equal(t, "http", failed.Name)

	_, err = transport(t, httpres.TransportConfig{Base: answering(status(503), fails, fails)}).RoundTrip(request(t, "GET", there, nil))
	s, ok := errors.AsType[*httpres.StatusError](err)
	require.True(t, ok, "an attempt that came to a response is among the errors")
	require.Equal(t, 503, s.Code)
	require.Equal(t, "503", s.ErrorType())
	require.EqualError(t, s, "httpres: the server answered 503 Service Unavailable")
	s.Discard() // by a stranger: it was, and nothing happens
}

// Through http.Client the errors are wrapped in *url.Error, which asks for Timeout by
// assertion.
func TestErrorsThroughTheClient(t *testing.T) {
	rt := transport(t, httpres.TransportConfig{Base: answering(func(*http.Request) (*http.Response, error) {
		return nil, context.DeadlineExceeded // of somebody further down
	})})
	_, err := (&http.Client{Transport: rt}).Do(request(t, "GET", there, nil))
	outer, ok := errors.AsType[*url.Error](err)
	require.True(t, ok)
	require.True(t, outer.Timeout())

	rt.Breakers().Get("http://there.test").ForceOpen()
	_, err = (&http.Client{Transport: rt}).Do(request(t, "GET", there, nil))
	require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
	rejected, ok := errors.AsType[*resilience.RejectedError](err)
	require.True(t, ok)
	require.Equal(t, "http://there.test", rejected.Name)
}

func TestRetryIfDecides(t *testing.T) {
	b := answering(status(404), down, status(503))
	var asked []string
	rt := transport(t, httpres.TransportConfig{Base: b, RetryIf: func(resp *http.Response, err error) bool {
		if err != nil {
			asked = append(asked, err.Error())
			return true
		}
		asked = append(asked, resp.Status+http.StatusText(resp.StatusCode))
		return resp.StatusCode == 404
	}})
	resp, err := rt.RoundTrip(request(t, "GET", there, nil))
	require.NoError(t, err)
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, []string{"Not Found", "connection lost", "Service Unavailable"}, asked)
	_, failures, ignored, _ := counts(rt, "http://there.test")
	require.Equal(t, uint64(2), failures)
	require.Equal(t, uint64(1), ignored, "the 404 is no failure of the server")
}

// What no repetition mends is not repeated.
func TestErrorsThatLast(t *testing.T) {
	for _, err := range []error{
		&tls.CertificateVerificationError{Err: errDown},
		fmt.Errorf("x: %w", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}),
		http.ErrSchemeMismatch,
	} {
		b := answering(func(*http.Request) (*http.Response, error) { return nil, err })
		_, got := transport(t, httpres.TransportConfig{Base: b}).RoundTrip(request(t, "GET", there, nil))
		require.Equal(t, err, got)
		require.Equal(t, 1, b.count(), err)
	}
}

// The request of a caller is the same after as before, whatever a Base does to the one
// it gets.
func TestTheRequestOfTheCallerIsNotChanged(t *testing.T) {
	b := answering(func(req *http.Request) (*http.Response, error) {
		req.Header.Set("Authorization", "secret")
		req.Header.Add("Accept", "more")
		req.URL.Host, req.Method, req.Body, req.GetBody, req.ContentLength = "elsewhere", "X", nil, nil, -1
		return status(503)(req)
	})
	rt := transport(t, httpres.TransportConfig{Base: b})
	req := request(t, "PUT", there, strings.NewReader("body"))
	req.Header.Set("Accept", "text/plain")
	before, header, address, body := *req, req.Header.Clone(), *req.URL, req.Body
	resp, err := rt.RoundTrip(req)
	require.NoError(t, err)
	require.Equal(t, []string{"body", "body", "body"}, b.sent)
	for _, sent := range b.calls {
		require.NotSame(t, req, sent)
	}
	require.Same(t, req, resp.Request)
	require.Equal(t, header, req.Header)
	require.Equal(t, address, *req.URL)
	require.Equal(t, body, req.Body)
	require.NotNil(t, req.GetBody)
	before.GetBody, req.GetBody = nil, nil // functions cannot be compared
	require.Equal(t, before, *req)
}

// A response whose request is another than the one that was sent, as after a redirect
// that Base followed, keeps it.
func TestTheRequestOfTheResponse(t *testing.T) {
	other := request(t, "GET", "http://other.test/", nil)
	rt := transport(t, httpres.TransportConfig{Base: answering(func(*http.Request) (*http.Response, error) { return status(200)(other) })})
	resp, err := rt.RoundTrip(request(t, "GET", there, nil))
	require.NoError(t, err)
	require.Same(t, other, resp.Request)
}

func TestAttemptNumberIsInTheContext(t *testing.T) {
	var numbers []int
	b := answering(func(req *http.Request) (*http.Response, error) {
		numbers = append(numbers, resilience.AttemptFromContext(req.Context()))
		return status(503)(req)
	})
	_, err := transport(t, httpres.TransportConfig{Base: b}).RoundTrip(request(t, "GET", there, nil))
	require.NoError(t, err)
	require.Equal(t, []int{1, 2, 3}, numbers)
}

func TestBreakersAreOfHosts(t *testing.T) {
	b := answering(status(500))
	rt := transport(t, httpres.TransportConfig{Base: b, Breaker: &resilience.CircuitBreakerConfig{Name: "client", VolumeThreshold: 2}})
	get := func(u string) error {
		body := &tracked{Reader: strings.NewReader("x")}
		resp, err := rt.RoundTrip(request(t, "PUT", u, body))
		if err == nil {
			require.Equal(t, 500, resp.StatusCode)
		} else {
			require.Equal(t, int64(1), body.closed.Load(), "the body of a request that is rejected is closed too")
		}
		return err
	}
	require.NoError(t, get("http://a.test/1"))
	require.NoError(t, get("http://A.test:80/2"))
	err := get("http://a.test/3")
	require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
	require.IsType(t, (*resilience.RejectedError)(nil), err, "as it is")
	require.Equal(t, "client/http://a.test", err.(*resilience.RejectedError).Name) //nolint:errorlint // just asserted
	require.NoError(t, get("https://a.test/"), "another scheme")
	require.NoError(t, get("http://a.test:81/"), "another port")
	require.NoError(t, get("http://b.test/"))
	require.Equal(t, 5, b.count())
}

// A response that was discarded does not come back: if the breaker opens on the way, the
// error says so, and tells of the attempts before.
func TestRejectionOfALaterAttempt(t *testing.T) {
	b := answering(status(503))
	rt := transport(t, httpres.TransportConfig{Base: b, Breaker: &resilience.CircuitBreakerConfig{VolumeThreshold: 1}})
	_, err := rt.RoundTrip(request(t, "GET", there, nil))
	require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
	s, ok := errors.AsType[*httpres.StatusError](err)
	require.True(t, ok)
	require.Equal(t, 503, s.Code)
	require.Equal(t, 1, b.count())
}

func TestKeys(t *testing.T) {
	b := answering(status(200))
	body := func() *tracked { return &tracked{Reader: strings.NewReader("x")} }
	for name, c := range map[string]struct {
		key  func(*http.Request) string
		want string // of the error
	}{
		"panics":            {func(*http.Request) string { panic("boom") }, "httpres: TransportConfig.Key panicked: boom"},
		"panics with error": {func(*http.Request) string { panic(errDown) }, "httpres: TransportConfig.Key panicked: connection lost"},
		"panics at runtime": {func(*http.Request) string { var p *http.Request; return p.Method }, "httpres: TransportConfig.Key panicked: runtime error: invalid memory address or nil pointer dereference"},
	} {
		rt := transport(t, httpres.TransportConfig{Base: b, Key: c.key})
		sent := body()
		_, err := rt.RoundTrip(request(t, "PUT", there, sent))
		require.EqualError(t, err, c.want, name)
		require.Equal(t, int64(1), sent.closed.Load(), name)
		if name == "panics with error" {
			require.ErrorIs(t, err, errDown)
		}
	}
	require.Zero(t, b.count())

	rt := transport(t, httpres.TransportConfig{Base: b, Key: func(req *http.Request) string { return req.URL.Path[1:] }})
	for _, path := range []string{"a", "b", "a", ""} {
		resp, err := rt.RoundTrip(request(t, "GET", there+path, nil))
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
	}
	require.Equal(t, 2, rt.Breakers().Len(), "a and b; an empty key means none")
	success, _, _, _ := counts(rt, "a")
	require.Equal(t, uint64(2), success)
}

// Without a key nothing protects, and responses come back all the same.
func TestNoBreaker(t *testing.T) {
	b := answering(down, status(503), status(500))
	rt := transport(t, httpres.TransportConfig{Base: b, Key: func(*http.Request) string { return "" }})
	resp, err := rt.RoundTrip(request(t, "GET", there, nil))
	require.NoError(t, err)
	require.Equal(t, 500, resp.StatusCode)
	require.Equal(t, 3, b.count())
	require.Zero(t, rt.Breakers().Len())
}

func TestHost(t *testing.T) {
	for u, want := range map[string]string{
		"http://example.com/x":        "http://example.com",
		"http://EXAMPLE.com:80":       "http://example.com",
		"https://example.com:443/":    "https://example.com",
		"https://example.com:80/":     "https://example.com:80",
		"http://[::1]:8080/":          "http://[::1]:8080",
		"http://user@example.com/?q=": "http://example.com",
		"/relative":                   "",
	} {
		parsed, err := url.Parse(u)
		require.NoError(t, err)
		require.Equal(t, want, httpres.Host(&http.Request{URL: parsed}), u)
	}
}

func TestBadRequestsAreNoFailures(t *testing.T) {
	network := &http.Transport{}
	defer network.CloseIdleConnections()
	for name, change := range map[string]func(*http.Request){
		"scheme": func(r *http.Request) { r.URL.Scheme = "gopher" },
		"host":   func(r *http.Request) { r.URL.Host, r.Host = "", "x" },
		"method": func(r *http.Request) { r.Method = "GET /"; r.Header.Set("Idempotency-Key", "1") },
		"header": func(r *http.Request) { r.Header["X"] = []string{"a\nb"} },
		"name":   func(r *http.Request) { r.Header["a b"] = []string{"c"} },
		"nil":    func(r *http.Request) { r.Header = nil },
	} {
		var why reasons
		rt := transport(t, httpres.TransportConfig{Base: network, Key: func(*http.Request) string { return "k" }, Events: why.sink()})
		req := request(t, "GET", there, nil)
		change(req)
		_, err := rt.RoundTrip(req)
		require.Error(t, err)
		_, several := errors.AsType[*resilience.RetryError](err)
		require.False(t, several, "%s: %v", name, err)
		_, failures, ignored, _ := counts(rt, "k")
		require.Equal(t, [2]uint64{0, 1}, [2]uint64{failures, ignored}, "%s: %v", name, err)
		require.Equal(t, []events.Reason{events.ReasonNotRetryable}, why.all, name)
	}
}

func TestNotMade(t *testing.T) {
	for name, rt := range map[string]*httpres.Transport{"nil": nil, "zero": {}} {
		body := &tracked{Reader: strings.NewReader("x")}
		_, err := rt.RoundTrip(request(t, "PUT", there, body))
		require.EqualError(t, err, "httpres: this Transport was not made by NewTransport", name)
		require.Equal(t, int64(1), body.closed.Load(), name)
	}
	rt := transport(t, httpres.TransportConfig{Base: answering(status(200))})
	_, err := rt.RoundTrip(nil)
	require.EqualError(t, err, "httpres: nil Request")
	body := &tracked{Reader: strings.NewReader("x")}
	_, err = rt.RoundTrip(&http.Request{Body: body})
	require.EqualError(t, err, "httpres: nil Request.URL")
	require.Equal(t, int64(1), body.closed.Load())
}

// A Base that does not keep to its contract makes nothing worse.
func TestOddBases(t *testing.T) {
	rt := transport(t, httpres.TransportConfig{Base: base(func(*http.Request) (*http.Response, error) { return nil, nil })})
	_, err := rt.RoundTrip(request(t, "GET", there, nil))
	require.EqualError(t, err, "httpres: Base returned neither a response nor an error")

	body := &tracked{Reader: strings.NewReader("x")}
	rt = transport(t, httpres.TransportConfig{Base: base(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: body}, errDown
	})})
	resp, err := rt.RoundTrip(request(t, "POST", there, nil))
	require.Same(t, errDown, err)
	require.Nil(t, resp)
	require.Equal(t, int64(1), body.closed.Load())

	rt = transport(t, httpres.TransportConfig{Base: base(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 503}, nil
	})})
	resp, err = rt.RoundTrip(request(t, "GET", there, nil))
	require.NoError(t, err)
	require.Empty(t, readAll(t, resp), "a body that is nil is an empty one")
}

// A panic of Base or of RetryIf is the caller's; nothing that was held stays open.
func TestPanics(t *testing.T) {
	var ctx context.Context
	rt := transport(t, httpres.TransportConfig{AttemptTimeout: time.Hour, Base: base(func(req *http.Request) (*http.Response, error) {
		ctx = req.Context()
		panic("base")
	})})
	require.PanicsWithValue(t, "base", func() { _, _ = rt.RoundTrip(request(t, "GET", there, nil)) })
	require.Error(t, ctx.Err())
	_, failures, _, _ := counts(rt, "http://there.test")
	require.Equal(t, uint64(1), failures)

	body := &tracked{Reader: strings.NewReader("x")}
	rt = transport(t, httpres.TransportConfig{
		Base:    base(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 200, Body: body}, nil }),
		RetryIf: func(*http.Response, error) bool { panic("decide") },
	})
	require.PanicsWithValue(t, "decide", func() { _, _ = rt.RoundTrip(request(t, "GET", there, nil)) })
	require.Equal(t, int64(1), body.closed.Load())

	body = &tracked{Reader: strings.NewReader("x")}
	rt = transport(t, httpres.TransportConfig{
		Base:   base(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 200, Body: body}, nil }),
		Events: events.Sink{RetryFinished: func(context.Context, events.RetryFinished) { panic("sink") }},
	})
	require.PanicsWithValue(t, "sink", func() { _, _ = rt.RoundTrip(request(t, "GET", there, nil)) })
	require.Equal(t, int64(1), body.closed.Load())
}

func TestEventsOfARequest(t *testing.T) {
	rec := eventstest.New(t)
	rt := transport(t, httpres.TransportConfig{
		Base:    answering(status(503), down, status(200)),
		Retry:   &resilience.RetryConfig{InitialDelay: 1, MaxDelay: 1, Name: "shop"},
		Breaker: &resilience.CircuitBreakerConfig{Name: "client"},
		Events:  rec.Sink(),
	})
	resp, err := rt.RoundTrip(request(t, "GET", there, nil))
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	var attempts []string
	for _, e := range eventstest.Of[events.AttemptFinished](rec) {
		attempts = append(attempts, fmt.Sprintf("%s %d %s %s", e.Name, e.Attempt, events.ErrorType(e.Err), e.Decision))
	}
	require.Equal(t, []string{"shop 1 503 retry", "shop 2 *errors.errorString retry", "shop 3  success_after_retry"}, attempts)
}

func TestValidate(t *testing.T) {
	require.NoError(t, (*httpres.TransportConfig)(nil).Validate())
	require.NoError(t, (&httpres.TransportConfig{}).Validate())
	registry := resilience.NewRegistry(&resilience.RegistryConfig{Template: &resilience.CircuitBreakerConfig{}})
	for want, c := range map[string]httpres.TransportConfig{
		"TransportConfig.Base is a nil *http.Transport, want a round tripper, or nil for http.DefaultTransport": {Base: (*http.Transport)(nil)},
		"TransportConfig.Base is a nil httpres_test.base,":                                                      {Base: base(nil)},
		"TransportConfig.MaxBody is -1, want a number of bytes, or 0 for the default":                           {MaxBody: -1},
		"TransportConfig.AttemptTimeout is -1ns, want a positive duration, or 0 for none":                       {AttemptTimeout: -1},
		"TransportConfig.MaxBreakers is -1, want at least 1, or 0 for the default":                              {MaxBreakers: -1},
		"TransportConfig.Retry.RetryIf is set, want nil":                                                        {Retry: &resilience.RetryConfig{RetryIf: func(error) bool { return true }}},
		"RetryConfig.MaxAttempts is -1, want at least 1":                                                        {Retry: &resilience.RetryConfig{MaxAttempts: -1}},
		"CircuitBreakerConfig.ErrorThreshold is 2, want a ratio":                                                {Breaker: &resilience.CircuitBreakerConfig{ErrorThreshold: 2}},
		"TransportConfig.Breaker is set, want nil when Breakers is set":                                         {Breakers: registry, Breaker: &resilience.CircuitBreakerConfig{}},
		"TransportConfig.MaxBreakers is 5, want 0 when Breakers is set":                                         {Breakers: registry, MaxBreakers: 5},
	} {
		err := c.Validate()
		require.ErrorContains(t, err, want)
		require.ErrorIs(t, err, resilience.ErrInvalidConfig)
		require.PanicsWithError(t, err.Error(), func() { httpres.NewTransport(&c) })
	}
}

func TestSharedBreakers(t *testing.T) {
	registry := resilience.NewRegistry(&resilience.RegistryConfig{Template: &resilience.CircuitBreakerConfig{ErrorClassifier: httpres.DefaultErrorClassifier}})
	defer registry.Close()
	for range 2 {
		rt := transport(t, httpres.TransportConfig{Base: answering(status(500)), Breakers: registry})
		require.Same(t, registry, rt.Breakers())
		_, err := rt.RoundTrip(request(t, "GET", there, nil))
		require.NoError(t, err)
		rt.Close()
	}
	require.Equal(t, uint64(2), registry.Get("http://there.test").GetStats().Totals.Failure)
}

func TestCloseIdleConnectionsIsPassedOn(t *testing.T) {
	idle := &idleCloser{}
	transport(t, httpres.TransportConfig{Base: idle}).CloseIdleConnections()
	require.Equal(t, 1, idle.closed)
	transport(t, httpres.TransportConfig{Base: base(down)}).CloseIdleConnections() // has no such method
}

type idleCloser struct {
	answers
	closed int
}

func (c *idleCloser) CloseIdleConnections() { c.closed++ }

// The server's wish beats the backoff, up to MaxRetryAfter; one it cannot mean does not
// count.
func TestRetryAfter(t *testing.T) {
	date := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for name, c := range map[string]struct {
		header func() []string
		want   time.Duration // between the attempts; 0 if there is no second one
	}{
		"none":          {func() []string { return nil }, time.Second},
		"seconds":       {func() []string { return []string{"Retry-After", "7"} }, 7 * time.Second},
		"no seconds":    {func() []string { return []string{"Retry-After", "0"} }, time.Second},
		"date":          {func() []string { return []string{"Retry-After", date(9 * time.Second)} }, 9 * time.Second},
		"date that was": {func() []string { return []string{"Retry-After", date(-time.Hour)} }, time.Second},
		"a clock apart": {func() []string {
			return []string{"Date", date(time.Hour), "Retry-After", date(time.Hour + 8*time.Second)}
		}, 8 * time.Second},
		"garbage":         {func() []string { return []string{"Retry-After", "soon"} }, time.Second},
		"negative":        {func() []string { return []string{"Retry-After", "-5"} }, time.Second},
		"a fraction":      {func() []string { return []string{"Retry-After", "1.5"} }, time.Second},
		"the limit":       {func() []string { return []string{"Retry-After", "60"} }, time.Minute},
		"too long":        {func() []string { return []string{"Retry-After", "61"} }, 0},
		"absurd":          {func() []string { return []string{"Retry-After", strings.Repeat("9", 100)} }, 0},
		"an absurd date":  {func() []string { return []string{"Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"} }, 0},
		"overflows int64": {func() []string { return []string{"Retry-After", "9223372036854775808"} }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var times []time.Time
			b := answering(func(req *http.Request) (*http.Response, error) {
				times = append(times, time.Now())
				return status(503, c.header()...)(req)
			}, func(req *http.Request) (*http.Response, error) {
				times = append(times, time.Now())
				return status(200)(req)
			})
			var why reasons
			rt := httpres.NewTransport(&httpres.TransportConfig{Base: b, Events: why.sink(),
				Retry: &resilience.RetryConfig{InitialDelay: time.Second, MaxRetryAfter: time.Minute}})
			defer rt.Close()
			resp, err := rt.RoundTrip(request(t, "GET", there, nil))
			require.NoError(t, err, name)
			if c.want == 0 {
				require.Equal(t, 503, resp.StatusCode, name)
				require.Equal(t, "Service Unavailable", readAll(t, resp), name)
				require.Equal(t, []events.Reason{events.ReasonRetryAfterTooLong}, why.all, name)
				return
			}
			require.Equal(t, 200, resp.StatusCode, name)
			require.InDelta(t, c.want, times[1].Sub(times[0]), float64(time.Second-1), name)
			if c.want != 9*time.Second { // a date has no fractions of a second
				require.Equal(t, c.want, times[1].Sub(times[0]), name)
			}
		})
	}
}

// A budget that is used up ends the retry before the response is discarded, and requests
// that must not be sent again pay into it like all others.
func TestBudget(t *testing.T) {
	budget := resilience.NewRetryBudget(&resilience.BudgetConfig{Ratio: 0.5, MinPerSecond: 1e-9})
	b := answering(status(503))
	var why reasons
	retry := noWait()
	retry.Budget = budget
	rt := transport(t, httpres.TransportConfig{Base: b, Retry: retry, Events: why.sink()})
	for _, method := range []string{"POST", "GET", "GET"} {
		resp, err := rt.RoundTrip(request(t, method, there, nil))
		require.NoError(t, err)
		require.Equal(t, 503, resp.StatusCode)
		require.Equal(t, "Service Unavailable", readAll(t, resp))
	}
	require.Equal(t, []events.Reason{events.ReasonNotRetryable, events.ReasonBudgetExhausted, events.ReasonBudgetExhausted}, why.all)
	require.Equal(t, 4, b.count(), "two and a half operations paid for one retry")
}

// A breaker in shadow mode says that it would reject, and does not.
func TestShadowMode(t *testing.T) {
	b := answering(status(500))
	rt := transport(t, httpres.TransportConfig{Base: b, Breaker: &resilience.CircuitBreakerConfig{VolumeThreshold: 1, Shadow: true}})
	for range 3 {
		resp, err := rt.RoundTrip(request(t, "GET", there, nil))
		require.NoError(t, err)
		require.Equal(t, 500, resp.StatusCode)
	}
	require.Equal(t, resilience.StateOpen, rt.Breakers().Get("http://there.test").State())
	require.Equal(t, 3, b.count())
}

// A wait that does not fit before the deadline is not begun, and the response is still
// there.
func TestDeadlineBeforeTheNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := answering(status(503, "Retry-After", "10"))
		rt := httpres.NewTransport(&httpres.TransportConfig{Base: b, Retry: &resilience.RetryConfig{MaxRetryAfter: time.Minute}})
		defer rt.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		resp, err := rt.RoundTrip(request(t, "GET", there, nil).WithContext(ctx))
		require.NoError(t, err)
		require.Equal(t, 503, resp.StatusCode)
		require.Equal(t, "Service Unavailable", readAll(t, resp))
		require.Zero(t, time.Since(began))
		require.Equal(t, 1, b.count())
	})
}

// An attempt that takes too long is followed by another; the body of the one that did
// not may take as long as it likes.
func TestAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		late := func(req *http.Request) (*http.Response, error) { // ignores its context, for a while
			time.Sleep(2 * time.Second)
			return status(200)(req)
		}
		var body *lasting
		good := func(req *http.Request) (*http.Response, error) {
			body = newLasting(req.Context(), time.Hour)
			return &http.Response{StatusCode: 200, Body: body}, nil
		}
		rt := httpres.NewTransport(&httpres.TransportConfig{Base: answering(slow, late, good), Retry: noWait(), AttemptTimeout: time.Second})
		defer rt.Close()
		began := time.Now()
		resp, err := rt.RoundTrip(request(t, "GET", there, nil))
		require.NoError(t, err)
		require.Equal(t, 3*time.Second, time.Since(began))
		require.Equal(t, "lasting", readAll(t, resp))
		require.Error(t, body.ctx.Err(), "the context ends with the body")
		_, failures, _, _ := counts(rt, "http://there.test")
		require.Equal(t, uint64(2), failures)

		rt = httpres.NewTransport(&httpres.TransportConfig{Base: answering(slow), Retry: noWait(), AttemptTimeout: time.Second})
		defer rt.Close()
		for _, method := range []string{"GET", "POST"} {
			_, err = (&http.Client{Transport: rt}).Do(request(t, method, there, nil))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "no response within 1s")
			outer, ok := errors.AsType[*url.Error](err)
			require.True(t, ok)
			require.True(t, outer.Timeout())
		}
	})
}

// lasting is a body that takes its time, and fails when its context ends or it is closed.
type lasting struct {
	ctx    context.Context
	after  time.Duration
	read   bool
	closed chan struct{}
}

func newLasting(ctx context.Context, after time.Duration) *lasting {
	return &lasting{ctx: ctx, after: after, closed: make(chan struct{})}
}

func (b *lasting) Read(p []byte) (int, error) {
	if b.read {
		return 0, io.EOF
	}
	select {
	case <-time.After(b.after):
		b.read = true
		return copy(p, "lasting"), nil
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	case <-b.closed:
		return 0, http.ErrBodyReadAfterClose
	}
}

// Close panics when it is called twice.
func (b *lasting) Close() error {
	close(b.closed)
	return nil
}

// A response that is not returned is drained, but not for long.
func TestDrainingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var body *lasting
		rt := httpres.NewTransport(&httpres.TransportConfig{Retry: noWait(), Base: answering(func(req *http.Request) (*http.Response, error) {
			body = newLasting(req.Context(), time.Hour)
			return &http.Response{StatusCode: 503, Body: body, ContentLength: 100}, nil
		}, status(200))})
		defer rt.Close()
		began := time.Now()
		resp, err := rt.RoundTrip(request(t, "GET", there, nil))
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, 100*time.Millisecond, time.Since(began))
		<-body.closed
	})
	for _, length := range []int64{1 << 30, -1} {
		endless := &counting{}
		rt := transport(t, httpres.TransportConfig{Base: answering(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 503, Body: endless, ContentLength: length}, nil
		}, status(200))})
		_, err := rt.RoundTrip(request(t, "GET", there, nil))
		require.NoError(t, err)
		require.Equal(t, 1, endless.closed)
		if length < 0 {
			require.Equal(t, int64(64<<10+1), endless.read)
		} else {
			require.Zero(t, endless.read, "it is known not to end soon")
		}
	}
}

// counting is a body without end.
type counting struct {
	read   int64
	closed int
}

func (c *counting) Read(p []byte) (int, error) {
	c.read += int64(len(p))
	return len(p), nil
}

func (c *counting) Close() error {
	c.closed++
	return nil
}

// An attempt that fails ends its context.
func TestTheContextOfAnAttemptThatFails(t *testing.T) {
	var contexts []context.Context
	rt := transport(t, httpres.TransportConfig{AttemptTimeout: time.Hour, Base: base(func(req *http.Request) (*http.Response, error) {
		require.NoError(t, req.Context().Err())
		contexts = append(contexts, req.Context())
		return nil, errDown
	})})
	_, err := rt.RoundTrip(request(t, "GET", there, nil))
	require.ErrorIs(t, err, errDown)
	require.Len(t, contexts, 3)
	for _, ctx := range contexts {
		require.ErrorIs(t, ctx.Err(), context.Canceled)
	}
}

// What net/http needs to send a request again by itself is there for bodies that are
// kept, and fails for those that no longer are.
func TestGetBodyOfAnAttempt(t *testing.T) {
	for size, again := range map[int]bool{5: true, 20: false} {
		want := strings.Repeat("x", size)
		rt := transport(t, httpres.TransportConfig{MaxBody: 10, Base: base(func(req *http.Request) (*http.Response, error) {
			first, err := io.ReadAll(req.Body)
			require.NoError(t, err)
			require.Equal(t, want, string(first))
			require.NoError(t, req.Body.Close())
			body, err := req.GetBody()
			require.Equal(t, again, err == nil)
			if again {
				second, err := io.ReadAll(body)
				require.NoError(t, err)
				require.Equal(t, want, string(second))
				require.NoError(t, body.Close())
			}
			return status(200)(req)
		})})
		body := &tracked{Reader: strings.NewReader(want)}
		_, err := rt.RoundTrip(request(t, "PUT", there, body))
		require.NoError(t, err)
		require.Equal(t, int64(1), body.closed.Load())
	}
}

// A GetBody that fails ends it, and is no failure of the server.
func TestGetBodyThatFails(t *testing.T) {
	wrong := errors.New("wrong")
	b := answering(status(503))
	rt := transport(t, httpres.TransportConfig{Base: b})
	req := request(t, "PUT", there, strings.NewReader("body"))
	req.GetBody = func() (io.ReadCloser, error) { return nil, wrong }
	_, err := rt.RoundTrip(req)
	require.ErrorIs(t, err, wrong)
	require.ErrorContains(t, err, "httpres: no other body for the request: wrong")
	require.Equal(t, 1, b.count())
	_, failures, ignored, _ := counts(rt, "http://there.test")
	require.Equal(t, [2]uint64{1, 1}, [2]uint64{failures, ignored}, "the 503, and what was not sent")
}

// The context of the attempt that won lives until its body is read to the end, fails, or
// is closed.
func TestTheBodyKeepsItsContext(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, body io.ReadCloser){
		"failed":          func(t *testing.T, body io.ReadCloser) { _, err := io.ReadAll(body); require.ErrorIs(t, err, errDown) },
		"closed":          func(t *testing.T, body io.ReadCloser) { require.NoError(t, body.Close()) },
		"read to the end": func(t *testing.T, body io.ReadCloser) { _, err := io.ReadAll(body); require.NoError(t, err) },
	} {
		var ctx context.Context
		rt := transport(t, httpres.TransportConfig{Base: base(func(req *http.Request) (*http.Response, error) {
			ctx = req.Context()
			end := io.EOF
			if name == "failed" {
				end = errDown
			}
			return &http.Response{StatusCode: 200, Body: io.NopCloser(io.MultiReader(strings.NewReader("body"), failing{end}))}, nil
		}), AttemptTimeout: time.Hour})
		resp, err := rt.RoundTrip(request(t, "GET", there, nil))
		require.NoError(t, err)
		_, err = resp.Body.Read(make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, ctx.Err(), name)
		use(t, resp.Body)
		require.Error(t, ctx.Err(), name)
	}
}

// By default the breaker's call ends with the headers; a body that fails is not in it.
func TestUntilBodyEnd(t *testing.T) {
	for name, c := range map[string]struct {
		until, fails bool
		want         [3]uint64 // after the body
	}{
		"headers":       {false, false, [3]uint64{1, 0, 0}},
		"headers, dies": {false, true, [3]uint64{1, 0, 0}},
		"body":          {true, false, [3]uint64{1, 0, 0}},
		"body, dies":    {true, true, [3]uint64{0, 1, 0}},
	} {
		for _, method := range []string{"GET", "POST"} { // with a context of its own, and without
			rt := transport(t, httpres.TransportConfig{UntilBodyEnd: c.until, Base: base(func(*http.Request) (*http.Response, error) {
				var body io.Reader = strings.NewReader("half")
				if c.fails {
					body = io.MultiReader(body, failing{io.ErrUnexpectedEOF})
				}
				return &http.Response{StatusCode: 200, Body: io.NopCloser(body)}, nil
			})})
			resp, err := rt.RoundTrip(request(t, method, there, nil))
			require.NoError(t, err)
			success, _, _, _ := counts(rt, "http://there.test")
			require.Equal(t, !c.until, success == 1, name)
			_, err = io.ReadAll(resp.Body)
			require.Equal(t, c.fails, err != nil)
			require.NoError(t, resp.Body.Close())
			success, failure, ignored, _ := counts(rt, "http://there.test")
			require.Equal(t, c.want, [3]uint64{success, failure, ignored}, name)
		}
	}

	// Closing early is a success: the caller has seen enough. No body is no wait.
	for _, body := range []io.ReadCloser{io.NopCloser(strings.NewReader("x")), http.NoBody, nil} {
		rt := transport(t, httpres.TransportConfig{UntilBodyEnd: true, Base: base(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: body}, nil
		})})
		resp, err := rt.RoundTrip(request(t, "GET", there, nil))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		success, _, _, _ := counts(rt, "http://there.test")
		require.Equal(t, uint64(1), success)
	}

	// Attempts that fail end at once, and rejections and panics are what they were.
	rt := transport(t, httpres.TransportConfig{UntilBodyEnd: true, Base: answering(status(503), down, status(500))})
	resp, err := rt.RoundTrip(request(t, "GET", there, nil))
	require.NoError(t, err)
	require.Equal(t, "Internal Server Error", readAll(t, resp))
	_, failure, _, _ := counts(rt, "http://there.test")
	require.Equal(t, uint64(3), failure)
	rt.Breakers().Get("http://there.test").ForceOpen()
	_, err = rt.RoundTrip(request(t, "GET", there, nil))
	require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)

	rt = transport(t, httpres.TransportConfig{UntilBodyEnd: true, Base: base(func(*http.Request) (*http.Response, error) { panic("x") })})
	require.Panics(t, func() { _, _ = rt.RoundTrip(request(t, "GET", there, nil)) })
	_, failure, _, _ = counts(rt, "http://there.test")
	require.Equal(t, uint64(1), failure)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A connection that has become the caller's is handed over as it is.
func TestSwitchingProtocols(t *testing.T) {
	for _, until := range []bool{false, true} {
		conn := &duplex{Buffer: new(bytes.Buffer)}
		var ctx context.Context
		rt := transport(t, httpres.TransportConfig{UntilBodyEnd: until, AttemptTimeout: time.Hour, Base: base(func(req *http.Request) (*http.Response, error) {
			ctx = req.Context()
			return &http.Response{StatusCode: 101, Body: conn}, nil
		})})
		resp, err := rt.RoundTrip(request(t, "GET", there, nil))
		require.NoError(t, err)
		require.Same(t, conn, resp.Body)
		require.NoError(t, ctx.Err())
		success, _, _, _ := counts(rt, "http://there.test")
		require.Equal(t, uint64(1), success)
	}
}

type duplex struct{ *bytes.Buffer }

func (*duplex) Close() error { return nil }

// 10 000 hosts, all of which work, need no more breakers than there may be.
func TestManyHosts(t *testing.T) {
	rt := transport(t, httpres.TransportConfig{Base: base(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	}), MaxBreakers: 50})
	for i := range 10_000 {
		resp, err := rt.RoundTrip(request(t, "GET", fmt.Sprintf("http://host%d.test/", i), nil))
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
	}
	require.LessOrEqual(t, rt.Breakers().Len(), 50)
}

// Nor do 10 000 hosts that are all down, whose breakers must not leave: what there is no
// room for shares one.
func TestManyHostsThatAreDown(t *testing.T) {
	b := answering(status(500))
	rt := transport(t, httpres.TransportConfig{Base: b, MaxBreakers: 50, Breaker: &resilience.CircuitBreakerConfig{VolumeThreshold: 1}})
	rejected := 0
	for i := range 10_000 {
		resp, err := rt.RoundTrip(request(t, "GET", fmt.Sprintf("http://host%d.test/", i), nil))
		if err != nil {
			require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
			rejected++
			continue
		}
		require.Equal(t, 500, resp.StatusCode)
	}
	require.Equal(t, 50, rt.Breakers().Len())
	require.Equal(t, resilience.StateOpen, rt.Breakers().Overflow().State())
	require.Equal(t, 51, b.count(), "one for each breaker")
	require.Equal(t, 10_000-51, rejected)
}

// All defaults, and a rejection for each kind of body: whatever it is, it is closed.
func TestRejectedBodiesAreClosed(t *testing.T) {
	rt := httpres.NewTransport(nil)
	defer rt.Close()
	rt.Breakers().Get("http://there.test").ForceOpen()
	for _, method := range []string{"PUT", "POST"} { // kept, and not
		for _, get := range []func() (io.ReadCloser, error){nil, func() (io.ReadCloser, error) { return nil, errDown }} {
			body := &tracked{Reader: strings.NewReader("x")}
			req := request(t, method, there, body)
			req.GetBody = get
			_, err := rt.RoundTrip(req)
			require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
			require.Equal(t, int64(1), body.closed.Load(), method)
		}
	}
}

func TestErrorTypes(t *testing.T) {
	require.Equal(t, "503", events.ErrorType(&resilience.RetryError{Errs: []error{&httpres.StatusError{Code: 503}}}))
	require.EqualError(t, &httpres.StatusError{Code: 599}, "httpres: the server answered 599")
	(&httpres.StatusError{Code: 503}).Discard() // holds nothing

	rt := transport(t, httpres.TransportConfig{AttemptTimeout: time.Nanosecond, Base: base(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, context.Cause(req.Context())
	})})
	_, err := rt.RoundTrip(request(t, "POST", there, nil))
	require.Equal(t, "timeout", events.ErrorType(err))
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout() && timeout.Temporary()) //nolint:staticcheck // it is part of the interface
}
