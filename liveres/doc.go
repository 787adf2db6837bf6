// Package liveres shows the circuit breakers and retries of one process on a page
// that it serves itself: for a laptop, or for an incident without dashboards.
//
//	live := liveres.New()
//	defer live.Close()
//	http.Handle("/debug/circuits/", live)
//
//	breaker := resilience.NewCircuitBreaker(&resilience.CircuitBreakerConfig{
//		Name:   "payment",
//		Events: live.Sink(), // beside others with events.Join
//	})
//
// The page can be read by whoever can reach it, so mount it where that is right: on
// a port of its own that only operators reach, or behind the authentication of the
// service. It shows the names of breakers and retries, types of errors, never their
// messages, and trace ids if asked to. It changes nothing, unless [WithControls] is
// given. The page loads nothing from anywhere else and runs nothing but its own
// scripts.
//
// # Routes
//
// They are relative to where the page is mounted, which may be below any prefix,
// stripped or not. The mount needs a slash at its end.
//
//	GET  ./              the page
//	GET  ./?format=json  all there is to say, as JSON
//	GET  ./events        the same as server-sent events, and every second what changed
//	POST ./control       with WithControls only
//
// A browser that is too slow for the updates loses them, which the page says, and
// gets everything anew when it is back. More than 256 at once are turned away with
// status 503; their page asks for the JSON every 2 seconds, as it does where a proxy
// holds back the stream.
//
// A control request has the header X-Breakwater-Control, whatever its value, and a
// body such as
//
//	{"circuit": 1, "action": "force_open"}
//
// with an action out of force_open, force_closed, clear_force and reset.
//
// # JSON
//
// Fields may be added in future, those described here stay what they are. Times are
// in UTC; durations are in seconds and ratios in [0,1]. Counts of calls and states
// come from the breaker itself at the time of the request. Rates, histories and
// latencies are counted from events.
//
// An update has the thresholds of a circuit if they were changed.
//
// The history of a circuit or retry is a count for each column of a timeline, from
// column number first on. Columns are numbered from 1, which began when the process
// started. The states of a circuit have a letter for each column, of the worst state
// that there was in it: c for closed, h half-open, o open, capitals when forced;
// in shadow mode, where nobody is turned away, p for half-open and s for open.
//
//	{
//	  "version": 1,
//	  "time": "2026-01-02T15:04:05.000Z",
//	  "process": {"id": "differs after a restart", "program": "shop", "started": "2026-01-02T15:00:00.000Z"},
//	  "columns": {
//	    "count": 120,             columns that are kept
//	    "seconds": 5,             length of each
//	    "last": 49,               number of the present one
//	    "rate_seconds": 9.2,      the time that rates are of
//	    "recent_seconds": 64.2    the time that other recent figures are of
//	  },
//	  "controls": false,          there is a control route
//	  "watchers": {
//	    "now": 1,                 open event streams
//	    "lost_updates": 0,        updates that browsers were too slow for
//	    "turned_away": 0          streams refused because there were too many
//	  },
//	  "hidden": {"circuits": 0, "retries": 0},   not shown, because there are too many
//	  "circuits": [{
//	    "id": 1,                  unique in the process
//	    "name": "payment",        not unique
//	    "state": "half-open",     or closed, open
//	    "forced": false,
//	    "shadow": false,          unless forced, it rejects nothing
//	    "since": "2026-01-02T15:03:59.000Z",
//	    "open_until": "2026-01-02T15:04:29.000Z",   absent unless open and not forced
//	    "generation": 3,          changes of state, and 1
//	    "control": false,         it was handed over for control
//	    "thresholds": {
//	      "failure_ratio": 0.5, "volume": 10, "window_seconds": 60,
//	      "slow_ratio": 0, "slow_seconds": 0,
//	      "sleep_seconds": 30, "probes": 5, "probe_success_ratio": 0.6, "probe_timeout_seconds": 30
//	    },
//	    "totals": {"success": 90, "failure": 12, "ignored": 0, "rejected": 7, "slow": 0, "would_reject": 0},
//	    "window": {
//	      "success": 0, "failure": 0, "slow": 0, "failure_ratio": 0, "slow_ratio": 0,
//	      "judged": false         there are enough calls to decide by
//	    },
//	    "probes": {"in_flight": 1, "passed": 2, "failed": 0},   absent unless half-open
//	    "rates": {"success": 0.2, "failure": 0, "ignored": 0, "rejected": 0.1},   per second
//	    "latency": {              of the calls of the last minute; absent without any
//	      "count": 102, "p50_seconds": 0.012, "p90_seconds": 0.03, "p99_seconds": 0.2   at most 6 % off
//	    },
//	    "time_in_seconds": {"closed": 229, "open": 10, "half_open": 6, "forced_open": 0, "forced_closed": 0,
//	      "shadow_open": 0, "shadow_half_open": 0},
//	    "history": {"first": 1, "states": "cco", "success": [30], "failure": [0], "ignored": [0], "rejected": [0]},
//	    "transitions": [{         the last 32, newest first
//	      "time": "2026-01-02T15:03:59.000Z", "generation": 3,
//	      "from": "open", "from_forced": false, "to": "half-open", "forced": false, "shadow": false,
//	      "reason": "sleep_window_elapsed",   events.Reason
//	      "elapsed_seconds": 10,              spent in the state that ended
//	      "success": 0, "failure": 0, "slow": 0,   counts of that state
//	      "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"   absent without one
//	    }]
//	  }],
//	  "retries": [{
//	    "name": "payment",        one for all retries of the name
//	    "max_attempts": 3,
//	    "rate": 1.5,              operations that ended, per second
//	    "totals": {
//	      "operations": 60, "attempts": 66,
//	      "amplification": 1.1,   attempts for each operation
//	      "waited": 5, "delay_seconds": 0.7,   operations that waited, and how long in all
//	      "results": {            by events.Reason
//	        "success": 54, "success_after_retry": 4, "exhausted": 1, "not_retryable": 1,
//	        "deadline": 0, "canceled": 0, "rejected": 0, "retry_after_too_long": 0,
//	        "budget_exhausted": 0, "panic": 0, "other": 0
//	      }
//	    },
//	    "recent": {               the same for the last minute or so; absent if nothing ended
//	      "operations": 60, "attempts": 66, "amplification": 1.1, "waited": 5, "delay_seconds": 0.7,
//	      "results": {
//	        "success": 54, "success_after_retry": 4, "exhausted": 1, "not_retryable": 1,
//	        "deadline": 0, "canceled": 0, "rejected": 0, "retry_after_too_long": 0,
//	        "budget_exhausted": 0, "panic": 0, "other": 0
//	      }
//	    },
//	    "history": {"first": 1, "success": [30], "success_after_retry": [1], "failure": [0], "ignored": [0], "rejected": [0]},
//	    "last": [{                retried operations, the last 10, newest first
//	      "time": "2026-01-02T15:04:01.000Z",   when it began
//	      "seconds": 0.2, "attempts": 2,
//	      "result": "success_after_retry",
//	      "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",   absent without one
//	      "steps": [{             the first 20 attempts
//	        "attempt": 1,
//	        "began_seconds": 0,   since the operation began
//	        "seconds": 0.01,
//	        "outcome": "failure",  or success, ignored, rejected
//	        "panicked": true,     absent if not
//	        "error_type": "timeout",        events.ErrorType; absent without an error
//	        "delay_seconds": 0.1,           the wait that followed, as scheduled; absent without one
//	        "retry_after": true             the error asked for that wait; absent if not
//	      }]
//	    }]
//	  }]
//	}
//
// # Events
//
// The stream has an event "snapshot", whose data is that JSON, and then each second
// an event "update". Its data has the same fields, but for circuits and retries only
// records that changed, without what cannot have changed, with the columns and
// transitions that are new; new records are complete. The first update may repeat
// transitions that are in the snapshot, which their generation tells. Ids of circuits
// that were retired are in "gone". An event "lost" says how many updates this stream
// lost; a snapshot follows.
package liveres
