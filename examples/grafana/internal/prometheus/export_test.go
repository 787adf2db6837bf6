package prometheus

import (
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// ScaleExpr is scaleExpr.
func ScaleExpr(expr string, scale float64) (string, error) {
	return scaleExpr(expr, scale, parser.NewParser(parser.Options{}))
}

// Scaled is scaled.
func Scaled(d time.Duration, scale float64) time.Duration { return scaled(d, scale) }
