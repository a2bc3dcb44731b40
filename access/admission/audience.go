package admission

import (
	"context"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/access"
)

var csiDrivers = schema.GroupResource{Group: "storage.k8s.io", Resource: "csidrivers"}

// audience: one that the pod itself asks for in its volumes, or that a CSI driver of its
// volumes asks for, or that the node was allowed by name.
func (n *nodeRestriction) audience(ctx context.Context, a *Attributes, req *authenticationv1.TokenRequest, p *corev1.Pod) error {
	want := ""
	switch len(req.Spec.Audiences) {
	case 0:
	case 1:
		want = req.Spec.Audiences[0]
	default:
		return refuse(a, "node may only request 0 or 1 audiences")
	}
	if n.podAsksFor(p, want) {
		return nil
	}
	d, _ := n.env.Authorizer.Authorize(ctx, &access.Attributes{
		User: a.User, Resource: true, Verb: "request-serviceaccounts-token-audience", Plural: want, Namespace: a.Namespace, Name: a.Name,
	})
	if d == access.Allow {
		return nil
	}
	return refuse(a, "%s is not authorized to request tokens for audience %q", a.User.Name, want)
}

func (n *nodeRestriction) podAsksFor(p *corev1.Pod, audience string) bool {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		driver := ""
		switch {
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == audience {
					return true
				}
			}
		case v.CSI != nil:
			driver = v.CSI.Driver
		case v.PersistentVolumeClaim != nil:
			driver = n.claimDriver(p.Namespace, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			driver = n.claimDriver(p.Namespace, p.Name+"-"+v.Name)
		}
		if driver != "" && n.driverAsksFor(driver, audience) {
			return true
		}
	}
	return false
}

// claimDriver is the CSI driver of the volume that a claim is bound to; "" when there is none.
func (n *nodeRestriction) claimDriver(namespace, name string) string {
	obj, _ := n.env.Reader.Get(claims, namespace, name)
	claim, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok || claim.Spec.VolumeName == "" {
		return ""
	}
	obj, _ = n.env.Reader.Get(volumes, "", claim.Spec.VolumeName)
	if pv, ok := obj.(*corev1.PersistentVolume); ok && pv.Spec.CSI != nil {
		return pv.Spec.CSI.Driver
	}
	return ""
}

func (n *nodeRestriction) driverAsksFor(name, audience string) bool {
	obj, _ := n.env.Reader.Get(csiDrivers, "", name)
	driver, ok := obj.(*storagev1.CSIDriver)
	return ok && slices.ContainsFunc(driver.Spec.TokenRequests, func(r storagev1.TokenRequest) bool { return r.Audience == audience })
}
