package liveres

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
)

// Breaker is what the page's controls act on. A resilience.CircuitBreaker is one.
type Breaker interface {
	ID() uint64 // of its events
	ForceOpen()
	ForceClosed()
	ClearForce()
	Reset()
}

// Control hands over a breaker for the page's controls to act on, until it is
// retired; without [WithControls] there are none. The error is that of a breaker
// whose events do not come here, so that the page does not show it.
func (l *Live) Control(b Breaker) error {
	c := l.circuits.find(b.ID())
	if c == nil {
		return fmt.Errorf("liveres: breaker %d is not one whose events come here", b.ID())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breaker = b
	return nil
}

// controlHeader must be present in a request that changes something. A page of
// another site cannot set it without being allowed to by us.
const controlHeader = "X-Breakwater-Control"

// controlRequest is the body of such a request.
type controlRequest struct {
	Circuit uint64 `json:"circuit"`
	Action  string `json:"action"`
}

var actions = map[string]func(Breaker){
	"force_open":   Breaker.ForceOpen,
	"force_closed": Breaker.ForceClosed,
	"clear_force":  Breaker.ClearForce,
	"reset":        Breaker.Reset,
}

// control serves a request to act on a breaker. What is refused is refused before
// anything is disclosed: in this order it must come from our page or from no browser
// at all, be authorized, be well-formed, and be about a circuit that there is.
func (l *Live) control(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, "this needs a POST request")
		return
	}
	var sameOrigin http.CrossOriginProtection
	if sameOrigin.Check(r) != nil || r.Header.Get(controlHeader) == "" {
		refuse(w, http.StatusForbidden, "this request does not come from the page")
		return
	}
	if l.authorize(r) != nil {
		refuse(w, http.StatusForbidden, "not authorized")
		return
	}
	var request controlRequest
	if err := decode(w, r, &request); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	act := actions[request.Action]
	if act == nil {
		refuse(w, http.StatusBadRequest, "the action is none of force_open, force_closed, clear_force, reset")
		return
	}
	c := l.circuits.find(request.Circuit)
	if c == nil {
		refuse(w, http.StatusNotFound, "there is no such circuit")
		return
	}
	b := c.control()
	if b == nil {
		refuse(w, http.StatusConflict, "this circuit was not handed over for control")
		return
	}
	act(b)
	l.audience.soon()
	w.WriteHeader(http.StatusNoContent)
}

// decode reads a body that is one JSON object with no fields but those of v.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return errors.New("the body must be application/json")
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return errors.New("the body is not what it should be")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one value in the body")
	}
	return nil
}
