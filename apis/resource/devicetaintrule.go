package resource

import (
	resourcev1 "k8s.io/api/resource/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

type taintRule = *resourcev1.DeviceTaintRule

var taintDoc = resourcev1.DeviceTaint{}.SwaggerDoc()

// deviceTaintRules let an administrator taint devices that a driver publishes.
var deviceTaintRules = api.Define(api.Resource[taintRule]{
	Group: resourcev1.GroupName, Version: "v1", Kind: "DeviceTaintRule", Plural: "devicetaintrules",
	Alike: []string{"v1beta2", "v1alpha3"}, Written: "v1beta2",
	HasGeneration: true,
	HasStatus:     true,
	Unowned:       map[string][]string{"status": {"spec", "metadata"}},
	Default:       func(r taintRule) { stamp(&r.Spec.Taint) },
	Validate:      validateTaintRule,
	ValidateStatus: func(r, _ taintRule) field.ErrorList {
		path := field.NewPath("status", "conditions")
		errs := metav1validation.ValidateConditions(r.Status.Conditions, path)
		if n := len(r.Status.Conditions); n > resourcev1.DeviceTaintRuleStatusMaxConditions {
			errs = append(errs, field.TooMany(path, n, resourcev1.DeviceTaintRuleStatusMaxConditions))
		}
		return errs
	},
	Columns: []api.Column[taintRule]{
		api.Text("Key", taintDoc["key"], func(r taintRule) string { return r.Spec.Taint.Key }),
		api.Text("Value", taintDoc["value"], func(r taintRule) string { return r.Spec.Taint.Value }),
		api.Text("Effect", taintDoc["effect"], func(r taintRule) string { return string(r.Spec.Taint.Effect) }),
		api.Text("TimeAdded", taintDoc["timeAdded"], func(r taintRule) string {
			if r.Spec.Taint.TimeAdded == nil {
				return ""
			}
			return api.Since(*r.Spec.Taint.TimeAdded)
		}),
		api.Age[taintRule](),
	},
})

func validateTaintRule(r taintRule) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if s := r.Spec.DeviceSelector; s != nil {
		at := path.Child("deviceSelector")
		if s.Driver != nil {
			errs = append(errs, driver(*s.Driver, at.Child("driver"))...)
		}
		if s.Pool != nil {
			errs = append(errs, pool(*s.Pool, at.Child("pool"))...)
		}
		if s.Device != nil {
			errs = append(errs, label(*s.Device, at.Child("device"))...)
		}
	}
	return append(errs, taint(&r.Spec.Taint, path.Child("taint"))...)
}
