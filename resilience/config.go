package resilience

import (
	"math"
	"strconv"
	"time"

	"github.com/breakwater-go/breakwater/events"
)

// CircuitBreakerConfig says when a circuit breaker opens, how it recovers and who
// is told. The zero value of a field means its default, so a literal names only
// what differs. A CircuitBreaker keeps a copy: changes made afterwards have no effect.
type CircuitBreakerConfig struct {
	// Name says which breaker it is in errors, events and telemetry. Empty means
	// "default". Names need not be unique; breakers that share one are told apart
	// by [events.Header.ID] and summed on dashboards.
	Name string

	// ErrorThreshold is the ratio of failures in the window, in (0,1], at which the
	// breaker opens. Zero means 0.5.
	ErrorThreshold float64

	// VolumeThreshold is the number of calls the window must hold before a ratio is
	// judged. Ignored calls do not count. Zero means 10; it must not be negative. A
	// threshold that the window never reaches keeps the breaker closed.
	VolumeThreshold int

	// SleepWindow is how long the breaker stays open before it lets probes through.
	// Zero means 30 s.
	SleepWindow time.Duration

	// HalfOpenRequests is the largest number of probes let through in one half-open
	// period. A probe that says nothing (cancelled or ignored) does not count
	// towards it once it has ended. Zero means 5.
	HalfOpenRequests int

	// SuccessThreshold is the ratio of HalfOpenRequests, in (0,1], that must pass for
	// the breaker to close: 0.6 of 5 is 3 probes. The verdict falls as soon as it is
	// certain. Zero means 0.6.
	SuccessThreshold float64

	// WindowSize is how far back calls are judged. Zero means 60 s. It must be at
	// least a millisecond for each bucket.
	WindowSize time.Duration

	// BucketCount is the number of buckets the window is made of, at most 1000; the
	// window slides by one bucket at a time. Zero means 10.
	BucketCount int

	// ErrorClassifier reports whether an error counts as a failure. One that does
	// not is ignored: it is neither a success nor a failure. Nil means
	// [DefaultErrorClassifier]. It is not asked about a nil error, about
	// context.Canceled when the caller's own context was cancelled (ignored), nor
	// about errors marked with [Ignore] (ignored) or panics (failures). It may be
	// called from many goroutines at once, may call any method of the breaker, and
	// its panic counts as a failure and is the caller's.
	ErrorClassifier func(error) bool

	// SleepWindowFactor, if it is set, is what the sleep window is multiplied by after
	// each half-open period that did not close the breaker, at least 1, so that what
	// stays broken is asked ever more seldom. Recovery, and Reset, take it back to
	// SleepWindow. Zero means that it stays as it is.
	SleepWindowFactor float64

	// MaxSleepWindow is the longest that the sleep window grows to, at least
	// SleepWindow. Zero means ten times SleepWindow. It needs SleepWindowFactor.
	MaxSleepWindow time.Duration

	// SleepWindowJitter is the share of each sleep window, in [0,1], that is left to
	// chance: it is shorter by up to that much, so that breakers that opened together do
	// not all send their probes together. Zero means none. [RejectedError.Until] and
	// the events tell how long it really is.
	SleepWindowJitter float64

	// Shadow makes the breaker decide, tell of its decisions and reject nothing, to see
	// what it would do before it does it. Calls that it would have rejected run, and
	// what they come to influences nothing: while it is open nothing is judged, and
	// half-open as many calls are probes as would be let through. So its state moves as
	// if it had rejected them. Events and telemetry tell these calls, and the states of
	// shadow mode, from real ones. ForceOpen rejects calls in shadow mode as well.
	Shadow bool

	// Logger is told of state changes. Nil means nobody is. See [Logger].
	Logger Logger

	// Metrics is told of outcomes and state changes. Nil means nobody is. See
	// [MetricsCollector].
	Metrics MetricsCollector

	// ProbeTimeout is the age at which a probe counts as failed, so that one that
	// never returns cannot hold a half-open breaker. Its late result influences
	// nothing. The probe itself is not interrupted. Zero means SleepWindow.
	ProbeTimeout time.Duration

	// SlowCallDuration is how long a call takes, at least, that is slow. Slow calls
	// are counted beside their outcome; a slow probe counts as failed. Zero means
	// that no call is slow. It needs SlowCallThreshold.
	SlowCallDuration time.Duration

	// SlowCallThreshold is the ratio of slow calls in the window, in (0,1], at which
	// the breaker opens, VolumeThreshold given. Zero turns it off. It needs
	// SlowCallDuration.
	SlowCallThreshold float64

	// Events receives everything the breaker has to say. The zero Sink receives
	// nothing and costs next to nothing.
	Events events.Sink
}

// The limits of a configuration, so that no arithmetic on it can overflow.
const (
	maxDuration     = 100 * 365 * 24 * time.Hour
	minBucket       = time.Millisecond
	maxBuckets      = 1000
	maxCalls        = math.MaxInt32
	longestSentence = "at most 876000h (100 years)"
)

// DefaultConfig returns a new configuration with every default filled in but that
// of ProbeTimeout, which follows SleepWindow.
func DefaultConfig() *CircuitBreakerConfig {
	c := (&CircuitBreakerConfig{}).withDefaults()
	c.ProbeTimeout = 0
	return &c
}

// withDefaults returns a copy of c whose zero fields hold their defaults. A nil c
// is all defaults.
func (c *CircuitBreakerConfig) withDefaults() CircuitBreakerConfig {
	var d CircuitBreakerConfig
	if c != nil {
		d = *c
	}
	setDefault(&d.Name, "default")
	setDefault(&d.ErrorThreshold, 0.5)
	setDefault(&d.VolumeThreshold, 10)
	setDefault(&d.SleepWindow, 30*time.Second)
	setDefault(&d.HalfOpenRequests, 5)
	setDefault(&d.SuccessThreshold, 0.6)
	setDefault(&d.WindowSize, 60*time.Second)
	setDefault(&d.BucketCount, 10)
	setDefault(&d.ProbeTimeout, d.SleepWindow)
	if d.SleepWindowFactor != 0 {
		setDefault(&d.MaxSleepWindow, min(d.SleepWindow, maxDuration/10)*10)
	}
	if d.ErrorClassifier == nil {
		d.ErrorClassifier = DefaultErrorClassifier
	}
	return d
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports the first field whose value can never work, as a [*ConfigError],
// or nil. Zero fields are judged as their defaults; a nil configuration is valid.
func (c *CircuitBreakerConfig) Validate() error {
	d := c.withDefaults()
	var v validation
	v.ratio("ErrorThreshold", d.ErrorThreshold)
	v.count("VolumeThreshold", d.VolumeThreshold, maxCalls)
	v.duration("SleepWindow", d.SleepWindow)
	v.count("HalfOpenRequests", d.HalfOpenRequests, maxCalls)
	v.ratio("SuccessThreshold", d.SuccessThreshold)
	v.duration("WindowSize", d.WindowSize)
	v.count("BucketCount", d.BucketCount, maxBuckets)
	v.buckets("WindowSize", d.WindowSize, d.BucketCount)
	v.duration("ProbeTimeout", d.ProbeTimeout)
	if f := d.SleepWindowFactor; !validFactor(f) {
		v.refuse("SleepWindowFactor", f, "a finite number of at least 1, or 0 for no growth")
	}
	switch most := d.MaxSleepWindow; {
	case most != 0 && d.SleepWindowFactor == 0:
		v.refuse("SleepWindowFactor", d.SleepWindowFactor, "at least 1 when MaxSleepWindow is set")
	case most != 0 && most < d.SleepWindow:
		v.refuse("MaxSleepWindow", most, "at least SleepWindow, which is "+d.SleepWindow.String())
	case most > maxDuration:
		v.refuse("MaxSleepWindow", most, longestSentence)
	}
	if j := d.SleepWindowJitter; !(j >= 0 && j <= 1) {
		v.refuse("SleepWindowJitter", j, "a ratio from 0 to 1")
	}
	v.optional("SlowCallDuration", d.SlowCallDuration)
	switch t := d.SlowCallThreshold; {
	case !(t >= 0 && t <= 1):
		v.refuse("SlowCallThreshold", t, "a ratio above 0 and at most 1, or 0 to turn it off")
	case d.SlowCallDuration > 0 && d.SlowCallThreshold == 0:
		v.refuse("SlowCallThreshold", d.SlowCallThreshold, "a ratio in (0,1] when SlowCallDuration is set")
	case d.SlowCallThreshold > 0 && d.SlowCallDuration == 0:
		v.refuse("SlowCallDuration", d.SlowCallDuration, "a positive duration when SlowCallThreshold is set")
	}
	return v.error("CircuitBreakerConfig")
}

// validation keeps the first complaint about a configuration.
type validation struct {
	err *ConfigError
}

func (v *validation) refuse(field string, value any, want string) {
	if v.err == nil {
		v.err = &ConfigError{Field: field, Value: value, Want: want}
	}
}

// ratio wants x in (0,1]. The comparison is phrased so that NaN fails it.
func (v *validation) ratio(field string, x float64) {
	if !(x > 0 && x <= 1) {
		v.refuse(field, x, "a ratio above 0 and at most 1, or 0 for the default")
	}
}

func (v *validation) count(field string, n, most int) {
	switch {
	case n < 0:
		v.refuse(field, n, "at least 1, or 0 for the default")
	case n > most:
		v.refuse(field, n, "at most "+strconv.Itoa(most))
	}
}

func (v *validation) duration(field string, d time.Duration) {
	switch {
	case d < 0:
		v.refuse(field, d, "a positive duration, or 0 for the default")
	case d > maxDuration:
		v.refuse(field, d, longestSentence)
	}
}

func (v *validation) optional(field string, d time.Duration) {
	switch {
	case d < 0:
		v.refuse(field, d, "a positive duration, or 0 to turn it off")
	case d > maxDuration:
		v.refuse(field, d, longestSentence)
	}
}

func (v *validation) buckets(field string, window time.Duration, n int) {
	if v.err == nil && window/time.Duration(n) < minBucket {
		v.refuse(field, window, "at least "+(time.Duration(n)*minBucket).String()+
			", a millisecond for each of "+strconv.Itoa(n)+" buckets")
	}
}

// error returns the complaint as an error, nil if there is none.
func (v *validation) error(config string) error {
	if v.err == nil {
		return nil
	}
	v.err.Config = config
	return v.err
}
