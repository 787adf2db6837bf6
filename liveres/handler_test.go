package liveres_test

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/liveres"
	"github.com/breakwater-go/breakwater/resilience"
)

func allow(*http.Request) error { return nil }

func TestRoutes(t *testing.T) {
	plain, controlled := liveres.New(), liveres.New(liveres.WithControls(allow))
	plain.Close() // so that a stream ends at once
	controlled.Close()
	for _, tt := range []struct {
		method, target string
		live           *liveres.Live
		status         int
		contentType    string
	}{
		{"GET", "/", plain, 200, "text/html; charset=utf-8"},
		{"HEAD", "/", plain, 200, "text/html; charset=utf-8"},
		{"GET", "/any/where/", plain, 200, "text/html; charset=utf-8"},
		{"GET", "/?other=1", plain, 200, "text/html; charset=utf-8"},
		{"GET", "/?format=json", plain, 200, "application/json"},
		{"HEAD", "/?format=json", plain, 200, "application/json"},
		{"GET", "/?format=xml", plain, 400, "application/json"},
		{"GET", "/?format=json&format=json", plain, 400, "application/json"},
		{"GET", "/live.js", plain, 200, "text/javascript; charset=utf-8"},
		{"GET", "/x/y/live.css", plain, 200, "text/css; charset=utf-8"},
		{"GET", "/icon.svg", plain, 200, "image/svg+xml"},
		{"GET", "/events", plain, 503, "application/json"},
		{"HEAD", "/events", plain, 200, "text/event-stream"},
		{"GET", "/index.html", plain, 404, "application/json"},
		{"GET", "/web/", plain, 200, "text/html; charset=utf-8"}, // the page, not a listing
		{"GET", "/..", plain, 404, "application/json"},
		{"GET", "/live.js/", plain, 200, "text/html; charset=utf-8"},
		{"GET", "/nothing", plain, 404, "application/json"},
		{"POST", "/", plain, 405, "application/json"},
		{"PUT", "/live.js", plain, 405, "application/json"},
		{"POST", "/events", plain, 405, "application/json"},
		{"OPTIONS", "/", plain, 405, "application/json"},
		{"GET", "/control", plain, 404, "application/json"},
		{"POST", "/control", plain, 404, "application/json"},
		{"GET", "/control", controlled, 405, "application/json"},
		{"POST", "/control", controlled, 403, "application/json"},
	} {
		w := httptest.NewRecorder()
		tt.live.ServeHTTP(w, httptest.NewRequest(tt.method, tt.target, nil))
		require.Equal(t, tt.status, w.Code, "%s %s", tt.method, tt.target)
		require.Equal(t, tt.contentType, w.Header().Get("Content-Type"), "%s %s", tt.method, tt.target)
		if tt.method == http.MethodHead {
			require.Empty(t, w.Body.String())
		}
		safeHeaders(t, w.Header())
	}
}

// safeHeaders checks what every answer must say.
func safeHeaders(t *testing.T, h http.Header) {
	t.Helper()
	require.Equal(t, "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'", h.Get("Content-Security-Policy"))
	require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
	require.Contains(t, h.Get("Cache-Control"), "no-store")
	require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
	require.Equal(t, "DENY", h.Get("X-Frame-Options"))
}

// The page works below any prefix: it is found, and so is everything it refers to,
// relative to the address that the browser has in the end.
func TestMounts(t *testing.T) {
	l := liveres.New()
	strip := func(prefix string) http.Handler { return http.StripPrefix(prefix, l) }
	for name, tt := range map[string]struct {
		pattern string
		handler http.Handler
		visit   string
		page    string
	}{
		"at the root":             {"/", l, "/", "/"},
		"below a prefix":          {"/debug/circuits/", l, "/debug/circuits/", "/debug/circuits/"},
		"without its slash":       {"/debug/circuits/", l, "/debug/circuits", "/debug/circuits/"},
		"stripped":                {"/debug/circuits/", strip("/debug/circuits"), "/debug/circuits/", "/debug/circuits/"},
		"stripped with the slash": {"/debug/circuits/", strip("/debug/circuits/"), "/debug/circuits/?a=b", "/debug/circuits/?a=b"},
		"stripped, nothing left":  {"/debug/", strip("/debug/circuits"), "/debug/circuits?a=b", "/debug/circuits/?a=b"},
		"stripped, odd name":      {"/debug/", strip("/debug/a b:c"), "/debug/a%20b:c", "/debug/a%20b:c/"},
		"behind a rewriting proxy": {"/outer/", http.StripPrefix("/outer", http.StripPrefix("/inner", l)),
			"/outer/inner", "/outer/inner/"},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.Handle(tt.pattern, tt.handler)
			server := httptest.NewServer(mux)
			defer server.Close()
			response, body := fetch(t, server.URL+tt.visit)
			require.Equal(t, http.StatusOK, response.StatusCode)
			require.Equal(t, tt.page, response.Request.URL.RequestURI())
			require.Contains(t, body, "<title>Circuits</title>")
			for _, link := range append(links.FindAllStringSubmatch(body, -1), []string{"", "?format=json"}) {
				ref, err := response.Request.URL.Parse(link[1])
				require.NoError(t, err)
				part, _ := fetch(t, ref.String())
				require.Equal(t, http.StatusOK, part.StatusCode, ref)
			}
		})
	}
}

var links = regexp.MustCompile(`(?:src|href)="([^"#]+)"`)

func fetch(t *testing.T, address string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	var body strings.Builder
	_, err = io.Copy(&body, response.Body)
	require.NoError(t, err)
	return response, body.String()
}

// What is in the web folder is served, each import and each link exists, and nothing
// in it could make the page load something else or take text for markup.
func TestPageIsSelfContained(t *testing.T) {
	l := liveres.New()
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|` +
		`https?://|style=|\son[a-z]+=|@import|url\(|localStorage|document\.cookie`)
	imports := regexp.MustCompile(`from '\./([^']+)'`)
	page := os.DirFS("web")
	names, err := fs.Glob(page, "*")
	require.NoError(t, err)
	require.Contains(t, names, "index.html")
	for _, name := range names {
		content, err := fs.ReadFile(page, name)
		require.NoError(t, err)
		text := strings.ReplaceAll(string(content), "http://www.w3.org/2000/svg", "") // a name, not an address
		require.Empty(t, forbidden.FindAllString(text, -1), name)
		for _, imported := range imports.FindAllStringSubmatch(text, -1) {
			require.Contains(t, names, imported[1], name)
		}
		path := "/" + name
		if name == "index.html" {
			path = "/"
		}
		w := get(l, path)
		require.Equal(t, http.StatusOK, w.Code, name)
		require.Equal(t, string(content), w.Body.String(), name)
	}
}

func TestControls(t *testing.T) {
	type call struct {
		method, body string
		header       map[string]string
		authorized   bool
	}
	good := map[string]string{"Content-Type": "application/json", "X-Breakwater-Control": "1", "Sec-Fetch-Site": "same-origin"}
	with := func(changes ...string) map[string]string {
		h := maps.Clone(good)
		for i := 0; i < len(changes); i += 2 {
			h[changes[i]] = changes[i+1]
		}
		return h
	}
	const open = `{"circuit": ID, "action": "force_open"}`
	for name, tt := range map[string]struct {
		call
		status int
	}{
		"force open":                 {call{"POST", open, good, true}, 204},
		"charset":                    {call{"POST", open, with("Content-Type", "application/json; charset=utf-8"), true}, 204},
		"no browser":                 {call{"POST", open, with("Sec-Fetch-Site", ""), true}, 204},
		"same origin":                {call{"POST", open, with("Sec-Fetch-Site", "", "Origin", "http://example.com"), true}, 204},
		"not authorized":             {call{"POST", open, good, false}, 403},
		"not authorized, no circuit": {call{"POST", `{"circuit": 99999, "action": "reset"}`, good, false}, 403},
		"not authorized, nonsense":   {call{"POST", `{`, good, false}, 403},
		"other site":                 {call{"POST", open, with("Sec-Fetch-Site", "cross-site"), true}, 403},
		"other subdomain":            {call{"POST", open, with("Sec-Fetch-Site", "same-site"), true}, 403},
		"other origin":               {call{"POST", open, with("Sec-Fetch-Site", "", "Origin", "http://evil.example"), true}, 403},
		"opaque origin":              {call{"POST", open, with("Sec-Fetch-Site", "", "Origin", "null"), true}, 403},
		"without the header":         {call{"POST", open, with("X-Breakwater-Control", ""), true}, 403},
		"a form":                     {call{"POST", open, with("Content-Type", "text/plain"), true}, 400},
		"GET":                        {call{"GET", open, good, true}, 405},
		"PUT":                        {call{"PUT", open, good, true}, 405},
		"unknown action":             {call{"POST", `{"circuit": ID, "action": "explode"}`, good, true}, 400},
		"unknown field":              {call{"POST", `{"circuit": ID, "action": "reset", "and": 1}`, good, true}, 400},
		"two values":                 {call{"POST", open + open, good, true}, 400},
		"empty":                      {call{"POST", ``, good, true}, 400},
		"null":                       {call{"POST", `null`, good, true}, 400},
		"negative":                   {call{"POST", `{"circuit": -1, "action": "reset"}`, good, true}, 400},
		"too long":                   {call{"POST", `{"action": "` + strings.Repeat("a", 2000) + `"}`, good, true}, 400},
		"no such circuit":            {call{"POST", `{"circuit": 99999, "action": "reset"}`, good, true}, 404},
		"not handed over":            {call{"POST", `{"circuit": OTHER, "action": "reset"}`, good, true}, 409},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			l := liveres.New(liveres.WithControls(func(r *http.Request) error {
				asked++
				require.Equal(t, "example.com", r.Host)
				if !tt.authorized {
					return errors.New("a secret that nobody must see")
				}
				return nil
			}))
			cb, other := breaker(l, resilience.CircuitBreakerConfig{}), breaker(l, resilience.CircuitBreakerConfig{})
			require.NoError(t, l.Control(cb))
			body := strings.NewReplacer("ID", id(cb), "OTHER", id(other)).Replace(tt.body)
			r := httptest.NewRequest(tt.method, "/prefix/control", strings.NewReader(body))
			for k, v := range tt.header {
				if v != "" {
					r.Header.Set(k, v)
				}
			}
			w := httptest.NewRecorder()
			l.ServeHTTP(w, r)
			require.Equal(t, tt.status, w.Code, w.Body)
			require.NotContains(t, w.Body.String(), "secret")
			safeHeaders(t, w.Header())
			require.Equal(t, tt.status == 204, cb.GetStats().Forced)
			require.False(t, other.GetStats().Forced)
			if tt.status == 204 {
				require.Empty(t, w.Body.String())
				require.Equal(t, 1, asked)
			} else {
				require.NotEmpty(t, at(t, decode(t, w.Body.Bytes()), "error"))
			}
			if tt.status == 405 {
				require.Equal(t, "POST", w.Header().Get("Allow"))
				require.Zero(t, asked)
			}
		})
	}
}

func id(cb *resilience.CircuitBreaker) string { return strings.TrimSpace(jsonOf(cb.ID())) }

func TestEveryAction(t *testing.T) {
	l := liveres.New(liveres.WithControls(allow))
	cb := breaker(l, resilience.CircuitBreakerConfig{})
	require.Equal(t, false, at(t, snapshot(t, l), "circuits.0.control"))
	require.NoError(t, l.Control(cb))
	require.Equal(t, true, at(t, snapshot(t, l), "circuits.0.control"))
	require.Equal(t, true, at(t, snapshot(t, l), "controls"))
	for _, tt := range []struct {
		action, state string
		forced        bool
	}{
		{"force_open", "open", true}, {"force_closed", "closed", true}, {"force_open", "open", true},
		{"clear_force", "open", false}, {"reset", "closed", false},
	} {
		r := httptest.NewRequest(http.MethodPost, "/control", strings.NewReader(`{"circuit": `+id(cb)+`, "action": "`+tt.action+`"}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Breakwater-Control", "yes")
		w := httptest.NewRecorder()
		l.ServeHTTP(w, r)
		require.Equal(t, http.StatusNoContent, w.Code)
		s := cb.GetStats()
		require.Equal(t, tt.state, s.State.String(), tt.action)
		require.Equal(t, tt.forced, s.Forced, tt.action)
	}
}

func TestControlNeedsToKnowTheBreaker(t *testing.T) {
	l := liveres.New(liveres.WithControls(allow))
	require.ErrorContains(t, l.Control(resilience.NewCircuitBreaker(nil)), "not one whose events come here")
	cb := breaker(l, resilience.CircuitBreakerConfig{})
	require.NoError(t, l.Control(cb))
	cb.Close()
	require.Error(t, l.Control(cb), "it is retired")
	require.Panics(t, func() { liveres.WithControls(nil) })
}

func TestControlsDoNotExistUnlessAskedFor(t *testing.T) {
	l := liveres.New()
	cb := breaker(l, resilience.CircuitBreakerConfig{})
	require.NoError(t, l.Control(cb))
	r := httptest.NewRequest(http.MethodPost, "/control", strings.NewReader(`{"circuit": `+id(cb)+`, "action": "force_open"}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Breakwater-Control", "yes")
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	require.Equal(t, http.StatusNotFound, w.Code)
	require.False(t, cb.GetStats().Forced)
	require.Equal(t, false, at(t, snapshot(t, l), "controls"))
}

// FuzzRoutes sends anything to every route. Nothing may panic, every answer says how
// safe it is, redirects stay where they are, and without authorization nothing changes.
func FuzzRoutes(f *testing.F) {
	for _, target := range []string{"/", "", "/a/", "/live.js", "/control", "/?format=json", "/?format=%zz", "//evil.example", "/%2e%2e/", "/\\evil"} {
		for _, method := range []string{"GET", "POST", "HEAD", "CONNECT"} {
			f.Add(method, target, "application/json", `{"circuit": 1, "action": "reset"}`, "1", true)
		}
	}
	l := liveres.New(liveres.WithControls(func(r *http.Request) error {
		if r.Header.Get("Authorization") != "yes" {
			return errors.New("no")
		}
		return nil
	}))
	cb := breaker(l, resilience.CircuitBreakerConfig{})
	require.NoError(f, l.Control(cb))
	l.Close() // so that a stream ends
	f.Fuzz(func(t *testing.T, method, target, contentType, body, header string, authorized bool) {
		before := cb.GetStats().Generation
		r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.RequestURI = method, target
		path, query, _ := strings.Cut(target, "?")
		r.URL = &url.URL{Path: path, RawQuery: query}
		r.Header = http.Header{"Content-Type": {contentType}, "X-Breakwater-Control": {header}, "Origin": {header}}
		if authorized {
			r.Header.Set("Authorization", "yes")
		}
		w := httptest.NewRecorder()
		l.ServeHTTP(w, r)
		safeHeaders(t, w.Header())
		require.True(t, slices.Contains([]int{200, 204, 307, 400, 403, 404, 405, 409, 503}, w.Code), w.Code)
		if w.Code == 307 {
			location := w.Header().Get("Location")
			require.True(t, strings.HasPrefix(location, "./"), location)
			base := &url.URL{Scheme: "http", Host: "good.example", Path: "/debug/circuits"}
			if to, err := base.Parse(location); err == nil {
				require.Equal(t, "good.example", to.Host)
				require.Equal(t, "http", to.Scheme)
			}
		}
		if w.Code >= 400 && method != http.MethodHead {
			require.NotEmpty(t, at(t, decode(t, w.Body.Bytes()), "error"))
		}
		if !authorized || method != http.MethodPost {
			require.Equal(t, before, cb.GetStats().Generation)
		}
	})
}

// FuzzNames gives breakers and retries any name: the JSON stays JSON, with that name
// or, where it is not text, with what JSON makes of it, and without markup.
func FuzzNames(f *testing.F) {
	f.Add(`<script>alert("1")</script>`, `'"&`)
	f.Add("\x00\xff\xfe", "\u202e\u2028")
	f.Add(strings.Repeat("🙈", 2500), "</script><!--")
	f.Fuzz(func(t *testing.T, name, retry string) {
		l := liveres.New()
		cb := breaker(l, resilience.CircuitBreakerConfig{Name: name, VolumeThreshold: 1})
		_ = resilience.RetryWithCircuitBreaker(t.Context(), &resilience.RetryConfig{Name: retry, InitialDelay: 1, MaxDelay: 1, Events: l.Sink()},
			cb, func() error { return errFailed })
		w := get(l, "/?format=json")
		require.NotContains(t, w.Body.String(), "<")
		require.NotContains(t, w.Body.String(), "\n")
		page := decode(t, w.Body.Bytes())
		if name == "" {
			name = "default"
		}
		require.Equal(t, asText(name), at(t, page, "circuits.0.name"))
		require.Len(t, list(t, page, "retries"), 1)
		if retry != "" {
			require.Equal(t, asText(retry), at(t, page, "retries.0.name"))
		}
	})
}
