package admissionregistration

import (
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

var validationActions = []admissionv1.ValidationAction{admissionv1.Audit, admissionv1.Deny, admissionv1.Warn}

// ValidatingAdmissionPolicyBindings say where, and how strictly, a policy holds.
var ValidatingAdmissionPolicyBindings = api.Define(api.Resource[*admissionv1.ValidatingAdmissionPolicyBinding]{
	Group: group, Version: version, Kind: "ValidatingAdmissionPolicyBinding", Plural: "validatingadmissionpolicybindings",
	Alike:      []string{"v1beta1"},
	Categories: []string{"api-extensions"}, HasGeneration: true,
	Default: func(b *admissionv1.ValidatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) },
	Validate: func(b *admissionv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
		errs := validateBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources)
		return append(errs, validateActions(b.Spec.ValidationActions, field.NewPath("spec", "validationActions"))...)
	},
	Columns: []api.Column[*admissionv1.ValidatingAdmissionPolicyBinding]{
		{Name: "PolicyName", Description: "PolicyName indicates the policy definition which the policy binding binded to", Value: func(b *admissionv1.ValidatingAdmissionPolicyBinding) any {
			return b.Spec.PolicyName
		}},
		{Name: "ParamRef", Description: "ParamRef indicates the param resource which sets the configuration param", Value: func(b *admissionv1.ValidatingAdmissionPolicyBinding) any {
			return paramRef(b.Spec.ParamRef)
		}},
		api.Age[*admissionv1.ValidatingAdmissionPolicyBinding](),
	},
})

// MutatingAdmissionPolicyBindings say where a policy holds.
var MutatingAdmissionPolicyBindings = api.Define(api.Resource[*admissionv1.MutatingAdmissionPolicyBinding]{
	Group: group, Version: version, Kind: "MutatingAdmissionPolicyBinding", Plural: "mutatingadmissionpolicybindings",
	Alike:      []string{"v1alpha1", "v1beta1"},
	Categories: []string{"api-extensions"}, HasGeneration: true,
	Default: func(b *admissionv1.MutatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) },
	Validate: func(b *admissionv1.MutatingAdmissionPolicyBinding) field.ErrorList {
		errs := validateBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources)
		return append(errs, onlyMutating(b.Spec.MatchResources, field.NewPath("spec", "matchResources"))...)
	},
	Columns: []api.Column[*admissionv1.MutatingAdmissionPolicyBinding]{
		{Name: "PolicyName", Description: "PolicyName indicates the policy definition which the policy binding binded to", Value: func(b *admissionv1.MutatingAdmissionPolicyBinding) any {
			return b.Spec.PolicyName
		}},
		{Name: "ParamRef", Description: "ParamRef indicates the param resource which sets the configuration param", Value: func(b *admissionv1.MutatingAdmissionPolicyBinding) any {
			return paramRef(b.Spec.ParamRef)
		}},
		api.Age[*admissionv1.MutatingAdmissionPolicyBinding](),
	},
})

func validateBinding(policy string, ref *admissionv1.ParamRef, match *admissionv1.MatchResources) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if policy == "" {
		errs = append(errs, field.Required(path.Child("policyName"), ""))
	} else {
		for _, msg := range apivalidation.NameIsDNSSubdomain(policy, false) {
			errs = append(errs, field.Invalid(path.Child("policyName"), policy, msg))
		}
	}
	errs = append(errs, validateParamRef(ref, path.Child("paramRef"))...)
	return append(errs, validateMatch(match, path.Child("matchResources"))...)
}

func validateParamRef(r *admissionv1.ParamRef, path *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	const exclusive = "name and selector are mutually exclusive"
	var errs field.ErrorList
	if r.Name != "" {
		for _, msg := range pathvalidation.IsValidPathSegmentName(r.Name) {
			errs = append(errs, field.Invalid(path.Child("name"), r.Name, msg))
		}
		if r.Selector != nil {
			errs = append(errs, field.Forbidden(path.Child("name"), exclusive))
		}
	}
	if r.Selector != nil {
		errs = append(errs, validateSelector(r.Selector, path.Child("selector"))...)
		if r.Name != "" {
			errs = append(errs, field.Forbidden(path.Child("selector"), exclusive))
		}
	}
	if r.Name == "" && r.Selector == nil {
		errs = append(errs, field.Required(path, "one of name or selector must be specified"))
	}
	at := path.Child("parameterNotFoundAction")
	switch a := r.ParameterNotFoundAction; {
	case a == nil || *a == "":
		errs = append(errs, field.Required(at, ""))
	case *a != admissionv1.DenyAction && *a != admissionv1.AllowAction:
		errs = append(errs, field.NotSupported(at, *a, []admissionv1.ParameterNotFoundActionType{admissionv1.DenyAction, admissionv1.AllowAction}))
	}
	return errs
}

func validateActions(actions []admissionv1.ValidationAction, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, a := range actions {
		errs = append(errs, oneOf(&a, validationActions, path.Index(i))...)
		if slices.Contains(actions[:i], a) {
			errs = append(errs, field.Duplicate(path.Index(i), a))
		}
	}
	if slices.Contains(actions, admissionv1.Deny) && slices.Contains(actions, admissionv1.Warn) {
		errs = append(errs, field.Invalid(path, actions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"))
	}
	if len(actions) == 0 {
		errs = append(errs, field.Required(path, ""))
	}
	return errs
}
