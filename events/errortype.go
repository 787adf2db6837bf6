package events

import (
	"context"
	"errors"
	"reflect"
)

// ErrorType returns a short name for the kind of error err is, fit for an
// attribute: never its message. It is, whichever comes first:
//
//   - what the method ErrorType() string of err, or of the first error it wraps that
//     has one, says, unless that is empty;
//   - "timeout" for [context.DeadlineExceeded], "canceled" for [context.Canceled];
//   - the Go type of the innermost error err wraps, such as "*net.OpError". Of
//     several wrapped errors the first counts.
//
// It is empty for a nil error. The set of results is as large as that of the
// error types met: who makes attributes of it must bound them.
func ErrorType(err error) string {
	if err == nil {
		return ""
	}
	if named, ok := errors.AsType[interface {
		error
		ErrorType() string
	}](err); ok {
		if name := named.ErrorType(); name != "" {
			return name
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return reflect.TypeOf(innermost(err)).String()
}

// innermost follows Unwrap to the end, through the first non-nil branch where
// there are several.
func innermost(err error) error {
	for {
		switch x := err.(type) { //nolint:errorlint // it walks the tree itself
		case interface{ Unwrap() error }:
			next := x.Unwrap()
			if next == nil {
				return err
			}
			err = next
		case interface{ Unwrap() []error }:
			next := firstError(x.Unwrap())
			if next == nil {
				return err
			}
			err = next
		default:
			return err
		}
	}
}

func firstError(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
