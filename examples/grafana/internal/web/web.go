// Package web is the front of the demo: one handler with everything there is to look
// at while it runs, for people and for programs.
package web

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"net/http"
	"time"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/report"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/traces"
	"github.com/breakwater-go/breakwater/resilience"
)

// The paths of what there is. [Circuits] is a folder; below [Traces] is a page for
// each trace, by its id. The pages of traces and alerts are JSON with ?format=json.
const (
	Circuits = "/debug/circuits/"
	Traces   = "/traces"
	Alerts   = "/alerts"
	Metrics  = "/metrics"
	Faults   = "/faults"
	Webhook  = "/webhook" // for an Alertmanager
)

// Config is what the front shows. Every field must be set, unless it says otherwise.
type Config struct {
	Live    http.Handler // at Circuits
	Metrics http.Handler
	Faults  http.Handler // at Faults and below it

	Breakers []*resilience.CircuitBreaker
	Traces   interface {
		Latest() []traces.Trace
		Find(id string) (traces.Trace, bool)
	}
	Alerts   func() []prometheus.Alert // as they are
	Episodes func() []report.Alert     // as they were, the earliest first

	Start  time.Time     // of the demo
	Minute time.Duration // what a minute in the alert rules lasts here
	Orders string        // URL to which orders are posted

	// Notify is told of alerts that an Alertmanager sends. It may be called
	// concurrently.
	Notify func(report.Note)
}

//go:embed files
var files embed.FS

// policy lets a page load its own parts and itself, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler returns the front. What changes something is not done at the request of
// pages of other sites.
func Handler(c Config) http.Handler {
	f := &front{Config: c, pages: template.Must(template.New("").Funcs(functions).ParseFS(files, "files/*.html"))}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", f.index)
	mux.HandleFunc("GET "+Traces, f.traces)
	mux.HandleFunc("GET "+Traces+"/{id}", f.trace)
	mux.HandleFunc("GET "+Alerts, f.alerts)
	mux.HandleFunc("POST "+Webhook, f.webhook)
	mux.Handle("GET "+Metrics, c.Metrics)
	mux.Handle(Circuits, c.Live)
	mux.Handle(Faults, c.Faults)
	mux.Handle(Faults+"/", c.Faults)
	for name, contentType := range map[string]string{
		"style.css": "text/css; charset=utf-8",
		"update.js": "text/javascript; charset=utf-8",
		"icon.svg":  "image/svg+xml",
	} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) {
			content, err := files.ReadFile("files/" + name)
			if err != nil {
				panic(err) // it is embedded
			}
			secure(w.Header(), contentType)
			_, _ = w.Write(content)
		})
	}
	return http.NewCrossOriginProtection().Handler(mux)
}

// secure sets the headers of everything that is served here.
func secure(h http.Header, contentType string) {
	h.Set("Content-Type", contentType)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

type front struct {
	Config
	pages *template.Template
}

// page is what every page has.
type page struct {
	Name  string // of the template
	Title string
	Root  string // the way to the index
	Now   time.Time
	Data  any
}

// show writes a page.
func (f *front) show(w http.ResponseWriter, p page) {
	var b bytes.Buffer
	p.Now = time.Now()
	if p.Root == "" {
		p.Root = "./"
	}
	if err := f.pages.ExecuteTemplate(&b, p.Name, p); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	secure(w.Header(), "text/html; charset=utf-8")
	_, _ = b.WriteTo(w) // a browser that has gone does not need it
}

// tell writes data as JSON.
func tell(w http.ResponseWriter, data any) {
	content, err := json.MarshalIndent(data, "", " ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	secure(w.Header(), "application/json")
	_, _ = w.Write(append(content, '\n'))
}

// asJSON reports whether a request is for data. A format that there is not is
// answered here: then handled is true.
func asJSON(w http.ResponseWriter, r *http.Request) (json, handled bool) {
	switch format := r.URL.Query().Get("format"); format {
	case "", "html":
		return false, false
	case "json":
		return true, false
	default:
		http.Error(w, "format must be json or html", http.StatusBadRequest)
		return false, true
	}
}

func (f *front) index(w http.ResponseWriter, _ *http.Request) {
	type circuit struct{ Name, State string }
	var data struct {
		Circuits        []circuit
		Traces          int
		Pending, Firing int
		Orders          string
		Since           time.Duration
	}
	for _, b := range f.Breakers {
		data.Circuits = append(data.Circuits, circuit{b.Name(), b.State().String()})
	}
	data.Traces = len(f.Traces.Latest())
	for _, a := range f.Alerts() {
		switch a.State {
		case prometheus.Pending:
			data.Pending++
		case prometheus.Firing:
			data.Firing++
		}
	}
	data.Orders, data.Since = f.Orders, time.Since(f.Start)
	f.show(w, page{Name: "index.html", Title: "Breakwater demo", Data: data})
}
