package dashboards_test

import (
	"flag"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/preview"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/script"
)

var record = flag.String("record", "", "`file` to write what the pictures of the dashboards are drawn from")

// TestRecord is no test but a run of many minutes in some seconds, for make
// dashboard-shots: the demo as in TestQueries, longer.
func TestRecord(t *testing.T) {
	if *record == "" {
		t.Skip("-record is not given")
	}
	synctest.Test(t, func(t *testing.T) {
		story, err := script.Parse("healthy=70s,flaky=80s,outage=140s,recovery=160s")
		require.NoError(t, err)
		time.Sleep(3 * time.Second) // so that exports are not when Grafana asks
		var r preview.Recording
		w := play(t, pace{exports: 10 * time.Second, script: story, length: 16 * time.Minute, rate: 2.5, calm: true, meanwhile: func(w *world) {
			for time.Since(w.began) < w.length {
				time.Sleep(2 * time.Minute)
				assert.NoError(t, r.Keep(t.Context(), w.prom, w.began, time.Now()))
			}
		}})
		r.From = w.began
		r.Moments = []preview.Moment{
			{Name: "during", At: w.recovery.Add(-time.Minute)},
			{Name: "after", At: w.began.Add(w.length - time.Minute)},
		}
		require.NoError(t, r.Record(t.Context(), w.prom, w.ended))
		f, err := os.Create(*record)
		require.NoError(t, err)
		require.NoError(t, r.Write(f))
		require.NoError(t, f.Close())
	})
}
