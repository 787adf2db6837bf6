package resilience

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Of many that find no room at once only one searches for it: the others, who waited for
// mu meanwhile, know then.
func TestRegistrySearchesOnceForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(&RegistryConfig{Max: 1})
		defer r.Close()
		r.Get("a").ForceOpen()
		searches := func() uint64 {
			before := r.tick.Load()
			for _, key := range []string{"b", "c", "d"} { // past the question of Get, as if at once
				require.Same(t, r.Overflow(), r.obtain(r.slot(key), key))
			}
			return r.tick.Load() - before
		}
		r.Get("b")
		time.Sleep(crowdedFor)
		require.Equal(t, uint64(1), searches())
		time.Sleep(crowdedFor)
		require.Equal(t, uint64(1), searches())
		r.Get("a").Reset()
		time.Sleep(crowdedFor)
		require.NotSame(t, r.Overflow(), r.Get("b"))
	})
}
