//go:build !race

// The race detector makes sync.Pool forget on purpose, so this is for builds without.

package resilience

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// What stripes are for: a processor finds its stripe as it left it, so that its cache
// still has the line. Each goroutine here stands for a processor, which it is but for
// the moments at which the scheduler moves it.
func TestStripesStayWithTheirProcessors(t *testing.T) {
	const enough = 1000 // meetings
	for _, procs := range []int{2, 8, 32} {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		s := newStripes()
		require.Len(t, s.each, procs)
		first := uintptr(unsafe.Pointer(&s.each[0]))
		owners := make([]atomic.Int64, procs)
		owner := func(mine *stripe) *atomic.Int64 {
			return &owners[(uintptr(unsafe.Pointer(mine))-first)/unsafe.Sizeof(stripe{})]
		}
		var adds, met, moved, latest atomic.Int64
		for round := 0; round < 40 && met.Load() < enough; round++ {
			var all sync.WaitGroup
			begin := make(chan struct{})
			for id := range int64(procs) {
				all.Go(func() {
					<-begin
					for range 30_000 {
						privateWork()
						mine := s.tokens.Get().(*stripe)
						// Where processors share cores, each adds alone for a while. What
						// counts is what it finds after another has added.
						if others := latest.Swap(id + 1); others != 0 && others != id+1 {
							met.Add(1)
							if last := owner(mine).Load(); last != 0 && last != id+1 {
								moved.Add(1)
							}
						}
						owner(mine).Store(id + 1)
						mine.n.Add(1)
						s.tokens.Put(mine)
						adds.Add(1)
					}
				})
			}
			close(begin)
			all.Wait()
		}
		require.Equal(t, uint64(adds.Load()), s.sum(), "no count is lost")
		if met.Load() < enough {
			t.Skipf("GOMAXPROCS %d: this machine is too busy to run two goroutines at once: they met %d times", procs, met.Load())
		}
		share := float64(moved.Load()) / float64(met.Load())
		t.Logf("GOMAXPROCS %d: the stripe's last writer was another for %.3f of %d additions that followed another's",
			procs, share, met.Load())
		require.Less(t, share, 0.5) // dealt at random it is close to 1
	}
}

// privateWork takes a processor some 400 ns, as calls do between two additions: long
// enough in all for the scheduler to move goroutines about.
func privateWork() {
	x := uint64(1)
	for range 400 {
		x = x*6364136223846793005 + 1442695040888963407
	}
	runtime.KeepAlive(x)
}
