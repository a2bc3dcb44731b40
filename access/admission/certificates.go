package admission

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"reflect"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/proa-dev/proa/access"
)

const signingRequests = "certificatesigningrequests"

func requestOf(a *Attributes) *certificatesv1.CertificateSigningRequest {
	if a.Kind.Group != certificatesv1.GroupName || a.Kind.Resource.Resource != signingRequests {
		return nil
	}
	r, _ := a.Object.(*certificatesv1.CertificateSigningRequest)
	return r
}

// requester writes into a certificate request whose it is; what the client wrote there is
// dropped, as is any status.
type requester struct{}

func (requester) Mutate(_ context.Context, a *Attributes) error {
	r := requestOf(a)
	if r == nil || a.Operation != Create || a.Subresource != "" || a.User == nil {
		return nil
	}
	info := access.UserInfo(a.User)
	r.Spec.Username, r.Spec.UID, r.Spec.Groups, r.Spec.Extra = info.Username, info.UID, slices.Clone(info.Groups), nil
	for key, values := range info.Extra {
		if r.Spec.Extra == nil {
			r.Spec.Extra = map[string]certificatesv1.ExtraValue{}
		}
		r.Spec.Extra[key] = certificatesv1.ExtraValue(values)
	}
	return nil
}

// certificateRequest asks whether the user may approve, or sign, for the signer named; and
// keeps the kube-apiserver-client signer from making cluster administrators.
type certificateRequest struct{ env Env }

func (c *certificateRequest) Validate(ctx context.Context, a *Attributes) error {
	r := requestOf(a)
	if r == nil {
		return nil
	}
	old, _ := a.Old.(*certificatesv1.CertificateSigningRequest)
	switch {
	case a.Operation == Create && a.Subresource == "":
		return subjectRestriction(a, r)
	case a.Operation != Update || old == nil:
		return nil
	case a.Subresource == "approval":
		if !c.may(ctx, a, "approve", old.Spec.SignerName) {
			return forbidden(a, fmt.Errorf("user not permitted to approve requests with signerName %q", old.Spec.SignerName))
		}
	case a.Subresource == "status":
		if reflect.DeepEqual(r.Status.Certificate, old.Status.Certificate) && reflect.DeepEqual(r.Status.Conditions, old.Status.Conditions) {
			return nil
		}
		if !c.may(ctx, a, "sign", old.Spec.SignerName) {
			return forbidden(a, fmt.Errorf("user not permitted to sign requests with signerName %q", old.Spec.SignerName))
		}
	}
	return nil
}

// may looks for the verb on the signer, or on all signers of its domain.
func (c *certificateRequest) may(ctx context.Context, a *Attributes, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		d, _ := c.env.Authorizer.Authorize(ctx, &access.Attributes{
			User: a.User, Verb: verb, Resource: true, Group: certificatesv1.GroupName, Version: "*", Plural: "signers", Name: name,
		})
		if d == access.Allow {
			return true
		}
	}
	return false
}

func subjectRestriction(a *Attributes, r *certificatesv1.CertificateSigningRequest) error {
	if r.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	block, _ := pem.Decode(r.Spec.Request)
	if block == nil {
		return nil // validation says so
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return forbidden(a, fmt.Errorf("failed to parse CSR: %v", err))
	}
	if slices.Contains(parsed.Subject.Organization, access.Masters) {
		return forbidden(a, fmt.Errorf("use of %s signer with %s group is not allowed", r.Spec.SignerName, access.Masters))
	}
	return nil
}
