package apps

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
)

// StatefulSets is the kind StatefulSet.
var StatefulSets = api.Define(api.Resource[*appsv1.StatefulSet]{
	Group: appsv1.GroupName, Version: "v1", Kind: "StatefulSet", Plural: "statefulsets",
	Short: []string{"sts"}, Categories: []string{"all"}, Namespaced: true,
	UnconditionalUpdate: true, HasStatus: true, HasGeneration: true,
	Default:        defaultStatefulSet,
	Validate:       validateStatefulSet,
	ValidateUpdate: validateStatefulSetUpdate,
	ValidateStatus: func(obj, old *appsv1.StatefulSet) field.ErrorList {
		return validateStatefulSetStatus(&obj.Status, &old.Status)
	},
	ValidateName: func(name string, prefix bool) []string {
		if prefix {
			return apivalidation.NameIsDNSLabel(name, true)
		}
		return validation.IsDNS1123Label(name)
	},
	Scale: &api.Scale[*appsv1.StatefulSet]{
		Get: func(s *appsv1.StatefulSet) *autoscalingv1.Scale {
			return &autoscalingv1.Scale{
				Spec:   autoscalingv1.ScaleSpec{Replicas: deref(s.Spec.Replicas)},
				Status: autoscalingv1.ScaleStatus{Replicas: s.Status.Replicas, Selector: selectorText(s.Spec.Selector)},
			}
		},
		Set:      func(s *appsv1.StatefulSet, n int32) { s.Spec.Replicas = &n },
		Replicas: "spec.replicas",
	},
	Columns: []api.Column[*appsv1.StatefulSet]{
		{Name: "Ready", Description: "Number of the pod with ready state", Value: func(s *appsv1.StatefulSet) any {
			return fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, deref(s.Spec.Replicas))
		}},
		api.Age[*appsv1.StatefulSet](),
		{Name: "Containers", Priority: 1, Description: "Names of each container in the template.", Value: func(s *appsv1.StatefulSet) any {
			return core.ContainerNames(s.Spec.Template.Spec.Containers)
		}},
		{Name: "Images", Priority: 1, Description: "Images referenced by each container in the template.", Value: func(s *appsv1.StatefulSet) any {
			return core.ContainerImages(s.Spec.Template.Spec.Containers)
		}},
	},
})

func defaultStatefulSet(s *appsv1.StatefulSet) {
	spec := &s.Spec
	core.DefaultPodTemplate(&spec.Template)
	if spec.PodManagementPolicy == "" {
		spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	}
	if spec.UpdateStrategy.Type == "" {
		spec.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
	}
	if spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		fill(&spec.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
		fill(&spec.UpdateStrategy.RollingUpdate.Partition, 0)
		fill(&spec.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
	}
	fill(&spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	for _, policy := range []*appsv1.PersistentVolumeClaimRetentionPolicyType{&spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted, &spec.PersistentVolumeClaimRetentionPolicy.WhenScaled} {
		if *policy == "" {
			*policy = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
		}
	}
	fill(&spec.Replicas, 1)
	fill(&spec.RevisionHistoryLimit, 10)
	for i := range spec.VolumeClaimTemplates {
		c := &spec.VolumeClaimTemplates[i]
		c.APIVersion, c.Kind = "v1", "PersistentVolumeClaim"
		fill(&c.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
		if c.Status.Phase == "" {
			c.Status.Phase = corev1.ClaimPending
		}
	}
}

func validateStatefulSet(s *appsv1.StatefulSet) field.ErrorList {
	spec, path := &s.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if p := spec.PodManagementPolicy; p != appsv1.OrderedReadyPodManagement && p != appsv1.ParallelPodManagement {
		errs = append(errs, field.Invalid(path.Child("podManagementPolicy"), p, fmt.Sprintf("must be '%s' or '%s'", appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement)))
	}
	errs = append(errs, validateStatefulStrategy(&spec.UpdateStrategy, path.Child("updateStrategy"))...)
	errs = append(errs, validateRetention(spec.PersistentVolumeClaimRetentionPolicy, path.Child("persistentVolumeClaimRetentionPolicy"))...)
	errs = append(errs, notNegative(path, amount{"replicas", int64(deref(spec.Replicas))}, amount{"minReadySeconds", int64(spec.MinReadySeconds)})...)
	if spec.Ordinals != nil {
		errs = append(errs, notNegative(path.Child("ordinals"), amount{"start", int64(spec.Ordinals.Start)})...)
	}
	if n := spec.RevisionHistoryLimit; n != nil {
		errs = append(errs, notNegative(path, amount{"revisionHistoryLimit", int64(*n)})...)
	}
	return append(errs, validateSelected(spec.Selector, &spec.Template, "statefulset", "StatefulSet", path)...)
}

func validateStatefulStrategy(s *appsv1.StatefulSetUpdateStrategy, path *field.Path) field.ErrorList {
	at := path.Child("rollingUpdate")
	switch s.Type {
	case "":
		return field.ErrorList{field.Required(path, "")}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(at, s.RollingUpdate, fmt.Sprintf("only allowed for updateStrategy '%s'", appsv1.RollingUpdateStatefulSetStrategyType))}
		}
		return nil
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if s.RollingUpdate == nil {
			return nil
		}
		errs := notNegative(at, amount{"partition", int64(deref(s.RollingUpdate.Partition))})
		if m := s.RollingUpdate.MaxUnavailable; m != nil {
			errs = append(errs, validatePart(*m, at.Child("maxUnavailable"))...)
			if *m == intstr.FromInt32(0) || m.Type == intstr.String && part(*m) == 0 {
				errs = append(errs, field.Invalid(at.Child("maxUnavailable"), *m, "cannot be 0"))
			}
		}
		return errs
	}
	return field.ErrorList{field.Invalid(path, *s, fmt.Sprintf("must be '%s' or '%s'", appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))}
}

func validateRetention(p *appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	var errs field.ErrorList
	retain, remove := appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	check := func(v appsv1.PersistentVolumeClaimRetentionPolicyType, name string) {
		if v != retain && v != remove {
			errs = append(errs, field.NotSupported(path.Child(name), v, []appsv1.PersistentVolumeClaimRetentionPolicyType{retain, remove}))
		}
	}
	check(p.WhenDeleted, "whenDeleted")
	check(p.WhenScaled, "whenScaled")
	return errs
}

func validateStatefulSetUpdate(s, old *appsv1.StatefulSet) field.ErrorList {
	var errs field.ErrorList
	was, path := old.Spec.DeepCopy(), field.NewPath("spec")
	for _, f := range []struct {
		name     string
		now, old any
	}{
		{"serviceName", s.Spec.ServiceName, was.ServiceName}, {"podManagementPolicy", s.Spec.PodManagementPolicy, was.PodManagementPolicy},
		{"selector", s.Spec.Selector, was.Selector}, {"volumeClaimTemplates", s.Spec.VolumeClaimTemplates, was.VolumeClaimTemplates},
	} {
		errs = append(errs, apivalidation.ValidateImmutableField(f.now, f.old, path.Child(f.name))...)
	}
	was.ServiceName, was.PodManagementPolicy, was.Selector, was.VolumeClaimTemplates = s.Spec.ServiceName, s.Spec.PodManagementPolicy, s.Spec.Selector, s.Spec.VolumeClaimTemplates
	was.Replicas, was.Ordinals, was.Template, was.UpdateStrategy = s.Spec.Replicas, s.Spec.Ordinals, s.Spec.Template, s.Spec.UpdateStrategy
	was.MinReadySeconds, was.RevisionHistoryLimit = s.Spec.MinReadySeconds, s.Spec.RevisionHistoryLimit
	was.PersistentVolumeClaimRetentionPolicy = s.Spec.PersistentVolumeClaimRetentionPolicy
	if equality.Semantic.DeepEqual(&s.Spec, was) {
		return errs
	}
	return append(errs, field.Forbidden(path, "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"))
}

func validateStatefulSetStatus(s, old *appsv1.StatefulSetStatus) field.ErrorList {
	path := field.NewPath("status")
	ready, current, updated, available := amount{"readyReplicas", int64(s.ReadyReplicas)}, amount{"currentReplicas", int64(s.CurrentReplicas)}, amount{"updatedReplicas", int64(s.UpdatedReplicas)}, amount{"availableReplicas", int64(s.AvailableReplicas)}
	errs := notNegative(path, amount{"replicas", int64(s.Replicas)}, ready, current, updated, available,
		amount{"observedGeneration", s.ObservedGeneration}, amount{"collisionCount", int64(deref(s.CollisionCount))})
	errs = append(errs, notMore(int64(s.Replicas), "status.replicas", path, ready, current, updated, available)...)
	errs = append(errs, notMore(int64(s.ReadyReplicas), "status.readyReplicas", path, available)...)
	if old.CollisionCount != nil && deref(s.CollisionCount) < *old.CollisionCount {
		errs = append(errs, field.Invalid(path.Child("collisionCount"), deref(s.CollisionCount), "cannot be decremented"))
	}
	return errs
}
