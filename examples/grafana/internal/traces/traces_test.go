package traces_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/traces"
	"github.com/breakwater-go/breakwater/internal/leaktest"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// service returns the tracer provider of a service that reports to the store.
func service(t *testing.T, s *traces.Store, name string) *sdk.TracerProvider {
	p := sdk.NewTracerProvider(sdk.WithSpanProcessor(s), sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", name))))
	t.Cleanup(func() { require.NoError(t, p.Shutdown(context.WithoutCancel(t.Context()))) })
	return p
}

// outline writes the spans of a trace as an indented list.
func outline(t traces.Trace) string {
	var b strings.Builder
	var write func(s *traces.Span, indent string)
	write = func(s *traces.Span, indent string) {
		failed := ""
		if s.Failed {
			failed = " failed " + s.Status
		}
		fmt.Fprintf(&b, "%s%s: %s %v +%v%s\n", indent, s.Service, s.Name, s.Start.Sub(t.Start), s.Duration, failed)
		for _, c := range s.Children {
			write(c, indent+"  ")
		}
	}
	for _, r := range t.Roots {
		write(r, "")
	}
	return b.String()
}

var errDown = errors.New("down")

// An operation of one service with calls to another is one tree, whoever ends last.
func TestTree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := traces.New(10)
		order, payment := service(t, store, "order"), service(t, store, "payment")
		telemetry, err := otelres.New(otelres.WithTracerProvider(order))
		require.NoError(t, err)
		retrier := resilience.NewRetrier(&resilience.RetryConfig{Name: "payment", InitialDelay: 100 * time.Millisecond, Events: telemetry.Sink()})

		ctx, root := order.Tracer("t").Start(t.Context(), "POST /orders", trace.WithSpanKind(trace.SpanKindServer))
		attempt := 0
		require.NoError(t, retrier.Run(ctx, func(ctx context.Context) error {
			attempt++
			ctx, client := order.Tracer("t").Start(ctx, "HTTP POST", trace.WithSpanKind(trace.SpanKindClient))
			defer client.End()
			_, server := payment.Tracer("t").Start(ctx, "POST /charge", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.Int("code", 500)))
			if attempt == 1 {
				server.SetStatus(codes.Error, "hung")
				go func() { // it notices after a second that the client has gone
					time.Sleep(time.Second)
					server.End()
				}()
				time.Sleep(10 * time.Millisecond)
				return errDown
			}
			time.Sleep(20 * time.Millisecond)
			server.End()
			return nil
		}))
		root.End()
		require.Empty(t, store.Latest(), "a span is still under way")
		time.Sleep(time.Second)
		synctest.Wait()

		all := store.Latest()
		require.Len(t, all, 1)
		got := all[0]
		require.Equal(t, strings.TrimLeft(`
order: POST /orders 0s +130ms
  order: retry payment 0s +130ms
    order: attempt payment 0s +10ms failed 
      order: HTTP POST 0s +10ms
        payment: POST /charge 0s +1s failed hung
    order: attempt payment 110ms +20ms
      order: HTTP POST 110ms +20ms
        payment: POST /charge 110ms +20ms
`, "\n"), outline(got))
		require.Equal(t, root.SpanContext().TraceID().String(), got.ID)
		require.Equal(t, 8, got.Spans)
		require.Equal(t, time.Second, got.Duration)
		require.Equal(t, 2, got.Attempts)
		require.True(t, got.Saved)
		require.False(t, got.Failed)
		require.Zero(t, got.Dropped)

		operation := got.Roots[0].Children[0]
		require.Equal(t, trace.SpanKindInternal, operation.Kind)
		require.Equal(t, "success_after_retry", operation.Attribute(traces.RetryOutcome))
		require.Equal(t, "2", operation.Attribute(traces.AttemptCount))
		require.Empty(t, operation.Attribute("nothing"))
		require.Len(t, operation.Events, 1)
		require.Equal(t, "resilience.retry.scheduled", operation.Events[0].Name)
		require.Equal(t, 10*time.Millisecond, operation.Events[0].Time.Sub(got.Start))
		require.Contains(t, operation.Events[0].Attributes, traces.Attribute{Key: "error.type", Value: "*errors.errorString"})
		server := operation.Children[0].Children[0].Children[0]
		require.Equal(t, trace.SpanKindServer, server.Kind)
		require.Equal(t, []traces.Attribute{{Key: "code", Value: "500"}}, server.Attributes)

		best, ok := store.Saved()
		require.True(t, ok)
		require.Equal(t, got, best)
	})
}

// request makes a trace whose retry runs the given number of attempts.
func request(ctx context.Context, p trace.TracerProvider, attempts int, outcome string) trace.TraceID {
	ctx, root := p.Tracer("t").Start(ctx, "root")
	_, operation := p.Tracer("t").Start(ctx, "retry")
	operation.SetAttributes(traces.AttemptCount.Int(attempts), traces.RetryOutcome.String(outcome))
	if outcome == "exhausted" {
		root.SetStatus(codes.Error, "")
	}
	operation.End()
	root.End()
	return root.SpanContext().TraceID()
}

func ids(all []traces.Trace) []string {
	var found []string
	for _, t := range all {
		found = append(found, t.ID)
	}
	return found
}

func TestWhatIsKept(t *testing.T) {
	store := traces.New(2)
	p := service(t, store, "order")
	_, ok := store.Saved()
	require.False(t, ok)

	request(t.Context(), p, 1, "success")
	require.Empty(t, store.Latest(), "nothing was retried")
	exhausted := request(t.Context(), p, 3, "exhausted")
	_, ok = store.Saved()
	require.False(t, ok, "nothing was saved")
	require.Equal(t, []string{exhausted.String()}, ids(store.Latest()))
	require.True(t, store.Latest()[0].Failed)
	require.False(t, store.Latest()[0].Saved)

	request(t.Context(), p, 2, "success_after_retry")
	best := request(t.Context(), p, 3, "success_after_retry")
	third := request(t.Context(), p, 3, "success_after_retry")
	require.Equal(t, []string{third.String(), best.String()}, ids(store.Latest()), "the latest first, and no more than that")
	last := request(t.Context(), p, 2, "success_after_retry")
	require.Equal(t, []string{last.String(), third.String()}, ids(store.Latest()))
	saved, ok := store.Saved()
	require.True(t, ok)
	require.Equal(t, best.String(), saved.ID, "the first with the most attempts, although it is not kept any more")
}

// A client that gives its requests one trace id has them in one trace, up to a bound.
func TestTraceIDOfTheClient(t *testing.T) {
	store := traces.New(2)
	p := service(t, store, "order")
	ctx := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{7}, SpanID: trace.SpanID{7}, TraceFlags: trace.FlagsSampled, Remote: true,
	}))
	for range 300 {
		request(ctx, p, 2, "success_after_retry")
	}
	all := store.Latest()
	require.Len(t, all, 1)
	require.Len(t, all[0].Roots, 250)
	require.Equal(t, 500, all[0].Spans)
	require.Equal(t, 100, all[0].Dropped)
}

// Spans that never end take room up to a bound, and are counted beyond it.
func TestUnderWay(t *testing.T) {
	store := traces.New(5)
	p := service(t, store, "order")
	for range 10_010 {
		p.Tracer("t").Start(t.Context(), "endless")
	}
	require.Equal(t, uint64(5), store.Overlooked())
	request(t.Context(), p, 2, "success_after_retry")
	require.Empty(t, store.Latest())
	require.Equal(t, uint64(7), store.Overlooked())
}

func TestConcurrently(t *testing.T) {
	store := traces.New(20)
	p := service(t, store, "order")
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for i := range 200 {
				request(t.Context(), p, i%4, "success_after_retry")
			}
		})
		work.Go(func() {
			for range 50 {
				for _, trace := range store.Latest() {
					if trace.Spans != 2 || len(trace.Roots) != 1 || len(trace.Roots[0].Children) != 1 {
						t.Errorf("a trace in pieces: %+v", trace)
					}
				}
			}
		})
	}
	work.Wait()
	require.Len(t, store.Latest(), 20)
	require.Zero(t, store.Overlooked())
}

func TestNewNone(t *testing.T) {
	require.Panics(t, func() { traces.New(0) })
}
