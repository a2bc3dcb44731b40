// Package apiregistration tells the server about apiregistration.k8s.io: which group versions
// there are, and which of them another server answers for.
//
// The one idea: an APIService is named after its group version; without a service it stands
// for what is answered here and is available always.
//
// Used by cluster, which collects all kinds, and by apiserver/aggregate.
package apiregistration

import (
	"context"
	"fmt"
	"strings"

	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/proa-dev/proa/apis/api"
)

// Kinds of the group.
var Kinds = []*api.Kind{APIServices}

// DefaultPort is the port of a service reference that names none.
const DefaultPort int32 = 443

// APIServices is the kind APIService.
var APIServices = api.Define(api.Resource[*apiregistrationv1.APIService]{
	Group: apiregistrationv1.GroupName, Version: "v1", Kind: "APIService", Plural: "apiservices",
	Categories:   []string{"api-extensions"},
	Prefix:       "apiregistration.k8s.io/apiservices",
	HasStatus:    true,
	Unowned:      map[string][]string{"status": {"spec", "metadata"}},
	ValidateName: func(name string, _ bool) []string { return pathvalidation.IsValidPathSegmentName(name) },
	Default: func(s *apiregistrationv1.APIService) {
		if ref := s.Spec.Service; ref != nil && ref.Port == nil {
			port := DefaultPort
			ref.Port = &port
		}
	},
	PrepareCreate: func(_ context.Context, s *apiregistrationv1.APIService) {
		if s.Spec.Service == nil {
			s.Status.Conditions = []apiregistrationv1.APIServiceCondition{Local()}
		}
	},
	Validate:       validate,
	ValidateStatus: func(s, _ *apiregistrationv1.APIService) field.ErrorList { return validateStatus(s) },
	PrepareStatus: func(s, old *apiregistrationv1.APIService) {
		s.Labels, s.Annotations = old.Labels, old.Annotations
		s.Finalizers, s.OwnerReferences = old.Finalizers, old.OwnerReferences
	},
	Columns: []api.Column[*apiregistrationv1.APIService]{
		{Name: "Service", Description: "The reference to the service that hosts this API endpoint.", Value: serviceCell},
		{Name: "Available", Description: "Whether this service is available.", Value: availableCell},
		api.Age[*apiregistrationv1.APIService](),
	},
})

// Local is the condition of an APIService that is answered here.
func Local() apiregistrationv1.APIServiceCondition {
	return apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, LastTransitionTime: metav1.Now(),
		Reason: "Local", Message: "Local APIServices are always available",
	}
}

// Condition finds a condition; nil when it is not there.
func Condition(s *apiregistrationv1.APIService, kind apiregistrationv1.APIServiceConditionType) *apiregistrationv1.APIServiceCondition {
	for i := range s.Status.Conditions {
		if s.Status.Conditions[i].Type == kind {
			return &s.Status.Conditions[i]
		}
	}
	return nil
}

// SetCondition replaces the condition of the same type; the time of the last transition stays
// when the status does.
func SetCondition(s *apiregistrationv1.APIService, c apiregistrationv1.APIServiceCondition) {
	old := Condition(s, c.Type)
	if old == nil {
		s.Status.Conditions = append(s.Status.Conditions, c)
		return
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	*old = c
}

func serviceCell(s *apiregistrationv1.APIService) any {
	if s.Spec.Service == nil {
		return "Local"
	}
	return s.Spec.Service.Namespace + "/" + s.Spec.Service.Name
}

func availableCell(s *apiregistrationv1.APIService) any {
	c := Condition(s, apiregistrationv1.Available)
	switch {
	case c == nil:
		return string(apiregistrationv1.ConditionUnknown)
	case c.Status != apiregistrationv1.ConditionTrue && c.Reason != "":
		return fmt.Sprintf("%s (%s)", c.Status, c.Reason)
	}
	return string(c.Status)
}

func validate(s *apiregistrationv1.APIService) field.ErrorList {
	var errs field.ErrorList
	spec, path := s.Spec, field.NewPath("spec")
	if required := spec.Version + "." + spec.Group; s.Name != required {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), s.Name, fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", required)))
	}
	if spec.Group == "" && spec.Version != "v1" {
		errs = append(errs, field.Required(path.Child("group"), "only v1 may have an empty group and it better be legacy kube"))
	}
	if spec.Group != "" {
		for _, msg := range validation.IsDNS1123Subdomain(spec.Group) {
			errs = append(errs, field.Invalid(path.Child("group"), spec.Group, msg))
		}
	}
	for _, msg := range validation.IsDNS1035Label(spec.Version) {
		errs = append(errs, field.Invalid(path.Child("version"), spec.Version, msg))
	}
	if p := spec.GroupPriorityMinimum; p <= 0 || p > 20000 {
		errs = append(errs, field.Invalid(path.Child("groupPriorityMinimum"), p, "must be positive and less than 20000"))
	}
	if p := spec.VersionPriority; p <= 0 || p > 1000 {
		errs = append(errs, field.Invalid(path.Child("versionPriority"), p, "must be positive and less than 1000"))
	}
	if spec.Service == nil {
		return append(errs, validateLocal(spec, path)...)
	}
	return append(errs, validateRemote(spec, path)...)
}

func validateLocal(spec apiregistrationv1.APIServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n := len(spec.CABundle); n != 0 {
		errs = append(errs, field.Invalid(path.Child("caBundle"), fmt.Sprintf("%d bytes", n), "local APIServices may not have a caBundle"))
	}
	if spec.InsecureSkipTLSVerify {
		errs = append(errs, field.Invalid(path.Child("insecureSkipTLSVerify"), true, "local APIServices may not have insecureSkipTLSVerify"))
	}
	return errs
}

func validateRemote(spec apiregistrationv1.APIServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	ref, at := spec.Service, path.Child("service")
	if ref.Namespace == "" {
		errs = append(errs, field.Required(at.Child("namespace"), ""))
	}
	if ref.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	port := DefaultPort
	if ref.Port != nil {
		port = *ref.Port
	}
	if msgs := validation.IsValidPortNum(int(port)); msgs != nil {
		errs = append(errs, field.Invalid(at.Child("port"), port, "port is not valid: "+strings.Join(msgs, ", ")))
	}
	if spec.InsecureSkipTLSVerify && len(spec.CABundle) > 0 {
		errs = append(errs, field.Invalid(path.Child("insecureSkipTLSVerify"), true, "may not be true if caBundle is present"))
	}
	return errs
}

func validateStatus(s *apiregistrationv1.APIService) field.ErrorList {
	var errs field.ErrorList
	known := []apiregistrationv1.ConditionStatus{apiregistrationv1.ConditionTrue, apiregistrationv1.ConditionFalse, apiregistrationv1.ConditionUnknown}
	for i, c := range s.Status.Conditions {
		switch c.Status {
		case known[0], known[1], known[2]:
		default:
			errs = append(errs, field.NotSupported(field.NewPath("status", "conditions").Index(i).Child("status"), c.Status, known))
		}
	}
	return errs
}
