package events_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
)

// A new field of Sink fails here until it has a Kind of its name and place, an event
// struct of that name, and the signature its name calls for.
func TestEachSinkFieldHasItsKindAndItsEvent(t *testing.T) {
	sink := reflect.TypeFor[events.Sink]()
	require.Equal(t, int(events.KindCount), sink.NumField()-1, "all fields but Enabled, which is last")
	require.Equal(t, "Enabled", sink.Field(sink.NumField()-1).Name)
	require.Len(t, kinds, sink.NumField()-1)
	for i, k := range kinds {
		field, event := sink.Field(i), reflect.TypeOf(k.event)
		t.Run(field.Name, func(t *testing.T) {
			require.Equal(t, events.Kind(i), k.kind)
			require.Equal(t, k.kind, k.event.Kind())
			require.Equal(t, field.Name, k.kind.String())
			require.Equal(t, field.Name, event.Name())

			in, out := []reflect.Type{reflect.TypeFor[context.Context](), event}, []reflect.Type(nil)
			if strings.HasSuffix(field.Name, "Started") {
				out = in[:1]
			}
			require.Equal(t, reflect.FuncOf(in, out, false), field.Type)
		})
	}
}

func TestEachEventHasAHeader(t *testing.T) {
	for _, k := range kinds {
		first := reflect.TypeOf(k.event).Field(0)
		require.True(t, first.Anonymous, k.kind)
		require.Equal(t, reflect.TypeFor[events.Header](), first.Type, k.kind)
		want := payment
		if !hasID(k.kind) {
			want = charge
		}
		require.Equal(t, want, k.event.About(), k.kind)
	}
}

// hasID reports that events of kind k have an ID: those of breakers, bulkheads and
// budgets.
func hasID(k events.Kind) bool {
	return k <= events.KindBreakerRetired || k >= events.KindBulkheadCreated && k <= events.KindBulkheadRetired ||
		k >= events.KindBreakerReconfigured && k <= events.KindBudgetRetired
}

func TestPolicyKinds(t *testing.T) {
	for p, want := range map[events.PolicyKind]string{
		events.PolicyTimeout:   "timeout",
		events.PolicyRateLimit: "rate_limit",
		events.PolicyFallback:  "fallback",
		events.PolicyHedge:     "hedge",

		events.PolicyKindCount: "unknown",
	} {
		require.Equal(t, want, p.String())
	}
}

func TestUnknownKind(t *testing.T) {
	require.Equal(t, "unknown", events.Kind(events.KindCount).String())
	require.Equal(t, "unknown", events.Kind(255).String())
}
