// Package certificates tells the server about certificates.k8s.io: requests for
// certificates, their approval and what was issued.
//
// The one idea: spec is the client's and fixed at creation, conditions Approved and Denied
// belong to the approval subresource, the certificate to the status subresource.
//
// Used by cluster, which collects all kinds. Signing is done by a controller.
package certificates

import "github.com/proa-dev/proa/apis/api"

// Kinds of the group.
var Kinds = []*api.Kind{CertificateSigningRequests, ClusterTrustBundles, PodCertificateRequests}
