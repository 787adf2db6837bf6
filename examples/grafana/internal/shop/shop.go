// Package shop is a small order system: order calls inventory, payment and shipping
// over HTTP, each call protected by a retry and a circuit breaker of its own. The
// services are real servers with real connections between them; that they live in
// one process is for the convenience of who runs the demo.
package shop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/fault"
	"github.com/breakwater-go/breakwater/resilience"
)

// The services.
const (
	Order     = "order"
	Inventory = "inventory"
	Payment   = "payment"
	Shipping  = "shipping"
)

// Dependencies returns the services that order calls, in the order in which it does.
func Dependencies() []string { return []string{Inventory, Payment, Shipping} }

// Services returns all services, order first.
func Services() []string { return append([]string{Order}, Dependencies()...) }

// The headers of the demo's requests.
//
// OrderHeader is what makes a retry of these POSTs safe: a service that has done its
// part for an order does not do it again. The usual Idempotency-Key would do the same
// and more: net/http takes it as leave to repeat a request by itself when a
// connection breaks, where no breaker counts it and no event tells of it.
const (
	OrderHeader   = "Order-Id"
	AttemptHeader = "Attempt"
)

// AnyPort is the address of a server for which the kernel picks a free port.
const AnyPort = "127.0.0.1:0"

// Config says how a shop is built.
type Config struct {
	// Listen is the address of each service, as host:port. A service without one
	// gets [AnyPort].
	Listen map[string]string

	// Network is what the services talk over. The zero Network is TCP.
	Network Network

	// Circuit and Retry configure the protection of each dependency. Name and Events
	// are set by the shop.
	Circuit resilience.CircuitBreakerConfig
	Retry   resilience.RetryConfig

	// Timeout is how long one attempt at a dependency may take.
	Timeout time.Duration

	// Faults makes the services fail. It must not be nil.
	Faults *fault.Injector

	// Seed decides which requests are hit by faults, which orders are refused, and
	// how long services take.
	Seed uint64

	// Events receives what the breakers and retries have to say.
	Events events.Sink

	// HTTP sees the requests of the services. The zero Observer does not.
	HTTP Observer
}

// Observer goes around what serves and what sends the requests of a service. A nil
// function adds nothing.
type Observer struct {
	Server func(service string, handler http.Handler) http.Handler
	Client func(service string, transport http.RoundTripper) http.RoundTripper
}

func (o Observer) server(service string, h http.Handler) http.Handler {
	if o.Server == nil {
		return h
	}
	return o.Server(service, h)
}

func (o Observer) client(service string, t http.RoundTripper) http.RoundTripper {
	if o.Client == nil {
		return t
	}
	return o.Client(service, t)
}

// Network makes listeners and connections. A nil function means TCP.
type Network struct {
	Listen func(ctx context.Context, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// Open listens on an address, host:port.
func (n Network) Open(ctx context.Context, address string) (net.Listener, error) {
	if n.Listen != nil {
		return n.Listen(ctx, address)
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", address)
}

// Transport returns a transport over n that keeps as many connections as are needed
// at once: the default of two a host would have every burst dial anew.
func (n Network) Transport() *http.Transport {
	dial := n.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	return &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 256}
}

// ListenError says that a service could not listen on its address.
type ListenError struct {
	Service string
	Address string
	Err     error
}

// Error names the service, its address and why.
func (e *ListenError) Error() string {
	return fmt.Sprintf("%s cannot listen on %s: %v", e.Service, e.Address, e.Err)
}

// Unwrap returns why.
func (e *ListenError) Unwrap() error { return e.Err }

// Shop is a running order system.
type Shop struct {
	addresses map[string]string
	servers   []*http.Server // order first
	serving   sync.WaitGroup
	transport *http.Transport
	circuits  []*resilience.CircuitBreaker
}

// Open starts the services. Without an error the caller must call [Shop.Close]. An
// address that cannot be listened on is a [*ListenError].
func Open(ctx context.Context, config Config) (*Shop, error) {
	listeners, err := listenAll(ctx, config)
	if err != nil {
		return nil, err
	}
	s := &Shop{addresses: make(map[string]string), transport: config.Network.Transport()}
	front := &order{}
	transport := config.HTTP.client(Order, s.transport)
	for _, d := range dependencies {
		c := newClient(d.name, "http://"+Reachable(listeners[d.name].Addr().String())+"/"+d.verb, transport, config)
		s.circuits = append(s.circuits, c.circuit)
		front.clients = append(front.clients, c)
	}
	s.serve(Order, listeners[Order], config.HTTP.server(Order, front.handler()))
	for _, d := range dependencies {
		h := (&backend{dependency: d, faults: config.Faults, seed: config.Seed}).handler()
		s.serve(d.name, listeners[d.name], config.HTTP.server(d.name, h))
	}
	return s, nil
}

// listenAll listens for every service, or for none if one cannot.
func listenAll(ctx context.Context, config Config) (map[string]net.Listener, error) {
	listeners := make(map[string]net.Listener)
	for _, name := range Services() {
		address := config.Listen[name]
		if address == "" {
			address = AnyPort
		}
		l, err := config.Network.Open(ctx, address)
		if err != nil {
			for _, l := range listeners {
				err = errors.Join(err, l.Close())
			}
			return nil, &ListenError{Service: name, Address: address, Err: err}
		}
		listeners[name] = l
	}
	return listeners, nil
}

func (s *Shop) serve(name string, l net.Listener, h http.Handler) {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // of connections cut on purpose
	}
	s.addresses[name] = l.Addr().String()
	s.servers = append(s.servers, server)
	s.serving.Go(func() { _ = server.Serve(l) }) // always http.ErrServerClosed: see Close
}

// Reachable returns an address at which somebody on this machine reaches who listens
// on the given one, which may be that of every interface.
func Reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// Address returns where a service listens, as host:port; empty if there is no such
// service.
func (s *Shop) Address(service string) string { return s.addresses[service] }

// Circuits returns the breakers of the dependencies, in the order of [Dependencies].
func (s *Shop) Circuits() []*resilience.CircuitBreaker { return s.circuits }

// Stop stops the services. Orders that are in work are finished first, as long as ctx
// allows, and cut off then: the error is that of ctx. When Stop returns nothing of the
// shop is running, but for the handlers that were cut off, which end by themselves.
func (s *Shop) Stop(ctx context.Context) error {
	var first error
	for _, server := range s.servers { // order first: it needs the others
		if err := server.Shutdown(ctx); err != nil {
			first = errors.Join(first, err, server.Close())
		}
		s.transport.CloseIdleConnections()
	}
	s.serving.Wait()
	return first
}

// Close stops the services, if [Shop.Stop] has not, and retires the breakers.
func (s *Shop) Close(ctx context.Context) error {
	err := s.Stop(ctx)
	for _, c := range s.circuits {
		c.Close()
	}
	return err
}
