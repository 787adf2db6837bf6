package otelres_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// documented is TELEMETRY.md as a reader takes it: tables by heading, each row by
// its first cell, with the cells' code quotes taken off.
type documented map[string]map[string][]string

func readDocument(t *testing.T) documented {
	t.Helper()
	text, err := os.ReadFile("TELEMETRY.md")
	require.NoError(t, err)
	doc, heading := make(documented), ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			heading = strings.TrimLeft(line, "# ")
			doc[heading] = make(map[string][]string)
			continue
		}
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(c), "`", "")
		}
		doc[heading][cells[0]] = cells
	}
	for _, h := range []string{"Metrics", "Spans", "Events", "Attributes"} {
		for _, name := range []string{"Metric", "Span", "Event", "Attribute"} {
			delete(doc[h], name) // the header
		}
		require.NotEmpty(t, doc[h], h)
	}
	return doc
}

func list(cell string) []string { return strings.Split(cell, ", ") }

// checkAttribute fails unless the attribute is as documented.
func (d documented) checkAttribute(t *testing.T, where string, kv attribute.KeyValue) {
	t.Helper()
	row := d["Attributes"][string(kv.Key)]
	require.NotNil(t, row, "%s: %s", where, kv.Key)
	require.Equal(t, row[2], strings.ToLower(kv.Value.Type().String()), "%s: type of %s", where, kv.Key)
	if row[4] != "any" {
		require.Contains(t, list(row[4]), kv.Value.String(), "%s: value of %s", where, kv.Key)
	}
}

// everythingHappens makes each metric, span, event and attribute there is.
func everythingHappens(t *testing.T, k *kit) {
	t.Helper()
	ctx, root := k.tracers.Tracer("application").Start(t.Context(), "POST /orders")
	defer root.End()
	everyPolicyHappens(ctx, k.sink) // first, since it takes a while and windows forget
	b := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		Name: "gateway", VolumeThreshold: 2, HalfOpenRequests: 1, SleepWindow: time.Second, Events: k.sink,
	})
	r := func(c resilience.RetryConfig) *resilience.Retrier {
		c.Name, c.Events = "payment", k.sink
		return resilience.NewRetrier(&c)
	}
	down := func(context.Context) error { return errDown }
	_ = r(resilience.RetryConfig{}).Run(ctx, func(ctx context.Context) error { return b.Run(ctx, failTimes(0)) })
	_ = r(resilience.RetryConfig{}).Run(ctx, failTimes(1))
	_ = r(resilience.RetryConfig{RetryIf: func(error) bool { return true }}).Run(ctx, func(ctx context.Context) error { return b.Run(ctx, down) })
	_ = r(resilience.RetryConfig{}).Run(ctx, func(ctx context.Context) error { return b.Run(ctx, down) })
	_ = r(resilience.RetryConfig{}).Run(ctx, func(context.Context) error { return resilience.Ignore(errDown) })
	_ = r(resilience.RetryConfig{}).Run(ctx, func(context.Context) error { return resilience.RetryAfter(errDown, time.Hour) })
	func() {
		defer func() { _ = recover() }()
		_ = r(resilience.RetryConfig{}).Run(ctx, func(context.Context) error { panic("boom") })
	}()
	deadline, cancel := context.WithTimeout(ctx, time.Millisecond)
	_ = r(resilience.RetryConfig{}).Run(deadline, down)
	cancel()
	canceled, cancel := context.WithCancel(ctx)
	_ = r(resilience.RetryConfig{}).Run(canceled, func(context.Context) error { cancel(); return context.Canceled })
	_ = b.Run(ctx, func(context.Context) error { return resilience.Ignore(errDown) })
	time.Sleep(2 * time.Second)
	synctest.Wait()
	succeed(b, 1)
	_ = b.Run(ctx, func(context.Context) error { return resilience.Ignore(errDown) })
	succeed(b, 2)
	b.ForceOpen()
	_ = b.Run(ctx, down)
	b.ClearForce()
	b.ForceClosed()
	b.Reset()
	succeed(b, 3)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.Run(ctx, func(context.Context) error { runtime.Goexit(); return nil })
	}()
	<-ended
	budget := resilience.NewRetryBudget(&resilience.BudgetConfig{Name: "shop", Ratio: 1e-9, MinPerSecond: 0.1, Events: k.sink})
	_ = r(resilience.RetryConfig{InitialDelay: 1, Budget: budget}).Run(ctx, down)
	shadow := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "gateway", VolumeThreshold: 1, Shadow: true, Events: k.sink})
	_ = shadow.Run(ctx, down)
	_ = shadow.Run(ctx, down)
}

// everyPolicyHappens is everythingHappens for the policies besides breaker and retry.
func everyPolicyHappens(ctx context.Context, sink events.Sink) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	work := func(d time.Duration, err error) func(context.Context) error {
		return func(ctx context.Context) error {
			select {
			case <-time.After(d):
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	_ = resilience.NewTimeout(&resilience.TimeoutConfig{Name: "payment", Limit: time.Second, Events: sink}).Run(ctx, hang)

	b := resilience.NewBulkhead(&resilience.BulkheadConfig{
		Name: "payment", MaxConcurrent: 1, MaxQueue: 2, MaxWait: time.Second, Events: sink,
	})
	var wg sync.WaitGroup
	hasty, cancel := context.WithTimeout(ctx, time.Second/4)
	for _, c := range []context.Context{ctx, ctx, hasty, ctx} { // runs, waits, gives up, finds it full
		wg.Go(func() { _ = b.Run(c, work(time.Second/2, nil)) })
		synctest.Wait()
	}
	wg.Wait()
	cancel()
	for range 2 { // the second waits in vain
		wg.Go(func() { _ = b.Run(ctx, work(time.Minute, nil)) })
		synctest.Wait()
	}
	wg.Wait()

	tokens := make(tokens, 1)
	for _, wait := range []bool{false, true} {
		c := &resilience.RateLimitConfig{Name: "payment", Events: sink}
		if wait {
			c.Wait = tokens
			time.AfterFunc(time.Second, func() { tokens <- struct{}{} })
		} else {
			c.Allow = tokens
		}
		l := resilience.NewRateLimit(c)
		_ = l.Run(ctx, work(0, nil))
		hasty, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
		_ = l.Run(hasty, work(0, nil))
		cancel()
	}

	for _, err := range []error{nil, errDown} {
		f := resilience.NewFallback(&resilience.FallbackConfig[struct{}]{
			Name: "payment", Events: sink, Value: func(context.Context, error) (struct{}, error) { return struct{}{}, err },
		})
		_ = f.Run(ctx, work(0, errDown))
	}

	full := &resilience.BulkheadFullError{}
	for _, attempts := range [][2]func(context.Context) error{
		{hang, work(0, nil)},
		{work(1500*time.Millisecond, nil), hang},
		{work(1500*time.Millisecond, errDown), work(time.Second, errDown)},
		{work(1500*time.Millisecond, full), work(time.Second, full)},
	} {
		h := resilience.NewHedge(&resilience.HedgeConfig{Name: "payment", Delay: time.Second, Events: sink})
		var n atomic.Int32
		_ = h.Run(ctx, func(ctx context.Context) error { return attempts[n.Add(1)-1](ctx) })
	}
}

// tokens is a limiter with as many tokens as are in the channel.
type tokens chan struct{}

func (t tokens) Allow() bool {
	select {
	case <-t:
		return true
	default:
		return false
	}
}

func (t tokens) Wait(ctx context.Context) error {
	select {
	case <-t:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestDocumentTellsTheTruth compares TELEMETRY.md with what arrives at the SDK: all
// of what arrives is documented, as what it is, and all that is documented arrives.
func TestDocumentTellsTheTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		doc := readDocument(t)
		loggers, records := newLogs(0)
		k := newKit(t, otelres.WithLoggerProvider(loggers), otelres.WithEvents(otelres.Both), otelres.WithBreakerSpans())
		everythingHappens(t, k)
		rm := k.collect(t)

		seen := make(map[string]map[string]bool) // attributes by what they are on
		see := func(on string, allowed []string, kv attribute.KeyValue) {
			require.Contains(t, allowed, string(kv.Key), on)
			doc.checkAttribute(t, on, kv)
			if seen[on] == nil {
				seen[on] = make(map[string]bool)
			}
			seen[on][string(kv.Key)] = true
		}
		complete := func(on string, allowed []string) {
			for _, key := range allowed {
				require.True(t, seen[on][key], "%s never had %s", on, key)
			}
		}

		for _, scope := range rm.ScopeMetrics {
			for _, m := range scope.Metrics {
				row := doc["Metrics"][m.Name]
				require.NotNil(t, row, m.Name)
				require.Equal(t, row[2], instrumentOf(m), m.Name)
				require.Equal(t, row[3], m.Unit, m.Name)
				require.Equal(t, row[5], m.Description, m.Name)
			}
		}
		sets := make(map[string]int)
		eachPoint(rm, func(m metricdata.Metrics, attrs attribute.Set) {
			sets[m.Name]++
			require.Len(t, list(doc["Metrics"][m.Name][4]), attrs.Len(), m.Name)
			for _, kv := range attrs.ToSlice() {
				see(m.Name, list(doc["Metrics"][m.Name][4]), kv)
			}
		})
		for name, row := range doc["Metrics"] {
			complete(name, list(row[4]))
		}
		require.Equal(t, sets[mTransitions], 17)

		for _, s := range k.spans.Ended() {
			kind, name, _ := strings.Cut(s.Name(), " ")
			on := kind + " {name}"
			if kind == "POST" {
				on = "(the current span)"
			} else {
				require.Contains(t, []string{"payment", "gateway"}, name)
			}
			const current = "(the current span)"
			for _, kv := range s.Attributes() {
				if on == "attempt {name}" && slices.Contains(list(doc["Spans"][current][1]), string(kv.Key)) {
					see(current, list(doc["Spans"][current][1]), kv) // a breaker ran in it
					continue
				}
				see(on, list(doc["Spans"][on][1]), kv)
			}
			for _, e := range s.Events() {
				row := doc["Events"][e.Name]
				require.Contains(t, row[6], "span", e.Name)
				for _, kv := range e.Attributes {
					see("event "+e.Name, list(row[1]), kv)
				}
			}
		}
		for _, r := range records.all() {
			row := doc["Events"][r.EventName()]
			require.Contains(t, row[6], "log", r.EventName())
			require.Contains(t, row[2], r.SeverityText(), r.EventName())
			walk(r, func(kv attribute.KeyValue) { see("log "+r.EventName(), list(row[1]), kv) })
		}
		for name, row := range doc["Spans"] {
			complete(name, list(row[1]))
		}
		for name, row := range doc["Events"] {
			complete("log "+name, list(row[1]))
			if strings.Contains(row[6], "span") {
				complete("event "+name, list(row[1]))
			}
		}

		// Every value of the closed sets in metrics occurs.
		for _, name := range []string{
			mStatus, mTransitions, mCalls, mOperations, mAttempts,
			mBulkheadCalls, mBulkheadWait, mRateLimited, mFallbackUsed, mHedgeAttempts,
		} {
			for _, key := range list(doc["Metrics"][name][4]) {
				values := list(doc["Attributes"][key][4])
				if values[0] == "any" {
					continue
				}
				if name == mTransitions { // those in shadow mode are not counted
					values = slices.DeleteFunc(values, func(s string) bool { return strings.HasPrefix(s, "shadow_") })
				}
				var got []string
				eachPoint(rm, func(m metricdata.Metrics, attrs attribute.Set) {
					if v, ok := attrs.Value(attribute.Key(key)); ok && m.Name == name && !slices.Contains(got, v.AsString()) {
						got = append(got, v.AsString())
					}
				})
				require.ElementsMatch(t, values, got, "%s: %s", name, key)
			}
		}
	})
}

func walk(r sdklog.Record, f func(attribute.KeyValue)) {
	r.WalkAttributes(func(kv attribute.KeyValue) bool { f(kv); return true })
}

// instrumentOf names the instrument that a metric comes from, as far as data tells.
func instrumentOf(m metricdata.Metrics) string {
	observable := ""
	if slices.Contains(observedOnly, m.Name) || slices.Contains(observedOfBulkheads, m.Name) {
		observable = "Observable"
	}
	sum := func(monotonic bool) string {
		if monotonic {
			return observable + "Counter"
		}
		return observable + "UpDownCounter"
	}
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		return "int64 " + sum(data.IsMonotonic)
	case metricdata.Sum[float64]:
		return "float64 " + sum(data.IsMonotonic)
	case metricdata.Gauge[float64]:
		return "float64 " + observable + "Gauge"
	case metricdata.Histogram[float64]:
		return "float64 Histogram"
	default:
		return fmt.Sprintf("%T", data)
	}
}
