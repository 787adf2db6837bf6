package events

import (
	"context"
	"log/slog"
	"time"
)

// What retry budgets have to say.

// BudgetCreated is the first event of a retry budget.
type BudgetCreated struct {
	Header
	Time         time.Time
	Ratio        float64       // retries that each operation pays for, in (0,1]
	MinPerSecond float64       // retries a second that are free
	Window       time.Duration // how long what is not spent lasts

	// Snapshot returns the budget as it is at the time of the call. It may be called
	// from any goroutine at any time, from within a sink too, also after the budget is
	// retired. Holding on to it keeps the budget in memory.
	Snapshot func() BudgetSnapshot
}

// BudgetSnapshot is a retry budget at one moment.
type BudgetSnapshot struct {
	// Available is the number of retries that would be granted at once, with its
	// fraction. Limit is what that tends to while traffic stays as it is and nobody
	// retries.
	Available, Limit float64

	// These count since birth and only grow.
	Operations uint64 // that paid into the budget
	Granted    uint64 // retries that it granted
	Refused    uint64 // retries that it refused: see [BudgetExhausted]
}

// BudgetExhausted says that a budget refused a retry, which ends with
// [ReasonBudgetExhausted] therefore.
type BudgetExhausted struct {
	Header
	Retry   string // the retry's name
	Attempt int    // the attempt that will not be made, at least 2
	Err     error  // of the attempt that failed
}

// BudgetRetired is the last event of a retry budget, but for those of retries that were
// under way when it was closed.
type BudgetRetired struct {
	Header
	Time time.Time
}

// Kind returns KindBudgetCreated.
func (BudgetCreated) Kind() Kind { return KindBudgetCreated }

// Kind returns KindBudgetExhausted.
func (BudgetExhausted) Kind() Kind { return KindBudgetExhausted }

// Kind returns KindBudgetRetired.
func (BudgetRetired) Kind() Kind { return KindBudgetRetired }

func (s logSink) budgetCreated(ctx context.Context, e BudgetCreated) {
	if h := s.handler(ctx, slog.LevelInfo); h != nil {
		write(ctx, h, e.Time, slog.LevelInfo, "retry budget created", logBudget(e.Header), logBudgetID(e.Header),
			slog.Float64("ratio", e.Ratio),
			slog.Float64("min_per_second", e.MinPerSecond),
			slog.Duration("window", e.Window))
	}
}

func (s logSink) budgetExhausted(ctx context.Context, e BudgetExhausted) {
	if h := s.handler(ctx, slog.LevelDebug); h != nil {
		write(ctx, h, time.Time{}, slog.LevelDebug, "retry budget exhausted", logBudget(e.Header), logBudgetID(e.Header),
			slog.String("retry", e.Retry),
			slog.Int("attempt", e.Attempt),
			logError(e.Err))
	}
}

func (s logSink) budgetRetired(ctx context.Context, e BudgetRetired) {
	if h := s.handler(ctx, slog.LevelInfo); h != nil {
		write(ctx, h, e.Time, slog.LevelInfo, "retry budget retired", logBudget(e.Header), logBudgetID(e.Header))
	}
}

func logBudget(h Header) slog.Attr   { return slog.String("budget", h.Name) }
func logBudgetID(h Header) slog.Attr { return slog.Uint64("budget_id", h.ID) }
