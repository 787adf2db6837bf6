package resilience_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

var errBench = errors.New("failure")

func succeed() error { return nil }
func fail() error    { return errBench }

// benchSink listens to everything and does nothing.
func benchSink() events.Sink {
	return events.Sink{
		CallStarted:     func(ctx context.Context, _ events.CallStarted) context.Context { return ctx },
		CallFinished:    func(context.Context, events.CallFinished) {},
		CallRejected:    func(context.Context, events.CallRejected) {},
		StateChanged:    func(context.Context, events.StateChanged) {},
		WindowRotated:   func(context.Context, events.WindowRotated) {},
		RetryStarted:    func(ctx context.Context, _ events.RetryStarted) context.Context { return ctx },
		AttemptStarted:  func(ctx context.Context, _ events.AttemptStarted) context.Context { return ctx },
		AttemptFinished: func(context.Context, events.AttemptFinished) {},
		RetryScheduled:  func(context.Context, events.RetryScheduled) {},
		RetryFinished:   func(context.Context, events.RetryFinished) {},

		TimedOut:             func(context.Context, events.TimedOut) {},
		BulkheadWaited:       func(context.Context, events.BulkheadWaited) {},
		BulkheadRejected:     func(context.Context, events.BulkheadRejected) {},
		RateLimited:          func(context.Context, events.RateLimited) {},
		FellBack:             func(context.Context, events.FellBack) {},
		HedgeAttemptStarted:  func(ctx context.Context, _ events.HedgeAttemptStarted) context.Context { return ctx },
		HedgeAttemptFinished: func(context.Context, events.HedgeAttemptFinished) {},
	}
}

// withAndWithoutSink runs a benchmark with nobody listening and with one sink.
func withAndWithoutSink(b *testing.B, f func(b *testing.B, s events.Sink)) {
	b.Run("silent", func(b *testing.B) { b.ReportAllocs(); f(b, events.Sink{}) })
	b.Run("sink", func(b *testing.B) { b.ReportAllocs(); f(b, benchSink()) })
}

func BenchmarkSuccess(b *testing.B) {
	withAndWithoutSink(b, func(b *testing.B, s events.Sink) {
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Events: s})
		ctx := b.Context()
		for b.Loop() {
			_ = cb.Execute(ctx, succeed)
		}
	})
}

func BenchmarkSuccessParallel(b *testing.B) {
	withAndWithoutSink(b, func(b *testing.B, s events.Sink) {
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Events: s})
		ctx := b.Context()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_ = cb.Execute(ctx, succeed)
			}
		})
	})
}

func BenchmarkFailure(b *testing.B) {
	withAndWithoutSink(b, func(b *testing.B, s events.Sink) {
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Events: s, ErrorThreshold: 1})
		ctx := b.Context()
		_ = cb.Execute(ctx, succeed)
		for b.Loop() {
			if cb.Execute(ctx, fail) != errBench { //nolint:errorlint // it comes back as it is
				_ = cb.Execute(ctx, succeed)
			}
		}
	})
}

func BenchmarkRejection(b *testing.B) {
	withAndWithoutSink(b, func(b *testing.B, s events.Sink) {
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Events: s, VolumeThreshold: 1, SleepWindow: time.Hour})
		ctx := b.Context()
		_ = cb.Execute(ctx, fail)
		for b.Loop() {
			_ = cb.Execute(ctx, succeed)
		}
	})
}

func BenchmarkRetryFirstAttempt(b *testing.B) {
	withAndWithoutSink(b, func(b *testing.B, s events.Sink) {
		c := resilience.DefaultRetryConfig()
		c.Events = s
		ctx := b.Context()
		for b.Loop() {
			_ = resilience.Retry(ctx, c, succeed)
		}
	})
}

func BenchmarkRetryThirdAttempt(b *testing.B) {
	withAndWithoutSink(b, func(b *testing.B, s events.Sink) {
		c := &resilience.RetryConfig{InitialDelay: 1, MaxDelay: 1, Events: s}
		ctx := b.Context()
		n := 0
		work := func() error {
			if n++; n%3 == 0 {
				return nil
			}
			return errBench
		}
		for b.Loop() {
			_ = resilience.Retry(ctx, c, work)
		}
	})
}

func BenchmarkRetryWithCircuitBreaker(b *testing.B) {
	withAndWithoutSink(b, func(b *testing.B, s events.Sink) {
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Events: s})
		c := resilience.DefaultRetryConfig()
		c.Events = s
		ctx := b.Context()
		for b.Loop() {
			_ = resilience.RetryWithCircuitBreaker(ctx, c, cb, succeed)
		}
	})
}

func BenchmarkRegistryGet(b *testing.B) {
	r := resilience.NewRegistry(&resilience.RegistryConfig{Max: 1024})
	hosts := make([]string, 1024)
	for i := range hosts {
		hosts[i] = "host-" + strconv.Itoa(i) + ".example.com:443"
		r.Get(hosts[i])
	}
	b.Run("one key", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.Get(hosts[0])
		}
	})
	b.Run("all keys", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			r.Get(hosts[n%len(hosts)])
			n++
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			n := 0
			for pb.Next() {
				r.Get(hosts[n%len(hosts)])
				n++
			}
		})
	})
	b.Run("and call", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = r.Get(hosts[0]).Execute(b.Context(), succeed)
		}
	})
}

func BenchmarkRetryBudget(b *testing.B) {
	c := resilience.DefaultRetryConfig()
	c.InitialDelay, c.MaxDelay = 1, 1
	c.Budget = resilience.NewRetryBudget(nil)
	b.Run("first attempt", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = resilience.Retry(b.Context(), c, succeed)
		}
	})
	b.Run("first attempt in parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_ = resilience.Retry(b.Context(), c, succeed)
			}
		})
	})
	b.Run("second attempt", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		work := func() error {
			if n++; n%2 == 0 {
				return nil
			}
			return errBench
		}
		for b.Loop() {
			_ = resilience.Retry(b.Context(), c, work)
		}
	})
}

// BenchmarkPolicies is what each of the other policies adds to work that it lets be.
func BenchmarkPolicies(b *testing.B) {
	work := func(context.Context) error { return nil }
	for _, policy := range []struct {
		name string
		make func(s events.Sink) resilience.Policy
	}{
		{"timeout", func(s events.Sink) resilience.Policy {
			return resilience.NewTimeout(&resilience.TimeoutConfig{Events: s})
		}},
		{"bulkhead", func(s events.Sink) resilience.Policy {
			return resilience.NewBulkhead(&resilience.BulkheadConfig{Events: s})
		}},
		{"ratelimit", func(s events.Sink) resilience.Policy {
			return resilience.NewRateLimit(&resilience.RateLimitConfig{Allow: unlimited{}, Events: s})
		}},
		{"fallback", func(s events.Sink) resilience.Policy {
			return resilience.NewFallback(&resilience.FallbackConfig[struct{}]{
				Value: func(context.Context, error) (struct{}, error) { return struct{}{}, nil }, Events: s,
			})
		}},
		{"hedge", func(s events.Sink) resilience.Policy {
			return resilience.NewHedge(&resilience.HedgeConfig{Delay: time.Hour, Events: s})
		}},
		{"hedge, quantile", func(s events.Sink) resilience.Policy {
			return resilience.NewHedge(&resilience.HedgeConfig{Delay: time.Hour, Quantile: 0.999, Events: s})
		}},
	} {
		b.Run(policy.name, func(b *testing.B) {
			withAndWithoutSink(b, func(b *testing.B, s events.Sink) {
				p, ctx := policy.make(s), b.Context()
				for b.Loop() {
					_ = p.Run(ctx, work)
				}
			})
		})
	}
}
