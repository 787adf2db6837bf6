package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/breakwater-go/breakwater/httpres"
	"github.com/breakwater-go/breakwater/resilience"
)

// around puts a library around a round tripper.
type around func(http.RoundTripper) http.RoundTripper

// transports returns the contestants of the HTTP paths, ours first. All make at most
// three attempts without a delay and are asked as an http.RoundTripper, which is how a
// client gets to them. Only the breakers of two of them are there to be asked.
func transports() []*contestant {
	transport := func(a around) func(settings) any { return func(settings) any { return a } }
	return []*contestant{
		{
			name:  "breakwater",
			ours:  true,
			about: "`httpres.Transport`: a retry, and a breaker for each host, found by the host for each attempt. Each attempt has a copy of URL and header.",
			create: transport(func(base http.RoundTripper) http.RoundTripper {
				return newTransport(base, nil)
			}),
		},
		{
			name:  "breakwater, no breaker",
			about: "The same with a `Key` that gives every request none.",
			create: transport(func(base http.RoundTripper) http.RoundTripper {
				return newTransport(base, func(*http.Request) string { return "" })
			}),
		},
		{
			name:   "retryablehttp",
			module: "github.com/hashicorp/go-retryablehttp",
			about:  "`RoundTripper`, which goes through an `http.Client` within. It has no breaker, logs nothing here, and drains what it discards without a bound in time. All attempts share the caller's URL and header.",
			faster: "it has no breaker, and copies neither URL nor header",
			beside: "breakwater, no breaker",
			create: transport(func(base http.RoundTripper) http.RoundTripper {
				client := retryablehttp.NewClient()
				client.HTTPClient = &http.Client{Transport: base}
				client.Logger = nil
				client.RetryMax = attempts - 1
				client.Backoff = func(_, _ time.Duration, _ int, _ *http.Response) time.Duration { return 0 }
				return &retryablehttp.RoundTripper{Client: client}
			}),
		},
		{
			name:   "failsafehttp, retry",
			module: "github.com/failsafe-go/failsafe-go",
			about:  "`NewRoundTripper` with the retry policy that it advises. It neither drains nor closes the responses that it discards, so their connections are lost. All attempts share the caller's URL and header.",
			beside: "breakwater, no breaker",
			faster: "it has no breaker here, copies neither URL nor header, and does not give back the connections of what it discards",
			create: transport(func(base http.RoundTripper) http.RoundTripper {
				return failsafehttp.NewRoundTripper(base, failsafehttp.NewRetryPolicyBuilder().WithMaxAttempts(attempts).Build())
			}),
		},
		{
			name:   "failsafehttp, both",
			module: "github.com/failsafe-go/failsafe-go",
			about:  "The same with a breaker within the retry, one for all hosts.",
			create: transport(func(base http.RoundTripper) http.RoundTripper {
				return failsafehttp.NewRoundTripper(base,
					failsafehttp.NewRetryPolicyBuilder().WithMaxAttempts(attempts).Build(),
					circuitbreaker.NewBuilder[*http.Response]().
						HandleIf(func(resp *http.Response, err error) bool { return err != nil || resp.StatusCode >= 500 }).
						WithFailureRateThreshold(patient.errorThreshold, volume, windowSize).
						WithDelay(sleepWindow).
						Build())
			}),
		},
		{
			name:   "the round tripper alone",
			bare:   true,
			about:  "What the others are put around.",
			create: transport(func(base http.RoundTripper) http.RoundTripper { return base }),
		},
	}
}

func httpPaths() []path {
	return []path{
		{
			name: "http-first", title: "HTTP, success at the first attempt",
			about:       "Nanoseconds per GET that is answered at once by a round tripper without a network, on one goroutine.",
			contestants: transports, settings: patient, ready: readyToRequest(1), requests: true,
		},
		{
			name: "http-three", title: "HTTP, three attempts without delay",
			about:       "The same for a GET that is answered with 503 twice.",
			contestants: withoutBare(transports), settings: patient, ready: readyToRequest(attempts), requests: true,
		},
		{
			name: "http-server", title: "HTTP, success over the loopback interface",
			about:       "Nanoseconds per GET of a server in this process, over a connection that is kept, on one goroutine.",
			contestants: transports, settings: patient, ready: readyToRequestAServer, requests: true,
		},
	}
}

func newTransport(base http.RoundTripper, key func(*http.Request) string) http.RoundTripper {
	return httpres.NewTransport(&httpres.TransportConfig{
		Base:  base,
		Retry: &resilience.RetryConfig{MaxAttempts: attempts, InitialDelay: 1, MaxDelay: 1},
		Breaker: &resilience.CircuitBreakerConfig{
			ErrorThreshold:  patient.errorThreshold,
			VolumeThreshold: volume,
			SleepWindow:     sleepWindow,
			WindowSize:      windowSize,
			BucketCount:     buckets,
		},
		Key: key,
	})
}

// scripted answers without a network: unavailable so many times, then with 200, again and
// again. It is for one goroutine.
type scripted struct {
	failures int
	left     int
	requests int
}

func (s *scripted) RoundTrip(*http.Request) (*http.Response, error) {
	s.requests++
	code := http.StatusOK
	if s.left--; s.left >= 0 {
		code = http.StatusServiceUnavailable
	} else {
		s.left = s.failures
	}
	return &http.Response{StatusCode: code, Header: noHeader, Body: emptyBody{}}, nil
}

var noHeader = http.Header{}

// emptyBody is a body that ends at once, and not the one that is known to be empty.
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }

// readyToRequest makes requests of which each takes so many attempts.
func readyToRequest(tries int) func(*contestant, settings) (*subject, error) {
	return func(c *contestant, s settings) (*subject, error) {
		if c.bare {
			tries = 1
		}
		base := &scripted{failures: tries - 1, left: tries - 1}
		rt := c.create(s).(around)(base)
		r, err := newRequest("http://inventory.test/stock")
		if err != nil {
			return nil, err
		}
		subject := &subject{contestant: c, loop: requests(rt, r), unit: 1}
		if err := subject.call(verified); err != nil {
			return nil, err
		}
		if base.requests != verified*tries {
			return nil, fmt.Errorf("%d calls made %d requests instead of %d", verified, base.requests, verified*tries)
		}
		return subject, nil
	}
}

// readyToRequestAServer makes requests to a server on the loopback interface.
func readyToRequestAServer(c *contestant, s settings) (*subject, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	})}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(l) }) // until it is closed
	network := new(http.Transport)
	r, err := newRequest("http://" + l.Addr().String())
	if err != nil {
		return nil, err
	}
	subject := &subject{
		contestant: c,
		loop:       requests(c.create(s).(around)(network), r),
		unit:       1,
		close: func() {
			network.CloseIdleConnections()
			_ = server.Close()
			served.Wait()
		},
	}
	return subject, subject.call(verified)
}

func newRequest(url string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Authorization", "Bearer secret")
	return r, nil
}

// requests returns a loop that makes the same request and reads what comes back.
func requests(rt http.RoundTripper, r *http.Request) func(n int) (int, error) {
	return func(n int) (other int, odd error) {
		for range n {
			if err := roundTrip(rt, r); err != nil {
				other++
				odd = err
			}
		}
		return other, odd
	}
}

func roundTrip(rt http.RoundTripper, r *http.Request) error {
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return errors.Join(err, resp.Body.Close())
}
