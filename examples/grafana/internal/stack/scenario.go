package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Deployment is a stack that can be put through the scenario.
type Deployment interface {
	// Up starts all services but the demo and waits until they are ready.
	Up(ctx context.Context) error

	// URL returns where a port of a service is.
	URL(ctx context.Context, service, port string) (string, error)

	// Running returns an error if a service that should run does not.
	Running() error

	// StartDemo starts the demo, with the scripted outage.
	StartDemo(ctx context.Context) error

	// DemoLog returns what the demo has told people so far.
	DemoLog(ctx context.Context) (string, error)

	// StopDemo has the demo end in good order and returns its summary, which is JSON.
	StopDemo(ctx context.Context) ([]byte, error)

	// StopCollector stops the collector, StartCollector starts it again and waits
	// until it is ready.
	StopCollector(ctx context.Context) error
	StartCollector(ctx context.Context) error

	// Close stops everything. Nothing is left of it when it returns nil.
	Close() error
}

// Pace is how much faster than in production everything is.
type Pace struct {
	Minute time.Duration // what a minute in the rules is
	Export time.Duration // between two exports of metrics
	Phases string        // of the demo's outage
}

// Scale is what durations in rules are multiplied with.
func (p Pace) Scale() float64 { return p.Minute.Minutes() }

// Quick is the pace of the tests, Real that of production and of docker-compose.yml. The
// last phase ends when there is nothing left to see.
var (
	Quick = Pace{
		Minute: 1500 * time.Millisecond,
		Export: 500 * time.Millisecond,
		Phases: "healthy=3s,flaky=7s,outage=18s,recovery=10m",
	}
	Real = Pace{
		Minute: time.Minute,
		Export: 10 * time.Second,
		Phases: "healthy=1m,flaky=1m,outage=12m,recovery=2h",
	}
)

// minutes returns how long something may take that takes n minutes of the rules.
func (p Pace) minutes(n int) time.Duration { return 30*time.Second + time.Duration(n)*p.Minute }

// The services of the demo, and the circuit that is put through an outage.
const (
	orderJob = "order"
	payment  = "payment"
)

// Scenario puts a stack through an outage and returns what is not as it should be.
type Scenario struct {
	Stack    Deployment
	Pace     Pace
	Progress *Progress

	prometheus   prometheus
	jaeger       jaeger
	alertmanager alertmanager
}

// Play starts the stack, plays the scenario and stops everything.
func (s *Scenario) Play(ctx context.Context) (err error) {
	defer func() {
		end := time.Now()
		if closing := s.Stack.Close(); closing != nil {
			err = errors.Join(err, closing)
		} else {
			s.Progress.Done("everything is stopped, which took %.1f s", time.Since(end).Seconds())
		}
	}()
	s.Progress.Title("start")
	if err := s.up(ctx); err != nil {
		return err
	}
	collector, err := s.Stack.URL(ctx, "collector", "4318")
	if err != nil {
		return err
	}
	nobody, err := openIdle(ctx, collector, s.Pace.Export)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = nobody.close(closing) // a stopped scenario may have no collector any more
	}()
	if err := s.Stack.StartDemo(ctx); err != nil {
		return err
	}
	s.Progress.Title("outage: %s; a minute of the rules is %v, metrics are exported every %v", s.Pace.Phases, s.Pace.Minute, s.Pace.Export)
	for _, step := range []func(context.Context) error{
		s.metricsArrive,
		s.pageIsSent,
		s.retriedTrace,
		s.exemplars,
		s.idleIsTold,
		s.pageIsResolved,
		s.nobodyIsWokenForIdle,
		s.rulesAreHealthy,
		s.collectorOutage,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return s.counts(ctx)
}

func (s *Scenario) up(ctx context.Context) error {
	begun := time.Now()
	if err := s.Stack.Up(ctx); err != nil {
		return err
	}
	for service, at := range map[string]struct {
		port string
		url  *string
	}{
		"prometheus":   {"9090", &s.prometheus.url},
		"jaeger":       {"16686", &s.jaeger.url},
		"alertmanager": {"9093", &s.alertmanager.url},
	} {
		url, err := s.Stack.URL(ctx, service, at.port)
		if err != nil {
			return err
		}
		*at.url = url
	}
	s.Progress.Done("collector, Prometheus, Alertmanager and Jaeger are ready after %.1f s", time.Since(begun).Seconds())
	return nil
}

// wait waits for try to succeed, and says what it was that did not happen if it does not.
func (s *Scenario) wait(ctx context.Context, within time.Duration, what string, try func() error) error {
	if err := until(ctx, within, s.Stack.Running, try); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// metricsArrive checks that the metrics of the demo and of the collector are there, each
// once.
func (s *Scenario) metricsArrive(ctx context.Context) error {
	const once = `sum by (resilience_circuit_breaker_name) (resilience_circuit_breaker_status{job="order"})`
	err := s.wait(ctx, s.Pace.minutes(1), "the metrics of the demo arrive in Prometheus", func() error {
		circuits, err := s.prometheus.sums(ctx, "resilience_circuit_breaker_name", once)
		if err == nil && len(circuits) < 3 {
			err = fmt.Errorf("there are the circuits %v, want three", slices.Sorted(maps.Keys(circuits)))
		}
		for name, n := range circuits {
			if n != 1 { // two if the series came by two ways
				err = errors.Join(err, fmt.Errorf("circuit %s is there %v times", name, n))
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	s.Progress.Done("the metrics of three circuits are in Prometheus, each once")
	err = s.wait(ctx, 30*time.Second, "the collector's own metrics arrive in Prometheus", func() error {
		found, err := s.prometheus.query(ctx, `count({__name__=~"otelcol_exporter_sent_metric_points.*", job="collector"})`)
		if err == nil && len(found) == 0 {
			err = errors.New("there are none")
		}
		return err
	})
	if err == nil {
		s.Progress.Done("the collector's own metrics are in Prometheus, as job collector")
	}
	return err
}

// firing returns an error while an alert does not fire in Prometheus.
func (s *Scenario) firing(ctx context.Context, name, job, circuit string) error {
	found, err := s.prometheus.query(ctx, fmt.Sprintf(
		`ALERTS{alertname=%q, job=%q, resilience_circuit_breaker_name=%q, alertstate="firing"}`, name, job, circuit))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s does not fire for the circuit %s of %s", name, circuit, job)
	}
	return err
}

// logged returns an error while there is no line in the demo's log with all the words.
func (s *Scenario) logged(ctx context.Context, words ...string) error {
	log, err := s.Stack.DemoLog(ctx)
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(log, "\n") {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return nil
		}
	}
	return fmt.Errorf("no line in the log of the demo has %s", strings.Join(words, " and "))
}

// What a line of the demo's log has that tells of what Alertmanager sent. The demo
// evaluates the rules itself as well, and tells of that in lines of another subject.
const (
	told         = "webhook"
	toldFiring   = "FIRING"
	toldResolved = "resolved"
	toldName     = "CircuitOpenTooLong {"
	toldCircuit  = `resilience_circuit_breaker_name="payment"`
)

func (s *Scenario) pageIsSent(ctx context.Context) error {
	err := s.wait(ctx, s.Pace.minutes(20), "the alert for the open circuit", func() error {
		return s.firing(ctx, "CircuitOpenTooLong", orderJob, payment)
	})
	if err != nil {
		return err
	}
	s.Progress.Done("CircuitOpenTooLong fires for payment")
	fired := time.Now()
	err = s.wait(ctx, 30*time.Second, "the page reaches the webhook", func() error {
		return s.logged(ctx, told, toldFiring, toldName, toldCircuit)
	})
	if err == nil {
		s.Progress.Done("the page reached the webhook of the demo %.1f s later", time.Since(fired).Seconds())
	}
	return err
}

func (s *Scenario) pageIsResolved(ctx context.Context) error {
	err := s.wait(ctx, s.Pace.minutes(40), "the page is taken back", func() error {
		return s.logged(ctx, told, toldResolved, toldName, toldCircuit)
	})
	if err == nil {
		s.Progress.Done("payment recovered, and the webhook was told that the page is resolved")
	}
	return err
}

// idleIsTold checks that the circuit that nobody calls is an alert, for whoever looks.
func (s *Scenario) idleIsTold(ctx context.Context) error {
	err := s.wait(ctx, s.Pace.minutes(40), "the alert for the circuit nobody calls", func() error {
		return s.firing(ctx, "CircuitOpenIdle", idleJob, idleCircuit)
	})
	if err != nil {
		return err
	}
	err = s.wait(ctx, 30*time.Second, "Alertmanager has the alert for the circuit nobody calls", func() error {
		alerts, err := s.alertmanager.alerts(ctx)
		if err != nil {
			return err
		}
		for _, a := range alerts {
			if a.Labels["alertname"] != "CircuitOpenIdle" || a.Labels["job"] != idleJob {
				continue
			}
			if len(a.Receivers) != 1 || a.Receivers[0].Name != "nobody" {
				return fmt.Errorf("its receivers are %v, want nobody alone", a.Receivers)
			}
			return nil
		}
		return errors.New("it has not")
	})
	if err == nil {
		s.Progress.Done("CircuitOpenIdle fires for a circuit that nobody calls, and Alertmanager sends it to nobody")
	}
	return err
}

// nobodyIsWokenForIdle comes after the page for the other circuit was sent and taken
// back: there was time enough for one.
func (s *Scenario) nobodyIsWokenForIdle(ctx context.Context) error {
	log, err := s.Stack.DemoLog(ctx)
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(log, "\n") {
		if strings.Contains(line, "CircuitOpenIdle") || strings.Contains(line, idleCircuit) {
			return fmt.Errorf("the webhook was told of the circuit that nobody calls: %s", line)
		}
	}
	paged, err := s.prometheus.query(ctx, fmt.Sprintf(
		`count_over_time(ALERTS{severity="page", job=%q}[1h])`, idleJob))
	switch {
	case err != nil:
		return err
	case len(paged) > 0:
		return fmt.Errorf("a page for the circuit that nobody calls was on its way: %v", paged)
	}
	s.Progress.Done("nobody was paged for the circuit that nobody calls")
	return nil
}

// rulesAreHealthy checks that Prometheus could evaluate every rule.
func (s *Scenario) rulesAreHealthy(ctx context.Context) error {
	var data struct {
		Groups []struct {
			Name  string
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := s.prometheus.api(ctx, "rules", nil, &data); err != nil {
		return err
	}
	var errs []error
	n := 0
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			n++
			if r.Health != "ok" {
				errs = append(errs, fmt.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError))
			}
		}
	}
	if n == 0 {
		errs = append(errs, errors.New("there are no rules in Prometheus"))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.Progress.Done("Prometheus evaluates %d rules without an error", n)
	return nil
}

// retriedTrace checks a trace of an operation that was retried.
func (s *Scenario) retriedTrace(ctx context.Context) error {
	var about string
	err := s.wait(ctx, 30*time.Second, "a retried call in Jaeger", func() error {
		traces, err := s.jaeger.find(ctx, orderJob, "retry "+payment, map[string]string{"resilience.retry.outcome": "success_after_retry"})
		if err != nil {
			return err
		}
		if len(traces) == 0 {
			return errors.New("there is none that a retry saved")
		}
		// Spans of a trace come from several services, in several exports: the first one
		// that is complete will do.
		var errs []error
		for _, t := range traces {
			text, err := retried(t)
			if err == nil {
				about = text
				return nil
			}
			errs = append(errs, fmt.Errorf("trace %s: %w", t.ID, err))
		}
		return errors.Join(errs[:min(3, len(errs))]...)
	})
	if err == nil {
		s.Progress.Done("%s", about)
	}
	return err
}

// retried checks that a trace has an operation, its attempts below it, below each of
// them a client's span of the same service and below that a server's of the other one.
func retried(t trace) (string, error) {
	children := make(map[string][]span)
	for _, sp := range t.Spans {
		children[sp.parent()] = append(children[sp.parent()], sp)
	}
	service := func(sp span) string { return t.Processes[sp.Process].Service }
	for _, operation := range t.Spans {
		if operation.Operation != "retry "+payment || operation.tag("resilience.retry.outcome") != "success_after_retry" {
			continue
		}
		attempts := children[operation.ID]
		slices.SortFunc(attempts, func(x, y span) int { return cmp.Compare(x.Start, y.Start) })
		want := operation.tag("resilience.retry.attempt.count")
		switch {
		case service(operation) != orderJob:
			return "", fmt.Errorf("the operation is a span of %s", service(operation))
		case fmt.Sprint(len(attempts)) != want || len(attempts) < 2:
			return "", fmt.Errorf("the operation has %d spans below it, and says %s attempts", len(attempts), want)
		}
		served := 0
		for i, attempt := range attempts {
			if attempt.Operation != "attempt "+payment || attempt.tag("resilience.retry.attempt.number") != fmt.Sprint(i+1) {
				return "", fmt.Errorf("below the operation is %q with number %s, want attempt %d", attempt.Operation, attempt.tag("resilience.retry.attempt.number"), i+1)
			}
			requests := children[attempt.ID]
			if len(requests) != 1 || requests[0].kind() != "client" || service(requests[0]) != orderJob {
				return "", fmt.Errorf("below attempt %d are %d spans, want one of kind client", i+1, len(requests))
			}
			answers := children[requests[0].ID]
			if len(answers) != 1 || answers[0].kind() != "server" || service(answers[0]) != payment {
				return "", fmt.Errorf("below the request of attempt %d are %d spans, want one of kind server, of payment", i+1, len(answers))
			}
			served++
		}
		return fmt.Sprintf("trace %s in Jaeger: %q has %d attempts, each with the client's span below it, and below that the server's",
			t.ID, operation.Operation, served), nil
	}
	return "", errors.New("the operation is not there yet")
}

// exemplars checks that an exemplar of each duration leads to a trace.
func (s *Scenario) exemplars(ctx context.Context) error {
	for _, metric := range []string{"resilience_retry_operation_duration_seconds", "resilience_circuit_breaker_call_duration_seconds"} {
		var found string
		err := s.wait(ctx, 30*time.Second, "an exemplar of "+metric, func() error {
			ids, err := s.prometheus.exemplars(ctx, fmt.Sprintf(`{__name__=~"%s(_bucket)?", job=%q}`, metric, orderJob))
			if err != nil {
				return err
			}
			if len(ids) == 0 {
				return errors.New("there is none")
			}
			for _, id := range ids[:min(20, len(ids))] {
				t, err := s.jaeger.trace(ctx, id)
				if errors.Is(err, errNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				found = fmt.Sprintf("an exemplar of %s leads to trace %s in Jaeger, of %d spans", metric, id, len(t.Spans))
				return nil
			}
			return fmt.Errorf("none of %d leads to a trace in Jaeger", len(ids))
		})
		if err != nil {
			return err
		}
		s.Progress.Done("%s", found)
	}
	return nil
}

// collectorOutage stops the collector for long enough that metrics are missing.
func (s *Scenario) collectorOutage(ctx context.Context) error {
	const calls = `sum(resilience_circuit_breaker_calls_total{job="order"})`
	before, err := s.prometheus.query(ctx, calls)
	if err != nil {
		return err
	}
	if err := s.Stack.StopCollector(ctx); err != nil {
		return err
	}
	down := max(8*time.Second, 10*s.Pace.Export)
	begun := time.Now()
	s.Progress.Say("the collector is down for %v", down)
	select {
	case <-time.After(down):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := s.Stack.StartCollector(ctx); err != nil {
		return err
	}
	err = s.wait(ctx, 60*time.Second, "metrics arrive again after the collector was down", func() error {
		after, err := s.prometheus.query(ctx, calls)
		if err != nil {
			return err
		}
		if len(before) != 1 || len(after) != 1 || after[0].value <= before[0].value {
			return fmt.Errorf("calls were %v before and are %v", before, after)
		}
		return nil
	})
	if err != nil {
		return err
	}
	gap, err := s.prometheus.gap(ctx, `resilience_circuit_breaker_status{job="order", resilience_circuit_breaker_name="payment"}`, time.Since(begun)+5*time.Second)
	switch {
	case err != nil:
		return err
	case gap < down-s.Pace.Export:
		return fmt.Errorf("the longest gap in the metrics is %v: they arrived without the collector, which was down for %v", gap, down)
	}
	s.Progress.Done("metrics arrive again; there is a gap of %.1f s in them", gap.Seconds())
	return nil
}

// summary is what is used of the demo's closing summary: the engine's own figures.
type summary struct {
	Circuits []circuit `json:"circuits"`
}

type circuit struct {
	Name       string             `json:"name"`
	Succeeded  float64            `json:"succeeded"`
	Failed     float64            `json:"failed"`
	Ignored    float64            `json:"ignored"`
	Rejected   float64            `json:"rejected"`
	Time       map[string]float64 `json:"time"`
	Operations map[string]float64 `json:"operations"`
	Changes    []struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"changes"`
}

// counts stops the demo and compares what it counted with what Prometheus has.
func (s *Scenario) counts(ctx context.Context) error {
	s.Progress.Title("totals")
	out, err := s.Stack.StopDemo(ctx)
	if err != nil {
		return err
	}
	var engine summary
	if err := json.Unmarshal(out, &engine); err != nil {
		return fmt.Errorf("the demo's summary: %w: %s", err, out)
	}
	if len(engine.Circuits) != 3 {
		return fmt.Errorf("the demo's summary has %d circuits, want 3", len(engine.Circuits))
	}
	// The collector has what was sent, and passes it on within a moment.
	var lines []string
	err = s.wait(ctx, 15*time.Second, "Prometheus has what the engine counted", func() error {
		lines = nil
		var errs []error
		for _, c := range engine.Circuits {
			text, err := s.compare(ctx, c)
			lines, errs = append(lines, text), append(errs, err)
		}
		return errors.Join(errs...)
	})
	for _, line := range lines {
		if err == nil {
			s.Progress.Done("%s", line)
		}
	}
	return err
}

// compare compares one circuit.
func (s *Scenario) compare(ctx context.Context, c circuit) (string, error) {
	// The last value of each, however long ago it came: nothing comes any more.
	last := func(metric, label string) string {
		return fmt.Sprintf("last_over_time(%s{job=%q, %s=%q}[1h])", metric, orderJob, label, c.Name)
	}
	const breakerName, retryName = "resilience_circuit_breaker_name", "resilience_retry_name"
	times, err1 := s.prometheus.sums(ctx, "resilience_circuit_breaker_state", last("resilience_circuit_breaker_time_seconds_total", breakerName))
	calls, err2 := s.prometheus.sums(ctx, "resilience_circuit_breaker_call_outcome", last("resilience_circuit_breaker_calls_total", breakerName))
	operations, err3 := s.prometheus.sums(ctx, "resilience_retry_outcome", last("resilience_retry_operations_total", retryName))
	changes, err4 := s.prometheus.sums(ctx, "", last("resilience_circuit_breaker_transitions_total", breakerName))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return "", err
	}
	var errs []error
	var furthest float64
	for state, engine := range c.Time {
		off := math.Abs(times[state] - engine)
		furthest = max(furthest, off)
		if off > s.Pace.Export.Seconds() {
			errs = append(errs, fmt.Errorf("%s was %s for %.3f s by the engine and %.3f s by Prometheus", c.Name, state, engine, times[state]))
		}
	}
	equal := func(what string, engine, there float64) {
		if engine != there {
			errs = append(errs, fmt.Errorf("%s: %v %s by the engine and %v by Prometheus", c.Name, engine, what, there))
		}
	}
	equal("successes", c.Succeeded, calls["success"])
	equal("failures", c.Failed, calls["failure"])
	equal("ignored calls", c.Ignored, calls["ignored"])
	equal("rejections", c.Rejected, calls["rejected"])
	equal("state changes", float64(len(c.Changes)), changes[""])
	var operationsEngine, operationsThere float64
	for _, n := range c.Operations {
		operationsEngine += n
	}
	for _, n := range operations {
		operationsThere += n
	}
	equal("retried operations", operationsEngine, operationsThere)
	equal("operations that a retry saved", c.Operations["success_after_retry"], operations["success_after_retry"])
	equal("operations without an attempt left", c.Operations["exhausted"], operations["exhausted"])
	switch {
	case c.Succeeded == 0:
		errs = append(errs, fmt.Errorf("%s: no call succeeded", c.Name))
	case c.Name == payment && (c.Rejected == 0 || c.Time["open"] == 0 || c.Operations["success_after_retry"] == 0):
		errs = append(errs, fmt.Errorf("%s: the outage left no trace in %+v", c.Name, c))
	}
	return fmt.Sprintf("%s: %.0f calls, %.0f operations and %d state changes are the same; time in each state is off by %.3f s at most (open: %.3f s)",
		c.Name, c.Succeeded+c.Failed+c.Ignored+c.Rejected, operationsEngine, len(c.Changes), furthest, c.Time["open"]), errors.Join(errs...)
}
