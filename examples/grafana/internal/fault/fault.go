// Package fault makes services fail on purpose: which of them, how, and how often,
// can be changed while they run, by a script and by request.
package fault

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is one way in which a request fails.
type Kind uint8

// The kinds. The zero Kind is no fault.
const (
	None       Kind = iota
	Error           // answered with 500 Internal Server Error
	Overloaded      // answered with 503 Service Unavailable and Retry-After
	Cut             // the connection is closed without an answer
	Hang            // no answer until the client gives up
	Slow            // answered well, but later by Delay

	kindCount = iota
)

// kinds names the kinds and says what they do, for people.
var kinds = [kindCount]struct{ name, text string }{
	{name: "none", text: "answers as it should"},
	{name: "error", text: "answers 500 Internal Server Error"},
	{name: "overloaded", text: "answers 503 Service Unavailable and asks for a second's patience"},
	{name: "cut", text: "closes the connection without an answer"},
	{name: "hang", text: "does not answer until the client gives up"},
	{name: "slow", text: "answers well, but later by the delay"},
}

// String returns the kind's name: "error", "hang".
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k].name
	}
	return "unknown"
}

// DefaultDelay is by how much a [Slow] answer is late if nothing else is said.
const DefaultDelay = 230 * time.Millisecond

// Fault is how a service fails. The zero Fault is none.
type Fault struct {
	// Share is the share of requests that fail, in [0,1].
	Share float64

	// Kinds are the ways in which they do, one as often as another. Empty means
	// Error alone.
	Kinds []Kind

	// Delay is by how much a Slow answer is late. Zero means [DefaultDelay].
	Delay time.Duration
}

// Injector holds the present fault of each service: what the script has for it, or
// what was requested. A requested fault wins until it is cleared or its time is over.
// All methods may be called concurrently.
type Injector struct {
	services []string
	faults   map[string]*atomic.Pointer[present] // written by NewInjector only

	mu sync.Mutex // held to change what a pointer points to
}

// present is what there is for a service. It is never changed.
type present struct {
	script  Fault
	request *request // nil if there is none
}

type request struct {
	fault Fault
	until time.Time // zero: until it is cleared
}

// over reports whether the request has run out at the given time.
func (r *request) over(now time.Time) bool { return !r.until.IsZero() && !now.Before(r.until) }

// NewInjector returns an injector for the named services, all without fault.
func NewInjector(services ...string) *Injector {
	in := &Injector{services: slices.Clone(services), faults: make(map[string]*atomic.Pointer[present], len(services))}
	for _, name := range services {
		in.faults[name] = new(atomic.Pointer[present])
		in.faults[name].Store(new(present))
	}
	return in
}

// Services returns the services that the injector knows, in the order in which it
// was told of them.
func (in *Injector) Services() []string { return slices.Clone(in.services) }

// Set gives every service the fault that the script has for it, or none. Services
// that the injector does not know are passed over. What was requested stays.
func (in *Injector) Set(faults map[string]Fault) {
	for name := range in.faults {
		in.change(name, func(p *present) { p.script = faults[name] })
	}
}

// Request gives a service a fault that wins over the script's, for the given time, or
// until it is cleared if that is 0. It replaces an earlier request, and reports
// whether the service is known.
func (in *Injector) Request(service string, f Fault, d time.Duration) bool {
	r := &request{fault: f}
	if d > 0 {
		r.until = time.Now().Add(d)
	}
	return in.change(service, func(p *present) { p.request = r })
}

// Clear takes back what was requested for a service, so that the script's fault is
// the present one again. It reports whether the service is known.
func (in *Injector) Clear(service string) bool {
	return in.change(service, func(p *present) { p.request = nil })
}

func (in *Injector) change(service string, f func(*present)) bool {
	pointer := in.faults[service]
	if pointer == nil {
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	p := *pointer.Load()
	f(&p)
	pointer.Store(&p)
	return true
}

// Of returns the present fault of a service, the zero Fault if it is not known.
func (in *Injector) Of(service string) Fault {
	pointer := in.faults[service]
	if pointer == nil {
		return Fault{}
	}
	p := pointer.Load()
	if p.request != nil && !p.request.over(time.Now()) {
		return p.request.fault
	}
	return p.script
}

// Status is how a service fails, and who wants it so.
type Status struct {
	Service   string
	Fault     Fault     // the present one
	Script    Fault     // what the script has for it now
	Requested bool      // Fault was requested
	Until     time.Time // when a requested fault runs out; zero: when it is cleared
}

// Status returns what there is for a service, and whether it is known.
func (in *Injector) Status(service string) (Status, bool) {
	pointer := in.faults[service]
	if pointer == nil {
		return Status{}, false
	}
	p := pointer.Load()
	s := Status{Service: service, Fault: p.script, Script: p.script}
	if p.request != nil && !p.request.over(time.Now()) {
		s.Fault, s.Requested, s.Until = p.request.fault, true, p.request.until
	}
	return s, true
}

// Statuses returns the status of every service, in the order of Services.
func (in *Injector) Statuses() []Status {
	all := make([]Status, len(in.services))
	for i, name := range in.services {
		all[i], _ = in.Status(name)
	}
	return all
}

// Draw says how a request fails, None if it does not. It takes two numbers from r.
func (f Fault) Draw(r *rand.Rand) Kind {
	hit, which := r.Float64() < f.Share, r.Float64()
	switch {
	case !hit:
		return None
	case len(f.Kinds) == 0:
		return Error
	default:
		return f.Kinds[int(which*float64(len(f.Kinds)))]
	}
}

// String says what the fault does, for people: "50% of requests fail (error, hang)".
func (f Fault) String() string {
	if f.Share == 0 {
		return "no request fails"
	}
	who := "every request fails"
	if f.Share < 1 {
		who = strconv.FormatFloat(100*f.Share, 'g', 3, 64) + "% of requests fail"
	}
	names := []string{Error.String()}
	if len(f.Kinds) > 0 {
		names = names[:0]
	}
	for _, k := range f.Kinds {
		name := k.String()
		if k == Slow {
			name += " by " + f.Lateness().String()
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return who + " (" + strings.Join(names, ", ") + ")"
}

// Lateness returns by how much a Slow answer is late.
func (f Fault) Lateness() time.Duration {
	if f.Delay == 0 {
		return DefaultDelay
	}
	return f.Delay
}

// Dice returns a source of numbers that depends on nothing but the seed and what
// they are for: a service, an order, and an attempt at it. So a run can be repeated,
// although its requests race each other.
func Dice(seed uint64, service string, order uint64, attempt int) *rand.Rand {
	name := fnv.New64a()
	_, _ = name.Write([]byte(service)) // a hash never fails
	var key [32]byte
	binary.LittleEndian.PutUint64(key[0:], seed)
	binary.LittleEndian.PutUint64(key[8:], name.Sum64())
	binary.LittleEndian.PutUint64(key[16:], order)
	binary.LittleEndian.PutUint64(key[24:], uint64(attempt))
	return rand.New(rand.NewChaCha8(key))
}
