package certificates

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/internal/csr"
)

const (
	minDuration   = 600 // seconds
	legacyUnknown = "kubernetes.io/legacy-unknown"
)

var usages = []certificatesv1.KeyUsage{
	certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment,
	certificatesv1.UsageKeyEncipherment, certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment,
	certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign, certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly,
	certificatesv1.UsageAny, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning,
	certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME, certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel,
	certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping, certificatesv1.UsageOCSPSigning,
	certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
}

func validateRequest(r request) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if err := checkRequest(r.Spec.Request); err != nil {
		errs = append(errs, field.Invalid(spec.Child("request"), r.Spec.Request, err.Error()))
	}
	if len(r.Spec.Usages) == 0 {
		errs = append(errs, field.Required(spec.Child("usages"), ""))
	}
	seen := map[certificatesv1.KeyUsage]bool{}
	for i, u := range r.Spec.Usages {
		if !slices.Contains(usages, u) {
			errs = append(errs, field.NotSupported(spec.Child("usages").Index(i), u, usages))
		}
		if seen[u] {
			errs = append(errs, field.Duplicate(spec.Child("usages").Index(i), u))
		}
		seen[u] = true
	}
	if r.Spec.SignerName == legacyUnknown {
		errs = append(errs, field.Invalid(spec.Child("signerName"), r.Spec.SignerName, "the legacy signerName is not allowed via this API version"))
	} else {
		errs = append(errs, validateSignerName(spec.Child("signerName"), r.Spec.SignerName)...)
	}
	if s := r.Spec.ExpirationSeconds; s != nil && *s < minDuration {
		errs = append(errs, field.Invalid(spec.Child("expirationSeconds"), *s, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	return append(errs, validateConditions(field.NewPath("status", "conditions"), r)...)
}

// checkRequest reads the request as its signer will.
func checkRequest(data []byte) error {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return fmt.Errorf("PEM block type must be CERTIFICATE REQUEST")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	return csr.Verify(parsed)
}

// validateSignerName wants domain/path, as example.com/my-signer.
func validateSignerName(p *field.Path, name string) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	segments := strings.Split(name, "/")
	if len(segments) != 2 {
		return field.ErrorList{field.Invalid(p, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	for _, msg := range validation.IsDNS1123Subdomain(segments[0]) {
		errs = append(errs, field.Invalid(p, segments[0], "validating label "+fmt.Sprintf("%q: %s", segments[0], msg)))
	}
	if !strings.Contains(segments[0], ".") {
		errs = append(errs, field.Invalid(p, segments[0], "should be a domain with at least two segments separated by dots"))
	}
	for part := range strings.SplitSeq(segments[1], ".") {
		for _, msg := range validation.IsDNS1123Label(part) {
			errs = append(errs, field.Invalid(p, segments[1], fmt.Sprintf("validating label %q: %s", part, msg)))
		}
	}
	if len(name) > 571 {
		errs = append(errs, field.TooLong(p, name, 571))
	}
	return errs
}

func validateConditions(p *field.Path, r request) field.ErrorList {
	var errs field.ErrorList
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, c := range r.Status.Conditions {
		at := p.Index(i)
		if c.Type == "" {
			errs = append(errs, field.Required(at.Child("type"), ""))
		}
		switch {
		case c.Status == "":
			errs = append(errs, field.Required(at.Child("status"), ""))
		case (decision(c.Type) || c.Type == certificatesv1.CertificateFailed) && c.Status != corev1.ConditionTrue:
			errs = append(errs, field.NotSupported(at.Child("status"), c.Status, []corev1.ConditionStatus{corev1.ConditionTrue}))
		case c.Status != corev1.ConditionTrue && c.Status != corev1.ConditionFalse && c.Status != corev1.ConditionUnknown:
			errs = append(errs, field.NotSupported(at.Child("status"), c.Status,
				[]corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}))
		}
		if seen[c.Type] {
			errs = append(errs, field.Duplicate(at.Child("type"), c.Type))
		}
		seen[c.Type] = true
	}
	return errs
}

// oneDecision: a request is approved or denied.
func oneDecision(r, old request) field.ErrorList {
	both := func(r request) bool {
		return has(r, certificatesv1.CertificateApproved) != nil && has(r, certificatesv1.CertificateDenied) != nil
	}
	if !both(r) || both(old) {
		return nil
	}
	const approved, denied = `conditions[{"type": "Approved"}]`, `conditions[{"type": "Denied"}]`
	return field.ErrorList{field.Invalid(field.NewPath("status", "conditions"), "{"+approved+", "+denied+"}",
		"must specify at most one of: `"+approved+"`, `"+denied+"`")}
}

func has(r request, t certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	for i := range r.Status.Conditions {
		if r.Status.Conditions[i].Type == t {
			return &r.Status.Conditions[i]
		}
	}
	return nil
}

func count(r request, t certificatesv1.RequestConditionType) (n int) {
	for _, c := range r.Status.Conditions {
		if c.Type == t {
			n++
		}
	}
	return n
}

func validateRequestUpdate(r, old request) field.ErrorList {
	errs := sameSpec(r, old)
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		verb := "add"
		if has(r, t) == nil {
			verb = "remove"
		}
		if (has(r, t) == nil) != (has(old, t) == nil) {
			errs = append(errs, field.Forbidden(field.NewPath("status", "conditions"), fmt.Sprintf("updates may not %s a condition of type %q", verb, t)))
		}
	}
	return errs
}

func validateApproval(r, old request) field.ErrorList {
	errs := append(sameSpec(r, old), validateConditions(field.NewPath("status", "conditions"), r)...)
	errs = append(errs, kept(r, old)...)
	return append(errs, oneDecision(r, old)...)
}

func validateStatus(r, old request) field.ErrorList {
	conditions, p := field.NewPath("status", "conditions"), field.NewPath("status", "certificate")
	errs := validateConditions(conditions, r)
	changed := !bytes.Equal(r.Status.Certificate, old.Status.Certificate)
	if changed && len(r.Status.Certificate) > 0 {
		if err := checkCertificates(r.Status.Certificate); err != nil {
			errs = append(errs, field.Invalid(p, "<certificate data>", err.Error()))
		}
	}
	errs = append(errs, kept(r, old)...)
	for _, t := range decisions {
		if count(r, t) > count(old, t) {
			errs = append(errs, field.Forbidden(conditions, fmt.Sprintf("updates may not add a condition of type %q", t)))
		}
	}
	if changed && len(old.Status.Certificate) > 0 {
		errs = append(errs, field.Forbidden(p, "updates may not modify existing certificate content"))
	}
	return append(errs, oneDecision(r, old)...)
}

// kept: decisions are final.
func kept(r, old request) field.ErrorList {
	var errs field.ErrorList
	for _, t := range append(decisions[:len(decisions):len(decisions)], certificatesv1.CertificateFailed) {
		if count(r, t) < count(old, t) {
			errs = append(errs, field.Forbidden(field.NewPath("status", "conditions"), fmt.Sprintf("updates may not remove a condition of type %q", t)))
		}
	}
	return errs
}

// checkCertificates wants PEM certificates and nothing else that is PEM.
func checkCertificates(data []byte) error {
	found := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		}
		if len(block.Headers) != 0 {
			return fmt.Errorf("no PEM block headers are permitted")
		}
		if _, err := x509.ParseCertificates(block.Bytes); err != nil {
			return err
		}
		found++
	}
	if found == 0 {
		return fmt.Errorf("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}
