package main

import "fmt"

// aim is how fast we want to be on a path: ours divided by theirs, at most.
type aim struct {
	path string

	// against is the contestant we compare with. Empty is the fastest of those that
	// keep a window of time as we do, where the path is a breaker's; of all, where it
	// is a retry's.
	against string
	most    float64
}

var aims = []aim{
	{"success-serial", "gobreaker", 0.12},
	{"success-serial", "failsafe, permit", 0.22},
	{"success-parallel", "gobreaker", 0.07},
	{"success-parallel", "failsafe, permit", 0.11},
	{"paced", "", 0.06},
	{"failure-serial", "gobreaker", 0.22},
	{"failure-serial", "failsafe, permit", 0.40},
	{"rejection-serial", "gobreaker", 0.5},
	{"rejection-serial", "failsafe, permit", 0.5},
	{"retry-first", "avast/retry-go", 0.45},
	{"retry-three", "", 0.02},
	{"together-serial", "avast + gobreaker", 0.15},
	{"timeout", "failsafe", 1},
	{"bulkhead-serial", "failsafe, permit", 0.5},
	{"bulkhead-parallel", "failsafe, permit", 1},
	{"ratelimit", "failsafe", 1},
	{"hedge", "failsafe", 0.5},
	{"fallback-unused", "failsafe", 0.1},
	{"fallback-used", "failsafe", 0.1},
	{"stack", "failsafe", 0.5},
	{"http-first", "retryablehttp", 1},
	{"http-first", "failsafehttp, both", 1},
	{"http-three", "retryablehttp", 1},
	{"http-three", "failsafehttp, both", 1},
	{"http-server", "", 1.05}, // nearly all of it is the network's
}

// The most that a breaker may hold on to before it is called, in bytes.
const mostCold = 700

// verdict is an aim beside what was reached.
type verdict struct {
	Aim     string `json:"aim"`
	Reached string `json:"reached"`
	Held    bool   `json:"held"`
}

// judge compares a report with the aims; those of paths that were not run are left out.
func (r *report) judge() (verdicts []verdict) {
	for _, a := range aims {
		s := r.section(a.path)
		if s == nil {
			continue
		}
		verdicts = append(verdicts, a.verdict(s))
	}
	if v, ok := r.allocations(); ok {
		verdicts = append(verdicts, v)
	}
	for i := range r.Paths {
		if s := &r.Paths[i]; s.requests {
			verdicts = append(verdicts, s.fewestAllocations())
		}
	}
	for _, m := range r.Memory {
		if !m.Ours {
			continue
		}
		verdicts = append(verdicts, verdict{
			Aim:     fmt.Sprintf("A breaker that was never called: at most %d bytes", mostCold),
			Reached: fmt.Sprintf("%.0f", m.Cold),
			Held:    m.Cold <= mostCold,
		}, verdict{
			Aim:     "Breakers that are idle: no goroutine",
			Reached: fmt.Sprint(m.Goroutines),
			Held:    m.Goroutines == 0,
		})
	}
	return verdicts
}

// allocations wants none, but where there is a delay or a limit: that needs a timer,
// which is made for it. It tells of the path that allocates most.
func (r *report) allocations() (v verdict, ok bool) {
	v = verdict{Aim: "No allocation where nothing is waited for", Reached: "0", Held: true}
	most := 0.0
	for _, s := range r.Paths {
		if s.waits || s.timers || s.requests {
			continue
		}
		ok = true
		if allocs := s.ours().Allocs; allocs >= 0.5 && allocs > most {
			most = allocs
			v.Reached, v.Held = fmt.Sprintf("%s: %s", s.Title, formatCount(allocs)), false
		}
	}
	return v, ok
}

// fewestAllocations wants fewer than any peer needs.
func (s *section) fewestAllocations() verdict {
	var best *row
	for i := range s.Rows {
		if r := &s.Rows[i]; r.contestant.module != "" && (best == nil || r.Allocs < best.Allocs) {
			best = r
		}
	}
	return verdict{
		Aim:     fmt.Sprintf("%s: fewer allocations than the %s of %s", s.Title, formatCount(best.Allocs), best.Contestant),
		Reached: formatCount(s.ours().Allocs),
		Held:    s.ours().Allocs < best.Allocs,
	}
}

func (a *aim) verdict(s *section) verdict {
	ours, theirs, title := s.ours(), s.rival(a.against), s.Title
	if theirs != nil && theirs.contestant.beside != "" {
		ours, title = s.rival(theirs.contestant.beside), s.Title+", "+theirs.contestant.beside
	}
	if theirs == nil || theirs.of(s.Contended) <= 0 {
		return verdict{Aim: title, Reached: "lost in noise"}
	}
	ratio := ours.of(s.Contended) / theirs.of(s.Contended)
	v := verdict{
		Aim:     fmt.Sprintf("%s: at most %.2f of %s", title, a.most, theirs.Contestant),
		Reached: formatRatio(ratio),
		Held:    ratio <= a.most,
	}
	if floor := s.rival(askedAlone); !v.Held && floor != nil {
		v.Reached += fmt.Sprintf(" (%s: %s)", askedAlone, formatRatio(floor.of(s.Contended)/theirs.of(s.Contended)))
	}
	return v
}

// of returns the time that a row is compared by: the least, which noise can only
// raise; but between goroutines that contend the median, since noise that keeps one
// of them from running makes the others faster.
func (r *row) of(contended bool) float64 {
	if contended {
		return r.Median
	}
	return r.Min
}
