package apiserver

import (
	"bytes"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/audit"
	"github.com/proa-dev/proa/apiserver/patch"
)

// audit begins the record of a request whose user and target are known. Without an audit log,
// and for what its policy leaves out, there is none: a nil record does nothing.
func (r *request) audit(received time.Time) {
	if r.s.cfg.Audit == nil {
		return
	}
	r.record = r.s.cfg.Audit.Begin(audit.Request{
		ID: r.w.Header().Get("Audit-Id"), HTTP: r.r, Attributes: r.attributes(), Received: received,
		Long: r.long() || r.sub == "log" || r.sub == "proxy", Stranger: r.user == nil,
	})
	if r.record != nil {
		r.sent.begun = r.record.Started
	}
}

// auditStranger is audit of a request whose user is not known; its event says how he tried.
func (r *request) auditStranger(received time.Time) {
	if r.s.cfg.Audit == nil {
		return
	}
	if err := r.route(); err != nil {
		return // not even what was asked for can be said
	}
	r.audit(received)
	r.refused = &metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonUnauthorized, Code: http.StatusUnauthorized, Message: attempts(r.r),
	}
}

func attempts(r *http.Request) string {
	var tried []string
	if _, _, ok := r.BasicAuth(); ok {
		tried = append(tried, "basic")
	}
	if how, _, ok := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " "); ok && strings.EqualFold(how, "bearer") {
		tried = append(tried, "bearer")
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		tried = append(tried, "x509")
	}
	if len(tried) == 0 {
		return "Authentication failed, no credentials provided"
	}
	return "Authentication failed, attempted: " + strings.Join(tried, ", ")
}

// auditDecision notes what authorization said.
func (r *request) auditDecision(d access.Decision, reason string) {
	if r.record == nil {
		return
	}
	decision := "forbid"
	if d == access.Allow {
		decision = "allow"
	}
	r.record.Annotate("authorization.k8s.io/decision", decision)
	r.record.Annotate("authorization.k8s.io/reason", reason)
}

// auditPatch notes the patch that a client sends.
func (r *request) auditPatch(raw []byte) {
	if !r.record.WantsRequest() {
		return
	}
	if strings.HasSuffix(mediaType(r.r), "+yaml") {
		asJSON, err := patch.YAMLToJSON(raw)
		if err != nil {
			return
		}
		raw = asJSON
	}
	r.record.SentPatch(raw)
}

// auditPage notes the list that is answered with, as JSON whatever the client gets.
func (r *request) auditPage(p *page) {
	if !r.record.WantsResponse() {
		return
	}
	var b bytes.Buffer
	if err := r.writeJSONPage(&b, p); err == nil {
		r.record.AnsweredWith(bytes.TrimSpace(b.Bytes()))
	}
}
