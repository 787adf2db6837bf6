package liveres_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/liveres"
	"github.com/breakwater-go/breakwater/resilience"
)

// circuits makes n breakers by name that tell s, and returns their headers.
func circuits(s events.Sink, n int) []events.Header {
	var headers []events.Header
	s = events.Join(events.Sink{BreakerCreated: func(_ context.Context, e events.BreakerCreated) {
		headers = append(headers, e.Header)
	}}, s)
	for i := range n {
		resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "circuit " + strconv.Itoa(i), Events: s})
	}
	return headers
}

// BenchmarkSink is what the sink alone adds to a call.
func BenchmarkSink(b *testing.B) {
	for _, n := range []int{1, 500} {
		l := liveres.New()
		s := l.Sink()
		headers := circuits(s, n)
		name := strconv.Itoa(n) + " circuits/"
		finished := func(i int) events.CallFinished {
			return events.CallFinished{Header: headers[i%n], Duration: time.Duration(i%1000) * time.Millisecond}
		}
		b.Run(name+"CallFinished", func(b *testing.B) {
			b.ReportAllocs()
			i, ctx := 0, b.Context()
			for b.Loop() {
				i++
				s.CallFinished(ctx, finished(i))
			}
		})
		b.Run(name+"CallFinished parallel", func(b *testing.B) {
			b.ReportAllocs()
			ctx := b.Context()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					s.CallFinished(ctx, finished(i))
				}
			})
		})
		b.Run(name+"CallRejected", func(b *testing.B) {
			b.ReportAllocs()
			i, ctx := 0, b.Context()
			for b.Loop() {
				i++
				s.CallRejected(ctx, events.CallRejected{Header: headers[i%n], State: events.StateOpen})
			}
		})
	}
	b.Run("retry, first attempt", func(b *testing.B) {
		s := liveres.New().Sink()
		b.ReportAllocs()
		ctx := b.Context()
		for b.Loop() {
			retried(ctx, s)
		}
	})
}

// retried plays the events of a retry that succeeds at once.
func retried(ctx context.Context, s events.Sink) {
	h := events.Header{Name: "payment"}
	ctx = s.RetryStarted(ctx, events.RetryStarted{Header: h, MaxAttempts: 3})
	s.AttemptFinished(ctx, events.AttemptFinished{Header: h, Attempt: 1, Duration: time.Millisecond, Decision: events.ReasonSuccess})
	s.RetryFinished(ctx, events.RetryFinished{Header: h, Attempts: 1, Duration: time.Millisecond, Reason: events.ReasonSuccess})
}

// BenchmarkCall is a call with the sink and, to compare, with one that does nothing
// with the same events.
func BenchmarkCall(b *testing.B) {
	idle := events.Sink{
		CallFinished: func(context.Context, events.CallFinished) {},
		CallRejected: func(context.Context, events.CallRejected) {},
	}
	failure := errors.New("failure")
	for name, s := range map[string]events.Sink{"idle": idle, "live": liveres.New().Sink()} {
		b.Run("success/"+name, func(b *testing.B) {
			b.ReportAllocs()
			cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Events: s})
			ctx := b.Context()
			for b.Loop() {
				_ = cb.Execute(ctx, func() error { return nil })
			}
		})
		b.Run("success parallel/"+name, func(b *testing.B) {
			b.ReportAllocs()
			cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Events: s})
			ctx := b.Context()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_ = cb.Execute(ctx, func() error { return nil })
				}
			})
		})
		b.Run("rejection/"+name, func(b *testing.B) {
			b.ReportAllocs()
			cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Events: s, VolumeThreshold: 1, SleepWindow: time.Hour})
			ctx := b.Context()
			_ = cb.Execute(ctx, func() error { return failure })
			for b.Loop() {
				_ = cb.Execute(ctx, func() error { return nil })
			}
		})
	}
}

// BenchmarkReport is the JSON of 500 circuits with a whole history.
func BenchmarkReport(b *testing.B) {
	l := liveres.New()
	s := l.Sink()
	for i, h := range circuits(s, 500) {
		s.CallFinished(b.Context(), events.CallFinished{Header: h, Duration: time.Duration(i) * time.Millisecond})
	}
	b.ReportAllocs()
	for b.Loop() {
		if w := get(l, "/?format=json"); w.Code != 200 {
			b.Fatal(w.Code)
		}
	}
}
