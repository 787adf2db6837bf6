package resilience

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Work that looks at the deadline itself may return before the timer has ended its
// context. It is late all the same, and nothing is late before the deadline.
func TestTimeoutIsFasterThanItsTimer(t *testing.T) {
	to := NewTimeout(&TimeoutConfig{Limit: time.Second})
	err := errors.New("i/o timeout")
	late := to.judge(t.Context(), t.Context(), time.Now(), err)
	require.Equal(t, &TimeoutError{Name: "default", Limit: time.Second, Err: err}, late)
	require.Equal(t, err, to.judge(t.Context(), t.Context(), time.Now().Add(time.Hour), err))
}
