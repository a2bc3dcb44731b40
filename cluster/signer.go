package cluster

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/proa-dev/proa/pki"
)

// signer signs certificate requests with the cluster's CA (controllers decide which).
type signer struct{ authority *pki.Authority }

var keyUsages = map[certificatesv1.KeyUsage]x509.KeyUsage{
	certificatesv1.UsageDigitalSignature: x509.KeyUsageDigitalSignature,
	certificatesv1.UsageKeyEncipherment:  x509.KeyUsageKeyEncipherment,
	certificatesv1.UsageKeyAgreement:     x509.KeyUsageKeyAgreement,
	certificatesv1.UsageDataEncipherment: x509.KeyUsageDataEncipherment,
}

// Sign answers the certificate (PEM) for a request (DER).
func (s signer) Sign(request []byte, usages []string, life time.Duration) ([]byte, error) {
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, fmt.Errorf("parse certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check certificate request: %w", err)
	}
	begin, end := s.authority.Span(life)
	template := &x509.Certificate{
		Subject: csr.Subject, DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses, EmailAddresses: csr.EmailAddresses, URIs: csr.URIs,
		NotBefore: begin, NotAfter: end, BasicConstraintsValid: true,
	}
	for usage, bit := range keyUsages {
		if slices.Contains(usages, string(usage)) {
			template.KeyUsage |= bit
		}
	}
	if slices.Contains(usages, string(certificatesv1.UsageClientAuth)) {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	if slices.Contains(usages, string(certificatesv1.UsageServerAuth)) {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	return s.authority.SignTemplate(template, csr.PublicKey)
}
