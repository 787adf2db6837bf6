package prometheus_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
)

func TestLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, prometheus.Config{})
		at := time.Now().Truncate(time.Second)
		trace := map[string]string{"trace_id": "0123456789abcdef0123456789abcdef"}
		x, y := map[string]string{"__name__": "x", "job": "order"}, map[string]string{"__name__": "y"}
		require.NoError(t, s.Load(t.Context(), []prometheus.Series{
			{Labels: x, Points: []prometheus.Point{{Time: at, Value: 1}, {Time: at.Add(time.Minute), Value: 7}}},
			{Labels: y, Points: []prometheus.Point{{Time: at, Value: 2}}},
		}, []prometheus.Exemplar{{Series: x, Labels: trace, Point: prometheus.Point{Time: at, Value: 0.5}}}))

		found, err := s.Query(t.Context(), "x - on() y", at.Add(time.Minute))
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.InDelta(t, 5, found[0].Points[0].Value, 0)
		exemplars, err := s.Exemplars(t.Context(), "x", at, at.Add(time.Minute))
		require.NoError(t, err)
		require.Len(t, exemplars, 1)
		require.Equal(t, trace, exemplars[0].Labels)

		// Nothing of a load with an error is stored.
		err = s.Load(t.Context(), []prometheus.Series{
			{Labels: map[string]string{"__name__": "z"}, Points: []prometheus.Point{{Time: at, Value: 1}}},
			{Labels: x, Points: []prometheus.Point{{Time: at, Value: 3}}},
		}, nil)
		require.ErrorContains(t, err, `__name__="x"`)
		found, err = s.Query(t.Context(), "z", at)
		require.NoError(t, err)
		require.Empty(t, found)

		require.NoError(t, s.Close())
		require.ErrorIs(t, s.Load(t.Context(), nil, nil), prometheus.ErrClosed)
	})
}
