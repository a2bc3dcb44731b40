package admission

import (
	"context"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// inUse keeps volumes and claims until whoever uses them is done: the finalizer is taken
// off by a controller that sees nobody use the object. (Classes of volume attributes get
// none: nothing here would take it off.)
type inUse struct{}

var protections = map[schema.GroupResource]string{
	claims:  "kubernetes.io/pvc-protection",
	volumes: "kubernetes.io/pv-protection",
}

func (inUse) Mutate(_ context.Context, a *Attributes) error {
	finalizer, ok := protections[a.Kind.GroupResource()]
	obj, typed := a.Object.(metav1.Object)
	if !ok || !typed || a.Operation != Create || a.Subresource != "" {
		return nil
	}
	if list := obj.GetFinalizers(); !slices.Contains(list, finalizer) {
		obj.SetFinalizers(append(slices.Clip(list), finalizer))
	}
	return nil
}
