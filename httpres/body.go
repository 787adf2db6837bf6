package httpres

import (
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
)

// body is the body of a caller's request: where the attempts get theirs from, and that
// it is closed, once, in any case.
type body struct {
	req    *http.Request
	kind   bodyKind
	given  bool // to an attempt, whose Base closes it
	replay *replay
	watch  *watched
}

type bodyKind uint8

const (
	noBody   bodyKind = iota
	single            // can be sent once
	getBody           // the request's GetBody makes another
	replayed          // kept as it is sent
)

// begin decides how often the body can be sent.
func (b *body) begin(req *http.Request, safe bool, limit int64) {
	*b = body{req: req}
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		b.kind = noBody
	case req.GetBody != nil:
		b.kind = getBody
	case safe && req.ContentLength <= limit:
		b.kind = replayed
		b.replay = &replay{src: req.Body, limit: int(min(limit, math.MaxInt)), size: int(max(0, req.ContentLength))}
	default:
		b.kind = single
	}
}

// next returns the body for another attempt.
func (b *body) next() (io.ReadCloser, error) {
	first := !b.given
	b.given = true
	switch b.kind {
	case noBody:
		return b.req.Body, nil
	case replayed:
		return b.replay.reader()
	case getBody:
		if first {
			return b.req.Body, nil
		}
		return b.req.GetBody()
	default:
		if !first {
			return nil, errSent // never: such a request is not tried again
		}
		// A file is sent by the kernel, if nobody stands in between.
		if _, file := b.req.Body.(*os.File); file {
			return b.req.Body, nil
		}
		b.watch = &watched{ReadCloser: b.req.Body, size: b.req.ContentLength}
		return b.watch, nil
	}
}

var errSent = errors.New("the body is larger than what is kept of it")

// rewind returns the GetBody for an attempt: net/http asks for it when a connection
// breaks that was idle for too long, which is no failure of anybody.
func (b *body) rewind(req *http.Request) func() (io.ReadCloser, error) {
	if b.kind == replayed {
		return b.replay.reader
	}
	return req.GetBody
}

// rewindable reports whether next has another body after one was sent.
func (b *body) rewindable() bool {
	switch b.kind {
	case single:
		return false
	case replayed:
		return b.replay.rewindable()
	default:
		return true
	}
}

// failed reports whether the caller's body could not be read, or is not of the size that
// the request tells, which ends any attempt. It is not known of one that GetBody makes.
func (b *body) failed() bool {
	switch {
	case b.replay != nil:
		return b.replay.failed.Load()
	case b.watch != nil:
		return b.watch.failed.Load()
	default:
		return false
	}
}

// end closes the body, or lets who has it close it.
func (b *body) end() {
	switch {
	case b.kind == replayed:
		b.replay.end()
	case !b.given && b.req.Body != nil:
		_ = b.req.Body.Close()
	}
}

// watched notes whether reading a body failed before anybody closed it.
type watched struct {
	io.ReadCloser
	size, read     int64 // size is as the request has it, 0 or -1 if it is not known
	closed, failed atomic.Bool
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.read += int64(n)
	if spoils(err, w.read, w.size) && !w.closed.Load() {
		w.failed.Store(true)
	}
	return n, err
}

// spoils reports whether a body of which so much was read, last with err, cannot be sent:
// reading it failed, or it is longer or shorter than the size that the request tells.
func spoils(err error, read, size int64) bool {
	ended := err == io.EOF //nolint:errorlint // as readers return it
	return err != nil && !ended || size > 0 && (read > size || ended && read < size)
}

func (w *watched) Close() error {
	w.closed.Store(true)
	return w.ReadCloser.Close()
}

// replay lets a body be read again from the beginning. It keeps what was read, up to a
// limit, and reads on from the body where that ends: nothing is read that nobody asks
// for, so a body that is written while it is sent stays one.
//
// Readers may overlap: a transport may still read for an attempt that has failed. They
// take turns at mu. A reader that is not the latest may be within a Read of the body; what
// it gets is kept for the latest, whatever the limit, so nothing is lost. It reads no
// more after that. A reader waits in the body, or for who does, as long as the body's
// writer likes. Closing does not wait, so who is the latest is guarded by another mutex.
type replay struct {
	src   io.ReadCloser
	limit int
	size  int // expected, 0 if not known

	mu   sync.Mutex
	kept []byte // what was read so far; nothing after an overflow
	err  error  // how the body ended; nil if it has not

	failed atomic.Bool // it ended in an error, or is not of its size

	state    sync.Mutex
	latest   *replayReader
	overflow bool // not everything is kept: the latest reader is the last
	ended    bool // no attempt follows
	closed   bool // src is
}

type replayReader struct {
	replay *replay
	off    int // guarded by replay.mu
	closed atomic.Bool
}

// reader returns a reader from the beginning on, which becomes the latest.
func (r *replay) reader() (io.ReadCloser, error) {
	r.state.Lock()
	defer r.state.Unlock()
	if r.overflow {
		return nil, errSent
	}
	r.latest = &replayReader{replay: r}
	return r.latest, nil
}

// rewindable reports whether reader returns another one.
func (r *replay) rewindable() bool {
	r.state.Lock()
	defer r.state.Unlock()
	return !r.overflow
}

// isLatest reports whether reads of rr may go to the body. Full says that they leave
// more than may be kept: then it is the last.
func (r *replay) isLatest(rr *replayReader, full bool) bool {
	r.state.Lock()
	defer r.state.Unlock()
	if r.latest != rr {
		return false
	}
	r.overflow = r.overflow || full
	return true
}

// end says that no attempt follows. The body is closed by who reads it, if anybody does.
func (r *replay) end() {
	r.state.Lock()
	r.ended = true
	r.state.Unlock()
	_ = r.closeSource()
}

// closeSource closes the body if nobody needs it any more.
func (r *replay) closeSource() error {
	r.state.Lock()
	due := r.ended && !r.closed && (r.latest == nil || r.latest.closed.Load())
	r.closed = r.closed || due
	r.state.Unlock()
	if !due {
		return nil
	}
	return r.src.Close()
}

func (r *replay) isClosed() bool {
	r.state.Lock()
	defer r.state.Unlock()
	return r.closed
}

func (rr *replayReader) Read(p []byte) (int, error) {
	r := rr.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	if rr.closed.Load() || !r.isLatest(rr, false) {
		return 0, http.ErrBodyReadAfterClose
	}
	if rr.off < len(r.kept) {
		n := copy(p, r.kept[rr.off:])
		rr.off += n
		return n, nil
	}
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.src.Read(p)
	r.keep(rr, p[:n])
	spoilt := spoils(err, int64(rr.off), int64(r.size))
	if (err != nil || spoilt) && !r.isClosed() {
		r.err = err
		if spoilt {
			r.failed.Store(true)
		}
	}
	return n, err
}

// keep keeps what rr read from the body. It requires mu.
func (r *replay) keep(rr *replayReader, data []byte) {
	size := rr.off + len(data)
	if size > r.limit && r.isLatest(rr, true) {
		r.kept = nil
	} else {
		if r.kept == nil {
			r.kept = make([]byte, 0, max(r.size, len(data)))
		}
		r.kept = append(r.kept, data...)
	}
	rr.off = size
}

func (rr *replayReader) Close() error {
	rr.closed.Store(true)
	return rr.replay.closeSource()
}
