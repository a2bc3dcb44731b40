package apiextensions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"github.com/proa-dev/proa/apis/api"
	crdschema "github.com/proa-dev/proa/apis/apiextensions/schema"
)

// Definition is a CustomResourceDefinition.
type Definition = apiextensionsv1.CustomResourceDefinition

// GroupResource of definitions.
var GroupResource = schema.GroupResource{Group: apiextensionsv1.GroupName, Resource: "customresourcedefinitions"}

// CustomResourceDefinitions are the definitions.
var CustomResourceDefinitions = api.Define(api.Resource[*Definition]{
	Group: apiextensionsv1.GroupName, Version: "v1", Kind: "CustomResourceDefinition", Plural: GroupResource.Resource,
	Short: []string{"crd", "crds"}, Categories: []string{"api-extensions"},
	Prefix:        "apiextensions.k8s.io/customresourcedefinitions",
	Earlier:       []api.Earlier[*Definition]{beta},
	HasStatus:     true,
	HasGeneration: true,
	Default:       setDefaults, PrepareCreate: prepareCreate, PrepareUpdate: prepareUpdate,
	Validate: validate, ValidateUpdate: validateUpdate, ValidateStatus: validateStatus,
	Warnings:     warnings,
	BeforeDelete: terminate,
	Ratchets:     true,
	Columns:      columns,
})

func setDefaults(d *Definition) {
	n := &d.Spec.Names
	if n.Singular == "" {
		n.Singular = strings.ToLower(n.Kind)
	}
	if n.ListKind == "" && n.Kind != "" {
		n.ListKind = n.Kind + "List"
	}
	if d.Spec.Conversion == nil {
		d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.NoneConverter}
	}
	if w := d.Spec.Conversion.Webhook; w != nil && w.ClientConfig != nil && w.ClientConfig.Service != nil && w.ClientConfig.Service.Port == nil {
		w.ClientConfig.Service.Port = ptr.To[int32](443)
	}
	if len(d.Status.StoredVersions) == 0 {
		rememberStored(d)
	}
}

// rememberStored notes that objects may be stored in the storage version from now on.
func rememberStored(d *Definition) {
	for _, v := range d.Spec.Versions {
		if !v.Storage {
			continue
		}
		if !slices.Contains(d.Status.StoredVersions, v.Name) {
			d.Status.StoredVersions = append(d.Status.StoredVersions, v.Name)
		}
		return // there is one
	}
}

func prepareCreate(_ context.Context, d *Definition) { rememberStored(d) }

func prepareUpdate(_ context.Context, d, old *Definition) {
	if !equality.Semantic.DeepEqual(d.Spec, old.Spec) {
		rememberStored(d)
	}
}

// terminate keeps a definition that is deleted until its objects are gone.
func terminate(d *Definition, options *metav1.DeleteOptions) bool {
	if d.DeletionTimestamp != nil {
		return false
	}
	if !slices.Contains(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer) {
		d.Finalizers = append(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer)
	}
	SetCondition(d, apiextensionsv1.Terminating, apiextensionsv1.ConditionTrue, "InstanceDeletionPending",
		"CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon")
	options.GracePeriodSeconds = nil
	return true
}

// warnings tells of formats that are not checked, when a definition begins to have them.
func warnings(d, old *Definition) (all []string) {
	known := map[string]bool{}
	if old != nil {
		for _, f := range uncheckedFormats(old) {
			known[f] = true
		}
	}
	for _, f := range uncheckedFormats(d) {
		if !known[f] {
			known[f] = true
			all = append(all, fmt.Sprintf("unrecognized format %q", f))
		}
	}
	return all
}

func uncheckedFormats(d *Definition) (all []string) {
	for _, v := range d.Spec.Versions {
		if v.Schema != nil {
			all = append(all, crdschema.UncheckedFormats(v.Schema.OpenAPIV3Schema)...)
		}
	}
	return all
}

// Condition finds a condition; nil when there is none.
func Condition(d *Definition, kind apiextensionsv1.CustomResourceDefinitionConditionType) *apiextensionsv1.CustomResourceDefinitionCondition {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == kind {
			return &d.Status.Conditions[i]
		}
	}
	return nil
}

// IsTrue says that a condition is there and holds.
func IsTrue(d *Definition, kind apiextensionsv1.CustomResourceDefinitionConditionType) bool {
	c := Condition(d, kind)
	return c != nil && c.Status == apiextensionsv1.ConditionTrue
}

// SetCondition sets a condition; the time of its last transition moves with its status alone.
func SetCondition(d *Definition, kind apiextensionsv1.CustomResourceDefinitionConditionType, status apiextensionsv1.ConditionStatus, reason, message string) {
	next := apiextensionsv1.CustomResourceDefinitionCondition{
		Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.Now().Rfc3339Copy(),
	}
	if c := Condition(d, kind); c != nil {
		if c.Status == status && !c.LastTransitionTime.IsZero() {
			next.LastTransitionTime = c.LastTransitionTime
		}
		next.ObservedGeneration = c.ObservedGeneration
		*c = next
		return
	}
	d.Status.Conditions = append(d.Status.Conditions, next)
}

// RemoveCondition takes a condition away.
func RemoveCondition(d *Definition, kind apiextensionsv1.CustomResourceDefinitionConditionType) {
	d.Status.Conditions = slices.DeleteFunc(d.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool { return c.Type == kind })
}
