package liveres

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSeriesKeepsTheLastColumns(t *testing.T) {
	s := newSeries(2)
	for column := uint32(1); column <= 3*columnCount; column++ {
		s.add(column, 0, uint64(column))
		s.add(column, 1, 1)
		first := column - min(column-1, columnCount-1)
		require.Equal(t, uint64(first), s.at(first, 0), "the oldest that is kept")
		require.Equal(t, uint64(column), s.at(column, 0))
		if first > 1 {
			require.Zero(t, s.at(first-1, 0), "the one before it")
		}
		require.Zero(t, s.at(column+1, 0), "one that has not come")
	}
	require.Equal(t, []uint64{3 * columnCount * (3*columnCount + 1) / 2, 3 * columnCount}, s.totals())
}

func TestSeriesForgetsWhatWasSkipped(t *testing.T) {
	s := newSeries(1)
	s.add(7, 0, 5)
	s.add(7+2*columnCount, 0, 3)
	require.Equal(t, uint64(3), s.at(7+2*columnCount, 0))
	require.Zero(t, s.at(7, 0))
	require.Zero(t, s.at(7+columnCount, 0))
	s.add(7, 0, 1) // somebody was held up for a very long time
	require.Equal(t, uint64(4), s.at(7+2*columnCount, 0))
	require.Equal(t, []uint64{9}, s.totals())
}

func TestSeriesRecentAndSpan(t *testing.T) {
	s := newSeries(1)
	for column, n := range map[uint32]uint64{1: 1, 2: 10, 4: 100} {
		s.add(column, 0, n)
	}
	for _, tt := range []struct {
		now, n uint32
		want   uint64
	}{
		{4, 0, 100}, {4, 1, 100}, {4, 2, 110}, {4, 3, 111}, {4, 50, 111}, {2, 1, 11}, {1, 9, 1}, {5, 1, 100}, {6, 1, 0},
	} {
		require.Equal(t, tt.want, s.recent(0, tt.now, tt.n), "%+v", tt)
	}
	require.Equal(t, []uint64{1, 10, 0, 100, 0}, s.span(0, 1, 5))
}

// Many add to columns that all have one place and follow each other at once, so that
// it is taken over while others still add to what was there. Nothing may be missing
// from the totals.
func TestSeriesLosesNothing(t *testing.T) {
	s := newSeries(2)
	const workers, each = 8, 30000
	var step atomic.Uint32
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range each {
				s.add(1+step.Add(1)/4*columnCount, i%2, 1)
				if i%1000 == 0 {
					_ = s.totals()
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, []uint64{workers * each / 2, workers * each / 2}, s.totals())
}

// Several find that a column begins: only one of them empties its place.
func TestSeriesColumnBeginsOnce(t *testing.T) {
	s := newSeries(1)
	const workers = 8
	for column := uint32(1); column < 2000; column++ {
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range workers {
			wg.Go(func() {
				<-start
				s.add(column, 0, 1)
			})
		}
		close(start)
		wg.Wait()
		require.Equal(t, uint64(workers), s.at(column, 0), "column %d", column)
	}
}

// What comes between that finding and the emptying is kept.
func TestSeriesTurnsTwice(t *testing.T) {
	s := newSeries(1)
	s.add(5, 0, 3)
	s.turn(5)
	require.Equal(t, uint64(3), s.at(5, 0))
}
