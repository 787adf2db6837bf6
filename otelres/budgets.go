package otelres

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"

	"github.com/breakwater-go/breakwater/events"
)

// budgets knows the retry budgets there are. They are observed at collection, added up
// by name, and what is beyond limit names goes by the overflow's.
type budgets struct {
	limit    int
	observe  func(name string) *budgetSeries
	overflow *budgetName

	mu     sync.Mutex // never held while an instrument is used: see registry
	byID   map[uint64]*budget
	names  map[string]*budgetName // of those that live, at most limit
	closed bool
}

type budget struct {
	snapshot func() events.BudgetSnapshot
	name     *budgetName
}

// budgetName is a name, while a budget of that name lives.
type budgetName struct {
	series *budgetSeries
	living int
	before events.BudgetSnapshot // the counts of those that were retired
}

// budgetSeries holds the options that one name is observed with.
type budgetSeries struct {
	name    string
	plain   []metric.ObserveOption
	retries [budgetOutcomeCount][]metric.ObserveOption
}

func (t *Telemetry) newBudgetSeries(name string) *budgetSeries {
	s := &budgetSeries{name: name, plain: []metric.ObserveOption{t.measured(keyBudgetName.String(name))}}
	for o := range budgetOutcomeCount {
		s.retries[o] = []metric.ObserveOption{t.measured(keyBudgetName.String(name), keyBudgetOutcome.String(o.String()))}
	}
	return s
}

func newBudgets(limit int, observe func(string) *budgetSeries) *budgets {
	return &budgets{
		limit: limit, observe: observe, overflow: &budgetName{series: observe(other)},
		byID: make(map[uint64]*budget), names: make(map[string]*budgetName),
	}
}

// born adds a budget and tells whether its series are its name's own.
func (r *budgets) born(e events.BudgetCreated) (own bool) {
	name := exportable(e.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.byID[e.ID]; known || r.closed || e.Snapshot == nil {
		return true
	}
	b := &budget{snapshot: e.Snapshot, name: r.names[name]}
	r.byID[e.ID] = b
	switch {
	case b.name != nil:
	case len(r.names) == r.limit || name == other:
		b.name = r.overflow
	default:
		b.name = &budgetName{series: r.observe(name)}
		r.names[name] = b.name
	}
	b.name.living++
	return b.name != r.overflow || name == other
}

func (r *budgets) retired(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, known := r.byID[id]
	if !known {
		return
	}
	delete(r.byID, id)
	n := b.name
	n.living--
	s := b.snapshot()
	n.before.Operations += s.Operations
	n.before.Granted += s.Granted
	n.before.Refused += s.Refused
	switch {
	case n.living > 0:
	case n == r.overflow:
		n.before = events.BudgetSnapshot{}
	default:
		delete(r.names, n.series.name)
	}
}

// observations returns what there is to observe of each name.
func (r *budgets) observations() map[*budgetSeries]events.BudgetSnapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[*budgetSeries]events.BudgetSnapshot)
	for n := range maps.Values(r.names) {
		all[n.series] = n.before
	}
	if r.overflow.living > 0 {
		all[r.overflow.series] = r.overflow.before
	}
	for _, b := range r.byID {
		s, now := b.name.series, b.snapshot()
		sum := all[s]
		sum.Available += now.Available
		sum.Limit += now.Limit
		sum.Operations += now.Operations
		sum.Granted += now.Granted
		sum.Refused += now.Refused
		all[s] = sum
	}
	return all
}

func (r *budgets) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	clear(r.byID)
	clear(r.names)
}

// budgetCreated begins a budget's series.
func (t *Telemetry) budgetCreated(ctx context.Context, e events.BudgetCreated) {
	if !t.budgets.born(e) {
		t.drop(ctx)
	}
}

// budgetRetired ends a budget's series.
func (t *Telemetry) budgetRetired(_ context.Context, e events.BudgetRetired) { t.budgets.retired(e.ID) }

// budgetExhausted tells of a refusal. Metrics read it off the budget.
func (t *Telemetry) budgetExhausted(ctx context.Context, e events.BudgetExhausted) {
	if t.closed.Load() {
		return
	}
	x, ok := t.exit(ctx, eventBudgetExhausted, t.operationSpan(ctx), log.SeverityDebug)
	if !ok {
		return
	}
	t.emit(ctx, eventBudgetExhausted, x, time.Now(),
		keyBudgetName.String(exportable(e.Name)),
		keyRetryName.String(exportable(e.Retry)),
		keyAttemptNumber.Int(e.Attempt),
		t.errorTypes.of(e.Err, false))
}
