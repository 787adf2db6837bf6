package liveres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/liveres"
	"github.com/breakwater-go/breakwater/resilience"
)

func Example() {
	live := liveres.New()
	defer live.Close()

	mux := http.NewServeMux()
	mux.Handle("/debug/circuits/", live)

	payment := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
		Name: "payment", VolumeThreshold: 1, Events: live.Sink(),
	})
	defer payment.Close()
	_ = payment.Run(context.Background(), func(context.Context) error { return errors.New("down") })

	// A browser shows the page; a program may ask for its data.
	response := httptest.NewRecorder()
	mux.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/debug/circuits/?format=json", nil))
	var page struct {
		Circuits []struct{ Name, State string }
	}
	if err := json.Unmarshal(response.Body.Bytes(), &page); err != nil {
		fmt.Println(err)
	}
	fmt.Println(page.Circuits[0].Name, "is", page.Circuits[0].State)
	// Output: payment is open
}

func ExampleWithControls() {
	live := liveres.New(liveres.WithControls(func(r *http.Request) error {
		if user, password, ok := r.BasicAuth(); !ok || user != "operator" || password != "from a vault" {
			return errors.New("not an operator")
		}
		return nil
	}))
	defer live.Close()

	payment := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{Name: "payment", Events: live.Sink()})
	defer payment.Close()
	if err := live.Control(payment); err != nil { // this one may be forced and reset
		fmt.Println(err)
	}

	for _, password := range []string{"guessed", "from a vault"} {
		request := httptest.NewRequest(http.MethodPost, "/debug/circuits/control",
			strings.NewReader(fmt.Sprintf(`{"circuit": %d, "action": "force_open"}`, payment.ID())))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("X-Breakwater-Control", "1")
		request.SetBasicAuth("operator", password)
		response := httptest.NewRecorder()
		live.ServeHTTP(response, request)
		fmt.Println(response.Code, payment.State())
	}
	// Output:
	// 403 closed
	// 204 open
}

func ExampleWithTraceID() {
	type key struct{}
	live := liveres.New(liveres.WithTraceID(func(ctx context.Context) string {
		id, _ := ctx.Value(key{}).(string) // with OpenTelemetry: of the span in ctx
		return id
	}))
	defer live.Close()

	sink := live.Sink()
	sink.BreakerCreated(context.Background(), events.BreakerCreated{
		Header:   events.Header{Name: "payment", ID: 1},
		Snapshot: func() events.Snapshot { return events.Snapshot{State: events.StateOpen} },
	})
	sink.StateChanged(context.WithValue(context.Background(), key{}, "4bf92f3577b34da6"), events.StateChanged{
		Header: events.Header{Name: "payment", ID: 1}, To: events.StateOpen, Generation: 2, Reason: events.ReasonErrorRate,
	})

	response := httptest.NewRecorder()
	live.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/?format=json", nil))
	fmt.Println(strings.Contains(response.Body.String(), `"trace_id":"4bf92f3577b34da6"`))
	// Output: true
}
