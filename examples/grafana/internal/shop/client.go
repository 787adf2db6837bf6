package shop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/breakwater-go/breakwater/resilience"
)

// client is how order reaches one dependency.
type client struct {
	name    string
	url     string
	http    *http.Client
	timeout time.Duration // of one attempt
	circuit *resilience.CircuitBreaker
	policy  resilience.Policy
}

func newClient(name, url string, transport http.RoundTripper, config Config) *client {
	circuit, retry := config.Circuit, config.Retry
	circuit.Name, retry.Name = name, name
	circuit.Events, retry.Events = config.Events, config.Events
	c := &client{
		name:    name,
		url:     url,
		http:    &http.Client{Transport: transport},
		timeout: config.Timeout,
		circuit: resilience.NewCircuitBreaker(&circuit),
	}
	// The retry is outside, so that the breaker sees every attempt and can end the
	// retrying.
	c.policy = resilience.Chain(resilience.NewRetrier(&retry), c.circuit)
	return c
}

// call has the dependency do its part for an order and returns its confirmation.
func (c *client) call(ctx context.Context, order string) (string, error) {
	return resilience.Do(ctx, c.policy, func(ctx context.Context) (string, error) {
		return c.attempt(ctx, order)
	})
}

// attempt is one request to the dependency.
func (c *client) attempt(ctx context.Context, order string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set(OrderHeader, order)
	req.Header.Set(AttemptHeader, strconv.Itoa(resilience.AttemptFromContext(ctx)))
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err // no connection, no answer, or too late: a failure, and worth another try
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return "", err
	}
	return string(body), judge(c.name, resp)
}

// judge turns an answer into what a retry and a breaker should make of it.
func judge(service string, resp *http.Response) error {
	if resp.StatusCode < 300 {
		return nil
	}
	err := &StatusError{Service: service, Code: resp.StatusCode}
	switch {
	case resp.StatusCode < 500:
		// The service is well and means it: no mark against it, and no use in asking again.
		return resilience.Permanent(resilience.Ignore(err))
	case resp.StatusCode == http.StatusServiceUnavailable:
		return resilience.RetryAfter(err, retryAfter(resp.Header)) // as it is if that is 0
	default:
		return err
	}
}

// retryAfter returns how long the server asks to be left alone, 0 if it does not.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// StatusError is an answer other than success.
type StatusError struct {
	Service string
	Code    int
}

// Error names the service and the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s answered %d %s", e.Service, e.Code, http.StatusText(e.Code))
}

// ErrorType returns the status code, as the OpenTelemetry conventions for HTTP have it.
func (e *StatusError) ErrorType() string { return strconv.Itoa(e.Code) }

// refused reports whether err is a dependency's well-considered no, and which.
func refused(err error) (code int, ok bool) {
	status, ok := errors.AsType[*StatusError](err)
	if !ok || status.Code >= 500 {
		return 0, false
	}
	return status.Code, true
}
