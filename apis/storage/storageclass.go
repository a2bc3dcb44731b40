package storage

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

type storageClass = *storagev1.StorageClass

// The annotations that make a class the default one; the second is the older.
const (
	DefaultClass     = "storageclass.kubernetes.io/is-default-class"
	DefaultClassBeta = "storageclass.beta.kubernetes.io/is-default-class"
)

var storageClassDoc = storagev1.StorageClass{}.SwaggerDoc()

var storageClasses = api.Define(api.Resource[storageClass]{
	Group: storagev1.GroupName, Version: "v1", Kind: "StorageClass", Plural: "storageclasses", Short: []string{"sc"},
	Alike:               []string{"v1beta1"},
	UnconditionalUpdate: true,
	Default: func(c storageClass) {
		fill(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
		fill(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
	},
	Validate:       validateStorageClass,
	ValidateUpdate: validateStorageClassUpdate,
	Columns: []api.Column[storageClass]{
		{Name: "Name", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"], Value: func(c storageClass) any {
			if IsDefault(c) {
				return c.Name + " (default)"
			}
			return c.Name
		}},
		api.Text("Provisioner", storageClassDoc["provisioner"], func(c storageClass) string { return c.Provisioner }),
		api.Text("ReclaimPolicy", storageClassDoc["reclaimPolicy"], func(c storageClass) string {
			if c.ReclaimPolicy == nil {
				return string(corev1.PersistentVolumeReclaimDelete)
			}
			return string(*c.ReclaimPolicy)
		}),
		api.Text("VolumeBindingMode", storageClassDoc["volumeBindingMode"], func(c storageClass) string {
			if c.VolumeBindingMode == nil {
				return string(storagev1.VolumeBindingImmediate)
			}
			return string(*c.VolumeBindingMode)
		}),
		{Name: "AllowVolumeExpansion", Description: storageClassDoc["allowVolumeExpansion"], Value: func(c storageClass) any { return is(c.AllowVolumeExpansion) }},
		api.Age[storageClass](),
	},
})

// IsDefault says that claims without a class get this one.
func IsDefault(c *storagev1.StorageClass) bool {
	return c.Annotations[DefaultClass] == "true" || c.Annotations[DefaultClassBeta] == "true"
}

func validateStorageClass(c storageClass) field.ErrorList {
	provisioner, policy, mode := field.NewPath("provisioner"), field.NewPath("reclaimPolicy"), field.NewPath("volumeBindingMode")
	errs := provisionerName(c.Provisioner, provisioner)
	errs = append(errs, parameters(c.Parameters, field.NewPath("parameters"))...)
	if c.ReclaimPolicy != nil && *c.ReclaimPolicy != "" {
		errs = append(errs, check.OneOf(policy, *c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
	}
	if c.VolumeBindingMode == nil {
		errs = append(errs, field.Required(mode, ""))
	} else {
		errs = append(errs, check.OneOf(mode, *c.VolumeBindingMode, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
	}
	return append(errs, validateTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
}

func validateTopologies(terms []corev1.TopologySelectorTerm, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, term := range terms {
		at := path.Index(i).Child("matchLabelExpressions")
		seen := map[string]bool{}
		for n, e := range term.MatchLabelExpressions {
			if len(e.Values) == 0 {
				errs = append(errs, field.Required(at.Index(n).Child("values"), ""))
			}
			for v, value := range e.Values {
				if slices.Contains(e.Values[:v], value) {
					errs = append(errs, field.Duplicate(at.Index(n).Child("values").Index(v), value))
				}
			}
			errs = append(errs, metav1validation.ValidateLabelName(e.Key, at.Index(n).Child("key"))...)
			if seen[e.Key] {
				errs = append(errs, field.Duplicate(at.Index(n).Child("key"), e.Key))
			}
			seen[e.Key] = true
		}
		if slices.ContainsFunc(terms[:i], func(o corev1.TopologySelectorTerm) bool { return apiequality.Semantic.DeepEqual(o, term) }) {
			errs = append(errs, field.Duplicate(at, ""))
		}
	}
	return errs
}

func validateStorageClassUpdate(c, old storageClass) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name     string
		now, old any
	}{
		{"parameters", c.Parameters, old.Parameters},
		{"provisioner", c.Provisioner, old.Provisioner},
		{"reclaimPolicy", c.ReclaimPolicy, old.ReclaimPolicy},
		{"volumeBindingMode", c.VolumeBindingMode, old.VolumeBindingMode},
	} {
		errs = append(errs, check.Unchanged(field.NewPath(f.name), f.now, f.old)...)
	}
	return errs
}

// provisionerName checks the name of who makes or changes volumes.
func provisionerName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return check.Required(path, name, name)
	}
	name = strings.ToLower(name)
	return check.Each(path, name, validation.IsQualifiedName(name))
}
