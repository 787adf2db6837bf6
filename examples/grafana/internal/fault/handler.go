package fault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Handler lets people change faults by HTTP. It is to be mounted at /faults and
// /faults/:
//
//	GET    /faults            what there is: services, their faults, the kinds
//	GET    /faults/{service}  one service's fault
//	PUT    /faults/{service}  requests a fault; so does POST
//	DELETE /faults/{service}  clears what was requested for it
//	DELETE /faults            clears all that was requested
//
// A request is a JSON object of which every field may be left out: share, in [0,1]
// (default 1); kinds, a list of their names (default error alone); delay, by how much
// a slow answer is late (default 230ms); duration, after which the request runs out
// (default: never). What cannot work is answered with 400 and an object that names
// the field, its value and the wish.
//
// A page from elsewhere cannot change anything through somebody's browser: what a
// browser says comes from another origin is refused, and so is a body that does not
// claim to be JSON, which no form can send.
func Handler(in *Injector) http.Handler {
	h := &handler{in}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /faults", h.list)
	mux.HandleFunc("DELETE /faults", h.clearAll)
	mux.HandleFunc("GET /faults/{service}", h.show)
	mux.HandleFunc("PUT /faults/{service}", h.request)
	mux.HandleFunc("POST /faults/{service}", h.request)
	mux.HandleFunc("DELETE /faults/{service}", h.clear)
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusForbidden, &inputError{"origin", r.Header.Get("Origin"), "the origin of this server: other pages must not change anything"})
	}))
	return protection.Handler(mux)
}

type handler struct{ in *Injector }

// Limits of what can be requested.
const (
	maxDelay    = time.Minute
	maxDuration = 24 * time.Hour
	maxBody     = 4 << 10
	maxKinds    = 32 // more than enough to give the kinds weights
)

// faultJSON is a fault as it is shown.
type faultJSON struct {
	Share float64  `json:"share"`
	Kinds []string `json:"kinds"`
	Delay string   `json:"delay,omitempty"` // of kind slow
}

// statusJSON is a service's status as it is shown.
type statusJSON struct {
	Service string    `json:"service"`
	Fault   faultJSON `json:"fault"`
	By      string    `json:"by"`              // script or request
	Until   string    `json:"until,omitempty"` // of a request that runs out
	Note    string    `json:"note"`
}

func shown(f Fault) faultJSON {
	j := faultJSON{Share: f.Share, Kinds: []string{}}
	for _, k := range f.Kinds {
		j.Kinds = append(j.Kinds, k.String())
	}
	if len(f.Kinds) == 0 && f.Share > 0 {
		j.Kinds = []string{Error.String()}
	}
	if slices.Contains(f.Kinds, Slow) {
		j.Delay = f.Lateness().String()
	}
	return j
}

func status(s Status) statusJSON {
	j := statusJSON{Service: s.Service, Fault: shown(s.Fault), By: "script", Note: "What the script has; a request wins over it."}
	if !s.Requested {
		return j
	}
	j.By = "request"
	until := ""
	if !s.Until.IsZero() {
		j.Until = s.Until.UTC().Format(time.RFC3339)
		until = ", or until it runs out in " + time.Until(s.Until).Round(time.Second).String()
	}
	j.Note = fmt.Sprintf("Wins over the script's fault until it is cleared with DELETE /faults/%s%s.", s.Service, until)
	return j
}

func (h *handler) list(w http.ResponseWriter, _ *http.Request) {
	out := struct {
		Services []statusJSON      `json:"services"`
		Kinds    map[string]string `json:"kinds"`
		Example  string            `json:"example"`
	}{Kinds: make(map[string]string), Example: `curl -X PUT --json '{"share":0.5,"kinds":["error","hang"],"duration":"30s"}' …/faults/` + h.in.services[0]}
	for _, s := range h.in.Statuses() {
		out.Services = append(out.Services, status(s))
	}
	for _, k := range kinds[1:] {
		out.Kinds[k.name] = k.text
	}
	answer(w, http.StatusOK, out)
}

func (h *handler) show(w http.ResponseWriter, r *http.Request) { h.answer(w, r.PathValue("service")) }

// answer shows the status of a service.
func (h *handler) answer(w http.ResponseWriter, service string) {
	s, known := h.in.Status(service)
	if !known {
		refuse(w, http.StatusNotFound, &inputError{"service", service, "one of " + strings.Join(h.in.services, ", ")})
		return
	}
	answer(w, http.StatusOK, status(s))
}

func (h *handler) request(w http.ResponseWriter, r *http.Request) {
	service := r.PathValue("service")
	if _, known := h.in.Status(service); !known {
		h.answer(w, service)
		return
	}
	if kind := r.Header.Get("Content-Type"); !isJSON(kind) {
		refuse(w, http.StatusUnsupportedMediaType, &inputError{"Content-Type", kind, "application/json"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, &inputError{"body", "", fmt.Sprintf("at most %d bytes", maxBody)})
		return
	}
	f, d, err := parse(body)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	h.in.Request(service, f, d)
	h.answer(w, service)
}

func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && kind == "application/json"
}

func (h *handler) clear(w http.ResponseWriter, r *http.Request) {
	h.in.Clear(r.PathValue("service"))
	h.answer(w, r.PathValue("service"))
}

func (h *handler) clearAll(w http.ResponseWriter, r *http.Request) {
	for _, service := range h.in.services {
		h.in.Clear(service)
	}
	h.list(w, r)
}

// inputError says what is wrong with a request.
type inputError struct {
	Field string `json:"field"`
	Value string `json:"value"`
	Wish  string `json:"wish"`
}

// Error names the field, its value and the wish.
func (e *inputError) Error() string { return fmt.Sprintf("%s %q: want %s", e.Field, e.Value, e.Wish) }

// parse reads a request: a fault, and for how long, 0 for until it is cleared.
func parse(body []byte) (f Fault, d time.Duration, err error) {
	var in struct {
		Share    *float64 `json:"share"`
		Kinds    []string `json:"kinds"`
		Delay    *string  `json:"delay"`
		Duration *string  `json:"duration"`
	}
	if err := decode(body, &in); err != nil {
		return f, 0, err
	}
	f.Share = 1
	if in.Share != nil {
		f.Share = *in.Share
	}
	if f.Share < 0 || f.Share > 1 { // JSON has no NaN
		return f, 0, &inputError{"share", fmt.Sprint(f.Share), "a number from 0 to 1"}
	}
	if len(in.Kinds) > maxKinds {
		return f, 0, &inputError{"kinds", fmt.Sprintf("a list of %d", len(in.Kinds)), fmt.Sprintf("at most %d", maxKinds)}
	}
	for _, name := range in.Kinds {
		kind, known := kindOf(name)
		if !known {
			return f, 0, &inputError{"kinds", shorten(name), "a list of " + kindNames()}
		}
		f.Kinds = append(f.Kinds, kind)
	}
	if f.Delay, err = span("delay", in.Delay, maxDelay); err != nil {
		return f, 0, err
	}
	if in.Delay != nil && !slices.Contains(f.Kinds, Slow) {
		return f, 0, &inputError{"delay", *in.Delay, `kind "slow", which alone has a delay`}
	}
	d, err = span("duration", in.Duration, maxDuration)
	return f, d, err
}

// decode reads one JSON object and nothing else. What is wrong with it is said in
// terms of its fields where it can be.
func decode(body []byte, into any) error {
	wish := `a JSON object such as {"share":0.5,"kinds":["error"],"duration":"30s"}`
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil && bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		wishes := map[string]string{
			"share": "a number from 0 to 1", "kinds": "a list of " + kindNames(),
			"delay": "a duration such as \"200ms\"", "duration": "a duration such as \"30s\"",
		}
		return &inputError{wrong.Field, wrong.Value, wishes[wrong.Field]}
	}
	if err != nil {
		if _, field, found := strings.Cut(err.Error(), "unknown field "); found {
			return &inputError{"field", shorten(strings.Trim(field, `"`)), "share, kinds, delay or duration"}
		}
	}
	return &inputError{"body", shorten(string(body)), wish}
}

func span(field string, text *string, most time.Duration) (time.Duration, error) {
	if text == nil {
		return 0, nil
	}
	d, err := time.ParseDuration(*text)
	if err != nil || d <= 0 || d > most {
		return 0, &inputError{field, shorten(*text), fmt.Sprintf("a duration such as \"30s\", above 0 and at most %v", most)}
	}
	return d, nil
}

func kindOf(name string) (Kind, bool) {
	for k := Error; k < kindCount; k++ {
		if k.String() == name {
			return k, true
		}
	}
	return None, false
}

func kindNames() string {
	var names []string
	for k := Error; k < kindCount; k++ {
		names = append(names, k.String())
	}
	return strings.Join(names, ", ")
}

// shorten keeps an answer short that quotes what came in.
func shorten(text string) string {
	const most = 60
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// refuse answers with what is wrong.
func refuse(w http.ResponseWriter, code int, err error) {
	out := struct {
		Error string `json:"error"`
		*inputError
	}{Error: err.Error()}
	if input, ok := errors.AsType[*inputError](err); ok {
		out.inputError = input
	}
	answer(w, code, out)
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(body) // a client that has gone does not need it
}
