package otelres_test

import (
	"context"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

type roundTripper struct {
	f    func(*http.Request)
	idle int
}

func (r *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	r.f(req)
	return nil, errDown
}

func (r *roundTripper) CloseIdleConnections() { r.idle++ }

// The span of the request is the current one, or the one around those that the Telemetry
// made; without one nothing is set anywhere.
func TestResendCountFindsTheSpanOfTheRequest(t *testing.T) {
	k := newKit(t, otelres.WithBreakerSpans())
	tracer := k.tracers.Tracer("client")
	send := func(ctx context.Context, begin func(context.Context) (context.Context, trace.Span)) {
		rt := k.ResendCount(&roundTripper{f: func(*http.Request) {}}, resilience.AttemptFromContext)
		retrier := resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: 1, MaxDelay: 1, Events: k.sink})
		_ = retrier.Run(ctx, func(ctx context.Context) error {
			ctx, span := begin(ctx)
			defer span.End()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://there.test", nil)
			require.NoError(t, err)
			resp, err := rt.RoundTrip(req)
			require.Nil(t, resp)
			require.Equal(t, errDown, err, "what base returns comes back")
			return err
		})
	}
	none := func(ctx context.Context) (context.Context, trace.Span) {
		return ctx, trace.SpanFromContext(context.Background())
	}

	send(t.Context(), none) // no span but ours
	ctx, around := tracer.Start(t.Context(), "around")
	send(ctx, none)
	around.End()
	n := 0
	send(t.Context(), func(ctx context.Context) (context.Context, trace.Span) {
		n++
		return tracer.Start(ctx, []string{"first", "second", "third"}[n-1])
	})
	// An operation within an attempt of another, without a span of others between.
	ctx, outermost := tracer.Start(t.Context(), "outermost")
	_ = resilience.NewRetrier(&resilience.RetryConfig{MaxAttempts: 1, Events: k.sink}).Run(ctx, func(ctx context.Context) error {
		send(ctx, none)
		return nil
	})
	outermost.End()

	got := map[string]int64{}
	for _, s := range k.spans.Ended() {
		for _, kv := range s.Attributes() {
			if kv.Key == attribute.Key("http.request.resend_count") {
				got[s.Name()] = kv.Value.AsInt64()
			}
		}
	}
	require.Equal(t, map[string]int64{"around": 2, "second": 1, "third": 2, "outermost": 2}, got)
}

// Each attempt of a hedge finds the span around the hedge.
func TestResendCountWithinAHedge(t *testing.T) {
	k := newKit(t)
	set := make(chan bool, 2)
	rt := k.ResendCount(&roundTripper{f: func(*http.Request) {}}, func(context.Context) int { return 2 })
	h := resilience.NewHedge(&resilience.HedgeConfig{Delay: 1, Events: k.sink})
	ctx, around := k.tracers.Tracer("client").Start(t.Context(), "around")
	var first atomic.Bool
	_ = h.Run(ctx, func(ctx context.Context) error {
		if !first.Swap(true) {
			<-ctx.Done() // until the other has succeeded
			return ctx.Err()
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://there.test", nil)
		require.NoError(t, err)
		resp, err := rt.RoundTrip(req)
		require.Nil(t, resp)
		require.Equal(t, errDown, err)
		set <- slices.Contains(around.(sdktrace.ReadOnlySpan).Attributes(), attribute.Int("http.request.resend_count", 1))
		return nil
	})
	around.End()
	require.True(t, <-set)
}

func TestResendCountWithout(t *testing.T) {
	require.Panics(t, func() { (*otelres.Telemetry)(nil).ResendCount(nil, nil) })
	base := &roundTripper{f: func(*http.Request) {}}
	rt := (*otelres.Telemetry)(nil).ResendCount(base, func(context.Context) int { return 2 })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://there.test", nil)
	require.NoError(t, err)
	_, err = rt.RoundTrip(req)
	require.Equal(t, errDown, err)
	rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	require.Equal(t, 1, base.idle)
}
