package resilience

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A clock that steps back, which a monotonic one should not, gives nothing twice and
// takes nothing away; one that leaps ahead brings in what a Window holds and no more.
func TestBudgetWhenTheClockSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewRetryBudget(nil)
		for range 5 {
			b.deposit()
		}
		require.InDelta(t, 11, b.Stats().Available, 1e-9)
		b.at += time.Hour // the clock was ahead when the balance was brought up to date
		b.deposit()
		for range 11 {
			require.True(t, b.withdraw())
		}
		require.False(t, b.withdraw())
		require.InDelta(t, .2, b.Stats().Available, 1e-9)
		time.Sleep(time.Minute)
		require.InDelta(t, .2, b.Stats().Available, 1e-9, "until the clock has caught up")
		time.Sleep(time.Hour)
		require.InDelta(t, 10, b.Stats().Available, 0.1)

		for _, leap := range []time.Duration{time.Hour, 50 * 365 * 24 * time.Hour, math.MaxInt64} {
			b := NewRetryBudget(nil)
			for range 1000 {
				b.deposit()
			}
			b.base = b.base.Add(-leap)
			s := b.Stats()
			require.InDelta(t, 10, s.Available, 1, "%v", leap)
			require.InDelta(t, 10, s.Limit, 1, "%v", leap)
		}
	})
}
