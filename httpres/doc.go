// Package httpres puts retries and circuit breakers around HTTP: a [Transport] for
// clients, and [Handler] for servers. It decides nothing itself: package resilience
// does, and its events tell of each attempt.
//
//	client := &http.Client{Transport: httpres.NewTransport(nil)}
//
// # What is sent again
//
// Only a request that may be: one whose method is GET, HEAD, OPTIONS, TRACE, PUT or
// DELETE (RFC 9110, section 9.2.2), one with an Idempotency-Key or X-Idempotency-Key
// header, as in net/http, and one whose context says so; see [WithIdempotent]. And only
// if there is a body to send: there is none, GetBody makes another, or not more than
// TransportConfig.MaxBody was sent of it. Nothing is read of a body before it is sent.
//
// It is sent again after an error, but for those that no repetition mends, and after a
// status of 429, 502, 503 or 504; see [DefaultRetryIf]. A Retry-After, in seconds or as
// a date, is obeyed; if it is longer than MaxRetryAfter of the retry, by default 5 s,
// the response comes back at once. So does it if the wait would pass the deadline of the
// request's context. Nothing is sent after that context has ended.
//
// A response that is not returned is drained, of at most 64 KiB and for at most 100 ms,
// and closed before the wait for the next attempt, so that its connection can be used
// again in the meantime. What is returned is as Base made it: its body is read when the
// caller reads it, with its trailers, and after 101 Switching Protocols the connection is
// the caller's.
//
// Net/http, too, sends some requests again: when a connection breaks that was idle,
// before anything was answered. That is part of one attempt.
//
// # What counts
//
// Each attempt asks the breaker of its key, by default the one for the scheme and the
// host. A status of 500 and above is a failure, whether it is tried again or not, and so
// are errors. Ignored are a status of 429, which says that this client asks too much; what
// the caller cancelled; and what is wrong with the request itself or with reading its
// body. A call ends when the headers of the response are in: a body that fails later is
// the caller's to notice, unless TransportConfig.UntilBodyEnd is set.
//
// # What comes back
//
// A response of the last attempt, whatever its status, and no error: a status is not an
// error of net/http either. Without a response it is an error, and errors.Is and
// errors.As reach a [*resilience.RejectedError] as well as the errors of all attempts,
// also through the *url.Error of a client. A response that was discarded does not come
// back: if the breaker opens or the context ends before the next attempt, that is an
// error, which holds a [*StatusError].
//
// # Traces
//
// The context of each attempt tells its number; see [resilience.AttemptFromContext].
// There are two places for an instrumented transport such as that of otelhttp. As Base,
// inside the Transport, it makes a span for each attempt. Around the Transport it makes
// one for all of them. ResendCount of package otelres, as the innermost, sets
// http.request.resend_count on the span of the request in both orders.
package httpres
