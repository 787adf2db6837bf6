package main

import (
	"context"
	"time"

	avast "github.com/avast/retry-go/v5"
	"github.com/cenkalti/backoff/v5"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	sethvargo "github.com/sethvargo/go-retry"

	"github.com/breakwater-go/breakwater/resilience"
)

// retries returns the contestants of the retry paths, ours first. All make at most
// three attempts with the same delay after each, none if the settings say so. What
// can be built once is; what a library wants anew for each retry is built in the loop.
func retries() []*contestant {
	return []*contestant{
		{
			name:  "breakwater",
			ours:  true,
			about: "`Retry`, nobody listening. No delay is a delay of a nanosecond, which is not waited.",
			create: func(s settings) any {
				return newRetryConfig(s)
			},
			caller: func(c any) caller { return breakwaterRetry{c.(*resilience.RetryConfig)} },
		},
		{
			name:   "breakwater, retrier",
			about:  "`Retrier.Execute` of a retrier made once, nobody listening.",
			create: func(s settings) any { return resilience.NewRetrier(newRetryConfig(s)) },
			caller: func(r any) caller { return breakwaterRetrier{r.(*resilience.Retrier)} },
		},
		{
			name:   "avast/retry-go",
			beside: "breakwater, retrier",
			module: "github.com/avast/retry-go/v5",
			about:  "`Retrier.Do` of a retrier made once, fixed delay without jitter. The context is the retrier's, so a service that has one for each request makes a retrier for each.",
			faster: "its retrier is bound to one context when it is made, and it validates nothing on the call",
			create: func(s settings) any { return newAvast(s) },
			caller: func(r any) caller { return avastRetry{r.(*avast.Retrier)} },
		},
		{
			name:   "cenkalti/backoff",
			module: "github.com/cenkalti/backoff/v5",
			about:  "`Retry` with a constant backoff and `WithMaxTries`; the options are made once, which a constant backoff allows and a growing one would not.",
			create: func(s settings) any {
				return []backoff.RetryOption{
					backoff.WithBackOff(backoff.NewConstantBackOff(s.delay)),
					backoff.WithMaxTries(attempts),
				}
			},
			caller: func(o any) caller { return cenkaltiRetry{o.([]backoff.RetryOption)} },
		},
		{
			name:   "sethvargo/go-retry",
			module: "github.com/sethvargo/go-retry",
			about:  "`Do` with a constant backoff in `WithMaxRetries`, which holds the number of the attempt and so is made for each retry. The error is marked as retryable once, outside of the loop.",
			create: func(s settings) any { return s.delay },
			caller: func(d any) caller { return sethvargoRetry{d.(time.Duration)} },
		},
		{
			name:   "failsafe",
			module: "github.com/failsafe-go/failsafe-go",
			about:  "`Executor.Run` around a retry policy with a fixed delay; the executor is made once.",
			create: func(s settings) any {
				return &failsafeExecutor{failsafe.With(newFailsafeRetry(s)).WithContext(ctx), nil}
			},
			caller: func(e any) caller { return failsafeRetry{e.(*failsafeExecutor)} },
		},
		&bare,
		{
			name:   askedAlone,
			bare:   true,
			about:  "The context is asked before each attempt, and the work is run until it succeeds: what nobody can do without who does not begin an attempt that the caller has given up.",
			create: func(settings) any { return nil },
			caller: func(any) caller { return askedWork{} },
		},
	}
}

// together returns the contestants of the paths on which a breaker protects each
// attempt of a retry, ours first.
func together() []*contestant {
	return []*contestant{
		{
			name:     "breakwater",
			ours:     true,
			windowed: true,
			about:    "`RetryWithCircuitBreaker`, nobody listening.",
			create: func(s settings) any {
				return &breakwaterTogether{newRetryConfig(s), newBreakwater(s)}
			},
			caller: func(b any) caller { return b.(*breakwaterTogether) },
		},
		{
			name:     "breakwater, chain",
			windowed: true,
			about:    "`Chain` of a `Retrier` and the breaker, made once: the policies that take a context.",
			create: func(s settings) any {
				b := newBreakwater(s)
				return &breakwaterChain{resilience.Chain(resilience.NewRetrier(newRetryConfig(s)), b), b}
			},
			caller: func(b any) caller { return b.(*breakwaterChain) },
		},
		{
			name:     "avast + gobreaker",
			module:   "github.com/avast/retry-go/v5",
			windowed: true,
			about:    "`Retrier.Do` around `CircuitBreaker.Execute`; retrier and closure are made once.",
			create: func(s settings) any {
				return &avastTogether{newAvast(s), breakerOf("gobreaker").make(s).(goBreaker)}
			},
			caller: func(b any) caller { return b.(*avastTogether) },
		},
		{
			name:     "failsafe",
			module:   "github.com/failsafe-go/failsafe-go",
			windowed: true,
			about:    "`Executor.Run` around a retry policy and a breaker; the executor is made once.",
			create: func(s settings) any {
				b := newFailsafe(s)
				return &failsafeExecutor{failsafe.With(newFailsafeRetry(s), b).WithContext(ctx), b}
			},
			caller: func(e any) caller { return e.(*failsafeExecutor) },
		},
		&bare,
	}
}

func breakerOf(name string) *contestant {
	for _, c := range breakers() {
		if c.name == name {
			return c
		}
	}
	panic("no breaker is called " + name)
}

func newRetryConfig(s settings) *resilience.RetryConfig {
	d := max(s.delay, 1)
	return &resilience.RetryConfig{MaxAttempts: attempts, InitialDelay: d, MaxDelay: d}
}

type breakwaterRetry struct{ config *resilience.RetryConfig }

func (r breakwaterRetry) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if err := resilience.Retry(ctx, r.config, w.plain); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

// askedAlone is the name of the floor of a retry.
const askedAlone = "asked and alone"

type askedWork struct{}

func (askedWork) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if err := askedAndRun(ctx, w.plain); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

// askedAndRun is not inlined, as no retry is.
//
//go:noinline
func askedAndRun(ctx context.Context, fn func() error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if fn() == nil {
			return nil
		}
	}
}

type breakwaterRetrier struct{ *resilience.Retrier }

func (r breakwaterRetrier) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if err := r.Execute(ctx, w.plain); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

type breakwaterTogether struct {
	config  *resilience.RetryConfig
	breaker *resilience.CircuitBreaker
}

func (b *breakwaterTogether) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if err := resilience.RetryWithCircuitBreaker(ctx, b.config, b.breaker, w.plain); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func (b *breakwaterTogether) counted() (success, failure int) { return breakwaterCounts(b.breaker) }

type breakwaterChain struct {
	policy  resilience.Policy
	breaker *resilience.CircuitBreaker
}

func (b *breakwaterChain) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		// marked is the form of the work that takes a context.
		if err := b.policy.Run(ctx, w.marked); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func (b *breakwaterChain) counted() (success, failure int) { return breakwaterCounts(b.breaker) }

func newAvast(s settings) *avast.Retrier {
	return avast.New(
		avast.Attempts(attempts),
		avast.Delay(s.delay),
		avast.DelayType(avast.FixedDelay),
		avast.Context(ctx),
	)
}

type avastRetry struct{ *avast.Retrier }

func (r avastRetry) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if err := r.Do(w.plain); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

type avastTogether struct {
	retrier *avast.Retrier
	breaker goBreaker
}

func (b *avastTogether) calls(n int, w work, want error) (other int, odd error) {
	protected := func() error {
		_, err := b.breaker.Execute(w.value)
		return err
	}
	for range n {
		if err := b.retrier.Do(protected); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func (b *avastTogether) counted() (success, failure int) { return b.breaker.counted() }

type cenkaltiRetry struct{ options []backoff.RetryOption }

func (r cenkaltiRetry) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if _, err := backoff.Retry(ctx, w.value, r.options...); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

// errMarked is errFailure marked as worth a retry, which sethvargo/go-retry asks for.
var errMarked = sethvargo.RetryableError(errFailure)

type sethvargoRetry struct{ delay time.Duration }

func (r sethvargoRetry) calls(n int, w work, want error) (other int, odd error) {
	constant := sethvargo.BackoffFunc(func() (time.Duration, bool) { return r.delay, false })
	for range n {
		err := sethvargo.Do(ctx, sethvargo.WithMaxRetries(attempts-1, constant), w.marked)
		if !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func newFailsafeRetry(s settings) failsafe.Policy[any] {
	return retrypolicy.NewBuilder[any]().WithMaxAttempts(attempts).WithDelay(s.delay).Build()
}

// failsafeRetry is an executor without a breaker, which has nothing to count.
type failsafeRetry struct{ executor *failsafeExecutor }

func (r failsafeRetry) calls(n int, w work, want error) (other int, odd error) {
	return r.executor.calls(n, w, want)
}
