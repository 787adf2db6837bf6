package main

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEachContestantDoesWhatItsPathsSay(t *testing.T) {
	for _, p := range paths() {
		for _, c := range p.contestants() {
			t.Run(p.name+"/"+c.name, func(t *testing.T) {
				s, err := p.ready(c, p.settings)
				require.NoError(t, err)
				defer closeAll([]*subject{s})
				// And it goes on so while it is timed.
				_, err = p.time(s, 4*s.unit, time.Millisecond, 0)
				require.NoError(t, err)
			})
		}
	}
}

func TestEveryPathHasOurs(t *testing.T) {
	for _, p := range paths() {
		ours := slices.DeleteFunc(p.contestants(), func(c *contestant) bool { return !c.ours })
		require.Len(t, ours, 1, p.name)
	}
}

// liar is a contestant that does something else than its path says. Honest is the
// breaker or the retry that it abuses.
func liar(honest *contestant, calls func(honest caller, n int, w work, want error) (int, error)) *contestant {
	return &contestant{
		name:      "liar",
		rejection: honest.rejection,
		create:    honest.create,
		caller:    func(b any) caller { return lie{honest.caller(b), calls} },
	}
}

type lie struct {
	honest caller
	told   func(honest caller, n int, w work, want error) (int, error)
}

func (l lie) calls(n int, w work, want error) (int, error) { return l.told(l.honest, n, w, want) }

// counted makes a liar's counts those of the honest.
func (l lie) counted() (success, failure int) {
	if c, ok := l.honest.(counter); ok {
		return c.counted()
	}
	return 0, 0
}

// replace makes calls one by one and returns what f makes of each error.
func replace(f func(error) error) func(caller, int, work, error) (int, error) {
	return func(honest caller, n int, w work, want error) (other int, odd error) {
		for range n {
			if err := f(once(honest, w)); !same(err, want) {
				other++
				odd = err
			}
		}
		return other, odd
	}
}

func TestLiarsAreRefused(t *testing.T) {
	breaker, retry := breakers()[0], retries()[0]
	untrue := errors.New("something else")
	never := &contestant{rejection: breaker.rejection, create: bare.create, caller: bare.caller}
	alone := &contestant{rejection: errors.New("a rejection"), create: bare.create, caller: bare.caller}
	retriesOf := func(n int) *contestant {
		return &contestant{create: bare.create, caller: func(any) caller { return attemptsOf(n) }}
	}
	for _, test := range []struct {
		name string
		ready
		settings
		contestant *contestant
		want       string
	}{
		{"the work is not run", readyToSucceed, usual, liar(breaker,
			func(caller, int, work, error) (int, error) { return 0, nil }),
			"64 calls ran the work 0 times"},
		{"the work is run twice", readyToSucceed, usual, liar(breaker,
			func(b caller, n int, w work, want error) (int, error) { return b.calls(2*n, w, want) }),
			"64 calls ran the work 128 times"},
		{"an error is made up", readyToSucceed, usual, liar(breaker,
			replace(func(error) error { return untrue })),
			"64 of 64 calls returned something else"},
		{"nothing is counted", readyToSucceed, usual, liar(breaker,
			func(_ caller, n int, w work, want error) (int, error) { return workAlone{}.calls(n, w, want) }),
			"it counted 0 successes and 0 failures instead of 64 and 0"},
		{"an error is swallowed", readyToFail, patient, liar(breaker,
			replace(func(error) error { return nil })),
			"31 of 31 calls returned a success"},
		{"failures are not counted", readyToFail, patient, liar(breaker,
			func(b caller, n int, w work, want error) (int, error) {
				if want != nil {
					return workAlone{}.calls(n, w, want)
				}
				return b.calls(n, w, want)
			}),
			"it counted 8 successes and 0 failures"},
		{"it opens below the threshold", readyToFail, usual, breaker,
			"calls returned resilience: circuit breaker"},
		{"it never opens", readyToReject, usual, never,
			"a call returned the work failed"},
		{"it is open from the beginning", readyToReject, usual, liar(breaker,
			func(b caller, n int, w work, want error) (int, error) {
				_, _ = b.calls(volume, failing, errFailure)
				return b.calls(n, w, want)
			}),
			"1 of 1 calls returned resilience: circuit breaker"},
		{"it rejects with another error", readyToReject, usual, liar(breaker,
			replace(func(err error) error {
				if errors.Is(err, breaker.rejection) {
					return untrue
				}
				return err
			})),
			"a call returned something else"},
		{"it runs the work while open", readyToReject, usual, liar(breaker,
			func(b caller, n int, w work, want error) (int, error) {
				other, odd := b.calls(n, w, want)
				if errors.Is(want, breaker.rejection) {
					_ = w.plain()
				}
				return other, odd
			}),
			"open, it ran the work"},
		{"it closes again", readyToReject, usual, liar(breaker,
			func(b caller, n int, w work, want error) (int, error) {
				if n == verified*verified {
					return workAlone{}.calls(n, w, want)
				}
				return b.calls(n, w, want)
			}),
			"4096 of 4096 calls returned the work failed"},
		{"it does not retry", readyToRetry(failingTwice), usual, retriesOf(1),
			"success at the last attempt: 2 of 3 calls"},
		{"it tries once more", readyToRetry(failingTwice), usual, retriesOf(4),
			"no success: 4 attempts instead of 3"},
		{"it does not wait", readyToRetry(failingTwice), delayed, retriesOf(3),
			"less than the 6ms they have to wait"},
		{"it loses the error", readyToRetry(failingTwice), usual, liar(retry,
			replace(func(err error) error {
				if err != nil {
					return untrue
				}
				return nil
			})),
			"no success: it returned something else"},
		{"no breaker counts the attempts", readyTogether, usual, liar(together()[0],
			func(_ caller, n int, w work, want error) (int, error) { return attemptsOf(3).calls(n, w, want) }),
			"it counted 0 successes and 0 failures instead of 0 and 3"},
		{"no breaker opens", readyTogether, usual, retriesOf(3),
			"open, it ran the work 3 times"},
		{"it does not time out", readyPolicy(verifyTimeout), usual, alone,
			"after 20 times the limit a call returned the work failed"},
		{"it does not count slots", readyPolicy(verifyBulkhead), usual, alone,
			"11 calls within each other ran and then one returned a success; there are 10 slots"},
		{"it limits no rate", readyPolicy(verifyRateLimit), usual, alone,
			"after 3 calls another returned a success and ran the work 1 times"},
		{"it does not hedge", readyPolicy(verifyHedge), usual, alone,
			"1 attempts began, and it returned the work failed"},
		{"it does not fall back", readyToFallBack, usual, alone,
			"64 of 64 calls returned the work failed instead of a success"},
		{"it is no stack", readyPolicy(verifyStack), usual, alone,
			"3 of 3 calls returned the work failed instead of a success"},
		{"it is a fallback and nothing else", readyPolicy(verifyStack), usual, &contestant{create: fallbacks()[0].create, caller: fallbacks()[0].caller},
			"3 calls ran the work 3 times instead of 9"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.ready(test.contestant, test.settings)
			require.ErrorContains(t, err, test.want)
		})
	}
}

type ready = func(*contestant, settings) (*subject, error)

// attemptsOf is a retry without delay.
type attemptsOf int

func (a attemptsOf) calls(n int, w work, want error) (other int, odd error) {
	for range n {
		err := w.plain()
		for i := 1; i < int(a) && err != nil; i++ {
			err = w.plain()
		}
		if !same(err, want) {
			other++
			odd = err
		}
	}
	return other, odd
}

func TestALiarEndsTheRun(t *testing.T) {
	p := smoke(t, "-paths", "success-serial")
	p.paths[0].contestants = func() []*contestant {
		return []*contestant{breakers()[0], liar(breakers()[0],
			func(caller, int, work, error) (int, error) { return 0, nil })}
	}
	require.ErrorContains(t, p.run(t.Output(), t.Output()),
		"success-serial: liar does not do what the path says: 64 calls ran the work 0 times")
}

func TestCallsAreCheckedWhileTimed(t *testing.T) {
	p := smoke(t, "-paths", "success-parallel")
	turned := errors.New("turned")
	p.paths[0].ready = func(c *contestant, _ settings) (*subject, error) {
		calls := 0 // for one goroutine: it fails before there are others
		return &subject{contestant: c, unit: 1, loop: func(n int) (int, error) {
			if calls += n; calls > 1000 {
				return 1, turned
			}
			return 0, nil
		}}, nil
	}
	require.ErrorContains(t, p.run(t.Output(), t.Output()), "while timed, 1 of ")
}

func TestAllowedLeaks(t *testing.T) {
	for _, test := range []struct {
		leaks   float64
		n, want int
	}{
		{0, 1_000_000, 0},
		{0.001, 10, 1},
		{0.001, 4000, 4},
	} {
		require.Equal(t, test.want, (&contestant{leaks: test.leaks}).allowed(test.n))
	}
}

// A round tripper that makes another number of requests, or gives back a failure, is not
// timed.
func TestRequestsAreVerified(t *testing.T) {
	once := &contestant{create: func(settings) any { return around(func(base http.RoundTripper) http.RoundTripper { return base }) }}
	_, err := readyToRequest(attempts)(once, usual)
	require.ErrorContains(t, err, "calls came out as status 503")
	twice := &contestant{create: func(settings) any {
		return around(func(base http.RoundTripper) http.RoundTripper { return again{base} })
	}}
	_, err = readyToRequest(1)(twice, usual)
	require.ErrorContains(t, err, "64 calls made 128 requests instead of 64")
}

type again struct{ http.RoundTripper }

func (a again) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := a.RoundTripper.RoundTrip(r); err != nil {
		return nil, err
	}
	return a.RoundTripper.RoundTrip(r)
}
