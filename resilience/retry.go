package resilience

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// RetryConfig says how often work is tried and how long to wait in between. The
// zero value of a field means its default (of JitterEnabled: off), so a literal
// names only what differs. It is read only, and may be used by any number of
// retries at once as long as nobody changes it.
type RetryConfig struct {
	// MaxAttempts is the largest number of times the work is run, the first
	// included: 1 does not retry. Zero means 3; it must not be negative.
	MaxAttempts int

	// InitialDelay is the wait after the first attempt. Zero means 100 ms. For no
	// wait at all use a nanosecond: waits below a microsecond, which no timer keeps,
	// are not waited.
	InitialDelay time.Duration

	// MaxDelay is the longest wait, the first included. Zero means 5 s.
	MaxDelay time.Duration

	// BackoffFactor is what a wait is multiplied by to get the next, at least 1.
	// Zero means 2.
	BackoffFactor float64

	// JitterEnabled draws each wait evenly from zero to what it would have been, so
	// that clients that failed together do not return together. The zero value is
	// off; [DefaultRetryConfig] has it on.
	JitterEnabled bool

	// Name says which retry it is in errors, events and telemetry. Empty means
	// "default", or in [RetryWithCircuitBreaker] the breaker's name.
	Name string

	// MaxRetryAfter is the longest wait that an error may ask for (see
	// [RetryAfter]). One that asks for more ends the retry. Zero means MaxDelay.
	MaxRetryAfter time.Duration

	// RetryIf reports whether to try again after an error. Nil means after any
	// error but one marked with [Ignore] and the rejection of a breaker, a bulkhead or
	// a rate limit. It is asked
	// neither after an error marked with [Permanent] nor when the caller's own
	// context has ended: those end the retry. It may be called from many
	// goroutines at once.
	RetryIf func(error) bool

	// Budget caps the share of retries among all that share it: a retry that it does
	// not allow ends, before it waits, with ReasonBudgetExhausted. Nil means no cap.
	Budget *RetryBudget

	// Events receives everything the retry has to say. The zero Sink receives
	// nothing and costs next to nothing.
	Events events.Sink
}

// DefaultRetryConfig returns a new configuration with jitter and with every default
// filled in but the name and MaxRetryAfter, which follows MaxDelay.
func DefaultRetryConfig() *RetryConfig {
	c := (&RetryConfig{JitterEnabled: true}).withDefaults()
	c.MaxRetryAfter = 0
	return &c
}

var defaultRetry = DefaultRetryConfig() // never changed

func (c *RetryConfig) withDefaults() RetryConfig {
	d := *c
	setDefault(&d.MaxAttempts, 3)
	setDefault(&d.InitialDelay, 100*time.Millisecond)
	setDefault(&d.MaxDelay, 5*time.Second)
	setDefault(&d.BackoffFactor, 2)
	setDefault(&d.MaxRetryAfter, d.MaxDelay)
	return d
}

// Validate reports the first field whose value can never work, as a [*ConfigError],
// or nil. A nil configuration is valid.
func (c *RetryConfig) Validate() error {
	if c == nil || c.valid() {
		return nil
	}
	var v validation
	v.count("MaxAttempts", c.MaxAttempts, math.MaxInt)
	v.atLeastZero("InitialDelay", c.InitialDelay)
	v.atLeastZero("MaxDelay", c.MaxDelay)
	if f := c.BackoffFactor; !validFactor(f) {
		v.refuse("BackoffFactor", f, "a finite number of at least 1, or 0 for the default")
	}
	v.atLeastZero("MaxRetryAfter", c.MaxRetryAfter)
	return v.error("RetryConfig")
}

// valid is Validate for the call path: no complaint, and one comparison for all
// that must not be negative, since an or of numbers is negative if one of them is.
func (c *RetryConfig) valid() bool {
	signs := int64(c.MaxAttempts) | int64(c.InitialDelay) | int64(c.MaxDelay) | int64(c.MaxRetryAfter)
	return signs >= 0 && validFactor(c.BackoffFactor)
}

// validFactor is phrased so that NaN fails it.
func validFactor(f float64) bool { return f == 0 || f >= 1 && f <= math.MaxFloat64 }

// atLeastZero allows any length, since waits are capped and cannot overflow.
func (v *validation) atLeastZero(field string, d time.Duration) {
	if d < 0 {
		v.refuse(field, d, "a positive duration, or 0 for the default")
	}
}

// Retry runs fn until it succeeds, is not to be tried again, or has been tried
// MaxAttempts times, and waits in between. A nil config is [DefaultRetryConfig]; an
// invalid one is a [*ConfigError], and fn is not run.
//
// It returns nil after a success, else a [*RetryError]. An error of the first
// attempt that is not to be retried comes back as it is: one that is [Permanent] or
// refused by RetryIf, a policy's rejection, or that of the caller's own context. If
// ctx is done already, fn is not run and ctx's error comes back.
//
// An error that holds something, such as a response and with it a connection, may have
// a method Discard(). It is called once, also where the error is wrapped, when another
// attempt is to follow and before the wait for it. What an attempt returned that was
// the last keeps what it holds.
func Retry(ctx context.Context, config *RetryConfig, fn func() error) error {
	if fn == nil {
		panic("resilience: Retry of a nil function")
	}
	if config.quiet() && ctx.Err() == nil {
		err := fn()
		if err == nil {
			return nil
		}
		return goOn(ctx, config, work{plain: fn}, err)
	}
	return retry(ctx, config, work{plain: fn})
}

// RetryWithCircuitBreaker is [Retry] of fn with each attempt protected by cb, so
// that each counts for the breaker and an attempt that cb rejects ends the retry
// (unless RetryIf says otherwise).
func RetryWithCircuitBreaker(ctx context.Context, config *RetryConfig, cb *CircuitBreaker, fn func() error) error {
	if fn == nil {
		panic("resilience: RetryWithCircuitBreaker of a nil function")
	}
	if cb == nil {
		return &ConfigError{Config: "RetryWithCircuitBreaker", Field: "cb", Value: cb, Want: "a circuit breaker"}
	}
	if config.quiet() && ctx.Err() == nil {
		w := work{plain: fn, breaker: cb}
		err := w.run(ctx, 1)
		if err == nil {
			return nil
		}
		return goOn(ctx, config, w, err)
	}
	return retry(ctx, config, work{plain: fn, breaker: cb})
}

// Retrier is a [Policy] that retries, as [Retry] does.
type Retrier struct {
	config RetryConfig
	quiet  bool // config.quiet, asked once
	hasty  int  // config.hasty, likewise
}

// NewRetrier returns a Retrier with a copy of config, nil for [DefaultRetryConfig].
// It panics with a [*ConfigError] if the configuration is invalid.
func NewRetrier(config *RetryConfig) *Retrier {
	if err := config.Validate(); err != nil {
		panic(err)
	}
	if config == nil {
		config = defaultRetry
	}
	r := &Retrier{config: config.withDefaults()}
	r.quiet, r.hasty = r.config.quiet(), r.config.hasty()
	return r
}

// Run is [Retry] with the context of each attempt handed to fn: ctx, or what a sink
// derived from it, and [AttemptFromContext] tells the attempt's number.
func (r *Retrier) Run(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("resilience: Run of a nil function")
	}
	if r.quiet && ctx.Err() == nil {
		err := fn(withAttempt(ctx, 1))
		if err == nil {
			return nil
		}
		return goOn(ctx, &r.config, work{withContext: fn}, err)
	}
	return retry(ctx, &r.config, work{withContext: fn})
}

// Execute is [Retry] by r's configuration, which was looked at when r was made: what is
// left of a success at once is to ask ctx and to run fn. The loop is that of goOn,
// written out, because the call of it is a fifth of what three attempts cost.
func (r *Retrier) Execute(ctx context.Context, fn func() error) error {
	if fn == nil {
		panic("resilience: Execute of a nil function")
	}
	if !r.quiet || ctx.Err() != nil {
		return retry(ctx, &r.config, work{plain: fn})
	}
	err := fn()
	if err == nil {
		return nil
	}
	var first [kept - 1]error
	for i := range first {
		if i == r.hasty || !isPlain(err) || ctx.Err() != nil {
			return r.goOn(ctx, fn, &first, i, err)
		}
		first[i] = err
		if err = fn(); err == nil {
			return nil
		}
	}
	return r.goOn(ctx, fn, &first, len(first), err)
}

// goOn is what follows n attempts that failed, the last with err and those before with
// the first errors. Inlined it would put a large structure on the stack of all calls.
//
//go:noinline
func (r *Retrier) goOn(ctx context.Context, fn func() error, first *[kept - 1]error, n int, err error) error {
	rest := retrying{config: &r.config, work: work{plain: fn}}
	copy(rest.first[:], first[:])
	return rest.goOn(ctx, n+1, err)
}

// work is what is retried, in one of its three forms. A struct instead of a closure
// over them, which would be an allocation for each call.
type work struct {
	plain       func() error
	withContext func(context.Context) error
	breaker     *CircuitBreaker // around plain, if any
}

func (w *work) run(ctx context.Context, attempt int) error {
	switch {
	case w.withContext != nil:
		return w.withContext(withAttempt(ctx, attempt))
	case w.breaker != nil:
		if w.breaker.sink != &noSink { // the work sees no context, but sinks do
			ctx = withAttempt(ctx, attempt)
		}
		return w.breaker.Execute(ctx, w.plain)
	default:
		return w.plain()
	}
}

func (w *work) name(c *RetryConfig) string {
	switch {
	case c.Name != "":
		return c.Name
	case w.breaker != nil:
		return w.breaker.name
	default:
		return "default"
	}
}

type attemptKey struct{}

// withAttempt returns a context that tells the attempt's number. The first attempt
// goes without, unless it is within an attempt of another retry, whose number it
// must not show: so that a success at once allocates nothing.
func withAttempt(ctx context.Context, n int) context.Context {
	if n == AttemptFromContext(ctx) {
		return ctx
	}
	return context.WithValue(ctx, attemptKey{}, n)
}

// AttemptFromContext returns the number of the attempt that ctx belongs to, of the
// innermost retry: 1 for the first and outside of any retry. One less is the value
// of the OpenTelemetry attribute http.request.resend_count.
func AttemptFromContext(ctx context.Context) int {
	if n, ok := ctx.Value(attemptKey{}).(int); ok {
		return n
	}
	return 1
}

// quiet reports whether a retry by c can begin with the work itself: c is valid and
// nobody listens or keeps accounts. A nil c is. The usual call asks this, runs an
// attempt that succeeds, and is done; everything else is in retry and goOn.
func (c *RetryConfig) quiet() bool {
	return c == nil || c.Budget == nil && c.valid() && !observed(&c.Events)
}

// retry is a retry that cannot begin with the work itself.
func retry(ctx context.Context, config *RetryConfig, w work) error {
	if err := config.Validate(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if config.Budget != nil {
		config.Budget.deposit()
	}
	if s := &config.Events; observed(s) && (s.Enabled == nil || s.Enabled(ctx)) {
		return retryObserved(ctx, config, w)
	}
	err := w.run(ctx, 1)
	if err == nil {
		return nil
	}
	return goOn(ctx, config, w, err)
}

func observed(s *events.Sink) bool {
	return s.RetryStarted != nil || s.AttemptStarted != nil || s.AttemptFinished != nil ||
		s.RetryScheduled != nil || s.RetryFinished != nil
}

// goOn is what follows a first attempt that failed with err while nobody listens. As
// long as there is nothing to decide, since no wait is long enough to be waited, nobody
// has to be asked, and errors are plain, it only tries again, which is what retrying
// would come to at three times the price.
func goOn(ctx context.Context, config *RetryConfig, w work, err error) error {
	if config == nil {
		config = defaultRetry
	}
	var first [kept]error
	n := 1
	for hasty := config.hasty(); n <= hasty && isPlain(err) && ctx.Err() == nil; n++ {
		first[n-1] = err
		if w.plain != nil && w.breaker == nil {
			err = w.plain()
		} else {
			err = w.run(ctx, n+1)
		}
		if err == nil {
			return nil
		}
	}
	r := retrying{config: config, work: w, first: first}
	return r.goOn(ctx, n, err)
}

// hasty returns how many attempts follow the first at once, as long as their errors are
// plain: nobody is asked before, and the waits before them are too short to be waited,
// all of them or at least those that two factors of ten do not make long.
func (c *RetryConfig) hasty() int {
	if c.RetryIf == nil && c.Budget == nil && (0 < c.MaxDelay && c.MaxDelay < shortest ||
		0 < c.InitialDelay && c.InitialDelay < shortest/100 && c.BackoffFactor <= 10) {
		return min(c.maxAttempts(), kept) - 1
	}
	return 0
}

// goOn goes on after n attempts, the last of which failed with err.
func (r *retrying) goOn(ctx context.Context, n int, err error) error {
	for ; ; n++ {
		if !r.decide(ctx, n, err) {
			return r.end(n, err)
		}
		r.discard(err)
		// Without a wait nothing has happened since decide looked at ctx, unless
		// RetryIf did something.
		if (r.delay >= shortest || r.config.RetryIf != nil) && !r.wait(ctx) {
			return r.end(n, err)
		}
		if err = r.work.run(ctx, n+1); err == nil {
			return nil
		}
	}
}

// kept is how many errors a retry keeps without an allocation.
const kept = 4

// retrying is one retried operation whose first attempt failed.
type retrying struct {
	config    *RetryConfig
	work      work
	operation context.Context // that sinks derived for the operation, if there are any

	// What was decided last. Valid after decide or wait said so.
	reason events.Reason // why the retry ends
	cause  error         // what ended the context, if that is why
	inside bool          // the context ended during the attempt, not after it
	delay  time.Duration // the wait before the next attempt
	asked  bool          // delay is what the error asked for
	plain  bool          // isPlain of the error

	first  [kept]error   // errors of the first attempts: few retries fail more often
	more   []error       // those of the others
	timer  *time.Timer   // nil until the first wait
	since  time.Time     // when that began
	waited time.Duration // in all
}

// stop decides that the retry ends.
func (r *retrying) stop(reason events.Reason) (again bool) {
	r.reason = reason
	return false
}

// stopContext decides that the retry ends because ctx has.
func (r *retrying) stopContext(ctx context.Context) (again bool) {
	r.cause = context.Cause(ctx)
	return r.stop(endReason(ctx.Err()))
}

// decide records the error of attempt n and says whether another attempt follows.
// If so, delay is the wait before it; else reason tells why not.
func (r *retrying) decide(ctx context.Context, n int, err error) (again bool) {
	r.record(n, err)
	if ctx.Err() != nil {
		r.inside = true
		return r.stopContext(ctx)
	}
	if reason := r.refusal(err); reason != "" {
		return r.stop(reason)
	}
	if n >= r.config.maxAttempts() {
		return r.stop(events.ReasonExhausted)
	}
	if after := retryAfter(err); after > 0 {
		r.delay, r.asked = after, true
		if after > r.config.maxRetryAfter() {
			return r.stop(events.ReasonRetryAfterTooLong)
		}
	} else {
		r.delay, r.asked = r.backoff(n), false
	}
	if r.delay >= shortest { // else it fits before any deadline that has not passed
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= r.delay {
			r.cause = context.DeadlineExceeded
			return r.stop(events.ReasonDeadline)
		}
	}
	// Asked last: what is taken out is for an attempt that follows.
	if b := r.config.Budget; b != nil && !b.withdraw() {
		if r.operation != nil {
			ctx = r.operation
		}
		b.tellExhausted(ctx, r.work.name(r.config), n+1, err)
		return r.stop(events.ReasonBudgetExhausted)
	}
	return true
}

// record keeps the error of attempt n.
func (r *retrying) record(n int, err error) {
	if n <= len(r.first) {
		r.first[n-1] = err
	} else {
		r.more = append(r.more, err)
	}
}

// errs returns the errors of n attempts.
func (r *retrying) errs(n int) []error {
	errs := make([]error, 0, n)
	errs = append(errs, r.first[:min(n, len(r.first))]...)
	return append(errs, r.more...)
}

// elapsed returns how long ago the first wait began, 0 without one.
func (r *retrying) elapsed() time.Duration {
	if r.timer == nil {
		return 0
	}
	return time.Since(r.since)
}

// refusal returns why err is not to be retried, empty if it is.
func (r *retrying) refusal(err error) events.Reason {
	var permanent, rejected, ignored bool
	if r.plain = isPlain(err); !r.plain {
		permanent, rejected, ignored = isPermanent(err), isRejection(err), isIgnored(err)
	}
	again := !rejected && !ignored
	if r.config.RetryIf != nil && !permanent {
		again = r.config.RetryIf(err)
	}
	switch {
	case again && !permanent:
		return ""
	case rejected:
		return events.ReasonRejected
	default:
		return events.ReasonNotRetryable
	}
}

// discard tells err that another attempt follows, if it wants to know: see [Retry].
func (r *retrying) discard(err error) {
	if !r.plain {
		discard(err)
	}
}

// discard has err give back what it holds, if anything.
func discard(err error) {
	find(err, func(err error) bool {
		x, ok := err.(interface{ Discard() })
		if ok {
			x.Discard()
		}
		return ok
	})
}

func endReason(ctxErr error) events.Reason {
	if errors.Is(ctxErr, context.DeadlineExceeded) {
		return events.ReasonDeadline
	}
	return events.ReasonCanceled
}

func (c *RetryConfig) maxAttempts() int { return orDefault(c.MaxAttempts, defaultRetry.MaxAttempts) }

func (c *RetryConfig) initialDelay() time.Duration {
	return orDefault(c.InitialDelay, defaultRetry.InitialDelay)
}

func (c *RetryConfig) maxDelay() time.Duration { return orDefault(c.MaxDelay, defaultRetry.MaxDelay) }

func (c *RetryConfig) backoffFactor() float64 {
	return orDefault(c.BackoffFactor, defaultRetry.BackoffFactor)
}

func (c *RetryConfig) maxRetryAfter() time.Duration { return orDefault(c.MaxRetryAfter, c.maxDelay()) }

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

func (r *retrying) backoff(n int) time.Duration {
	d := backoff(r.config.initialDelay(), r.config.maxDelay(), r.config.backoffFactor(), n)
	if r.config.JitterEnabled {
		return jittered(d)
	}
	return d
}

// shortest is the shortest delay that is waited: a timer is no finer than this.
const shortest = time.Microsecond

// wait waits as decided and says whether another attempt follows still. One timer
// serves all waits of the operation.
func (r *retrying) wait(ctx context.Context) (again bool) {
	if r.delay < shortest {
		return ctx.Err() == nil || r.stopContext(ctx)
	}
	began := time.Now()
	if r.timer == nil {
		r.timer, r.since = time.NewTimer(r.delay), began
	} else {
		r.timer.Reset(r.delay)
	}
	select {
	case <-r.timer.C:
	case <-ctx.Done():
		r.timer.Stop()
	}
	r.waited += time.Since(began)
	// Also when both were ready and the timer happened to be chosen.
	if ctx.Err() != nil {
		return r.stopContext(ctx)
	}
	return true
}

// end returns the error of a retry that ends after attempt n failed with err.
func (r *retrying) end(n int, err error) error {
	if n == 1 {
		switch r.reason {
		case events.ReasonNotRetryable, events.ReasonRejected:
			return err
		case events.ReasonCanceled:
			if r.inside && errors.Is(err, context.Canceled) {
				return err
			}
		case events.ReasonDeadline:
			if r.inside && errors.Is(err, context.DeadlineExceeded) {
				return err
			}
		}
	}
	return &RetryError{
		Name:     r.work.name(r.config),
		Attempts: n,
		Elapsed:  r.elapsed(),
		Reason:   r.reason,
		Errs:     r.errs(n),
		Cause:    r.cause,
	}
}
