package otelres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/otelres"
	"github.com/breakwater-go/breakwater/resilience"
)

// Two readers collect in a loop while breakers are born, used and closed, retries
// run, and at last the Telemetry is shut down. No sum goes backwards meanwhile.
func TestCollectionInALoop(t *testing.T) {
	readers := []*sdkmetric.ManualReader{sdkmetric.NewManualReader(), sdkmetric.NewManualReader()}
	k := newKit(t, otelres.WithBreakerSpans(), otelres.WithNameLimit(3), otelres.WithMeterProvider(
		sdkmetric.NewMeterProvider(sdkmetric.WithReader(readers[0]), sdkmetric.WithReader(readers[1]))))
	lasting := breaker(k, "gateway") // the name lives on
	stop := make(chan struct{})
	var work, collectors sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			for i := range 150 {
				b := breaker(k, []string{"gateway", "a", "b", "c", fmt.Sprint(i)}[(w+i)%5])
				use(b)
				b.Reset()
				_ = resilience.NewRetrier(&resilience.RetryConfig{Name: fmt.Sprint("retry-", i%5), InitialDelay: time.Nanosecond, Events: k.sink}).
					Run(context.Background(), func(ctx context.Context) error { return b.Run(ctx, func(context.Context) error { return errDown }) })
				b.Close()
				succeed(lasting, 1)
			}
		})
	}
	for _, r := range readers {
		collectors.Go(func() {
			last := make(map[string]float64)
			for {
				rm := new(metricdata.ResourceMetrics)
				_ = r.Collect(context.Background(), rm)
				for _, name := range []string{mCalls, mTime} {
					for label, v := range pick(series(rm, name), "gateway") {
						if v < last[name+label] {
							t.Errorf("%s{%s} went from %v to %v", name, label, last[name+label], v)
						}
						last[name+label] = v
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	work.Wait()
	rm := collect(t, readers[0])
	points(t, rm)
	// 600 breakers of five names by turns, 120 of them gateway, and 600 calls of the lasting one.
	require.Equal(t, 600+120., series(rm, mCalls)["outcome=success,name=gateway"])
	more := make(chan struct{})
	go func() {
		defer close(more)
		for range 50 {
			b := breaker(k, "gateway")
			use(b)
			b.Close()
		}
	}()
	require.NoError(t, k.Shutdown(t.Context()))
	<-more
	close(stop)
	collectors.Wait()
	require.Empty(t, series(collect(t, readers[1]), mStatus))
}

// A collection that hangs within this package's own callback, which no breaker
// makes it do, still blocks no call: calls take none of its locks.
func TestHangingCollectionBlocksNoCall(t *testing.T) {
	k := newKit(t)
	b := breaker(k, "gateway")
	hanging, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	// The breaker's own snapshot, taken within the callback, hangs the collection
	// while the registry is being read.
	k.sink.BreakerCreated(t.Context(), events.BreakerCreated{
		Header: events.Header{Name: "slow", ID: 1 << 40},
		Snapshot: func() events.Snapshot {
			close(hanging)
			<-release
			return events.Snapshot{LastClosed: time.Now()}
		},
	})
	go func() {
		defer close(done)
		_ = k.reader.Collect(context.Background(), new(metricdata.ResourceMetrics))
	}()
	<-hanging
	use(b) // every kind of call, and a change of state
	_ = retrier(k.sink).Run(t.Context(), func(context.Context) error { return nil })
	close(release)
	<-done
}
