package httpres

import (
	"hash/maphash"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
)

// Host returns the key for req that a [Transport] uses by default: scheme and host, such
// as "https://example.com", in lower case and without a port that the scheme implies.
func Host(req *http.Request) string { return hostKey(req.URL) }

func hostKey(u *url.URL) string {
	if u.Host == "" {
		return ""
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return scheme + "://" + host
}

// hosts remembers the keys of some hosts, so that the key of one that is busy is not put
// together for every request. Two that share a slot push each other out.
type hosts struct {
	seed  maphash.Seed
	slots *[64]atomic.Pointer[knownHost]
}

type knownHost struct{ scheme, host, key string }

func newHosts() hosts {
	return hosts{seed: maphash.MakeSeed(), slots: new([64]atomic.Pointer[knownHost])}
}

func (h *hosts) key(u *url.URL) string {
	slot := &h.slots[maphash.String(h.seed, u.Host)%uint64(len(h.slots))]
	if k := slot.Load(); k != nil && k.host == u.Host && k.scheme == u.Scheme {
		return k.key
	}
	k := &knownHost{strings.Clone(u.Scheme), strings.Clone(u.Host), hostKey(u)}
	slot.Store(k)
	return k.key
}
