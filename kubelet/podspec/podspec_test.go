package podspec

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestExpand(t *testing.T) {
	lookup := func(n string) (string, bool) { return strings.ToLower(n), n == "A" || n == "B" }
	for in, want := range map[string]string{"$(A)-$(B)": "a-b", "$$(A)": "$(A)", "$(C)": "$(C)", "$A": "$A", "$(A": "$(A", "x$": "x$", "$$$(A)": "$a", "": ""} {
		if got := expand(in, lookup); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzResolv(f *testing.F) {
	f.Add([]byte("nameserver 1.1.1.1\nsearch a. b\noptions ndots:2 # x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := parseResolv(data)
		addDNS(d, &corev1.PodDNSConfig{Options: []corev1.PodDNSConfigOption{{Name: "ndots"}}})
		trimDNS(d)
		if len(d.Servers) > maxServers || len(d.Searches) > maxSearches {
			t.Fatal("not trimmed")
		}
	})
}
