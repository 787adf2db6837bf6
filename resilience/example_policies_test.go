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

// The recommended stack, in the order of the package documentation, around a service
// that is down.
func Example_stack() {
	var (
		cached = resilience.NewFallback(&resilience.FallbackConfig[string]{
			Value: func(context.Context, error) (string, error) { return "yesterday's page", nil },
		})
		overall  = resilience.NewTimeout(&resilience.TimeoutConfig{Name: "page", Limit: 5 * time.Second})
		retrier  = resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: time.Nanosecond})
		hedge    = resilience.NewHedge(&resilience.HedgeConfig{Quantile: 0.95})
		breaker  = resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "pages", VolumeThreshold: 3})
		limit    = resilience.NewRateLimit(&resilience.RateLimitConfig{Wait: unlimited{}}) // a rate.Limiter
		bulkhead = resilience.NewBulkhead(&resilience.BulkheadConfig{MaxConcurrent: 20, MaxQueue: 50})
		attempt  = resilience.NewTimeout(&resilience.TimeoutConfig{Name: "page attempt", Limit: time.Second})
	)
	stack := resilience.Chain(cached, overall, retrier, hedge, breaker, limit, bulkhead, attempt)

	attempts := 0
	for range 2 {
		page, err := resilience.Do(context.Background(), stack, func(context.Context) (string, error) {
			attempts++
			return "", io.ErrUnexpectedEOF
		})
		fmt.Printf("%s, error %v, after %d attempts in all, breaker %v\n", page, err, attempts, breaker.State())
	}

	// Output:
	// yesterday's page, error <nil>, after 3 attempts in all, breaker open
	// yesterday's page, error <nil>, after 3 attempts in all, breaker open
}

// unlimited stands for a Limiter of golang.org/x/time/rate.
type unlimited struct{}

func (unlimited) Wait(ctx context.Context) error { return ctx.Err() }
func (unlimited) Allow() bool                    { return true }

// A Timeout for each attempt of a retry: the first attempt hangs, the second answers.
func ExampleTimeout() {
	timeout := resilience.NewTimeout(&resilience.TimeoutConfig{Name: "search", Limit: time.Millisecond})
	retrier := resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: time.Nanosecond})

	err := resilience.Chain(retrier, timeout).Run(context.Background(), func(ctx context.Context) error {
		if resilience.AttemptFromContext(ctx) > 1 {
			return nil
		}
		<-ctx.Done() // work must heed its context
		return ctx.Err()
	})
	fmt.Println(err)

	// Output: <nil>
}

// A timeout that passed is told apart from the caller's own deadline by its type.
func ExampleTimeoutError() {
	timeout := resilience.NewTimeout(&resilience.TimeoutConfig{Name: "search", Limit: time.Millisecond})
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

	err := timeout.Run(context.Background(), hang)
	passed, ok := errors.AsType[*resilience.TimeoutError](err)
	fmt.Println(ok, errors.Is(err, context.DeadlineExceeded), passed)

	ctx, cancel := context.WithTimeout(context.Background(), time.Microsecond)
	defer cancel()
	err = timeout.Run(ctx, hang)
	_, ok = errors.AsType[*resilience.TimeoutError](err)
	fmt.Println(ok, errors.Is(err, context.DeadlineExceeded), err)

	// Output:
	// true true resilience: timeout "search" of 1ms passed
	// false true context deadline exceeded
}

// One call at a time, and nobody waits.
func ExampleBulkhead() {
	bulkhead := resilience.NewBulkhead(&resilience.BulkheadConfig{Name: "report", MaxConcurrent: 1})

	err := bulkhead.Run(context.Background(), func(ctx context.Context) error {
		return bulkhead.Run(ctx, func(context.Context) error { return nil }) // beside the outer one
	})
	fmt.Println(errors.Is(err, resilience.ErrBulkheadFull), err)

	// Output: true resilience: bulkhead "report" is full: 1 calls run and 0 wait
}

func ExampleBulkhead_Snapshot() {
	bulkhead := resilience.NewBulkhead(&resilience.BulkheadConfig{MaxConcurrent: 4, MaxQueue: 10, MaxWait: time.Second})
	_ = bulkhead.Run(context.Background(), func(context.Context) error {
		s := bulkhead.Snapshot()
		fmt.Println(s.InFlight, "in flight,", s.Queued, "queued,", s.Admitted, "admitted,", s.Rejected, "rejected")
		return nil
	})

	// Output: 1 in flight, 0 queued, 1 admitted, 0 rejected
}

// tickets is a limiter that has so many tickets.
type tickets int

func (n *tickets) Allow() bool { *n--; return *n >= 0 }

func ExampleRateLimit() {
	two := tickets(2) // or rate.NewLimiter(100, 2) of golang.org/x/time/rate
	limit := resilience.NewRateLimit(&resilience.RateLimitConfig{Name: "geocoder", Allow: &two})
	for range 3 {
		fmt.Println(limit.Run(context.Background(), func(context.Context) error { return nil }))
	}

	// Output:
	// <nil>
	// <nil>
	// resilience: rate limit "geocoder" does not allow the call
}

func ExampleFallback() {
	cached := resilience.NewFallback(&resilience.FallbackConfig[int]{
		Name: "stock",
		// Only while the breaker is open; any other error is news.
		If: func(err error) bool { return errors.Is(err, resilience.ErrCircuitBreakerOpen) },
		Value: func(_ context.Context, err error) (int, error) {
			fmt.Println("instead of:", err)
			return 42, nil
		},
	})
	breaker := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "inventory"})
	breaker.ForceOpen()

	stock, err := resilience.Do(context.Background(), resilience.Chain(cached, breaker), func(context.Context) (int, error) {
		return 17, nil
	})
	fmt.Println(stock, err)

	// Output:
	// instead of: resilience: circuit breaker "inventory" is forced open
	// 42 <nil>
}

// Work without a result falls back without Do.
func ExampleFallback_noResult() {
	later := resilience.NewFallback(&resilience.FallbackConfig[struct{}]{
		Value: func(context.Context, error) (struct{}, error) {
			fmt.Println("sent later")
			return struct{}{}, nil
		},
	})
	err := later.Run(context.Background(), func(context.Context) error { return io.ErrClosedPipe })
	fmt.Println(err)

	// Output:
	// sent later
	// <nil>
}

func ExampleFallbackError() {
	cached := resilience.NewFallback(&resilience.FallbackConfig[string]{
		Name:  "cache",
		Value: func(context.Context, error) (string, error) { return "", errors.New("never fetched") },
	})
	_, err := resilience.Do(context.Background(), cached, func(context.Context) (string, error) {
		return "", io.ErrUnexpectedEOF
	})
	fmt.Println(err)
	fmt.Println(errors.Is(err, io.ErrUnexpectedEOF))

	// Output:
	// resilience: fallback "cache" has nothing (never fetched) for: unexpected EOF
	// true
}

// The first attempt hangs; the second, a millisecond later, answers.
func ExampleHedge() {
	hedge := resilience.NewHedge(&resilience.HedgeConfig{
		Name:  "search",
		Delay: time.Millisecond,
		Events: events.Sink{
			HedgeAttemptFinished: func(_ context.Context, e events.HedgeAttemptFinished) {
				fmt.Printf("attempt %d: %v, won %t\n", e.Attempt, e.Outcome, e.Won)
			},
		},
	})
	first := make(chan bool, 1)
	first <- true
	page, err := resilience.Do(context.Background(), hedge, func(ctx context.Context) (string, error) {
		select {
		case <-first:
			<-ctx.Done() // until it is overtaken
			return "", ctx.Err()
		default:
			return "page", nil
		}
	})
	fmt.Println(page, err)

	// Unordered output:
	// attempt 2: success, won true
	// attempt 1: ignored, won false
	// page <nil>
}

// A hedge that follows what it observes: the slowest twentieth is tried twice.
func ExampleHedge_Delay() {
	hedge := resilience.NewHedge(&resilience.HedgeConfig{Delay: 200 * time.Millisecond, Quantile: 0.95})
	fmt.Println("at first:", hedge.Delay())
	for range 1000 {
		_ = hedge.Run(context.Background(), func(context.Context) error { return nil })
	}
	fmt.Println("knows better:", hedge.Delay() < 200*time.Millisecond)

	// Output:
	// at first: 200ms
	// knows better: true
}

func ExampleHedgeError() {
	hedge := resilience.NewHedge(&resilience.HedgeConfig{Name: "search", Delay: time.Microsecond})
	both := make(chan struct{}, 2)
	err := hedge.Run(context.Background(), func(context.Context) error {
		both <- struct{}{}
		for len(both) < 2 { // until the other one has begun
			time.Sleep(time.Microsecond)
		}
		return io.ErrUnexpectedEOF
	})
	fmt.Println(err)

	// Output: resilience: all 2 attempts of hedge "search" failed: unexpected EOF
}
