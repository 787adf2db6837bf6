package prometheus

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// Point is a value at a time.
type Point struct {
	Time  time.Time
	Value float64
}

// Series is one line of the result of a query.
type Series struct {
	Labels map[string]string // with __name__ if the result has one; empty for a scalar
	Points []Point           // in order of time; one if the query is for one time
}

// Query evaluates a PromQL expression at one time. An expression of type range vector
// yields the samples as they were stored. No result is not an error.
func (s *Server) Query(ctx context.Context, expr string, at time.Time) ([]Series, error) {
	return s.exec(ctx, func(ctx context.Context) (promql.Query, error) {
		return s.engine.NewInstantQuery(ctx, s.db, nil, expr, at)
	})
}

// QueryRange evaluates a PromQL expression at from, and every step after it up to to.
func (s *Server) QueryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]Series, error) {
	if step < time.Millisecond {
		return nil, fmt.Errorf("prometheus: step is %v, want at least 1ms", step)
	}
	return s.exec(ctx, func(ctx context.Context) (promql.Query, error) {
		return s.engine.NewRangeQuery(ctx, s.db, nil, expr, from, to, step)
	})
}

func (s *Server) exec(ctx context.Context, prepare func(context.Context) (promql.Query, error)) ([]Series, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	ctx = untraced(ctx)
	q, err := prepare(ctx)
	if err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, fmt.Errorf("prometheus: %w", result.Err)
	}
	switch v := result.Value.(type) {
	case promql.Scalar:
		return []Series{{Labels: map[string]string{}, Points: []Point{point(v.T, v.V)}}}, nil
	case promql.Vector:
		all := make([]Series, 0, len(v))
		for _, sample := range v {
			all = append(all, Series{Labels: sample.Metric.Map(), Points: []Point{point(sample.T, sample.F)}})
		}
		return all, nil
	case promql.Matrix:
		all := make([]Series, 0, len(v))
		for _, line := range v {
			one := Series{Labels: line.Metric.Map(), Points: make([]Point, 0, len(line.Floats))}
			for _, p := range line.Floats {
				one.Points = append(one.Points, point(p.T, p.F))
			}
			all = append(all, one)
		}
		return all, nil
	default:
		return nil, fmt.Errorf("prometheus: the result is a %s", result.Value.Type())
	}
}

func point(ms int64, v float64) Point { return Point{Time: time.UnixMilli(ms), Value: v} }

// Exemplar is one measurement that a counter or histogram holds beside its sum.
type Exemplar struct {
	Series map[string]string // labels of the series it is of
	Labels map[string]string // its own, trace_id and span_id among them
	Point
}

// Exemplars returns the exemplars of the series that a PromQL expression selects, by
// series in order of time.
func (s *Server) Exemplars(ctx context.Context, expr string, from, to time.Time) ([]Exemplar, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	q, err := s.db.ExemplarQuerier(ctx)
	if err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	found, err := q.Select(from.UnixMilli(), to.UnixMilli(), parser.ExtractSelectors(tree)...)
	if err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	var all []Exemplar
	for _, series := range found {
		for _, e := range series.Exemplars {
			all = append(all, Exemplar{
				Series: series.SeriesLabels.Map(),
				Labels: e.Labels.Map(),
				Point:  point(e.Ts, e.Value),
			})
		}
	}
	return all, nil
}
