package access

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf8"
)

const protocolHeader = "Sec-WebSocket-Protocol"

func socketProtocols(h http.Header) []string {
	var out []string
	for _, line := range h.Values(protocolHeader) {
		for p := range strings.SplitSeq(line, ",") {
			out = append(out, strings.TrimSpace(p))
		}
	}
	return out
}

// socketToken is the token among the subprotocols of a web socket request; "" when there is none.
func socketToken(h http.Header) string {
	if !strings.EqualFold(h.Get("Upgrade"), "websocket") {
		return ""
	}
	for _, p := range socketProtocols(h) {
		if encoded, ok := strings.CutPrefix(p, tokenProtocol); ok {
			token, err := base64.RawURLEncoding.DecodeString(encoded)
			if err == nil && utf8.Valid(token) {
				return string(token)
			}
		}
	}
	return ""
}

// dropSocketToken keeps the token from being chosen as the protocol, and from being passed on.
func dropSocketToken(h http.Header) {
	if len(h.Values(protocolHeader)) == 0 {
		return
	}
	var rest []string
	for _, p := range socketProtocols(h) {
		if !strings.HasPrefix(p, tokenProtocol) {
			rest = append(rest, p)
		}
	}
	if len(rest) == 0 {
		h.Del(protocolHeader)
		return
	}
	h.Set(protocolHeader, strings.Join(rest, ", "))
}
