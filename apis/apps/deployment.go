package apps

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
)

// Deployments is the kind Deployment.
var Deployments = api.Define(api.Resource[*appsv1.Deployment]{
	Group: appsv1.GroupName, Version: "v1", Kind: "Deployment", Plural: "deployments",
	Short: []string{"deploy"}, Categories: []string{"all"}, Namespaced: true,
	UnconditionalUpdate: true, HasStatus: true, HasGeneration: true,
	Unowned:  map[string][]string{"status": {"spec", "metadata.labels"}},
	Default:  defaultDeployment,
	Validate: validateDeployment,
	PrepareUpdate: func(_ context.Context, d, old *appsv1.Deployment) {
		if !equality.Semantic.DeepEqual(d.Annotations, old.Annotations) { // they are copied to replica sets
			d.Generation = old.Generation + 1
		}
	},
	ValidateUpdate: func(obj, old *appsv1.Deployment) field.ErrorList {
		return immutableSelector(obj.Spec.Selector, old.Spec.Selector)
	},
	PrepareStatus:  func(obj, old *appsv1.Deployment) { obj.Labels = old.Labels },
	ValidateStatus: validateDeploymentStatus,
	Scale: &api.Scale[*appsv1.Deployment]{
		Get: func(d *appsv1.Deployment) *autoscalingv1.Scale {
			return &autoscalingv1.Scale{
				Spec:   autoscalingv1.ScaleSpec{Replicas: deref(d.Spec.Replicas)},
				Status: autoscalingv1.ScaleStatus{Replicas: d.Status.Replicas, Selector: selectorText(d.Spec.Selector)},
			}
		},
		Set:      func(d *appsv1.Deployment, n int32) { d.Spec.Replicas = &n },
		Replicas: "spec.replicas",
	},
	Columns: deploymentColumns(),
})

func deploymentColumns() []api.Column[*appsv1.Deployment] {
	doc := appsv1.DeploymentStatus{}.SwaggerDoc()
	return append([]api.Column[*appsv1.Deployment]{
		{Name: "Ready", Description: "Number of the pod with ready state", Value: func(d *appsv1.Deployment) any {
			return fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, deref(d.Spec.Replicas))
		}},
		{Name: "Up-to-date", Description: doc["updatedReplicas"], Value: func(d *appsv1.Deployment) any { return int64(d.Status.UpdatedReplicas) }},
		{Name: "Available", Description: doc["availableReplicas"], Value: func(d *appsv1.Deployment) any { return int64(d.Status.AvailableReplicas) }},
		api.Age[*appsv1.Deployment](),
	}, templateColumns(appsv1.DeploymentSpec{}.SwaggerDoc(), func(d *appsv1.Deployment) (*corev1.PodTemplateSpec, *metav1.LabelSelector) {
		return &d.Spec.Template, d.Spec.Selector
	})...)
}

func defaultDeployment(d *appsv1.Deployment) {
	core.DefaultPodTemplate(&d.Spec.Template)
	fill(&d.Spec.Replicas, 1)
	s := &d.Spec.Strategy
	if s.Type == "" {
		s.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if s.Type == appsv1.RollingUpdateDeploymentStrategyType {
		fill(&s.RollingUpdate, appsv1.RollingUpdateDeployment{})
		fill(&s.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		fill(&s.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	fill(&d.Spec.RevisionHistoryLimit, 10)
	fill(&d.Spec.ProgressDeadlineSeconds, 600)
}

func validateDeployment(d *appsv1.Deployment) field.ErrorList {
	spec, path := &d.Spec, field.NewPath("spec")
	errs := notNegative(path, amount{"replicas", int64(deref(spec.Replicas))})
	errs = append(errs, validateSelected(spec.Selector, &spec.Template, "deployment", "ReplicaSet", path)...)
	errs = append(errs, validateStrategy(&spec.Strategy, path.Child("strategy"))...)
	errs = append(errs, notNegative(path, amount{"minReadySeconds", int64(spec.MinReadySeconds)})...)
	if n := spec.RevisionHistoryLimit; n != nil {
		errs = append(errs, notNegative(path, amount{"revisionHistoryLimit", int64(*n)})...)
	}
	if n := spec.ProgressDeadlineSeconds; n != nil {
		errs = append(errs, notNegative(path, amount{"progressDeadlineSeconds", int64(*n)})...)
		if *n <= spec.MinReadySeconds {
			errs = append(errs, field.Invalid(path.Child("progressDeadlineSeconds"), *n, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

func validateStrategy(s *appsv1.DeploymentStrategy, path *field.Path) field.ErrorList {
	at := path.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(at, "may not be specified when strategy `type` is 'Recreate'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(at, "this should be defaulted and never be nil")}
		}
		return validateRolling(s.RollingUpdate.MaxUnavailable, s.RollingUpdate.MaxSurge, at)
	}
	return field.ErrorList{field.NotSupported(path, *s, []appsv1.DeploymentStrategyType{
		appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType,
	})}
}

// validateRolling checks how far a roll-out may go below and above the number wanted.
func validateRolling(unavailable, surge *intstr.IntOrString, path *field.Path) field.ErrorList {
	below, above := deref(unavailable), deref(surge)
	errs := validateAmount(below, path.Child("maxUnavailable"))
	errs = append(errs, validateAmount(above, path.Child("maxSurge"))...)
	if part(below) == 0 && part(above) == 0 {
		errs = append(errs, field.Invalid(path.Child("maxUnavailable"), below, "may not be 0 when `maxSurge` is 0"))
	}
	if below.Type == intstr.String && part(below) > 100 {
		errs = append(errs, field.Invalid(path.Child("maxUnavailable"), below, "must not be greater than 100%"))
	}
	return errs
}

// part is the number of an amount or of its percentage; 0 when it is neither.
func part(v intstr.IntOrString) int {
	if v.Type == intstr.Int {
		return int(v.IntVal)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
	if err != nil {
		return 0 // validateAmount says so
	}
	return n
}

// validateAmount checks a number of pods or a percentage of them.
func validateAmount(v intstr.IntOrString, path *field.Path) field.ErrorList {
	if v.Type == intstr.Int {
		return apivalidation.ValidateNonnegativeField(int64(v.IntVal), path)
	}
	var errs field.ErrorList
	if v.Type != intstr.String {
		return append(errs, field.Invalid(path, v, "must be an integer or percentage (e.g '5%%')"))
	}
	for _, message := range validation.IsValidPercent(v.StrVal) {
		errs = append(errs, field.Invalid(path, v, message))
	}
	return errs
}

func validateDeploymentStatus(d, old *appsv1.Deployment) field.ErrorList {
	s, path := &d.Status, field.NewPath("status")
	updated, ready, available := amount{"updatedReplicas", int64(s.UpdatedReplicas)}, amount{"readyReplicas", int64(s.ReadyReplicas)}, amount{"availableReplicas", int64(s.AvailableReplicas)}
	errs := notNegative(path, amount{"observedGeneration", s.ObservedGeneration}, amount{"replicas", int64(s.Replicas)},
		updated, ready, available, amount{"unavailableReplicas", int64(s.UnavailableReplicas)},
		amount{"terminatingReplicas", int64(deref(s.TerminatingReplicas))}, amount{"collisionCount", int64(deref(s.CollisionCount))})
	errs = append(errs, notMore(int64(s.Replicas), "status.replicas", path, updated, ready, available)...)
	errs = append(errs, notMore(int64(s.ReadyReplicas), "readyReplicas", path, available)...)
	if was := old.Status.CollisionCount; was != nil && deref(s.CollisionCount) < *was {
		errs = append(errs, field.Invalid(path.Child("collisionCount"), deref(s.CollisionCount), "cannot be decremented"))
	}
	return errs
}
