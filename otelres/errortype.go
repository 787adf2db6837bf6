package otelres

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
)

// errorTypeLimit is how many values of error.type there may be beside _OTHER.
const errorTypeLimit = 16

// errorTypes names kinds of errors with a bounded set of words: the first sixteen
// it meets. It is safe for concurrent use.
type errorTypes struct {
	name func(error) string

	mu  sync.Mutex
	met map[string]struct{} // guarded by mu
}

func newErrorTypes(name func(error) string) *errorTypes {
	return &errorTypes{name: name, met: make(map[string]struct{}, errorTypeLimit)}
}

// of returns the error.type of err, or of a panic.
func (t *errorTypes) of(err error, panicked bool) attribute.KeyValue {
	if panicked {
		return keyErrorType.String(t.bounded(errorTypePanic))
	}
	return keyErrorType.String(t.bounded(t.name(err)))
}

func (t *errorTypes) bounded(word string) string {
	if word == "" || word == other {
		return other
	}
	word = exportable(word)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.met[word]; ok {
		return word
	}
	if len(t.met) == errorTypeLimit {
		return other
	}
	t.met[word] = struct{}{}
	return word
}
