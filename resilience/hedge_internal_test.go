package resilience

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// Between the moment that an operation is decided and that in which its context ends, a
// timer that has fired begins no attempt and none is set.
func TestHedgeThatIsOverBeginsNothing(t *testing.T) {
	o := &hedging{hedge: NewHedge(nil), attempts: 1, running: 1}
	o.ctx, o.cancel = context.WithCancel(t.Context())
	defer o.cancel()
	o.mu.Lock()
	o.end()
	o.mu.Unlock()
	n, _ := o.next()
	require.Zero(t, n)
	o.arm(o.ctx)
	require.Nil(t, o.timer)
	o.hedges.Wait()
}
