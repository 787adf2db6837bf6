package prometheus

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	tsdbstorage "github.com/prometheus/prometheus/storage"
)

// Load stores samples and exemplars as they are, such as what another server answered.
// Series are known by their labels, __name__ among them; what is older than what a
// series has already is an error.
func (s *Server) Load(ctx context.Context, series []Series, exemplars []Exemplar) error {
	s.use.RLock()
	defer s.use.RUnlock()
	if s.closed {
		return ErrClosed
	}
	into := s.db.Appender(untraced(ctx))
	refs := make(map[string]tsdbstorage.SeriesRef)
	for _, one := range series {
		ls := labels.FromMap(one.Labels)
		var ref tsdbstorage.SeriesRef
		for _, p := range one.Points {
			var err error
			if ref, err = into.Append(ref, ls, p.Time.UnixMilli(), p.Value); err != nil {
				_ = into.Rollback() // the error is the first one
				return fmt.Errorf("prometheus: %v: %w", ls, err)
			}
		}
		refs[ls.String()] = ref
	}
	for _, e := range exemplars {
		ls := labels.FromMap(e.Series)
		_, err := into.AppendExemplar(refs[ls.String()], ls, exemplar.Exemplar{
			Labels: labels.FromMap(e.Labels), Value: e.Value, Ts: e.Time.UnixMilli(), HasTs: true,
		})
		if err != nil {
			_ = into.Rollback()
			return fmt.Errorf("prometheus: exemplar of %v: %w", ls, err)
		}
	}
	if err := into.Commit(); err != nil {
		return fmt.Errorf("prometheus: %w", err)
	}
	return nil
}
