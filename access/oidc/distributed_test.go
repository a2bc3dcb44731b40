package oidc

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Groups that a token only points to are fetched with the token's own credential, and are
// believed when an issuer signed them for this cluster.
func TestDistributedGroups(t *testing.T) {
	p := newProvider(t)
	var answer atomic.Value
	var asked atomic.Int64
	var bearer atomic.Value
	graph := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		bearer.Store(r.Header.Get("Authorization"))
		if r.URL.Path == "/down" {
			http.Error(w, "down", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, answer.Load())
	}))
	graph.TLS = p.TLS.Clone() // the same CA as the issuer's
	graph.StartTLS()
	t.Cleanup(graph.Close)
	body := fmt.Sprintf("jwt:\n- issuer: {url: %q, audiences: [proa], certificateAuthority: %q}\n  claimMappings: {username: {claim: sub, prefix: ''}, groups: {claim: groups, prefix: 'far:'}}", p.URL, p.ca())
	groups := func(names map[string]any, claims map[string]any) ([]string, error) {
		t.Helper()
		a, err := configured(t, p, body)
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]any{"_claim_names": names, "_claim_sources": map[string]any{
			"graph": map[string]any{"endpoint": graph.URL + "/groups", "access_token": "secret"},
			"down":  map[string]any{"endpoint": graph.URL + "/down"},
			"plain": map[string]any{"endpoint": "http://" + graph.Listener.Addr().String()},
			"here":  map[string]any{"JWT": "a.b.c"},
		}}
		for k, v := range claims {
			all[k] = v
		}
		token := p.token(t, all)
		u, err := a.AuthenticateToken(t.Context(), token)
		if err != nil {
			return nil, err
		}
		before := asked.Load()
		if again, err := a.AuthenticateToken(t.Context(), token); err != nil || !slices.Equal(again.Groups, u.Groups) || asked.Load() != before {
			t.Errorf("the second time: %+v, %v, asked %d times", again, err, asked.Load()-before)
		}
		return u.Groups, nil
	}
	for _, c := range []struct {
		name   string
		names  any
		claims map[string]any // of the token
		far    map[string]any // of the answer
		want   []string
		err    string
	}{
		{"several", map[string]any{"groups": "graph"}, nil, map[string]any{"groups": []string{"a", "b"}}, []string{"far:a", "far:b"}, ""},
		{"one", map[string]any{"groups": "graph"}, nil, map[string]any{"groups": "a"}, []string{"far:a"}, ""},
		{"in the token too", map[string]any{"groups": "graph"}, map[string]any{"groups": []string{"own"}}, map[string]any{"groups": "a"}, []string{"far:own"}, ""},
		{"another claim", map[string]any{"roles": "graph"}, nil, map[string]any{"groups": "a"}, nil, ""},
		{"aggregated", map[string]any{"groups": "here"}, nil, nil, nil, ""},
		{"no source", map[string]any{"groups": "gone"}, nil, nil, nil, "missing in _claims_sources"},
		{"no claim", map[string]any{"groups": "graph"}, nil, map[string]any{}, nil, "did not contain claim"},
		{"another audience", map[string]any{"groups": "graph"}, nil, map[string]any{"groups": "a", "aud": "else"}, nil, "expected audience"},
		{"expired", map[string]any{"groups": "graph"}, nil, map[string]any{"groups": "a", "exp": p.now.Add(-time.Hour).Unix()}, nil, "expired"},
		{"an issuer without TLS", map[string]any{"groups": "graph"}, nil, map[string]any{"groups": "a", "iss": "http://127.0.0.1:1"}, nil, "not an https URL"},
		{"down", map[string]any{"groups": "down"}, nil, nil, nil, "500"},
		{"without TLS", map[string]any{"groups": "plain"}, nil, nil, nil, "not an https URL"},
	} {
		answer.Store(p.token(t, c.far))
		got, err := groups(c.names.(map[string]any), c.claims)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q, %q", c.name, got, err, c.want, c.err)
		}
	}
	if bearer.Load() != "Bearer secret" && bearer.Load() != "" {
		t.Errorf("asked with %q", bearer.Load())
	}
	answer.Store(p.token(t, map[string]any{"groups": "a"}) + "x")
	if _, err := groups(map[string]any{"groups": "graph"}, nil); err == nil {
		t.Error("a forged answer was believed")
	}
}
