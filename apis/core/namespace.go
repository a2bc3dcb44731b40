package core

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Namespaces is the kind Namespace. A deleted one stays, with phase Terminating, while
// spec.finalizers holds any: its controller removes them once the content is gone.
var Namespaces = api.Define(api.Resource[*corev1.Namespace]{
	Version: "v1", Kind: "Namespace", Plural: "namespaces", Short: []string{"ns"},
	UnconditionalUpdate: true,
	NoDeleteCollection:  true,
	HasStatus:           true,
	ValidateName:        apivalidation.ValidateNamespaceName,
	Default:             defaultNamespace,
	PrepareCreate:       prepareNamespace,
	PrepareUpdate: func(_ context.Context, ns, old *corev1.Namespace) {
		ns.Spec.Finalizers = slices.Clone(old.Spec.Finalizers)
	},
	Validate:       validateNamespace,
	ValidateStatus: validateNamespaceStatus,
	BeforeDelete: func(ns *corev1.Namespace, _ *metav1.DeleteOptions) bool {
		if len(ns.Spec.Finalizers) == 0 {
			return false
		}
		ns.Status.Phase = corev1.NamespaceTerminating
		return true
	},
	Updates: []api.Update[*corev1.Namespace]{{
		Name: "finalize", NoGet: true, NoPatch: true,
		Apply: func(_ context.Context, ns, old *corev1.Namespace) {
			finalizers := ns.Spec.Finalizers
			old.DeepCopyInto(ns)
			ns.Spec.Finalizers = finalizers
		},
		Validate: func(ns, _ *corev1.Namespace) field.ErrorList { return finalizerNames(ns, true) },
	}},
	Fields: map[string]func(*corev1.Namespace) string{
		"status.phase": func(ns *corev1.Namespace) string { return string(ns.Status.Phase) },
	},
	Columns: []api.Column[*corev1.Namespace]{
		text("Status", "The status of the namespace", func(ns *corev1.Namespace) string { return string(ns.Status.Phase) }),
		Age[*corev1.Namespace](),
	},
})

func defaultNamespace(ns *corev1.Namespace) {
	if ns.Name == "" {
		return
	}
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

func prepareNamespace(_ context.Context, ns *corev1.Namespace) {
	ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
	defaultNamespace(ns)
}

func validateNamespace(ns *corev1.Namespace) field.ErrorList { return finalizerNames(ns, false) }

// finalizerNames says in errors of a finalization which of the names is meant, as Kubernetes does.
func finalizerNames(ns *corev1.Namespace, counted bool) field.ErrorList {
	var errs field.ErrorList
	list := field.NewPath("spec", "finalizers")
	for i, name := range ns.Spec.Finalizers {
		path := list
		if counted {
			path = list.Index(i)
		}
		errs = append(errs, invalid(path, string(name), validation.IsQualifiedName(string(name)))...)
		if name != corev1.FinalizerKubernetes && !slices.Contains([]byte(name), '/') {
			errs = append(errs, field.Invalid(path, string(name), "name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}

func validateNamespaceStatus(ns, _ *corev1.Namespace) field.ErrorList {
	path := field.NewPath("status", "Phase")
	if ns.DeletionTimestamp.IsZero() && ns.Status.Phase != corev1.NamespaceActive {
		return field.ErrorList{field.Invalid(path, ns.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")}
	}
	if !ns.DeletionTimestamp.IsZero() && ns.Status.Phase != corev1.NamespaceTerminating {
		return field.ErrorList{field.Invalid(path, ns.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
	}
	return nil
}
