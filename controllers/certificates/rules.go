package certificates

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
)

const (
	nodePrefix = "system:node:"
	nodesGroup = "system:nodes"
)

// signers are the cluster's own, each with what a request must be like for it.
var signers = map[string]func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error{
	certificatesv1.KubeAPIServerClientSignerName:        checkClient,
	certificatesv1.KubeAPIServerClientKubeletSignerName: checkKubeletClient,
	certificatesv1.KubeletServingSignerName:             checkKubeletServing,
	"kubernetes.io/legacy-unknown":                      func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error { return nil },
}

func checkClient(_ *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	return checkUsages(usages, certificatesv1.UsageClientAuth)
}

// checkUsages wants the one usage, and nothing beyond it but what any TLS key does.
func checkUsages(usages []certificatesv1.KeyUsage, one certificatesv1.KeyUsage, also ...certificatesv1.KeyUsage) error {
	for _, u := range usages {
		if u != one && u != certificatesv1.UsageDigitalSignature && u != certificatesv1.UsageKeyEncipherment {
			return fmt.Errorf("invalid usage for the certificate: %s", u)
		}
	}
	for _, u := range append(also, one) {
		if !slices.Contains(usages, u) {
			return fmt.Errorf("usages did not match: %s is required", u)
		}
	}
	return nil
}

func checkNode(x *x509.CertificateRequest) error {
	switch {
	case !slices.Equal(x.Subject.Organization, []string{nodesGroup}):
		return errors.New("subject organization is not system:nodes")
	case !strings.HasPrefix(x.Subject.CommonName, nodePrefix):
		return errors.New("subject common name does not begin with system:node:")
	case len(x.EmailAddresses) > 0:
		return errors.New("email subjectAltNames are not allowed")
	case len(x.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	}
	return nil
}

func checkKubeletClient(x *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch {
	case len(x.DNSNames) > 0:
		return errors.New("DNS subjectAltNames are not allowed")
	case len(x.IPAddresses) > 0:
		return errors.New("IP subjectAltNames are not allowed")
	}
	if err := checkNode(x); err != nil {
		return err
	}
	return checkUsages(usages, certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature)
}

func checkKubeletServing(x *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if len(x.DNSNames) == 0 && len(x.IPAddresses) == 0 {
		return errors.New("DNS or IP subjectAltName is required")
	}
	if err := checkNode(x); err != nil {
		return err
	}
	return checkUsages(usages, certificatesv1.UsageServerAuth, certificatesv1.UsageDigitalSignature)
}
