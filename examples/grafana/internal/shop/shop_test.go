package shop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/fault"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/memnet"
	"github.com/breakwater-go/breakwater/internal/leaktest"
	"github.com/breakwater-go/breakwater/resilience"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// world is an open shop over a network in memory, with a customer.
type world struct {
	t        *testing.T
	shop     *Shop
	faults   *fault.Injector
	customer *http.Client
	recorder *eventstest.Recorder
}

func open(t *testing.T, retry resilience.RetryConfig) *world {
	network := new(memnet.Network)
	w := &world{t: t, faults: fault.NewInjector(Services()...), recorder: eventstest.New(t)}
	over := Network{Listen: network.Listen, Dial: network.Dial}
	var err error
	w.shop, err = Open(t.Context(), Config{
		Network: over,
		Circuit: resilience.CircuitBreakerConfig{SleepWindow: 5500 * time.Millisecond},
		Retry:   retry,
		Timeout: 250 * time.Millisecond,
		Faults:  w.faults,
		Seed:    1,
		Events:  w.recorder.Sink(),
	})
	require.NoError(t, err)
	transport := over.Transport()
	w.customer = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		require.NoError(t, w.shop.Close(context.WithoutCancel(t.Context())))
	})
	return w
}

func (w *world) fail(service string, share float64, kinds ...fault.Kind) {
	w.faults.Set(map[string]fault.Fault{service: {Share: share, Kinds: kinds}})
}

// order posts an order and returns the answer and how long it took.
func (w *world) order(number int) (*http.Response, Receipt, time.Duration) {
	w.t.Helper()
	start := time.Now()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+w.shop.Address(Order)+"/orders", nil)
	require.NoError(w.t, err)
	if number > 0 {
		req.Header.Set(OrderHeader, strconv.Itoa(number))
	}
	resp, err := w.customer.Do(req)
	require.NoError(w.t, err)
	defer func() { _ = resp.Body.Close() }()
	var receipt Receipt
	require.NoError(w.t, json.NewDecoder(resp.Body).Decode(&receipt))
	return resp, receipt, time.Since(start)
}

// attempts returns what the attempts at a service came to, by error type.
func (w *world) attempts(service string) []string {
	var types []string
	for _, e := range eventstest.Of[events.AttemptFinished](w.recorder) {
		if e.Name == service {
			types = append(types, events.ErrorType(e.Err))
		}
	}
	return types
}

// refusedBy returns the numbers of the first orders that the service refuses.
func refusedBy(service string, most int) []int {
	var numbers []int
	for _, d := range dependencies {
		for n := 1; d.name == service && len(numbers) < most && n < 10000; n++ {
			if fault.Dice(1, service, uint64(n), 0).Float64() < d.refuse {
				numbers = append(numbers, n)
			}
		}
	}
	return numbers
}

func TestAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, resilience.RetryConfig{})
		resp, receipt, took := w.order(7)
		require.Equal(t, http.StatusCreated, resp.StatusCode)
		require.Equal(t, Receipt{
			Order: "7", Status: "accepted",
			Done: map[string]string{Inventory: "reserved", Payment: "charged", Shipping: "booked"},
		}, receipt)
		require.InDelta(t, 35*time.Millisecond, took, float64(15*time.Millisecond))

		_, first, _ := w.order(0)
		_, second, _ := w.order(0)
		require.NotEqual(t, first.Order, second.Order, "orders without a number get one")
	})
}

func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, resilience.RetryConfig{})
		numbers := refusedBy(Payment, 4)
		resp, receipt, _ := w.order(numbers[0])
		require.Equal(t, http.StatusPaymentRequired, resp.StatusCode)
		require.Equal(t, "refused", receipt.Status)
		require.Equal(t, "payment answered 402 Payment Required", receipt.Error)
		require.Equal(t, map[string]string{Inventory: "reserved"}, receipt.Done)
		require.Equal(t, []string{"402"}, w.attempts(Payment), "a refusal is not retried")
		require.Empty(t, w.attempts(Shipping), "what is not paid is not shipped")
		require.Equal(t, events.Counts{Ignored: 1}, w.shop.Circuits()[1].GetStats().Totals, "and says nothing about payment")
		for _, number := range numbers[1:] {
			_, receipt, _ := w.order(number)
			require.Equal(t, "refused", receipt.Status, "order %d", number)
		}
	})
}

// Each kind of fault is a failure that the retry sees, once for each attempt.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		kind      fault.Kind
		errorType string
		took      time.Duration // by three attempts and two waits of 10 ms
	}{
		{fault.Error, "500", 20 * time.Millisecond},
		{fault.Overloaded, "503", 2 * time.Second},
		{fault.Cut, "*errors.errorString", 20 * time.Millisecond},
		{fault.Hang, "timeout", 770 * time.Millisecond},
	} {
		t.Run(c.errorType, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t, resilience.RetryConfig{InitialDelay: 10 * time.Millisecond, BackoffFactor: 1})
				w.order(1) // leaves connections behind, as there are in a running system
				w.fail(Payment, 1, c.kind)
				resp, receipt, took := w.order(2)
				require.Equal(t, http.StatusBadGateway, resp.StatusCode)
				require.Equal(t, "failed", receipt.Status)
				require.Equal(t, []string{"", c.errorType, c.errorType, c.errorType}, w.attempts(Payment))
				require.Equal(t, events.Counts{Success: 1, Failure: 3}, w.shop.Circuits()[1].GetStats().Totals)
				require.InDelta(t, c.took, took, float64(15*time.Millisecond))
			})
		})
	}
}

// A slow answer is a good one that comes late, and a failure if it comes too late.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, resilience.RetryConfig{})
		_, _, usual := w.order(1)
		w.faults.Set(map[string]fault.Fault{Payment: {Share: 1, Kinds: []fault.Kind{fault.Slow}, Delay: 180 * time.Millisecond}})
		resp, _, took := w.order(1)
		require.Equal(t, http.StatusCreated, resp.StatusCode)
		require.Equal(t, 180*time.Millisecond, took-usual)
		w.faults.Set(map[string]fault.Fault{Payment: {Share: 1, Kinds: []fault.Kind{fault.Slow}, Delay: time.Second}})
		w.order(1)
		require.Equal(t, []string{"", "", "timeout", "timeout", "timeout"}, w.attempts(Payment))
	})
}

// The service sees as many requests as the retry makes, and their numbers: net/http
// repeats none by itself, also where a connection breaks that was used before.
func TestRequestsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := new(memnet.Network)
		over := Network{Listen: network.Listen, Dial: network.Dial}
		var mu sync.Mutex
		var seen []string
		broken := false
		l, err := network.Listen(t.Context(), AnyPort)
		require.NoError(t, err)
		server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, r.Header.Get(OrderHeader)+"/"+r.Header.Get(AttemptHeader))
			if broken {
				panic(http.ErrAbortHandler)
			}
		})}
		go func() { _ = server.Serve(l) }()
		transport := over.Transport()
		c := newClient(Payment, "http://"+l.Addr().String()+"/charge", transport, Config{Timeout: time.Second})
		defer func() {
			transport.CloseIdleConnections()
			require.NoError(t, server.Close())
			c.circuit.Close()
		}()

		var calls sync.WaitGroup
		for range 4 { // so that four connections are kept
			calls.Go(func() {
				if _, err := c.call(t.Context(), "1"); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		mu.Lock()
		broken, seen = true, nil
		mu.Unlock()
		_, err = c.call(t.Context(), "2")
		require.ErrorIs(t, err, resilience.ErrRetriesExhausted)
		require.Equal(t, []string{"2/1", "2/2", "2/3"}, seen)
	})
}

func TestTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, resilience.RetryConfig{})
		w.fail(Payment, 1)
		for w.shop.Circuits()[1].State() == resilience.StateClosed {
			w.order(1)
		}
		time.Sleep(time.Second)
		before := len(w.attempts(Payment))
		resp, receipt, took := w.order(1)
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.Equal(t, "turned_away", receipt.Status)
		require.Equal(t, `resilience: circuit breaker "payment" is open`, receipt.Error)
		require.Equal(t, "5", resp.Header.Get("Retry-After"), "rounded up: earlier is of no use")
		require.Less(t, took, 15*time.Millisecond, "only inventory took time")
		require.Equal(t, before+1, len(w.attempts(Payment)), "a rejection is not retried")
	})
}

func TestCustomerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, resilience.RetryConfig{})
		w.fail(Payment, 1, fault.Hang)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.shop.Address(Order)+"/orders", nil)
		require.NoError(t, err)
		_, err = w.customer.Do(req)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		synctest.Wait()
		require.Equal(t, events.Counts{Ignored: 1}, w.shop.Circuits()[1].GetStats().Totals, "who leaves says nothing about payment")
	})
}

func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, resilience.RetryConfig{})
		closed := make(chan time.Time, 1)
		time.AfterFunc(5*time.Millisecond, func() {
			if err := w.shop.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
			closed <- time.Now()
		})
		resp, _, _ := w.order(1)
		answered := time.Now()
		require.Equal(t, http.StatusCreated, resp.StatusCode)
		w.customer.CloseIdleConnections()
		require.False(t, (<-closed).Before(answered))
		require.Len(t, eventstest.Of[events.BreakerRetired](w.recorder), 3)
	})
}

func TestCloseCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := new(memnet.Network)
		over := Network{Listen: network.Listen, Dial: network.Dial}
		faults := fault.NewInjector(Services()...)
		faults.Set(map[string]fault.Fault{Inventory: {Share: 1, Kinds: []fault.Kind{fault.Hang}}})
		s, err := Open(t.Context(), Config{Network: over, Timeout: time.Hour, Faults: faults})
		require.NoError(t, err)
		transport := over.Transport()
		failed := make(chan error)
		go func() {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Address(Order)+"/orders", nil)
			_, err := transport.RoundTrip(req)
			failed <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, s.Close(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		require.Error(t, <-failed)
	})
}

func TestListenError(t *testing.T) {
	taken, err := net.Listen("tcp", AnyPort)
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	s, err := Open(t.Context(), Config{
		Listen: map[string]string{Shipping: taken.Addr().String()},
		Faults: fault.NewInjector(),
	})
	require.Nil(t, s)
	at, ok := errors.AsType[*ListenError](err)
	require.True(t, ok)
	require.Equal(t, Shipping, at.Service)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.ErrorContains(t, err, "shipping cannot listen on "+taken.Addr().String())
}

func TestRetryAfterHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for value, want := range map[string]time.Duration{
			"":                     0,
			"0":                    0,
			"3":                    3 * time.Second,
			"-1":                   0,
			"1.5":                  0,
			"99999999999999999999": 0,
			"soon":                 0,
			time.Now().Add(time.Minute).UTC().Format(http.TimeFormat):  time.Minute,
			time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat): 0,
		} {
			require.Equal(t, want, retryAfter(http.Header{"Retry-After": {value}}), "%q", value)
		}
		require.Zero(t, retryAfter(nil))
	})
}

func TestExplain(t *testing.T) {
	refusal := resilience.Permanent(resilience.Ignore(&StatusError{Payment, 402}))
	failure := &StatusError{Payment, 500}
	rejection := &resilience.RejectedError{Name: Payment, State: resilience.StateHalfOpen}
	for _, c := range []struct {
		err    error
		code   int
		status string
	}{
		{refusal, 402, "refused"},
		{failure, 502, "failed"},
		{rejection, 503, "turned_away"},
		{context.DeadlineExceeded, 502, "failed"},
		{&resilience.RetryError{Attempts: 2, Errs: []error{failure, refusal}}, 402, "refused"},
		{&resilience.RetryError{Attempts: 2, Errs: []error{failure, failure}}, 502, "failed"},
		{&resilience.RetryError{Attempts: 2, Errs: []error{failure, rejection}}, 503, "turned_away"},
	} {
		h := make(http.Header)
		code, status := explain(h, fmt.Errorf("wrapped: %w", c.err))
		require.Equal(t, c.code, code, "%v", c.err)
		require.Equal(t, c.status, status, "%v", c.err)
		require.Empty(t, h, "no wait is known")
	}
}
