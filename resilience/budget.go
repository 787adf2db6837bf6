package resilience

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// BudgetConfig says how many retries a [RetryBudget] allows. The zero value of a field
// means its default. A RetryBudget keeps a copy.
type BudgetConfig struct {
	// Name says which budget it is in events and telemetry. Empty means "default".
	Name string

	// Ratio is the number of retries that each operation pays for, in (0,1]: with 0.2
	// a dependency that fails altogether gets 1.2 times the calls it gets when it is
	// well, instead of MaxAttempts times as many. Zero means 0.2.
	Ratio float64

	// MinPerSecond is the number of retries a second that are free, so that a budget
	// with little traffic allows some too. Zero means 1; a tiny number means next to
	// none.
	MinPerSecond float64

	// Window is how long what was paid and not spent lasts, on average. It bounds how
	// many retries a quiet time saves up for a bad one: at most what Window brings in.
	// A new budget begins with MinPerSecond for one Window. If that is less than one
	// retry, traffic alone pays for retries. Zero means 10 s.
	Window time.Duration

	// Events receives everything the budget has to say. The zero Sink receives nothing.
	// What becomes of a retry is told to the retry's own sink in any case.
	Events events.Sink
}

// withDefaults returns a copy of c whose zero fields hold their defaults. A nil c is
// all defaults.
func (c *BudgetConfig) withDefaults() BudgetConfig {
	var d BudgetConfig
	if c != nil {
		d = *c
	}
	setDefault(&d.Name, "default")
	setDefault(&d.Ratio, 0.2)
	setDefault(&d.MinPerSecond, 1)
	setDefault(&d.Window, 10*time.Second)
	return d
}

// Validate reports the first field whose value can never work, as a [*ConfigError],
// or nil. A nil configuration is valid.
func (c *BudgetConfig) Validate() error {
	d := c.withDefaults()
	var v validation
	v.ratio("Ratio", d.Ratio)
	if f := d.MinPerSecond; !(f > 0 && f <= maxCalls) {
		v.refuse("MinPerSecond", f, "a number above 0 and at most 2147483647, or 0 for the default")
	}
	v.duration("Window", d.Window)
	return v.error("BudgetConfig")
}

// RetryBudget caps the share of retries in what its retries send, so that they cannot
// multiply an outage. Put one into the RetryConfig of all that call one dependency: it
// is shared, and its methods may be called concurrently. A nil RetryBudget allows every
// retry.
//
// Each operation pays Ratio into it, and each retry takes 1 out, before it waits. If
// there is not that much, the retry ends with the error that it has, and with
// [events.ReasonBudgetExhausted]. MinPerSecond comes in as time passes. What is not
// spent fades away: of what is there, a share of 1/e is left after Window. So with
// steady traffic and no failures Available tends to what comes in during one Window,
// and in any period the retries are no more than was available when it began, plus
// Ratio for each operation, plus MinPerSecond for each second.
//
// Such budgets are known from Finagle (RetryBudget, which lets 20 % of requests be
// retried, with a minimum a second, and whose deposits live 10 s) and from the chapters
// "Handling Overload" and "Addressing Cascading Failures" of Google's Site Reliability
// Engineering, which limits a client's retries to a tenth of its requests. What is
// different here is that deposits fade instead of ending all at once, so that two
// numbers and a time are all there is to keep.
//
// A retry whose context ends while it waits has taken out what it did not use.
//
// How it works: an operation is counted with one atomic addition and reads no clock.
// Who wants to retry has something to wait for anyway: it takes mu, reads the clock,
// and brings the balance up to date, as if the operations counted since the last time
// had been spread evenly over the time since. The arithmetic is under one lock, so no
// two retries take the same out.
type RetryBudget struct {
	name   string
	id     uint64
	ratio  float64
	floor  float64 // retries a second
	window float64 // seconds
	sink   events.Sink
	base   time.Time

	operations counter // paid for; written by every operation
	retired    atomic.Bool

	// Guarded by mu.
	mu      sync.Mutex
	at      time.Duration // when the balance was brought up to date, since base
	counted uint64        // of operations by then
	balance float64
	flow    float64 // operations counted, faded like the balance: what a Window sees of them
	granted uint64
	refused uint64
}

// NewRetryBudget returns a budget. A nil config means all defaults. It panics with a
// [*ConfigError] if the configuration is invalid.
func NewRetryBudget(config *BudgetConfig) *RetryBudget {
	if err := config.Validate(); err != nil {
		panic(err)
	}
	c := config.withDefaults()
	b := &RetryBudget{
		name:   c.Name,
		id:     lastID.Add(1),
		ratio:  c.Ratio,
		floor:  c.MinPerSecond,
		window: c.Window.Seconds(),
		sink:   c.Events,
		base:   time.Now(),
	}
	b.balance = b.floor * b.window
	if b.sink.BudgetCreated != nil {
		b.sink.BudgetCreated(context.Background(), events.BudgetCreated{
			Header: b.header(), Time: b.base,
			Ratio: c.Ratio, MinPerSecond: c.MinPerSecond, Window: c.Window,
			Snapshot: b.Stats,
		})
	}
	return b
}

// Name returns the budget's name.
func (b *RetryBudget) Name() string { return b.name }

// ID returns the number that the budget's events carry as [events.Header.ID].
func (b *RetryBudget) ID() uint64 { return b.id }

// Stats returns the budget as it is now.
func (b *RetryBudget) Stats() events.BudgetSnapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.update()
	return events.BudgetSnapshot{
		Available:  b.balance,
		Limit:      b.floor*b.window + b.ratio*b.flow,
		Operations: b.counted,
		Granted:    b.granted,
		Refused:    b.refused,
	}
}

// Close retires the budget: sinks get BudgetRetired as its last event, so that its
// series end. It goes on to cap the retries of who still holds it, silently. Closing
// again does nothing.
func (b *RetryBudget) Close() {
	if !b.retired.Swap(true) && b.sink.BudgetRetired != nil {
		b.sink.BudgetRetired(context.Background(), events.BudgetRetired{Header: b.header(), Time: time.Now()})
	}
}

func (b *RetryBudget) header() events.Header { return events.Header{Name: b.name, ID: b.id} }

// deposit counts an operation that begins.
func (b *RetryBudget) deposit() { b.operations.add() }

// update brings the balance up to date. It requires mu.
//
// Of a deposit d that is spread evenly over the time t, what is left at its end is the
// integral of d/t·exp(-x/window) over x from 0 to t, which is d·(1-exp(-t/window))·
// window/t; for a t of zero that is d.
func (b *RetryBudget) update() {
	now := max(b.at, time.Since(b.base))
	t := (now - b.at).Seconds() / b.window
	n := b.operations.sum()
	paid := float64(n - b.counted)
	b.at, b.counted = now, n
	if t > 0 {
		faded := -math.Expm1(-t) // the share that is gone
		b.balance -= b.balance * faded
		b.flow -= b.flow * faded
		b.balance += b.floor * b.window * faded
		paid *= faded / t
	}
	b.balance += b.ratio * paid
	b.flow += paid
}

// withdraw takes one retry out of b and reports whether it was there.
func (b *RetryBudget) withdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.update()
	// Five times 0.2 may come to a hair less than 1.
	if b.balance < 1-1e-9 {
		b.refused++
		return false
	}
	b.balance = max(0, b.balance-1)
	b.granted++
	return true
}

// tellExhausted tells that attempt n of the retry of the given name will not follow an
// attempt that failed with err.
func (b *RetryBudget) tellExhausted(ctx context.Context, retry string, n int, err error) {
	s := &b.sink
	if s.BudgetExhausted != nil && (s.Enabled == nil || s.Enabled(ctx)) && !b.retired.Load() {
		s.BudgetExhausted(ctx, events.BudgetExhausted{Header: b.header(), Retry: retry, Attempt: n, Err: err})
	}
}
