package shop

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/fault"
)

// dependency is what a service does that order calls, when it is well.
type dependency struct {
	name, verb, done string
	latency          time.Duration // typical
	refuse           float64       // share of orders it refuses
	code             int           // with this status
}

var dependencies = []dependency{
	{name: Inventory, verb: "reserve", done: "reserved", latency: 6 * time.Millisecond, refuse: 0.01, code: http.StatusConflict},
	{name: Payment, verb: "charge", done: "charged", latency: 20 * time.Millisecond, refuse: 0.02, code: http.StatusPaymentRequired},
	{name: Shipping, verb: "ship", done: "booked", latency: 9 * time.Millisecond},
}

// backend serves one dependency.
type backend struct {
	dependency
	faults *fault.Injector
	seed   uint64
}

func (b *backend) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /"+b.verb, b.serve)
	return mux
}

// overloadedFor is what an overloaded service asks for, in the seconds of a
// Retry-After header, which knows nothing shorter.
const overloadedFor = "1"

func (b *backend) serve(w http.ResponseWriter, r *http.Request) {
	order, _ := strconv.ParseUint(r.Header.Get(OrderHeader), 10, 64) // 0 without
	attempt, _ := strconv.Atoi(r.Header.Get(AttemptHeader))
	dice := fault.Dice(b.seed, b.name, order, attempt)

	present := b.faults.Of(b.name)
	late := time.Duration(0)
	switch present.Draw(dice) {
	case fault.Error:
		http.Error(w, "out of order", http.StatusInternalServerError)
	case fault.Overloaded:
		w.Header().Set("Retry-After", overloadedFor)
		http.Error(w, "overloaded", http.StatusServiceUnavailable)
	case fault.Cut:
		cut(r, "cut")
	case fault.Hang:
		<-r.Context().Done()
		cut(r, "canceled")
	case fault.Slow:
		late = present.Lateness()
		fallthrough
	default:
		work(r, late+time.Duration((0.6+0.8*dice.Float64())*float64(b.latency)))
		// An order is refused whatever the attempt.
		if fault.Dice(b.seed, b.name, order, 0).Float64() < b.refuse {
			http.Error(w, "refused", b.code)
			return
		}
		_, _ = io.WriteString(w, b.done) // a client that has gone does not need it
	}
}

// cut ends a request without an answer: the connection is closed, and nothing logged.
// It has the span of the request say so, and gives it the name that nobody else does
// after a panic.
func cut(r *http.Request, errorType string) {
	span := trace.SpanFromContext(r.Context())
	span.SetName(r.Pattern)
	span.SetStatus(codes.Error, "not answered")
	span.SetAttributes(semconv.ErrorTypeKey.String(errorType))
	panic(http.ErrAbortHandler)
}

// work takes the given time, or less if the client gives up.
func work(r *http.Request, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}
