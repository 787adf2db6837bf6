package httpres

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/breakwater-go/breakwater/resilience"
)

// Handler returns a handler that protects next by a breaker: while that rejects calls,
// requests are answered as [WriteRejection] does, and next does not run. Both must not be
// nil.
//
// A status of 500 and above is a failure, and so is a panic, which goes on its way.
// Ignored is a request whose client has gone, or that next answered with WriteRejection:
// what another breaker rejected says nothing about this one's.
//
// The ResponseWriter that next gets can flush and be hijacked if that of the server can;
// [http.ResponseController] reaches the rest.
func Handler(breaker *resilience.CircuitBreaker, next http.Handler) http.Handler {
	if breaker == nil {
		panic(&resilience.ConfigError{Config: "Handler", Field: "breaker", Value: nil, Want: "a circuit breaker"})
	}
	return handler(func(*http.Request) *resilience.CircuitBreaker { return breaker }, next)
}

// KeyedHandler is [Handler] with a breaker for each key: a tenant, or the pattern of a
// route. A request whose key is empty is not protected. A nil key means
// [http.Request.Pattern], which a mux has set for the handlers it calls. Key may be
// called from many goroutines at once, and its panic is the server's to handle.
func KeyedHandler(breakers *resilience.Registry, key func(*http.Request) string, next http.Handler) http.Handler {
	if breakers == nil {
		panic(&resilience.ConfigError{Config: "KeyedHandler", Field: "breakers", Value: nil, Want: "a registry"})
	}
	if key == nil {
		key = func(r *http.Request) string { return r.Pattern }
	}
	return handler(func(r *http.Request) *resilience.CircuitBreaker {
		if k := key(r); k != "" {
			return breakers.Get(k)
		}
		return nil
	}, next)
}

func handler(breakerFor func(*http.Request) *resilience.CircuitBreaker, next http.Handler) http.Handler {
	if next == nil {
		panic(&resilience.ConfigError{Config: "Handler", Field: "next", Value: nil, Want: "a handler"})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		breaker := breakerFor(r)
		if breaker == nil {
			next.ServeHTTP(w, r)
			return
		}
		s := serving{response: &response{ResponseWriter: w}, next: next, req: r}
		err := breaker.Run(r.Context(), s.run)
		switch {
		case s.aborted:
			panic(http.ErrAbortHandler)
		case s.ran:
		case !WriteRejection(w, err): // the request's context is done
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
}

// serving is one request that a breaker admitted or rejected.
type serving struct {
	response *response
	next     http.Handler
	req      *http.Request
	ran      bool
	aborted  bool // by next, after the client had gone
}

func (s *serving) run(ctx context.Context) (err error) {
	s.ran = true
	req := s.req
	if !same(ctx, req.Context()) {
		req = req.WithContext(ctx)
	}
	returned := false
	defer func() {
		// A proxy aborts the handler when it has nobody to write to any more. That is
		// the only panic that is not a failure, and it is raised again when the breaker
		// has heard of it. Who panics while the client is there is not stopped here.
		if returned || !s.clientGone() {
			return
		}
		switch p := recover(); p {
		case nil: // runtime.Goexit
		case http.ErrAbortHandler:
			s.aborted, err = true, context.Canceled
		default:
			panic(p)
		}
	}()
	s.next.ServeHTTP(s.response.writer(), req)
	returned = true
	switch {
	case s.clientGone():
		return context.Canceled
	case s.response.rejected:
		return resilience.Ignore(errRejected)
	case s.response.status >= http.StatusInternalServerError:
		return &StatusError{Code: s.response.status}
	default:
		return nil
	}
}

// clientGone reports whether the client does not wait for the answer. A deadline that
// somebody set for the handler is another matter.
func (s *serving) clientGone() bool { return errors.Is(s.req.Context().Err(), context.Canceled) }

var errRejected = errors.New("httpres: answered with the rejection of another breaker")

// rejection is the body of an answer to a rejected request.
type rejection struct {
	Error      string `json:"error"`
	Circuit    string `json:"circuit"`
	State      string `json:"circuit_state"`
	RetryAfter int64  `json:"retry_after"`
}

// WriteRejection answers a request that could not be served because a breaker rejected
// a call, err being the error of that call: with 503, a Retry-After of at least a second,
// and a JSON body such as
//
//	{"error":"service unavailable","circuit":"payment","circuit_state":"open","retry_after":12}
//
// It writes nothing and returns false if err is no rejection. It writes nothing and
// returns true if w comes from [Handler] and was written to already.
func WriteRejection(w http.ResponseWriter, err error) bool {
	rejected, ok := errors.AsType[*resilience.RejectedError](err)
	if !ok {
		return false
	}
	if r := responseOf(w); r != nil {
		if r.status != 0 {
			return true
		}
		r.rejected = true
	}
	// Rounded up: who comes back a moment too early is rejected again.
	after := max(1, int64((rejected.RetryAfter()+time.Second-1)/time.Second))
	body, err := json.Marshal(rejection{
		Error:      "service unavailable",
		Circuit:    rejected.Name,
		State:      rejected.State.String(),
		RetryAfter: after,
	})
	if err != nil { // never: strings and a number
		body = nil
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Retry-After", strconv.FormatInt(after, 10))
	h.Del("Content-Length")
	h.Del("Content-Encoding")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write(append(body, '\n'))
	return true
}

// response is the ResponseWriter for a protected handler. It notes the status.
type response struct {
	http.ResponseWriter
	status   int // 0 until it is written
	rejected bool
}

// responseOf returns the response that w is, or wraps, or nil.
func responseOf(w http.ResponseWriter) *response {
	for w != nil {
		switch x := w.(type) {
		case interface{ protected() *response }:
			return x.protected()
		case interface{ Unwrap() http.ResponseWriter }:
			w = x.Unwrap()
		default:
			return nil
		}
	}
	return nil
}

func (r *response) protected() *response { return r }

// Unwrap is for [http.ResponseController].
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *response) WriteHeader(status int) {
	// 100 to 199 announce another status, but for 101, which is the last.
	if r.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *response) Write(p []byte) (int, error) {
	r.wrote()
	return r.ResponseWriter.Write(p)
}

// FlushError is for [http.ResponseController] where the server's ResponseWriter is wrapped
// by one that cannot flush itself: the controller would go past the status.
func (r *response) FlushError() error {
	err := http.NewResponseController(r.ResponseWriter).Flush()
	if !errors.Is(err, errors.ErrUnsupported) {
		r.wrote()
	}
	return err
}

// WriteString spares the copy that [io.WriteString] would make.
func (r *response) WriteString(s string) (int, error) {
	r.wrote()
	return io.WriteString(r.ResponseWriter, s)
}

// wrote notes that something was written without a status before.
func (r *response) wrote() {
	if r.status == 0 {
		r.status = http.StatusOK
	}
}

// writer returns what next gets: r with the methods that handlers look for by assertion,
// as far as the server's ResponseWriter has them.
func (r *response) writer() http.ResponseWriter {
	_, flushes := r.ResponseWriter.(http.Flusher)
	_, hijacks := r.ResponseWriter.(http.Hijacker)
	switch {
	case flushes && hijacks:
		return hijackable{flushable{r}}
	case flushes:
		return flushable{r}
	default:
		return r
	}
}

// flushable is a response over HTTP/2, or of a test.
type flushable struct{ *response }

func (f flushable) Flush() {
	f.wrote()
	f.ResponseWriter.(http.Flusher).Flush()
}

// hijackable is a response over HTTP/1.
type hijackable struct{ flushable }

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := h.ResponseWriter.(http.Hijacker).Hijack()
	if err == nil {
		h.wrote() // whatever it is, it is not for us
	}
	return conn, buf, err
}

// ReadFrom lets the server send a file without copying it. From a reader without a byte
// nothing is written, no status either.
func (h hijackable) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(h.ResponseWriter, src)
	if n > 0 {
		h.wrote()
	}
	return n, err
}
