// Package csr checks the signatures of certificate requests, whose keys anybody can make up.
//
// The one idea: the time that a signature takes to check grows with the third power of an RSA
// key's length, so the length is looked at first: a request of 128 KB would take half a minute.
//
// Used by apis/certificates, controllers/certificates and cluster, which see the same request in turn.
package csr

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
)

// maxKey is the longest RSA key in bits that Go's TLS takes too.
const maxKey = 8192

// Verify says whether whoever made the request holds its key.
func Verify(r *x509.CertificateRequest) error {
	if key, ok := r.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxKey {
		return fmt.Errorf("the RSA key has %d bits, more than %d", key.N.BitLen(), maxKey)
	}
	return r.CheckSignature()
}
