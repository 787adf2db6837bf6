// Package load sends orders at a steady rate and counts what becomes of them.
package load

import (
	"context"
	"io"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
)

// Result is what became of an order, as its sender sees it.
type Result uint8

// The results.
const (
	Accepted   Result = iota // all services did their part
	Refused                  // one of them said no, for a reason of the order's own
	Failed                   // one of them failed, and did so again when retried
	TurnedAway               // a circuit was open
	Lost                     // no answer, or one that makes no sense

	// ResultCount is the number of results, the length of an array indexed by Result.
	ResultCount = iota
)

// Count is how many orders came to one result.
type Count struct {
	Orders int
	Time   time.Duration // they took, together
}

// Mean returns how long one of them took on average, 0 if there is none.
func (c Count) Mean() time.Duration {
	if c.Orders == 0 {
		return 0
	}
	return c.Time / time.Duration(c.Orders)
}

// Counts is how many orders came to which result.
type Counts [ResultCount]Count

// Orders returns how many there are in all.
func (c Counts) Orders() int {
	var n int
	for _, x := range c {
		n += x.Orders
	}
	return n
}

// Since returns what was counted after the earlier reading.
func (c Counts) Since(earlier Counts) Counts {
	for r := range c {
		c[r].Orders -= earlier[r].Orders
		c[r].Time -= earlier[r].Time
	}
	return c
}

// Config says what a generator does. Every field must be set.
type Config struct {
	URL     string            // to which orders are posted
	Client  http.RoundTripper // over which
	Rate    float64           // orders a second
	Timeout time.Duration     // of one order
	Grace   time.Duration     // for orders under way when the generator is stopped
}

// Generator sends orders, numbered from 1, whether or not earlier ones have been
// answered: as customers do, it does not slow down because a service does.
type Generator struct {
	config Config
	factor atomic.Uint64 // bits of a float64, how many times the rate orders come at

	mu     sync.Mutex
	counts Counts
}

// New returns a generator.
func New(config Config) *Generator {
	g := &Generator{config: config}
	g.Scale(1)
	return g
}

// Scale makes orders come at the configured rate times the factor, which must be
// positive, from the next order on. It may be called at any time.
func (g *Generator) Scale(factor float64) { g.factor.Store(math.Float64bits(factor)) }

func (g *Generator) interval() float64 {
	return float64(time.Second) / (g.config.Rate * math.Float64frombits(g.factor.Load()))
}

// Counts returns what became of the orders that were answered so far. It may be
// called at any time.
func (g *Generator) Counts() Counts {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.counts
}

// maxLate is how far the generator may fall behind and still make up for it. After
// a longer pause, as of a process that was stopped, it goes on from there.
const maxLate = time.Second

// schedule says when orders are due.
type schedule struct {
	interval float64 // in nanoseconds
	start    time.Time
	sent     int // since start
}

// next returns when the next order is due, asked at the given time. That is in the
// middle of an interval, so that a whole number of intervals holds as many orders.
// If the interval is another than before, the schedule begins anew.
func (s *schedule) next(now time.Time, interval float64) time.Time {
	if interval != s.interval {
		s.interval, s.start, s.sent = interval, now, 0
	}
	due := func() time.Time { return s.start.Add(time.Duration((float64(s.sent) + 0.5) * s.interval)) }
	if now.Sub(due()) > maxLate {
		s.start, s.sent = now, 0
	}
	next := due()
	s.sent++
	return next
}

// Run sends orders until ctx is done, and returns when all of them are answered, or
// are given up after the grace period.
func (g *Generator) Run(ctx context.Context) {
	var orders sync.WaitGroup
	underWay, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()

	timer := time.NewTimer(0)
	defer timer.Stop()
	var due schedule
	for number := uint64(1); ; number++ {
		timer.Reset(time.Until(due.next(time.Now(), g.interval())))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		orders.Go(func() { g.send(underWay, number) })
	}
	grace := time.AfterFunc(g.config.Grace, giveUp)
	defer grace.Stop()
	orders.Wait()
}

// send sends one order and counts what becomes of it.
func (g *Generator) send(ctx context.Context, number uint64) {
	ctx, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	start := time.Now()
	result := g.order(ctx, number)
	took := time.Since(start)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts[result].Orders++
	g.counts[result].Time += took
}

func (g *Generator) order(ctx context.Context, number uint64) Result {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.config.URL, nil)
	if err != nil {
		return Lost
	}
	req.Header.Set(shop.OrderHeader, strconv.FormatUint(number, 10))
	resp, err := g.config.Client.RoundTrip(req)
	if err != nil {
		return Lost
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return Lost
	}
	switch code := resp.StatusCode; {
	case code == http.StatusCreated:
		return Accepted
	case code == http.StatusBadGateway:
		return Failed
	case code == http.StatusServiceUnavailable:
		return TurnedAway
	case code >= 400 && code < 500:
		return Refused
	default:
		return Lost
	}
}
