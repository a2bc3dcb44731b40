package audit

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/proa-dev/proa/apis/api"
)

// append encodes an event as JSON, its fields named and ordered as upstream's type has them.
func (r *Record) append(b []byte, stage auditv1.Stage, now time.Time) []byte {
	q := &r.request
	a := q.Attributes
	b = append(b, `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"`...)
	b = append(b, levels[r.level]...)
	b = text(append(b, '"'), "auditID", q.ID)
	b = text(b, "stage", string(stage))
	b = text(b, "requestURI", q.HTTP.URL.RequestURI())
	b = text(b, "verb", a.Verb)
	b = appendUser(append(b, `,"user":`...), a.User)
	if r.impersonated != nil {
		b = appendUser(append(b, `,"impersonatedUser":`...), r.impersonated)
	}
	if ips := sourceIPs(q.HTTP); len(ips) > 0 {
		b = appendStrings(append(b, `,"sourceIPs":`...), ips)
	}
	if agent := userAgent(q.HTTP); agent != "" {
		b = text(b, "userAgent", agent)
	}
	b = r.appendRef(b)
	if r.status != nil {
		b = r.appendStatus(append(b, `,"responseStatus":`...))
	}
	if r.requestBody != nil {
		b = append(append(b, `,"requestObject":`...), r.requestBody...)
	}
	if r.responseBody != nil {
		b = append(append(b, `,"responseObject":`...), r.responseBody...)
	}
	b = appendTime(append(b, `,"requestReceivedTimestamp":`...), q.Received)
	if stage == auditv1.StageRequestReceived {
		now = q.Received
	}
	b = appendTime(append(b, `,"stageTimestamp":`...), now)
	return append(r.appendAnnotations(b), '}')
}

func (r *Record) appendRef(b []byte) []byte {
	a := r.request.Attributes
	if !a.Resource {
		return b
	}
	b = append(b, `,"objectRef":`...)
	at := len(b)
	for _, f := range [...][2]string{
		{"resource", a.Plural}, {"namespace", either(a.Namespace, r.ref.namespace)}, {"name", either(a.Name, r.ref.name)}, {"uid", r.ref.uid},
		{"apiGroup", a.Group}, {"apiVersion", a.Version}, {"resourceVersion", r.ref.version}, {"subresource", a.Subresource},
	} {
		if f[1] != "" {
			b = text(b, f[0], f[1])
		}
	}
	if len(b) == at {
		return append(b, '{', '}')
	}
	b[at] = '{' // for the comma
	return append(b, '}')
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// appendStatus: of a success, the code alone.
func (r *Record) appendStatus(b []byte) []byte {
	s := r.status
	if s.Status == "" && s.Message == "" && s.Reason == "" && s.Details == nil {
		b = strconv.AppendInt(append(b, `{"metadata":{},"code":`...), int64(s.Code), 10)
		return append(b, '}')
	}
	plain := *s
	plain.Kind, plain.APIVersion = "", ""
	raw, err := json.Marshal(&plain)
	if err != nil {
		return append(b, `{"metadata":{}}`...)
	}
	return append(b, raw...)
}

func (r *Record) appendAnnotations(b []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.annotations) == 0 {
		return b
	}
	slices.SortFunc(r.annotations, func(a, b annotation) int { return strings.Compare(a.key, b.key) })
	b = append(b, `,"annotations":`...)
	at := len(b)
	for _, one := range r.annotations {
		b = appendString(append(b, ','), one.key)
		b = appendString(append(b, ':'), one.value)
	}
	b[at] = '{'
	return append(b, '}')
}

func appendUser(b []byte, u *api.User) []byte {
	if u == nil {
		return append(b, '{', '}')
	}
	b = appendString(append(b, `{"username":`...), u.Name)
	if u.UID != "" {
		b = text(b, "uid", u.UID)
	}
	if len(u.Groups) > 0 {
		b = appendStrings(append(b, `,"groups":`...), u.Groups)
	}
	if len(u.Extra) > 0 {
		b = append(b, `,"extra":`...)
		at := len(b)
		for _, k := range sortedKeys(u.Extra) {
			b = appendString(append(b, ','), k)
			b = appendStrings(append(b, ':'), u.Extra[k])
		}
		b[at] = '{'
		b = append(b, '}')
	}
	return append(b, '}')
}

// sortedKeys: most users have none or one.
func sortedKeys(m map[string][]string) []string {
	var few [4]string
	keys := slices.AppendSeq(few[:0], maps.Keys(m))
	slices.Sort(keys)
	return keys
}

func text(b []byte, name, value string) []byte {
	b = append(append(append(b, ',', '"'), name...), '"', ':')
	return appendString(b, value)
}

func appendStrings(b []byte, all []string) []byte {
	if len(all) == 0 {
		return append(b, '[', ']')
	}
	at := len(b)
	for _, s := range all {
		b = appendString(append(b, ','), s)
	}
	b[at] = '['
	return append(b, ']')
}

// appendString quotes; nearly everything here is plain ASCII.
func appendString(b []byte, s string) []byte {
	start := len(b)
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c >= 0x7f:
			raw, err := json.Marshal(s)
			if err != nil {
				raw = []byte(`""`) // a string always encodes
			}
			return append(b[:start], raw...)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// maxUserAgent is in bytes, as upstream's.
const maxUserAgent = 1024

func userAgent(r *http.Request) string {
	agent := r.UserAgent()
	if len(agent) > maxUserAgent {
		return agent[:maxUserAgent] + "...TRUNCATED"
	}
	return agent
}

// maxForwarded bounds what a client can make up.
const maxForwarded = 16

// sourceIPs are where a request comes from: what proxies say of it, the connection's last.
// A component of this process comes from here.
func sourceIPs(r *http.Request) []string {
	var all []string
	for _, header := range r.Header["X-Forwarded-For"] {
		for part := range strings.SplitSeq(header, ",") {
			if ip, err := netip.ParseAddr(strings.TrimSpace(part)); err == nil && len(all) < maxForwarded {
				all = append(all, ip.String())
			}
		}
	}
	if real := r.Header.Get("X-Real-Ip"); real != "" {
		if ip, err := netip.ParseAddr(real); err == nil && !slices.Contains(all, ip.String()) {
			all = append(all, ip.String())
		}
	}
	if r.RemoteAddr == "" {
		return append(all, "127.0.0.1")
	}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		if ip := at.Addr().Unmap().WithZone("").String(); len(all) == 0 || all[len(all)-1] != ip {
			all = append(all, ip)
		}
	}
	return all
}
