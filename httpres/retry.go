package httpres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"
)

type idempotentKey struct{}

// WithIdempotent returns a context whose requests a [Transport] may send again, or must
// not, whatever their method and headers say.
func WithIdempotent(ctx context.Context, idempotent bool) context.Context {
	return context.WithValue(ctx, idempotentKey{}, idempotent)
}

// idempotent reports whether req may be sent more than once: because its context says
// so, by its method (RFC 9110, section 9.2.2), or because it has an idempotency key, as
// net/http knows it.
func idempotent(req *http.Request) bool {
	if said, ok := req.Context().Value(idempotentKey{}).(bool); ok {
		return said
	}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	_, key := req.Header["Idempotency-Key"]
	_, xKey := req.Header["X-Idempotency-Key"]
	return key || xKey
}

// DefaultRetryIf reports whether an attempt is worth another one: after a status of 429,
// 502, 503 or 504, and after an error, unless no repetition mends it, as a certificate
// that does not verify, TLS that the two sides do not agree about, or a server that does
// not speak it. One of resp and err is nil.
func DefaultRetryIf(resp *http.Response, err error) bool {
	if err != nil {
		return !isLasting(err)
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	default:
		return false
	}
}

// isLasting reports whether err is the same for the next attempt.
func isLasting(err error) bool {
	if is[*tls.CertificateVerificationError](err) || is[tls.RecordHeaderError](err) || is[*tls.ECHRejectionError](err) ||
		is[x509.UnknownAuthorityError](err) || is[x509.HostnameError](err) || is[x509.CertificateInvalidError](err) ||
		is[x509.SystemRootsError](err) || errors.Is(err, http.ErrSchemeMismatch) {
		return true
	}
	// An alert of TLS, of either side.
	op, ok := errors.AsType[*net.OpError](err)
	return ok && (op.Op == "remote error" || op.Op == "local error")
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// malformed reports whether req cannot be sent to anybody. It is asked only after an
// error, to know whose it is.
func malformed(req *http.Request) bool {
	switch {
	case req.URL.Scheme != "http" && req.URL.Scheme != "https", req.URL.Host == "", req.Header == nil,
		req.Method != "" && !isToken(req.Method), req.Body == nil && req.ContentLength > 0,
		strings.ContainsFunc(req.Host, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return true
	}
	for name, values := range req.Header {
		if !isToken(name) {
			return true
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return true
			}
		}
	}
	return false
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// isCanceled reports whether req was cancelled in the way that came before contexts.
func isCanceled(req *http.Request) bool {
	select {
	case <-req.Cancel: //nolint:staticcheck // callers may still use it
		return true
	default:
		return false
	}
}

// isLate reports whether what cancelled req is the Timeout of an http.Client: that sets a
// deadline for the context as well, and it is not certain which of the two ends first. A
// server that does not answer in time is to count alike in both cases.
func isLate(req *http.Request) bool {
	deadline, ok := req.Context().Deadline()
	return ok && !time.Now().Before(deadline) && isCanceled(req)
}

// retryAfter returns how long the header asks to wait, 0 if it does not, or for
// something that has passed or cannot be understood. What does not fit is the longest
// duration.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if value == "" {
		return 0
	}
	if d, ok := seconds(value); ok {
		return d
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	// The server's clock said when, so the server's clock says what time it is.
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(0, at.Sub(now))
}

// seconds parses delay-seconds of RFC 9110: digits and nothing else.
func seconds(s string) (d time.Duration, ok bool) {
	const most = 1<<63 - 1
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		digit := time.Duration(c-'0') * time.Second
		if d > (most-digit)/10 {
			d = most // and stays: the rest must still be digits
			continue
		}
		d = d*10 + digit
	}
	return d, s != ""
}
