package liveres_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/liveres"
	"github.com/breakwater-go/breakwater/resilience"
)

var errFailed = errors.New("failed")

func succeed(context.Context) error { return nil }
func fail(context.Context) error    { return errFailed }

// object is a JSON object.
type object = map[string]any

// get serves a GET request and returns the response.
func get(h http.Handler, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w
}

// snapshot returns what the JSON says.
func snapshot(t *testing.T, l *liveres.Live) object {
	t.Helper()
	w := get(l, "/?format=json")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	return decode(t, w.Body.Bytes())
}

func decode(t *testing.T, data []byte) object {
	t.Helper()
	var o object
	require.NoError(t, json.Unmarshal(data, &o), "%s", data)
	return o
}

// at follows a path of keys and indices, such as "circuits.0.totals".
func at(t *testing.T, v any, path string) any {
	t.Helper()
	for key := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case object:
			require.Contains(t, x, key, path)
			v = x[key]
		case []any:
			var i int
			require.NoError(t, json.Unmarshal([]byte(key), &i))
			require.Less(t, i, len(x), path)
			v = x[i]
		default:
			require.Fail(t, "there is nothing below "+key, path)
		}
	}
	return v
}

// list returns the elements below a path.
func list(t *testing.T, v any, path string) []any {
	t.Helper()
	l, ok := at(t, v, path).([]any)
	require.True(t, ok, path)
	return l
}

// breaker returns a breaker that tells l.
func breaker(l *liveres.Live, c resilience.CircuitBreakerConfig) *resilience.CircuitBreaker {
	c.Events = l.Sink()
	return resilience.NewCircuitBreaker(&c)
}

// browser is a response writer that keeps what a stream sends.
type browser struct {
	header http.Header

	mu     sync.Mutex
	stuck  chan struct{} // writes wait until it is closed; nil: they do not
	status int
	body   bytes.Buffer
	read   int
}

func newBrowser() *browser { return &browser{header: http.Header{}} }

func (b *browser) Header() http.Header { return b.header }

func (b *browser) WriteHeader(status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.status == 0 {
		b.status = status
	}
}

func (b *browser) Write(p []byte) (int, error) {
	b.mu.Lock()
	stuck := b.stuck
	b.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	b.WriteHeader(http.StatusOK)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.body.Write(p)
}

func (b *browser) Flush() {}

// stick makes the browser take nothing until loose is called.
func (b *browser) stick() (loose func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	stuck := make(chan struct{})
	b.stuck = stuck
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.stuck = nil
		close(stuck)
	}
}

// sseEvent is one server-sent event.
type sseEvent struct {
	id, kind string
	data     []byte
}

// events returns the events since it was called last.
func (b *browser) events(t *testing.T) []sseEvent {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.body.String()[b.read:]
	end := strings.LastIndex(text, "\n\n")
	if end < 0 {
		return nil
	}
	b.read += end + 2
	return parseEvents(t, text[:end+2])
}

func parseEvents(t *testing.T, text string) []sseEvent {
	t.Helper()
	var found []sseEvent
	for block := range strings.SplitSeq(strings.TrimSuffix(text, "\n\n"), "\n\n") {
		var e sseEvent
		for line := range strings.SplitSeq(block, "\n") {
			field, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch field {
			case "id":
				e.id = value
			case "event":
				e.kind = value
			case "data":
				require.Nil(t, e.data, "data of more than one line")
				e.data = []byte(value)
			case "retry", "": // "" is a comment
			default:
				require.Fail(t, "not a field of an event", "%q", line)
			}
		}
		if e.kind != "" {
			found = append(found, e)
		}
	}
	return found
}

// watch serves the event stream to a new browser until the test, or leave, ends it.
func watch(t *testing.T, l *liveres.Live) (b *browser, leave func()) {
	t.Helper()
	b = newBrowser()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.ServeHTTP(b, httptest.NewRequestWithContext(ctx, http.MethodGet, "/events", nil))
	}()
	leave = func() {
		cancel()
		<-done
	}
	return b, leave
}

// jsonOf returns v as JSON.
func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// asText returns s as it is after having been JSON.
func asText(s string) (text string) {
	if err := json.Unmarshal([]byte(jsonOf(s)), &text); err != nil {
		panic(err)
	}
	return text
}
