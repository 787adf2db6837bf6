// Package fault makes services fail on purpose: which of them, how, and how often,
// can be changed while they run.
package fault

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"sync/atomic"
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
)

// Fault is how a service fails. The zero Fault is none.
type Fault struct {
	// Share is the share of requests that fail, in [0,1].
	Share float64

	// Kinds are the ways in which they do, one as often as another. Empty means
	// Error alone.
	Kinds []Kind
}

// Injector holds the present fault of each service. All methods may be called
// concurrently.
type Injector struct {
	faults map[string]*atomic.Pointer[Fault] // written by NewInjector only
}

// NewInjector returns an injector for the named services, all without fault.
func NewInjector(services ...string) *Injector {
	in := &Injector{faults: make(map[string]*atomic.Pointer[Fault], len(services))}
	for _, name := range services {
		in.faults[name] = new(atomic.Pointer[Fault])
		in.faults[name].Store(new(Fault))
	}
	return in
}

// Set gives every service the fault that faults holds for it, or none. Services that
// the injector does not know are passed over.
func (in *Injector) Set(faults map[string]Fault) {
	for name, p := range in.faults {
		f := faults[name]
		p.Store(&f)
	}
}

// Of returns the present fault of a service, the zero Fault if it is not known.
func (in *Injector) Of(service string) Fault {
	if p := in.faults[service]; p != nil {
		return *p.Load()
	}
	return Fault{}
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
