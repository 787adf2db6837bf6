package e2e

import (
	"context"
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

	"github.com/breakwater-go/breakwater/httpres"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// The two orders of httpres and otelhttp, with ResendCount innermost: within httpres,
// otelhttp makes a span for each attempt, each with a traceparent and a number of its own;
// around it one for all, with the number of the last. Whatever spans otelres makes in
// between, none of them gets the number.
func TestResendCountInBothOrders(t *testing.T) {
	for mode, spans := range map[string]otelres.Spans{"attempts": otelres.Attempts, "operations": otelres.Operations, "off": otelres.Off} {
		for _, breakerSpans := range []bool{false, true} {
			for _, inside := range []bool{true, false} {
				recorder := tracetest.NewSpanRecorder()
				provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
				options := []otelhttp.Option{otelhttp.WithTracerProvider(provider), otelhttp.WithPropagators(propagation.TraceContext{})}
				var mu sync.Mutex
				parents := map[string]int{}
				requests := 0
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					defer mu.Unlock()
					requests++
					parents[r.Header.Get("traceparent")]++
					if requests < 3 {
						w.WriteHeader(http.StatusServiceUnavailable)
					}
				}))
				telOptions := []otelres.Option{otelres.WithTracerProvider(provider), otelres.WithSpans(spans)}
				if breakerSpans {
					telOptions = append(telOptions, otelres.WithBreakerSpans())
				}
				tel, err := otelres.New(telOptions...)
				require.NoError(t, err)

				network := new(http.Transport)
				innermost := tel.ResendCount(network, resilience.AttemptFromContext)
				config := httpres.TransportConfig{
					Base:   innermost,
					Retry:  &resilience.RetryConfig{InitialDelay: time.Microsecond},
					Events: tel.Sink(),
				}
				if inside {
					config.Base = otelhttp.NewTransport(innermost, options...)
				}
				protected := httpres.NewTransport(&config)
				client := &http.Client{Transport: protected}
				if !inside {
					client.Transport = otelhttp.NewTransport(protected, options...)
				}

				ctx, root := provider.Tracer("application").Start(t.Context(), "GET /orders")
				require.NoError(t, get(ctx, client, server.URL))
				root.End()
				server.Close()
				network.CloseIdleConnections()
				protected.Close()
				require.NoError(t, tel.Shutdown(t.Context()))
				require.NoError(t, provider.Shutdown(context.WithoutCancel(t.Context())))

				var wire []int64
				for _, s := range recorder.Ended() {
					n, found := resendCount(s)
					if s.SpanKind() == trace.SpanKindClient {
						wire = append(wire, n)
					} else {
						require.False(t, found, "%s, inside %t: it is on %q", mode, inside, s.Name())
					}
				}
				require.Equal(t, 3, requests)
				if inside {
					require.Equal(t, []int64{0, 1, 2}, wire, mode)
					require.Len(t, parents, 3, "a traceparent for each attempt")
				} else {
					require.Equal(t, []int64{2}, wire, mode)
					require.Len(t, parents, 1)
				}
			}
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func resendCount(s sdktrace.ReadOnlySpan) (n int64, found bool) {
	for _, kv := range s.Attributes() {
		if kv.Key == "http.request.resend_count" {
			return kv.Value.AsInt64(), true
		}
	}
	return 0, false
}
