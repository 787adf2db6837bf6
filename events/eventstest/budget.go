package eventstest

import (
	"context"

	"github.com/breakwater-go/breakwater/events"
)

// budget is what the events so far said of a retry budget.
type budget struct {
	name    string
	retired bool
}

// budget returns what is known of the budget that e is about, after checking what holds
// for each of its events. budget requires r.mu.
func (r *Recorder) budget(e events.Event) *budget {
	h := e.About()
	if h.ID == 0 {
		r.violate(e, "its ID is 0")
	}
	b := r.budgets[h.ID]
	if b == nil {
		b = &budget{name: h.Name}
		r.budgets[h.ID] = b
		if e.Kind() != events.KindBudgetCreated {
			r.violate(e, "comes before BudgetCreated")
		}
	} else if e.Kind() == events.KindBudgetCreated {
		r.violate(e, "comes a second time, or is not the budget's first event")
	}
	if h.Name != b.name {
		r.violate(e, "its Name is not %q, as in the budget's first event", b.name)
	}
	return b
}

func (r *Recorder) budgetCreated(ctx context.Context, e events.BudgetCreated) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received(ctx, e)
	r.budget(e)
	r.timed(e, e.Time)
	if e.Snapshot == nil {
		r.violate(e, "its Snapshot is nil")
	}
}

func (r *Recorder) budgetExhausted(ctx context.Context, e events.BudgetExhausted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received(ctx, e)
	r.budget(e)
	if e.Err == nil || e.Retry == "" || e.Attempt < 2 {
		r.violate(e, "attempt %d of retry %q, after error %v: want one of at least 2, a name and an error", e.Attempt, e.Retry, e.Err)
	}
}

func (r *Recorder) budgetRetired(ctx context.Context, e events.BudgetRetired) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received(ctx, e)
	b := r.budget(e)
	r.timed(e, e.Time)
	if b.retired {
		r.violate(e, "comes a second time")
	}
	b.retired = true
}

func (r *Recorder) breakerReconfigured(ctx context.Context, e events.BreakerReconfigured) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx = r.received(ctx, e)
	b := r.breaker(ctx, e)
	r.timed(e, e.Time)
	if b.delivering > 0 {
		r.violate(e, "comes while a StateChanged is being delivered")
	}
}
