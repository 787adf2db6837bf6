package liveres_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/liveres"
	"github.com/breakwater-go/breakwater/resilience"
)

// A hundred browsers watch 500 circuits that have 50 000 calls a second between them.
// Ten more are stuck: they accept the connection and read nothing. Everybody who
// reads gets updates, and calls take what they take when nobody watches.
func TestHundredWatchers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const watchers, stuck, wanted, perSecond = 100, 10, 4, 50000
	l := liveres.New()
	var breakers []*resilience.CircuitBreaker
	for i := range 500 {
		breakers = append(breakers, breaker(l, resilience.CircuitBreakerConfig{Name: fmt.Sprint("circuit ", i)}))
	}
	server := httptest.NewServer(http.StripPrefix("/debug/circuits", l))
	defer server.Close()
	defer l.Close()

	ctx, cancel := context.WithCancel(t.Context())
	var everyone sync.WaitGroup
	defer everyone.Wait()
	defer cancel()

	// The calls, at a steady rate; each round is a hundredth of a second's.
	var calls atomic.Uint64
	rounds := make(chan []time.Duration, 1)
	everyone.Go(func() {
		var took []time.Duration
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		i := 0
		for {
			select {
			case <-ctx.Done():
				rounds <- took
				return
			case <-ticker.C:
			}
			began := time.Now()
			for range perSecond / 100 {
				i++
				work := succeed
				if i%20 == 0 {
					work = fail
				}
				_ = breakers[i%len(breakers)].Run(context.Background(), work)
				calls.Add(1)
			}
			took = append(took, time.Since(began)/(perSecond/100))
		}
	})

	for range stuck {
		connection, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
		require.NoError(t, err)
		defer func() { _ = connection.Close() }()
		require.NoError(t, connection.(*net.TCPConn).SetReadBuffer(4096))
		_, err = connection.Write([]byte("GET /debug/circuits/events HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		require.NoError(t, err)
	}

	began := time.Now()
	var bytes atomic.Int64
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	problems := make(chan error, watchers)
	var readers sync.WaitGroup
	for range watchers {
		readers.Go(func() {
			if err := readUpdates(ctx, client, server.URL+"/debug/circuits/events", wanted, &bytes); err != nil {
				problems <- err
			}
		})
	}
	readers.Wait()
	elapsed := time.Since(began)
	cancel()
	took := <-rounds
	slices.Sort(took)
	close(problems)
	for err := range problems {
		require.NoError(t, err)
	}
	t.Logf("%d watchers, %d stuck: %d updates each in %v, %.1f MB/s in all; %.0f calls a second, of %v each (median), %v in the worst 10 ms",
		watchers, stuck, wanted, elapsed.Round(time.Millisecond), float64(bytes.Load())/1e6/elapsed.Seconds(),
		float64(calls.Load())/elapsed.Seconds(), took[len(took)/2], took[len(took)-1])
	require.Less(t, elapsed, 30*time.Second)
	if !raceEnabled {
		require.Less(t, took[len(took)/2], 20*time.Microsecond, "calls had to wait")
	}

	// All that was counted is there.
	page := snapshot(t, l)
	sum := 0.0
	for _, c := range optional(page, "circuits") {
		for _, n := range at(t, c, "totals").(object) {
			sum += n.(float64)
		}
	}
	require.InDelta(t, calls.Load(), sum, 0)
}

// readUpdates reads a stream until it has had a snapshot and so many updates.
func readUpdates(ctx context.Context, client *http.Client, address string, wanted int, bytes *atomic.Int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	snapshots, updates := 0, 0
	lines := bufio.NewReaderSize(response.Body, 1<<16)
	for snapshots == 0 || updates < wanted {
		line, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("after %d updates: %w", updates, err)
		}
		bytes.Add(int64(len(line)))
		switch line {
		case "event: snapshot\n":
			snapshots++
		case "event: update\n":
			updates++
		}
	}
	return nil
}
