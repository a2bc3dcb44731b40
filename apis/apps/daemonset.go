package apps

import (
	"context"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
)

// DaemonSets is the kind DaemonSet.
var DaemonSets = api.Define(api.Resource[*appsv1.DaemonSet]{
	Group: appsv1.GroupName, Version: "v1", Kind: "DaemonSet", Plural: "daemonsets",
	Short: []string{"ds"}, Categories: []string{"all"}, Namespaced: true,
	UnconditionalUpdate: true, HasStatus: true, HasGeneration: true,
	Default: defaultDaemonSet,
	PrepareCreate: func(_ context.Context, ds *appsv1.DaemonSet) {
		if templateGeneration(ds) < 1 {
			setTemplateGeneration(ds, 1)
		}
	},
	PrepareUpdate: func(_ context.Context, ds, old *appsv1.DaemonSet) {
		n := templateGeneration(old)
		if !equality.Semantic.DeepEqual(ds.Spec.Template, old.Spec.Template) {
			n++
		}
		setTemplateGeneration(ds, n)
	},
	Validate: validateDaemonSet,
	ValidateUpdate: func(obj, old *appsv1.DaemonSet) field.ErrorList {
		return immutableSelector(obj.Spec.Selector, old.Spec.Selector)
	},
	ValidateStatus: func(obj, old *appsv1.DaemonSet) field.ErrorList {
		return validateDaemonSetStatus(&obj.Status, &old.Status)
	},
	Columns: daemonSetColumns(),
})

// templateGeneration counts the changes of the template; it lives in an annotation since
// the field was retired.
func templateGeneration(ds *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(ds.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func setTemplateGeneration(ds *appsv1.DaemonSet, n int64) {
	ds.Annotations = maps.Clone(ds.Annotations)
	if ds.Annotations == nil {
		ds.Annotations = map[string]string{}
	}
	ds.Annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(n, 10)
}

func defaultDaemonSet(ds *appsv1.DaemonSet) {
	core.DefaultPodTemplate(&ds.Spec.Template)
	s := &ds.Spec.UpdateStrategy
	if s.Type == "" {
		s.Type = appsv1.RollingUpdateDaemonSetStrategyType
	}
	if s.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		fill(&s.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		fill(&s.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		fill(&s.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	fill(&ds.Spec.RevisionHistoryLimit, 10)
}

func daemonSetColumns() []api.Column[*appsv1.DaemonSet] {
	status := appsv1.DaemonSetStatus{}.SwaggerDoc()
	number := func(name, field string, get func(*appsv1.DaemonSetStatus) int32) api.Column[*appsv1.DaemonSet] {
		return api.Column[*appsv1.DaemonSet]{Name: name, Type: "integer", Description: status[field], Value: func(ds *appsv1.DaemonSet) any { return int64(get(&ds.Status)) }}
	}
	return append([]api.Column[*appsv1.DaemonSet]{
		number("Desired", "desiredNumberScheduled", func(s *appsv1.DaemonSetStatus) int32 { return s.DesiredNumberScheduled }),
		number("Current", "currentNumberScheduled", func(s *appsv1.DaemonSetStatus) int32 { return s.CurrentNumberScheduled }),
		number("Ready", "numberReady", func(s *appsv1.DaemonSetStatus) int32 { return s.NumberReady }),
		number("Up-to-date", "updatedNumberScheduled", func(s *appsv1.DaemonSetStatus) int32 { return s.UpdatedNumberScheduled }),
		number("Available", "numberAvailable", func(s *appsv1.DaemonSetStatus) int32 { return s.NumberAvailable }),
		{Name: "Node Selector", Description: corev1.PodSpec{}.SwaggerDoc()["nodeSelector"], Value: func(ds *appsv1.DaemonSet) any {
			return labelsText(ds.Spec.Template.Spec.NodeSelector)
		}},
		api.Age[*appsv1.DaemonSet](),
	}, templateColumns(appsv1.DaemonSetSpec{}.SwaggerDoc(), func(ds *appsv1.DaemonSet) (*corev1.PodTemplateSpec, *metav1.LabelSelector) {
		return &ds.Spec.Template, ds.Spec.Selector
	})...)
}

func validateDaemonSet(ds *appsv1.DaemonSet) field.ErrorList {
	spec, path := &ds.Spec, field.NewPath("spec")
	errs := validateSelected(spec.Selector, &spec.Template, "daemonset", "DaemonSet", path)
	errs = append(errs, validateDaemonStrategy(&spec.UpdateStrategy, path.Child("updateStrategy"))...)
	errs = append(errs, notNegative(path, amount{"minReadySeconds", int64(spec.MinReadySeconds)})...)
	if n := spec.RevisionHistoryLimit; n != nil {
		errs = append(errs, notNegative(path, amount{"revisionHistoryLimit", int64(*n)})...)
	}
	return errs
}

func validateDaemonStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(path.Child("rollingUpdate"), "")}
		}
		return validateDaemonRolling(deref(s.RollingUpdate.MaxUnavailable), deref(s.RollingUpdate.MaxSurge), path.Child("rollingUpdate"))
	}
	return field.ErrorList{field.NotSupported(path, *s, []appsv1.DaemonSetUpdateStrategyType{
		appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType,
	})}
}

func validateDaemonRolling(below, above intstr.IntOrString, path *field.Path) field.ErrorList {
	errs := validatePart(below, path.Child("maxUnavailable"))
	errs = append(errs, validatePart(above, path.Child("maxSurge"))...)
	switch {
	case part(below) != 0 && part(above) != 0:
		errs = append(errs, field.Invalid(path.Child("maxSurge"), above, "may not be set when maxUnavailable is non-zero"))
	case part(below) == 0 && part(above) == 0:
		errs = append(errs, field.Required(path.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
	}
	return errs
}

// validatePart checks an amount that is a part of a whole.
func validatePart(v intstr.IntOrString, path *field.Path) field.ErrorList {
	errs := validateAmount(v, path)
	if v.Type == intstr.String && part(v) > 100 {
		errs = append(errs, field.Invalid(path, v, "must not be greater than 100%"))
	}
	return errs
}

func validateDaemonSetStatus(s, old *appsv1.DaemonSetStatus) field.ErrorList {
	path := field.NewPath("status")
	errs := notNegative(path, amount{"currentNumberScheduled", int64(s.CurrentNumberScheduled)}, amount{"numberMisscheduled", int64(s.NumberMisscheduled)},
		amount{"desiredNumberScheduled", int64(s.DesiredNumberScheduled)}, amount{"numberReady", int64(s.NumberReady)},
		amount{"observedGeneration", s.ObservedGeneration}, amount{"updatedNumberScheduled", int64(s.UpdatedNumberScheduled)},
		amount{"numberAvailable", int64(s.NumberAvailable)}, amount{"numberUnavailable", int64(s.NumberUnavailable)},
		amount{"collisionCount", int64(deref(s.CollisionCount))})
	if old.CollisionCount != nil && deref(s.CollisionCount) < *old.CollisionCount {
		errs = append(errs, field.Invalid(path.Child("collisionCount"), deref(s.CollisionCount), "cannot be decremented"))
	}
	return errs
}
