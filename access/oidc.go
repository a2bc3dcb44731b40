package access

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/go-jose/go-jose/v4"
)

// Where others find how to verify service account tokens.
const (
	discoveryPath = "/.well-known/openid-configuration"
	jwksPath      = "/openid/v1/jwks"
)

// Discovery serves the OpenID discovery document and the public keys; both never change
// while the process lives. It serves any path that ends in the two; others are not found.
func (t *Tokens) Discovery() (http.Handler, error) {
	document, err := json.Marshal(map[string]any{
		"issuer": t.issuer, "jwks_uri": t.jwksURI,
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{string(jose.ES256)},
	})
	if err != nil {
		return nil, fmt.Errorf("encode discovery document: %w", err)
	}
	set := jose.JSONWebKeySet{}
	for _, id := range t.order {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: t.keys[id], KeyID: id, Algorithm: string(jose.ES256), Use: "sig"})
	}
	keys, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode public keys: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+discoveryPath, fixed("application/json", document))
	mux.Handle("GET "+jwksPath, fixed("application/jwk-set+json", keys))
	return mux, nil
}

func fixed(contentType string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write(body) // the client's loss
	})
}
