package load

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/shop"
	"github.com/breakwater-go/breakwater/internal/leaktest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(code int) *http.Response {
	return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader("done"))}
}

func generator(rate float64, f roundTrip) *Generator {
	return New(Config{URL: "http://order/orders", Client: f, Rate: rate, Timeout: 5 * time.Second, Grace: 2 * time.Second})
}

func TestSteadyRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		seen := make(map[string]bool)
		g := generator(40, func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			at = append(at, time.Since(start))
			seen[r.Header.Get(shop.OrderHeader)] = true
			mu.Unlock()
			time.Sleep(3 * time.Second) // slow answers do not slow it down
			return answer(http.StatusCreated), nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		g.config.Grace = time.Minute
		g.Run(ctx)
		require.Equal(t, 13*time.Second, time.Since(start).Round(100*time.Millisecond), "those under way are waited for")
		require.Len(t, at, 400)
		for i, d := range at {
			require.Equal(t, 12500*time.Microsecond+time.Duration(i)*25*time.Millisecond, d)
			require.True(t, seen[strconv.Itoa(i+1)], "numbered from 1 without gap")
		}
		require.Equal(t, Count{Orders: 400, Time: 400 * 3 * time.Second}, g.Counts()[Accepted])
		require.Equal(t, 3*time.Second, g.Counts()[Accepted].Mean())
	})
}

func TestGraceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		g := generator(10, func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		g.Run(ctx)
		require.Equal(t, 12*time.Second, time.Since(start))
		require.Equal(t, 100, g.Counts()[Lost].Orders)
		require.Equal(t, 100, g.Counts().Orders())
	})
}

func TestScale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := generator(40, func(*http.Request) (*http.Response, error) { return answer(http.StatusCreated), nil })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		time.AfterFunc(5*time.Second, func() { g.Scale(3) })
		time.AfterFunc(10*time.Second, func() {
			require.InDelta(t, 5*40+5*120, g.Counts().Orders(), 1)
			g.Scale(0.5)
		})
		g.Run(ctx)
		require.InDelta(t, 5*40+5*120+10*20, g.Counts().Orders(), 2)
	})
}

func TestSchedule(t *testing.T) {
	start := time.Now()
	var s schedule
	for _, step := range []struct{ now, due time.Duration }{
		{0, 50 * time.Millisecond},
		{50 * time.Millisecond, 150 * time.Millisecond},
		{1100 * time.Millisecond, 250 * time.Millisecond}, // late, and makes up for it
		{1100 * time.Millisecond, 350 * time.Millisecond},
		{1450 * time.Millisecond, 450 * time.Millisecond}, // just so
		{time.Hour, time.Hour + 50*time.Millisecond},      // too late: goes on from there
		{time.Hour, time.Hour + 150*time.Millisecond},
	} {
		require.Equal(t, step.due, s.next(start.Add(step.now), float64(100*time.Millisecond)).Sub(start), "at %v", step.now)
	}
	at := start.Add(time.Hour + 200*time.Millisecond)
	require.Equal(t, at.Add(5*time.Millisecond), s.next(at, float64(10*time.Millisecond)), "another interval begins at once")
	require.Equal(t, at.Add(15*time.Millisecond), s.next(at, float64(10*time.Millisecond)))
}

func TestResults(t *testing.T) {
	for _, c := range []struct {
		answer func() (*http.Response, error)
		want   Result
	}{
		{func() (*http.Response, error) { return answer(http.StatusCreated), nil }, Accepted},
		{func() (*http.Response, error) { return answer(http.StatusConflict), nil }, Refused},
		{func() (*http.Response, error) { return answer(http.StatusPaymentRequired), nil }, Refused},
		{func() (*http.Response, error) { return answer(http.StatusBadGateway), nil }, Failed},
		{func() (*http.Response, error) { return answer(http.StatusServiceUnavailable), nil }, TurnedAway},
		{func() (*http.Response, error) { return answer(http.StatusOK), nil }, Lost},
		{func() (*http.Response, error) { return answer(http.StatusInternalServerError), nil }, Lost},
		{func() (*http.Response, error) { return nil, errors.New("no connection") }, Lost},
		{func() (*http.Response, error) {
			r := answer(http.StatusCreated)
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("don"), failing{}))
			return r, nil
		}, Lost},
	} {
		g := generator(1, func(*http.Request) (*http.Response, error) { return c.answer() })
		g.send(t.Context(), 1)
		var want Counts
		want[c.want].Orders = 1
		got := g.Counts()
		for r := range got {
			got[r].Time = 0
		}
		require.Equal(t, want, got)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestSince(t *testing.T) {
	earlier := Counts{Accepted: {3, 30}, Failed: {1, 5}}
	later := Counts{Accepted: {10, 100}, Failed: {1, 5}, Lost: {2, 4}}
	require.Equal(t, Counts{Accepted: {7, 70}, Lost: {2, 4}}, later.Since(earlier))
	require.Zero(t, Count{}.Mean())
}
