package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
)

// ReplicaSets is the kind ReplicaSet.
var ReplicaSets = api.Define(api.Resource[*appsv1.ReplicaSet]{
	Group: appsv1.GroupName, Version: "v1", Kind: "ReplicaSet", Plural: "replicasets",
	Short: []string{"rs"}, Categories: []string{"all"}, Namespaced: true,
	UnconditionalUpdate: true, HasStatus: true, HasGeneration: true,
	Default: func(rs *appsv1.ReplicaSet) {
		core.DefaultPodTemplate(&rs.Spec.Template)
		fill(&rs.Spec.Replicas, 1)
	},
	Validate: validateReplicaSet,
	ValidateUpdate: func(obj, old *appsv1.ReplicaSet) field.ErrorList {
		return immutableSelector(obj.Spec.Selector, old.Spec.Selector)
	},
	ValidateStatus: func(obj, _ *appsv1.ReplicaSet) field.ErrorList { return validateReplicaSetStatus(&obj.Status) },
	Scale: &api.Scale[*appsv1.ReplicaSet]{
		Get: func(rs *appsv1.ReplicaSet) *autoscalingv1.Scale {
			return &autoscalingv1.Scale{
				Spec:   autoscalingv1.ScaleSpec{Replicas: deref(rs.Spec.Replicas)},
				Status: autoscalingv1.ScaleStatus{Replicas: rs.Status.Replicas, Selector: selectorText(rs.Spec.Selector)},
			}
		},
		Set:      func(rs *appsv1.ReplicaSet, n int32) { rs.Spec.Replicas = &n },
		Replicas: "spec.replicas",
	},
	Columns: replicaSetColumns(),
})

func replicaSetColumns() []api.Column[*appsv1.ReplicaSet] {
	spec, status := appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc()
	return append([]api.Column[*appsv1.ReplicaSet]{
		{Name: "Desired", Type: "integer", Description: spec["replicas"], Value: func(rs *appsv1.ReplicaSet) any { return int64(deref(rs.Spec.Replicas)) }},
		{Name: "Current", Type: "integer", Description: status["replicas"], Value: func(rs *appsv1.ReplicaSet) any { return int64(rs.Status.Replicas) }},
		{Name: "Ready", Type: "integer", Description: status["readyReplicas"], Value: func(rs *appsv1.ReplicaSet) any { return int64(rs.Status.ReadyReplicas) }},
		api.Age[*appsv1.ReplicaSet](),
	}, templateColumns(appsv1.ReplicaSetSpec{}.SwaggerDoc(), func(rs *appsv1.ReplicaSet) (*corev1.PodTemplateSpec, *metav1.LabelSelector) {
		return &rs.Spec.Template, rs.Spec.Selector
	})...)
}

func validateReplicaSet(rs *appsv1.ReplicaSet) field.ErrorList {
	path := field.NewPath("spec")
	errs := notNegative(path, amount{"replicas", int64(deref(rs.Spec.Replicas))}, amount{"minReadySeconds", int64(rs.Spec.MinReadySeconds)})
	return append(errs, validateSelected(rs.Spec.Selector, &rs.Spec.Template, "deployment", "ReplicaSet", path)...)
}

func validateReplicaSetStatus(s *appsv1.ReplicaSetStatus) field.ErrorList {
	path := field.NewPath("status")
	labeled, ready, available := amount{"fullyLabeledReplicas", int64(s.FullyLabeledReplicas)}, amount{"readyReplicas", int64(s.ReadyReplicas)}, amount{"availableReplicas", int64(s.AvailableReplicas)}
	errs := notNegative(path, amount{"replicas", int64(s.Replicas)}, labeled, ready, available,
		amount{"terminatingReplicas", int64(deref(s.TerminatingReplicas))}, amount{"observedGeneration", s.ObservedGeneration})
	errs = append(errs, notMore(int64(s.Replicas), "status.replicas", path, labeled, ready, available)...)
	return append(errs, notMore(int64(s.ReadyReplicas), "readyReplicas", path, available)...)
}
