package memnet

import (
	"context"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-go/breakwater/internal/leaktest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestDialAndListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Network
		l, err := n.Listen(t.Context(), "127.0.0.1:0")
		require.NoError(t, err)
		go func() {
			c, err := n.Dial(t.Context(), "tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(c, "hello")
			_ = c.Close()
		}()
		c, err := l.Accept()
		require.NoError(t, err)
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, "hello", string(got))

		other, err := n.Listen(t.Context(), "127.0.0.1:0")
		require.NoError(t, err)
		require.NotEqual(t, l.Addr().String(), other.Addr().String())
		_, err = n.Listen(t.Context(), l.Addr().String())
		require.ErrorIs(t, err, syscall.EADDRINUSE)

		time.AfterFunc(time.Second, func() { _ = l.Close() })
		_, err = l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		require.NoError(t, l.Close(), "closing again does nothing")
		_, err = n.Dial(t.Context(), "tcp", l.Addr().String())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		again, err := n.Listen(t.Context(), l.Addr().String())
		require.NoError(t, err, "the port is free again")
		require.NoError(t, again.Close())

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = n.Dial(ctx, "tcp", other.Addr().String())
		require.ErrorIs(t, err, context.DeadlineExceeded, "nobody accepts")

		for _, address := range []string{"127.0.0.1", "127.0.0.1:http"} {
			_, err = n.Listen(t.Context(), address)
			require.Error(t, err)
			_, err = n.Dial(t.Context(), "tcp", address)
			require.Error(t, err)
		}
	})
}
