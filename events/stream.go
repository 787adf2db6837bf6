package events

import (
	"context"
	"iter"
	"sync"
)

// defaultStreamCapacity is what NewStream makes of a capacity below 1.
const defaultStreamCapacity = 1024

// Stream hands events to other goroutines, for consumers that are too slow to be
// sinks: its sink puts each event into a buffer of fixed size and never waits,
// its iterator takes them out. Events arrive in the order in which they were put
// in. An event that finds the buffer full is dropped, the new one and not one
// that is buffered already, and counted.
//
// [NewStream] makes one. All methods may be called from any goroutine at any time.
// A Stream has no goroutine of its own and needs no Close to be collected; the
// events it buffers it keeps in memory, with the errors and breakers they refer to.
type Stream struct {
	buffer chan Event

	mu      sync.Mutex // held to send on buffer or close it, and guards:
	closed  bool       // whether buffer is
	dropped uint64
}

// NewStream returns a stream that buffers up to capacity events. The buffer takes
// 16 bytes an event at once, and each event about 100 more while it is in there.
// A capacity below 1 means 1024.
func NewStream(capacity int) *Stream {
	if capacity < 1 {
		capacity = defaultStreamCapacity
	}
	return &Stream{buffer: make(chan Event, capacity)}
}

// Sink returns a sink that puts events of the given kinds into the stream, or of
// every kind if none is given. Its functions for other kinds are nil, so that who
// follows only state changes pays nothing for the calls in between, and cannot
// lose one to them. The contexts the events come with are not kept, but for the one
// that is part of a [HedgeAttemptStarted].
//
// A stream may have many sinks and serve many breakers and retries.
func (s *Stream) Sink(kinds ...Kind) Sink {
	all := All(func(_ context.Context, e Event) { s.put(e) })
	if len(kinds) == 0 {
		return all
	}
	var sink Sink
	for _, k := range kinds {
		switch k {
		case KindBreakerCreated:
			sink.BreakerCreated = all.BreakerCreated
		case KindCallStarted:
			sink.CallStarted = all.CallStarted
		case KindCallFinished:
			sink.CallFinished = all.CallFinished
		case KindCallRejected:
			sink.CallRejected = all.CallRejected
		case KindStateChanged:
			sink.StateChanged = all.StateChanged
		case KindWindowRotated:
			sink.WindowRotated = all.WindowRotated
		case KindBreakerRetired:
			sink.BreakerRetired = all.BreakerRetired
		case KindRetryStarted:
			sink.RetryStarted = all.RetryStarted
		case KindAttemptStarted:
			sink.AttemptStarted = all.AttemptStarted
		case KindAttemptFinished:
			sink.AttemptFinished = all.AttemptFinished
		case KindRetryScheduled:
			sink.RetryScheduled = all.RetryScheduled
		case KindRetryFinished:
			sink.RetryFinished = all.RetryFinished
		case KindPolicyCreated:
			sink.PolicyCreated = all.PolicyCreated
		case KindTimedOut:
			sink.TimedOut = all.TimedOut
		case KindBulkheadCreated:
			sink.BulkheadCreated = all.BulkheadCreated
		case KindBulkheadWaited:
			sink.BulkheadWaited = all.BulkheadWaited
		case KindBulkheadRejected:
			sink.BulkheadRejected = all.BulkheadRejected
		case KindBulkheadRetired:
			sink.BulkheadRetired = all.BulkheadRetired
		case KindRateLimited:
			sink.RateLimited = all.RateLimited
		case KindFellBack:
			sink.FellBack = all.FellBack
		case KindHedgeAttemptStarted:
			sink.HedgeAttemptStarted = all.HedgeAttemptStarted
		case KindHedgeAttemptFinished:
			sink.HedgeAttemptFinished = all.HedgeAttemptFinished
		case KindBreakerReconfigured:
			sink.BreakerReconfigured = all.BreakerReconfigured
		case KindBudgetCreated:
			sink.BudgetCreated = all.BudgetCreated
		case KindBudgetExhausted:
			sink.BudgetExhausted = all.BudgetExhausted
		case KindBudgetRetired:
			sink.BudgetRetired = all.BudgetRetired
		}
	}
	return sink
}

// put buffers e or counts it as dropped.
//
// All sends, and the close, happen under mu and after a look at closed, so none
// meets a closed channel. And since Close marks and closes in one critical section,
// an event is either in the buffer before it is closed, where a reader finds it, or
// sees closed and is counted: none slips in after the last reader has gone.
// The send has a default and readers do not take mu, so mu is only ever held for a
// few instructions: put waits for others to put, never for a reader.
func (s *Stream) put(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		select {
		case s.buffer <- e:
			return
		default:
		}
	}
	s.dropped++
}

// All returns the events as they come: an iterator that waits for the next event
// and ends when ctx is done, or when the stream is closed and its buffer empty.
//
// Each event goes to one reader. Several may range at once, over the same iterator
// or over iterators of their own, and share the events. Who breaks out of the loop
// leaves the remaining events to the next one to range, also over the same iterator.
// So does a reader whose ctx is done, which takes no event it does not yield.
func (s *Stream) All(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for ctx.Err() == nil { // asked first: select chooses at random if both are ready
			select {
			case e, ok := <-s.buffer: // closed, it still yields what it buffers first
				if !ok || !yield(e) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// Dropped returns how many events the stream could not keep, because its buffer
// was full or because they came after Close. It only grows. Of the events that
// reached its sinks, those not dropped have been yielded or are in the buffer.
func (s *Stream) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Close ends the stream: events that come later are dropped, readers end once they
// have taken what is buffered, and those that wait for an event wake up and end.
// The sinks may stay in use. Close does not wait for the readers. Closing again
// does nothing.
func (s *Stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.buffer)
	}
}
