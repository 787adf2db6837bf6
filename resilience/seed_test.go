// The snippets are kept as their author printed them, older idioms included.
//
//nolint:errcheck,modernize,revive // see above
package resilience_test

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	zap "log/slog" // has all of zap that the seed uses: Logger, Error, Info and Any
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// This file holds every Go snippet of the document that the package was designed
// after, in its order, and asserts what the text around it promises. Between the
// marks snippets differ from the document in this alone: core.ErrCircuitBreakerOpen
// is resilience.ErrCircuitBreakerOpen, gofmt has aligned the comments, and what go
// vet refuses or no library offers is changed where a comment says so. Names that
// the snippets use and do not declare are parameters, or declared around them.

// —— Quick Start ——

func seedBasicCircuitBreaker(ctx context.Context, callPaymentService, fallbackPaymentMethod func() error) error {
	// <snippet>
	// Create a circuit breaker with default production settings
	config := resilience.DefaultConfig()
	config.Name = "payment-service"
	cb := resilience.NewCircuitBreaker(config)

	// Wrap any fallible operation
	err := cb.Execute(ctx, func() error {
		return callPaymentService()
	})

	if err != nil {
		if errors.Is(err, resilience.ErrCircuitBreakerOpen) {
			// Circuit is open - service is down
			return fallbackPaymentMethod()
		}
		// Handle other errors
	}
	// </snippet>
	return err
}

func TestSeedQuickStartBasicCircuitBreaker(t *testing.T) {
	fallback := errors.New("paid by the fallback")
	pay := func(err error) error {
		return seedBasicCircuitBreaker(t.Context(), func() error { return err }, func() error { return fallback })
	}
	require.NoError(t, pay(nil))
	require.Equal(t, errRefused, pay(errRefused))
	require.Equal(t, fallback, pay(&resilience.RejectedError{}), "a breaker further down is open")
}

func seedSmartRetry(ctx context.Context, fetchDataFromAPI func() error) error {
	// <snippet>
	// Configure retry behavior
	retryConfig := &resilience.RetryConfig{
		MaxAttempts:   3,
		InitialDelay:  100 * time.Millisecond,
		MaxDelay:      5 * time.Second,
		BackoffFactor: 2.0,  // Double delay each time
		JitterEnabled: true, // Prevent thundering herd
	}

	// Retry with exponential backoff
	err := resilience.Retry(ctx, retryConfig, func() error {
		return fetchDataFromAPI()
	})
	// </snippet>
	return err
}

func TestSeedQuickStartSmartRetryWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlaky(errRefused, errRefused)
		require.NoError(t, seedSmartRetry(t.Context(), f.run))
		require.Len(t, f.at, 3)
		require.LessOrEqual(t, f.at[1], 100*ms)
		require.LessOrEqual(t, f.at[2]-f.at[1], 200*ms)

		require.ErrorIs(t, seedSmartRetry(t.Context(), alwaysFails().run), errRefused)
	})
}

func seedCombining(ctx context.Context, retryConfig *resilience.RetryConfig, cb *resilience.CircuitBreaker, riskyOperation func() error) error {
	// <snippet>
	// Best of both worlds: retry with circuit breaker protection
	err := resilience.RetryWithCircuitBreaker(
		ctx,
		retryConfig,
		cb,
		func() error {
			return riskyOperation()
		},
	)
	// </snippet>
	return err
}

func TestSeedQuickStartCombiningCircuitBreakerAndRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{VolumeThreshold: 3, ErrorThreshold: 0.7})
		defer cb.Close()
		require.NoError(t, seedCombining(t.Context(), nil, cb, newFlaky(errRefused).run), "it retries")
		require.ErrorIs(t, seedCombining(t.Context(), nil, cb, alwaysFails().run), errRefused)
		f := alwaysFails()
		require.ErrorIs(t, seedCombining(t.Context(), nil, cb, f.run), resilience.ErrCircuitBreakerOpen)
		require.Empty(t, f.at, "it is protected")
	})
}

// —— How It Works ——

func TestSeedHowItWorksTheStateMachine(t *testing.T) {
	call := func(cb *resilience.CircuitBreaker, errs ...error) {
		for _, err := range errs {
			_ = cb.Execute(t.Context(), func() error { return err })
		}
	}
	opened := func(t *testing.T) *resilience.CircuitBreaker {
		cb := resilience.NewCircuitBreaker(nil)
		call(cb, slices.Repeat([]error{nil}, 6)...)
		call(cb, slices.Repeat([]error{errRefused}, 5)...)
		require.Equal(t, resilience.StateClosed, cb.State(), "error rate < 50%: stay closed")
		call(cb, errRefused)
		require.Equal(t, resilience.StateOpen, cb.State(), "error rate >= 50%: open")
		return cb
	}
	synctest.Test(t, func(t *testing.T) {
		cb := opened(t)
		defer cb.Close()
		for range 100 {
			require.ErrorIs(t, cb.Execute(t.Context(), func() error { t.Error("don't even try"); return nil }), resilience.ErrCircuitBreakerOpen)
		}
		time.Sleep(30*time.Second - 1)
		require.Equal(t, resilience.StateOpen, cb.State())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, resilience.StateHalfOpen, cb.State(), "after 30 seconds, without a call")
		call(cb, nil, errRefused, nil, errRefused)
		require.Equal(t, resilience.StateHalfOpen, cb.State())
		call(cb, nil)
		require.Equal(t, resilience.StateClosed, cb.State(), "60% succeed")
	})
	synctest.Test(t, func(t *testing.T) {
		cb := opened(t)
		defer cb.Close()
		time.Sleep(30 * time.Second)
		call(cb, nil, errRefused, nil, errRefused, errRefused)
		require.Equal(t, resilience.StateOpen, cb.State(), "if not, back to open")
	})
	synctest.Test(t, func(t *testing.T) {
		cb := opened(t)
		defer cb.Close()
		time.Sleep(30 * time.Second)
		for range 5 {
			_, err := cb.Acquire(t.Context())
			require.NoError(t, err)
		}
		require.ErrorIs(t, cb.Execute(t.Context(), succeed), resilience.ErrCircuitBreakerOpen, "allow 5 test requests through")
	})
}

func TestSeedSmartErrorClassification(t *testing.T) {
	for name, err := range map[string]error{
		"configuration":        resilience.DefaultConfig().Validate(),
		"configuration error":  (&resilience.RetryConfig{MaxAttempts: -1}).Validate(),
		"not found":            &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist},
		"context cancellation": fmt.Errorf("get: %w", context.Canceled),
		// What only the caller can know, it says.
		"404":           resilience.Ignore(errors.New("status 404")),
		"invalid state": fmt.Errorf("ship: %w", resilience.Ignore(errors.New("already shipped"))),
	} {
		require.False(t, resilience.DefaultErrorClassifier(err), name)
	}
	for name, err := range map[string]error{
		"network timeout":    &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded},
		"timeout":            context.DeadlineExceeded,
		"connection refused": &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		"500":                errors.New("server error: 500"),
		"database":           driver.ErrBadConn,
		"database, wrapped":  fmt.Errorf("query: %w", sql.ErrConnDone),
	} {
		require.True(t, resilience.DefaultErrorClassifier(err), name)
	}
}

func TestSeedTheSlidingWindowForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb := resilience.NewCircuitBreaker(nil)
		for range 9 {
			_ = cb.Execute(t.Context(), fail)
		}
		require.Equal(t, uint64(9), cb.GetStats().Window.Failure)
		time.Sleep(60 * time.Second)
		require.Zero(t, cb.GetStats().Window, "old segments automatically expire")
		_ = cb.Execute(t.Context(), fail)
		require.Equal(t, resilience.StateClosed, cb.State())
	})
}

// —— Advanced Configuration ——

var ErrUserInput = errors.New("user input")

func seedProductionReadyCircuitBreaker(myLogger resilience.Logger, prometheusCollector resilience.MetricsCollector) *resilience.CircuitBreaker {
	// <snippet>
	config := &resilience.CircuitBreakerConfig{
		// Identity
		Name: "user-service",

		// When to open (choose one approach)
		ErrorThreshold:  0.5, // Open at 50% error rate
		VolumeThreshold: 10,  // Need 10+ requests to evaluate

		// Recovery timing
		SleepWindow:      30 * time.Second, // Wait before half-open
		HalfOpenRequests: 5,                // Test requests in half-open
		SuccessThreshold: 0.6,              // 60% success to close

		// Metrics window
		WindowSize:  60 * time.Second, // Look at last minute
		BucketCount: 10,               // 10 buckets of 6 seconds each

		// Customize what counts as failure
		ErrorClassifier: func(err error) bool {
			// Only infrastructure errors count
			return !errors.Is(err, ErrUserInput)
		},

		// Observability
		Logger:  myLogger,
		Metrics: prometheusCollector,
	}

	cb := resilience.NewCircuitBreaker(config)
	// </snippet>
	return cb
}

func TestSeedProductionReadyCircuitBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb := seedProductionReadyCircuitBreaker(nil, nil)
		defer cb.Close()
		require.Equal(t, "user-service", cb.Name())
		for range 100 {
			err := cb.Execute(t.Context(), func() error { return fmt.Errorf("name: %w", ErrUserInput) })
			require.ErrorIs(t, err, ErrUserInput)
		}
		for range 9 {
			_ = cb.Execute(t.Context(), fail)
		}
		require.Equal(t, resilience.StateClosed, cb.State(), "needs 10+ requests to evaluate")
		_ = cb.Execute(t.Context(), fail)
		require.Equal(t, resilience.StateOpen, cb.State())
	})
}

func seedRetryStrategies() (_, _, _ *resilience.RetryConfig) {
	// <snippet>
	// Conservative retry (for critical operations)
	conservative := &resilience.RetryConfig{
		MaxAttempts:   2,
		InitialDelay:  1 * time.Second,
		MaxDelay:      5 * time.Second,
		BackoffFactor: 2.0,
		JitterEnabled: false, // Predictable timing
	}

	// Aggressive retry (for eventual consistency)
	aggressive := &resilience.RetryConfig{
		MaxAttempts:   5,
		InitialDelay:  50 * time.Millisecond,
		MaxDelay:      10 * time.Second,
		BackoffFactor: 3.0,
		JitterEnabled: true, // Prevent thundering herd
	}

	// No retry (for user-facing operations)
	noRetry := &resilience.RetryConfig{
		MaxAttempts: 1,
	}
	// </snippet>
	return conservative, aggressive, noRetry
}

func TestSeedRetryStrategies(t *testing.T) {
	conservative, aggressive, noRetry := seedRetryStrategies()
	refused := slices.Repeat([]error{errRefused}, 9)

	at, err := retried(t, conservative, refused...)
	require.ErrorIs(t, err, errRefused)
	require.Equal(t, []time.Duration{0, time.Second}, at, "predictable timing")

	at, _ = retried(t, aggressive, refused...)
	require.Len(t, at, 5)
	for i, most := range []time.Duration{50 * ms, 150 * ms, 450 * ms, 1350 * ms} {
		require.LessOrEqual(t, at[i+1]-at[i], most)
	}

	at, err = retried(t, noRetry, refused...)
	require.Equal(t, []time.Duration{0}, at)
	require.ErrorIs(t, err, errRefused)
}

// —— Real-World Examples ——

// <snippet>
type WeatherService struct {
	cb *resilience.CircuitBreaker
	rc *resilience.RetryConfig
}

func NewWeatherService() *WeatherService {
	// Circuit breaker for the weather API
	config := resilience.DefaultConfig()
	config.Name = "weather-api"
	config.ErrorThreshold = 0.3 // Open at 30% errors
	config.SleepWindow = 1 * time.Minute

	return &WeatherService{
		cb: resilience.NewCircuitBreaker(config),
		rc: resilience.DefaultRetryConfig(),
	}
}

func (w *WeatherService) GetWeather(city string) (*Weather, error) {
	var result *Weather

	err := resilience.RetryWithCircuitBreaker(
		context.Background(),
		w.rc,
		w.cb,
		func() error {
			resp, err := http.Get(fmt.Sprintf("https://api.weather.com/%s", city))
			if err != nil {
				return err
			}
			defer resp.Body.Close()

			// 5xx errors are retryable
			if resp.StatusCode >= 500 {
				return fmt.Errorf("server error: %d", resp.StatusCode)
			}

			// 4xx errors are not (don't waste retries on bad requests)
			if resp.StatusCode >= 400 {
				return fmt.Errorf("client error: %d", resp.StatusCode)
			}

			return json.NewDecoder(resp.Body).Decode(&result)
		},
	)

	if err != nil {
		// Fallback to cached data
		return w.getCachedWeather(city)
	}

	return result, nil
}

// </snippet>

type Weather struct{ Sky string }

func (w *WeatherService) getCachedWeather(string) (*Weather, error) {
	return &Weather{Sky: "as yesterday"}, nil
}

// sky answers requests in place of the network, with one status after the other and
// with the last one ever after.
type sky struct {
	statuses []int
	requests []string
}

func (s *sky) RoundTrip(r *http.Request) (*http.Response, error) {
	s.requests = append(s.requests, r.URL.String())
	status := s.statuses[min(len(s.requests), len(s.statuses))-1]
	if status == 0 {
		return nil, errRefused
	}
	return &http.Response{
		StatusCode: status, Request: r, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(`{"Sky":"blue"}`)),
	}, nil
}

func TestSeedExample1ProtectingExternalAPICalls(t *testing.T) {
	before := http.DefaultClient.Transport
	defer func() { http.DefaultClient.Transport = before }()
	for _, tt := range []struct {
		statuses []int
		want     string
		requests int
	}{
		{[]int{200}, "blue", 1},
		{[]int{503, 500, 200}, "blue", 3},
		{[]int{0, 200}, "blue", 2},
		{[]int{503}, "as yesterday", 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &sky{statuses: tt.statuses}
			http.DefaultClient.Transport = s
			w := NewWeatherService()
			defer w.cb.Close()
			got, err := w.GetWeather("oslo")
			require.NoError(t, err)
			require.Equal(t, tt.want, got.Sky)
			require.Equal(t, slices.Repeat([]string{"https://api.weather.com/oslo"}, tt.requests), s.requests)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := &sky{statuses: []int{200, 200, 200, 200, 200, 200, 200, 503}}
		http.DefaultClient.Transport = s
		w := NewWeatherService()
		defer w.cb.Close()
		for range 8 {
			_, err := w.GetWeather("oslo")
			require.NoError(t, err)
		}
		require.Equal(t, resilience.StateOpen, w.cb.State(), "3 of 10: open at 30% errors")
		asked := len(s.requests)
		got, err := w.GetWeather("oslo")
		require.NoError(t, err)
		require.Equal(t, "as yesterday", got.Sky)
		require.Len(t, s.requests, asked)
		time.Sleep(time.Minute - 1)
		require.Equal(t, resilience.StateOpen, w.cb.State())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, resilience.StateHalfOpen, w.cb.State())
	})
}

// The snippet's comment wants no retries after 4xx, and its error does not say so to
// anybody. Marked as permanent, it does.
func TestSeedExample1ClientErrorsAreNotRetriedWhenMarked(t *testing.T) {
	at, _ := retried(t, nil, fmt.Errorf("client error: %d", 404), nil)
	require.Len(t, at, 2)
	at, err := retried(t, nil, resilience.Permanent(fmt.Errorf("client error: %d", 404)))
	require.Len(t, at, 1)
	require.EqualError(t, err, "client error: 404")
}

// <snippet>
type ResilientDB struct {
	pool *sql.DB
	cb   *resilience.CircuitBreaker
}

func NewResilientDB(dsn string) (*ResilientDB, error) {
	pool, err := sql.Open("postgres", dsn)
	if err != nil {
		return nil, err
	}

	// Configure circuit breaker for database
	config := resilience.DefaultConfig()
	config.Name = "postgres-main"
	config.ErrorThreshold = 0.2           // Very sensitive - open at 20% errors
	config.VolumeThreshold = 5            // Quick detection
	config.SleepWindow = 10 * time.Second // Fast recovery attempts

	return &ResilientDB{
		pool: pool,
		cb:   resilience.NewCircuitBreaker(config),
	}, nil
}

func (db *ResilientDB) Query(ctx context.Context, query string, args ...interface{}) (*sql.Rows, error) {
	var rows *sql.Rows

	err := db.cb.Execute(ctx, func() error {
		var err error
		rows, err = db.pool.QueryContext(ctx, query, args...)
		return err
	})

	if err != nil {
		if errors.Is(err, resilience.ErrCircuitBreakerOpen) {
			// Database is down - use read replica or cache
			return db.queryFromReplica(ctx, query, args...)
		}
		return nil, err
	}

	return rows, nil
}

// </snippet>

var errReplica = errors.New("the replica was asked")

func (db *ResilientDB) queryFromReplica(context.Context, string, ...interface{}) (*sql.Rows, error) {
	return nil, errReplica
}

// fakePostgres is a driver whose connections answer the query "down" with an error
// and any other with no rows.
type fakePostgres struct{}

func (fakePostgres) Open(string) (driver.Conn, error)    { return fakePostgres{}, nil }
func (fakePostgres) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }
func (fakePostgres) Begin() (driver.Tx, error)           { return nil, errors.ErrUnsupported }
func (fakePostgres) Close() error                        { return nil }
func (fakePostgres) Columns() []string                   { return nil }
func (fakePostgres) Next([]driver.Value) error           { return io.EOF }
func (fakePostgres) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	if query == "down" {
		return nil, errRefused
	}
	return fakePostgres{}, nil
}

var registerFakePostgres = sync.OnceFunc(func() { sql.Register("postgres", fakePostgres{}) })

func TestSeedExample2DatabaseConnectionPool(t *testing.T) {
	registerFakePostgres()
	db, err := NewResilientDB("postgres://localhost/orders")
	require.NoError(t, err)
	defer db.pool.Close()
	defer db.cb.Close()
	for range 4 {
		rows, err := db.Query(t.Context(), "select 1", 17)
		require.NoError(t, err)
		require.False(t, rows.Next())
		require.NoError(t, rows.Close())
	}
	require.Equal(t, resilience.StateClosed, db.cb.State())
	_, err = db.Query(t.Context(), "down")
	require.ErrorIs(t, err, errRefused)
	require.Equal(t, resilience.StateOpen, db.cb.State(), "open at 20% of 5")
	_, err = db.Query(t.Context(), "select 1")
	require.Equal(t, errReplica, err)
	require.InDelta(t, 10, db.cb.GetStats().RetryAfter.Seconds(), 5)

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = db.Query(canceled, "select 1")
	require.ErrorIs(t, err, context.Canceled)
}

// ctx is not declared in the snippet.
var ctx = context.Background()

// <snippet>
type OrderService struct {
	inventoryCB *resilience.CircuitBreaker
	paymentCB   *resilience.CircuitBreaker
	shippingCB  *resilience.CircuitBreaker
	retry       *resilience.RetryConfig
}

func (s *OrderService) ProcessOrder(order Order) error {
	// Step 1: Check inventory (critical - must succeed)
	err := resilience.RetryWithCircuitBreaker(
		ctx, s.retry, s.inventoryCB,
		func() error {
			return s.checkInventory(order.Items)
		},
	)
	if err != nil {
		return fmt.Errorf("inventory check failed: %w", err)
	}

	// Step 2: Process payment (critical - must succeed)
	err = resilience.RetryWithCircuitBreaker(
		ctx, s.retry, s.paymentCB,
		func() error {
			return s.processPayment(order.Payment)
		},
	)
	if err != nil {
		// Rollback inventory
		s.releaseInventory(order.Items)
		return fmt.Errorf("payment failed: %w", err)
	}

	// Step 3: Schedule shipping (can be async/eventual)
	go func() {
		resilience.RetryWithCircuitBreaker(
			context.Background(),
			&resilience.RetryConfig{
				MaxAttempts: 10, // Keep trying
				MaxDelay:    1 * time.Hour,
			},
			s.shippingCB,
			func() error {
				return s.scheduleShipping(order)
			},
		)
	}()

	return nil
}

// </snippet>

// Order is work for the OrderService: each of its parts is what its step meets.
type Order struct {
	Items, Payment, Shipping *flaky
}

func (s *OrderService) checkInventory(items *flaky) error   { return items.run() }
func (s *OrderService) processPayment(payment *flaky) error { return payment.run() }
func (s *OrderService) scheduleShipping(o Order) error      { return o.Shipping.run() }
func (s *OrderService) releaseInventory(items *flaky)       { items.errs = nil }

func TestSeedExample3MicroserviceCommunication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &OrderService{
			inventoryCB: resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "inventory"}),
			paymentCB:   resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment"}),
			shippingCB:  resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "shipping"}),
			retry:       &resilience.RetryConfig{},
		}
		order := Order{
			Items:    newFlaky(errRefused),
			Payment:  newFlaky(errRefused, errRefused),
			Shipping: newFlaky(slices.Repeat([]error{errRefused}, 9)...),
		}
		require.NoError(t, s.ProcessOrder(order))
		require.Len(t, order.Items.at, 2)
		require.Len(t, order.Payment.at, 3)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, order.Shipping.at, 10, "keep trying")
		require.Equal(t, events.Counts{Success: 1, Failure: 9}, s.shippingCB.GetStats().Totals)

		poor := Order{Items: newFlaky(nil, errRefused), Payment: alwaysFails(), Shipping: newFlaky()}
		err := s.ProcessOrder(poor)
		require.ErrorIs(t, err, errRefused)
		require.ErrorContains(t, err, "payment failed: ")
		require.Nil(t, poor.Items.errs, "inventory is released")
		require.Empty(t, poor.Shipping.at)

		s.inventoryCB.ForceOpen()
		err = s.ProcessOrder(poor)
		require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
		require.ErrorContains(t, err, "inventory check failed: ")
	})
}

// —— Monitoring & Observability ——

// promCounters stands for the client of a metrics system with the methods that the
// snippet uses; no library has these.
type promCounters struct{ counts map[string]int }

type promCounter struct {
	r    *promCounters
	name string
}

func (r *promCounters) Counter(name string) *promCounter { return &promCounter{r, name} }
func (c *promCounter) Inc()                              { c.r.counts[c.name]++ }
func (c *promCounter) WithLabels(pairs ...string) *promCounter {
	return &promCounter{c.r, c.name + fmt.Sprint(pairs)}
}

// <snippet>
type MyMetricsCollector struct {
	prometheus *promCounters // the document: *prometheus.Registry
}

func (m *MyMetricsCollector) RecordSuccess(name string) {
	m.prometheus.Counter(name + "_success").Inc()
}

func (m *MyMetricsCollector) RecordFailure(name string, errorType string) {
	m.prometheus.Counter(name+"_failure").
		WithLabels("error", errorType).Inc()
}

func (m *MyMetricsCollector) RecordStateChange(name string, from, to string) {
	m.prometheus.Counter(name+"_state_change").
		WithLabels("from", from, "to", to).Inc()
}

// </snippet>

func seedUseMetrics(config *resilience.CircuitBreakerConfig, promRegistry *promCounters) {
	// <snippet>
	// Use it
	config.Metrics = &MyMetricsCollector{prometheus: promRegistry}
	// </snippet>
}

func TestSeedBuiltInMetricsInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := &promCounters{map[string]int{}}
		config := &resilience.CircuitBreakerConfig{Name: "pay", VolumeThreshold: 4, HalfOpenRequests: 1}
		seedUseMetrics(config, registry)
		cb := resilience.NewCircuitBreaker(config)
		defer cb.Close()
		_ = cb.Execute(t.Context(), succeed)
		_ = cb.Execute(t.Context(), succeed)
		_ = cb.Execute(t.Context(), func() error { return resilience.Ignore(errRefused) })
		_ = cb.Execute(t.Context(), func() error { return context.DeadlineExceeded })
		require.Panics(t, func() { _ = cb.Execute(t.Context(), func() error { panic("boom") }) })
		_ = cb.Execute(t.Context(), succeed) // rejected: not a success, and nothing to be told of without RecordRejection
		time.Sleep(30 * time.Second)
		synctest.Wait() // the timer has told of the half-open state
		_ = cb.Execute(t.Context(), succeed)
		require.Equal(t, map[string]int{
			"pay_success":                                3,
			"pay_failure[error timeout]":                 1,
			"pay_failure[error panic]":                   1,
			"pay_state_change[from closed to open]":      1,
			"pay_state_change[from open to half-open]":   1,
			"pay_state_change[from half-open to closed]": 1,
		}, registry.counts)
	})
}

// rejectionCounter has the method more that a collector may have.
type rejectionCounter struct {
	MyMetricsCollector
	rejected []string
}

func (r *rejectionCounter) RecordRejection(name string) { r.rejected = append(r.rejected, name) }

func TestSeedMetricsMayCountRejections(t *testing.T) {
	m := &rejectionCounter{MyMetricsCollector: MyMetricsCollector{&promCounters{map[string]int{}}}}
	cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "pay", Metrics: m})
	cb.ForceOpen()
	_ = cb.Execute(t.Context(), succeed)
	_ = cb.Execute(t.Context(), succeed)
	require.Equal(t, []string{"pay", "pay"}, m.rejected)
	require.Equal(t, map[string]int{"pay_state_change[from closed to open]": 1}, m.prometheus.counts)
}

// <snippet>
type MyLogger struct {
	zap *zap.Logger
}

func (l *MyLogger) Error(msg string, fields map[string]interface{}) {
	l.zap.Error(msg, zap.Any("fields", fields))
}

func (l *MyLogger) Info(msg string, fields map[string]interface{}) {
	l.zap.Info(msg, zap.Any("fields", fields))
}

// </snippet>

func seedUseLogger(config *resilience.CircuitBreakerConfig, logger *zap.Logger) {
	// <snippet>
	// Use it
	config.Logger = &MyLogger{zap: logger}
	// </snippet>
}

func TestSeedLoggingIntegration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		config := &resilience.CircuitBreakerConfig{Name: "pay", VolumeThreshold: 2, HalfOpenRequests: 1}
		seedUseLogger(config, zap.New(zap.NewJSONHandler(&out, nil)))
		cb := resilience.NewCircuitBreaker(config)
		defer cb.Close()
		_ = cb.Execute(t.Context(), succeed)
		_ = cb.Execute(t.Context(), fail)
		time.Sleep(30 * time.Second)
		synctest.Wait() // the timer has told of the half-open state
		_ = cb.Execute(t.Context(), succeed)

		var lines []string
		for line := range strings.Lines(out.String()) {
			var record struct {
				Level, Msg string
				Fields     map[string]any
			}
			require.NoError(t, json.Unmarshal([]byte(line), &record))
			f := record.Fields
			lines = append(lines, fmt.Sprint(record.Level, ": ", record.Msg, ": ", f["name"], " ", f["from"], " -> ", f["to"], ", ", f["reason"], ", rate ", f["error_rate"]))
		}
		require.Equal(t, []string{
			"ERROR: circuit breaker open: pay closed -> open, error_rate, rate 0.5",
			"INFO: circuit breaker half-open: pay open -> half-open, sleep_window_elapsed, rate <nil>",
			"INFO: circuit breaker closed: pay half-open -> closed, probes_passed, rate <nil>",
		}, lines)
	})
}

// —— Testing Your Resilience ——

// <snippet>
func TestCircuitBreakerOpensOnFailures(t *testing.T) {
	config := resilience.DefaultConfig()
	config.ErrorThreshold = 0.5
	config.VolumeThreshold = 4
	cb := resilience.NewCircuitBreaker(config)

	// Simulate failures
	for i := 0; i < 5; i++ {
		cb.Execute(context.Background(), func() error {
			return errors.New("failure")
		})
	}

	// Circuit should be open
	err := cb.Execute(context.Background(), func() error {
		return nil
	})

	assert.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
}

// </snippet>

// <snippet>
func TestResilientServiceIntegration(t *testing.T) {
	// Start a flaky test server
	callCount := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		callCount++
		if callCount < 3 {
			// Fail first 2 attempts
			w.WriteHeader(500)
			return
		}
		w.WriteHeader(200)
		json.NewEncoder(w).Encode(map[string]string{"status": "ok"})
	}))
	defer server.Close()

	// Create resilient client
	client := NewResilientClient(server.URL)

	// Should succeed after retries
	result, err := client.Get(context.Background())
	assert.NoError(t, err)
	assert.Equal(t, "ok", result["status"])
	assert.Equal(t, 3, callCount) // Verify it retried
}

// </snippet>

// ResilientClient is what the snippet tests.
type ResilientClient struct {
	url    string
	policy resilience.Policy
}

func NewResilientClient(url string) *ResilientClient {
	return &ResilientClient{url: url, policy: resilience.Chain(
		resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: 1}), // a test need not wait
		resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "status"}),
	)}
}

func (c *ResilientClient) Get(ctx context.Context) (map[string]string, error) {
	return resilience.Do(ctx, c.policy, func(ctx context.Context) (map[string]string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
		if err != nil {
			return nil, resilience.Permanent(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("status %d", resp.StatusCode)
		}
		var result map[string]string
		return result, json.NewDecoder(resp.Body).Decode(&result)
	})
}

// <snippet>
// Inject failures to test resilience
type ChaosMiddleware struct {
	failureRate float64
	cb          *resilience.CircuitBreaker
}

func (c *ChaosMiddleware) Handle(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := c.cb.Execute(r.Context(), func() error {
			if rand.Float64() < c.failureRate {
				return errors.New("chaos injection")
			}
			next.ServeHTTP(w, r)
			return nil
		})

		if err != nil {
			w.WriteHeader(503)
			json.NewEncoder(w).Encode(map[string]string{
				"error":         "service unavailable",
				"circuit_state": c.cb.State().String(),
			})
		}
	})
}

// </snippet>

func TestSeedChaosTesting(t *testing.T) {
	chaos := &ChaosMiddleware{cb: resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{VolumeThreshold: 4})}
	defer chaos.cb.Close()
	served := 0
	handler := chaos.Handle(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }))
	ask := func() (status int, state string) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		var body map[string]string
		if w.Code != http.StatusOK {
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
			require.Equal(t, "service unavailable", body["error"])
		}
		return w.Code, body["circuit_state"]
	}
	for range 3 {
		status, _ := ask()
		require.Equal(t, 200, status)
	}
	chaos.failureRate = 1
	for _, want := range []string{"closed", "closed", "open", "open"} {
		status, state := ask()
		require.Equal(t, 503, status)
		require.Equal(t, want, state)
	}
	chaos.failureRate = 0
	status, state := ask()
	require.Equal(t, 503, status)
	require.Equal(t, "open", state, "calm again, but the circuit is open")
	require.Equal(t, 3, served)
	require.Equal(t, uint64(2), chaos.cb.GetStats().Totals.Rejected)
}

// —— Common Patterns & Best Practices ——

// <snippet>
func (s *SearchService) Search(query string) ([]Result, error) {
	// Try primary search service
	results, err := s.primarySearch(query)
	if err == nil {
		return results, nil
	}

	// If circuit is open, degrade gracefully
	if errors.Is(err, resilience.ErrCircuitBreakerOpen) {
		// Try backup service
		if results, err := s.backupSearch(query); err == nil {
			return results, nil
		}

		// Last resort: return cached results
		return s.getCachedResults(query), nil
	}

	return nil, err
}

// </snippet>

type SearchService struct {
	policy          resilience.Policy
	primary, backup error
}

type Result string

func (s *SearchService) primarySearch(query string) ([]Result, error) {
	return resilience.Do(context.Background(), s.policy, func(context.Context) ([]Result, error) {
		return []Result{"primary " + Result(query)}, s.primary
	})
}

func (s *SearchService) backupSearch(query string) ([]Result, error) {
	return []Result{"backup " + Result(query)}, s.backup
}

func (s *SearchService) getCachedResults(query string) []Result {
	return []Result{"cached " + Result(query)}
}

func TestSeedPattern1ServiceDegradation(t *testing.T) {
	cb := resilience.NewCircuitBreaker(nil)
	s := &SearchService{policy: resilience.Chain(resilience.NewRetrier(&resilience.RetryConfig{InitialDelay: 1}), cb)}
	got, err := s.Search("gophers")
	require.NoError(t, err)
	require.Equal(t, []Result{"primary gophers"}, got)

	s.primary = errRefused
	_, err = s.Search("gophers")
	require.ErrorIs(t, err, errRefused, "not open yet")

	cb.ForceOpen()
	got, err = s.Search("gophers")
	require.NoError(t, err)
	require.Equal(t, []Result{"backup gophers"}, got)

	s.backup = errRefused
	got, err = s.Search("gophers")
	require.NoError(t, err)
	require.Equal(t, []Result{"cached gophers"}, got)
}

// <snippet>
// Isolate different operations with separate circuit breakers
type APIGateway struct {
	readCB  *resilience.CircuitBreaker // For GET requests
	writeCB *resilience.CircuitBreaker // For POST/PUT/DELETE
	adminCB *resilience.CircuitBreaker // For admin operations
}

func (g *APIGateway) handleRequest(r *http.Request) error {
	var cb *resilience.CircuitBreaker

	switch r.Method {
	case "GET":
		cb = g.readCB
	case "POST", "PUT", "DELETE":
		cb = g.writeCB
	default:
		cb = g.adminCB
	}

	return cb.Execute(r.Context(), func() error {
		return g.forwardRequest(r)
	})
}

// </snippet>

func (g *APIGateway) forwardRequest(r *http.Request) error {
	if r.Method == http.MethodPut {
		return errRefused
	}
	return nil
}

func TestSeedPattern2BulkheadIsolation(t *testing.T) {
	g := &APIGateway{
		readCB:  resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "read"}),
		writeCB: resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "write"}),
		adminCB: resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "admin"}),
	}
	defer g.writeCB.Close()
	handle := func(method string) error { return g.handleRequest(httptest.NewRequest(method, "/", nil)) }
	for range 10 {
		require.Equal(t, errRefused, handle(http.MethodPut))
	}
	require.ErrorIs(t, handle(http.MethodPost), resilience.ErrCircuitBreakerOpen, "writes fail together")
	require.NoError(t, handle(http.MethodGet), "reads and administration do not")
	require.NoError(t, handle(http.MethodPatch))
}

// <snippet>
func (s *Service) CallChain(ctx context.Context) error {
	// Total timeout for entire chain
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	// Service A gets 40% of remaining time
	ctxA, cancelA := context.WithTimeout(ctx, 4*time.Second) // the document discards cancelA, which go vet refuses
	defer cancelA()
	if err := s.callServiceA(ctxA); err != nil {
		return err
	}

	// Service B gets 30% of remaining time
	ctxB, cancelB := context.WithTimeout(ctx, 3*time.Second) // as above
	defer cancelB()
	if err := s.callServiceB(ctxB); err != nil {
		return err
	}

	// Service C gets the rest
	return s.callServiceC(ctx)
}

// </snippet>

// Service calls three services that take the given times.
type Service struct{ a, b, c time.Duration }

func (s *Service) callServiceA(ctx context.Context) error { return takes(ctx, s.a) }
func (s *Service) callServiceB(ctx context.Context) error { return takes(ctx, s.b) }
func (s *Service) callServiceC(ctx context.Context) error { return takes(ctx, s.c) }

func takes(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func TestSeedPattern3CascadingTimeouts(t *testing.T) {
	for _, tt := range []struct {
		service Service
		want    error
		took    time.Duration
	}{
		{Service{time.Second, time.Second, 7 * time.Second}, nil, 9 * time.Second},
		{Service{5 * time.Second, 0, 0}, context.DeadlineExceeded, 4 * time.Second},
		{Service{3 * time.Second, 5 * time.Second, 0}, context.DeadlineExceeded, 6 * time.Second},
		{Service{time.Second, time.Second, time.Hour}, context.DeadlineExceeded, 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			require.Equal(t, tt.want, tt.service.CallChain(t.Context()))
			require.Equal(t, tt.took, time.Since(began))
		})
		synctest.Test(t, func(t *testing.T) {
			// A retry in it keeps to the deadlines, and the timeouts count against the breaker.
			cb := resilience.NewCircuitBreaker(nil)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			_ = resilience.RetryWithCircuitBreaker(ctx, nil, cb, func() error { return tt.service.CallChain(ctx) })
			require.LessOrEqual(t, time.Since(began), 15*time.Second)
			require.Equal(t, tt.want != nil, cb.GetStats().Totals.Failure > 0)
		})
	}
}

// —— Performance Tips ——

func seedTuneYourThresholds(config *resilience.CircuitBreakerConfig) (stable, flaky resilience.CircuitBreakerConfig) {
	// <snippet>
	// For stable services
	config.ErrorThreshold = 0.5 // 50% errors
	config.VolumeThreshold = 20 // Need good sample size
	// </snippet>
	stable = *config
	// <snippet>
	// For flaky services
	config.ErrorThreshold = 0.8 // 80% errors (more tolerant)
	config.VolumeThreshold = 5  // Quick detection
	// </snippet>
	return stable, *config
}

// callsUntilOpen returns after how many failures a breaker of config opens.
func callsUntilOpen(t *testing.T, config *resilience.CircuitBreakerConfig) int {
	t.Helper()
	cb := resilience.NewCircuitBreaker(config)
	defer cb.Close()
	for n := range 100 {
		if cb.State() == resilience.StateOpen {
			return n
		}
		_ = cb.Execute(t.Context(), fail)
	}
	return -1
}

func TestSeedTip1TuneYourThresholds(t *testing.T) {
	stable, flaky := seedTuneYourThresholds(resilience.DefaultConfig())
	require.Equal(t, 20, callsUntilOpen(t, &stable))
	require.Equal(t, 5, callsUntilOpen(t, &flaky))
	cb := resilience.NewCircuitBreaker(&flaky)
	defer cb.Close()
	for i := range 100 {
		_ = cb.Execute(t.Context(), []func() error{succeed, fail, fail, fail}[i%4])
	}
	require.Equal(t, resilience.StateClosed, cb.State(), "75% errors are tolerated")
}

func seedForceControls(cb *resilience.CircuitBreaker, between func()) {
	// <snippet>
	// Emergency controls
	cb.ForceOpen() // Immediately stop all traffic
	// </snippet>
	between()
	// <snippet>
	cb.ForceClosed() // Override and allow all traffic
	// </snippet>
	between()
	// <snippet>
	cb.Reset() // Clear state and start fresh
	// </snippet>
	between()
}

func TestSeedTip2UseForceControlsInEmergencies(t *testing.T) {
	cb := resilience.NewCircuitBreaker(nil)
	defer cb.Close()
	var steps []string
	seedForceControls(cb, func() {
		s := cb.GetStats()
		allowed := 0
		for range 30 {
			if errors.Is(cb.Execute(t.Context(), fail), errBench) {
				allowed++
			}
		}
		steps = append(steps, fmt.Sprint(s.State, " forced=", s.Forced, " window=", s.Window.Volume(), " allowed=", allowed))
	})
	require.Equal(t, []string{
		"open forced=true window=0 allowed=0",
		"closed forced=true window=0 allowed=30",
		"closed forced=false window=0 allowed=10", // the default volume, then it opens by itself
	}, steps)
}

func seedOptimizeWindowSize(config *resilience.CircuitBreakerConfig) (busy, quiet resilience.CircuitBreakerConfig) {
	// <snippet>
	// For high-traffic services (1000+ req/sec)
	config.WindowSize = 10 * time.Second // Short window
	config.BucketCount = 10              // Fine granularity
	// </snippet>
	busy = *config
	// <snippet>
	// For low-traffic services (<10 req/sec)
	config.WindowSize = 5 * time.Minute // Longer window
	config.BucketCount = 5              // Coarse granularity
	// </snippet>
	return busy, *config
}

func TestSeedTip3OptimizeWindowSize(t *testing.T) {
	busy, quiet := seedOptimizeWindowSize(resilience.DefaultConfig())
	synctest.Test(t, func(t *testing.T) {
		short, long := resilience.NewCircuitBreaker(&busy), resilience.NewCircuitBreaker(&quiet)
		_ = short.Execute(t.Context(), fail)
		_ = long.Execute(t.Context(), fail)
		time.Sleep(11 * time.Second)
		require.Zero(t, short.GetStats().Window.Failure)
		require.Equal(t, uint64(1), long.GetStats().Window.Failure)
		time.Sleep(5 * time.Minute)
		require.Zero(t, long.GetStats().Window.Failure)
	})
}

// —— Debugging Guide ——

func seedWhenCircuitWontClose(cb *resilience.CircuitBreaker, config *resilience.CircuitBreakerConfig, manualOverrideAuthorized bool) {
	// <snippet>
	// Check the metrics
	stats := cb.GetStats()
	fmt.Printf("Success rate in half-open: %.2f%%\n", stats.HalfOpenSuccessRate)
	fmt.Printf("Required rate: %.2f%%\n", config.SuccessThreshold*100)

	// Force close if needed
	if manualOverrideAuthorized {
		cb.ForceClosed()
	}
	// </snippet>
}

func TestSeedWhenCircuitWontClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := resilience.DefaultConfig()
		cb := resilience.NewCircuitBreaker(config)
		defer cb.Close()
		for range 10 {
			_ = cb.Execute(t.Context(), fail)
		}
		time.Sleep(30 * time.Second)
		for _, f := range []func() error{succeed, fail, succeed, fail} {
			_ = cb.Execute(t.Context(), f)
		}
		require.Equal(t, "Success rate in half-open: 50.00%\nRequired rate: 60.00%\n", printed(t, func() {
			seedWhenCircuitWontClose(cb, config, false)
		}))
		require.Equal(t, resilience.StateHalfOpen, cb.State())
		_ = printed(t, func() { seedWhenCircuitWontClose(cb, config, true) })
		require.Equal(t, resilience.StateClosed, cb.State())
	})
}

// printed returns what f writes to standard output, which must be little.
func printed(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	before := os.Stdout
	os.Stdout = w
	func() {
		defer func() { os.Stdout = before }()
		f()
	}()
	require.NoError(t, w.Close())
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return string(out)
}

func seedWhenCircuitOpensTooOften(config *resilience.CircuitBreakerConfig) {
	// <snippet>
	// Adjust sensitivity
	config.ErrorThreshold = 0.7 // Increase from 0.5
	config.VolumeThreshold = 30 // Increase from 10

	// Or use custom classifier
	config.ErrorClassifier = func(err error) bool {
		// Ignore specific errors
		if strings.Contains(err.Error(), "rate limit") {
			return false // Don't count rate limits
		}
		return resilience.DefaultErrorClassifier(err)
	}
	// </snippet>
}

func TestSeedWhenCircuitOpensTooOften(t *testing.T) {
	config := resilience.DefaultConfig()
	seedWhenCircuitOpensTooOften(config)
	require.Equal(t, 30, callsUntilOpen(t, config))
	cb := resilience.NewCircuitBreaker(config)
	_ = cb.Execute(t.Context(), func() error { return errors.New("429: rate limit exceeded") })
	_ = cb.Execute(t.Context(), func() error { return context.Canceled })
	_ = cb.Execute(t.Context(), fail)
	require.Equal(t, events.Counts{Failure: 1, Ignored: 2}, cb.GetStats().Totals)
}

// VerboseLogger notes the messages it gets.
type VerboseLogger struct{ lines []string }

func (l *VerboseLogger) Info(msg string, _ map[string]interface{})  { l.lines = append(l.lines, msg) }
func (l *VerboseLogger) Error(msg string, _ map[string]interface{}) { l.lines = append(l.lines, msg) }

type alerts struct{ sent []string }

func (a *alerts) Send(text string) { a.sent = append(a.sent, text) }

func seedTrackingProblemServices(config *resilience.CircuitBreakerConfig, alert *alerts) *resilience.CircuitBreaker {
	type CircuitState = resilience.CircuitState
	// <snippet>
	// Add logging
	config.Logger = &VerboseLogger{}
	// </snippet>
	cb := resilience.NewCircuitBreaker(config)
	// <snippet>
	// Monitor state changes
	cb.OnStateChange(func(from, to CircuitState) {
		alert.Send(fmt.Sprintf("Circuit %s: %s -> %s",
			config.Name, from, to))
	})
	// </snippet>
	return cb
}

func TestSeedTrackingProblemServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := &resilience.CircuitBreakerConfig{Name: "search", VolumeThreshold: 1, HalfOpenRequests: 1}
		var alert alerts
		cb := seedTrackingProblemServices(config, &alert)
		defer cb.Close()
		_ = cb.Execute(t.Context(), fail)
		time.Sleep(30 * time.Second)
		synctest.Wait() // the timer has told of the half-open state
		_ = cb.Execute(t.Context(), succeed)
		require.Equal(t, []string{
			"Circuit search: closed -> open",
			"Circuit search: open -> half-open",
			"Circuit search: half-open -> closed",
		}, alert.sent)
		require.Equal(t, []string{"circuit breaker open", "circuit breaker half-open", "circuit breaker closed"},
			config.Logger.(*VerboseLogger).lines)
	})
}

// —— Pro Tips ——

// <snippet>
func getCircuitBreakerConfig(env string) *resilience.CircuitBreakerConfig {
	base := resilience.DefaultConfig()

	switch env {
	case "development":
		base.ErrorThreshold = 0.8          // More tolerant
		base.SleepWindow = 5 * time.Second // Quick recovery
	case "staging":
		base.ErrorThreshold = 0.6
		base.SleepWindow = 15 * time.Second
	case "production":
		base.ErrorThreshold = 0.5           // Strict
		base.SleepWindow = 30 * time.Second // Careful recovery
	}

	return base
}

// </snippet>

func TestSeedProTip1DifferentConfigsForDifferentEnvironments(t *testing.T) {
	for env, recovery := range map[string]time.Duration{
		"development": 5 * time.Second,
		"staging":     15 * time.Second,
		"production":  30 * time.Second,
		"elsewhere":   30 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			cb := resilience.NewCircuitBreaker(getCircuitBreakerConfig(env))
			defer cb.Close()
			for range 10 {
				_ = cb.Execute(t.Context(), fail)
			}
			require.Equal(t, recovery, cb.GetStats().RetryAfter, env)
			time.Sleep(recovery)
			synctest.Wait()
			require.Equal(t, resilience.StateHalfOpen, cb.State(), env)

			// A probe that never returns holds it no longer than the sleep window.
			for range 5 {
				_, err := cb.Acquire(t.Context())
				require.NoError(t, err)
			}
			time.Sleep(recovery)
			synctest.Wait()
			require.Equal(t, resilience.StateOpen, cb.State(), env)
		})
	}
}

func seedServiceSpecificStrategies() (_, _, _ *resilience.CircuitBreaker) {
	type CircuitBreakerConfig = resilience.CircuitBreakerConfig
	NewCircuitBreaker := resilience.NewCircuitBreaker
	// <snippet>
	// Payment service: Conservative
	paymentCB := NewCircuitBreaker(&CircuitBreakerConfig{
		ErrorThreshold:   0.3,             // Very sensitive
		SleepWindow:      1 * time.Minute, // Long recovery
		HalfOpenRequests: 1,               // Single test request
	})

	// Search service: Aggressive
	searchCB := NewCircuitBreaker(&CircuitBreakerConfig{
		ErrorThreshold:   0.7,             // Tolerant
		SleepWindow:      5 * time.Second, // Quick recovery
		HalfOpenRequests: 10,              // Multiple test requests
	})

	// Analytics service: Relaxed
	analyticsCB := NewCircuitBreaker(&CircuitBreakerConfig{
		ErrorThreshold:   0.9,             // Very tolerant
		SleepWindow:      1 * time.Second, // Instant recovery
		HalfOpenRequests: 20,              // Many test requests
	})
	// </snippet>
	return paymentCB, searchCB, analyticsCB
}

func TestSeedProTip2ServiceSpecificStrategies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		payment, search, analytics := seedServiceSpecificStrategies()
		for _, tt := range []struct {
			cb       *resilience.CircuitBreaker
			failures int // of 10, that open it
			recovery time.Duration
			probes   int
			needed   int // 60% of them
		}{
			{payment, 3, time.Minute, 1, 1},
			{search, 7, 5 * time.Second, 10, 6},
			{analytics, 9, time.Second, 20, 12},
		} {
			for i := range 10 {
				require.Equal(t, resilience.StateClosed, tt.cb.State())
				if i < 10-tt.failures {
					_ = tt.cb.Execute(t.Context(), succeed)
				} else {
					_ = tt.cb.Execute(t.Context(), fail)
				}
			}
			require.Equal(t, resilience.StateOpen, tt.cb.State())
			time.Sleep(tt.recovery)
			synctest.Wait()
			require.Equal(t, resilience.StateHalfOpen, tt.cb.State())
			var permits []resilience.Permit
			for range tt.probes {
				p, err := tt.cb.Acquire(t.Context())
				require.NoError(t, err)
				permits = append(permits, p)
			}
			_, err := tt.cb.Acquire(t.Context())
			require.ErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
			for i, p := range permits {
				require.Equal(t, i >= tt.needed, tt.cb.State() == resilience.StateClosed)
				p.Done(nil)
			}
			tt.cb.Close()
		}
	})
}

// <snippet>
// Rate limiter + Circuit breaker + Retry
func (c *Client) Call(ctx context.Context) error {
	// First: Check rate limit
	if !c.rateLimiter.Allow() {
		return ErrRateLimited
	}

	// Second: Circuit breaker
	return resilience.RetryWithCircuitBreaker(
		ctx,
		c.retryConfig,
		c.circuitBreaker,
		func() error {
			// Third: Actual call with timeout
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			return c.doCall(ctx)
		},
	)
}

// </snippet>

var ErrRateLimited = errors.New("rate limited")

type Client struct {
	rateLimiter    *limiter
	retryConfig    *resilience.RetryConfig
	circuitBreaker *resilience.CircuitBreaker
	takes          []time.Duration // each call in turn
}

type limiter struct{ left int }

func (l *limiter) Allow() bool {
	l.left--
	return l.left >= 0
}

func (c *Client) doCall(ctx context.Context) error {
	d := c.takes[0]
	c.takes = c.takes[1:]
	return takes(ctx, d)
}

func TestSeedProTip3CombineWithOtherPatterns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Client{
			rateLimiter:    &limiter{left: 1},
			retryConfig:    &resilience.RetryConfig{},
			circuitBreaker: resilience.NewCircuitBreaker(nil),
			takes:          []time.Duration{time.Hour, 6 * time.Second, 4 * time.Second},
		}
		began := time.Now()
		require.NoError(t, c.Call(t.Context()), "two timeouts are retried, though they are DeadlineExceeded")
		require.Equal(t, 14*time.Second+300*ms, time.Since(began))
		require.Equal(t, events.Counts{Success: 1, Failure: 2}, c.circuitBreaker.GetStats().Totals)
		require.Equal(t, ErrRateLimited, c.Call(t.Context()))
	})
}
