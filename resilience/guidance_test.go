package resilience_test

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

// docs/guidance.md quotes the presets as they are run here, and all of them.
func TestGuidanceQuotesThePresets(t *testing.T) {
	guidance, err := os.ReadFile("../docs/guidance.md")
	require.NoError(t, err)
	source, err := os.ReadFile("example_presets_test.go")
	require.NoError(t, err)
	quoted := ""
	for _, block := range regexp.MustCompile("(?s)```go\n(.*?)```\n").FindAllSubmatch(guidance, -1) {
		require.Contains(t, string(source), string(block[1]))
		quoted += string(block[1])
	}
	presets := regexp.MustCompile(`(?m)^func ([a-z]\w*)\(`).FindAllSubmatch(source, -1)
	presets = slices.DeleteFunc(presets, func(p [][]byte) bool { return strings.HasPrefix(string(p[1]), "new") })
	require.Len(t, presets, 10)
	for _, p := range presets {
		require.Contains(t, quoted, "func "+string(p[1])+"(")
	}
}

// The retries of the presets, to their end.
func TestPresetsOfRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name   string
			config *resilience.RetryConfig
			runs   int
			least  time.Duration
			most   time.Duration
		}{
			{"conservative", conservative(), 2, time.Second, time.Second},
			{"aggressive", aggressive(), 5, 0, (50 + 150 + 450 + 1350) * time.Millisecond},
			{"none", none(), 1, 0, 0},
		} {
			runs, began := 0, time.Now()
			require.Error(t, resilience.Retry(t.Context(), tt.config, func() error { runs++; return errBroken }))
			require.Equal(t, tt.runs, runs, tt.name)
			require.GreaterOrEqual(t, time.Since(began), tt.least, tt.name)
			require.LessOrEqual(t, time.Since(began), tt.most, tt.name)
		}
	})
}

// The stacks of the presets while their service hangs, and after.
func TestPresetsOfStacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := eventstest.New(t)
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

		began := time.Now()
		payment := newPayment(rec.Sink())
		require.ErrorIs(t, payment.Run(t.Context(), hang), resilience.ErrRetriesExhausted)
		require.Equal(t, 11*time.Second, time.Since(began), "two attempts of five seconds, a second apart")

		search := newSearch(func(context.Context, error) ([]string, error) { return []string{"of before"}, nil }, rec.Sink())
		began = time.Now()
		found, err := resilience.Do(t.Context(), search, func(ctx context.Context) ([]string, error) { return nil, hang(ctx) })
		require.NoError(t, err)
		require.Equal(t, []string{"of before"}, found)
		require.Equal(t, 1200*time.Millisecond, time.Since(began), "the second attempt, 0.2 s after the first, had a second")
		var n atomic.Int32
		began = time.Now()
		found, err = resilience.Do(t.Context(), search, func(ctx context.Context) ([]string, error) {
			if n.Add(1) == 1 {
				return nil, hang(ctx)
			}
			return []string{"fresh"}, nil
		})
		require.NoError(t, err)
		require.Equal(t, []string{"fresh"}, found)
		require.Equal(t, 200*time.Millisecond, time.Since(began))
		require.Len(t, eventstest.Of[events.FellBack](rec), 1)

		limiter := &fakeLimiter{every: time.Second}
		analytics := newAnalytics(limiter, rec.Sink())
		began = time.Now()
		for range 10 {
			require.NoError(t, analytics.Run(t.Context(), func(context.Context) error { return nil }))
		}
		require.Equal(t, 9*time.Second, time.Since(began), "no more often than the limiter allows")
	})
}
