package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

func newRequest(t testing.TB) request {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:n1"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
	}}
}

func approved() certificatesv1.CertificateSigningRequestCondition {
	return certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue}
}

func TestValidate(t *testing.T) {
	if errs := validateRequest(newRequest(t)); len(errs) > 0 {
		t.Fatal(errs)
	}
	short := int32(10)
	for want, change := range map[string]func(request){
		"spec.request":           func(r request) { r.Spec.Request = []byte("x") },
		"spec.usages":            func(r request) { r.Spec.Usages = nil },
		"spec.usages[0]":         func(r request) { r.Spec.Usages[0] = "fly" },
		"spec.signerName":        func(r request) { r.Spec.SignerName = "nodomain" },
		"spec.expirationSeconds": func(r request) { r.Spec.ExpirationSeconds = &short },
	} {
		r := newRequest(t)
		change(r)
		if errs := validateRequest(r); len(errs) == 0 || errs[0].Field != want {
			t.Errorf("%s: %v", want, errs)
		}
	}
}

func TestStatusCannotApproveAndApprovalCannotIssue(t *testing.T) {
	old := newRequest(t)
	r := old.DeepCopy()
	r.Status.Conditions = append(r.Status.Conditions, approved())
	CertificateSigningRequests.PrepareStatus(r, old)
	if len(validateStatus(r, old)) == 0 {
		t.Error("approved through status")
	}
	r = old.DeepCopy()
	r.Status.Conditions = append(r.Status.Conditions, approved())
	r.Status.Certificate = []byte("x")
	CertificateSigningRequests.Updates[0].Apply(t.Context(), r, old)
	if len(r.Status.Certificate) > 0 || has(r, certificatesv1.CertificateApproved) == nil {
		t.Errorf("%+v", r.Status)
	}
	if errs := validateApproval(old, r); len(errs) == 0 {
		t.Error("an approval was taken back")
	}
	both := r.DeepCopy()
	both.Status.Conditions = append(both.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateDenied, Status: corev1.ConditionTrue})
	if errs := validateApproval(both, r); len(errs) == 0 {
		t.Error("approved and denied")
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(newRequest(f).Spec.Request)
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = checkRequest(data)
		_ = checkCertificates(data)
	})
}
