package otelres

import (
	"context"
	"net/http"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// ResendCount returns a round tripper that sets http.request.resend_count on the span of
// the request before it calls base: 1 for the second attempt, and so on; on that of a
// first attempt it sets nothing. A nil base is [http.DefaultTransport]. Attempt tells the
// number of the attempt that a context belongs to, the first being 1, as
// resilience.AttemptFromContext does; it must not be nil.
//
// It goes innermost, below what makes spans of requests and below what retries. There
// are two orders, and it works in both:
//
//	// A span for each attempt, with the number of each.
//	retrying(otelhttp.NewTransport(tel.ResendCount(nil, resilience.AttemptFromContext)))
//
//	// One span for all attempts, with the number of the last.
//	otelhttp.NewTransport(retrying(tel.ResendCount(nil, resilience.AttemptFromContext)))
//
// The span of the request is the current one, or if that was made by this Telemetry, as
// that of an attempt in the second order, the one around those. A nil Telemetry knows no
// spans of its own.
func (t *Telemetry) ResendCount(base http.RoundTripper, attempt func(context.Context) int) http.RoundTripper {
	if attempt == nil {
		panic("otelres: ResendCount without a function that tells the attempt")
	}
	if base == nil {
		base = http.DefaultTransport
	}
	return &resendCount{telemetry: t, base: base, attempt: attempt}
}

type resendCount struct {
	telemetry *Telemetry
	base      http.RoundTripper
	attempt   func(context.Context) int
}

func (r *resendCount) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if n := r.attempt(ctx); n > 1 {
		if span := r.telemetry.foreignSpan(ctx); span.IsRecording() {
			span.SetAttributes(semconv.HTTPRequestResendCount(n - 1))
		}
	}
	return r.base.RoundTrip(req)
}

// CloseIdleConnections passes the call on to base, if it has the method.
func (r *resendCount) CloseIdleConnections() {
	if c, ok := r.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// aroundKey is the key of the span around those of a Telemetry.
type aroundKey struct{ t *Telemetry }

// around returns ctx with the current span as the one around those that follow, unless
// it is one of them. It is not remembered if nothing can be set on it.
func (t *Telemetry) around(ctx context.Context) context.Context {
	if span := trace.SpanFromContext(ctx); span.IsRecording() && !t.isOwn(ctx, span) {
		return context.WithValue(ctx, aroundKey{t}, span)
	}
	return ctx
}

// foreignSpan returns the innermost span that others made.
func (t *Telemetry) foreignSpan(ctx context.Context) trace.Span {
	span := trace.SpanFromContext(ctx)
	if t == nil || !t.isOwn(ctx, span) {
		return span
	}
	if around, ok := ctx.Value(aroundKey{t}).(trace.Span); ok {
		return around
	}
	return trace.SpanFromContext(context.Background()) // there is none
}

// isOwn reports whether span, the current one of ctx, was made by t.
func (t *Telemetry) isOwn(ctx context.Context, span trace.Span) bool {
	own := t.kept(ctx)
	return own != nil && own.SpanContext().SpanID() == span.SpanContext().SpanID()
}
