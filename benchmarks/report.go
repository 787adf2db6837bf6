package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// report is what a run found.
type report struct {
	Machine machine   `json:"machine"`
	Command string    `json:"command"`
	Rounds  int       `json:"rounds"`
	Slice   string    `json:"slice"`
	Paths   []section `json:"paths,omitempty"`
	Memory  []held    `json:"memory,omitempty"`
	Aims    []verdict `json:"aims,omitempty"`

	memory memory
}

// section is what was found on one path.
type section struct {
	Path      string `json:"path"`
	Title     string `json:"title"`
	About     string `json:"about"`
	Contended bool   `json:"contended"` // rows are compared by their median
	Rows      []row  `json:"rows"`

	// Handover is how long a cache line took from one processor to another meanwhile,
	// in nanoseconds; 0 unless the rows contend.
	Handover float64 `json:"handover,omitzero"`

	waits    bool // calls wait, and the rest of the time is the timers'
	timers   bool // calls need a timer
	requests bool // calls are HTTP requests
}

// row is one contestant on one path. Times are nanoseconds.
type row struct {
	Contestant string  `json:"contestant"`
	Module     string  `json:"module,omitempty"`
	Version    string  `json:"version,omitempty"`
	Min        float64 `json:"min"`
	Median     float64 `json:"median"`
	Allocs     float64 `json:"allocs"`
	Bytes      float64 `json:"bytes"`

	// What ours takes divided by what this one takes: how much faster ours is, below
	// 1. Zero where there is nothing to compare.
	MinRatio    float64 `json:"min_ratio,omitzero"`
	MedianRatio float64 `json:"median_ratio,omitzero"`

	Ours bool `json:"ours,omitempty"`

	contestant *contestant
}

// held is the memory of one contestant's breakers, in bytes for each.
type held struct {
	Contestant string  `json:"contestant"`
	Cold       float64 `json:"cold"`
	Hot        float64 `json:"hot"`
	ColdRatio  float64 `json:"cold_ratio"` // ours divided by theirs
	HotRatio   float64 `json:"hot_ratio"`
	Goroutines int     `json:"goroutines"`
	Ours       bool    `json:"ours,omitempty"`
}

// add adds what was measured on a path.
func (r *report) add(p *path, subjects []*subject, m measured, versions map[string]string) {
	s := section{
		Path: p.name, Title: p.title, About: p.about, Contended: p.parallel,
		Handover: m.handover,
		waits:    p.waited > 0, timers: p.timers, requests: p.requests,
	}
	all := m.figures
	ours := all[slices.IndexFunc(subjects, func(s *subject) bool { return s.ours })]
	for i, f := range all {
		c := subjects[i].contestant
		row := row{
			Contestant: c.name,
			Module:     c.module,
			Version:    versions[c.module],
			Min:        f.min,
			Median:     f.median,
			Allocs:     f.allocs,
			Bytes:      f.bytes,
			Ours:       c.ours,
			contestant: c,
		}
		if !c.bare {
			row.MinRatio, row.MedianRatio = ratio(ours.min, f.min), ratio(ours.median, f.median)
		}
		s.Rows = append(s.Rows, row)
	}
	r.Paths = append(r.Paths, s)
}

// addMemory adds the footprints of the contestants' breakers, ours first.
func (r *report) addMemory(all []*contestant, prints []footprint) {
	ours := prints[slices.IndexFunc(all, func(c *contestant) bool { return c.ours })]
	for i, f := range prints {
		r.Memory = append(r.Memory, held{
			Contestant: all[i].name,
			Cold:       f.cold,
			Hot:        f.hot,
			ColdRatio:  ratio(ours.cold, f.cold),
			HotRatio:   ratio(ours.hot, f.hot),
			Goroutines: f.goroutines,
			Ours:       all[i].ours,
		})
	}
}

// ratio is 0 where noise left nothing to compare: a difference of two measurements
// may come out below zero.
func ratio(ours, theirs float64) float64 {
	if ours <= 0 || theirs <= 0 {
		return 0
	}
	return ours / theirs
}

func (r *report) section(path string) *section {
	for i := range r.Paths {
		if r.Paths[i].Path == path {
			return &r.Paths[i]
		}
	}
	return nil
}

func (s *section) ours() *row {
	return &s.Rows[slices.IndexFunc(s.Rows, func(r row) bool { return r.Ours })]
}

// rival returns the row of the contestant with the name, or for an empty name the
// fastest peer; of the breakers only those that do the same job.
func (s *section) rival(name string) *row {
	var best *row
	for i := range s.Rows {
		r := &s.Rows[i]
		switch {
		case name != "":
			if r.Contestant == name {
				return r
			}
		case r.contestant.module == "", s.ours().contestant.windowed && !r.contestant.windowed, r.of(s.Contended) <= 0:
		case best == nil || r.of(s.Contended) < best.of(s.Contended):
			best = r
		}
	}
	return best
}

// even is how much of our time theirs is, at least, to be called neither faster nor
// slower.
const even = 0.95

// remarks returns what there is to say about the table.
func (s *section) remarks() []string {
	sentences := s.faster()
	if s.Handover > 0 {
		sentences = append(sentences, fmt.Sprintf("Meanwhile a cache line took %s ns from one processor to the other.", formatTime(s.Handover)))
	}
	return sentences
}

// faster returns a sentence for each peer that was faster than ours.
func (s *section) faster() (sentences []string) {
	if s.waits {
		return nil
	}
	for _, r := range s.Rows {
		c, theirs := r.contestant, r.of(s.Contended)
		if c.module == "" || theirs <= 0 || theirs >= even*s.ours().of(s.Contended) {
			continue
		}
		why := "it does the same job, and we have no excuse"
		if c.faster != "" {
			why = c.faster
		}
		sentences = append(sentences, fmt.Sprintf("%s is faster here: %s.", c.name, why))
	}
	return sentences
}

// JSON writes the report for programs.
func (r *report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Text writes the report for a terminal.
func (r *report) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d rounds of %s; times in nanoseconds; ratio: ours divided by theirs\n",
		r.Machine, r.Rounds, r.Slice)
	for _, s := range r.Paths {
		fmt.Fprintf(&b, "\n%s (%s)\n%s", s.Title, s.Path, s.grid().text())
		for _, sentence := range s.remarks() {
			fmt.Fprintf(&b, "  %s\n", sentence)
		}
	}
	if r.Memory != nil {
		fmt.Fprintf(&b, "\n%s\n%s", r.memoryTitle(), r.memoryGrid().text())
	}
	if r.Aims != nil {
		fmt.Fprintf(&b, "\nAims\n%s", r.aimGrid().text())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Markdown writes the report as RESULTS.md.
func (r *report) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, `# Breakwater beside its peers

Written by `+"`%s`"+`.

- Machine: %s.
- %d rounds. In each, every contestant of a path ran for %s, in a new order every time, so that what disturbs the machine disturbs all alike.
- Times are nanoseconds. Minimum and median are of those slices. Noise can only raise a minimum; but where goroutines contend compare medians, since noise that keeps one of them from running makes the others faster.
- A ratio is ours divided by theirs: 0.20 says that ours takes a fifth of the time. Only ratios travel to other machines, and those of contended paths not far: what contention costs depends on the number of processors and on how long a cache line takes from one to another, which is told with each. On a virtual machine that may change within a run, as its processors are moved: threads of one core share a cache. Nothing is claimed for more processors than this machine has.
- Allocations and bytes are per call.
- Before it was timed, each contestant had to show that it does what the path says: that it runs the work as often as it should and returns its error, counts it where it tells its counts, opens, and then rejects. While it was timed, every result was compared with what it should be.
- All breakers have the same window (%v in %d buckets), judge from %d calls on, open at a failure ratio of %v unless the path says otherwise, and stay open for %v. All retries make %d attempts at most. Nobody has a listener. What can be made once was made once. The context, for those who take one, can be cancelled, as that of a request can.
`,
		r.Command, r.Machine, r.Rounds, r.Slice,
		windowSize, buckets, volume, usual.errorThreshold, sleepWindow, attempts)
	for _, s := range r.Paths {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n%s", s.Title, s.About, s.grid().markdown())
		if remarks := s.remarks(); remarks != nil {
			fmt.Fprintf(&b, "\n%s\n", strings.Join(remarks, " "))
		}
	}
	if r.Memory != nil {
		fmt.Fprintf(&b, "\n## %s\n\nBytes as the allocator hands them out, for each breaker. Cold: never called. Hot: called from every processor, in two buckets. Goroutines: started by all the cold ones together.\n\n%s",
			r.memoryTitle(), r.memoryGrid().markdown())
		if smaller := r.smaller(); smaller != nil {
			fmt.Fprintf(&b, "\nSmaller than ours before the first call: %s.\n", strings.Join(smaller, "; "))
		}
	}
	if r.Aims != nil {
		fmt.Fprintf(&b, "\n## Aims\n\nWhat we want, by the minimum on serial paths and by the median on parallel ones, and what this run reached.\n\n%s",
			r.aimGrid().markdown())
	}
	if r.Paths != nil {
		b.WriteString("\n## Who does what\n\n")
		for _, line := range r.whoDoesWhat() {
			b.WriteString(line)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// whoDoesWhat returns a line for each contestant, as an item of its kind.
func (r *report) whoDoesWhat() (lines []string) {
	for _, s := range r.Paths {
		for _, row := range s.Rows {
			c := row.contestant
			if c.about == bare.about {
				continue
			}
			line := "- **" + c.name + "**"
			if c.module != "" {
				line += fmt.Sprintf(" (`%s` %s)", c.module, row.Version)
			}
			line += ": " + c.about + "\n"
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

func (s *section) grid() grid {
	g := grid{{"", "min", "median", "ratio of min", "of median", "allocs", "bytes"}}
	for _, r := range s.Rows {
		g = append(g, []string{
			r.Contestant, formatTime(r.Min), formatTime(r.Median),
			formatRatio(r.MinRatio), formatRatio(r.MedianRatio),
			formatCount(r.Allocs), formatCount(r.Bytes),
		})
	}
	return g
}

func (r *report) memoryTitle() string {
	return fmt.Sprintf("Memory of a breaker, of %d cold and %d hot", r.memory.cold, r.memory.hot)
}

func (r *report) memoryGrid() grid {
	g := grid{{"", "cold", "hot", "ratio cold", "ratio hot", "goroutines"}}
	for _, m := range r.Memory {
		g = append(g, []string{
			m.Contestant, formatCount(m.Cold), formatCount(m.Hot),
			formatRatio(m.ColdRatio), formatRatio(m.HotRatio), fmt.Sprint(m.Goroutines),
		})
	}
	return g
}

// smaller returns the contestants whose cold breakers hold less than ours.
func (r *report) smaller() (names []string) {
	for _, m := range r.Memory {
		if m.Cold < r.Memory[0].Cold {
			names = append(names, m.Contestant)
		}
	}
	return names
}

func (r *report) aimGrid() grid {
	g := grid{{"", "reached", "held"}}
	for _, v := range r.Aims {
		answer := "no"
		if v.Held {
			answer = "yes"
		}
		g = append(g, []string{v.Aim, v.Reached, answer})
	}
	return g
}

func formatTime(ns float64) string {
	if math.Abs(ns) < 100 {
		return fmt.Sprintf("%.1f", ns)
	}
	return fmt.Sprintf("%.0f", ns)
}

func formatRatio(r float64) string {
	switch {
	case r == 0:
		return ""
	case r < 0.1:
		return fmt.Sprintf("%.3f", r)
	default:
		return fmt.Sprintf("%.2f", r)
	}
}

func formatCount(n float64) string { return fmt.Sprintf("%.0f", n) }

// grid is a table: a heading and rows, the first column of which is text and the
// others numbers.
type grid [][]string

func (g grid) widths() []int {
	widths := make([]int, len(g[0]))
	for _, row := range g {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

func (g grid) text() string {
	var b strings.Builder
	widths := g.widths()
	for _, row := range g {
		fmt.Fprintf(&b, "  %-*s", widths[0], row[0])
		for i, cell := range row[1:] {
			fmt.Fprintf(&b, "  %*s", widths[i+1], cell)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (g grid) markdown() string {
	var b strings.Builder
	widths := g.widths()
	for n, row := range g {
		fmt.Fprintf(&b, "| %-*s |", widths[0], row[0])
		for i, cell := range row[1:] {
			fmt.Fprintf(&b, " %*s |", widths[i+1], cell)
		}
		b.WriteByte('\n')
		if n == 0 {
			b.WriteString("|" + strings.Repeat("-", widths[0]+2) + "|")
			for _, w := range widths[1:] {
				b.WriteString(strings.Repeat("-", w+1) + ":|")
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}
