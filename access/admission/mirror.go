package admission

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/proa-dev/proa/access"
)

// mirror: a node may only create pods it has read from files, bound to itself, owned by
// itself, and without references to what it could not see otherwise.
func (n *nodeRestriction) mirror(a *Attributes, node string) error {
	p, ok := a.Object.(*corev1.Pod)
	if !ok {
		return refuse(a, "unexpected type %T", a.Object)
	}
	if !isMirror(p) {
		return refuse(a, "pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, node)
	}
	if p.Spec.NodeName != node {
		return refuse(a, "node %q can only create pods with spec.nodeName set to itself", node)
	}
	if len(p.OwnerReferences) > 1 {
		return refuse(a, "node %q can only create pods with a single owner reference set to itself", node)
	}
	if len(p.OwnerReferences) == 0 {
		return refuse(a, "node %q can only create pods with an owner reference set to itself", node)
	}
	owner := p.OwnerReferences[0]
	if owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != node {
		return refuse(a, "node %q can only create pods with an owner reference set to itself", node)
	}
	if owner.Controller == nil || !*owner.Controller {
		return refuse(a, "node %q can only create pods with a controller owner reference set to itself", node)
	}
	if owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion {
		return refuse(a, "node %q must not set blockOwnerDeletion on an owner reference", node)
	}
	if obj, ok := n.env.Reader.Get(nodes, "", node); ok && obj.GetUID() != owner.UID {
		return refuse(a, "node %s UID mismatch: expected %s got %s", node, owner.UID, obj.GetUID())
	}
	return mirrorReferences(a, p, node)
}

func mirrorReferences(a *Attributes, p *corev1.Pod, node string) error {
	if p.Spec.ServiceAccountName != "" {
		return refuse(a, "node %q can not create pods that reference a service account", node)
	}
	if len(p.Spec.ResourceClaims) > 0 {
		return refuse(a, "node %q can not create pods that reference resourceclaims", node)
	}
	for _, v := range p.Spec.Volumes {
		switch {
		case v.ConfigMap != nil:
			return refuse(a, "node %q can not create pods that reference configmaps", node)
		case v.PersistentVolumeClaim != nil || v.Ephemeral != nil:
			return refuse(a, "node %q can not create pods that reference persistentvolumeclaims", node)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.Secret != nil || s.ConfigMap != nil || s.ServiceAccountToken != nil || s.ClusterTrustBundle != nil || s.PodCertificate != nil {
					return refuse(a, "node %q can not create pods that reference API objects in projected volumes", node)
				}
			}
		}
	}
	if access.AnySecret(p, func(string) bool { return true }) {
		return refuse(a, "node %q can not create pods that reference secrets", node)
	}
	return mirrorEnv(a, p, node)
}

func mirrorEnv(a *Attributes, p *corev1.Pod, node string) error {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
					return refuse(a, "node %q can not create pods that reference configmaps", node)
				}
			}
			if len(c.EnvFrom) > 0 {
				return refuse(a, "node %q can not create pods that reference secrets or configmaps", node)
			}
		}
	}
	return nil
}
