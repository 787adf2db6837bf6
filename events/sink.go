package events

import "context"

// Sink receives events: one function for each kind, each of which may be nil.
// A nil function is not interested and costs the caller one comparison. A Sink is
// a value; copy it freely, and do not change one that is in use.
//
// The …Started functions return the context that the work runs in and that the
// matching …Finished function receives. They must return ctx or one derived
// from it, never nil.
//
// The package documentation tells when, where and in which order they are called.
type Sink struct {
	BreakerCreated func(ctx context.Context, e BreakerCreated)
	CallStarted    func(ctx context.Context, e CallStarted) context.Context
	CallFinished   func(ctx context.Context, e CallFinished)
	CallRejected   func(ctx context.Context, e CallRejected)
	StateChanged   func(ctx context.Context, e StateChanged)
	WindowRotated  func(ctx context.Context, e WindowRotated)
	BreakerRetired func(ctx context.Context, e BreakerRetired)

	RetryStarted    func(ctx context.Context, e RetryStarted) context.Context
	AttemptStarted  func(ctx context.Context, e AttemptStarted) context.Context
	AttemptFinished func(ctx context.Context, e AttemptFinished)
	RetryScheduled  func(ctx context.Context, e RetryScheduled)
	RetryFinished   func(ctx context.Context, e RetryFinished)

	PolicyCreated func(ctx context.Context, e PolicyCreated)
	TimedOut      func(ctx context.Context, e TimedOut)

	BulkheadCreated  func(ctx context.Context, e BulkheadCreated)
	BulkheadWaited   func(ctx context.Context, e BulkheadWaited)
	BulkheadRejected func(ctx context.Context, e BulkheadRejected)
	BulkheadRetired  func(ctx context.Context, e BulkheadRetired)

	RateLimited func(ctx context.Context, e RateLimited)
	FellBack    func(ctx context.Context, e FellBack)

	HedgeAttemptStarted  func(ctx context.Context, e HedgeAttemptStarted) context.Context
	HedgeAttemptFinished func(ctx context.Context, e HedgeAttemptFinished)

	BreakerReconfigured func(ctx context.Context, e BreakerReconfigured)

	BudgetCreated   func(ctx context.Context, e BudgetCreated)
	BudgetExhausted func(ctx context.Context, e BudgetExhausted)
	BudgetRetired   func(ctx context.Context, e BudgetRetired)

	// Enabled reports whether the sink wants to hear of a call, or of a retried or
	// hedged operation, that is about to begin with ctx. If not, none of its events is
	// told: not CallStarted, CallFinished and CallRejected, or for a retry none at all.
	// Nil means yes, always. It is asked once for each, before the clock is read for
	// them, so a sink whose destination may be absent costs next to nothing while it
	// is. What is told of a call only if it does not go smoothly, as TimedOut and BudgetExhausted, asks
	// when it comes to that. The events of a policy itself, as StateChanged, are
	// always told.
	Enabled func(ctx context.Context) bool
}

// Join returns a sink that passes each event to every one of sinks, in order. The
// contexts that …Started functions derive are threaded through them. A function
// of the result is nil only where it is nil in all of sinks, and is the function
// itself where only one sink has it.
//
// A sink that panics does not keep an event from the sinks after it, except that
// a panic in a …Started function ends the call before it has begun.
//
// The result is enabled if any of sinks is that has functions for calls or
// operations, and then passes their events to all of them.
func Join(sinks ...Sink) Sink {
	var joined Sink
	for _, s := range sinks {
		joined.Enabled = either(joined, s)
		joined.BreakerCreated = both(joined.BreakerCreated, s.BreakerCreated)
		joined.CallStarted = through(joined.CallStarted, s.CallStarted)
		joined.CallFinished = both(joined.CallFinished, s.CallFinished)
		joined.CallRejected = both(joined.CallRejected, s.CallRejected)
		joined.StateChanged = both(joined.StateChanged, s.StateChanged)
		joined.WindowRotated = both(joined.WindowRotated, s.WindowRotated)
		joined.BreakerRetired = both(joined.BreakerRetired, s.BreakerRetired)
		joined.RetryStarted = through(joined.RetryStarted, s.RetryStarted)
		joined.AttemptStarted = through(joined.AttemptStarted, s.AttemptStarted)
		joined.AttemptFinished = both(joined.AttemptFinished, s.AttemptFinished)
		joined.RetryScheduled = both(joined.RetryScheduled, s.RetryScheduled)
		joined.RetryFinished = both(joined.RetryFinished, s.RetryFinished)
		joined.PolicyCreated = both(joined.PolicyCreated, s.PolicyCreated)
		joined.TimedOut = both(joined.TimedOut, s.TimedOut)
		joined.BulkheadCreated = both(joined.BulkheadCreated, s.BulkheadCreated)
		joined.BulkheadWaited = both(joined.BulkheadWaited, s.BulkheadWaited)
		joined.BulkheadRejected = both(joined.BulkheadRejected, s.BulkheadRejected)
		joined.BulkheadRetired = both(joined.BulkheadRetired, s.BulkheadRetired)
		joined.RateLimited = both(joined.RateLimited, s.RateLimited)
		joined.FellBack = both(joined.FellBack, s.FellBack)
		joined.HedgeAttemptStarted = through(joined.HedgeAttemptStarted, s.HedgeAttemptStarted)
		joined.HedgeAttemptFinished = both(joined.HedgeAttemptFinished, s.HedgeAttemptFinished)
		joined.BreakerReconfigured = both(joined.BreakerReconfigured, s.BreakerReconfigured)
		joined.BudgetCreated = both(joined.BudgetCreated, s.BudgetCreated)
		joined.BudgetExhausted = both(joined.BudgetExhausted, s.BudgetExhausted)
		joined.BudgetRetired = both(joined.BudgetRetired, s.BudgetRetired)
	}
	return joined
}

// either returns what Enabled is for a and b joined.
func either(a, b Sink) func(context.Context) bool {
	switch {
	case !b.perCall():
		return a.Enabled
	case !a.perCall():
		return b.Enabled
	case a.Enabled == nil || b.Enabled == nil:
		return nil
	}
	return func(ctx context.Context) bool { return a.Enabled(ctx) || b.Enabled(ctx) }
}

// perCall reports whether s has a function that Enabled speaks for.
func (s *Sink) perCall() bool {
	return s.CallStarted != nil || s.CallFinished != nil || s.CallRejected != nil ||
		s.RetryStarted != nil || s.AttemptStarted != nil || s.AttemptFinished != nil ||
		s.RetryScheduled != nil || s.RetryFinished != nil ||
		s.TimedOut != nil || s.BulkheadWaited != nil || s.BulkheadRejected != nil ||
		s.RateLimited != nil || s.FellBack != nil ||
		s.HedgeAttemptStarted != nil || s.HedgeAttemptFinished != nil ||
		s.BudgetExhausted != nil
}

// both returns a function that calls first and then second, also when first panics.
func both[E Event](first, second func(context.Context, E)) func(context.Context, E) {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(ctx context.Context, e E) {
		defer second(ctx, e)
		first(ctx, e)
	}
}

// through returns a function that passes the context first derives to second.
func through[E Event](first, second func(context.Context, E) context.Context) func(context.Context, E) context.Context {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(ctx context.Context, e E) context.Context {
		return second(first(ctx, e), e)
	}
}

// All returns a sink that passes every kind of event to f, as an interface value:
// an allocation for each event, for consumers that switch on the type. A nil f
// gives the zero Sink.
func All(f func(ctx context.Context, e Event)) Sink {
	if f == nil {
		return Sink{}
	}
	return Sink{
		BreakerCreated:  boxed[BreakerCreated](f),
		CallStarted:     boxedStart[CallStarted](f),
		CallFinished:    boxed[CallFinished](f),
		CallRejected:    boxed[CallRejected](f),
		StateChanged:    boxed[StateChanged](f),
		WindowRotated:   boxed[WindowRotated](f),
		BreakerRetired:  boxed[BreakerRetired](f),
		RetryStarted:    boxedStart[RetryStarted](f),
		AttemptStarted:  boxedStart[AttemptStarted](f),
		AttemptFinished: boxed[AttemptFinished](f),
		RetryScheduled:  boxed[RetryScheduled](f),
		RetryFinished:   boxed[RetryFinished](f),

		PolicyCreated:        boxed[PolicyCreated](f),
		TimedOut:             boxed[TimedOut](f),
		BulkheadCreated:      boxed[BulkheadCreated](f),
		BulkheadWaited:       boxed[BulkheadWaited](f),
		BulkheadRejected:     boxed[BulkheadRejected](f),
		BulkheadRetired:      boxed[BulkheadRetired](f),
		RateLimited:          boxed[RateLimited](f),
		FellBack:             boxed[FellBack](f),
		HedgeAttemptStarted:  boxedStart[HedgeAttemptStarted](f),
		HedgeAttemptFinished: boxed[HedgeAttemptFinished](f),
		BreakerReconfigured:  boxed[BreakerReconfigured](f),
		BudgetCreated:        boxed[BudgetCreated](f),
		BudgetExhausted:      boxed[BudgetExhausted](f),
		BudgetRetired:        boxed[BudgetRetired](f),
	}
}

func boxed[E Event](f func(context.Context, Event)) func(context.Context, E) {
	return func(ctx context.Context, e E) { f(ctx, e) }
}

func boxedStart[E Event](f func(context.Context, Event)) func(context.Context, E) context.Context {
	return func(ctx context.Context, e E) context.Context {
		f(ctx, e)
		return ctx
	}
}
