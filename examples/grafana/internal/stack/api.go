package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// get reads JSON from a URL.
func get(ctx context.Context, to string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", to, resp.Status, bytes.TrimSpace(body))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", to, err)
	}
	return nil
}

// prometheus asks a Prometheus server.
type prometheus struct{ url string }

// sample is one series of an answer, at one time.
type sample struct {
	labels map[string]string
	value  float64
}

func (p prometheus) api(ctx context.Context, path string, params url.Values, into any) error {
	answer := struct {
		Data any `json:"data"`
	}{into}
	return get(ctx, p.url+"/api/v1/"+path+"?"+params.Encode(), &answer)
}

// query evaluates an expression that yields an instant vector, now.
func (p prometheus) query(ctx context.Context, expr string) ([]sample, error) {
	var data struct {
		Result []struct {
			Metric map[string]string `json:"metric"`
			Value  [2]any            `json:"value"`
		} `json:"result"`
	}
	if err := p.api(ctx, "query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, err
	}
	var all []sample
	for _, r := range data.Result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", expr, err)
		}
		all = append(all, sample{r.Metric, value})
	}
	return all, nil
}

// sums evaluates an expression and returns the values by one label, their sums where
// series share its value; without a label, the sum of all is that of the empty one.
func (p prometheus) sums(ctx context.Context, label, expr string) (map[string]float64, error) {
	all, err := p.query(ctx, expr)
	if err != nil {
		return nil, err
	}
	sums := make(map[string]float64)
	for _, s := range all {
		sums[s.labels[label]] += s.value
	}
	return sums, nil
}

// gap returns the longest time between two samples of what a selector selects, within
// the last range: the longest of all its series.
func (p prometheus) gap(ctx context.Context, selector string, within time.Duration) (time.Duration, error) {
	var data struct {
		Result []struct {
			Values [][2]any `json:"values"`
		} `json:"result"`
	}
	expr := fmt.Sprintf("%s[%dms]", selector, within.Milliseconds())
	if err := p.api(ctx, "query", url.Values{"query": {expr}}, &data); err != nil {
		return 0, err
	}
	var longest float64
	for _, r := range data.Result {
		for i := 1; i < len(r.Values); i++ {
			before, _ := r.Values[i-1][0].(float64)
			after, _ := r.Values[i][0].(float64)
			longest = max(longest, after-before)
		}
	}
	return time.Duration(longest * float64(time.Second)), nil
}

// exemplars returns the trace ids that are attached to a metric, without repetitions.
func (p prometheus) exemplars(ctx context.Context, expr string) ([]string, error) {
	var data []struct {
		Exemplars []struct {
			Labels map[string]string `json:"labels"`
		} `json:"exemplars"`
	}
	now := time.Now()
	err := p.api(ctx, "query_exemplars", url.Values{
		"query": {expr},
		"start": {strconv.FormatInt(now.Add(-time.Hour).Unix(), 10)},
		"end":   {strconv.FormatInt(now.Add(time.Minute).Unix(), 10)},
	}, &data)
	var ids []string
	seen := make(map[string]bool)
	for _, series := range data {
		for _, e := range series.Exemplars {
			if id := e.Labels["trace_id"]; id != "" && !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
	}
	return ids, err
}

// jaeger asks a Jaeger server.
type jaeger struct{ url string }

// trace is a trace as Jaeger's API has it.
type trace struct {
	ID        string             `json:"traceID"`
	Spans     []span             `json:"spans"`
	Processes map[string]process `json:"processes"`
}

type span struct {
	ID         string      `json:"spanID"`
	Operation  string      `json:"operationName"`
	References []reference `json:"references"`
	Start      int64       `json:"startTime"` // µs
	Tags       []tag       `json:"tags"`
	Process    string      `json:"processID"`
}

type reference struct {
	Type string `json:"refType"`
	Span string `json:"spanID"`
}

type process struct {
	Service string `json:"serviceName"`
}

type tag struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

// tag returns an attribute of the span as text, empty if it has none.
func (s span) tag(key string) string {
	for _, t := range s.Tags {
		if t.Key == key {
			return fmt.Sprint(t.Value)
		}
	}
	return ""
}

// kind returns the kind of the span, internal if it says none.
func (s span) kind() string {
	if kind := s.tag("span.kind"); kind != "" {
		return kind
	}
	return "internal"
}

// parent returns the id of the span's parent, empty for a root.
func (s span) parent() string {
	for _, r := range s.References {
		if r.Type == "CHILD_OF" {
			return r.Span
		}
	}
	return ""
}

// trace returns a trace, or errNotFound.
func (j jaeger) trace(ctx context.Context, id string) (trace, error) {
	var answer struct {
		Data []trace `json:"data"`
	}
	err := get(ctx, j.url+"/api/traces/"+id, &answer)
	switch {
	case err != nil && strings.Contains(err.Error(), "404"):
		return trace{}, errNotFound
	case err != nil:
		return trace{}, err
	case len(answer.Data) == 0:
		return trace{}, errNotFound
	}
	return answer.Data[0], nil
}

var errNotFound = errors.New("not found")

// find returns traces of a service that have an operation with the given attributes.
func (j jaeger) find(ctx context.Context, service, operation string, tags map[string]string) ([]trace, error) {
	encoded, err := json.Marshal(tags)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data []trace `json:"data"`
	}
	err = get(ctx, j.url+"/api/traces?"+url.Values{
		"service":   {service},
		"operation": {operation},
		"tags":      {string(encoded)},
		"limit":     {"50"},
		"lookback":  {"1h"},
	}.Encode(), &answer)
	return answer.Data, err
}

// alertmanager asks an Alertmanager.
type alertmanager struct{ url string }

// alert is an active alert in Alertmanager.
type alert struct {
	Labels    map[string]string `json:"labels"`
	Receivers []struct {
		Name string `json:"name"`
	} `json:"receivers"`
}

func (a alertmanager) alerts(ctx context.Context) ([]alert, error) {
	var all []alert
	err := get(ctx, a.url+"/api/v2/alerts", &all)
	return all, err
}

// until calls try until it returns nil, and at last returns its error when within has
// passed or ctx is done. running is asked as well: an error of it ends the waiting.
func until(ctx context.Context, within time.Duration, running func() error, try func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if running != nil {
			if gone := running(); gone != nil {
				return errors.Join(gone, err)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", within, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
