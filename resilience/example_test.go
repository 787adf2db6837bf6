package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// errUnavailable is how the dependency of these examples fails.
var errUnavailable = errors.New("503 service unavailable")

func unavailable() error { return errUnavailable }

// A breaker around a call, and a fallback for when it is open.
func Example() {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		Name:            "payment",
		VolumeThreshold: 2, // judge from the second call on
	})
	defer cb.Close()

	pay := func() error {
		err := cb.Execute(context.Background(), unavailable)
		if errors.Is(err, resilience.ErrCircuitBreakerOpen) {
			fmt.Println("fallback: pay on delivery")
			return nil
		}
		return err
	}
	fmt.Println(pay())
	fmt.Println(pay())
	fmt.Println(pay())
	// Output:
	// 503 service unavailable
	// 503 service unavailable
	// fallback: pay on delivery
	// <nil>
}

// Half of the calls in the window fail: the breaker opens, and no call runs until
// its sleep window ends.
func ExampleCircuitBreaker() {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		ErrorThreshold:  0.5,
		VolumeThreshold: 4,
	})
	defer cb.Close()

	succeed := func() error { return nil }
	for _, call := range []func() error{succeed, unavailable, succeed, unavailable, succeed} {
		err := cb.Execute(context.Background(), call)
		fmt.Printf("%-6s  %v\n", cb.State(), err)
	}
	// Output:
	// closed  <nil>
	// closed  503 service unavailable
	// closed  <nil>
	// open    503 service unavailable
	// open    resilience: circuit breaker "default" is open
}

// When the sleep window has ended, probes decide whether the breaker closes.
func ExampleCircuitBreaker_recovery() {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		VolumeThreshold:  1,
		SleepWindow:      time.Microsecond, // in real life, seconds
		ProbeTimeout:     time.Minute,      // else it is the sleep window, and too short for a probe
		HalfOpenRequests: 5,
		SuccessThreshold: 0.6,
	})
	defer cb.Close()
	_ = cb.Execute(context.Background(), unavailable)
	for cb.State() != resilience.StateHalfOpen { // by the clock, without a call
		spend(time.Microsecond)
	}

	for range 3 {
		err := cb.Execute(context.Background(), func() error { return nil })
		fmt.Println("probe:", err, cb.State())
	}
	// Output:
	// probe: <nil> half-open
	// probe: <nil> half-open
	// probe: <nil> closed
}

// spend takes a little time.
func spend(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; {
		runtime.Gosched()
	}
}

func ExampleCircuitBreaker_Execute() {
	cb := resilience.NewCircuitBreaker(nil)
	var answer string
	err := cb.Execute(context.Background(), func() error {
		answer = "42"
		return nil
	})
	fmt.Println(answer, err)

	// A context that is done already runs nothing and counts nothing.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err = cb.Execute(ctx, func() error { panic("not run") })
	fmt.Println(err, cb.GetStats().Totals.Volume())
	// Output:
	// 42 <nil>
	// context canceled 1
}

// Run hands the work the context to use, in which a sink may have put a span.
func ExampleCircuitBreaker_Run() {
	cb := resilience.NewCircuitBreaker(nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := cb.Run(ctx, func(ctx context.Context) error {
		_, limited := ctx.Deadline()
		fmt.Println("has a deadline:", limited)
		return ctx.Err()
	})
	fmt.Println(err)
	// Output:
	// has a deadline: true
	// <nil>
}

// Acquire is for work that does not fit into a function, such as a stream that
// another goroutine ends.
func ExampleCircuitBreaker_Acquire() {
	cb := resilience.NewCircuitBreaker(nil)
	permit, err := cb.Acquire(context.Background())
	if err != nil {
		fmt.Println("rejected:", err)
		return
	}
	ended := make(chan struct{})
	go func() { // reads the stream until it breaks off
		defer close(ended)
		permit.Done(errUnavailable)
	}()
	<-ended
	permit.Done(nil) // only the first Done counts, so that a deferred one does no harm
	fmt.Println(cb.GetStats().Totals.Failure, cb.GetStats().Totals.Success)
	// Output: 1 0
}

func ExampleCircuitBreaker_OnStateChange() {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "search", VolumeThreshold: 1})
	stop := cb.OnStateChange(func(from, to resilience.CircuitState) {
		fmt.Printf("%s: %s -> %s\n", cb.Name(), from, to)
	})
	_ = cb.Execute(context.Background(), unavailable)
	cb.Reset()
	stop()
	cb.ForceOpen() // nobody is told any more
	// Output:
	// search: closed -> open
	// search: open -> closed
}

// Force beats everything, for emergencies and for maintenance.
func ExampleCircuitBreaker_ForceOpen() {
	cb := resilience.NewCircuitBreaker(nil)
	defer cb.Close()
	show := func(done string) {
		s := cb.GetStats()
		fmt.Printf("%-12s %-6s forced=%-5t next probe in %.0fs\n", done, s.State, s.Forced, s.RetryAfter.Seconds())
	}
	cb.ForceOpen()
	show("ForceOpen")
	cb.ForceClosed()
	show("ForceClosed")
	cb.ForceOpen()
	cb.ClearForce() // open as it shows, but for a sleep window only
	show("ClearForce")
	cb.Reset()
	show("Reset")
	// Output:
	// ForceOpen    open   forced=true  next probe in 0s
	// ForceClosed  closed forced=true  next probe in 0s
	// ClearForce   open   forced=false next probe in 30s
	// Reset        closed forced=false next probe in 0s
}

func ExampleCircuitBreaker_GetStats() {
	cb := resilience.NewCircuitBreaker(nil)
	ctx := context.Background()
	_ = cb.Execute(ctx, func() error { return nil })
	_ = cb.Execute(ctx, unavailable)
	_ = cb.Execute(ctx, func() error { return nil })
	_ = cb.Execute(ctx, func() error { return fs.ErrNotExist }) // says nothing about the dependency

	s := cb.GetStats()
	fmt.Println(s.Name, s.State, s.Forced)
	fmt.Printf("error rate %.2f of %d calls, judged: %t\n", s.ErrorRate, s.Window.Volume(), s.Judged)
	fmt.Printf("%+v\n", s.Totals)
	// Output:
	// default closed false
	// error rate 0.33 of 3 calls, judged: false
	// {Success:2 Failure:1 Ignored:1 Rejected:0 Slow:0 WouldReject:0}
}

// A dependency that still answers, but much too slowly, is cut off as well.
func ExampleCircuitBreakerConfig_slowCalls() {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		VolumeThreshold:   3,
		SlowCallDuration:  time.Microsecond, // in real life, a second
		SlowCallThreshold: 0.5,
	})
	defer cb.Close()
	for range 3 {
		err := cb.Execute(context.Background(), func() error {
			spend(time.Microsecond)
			return nil
		})
		fmt.Println(err, cb.State(), cb.GetStats().Totals.Slow)
	}
	// Output:
	// <nil> closed 1
	// <nil> closed 2
	// <nil> open 3
}

// Which errors count is up to the caller.
func ExampleCircuitBreakerConfig_errorClassifier() {
	errNoSuchUser := errors.New("no such user")
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		ErrorClassifier: func(err error) bool {
			return !errors.Is(err, errNoSuchUser) && resilience.DefaultErrorClassifier(err)
		},
	})
	_ = cb.Execute(context.Background(), func() error { return errNoSuchUser })
	_ = cb.Execute(context.Background(), unavailable)
	fmt.Println("failures:", cb.GetStats().Totals.Failure, "ignored:", cb.GetStats().Totals.Ignored)
	// Output: failures: 1 ignored: 1
}

// A configuration from outside is asked first; NewCircuitBreaker panics with the
// same error.
func ExampleCircuitBreakerConfig_Validate() {
	config := resilience.DefaultConfig()
	config.ErrorThreshold = 50 // percent?
	err := config.Validate()
	fmt.Println(err)
	if e, ok := errors.AsType[*resilience.ConfigError](err); ok {
		fmt.Println(e.Field, e.Value)
	}
	fmt.Println(errors.Is(err, resilience.ErrInvalidConfig))
	// Output:
	// resilience: CircuitBreakerConfig.ErrorThreshold is 50, want a ratio above 0 and at most 1, or 0 for the default
	// ErrorThreshold 50
	// true
}

func ExampleDefaultErrorClassifier() {
	for _, err := range []error{
		errUnavailable,
		context.DeadlineExceeded,
		context.Canceled,
		fs.ErrNotExist,
		resilience.Ignore(errUnavailable),
	} {
		fmt.Printf("%-25v counts: %t\n", err, resilience.DefaultErrorClassifier(err))
	}
	// Output:
	// 503 service unavailable   counts: true
	// context deadline exceeded counts: true
	// context canceled          counts: false
	// file does not exist       counts: false
	// 503 service unavailable   counts: false
}

// What a rejected call knows, as for the Retry-After header of an HTTP response.
func ExampleRejectedError() {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", VolumeThreshold: 1})
	defer cb.Close()
	_ = cb.Execute(context.Background(), unavailable)

	err := cb.Execute(context.Background(), unavailable)
	err = fmt.Errorf("order 17: %w", err)
	fmt.Println(err)
	if rejected, ok := errors.AsType[*resilience.RejectedError](err); ok {
		fmt.Println(rejected.Name, rejected.State, rejected.Forced)
		fmt.Printf("Retry-After: %.0f\n", rejected.RetryAfter().Seconds())
	}
	// Output:
	// order 17: resilience: circuit breaker "payment" is open
	// payment open false
	// Retry-After: 30
}

func ExampleRetry() {
	config := resilience.DefaultRetryConfig() // 3 attempts, 100 ms and 200 ms apart, with jitter
	config.InitialDelay = time.Nanosecond     // but this is an example
	n := 0
	err := resilience.Retry(context.Background(), config, func() error {
		if n++; n < 3 {
			return errUnavailable
		}
		return nil
	})
	fmt.Println(err, "after", n, "attempts")
	// Output: <nil> after 3 attempts
}

// Each attempt counts for the breaker. When it opens, the retry ends.
func ExampleRetryWithCircuitBreaker() {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", VolumeThreshold: 2})
	defer cb.Close()
	config := &resilience.RetryConfig{MaxAttempts: 10, InitialDelay: time.Nanosecond}

	n := 0
	err := resilience.RetryWithCircuitBreaker(context.Background(), config, cb, func() error {
		n++
		return errUnavailable
	})
	fmt.Println(n, "attempts were run")
	fmt.Println(err)
	fmt.Println(errors.Is(err, resilience.ErrCircuitBreakerOpen), errors.Is(err, errUnavailable))
	// Output:
	// 2 attempts were run
	// resilience: retry "payment" gave up after 3 attempts (rejected): resilience: circuit breaker "payment" is open
	// true true
}

// An error of a retry tells why it ended, and reaches the errors of all attempts.
func ExampleRetryError() {
	causes := []error{errors.New("connection refused"), errors.New("broken pipe"), errUnavailable}
	n := 0
	err := resilience.Retry(context.Background(), &resilience.RetryConfig{Name: "charge", InitialDelay: 1}, func() error {
		n++
		return causes[n-1]
	})
	fmt.Println(err)
	if e, ok := errors.AsType[*resilience.RetryError](err); ok {
		fmt.Println(e.Name, e.Attempts, e.Reason == events.ReasonExhausted, e.Last())
	}
	fmt.Println(errors.Is(err, resilience.ErrRetriesExhausted), errors.Is(err, causes[0]))
	// Output:
	// resilience: retry "charge" gave up after 3 attempts (exhausted): 503 service unavailable
	// charge 3 true 503 service unavailable
	// true true
}

// A Retrier is a Retry that is made once, and a Policy.
func ExampleRetrier() {
	r := resilience.NewRetrier(&resilience.RetryConfig{
		MaxAttempts:  2,
		InitialDelay: time.Nanosecond,
		RetryIf:      func(err error) bool { return errors.Is(err, errUnavailable) },
	})
	for _, failure := range []error{errUnavailable, errors.New("400 bad request")} {
		n := 0
		err := r.Run(context.Background(), func(context.Context) error {
			n++
			return failure
		})
		fmt.Println(n, err)
	}
	// Output:
	// 2 resilience: retry "default" gave up after 2 attempts (exhausted): 503 service unavailable
	// 1 400 bad request
}

// A wait that would pass the deadline is not begun.
func ExampleRetry_deadline() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := resilience.Retry(ctx, &resilience.RetryConfig{InitialDelay: time.Hour, MaxDelay: time.Hour}, unavailable)
	fmt.Println(err)
	fmt.Println(errors.Is(err, context.DeadlineExceeded), errors.Is(err, errUnavailable))
	// Output:
	// resilience: retry "default" gave up after 1 attempt (deadline): 503 service unavailable
	// true true
}

// An error that no retry mends is marked where it is known.
func ExamplePermanent() {
	n := 0
	err := resilience.Retry(context.Background(), nil, func() error {
		n++
		return resilience.Permanent(errors.New("400 bad request"))
	})
	fmt.Println(err, "after", n, "attempt")
	// Output: 400 bad request after 1 attempt
}

// An error that says nothing about the dependency neither opens a breaker nor is
// tried again.
func ExampleIgnore() {
	cb := resilience.NewCircuitBreaker(nil)
	err := resilience.RetryWithCircuitBreaker(context.Background(), nil, cb, func() error {
		return resilience.Ignore(errors.New("no such user"))
	})
	fmt.Println(err)
	fmt.Printf("%+v\n", cb.GetStats().Totals)
	// Output:
	// no such user
	// {Success:0 Failure:0 Ignored:1 Rejected:0 Slow:0 WouldReject:0}
}

// A server that says when to come back is obeyed, up to MaxRetryAfter.
func ExampleRetryAfter() {
	config := &resilience.RetryConfig{MaxRetryAfter: 10 * time.Second}
	err := resilience.Retry(context.Background(), config, func() error {
		return resilience.RetryAfter(errUnavailable, time.Hour)
	})
	fmt.Println(err)
	// Output: resilience: retry "default" gave up after 1 attempt (retry after too long): 503 service unavailable
}

// The HTTP layer learns which attempt it serves.
func ExampleAttemptFromContext() {
	r := resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: time.Nanosecond})
	_ = r.Run(context.Background(), func(ctx context.Context) error {
		fmt.Println("http.request.resend_count =", resilience.AttemptFromContext(ctx)-1)
		return errUnavailable
	})
	// Output:
	// http.request.resend_count = 0
	// http.request.resend_count = 1
	// http.request.resend_count = 2
}

// The first policy is the outermost: here the retrier asks the breaker at every
// attempt. The other way around, the breaker would see one call, and its last error.
func ExampleChain() {
	cb := resilience.NewCircuitBreaker(nil)
	timeout := resilience.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return fn(ctx)
	})
	p := resilience.Chain(
		resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: time.Nanosecond}),
		cb,
		timeout, // of each attempt
	)
	n := 0
	err := p.Run(context.Background(), func(ctx context.Context) error {
		if n++; n == 1 {
			return errUnavailable
		}
		return ctx.Err()
	})
	fmt.Println(err)
	fmt.Printf("%+v\n", cb.GetStats().Totals)
	// Output:
	// <nil>
	// {Success:1 Failure:1 Ignored:0 Rejected:0 Slow:0 WouldReject:0}
}

func ExampleDo() {
	p := resilience.Chain(
		resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: time.Nanosecond}),
		resilience.NewCircuitBreaker(nil),
	)
	price, err := resilience.Do(context.Background(), p, func(ctx context.Context) (int, error) {
		if resilience.AttemptFromContext(ctx) < 3 {
			return 0, errUnavailable
		}
		return 1250, nil
	})
	fmt.Println(price, err)
	// Output: 1250 <nil>
}

// A policy of one's own, here a fallback.
func ExamplePolicyFunc() {
	fallback := resilience.PolicyFunc(func(ctx context.Context, fn func(context.Context) error) error {
		err := fn(ctx)
		if errors.Is(err, resilience.ErrCircuitBreakerOpen) {
			fmt.Println("serving from the cache")
			return nil
		}
		return err
	})
	cb := resilience.NewCircuitBreaker(nil)
	cb.ForceOpen()
	err := resilience.Chain(fallback, cb).Run(context.Background(), func(context.Context) error { return nil })
	fmt.Println(err)
	// Output:
	// serving from the cache
	// <nil>
}

// The window that breakers judge by, for other things to judge.
func ExampleSlidingWindow() {
	w := resilience.NewSlidingWindow(time.Minute, 6)
	began := time.Now()
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	w.RecordAt(at(0), events.OutcomeFailure)
	w.RecordAt(at(30), events.OutcomeSuccess)
	w.RecordAt(at(31), events.OutcomeFailure)
	for _, s := range []int{31, 75, 120} {
		c := w.CountsAt(at(s))
		fmt.Printf("after %3d s: %d of %d failed\n", s, c.Failure, c.Volume())
	}
	// Output:
	// after  31 s: 2 of 3 failed
	// after  75 s: 1 of 2 failed
	// after 120 s: 0 of 0 failed
}

// printer is a Logger of two methods.
type printer struct{}

func (printer) Info(msg string, fields map[string]any)  { printFields("INFO ", msg, fields) }
func (printer) Error(msg string, fields map[string]any) { printFields("ERROR", msg, fields) }

func printFields(level, msg string, fields map[string]any) {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		pairs = append(pairs, fmt.Sprint(key, "=", fields[key]))
	}
	fmt.Println(level, msg, strings.Join(pairs, " "))
}

func ExampleLogger() {
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		Name: "payment", VolumeThreshold: 1, Logger: printer{},
	})
	_ = cb.Execute(context.Background(), unavailable)
	cb.Reset()
	// Output:
	// ERROR circuit breaker open error_rate=1 failures=1 forced=false from=closed generation=2 name=payment reason=error_rate to=open volume=1
	// INFO  circuit breaker closed forced=false from=open generation=3 name=payment reason=reset to=closed
}

// counter is a MetricsCollector that counts rejections as well.
type counter map[string]int

func (c counter) RecordSuccess(name string)                   { c[name+" success"]++ }
func (c counter) RecordFailure(name string, errorType string) { c[name+" failure "+errorType]++ }
func (c counter) RecordStateChange(name string, from, to string) {
	c[name+" "+from+" to "+to]++
}
func (c counter) RecordRejection(name string) { c[name+" rejection"]++ }

func ExampleMetricsCollector() {
	metrics := counter{}
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		Name: "payment", VolumeThreshold: 2, Metrics: metrics,
	})
	defer cb.Close()
	_ = cb.Execute(context.Background(), func() error { return nil })
	for range 3 {
		_ = cb.Execute(context.Background(), func() error { return context.DeadlineExceeded })
	}
	for _, key := range slices.Sorted(maps.Keys(metrics)) {
		fmt.Println(key, metrics[key])
	}
	// Output:
	// payment closed to open 1
	// payment failure timeout 1
	// payment rejection 2
	// payment success 1
}

// Everything that breakers and retries decide can be heard.
func ExampleCircuitBreakerConfig_events() {
	sink := events.Sink{
		StateChanged: func(_ context.Context, e events.StateChanged) {
			fmt.Printf("%s: %s to %s, %s, after %d calls\n", e.Name, e.From, e.To, e.Reason, e.Counts.Volume())
		},
		CallRejected: func(_ context.Context, e events.CallRejected) {
			fmt.Printf("%s: rejected, try again in %.0fs\n", e.Name, e.RetryAfter.Seconds())
		},
		AttemptFinished: func(_ context.Context, e events.AttemptFinished) {
			fmt.Printf("%s: attempt %d: %s, %s\n", e.Name, e.Attempt, e.Outcome, e.Decision)
		},
		RetryFinished: func(_ context.Context, e events.RetryFinished) {
			fmt.Printf("%s: %s after %d attempts, %s\n", e.Name, e.Outcome, e.Attempts, e.Reason)
		},
	}
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		Name: "payment", VolumeThreshold: 2, Events: sink,
	})
	defer cb.Close()
	retry := &resilience.RetryConfig{InitialDelay: time.Nanosecond, Events: sink}
	_ = resilience.RetryWithCircuitBreaker(context.Background(), retry, cb, unavailable)
	// Output:
	// payment: attempt 1: failure, retry
	// payment: closed to open, error_rate, after 2 calls
	// payment: attempt 2: failure, retry
	// payment: rejected, try again in 30s
	// payment: attempt 3: rejected, rejected
	// payment: rejected after 3 attempts, rejected
}

func ExampleRegistry() {
	hosts := resilience.NewRegistry(&resilience.RegistryConfig{
		Template: &resilience.CircuitBreakerConfig{Name: "http", VolumeThreshold: 1},
		Max:      500,
	})
	defer hosts.Close()

	call := func(host string, err error) {
		_ = hosts.Get(host).Run(context.Background(), func(context.Context) error { return err })
	}
	call("a.example", nil)
	call("b.example", errors.New("connection refused"))

	for host, cb := range hosts.All() {
		fmt.Println(host, cb.Name(), cb.State())
	}
	// Output:
	// a.example http/a.example closed
	// b.example http/b.example open
}

func ExampleRetryBudget() {
	budget := resilience.NewRetryBudget(&resilience.BudgetConfig{Name: "payment", Ratio: 0.2})
	defer budget.Close()
	config := &resilience.RetryConfig{InitialDelay: time.Nanosecond, Budget: budget} // and in all others that call payment

	// The payment service is down. Without a budget each order would ask it three times.
	asked, refused := 0, 0
	for range 1000 {
		err := resilience.Retry(context.Background(), config, func() error { asked++; return errors.New("503") })
		if errors.Is(err, resilience.ErrBudgetExhausted) {
			refused++
		}
	}
	fmt.Println("about 1.2 times as often:", asked > 1190 && asked < 1220)
	fmt.Println("and the budget says so:", refused > 750)
	// Output:
	// about 1.2 times as often: true
	// and the budget says so: true
}
