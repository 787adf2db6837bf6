package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// The declarations from here to the first example are quoted in docs/guidance.md, which
// TestGuidanceQuotesThePresets checks.

// conservative is for what costs something each time, such as a payment: once more,
// after a second, neither sooner nor later.
func conservative() *resilience.RetryConfig {
	return &resilience.RetryConfig{
		MaxAttempts:   2,
		InitialDelay:  time.Second,
		MaxDelay:      5 * time.Second,
		BackoffFactor: 2,
		JitterEnabled: false, // predictable
	}
}

// aggressive is for what only has to happen some time, such as a report: five times,
// with waits that grow quickly and differ between clients.
func aggressive() *resilience.RetryConfig {
	return &resilience.RetryConfig{
		MaxAttempts:   5,
		InitialDelay:  50 * time.Millisecond,
		MaxDelay:      10 * time.Second,
		BackoffFactor: 3,
		JitterEnabled: true, // no thundering herd
	}
}

// none is for what somebody waits for.
func none() *resilience.RetryConfig {
	return &resilience.RetryConfig{MaxAttempts: 1}
}

// paymentBreaker is conservative: it opens at three failures of ten, leaves the service
// alone for a minute and trusts it again after one call that passed.
func paymentBreaker(sink events.Sink) *resilience.CircuitBreakerConfig {
	return &resilience.CircuitBreakerConfig{
		Name:             "payment",
		ErrorThreshold:   0.3,
		SleepWindow:      time.Minute,
		HalfOpenRequests: 1,
		Events:           sink,
	}
}

// searchBreaker is aggressive: it opens at seven failures of ten, since there is something
// else to show, and looks again every five seconds, with ten calls at most.
func searchBreaker(sink events.Sink) *resilience.CircuitBreakerConfig {
	return &resilience.CircuitBreakerConfig{
		Name:             "search",
		ErrorThreshold:   0.7,
		SleepWindow:      5 * time.Second,
		HalfOpenRequests: 10,
		Events:           sink,
	}
}

// analyticsBreaker is relaxed: nothing waits for it, so it opens only when next to nothing
// gets through, for a second.
func analyticsBreaker(sink events.Sink) *resilience.CircuitBreakerConfig {
	return &resilience.CircuitBreakerConfig{
		Name:             "analytics",
		ErrorThreshold:   0.9,
		SleepWindow:      time.Second,
		HalfOpenRequests: 20,
		Events:           sink,
	}
}

// breakerIn returns the configuration of a breaker for an environment: "development",
// "staging" or "production", which has the defaults.
func breakerIn(environment string) (*resilience.CircuitBreakerConfig, error) {
	c := resilience.DefaultConfig()
	switch environment {
	case "development":
		c.ErrorThreshold = 0.8          // tolerant: things are half finished
		c.SleepWindow = 5 * time.Second // and are soon back
	case "staging":
		c.ErrorThreshold = 0.6
		c.SleepWindow = 15 * time.Second
	case "production":
		c.ErrorThreshold = 0.5
		c.SleepWindow = 30 * time.Second
	default:
		return nil, fmt.Errorf("environment is %q, want development, staging or production", environment)
	}
	return c, nil
}

// paymentStack is for a call that must not be done twice by accident: give each payment
// a key by which the service knows it again, or use none instead of conservative. It is
// not hedged, and nothing stands in for it.
func paymentStack(conservative *resilience.Retrier, breaker *resilience.CircuitBreaker, sink events.Sink) resilience.Policy {
	return resilience.Chain(
		conservative,
		breaker,
		resilience.NewBulkhead(&resilience.BulkheadConfig{
			Name: "payment", MaxConcurrent: 20, MaxQueue: 50, MaxWait: 2 * time.Second, Events: sink,
		}),
		resilience.NewTimeout(&resilience.TimeoutConfig{Name: "payment", Limit: 5 * time.Second, Events: sink}),
	)
}

// searchStack is for a read that somebody waits for: hedged instead of retried, with the
// results of before when all else fails.
func searchStack(breaker *resilience.CircuitBreaker, before func(context.Context, error) ([]string, error), sink events.Sink) resilience.Policy {
	return resilience.Chain(
		resilience.NewFallback(&resilience.FallbackConfig[[]string]{Name: "search", Value: before, Events: sink}),
		resilience.NewHedge(&resilience.HedgeConfig{Name: "search", Delay: 200 * time.Millisecond, Quantile: 0.95, Events: sink}),
		breaker,
		resilience.NewBulkhead(&resilience.BulkheadConfig{Name: "search", MaxConcurrent: 100, Events: sink}),
		resilience.NewTimeout(&resilience.TimeoutConfig{Name: "search", Limit: time.Second, Events: sink}),
	)
}

// analyticsStack is for work that nobody waits for, which has to stay out of the way of
// all other: few calls at once, no more often than the limiter allows, tried for long.
func analyticsStack(aggressive *resilience.Retrier, breaker *resilience.CircuitBreaker, limiter resilience.Waiter, sink events.Sink) resilience.Policy {
	return resilience.Chain(
		aggressive,
		breaker,
		resilience.NewRateLimit(&resilience.RateLimitConfig{Name: "analytics", Wait: limiter, Events: sink}),
		resilience.NewBulkhead(&resilience.BulkheadConfig{Name: "analytics", MaxConcurrent: 2, MaxQueue: 1000, Events: sink}),
		resilience.NewTimeout(&resilience.TimeoutConfig{Name: "analytics", Limit: 10 * time.Second, Events: sink}),
	)
}

// Each breaker after the failures of ten calls that it bears, and after one more.
func Example_presetsOfBreakers() {
	for _, c := range []*resilience.CircuitBreakerConfig{
		paymentBreaker(events.Sink{}), searchBreaker(events.Sink{}), analyticsBreaker(events.Sink{}),
	} {
		for failures := 1; ; failures++ {
			breaker := resilience.NewCircuitBreaker(c)
			for call := range 10 {
				_ = breaker.Execute(context.Background(), func() error {
					if call < 10-failures {
						return nil
					}
					return io.ErrUnexpectedEOF
				})
			}
			if breaker.State() == resilience.StateOpen {
				fmt.Printf("%s opens at %d failures of 10, for %v; then up to %d probes\n",
					breaker.Name(), failures, c.SleepWindow, c.HalfOpenRequests)
				break
			}
		}
	}

	// Output:
	// payment opens at 3 failures of 10, for 1m0s; then up to 1 probes
	// search opens at 7 failures of 10, for 5s; then up to 10 probes
	// analytics opens at 9 failures of 10, for 1s; then up to 20 probes
}

// Each retry until its first wait, which it is not made to wait.
func Example_presetsOfRetries() {
	for _, preset := range []struct {
		name   string
		config *resilience.RetryConfig
	}{{"conservative", conservative()}, {"aggressive", aggressive()}, {"none", none()}} {
		ctx, cancel := context.WithCancel(context.Background())
		waits := "no wait"
		preset.config.Events.RetryScheduled = func(_ context.Context, e events.RetryScheduled) {
			waits = "a wait of " + e.Delay.String()
			if preset.config.JitterEnabled {
				waits = fmt.Sprintf("a wait of up to %v: %t", preset.config.InitialDelay, e.Delay <= preset.config.InitialDelay)
			}
			cancel()
		}
		err := resilience.Retry(ctx, preset.config, func() error { return io.ErrUnexpectedEOF })
		fmt.Printf("%s: %d attempts, %s, error %t\n", preset.name, preset.config.MaxAttempts, waits, errors.Is(err, io.ErrUnexpectedEOF))
		cancel()
	}

	// Output:
	// conservative: 2 attempts, a wait of 1s, error true
	// aggressive: 5 attempts, a wait of up to 50ms: true, error true
	// none: 1 attempts, no wait, error true
}

func Example_presetsOfEnvironments() {
	for _, environment := range []string{"development", "staging", "production", "prod"} {
		c, err := breakerIn(environment)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s: opens at %.0f %%, for %v\n", environment, 100*c.ErrorThreshold, c.SleepWindow)
	}

	// Output:
	// development: opens at 80 %, for 5s
	// staging: opens at 60 %, for 15s
	// production: opens at 50 %, for 30s
	// environment is "prod", want development, staging or production
}

// Each stack with a call that succeeds, and the search with one that fails.
func Example_presetsOfStacks() {
	ctx := context.Background()
	id, err := resilience.Do(ctx, newPayment(events.Sink{}), func(context.Context) (string, error) {
		return "payment 17", nil
	})
	fmt.Println(id, err)

	search := newSearch(func(_ context.Context, err error) ([]string, error) {
		return []string{"from the cache, since: " + err.Error()}, nil
	}, events.Sink{})
	for _, down := range []error{nil, io.ErrUnexpectedEOF} {
		found, err := resilience.Do(ctx, search, func(context.Context) ([]string, error) {
			return []string{"fresh"}, down
		})
		fmt.Println(found, err)
	}

	err = newAnalytics(unlimited{}, events.Sink{}).Run(ctx, func(context.Context) error { return nil })
	fmt.Println(err)

	// Output:
	// payment 17 <nil>
	// [fresh] <nil>
	// [from the cache, since: unexpected EOF] <nil>
	// <nil>
}

// The stacks with the retries and breakers of their presets.

func newPayment(sink events.Sink) resilience.Policy {
	retry := conservative()
	retry.Name, retry.Events = "payment", sink
	return paymentStack(resilience.NewRetrier(retry), resilience.NewCircuitBreaker(paymentBreaker(sink)), sink)
}

func newSearch(before func(context.Context, error) ([]string, error), sink events.Sink) resilience.Policy {
	return searchStack(resilience.NewCircuitBreaker(searchBreaker(sink)), before, sink)
}

func newAnalytics(limiter resilience.Waiter, sink events.Sink) resilience.Policy {
	retry := aggressive()
	retry.Name, retry.Events = "analytics", sink
	return analyticsStack(resilience.NewRetrier(retry), resilience.NewCircuitBreaker(analyticsBreaker(sink)), limiter, sink)
}
