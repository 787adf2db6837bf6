package httpres

import (
	"testing"

	"github.com/breakwater-go/breakwater/internal/leaktest"
)

// TestMain serves the external tests of this folder as well: they are one binary.
func TestMain(m *testing.M) { leaktest.Main(m) }
