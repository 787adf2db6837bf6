package httpres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-go/breakwater/resilience"
)

// What is read of a response that is not returned, so that its connection can be used
// again: at most so much, and for at most so long.
const (
	drainBytes = 64 << 10
	drainTime  = 100 * time.Millisecond
)

// attempt is one request as it was sent, and the body of its response: as long as that
// is read, the context of the attempt lives, if it has one of its own. It is one
// allocation for all of it.
type attempt struct {
	req    http.Request
	url    url.URL
	cancel context.CancelCauseFunc // nil if the attempt has no context of its own

	resp   *http.Response
	body   io.ReadCloser // of resp, as Base returned it
	permit resilience.Permit

	state   atomic.Uint32 // who has the response: held, taken or dropped
	closing sync.Once     // of the body, by drop
}

const (
	held    = iota // the exchange
	taken          // the caller
	dropped        // nobody
)

// request makes the attempt's request a copy of req with ctx. A Base must not change what
// it gets, but many do: so URL and Header are copies, of which the header shares the
// values. The rest is shared, the trailers in particular, which callers fill in while the
// body is being read.
func (a *attempt) request(ctx context.Context, req *http.Request) {
	if same(ctx, req.Context()) {
		a.req = *req // one copy instead of two
	} else {
		a.req = *req.WithContext(ctx)
	}
	a.url = *req.URL
	a.req.URL = &a.url
	a.req.Header = maps.Clone(req.Header)
}

// same reports whether a and b are the same pointer, as nearly all contexts are. Others
// may not be comparable.
func same(a, b context.Context) bool { return reflect.TypeOf(a).Kind() == reflect.Pointer && a == b }

// do sends the request. Without an error the response is complete, as far as its
// headers go, and its body keeps the context alive.
func (a *attempt) do(t *Transport) (*http.Response, error) {
	var timer *time.Timer
	if t.attemptTimeout > 0 {
		timer = time.AfterFunc(t.attemptTimeout, func() { a.cancel(&timeoutError{t.attemptTimeout}) })
	}
	returned := false
	defer func() {
		if !returned { // Base panicked
			a.release()
		}
	}()
	resp, err := t.base.RoundTrip(&a.req)
	returned = true
	timedOut := timer != nil && !timer.Stop()
	switch {
	case err == nil && resp == nil:
		err = errNothing
	case err == nil && !timedOut:
		a.receive(resp)
		return resp, nil
	case timedOut:
		err = &timeoutError{t.attemptTimeout}
	}
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	a.release()
	return nil, err
}

var errNothing = errors.New("httpres: Base returned neither a response nor an error")

// receive takes over the body of the response. A body that can be written to, as after
// 101 Switching Protocols, is not ours: the connection has become the caller's, and it
// stays what it is, with all its methods; its context ends with the caller's.
func (a *attempt) receive(resp *http.Response) {
	a.resp = resp
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	a.body = resp.Body
	if a.body == http.NoBody {
		a.release()
		return
	}
	if _, writable := a.body.(io.Writer); !writable && a.cancel != nil {
		resp.Body = (*responseBody)(a)
	}
}

// leave hands over a breaker's permit, to be ended with the body, and reports false if
// there is no body to wait for.
func (a *attempt) leave(permit resilience.Permit) bool {
	if a.body == http.NoBody {
		return false
	}
	if _, writable := a.body.(io.Writer); writable {
		return false
	}
	a.permit = permit
	a.resp.Body = (*responseBody)(a)
	return true
}

// release ends the attempt's context.
func (a *attempt) release() {
	if a.cancel != nil {
		a.cancel(nil)
	}
}

// take returns the response for the caller, nil if it was dropped.
func (a *attempt) take() *http.Response {
	if !a.state.CompareAndSwap(held, taken) {
		return nil
	}
	return a.resp
}

// drop drains and closes the body, unless the response is the caller's by now.
func (a *attempt) drop() {
	if !a.state.CompareAndSwap(held, dropped) {
		return
	}
	defer a.release()
	defer a.permit.Done(nil)
	if a.body == http.NoBody {
		return
	}
	defer a.close()
	if _, writable := a.body.(io.Writer); writable || a.resp.ContentLength > drainBytes {
		return
	}
	// A Read that waits for a server that stalls ends when the body is closed: those of
	// net/http may be, at any time.
	timer := time.AfterFunc(drainTime, a.close)
	defer timer.Stop()
	buf := drainBuffers.Get().(*[8 << 10]byte)
	defer drainBuffers.Put(buf)
	for left := drainBytes + 1; left > 0; {
		n, err := a.body.Read(buf[:min(left, len(buf))])
		if err != nil {
			return
		}
		left -= max(n, 1)
	}
}

var drainBuffers = sync.Pool{New: func() any { return new([8 << 10]byte) }}

// close closes the body once, and returns when it is closed.
func (a *attempt) close() { a.closing.Do(func() { _ = a.body.Close() }) }

// responseBody is the body of an attempt's response for the caller.
type responseBody attempt

func (b *responseBody) Read(p []byte) (n int, err error) {
	n, err = b.body.Read(p)
	if err != nil {
		b.finish(err)
	}
	return n, err
}

func (b *responseBody) Close() error {
	defer b.finish(nil)
	return b.body.Close()
}

// finish ends what lasts as long as the body.
func (b *responseBody) finish(err error) {
	if err == io.EOF { //nolint:errorlint // as readers return it
		err = nil
	}
	defer (*attempt)(b).release()
	b.permit.Done(err)
}

// timeoutError says that an attempt took too long.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("httpres: no response within %v, the timeout of an attempt", e.after)
}
func (e *timeoutError) Timeout() bool        { return true }
func (e *timeoutError) Temporary() bool      { return true }
func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
func (e *timeoutError) ErrorType() string    { return "timeout" }
