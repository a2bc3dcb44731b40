package admission

import (
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Resources that steps look up.
var (
	namespaces      = schema.GroupResource{Resource: "namespaces"}
	pods            = schema.GroupResource{Resource: "pods"}
	nodes           = schema.GroupResource{Resource: "nodes"}
	serviceAccounts = schema.GroupResource{Resource: "serviceaccounts"}
	claims          = schema.GroupResource{Resource: "persistentvolumeclaims"}
	volumes         = schema.GroupResource{Resource: "persistentvolumes"}
	limitRanges     = schema.GroupResource{Resource: "limitranges"}
	priorities      = schema.GroupResource{Group: "scheduling.k8s.io", Resource: "priorityclasses"}
	runtimes        = schema.GroupResource{Group: "node.k8s.io", Resource: "runtimeclasses"}
	storageClasses  = schema.GroupResource{Group: "storage.k8s.io", Resource: "storageclasses"}
	ingresses       = schema.GroupResource{Group: "networking.k8s.io", Resource: "ingresses"}
	ingressClasses  = schema.GroupResource{Group: "networking.k8s.io", Resource: "ingressclasses"}
)

// podOf is the pod being written; nil for anything else and for subresources.
func podOf(a *Attributes, op ...Operation) *corev1.Pod {
	if a.Kind.GroupResource() != pods || a.Subresource != "" {
		return nil
	}
	for _, o := range op {
		if a.Operation == o {
			p, _ := a.Object.(*corev1.Pod)
			return p
		}
	}
	return nil
}

// isMirror: the node made the pod from a file.
func isMirror(p *corev1.Pod) bool {
	_, ok := p.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// forbidden is how a step refuses: 403, with the object named.
func forbidden(a *Attributes, err error) error {
	name := a.Name
	if name == "" {
		name = objectName(a)
	}
	return apierrors.NewForbidden(a.Kind.GroupResource(), name, err)
}

// Forbidden is how a step refuses: 403, with the object named.
func Forbidden(a *Attributes, err error) error { return forbidden(a, err) }

func objectName(a *Attributes) string {
	o, ok := a.Object.(interface {
		GetName() string
		GetGenerateName() string
	})
	switch {
	case !ok:
		return "Unknown"
	case o.GetName() != "":
		return o.GetName()
	case o.GetGenerateName() != "":
		return o.GetGenerateName()
	}
	return "Unknown"
}
