package fault

import (
	"testing"
	"time"

	"github.com/breakwater-go/breakwater/internal/leaktest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// draws counts the kinds that f comes to in n requests.
func draws(f Fault, seed uint64, n int) map[Kind]int {
	count := make(map[Kind]int)
	for order := range n {
		count[f.Draw(Dice(seed, "payment", uint64(order), 1))]++
	}
	return count
}

func TestDraw(t *testing.T) {
	const n = 20000
	require.Equal(t, map[Kind]int{None: n}, draws(Fault{}, 1, n))
	require.Equal(t, map[Kind]int{Error: n}, draws(Fault{Share: 1}, 1, n), "no kinds: errors")

	count := draws(Fault{Share: 0.4, Kinds: []Kind{Cut, Cut, Hang, Overloaded}}, 1, n)
	for kind, want := range map[Kind]float64{None: 0.6, Cut: 0.2, Hang: 0.1, Overloaded: 0.1, Error: 0} {
		require.InDelta(t, want, float64(count[kind])/n, 0.012, "kind %d", kind)
	}
}

func TestDiceDependOnAllOfTheirArguments(t *testing.T) {
	first := Dice(1, "payment", 1, 1).Uint64()
	require.Equal(t, first, Dice(1, "payment", 1, 1).Uint64())
	for _, other := range []uint64{
		Dice(2, "payment", 1, 1).Uint64(),
		Dice(1, "shipping", 1, 1).Uint64(),
		Dice(1, "payment", 2, 1).Uint64(),
		Dice(1, "payment", 1, 2).Uint64(),
	} {
		require.NotEqual(t, first, other)
	}
}

func TestInjector(t *testing.T) {
	in := NewInjector("a", "b")
	require.Zero(t, in.Of("a"))
	in.Set(map[string]Fault{"a": {Share: 1}, "elsewhere": {Share: 1}})
	require.Equal(t, Fault{Share: 1}, in.Of("a"))
	require.Zero(t, in.Of("b"))
	require.Zero(t, in.Of("elsewhere"))
	in.Set(map[string]Fault{"b": {Share: 0.5}})
	require.Zero(t, in.Of("a"), "a service that is not named has no fault")
	require.Equal(t, Fault{Share: 0.5}, in.Of("b"))
}

func TestFaultAsText(t *testing.T) {
	for want, f := range map[string]Fault{
		"no request fails":                                   {},
		"every request fails (error)":                        {Share: 1},
		"50% of requests fail (error, hang)":                 {Share: 0.5, Kinds: []Kind{Error, Hang, Error}},
		"0.4% of requests fail (cut)":                        {Share: 0.004, Kinds: []Kind{Cut}},
		"every request fails (slow by 300ms)":                {Share: 1, Kinds: []Kind{Slow}, Delay: 300 * time.Millisecond},
		"33.3% of requests fail (overloaded, slow by 230ms)": {Share: 1.0 / 3, Kinds: []Kind{Overloaded, Slow}},
	} {
		require.Equal(t, want, f.String())
	}
}
