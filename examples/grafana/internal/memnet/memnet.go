// Package memnet is a network in memory, for tests: connections on which nothing
// is waited for but the other side, so that time in a testing/synctest bubble
// passes as if they were idle.
package memnet

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
)

// Network is a network with one host, whatever the host is called in an address.
// The zero Network is ready to use. All methods may be called concurrently.
type Network struct {
	mu        sync.Mutex
	listeners map[int]*listener // by port
}

// Listen listens on address, host:port. Port 0 means one that is free.
func (n *Network) Listen(_ context.Context, address string) (net.Listener, error) {
	port, err := portOf(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for first := 10001; port == 0; first++ {
		if n.listeners[first] == nil {
			port = first
		}
	}
	if n.listeners[port] != nil {
		return nil, &net.OpError{Op: "listen", Net: "mem", Err: syscall.EADDRINUSE}
	}
	l := &listener{network: n, port: port, dialed: make(chan net.Conn), closed: make(chan struct{})}
	if n.listeners == nil {
		n.listeners = make(map[int]*listener)
	}
	n.listeners[port] = l
	return l, nil
}

// Dial connects to who listens on address.
func (n *Network) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	port, err := portOf(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	l := n.listeners[port]
	n.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "mem", Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	select {
	case l.dialed <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "mem", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func portOf(address string) (int, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0, fmt.Errorf("memnet: port %q: %w", port, err)
	}
	return n, nil
}

type listener struct {
	network *Network
	port    int
	dialed  chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.dialed:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		delete(l.network.listeners, l.port)
		close(l.closed)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: l.port} }
