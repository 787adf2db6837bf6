package dashboards_test

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/script"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
	"github.com/breakwater-go/breakwater/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// What the dashboards ask, of a Prometheus that was sent what the library sends. It is
// one test because the world takes longest.
func TestQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := play(t, pace{exports: exports, script: script.Outage(), length: length, rate: 6, views: []sdk.View{native}})
		boards := make(map[string]board)
		for _, b := range all(t) {
			boards[b.file] = b
			w.everythingHasData(b)
			w.variablesHaveValues(b)
			w.openingsAreMarked(b)
			w.nativeHistogramsToo(b)
			w.exemplarsAreThere(b)
		}
		circuits, retries := boards["circuits.json"], boards["retries.json"]
		w.countersAreTheEngines()
		w.statesAreShown(circuits)
		w.timelineIsTrue(circuits)
		w.worstComesFirst(circuits)
		w.stateChangesAreThoseThatWere(circuits)
		w.retriesAddUp(retries)
	})
}

// of returns the panel with a title.
func (b board) of(t *testing.T, title string) panel {
	t.Helper()
	i := slices.IndexFunc(b.Panels, func(p panel) bool { return p.Title == title })
	require.NotEqual(t, -1, i, "%s has no panel %s", b.file, title)
	return b.Panels[i]
}

// hasData reports whether there is a number in it.
func hasData(found []prometheus.Series) bool {
	for _, s := range found {
		for _, p := range s.Points {
			if !math.IsNaN(p.Value) {
				return true
			}
		}
	}
	return false
}

// last returns the value of the series with all the labels given, at its end.
func last(t *testing.T, found []prometheus.Series, labels ...string) float64 {
	t.Helper()
	var match []prometheus.Series
	for _, s := range found {
		same := true
		for i := 0; i < len(labels); i += 2 {
			same = same && s.Labels[labels[i]] == labels[i+1]
		}
		if same {
			match = append(match, s)
		}
	}
	require.Len(t, match, 1, "%v in %v", labels, found)
	points := match[0].Points
	return points[len(points)-1].Value
}

const (
	circuitLabel = "resilience_circuit_breaker_name"
	stateLabel   = "resilience_circuit_breaker_state"
	fromLabel    = "resilience_circuit_breaker_previous_state"
)

// everythingHasData fails unless each query of a dashboard returns data, while the
// outage lasts and after it.
func (w *world) everythingHasData(b board) {
	for when, g := range map[string]grafana{"in the outage": w.at(w.recovery), "in the end": w.at(w.ended)} {
		for _, p := range b.Panels {
			for _, q := range p.Targets {
				found, err := w.ask(g, q, p.MaxDataPoints)
				require.NoError(w.t, err, "%s %s: %s", p.Title, q.RefID, g.fill(q.Expr))
				if !hasData(found) {
					w.t.Errorf("%s: %s %s has no data %s:\n%s", b.file, p.Title, q.RefID, when, g.fill(q.Expr))
				}
			}
		}
	}
}

// variablesHaveValues fails unless each variable has the values there are, and panels
// are narrowed by it.
func (w *world) variablesHaveValues(b board) {
	g := w.at(w.ended)
	want := map[string][]string{
		"job":      {"billing", "order"},
		"circuit":  {"_OTHER", "export", "inventory", "ledger", "mail", "payment", "shipping"},
		"retry":    {"inventory", "ledger", "payment", "shipping"},
		"instance": {"billing-1", "order-1", "order-2"},
	}
	for _, v := range b.Templating.List {
		if v.Type != "query" {
			continue
		}
		g.variables = nil
		selector, label := labelValues(w.t, v)
		found, err := w.prom.Query(w.t.Context(), "group by ("+label+") ("+g.fill(selector)+")", g.to)
		require.NoError(w.t, err)
		var values []string
		for _, s := range found {
			values = append(values, s.Labels[label])
		}
		slices.Sort(values)
		require.Equal(w.t, want[v.Name], values, "%s: %s", b.file, v.Name)

		// Panels with series by that label have those of the chosen value alone.
		g.variables = map[string]string{v.Name: values[0]}
		narrowed := 0
		for _, p := range b.Panels {
			for _, q := range p.Targets {
				found, err := w.ask(g, q, p.MaxDataPoints)
				require.NoError(w.t, err)
				for _, s := range found {
					if value, has := s.Labels[label]; has && !strings.Contains(q.Expr, "_OTHER") {
						require.Equal(w.t, values[0], value, "%s %s is not narrowed by $%s", p.Title, q.RefID, v.Name)
						narrowed++
					}
				}
			}
		}
		if v.Name != "instance" || b.file == "circuits.json" { // no series of the retries are by instance
			require.Positive(w.t, narrowed, v.Name)
		}
	}
}

// changesOf returns the state changes of which keep is true, in order of time.
func (w *world) changesOf(keep func(change) bool) []change {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := slices.DeleteFunc(slices.Clone(w.changes), func(c change) bool { return !keep(c) })
	slices.SortStableFunc(found, func(a, b change) int { return a.Time.Compare(b.Time) })
	return found
}

// labels returns the labels of the states that a change led from and to.
func (c change) labels() (from, to string) {
	return c.FromStatus().String(), c.ToStatus().String()
}

// openingsAreMarked fails unless there is one mark for each time that a closed circuit
// opened, soon after it did.
func (w *world) openingsAreMarked(b board) {
	g := w.at(w.ended)
	g.points = 100 // as many as Grafana asks for
	from, to := g.aligned()
	for _, a := range b.Annotations.List {
		step, err := time.ParseDuration(a.Target.Interval)
		require.NoError(w.t, err)
		g.exports = max(g.exports, step) // the least step of an annotation
		found, err := w.prom.QueryRange(w.t.Context(), g.fill(a.Target.Expr), from.Truncate(g.step()), to.Truncate(g.step()).Add(g.step()), g.step())
		require.NoError(w.t, err)
		opened := make(map[string][]time.Time)
		for _, c := range w.changesOf(func(c change) bool {
			from, to := c.labels()
			return from == "closed" && (to == "open" || to == "forced_open")
		}) {
			opened[c.Name] = append(opened[c.Name], c.Time)
		}
		require.Len(w.t, opened[shop.Payment], 2, "one in each instance")
		require.Len(w.t, found, len(opened), "circuits with openings")
		for _, s := range found {
			name := s.Labels[circuitLabel]
			sum := 0.0
			for _, p := range s.Points {
				sum += p.Value
				require.True(w.t, slices.ContainsFunc(opened[name], func(at time.Time) bool {
					return p.Time.After(at) && p.Time.Sub(at) <= exports+g.step()
				}), "%s: a mark at %v, it opened at %v", name, p.Time, opened[name])
			}
			require.InDelta(w.t, len(opened[name]), sum, 0, name)
			require.Contains(w.t, a.TitleFormat, "{{"+circuitLabel+"}}")
		}
	}
}

// nativeHistogramsToo fails unless panels of histograms show those without buckets as well.
func (w *world) nativeHistogramsToo(b board) {
	g := w.at(w.ended)
	g.variables = map[string]string{"job": "billing"}
	checked := 0
	for _, p := range b.Panels {
		for _, q := range p.Targets {
			if !strings.Contains(q.Expr, "_bucket") {
				continue
			}
			checked++
			if q.Format == "heatmap" {
				q.Expr = "histogram_count(" + q.Expr + ")" // which is all that is read of a histogram here
			}
			found, err := w.ask(g, q, p.MaxDataPoints)
			require.NoError(w.t, err)
			if !hasData(found) {
				w.t.Errorf("%s: %s %s shows no native histograms:\n%s", b.file, p.Title, q.RefID, g.fill(q.Expr))
			}
		}
	}
	require.Greater(w.t, checked, 4)
}

// exemplarsAreThere fails unless the queries that ask for exemplars find some, with
// traces.
func (w *world) exemplarsAreThere(b board) {
	g := w.at(w.ended)
	asked := 0
	for _, p := range b.Panels {
		for _, q := range p.Targets {
			if !q.Exemplar {
				continue
			}
			asked++
			found, err := w.prom.Exemplars(w.t.Context(), g.fill(q.Expr), g.from, g.to)
			require.NoError(w.t, err)
			require.NotEmpty(w.t, found, "%s %s", p.Title, q.RefID)
			for _, e := range found {
				require.Regexp(w.t, `^[0-9a-f]{32}$`, e.Labels["trace_id"])
			}
		}
	}
	require.Positive(w.t, asked)
}

// countersAreTheEngines fails unless what Prometheus has counted is what breakers and
// retries have counted themselves.
func (w *world) countersAreTheEngines() {
	reasons := map[events.Reason]string{
		events.ReasonSuccess: "success", events.ReasonSuccessAfterRetry: "success_after_retry", events.ReasonExhausted: "exhausted",
		events.ReasonNotRetryable: "not_retryable", events.ReasonRejected: "rejected", events.ReasonDeadline: "deadline",
		events.ReasonCanceled: "canceled", events.ReasonBudgetExhausted: "budget_exhausted", events.ReasonRetryAfterTooLong: "not_retryable",
	}
	for instance, r := range w.runs {
		ask := func(expr string) []prometheus.Series {
			found, err := w.prom.Query(w.t.Context(), strings.ReplaceAll(expr, "{}", `{job="order", instance="`+instance+`"}`), r.quiet)
			require.NoError(w.t, err)
			require.NotEmpty(w.t, found, expr)
			return found
		}
		calls, spent, operations := ask(`resilience_circuit_breaker_calls_total{}`), ask(`resilience_circuit_breaker_time_seconds_total{}`), ask(`resilience_retry_operations_total{}`)
		require.Len(w.t, r.summary.Circuits, 3)
		for _, c := range r.summary.Circuits {
			for outcome, n := range map[string]uint64{
				"success": c.Final.Totals.Success, "failure": c.Final.Totals.Failure, "ignored": c.Final.Totals.Ignored, "rejected": c.Final.Totals.Rejected,
			} {
				require.InDelta(w.t, n, last(w.t, calls, circuitLabel, c.Name, "resilience_circuit_breaker_call_outcome", outcome), 0, "%s %s", c.Name, outcome)
			}
			for status, state := range map[events.Status]string{events.StatusClosed: "closed", events.StatusOpen: "open", events.StatusHalfOpen: "half_open"} {
				// The breakers go on while the demo winds up.
				require.InDelta(w.t, c.Final.TimeIn[status].Seconds(), last(w.t, spent, circuitLabel, c.Name, stateLabel, state), 0.1, "%s %s", c.Name, state)
			}
			want := make(map[string]int)
			for reason, n := range c.Operations {
				require.Contains(w.t, reasons, reason)
				want[reasons[reason]] += n
			}
			for _, s := range operations {
				if s.Labels["resilience_retry_name"] == c.Name {
					outcome := s.Labels["resilience_retry_outcome"]
					require.InDelta(w.t, want[outcome], s.Points[0].Value, 0, "%s %s", c.Name, outcome)
				}
			}
		}
	}
}

// numbers are those of the states in the timeline and in the table.
var numbers = map[string]float64{"closed": 1, "half_open": 4, "open": 5, "forced_closed": 6, "forced_open": 7, "shadow_half_open": 2, "shadow_open": 3}

// statesAreShown fails unless the figures and the table say what state circuits are in
// while the outage lasts, and for how long.
func (w *world) statesAreShown(b board) {
	at := w.recovery.Add(-time.Second)
	g := w.at(at)
	want := make(map[string]float64)
	state := map[[2]string]string{}
	for instance := range w.runs {
		state[[2]string{instance, shop.Payment}] = "closed"
	}
	state[[2]string{"billing-1", "export"}] = "closed"
	for _, c := range w.changesOf(func(c change) bool { return c.Time.Before(at.Truncate(exports)) }) {
		_, to := c.labels()
		state[[2]string{c.instance, c.Name}] = to
	}
	for _, s := range state {
		want[s]++
	}
	want["closed"] += 4 + 1 // inventory and shipping, twice, and archive
	require.GreaterOrEqual(w.t, want["open"]+want["half_open"], 2.0)

	figures := b.of(w.t, "Breakers by state")
	for i, s := range []string{"closed", "half_open", "open", "forced_closed", "forced_open"} {
		require.InDelta(w.t, want[s], last(w.t, w.must(g, figures, string(rune('A'+i)))), 0, s)
	}

	table := b.of(w.t, "Circuits")
	states, openFor, thresholds := w.must(g, table, "A"), w.must(g, table, "B"), w.must(g, table, "D")
	longest := 0.0
	for where, s := range state {
		labels := []string{"instance", where[0], circuitLabel, where[1]}
		require.InDelta(w.t, numbers[s], last(w.t, states, labels...), 0, "%v is %s", where, s)
		require.InDelta(w.t, 0.5, last(w.t, thresholds, labels...), 0, where)
		if s == "closed" || s == "forced_closed" || strings.HasPrefix(s, "shadow_") {
			continue
		}
		left := w.changesOf(func(c change) bool {
			from, _ := c.labels()
			return c.instance == where[0] && c.Name == where[1] && from == "closed" && c.Time.Before(at)
		})
		since := left[len(left)-1].Time
		require.InDelta(w.t, at.Sub(since).Seconds(), last(w.t, openFor, labels...), 0.001, where)
		longest = max(longest, at.Sub(since).Seconds())
	}
	for _, s := range openFor {
		require.NotEqual(w.t, "inventory", s.Labels[circuitLabel], "which was never open")
	}
	require.InDelta(w.t, longest, last(w.t, w.must(g, b.of(w.t, "Open for, at most"), "A")), 0.001)
	g = w.at(w.outage)
	g.variables = map[string]string{"job": "order"}
	require.InDelta(w.t, 0, last(w.t, w.must(g, b.of(w.t, "Open for, at most"), "A")), 0, "before the outage")
}

// timelineIsTrue fails unless the timeline shows, in each step, the most serious state
// that a breaker was in during it.
func (w *world) timelineIsTrue(b board) {
	g := w.at(w.ended)
	p := b.of(w.t, "State timeline")
	found := w.must(g, p, "A")
	g.points = p.MaxDataPoints
	step := g.step()
	require.Equal(w.t, exports, step, "else this has to allow for steps within exports")
	require.Len(w.t, found, 3+3+4, "breakers")
	shown := make(map[float64]int)
	for _, s := range found {
		changes := w.changesOf(func(c change) bool {
			return c.instance == s.Labels["instance"] && c.Name == s.Labels[circuitLabel]
		})
		for _, point := range s.Points {
			// What is shown at a time was exported by then: it is of an export's time earlier.
			to := point.Time.Sub(w.began).Truncate(exports)
			from, until := w.began.Add(to-step), w.began.Add(to)
			worst, state := 0.0, 1.0
			for _, c := range changes {
				_, next := c.labels()
				if c.Time.After(from) {
					worst = max(worst, state) // the one it left, when it was in it for some of the step
				}
				if !c.Time.Before(until) {
					break
				}
				state = numbers[next]
			}
			worst = max(worst, state)
			if point.Time.After(w.began.Add(length)) {
				continue // the demo is winding up
			}
			require.InDelta(w.t, worst, point.Value, 0, "%s %s at %v", s.Labels["instance"], s.Labels[circuitLabel], point.Time.Sub(w.began))
			shown[point.Value]++
		}
	}
	require.Len(w.t, shown, 5, "no step is half-open alone, since probes are quick: %v", shown)
}

// worstComesFirst fails unless the table of error rates has them right and in order.
func (w *world) worstComesFirst(b board) {
	p := b.of(w.t, "Error rate in the last five minutes, worst first")
	g := w.at(w.began.Add(5 * time.Minute)) // the range is from the beginning, then
	everywhere := w.must(g, p, "A")
	require.Len(w.t, everywhere, 3+3, "archive has no calls")
	g.variables = map[string]string{"job": "order"}
	rates := w.must(g, p, "A")
	require.Len(w.t, rates, 3)
	require.Equal(w.t, shop.Payment, rates[0].Labels[circuitLabel])
	require.True(w.t, slices.IsSortedFunc(everywhere, func(x, y prometheus.Series) int {
		return -cmp.Compare(x.Points[0].Value, y.Points[0].Value)
	}), "%v", everywhere)

	// From the counters themselves, which are the engine's: see countersAreTheEngines.
	found, err := w.prom.Query(w.t.Context(), `sum by (resilience_circuit_breaker_call_outcome) (resilience_circuit_breaker_calls_total{resilience_circuit_breaker_name="payment"})`, g.to)
	require.NoError(w.t, err)
	count := func(outcome string) float64 {
		return last(w.t, found, "resilience_circuit_breaker_call_outcome", outcome)
	}
	require.Greater(w.t, count("rejected"), count("failure"), "else the two rates hardly differ")
	all := count("success") + count("failure") + count("ignored") + count("rejected")
	require.InEpsilon(w.t, count("failure")/(count("success")+count("failure")), rates[0].Points[0].Value, 0.03)
	require.InEpsilon(w.t, (count("failure")+count("rejected"))/all, last(w.t, w.must(g, p, "B"), circuitLabel, "payment"), 0.03)
	for ref, outcome := range map[string]string{"C": "success", "D": "failure", "E": "rejected"} {
		require.InEpsilon(w.t, count(outcome), last(w.t, w.must(g, p, ref), circuitLabel, "payment"), 0.03, outcome)
	}

	// While the circuit is open its error rate is that of probes; what callers feel is
	// another thing.
	g = w.at(w.recovery)
	require.Greater(w.t, last(w.t, w.must(g, b.of(w.t, "Unavailable"), "A"), circuitLabel, "payment"), 0.95)
	require.Greater(w.t, last(w.t, w.must(g, b.of(w.t, "Rejected share"), "A"), circuitLabel, "payment"), 0.8)
	require.Greater(w.t, last(w.t, w.must(g, b.of(w.t, "Share of time not closed"), "A"), circuitLabel, "payment"), 0.99)
	require.InDelta(w.t, 0, last(w.t, w.must(g, b.of(w.t, "Share of time not closed"), "A"), circuitLabel, "inventory"), 0)

	// Shadow mode is not in the way of anybody.
	require.InDelta(w.t, 0, last(w.t, w.must(g, b.of(w.t, "Share of time not closed"), "A"), circuitLabel, "export"), 0)
	require.Positive(w.t, last(w.t, w.must(g, b.of(w.t, "Shadow mode: would be rejected"), "A"), circuitLabel, "export"))
}

// stateChangesAreThoseThatWere fails unless the table of state changes has all of them,
// and when the last of each was.
func (w *world) stateChangesAreThoseThatWere(b board) {
	p := b.of(w.t, "State changes in the last hour")
	g := w.at(w.ended)
	type key struct{ job, name, from, to string }
	type fact struct {
		count int
		last  time.Time
	}
	want := make(map[key]fact)
	for _, c := range w.changesOf(func(c change) bool { return !c.Shadow }) { // those are not counted
		from, to := c.labels()
		k := key{c.job, c.Name, from, to}
		want[k] = fact{want[k].count + 1, c.Time}
	}
	require.GreaterOrEqual(w.t, len(want), 4+4, "kinds of change")
	of := func(s prometheus.Series) key {
		return key{s.Labels["job"], s.Labels[circuitLabel], s.Labels[fromLabel], s.Labels[stateLabel]}
	}
	counts, times := w.must(g, p, "A"), w.must(g, p, "B")
	require.Len(w.t, counts, len(want))
	require.Len(w.t, times, len(want))
	for i := range counts {
		k := of(counts[i])
		require.InDelta(w.t, want[k].count, counts[i].Points[0].Value, 0, "%v", k)
		k = of(times[i])
		at := time.UnixMilli(int64(times[i].Points[0].Value))
		require.False(w.t, at.Before(want[k].last), "%v: %v is before %v", k, at, want[k].last)
		require.LessOrEqual(w.t, at.Sub(want[k].last), 15*time.Second+exports, "%v", k)
	}

	// The bars have each of them once.
	sum, all := 0.0, 0
	for _, s := range w.must(g, b.of(w.t, "Transitions"), "A") {
		for _, point := range s.Points {
			sum += point.Value
		}
	}
	for _, f := range want {
		all += f.count
	}
	require.InDelta(w.t, all, sum, 0)
}

// retriesAddUp fails unless the figures of retries are what the operations were.
func (w *world) retriesAddUp(b board) {
	// The counters at two times, and what a panel whose range is between them shows.
	const name = "payment"
	at := w.outage.Add(-2 * exports).Truncate(exports)
	g := w.at(at)
	increase := func(selector string) float64 {
		found, err := w.prom.Query(w.t.Context(), g.fill(`sum(increase(`+selector+`[$__rate_interval]))`), at)
		require.NoError(w.t, err)
		return last(w.t, found)
	}
	operations := func(outcomes string) float64 {
		return increase(`resilience_retry_operations_total{resilience_retry_name="payment", resilience_retry_outcome=~"` + outcomes + `"}`)
	}
	attempts := increase(`resilience_retry_attempts_total{resilience_retry_name="payment", resilience_retry_attempt_outcome!="rejected"}`)
	saved, everything := operations("success_after_retry"), operations(".*")
	require.Positive(w.t, saved, "payment is flaky")
	g.variables = map[string]string{"retry": name}
	show := func(title string) float64 {
		found := w.must(g, b.of(w.t, title), "A")
		require.Len(w.t, found, 1, title)
		return last(w.t, found)
	}
	for title, want := range map[string]float64{
		"Saved by a retry now":      saved / everything,
		"Share that retries saved":  saved / everything,
		"Retries that helped now":   saved / operations("success_after_retry|exhausted|deadline|budget_exhausted"),
		"Amplification now":         attempts / everything,
		"Amplification":             attempts / everything,
		"Succeeded now":             operations("success|success_after_retry") / operations("success|success_after_retry|not_retryable|rejected|deadline|budget_exhausted|exhausted"),
		"Operations now":            everything / g.rateInterval().Seconds(),
		"Delay before a retry":      show("Delay before a retry"),
		"Operation against attempt": show("Operation against attempt"),
	} {
		require.InEpsilon(w.t, want, show(title), 0.02, title)
	}
	require.Greater(w.t, show("Amplification"), 1.1, "one in five attempts fails")
	require.Less(w.t, show("Amplification"), 2.0)

	// Operations take at least as long as attempts.
	p := b.of(w.t, "Operation against attempt")
	require.GreaterOrEqual(w.t, last(w.t, w.must(g, p, "A")), last(w.t, w.must(g, p, "B")))

	// In the outage hardly an operation reaches the dependency, and none ends well.
	g.to = w.recovery
	require.Less(w.t, show("Amplification"), 0.7)
	require.Less(w.t, show("Succeeded now"), 0.05)
	found := w.must(g, b.of(w.t, "Exhausted and not retryable"), "A")
	require.True(w.t, slices.ContainsFunc(found, func(s prometheus.Series) bool { return s.Labels["resilience_retry_outcome"] == "exhausted" }))
}
