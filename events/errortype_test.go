package events_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
)

// namedError has a name for itself.
type namedError struct{ name string }

func (e namedError) Error() string     { return "named" }
func (e namedError) ErrorType() string { return e.name }

// namedTimeout has one and is a timeout as well.
type namedTimeout struct{ namedError }

func (namedTimeout) Is(target error) bool { return target == context.DeadlineExceeded }

// sliceError can be neither compared nor hashed.
type sliceError []string

func (e sliceError) Error() string { return "slice" }

// wrapper wraps nothing.
type wrapper struct{ inner []error }

func (wrapper) Error() string     { return "wrapper" }
func (w wrapper) Unwrap() []error { return w.inner }

// hollow has an Unwrap that returns nil.
type hollow struct{}

func (*hollow) Error() string { return "hollow" }
func (*hollow) Unwrap() error { return nil }

func TestErrorType(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"none", nil, ""},
		{"plain", errors.New("x"), "*errors.errorString"},
		{"plain, wrapped", fmt.Errorf("a: %w", fmt.Errorf("b: %w", errors.New("x"))), "*errors.errorString"},
		{"only spelled like one", errors.New(context.Canceled.Error()), "*errors.errorString"},
		{"innermost", &fs.PathError{Op: "open", Err: syscall.ENOENT}, "syscall.Errno"},
		{"innermost of several layers", fmt.Errorf("call: %w", refused), "syscall.Errno"},
		{"wraps nothing", &hollow{}, "*events_test.hollow"},

		{"own name", namedError{"quota"}, "quota"},
		{"own name, wrapped", fmt.Errorf("a: %w", namedError{"quota"}), "quota"},
		{"own name, joined", errors.Join(errors.New("x"), namedError{"quota"}), "quota"},
		{"own name of the outer one", fmt.Errorf("%w %w", namedError{"quota"}, namedError{"other"}), "quota"},
		{"own name before timeout", namedTimeout{namedError{"quota"}}, "quota"},
		{"own name before wrapped timeout", fmt.Errorf("%w %w", context.DeadlineExceeded, namedError{"quota"}), "quota"},
		{"empty name", namedError{}, "events_test.namedError"},
		{"empty name of a timeout", namedTimeout{}, "timeout"},

		{"timeout", context.DeadlineExceeded, "timeout"},
		{"timeout, wrapped", fmt.Errorf("a: %w", context.DeadlineExceeded), "timeout"},
		{"canceled", context.Canceled, "canceled"},
		{"canceled, wrapped", fmt.Errorf("a: %w", context.Canceled), "canceled"},
		{"canceled behind another", errors.Join(errors.New("x"), context.Canceled), "canceled"},
		{"timeout before canceled", errors.Join(context.Canceled, context.DeadlineExceeded), "timeout"},

		{"joined", errors.Join(errors.New("x"), syscall.ENOENT), "*errors.errorString"},
		{"joined, the first branch to its end", errors.Join(refused, errors.New("x")), "syscall.Errno"},
		{"several by fmt", fmt.Errorf("%w %w", syscall.ENOENT, errors.New("x")), "syscall.Errno"},
		{"joins nothing", wrapper{}, "events_test.wrapper"},
		{"joins nils", wrapper{[]error{nil, nil}}, "events_test.wrapper"},
		{"joins nil and another", wrapper{[]error{nil, syscall.ENOENT}}, "syscall.Errno"},

		{"not comparable", sliceError{"a"}, "events_test.sliceError"},
		{"not comparable, wrapped", fmt.Errorf("a: %w", sliceError{"a"}), "events_test.sliceError"},
		{"not comparable, joined", errors.Join(sliceError{"a"}, context.Canceled), "canceled"},
		{"not comparable joiner", wrapper{[]error{sliceError{}, sliceError{}}}, "events_test.sliceError"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, events.ErrorType(tt.err))
		})
	}
}
