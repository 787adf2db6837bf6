package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/timeout"
	"golang.org/x/time/rate"

	"github.com/breakwater-go/breakwater/resilience"
)

// What the policies are told: limits that are not met while calls are timed, and met at
// once while it is verified that they are heeded.
const (
	slots = 10        // of a bulkhead
	never = time.Hour // until a call times out or is hedged
	soon  = time.Millisecond
	many  = 1_000_000_000 // calls a second that a rate limit allows
	few   = 3             // calls that it allows while that is verified
)

// strict are the settings for the verification.
var strict = settings{errorThreshold: 0.5, errorLimit: volume / 2, delay: soon}

// limit is how long a call may take, or has before it is hedged.
func (s settings) limit() time.Duration {
	if s.delay != 0 {
		return s.delay
	}
	return never
}

const (
	breakwaterName = "breakwater"
	failsafeName   = "failsafe"
	failsafeModule = "github.com/failsafe-go/failsafe-go"
)

// ourPolicy is our row: Run of the policy that create makes.
func ourPolicy(about string, rejection error, create func(settings) resilience.Policy) *contestant {
	return &contestant{
		name: breakwaterName, ours: true, about: about, rejection: rejection,
		create: func(s settings) any { return create(s) },
		caller: func(p any) caller { return policyCaller{p.(resilience.Policy)} },
	}
}

// failsafePolicy is the row of an executor around failsafe-go's policies.
func failsafePolicy(about string, rejection error, create func(settings) []failsafe.Policy[any]) *contestant {
	return &contestant{
		name: failsafeName, module: failsafeModule, about: about, rejection: rejection,
		create: func(s settings) any {
			return &failsafeExecutor{failsafe.With(create(s)...).WithContext(ctx), nil}
		},
		caller: func(e any) caller { return failsafeRetry{e.(*failsafeExecutor)} },
	}
}

func one(p failsafe.Policy[any]) []failsafe.Policy[any] { return []failsafe.Policy[any]{p} }

type policyCaller struct{ resilience.Policy }

func (p policyCaller) calls(n int, w work, want error) (other int, odd error) {
	run := func(context.Context) error { return w.plain() }
	for range n {
		if err := p.Run(ctx, run); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func timeouts() []*contestant {
	return []*contestant{
		ourPolicy("`Timeout.Run`, nobody listening.", context.DeadlineExceeded, func(s settings) resilience.Policy {
			return resilience.NewTimeout(&resilience.TimeoutConfig{Limit: s.limit()})
		}),
		failsafePolicy("`Executor.Run` around a `Timeout`; the executor is made once.", timeout.ErrExceeded,
			func(s settings) []failsafe.Policy[any] { return one(timeout.New[any](s.limit())) }),
		{
			name:      "context.WithTimeout",
			about:     "By hand: a context, a deferred cancel, and a look at the context after an error.",
			faster:    "it is what ours does, without telling a timeout from the caller's own deadline",
			rejection: context.DeadlineExceeded,
			create:    func(s settings) any { return s.limit() },
			caller:    func(d any) caller { return handTimeout(d.(time.Duration)) },
		},
		&bare,
	}
}

type handTimeout time.Duration

func (d handTimeout) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if err := d.call(w); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func (d handTimeout) call(w work) error {
	limited, cancel := context.WithTimeout(ctx, time.Duration(d))
	defer cancel()
	err := w.plain()
	if err != nil && limited.Err() != nil {
		return limited.Err()
	}
	return err
}

func bulkheads() []*contestant {
	return []*contestant{
		ourPolicy("`Bulkhead.Run`, nobody listening.", resilience.ErrBulkheadFull, func(settings) resilience.Policy {
			return resilience.NewBulkhead(&resilience.BulkheadConfig{MaxConcurrent: slots})
		}),
		{
			name: "failsafe, permit", module: failsafeModule,
			about:     "`TryAcquirePermit` and a deferred `ReleasePermit` of a `Bulkhead`.",
			rejection: bulkhead.ErrFull,
			create:    func(settings) any { return bulkhead.New[any](slots) },
			caller:    func(b any) caller { return failsafeBulkhead{b.(bulkhead.Bulkhead[any])} },
		},
		failsafePolicy("`Executor.Run` around a `Bulkhead`; the executor is made once.", bulkhead.ErrFull,
			func(settings) []failsafe.Policy[any] { return one(bulkhead.New[any](slots)) }),
		&bare,
	}
}

type failsafeBulkhead struct{ bulkhead.Bulkhead[any] }

func (b failsafeBulkhead) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if err := b.call(w); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func (b failsafeBulkhead) call(w work) error {
	if !b.TryAcquirePermit() {
		return bulkhead.ErrFull
	}
	defer b.ReleasePermit()
	return w.plain()
}

func rateLimits() []*contestant {
	allowed := func(s settings) int {
		if s.delay != 0 {
			return few
		}
		return many
	}
	return []*contestant{
		ourPolicy("`RateLimit.Run` with a `Limiter` of golang.org/x/time/rate, whose cost is in it; nobody listening.", resilience.ErrRateLimited,
			func(s settings) resilience.Policy {
				per := rate.Limit(allowed(s))
				if s.delay != 0 {
					per = rate.Every(never)
				}
				return resilience.NewRateLimit(&resilience.RateLimitConfig{Allow: rate.NewLimiter(per, allowed(s))})
			}),
		failsafePolicy("`Executor.Run` around a bursty `RateLimiter`, its own; the executor is made once.", ratelimiter.ErrExceeded,
			func(s settings) []failsafe.Policy[any] {
				period := time.Second
				if s.delay != 0 {
					period = never
				}
				return one(ratelimiter.NewBursty[any](uint(allowed(s)), period))
			}),
		&bare,
	}
}

func hedges() []*contestant {
	return []*contestant{
		ourPolicy("`Hedge.Run`, nobody listening: the first attempt runs on the caller's goroutine.", nil, func(s settings) resilience.Policy {
			return resilience.NewHedge(&resilience.HedgeConfig{Delay: s.limit()})
		}),
		failsafePolicy("`Executor.Run` around a `HedgePolicy`; the executor is made once.", nil,
			func(s settings) []failsafe.Policy[any] { return one(hedgepolicy.NewWithDelay[any](s.limit())) }),
		&bare,
	}
}

func fallbacks() []*contestant {
	return []*contestant{
		ourPolicy("`Fallback.Run` of a fallback without a result, nobody listening.", nil, func(settings) resilience.Policy {
			return resilience.NewFallback(&resilience.FallbackConfig[struct{}]{
				Value: func(context.Context, error) (struct{}, error) { return struct{}{}, nil },
			})
		}),
		failsafePolicy("`Executor.Run` around a `Fallback`; the executor is made once.", nil,
			func(settings) []failsafe.Policy[any] {
				return one(fallback.NewWithFunc(func(failsafe.Execution[any]) (any, error) { return nil, nil }))
			}),
		&bare,
	}
}

// stacks are all of them around each other.
func stacks() []*contestant {
	return []*contestant{
		ourPolicy("`Chain` of Fallback, Retrier, CircuitBreaker, Bulkhead and Timeout, nobody listening.", nil, func(s settings) resilience.Policy {
			return resilience.Chain(
				resilience.NewFallback(&resilience.FallbackConfig[struct{}]{
					Value: func(context.Context, error) (struct{}, error) { return struct{}{}, nil },
				}),
				resilience.NewRetrier(newRetryConfig(s)),
				newBreakwater(s),
				resilience.NewBulkhead(&resilience.BulkheadConfig{MaxConcurrent: slots}),
				resilience.NewTimeout(&resilience.TimeoutConfig{Limit: never}),
			)
		}),
		failsafePolicy("`Executor.Run` around the same five of its own; the executor is made once.", nil,
			func(s settings) []failsafe.Policy[any] {
				return []failsafe.Policy[any]{
					fallback.NewWithFunc(func(failsafe.Execution[any]) (any, error) { return nil, nil }),
					newFailsafeRetry(s), newFailsafe(s), bulkhead.New[any](slots), timeout.New[any](never),
				}
			}),
		&bare,
	}
}

func policyPaths() []path {
	return []path{
		{
			name: "timeout", title: "Timeout, success in time",
			about:       "Nanoseconds per call that succeeds within its limit, on one goroutine. A context and a timer are made for each.",
			contestants: timeouts, settings: usual, ready: readyPolicy(verifyTimeout), timers: true,
		},
		{
			name: "bulkhead-serial", title: "Bulkhead, a slot is free, serial",
			about:       "Nanoseconds per call that gets a slot at once, on one goroutine.",
			contestants: bulkheads, settings: usual, ready: readyPolicy(verifyBulkhead),
		},
		{
			name: "bulkhead-parallel", title: "Bulkhead, a slot is free, parallel",
			about:       "The same as wall time per call, with a goroutine on each processor.",
			contestants: bulkheads, settings: usual, ready: readyPolicy(verifyBulkhead), parallel: true,
		},
		{
			name: "ratelimit", title: "Rate limit, the call may go",
			about:       "Nanoseconds per call that a limiter allows, the limiter's own included, on one goroutine.",
			contestants: rateLimits, settings: usual, ready: readyPolicy(verifyRateLimit),
		},
		{
			name: "hedge", title: "Hedge, the first attempt is fast enough",
			about:       "Nanoseconds per hedged operation that needs no second attempt, on one goroutine. A context and a timer are made for each.",
			contestants: hedges, settings: usual, ready: readyPolicy(verifyHedge), timers: true,
		},
		{
			name: "fallback-unused", title: "Fallback, not needed",
			about:       "Nanoseconds per call that succeeds by itself, on one goroutine.",
			contestants: fallbacks, settings: usual, ready: readyPolicy(verifyFallback),
		},
		{
			name: "fallback-used", title: "Fallback, in place of a failure",
			about:       "Nanoseconds per call that fails and succeeds by its fallback, on one goroutine.",
			contestants: withoutBare(fallbacks), settings: usual, ready: readyToFallBack,
		},
		{
			name: "stack", title: "Fallback, retry, breaker, bulkhead and timeout together",
			about:       "Nanoseconds per operation that succeeds at the first attempt, on one goroutine. A context and a timer are made for each.",
			contestants: stacks, settings: usual, ready: readyPolicy(verifyStack), timers: true,
		},
	}
}

// readyPolicy verifies a policy on instances of its own and returns one for calls that
// succeed.
func readyPolicy(verify func(*contestant) error) func(*contestant, settings) (*subject, error) {
	return func(c *contestant, s settings) (*subject, error) {
		if !c.bare {
			if err := verify(c); err != nil {
				return nil, err
			}
		}
		p := c.make(s)
		return &subject{
			contestant: c,
			loop:       func(n int) (int, error) { return p.calls(n, succeeding, nil) },
			unit:       1,
		}, expect(p, verified, succeeding, nil, verified)
	}
}

func readyToFallBack(c *contestant, s settings) (*subject, error) {
	p := c.make(s)
	return &subject{
		contestant: c,
		loop:       func(n int) (int, error) { return p.calls(n, failing, nil) },
		unit:       1,
	}, verifyFallback(c)
}

// plain is work in the one form that all policies take here.
func plain(f func() error) work { return work{plain: f} }

// verifyTimeout wants work that takes too long, and fails, to come back as a timeout.
func verifyTimeout(c *contestant) error {
	p := c.make(strict)
	err := once(p, plain(func() error { time.Sleep(20 * soon); return errFailure }))
	if !errors.Is(err, c.rejection) {
		return fmt.Errorf("after 20 times the limit a call returned %s instead of %s", outcome(err), outcome(c.rejection))
	}
	return expect(c.make(usual), verified, failing, errFailure, verified)
}

// verifyBulkhead wants as many calls within each other as there are slots to run, and no
// more.
func verifyBulkhead(c *contestant) error {
	p := c.make(strict)
	deepest := 0
	var dive func(depth int) error
	dive = func(depth int) error {
		return once(p, plain(func() error {
			deepest = depth
			if depth > slots {
				return nil
			}
			return dive(depth + 1)
		}))
	}
	for range 3 { // the slots come back
		deepest = 0
		if err := dive(1); !errors.Is(err, c.rejection) || deepest != slots {
			return fmt.Errorf("%d calls within each other ran and then one returned %s; there are %d slots", deepest, outcome(err), slots)
		}
	}
	return nil
}

// verifyRateLimit wants a few calls to go, and no other.
func verifyRateLimit(c *contestant) error {
	p := c.make(strict)
	if err := expect(p, few, succeeding, nil, few); err != nil {
		return err
	}
	w, ran := counting(succeeding)
	if err := once(p, w); !errors.Is(err, c.rejection) || *ran != 0 {
		return fmt.Errorf("after %d calls another returned %s and ran the work %d times", few, outcome(err), *ran)
	}
	return nil
}

// verifyHedge wants a second attempt beside a first that does not end without it.
func verifyHedge(c *contestant) error {
	p := c.make(strict)
	var begun, ended atomic.Int32
	second := make(chan struct{})
	err := once(p, plain(func() error {
		defer ended.Add(1)
		if begun.Add(1) > 1 {
			close(second)
			return nil
		}
		select {
		case <-second:
			return nil
		case <-time.After(time.Second):
			return errFailure
		}
	}))
	if err != nil || begun.Load() != 2 {
		return fmt.Errorf("%d attempts began, and it returned %s", begun.Load(), outcome(err))
	}
	for ended.Load() < begun.Load() { // not all wait for those that lost
		time.Sleep(soon)
	}
	return nil
}

// verifyFallback wants a failure to become a success, and the work to have run.
func verifyFallback(c *contestant) error {
	return expect(c.make(strict), verified, failing, nil, verified)
}

// verifyStack wants three attempts that fail, then the fallback; and after some of them
// an open breaker, whose rejection the fallback makes good as well.
func verifyStack(c *contestant) error {
	p := c.make(usual)
	if err := expect(p, 3, failing, nil, 3*attempts); err != nil {
		return err
	}
	if err := expect(p, 1, failing, nil, 1); err != nil { // the tenth failure opens it
		return err
	}
	return expect(p, verified, failing, nil, 0)
}
