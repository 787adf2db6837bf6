package demo

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/fault"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/report"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/web"
)

// Web is what the front is called where services are called by their names: in a
// [*shop.ListenError], and among the flags.
const Web = "web"

// front is the server of the pages.
type front struct {
	server  *http.Server
	serving sync.WaitGroup
	url     string
}

// listenWeb listens for the pages. What is listened on is known before there is
// anything to show, so that a port that is taken is found out first.
func (c Config) listenWeb(ctx context.Context) (net.Listener, error) {
	address := c.Web
	if address == "" {
		address = shop.AnyPort
	}
	l, err := c.Network.Open(ctx, address)
	if err != nil {
		return nil, &shop.ListenError{Service: Web, Address: address, Err: err}
	}
	return l, nil
}

// serve begins to show what there is.
func (w *watch) serve(c Config, start time.Time, l net.Listener, services *shop.Shop, faults *fault.Injector, tell func(report.Note)) *front {
	f := &front{url: "http://" + shop.Reachable(l.Addr().String())}
	f.server = &http.Server{
		Handler: web.Handler(web.Config{
			Live:     w.live,
			Metrics:  w.telemetry.Scrape(),
			Faults:   fault.Handler(faults),
			Breakers: services.Circuits(),
			Traces:   w.traces,
			Alerts:   w.prometheus.Alerts,
			Episodes: w.history.list,
			Start:    start,
			Minute:   scaled(time.Minute, c.alertScale()),
			Orders:   ordersURL(services),
			Notify:   tell,
		}),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // of browsers that leave
	}
	f.server.RegisterOnShutdown(w.live.Close)      // or it would wait for browsers to leave
	f.serving.Go(func() { _ = f.server.Serve(l) }) // always http.ErrServerClosed: see close
	return f
}

// close stops the server. Requests that are not answered when ctx is done are cut off,
// which is no error.
func (f *front) close(ctx context.Context) error {
	err := f.server.Shutdown(ctx)
	if err != nil && ctx.Err() != nil {
		err = f.server.Close()
	}
	f.serving.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func ordersURL(services *shop.Shop) string {
	return "http://" + shop.Reachable(services.Address(shop.Order)) + "/orders"
}
