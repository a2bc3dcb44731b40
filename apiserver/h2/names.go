package h2

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// common are names of header fields that requests and answers of the API have often; other
// names are converted each time.
var common = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Age", "Allow", "Audit-Id", "Authorization", "Cache-Control",
	"Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length", "Content-Range", "Content-Type",
	"Cookie", "Date", "Etag", "Expect", "Expires", "Forwarded", "Host", "If-Match", "If-Modified-Since", "If-None-Match",
	"Impersonate-Extra-Reason", "Impersonate-Group", "Impersonate-Uid", "Impersonate-User", "Kubectl-Command",
	"Kubectl-Session", "Last-Modified", "Link", "Location", "Origin", "Range", "Referer", "Retry-After", "Server", "Set-Cookie",
	"Te", "Traceparent", "Trailer", "User-Agent", "Vary", "Via", "Warning", "Www-Authenticate", "X-Content-Type-Options",
	"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-From-Cache", "X-Kubernetes-Pf-Flowschema-Uid",
	"X-Kubernetes-Pf-Prioritylevel-Uid", "X-Remote-Extra-Scopes", "X-Remote-Group", "X-Remote-Uid", "X-Remote-User",
	"X-Requested-With", "Priority",
}

var canonicals, lowers = tables()

func tables() (canonicals, lowers map[string]string) {
	canonicals, lowers = make(map[string]string, len(common)), make(map[string]string, len(common))
	for _, name := range common {
		low := strings.ToLower(name)
		canonicals[low], lowers[name] = name, low
	}
	return canonicals, lowers
}

// canonical is a field's name as handlers know it; false: it is not one that HTTP/2 allows.
func canonical(wire string) (string, bool) {
	if name, ok := canonicals[wire]; ok {
		return name, true
	}
	if !httpguts.ValidHeaderFieldName(wire) {
		return "", false
	}
	for i := range len(wire) {
		if 'A' <= wire[i] && wire[i] <= 'Z' {
			return "", false
		}
	}
	return http.CanonicalHeaderKey(wire), true
}

// lower is a field's name as it is sent; false: it cannot be.
func lower(name string) (string, bool) {
	if wire, ok := lowers[name]; ok {
		return wire, true
	}
	if !httpguts.ValidHeaderFieldName(name) {
		return "", false
	}
	return strings.ToLower(name), true
}

// hopByHop tells of names, as they are on the wire, whether they are about an HTTP/1
// connection. HTTP/2 has none of them (RFC 9113, 8.2.2).
func hopByHop(wire string) bool {
	switch wire {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return true
	}
	return false
}
