package admission

import (
	"context"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// ingressClassAnnotation named the class before the spec did.
const ingressClassAnnotation = "kubernetes.io/ingress.class"

// defaultIngressClass gives an ingress that names no class the default one, if there is one.
type defaultIngressClass struct{ env Env }

func (d *defaultIngressClass) Mutate(_ context.Context, a *Attributes) error {
	if a.Kind.GroupResource() != ingresses || a.Subresource != "" || a.Operation != Create {
		return nil
	}
	i, ok := a.Object.(*networkingv1.Ingress)
	if !ok || i.Spec.IngressClassName != nil {
		return nil
	}
	if _, ok := i.Annotations[ingressClassAnnotation]; ok {
		return nil
	}
	class := newest(d.env, ingressClasses, func(c *networkingv1.IngressClass) bool {
		return c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true"
	})
	if class != nil {
		name := class.Name
		i.Spec.IngressClassName = &name
	}
	return nil
}

// newest is the object that was made last of those wanted, the first by name of several
// made at once; so that a new default takes the place of an old one. Nil when there is none.
func newest[T interface {
	comparable
	api.Object
}](env Env, resource schema.GroupResource, wanted func(T) bool) T {
	var found T
	for _, o := range env.Reader.List(resource, "") {
		obj, ok := o.(T)
		if !ok || !wanted(obj) {
			continue
		}
		var none T
		if found == none || younger(obj, found) {
			found = obj
		}
	}
	return found
}

func younger(a, b metav1.Object) bool {
	x, y := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	if x.Equal(&y) {
		return a.GetName() < b.GetName()
	}
	return y.Before(&x)
}
