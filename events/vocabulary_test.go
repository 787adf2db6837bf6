package events_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
)

func TestStrings(t *testing.T) {
	for _, tt := range []struct {
		value fmt.Stringer
		want  string
	}{
		{events.StateClosed, "closed"},
		{events.StateOpen, "open"},
		{events.StateHalfOpen, "half-open"},
		{events.State(3), "unknown"},
		{events.State(255), "unknown"},

		{events.StatusClosed, "closed"},
		{events.StatusOpen, "open"},
		{events.StatusHalfOpen, "half_open"},
		{events.StatusForcedOpen, "forced_open"},
		{events.StatusForcedClosed, "forced_closed"},
		{events.StatusShadowOpen, "shadow_open"},
		{events.StatusShadowHalfOpen, "shadow_half_open"},
		{events.Status(events.StatusCount), "unknown"},
		{events.Status(255), "unknown"},

		{events.OutcomeSuccess, "success"},
		{events.OutcomeFailure, "failure"},
		{events.OutcomeIgnored, "ignored"},
		{events.OutcomeRejected, "rejected"},
		{events.Outcome(events.OutcomeCount), "unknown"},
		{events.Outcome(255), "unknown"},
	} {
		require.Equal(t, tt.want, tt.value.String(), "%T(%d)", tt.value, tt.value)
	}
}

func TestZeroValues(t *testing.T) {
	require.Equal(t, "closed", events.State(0).String(), "a breaker is born closed")
	require.Equal(t, "closed", events.Snapshot{}.Status().String())
	require.Equal(t, "success", events.Outcome(0).String())
}

func TestStatusInShadowMode(t *testing.T) {
	want := map[events.Status]events.Status{events.StatusOpen: events.StatusShadowOpen, events.StatusHalfOpen: events.StatusShadowHalfOpen}
	for s := range events.Status(events.StatusCount) {
		if _, ok := want[s]; !ok {
			want[s] = s
		}
		require.Equal(t, want[s], s.Shadowed(), s)
	}
	e := events.StateChanged{From: events.StateHalfOpen, To: events.StateOpen, Shadow: true}
	require.Equal(t, events.StatusShadowHalfOpen, e.FromStatus())
	require.Equal(t, events.StatusShadowOpen, e.ToStatus())
	e.Forced, e.FromForced, e.From = true, true, events.StateClosed
	require.Equal(t, events.StatusForcedClosed, e.FromStatus())
	require.Equal(t, events.StatusForcedOpen, e.ToStatus())
	e.Shadow = false
	require.Equal(t, events.StatusForcedOpen, e.ToStatus())
	require.Equal(t, events.StatusShadowOpen, events.Snapshot{State: events.StateOpen, Shadow: true}.Status())
	require.Equal(t, events.StatusOpen, events.Snapshot{State: events.StateOpen}.Status())
}

func TestStatusOf(t *testing.T) {
	for _, tt := range []struct {
		state  events.State
		forced bool
		want   events.Status
	}{
		{events.StateClosed, false, events.StatusClosed},
		{events.StateOpen, false, events.StatusOpen},
		{events.StateHalfOpen, false, events.StatusHalfOpen},
		{events.StateClosed, true, events.StatusForcedClosed},
		{events.StateOpen, true, events.StatusForcedOpen},
		{events.StateHalfOpen, true, events.StatusHalfOpen},
	} {
		require.Equal(t, tt.want, events.StatusOf(tt.state, tt.forced), "%v, forced: %t", tt.state, tt.forced)
		require.Equal(t, tt.want, events.Snapshot{State: tt.state, Forced: tt.forced}.Status())
	}
}

func TestCounts(t *testing.T) {
	for _, tt := range []struct {
		counts        events.Counts
		volume        uint64
		failure, slow float64
	}{
		{events.Counts{}, 0, 0, 0},
		{events.Counts{Success: 3, Failure: 1}, 4, 0.25, 0},
		{events.Counts{Failure: 2, Slow: 1}, 2, 1, 0.5},
		{events.Counts{Success: 2, Slow: 2}, 2, 0, 1},
		{events.Counts{Ignored: 5, Rejected: 7}, 0, 0, 0},
		{events.Counts{Success: 1, Failure: 1, Ignored: 5, Rejected: 7, Slow: 1}, 2, 0.5, 0.5},
		{events.Counts{Success: 1 << 62, Failure: 1 << 62}, 1 << 63, 0.5, 0},
	} {
		require.Equal(t, tt.volume, tt.counts.Volume(), "%+v", tt.counts)
		require.InDelta(t, tt.failure, tt.counts.FailureRatio(), 0, "%+v", tt.counts)
		require.InDelta(t, tt.slow, tt.counts.SlowRatio(), 0, "%+v", tt.counts)
	}
}

// Reasons become attribute values: each is short, in snake case and not used twice.
func TestReasonsAreFitForAttributes(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "vocabulary.go", nil, 0)
	require.NoError(t, err)
	names := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Reason" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			require.Regexp(t, regexp.MustCompile(`^[a-z]+(_[a-z]+){0,3}$`), value)
			require.NotContains(t, names, value, "%s says the same", spec.Names[0].Name)
			names[value] = spec.Names[0].Name
		}
		return true
	})
	require.GreaterOrEqual(t, len(names), 20)
}
