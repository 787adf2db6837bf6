package e2e

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/liveres"
	"github.com/breakwater-go/breakwater/resilience"
)

// server is an HTTP server that can be stopped and started again at its address.
type server struct {
	t    *testing.T
	host string
	http *http.Server
	done chan struct{}
}

func newServer(t *testing.T, h http.Handler) *server {
	t.Helper()
	s := &server{t: t, host: "127.0.0.1:0"}
	s.start(h)
	t.Cleanup(s.stop)
	return s
}

func (s *server) start(h http.Handler) {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.host)
	require.NoError(s.t, err)
	s.host = listener.Addr().String()
	s.http = &http.Server{Handler: h}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		_ = s.http.Serve(listener)
	}()
}

func (s *server) stop() {
	_ = s.http.Close()
	<-s.done
}

// mount returns a handler with the page under a prefix.
func mount(l *liveres.Live) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/debug/circuits/", l)
	return mux
}

func address(host string) string { return "http://" + host + "/debug/circuits/" }

// unreachable is an error that names its type.
type unreachable struct{ host string }

func (e unreachable) Error() string   { return e.host + " is unreachable" }
func (unreachable) ErrorType() string { return "connection_refused" }

// dependency is something that is called through a breaker and a retry, and that
// can be out of order.
type dependency struct {
	name    string
	breaker *resilience.CircuitBreaker
	retrier *resilience.Retrier

	failing atomic.Int64 // in per mille
	took    atomic.Int64 // typical duration of a call
}

func newDependency(l *liveres.Live, config resilience.CircuitBreakerConfig) *dependency {
	config.Events = l.Sink()
	d := &dependency{
		name:    config.Name,
		breaker: resilience.NewCircuitBreaker(&config),
		retrier: resilience.NewRetrier(&resilience.RetryConfig{
			Name: config.Name, InitialDelay: 60 * time.Millisecond, MaxDelay: 400 * time.Millisecond,
			JitterEnabled: true, Events: l.Sink(),
		}),
	}
	d.took.Store(int64(12 * time.Millisecond))
	return d
}

func (d *dependency) call(ctx context.Context) error {
	return d.retrier.Run(ctx, func(ctx context.Context) error {
		return d.breaker.Run(ctx, func(context.Context) error {
			time.Sleep(time.Duration(float64(d.took.Load()) * (0.5 + rand.ExpFloat64()/2)))
			if rand.Int64N(1000) < d.failing.Load() {
				return unreachable{d.name}
			}
			return nil
		})
	})
}

// drive calls a dependency about so often a second, until the test ends.
func (d *dependency) drive(t *testing.T, perSecond float64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var calls sync.WaitGroup
	calls.Go(func() {
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(rand.ExpFloat64() / perSecond * float64(time.Second))):
				calls.Go(func() { _ = d.call(ctx) })
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		calls.Wait()
	})
}
