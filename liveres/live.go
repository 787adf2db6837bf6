package liveres

import (
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// The bounds of what is kept and served. What exceeds them is counted and shown as
// a number.
const (
	maxCircuits = 2000
	maxRetries  = 500
	maxWatchers = 256
)

// Live remembers what the circuit breakers and retries of a process are doing and
// shows it as a page. [New] makes one; all methods may be called from any goroutine
// at any time.
//
// It has no goroutine, except one while somebody watches. Its memory is bounded: 10
// to 15 kB for each circuit, of which it takes 2000, and 15 to 30 kB for each name of
// a retry, of which it takes 500. A breaker stays until it is closed; one that is
// dropped without being closed is kept in memory by the Live.
type Live struct {
	base              time.Time // the zero of all times since
	processID         string    // differs from that of any other Live
	program           string
	width             time.Duration // of a column
	columnsPerStretch uint32
	traceID           func(context.Context) string
	authorize         func(*http.Request) error // nil: no controls

	clock    clock
	circuits registry[uint64, circuit]
	retries  registry[string, retry]

	building sync.Mutex // held to build a whole report: one at a time
	audience audience
}

// Option changes what [New] makes. A nil Option changes nothing.
type Option func(*Live)

// WithControls adds the means to force circuits open or closed, to lift that, and
// to reset them, for those breakers that are handed to [Live.Control]. Without it
// the route for them does not exist.
//
// Authorize is asked about every such request, before anything of its body is read,
// and may look at its cookies, headers or TLS state; a request it returns an error
// for is refused, and the error is told to nobody. That the request comes from the
// page itself, and from no other site, has been checked by then. WithControls panics
// if authorize is nil.
func WithControls(authorize func(*http.Request) error) Option {
	if authorize == nil {
		panic("liveres: WithControls without a function that authorizes")
	}
	return func(l *Live) { l.authorize = authorize }
}

// WithTraceID shows trace ids: of the last retried operations, and of calls that
// changed a circuit's state. F returns the id of the trace that the context belongs
// to, empty for none; with OpenTelemetry that is
//
//	func(ctx context.Context) string {
//		if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
//			return sc.TraceID().String()
//		}
//		return ""
//	}
//
// It is called for those events only, on the goroutine they come from.
func WithTraceID(f func(context.Context) string) Option {
	return func(l *Live) { l.traceID = f }
}

// WithHistory sets how far back timelines go. They consist of 120 columns whatever
// their length, of at least a second each, so the shortest history is 2 minutes,
// which is what anything shorter becomes. Zero means 10 minutes, the longest is a week.
func WithHistory(d time.Duration) Option {
	return func(l *Live) {
		if d == 0 {
			d = defaultHistory
		}
		l.width = min(max(d, minHistory), maxHistory) / columnCount
	}
}

const (
	defaultHistory = 10 * time.Minute
	minHistory     = columnCount * time.Second
	maxHistory     = 7 * 24 * time.Hour
)

// New returns a Live that has not seen anything yet.
func New(opts ...Option) *Live {
	l := &Live{
		base:      time.Now(),
		processID: rand.Text(),
		width:     defaultHistory / columnCount,
	}
	if len(os.Args) > 0 {
		l.program = short(filepath.Base(os.Args[0]))
	}
	for _, o := range opts {
		if o != nil {
			o(l)
		}
	}
	l.columnsPerStretch = max(1, uint32(stretchSpan/l.width))
	return l
}

// Sink returns the sink to put into the configuration of breakers and retries,
// beside others with [events.Join]. It costs a call less than 100 ns, allocates
// nothing for it, and never waits for a browser. To follow an operation with a retry
// takes one allocation, whether it will be retried or not, which is why only the
// first 100 of a name in each column of the history are followed. All are counted.
func (l *Live) Sink() events.Sink {
	return events.Sink{
		BreakerCreated: l.breakerCreated,
		CallFinished:   l.callFinished,
		CallRejected:   l.callRejected,
		StateChanged:   l.stateChanged,
		BreakerRetired: l.breakerRetired,

		BreakerReconfigured: l.breakerReconfigured,

		RetryStarted:    l.retryStarted,
		AttemptFinished: l.attemptFinished,
		RetryScheduled:  l.retryScheduled,
		RetryFinished:   l.retryFinished,
	}
}

// Close ends the streams to browsers and turns new ones away. Register it with
// [http.Server.RegisterOnShutdown], or Shutdown waits for browsers to leave. The sink
// may stay in use, and the page is served as before but asks for its data every few
// seconds. When Close returns, the Live has no goroutine any more. Closing again does
// nothing.
func (l *Live) Close() { l.audience.close() }

// now returns the time since the Live was made.
func (l *Live) now() time.Duration { return time.Since(l.base) }

func (l *Live) traceIDOf(ctx context.Context) string {
	if l.traceID == nil {
		return ""
	}
	return short(l.traceID(ctx))
}

// short cuts text that is an identifier by intent and may be anything in fact. It
// returns a copy then, not to keep the whole in memory.
func short(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(strings.Clone(s[:most]), "") + "…"
}
