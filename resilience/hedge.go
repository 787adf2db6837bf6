package resilience

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// HedgeConfig says when to try beside an attempt that is slow, and how often. The zero
// value of a field means its default. A Hedge keeps a copy.
type HedgeConfig struct {
	// Name says which hedge it is in errors, events and telemetry. Empty means
	// "default".
	Name string

	// MaxAttempts is the largest number of attempts, the first included: 1 does not
	// hedge. Zero means 2; it must not be negative.
	MaxAttempts int

	// Delay is how long an attempt has before the next one begins beside it. Zero means
	// 100 ms.
	Delay time.Duration

	// Quantile has the delay follow the observed latency: 0.95 begins a further attempt
	// beside the twentieth part of operations that is slowest. What is observed is how
	// long the last thousand or two first attempts took that succeeded, or had taken
	// when another won. Delay is what holds until 64 have been observed. Zero means that
	// Delay always holds; it must be below 1.
	Quantile float64

	// Budget caps the share of operations that are hedged, of all hedges that have it:
	// each operation pays into it and each further attempt takes 1 out, or does not
	// begin. So a dependency that becomes slow as a whole does not get twice the load.
	// Its Stats and metrics show what it refused. Nil means that there is no cap. Do not
	// share one with a retry around the hedge, whose attempts would pay twice.
	Budget *RetryBudget

	// Events receives everything the hedge has to say. The zero Sink receives nothing
	// and costs next to nothing.
	Events events.Sink
}

func (c *HedgeConfig) withDefaults() HedgeConfig {
	var d HedgeConfig
	if c != nil {
		d = *c
	}
	setDefault(&d.Name, "default")
	setDefault(&d.MaxAttempts, 2)
	setDefault(&d.Delay, 100*time.Millisecond)
	return d
}

// Validate reports the first field whose value can never work, as a [*ConfigError],
// or nil. A nil configuration is valid.
func (c *HedgeConfig) Validate() error {
	d := c.withDefaults()
	var v validation
	v.count("MaxAttempts", d.MaxAttempts, math.MaxInt32)
	v.duration("Delay", d.Delay)
	if q := d.Quantile; !(q >= 0 && q < 1) { // phrased so that NaN fails it
		v.refuse("Quantile", q, "a ratio above 0 and below 1, or 0 to turn it off")
	}
	return v.error("HedgeConfig")
}

// Hedge is a [Policy] against slowness: if the work takes long it is begun once more
// beside itself, and the first attempt that succeeds wins. Use it for work that may be
// done twice, and where the dependency can take the load: it does what a few slow
// calls out of many need, and makes worse what is slow because it is overloaded. A
// [CircuitBreaker] inside sees each attempt.
//
// The first attempt runs on the caller's goroutine; if it is fast enough, a timer is all
// that a Hedge costs. Each further attempt runs on a goroutine of its own, which ends
// before Run returns. All methods may be called concurrently.
type Hedge struct {
	name        string
	maxAttempts int
	delay       time.Duration
	latencies   *latencies   // nil without a quantile
	budget      *RetryBudget // nil without a cap
	sink        events.Sink
	observed    bool // the sink wants to hear of attempts, if it is enabled
}

// NewHedge returns a Hedge with a copy of config, nil for all defaults. It panics with a
// [*ConfigError] if the configuration is invalid.
func NewHedge(config *HedgeConfig) *Hedge {
	if err := config.Validate(); err != nil {
		panic(err)
	}
	c := config.withDefaults()
	h := &Hedge{name: c.Name, maxAttempts: c.MaxAttempts, delay: c.Delay, budget: c.Budget, sink: c.Events}
	if c.Quantile > 0 {
		h.latencies = &latencies{quantile: c.Quantile}
	}
	h.observed = h.sink.HedgeAttemptStarted != nil || h.sink.HedgeAttemptFinished != nil
	announce(&h.sink, h.name, events.PolicyHedge)
	return h
}

// Name returns the hedge's name.
func (h *Hedge) Name() string { return h.name }

// Delay returns how long an attempt that began now would have before the next one
// begins.
func (h *Hedge) Delay() time.Duration {
	if h.latencies != nil {
		if d := h.latencies.known(); d > 0 {
			return d
		}
	}
	return h.delay
}

// Run runs fn, and again beside itself each time that Delay passes without an end. It
// returns nil when an attempt has succeeded. The others' contexts end then, and Run
// waits for them, so work that does not heed its context keeps its caller waiting. Fn
// runs concurrently with itself and must not write to what it shares unguarded; the
// results of [Do] are kept apart.
//
// A failure is not hedged: when all attempts that have begun failed, no other follows,
// and a single one's error comes back as it is, several in a [*HedgeError]. A retry
// around the hedge may try again.
//
// The contexts of all attempts end when Run returns: what the work hands out, as the body
// of a response, must be read by then. An attempt that was overtaken usually ends with
// context.Canceled, which a breaker inside ignores. If it fails otherwise and its error
// has a method Discard(), as in [Retry], that is called; what it returns in spite of all
// is dropped, so let what needs closing be closed by the end of its context.
//
// A panic of an attempt, the winner's or another's, is the caller's: the first one's as
// it is, with the stack; a further one's as a [*PanicError]. So is [runtime.Goexit].
//
// If ctx is done already, fn is not run and ctx's error comes back.
func (h *Hedge) Run(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("resilience: Run of a nil function")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if h.budget != nil {
		h.budget.deposit()
	}
	o := &hedging{hedge: h, fn: fn, told: h.observed && listens(ctx, &h.sink), attempts: 1, running: 1}
	o.ctx, o.cancel = context.WithCancel(ctx)
	returned := false
	defer func() {
		if !returned { // the first attempt panicked, or ended this goroutine
			o.stop()
			o.hedges.Wait()
		}
	}()
	o.run(o.ctx, 1, 0, nil)
	returned = true
	o.hedges.Wait()
	return o.result()
}

// hedging is one hedged operation.
type hedging struct {
	hedge *Hedge
	fn    func(context.Context) error
	told  bool // the sink hears of it

	// ctx is what the contexts of all attempts are derived from. It ends when an attempt
	// has won, all have failed or one has panicked.
	ctx    context.Context
	cancel context.CancelFunc

	// hedges counts the attempts but the first that have not ended, and the timer while
	// it is set: its function may have begun although it has not come to anything yet.
	hedges sync.WaitGroup

	mu       sync.Mutex
	timer    *time.Timer   // begins the next attempt; nil when none is to begin
	delay    time.Duration // that it was set for
	over     bool          // no other attempt begins
	attempts int           // that began
	running  int           // of those
	winner   int           // the first attempt to succeed; 0 so far
	adopt    func()        // takes over the results of the winner; nil when there is nothing to do
	first    error         // of the first attempt
	others   []error       // of the other attempts that failed, by their numbers
	previous context.Context
	panicked *PanicError // of an attempt but the first
	exited   bool        // one of those ended its goroutine
}

func (o *hedging) header() events.Header { return events.Header{Name: o.hedge.name} }

// run runs attempt n, settles it and tells of it. Adopt takes over its results.
func (o *hedging) run(ctx context.Context, n int, delay time.Duration, adopt func()) {
	if o.told && o.hedge.sink.HedgeAttemptStarted != nil {
		e := events.HedgeAttemptStarted{Header: o.header(), Attempt: n, Delay: delay, Previous: o.before()}
		if derived := o.hedge.sink.HedgeAttemptStarted(ctx, e); derived != nil {
			ctx = derived
		}
	}
	var began time.Time
	if o.told || o.hedge.latencies != nil {
		began = time.Now()
	}
	o.arm(ctx)
	if !o.told || o.hedge.sink.HedgeAttemptFinished == nil {
		o.settle(n, o.fn(ctx), began, adopt)
		return
	}
	e := events.HedgeAttemptFinished{Header: o.header(), Attempt: n, Outcome: events.OutcomeFailure, Panicked: true}
	defer func() {
		if e.Panicked {
			e.Duration = time.Since(began)
		}
		o.hedge.sink.HedgeAttemptFinished(ctx, e)
	}()
	err := o.fn(ctx)
	e.Panicked, e.Outcome, e.Err = false, o.outcome(err), err
	e.Duration, e.Won = o.settle(n, err, began, adopt)
}

// before returns the context of the attempt that began before, nil if there is none.
func (o *hedging) before() context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.previous
}

// arm sets the timer for the attempt after the one that runs with ctx.
func (o *hedging) arm(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.previous = ctx
	if o.over || o.attempts >= o.hedge.maxAttempts {
		return
	}
	o.hedges.Add(1)
	o.delay = o.hedge.Delay()
	o.timer = time.AfterFunc(o.delay, o.launch)
}

// launch runs a further attempt. It is what the timer does, on a goroutine of its own,
// where nobody can receive a panic but the caller by way of result.
func (o *hedging) launch() {
	defer o.hedges.Done()
	n, delay := o.next()
	if n == 0 {
		return
	}
	returned := false
	defer func() {
		if !returned {
			o.thrown(recover())
		}
	}()
	ctx, adopt := forkResults(o.ctx)
	o.run(ctx, n, delay, adopt)
	returned = true
}

// next returns the number of the attempt that begins now, 0 if none does.
func (o *hedging) next() (n int, delay time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timer = nil
	if o.over || o.ctx.Err() != nil || o.hedge.budget != nil && !o.hedge.budget.withdraw() {
		return 0, 0
	}
	o.attempts++
	o.running++
	return o.attempts, o.delay
}

// outcome says what an attempt came to that returned err. It is to be asked before the
// attempt is settled.
func (o *hedging) outcome(err error) events.Outcome {
	switch {
	case err == nil:
		return events.OutcomeSuccess
	case isRejection(err):
		return events.OutcomeRejected
	case gaveUp(o.ctx, err), isIgnored(err):
		return events.OutcomeIgnored
	default:
		return events.OutcomeFailure
	}
}

// settle takes note of what attempt n returned, and ends the operation if that decides
// it.
func (o *hedging) settle(n int, err error, began time.Time, adopt func()) (took time.Duration, won bool) {
	if !began.IsZero() {
		took = time.Since(began)
	}
	decided := false
	o.mu.Lock()
	o.running--
	if n == 1 && o.hedge.latencies != nil && (err == nil || o.winner != 0) {
		o.hedge.latencies.add(took)
	}
	switch {
	case err == nil && o.winner == 0:
		o.winner, o.adopt = n, adopt
		won, decided = true, true
	case err != nil:
		o.fail(n, err)
		decided = o.running == 0
	}
	if decided {
		o.end()
	}
	o.mu.Unlock()
	if decided {
		o.cancel()
	}
	return took, won
}

// fail keeps the error of attempt n. It requires mu.
func (o *hedging) fail(n int, err error) {
	if n == 1 {
		o.first = err
		return
	}
	for len(o.others) < n-1 {
		o.others = append(o.others, nil)
	}
	o.others[n-2] = err
}

// end sees to it that no other attempt begins. It requires mu.
func (o *hedging) end() {
	o.over = true
	if o.timer != nil && o.timer.Stop() {
		o.hedges.Done() // its function does not run
	}
	o.timer = nil
}

// stop ends the operation.
func (o *hedging) stop() {
	o.mu.Lock()
	o.end()
	o.mu.Unlock()
	o.cancel()
}

// thrown takes note of an attempt but the first that panicked with v, or ended its
// goroutine if v is nil, and ends the operation.
func (o *hedging) thrown(v any) {
	o.mu.Lock()
	o.running--
	if v == nil {
		o.exited = true
	} else if o.panicked == nil {
		o.panicked = &PanicError{Value: v, Stack: debug.Stack()}
	}
	o.mu.Unlock()
	o.stop()
}

// result is what the operation comes to. All attempts have ended.
func (o *hedging) result() error {
	switch {
	case o.panicked != nil:
		panic(o.panicked)
	case o.exited:
		runtime.Goexit()
	case o.winner != 0:
		if o.adopt != nil {
			o.adopt()
		}
		discard(o.first)
		for _, err := range o.others {
			discard(err)
		}
		return nil
	case o.attempts == 1:
		return o.first
	}
	return &HedgeError{Name: o.hedge.name, Errs: append([]error{o.first}, o.others...)}
}

// HedgeError says that several attempts of a hedged operation ran side by side and all
// failed. Errors.Is and errors.As reach the errors of all. For a breaker or a retry around
// the hedge it is a rejection, or ignored, only if each of them is.
type HedgeError struct {
	Name string  // the hedge's name
	Errs []error // of each attempt, the first attempt's first
}

// Error says how many attempts failed, and the first one's error.
func (e *HedgeError) Error() string {
	var first error
	if len(e.Errs) > 0 {
		first = e.Errs[0]
	}
	return fmt.Sprintf("resilience: all %d attempts of hedge %q failed: %v", len(e.Errs), e.Name, first)
}

// Unwrap returns the errors of all attempts.
func (e *HedgeError) Unwrap() []error { return e.Errs }

// Discard has the errors of all attempts give back what they hold. See [Retry].
func (e *HedgeError) Discard() {
	for _, err := range e.Errs {
		discard(err)
	}
}

// ErrorType returns the type of the first attempt's error. See [events.ErrorType].
func (e *HedgeError) ErrorType() string {
	if len(e.Errs) == 0 {
		return ""
	}
	return events.ErrorType(e.Errs[0])
}

// PanicError is what Run of a [Hedge] panics with if an attempt panicked on a goroutine
// of its own.
type PanicError struct {
	Value any    // what the attempt panicked with
	Stack []byte // of the attempt's goroutine at that time
}

// Error has the value and the stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("resilience: an attempt of a hedge panicked: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
