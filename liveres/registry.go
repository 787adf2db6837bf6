package liveres

import (
	"maps"
	"sync"
	"sync/atomic"
)

// registry finds things by key without a lock: events look up here, and a map that
// was published is never changed. Additions and removals copy it.
type registry[K comparable, V any] struct {
	published atomic.Pointer[map[K]*V]
	mu        sync.Mutex // held to publish
	refused   atomic.Uint64
}

// find returns what is under k, nil for nothing.
func (r *registry[K, V]) find(k K) *V {
	if m := r.published.Load(); m != nil {
		return (*m)[k]
	}
	return nil
}

// all returns what there is, as a map that must not be changed.
func (r *registry[K, V]) all() map[K]*V {
	if m := r.published.Load(); m != nil {
		return *m
	}
	return nil
}

// add returns what is under k, which is what build made if there was nothing. With
// limit entries already there it counts k as refused and returns nil.
func (r *registry[K, V]) add(k K, limit int, build func() *V) *V {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.all()
	if v := old[k]; v != nil {
		return v
	}
	if len(old) >= limit {
		r.refused.Add(1)
		return nil
	}
	next := make(map[K]*V, len(old)+1)
	maps.Copy(next, old)
	v := build()
	next[k] = v
	r.published.Store(&next)
	return v
}

// remove takes k out.
func (r *registry[K, V]) remove(k K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.all()
	if old[k] == nil {
		return
	}
	next := maps.Clone(old)
	delete(next, k)
	r.published.Store(&next)
}
