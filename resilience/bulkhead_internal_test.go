package resilience

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// Between the moment that a call gives its slot back and the moment that it looks who
// waits for it, the one who waited may leave, another take the slot, and a third queue
// up. That one gets the slot after, not a slot too many.
func TestASlotThatIsTakenMeanwhileIsNotHandedOn(t *testing.T) {
	b := NewBulkhead(&BulkheadConfig{MaxConcurrent: 1, MaxQueue: 1})
	defer b.Close()
	require.True(t, b.take())
	impatient, verdict := b.enqueue()
	require.Equal(t, queued, verdict)

	b.mu.Lock()
	released := make(chan struct{})
	go func() {
		defer close(released)
		b.release()
	}()
	for b.word.Load()%oneWaiting != 0 {
		runtime.Gosched()
	}
	b.queue.remove(impatient)
	b.word.Add(oneLess)
	require.True(t, b.take())
	late := &waiter{slot: make(chan struct{})}
	b.queue.push(late)
	b.word.Add(oneWaiting)
	b.mu.Unlock()
	<-released

	require.False(t, late.granted)
	require.Equal(t, oneWaiting+1, b.word.Load(), "one runs and one waits")
	b.release()
	require.True(t, late.granted)
	require.Equal(t, uint64(1), b.word.Load())
	b.release()
	require.Zero(t, b.word.Load())
}
