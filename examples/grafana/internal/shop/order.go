package shop

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/breakwater-go/breakwater/resilience"
)

// order is the front of the shop: it takes orders and has the dependencies do their
// parts, one after the other. An order that cannot be paid is not shipped.
type order struct {
	clients []*client
	last    atomic.Uint64 // number given to an order that came without
}

// ownNumbers is where the numbers begin that order gives itself, to keep clear of
// those that clients give.
const ownNumbers = 1 << 40

func (o *order) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", o.take)
	return mux
}

// Receipt is the answer to an order.
type Receipt struct {
	Order  string            `json:"order"`
	Status string            `json:"status"` // accepted, refused, failed or turned_away
	Error  string            `json:"error,omitempty"`
	Done   map[string]string `json:"done,omitempty"` // what each service confirmed
}

func (o *order) take(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(OrderHeader)
	if id == "" {
		id = strconv.FormatUint(ownNumbers+o.last.Add(1), 10)
	}
	receipt := Receipt{Order: id, Status: "accepted", Done: make(map[string]string)}
	code := http.StatusCreated
	for _, c := range o.clients {
		done, err := c.call(r.Context(), id)
		if err != nil {
			receipt.Error = err.Error()
			code, receipt.Status = explain(w.Header(), err)
			break
		}
		receipt.Done[c.name] = done
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(receipt) // a client that has gone does not need it
}

// explain returns the status code and word for an order that failed with err.
func explain(h http.Header, err error) (code int, status string) {
	// Asked first: what ended a retry counts, not the attempts before it.
	if rejection, ok := errors.AsType[*resilience.RejectedError](err); ok {
		if wait := rejection.RetryAfter(); wait > 0 {
			h.Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		}
		return http.StatusServiceUnavailable, "turned_away"
	}
	if code, ok := refused(err); ok {
		return code, "refused"
	}
	return http.StatusBadGateway, "failed"
}
