package core

import (
	"context"
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Bindings is the old way to bind a pod: a POST to the collection "bindings", the pod
// named by the binding's metadata.
var Bindings = api.DefineVirtual(api.Virtual{
	Version: "v1", Kind: "Binding", Plural: "bindings", Namespaced: true,
	Action: api.Action{
		Version: "v1", Kind: "Binding",
		New: func() runtime.Object { return &corev1.Binding{} },
		Do: func(ctx context.Context, env *api.Env, call api.Call, object runtime.Object) (runtime.Object, error) {
			call.Name = object.(*corev1.Binding).Name
			return bindPod(ctx, env, call, object)
		},
	},
})

// bindPod serves pods/binding: the scheduler's decision on which node a pod runs.
func bindPod(ctx context.Context, env *api.Env, call api.Call, object runtime.Object) (runtime.Object, error) {
	b := object.(*corev1.Binding)
	if b.Name != "" && b.Name != call.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	if errs := validateBinding(b); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "Binding"}, b.Name, errs)
	}
	_, err := env.Writer.Update(ctx, podResource, call.Namespace, call.Name, call.DryRun, func(o api.Object) error {
		return assign(o.(*corev1.Pod), b)
	})
	var status apierrors.APIStatus
	if err != nil && !errors.As(err, &status) {
		err = apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, call.Name, err)
	}
	if err != nil {
		return nil, err
	}
	return success(), nil
}

func success() *metav1.Status {
	return &metav1.Status{Status: metav1.StatusSuccess, Code: 201}
}

func validateBinding(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("target")
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(path.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	return append(errs, required(b.Target.Name, path.Child("name"), "")...)
}

func assign(p *corev1.Pod, b *corev1.Binding) error {
	switch {
	case b.UID != "" && b.UID != p.UID:
		return apierrors.NewConflict(podResource, p.Name, api.OtherUID("pods", p, b.UID))
	case b.ResourceVersion != "" && b.ResourceVersion != p.ResourceVersion:
		return fmt.Errorf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", b.ResourceVersion, p.ResourceVersion)
	case p.DeletionTimestamp != nil:
		return fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", p.Name)
	case p.Spec.NodeName != "":
		return fmt.Errorf("pod %v is already assigned to node %q", p.Name, p.Spec.NodeName)
	case len(p.Spec.SchedulingGates) != 0:
		return fmt.Errorf("pod %v has non-empty .spec.schedulingGates", p.Name)
	}
	p.Spec.NodeName = b.Target.Name
	p.Annotations = merged(p.Annotations, b.Annotations)
	p.Labels = merged(p.Labels, b.Labels)
	p.Status.NominatedNodeName = ""
	setPodCondition(p, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	return nil
}

func merged(into, from map[string]string) map[string]string {
	if into == nil && len(from) > 0 {
		into = make(map[string]string, len(from))
	}
	maps.Copy(into, from)
	return into
}
