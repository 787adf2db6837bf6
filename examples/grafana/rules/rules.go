// Package rules holds the recording and alert rules for Prometheus. The files are
// what a Prometheus server is configured with; the package is for programs that
// evaluate them themselves, as the demo does.
package rules

import "embed"

// Files are the rule files.
//
//go:embed *.rules.yml
var Files embed.FS
