package httpres

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

type source struct {
	io.Reader
	closed atomic.Int64
}

func (s *source) Close() error {
	s.closed.Add(1)
	return nil
}

// entered tells when somebody reads.
type entered struct {
	io.ReadCloser
	within chan struct{}
}

func (e *entered) Read(p []byte) (int, error) {
	e.within <- struct{}{}
	return e.ReadCloser.Read(p)
}

// FuzzReplay reads a body in attempts that end anywhere, against what must be true of it:
// each attempt gets it from the beginning, whole as far as it reads; there is another one
// as long as no more than the limit was read; and it is closed once, in the end.
func FuzzReplay(f *testing.F) {
	f.Add([]byte("hello"), 10, []byte{3, 0, 255}, uint64(1))
	f.Add([]byte("hello"), 5, []byte{5, 6}, uint64(2))
	f.Add([]byte("hello"), 4, []byte{4, 5, 255}, uint64(3))
	f.Add([]byte(""), 0, []byte{1}, uint64(4))
	f.Fuzz(func(t *testing.T, content []byte, limit int, attempts []byte, seed uint64) {
		if limit < 0 || len(attempts) == 0 || len(attempts) > 100 {
			return
		}
		random := rand.New(rand.NewPCG(seed, 0))
		var in io.Reader = bytes.NewReader(content)
		switch seed % 3 {
		case 1:
			in = iotest.DataErrReader(in)
		case 2:
			in = iotest.HalfReader(in)
		}
		src := &source{Reader: in}
		r := &replay{src: src, limit: limit, size: int(seed % 7)}
		most := 0 // that was read from the source
		for _, upTo := range attempts {
			b, err := r.reader()
			if most > limit {
				require.Error(t, err)
				require.False(t, r.rewindable())
				break
			}
			require.NoError(t, err)
			var got []byte
			for len(got) < int(upTo) {
				p := make([]byte, 1+random.IntN(8))
				n, err := b.Read(p)
				got = append(got, p[:n]...)
				if err != nil {
					require.Equal(t, io.EOF, err)
					require.Equal(t, content, append([]byte{}, got...))
					break
				}
			}
			require.True(t, bytes.HasPrefix(content, got), "%q is not the beginning of %q", got, content)
			most = max(most, len(got))
			require.NoError(t, b.Close())
			n, err := b.Read(make([]byte, 1))
			require.Zero(t, n)
			require.Equal(t, http.ErrBodyReadAfterClose, err)
			require.Zero(t, src.closed.Load())
		}
		require.LessOrEqual(t, len(r.kept), limit)
		r.end()
		r.end()
		require.Equal(t, int64(1), src.closed.Load())
	})
}

// A reader of an attempt that has failed may still be within a Read of the body when the
// next attempt begins. What it gets is not lost, and it gets no more.
func TestReadersThatOverlap(t *testing.T) {
	for _, limit := range []int{100, 6} { // the late read stays within the limit, or passes it
		in, out := io.Pipe()
		src := &entered{ReadCloser: in, within: make(chan struct{}, 100)}
		r := &replay{src: src, limit: limit}
		first, err := r.reader()
		require.NoError(t, err)
		write := func(s string) {
			_, err := io.WriteString(out, s)
			require.NoError(t, err)
		}
		go write("hello")
		_, err = io.ReadFull(first, make([]byte, 5))
		require.NoError(t, err)
		<-src.within

		late := make(chan string)
		go func() {
			p := make([]byte, 10)
			n, _ := first.Read(p)
			late <- string(p[:n])
		}()
		<-src.within // the second reader waits behind the first, which waits for the writer
		require.NoError(t, first.Close())
		second, err := r.reader()
		require.NoError(t, err)
		all := make(chan []byte)
		go func() {
			b, _ := io.ReadAll(second)
			all <- b
		}()
		write(", world")
		require.Equal(t, ", world", <-late)
		write("!")
		require.NoError(t, out.Close())
		require.Equal(t, "hello, world!", string(<-all))
		_, err = first.Read(make([]byte, 1))
		require.Equal(t, http.ErrBodyReadAfterClose, err)
		require.NoError(t, second.Close())
		r.end()
		_, err = io.WriteString(out, "x")
		require.Error(t, err, "the body is closed")
	}
}

// Closing the latest reader after the last attempt closes the body, even while it is
// being read: that is how a transport frees a writer that nobody reads.
func TestCloseWhileReading(t *testing.T) {
	in, _ := io.Pipe()
	src := &entered{ReadCloser: in, within: make(chan struct{}, 1)}
	r := &replay{src: src, limit: 10}
	b, err := r.reader()
	require.NoError(t, err)
	failed := make(chan error)
	go func() {
		_, err := b.Read(make([]byte, 1))
		failed <- err
	}()
	<-src.within
	r.end()
	require.NoError(t, b.Close())
	require.Equal(t, io.ErrClosedPipe, <-failed)
	require.False(t, r.failed.Load(), "it was we who ended it")
}

// A reader that was not closed when the next came reads no more either.
func TestOnlyTheLatestReads(t *testing.T) {
	r := &replay{src: &source{Reader: strings.NewReader("hello")}, limit: 10}
	first, err := r.reader()
	require.NoError(t, err)
	second, err := r.reader()
	require.NoError(t, err)
	_, err = first.Read(make([]byte, 1))
	require.Equal(t, http.ErrBodyReadAfterClose, err)
	got, err := io.ReadAll(second)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
}

// What is kept of a body, and what goes as it is.
func TestBodyKinds(t *testing.T) {
	get := func() (io.ReadCloser, error) { return nil, nil }
	for name, c := range map[string]struct {
		req  http.Request
		safe bool
		want bodyKind
	}{
		"none":                      {http.Request{}, true, noBody},
		"said to be none":           {http.Request{Body: http.NoBody}, true, noBody},
		"another can be had":        {http.Request{Body: &source{}, GetBody: get, ContentLength: 1 << 40}, true, getBody},
		"of an unknown length":      {http.Request{Body: &source{}, ContentLength: -1}, true, replayed},
		"of a length that fits":     {http.Request{Body: &source{}, ContentLength: 10}, true, replayed},
		"of one that does not":      {http.Request{Body: &source{}, ContentLength: 11}, true, single},
		"of a request sent once":    {http.Request{Body: &source{}, ContentLength: 5}, false, single},
		"one for a request so sent": {http.Request{Body: &source{}, GetBody: get}, false, getBody},
	} {
		var b body
		b.begin(&c.req, c.safe, 10)
		require.Equal(t, c.want, b.kind, name)
	}
	file, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	var b body
	b.begin(&http.Request{Body: file}, false, 10)
	got, err := b.next()
	require.NoError(t, err)
	require.Same(t, file, got, "the kernel sends it")
	_, err = b.next()
	require.Error(t, err)
}

func TestBodyOfTheCallerFails(t *testing.T) {
	wrong := errors.New("wrong")
	r := &replay{src: &source{Reader: iotest.ErrReader(wrong)}, limit: 10}
	b, err := r.reader()
	require.NoError(t, err)
	for range 2 {
		_, err = b.Read(make([]byte, 1))
		require.Equal(t, wrong, err)
	}
	require.True(t, r.failed.Load())

	w := &watched{ReadCloser: &source{Reader: io.MultiReader(strings.NewReader("x"), iotest.ErrReader(wrong))}}
	_, err = io.ReadAll(w)
	require.Equal(t, wrong, err)
	require.True(t, w.failed.Load())

	w = &watched{ReadCloser: &source{Reader: iotest.ErrReader(wrong)}}
	require.NoError(t, w.Close())
	_, err = w.Read(make([]byte, 1))
	require.Equal(t, wrong, err)
	require.False(t, w.failed.Load(), "what is read after closing is nobody's failure")
}
