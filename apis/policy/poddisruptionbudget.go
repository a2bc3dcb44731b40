// Package policy describes the kinds of the policy group to the server. (Eviction, which
// a client posts to a pod, is with the pods.)
package policy

import (
	"strconv"
	"strings"

	policyv1 "k8s.io/api/policy/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Kinds are the group's kinds.
var Kinds = []*api.Kind{podDisruptionBudgets}

var podDisruptionBudgets = api.Define(api.Resource[*policyv1.PodDisruptionBudget]{
	Group: policyv1.GroupName, Version: "v1", Kind: "PodDisruptionBudget", Plural: "poddisruptionbudgets",
	Alike: []string{"v1beta1"},
	Short: []string{"pdb"}, Namespaced: true,
	HasStatus: true, HasGeneration: true,
	Validate:       validate,
	ValidateUpdate: func(obj, _ *policyv1.PodDisruptionBudget) field.ErrorList { return nil },
	ValidateStatus: validateStatus,
	Columns: []api.Column[*policyv1.PodDisruptionBudget]{
		{Name: "Min Available", Description: "The minimum number of pods that must be available.", Value: func(b *policyv1.PodDisruptionBudget) any { return orNA(b.Spec.MinAvailable) }},
		{Name: "Max Unavailable", Description: "The maximum number of pods that may be unavailable.", Value: func(b *policyv1.PodDisruptionBudget) any { return orNA(b.Spec.MaxUnavailable) }},
		{Name: "Allowed Disruptions", Type: "integer", Description: "Calculated number of pods that may be disrupted at this time.", Value: func(b *policyv1.PodDisruptionBudget) any { return int64(b.Status.DisruptionsAllowed) }},
		api.Age[*policyv1.PodDisruptionBudget](),
	},
})

func orNA(v *intstr.IntOrString) string {
	if v == nil {
		return "N/A"
	}
	return v.String()
}

func validate(b *policyv1.PodDisruptionBudget) field.ErrorList {
	var errs field.ErrorList
	spec, path := b.Spec, field.NewPath("spec")
	if spec.MinAvailable != nil && spec.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(path, spec, "minAvailable and maxUnavailable cannot be both set"))
	}
	errs = append(errs, validateAmount(spec.MinAvailable, path.Child("minAvailable"))...)
	errs = append(errs, validateAmount(spec.MaxUnavailable, path.Child("maxUnavailable"))...)
	errs = append(errs, metav1validation.ValidateLabelSelector(spec.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	if p := spec.UnhealthyPodEvictionPolicy; p != nil && *p != policyv1.IfHealthyBudget && *p != policyv1.AlwaysAllow {
		errs = append(errs, field.NotSupported(path.Child("unhealthyPodEvictionPolicy"), *p,
			[]policyv1.UnhealthyPodEvictionPolicyType{policyv1.AlwaysAllow, policyv1.IfHealthyBudget}))
	}
	return errs
}

// validateAmount checks a number of pods or a percentage of them.
func validateAmount(v *intstr.IntOrString, path *field.Path) field.ErrorList {
	if v == nil {
		return nil
	}
	if v.Type == intstr.Int {
		if v.IntVal < 0 {
			return field.ErrorList{field.Invalid(path, v.IntVal, "must be greater than or equal to 0")}
		}
		return nil
	}
	if msgs := validation.IsValidPercent(v.StrVal); len(msgs) > 0 {
		return field.ErrorList{field.Invalid(path, *v, msgs[0])}
	}
	if n, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%")); err != nil || n > 100 {
		return field.ErrorList{field.Invalid(path, *v, "must not be greater than 100%")}
	}
	return nil
}

func validateStatus(obj, _ *policyv1.PodDisruptionBudget) field.ErrorList {
	status, path := obj.Status, field.NewPath("status")
	errs := metav1validation.ValidateConditions(status.Conditions, path.Child("conditions"))
	for _, n := range []struct {
		name  string
		value int32
	}{
		{"disruptionsAllowed", status.DisruptionsAllowed}, {"currentHealthy", status.CurrentHealthy},
		{"desiredHealthy", status.DesiredHealthy}, {"expectedPods", status.ExpectedPods},
	} {
		if n.value < 0 {
			errs = append(errs, field.Invalid(path.Child(n.name), int64(n.value), "must be greater than or equal to 0"))
		}
	}
	return errs
}
