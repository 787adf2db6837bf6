//go:build !race

package httpres_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/httpres"
)

// What a request costs beside what Base does, in allocations: one for the attempt and two
// for its header. The race detector allocates, so this is not built with it.
func TestAllocations(t *testing.T) {
	ok := base(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: ending{}}, nil
	})
	for name, c := range map[string]struct {
		config httpres.TransportConfig
		most   float64
	}{
		"usual":           {httpres.TransportConfig{}, 3},
		"no breaker":      {httpres.TransportConfig{Key: func(*http.Request) string { return "" }}, 3},
		"attempt timeout": {httpres.TransportConfig{AttemptTimeout: time.Hour}, 7}, // a context and a timer
		"until body end":  {httpres.TransportConfig{UntilBodyEnd: true}, 4},
	} {
		c.config.Base = ok
		rt := transport(t, c.config)
		ctx, cancel := context.WithCancel(t.Context())
		req := request(t, "GET", there, nil).WithContext(ctx)
		req.Header.Set("Accept", "text/plain")
		do := func(rt http.RoundTripper) func() {
			return func() {
				resp, err := rt.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}
		got := testing.AllocsPerRun(200, do(rt)) - testing.AllocsPerRun(200, do(ok))
		require.LessOrEqual(t, got, c.most, name)
		cancel()
	}
}

// ending is a body that ends at once.
type ending struct{}

func (ending) Read([]byte) (int, error) { return 0, io.EOF }
func (ending) Close() error             { return nil }
