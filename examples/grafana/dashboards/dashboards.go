// Package dashboards holds the Grafana dashboards. The files are what a Grafana server
// is provisioned with, or has imported; the package is for programs that read them. They
// are made by package internal/boards.
package dashboards

import "embed"

// Files are the dashboards.
//
//go:embed *.json
var Files embed.FS
