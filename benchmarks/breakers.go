package main

import (
	cenk "github.com/cenk/backoff"
	"github.com/eapache/go-resiliency/breaker"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	aegis "github.com/go-kratos/aegis/circuitbreaker"
	"github.com/go-kratos/aegis/circuitbreaker/sre"
	rubyist "github.com/rubyist/circuitbreaker"
	"github.com/sony/gobreaker/v2"

	"github.com/breakwater-go/breakwater/resilience"
)

// breakers returns the contestants of the breaker paths, ours first.
func breakers() []*contestant {
	return []*contestant{
		{
			name:      "breakwater",
			ours:      true,
			windowed:  true,
			held:      true,
			about:     "`CircuitBreaker.Execute`, nobody listening.",
			create:    func(s settings) any { return newBreakwater(s) },
			caller:    func(b any) caller { return breakwater{b.(*resilience.CircuitBreaker)} },
			rejection: resilience.ErrCircuitBreakerOpen,
		},
		{
			name:      "breakwater, permit",
			windowed:  true,
			about:     "`CircuitBreaker.Acquire` and `Permit.Done`, for work that does not fit into a function. A permit may be handed to another goroutine and ended twice, so it is an allocation.",
			create:    func(s settings) any { return newBreakwater(s) },
			caller:    func(b any) caller { return breakwaterPermit{b.(*resilience.CircuitBreaker)} },
			rejection: resilience.ErrCircuitBreakerOpen,
		},
		{
			name:     "gobreaker",
			module:   "github.com/sony/gobreaker/v2",
			windowed: true,
			held:     true,
			about:    "`CircuitBreaker.Execute` with a rolling window (`Interval` 10 s, `BucketPeriod` 1 s) and a `ReadyToTrip` that judges volume and ratio. It takes no context.",
			create: func(s settings) any {
				return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
					Interval:     windowSize,
					BucketPeriod: windowSize / buckets,
					Timeout:      sleepWindow,
					ReadyToTrip: func(c gobreaker.Counts) bool {
						all := c.TotalSuccesses + c.TotalFailures
						return all >= volume && float64(c.TotalFailures) >= s.errorThreshold*float64(all)
					},
				})
			},
			caller:    func(b any) caller { return goBreaker{b.(*gobreaker.CircuitBreaker[struct{}])} },
			rejection: gobreaker.ErrOpenState,
		},
		{
			name:      "failsafe, permit",
			module:    "github.com/failsafe-go/failsafe-go",
			windowed:  true,
			held:      true,
			about:     "`TryAcquirePermit`, then `RecordSuccess` or `RecordFailure`, of a breaker with a failure rate threshold over a period, which it keeps in ten buckets. It takes no context, and its user sees to a panic of the work.",
			create:    func(s settings) any { return newFailsafe(s) },
			caller:    func(b any) caller { return failsafePermit{b.(circuitbreaker.CircuitBreaker[any])} },
			rejection: circuitbreaker.ErrOpen,
		},
		{
			name:     "failsafe, executor",
			module:   "github.com/failsafe-go/failsafe-go",
			windowed: true,
			about:    "`Executor.Run` around the same breaker; the executor is made once.",
			create: func(s settings) any {
				b := newFailsafe(s)
				return &failsafeExecutor{failsafe.With[any](b).WithContext(ctx), b}
			},
			caller:    func(b any) caller { return b.(*failsafeExecutor) },
			rejection: circuitbreaker.ErrOpen,
		},
		{
			name:     "rubyist",
			module:   "github.com/rubyist/circuitbreaker",
			windowed: true,
			held:     true,
			about:    "`Breaker.CallContext` without a timeout, `RateTripFunc`, ten buckets over 10 s, a constant backoff as the time to stay open.",
			create: func(s settings) any {
				return rubyist.NewBreakerWithOptions(&rubyist.Options{
					BackOff:       cenk.NewConstantBackOff(sleepWindow),
					ShouldTrip:    rubyist.RateTripFunc(s.errorThreshold, volume),
					WindowTime:    windowSize,
					WindowBuckets: buckets,
				})
			},
			caller:    func(b any) caller { return rubyistBreaker{b.(*rubyist.Breaker)} },
			rejection: rubyist.ErrBreakerOpen,
		},
		{
			name:   "eapache",
			module: "github.com/eapache/go-resiliency",
			held:   true,
			about:  "`Breaker.Run`. It does not do the same job: it has no window and no ratio, counts errors (five of them open it; on the failure path no number does) and no successes. It takes no context.",
			faster: "it keeps no window and counts no successes: while closed a success reads one word and writes none, and a rejection reads no clock",
			create: func(s settings) any { return breaker.New(s.errorLimit, 1, sleepWindow) },
			caller: func(b any) caller { return eapacheBreaker{b.(*breaker.Breaker)} },

			rejection: breaker.ErrBreakerOpen,
		},
		{
			name:     "aegis",
			module:   "github.com/go-kratos/aegis",
			windowed: true,
			held:     true,
			about:    "`Allow`, then `MarkSuccess` or `MarkFailed`, also after a rejection, as the middleware of Kratos does. It does not open but throttles: it rejects with a probability that grows with the surplus of failures. Its success ratio is one less our error threshold, its window ten buckets over 10 s. It takes no context.",
			create: func(s settings) any {
				return sre.NewBreaker(
					sre.WithSuccess(1-s.errorThreshold),
					sre.WithRequest(volume),
					sre.WithWindow(windowSize),
					sre.WithBucket(buckets),
				)
			},
			caller:    func(b any) caller { return aegisBreaker{b.(aegis.CircuitBreaker)} },
			rejection: aegis.ErrNotAllowed,
			leaks:     0.001,
		},
		&bare,
	}
}

func newBreakwater(s settings) *resilience.CircuitBreaker {
	return resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		ErrorThreshold:  s.errorThreshold,
		VolumeThreshold: volume,
		SleepWindow:     sleepWindow,
		WindowSize:      windowSize,
		BucketCount:     buckets,
	})
}

type breakwater struct{ *resilience.CircuitBreaker }

func (b breakwater) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if err := b.Execute(ctx, w.plain); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func (b breakwater) counted() (success, failure int) { return breakwaterCounts(b.CircuitBreaker) }

func breakwaterCounts(b *resilience.CircuitBreaker) (success, failure int) {
	w := b.GetStats().Window
	return int(w.Success), int(w.Failure)
}

type breakwaterPermit struct{ *resilience.CircuitBreaker }

func (b breakwaterPermit) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		permit, err := b.Acquire(ctx)
		if err == nil {
			err = w.plain()
			permit.Done(err)
		}
		if !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func (b breakwaterPermit) counted() (success, failure int) {
	return breakwaterCounts(b.CircuitBreaker)
}

type goBreaker struct {
	*gobreaker.CircuitBreaker[struct{}]
}

func (b goBreaker) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if _, err := b.Execute(w.value); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func (b goBreaker) counted() (success, failure int) {
	c := b.Counts()
	return int(c.TotalSuccesses), int(c.TotalFailures)
}

func newFailsafe(s settings) circuitbreaker.CircuitBreaker[any] {
	return circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(s.errorThreshold, volume, windowSize).
		WithDelay(sleepWindow).
		Build()
}

func failsafeCounts(b circuitbreaker.CircuitBreaker[any]) (success, failure int) {
	m := b.Metrics()
	return int(m.Successes()), int(m.Failures())
}

type failsafePermit struct {
	circuitbreaker.CircuitBreaker[any]
}

func (b failsafePermit) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		err := circuitbreaker.ErrOpen
		if b.TryAcquirePermit() {
			if err = w.plain(); err == nil {
				b.RecordSuccess()
			} else {
				b.RecordFailure()
			}
		}
		if !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func (b failsafePermit) counted() (success, failure int) { return failsafeCounts(b.CircuitBreaker) }

// failsafeExecutor is an executor of any policies, of which one is the breaker.
type failsafeExecutor struct {
	failsafe.Executor[any]
	breaker circuitbreaker.CircuitBreaker[any]
}

func (e *failsafeExecutor) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if err := e.Run(w.plain); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func (e *failsafeExecutor) counted() (success, failure int) { return failsafeCounts(e.breaker) }

type rubyistBreaker struct{ *rubyist.Breaker }

func (b rubyistBreaker) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if err := b.CallContext(ctx, w.plain, 0); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func (b rubyistBreaker) counted() (success, failure int) {
	return int(b.Successes()), int(b.Failures())
}

type eapacheBreaker struct{ *breaker.Breaker }

func (b eapacheBreaker) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if err := b.Run(w.plain); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

type aegisBreaker struct{ aegis.CircuitBreaker }

func (b aegisBreaker) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		err := b.Allow()
		if err == nil {
			err = w.plain()
		}
		if err == nil {
			b.MarkSuccess()
		} else {
			b.MarkFailed()
		}
		if !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}
