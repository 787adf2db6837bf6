package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/events/eventstest"
	"github.com/breakwater-go/breakwater/resilience"
)

// model is a breaker as the documentation describes it, said as plainly as possible:
// one thing happens at a time, every call is remembered, every rule is a loop or a
// comparison. It writes down the events that a breaker must tell.
type model struct {
	c   resilience.CircuitBreakerConfig // every field set
	now time.Duration                   // since birth

	state      events.State
	forced     bool
	retired    bool
	generation uint64
	since      time.Duration
	lastClosed time.Duration
	timeIn     [events.StatusCount]time.Duration
	totals     events.Counts

	recorded       []modelRecord // closed: the calls of the present state
	newest         int64         // closed: the newest bucket that was recorded in
	passed, failed int           // half-open
	out            []*modelCall  // half-open: probes under way, oldest first

	reopened   int           // since it was closed
	sleep      time.Duration // open: the sleep window
	spentUntil time.Duration // what is in timeIn

	told []string
}

// modelRecord is a finished call in a window.
type modelRecord struct {
	bucket  int64
	outcome events.Outcome
	slow    bool
}

// modelCall is an admitted call.
type modelCall struct {
	start      time.Duration
	generation uint64
	state      events.State
	silent     bool // it began after Close
	slows      bool // it began when calls could be slow
	would      bool // be rejected, were it not for shadow mode
	overdue    bool // a probe that has been counted as failed
	finished   bool
}

func newModel(c resilience.CircuitBreakerConfig) *model {
	return &model{c: c, generation: 1, told: []string{"created"}}
}

func (m *model) tell(format string, args ...any) {
	m.told = append(m.told, fmt.Sprintf(format, args...))
}

// bucket returns the bucket of the present state that the present time lies in.
func (m *model) bucket() int64 {
	n := time.Duration(m.c.BucketCount)
	span := m.c.WindowSize / n
	if span*n < m.c.WindowSize {
		span++
	}
	return int64((m.now - m.since) / span)
}

// window counts what is recorded in the present bucket and those before it.
func (m *model) window() events.Counts {
	var c events.Counts
	for _, r := range m.recorded {
		if r.bucket <= m.bucket()-int64(m.c.BucketCount) {
			continue
		}
		if r.outcome == success {
			c.Success++
		} else {
			c.Failure++
		}
		if r.slow {
			c.Slow++
		}
	}
	return c
}

// judgedBy returns the counts that decide in the present state.
func (m *model) judgedBy() events.Counts {
	switch m.state {
	case closed:
		return m.window()
	case halfOpen:
		return events.Counts{Success: uint64(m.passed), Failure: uint64(m.failed)}
	default:
		return events.Counts{}
	}
}

func (m *model) asleepUntil() time.Duration { return m.since + m.sleep }

// status returns the status in which calls find the breaker.
func (m *model) status(state events.State, forced bool) events.Status {
	s := events.StatusOf(state, forced)
	if m.c.Shadow {
		s = s.Shadowed()
	}
	return s
}

// spend accounts for the time until now.
func (m *model) spend() {
	m.timeIn[m.status(m.state, m.forced)] += m.now - m.spentUntil
	m.spentUntil = m.now
}

// sleepWindow returns how long the next one is.
func (m *model) sleepWindow() time.Duration {
	d := m.c.SleepWindow
	for range m.reopened {
		if f := m.c.SleepWindowFactor; f != 0 {
			d = min(time.Duration(float64(d)*f), m.c.MaxSleepWindow)
		}
	}
	return d
}

// reconfigure takes over another configuration, whose window is the same.
func (m *model) reconfigure(c resilience.CircuitBreakerConfig) {
	m.spend()
	m.c = c
	if !m.retired {
		m.tell("reconfigured at %v, %v, shadow %t", m.now, c.ErrorThreshold, c.Shadow)
	}
	m.timeOut()
	m.verdict(events.ReasonProbesFailed)
}

// retryAfter returns how long it is until the sleep window ends, 0 if it does not.
func (m *model) retryAfter() time.Duration {
	if m.state != open || m.forced {
		return 0
	}
	return max(0, m.asleepUntil()-m.now)
}

func (m *model) enter(state events.State, forced bool, reason events.Reason) {
	from, counts, elapsed := m.status(m.state, m.forced), m.judgedBy(), m.now-m.since
	if m.state == closed {
		m.lastClosed = m.now
	}
	m.spend()
	switch {
	case state == closed:
		m.reopened = 0
	case m.state == halfOpen && !forced:
		m.reopened++
	}
	m.sleep = m.sleepWindow()
	m.state, m.forced, m.since = state, forced, m.now
	m.generation++
	m.recorded, m.newest, m.passed, m.failed, m.out = nil, 0, 0, 0, nil
	if !m.retired {
		m.tell("%v→%v at %v, %s, generation %d, %+v, after %v, retry in %v",
			from, m.status(state, forced), m.now, reason, m.generation, counts, elapsed, m.retryAfter())
	}
}

// timeOut fails the probes that are overdue.
func (m *model) timeOut() {
	for m.state == halfOpen && len(m.out) > 0 && m.now-m.out[0].start >= m.c.ProbeTimeout {
		m.out[0].overdue = true
		m.out = m.out[1:]
		m.failed++
		if len(m.out) == 0 || m.now-m.out[0].start < m.c.ProbeTimeout {
			m.verdict(events.ReasonProbeTimeout)
		}
	}
}

// verdict ends half-open once no further result could change how it ends.
func (m *model) verdict(failed events.Reason) {
	share := func(n int) float64 { return float64(n) / float64(m.c.HalfOpenRequests) }
	switch {
	case m.state != halfOpen:
	case share(m.passed) >= m.c.SuccessThreshold:
		m.enter(closed, false, events.ReasonProbesPassed)
	case share(m.c.HalfOpenRequests-m.failed) < m.c.SuccessThreshold:
		m.enter(open, false, failed)
	}
}

func (m *model) wake() { m.enter(halfOpen, false, events.ReasonSleepWindowElapsed) }

// pass lets time go by. Timers run on time, unless the breaker is retired.
func (m *model) pass(d time.Duration) {
	end := m.now + d
	for !m.retired {
		switch {
		case m.state == open && !m.forced && m.asleepUntil() <= end:
			m.now = m.asleepUntil()
			m.wake()
			continue
		case m.state == halfOpen && len(m.out) > 0 && m.out[0].start+m.c.ProbeTimeout <= end:
			m.now = m.out[0].start + m.c.ProbeTimeout
			m.timeOut()
			continue
		}
		break
	}
	m.now = end
}

// begin returns the call if it is admitted, nil if it is rejected.
func (m *model) begin() *modelCall {
	if m.state == open && !m.forced && m.now >= m.asleepUntil() {
		m.wake()
	}
	m.timeOut()
	rejected := m.state == open
	if m.state == halfOpen {
		rejected = m.passed+m.failed+len(m.out) >= m.c.HalfOpenRequests
	}
	if rejected && m.c.Shadow && !m.forced {
		c := &modelCall{start: m.now, generation: m.generation, state: m.state, silent: m.retired, would: true}
		c.slows = m.c.SlowCallDuration > 0
		if !c.silent {
			m.tell("started %v, would be rejected: %t", c.state, true)
		}
		return c
	}
	if rejected {
		m.totals.Rejected++
		if !m.retired {
			m.tell("rejected %v, retry in %v", events.StatusOf(m.state, m.forced), m.retryAfter())
		}
		return nil
	}
	c := &modelCall{start: m.now, generation: m.generation, state: m.state, silent: m.retired}
	c.slows = m.c.SlowCallDuration > 0
	if m.state == halfOpen {
		m.out = append(m.out, c)
	}
	if !c.silent {
		m.tell("started %v, would be rejected: %t", c.state, false)
	}
	return c
}

func (m *model) finish(c *modelCall, outcome events.Outcome, panicked bool) {
	if c.finished {
		return
	}
	c.finished = true
	slow := c.slows && m.c.SlowCallDuration > 0 && m.now-c.start >= m.c.SlowCallDuration && outcome != ignored
	switch outcome {
	case success:
		m.totals.Success++
	case failure:
		m.totals.Failure++
	default:
		m.totals.Ignored++
	}
	if slow {
		m.totals.Slow++
	}
	if c.would {
		m.totals.WouldReject++
	}
	stale := c.generation != m.generation
	if !stale && !c.would {
		if c.state == halfOpen {
			m.timeOut()
			if stale = c.overdue || c.generation != m.generation; !stale {
				m.settleProbe(c, outcome, slow)
			}
		} else {
			m.settle(outcome, slow)
		}
	}
	if !c.silent {
		m.tell("finished %v, %v, after %v, panicked %t, stale %t, would be rejected: %t", c.state, outcome, m.now-c.start, panicked, stale, c.would)
	}
}

func (m *model) settleProbe(c *modelCall, outcome events.Outcome, slow bool) {
	m.out = slices.DeleteFunc(m.out, func(x *modelCall) bool { return x == c })
	switch {
	case outcome == failure || slow:
		m.failed++
	case outcome == success:
		m.passed++
	}
	m.verdict(events.ReasonProbesFailed)
}

func (m *model) settle(outcome events.Outcome, slow bool) {
	if outcome == ignored {
		return
	}
	if b := m.bucket(); b > m.newest {
		m.newest = b
		if !m.forced && !m.retired {
			m.tell("rotated at %v, %+v", m.now, m.window())
		}
	}
	m.recorded = append(m.recorded, modelRecord{m.bucket(), outcome, slow})
	w := m.window()
	switch {
	case m.forced || w.Volume() < uint64(m.c.VolumeThreshold):
	case float64(w.Failure)/float64(w.Volume()) >= m.c.ErrorThreshold:
		m.enter(open, false, events.ReasonErrorRate)
	case m.c.SlowCallThreshold > 0 && float64(w.Slow)/float64(w.Volume()) >= m.c.SlowCallThreshold:
		m.enter(open, false, events.ReasonSlowCallRate)
	}
}

func (m *model) control(c control) {
	switch c.name {
	case forceOpen.name:
		if m.state != open || !m.forced {
			m.enter(open, true, events.ReasonForced)
		}
	case forceClosed.name:
		if m.state != closed || !m.forced {
			m.enter(closed, true, events.ReasonForced)
		}
	case clearForce.name:
		if m.forced {
			m.enter(m.state, false, events.ReasonForceCleared)
		}
	case reset.name:
		m.enter(closed, false, events.ReasonReset)
	}
}

func (m *model) close() {
	if !m.retired {
		m.retired = true
		m.tell("retired at %v", m.now)
	}
}

// snapshot returns what the breaker must show.
func (m *model) snapshot(birth time.Time) events.Snapshot {
	s := events.Snapshot{
		Time:           birth.Add(m.now),
		State:          m.state,
		Forced:         m.forced,
		Shadow:         m.c.Shadow,
		Since:          birth.Add(m.since),
		Generation:     m.generation,
		TimeIn:         m.timeIn,
		LastClosed:     birth.Add(m.lastClosed),
		Totals:         m.totals,
		Window:         m.judgedBy(),
		ProbesInFlight: len(m.out),
		RetryAfter:     m.retryAfter(),
	}
	s.TimeIn[s.Status()] += m.now - m.spentUntil
	if m.state == closed {
		s.LastClosed = s.Time
		s.Judged = !m.forced && s.Window.Volume() >= uint64(m.c.VolumeThreshold)
	}
	return s
}

// describe says of an event what the model says of it.
func describe(e events.Event, birth time.Time) string {
	switch e := e.(type) {
	case events.BreakerCreated:
		return "created"
	case events.CallStarted:
		return fmt.Sprintf("started %v, would be rejected: %t", e.State, e.WouldReject)
	case events.CallFinished:
		return fmt.Sprintf("finished %v, %v, after %v, panicked %t, stale %t, would be rejected: %t",
			e.State, e.Outcome, e.Duration, e.Panicked, e.Stale, e.WouldReject)
	case events.CallRejected:
		return fmt.Sprintf("rejected %v, retry in %v", events.StatusOf(e.State, e.Forced), e.RetryAfter)
	case events.StateChanged:
		return fmt.Sprintf("%v→%v at %v, %s, generation %d, %+v, after %v, retry in %v",
			e.FromStatus(), e.ToStatus(), e.Time.Sub(birth),
			e.Reason, e.Generation, e.Counts, e.Elapsed, e.RetryAfter)
	case events.WindowRotated:
		return fmt.Sprintf("rotated at %v, %+v", e.Time.Sub(birth), e.Counts)
	case events.BreakerReconfigured:
		return fmt.Sprintf("reconfigured at %v, %v, shadow %t", e.Time.Sub(birth), e.New.ErrorThreshold, e.New.Shadow)
	case events.BreakerRetired:
		return fmt.Sprintf("retired at %v", e.Time.Sub(birth))
	default:
		return fmt.Sprintf("unexpected %v", e.Kind())
	}
}

// pick returns the choice that b makes.
func pick[T any](b byte, choices ...T) T { return choices[int(b)%len(choices)] }

// modelConfig makes a configuration of the first bytes of a script.
func modelConfig(b []byte) resilience.CircuitBreakerConfig {
	c := resilience.CircuitBreakerConfig{
		Name:             "model",
		ErrorThreshold:   pick(b[0], 0.5, 0.3, 0.55, 1, 0.01, 1.0/3),
		VolumeThreshold:  pick(b[1], 1, 2, 4, 7),
		HalfOpenRequests: pick(b[2], 1, 2, 3, 5),
		SuccessThreshold: pick(b[2]>>4, 0.6, 1, 0.01, 0.5),
		WindowSize:       pick(b[3], time.Second, 10*time.Second, 7*time.Second+1, time.Minute),
		BucketCount:      pick(b[3]>>4, 1, 2, 3, 10),
		SleepWindow:      pick(b[4], 1, time.Second, 5*time.Second, 30*time.Second),
		ProbeTimeout:     pick(b[4]>>4, 1, time.Second, 3*time.Second, time.Hour),
	}
	if b[5]&1 != 0 {
		c.SlowCallDuration = pick(b[5]>>1, 1, time.Second, 2*time.Second)
		c.SlowCallThreshold = pick(b[5]>>4, 0.5, 1, 0.2)
	}
	if b[6]&1 != 0 {
		c.SleepWindowFactor = pick(b[6]>>1, 2.0, 1, 3)
		c.MaxSleepWindow = c.SleepWindow * pick[time.Duration](b[6]>>4, 10, 5, 1)
	}
	c.Shadow = b[7]%4 == 3
	return c
}

// modelHeader is the length of a script's configuration; its steps of two bytes each
// follow.
const modelHeader = 8

// drive takes a breaker and the model through the same script and compares them
// after each step.
func drive(t *testing.T, script []byte, sinks ...events.Sink) {
	if len(script) < modelHeader {
		return
	}
	script = script[:min(len(script), 1200)]
	c := modelConfig(script)
	birth := time.Now()
	rec := eventstest.New(t)
	c.Events = rec.Sink(sinks...)
	cb, m := resilience.NewCircuitBreaker(&c), newModel(c)

	type underWay struct {
		permit resilience.Permit
		call   *modelCall
	}
	var calls []underWay
	ign := resilience.Ignore(errOther)
	defer func() { // so that the Recorder sees each call finish
		for _, u := range calls {
			u.permit.Done(nil)
		}
	}()
	compared := 0
	check := func(step string) {
		t.Helper()
		told := []string{} // not nil, which Equal tells apart
		for _, e := range rec.Events()[compared:] {
			told = append(told, describe(e, birth))
		}
		require.Equal(t, m.told[compared:], told, "events of: %s", step)
		compared = len(m.told)
		require.Equal(t, m.snapshot(birth), cb.GetStats().Snapshot, "after: %s", step)
		require.Equal(t, m.state, cb.State())
	}
	// do makes a whole call at once.
	do := func(outcome events.Outcome, panicked bool, execute func() error) {
		call := m.begin()
		err := func() (err error) {
			if panicked {
				defer func() { _ = recover() }()
			}
			return execute()
		}()
		if call == nil {
			requireModelRejection(t, m, birth, err)
			return
		}
		require.NotErrorIs(t, err, resilience.ErrCircuitBreakerOpen)
		m.finish(call, outcome, panicked)
	}

	check("birth")
	for steps := script[modelHeader:]; len(steps) >= 2; steps = steps[2:] {
		op, arg := steps[0], steps[1]
		step := ""
		switch op % 16 {
		case 0, 1:
			step = "acquire"
			call := m.begin()
			permit, err := cb.Acquire(t.Context())
			if call == nil {
				requireModelRejection(t, m, birth, err)
				break
			}
			require.NoError(t, err)
			calls = append(calls, underWay{permit, call})
		case 2, 3, 4, 5:
			if len(calls) == 0 {
				continue
			}
			i := int(arg) % len(calls)
			err := pick(op%16-2, nil, errBroken, ign, nil)
			outcome := pick(op%16-2, success, failure, ignored, success)
			step = fmt.Sprintf("finish call %d with %v", i, err)
			m.finish(calls[i].call, outcome, false)
			calls[i].permit.Done(err)
			if arg < 200 { // the others are ended again later
				calls = slices.Delete(calls, i, i+1)
			}
		case 6:
			step = "success"
			do(success, false, func() error { return cb.Execute(t.Context(), healthy) })
		case 7, 8:
			step = "failure"
			do(failure, false, func() error { return cb.Execute(t.Context(), broken) })
		case 9:
			switch arg % 4 {
			case 0:
				step = "panic"
				do(failure, true, func() error { return cb.Execute(t.Context(), func() error { panic("work") }) })
			case 1:
				step = "Goexit"
				do(failure, true, func() (err error) {
					done := make(chan struct{})
					go func() {
						defer close(done)
						err = cb.Run(t.Context(), func(context.Context) error { return exit() })
					}()
					<-done
					return err
				})
			case 2:
				step = "cancelled"
				ctx, cancel := context.WithCancel(t.Context())
				do(ignored, false, func() error {
					return cb.Run(ctx, func(ctx context.Context) error { cancel(); return ctx.Err() })
				})
				cancel()
			case 3:
				step = "done context"
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				require.Equal(t, context.Canceled, cb.Execute(ctx, healthy))
			}
		case 10, 11:
			d := pick(arg, 0, 1, c.WindowSize/time.Duration(c.BucketCount), c.WindowSize/time.Duration(c.BucketCount)+1,
				c.WindowSize, c.SleepWindow-1, c.SleepWindow, c.ProbeTimeout-1, c.ProbeTimeout, c.SlowCallDuration,
				c.SleepWindow+c.ProbeTimeout, c.WindowSize-1, time.Second, 10*time.Minute)
			step = "pass " + d.String()
			m.pass(d)
			pass(d)
		case 12:
			do := pick(arg, forceOpen, forceClosed, clearForce, reset)
			step = do.name
			m.control(do)
			do.do(cb)
		case 14, 15:
			d := pick(arg, c.SlowCallDuration, c.SlowCallDuration, c.SlowCallDuration-1, 1)
			outcome, err := success, error(nil)
			if arg > 200 {
				outcome, err = failure, errBroken
			}
			step = fmt.Sprintf("%v in %v", outcome, d)
			call := m.begin()
			got := cb.Execute(t.Context(), func() error {
				m.pass(max(0, d))
				pass(d)
				return err
			})
			if call == nil {
				requireModelRejection(t, m, birth, got)
				break
			}
			require.Equal(t, err, got)
			m.finish(call, outcome, false)
		case 13:
			if arg%2 == 0 {
				step = "Reconfigure"
				r := rand.New(rand.NewPCG(uint64(arg), uint64(len(steps))))
				var b [modelHeader]byte
				for i := range b {
					b[i] = byte(r.Uint32())
				}
				next := modelConfig(b[:])
				next.WindowSize, next.BucketCount = c.WindowSize, c.BucketCount
				c = next
				m.reconfigure(c)
				require.NoError(t, cb.Reconfigure(&c))
				synctest.Wait()
				break
			}
			if arg != 13 && arg != 113 { // seldom: not much happens after it
				continue
			}
			step = "Close"
			m.close()
			cb.Close()
		}
		check(step)
	}
	for _, u := range calls {
		m.finish(u.call, success, false)
		u.permit.Done(nil)
	}
	check("the end")
}

func requireModelRejection(t *testing.T, m *model, birth time.Time, err error) {
	t.Helper()
	var rejected *resilience.RejectedError
	require.True(t, errors.As(err, &rejected), "want a rejection, got %v", err)
	want := resilience.RejectedError{Name: "model", State: m.state, Forced: m.forced, Since: birth.Add(m.since)}
	if m.state == open && !m.forced {
		want.Until = birth.Add(m.asleepUntil())
	}
	require.Equal(t, want, *rejected)
	require.Equal(t, m.retryAfter(), rejected.RetryAfter())
}

// randomScript writes a script in which breakers open, recover and meet everything
// else on their way.
func randomScript(r *rand.Rand, steps int) []byte {
	script := make([]byte, modelHeader+2*steps)
	for i := range script {
		script[i] = byte(r.Uint32())
	}
	mood := byte(7) // fail
	for i := modelHeader; i < len(script); i += 2 {
		if r.IntN(12) == 0 {
			mood = pick(byte(r.IntN(4)), byte(6), 7, 10, 0)
		}
		if r.IntN(3) == 0 {
			script[i] = mood
		}
	}
	return script
}

func FuzzBreaker(f *testing.F) {
	r := rand.New(rand.NewPCG(2, 71))
	for range 30 {
		f.Add(randomScript(r, 60))
	}
	// trip, sleep, probe, recover; two rounds
	f.Add([]byte("\x00\x02\x02\x01\x02\x00\x00\x00" + "\x07\x00\x07\x00\x07\x00\x07\x00\x0a\x06\x06\x00\x06\x00\x07\x00\x07\x00\x07\x00\x07\x00\x0a\x06\x06\x00\x06\x00"))
	// probes that never return, then late results
	f.Add([]byte("\x00\x00\x02\x01\x22\x00\x00\x00" + "\x07\x00\x0a\x06\x00\x00\x00\x00\x00\x00\x0a\x08\x02\x00\x02\x00\x02\x00\x0a\x06\x06\x00\x06\x00"))
	// forced while probing, cleared, retired
	f.Add([]byte("\x00\x00\x02\x01\x22\x00\x00\x00" + "\x07\x00\x0a\x06\x00\x00\x0c\x00\x02\x00\x0c\x02\x0a\x06\x06\x00\x0d\x0d\x06\x00\x07\x00\x0a\x06\x06\x00"))
	f.Fuzz(func(t *testing.T, script []byte) {
		synctest.Test(t, func(t *testing.T) { drive(t, script) })
	})
}

func TestBreakerAgainstTheModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 61))
	met := &metSoFar{times: map[string]int{}}
	for i := range 200 {
		script := randomScript(r, 200)
		if !t.Run(fmt.Sprint(i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { drive(t, script, events.All(met.event)) })
		}) {
			t.Fatalf("script: %q", script)
		}
	}
	// The scripts are no use if they leave the breaker closed.
	for _, what := range []string{
		"error_rate", "slow_call_rate", "sleep_window_elapsed", "probes_passed", "probes_failed", "probe_timeout",
		"forced", "force_cleared", "reset", "closed", "open", "half_open", "forced_open", "forced_closed",
		"closed success", "closed failure", "closed ignored", "half-open success", "half-open failure", "half-open ignored",
		"stale true", "panicked true", "rejected open", "rejected half_open", "rejected forced_open",
		"WindowRotated", "BreakerRetired", "BreakerReconfigured", "would be rejected true", "shadow_open", "shadow_half_open",
		"grown sleep window",
	} {
		require.GreaterOrEqual(t, met.times[what], 10, what)
	}
}

// metSoFar counts what a breaker went through.
type metSoFar struct {
	mu    sync.Mutex
	times map[string]int
}

func (m *metSoFar) event(_ context.Context, e events.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e := e.(type) {
	case events.StateChanged:
		m.times[string(e.Reason)]++
		m.times[e.ToStatus().String()]++
		if e.RetryAfter > 30*time.Second {
			m.times["grown sleep window"]++
		}
	case events.CallFinished:
		m.times[fmt.Sprint(e.State, " ", e.Outcome)]++
		m.times[fmt.Sprint("stale ", e.Stale)]++
		m.times[fmt.Sprint("panicked ", e.Panicked)]++
		m.times[fmt.Sprint("would be rejected ", e.WouldReject)]++
	case events.CallRejected:
		m.times[fmt.Sprint("rejected ", events.StatusOf(e.State, e.Forced))]++
	default:
		m.times[e.Kind().String()]++
	}
}

// TestABusyWindowIsNoDifferent compares the window of a breaker that is called
// thousands of times in a bucket, now and then, with the oracle's.
func TestABusyWindowIsNoDifferent(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(8, seed))
				size, buckets := pick(byte(seed), 10*time.Second, 7*time.Second, time.Minute), pick(byte(seed), 10, 3, 1, 60)
				cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
					WindowSize: size, BucketCount: buckets, VolumeThreshold: 1e9,
				})
				naive, birth := newNaiveWindow(size, buckets), time.Now()
				for step := range 40 {
					n := pick(byte(r.Uint32()), 0, 1, 10, 2500, 7000)
					outcome, work := success, healthy
					if r.IntN(3) == 0 {
						outcome, work = failure, broken
					}
					for range n {
						_ = cb.Execute(t.Context(), work)
						naive.record(time.Since(birth), outcome)
					}
					want := naive.counts(time.Since(birth))
					require.Equal(t, want, cb.GetStats().Window, "step %d, at %v", step, time.Since(birth))
					pass(pick(byte(r.Uint32()), 0, 1, naive.span/2, naive.span-1, naive.span, naive.span+1, 3*naive.span, size))
					require.Equal(t, naive.counts(time.Since(birth)), cb.GetStats().Window, "after step %d, at %v", step, time.Since(birth))
				}
				cb.Close()
			})
		})
	}
}

// TestABusyBreakerOpensNoLaterAndNoEarlier judges every outcome of such a breaker by
// the oracle.
func TestABusyBreakerOpensNoLaterAndNoEarlier(t *testing.T) {
	opened := 0
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(9, seed))
			size, buckets := pick(byte(seed), 10*time.Second, 7*time.Second, time.Minute), pick(byte(seed), 10, 3, 1, 60)
			cb := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
				WindowSize: size, BucketCount: buckets, VolumeThreshold: 10, ErrorThreshold: 0.25,
			})
			naive, birth := newNaiveWindow(size, buckets), time.Now()
			for range 60 {
				failures := pick(byte(r.Uint32()), 0.05, 0.2, 0.24, 0.3) // of the burst that follows
				held := naive.counts(time.Since(birth))
				for range pick(byte(r.Uint32()), 0, 5, 100, 2500, 6000) {
					outcome, work := success, healthy
					if r.Float64() < failures {
						outcome, work = failure, broken
					}
					_ = cb.Execute(t.Context(), work)
					naive.record(time.Since(birth), outcome)
					if outcome == failure {
						held.Failure++
					} else {
						held.Success++
					}
					must := held.Volume() >= 10 && held.FailureRatio() >= 0.25
					if (cb.State() == open) != must {
						t.Fatalf("%v, holding %+v", cb.State(), held)
					}
					if !must {
						continue
					}
					opened++
					cb.Reset()
					naive, birth, held = newNaiveWindow(size, buckets), time.Now(), events.Counts{}
				}
				pass(pick(byte(r.Uint32()), 0, 1, naive.span/2, naive.span-1, naive.span, naive.span+1, 3*naive.span, size))
			}
			cb.Close()
		})
	}
	require.Greater(t, opened, 100)
}
