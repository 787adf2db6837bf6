package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// Over real HTTP, with otelhttp on both sides: the server's span is a child of the
// client's, which is a child of the attempt's, which is one of the operation's; each
// attempt sends a traceparent of its own, and one only.
func TestEachAttemptIsARequestOfItsOwn(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	defer func() { require.NoError(t, provider.Shutdown(context.Background())) }()
	options := []otelhttp.Option{otelhttp.WithTracerProvider(provider), otelhttp.WithPropagators(propagation.TraceContext{})}

	var mu sync.Mutex
	var traceparents []string
	server := httptest.NewServer(otelhttp.NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		traceparents = append(traceparents, r.Header.Values("traceparent")...)
		if len(traceparents) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}), "charge", options...))
	defer server.Close()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: otelhttp.NewTransport(transport, options...)}

	tel, err := otelres.New(otelres.WithTracerProvider(provider))
	require.NoError(t, err)
	defer func() { require.NoError(t, tel.Shutdown(context.Background())) }()
	breaker := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: tel.Sink()})
	defer breaker.Close()
	retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "payment", InitialDelay: time.Millisecond, Events: tel.Sink()})

	ctx, root := provider.Tracer("application").Start(t.Context(), "POST /orders")
	err = resilience.Chain(retrier, breaker).Run(ctx, func(ctx context.Context) error { return post(ctx, client, server.URL) })
	root.End()
	require.NoError(t, err)
	server.Close() // the last server span has ended

	spans := recorder.Ended()
	operation := children(spans, root.SpanContext())
	require.Len(t, operation, 1)
	require.Equal(t, "retry payment", operation[0].Name())
	attempts := children(spans, operation[0].SpanContext())
	require.Len(t, attempts, 3)
	var want []string
	for i, attempt := range attempts {
		require.Equal(t, "attempt payment", attempt.Name())
		require.Equal(t, int64(i+1), number(attempt))
		clients := children(spans, attempt.SpanContext())
		require.Len(t, clients, 1)
		require.Equal(t, trace.SpanKindClient, clients[0].SpanKind())
		sc := clients[0].SpanContext()
		want = append(want, fmt.Sprintf("00-%s-%s-01", root.SpanContext().TraceID(), sc.SpanID()))
		servers := children(spans, sc)
		require.Len(t, servers, 1)
		require.Equal(t, trace.SpanKindServer, servers[0].SpanKind())
		require.True(t, servers[0].Parent().IsRemote())
	}
	require.Equal(t, want, traceparents)
	require.Len(t, spans, 1+1+3*3, "nothing else")
}

func post(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode >= http.StatusInternalServerError {
		err = errors.New(resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}

// children returns the spans whose parent is the given one, in the order they ended.
func children(spans []sdktrace.ReadOnlySpan, parent trace.SpanContext) []sdktrace.ReadOnlySpan {
	var found []sdktrace.ReadOnlySpan
	for _, s := range spans {
		if s.Parent().SpanID() == parent.SpanID() && s.Parent().TraceID() == parent.TraceID() {
			found = append(found, s)
		}
	}
	return found
}

func number(s sdktrace.ReadOnlySpan) int64 {
	for _, kv := range s.Attributes() {
		if kv.Key == "resilience.retry.attempt.number" {
			return kv.Value.AsInt64()
		}
	}
	return 0
}
