package events_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
)

func TestJoinedSinksAreEnabledIfOneIs(t *testing.T) {
	calls := func(enabled func(context.Context) bool) events.Sink {
		return events.Sink{CallFinished: func(context.Context, events.CallFinished) {}, Enabled: enabled}
	}
	rare := events.Sink{
		StateChanged:    func(context.Context, events.StateChanged) {},
		PolicyCreated:   func(context.Context, events.PolicyCreated) {},
		BulkheadCreated: func(context.Context, events.BulkheadCreated) {},
		BulkheadRetired: func(context.Context, events.BulkheadRetired) {},
	}
	yes := func(context.Context) bool { return true }
	no := func(context.Context) bool { return false }

	for _, tt := range []struct {
		name  string
		sinks []events.Sink
		want  any // nil: asked nothing
	}{
		{"nothing", nil, nil},
		{"one that is always", []events.Sink{calls(nil)}, nil},
		{"one that is not", []events.Sink{calls(no)}, false},
		{"one that is", []events.Sink{calls(yes)}, true},
		{"not and always", []events.Sink{calls(no), calls(nil)}, nil},
		{"always and not", []events.Sink{calls(nil), calls(no)}, nil},
		{"not and is", []events.Sink{calls(no), calls(yes)}, true},
		{"is and not", []events.Sink{calls(yes), calls(no)}, true},
		{"not and not", []events.Sink{calls(no), calls(no)}, false},
		{"not, beside one that hears no calls", []events.Sink{calls(no), rare}, false},
		{"one that hears no calls, beside not", []events.Sink{rare, calls(no)}, false},
		{"two that hear no calls", []events.Sink{rare, rare}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			joined := events.Join(tt.sinks...)
			if tt.want == nil {
				require.Nil(t, joined.Enabled)
				return
			}
			require.Equal(t, tt.want, joined.Enabled(t.Context()))
		})
	}
}

// Each kind that is told of a call or an operation asks Enabled, and no other does.
func TestEnabledSpeaksForKindsOfCalls(t *testing.T) {
	no := func(context.Context) bool { return false }
	for _, k := range kinds {
		rare := k.kind == events.KindPolicyCreated
		for _, suffix := range []string{"Created", "Changed", "Reconfigured", "Rotated", "Retired"} {
			rare = rare || strings.HasSuffix(k.kind.String(), suffix)
		}
		sink := with(k.kind, func(ctx context.Context, _ events.Event) context.Context { return ctx })
		other := events.Sink{CallFinished: func(context.Context, events.CallFinished) {}, Enabled: no}
		joined := events.Join(sink, other) // enabled as other is, or always for the sake of sink
		require.Equal(t, rare, joined.Enabled != nil, k.kind)
	}
}
