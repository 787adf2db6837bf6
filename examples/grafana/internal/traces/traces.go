// Package traces keeps the latest traces in which something was retried, as trees of
// spans: a backend for traces that needs no server, for who looks at one process.
package traces

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Trace is what happened because of one request, in all services of this process.
type Trace struct {
	ID string

	// Roots are the spans whose parent is not among those of the trace, in order of
	// their start. There is one, the service that got the request, unless the client
	// sent several requests with one trace id.
	Roots []*Span

	Start    time.Time     // of the first span
	Duration time.Duration // from then to the end of the last one
	Spans    int           // in the trees

	// Dropped is how many spans are missing, because a trace is kept up to a number
	// of them.
	Dropped int

	// Attempts is how many attempts were run by the operation that ran the most. It is
	// 2 at least: other traces are not kept.
	Attempts int

	// Saved says that a retry in it succeeded with an attempt that was not its first.
	Saved bool

	// Failed says that a root did.
	Failed bool
}

// Span is one piece of work of a service, over by now.
type Span struct {
	ID         string
	Service    string // that did it, by its resource
	Name       string
	Kind       trace.SpanKind
	Start      time.Time
	Duration   time.Duration
	Failed     bool        // its status is Error
	Status     string      // what is said of that; often empty
	Attributes []Attribute // in the order in which they were set
	Events     []Event     // in order of time
	Children   []*Span     // in order of their start
}

// Attribute is an attribute, with its value as text.
type Attribute struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Event is something that happened at a moment of a span.
type Event struct {
	Name       string
	Time       time.Time
	Attributes []Attribute
}

// Attribute returns the value of an attribute of the span, empty if there is none.
func (s *Span) Attribute(key attribute.Key) string {
	for _, a := range s.Attributes {
		if a.Key == string(key) {
			return a.Value
		}
	}
	return ""
}

// End returns when the span was over.
func (s *Span) End() time.Time { return s.Start.Add(s.Duration) }

// The attributes of package otelres by which a retried operation is known.
const (
	AttemptCount = attribute.Key("resilience.retry.attempt.count")
	RetryOutcome = attribute.Key("resilience.retry.outcome")
)

const savedByRetry = "success_after_retry"

// The bounds of what is kept.
const (
	maxUnderWay = 10_000 // traces
	maxSpans    = 500    // of one trace
)

// Store keeps the latest traces in which an operation was tried more than once. It is
// a span processor, to be given to the tracer providers of all services at once: a
// trace is complete when each span that was begun in it, anywhere, has ended.
//
// Its memory is bounded by the number of traces it keeps; of those under way it takes
// ten thousand, and five hundred spans of each. All methods may be called
// concurrently. Make one with [New].
type Store struct {
	most int

	mu       sync.Mutex
	traces   map[trace.TraceID]*record
	kept     []*record // complete and retried, the latest last, at most the given number
	best     *record   // what Saved returns; nil for none
	overlong uint64    // traces that there was no room for
}

// record is a trace as it comes in.
type record struct {
	id       trace.TraceID
	spans    []sdk.ReadOnlySpan // that have ended
	open     int                // spans that have not
	dropped  int
	attempts int
	saved    bool
	kept     bool // is among those of the store
}

// New returns a store that keeps the given number of traces, which must be positive.
func New(most int) *Store {
	if most < 1 {
		panic("traces: a store for no traces")
	}
	return &Store{most: most, traces: make(map[trace.TraceID]*record)}
}

// OnStart counts a span that is under way.
func (s *Store) OnStart(_ context.Context, span sdk.ReadWriteSpan) {
	id := span.SpanContext().TraceID()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.traces[id]
	if r == nil {
		if len(s.traces) >= maxUnderWay+s.most {
			s.overlong++
			return
		}
		r = &record{id: id}
		s.traces[id] = r
	}
	r.open++
}

// OnEnd takes a span that is over.
func (s *Store) OnEnd(span sdk.ReadOnlySpan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.traces[span.SpanContext().TraceID()]
	if r == nil {
		return // begun when there was no room, or has lost it since
	}
	r.open--
	if len(r.spans) < maxSpans {
		r.spans = append(r.spans, span)
	} else {
		r.dropped++
	}
	if attempts, outcome := operation(span); attempts > 1 {
		r.attempts = max(r.attempts, attempts)
		r.saved = r.saved || outcome == savedByRetry
	}
	if r.open <= 0 {
		s.complete(r)
	}
}

// operation returns how many attempts a span tells of, 0 if it is not of a retried
// operation, and what they came to.
func operation(span sdk.ReadOnlySpan) (attempts int, outcome string) {
	for _, kv := range span.Attributes() {
		switch kv.Key {
		case AttemptCount:
			attempts = int(kv.Value.AsInt64())
		case RetryOutcome:
			outcome = kv.Value.AsString()
		}
	}
	return attempts, outcome
}

// complete keeps or forgets a trace that has no span under way. A span that comes
// later, from a server whose client has long given up, still finds its trace if that
// is kept. It requires s.mu.
func (s *Store) complete(r *record) {
	if r.attempts < 2 {
		delete(s.traces, r.id)
		return
	}
	if r.saved && (s.best == nil || r.attempts > s.best.attempts) {
		s.best = r
	}
	if r.kept {
		return
	}
	r.kept = true
	s.kept = append(s.kept, r)
	if len(s.kept) > s.most {
		delete(s.traces, s.kept[0].id)
		s.kept = slices.Delete(s.kept, 0, 1)
	}
}

// Shutdown does nothing: what is kept can be asked for all the same.
func (s *Store) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing, since nothing waits.
func (s *Store) ForceFlush(context.Context) error { return nil }

// Latest returns the traces that are kept, the latest first. The caller owns them.
func (s *Store) Latest() []Trace {
	// Spans that have ended do not change, so that only the lists need the lock.
	var records []record
	s.mu.Lock()
	for _, r := range s.kept {
		records = append(records, r.snapshot())
	}
	s.mu.Unlock()
	all := make([]Trace, 0, len(records))
	for _, r := range slices.Backward(records) {
		all = append(all, r.tree())
	}
	return all
}

// Find returns the trace with the given id, if it is kept.
func (s *Store) Find(id string) (Trace, bool) {
	parsed, err := trace.TraceIDFromHex(id)
	if err != nil {
		return Trace{}, false
	}
	s.mu.Lock()
	r := s.traces[parsed]
	if r == nil && s.best != nil && s.best.id == parsed {
		r = s.best
	}
	if r == nil || r.attempts < 2 || r.open > 0 {
		s.mu.Unlock()
		return Trace{}, false
	}
	c := r.snapshot()
	s.mu.Unlock()
	return c.tree(), true
}

// Saved returns the most telling trace that a retry saved, of all there were: the
// first of those with the most attempts. It reports false if there was none.
func (s *Store) Saved() (Trace, bool) {
	s.mu.Lock()
	if s.best == nil {
		s.mu.Unlock()
		return Trace{}, false
	}
	r := s.best.snapshot()
	s.mu.Unlock()
	return r.tree(), true
}

// Overlooked returns how many spans were begun in traces that there was no room for.
func (s *Store) Overlooked() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.overlong
}

// snapshot returns the record as it is. It requires the lock of its store.
func (r *record) snapshot() record {
	c := *r
	c.spans = slices.Clone(r.spans)
	return c
}

// tree puts the spans in their places.
func (r record) tree() Trace {
	t := Trace{ID: r.id.String(), Spans: len(r.spans), Dropped: r.dropped, Attempts: r.attempts, Saved: r.saved}
	slices.SortStableFunc(r.spans, func(a, b sdk.ReadOnlySpan) int {
		return cmp.Or(a.StartTime().Compare(b.StartTime()), b.EndTime().Compare(a.EndTime()))
	})
	byID := make(map[trace.SpanID]*Span, len(r.spans))
	for _, s := range r.spans {
		byID[s.SpanContext().SpanID()] = spanOf(s)
	}
	var end time.Time
	for _, s := range r.spans {
		span := byID[s.SpanContext().SpanID()]
		if t.Start.IsZero() {
			t.Start = span.Start
		}
		if e := span.End(); e.After(end) {
			end = e
		}
		if parent := byID[s.Parent().SpanID()]; parent != nil {
			parent.Children = append(parent.Children, span)
			continue
		}
		t.Roots = append(t.Roots, span)
		t.Failed = t.Failed || span.Failed
	}
	t.Duration = end.Sub(t.Start)
	return t
}

func spanOf(s sdk.ReadOnlySpan) *Span {
	span := &Span{
		ID:         s.SpanContext().SpanID().String(),
		Name:       s.Name(),
		Kind:       s.SpanKind(),
		Start:      s.StartTime(),
		Duration:   s.EndTime().Sub(s.StartTime()),
		Failed:     s.Status().Code == codes.Error,
		Status:     s.Status().Description,
		Attributes: attributesOf(s.Attributes()),
	}
	if r := s.Resource(); r != nil {
		if name, ok := r.Set().Value(semconv.ServiceNameKey); ok {
			span.Service = name.AsString()
		}
	}
	for _, e := range s.Events() {
		span.Events = append(span.Events, Event{Name: e.Name, Time: e.Time, Attributes: attributesOf(e.Attributes)})
	}
	return span
}

func attributesOf(all []attribute.KeyValue) []Attribute {
	var texts []Attribute
	for _, kv := range all {
		texts = append(texts, Attribute{Key: string(kv.Key), Value: kv.Value.String()})
	}
	return texts
}
