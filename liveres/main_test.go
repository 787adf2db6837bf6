package liveres_test

import (
	"testing"

	"github.com/breakwater-go/breakwater/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
