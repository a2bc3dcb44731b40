package cluster

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/pki"
)

// signer signs certificate requests with the cluster's CA (controllers decide which).
type signer struct {
	authority *pki.Authority
	reader    api.Reader
	client    kubernetes.Interface
}

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
	cert, err := s.authority.SignTemplate(template, csr.PublicKey)
	if err != nil {
		return nil, err
	}
	return cert, s.welcome(csr.Subject.CommonName, cert)
}

// welcome lets a certificate count that is signed for a node which was deleted earlier.
func (s signer) welcome(user string, cert []byte) error {
	if access.RecordsOf(user) != access.NodeRecords {
		return nil
	}
	obj, _ := s.reader.Get(schema.GroupResource{Resource: "configmaps"}, metav1.NamespaceSystem, access.NodeRecords)
	list, ok := obj.(*corev1.ConfigMap)
	if !ok || list.Data[access.UserRecordKey(user)] == "" {
		return nil
	}
	leaf, err := pki.DecodeCert(cert)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), welcomeTime)
	defer cancel()
	return changeRecord(ctx, s.client, user, func(r *access.UserRecord) {
		sum := sha256.Sum256(leaf.Raw)
		r.Except = append(r.Except, hex.EncodeToString(sum[:]))
		r.Except = r.Except[max(0, len(r.Except)-keptExceptions):]
	})
}

const (
	welcomeTime = 10 * time.Second
	// keptExceptions is how many certificates of a node that came back count: the present one
	// and those it may still use while it changes to it.
	keptExceptions = 4
)
