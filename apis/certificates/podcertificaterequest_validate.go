package certificates

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/internal/check"
	"github.com/proa-dev/proa/internal/csr"
)

const (
	maxUID         = 128
	maxPKCS10      = 10 << 10
	maxChain       = 100 << 10
	hour           = int32(3600)
	longestPod     = 91 * 24 * hour
	longestBuiltin = 24 * hour // of the signers kubernetes.io/...
	clockSkew      = 5 * time.Minute
	refreshMargin  = 10 * time.Minute
)

func validatePodRequest(r podRequest) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateSignerName(spec.Child("signerName"), r.Spec.SignerName)
	subject := func(name, value string, uid types.UID) {
		errs = append(errs, check.Each(spec.Child(name+"Name"), value, apivalidation.NameIsDNSSubdomain(value, false))...)
		if uid == "" {
			errs = append(errs, field.Invalid(spec.Child(name+"UID"), uid, "must not be empty"))
		}
		errs = append(errs, check.Longest(spec.Child(name+"UID"), uid, maxUID)...)
	}
	subject("pod", r.Spec.PodName, r.Spec.PodUID)
	subject("serviceAccount", r.Spec.ServiceAccountName, r.Spec.ServiceAccountUID)
	subject("node", string(r.Spec.NodeName), r.Spec.NodeUID)
	errs = append(errs, validateExpiration(r, spec.Child("maxExpirationSeconds"))...)
	errs = append(errs, validateStub(r.Spec.StubPKCS10Request, spec.Child("stubPKCS10Request"))...)
	return append(errs, apivalidation.ValidateAnnotations(r.Spec.UnverifiedUserAnnotations, spec.Child("unverifiedUserAnnotations"))...)
}

func validateExpiration(r podRequest, at *field.Path) field.ErrorList {
	if r.Spec.MaxExpirationSeconds == nil {
		return field.ErrorList{field.Required(at, "must be set")}
	}
	most := longestPod
	if strings.HasPrefix(r.Spec.SignerName, "kubernetes.io/") {
		most = longestBuiltin
	}
	if n := *r.Spec.MaxExpirationSeconds; n < hour || n > most {
		return field.ErrorList{field.Invalid(at, n, fmt.Sprintf("must be in the range [%d, %d]", hour, most))}
	}
	return nil
}

// validateStub checks the request that proves that the node holds the key.
func validateStub(raw []byte, at *field.Path) field.ErrorList {
	bad := func(value any, text string) field.ErrorList { return field.ErrorList{field.Invalid(at, value, text)} }
	if len(raw) > maxPKCS10 {
		return field.ErrorList{field.TooLong(at, "", maxPKCS10)}
	}
	request, err := x509.ParseCertificateRequest(raw)
	if err != nil {
		return bad(field.OmitValueType{}, "must be a valid PKCS#10 CSR")
	}
	switch key := request.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return bad("curve "+key.Curve.Params().Name, "elliptic public keys must use curve P256, P384, or P521")
		}
	case *rsa.PublicKey:
		if size := key.Size() * 8; size != 3072 && size != 4096 {
			return bad(fmt.Sprintf("%d-bit modulus", size), "RSA keys must have modulus size 3072 or 4096")
		}
	default:
		return bad(field.OmitValueType{}, "unknown public key type; supported types are Ed25519, ECDSA, and RSA")
	}
	if csr.Verify(request) != nil {
		return bad(field.OmitValueType{}, "invalid signature")
	}
	return nil
}

func outcomeOf(r podRequest) (metav1.Condition, bool) {
	for _, c := range r.Status.Conditions {
		if slices.Contains(outcomes, c.Type) {
			return c, true
		}
	}
	return metav1.Condition{}, false
}

func validatePodRequestStatus(r, old podRequest) field.ErrorList {
	path := field.NewPath("status")
	if _, done := outcomeOf(old); done {
		if !apiequality.Semantic.DeepEqual(r.Status, old.Status) {
			return check.Immutable(path, r.Status, old.Status)
		}
		return nil
	}
	conditions := path.Child("conditions")
	errs := metav1validation.ValidateConditions(r.Status.Conditions, conditions)
	results := 0
	for i, c := range r.Status.Conditions {
		at := conditions.Index(i)
		if !slices.Contains(outcomes, c.Type) {
			errs = append(errs, field.NotSupported(at.Child("type"), c.Type, outcomes))
			continue
		}
		if results++; results > 1 {
			errs = append(errs, field.Invalid(at.Child("type"), c.Type, `There may be at most one condition with type "Issued", "Denied", or "Failed"`))
		}
		if c.Status != metav1.ConditionTrue {
			errs = append(errs, field.NotSupported(at.Child("status"), c.Status, []metav1.ConditionStatus{metav1.ConditionTrue}))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if c, done := outcomeOf(r); done && c.Type == certificatesv1.PodCertificateRequestConditionTypeIssued {
		return validateIssued(r, path)
	}
	errs = append(errs, check.Immutable(path.Child("certificateChain"), r.Status.CertificateChain, old.Status.CertificateChain)...)
	errs = append(errs, check.Immutable(path.Child("notBefore"), r.Status.NotBefore, old.Status.NotBefore)...)
	errs = append(errs, check.Immutable(path.Child("notAfter"), r.Status.NotAfter, old.Status.NotAfter)...)
	return append(errs, check.Immutable(path.Child("beginRefreshAt"), r.Status.BeginRefreshAt, old.Status.BeginRefreshAt)...)
}

// validateIssued reads the certificate as the pod will.
func validateIssued(r podRequest, path *field.Path) field.ErrorList {
	at := path.Child("certificateChain")
	if errs := check.Longest(at, r.Status.CertificateChain, maxChain); len(errs) > 0 {
		return errs
	}
	bad := func(text string) field.ErrorList {
		return field.ErrorList{field.Invalid(at, r.Status.CertificateChain, text)}
	}
	block, rest := pem.Decode([]byte(r.Status.CertificateChain))
	if block == nil {
		return bad("issued certificate chain must contain at least one certificate")
	}
	if block.Type != "CERTIFICATE" {
		return bad("issued certificate chain must consist entirely of CERTIFICATE PEM blocks")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return bad("leaf certificate does not parse as valid X.509")
	}
	request, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
	if err != nil {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "stubPKCS10Request"), field.OmitValueType{}, "must be a valid PKCS#10 CSR")}
	}
	if key, ok := request.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(leaf.PublicKey) {
		return bad("leaf certificate was not issued to the requested public key")
	}
	errs := validateTimes(r, leaf, path)
	for len(errs) == 0 && len(bytes.TrimSpace(rest)) > 0 {
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return bad("issued certificate chain must consist entirely of CERTFICATE PEM blocks")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return bad("intermediate certificate does not parse as valid X.509")
		}
	}
	return errs
}

func validateTimes(r podRequest, leaf *x509.Certificate, path *field.Path) field.ErrorList {
	s := &r.Status
	before, after, refresh := path.Child("notBefore"), path.Child("notAfter"), path.Child("beginRefreshAt")
	switch {
	case s.NotBefore == nil:
		return field.ErrorList{field.Required(before, "must be present and consistent with the issued certificate")}
	case s.NotAfter == nil:
		return field.ErrorList{field.Required(after, "must be present and consistent with the issued certificate")}
	case s.BeginRefreshAt == nil:
		return field.ErrorList{field.Required(refresh, "must be present and in the range [notbefore+10min, notafter-10min]")}
	}
	var errs field.ErrorList
	refuse := func(bad bool, at *field.Path, value any, text string) {
		if bad {
			errs = append(errs, field.Invalid(at, value, text))
		}
	}
	refuse(!s.NotBefore.Time.Equal(leaf.NotBefore), before, s.NotBefore.Time, "must be set to the NotBefore time encoded in the leaf certificate")
	refuse(time.Since(s.NotBefore.Time).Abs() > clockSkew, before, s.NotBefore.Time, "must be set to within 5 minutes of kube-apiserver's current time")
	refuse(!s.NotAfter.Time.Equal(leaf.NotAfter), after, s.NotAfter.Time, "must be set to the NotAfter time encoded in the leaf certificate")
	life, chain := leaf.NotAfter.Sub(leaf.NotBefore), path.Child("certificateChain")
	refuse(life < time.Duration(hour)*time.Second, chain, life, "leaf certificate lifetime must be >= 1 hour")
	if most := r.Spec.MaxExpirationSeconds; most != nil {
		refuse(life > time.Duration(*most)*time.Second, chain, life, fmt.Sprintf("leaf certificate lifetime must be <= spec.maxExpirationSeconds (%v)", *most))
	}
	refuse(s.BeginRefreshAt.Time.Before(s.NotBefore.Add(refreshMargin)), refresh, s.BeginRefreshAt.Time, "must be at least 10 minutes after status.notBefore")
	refuse(s.BeginRefreshAt.Time.After(s.NotAfter.Add(-refreshMargin)), refresh, s.BeginRefreshAt.Time, "must be at least 10 minutes before status.notAfter")
	return errs
}
