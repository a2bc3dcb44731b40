package admissionregistration

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/jsonpath"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/internal/expression"
)

// Bounds of audit annotations.
const (
	maxAuditAnnotations = 20
	maxAuditExpression  = 5 * 1024 // bytes
)

var reasons = []metav1.StatusReason{metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge}

// ValidatingAdmissionPolicies refuse objects by CEL expressions.
var ValidatingAdmissionPolicies = api.Define(api.Resource[*admissionv1.ValidatingAdmissionPolicy]{
	Group: group, Version: version, Kind: "ValidatingAdmissionPolicy", Plural: "validatingadmissionpolicies",
	Alike:      []string{"v1beta1"},
	Categories: []string{"api-extensions"}, HasGeneration: true, HasStatus: true,
	Unowned: map[string][]string{"status": {"spec", "metadata"}},
	Default: func(p *admissionv1.ValidatingAdmissionPolicy) {
		or(&p.Spec.FailurePolicy, admissionv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	},
	Validate: validatePolicy,
	ValidateStatus: func(p, _ *admissionv1.ValidatingAdmissionPolicy) field.ErrorList {
		return validatePolicyStatus(&p.Status)
	},
	Columns: []api.Column[*admissionv1.ValidatingAdmissionPolicy]{
		{Name: "Validations", Type: "integer", Description: "Validations indicates the number of validation rules defined in this configuration", Value: func(p *admissionv1.ValidatingAdmissionPolicy) any {
			return int64(len(p.Spec.Validations))
		}},
		{Name: "ParamKind", Description: "ParamKind specifies the kind of resources used to parameterize this policy", Value: func(p *admissionv1.ValidatingAdmissionPolicy) any {
			return paramKind(p.Spec.ParamKind)
		}},
		api.Age[*admissionv1.ValidatingAdmissionPolicy](),
	},
})

// validateCommon checks what both sorts of policies have.
func validateCommon(failure *admissionv1.FailurePolicyType, params *admissionv1.ParamKind, match *admissionv1.MatchResources, conditions []admissionv1.MatchCondition) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if failure == nil {
		errs = append(errs, field.Required(path.Child("failurePolicy"), ""))
	}
	errs = append(errs, oneOf(failure, failurePolicies, path.Child("failurePolicy"))...)
	errs = append(errs, validateParamKind(params, path.Child("paramKind"))...)
	if match == nil {
		errs = append(errs, field.Required(path.Child("matchConstraints"), ""))
	} else {
		errs = append(errs, validateMatch(match, path.Child("matchConstraints"))...)
		if len(match.ResourceRules) == 0 {
			errs = append(errs, field.Required(path.Child("matchConstraints", "resourceRules"), ""))
		}
	}
	return append(errs, validateMatchConditions(conditions, params != nil, path.Child("matchConditions"))...)
}

func validatePolicy(p *admissionv1.ValidatingAdmissionPolicy) field.ErrorList {
	spec, path, params := &p.Spec, field.NewPath("spec"), p.Spec.ParamKind != nil
	errs := validateCommon(spec.FailurePolicy, spec.ParamKind, spec.MatchConstraints, spec.MatchConditions)
	c := expression.Plain()
	if len(spec.Variables) > 0 {
		var more field.ErrorList
		c, more = validateVariables(spec.Variables, params, path.Child("variables"))
		errs = append(errs, more...)
	}
	if len(spec.Validations) == 0 && len(spec.AuditAnnotations) == 0 {
		const why = "validations or auditAnnotations must contain at least one item"
		return append(errs, field.Required(path.Child("validations"), why), field.Required(path.Child("auditAnnotations"), why))
	}
	for i := range spec.Validations {
		errs = append(errs, validateValidation(c, &spec.Validations[i], params, path.Child("validations").Index(i))...)
	}
	return append(errs, validateAnnotations(c, p, path.Child("auditAnnotations"))...)
}

func validateValidation(c *expression.Compiler, v *admissionv1.Validation, params bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if strings.TrimSpace(v.Expression) == "" {
		errs = append(errs, field.Required(path.Child("expression"), "expression is not specified"))
	} else {
		errs = append(errs, compiles(c, v.Expression, expression.Uses{Params: params, Authorizer: true}, path.Child("expression"), cel.BoolType)...)
	}
	switch {
	case v.MessageExpression == "":
	case strings.TrimSpace(v.MessageExpression) == "":
		errs = append(errs, field.Invalid(path.Child("messageExpression"), v.MessageExpression, "must be non-empty if specified"))
	default:
		errs = append(errs, compiles(c, v.MessageExpression, expression.Uses{Params: params}, path.Child("messageExpression"), cel.StringType)...)
	}
	text := strings.TrimSpace(v.Message)
	switch {
	case v.Message != "" && text == "":
		errs = append(errs, field.Invalid(path.Child("message"), v.Message, "must be non-empty if specified"))
	case strings.ContainsAny(text, "\n\r"):
		errs = append(errs, field.Invalid(path.Child("message"), v.Message, "must not contain line breaks"))
	}
	return append(errs, oneOf(v.Reason, reasons, path.Child("reason"))...)
}

func validateAnnotations(c *expression.Compiler, p *admissionv1.ValidatingAdmissionPolicy, path *field.Path) field.ErrorList {
	all, params := p.Spec.AuditAnnotations, p.Spec.ParamKind != nil
	if len(all) > maxAuditAnnotations {
		return field.ErrorList{field.Invalid(path, all, fmt.Sprintf("must not have more than %d auditAnnotations", maxAuditAnnotations))}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, a := range all {
		path := path.Index(i)
		if p.Name == "" {
			errs = append(errs, field.Invalid(path.Child("key"), a.Key, "requires metadata.name be non-empty"))
		} else {
			errs = append(errs, qualified(p.Name+"/"+a.Key, path.Child("key"))...)
		}
		switch text := strings.TrimSpace(a.ValueExpression); {
		case text == "":
			errs = append(errs, field.Required(path.Child("valueExpression"), "valueExpression is not specified"))
		case len(text) > maxAuditExpression:
			errs = append(errs, field.Required(path.Child("valueExpression"), fmt.Sprintf("must not exceed %d bytes in length", maxAuditExpression)))
		default:
			uses := expression.Uses{Params: params, Authorizer: true}
			errs = append(errs, compiles(c, text, uses, path.Child("valueExpression"), cel.StringType, cel.NullType)...)
		}
		if seen[a.Key] {
			errs = append(errs, field.Duplicate(path.Child("key"), a.Key))
		}
		seen[a.Key] = true
	}
	return errs
}

func validatePolicyStatus(s *admissionv1.ValidatingAdmissionPolicyStatus) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("status")
	if s.TypeChecking != nil {
		for i, w := range s.TypeChecking.ExpressionWarnings {
			path := path.Child("typeChecking", "expressionWarnings").Index(i)
			if w.Warning == "" {
				errs = append(errs, field.Required(path.Child("warning"), ""))
			}
			ref := strings.TrimSpace(w.FieldRef)
			if ref == "" {
				errs = append(errs, field.Required(path.Child("fieldRef"), ""))
			} else if err := jsonpath.New("spec").Parse("{" + ref + "}"); err != nil {
				errs = append(errs, field.Invalid(path.Child("fieldRef"), ref, fmt.Sprintf("invalid JSONPath: %v", err)))
			}
		}
	}
	return append(errs, metav1validation.ValidateConditions(s.Conditions, path.Child("conditions"))...)
}
