// Package e2e tests otelres with what the root module does not depend on: clients
// and servers instrumented by otelhttp, the OTLP exporters, and the translation of
// names that Prometheus applies.
package e2e
