package httpres

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/breakwater-go/breakwater/resilience"
)

// Transport is an [http.RoundTripper] that tries requests again and asks a breaker
// before each attempt, one for each host. The package documentation tells what is tried
// again and what counts. It must be made by [NewTransport]. All methods may be called
// concurrently.
type Transport struct {
	base           http.RoundTripper
	retrier        *resilience.Retrier
	breakers       *resilience.Registry
	own            bool                       // breakers was made for this Transport
	key            func(*http.Request) string // nil for that of the host
	hosts          hosts
	retryIf        func(*http.Response, error) bool
	maxBody        int64
	attemptTimeout time.Duration
	untilBodyEnd   bool
	retries        bool // more than one attempt may be made
}

// NewTransport returns a Transport. A nil config means all defaults. It panics with a
// [*resilience.ConfigError] if the configuration is invalid; ask
// [TransportConfig.Validate] first where it comes from users.
func NewTransport(config *TransportConfig) *Transport {
	if err := config.Validate(); err != nil {
		panic(err)
	}
	var c TransportConfig
	if config != nil {
		c = *config
	}
	retry := c.retry()
	t := &Transport{
		base:           c.Base,
		retrier:        resilience.NewRetrier(retry),
		breakers:       c.Breakers,
		key:            c.Key,
		hosts:          newHosts(),
		retryIf:        c.RetryIf,
		maxBody:        c.MaxBody,
		attemptTimeout: c.AttemptTimeout,
		untilBodyEnd:   c.UntilBodyEnd,
		retries:        retry.MaxAttempts > 1,
	}
	if t.base == nil {
		t.base = http.DefaultTransport
	}
	if t.breakers == nil {
		t.breakers, t.own = resilience.NewRegistry(c.registry()), true
	}
	if t.retryIf == nil {
		t.retryIf = DefaultRetryIf
	}
	if t.maxBody == 0 {
		t.maxBody = defaultMaxBody
	}
	return t
}

// Breakers returns the breakers of the keys, to look at them or to force them.
func (t *Transport) Breakers() *resilience.Registry { return t.breakers }

// Close retires the breakers, so that their series end, unless they came from
// TransportConfig.Breakers. Requests afterwards are made all the same. It does not
// close connections: see [Transport.CloseIdleConnections].
func (t *Transport) Close() {
	if t.own {
		t.breakers.Close()
	}
}

// CloseIdleConnections passes the call on to Base, if it has the method.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip makes attempts until one comes to a response that is not to be tried again,
// and returns that response. It returns the last attempt's response as well if no
// further attempt may be made, whatever its status. Without a response, the error is
//
//   - that of Base, if the first attempt's is not to be tried again;
//   - a [*resilience.RejectedError], if the breaker did not admit the first attempt;
//   - a [*resilience.RetryError] after several attempts, which reaches the errors of
//     all of them, or when the context ended. Of an attempt that came to a response that
//     is a [*StatusError].
//
// It never changes req, and closes its body, as an [http.RoundTripper] must.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	key, err := t.check(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	x := t.begin(req, key)
	defer x.end()
	return x.run()
}

// check returns the key for req, or why req is not sent.
func (t *Transport) check(req *http.Request) (key string, err error) {
	switch {
	case t == nil || t.base == nil:
		return "", errors.New("httpres: this Transport was not made by NewTransport")
	case req == nil:
		return "", errors.New("httpres: nil Request")
	case req.URL == nil:
		return "", errors.New("httpres: nil Request.URL")
	case t.key == nil:
		return t.hosts.key(req.URL), nil
	default:
		return t.keyOf(req)
	}
}

// keyOf returns what Key says, or that it panicked.
func (t *Transport) keyOf(req *http.Request) (key string, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		switch p := recover().(type) {
		case nil: // runtime.Goexit
			closeBody(req)
		case error:
			err = fmt.Errorf("httpres: TransportConfig.Key panicked: %w", p)
		default:
			err = fmt.Errorf("httpres: TransportConfig.Key panicked: %v", p)
		}
	}()
	key = t.key(req)
	returned = true
	return key, nil
}

func closeBody(req *http.Request) {
	if req != nil && req.Body != nil {
		_ = req.Body.Close()
	}
}

// exchange is one RoundTrip. It is reused for another one when it has ended, so that
// its two functions are made once.
type exchange struct {
	transport *Transport
	req       *http.Request // the caller's
	key       string        // of the breaker; empty for none
	safe      bool          // to be sent more than once, as far as its method and headers tell
	body      body          // of req
	held      *attempt      // whose response is neither returned nor discarded
	err       error         // of the last attempt, as Base returned it

	attemptFunc func(context.Context) error // x.attempt
	sendFunc    func(context.Context) error // x.send
}

var exchanges = sync.Pool{New: func() any {
	x := new(exchange)
	x.attemptFunc, x.sendFunc = x.attempt, x.send
	return x
}}

func (t *Transport) begin(req *http.Request, key string) *exchange {
	x := exchanges.Get().(*exchange)
	x.transport, x.req, x.key = t, req, key
	x.safe = t.retries && idempotent(req)
	x.body.begin(req, x.safe, t.maxBody)
	return x
}

// end gives back what the exchange holds, also if something in it panicked.
func (x *exchange) end() {
	defer exchanges.Put(x)
	x.body.end()
	if x.held != nil {
		x.held.drop()
	}
	*x = exchange{attemptFunc: x.attemptFunc, sendFunc: x.sendFunc}
}

func (x *exchange) run() (*http.Response, error) {
	err := x.transport.retrier.Run(x.req.Context(), x.attemptFunc)
	if x.held != nil {
		if resp := x.held.take(); resp != nil {
			x.held = nil
			return resp, nil
		}
	}
	if x.err != nil {
		if _, several := err.(*resilience.RetryError); !several { //nolint:errorlint // it is the retry's own
			return nil, x.err // without the marks that are for the retry and the breaker
		}
	}
	return nil, err
}

// attempt is an attempt with its breaker around it. Each asks for the breaker anew, since
// it may have been evicted during the wait.
func (x *exchange) attempt(ctx context.Context) error {
	switch {
	case x.key == "":
		return x.send(ctx)
	case x.transport.untilBodyEnd:
		return x.sendUntilBodyEnd(ctx, x.transport.breakers.Get(x.key))
	default:
		return x.transport.breakers.Get(x.key).Run(ctx, x.sendFunc)
	}
}

// sendUntilBodyEnd is send with a breaker's call around it that ends, if there is a body
// to read, when that ends.
func (x *exchange) sendUntilBodyEnd(ctx context.Context, breaker *resilience.CircuitBreaker) error {
	permit, err := breaker.Acquire(ctx)
	if err != nil {
		return err
	}
	returned := false
	defer func() {
		if !returned {
			permit.Done(errPanicked)
		}
	}()
	err = x.send(permit.Context())
	if err != nil || !x.held.leave(permit) {
		permit.Done(err)
	}
	returned = true
	return err
}

// errPanicked stands for the panic of Base in the events of a breaker.
var errPanicked = errors.New("httpres: the round trip panicked")

// send makes one attempt. It returns nil if its response is a success, and an error if
// it is one for the retry or for the breaker; in both cases the response is held.
func (x *exchange) send(ctx context.Context) error {
	a := new(attempt)
	if x.held != nil {
		x.held.drop() // the retry did, unless it does not know its errors
	}
	x.held, x.err = nil, nil
	body, err := x.body.next()
	if err != nil {
		x.err = fmt.Errorf("httpres: no other body for the request: %w", err)
		return resilience.Ignore(resilience.Permanent(x.err))
	}
	if x.transport.attemptTimeout > 0 {
		ctx, a.cancel = context.WithCancelCause(ctx)
	}
	a.request(ctx, x.req)
	a.req.Body, a.req.GetBody = body, x.body.rewind(x.req)
	resp, err := a.do(x.transport)
	if err != nil {
		return x.failed(err)
	}
	if resp.Request == &a.req || resp.Request == nil {
		resp.Request = x.req
	}
	x.held = a
	return x.judge(a, resp)
}

// failed returns the error of an attempt that came to none but err, marked with what
// the retry and the breaker are to make of it.
func (x *exchange) failed(err error) error {
	x.err = err
	switch {
	case x.req.Context().Err() != nil: // the retry and the breaker see for themselves
		return err
	case isLate(x.req):
		return resilience.Permanent(fmt.Errorf("%w: %w", context.DeadlineExceeded, err))
	case err == errNothing, x.body.failed(), malformed(x.req), isCanceled(x.req): //nolint:errorlint // it is our own
		return resilience.Ignore(resilience.Permanent(err)) // not the server's fault
	case x.safe && x.body.rewindable() && x.transport.retryIf(nil, err):
		return err
	default:
		return resilience.Permanent(err)
	}
}

// judge returns the error that a response is for the retry or for the breaker, nil if it
// is none.
func (x *exchange) judge(a *attempt, resp *http.Response) error {
	again := x.safe && x.body.rewindable() && x.req.Context().Err() == nil && x.transport.retryIf(resp, nil)
	if !again && resp.StatusCode < http.StatusInternalServerError && resp.StatusCode != http.StatusTooManyRequests {
		return nil
	}
	err := &StatusError{Code: resp.StatusCode, after: retryAfter(resp.Header), attempt: a}
	if !again {
		return resilience.Permanent(err)
	}
	return err
}

// StatusError is what a response is for a retry and for a breaker that has a status of
// 500 and above, of 429, or one that RetryIf wants to be tried again. Sinks and error
// classifiers find it with errors.As. A caller gets the response instead, unless that was
// discarded: then it is among the errors of a [*resilience.RetryError].
type StatusError struct {
	Code int // the status, such as 503

	after   time.Duration
	attempt *attempt
}

// Error tells the status.
func (e *StatusError) Error() string {
	if text := http.StatusText(e.Code); text != "" {
		return fmt.Sprintf("httpres: the server answered %d %s", e.Code, text)
	}
	return fmt.Sprintf("httpres: the server answered %d", e.Code)
}

// ErrorType returns the status as text, such as "503". See [events.ErrorType].
func (e *StatusError) ErrorType() string { return fmt.Sprintf("%03d", e.Code) }

// RetryAfter returns how long the server asked to be left alone, 0 if it did not.
func (e *StatusError) RetryAfter() time.Duration { return e.after }

// Discard is called by the retry when the response will not be returned: its body is
// drained and closed. Once the response was returned, or discarded, it does nothing.
func (e *StatusError) Discard() {
	if e.attempt != nil {
		e.attempt.drop()
	}
}

// DefaultErrorClassifier reports whether err, as a breaker of a [Transport] sees it, is a
// failure of the server: a status of 500 and above, and else what
// [resilience.DefaultErrorClassifier] says. A status of 429 says that this client asks
// too much, not that the server is unwell, and is ignored.
func DefaultErrorClassifier(err error) bool {
	if s, ok := errors.AsType[*StatusError](err); ok {
		return s.Code >= http.StatusInternalServerError
	}
	return resilience.DefaultErrorClassifier(err)
}
