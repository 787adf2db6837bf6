package resilience

import (
	"context"
	"math/rand/v2"
	"reflect"
	"strconv"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// rules is what a breaker decides by: its configuration but for who it is and who is
// told. It is never changed, only replaced, by Reconfigure.
type rules struct {
	classify         func(error) bool
	judgement        judgement
	slowAfter        time.Duration // 0 when no call is slow
	recovery         recovery
	successThreshold float64 // what recovery.needed was made of
	sleepWindow      time.Duration
	growth           *growth // nil if the sleep window is always the same
	windowSize       time.Duration
	bucketCount      int32
	shadow           bool
}

// growth is how sleep windows differ.
type growth struct {
	factor float64 // 0: they do not grow
	most   time.Duration
	jitter float64
}

// newRules returns the rules of a valid configuration with its defaults filled in.
func newRules(c *CircuitBreakerConfig) *rules {
	r := &rules{
		classify: c.ErrorClassifier,
		judgement: judgement{
			volume:     uint64(c.VolumeThreshold),
			errorRatio: c.ErrorThreshold,
			slowRatio:  c.SlowCallThreshold,
		},
		slowAfter:        c.SlowCallDuration,
		recovery:         newRecovery(c.HalfOpenRequests, c.SuccessThreshold, c.ProbeTimeout),
		successThreshold: c.SuccessThreshold,
		sleepWindow:      c.SleepWindow,
		windowSize:       c.WindowSize,
		bucketCount:      int32(c.BucketCount),
		shadow:           c.Shadow,
	}
	if c.SleepWindowFactor != 0 || c.SleepWindowJitter != 0 {
		r.growth = &growth{factor: c.SleepWindowFactor, most: c.MaxSleepWindow, jitter: c.SleepWindowJitter}
	}
	return r
}

// slows reports whether calls can be slow, so that all are timed.
func (r *rules) slows() bool { return r.slowAfter > 0 }

// sleepAfter returns how long a breaker sleeps that was half-open n times since it was
// closed, and opened again each time.
func (r *rules) sleepAfter(n int) time.Duration {
	d, g := r.sleepWindow, r.growth
	if g == nil {
		return d
	}
	if g.factor != 0 {
		d = backoff(d, g.most, g.factor, n+1)
	}
	return max(1, d-time.Duration(rand.Float64()*g.jitter*float64(d)))
}

// thresholds returns r as events report it.
func (r *rules) thresholds() events.Thresholds {
	t := events.Thresholds{
		ErrorThreshold:    r.judgement.errorRatio,
		VolumeThreshold:   int(r.judgement.volume),
		SlowCallThreshold: r.judgement.slowRatio,
		SlowCallDuration:  r.slowAfter,
		SleepWindow:       r.sleepWindow,
		HalfOpenRequests:  r.recovery.most,
		SuccessThreshold:  r.successThreshold,
		ProbeTimeout:      r.recovery.timeout,
		WindowSize:        r.windowSize,
		BucketCount:       int(r.bucketCount),
		Shadow:            r.shadow,
	}
	if g := r.growth; g != nil {
		t.SleepWindowFactor, t.MaxSleepWindow, t.SleepWindowJitter = g.factor, g.most, g.jitter
	}
	return t
}

// Reconfigure makes the breaker decide by config from now on, nil for all defaults, and
// keeps its state:
//
//   - The counts of the window stay as far as the new window reaches. A longer window
//     does not bring back what has left the old one; a shorter one lets go of what is too
//     old at once, or up to one old bucket later; one of a single bucket, which begins
//     now, is empty. Slow calls count from when there are
//     any. The next outcome is judged by the new thresholds.
//   - An open breaker stays open as long as it was going to; the next sleep window is a
//     new one, and how often recovery has failed so far counts for it.
//   - In a half-open one the probes that are out, passed or failed remain so. If that
//     makes the verdict certain by the new thresholds, it falls now.
//   - Calls under way end as ever: what they come to is classified, and found slow, by
//     the rules at their end. One that began when no call was slow is not.
//
// The breaker's Name, Events, Logger and Metrics cannot change: the Name must be empty
// or the same and the others unset, or the error is a [*ConfigError] that says so. So is
// that of an invalid configuration. With an error everything stays as it was.
func (b *CircuitBreaker) Reconfigure(config *CircuitBreakerConfig) error {
	if err := config.validateChange(b.name); err != nil {
		return err
	}
	c := config.withDefaults()
	b.reconfigure(newRules(&c))
	return nil
}

// validateChange is Validate for Reconfigure of a breaker of the given name.
func (c *CircuitBreakerConfig) validateChange(name string) error {
	if err := c.Validate(); err != nil || c == nil {
		return err
	}
	var v validation
	if c.Name != "" && c.Name != name {
		v.refuse("Name", c.Name, strconv.Quote(name)+", which cannot change, or none")
	}
	if !reflect.ValueOf(c.Events).IsZero() {
		v.refuse("Events", "set", "none: who is told cannot change")
	}
	if c.Logger != nil {
		v.refuse("Logger", "set", "none: who is told cannot change")
	}
	if c.Metrics != nil {
		v.refuse("Metrics", "set", "none: who is told cannot change")
	}
	return v.error("CircuitBreakerConfig")
}

// reconfigure replaces the rules.
//
// Calls do not take mu, so some may still decide by the old rules when it returns, as if
// they had been a little faster. But no judgement by the old rules outlasts them. What
// calls remember of judgements is in the marks of the window; the new marks are
// published after the new rules, and who judges loads the marks first: so under the new
// marks all judge by the new rules. And what opens the breaker, or draws a verdict, is
// decided again under mu.
func (b *CircuitBreaker) reconfigure(next *rules) {
	ctx := context.Background()
	b.mu.Lock()
	at := time.Now()
	now := at.Sub(b.base)
	p, old := b.phase.Load(), b.rules.Load()
	if next.shadow != old.shadow {
		b.history().spend(p, b.status(p), now)
	}
	b.rules.Store(next)
	if !b.retired.Load() {
		b.post(fact{ctx: ctx, reconfigured: &events.BreakerReconfigured{
			Header: b.header(), Time: at, Old: old.thresholds(), New: next.thresholds(),
		}})
	}
	switch p.state {
	case StateClosed:
		b.simplify(p, next)
		p.window.reshape(now, next.windowSize, int(next.bucketCount), next.slows())
	case StateHalfOpen:
		if b.expireProbes(ctx, p, at) || b.conclude(ctx, p, at, events.ReasonProbesFailed) {
			break
		}
		if len(p.probes.out) > 0 {
			b.wakeAfter(p.probes.out[0].since+next.recovery.timeout-now, p)
		}
	}
	b.mu.Unlock()
	b.deliver()
}
