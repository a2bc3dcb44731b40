package access

import (
	"net/http"
	"strings"
)

// DropIdentity removes from a header what says who the client is, before a request is sent on
// to another server: credentials are for this server alone, also a bearer token that came as
// a web socket subprotocol, and nobody but this server may speak for users.
func DropIdentity(h http.Header) {
	for name := range h {
		lower := strings.ToLower(name)
		if lower == "authorization" || strings.HasPrefix(lower, "x-remote-") || strings.HasPrefix(lower, "impersonate-") {
			delete(h, name)
		}
	}
	dropSocketToken(h)
}
