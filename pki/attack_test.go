package pki

import (
	"strings"
	"testing"
)

// A token that is empty, short or from another alphabet is none; each one made has its own
// secret (GHSA-cxm9-4m6p-24mc).
func TestAttackJoinToken(t *testing.T) {
	pin := strings.Repeat("a", 64)
	for _, text := range []string{"", " ", ".", "...", "proa1", "proa1...", "proa1." + pin, "proa1." + pin + "..", "proa1." + pin + ".abcdef.", "proa1." + pin + "..0123456789abcdef", "proa1..abcdef.0123456789abcdef",
		"proa1." + pin[1:] + ".abcdef.0123456789abcdef", "proa1." + pin + ".abcdef.0123456789abcde", "proa1." + pin + ".abcdef.0123456789abcdeF", "proa1." + pin + ".abcdef.0123456789abcde\x00",
		"proa1." + pin + ".abcdef.0123456789abcdef.x", "proa1." + pin + ".../..0123456789abcdef", "proa2." + pin + ".abcdef.0123456789abcdef", "K10" + pin + "::server:", "abcdef.0123456789abcdef"} {
		if token, err := ParseJoinToken(text); err == nil {
			t.Errorf("%q is accepted as %+v", text, token)
		} else if strings.Contains(err.Error(), "0123456789abcde") {
			t.Errorf("%q: the error shows the secret: %v", text, err)
		}
	}
	a := open(t, t.TempDir(), nil)
	seen := map[string]bool{}
	for range 100 {
		token, err := NewJoinToken(a.CA.Cert)
		if err != nil || len(token.Secret) != secretLength || seen[token.Secret] || seen[token.ID] {
			t.Fatalf("%+v %v", token, err)
		}
		seen[token.Secret], seen[token.ID] = true, true
	}
}
