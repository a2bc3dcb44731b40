package access

import (
	"net/http"
	"reflect"
	"testing"
)

func TestDropIdentity(t *testing.T) {
	const token = "base64url.bearer.authorization.k8s.io.abc"
	h := http.Header{
		"Authorization": {"Bearer x"}, "authorization": {"Bearer y"}, "Accept": {"*/*"}, "X-Remote-User": {"admin"}, "x-remote-group": {"system:masters"},
		"X-Remote-Extra-A%2fb": {"c"}, "X-Remote-Whatever": {"d"}, "Impersonate-User": {"admin"}, "Impersonate-Extra-Scopes": {"e"}, "X-Forwarded-For": {"192.0.2.1"},
		"Sec-Websocket-Protocol": {"v4.channel.k8s.io, " + token, token},
	}
	DropIdentity(h)
	want := http.Header{"Accept": {"*/*"}, "X-Forwarded-For": {"192.0.2.1"}, "Sec-Websocket-Protocol": {"v4.channel.k8s.io"}}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("left: %v", h)
	}
	h = http.Header{"Sec-Websocket-Protocol": {token}}
	if DropIdentity(h); len(h) > 0 {
		t.Errorf("left of a token alone: %v", h)
	}
}
