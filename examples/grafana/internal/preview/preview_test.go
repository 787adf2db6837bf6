package preview_test

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/preview"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// What was recorded of one server is what another answers.
func TestRecording(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := func() *prometheus.Server {
			s, err := prometheus.Open(prometheus.Config{Dir: t.TempDir()})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			return s
		}
		began := time.Now()
		bucket := map[string]string{"__name__": "d_bucket", "le": "+Inf"}
		var points []prometheus.Point
		var exemplars []prometheus.Exemplar
		for i := range 10 {
			p := prometheus.Point{Time: began.Add(time.Duration(i) * 30 * time.Second), Value: float64(i)}
			points = append(points, p)
			exemplars = append(exemplars, prometheus.Exemplar{Series: bucket, Labels: map[string]string{"trace_id": "x"}, Point: p})
		}
		first := open()
		require.NoError(t, first.Load(t.Context(), []prometheus.Series{{Labels: bucket, Points: points}}, exemplars))
		r := preview.Recording{From: began, Moments: []preview.Moment{{Name: "during", At: began.Add(time.Minute)}}}
		require.NoError(t, r.Keep(t.Context(), first, began, began.Add(2*time.Minute)))
		require.NoError(t, r.Record(t.Context(), first, began.Add(5*time.Minute)))
		require.Len(t, r.Series, 1)
		require.Equal(t, len(points), len(r.Series[0].Points))
		require.Len(t, r.Exemplars, 5, "one a minute")

		var file bytes.Buffer
		require.NoError(t, r.Write(&file))
		read, err := preview.Read(&file)
		require.NoError(t, err)
		second := open()
		require.NoError(t, second.Load(t.Context(), read.Series, read.Exemplars))
		handler := preview.Handler(second, read)
		ask := func(path string, status int, params ...string) string {
			values := make(url.Values)
			for i := 0; i < len(params); i += 2 {
				values.Set(params[i], params[i+1])
			}
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, httptest.NewRequest("GET", path+"?"+values.Encode(), nil))
			require.Equal(t, status, answer.Code, answer.Body)
			require.True(t, json.Valid(answer.Body.Bytes()))
			return answer.Body.String()
		}
		const at = "946684860" // a minute after the beginning of synctest's time
		require.JSONEq(t, `{"from": 946684800000, "moments": {"during": 946684860000}}`, ask("/moments", 200))
		require.JSONEq(t, `{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [946684860, "2"]}]}}`,
			ask("/api/v1/query", 200, "query", "sum(d_bucket)", "time", at))
		require.JSONEq(t, `{"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[946684800, "0"], [946684860, "2"]]}]}}`,
			ask("/api/v1/query_range", 200, "query", "sum(d_bucket)", "start", "946684800", "end", at, "step", "60"))
		require.Contains(t, ask("/api/v1/query_exemplars", 200, "query", "d_bucket", "start", "946684800", "end", at), `"trace_id":"x"`)
		require.Contains(t, ask("/api/v1/query", 400, "query", "sum("), `"status":"error"`)
		require.Contains(t, ask("/api/v1/query_range", 400, "query", "d_bucket", "step", "0"), "at least 1ms")
	})
}
