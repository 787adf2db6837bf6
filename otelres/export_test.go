package otelres

import "flag"

// Update makes tests write the files that they compare with.
var Update = flag.Bool("update", false, "write TELEMETRY.md and testdata instead of comparing with them")
