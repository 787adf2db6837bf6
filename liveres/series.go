package liveres

import (
	"sync"
	"sync/atomic"
)

// columnCount is the number of columns of a series: the resolution of a timeline.
const columnCount = 120

// series counts things of a few kinds over time: in a column for each stretch of
// time, of which the last columnCount are kept, and in totals that only grow.
//
// Adding is a comparison and one atomic addition. Only the first to reach a new
// column takes mu, to take over the place of the oldest one.
type series struct {
	kinds  int
	epochs [columnCount]atomic.Uint32 // the column in each place; 0 for none
	counts []atomic.Uint64            // kinds for each place

	mu     sync.Mutex
	folded []uint64 // per kind, what was counted in columns that gave up their place
}

func newSeries(kinds int) *series {
	return &series{
		kinds:  kinds,
		counts: make([]atomic.Uint64, columnCount*kinds),
		folded: make([]uint64, kinds),
	}
}

// add adds n to what was counted of a kind in a column.
func (s *series) add(column uint32, kind int, n uint64) {
	if s.begins(column) {
		s.turn(column)
	}
	place := column % columnCount
	s.counts[int(place)*s.kinds+kind].Add(n)
}

// begins reports that nothing was added in a column yet.
func (s *series) begins(column uint32) bool {
	return s.epochs[column%columnCount].Load() != column
}

// turn gives a column its place.
//
// No count is lost, though others may be adding to the column that goes: each
// count is swapped out, so what is added before is folded, and what is added after
// counts in the column that comes, where it is in the wrong time but in the total.
// For the same reason nothing happens if the place belongs to a later column
// already: somebody was held up for the length of the whole history.
func (s *series) turn(column uint32) {
	place := column % columnCount
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epochs[place].Load() >= column {
		return
	}
	cells := s.cells(place)
	for k := range cells {
		s.folded[k] += cells[k].Swap(0)
	}
	s.epochs[place].Store(column)
}

func (s *series) cells(place uint32) []atomic.Uint64 {
	return s.counts[int(place)*s.kinds : (int(place)+1)*s.kinds]
}

// at returns what was counted of a kind in a column; 0 if that is not kept any more.
func (s *series) at(column uint32, kind int) uint64 {
	place := column % columnCount
	if s.epochs[place].Load() != column {
		return 0
	}
	return s.counts[int(place)*s.kinds+kind].Load()
}

// totals returns what was ever counted, per kind.
func (s *series) totals() []uint64 {
	totals := make([]uint64, s.kinds)
	s.mu.Lock()
	defer s.mu.Unlock()
	copy(totals, s.folded)
	for place := range uint32(columnCount) {
		cells := s.cells(place)
		for k := range cells {
			totals[k] += cells[k].Load()
		}
	}
	return totals
}

// span returns the counts of one kind in the columns from first to last.
func (s *series) span(kind int, first, last uint32) []uint64 {
	counts := make([]uint64, 0, last-first+1)
	for c := first; c <= last; c++ {
		counts = append(counts, s.at(c, kind))
	}
	return counts
}

// recent returns how much was counted of a kind in the present column and the n
// before it.
func (s *series) recent(kind int, now uint32, n uint32) uint64 {
	sum := uint64(0)
	for c := now - min(n, now-1); c <= now; c++ {
		sum += s.at(c, kind)
	}
	return sum
}
