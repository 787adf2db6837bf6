package fault

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// ask sends a request to the handler as curl does, and returns the code and the answer.
func ask(t *testing.T, h http.Handler, method, path, body string, headers ...string) (int, map[string]any) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:8080"+path, strings.NewReader(body))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	var answer map[string]any
	if w.Header().Get("Content-Type") == "application/json" {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), w.Body.String())
	}
	return w.Code, answer
}

func TestRequestedFaultWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := NewInjector("inventory", "payment")
		script := Fault{Share: 0.2}
		in.Set(map[string]Fault{"payment": script})
		h := Handler(in)

		code, answer := ask(t, h, "PUT", "/faults/payment", `{"share":0.5,"kinds":["hang","slow"],"delay":"300ms","duration":"30s"}`)
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, map[string]any{
			"service": "payment", "by": "request", "until": "2000-01-01T00:00:30Z",
			"fault": map[string]any{"share": 0.5, "kinds": []any{"hang", "slow"}, "delay": "300ms"},
			"note":  "Wins over the script's fault until it is cleared with DELETE /faults/payment, or until it runs out in 30s.",
		}, answer)
		asked := Fault{Share: 0.5, Kinds: []Kind{Hang, Slow}, Delay: 300 * time.Millisecond}
		require.Equal(t, asked, in.Of("payment"))
		require.Zero(t, in.Of("inventory"))

		in.Set(map[string]Fault{"payment": {Share: 1}, "inventory": script})
		require.Equal(t, asked, in.Of("payment"), "the script goes on, and does not win")
		require.Equal(t, script, in.Of("inventory"))
		time.Sleep(30*time.Second - time.Nanosecond)
		require.Equal(t, asked, in.Of("payment"))
		time.Sleep(time.Nanosecond)
		require.Equal(t, Fault{Share: 1}, in.Of("payment"), "it has run out")
		_, answer = ask(t, h, "GET", "/faults/payment", "")
		require.Equal(t, "script", answer["by"])
		require.NotContains(t, answer, "until")

		_, answer = ask(t, h, "POST", "/faults/payment", `{}`)
		require.Equal(t, "request", answer["by"])
		require.Equal(t, "Wins over the script's fault until it is cleared with DELETE /faults/payment.", answer["note"])
		require.Equal(t, map[string]any{"share": 1.0, "kinds": []any{"error"}}, answer["fault"])
		time.Sleep(100 * time.Hour)
		require.Equal(t, Fault{Share: 1}, in.Of("payment"))

		ask(t, h, "PUT", "/faults/payment", `{"share":0}`)
		require.Zero(t, in.Of("payment"), "a service can be asked to be well, too")
		_, answer = ask(t, h, "DELETE", "/faults/payment", "")
		require.Equal(t, "script", answer["by"])
		require.Equal(t, Fault{Share: 1}, in.Of("payment"))

		ask(t, h, "PUT", "/faults/payment", `{}`)
		ask(t, h, "PUT", "/faults/inventory", `{}`)
		code, answer = ask(t, h, "DELETE", "/faults", "")
		require.Equal(t, http.StatusOK, code)
		for _, s := range answer["services"].([]any) {
			require.Equal(t, "script", s.(map[string]any)["by"])
		}
		require.Equal(t, script, in.Of("inventory"))
	})
}

func TestList(t *testing.T) {
	code, answer := ask(t, Handler(NewInjector("inventory", "payment")), "GET", "/faults", "")
	require.Equal(t, http.StatusOK, code)
	require.Len(t, answer["services"], 2)
	require.Equal(t, map[string]any{
		"service": "inventory", "by": "script", "note": "What the script has; a request wins over it.",
		"fault": map[string]any{"share": 0.0, "kinds": []any{}},
	}, answer["services"].([]any)[0])
	require.Len(t, answer["kinds"], 5)
	require.Contains(t, answer["example"], "curl")
}

func TestBadRequests(t *testing.T) {
	const object = `a JSON object such as {"share":0.5,"kinds":["error"],"duration":"30s"}`
	const kinds = "a list of error, overloaded, cut, hang, slow"
	const duration = `a duration such as "30s", above 0 and at most 24h0m0s`
	in := NewInjector("inventory", "payment")
	for _, c := range []struct {
		body               string
		field, value, wish string
	}{
		{`{"share":1.01}`, "share", "1.01", "a number from 0 to 1"},
		{`{"share":-0.5}`, "share", "-0.5", "a number from 0 to 1"},
		{`{"share":"half"}`, "share", "string", "a number from 0 to 1"},
		{`{"share":1e999}`, "share", "number 1e999", "a number from 0 to 1"},
		{`{"kinds":["explode"]}`, "kinds", "explode", kinds},
		{`{"kinds":["none"]}`, "kinds", "none", kinds},
		{`{"kinds":["Error"]}`, "kinds", "Error", kinds},
		{`{"kinds":"error"}`, "kinds", "string", kinds},
		{`{"kinds":["` + strings.Repeat("x", 100) + `"]}`, "kinds", strings.Repeat("x", 60) + "…", kinds},
		{`{"kinds":["error"` + strings.Repeat(`,"error"`, 32) + `]}`, "kinds", "a list of 33", "at most 32"},
		{`{"duration":"soon"}`, "duration", "soon", duration},
		{`{"duration":"0s"}`, "duration", "0s", duration},
		{`{"duration":"-1s"}`, "duration", "-1s", duration},
		{`{"duration":"25h"}`, "duration", "25h", duration},
		{`{"duration":30}`, "duration", "number", `a duration such as "30s"`},
		{`{"kinds":["slow"],"delay":"2m"}`, "delay", "2m", `a duration such as "30s", above 0 and at most 1m0s`},
		{`{"kinds":["error"],"delay":"1s"}`, "delay", "1s", `kind "slow", which alone has a delay`},
		{`{"shares":1}`, "field", "shares", "share, kinds, delay or duration"},
		{`{"share":1} {"share":0}`, "body", `{"share":1} {"share":0}`, object},
		{`{"share":1`, "body", `{"share":1`, object},
		{`null`, "body", "null", object},
		{`[]`, "body", "[]", object},
		{` `, "body", " ", object},
	} {
		t.Run(c.body, func(t *testing.T) {
			code, answer := ask(t, Handler(in), "PUT", "/faults/payment", c.body)
			require.Equal(t, http.StatusBadRequest, code)
			require.Equal(t, c.field, answer["field"])
			require.Equal(t, c.value, answer["value"])
			require.Equal(t, c.wish, answer["wish"])
			require.NotEmpty(t, answer["error"])
			s, _ := in.Status("payment")
			require.False(t, s.Requested, "nothing was changed")
		})
	}
}

func TestRefused(t *testing.T) {
	in := NewInjector("inventory", "payment")
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		code                     int
		field                    string
	}{
		{"unknown service", "PUT", "/faults/order", `{}`, nil, 404, "service"},
		{"unknown service shown", "GET", "/faults/order", "", nil, 404, "service"},
		{"unknown service cleared", "DELETE", "/faults/order", "", nil, 404, "service"},
		{"what a form sends", "POST", "/faults/payment", `{"share":1}`, []string{"Content-Type", "text/plain"}, 415, "Content-Type"},
		{"no content type", "POST", "/faults/payment", `{"share":1}`, []string{"Content-Type", ""}, 415, "Content-Type"},
		{"a lie about JSON", "POST", "/faults/payment", `{"share":1}`, []string{"Content-Type", "text/plain; application/json"}, 415, "Content-Type"},
		{"another site", "POST", "/faults/payment", `{}`, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://example.org"}, 403, "origin"},
		{"another port", "DELETE", "/faults", "", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:9"}, 403, "origin"},
		{"another origin, by an old browser", "DELETE", "/faults/payment", "", []string{"Origin", "https://example.org"}, 403, "origin"},
		{"too much", "PUT", "/faults/payment", `{"kinds":["` + strings.Repeat("x", maxBody) + `"]}`, nil, 413, "body"},
		{"another method", "PATCH", "/faults/payment", `{}`, nil, 405, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			in.Request("inventory", Fault{Share: 1}, 0)
			code, answer := ask(t, Handler(in), c.method, c.path, c.body, c.headers...)
			require.Equal(t, c.code, code)
			if c.field != "" {
				require.Equal(t, c.field, answer["field"])
			}
			payment, _ := in.Status("payment")
			require.False(t, payment.Requested)
			inventory, _ := in.Status("inventory")
			require.True(t, inventory.Requested)
		})
	}
	t.Run("the same origin", func(t *testing.T) {
		code, _ := ask(t, Handler(in), "PUT", "/faults/payment", `{}`, "Sec-Fetch-Site", "same-origin", "Content-Type", "application/json; charset=utf-8")
		require.Equal(t, http.StatusOK, code)
	})
}

// What the documentation has people type works, and all there is is explained there.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../../../docs/demo.md")
	require.NoError(t, err)
	commands := regexp.MustCompile(`(?m)^curl (?:-X (PUT|DELETE) )?(?:--json '(.*)' )?\$faults(/\w+)?`).FindAllStringSubmatch(string(text), -1)
	require.Len(t, commands, strings.Count(string(text), "\ncurl "))
	in := NewInjector("inventory", "payment", "shipping")
	for _, c := range commands {
		code, answer := ask(t, Handler(in), cmp.Or(c[1], "GET"), "/faults"+c[3], c[2])
		require.Equal(t, http.StatusOK, code, "%s: %v", c[0], answer)
	}
	for k := Error; k < kindCount; k++ {
		require.Contains(t, string(text), "`"+k.String()+"`")
	}
	for _, field := range []string{"share", "kinds", "delay", "duration"} {
		require.Contains(t, string(text), "| `"+field+"` |")
	}
	require.Contains(t, string(text), `"`+DefaultDelay.String()+`"`)
}

func TestKindNames(t *testing.T) {
	for k := range Kind(kindCount) {
		require.NotEmpty(t, kinds[k].name)
		require.NotEmpty(t, kinds[k].text)
	}
	require.Equal(t, "unknown", Kind(kindCount).String())
}

func TestStatusOfTheUnknown(t *testing.T) {
	in := NewInjector("payment")
	require.False(t, in.Request("order", Fault{Share: 1}, 0))
	require.False(t, in.Clear("order"))
	_, known := in.Status("order")
	require.False(t, known)
	services := in.Services()
	services[0] = "changed"
	require.Equal(t, []string{"payment"}, in.Services())
}

// Whatever comes in, it is refused and changes nothing, or what it comes to is a
// fault that can be drawn from and shown.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"share":0.5,"kinds":["error","hang"],"duration":"30s"}`, `{"kinds":["slow"],"delay":"1s"}`,
		`{"share":1e308}`, `{"duration":"-1s"}`, `null`, `{"share":null,"kinds":null}`, `{"SHARE":1}`, "{\"kinds\":[\"\x00\"]}", `{} {}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		in := NewInjector("payment")
		h := Handler(in)
		code, answer := ask(t, h, "PUT", "/faults/payment", body, "Content-Type", "application/json")
		s, _ := in.Status("payment")
		if code != http.StatusOK {
			require.Contains(t, []int{400, 413}, code)
			require.NotEmpty(t, answer["field"])
			require.NotEmpty(t, answer["wish"])
			require.False(t, s.Requested)
			return
		}
		require.True(t, s.Requested)
		require.GreaterOrEqual(t, s.Fault.Share, 0.0)
		require.LessOrEqual(t, s.Fault.Share, 1.0)
		require.True(t, s.Until.IsZero() || time.Until(s.Until) <= maxDuration)
		for _, k := range s.Fault.Kinds {
			require.NotEqual(t, None, k)
			require.Less(t, k, Kind(kindCount))
		}
		require.LessOrEqual(t, s.Fault.Lateness(), maxDelay)
		drawn := s.Fault.Draw(Dice(1, "payment", 1, 1))
		require.True(t, drawn == None || drawn == Error || slices.Contains(s.Fault.Kinds, drawn))
	})
}
