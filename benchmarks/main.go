// Benchmarks runs this library beside its peers and prints how long a call takes:
//
//	go run -C benchmarks .             # everything, in about five minutes
//	go run -C benchmarks . -quick      # the same in about one, and rougher
//	go run -C benchmarks . -paths success,rejection -rounds 300
//	go run -C benchmarks . -markdown > benchmarks/RESULTS.md
//
// Every contestant of a path runs for a short slice in every round, so that noise
// hits all alike. Before anything is timed, each has to show that it does what the
// path says; one that does not ends the program. See contestant.go for what all are
// told, breakers.go, retries.go and policies.go for each, path.go for the paths,
// measure.go for how times are taken, aim.go for what we want to reach.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

// plan is what the command line asks for.
type plan struct {
	command    string
	paths      []path
	rounds     int
	slice      time.Duration
	memory     memory
	withMemory bool
	write      func(*report, io.Writer) error
}

func run(args []string, stdout, stderr io.Writer) error {
	p, err := parse(args, stderr)
	if err != nil {
		return err
	}
	return p.run(stdout, stderr)
}

// run does what is planned and writes the results.
func (p *plan) run(results, progress io.Writer) error {
	r := &report{
		Machine: thisMachine(),
		Command: p.command,
		Rounds:  p.rounds,
		Slice:   p.slice.String(),
		memory:  p.memory,
	}
	if err := p.fill(r, progress); err != nil {
		return err
	}
	return p.write(r, results)
}

// longestSlice is so short that no window empties before its breaker's next turn.
const longestSlice = windowSize / 20

func parse(args []string, stderr io.Writer) (*plan, error) {
	fs := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	fs.SetOutput(stderr)
	var (
		names    = fs.String("paths", "", "run only the paths whose names begin with one of these, separated by commas;\none of "+strings.Join(pathNames(), ", "))
		rounds   = fs.Int("rounds", 100, "how often each contestant of a path has its turn")
		slice    = fs.Duration("slice", 30*time.Millisecond, "how long a turn is")
		quick    = fs.Bool("quick", false, "15 rounds of 20ms and fewer breakers in the measurement of memory")
		markdown = fs.Bool("markdown", false, "print the results as RESULTS.md")
		asJSON   = fs.Bool("json", false, "print the results as JSON")
	)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	p := &plan{
		command: strings.Join(append([]string{"go run -C benchmarks ."}, args...), " "),
		rounds:  *rounds,
		slice:   *slice,
		memory:  memory{cold: 10_000, hot: 500, warm: 10_000, rest: windowSize/buckets + windowSize/buckets/10},
		write:   (*report).Text,
	}
	if *quick {
		given := map[string]bool{}
		fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
		if !given["rounds"] {
			p.rounds = 15
		}
		if !given["slice"] {
			p.slice = 20 * time.Millisecond
		}
		p.memory.hot = 100
	}
	switch {
	case fs.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case p.rounds < 1:
		return nil, errors.New("-rounds must be positive")
	case p.slice <= 0 || p.slice > longestSlice:
		return nil, fmt.Errorf("-slice must be positive and at most %v", longestSlice)
	case *markdown && *asJSON:
		return nil, errors.New("-markdown and -json exclude each other")
	case *markdown:
		p.write = (*report).Markdown
	case *asJSON:
		p.write = (*report).JSON
	}
	return p, p.choose(*names)
}

func pathNames() (names []string) {
	for _, p := range paths() {
		names = append(names, p.name)
	}
	return append(names, memoryName)
}

// choose keeps what begins with one of the names, everything if there is none.
func (p *plan) choose(names string) error {
	for name := range strings.SplitSeq(names, ",") {
		name, found := strings.TrimSpace(name), false
		for _, candidate := range paths() {
			if !strings.HasPrefix(candidate.name, name) {
				continue
			}
			found = true
			if !p.has(candidate.name) {
				p.paths = append(p.paths, candidate)
			}
		}
		if strings.HasPrefix(memoryName, name) {
			found, p.withMemory = true, true
		}
		if !found {
			return fmt.Errorf("no path begins with %q; there are %s", name, strings.Join(pathNames(), ", "))
		}
	}
	return nil
}

func (p *plan) has(path string) bool {
	for i := range p.paths {
		if p.paths[i].name == path {
			return true
		}
	}
	return false
}

// fill runs what is planned and adds it to the report, and says on progress how far
// it is.
func (p *plan) fill(r *report, progress io.Writer) error {
	_, _ = fmt.Fprintln(progress, "verifying that each contestant does what its paths say")
	turns := 0
	for i := range p.paths {
		subjects, err := p.paths[i].subjects()
		if err != nil {
			return err
		}
		turns += len(subjects)
		closeAll(subjects)
	}
	versions := versions()
	for i := range p.paths {
		path := &p.paths[i]
		// Anew: windows have emptied while other paths were timed.
		subjects, err := path.subjects()
		if err != nil {
			return err
		}
		left := time.Duration(turns*p.rounds) * p.slice
		_, _ = fmt.Fprintf(progress, "%s: %d contestants; the paths take about %v more\n",
			path.name, len(subjects), left.Round(time.Second))
		all, err := path.measure(subjects, p.rounds, p.slice)
		closeAll(subjects)
		if err != nil {
			return fmt.Errorf("%s: %w", path.name, err)
		}
		r.add(path, subjects, all, versions)
		turns -= len(subjects)
	}
	if p.withMemory {
		all := breakersHeld()
		prints, err := p.memory.measureAll(all, progress)
		if err != nil {
			return err
		}
		r.addMemory(all, prints)
	}
	r.Aims = r.judge()
	return nil
}
