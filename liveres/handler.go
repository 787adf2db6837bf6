package liveres

import (
	"embed"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed web
var web embed.FS

// files are the parts of the page, by the last element of their path.
var files = map[string]struct{ name, contentType string }{
	"":            {"index.html", "text/html; charset=utf-8"},
	"live.css":    {"live.css", "text/css; charset=utf-8"},
	"icon.svg":    {"icon.svg", "image/svg+xml"},
	"live.js":     {"live.js", javaScript},
	"feed.js":     {"feed.js", javaScript},
	"model.js":    {"model.js", javaScript},
	"circuits.js": {"circuits.js", javaScript},
	"retries.js":  {"retries.js", javaScript},
	"draw.js":     {"draw.js", javaScript},
	"dom.js":      {"dom.js", javaScript},
	"format.js":   {"format.js", javaScript},
}

const javaScript = "text/javascript; charset=utf-8"

// policy lets the page load its own parts and its data, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// writeTimeout is how long a browser may take to accept an update.
const writeTimeout = 15 * time.Second

// padding precedes a stream, since some proxies hold back the first 2 kB.
var padding = ":" + strings.Repeat(" ", 2048) + "\n"

// ServeHTTP serves the page and its data. It looks at the last element of the path
// only, so that it can be mounted anywhere, with or without [http.StripPrefix]: a
// path that ends in a slash is the page.
func (l *Live) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")

	part := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if part == "control" && l.authorize != nil {
		l.control(w, r)
		return
	}
	file, isFile := files[part]
	if !isFile && part != "events" {
		refuse(w, http.StatusNotFound, "there is nothing here")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "this can only be read")
		return
	}
	switch {
	case part == "events":
		l.stream(w, r)
	case r.URL.Path == "" && lastOf(r.RequestURI) != "":
		redirectToSlash(w, r)
	case part == "" && r.URL.Query().Has("format"):
		l.data(w, r)
	default:
		content, err := web.ReadFile("web/" + file.name)
		if err != nil {
			panic(err) // it is embedded
		}
		write(w, r, file.contentType, content)
	}
}

// redirectToSlash redirects to the same address with a slash at its end, so that the
// page's relative addresses mean what they should. That is needed where StripPrefix
// left nothing of the path, so its last element is taken from the request line. The
// new address is relative too: whatever a proxy put in front of it stays.
func redirectToSlash(w http.ResponseWriter, r *http.Request) {
	to := "./" + lastOf(r.RequestURI) + "/" // with a dot, whatever follows is no host and no scheme
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusTemporaryRedirect)
}

// lastOf returns what follows the last slash of a request's path.
func lastOf(requestURI string) string {
	path, _, _ := strings.Cut(requestURI, "?")
	return path[strings.LastIndexByte(path, '/')+1:]
}

// data serves a whole report.
func (l *Live) data(w http.ResponseWriter, r *http.Request) {
	if format := r.URL.Query()["format"]; len(format) != 1 || format[0] != "json" {
		refuse(w, http.StatusBadRequest, "the only format is json")
		return
	}
	write(w, r, "application/json", encode(l.report(l.moment())))
}

func write(w http.ResponseWriter, r *http.Request, contentType string, content []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(content) // who does not listen any more need not be told
	}
}

// refuse answers with an error as JSON, which the page shows.
func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": why})
}

// stream serves server-sent events: everything at first, then what changes.
func (l *Live) stream(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		h.Set("Content-Type", "text/event-stream")
		return
	}
	watcher := l.join()
	if watcher == nil {
		h.Set("Retry-After", "10")
		refuse(w, http.StatusServiceUnavailable, "too many are watching, or it is closing down; the page asks from time to time instead")
		return
	}
	defer l.audience.leave(watcher)
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform") // nor compress it: that would hold it back

	client := http.NewResponseController(w)
	send := func(parts ...[]byte) bool {
		// Not every server can set a deadline; then a browser that is stuck holds
		// this goroutine, and nothing else.
		if err := client.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return false
		}
		for _, p := range parts {
			if _, err := w.Write(p); err != nil {
				return false
			}
		}
		return client.Flush() == nil
	}
	if !send([]byte(padding), []byte("retry: 2000\n\n"), l.everything()) {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case <-watcher.done:
			return
		case update := <-watcher.updates:
			if !send(update) {
				return
			}
		}
		if lost := l.audience.caughtUp(watcher); lost > 0 {
			notice := "event: lost\ndata: " + strconv.FormatUint(lost, 10) + "\n\n"
			if !send([]byte(notice), l.everything()) {
				return
			}
		}
	}
}
