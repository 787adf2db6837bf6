package httpres

import (
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzRetryAfter compares with arithmetic that cannot overflow.
func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, seed := range []string{
		"", "0", "1", "120", "9223372036", "9223372037", "99999999999999999999", "-1", "+1", "1.5", " 1", "1 ", "0x10", "１",
		"Fri, 02 Jan 2026 03:05:05 GMT", "Friday, 02-Jan-26 03:05:05 GMT", "Fri Jan  2 03:05:05 2026",
		"Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 02 Jan 2026 03:05:05 CET",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := retryAfter(http.Header{"Retry-After": {value}, "Date": {now.Format(http.TimeFormat)}})
		require.GreaterOrEqual(t, got, time.Duration(0))
		if n, ok := new(big.Int).SetString(value, 10); ok && strings.Trim(value, "0123456789") == "" {
			n.Mul(n, big.NewInt(int64(time.Second)))
			if most := big.NewInt(1<<63 - 1); n.Cmp(most) > 0 {
				n = most
			}
			require.Equal(t, n.Int64(), int64(got), value)
			return
		}
		if at, err := http.ParseTime(value); err == nil {
			require.Equal(t, max(0, at.Sub(now)), got)
			return
		}
		require.Zero(t, got, value)
	})
}

// A date without the server's own is taken by our clock.
func TestRetryAfterWithoutDate(t *testing.T) {
	at := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for _, date := range []string{"", "yesterday"} {
		got := retryAfter(http.Header{"Retry-After": {at}, "Date": {date}})
		require.Greater(t, got, 55*time.Minute)
		require.LessOrEqual(t, got, time.Hour)
	}
}

func TestTokens(t *testing.T) {
	for s, want := range map[string]bool{
		"GET": true, "X-Sum": true, "!#$%&'*+-.^_`|~09": true,
		"": false, "a b": false, "a:": false, "\x7f": false, "ä": false, "a\n": false,
	} {
		require.Equal(t, want, isToken(s), s)
	}
}

// Hosts that share a slot of what is remembered do not share a key.
func TestKeysThatAreRemembered(t *testing.T) {
	h := newHosts()
	for range 2 {
		for i := range 1000 {
			for _, scheme := range []string{"http", "https"} {
				u := &url.URL{Scheme: scheme, Host: fmt.Sprintf("host%d:80", i)}
				require.Equal(t, hostKey(u), h.key(u))
			}
		}
	}
}
