// Command server serves a recording of the demo's metrics as Prometheus would, and the
// page that draws the dashboards, to make dashboard-shots. It prints its address.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/breakwater-go/breakwater/examples/grafana/dashboards"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/preview"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
)

func main() {
	log.SetFlags(0)
	recording := flag.String("recording", "", "`file` with the recording")
	page := flag.String("page", "", "`folder` with the page")
	listen := flag.String("listen", "127.0.0.1:0", "`host:port` to serve at")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *recording, *page, *listen); err != nil {
		log.Fatalf("preview: %v", err)
	}
}

func run(ctx context.Context, recording, page, listen string) error {
	f, err := os.Open(recording)
	if err != nil {
		return err
	}
	r, err := preview.Read(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", recording, err)
	}
	s, err := prometheus.Open(prometheus.Config{})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // nothing in it is kept
	if err := s.Load(ctx, r.Series, r.Exemplars); err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(page)))
	mux.Handle("/dashboards/", http.StripPrefix("/dashboards/", http.FileServerFS(dashboards.Files)))
	api := preview.Handler(s, r)
	mux.Handle("/api/", api)
	mux.Handle("/moments", api)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Printf("http://%s\n", l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
