package main

import (
	"context"
	"errors"
	"math"
	"time"
)

// What every breaker is told, in the words of its own settings: to keep a window of
// ten seconds in ten buckets, to judge it from ten calls on, and to stay open for an
// hour once it has opened, so that no slice meets a probe. Each path gives the error
// threshold.
const (
	windowSize  = 10 * time.Second
	buckets     = 10
	volume      = 10
	sleepWindow = time.Hour
	attempts    = 3 // of every retry, the first included
)

// settings is what differs between paths.
type settings struct {
	errorThreshold float64       // the ratio of failures at which a breaker opens
	errorLimit     int           // the same for a breaker that counts errors and knows no ratio
	delay          time.Duration // between the attempts of a retry
}

var (
	// usual opens at half of the calls, of ten at least.
	usual = settings{errorThreshold: 0.5, errorLimit: volume / 2}

	// patient stays closed on the failure path, where 31 of 32 calls fail: 0.97. Not
	// higher than 0.99, since one peer rounds its rate to two decimals.
	patient = settings{errorThreshold: 0.99, errorLimit: math.MaxInt}

	// delayed waits a millisecond after each attempt.
	delayed = settings{errorThreshold: 0.5, errorLimit: volume / 2, delay: time.Millisecond}
)

// contestant is a library, or one of its interfaces, in the role of a breaker, of a
// retry, or of both.
type contestant struct {
	name   string
	module string // whose version the results name; empty for none

	// about says what the contestant is configured to do where that is not plain,
	// and what a reader has to know to compare fairly.
	about string

	// faster says why it is no surprise that the contestant is faster than ours,
	// should it be. Empty if there is no reason but merit.
	faster string

	// beside is the name of the row of ours that does the job that the contestant does,
	// where that is not the first: an aim compares those two.
	beside string

	ours     bool // the row that the others are compared with
	bare     bool // a floor, such as the work alone, and compared with nobody
	windowed bool // a breaker that keeps a rolling window of time, as ours does
	held     bool // a breaker whose memory is measured

	// create returns the object that a user would keep, and caller wraps it for the
	// measurement. They are separate so that wrapping costs no memory where memory is
	// measured.
	create func(settings) any
	caller func(any) caller

	// rejection is what a rejected call's error matches; nil if it rejects nothing.
	rejection error

	// leaks is the share of calls, at most, that an open breaker lets through by
	// design.
	leaks float64
}

func (c *contestant) make(s settings) caller { return c.caller(c.create(s)) }

// caller makes calls through a library.
type caller interface {
	// calls makes n calls of w, one after the other, in the way that the library's
	// users write them. It returns how many did not return want, and what the last of
	// those returned instead. It may be called from several goroutines at once. The
	// loop is in here, so that timing it costs no call through an interface for each
	// call that is timed.
	calls(n int, w work, want error) (other int, odd error)
}

// counter is a caller whose breaker tells what its window holds.
type counter interface {
	counted() (success, failure int)
}

// work is one piece of work in the forms that the libraries want, so that nobody
// pays for an adapter.
type work struct {
	plain  func() error
	value  func() (struct{}, error)
	marked func(context.Context) error // its errors are marked as worth a retry
}

// ctx is handed to whoever takes a context. It can be cancelled, as those of requests
// can, and never is.
var ctx, _ = context.WithCancel(context.Background())

var errFailure = errors.New("the work failed")

// The work takes no time, so that what remains is the library's. It is not inlined
// anywhere: it is the same for all.

//go:noinline
func succeed() error { return nil }

//go:noinline
func succeedValue() (struct{}, error) { return struct{}{}, nil }

//go:noinline
func succeedMarked(context.Context) error { return nil }

//go:noinline
func fail() error { return errFailure }

//go:noinline
func failValue() (struct{}, error) { return struct{}{}, errFailure }

//go:noinline
func failMarked(context.Context) error { return errMarked }

var (
	succeeding = work{plain: succeed, value: succeedValue, marked: succeedMarked}
	failing    = work{plain: fail, value: failValue, marked: failMarked}
)

// failingTwice returns work that fails twice and then succeeds, again and again. It
// is for one goroutine.
func failingTwice() work {
	f := &flaky{left: attempts - 1}
	return work{
		plain: func() error {
			if f.fails() {
				return errFailure
			}
			return nil
		},
		value: func() (struct{}, error) {
			if f.fails() {
				return struct{}{}, errFailure
			}
			return struct{}{}, nil
		},
		marked: func(context.Context) error {
			if f.fails() {
				return errMarked
			}
			return nil
		},
	}
}

// flaky counts down to a success. Its method is inlined, unlike a function value that
// the three forms of the work could share.
type flaky struct{ left int }

func (f *flaky) fails() bool {
	if f.left--; f.left >= 0 {
		return true
	}
	f.left = attempts - 1
	return false
}

// same compares by identity: all that is compared here is one value, a library's
// sentinel or what one open period returns, and errors.Is would be timed too. So would
// the call to the runtime that a comparison of two interfaces is, where no error is
// wanted: a nanosecond in everybody's figures.
func same(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a == b //nolint:errorlint // identity is meant
}

// bare is the work without a library.
var bare = contestant{
	name:   "the work alone",
	bare:   true,
	about:  "A call of the work and nothing else.",
	create: func(settings) any { return nil },
	caller: func(any) caller { return workAlone{} },
}

type workAlone struct{}

func (workAlone) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		if err := w.plain(); !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}
