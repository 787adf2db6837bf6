package httpres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/breakwater-go/breakwater/httpres"
	"github.com/breakwater-go/breakwater/resilience"
)

// scripted answers with one status after the other, the last one ever after.
func scripted(codes ...int) http.RoundTripper {
	n := 0
	return base(func(req *http.Request) (*http.Response, error) {
		code := codes[min(n, len(codes)-1)]
		n++
		fmt.Println(req.Method, req.URL, "->", code)
		return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader("hello")), Request: req}, nil
	})
}

func Example() {
	transport := httpres.NewTransport(&httpres.TransportConfig{
		Base:           scripted(503, 200), // by default http.DefaultTransport
		Retry:          &resilience.RetryConfig{MaxAttempts: 4, InitialDelay: time.Nanosecond, JitterEnabled: true},
		AttemptTimeout: 2 * time.Second,
		Breaker:        &resilience.CircuitBreakerConfig{ErrorThreshold: 0.3},
	})
	defer transport.Close()
	client := &http.Client{Transport: transport}

	resp, err := client.Get("http://inventory.test/stock")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err)
	// Output:
	// GET http://inventory.test/stock -> 503
	// GET http://inventory.test/stock -> 200
	// 200 hello <nil>
}

// Each host has a breaker of its own. One that is open rejects before anything is sent.
func ExampleTransport() {
	transport := httpres.NewTransport(&httpres.TransportConfig{
		Base:    scripted(500),
		Breaker: &resilience.CircuitBreakerConfig{VolumeThreshold: 2},
	})
	defer transport.Close()
	client := &http.Client{Transport: transport}

	for _, url := range []string{"http://a.test/1", "http://a.test/2", "http://a.test/3", "http://b.test/1"} {
		resp, err := client.Get(url)
		if rejected, ok := errors.AsType[*resilience.RejectedError](err); ok {
			fmt.Println(rejected.Name, "is", rejected.State)
			continue
		}
		_ = resp.Body.Close()
	}
	// Output:
	// GET http://a.test/1 -> 500
	// GET http://a.test/2 -> 500
	// http://a.test is open
	// GET http://b.test/1 -> 500
}

// A POST is sent once, unless it says that it may be sent again.
func ExampleWithIdempotent() {
	transport := httpres.NewTransport(&httpres.TransportConfig{
		Base:  scripted(503),
		Retry: &resilience.RetryConfig{MaxAttempts: 2, InitialDelay: time.Nanosecond},
	})
	defer transport.Close()

	for _, ctx := range []context.Context{context.Background(), httpres.WithIdempotent(context.Background(), true)} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://search.test/query", strings.NewReader("{}"))
		if err != nil {
			fmt.Println(err)
			return
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = resp.Body.Close()
		fmt.Println("the last response came back:", resp.StatusCode)
	}
	// Output:
	// POST http://search.test/query -> 503
	// the last response came back: 503
	// POST http://search.test/query -> 503
	// POST http://search.test/query -> 503
	// the last response came back: 503
}

// A breaker for each tenant instead of each host.
func ExampleTransportConfig_key() {
	transport := httpres.NewTransport(&httpres.TransportConfig{
		Base: scripted(200),
		Key:  func(req *http.Request) string { return req.Header.Get("Tenant") },
	})
	defer transport.Close()

	req, _ := http.NewRequest(http.MethodGet, "http://api.test/", nil)
	req.Header.Set("Tenant", "blue")
	if _, err := transport.RoundTrip(req); err != nil {
		fmt.Println(err)
	}
	fmt.Println("blue:", transport.Breakers().Get("blue").GetStats().Totals.Success)
	// Output:
	// GET http://api.test/ -> 200
	// blue: 1
}

func ExampleHandler() {
	breaker := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "checkout", SleepWindow: time.Minute})
	defer breaker.Close()
	checkout := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "thank you") })
	handler := httpres.Handler(breaker, checkout)

	breaker.ForceOpen() // as if too many requests had failed
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/checkout", nil))
	fmt.Println(w.Code, "Retry-After:", w.Header().Get("Retry-After"))
	fmt.Print(w.Body)
	// Output:
	// 503 Retry-After: 1
	// {"error":"service unavailable","circuit":"checkout","circuit_state":"open","retry_after":1}
}

// A breaker of each route, named by its pattern.
func ExampleKeyedHandler() {
	breakers := resilience.NewRegistry(nil)
	defer breakers.Close()
	mux := http.NewServeMux()
	mux.Handle("GET /orders/{id}", httpres.KeyedHandler(breakers, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, "order ", r.PathValue("id"))
	})))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/orders/7", nil))
	fmt.Println(w.Code, w.Body)
	for key, breaker := range breakers.All() {
		fmt.Println(key, breaker.State())
	}
	// Output:
	// 200 order 7
	// GET /orders/{id} closed
}

// A handler that calls another service passes its breaker's rejection on.
func ExampleWriteRejection() {
	payment := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment"})
	defer payment.Close()
	payment.ForceOpen()
	handler := func(w http.ResponseWriter, r *http.Request) {
		err := payment.Run(r.Context(), func(context.Context) error { return nil })
		switch {
		case httpres.WriteRejection(w, err):
		case err != nil:
			http.Error(w, "payment failed", http.StatusBadGateway)
		}
	}

	w := httptest.NewRecorder()
	handler(w, httptest.NewRequest(http.MethodPost, "/orders", nil))
	fmt.Print(w.Code, " ", w.Body)
	// Output:
	// 503 {"error":"service unavailable","circuit":"payment","circuit_state":"open","retry_after":1}
}
