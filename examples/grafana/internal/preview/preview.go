// Package preview serves what was recorded of a Prometheus: to the pictures of the
// dashboards, which are drawn without a Grafana.
package preview

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
)

// Recording is what a Prometheus had, and the times that are worth a picture.
type Recording struct {
	From      time.Time
	Moments   []Moment
	Series    []prometheus.Series
	Exemplars []prometheus.Exemplar
}

// Moment is a time at which to look.
type Moment struct {
	Name string
	At   time.Time
}

// selectEverything is a query for all samples, of the time before that is given.
const selectEverything = `{__name__=~".+"}[%dms]`

// Record takes all samples from a server, but for native histograms, and the exemplars
// it still has.
func (r *Recording) Record(ctx context.Context, s *prometheus.Server, to time.Time) error {
	// A range leaves out its beginning.
	found, err := s.Query(ctx, fmt.Sprintf(selectEverything, to.Sub(r.From).Milliseconds()+1), to)
	if err != nil {
		return err
	}
	for _, one := range found {
		kept := one.Points[:0]
		for _, p := range one.Points {
			if !math.IsNaN(p.Value) && !math.IsInf(p.Value, 0) { // which JSON has not
				kept = append(kept, p)
			}
		}
		if one.Points = kept; len(kept) > 0 {
			r.Series = append(r.Series, one)
		}
	}
	return r.Keep(ctx, s, r.From, to)
}

// Keep takes the exemplars of a time, of each series one a minute: a server forgets the
// oldest when there are many.
func (r *Recording) Keep(ctx context.Context, s *prometheus.Server, from, to time.Time) error {
	found, err := s.Exemplars(ctx, `{__name__=~".+_bucket"}`, from, to)
	if err != nil {
		return err
	}
	latest := make(map[string]time.Time)
	key := func(e prometheus.Exemplar) string { return fmt.Sprint(e.Series) }
	for _, e := range r.Exemplars {
		latest[key(e)] = e.Time
	}
	for _, e := range found {
		if e.Time.Sub(latest[key(e)]) >= time.Minute {
			latest[key(e)] = e.Time
			r.Exemplars = append(r.Exemplars, e)
		}
	}
	return nil
}

// Write writes a recording.
func (r Recording) Write(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// Read reads a recording.
func Read(from io.Reader) (Recording, error) {
	var r Recording
	err := json.NewDecoder(from).Decode(&r)
	return r, err
}

// Handler answers the part of Prometheus's query API that the pictures need, and at
// /moments what there is to look at: {"from": ms, "moments": {"name": ms}}.
func Handler(s *prometheus.Server, r Recording) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /moments", func(w http.ResponseWriter, _ *http.Request) {
		moments := make(map[string]int64)
		for _, m := range r.Moments {
			moments[m.Name] = m.At.UnixMilli()
		}
		answer(w, map[string]any{"from": r.From.UnixMilli(), "moments": moments}, nil)
	})
	mux.HandleFunc("GET /api/v1/query", func(w http.ResponseWriter, q *http.Request) {
		found, err := s.Query(q.Context(), q.FormValue("query"), seconds(q, "time"))
		result := make([]any, 0, len(found))
		for _, one := range found {
			result = append(result, map[string]any{"metric": one.Labels, "value": pair(one.Points[len(one.Points)-1])})
		}
		success(w, map[string]any{"resultType": "vector", "result": result}, err)
	})
	mux.HandleFunc("GET /api/v1/query_range", func(w http.ResponseWriter, q *http.Request) {
		step, _ := strconv.ParseFloat(q.FormValue("step"), 64) // 0 is refused
		found, err := s.QueryRange(q.Context(), q.FormValue("query"), seconds(q, "start"), seconds(q, "end"), time.Duration(step*float64(time.Second)))
		result := make([]any, 0, len(found))
		for _, one := range found {
			values := make([]any, 0, len(one.Points))
			for _, p := range one.Points {
				values = append(values, pair(p))
			}
			result = append(result, map[string]any{"metric": one.Labels, "values": values})
		}
		success(w, map[string]any{"resultType": "matrix", "result": result}, err)
	})
	mux.HandleFunc("GET /api/v1/query_exemplars", func(w http.ResponseWriter, q *http.Request) {
		found, err := s.Exemplars(q.Context(), q.FormValue("query"), seconds(q, "start"), seconds(q, "end"))
		result := make([]any, 0, len(found))
		for _, e := range found {
			result = append(result, map[string]any{"seriesLabels": e.Series, "exemplars": []any{map[string]any{
				"labels": e.Labels, "value": number(e.Value), "timestamp": float64(e.Time.UnixMilli()) / 1000,
			}}})
		}
		success(w, result, err)
	})
	return mux
}

// seconds returns a time that is given in seconds.
func seconds(q *http.Request, name string) time.Time {
	s, _ := strconv.ParseFloat(q.FormValue(name), 64) // 1970 has no samples
	return time.UnixMilli(int64(s * 1000))
}

func pair(p prometheus.Point) []any {
	return []any{float64(p.Time.UnixMilli()) / 1000, number(p.Value)}
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func success(w http.ResponseWriter, data any, err error) {
	answer(w, map[string]any{"status": "success", "data": data}, err)
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		v = map[string]any{"status": "error", "errorType": "bad_data", "error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v) // whoever asked is gone
}
