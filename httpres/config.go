package httpres

import (
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// TransportConfig says what a [Transport] does around each request. The zero value of a
// field means its default, so a literal names only what differs. A Transport keeps a
// copy: changes made afterwards have no effect.
type TransportConfig struct {
	// Base makes the attempts. Nil means [http.DefaultTransport].
	Base http.RoundTripper

	// Retry says how often a request is tried and how long is waited in between. Nil
	// means [resilience.DefaultRetryConfig], three attempts with jitter; MaxAttempts 1
	// does not retry. Its MaxRetryAfter is the longest Retry-After of a server that is
	// obeyed. Its RetryIf must be nil: RetryIf below sees the response. An empty Name
	// means "http".
	Retry *resilience.RetryConfig

	// RetryIf reports whether a request that may be sent again should be, after an
	// attempt that came to a response or to an error, of which one is nil. Nil means
	// [DefaultRetryIf]. It is not asked when the request must not be sent again, when
	// the caller's context has ended, nor after a breaker's rejection: those end the
	// retry. It must not read or close the response's body. It may be called from many
	// goroutines at once.
	RetryIf func(*http.Response, error) bool

	// MaxBody is the largest request body, in bytes, that is kept for another attempt
	// where the request has no GetBody. It is kept as it is sent, not before. A request
	// with a larger body is sent all the same, and once. Zero means 256 KiB; it must
	// not be negative.
	MaxBody int64

	// AttemptTimeout is how long an attempt may take until the headers of its response
	// are in. An attempt that takes longer has failed, with an error that is
	// context.DeadlineExceeded, and is followed by another one like any that failed.
	// It does not limit the body of the response: for all of it, give the request a
	// context with a deadline. Zero means no limit; it must not be negative.
	AttemptTimeout time.Duration

	// Breaker is the template of the breakers, of which each key has one. Its Name, if
	// any, goes before the key in theirs. Nil means all defaults. A nil
	// ErrorClassifier means [DefaultErrorClassifier]. It must be nil if Breakers is
	// set.
	Breaker *resilience.CircuitBreakerConfig

	// MaxBreakers is the largest number of breakers; see [resilience.RegistryConfig].
	// It must be zero if Breakers is set.
	MaxBreakers int

	// Breakers, if not nil, holds the breakers to use, shared with others. Their
	// template should have [DefaultErrorClassifier]. The Transport does not close it.
	Breakers *resilience.Registry

	// Key returns the key of the breaker that protects a request's attempts. An empty
	// key means none. Nil means [Host]. It may be called from many goroutines at once,
	// must not change the request, and is asked once for each request. If it panics,
	// the request fails with an error that says so and is not sent.
	Key func(*http.Request) string

	// UntilBodyEnd makes a breaker's call last until the body of the response was read
	// to its end or closed, instead of until its headers are in. A server that dies
	// in the middle of its response is then a failure, and one that sends it slowly a
	// slow call. It costs an allocation, and a half-open breaker's probes last as long
	// as their callers take to read.
	UntilBodyEnd bool

	// Events receives everything that the retry and the breakers have to say, beside
	// the Events of Retry and of Breaker. Breakers that come from Breakers do not tell
	// it: they have sinks of their own.
	Events events.Sink
}

const defaultMaxBody = 256 << 10

// Validate reports the first field whose value can never work, as a
// [*resilience.ConfigError], or nil. A nil configuration is valid.
func (c *TransportConfig) Validate() error {
	if c == nil {
		return nil
	}
	if err := c.Retry.Validate(); err != nil {
		return err
	}
	if err := c.Breaker.Validate(); err != nil {
		return err
	}
	refuse := func(field string, value any, want string) error {
		return &resilience.ConfigError{Config: "TransportConfig", Field: field, Value: value, Want: want}
	}
	switch {
	case isNilPointer(c.Base):
		return refuse("Base", fmt.Sprintf("a nil %T", c.Base), "a round tripper, or nil for http.DefaultTransport")
	case c.Retry != nil && c.Retry.RetryIf != nil:
		return refuse("Retry.RetryIf", "set", "nil: RetryIf of TransportConfig decides")
	case c.MaxBody < 0:
		return refuse("MaxBody", c.MaxBody, "a number of bytes, or 0 for the default")
	case c.AttemptTimeout < 0:
		return refuse("AttemptTimeout", c.AttemptTimeout, "a positive duration, or 0 for none")
	case c.MaxBreakers < 0:
		return refuse("MaxBreakers", c.MaxBreakers, "at least 1, or 0 for the default")
	case c.Breakers != nil && c.Breaker != nil:
		return refuse("Breaker", "set", "nil when Breakers is set")
	case c.Breakers != nil && c.MaxBreakers != 0:
		return refuse("MaxBreakers", c.MaxBreakers, "0 when Breakers is set")
	}
	if c.Breakers == nil {
		return c.registry().Validate()
	}
	return nil
}

// isNilPointer reports whether rt is an interface that holds a nil pointer or function.
func isNilPointer(rt http.RoundTripper) bool {
	v := reflect.ValueOf(rt)
	switch v.Kind() {
	case reflect.Pointer, reflect.Func, reflect.Map:
		return v.IsNil()
	default:
		return false
	}
}

// retry returns the configuration of the retry.
func (c *TransportConfig) retry() *resilience.RetryConfig {
	d := resilience.DefaultRetryConfig()
	if c.Retry != nil {
		*d = *c.Retry
	}
	if d.Name == "" {
		d.Name = "http"
	}
	if d.MaxAttempts == 0 {
		d.MaxAttempts = resilience.DefaultRetryConfig().MaxAttempts
	}
	d.Events = events.Join(c.Events, d.Events)
	return d
}

// registry returns the configuration of the breakers.
func (c *TransportConfig) registry() *resilience.RegistryConfig {
	var template resilience.CircuitBreakerConfig
	if c.Breaker != nil {
		template = *c.Breaker
	}
	if template.ErrorClassifier == nil {
		template.ErrorClassifier = DefaultErrorClassifier
	}
	template.Events = events.Join(c.Events, template.Events)
	return &resilience.RegistryConfig{Template: &template, Max: c.MaxBreakers}
}
