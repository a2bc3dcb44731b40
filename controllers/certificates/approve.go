package certificates

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// approve says yes to what kubelets may ask for themselves; all else waits for a person.
func (c *Controller) approve(ctx context.Context, r request) error {
	x, err := parse(r.Spec.Request)
	if err != nil {
		return fmt.Errorf("unable to parse csr %q: %w", r.Name, err)
	}
	switch r.Spec.SignerName {
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		if checkKubeletClient(x, r.Spec.Usages) != nil {
			return nil
		}
		return c.approveClient(ctx, r, x)
	case certificatesv1.KubeletServingSignerName:
		if checkKubeletServing(x, r.Spec.Usages) != nil || !fromNode(r, x) {
			return nil
		}
		if ok, err := c.addressesMatch(strings.TrimPrefix(r.Spec.Username, nodePrefix), x); !ok || err != nil {
			return err // the node's next event looks again
		}
		return c.write(ctx, r, "Auto approving kubelet serving certificate for the addresses of its node.")
	}
	return nil
}

// approveClient asks whether the requester may have a node's identity made: its own, or any.
func (c *Controller) approveClient(ctx context.Context, r request, x *x509.CertificateRequest) error {
	if r.Spec.Username == x.Subject.CommonName {
		if ok, err := c.may(ctx, r, "selfnodeclient"); err != nil {
			return err
		} else if ok {
			return c.write(ctx, r, "Auto approving self kubelet client certificate after SubjectAccessReview.")
		}
	}
	ok, err := c.may(ctx, r, "nodeclient")
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("recognized csr %q as %q but subject access review was not approved", r.Name, "nodeclient")
	}
	return c.write(ctx, r, "Auto approving kubelet client certificate after SubjectAccessReview.")
}

func (c *Controller) may(ctx context.Context, r request, subresource string) (bool, error) {
	extra := make(map[string]authorizationv1.ExtraValue, len(r.Spec.Extra))
	for k, v := range r.Spec.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	answer, err := c.deps.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: r.Spec.Username, UID: r.Spec.UID, Groups: r.Spec.Groups, Extra: extra,
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Group: certificatesv1.GroupName, Version: "*", Resource: "certificatesigningrequests", Subresource: subresource, Verb: "create",
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return answer.Status.Allowed, nil
}

func (c *Controller) write(ctx context.Context, r request, message string) error {
	changed, now := r.DeepCopy(), metav1.NewTime(c.deps.Clock.Now())
	changed.Status.Conditions = append(changed.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue,
		Reason: "AutoApproved", Message: message, LastUpdateTime: now, LastTransitionTime: now,
	})
	_, err := c.deps.Client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, r.Name, changed, metav1.UpdateOptions{})
	return err
}

func fromNode(r request, x *x509.CertificateRequest) bool {
	return r.Spec.Username == x.Subject.CommonName && slices.Contains(r.Spec.Groups, nodesGroup)
}

// addressesMatch says whether a serving certificate is for nothing but its node. Of one
// not yet registered only its name is known, and that no other node has the addresses.
func (c *Controller) addressesMatch(name string, x *x509.CertificateRequest) (bool, error) {
	node, err := c.nodes.Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return false, err
	}
	if err == nil && len(node.Status.Addresses) > 0 {
		own := addresses(node)
		return slices.IndexFunc(names(x), func(a string) bool { return !own[a] }) < 0, nil
	}
	all, err := c.nodes.List(labels.Everything())
	if err != nil {
		return false, err
	}
	for _, other := range all {
		taken := addresses(other)
		if other.Name != name && slices.ContainsFunc(names(x), func(a string) bool { return taken[a] }) {
			return false, nil
		}
	}
	for _, dns := range x.DNSNames {
		if dns != name {
			return false, nil
		}
	}
	return true, nil
}

func addresses(node *corev1.Node) map[string]bool {
	out := map[string]bool{}
	for _, a := range node.Status.Addresses {
		out[a.Address] = true
	}
	return out
}

func names(x *x509.CertificateRequest) []string {
	out := slices.Clone(x.DNSNames)
	for _, ip := range x.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}
