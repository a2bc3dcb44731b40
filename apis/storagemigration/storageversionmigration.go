// Package storagemigration describes the kinds of storagemigration.k8s.io to the server.
package storagemigration

import (
	"strconv"
	"strings"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

// Kinds are the group's kinds.
var Kinds = []*api.Kind{migrations}

type migration = *storagemigrationv1.StorageVersionMigration

const (
	running   = string(storagemigrationv1.MigrationRunning)
	succeeded = string(storagemigrationv1.MigrationSucceeded)
	failed    = string(storagemigrationv1.MigrationFailed)
)

// migrations ask for all objects of a resource to be written again, in today's form.
var migrations = api.Define(api.Resource[migration]{
	Group: storagemigrationv1.GroupName, Version: "v1", Kind: "StorageVersionMigration", Plural: "storageversionmigrations",
	Alike: []string{"v1beta1"}, Written: "v1beta1",
	HasStatus: true,
	Unowned:   map[string][]string{"status": {"spec", "metadata"}},
	Validate:  validate,
	ValidateUpdate: func(m, old migration) field.ErrorList {
		return check.Immutable(field.NewPath("spec"), m.Spec, old.Spec)
	},
	ValidateStatus: validateStatus,
	Columns: []api.Column[migration]{
		api.Text("Resource", "GroupResource to migrate", func(m migration) string {
			gr := metav1.GroupResource{Group: m.Spec.Resource.Group, Resource: m.Spec.Resource.Resource}
			return gr.String()
		}),
		api.Text("Status", "Status of the migration", state),
	},
})

// state is the last condition that holds.
func state(m migration) string {
	out := "Unknown"
	for _, c := range m.Status.Conditions {
		if c.Status == metav1.ConditionTrue && (c.Type == running || c.Type == succeeded || c.Type == failed) {
			out = c.Type
		}
	}
	return out
}

func validate(m migration) field.ErrorList {
	path, r := field.NewPath("spec", "resource"), m.Spec.Resource
	var errs field.ErrorList
	if r.Resource == "" {
		errs = append(errs, field.Required(path.Child("resource"), "resource is required to be set"))
	} else if problems := validation.IsDNS1035Label(r.Resource); len(problems) > 0 {
		errs = append(errs, field.Invalid(path.Child("resource"), r.Resource, strings.Join(problems, ",")))
	}
	if r.Group != "" {
		if problems := validation.IsDNS1123Subdomain(r.Group); len(problems) > 0 {
			errs = append(errs, field.Invalid(path.Child("group"), r.Group, strings.Join(problems, ",")))
		}
	}
	return errs
}

func validateStatus(m, old migration) field.ErrorList {
	path := field.NewPath("status")
	errs := metav1validation.ValidateConditions(m.Status.Conditions, path.Child("conditions"))
	version := path.Child("resourceVersion")
	if m.Status.ResourceVersion != "" {
		if _, err := strconv.ParseUint(m.Status.ResourceVersion, 10, 64); err != nil {
			errs = append(errs, field.Invalid(version, m.Status.ResourceVersion, err.Error()))
		}
	}
	if was := old.Status.ResourceVersion; was != "" && was != m.Status.ResourceVersion {
		errs = append(errs, field.Invalid(version, m.Status.ResourceVersion, "field is immutable"))
	}
	conditions := path.Child("conditions")
	refuse := func(text string) {
		errs = append(errs, field.Invalid(conditions, m.Status.Conditions, text))
	}
	is := func(list []metav1.Condition, kind string) bool { return meta.IsStatusConditionTrue(list, kind) }
	now, was := m.Status.Conditions, old.Status.Conditions
	if is(now, succeeded) && is(now, failed) {
		refuse("Both success and failed conditions cannot be true at the same time")
	}
	if is(was, succeeded) && !is(now, succeeded) {
		refuse("Success condition cannot be set to false once it is true")
	}
	if is(was, failed) && !is(now, failed) {
		refuse("Failed condition cannot be set to false once it is true")
	}
	return errs
}
