package access

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

var (
	volumes           = schema.GroupResource{Resource: "persistentvolumes"}
	volumeAttachments = schema.GroupResource{Group: "storage.k8s.io", Resource: "volumeattachments"}
	resourceSlices    = schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceslices"}
	podCertificates   = schema.GroupResource{Group: "certificates.k8s.io", Resource: "podcertificaterequests"}
)

func (n *Node) ownPod(node, namespace, name string) bool {
	obj, ok := n.reader.Get(pods, namespace, name)
	p, isPod := obj.(*corev1.Pod)
	return ok && isPod && p.Spec.NodeName == node
}

// refersTo says whether an object is used by a pod of the node.
func (n *Node) refersTo(node, plural, namespace, name string) bool {
	switch plural {
	case "persistentvolumes":
		obj, ok := n.reader.Get(volumes, "", name)
		pv, isVolume := obj.(*corev1.PersistentVolume)
		return ok && isVolume && n.usesVolume(node, pv)
	case "volumeattachments":
		obj, ok := n.reader.Get(volumeAttachments, "", name)
		va, isAttachment := obj.(*storagev1.VolumeAttachment)
		return ok && isAttachment && va.Spec.NodeName == node
	}
	if n.anyPod(node, namespace, func(p *corev1.Pod) bool { return podUses(p, plural, name) }) {
		return true
	}
	return plural == "secrets" && n.volumeSecret(node, namespace, name)
}

// anyPod visits the pods of a namespace that run on the node. A mirror pod counts for
// nothing: its node made it up.
func (n *Node) anyPod(node, namespace string, found func(*corev1.Pod) bool) bool {
	if namespace == "" {
		return false
	}
	for _, o := range n.reader.List(pods, namespace) {
		p, ok := o.(*corev1.Pod)
		if !ok || p.Spec.NodeName != node {
			continue
		}
		if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; !mirror && found(p) {
			return true
		}
	}
	return false
}

func (n *Node) usesVolume(node string, pv *corev1.PersistentVolume) bool {
	claim := pv.Spec.ClaimRef
	return claim != nil && n.anyPod(node, claim.Namespace, func(p *corev1.Pod) bool {
		return podUses(p, "persistentvolumeclaims", claim.Name)
	})
}

// volumeSecret finds secrets that a volume's driver needs on the node.
func (n *Node) volumeSecret(node, namespace, name string) bool {
	for _, o := range n.reader.List(volumes, "") {
		pv, ok := o.(*corev1.PersistentVolume)
		if !ok || pv.Spec.ClaimRef == nil {
			continue
		}
		for _, s := range volumeSecrets(pv) {
			if s.Name == name && s.Namespace == namespace && n.usesVolume(node, pv) {
				return true
			}
		}
	}
	return false
}

func volumeSecrets(pv *corev1.PersistentVolume) []corev1.SecretReference {
	var out []corev1.SecretReference
	add := func(refs ...*corev1.SecretReference) {
		for _, r := range refs {
			if r == nil {
				continue
			}
			s := *r
			if s.Namespace == "" {
				s.Namespace = pv.Spec.ClaimRef.Namespace
			}
			out = append(out, s)
		}
	}
	switch src := pv.Spec.PersistentVolumeSource; {
	case src.CSI != nil:
		add(src.CSI.NodePublishSecretRef, src.CSI.NodeStageSecretRef, src.CSI.NodeExpandSecretRef) // the controller's are not for nodes
	case src.ISCSI != nil:
		add(src.ISCSI.SecretRef)
	case src.CephFS != nil:
		add(src.CephFS.SecretRef)
	case src.RBD != nil:
		add(src.RBD.SecretRef)
	case src.FlexVolume != nil:
		add(src.FlexVolume.SecretRef)
	case src.AzureFile != nil:
		ref := corev1.SecretReference{Name: src.AzureFile.SecretName}
		if src.AzureFile.SecretNamespace != nil {
			ref.Namespace = *src.AzureFile.SecretNamespace
		}
		add(&ref)
	}
	return out
}

func (n *Node) ownPodCertificate(node, namespace, name string) bool {
	obj, ok := n.reader.Get(podCertificates, namespace, name)
	r, typed := obj.(*certificatesv1.PodCertificateRequest)
	return ok && typed && string(r.Spec.NodeName) == node
}

func sliceNode(o api.Object) string {
	if s, ok := o.(*resourcev1.ResourceSlice); ok && s.Spec.NodeName != nil {
		return *s.Spec.NodeName
	}
	return ""
}
