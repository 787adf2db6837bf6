package liveres

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"sync"
	"time"
)

const (
	// updateInterval is the time between updates.
	updateInterval = time.Second

	// backlog is how many updates may wait for a browser. One that is further
	// behind loses updates and gets everything anew when it is back.
	backlog = 2
)

// audience is those who watch, and the goroutine that tells them what changes, which
// runs while there are any. Updates are encoded once for all.
type audience struct {
	mu       sync.Mutex
	closed   bool
	watchers map[*watcher]struct{}
	stop     chan struct{} // ends the present goroutine; nil if there is none
	sequence uint64        // of the last update
	moment   moment        // that it is about, or that the first one will refer to
	lost     uint64        // updates that browsers were too slow for
	turned   uint64        // watchers turned away

	hurry    chan struct{} // asks for an update now
	whole    []byte        // report for those who join; nil if there is none
	wholeFor uint64        // the sequence number it belongs to

	encoding sync.Mutex // held to make whole: once for all who want it
	running  sync.WaitGroup
}

// watcher is one browser.
type watcher struct {
	updates chan []byte
	done    chan struct{} // closed when it is to leave

	// Guarded by the audience's mu.
	behind bool   // it lost updates, and gets no more until it has caught up
	lost   uint64 // how many
}

func (a *audience) report() watchersReport {
	a.mu.Lock()
	defer a.mu.Unlock()
	return watchersReport{Now: len(a.watchers), LostUpdates: a.lost, TurnedAway: a.turned}
}

// join adds a watcher, or returns nil if there are too many or the Live is closed.
func (l *Live) join() *watcher {
	a := &l.audience
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.watchers) >= maxWatchers {
		a.turned++
		return nil
	}
	w := &watcher{updates: make(chan []byte, backlog), done: make(chan struct{})}
	if a.watchers == nil {
		a.watchers = make(map[*watcher]struct{})
		a.hurry = make(chan struct{}, 1)
	}
	a.watchers[w] = struct{}{}
	if a.stop == nil {
		// What is sent first is what changes from now on: this must be noted before w
		// can get its whole report.
		a.stop = make(chan struct{})
		a.moment = l.moment()
		s := newSender(l, a.stop, a.hurry, a.moment)
		a.running.Go(s.run)
	}
	return w
}

// leave takes a watcher out. The last one ends the goroutine.
func (a *audience) leave(w *watcher) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.watchers, w)
	if len(a.watchers) == 0 && a.stop != nil {
		close(a.stop)
		a.stop = nil
		a.whole = nil // it is not kept up to date any more
	}
}

func (a *audience) close() {
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		for w := range a.watchers {
			close(w.done)
		}
		if a.stop != nil {
			close(a.stop)
			a.stop = nil
		}
	}
	a.mu.Unlock()
	a.running.Wait()
}

// soon has the next update sent without delay.
func (a *audience) soon() {
	a.mu.Lock()
	hurry := a.hurry
	a.mu.Unlock()
	select {
	case hurry <- struct{}{}:
	default: // it is on its way, or nobody watches
	}
}

// send passes an update to all watchers, unless the goroutine it comes from was
// ended. It never waits for one.
func (a *audience) send(from chan struct{}, m moment, event func(sequence uint64) []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stop != from {
		return
	}
	a.sequence++
	a.moment = m
	update := event(a.sequence)
	for w := range a.watchers {
		if !w.behind {
			select {
			case w.updates <- update:
				continue
			default:
				w.behind = true
			}
		}
		w.lost++
		a.lost++
	}
}

// caughtUp reports how many updates w lost since it was asked last. If any, those
// that wait for it are lost too, since they make no sense without the others: w
// needs a whole report now.
func (a *audience) caughtUp(w *watcher) (lost uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !w.behind {
		return 0
	}
	for len(w.updates) > 0 {
		<-w.updates
		w.lost++
		a.lost++
	}
	w.behind = false
	lost, w.lost = w.lost, 0
	return lost
}

// everything returns a whole report as an event, encoded once between two updates
// however many ask for it.
//
// The updates that a watcher gets fit what it gets here. An update says what changed
// since the one before, so it completes every report that was begun after that one
// was sent. The number of the last update is read after the watcher joined, or
// caught up, and before the report is begun: every later update is sent to it.
//
// What changed means compared with the update before, not with this report. So what
// depends on the time, such as a rate, is of the moment of that update: the report
// differs from it only where something happened since, and then the next one has it.
func (l *Live) everything() []byte {
	a := &l.audience
	a.encoding.Lock()
	defer a.encoding.Unlock()
	a.mu.Lock()
	sequence, whole, m := a.sequence, a.whole, a.moment
	fresh := whole != nil && a.wholeFor == sequence
	a.mu.Unlock()
	if fresh {
		return whole
	}
	whole = l.event("snapshot", sequence, encode(l.report(m)))
	a.mu.Lock()
	a.whole, a.wholeFor = whole, sequence
	a.mu.Unlock()
	return whole
}

// event returns a server-sent event. Data must be a single line, as JSON is.
func (l *Live) event(kind string, sequence uint64, data []byte) []byte {
	return fmt.Appendf(nil, "id: %s-%d\nevent: %s\ndata: %s\n\n", l.processID, sequence, kind, data)
}

// sender knows what was sent, so that it can send what has changed since.
type sender struct {
	live  *Live
	stop  chan struct{}
	hurry chan struct{}

	seed     maphash.Seed
	column   uint32 // from which on the next update tells the history
	circuits map[uint64]sent
	retries  map[string]sent
}

// sent is what was sent of a circuit or a retry.
type sent struct {
	sum    uint64 // of the record
	newest uint64 // generation of the last transition, or how many operations were remembered
}

// newSender returns a sender that takes everything as sent that is so now.
func newSender(l *Live, stop, hurry chan struct{}, m moment) *sender {
	s := &sender{
		live: l, stop: stop, hurry: hurry,
		seed:     maphash.MakeSeed(),
		circuits: make(map[uint64]sent),
		retries:  make(map[string]sent),
	}
	s.column = m.before()
	circuits, retries := l.sorted()
	for _, c := range circuits {
		newest := c.newest()
		s.circuits[c.id] = sent{s.sum(encode(c.update(m, s.column, newest))), newest}
	}
	for _, r := range retries {
		u, remembered := r.update(m, s.column, r.remembered())
		s.retries[r.name] = sent{s.sum(encode(u)), remembered}
	}
	return s
}

func (s *sender) run() {
	ticker := time.NewTicker(updateInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
		case <-s.hurry:
		}
		m := s.live.moment()
		data := encode(s.next(m))
		s.live.audience.send(s.stop, m, func(sequence uint64) []byte { return s.live.event("update", sequence, data) })
	}
}

// next returns what has changed since it was called last.
func (s *sender) next(m moment) update {
	u := update{frame: s.live.frame(m)}
	circuits, retries := s.live.sorted()
	there := make(map[uint64]bool, len(circuits))
	for _, c := range circuits {
		there[c.id] = true
		before, known := s.circuits[c.id]
		if !known {
			s.circuits[c.id] = sent{newest: c.newest()}
			u.Circuits = append(u.Circuits, encode(c.report(m)))
			continue
		}
		record := c.update(m, s.column, before.newest)
		now := before
		if len(record.Transitions) > 0 {
			now.newest = record.Transitions[0].Generation
		}
		encoded := encode(record)
		if now.sum = s.sum(encoded); now.sum != before.sum {
			u.Circuits = append(u.Circuits, encoded)
		}
		s.circuits[c.id] = now
	}
	for id := range s.circuits {
		if !there[id] {
			delete(s.circuits, id)
			u.Gone = append(u.Gone, id)
		}
	}
	for _, r := range retries {
		before, known := s.retries[r.name]
		if !known {
			s.retries[r.name] = sent{newest: r.remembered()}
			u.Retries = append(u.Retries, encode(r.report(m)))
			continue
		}
		record, remembered := r.update(m, s.column, before.newest)
		encoded := encode(record)
		now := sent{s.sum(encoded), remembered}
		if now.sum != before.sum {
			u.Retries = append(u.Retries, encoded)
		}
		s.retries[r.name] = now
	}
	s.column = m.before()
	return u
}

func (s *sender) sum(b []byte) uint64 { return maphash.Bytes(s.seed, b) }

// encode returns v as JSON. V is one of this package's reports, in which there is
// nothing that cannot be encoded.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
