package admissionregistration

import (
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/expression"
)

// Mutations happen where there is an object to change.
var mutatingOperations = []admissionv1.OperationType{admissionv1.OperationAll, admissionv1.Connect, admissionv1.Create, admissionv1.Update}

var patchTypes = []admissionv1.PatchType{admissionv1.PatchTypeApplyConfiguration, admissionv1.PatchTypeJSONPatch}

// MutatingAdmissionPolicies change objects by CEL expressions.
var MutatingAdmissionPolicies = api.Define(api.Resource[*admissionv1.MutatingAdmissionPolicy]{
	Group: group, Version: version, Kind: "MutatingAdmissionPolicy", Plural: "mutatingadmissionpolicies",
	Alike:      []string{"v1alpha1", "v1beta1"},
	Categories: []string{"api-extensions"}, HasGeneration: true,
	Default: func(p *admissionv1.MutatingAdmissionPolicy) {
		or(&p.Spec.FailurePolicy, admissionv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	},
	Validate: validateMutatingPolicy,
	Columns: []api.Column[*admissionv1.MutatingAdmissionPolicy]{
		{Name: "Mutations", Type: "integer", Description: "Mutation indicates the number of mutations rules defined in this configuration", Value: func(p *admissionv1.MutatingAdmissionPolicy) any {
			return int64(len(p.Spec.Mutations))
		}},
		{Name: "ParamKind", Description: "ParamKind specifies the kind of resources used to parameterize this policy", Value: func(p *admissionv1.MutatingAdmissionPolicy) any {
			return paramKind(p.Spec.ParamKind)
		}},
		api.Age[*admissionv1.MutatingAdmissionPolicy](),
	},
})

func validateMutatingPolicy(p *admissionv1.MutatingAdmissionPolicy) field.ErrorList {
	spec, path, params := &p.Spec, field.NewPath("spec"), p.Spec.ParamKind != nil
	errs := validateCommon(spec.FailurePolicy, spec.ParamKind, spec.MatchConstraints, spec.MatchConditions)
	errs = append(errs, onlyMutating(spec.MatchConstraints, path.Child("matchConstraints"))...)
	c, more := validateVariables(spec.Variables, params, path.Child("variables"))
	errs = append(errs, more...)
	if len(spec.Mutations) == 0 {
		errs = append(errs, field.Required(path.Child("mutations"), "mutations must contain at least one item"))
	}
	for i := range spec.Mutations {
		errs = append(errs, validateMutation(c, &spec.Mutations[i], params, path.Child("mutations").Index(i))...)
	}
	if spec.ReinvocationPolicy == "" {
		return append(errs, field.Required(path.Child("reinvocationPolicy"), ""))
	}
	return append(errs, oneOf(&spec.ReinvocationPolicy, reinvocationPolicies, path.Child("reinvocationPolicy"))...)
}

// onlyMutating refuses operations that leave no object to change.
func onlyMutating(m *admissionv1.MatchResources, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if m == nil {
		return nil
	}
	for _, r := range m.ResourceRules {
		for _, op := range r.Operations {
			if !slices.Contains(mutatingOperations, op) {
				errs = append(errs, field.NotSupported(path.Child("resourceRules", "operations"), op, mutatingOperations))
			}
		}
	}
	return errs
}

// The types that mutations give.
var (
	ApplyType = cel.ObjectType("Object")
	PatchType = cel.ListType(types.NewObjectType("JSONPatch"))
)

func validateMutation(c *expression.Compiler, m *admissionv1.Mutation, params bool, path *field.Path) field.ErrorList {
	apply, patch := path.Child("applyConfiguration"), path.Child("jsonPatch")
	uses := expression.Uses{Params: params, Authorizer: true, Patch: true}
	compile := func(text string, path *field.Path, t *cel.Type) field.ErrorList {
		if text = strings.TrimSpace(text); text == "" {
			return field.ErrorList{field.Required(path.Child("expression"), "")}
		}
		return compiles(c, text, uses, path.Child("expression"), t)
	}
	var errs field.ErrorList
	switch m.PatchType {
	case "":
		errs = append(errs, field.Required(path.Child("patchType"), ""))
	case admissionv1.PatchTypeJSONPatch:
		if m.JSONPatch == nil {
			errs = append(errs, field.Required(patch, "must be specified when patchType is JSONPatch"))
		} else {
			errs = append(errs, compile(m.JSONPatch.Expression, patch, PatchType)...)
		}
		if m.ApplyConfiguration != nil {
			errs = append(errs, field.Invalid(apply, "{applyConfiguration}", "must not be specified when patchType is JSONPatch"))
		}
	case admissionv1.PatchTypeApplyConfiguration:
		if m.ApplyConfiguration == nil {
			errs = append(errs, field.Required(apply, "must be specified when patchType is ApplyConfiguration"))
		} else {
			errs = append(errs, compile(m.ApplyConfiguration.Expression, apply, ApplyType)...)
		}
		if m.JSONPatch != nil {
			errs = append(errs, field.Invalid(patch, "{jsonPatch}", "must not be specified when patchType is ApplyConfiguration"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("patchType"), m.PatchType, patchTypes))
	}
	return errs
}
