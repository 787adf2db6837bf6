package otelres

import semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

// ScopeName is the name of the instrumentation scope that everything from this
// package carries.
const ScopeName = "github.com/breakwater-go/breakwater/otelres"

// Version is the version of that scope.
const Version = "0.1.0"

// schemaURL names the semantic conventions that error.type is taken from.
const schemaURL = semconv.SchemaURL
