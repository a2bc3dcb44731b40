package networking

import (
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

type ingressClass = *networkingv1.IngressClass

const longestController = 250

var ingressClasses = api.Define(api.Resource[ingressClass]{
	Group: networkingv1.GroupName, Version: "v1", Kind: "IngressClass", Plural: "ingressclasses",
	Alike:               []string{"v1beta1"},
	UnconditionalUpdate: true,
	HasGeneration:       true,
	Default: func(c ingressClass) {
		if p := c.Spec.Parameters; p != nil && p.Scope == nil {
			scope := networkingv1.IngressClassParametersReferenceScopeCluster
			p.Scope = &scope
		}
	},
	Validate: validateIngressClass,
	ValidateCreate: func(c ingressClass) field.ErrorList {
		path := field.NewPath("spec", "controller")
		errs := check.Longest(path, c.Spec.Controller, longestController)
		return append(errs, validation.IsDomainPrefixedPath(path, c.Spec.Controller)...)
	},
	ValidateUpdate: func(c, old ingressClass) field.ErrorList {
		return check.Immutable(field.NewPath("spec", "controller"), c.Spec.Controller, old.Spec.Controller)
	},
	Columns: []api.Column[ingressClass]{
		api.Text("Controller", "Controller that is responsible for handling this class", func(c ingressClass) string { return c.Spec.Controller }),
		api.Text("Parameters", "A reference to a resource with additional parameters", ingressClassParameters),
		api.Age[ingressClass](),
	},
})

func ingressClassParameters(c ingressClass) string {
	p := c.Spec.Parameters
	switch {
	case p == nil:
		return none
	case p.APIGroup != nil:
		return p.Kind + "." + *p.APIGroup + "/" + p.Name
	}
	return p.Kind + "/" + p.Name
}

func validateIngressClass(c ingressClass) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if c.Spec.Parameters != nil {
		errs = append(errs, validateParameters(c.Spec.Parameters, path.Child("parameters"))...)
	}
	return errs
}

func validateParameters(p *networkingv1.IngressClassParametersReference, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.APIGroup != nil {
		errs = append(errs, check.Subdomain(path.Child("apiGroup"), *p.APIGroup)...)
	}
	errs = append(errs, check.NeededSegment(path.Child("kind"), p.Kind)...)
	errs = append(errs, check.NeededSegment(path.Child("name"), p.Name)...)
	if p.Scope == nil {
		return append(errs, field.Required(path.Child("scope"), ""))
	}
	const inNamespace, inCluster = networkingv1.IngressClassParametersReferenceScopeNamespace, networkingv1.IngressClassParametersReferenceScopeCluster
	errs = append(errs, check.OneOf(path.Child("scope"), *p.Scope, inCluster, inNamespace)...)
	namespace := path.Child("namespace")
	switch {
	case *p.Scope == inNamespace && (p.Namespace == nil || *p.Namespace == ""):
		errs = append(errs, field.Required(namespace, "`parameters.scope` is set to 'Namespace'"))
	case *p.Scope == inNamespace:
		errs = append(errs, check.Label(namespace, *p.Namespace)...)
	case *p.Scope == inCluster && p.Namespace != nil:
		errs = append(errs, field.Forbidden(namespace, "`parameters.scope` is set to 'Cluster'"))
	}
	return errs
}
