package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain fails if the tests leave goroutines behind, but for those of eapache's
// breakers, which have one while they are open.
func TestMain(m *testing.M) {
	code := m.Run()
	for deadline := time.Now().Add(2 * time.Second); code == 0 && len(leaked()) > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "goroutines left behind:\n\n%s\n", strings.Join(leaked(), "\n\n"))
			code = 1
		}
	}
	os.Exit(code)
}

func leaked() (stacks []string) {
	buf := make([]byte, 1<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	for _, stack := range all[1:] { // the first is the calling one
		if !strings.Contains(stack, "go-resiliency/breaker") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// smoke parses args into a plan that is done in no time.
func smoke(t *testing.T, args ...string) *plan {
	t.Helper()
	p, err := parse(append([]string{"-rounds", "2", "-slice", "100us"}, args...), t.Output())
	require.NoError(t, err)
	p.memory = memory{cold: 200, hot: 20, warm: 100, rest: time.Millisecond}
	return p
}

func TestRunHasEveryContestantOfEveryPath(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, smoke(t, "-json").run(&out, t.Output()))
	var r report
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))

	require.Equal(t, 2, r.Rounds)
	require.NotEmpty(t, r.Machine.Go)
	require.Len(t, r.Paths, len(paths()))
	for i, p := range paths() {
		s := r.Paths[i]
		require.Equal(t, p.name, s.Path)
		require.Len(t, s.Rows, len(p.contestants()), p.name)
		for j, c := range p.contestants() {
			row := s.Rows[j]
			require.Equal(t, c.name, row.Contestant)
			if p.added || p.waited != 0 {
				continue // a difference, which noise may turn
			}
			require.Positive(t, row.Min, "%s: %s", p.name, c.name)
			require.LessOrEqual(t, row.Min, row.Median, "%s: %s", p.name, c.name)
		}
		require.True(t, s.Rows[0].Ours, p.name)
	}
	require.Len(t, r.Memory, 6)
	require.True(t, r.Memory[0].Ours)
	for _, m := range r.Memory {
		require.Positive(t, m.Cold, m.Contestant)
	}
	require.Len(t, r.Aims, len(aims)+3+3)
}

func TestRunWritesTablesAndMarkdown(t *testing.T) {
	for _, format := range []string{"-paths=success,retry-three,mem", "-markdown"} {
		t.Run(format, func(t *testing.T) {
			var out, progress bytes.Buffer
			require.NoError(t, smoke(t, format).run(&out, &progress))
			for _, want := range []string{"gobreaker", "sethvargo/go-retry", "eapache", runtime.Version(), "Aims", "No allocation"} {
				require.Contains(t, out.String(), want)
			}
			require.Contains(t, progress.String(), "retry-three: 7 contestants")
		})
	}
}

func TestPathsAreChosenByThePrefixOfTheirNames(t *testing.T) {
	for arg, want := range map[string][]string{
		"":                     pathNames()[:len(pathNames())-1],
		"paced":                {"paced"},
		"success":              {"success-serial", "success-parallel"},
		"rejection-p, success": {"rejection-parallel", "success-serial", "success-parallel"},
		"retry,retry-three":    {"retry-first", "retry-three", "retry-delay"},
		"memory":               nil,
	} {
		p, err := parse([]string{"-paths", arg}, t.Output())
		require.NoError(t, err)
		var got []string
		for _, chosen := range p.paths {
			got = append(got, chosen.name)
		}
		require.Equal(t, want, got, "-paths %q", arg)
		require.Equal(t, arg == "" || arg == "memory", p.withMemory, "-paths %q", arg)
	}
}

func TestQuickGivesWayToWhatIsSaid(t *testing.T) {
	quick, err := parse([]string{"-quick"}, t.Output())
	require.NoError(t, err)
	require.Equal(t, 15, quick.rounds)
	require.Equal(t, 20*time.Millisecond, quick.slice)

	said, err := parse([]string{"-quick", "-rounds", "100"}, t.Output())
	require.NoError(t, err)
	require.Equal(t, 100, said.rounds)
	require.Equal(t, 20*time.Millisecond, said.slice)
	require.Equal(t, "go run -C benchmarks . -quick -rounds 100", said.command)
}

func TestWrongArguments(t *testing.T) {
	for want, args := range map[string][]string{
		`no path begins with "nowhere"`: {"-paths", "nowhere"},
		`no path begins with "x"`:       {"-paths", "paced,x"},
		"exclude each other":            {"-json", "-markdown"},
		"-rounds must be positive":      {"-rounds", "0"},
		"-slice must be positive":       {"-slice", "-1s"},
		"at most 500ms":                 {"-slice", "1s"},
		`unexpected argument "success"`: {"success"},
		"flag provided but not defined": {"-fast"},
	} {
		var out bytes.Buffer
		require.ErrorContains(t, run(args, &out, t.Output()), want)
		require.Empty(t, out.String())
	}
	require.ErrorIs(t, run([]string{"-h"}, t.Output(), t.Output()), flag.ErrHelp)
}
