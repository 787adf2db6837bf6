package main

import (
	"fmt"
	"runtime"
	"slices"
	"time"
)

// path is one way through a library that is timed.
type path struct {
	name  string // as -paths takes it
	title string
	about string // what a call is on this path, and what the figures are

	contestants func() []*contestant
	settings    settings

	// ready makes a contestant, verifies that it truly does what the path says, and
	// returns it ready to be timed.
	ready func(*contestant, settings) (*subject, error)

	parallel bool          // one goroutine for each processor; else one
	added    bool          // the figures are what a call adds to the work alone
	timers   bool          // a call needs a timer, and so allocates
	waited   time.Duration // what a call waits as it should, and is not in the figures
	requests bool          // calls are HTTP requests, which allocate whoever makes them
}

// subject is a contestant on a path, ready to be timed.
type subject struct {
	*contestant

	// loop makes n calls and returns how many came out otherwise than the path says,
	// and how the last of those did. n is a multiple of unit. It may be called from
	// several goroutines at once.
	loop func(n int) (other int, odd error)
	unit int

	close func() // ends what the subject started; nil for nothing
}

// closeAll ends what the subjects started.
func closeAll(subjects []*subject) {
	for _, s := range subjects {
		if s.close != nil {
			s.close()
		}
	}
}

// call makes n calls and fails if more of them came out otherwise than the
// contestant's design allows: what is timed is what was verified.
func (s *subject) call(n int) error {
	if other, odd := s.loop(n); other > s.allowed(n) {
		return fmt.Errorf("%s: while timed, %d of %d calls came out as %s", s.name, other, n, outcome(odd))
	}
	return nil
}

// The pattern of the failure path: one success, so that the ratio stays below the
// threshold, and then failures.
const failureUnit = 32

func paths() []path {
	return append([]path{
		{
			name: "success-serial", title: "Closed, success, serial",
			about:       "Nanoseconds per call that succeeds, on one goroutine.",
			contestants: breakers, settings: usual, ready: readyToSucceed,
		},
		{
			name: "success-parallel", title: "Closed, success, parallel",
			about:       "Nanoseconds of wall time per call that succeeds, with a goroutine on each processor calling as fast as it can.",
			contestants: breakers, settings: usual, ready: readyToSucceed, parallel: true,
		},
		{
			name: "paced", title: "Closed, success, paced",
			about:       "Nanoseconds that a call adds to a loop without it. A goroutine on each processor does about 400 ns of work of its own between calls; this is the number nearest to production. A processor overlaps some of that work with the call, as it does there.",
			contestants: breakers, settings: usual, ready: readyToPace, parallel: true, added: true,
		},
		{
			name: "failure-serial", title: "Failure below the threshold, serial",
			about:       "Nanoseconds per call that fails without opening the breaker, on one goroutine. One call of 32 succeeds, so that the ratio, 0.97, is judged at each failure and stays below the threshold, 0.99.",
			contestants: breakers, settings: patient, ready: readyToFail,
		},
		{
			name: "failure-parallel", title: "Failure below the threshold, parallel",
			about:       "The same as wall time per call, with a goroutine on each processor.",
			contestants: breakers, settings: patient, ready: readyToFail, parallel: true,
		},
		{
			name: "rejection-serial", title: "Rejection, serial",
			about:       "Nanoseconds per call that an open breaker rejects, on one goroutine.",
			contestants: withoutBare(breakers), settings: usual, ready: readyToReject,
		},
		{
			name: "rejection-parallel", title: "Rejection, parallel",
			about:       "The same as wall time per call, with a goroutine on each processor.",
			contestants: withoutBare(breakers), settings: usual, ready: readyToReject, parallel: true,
		},
		{
			name: "retry-first", title: "Retry, success at the first attempt",
			about:       "Nanoseconds per retried operation that needs no second attempt, on one goroutine.",
			contestants: retries, settings: usual, ready: readyToRetry(succeedAtOnce),
		},
		{
			name: "retry-three", title: "Retry, three attempts without delay",
			about:       "Nanoseconds per retried operation whose third attempt succeeds, on one goroutine.",
			contestants: without(&bare, retries), settings: usual, ready: readyToRetry(failingTwice),
		},
		{
			name: "retry-delay", title: "Retry, three attempts, a millisecond after each",
			about:       "Nanoseconds that a retried operation whose third attempt succeeds takes beyond the two milliseconds it waits, on one goroutine. Nearly all of it is how late the system's timers are, for everybody.",
			contestants: withoutBare(retries), settings: delayed, ready: readyToRetry(failingTwice),
			waited: (attempts - 1) * delayed.delay,
		},
		{
			name: "together-serial", title: "Retry and breaker, success at the first attempt, serial",
			about:       "Nanoseconds per retried operation whose one attempt a breaker protects, on one goroutine.",
			contestants: together, settings: usual, ready: readyTogether,
		},
		{
			name: "together-parallel", title: "Retry and breaker, success at the first attempt, parallel",
			about:       "The same as wall time per operation, with a goroutine on each processor.",
			contestants: together, settings: usual, ready: readyTogether, parallel: true,
		},
	}, append(policyPaths(), httpPaths()...)...)
}

func (p *path) workers() int {
	if p.parallel {
		return runtime.GOMAXPROCS(0)
	}
	return 1
}

// subjects returns the path's contestants, ready to be timed, or says which of them
// does not do what the path says.
func (p *path) subjects() ([]*subject, error) {
	var all []*subject
	for _, c := range p.contestants() {
		s, err := p.ready(c, p.settings)
		if err != nil {
			if s != nil {
				all = append(all, s)
			}
			closeAll(all)
			return nil, fmt.Errorf("%s: %s does not do what the path says: %w", p.name, c.name, err)
		}
		all = append(all, s)
	}
	return all, nil
}

func withoutBare(f func() []*contestant) func() []*contestant {
	return func() []*contestant {
		return slices.DeleteFunc(f(), func(c *contestant) bool { return c.bare })
	}
}

func without(one *contestant, f func() []*contestant) func() []*contestant {
	return func() []*contestant {
		return slices.DeleteFunc(f(), func(c *contestant) bool { return c == one })
	}
}

func readyToSucceed(c *contestant, s settings) (*subject, error) {
	b := c.make(s)
	return &subject{
		contestant: c,
		loop:       func(n int) (int, error) { return b.calls(n, succeeding, nil) },
		unit:       1,
	}, verifySuccess(b)
}

func readyToPace(c *contestant, s settings) (*subject, error) {
	b := c.make(s)
	steps := spins() // not in the loop: the first to ask waits for the calibration
	return &subject{
		contestant: c,
		loop: func(n int) (other int, odd error) {
			x := uint64(1)
			for range n {
				x = spin(x, steps)
				if o, err := b.calls(1, succeeding, nil); o != 0 {
					other++
					odd = err
				}
			}
			return other, odd
		},
		unit: 1,
	}, verifySuccess(b)
}

func readyToFail(c *contestant, s settings) (*subject, error) {
	b := c.make(s)
	return &subject{
		contestant: c,
		loop: func(n int) (other int, odd error) {
			for range n / failureUnit {
				o1, err1 := b.calls(1, succeeding, nil)
				o2, err2 := b.calls(failureUnit-1, failing, errFailure)
				if o1 != 0 {
					odd = err1
				}
				if o2 != 0 {
					odd = err2
				}
				other += o1 + o2
			}
			return other, odd
		},
		unit: failureUnit,
	}, verifyFailure(b)
}

func readyToReject(c *contestant, s settings) (*subject, error) {
	b := c.make(s)
	rejected, err := verifyRejection(c, b)
	return &subject{
		contestant: c,
		loop:       func(n int) (int, error) { return b.calls(n, failing, rejected) },
		unit:       1,
	}, err
}

func succeedAtOnce() work { return succeeding }

// readyToRetry takes what makes the work, anew for each loop.
func readyToRetry(makeWork func() work) func(*contestant, settings) (*subject, error) {
	return func(c *contestant, s settings) (*subject, error) {
		r := c.make(s)
		var err error
		if !c.bare {
			err = verifyRetry(r, s.delay)
		}
		return &subject{
			contestant: c,
			loop:       func(n int) (int, error) { return r.calls(n, makeWork(), nil) },
			unit:       1,
		}, err
	}
}

func readyTogether(c *contestant, s settings) (*subject, error) {
	if !c.bare {
		// On an instance of its own, since its failures count.
		if err := verifyTogether(c, c.make(s)); err != nil {
			return nil, err
		}
	}
	return readyToSucceed(c, s)
}
