// Package demo puts the demo together: the shop, the script that makes it fail, the
// load, and the report.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/fault"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/load"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/report"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/script"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/tally"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/telemetry"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/web"
	"github.com/breakwater-go/breakwater/resilience"
)

// Config says how the demo runs.
type Config struct {
	Script script.Script

	// Duration is how long the script takes, stretched or compressed; zero means as
	// long as Speed has it. The circuits' windows and sleep windows change in
	// proportion.
	Duration time.Duration

	// Speed is how many times faster than written the script is played: 2 takes half
	// as long. Zero means 1. Without Repeat it excludes a Duration.
	Speed float64

	// Repeat plays the script again and again, for the Duration, or until ctx is done
	// if that is zero. It is then Speed alone that stretches or compresses it.
	Repeat bool

	Rate    float64           // orders a second
	Seed    uint64            // of everything that is drawn by lot, but for the jitter of retries
	Listen  map[string]string // as in [shop.Config]
	Network shop.Network      // as in [shop.Config]

	// Web is the address of the pages, as host:port. Empty means [shop.AnyPort].
	Web string

	// Events receives what the breakers and retries have to say, besides the report.
	Events events.Sink

	// Receivers get the metrics of all services by OTLP, besides the Prometheus in this
	// process, whose rules are shortened to the length of the script.
	Receivers []telemetry.Receiver

	// Environment sends telemetry to where the environment says, as in
	// [telemetry.Config].
	Environment bool

	// Ready is called when everything listens, before the first order. What it is given
	// is there until Run returns. Nil means that nobody asks.
	Ready func(Parts)

	Log        io.Writer // of what happens
	Colour     bool
	EveryEvent bool // as in [report.Config]

	// Screen is the Log if that is a terminal on which there is to be a live summary.
	Screen *report.Screen
}

// The limits of a configuration.
const (
	MinPace = 1.0 / 12 // below it, there are too few calls in a window, and timeouts outlast phases
	MaxPace = 24 * 60
	MaxRate = 500
)

// pace is how much longer the script takes than it says: 0.5 is twice as fast.
func (c Config) pace() float64 {
	switch {
	case c.Duration != 0 && !c.Repeat:
		return float64(c.Duration) / float64(c.Script.Length())
	case c.Speed != 0:
		return 1 / c.Speed
	default:
		return 1
	}
}

// played returns the script as it is played, stretched or compressed.
func (c Config) played() script.Script {
	pace := c.pace()
	if pace == 1 {
		return c.Script
	}
	return c.Script.Scaled(time.Duration(float64(c.Script.Length()) * pace))
}

// length returns how long the demo takes, 0 if it goes on until it is stopped.
func (c Config) length() time.Duration {
	if c.Repeat {
		return c.Duration
	}
	return c.played().Length()
}

// Validate says what cannot work, in terms of the demo's flags.
func (c Config) Validate() error {
	length := c.Script.Length()
	switch pace := c.pace(); {
	case len(c.Script) == 0 || length <= 0:
		return fmt.Errorf("the script has no phases")
	case c.Speed != 0 && !(c.Speed > 0): // so that NaN is one of them
		return fmt.Errorf("-speed %v is not a speed; 2 is twice as fast", c.Speed)
	case c.Speed != 0 && c.Duration != 0 && !c.Repeat:
		return fmt.Errorf("-speed %v and -duration %v both say how long it takes: give one of them, or -repeat", c.Speed, c.Duration)
	case c.Duration < 0:
		return fmt.Errorf("-duration %v is not a time to run", c.Duration)
	case c.Speed != 0 && pace < MinPace-1e-9:
		return fmt.Errorf("-speed %v is too fast: at most %v", c.Speed, 1/MinPace)
	case c.Speed != 0 && pace > MaxPace:
		return fmt.Errorf("-speed %v is too slow: at least %.4f", c.Speed, 1.0/MaxPace+5e-5)
	case pace < MinPace-1e-9:
		return fmt.Errorf("-duration %v is too short for this script: at least %v", c.Duration, ceil(float64(length)*MinPace))
	case pace > MaxPace:
		return fmt.Errorf("-duration %v is too long for this script: at most %v", c.Duration, time.Duration(float64(length)*MaxPace))
	}
	circuit := c.circuit()
	// Twice the volume: some of the calls are refused, and the window is not always full.
	least := 2 * float64(circuit.VolumeThreshold) / circuit.WindowSize.Seconds()
	peak := c.Script.Peak()
	switch {
	case !(c.Rate > 0): // so that NaN is one of them
		return fmt.Errorf("-rate %v is not a number of orders a second", c.Rate)
	case c.Rate < least:
		return fmt.Errorf("-rate %v is too low for a circuit to judge by within its window of %v: at least %.2g", c.Rate, circuit.WindowSize, least+0.05)
	case c.Rate > MaxRate:
		return fmt.Errorf("-rate %v is too high: at most %v", c.Rate, MaxRate)
	case c.Rate*peak > MaxRate:
		return fmt.Errorf("-rate %v is too high for this script, which comes to %v times as much: at most %.5g", c.Rate, peak, math.Floor(MaxRate/peak))
	}
	return nil
}

func ceil(d float64) time.Duration {
	return (time.Duration(d) + 99*time.Millisecond).Truncate(100 * time.Millisecond)
}

// timeout is how long one attempt at a service may take. It does not change with
// the pace: services answer as fast as ever.
const timeout = 300 * time.Millisecond

// A call that takes slow or longer is held against a service as well. It is far from
// what a service takes that is well, and does not change with the pace either.
const slow = 200 * time.Millisecond

// circuit returns the configuration of every circuit.
func (c Config) circuit() resilience.CircuitBreakerConfig {
	pace := c.pace()
	return resilience.CircuitBreakerConfig{
		ErrorThreshold:    0.5,
		SlowCallDuration:  slow,
		SlowCallThreshold: 0.7,
		VolumeThreshold:   10,
		WindowSize:        scaled(8*time.Second, pace),
		SleepWindow:       scaled(5*time.Second, pace),
		HalfOpenRequests:  3,
		SuccessThreshold:  0.6,
	}
}

func scaled(d time.Duration, pace float64) time.Duration {
	return time.Duration(float64(d) * pace).Round(time.Millisecond)
}

// retry is the configuration of every retry. Within an order that is waited for,
// there is no time for more than a second's patience.
func retry() resilience.RetryConfig {
	return resilience.RetryConfig{
		MaxAttempts:   3,
		InitialDelay:  50 * time.Millisecond,
		MaxDelay:      time.Second,
		JitterEnabled: true,
	}
}

// Grace is how long orders under way, then telemetry, and then connections, get to
// end by themselves when the demo ends.
const Grace = 2 * time.Second

// Run plays the script and returns what it came to. If ctx is done before the script
// is over, it stops early. When it returns, nothing of it is running any more.
//
// An address that cannot be listened on is a [*shop.ListenError].
func Run(ctx context.Context, config Config) (*report.Summary, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	play := config.played()
	var (
		facts  tally.Tally
		faults = fault.NewInjector(shop.Dependencies()...)
		stream = events.NewStream(1 << 14)
	)
	notes := make(chan report.Note, 64)
	tell := func(n report.Note) {
		n.At = time.Now()
		select {
		case notes <- n:
		default: // a log that is this far behind misses it
		}
	}
	// Who stops the demo before it has begun gets one that was stopped early.
	listener, err := config.listenWeb(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	watch, err := config.watch(context.WithoutCancel(ctx), tell)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	services, err := shop.Open(context.WithoutCancel(ctx), shop.Config{
		Listen:  config.Listen,
		Network: config.Network,
		Circuit: config.circuit(),
		Retry:   retry(),
		Timeout: timeout,
		Faults:  faults,
		Seed:    config.Seed,
		Events:  events.Join(watch.sink(), config.Events, facts.Sink(), stream.Sink(report.Kinds(config.EveryEvent)...)),
		HTTP:    watch.observer(),
	})
	if err != nil {
		return nil, errors.Join(err, listener.Close(), within(ctx, watch.close))
	}
	start := time.Now()
	pages := watch.serve(config, start, listener, services, faults, tell)
	customers := config.Network.Transport()
	generator := load.New(load.Config{
		URL:     ordersURL(services),
		Client:  customers,
		Rate:    config.Rate,
		Timeout: 10 * time.Second,
		Grace:   Grace,
	})
	log := report.NewLog(report.Config{
		Out:         config.Log,
		Start:       start,
		Colour:      config.Colour,
		EveryEvent:  config.EveryEvent,
		Orders:      generator.Counts,
		OrdersEvery: max(time.Second, play.Length()/12),
		Faults:      faults.Statuses,
		Screen:      config.Screen,
		Length:      config.length(),
		Alerts:      watch.history.list,
		Notes:       notes,
	})

	// The log is written by a goroutine of its own, and there is room for what is
	// announced to it: a terminal that does not keep up delays nothing but the log.
	announced := make(chan report.Announcement, len(play))
	var logging, loading sync.WaitGroup
	logging.Go(func() {
		log.Intro(config.intro(config.length(), services, pages.url))
		log.Follow(stream, announced)
	})

	if config.Ready != nil {
		config.Ready(Parts{Web: pages.url, Shop: services, Live: watch.live, Traces: watch.traces, Prometheus: watch.prometheus})
	}
	sending, stop := context.WithCancel(ctx)
	defer stop()
	loading.Go(func() { generator.Run(sending) })

	summary := &report.Summary{Start: start, Seed: config.Seed}
	err = config.play(ctx, play, func(p script.Phase) {
		now := time.Now()
		faults.Set(p.Faults)
		generator.Scale(p.LoadFactor())
		select {
		case announced <- report.Announcement{At: now, Phase: p}:
		default: // a log that is a whole script behind misses this as well
		}
		summary.Phases = append(summary.Phases, report.Phase{Scenario: p.Scenario, Name: p.Name, At: now.Sub(start)})
	})
	summary.Early = err != nil

	// From the outside in: whoever is stopped has nobody calling any more.
	stop()
	loading.Wait()
	customers.CloseIdleConnections()
	err = errors.Join(within(ctx, pages.close), within(ctx, services.Stop))
	// No call can change what the circuits have come to any more. It is summed up and sent
	// now: metrics end with the circuits they are of, and how long all the rest takes
	// depends on who receives telemetry.
	summary.Length = time.Since(start)
	summary.Circuits = circuits(&facts)
	err = errors.Join(err, within(ctx, watch.telemetry.Flush), within(ctx, services.Close), within(ctx, watch.close))
	stream.Close()
	logging.Wait()

	summary.Orders = generator.Counts()
	summary.Alerts = watch.history.list()
	summary.Rescue = facts.Rescue()
	if saved, ok := watch.traces.Saved(); ok {
		summary.Trace = &saved
	}
	summary.Unseen = stream.Dropped()
	if err == nil {
		err = log.Err()
	}
	return summary, err
}

// circuits returns what the circuits have come to.
func circuits(facts *tally.Tally) []report.Circuit {
	var all []report.Circuit
	for _, c := range facts.Circuits() {
		all = append(all, report.Circuit{
			Name:       c.Name,
			Thresholds: c.Thresholds,
			Final:      c.Snapshot(),
			Operations: c.Operations,
			Took:       c.Took,
			Again:      c.Again,
			Changes:    c.Changes,
			Forgotten:  c.Forgotten,
		})
	}
	return all
}

// within calls f with a context that lasts for the grace period, whatever ctx does.
func within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Grace)
	defer cancel()
	return f(ctx)
}

// play plays the script as often as c has it. The error is that of ctx if it did not
// end by itself.
func (c Config) play(ctx context.Context, s script.Script, enter func(script.Phase)) error {
	if !c.Repeat {
		return s.Play(ctx, enter)
	}
	playing, cancel := ctx, context.CancelFunc(func() {})
	if c.Duration > 0 {
		playing, cancel = context.WithTimeout(ctx, c.Duration)
	}
	defer cancel()
	var err error
	for err == nil {
		err = s.Play(playing, enter)
	}
	if c.Duration == 0 {
		return nil // it is done when it is told so
	}
	return ctx.Err()
}

func (c Config) intro(length time.Duration, services *shop.Shop, pages string) report.Intro {
	circuit := c.circuit()
	return report.Intro{
		Rate:     c.Rate,
		Length:   length,
		Attempts: retry().MaxAttempts,
		Timeout:  timeout,
		Opens:    circuit.ErrorThreshold,
		Window:   circuit.WindowSize,
		Slow:     circuit.SlowCallDuration,
		SlowAt:   circuit.SlowCallThreshold,
		Orders:   ordersURL(services),
		Fault:    pages + web.Faults + "/" + shop.Shipping,
		Pages: []report.Page{
			{Name: "Circuits", URL: pages + web.Circuits},
			{Name: "Traces", URL: pages + web.Traces},
			{Name: "Alerts", URL: pages + web.Alerts},
			{Name: "All", URL: pages + "/"},
		},
	}
}
