package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// verified is how many calls an instance makes before it is believed.
const verified = 64

// expect makes n calls and wants each to return want, and the work to have run as
// often as said.
func expect(c caller, n int, w work, want error, runs int) error {
	w, ran := counting(w)
	other, odd := c.calls(n, w, want)
	switch {
	case other != 0:
		return fmt.Errorf("%d of %d calls returned %s instead of %s", other, n, outcome(odd), outcome(want))
	case *ran != runs:
		return fmt.Errorf("%d calls ran the work %d times instead of %d", n, *ran, runs)
	}
	return nil
}

// outcome is a call's error as text: it may be none, and it is not for wrapping.
func outcome(err error) string {
	if err == nil {
		return "a success"
	}
	return err.Error()
}

// expectCounts wants a breaker that tells what its window holds to hold just that.
func expectCounts(c caller, success, failure int) error {
	b, ok := c.(counter)
	if !ok {
		return nil
	}
	if s, f := b.counted(); s != success || f != failure {
		return fmt.Errorf("it counted %d successes and %d failures instead of %d and %d", s, f, success, failure)
	}
	return nil
}

// counting returns w with a count of its runs, for one goroutine.
func counting(w work) (work, *int) {
	ran := new(int)
	return work{
		plain:  func() error { *ran++; return w.plain() },
		value:  func() (struct{}, error) { *ran++; return w.value() },
		marked: func(ctx context.Context) error { *ran++; return w.marked(ctx) },
	}, ran
}

// verifySuccess wants work that succeeds to run once for each call and to be counted.
func verifySuccess(b caller) error {
	if err := expect(b, verified, succeeding, nil, verified); err != nil {
		return err
	}
	return expectCounts(b, verified, 0)
}

// verifyFailure wants the work's error back, failures counted, and the breaker closed
// after all of them.
func verifyFailure(b caller) error {
	const rounds = 8
	for range rounds {
		if err := expect(b, 1, succeeding, nil, 1); err != nil {
			return err
		}
		if err := expect(b, failureUnit-1, failing, errFailure, failureUnit-1); err != nil {
			return err
		}
	}
	return expectCounts(b, rounds, rounds*(failureUnit-1))
}

// opening is how many failures go before a rejection is expected. It takes so many
// because one contestant rejects with a probability only, of one to the number of
// calls it has seen.
const opening = 100_000

// verifyRejection wants the breaker to admit a call, to be open after many that fail,
// and then to reject calls without running them. It returns what they return.
func verifyRejection(c *contestant, b caller) (rejected error, err error) {
	if err := expect(b, 1, failing, errFailure, 1); err != nil {
		return nil, err
	}
	_, _ = b.calls(opening, failing, errFailure) // what they return changes on the way
	w, ran := counting(failing)
	rejected = once(b, w)
	if !errors.Is(rejected, c.rejection) {
		return nil, fmt.Errorf("after %d failures a call returned %s instead of %s", opening, outcome(rejected), outcome(c.rejection))
	}
	n := verified * verified
	other, odd := b.calls(n, w, rejected)
	switch {
	case other > c.allowed(n):
		return nil, fmt.Errorf("%d of %d calls returned %s instead of %s", other, n, outcome(odd), outcome(rejected))
	case *ran > c.allowed(n):
		return nil, fmt.Errorf("open, it ran the work in %d of %d calls", *ran, n)
	}
	return rejected, nil
}

// errNone is returned by nobody, so that every result differs from it.
var errNone = errors.New("returned by nobody")

// once makes one call and returns what it returned.
func once(b caller, w work) error {
	_, err := b.calls(1, w, errNone)
	return err
}

// allowed returns how many of n calls may get through an open breaker.
func (c *contestant) allowed(n int) int { return int(math.Ceil(c.leaks * float64(n))) }

// verifyRetry wants a success to end a retry at the first and at the third attempt, a
// third failure to end it with the work's error, and the delay to be waited.
func verifyRetry(r caller, delay time.Duration) error {
	if err := expect(r, 3, succeeding, nil, 3); err != nil {
		return fmt.Errorf("success at once: %w", err)
	}
	began := time.Now()
	if err := expect(r, 3, failingTwice(), nil, 3*attempts); err != nil {
		return fmt.Errorf("success at the last attempt: %w", err)
	}
	if took, least := time.Since(began), 3*(attempts-1)*delay; took < least {
		return fmt.Errorf("three retries took %v, less than the %v they have to wait", took, least)
	}
	return verifyExhausted(r)
}

func verifyExhausted(r caller) error {
	w, ran := counting(failing)
	err := once(r, w)
	switch {
	case *ran != attempts:
		return fmt.Errorf("no success: %d attempts instead of %d", *ran, attempts)
	case !errors.Is(err, errFailure):
		return fmt.Errorf("no success: it returned %s, which is not the work's error", outcome(err))
	}
	return nil
}

// verifyTogether wants three attempts that all fail, each counted by the breaker, and
// an open breaker to keep the work from running.
func verifyTogether(c *contestant, b caller) error {
	if err := verifyExhausted(b); err != nil {
		return err
	}
	if err := expectCounts(b, 0, attempts); err != nil {
		return err
	}
	w, ran := counting(failing)
	_, _ = b.calls(verified, w, errFailure)
	*ran = 0
	err := once(b, w)
	if *ran != 0 || err == nil || errors.Is(err, errFailure) {
		return fmt.Errorf("%s: open, it ran the work %d times and returned %s", c.name, *ran, outcome(err))
	}
	return nil
}
