package core

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// PersistentVolumeClaims is the kind PersistentVolumeClaim.
var PersistentVolumeClaims = api.Define(api.Resource[*corev1.PersistentVolumeClaim]{
	Version: "v1", Kind: "PersistentVolumeClaim", Plural: "persistentvolumeclaims", Short: []string{"pvc"}, Namespaced: true,
	UnconditionalUpdate: true,
	HasStatus:           true,
	Default: func(c *corev1.PersistentVolumeClaim) {
		fill(&c.Status.Phase, corev1.ClaimPending)
		defaultClaimSpec(&c.Spec)
		roundResources(c.Status.Capacity)
	},
	PrepareCreate: func(_ context.Context, c *corev1.PersistentVolumeClaim) {
		c.Status.Phase = corev1.ClaimPending
		dropDataSource(&c.Spec)
		twinDataSource(&c.Spec)
	},
	PrepareUpdate: func(_ context.Context, c, old *corev1.PersistentVolumeClaim) {
		if old.Spec.DataSource == nil && old.Spec.DataSourceRef == nil {
			dropDataSource(&c.Spec)
		}
		twinDataSource(&c.Spec)
	},
	Validate: func(c *corev1.PersistentVolumeClaim) field.ErrorList {
		return validateClaimSpec(&c.Spec, field.NewPath("spec"))
	},
	ValidateUpdate: validateClaimUpdate,
	ValidateStatus: validateClaimStatus,
	Columns: []api.Column[*corev1.PersistentVolumeClaim]{
		text("Status", corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()["phase"], func(c *corev1.PersistentVolumeClaim) string {
			if c.DeletionTimestamp != nil {
				return "Terminating"
			}
			return string(c.Status.Phase)
		}),
		text("Volume", corev1.PersistentVolumeClaimSpec{}.SwaggerDoc()["volumeName"], func(c *corev1.PersistentVolumeClaim) string { return c.Spec.VolumeName }),
		text("Capacity", corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()["capacity"], func(c *corev1.PersistentVolumeClaim) string {
			if c.Spec.VolumeName == "" {
				return ""
			}
			return storage(c.Status.Capacity)
		}),
		text("Access Modes", corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()["accessModes"], func(c *corev1.PersistentVolumeClaim) string {
			if c.Spec.VolumeName == "" {
				return ""
			}
			return accessModesText(c.Status.AccessModes)
		}),
		text("StorageClass", "StorageClass of the pvc", claimClass),
		text("VolumeAttributesClass", "VolumeAttributesClass of the pvc", func(c *corev1.PersistentVolumeClaim) string { return attributesClass(c.Spec.VolumeAttributesClassName) }),
		Age[*corev1.PersistentVolumeClaim](),
		wide("VolumeMode", corev1.PersistentVolumeClaimSpec{}.SwaggerDoc()["volumeMode"], func(c *corev1.PersistentVolumeClaim) string { return volumeMode(c.Spec.VolumeMode) }),
	},
})

func storage(list corev1.ResourceList) string {
	q := list[corev1.ResourceStorage]
	return q.String()
}

func attributesClass(name *string) string {
	if name == nil {
		return "<unset>"
	}
	return *name
}

func volumeMode(m *corev1.PersistentVolumeMode) string {
	if m == nil {
		return "<unset>"
	}
	return string(*m)
}

func claimClass(c *corev1.PersistentVolumeClaim) string {
	if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	if c.Spec.StorageClassName != nil {
		return *c.Spec.StorageClassName
	}
	return ""
}

var accessModes = []struct {
	mode  corev1.PersistentVolumeAccessMode
	short string
}{
	{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"},
}

func accessModesText(have []corev1.PersistentVolumeAccessMode) string {
	var list []string
	for _, m := range accessModes {
		for _, h := range have {
			if h == m.mode {
				list = append(list, m.short)
				break
			}
		}
	}
	return strings.Join(list, ",")
}

func defaultClaimSpec(s *corev1.PersistentVolumeClaimSpec) {
	fillPtr(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundResources(s.Resources.Limits)
	roundResources(s.Resources.Requests)
}

func validateAccessModes(modes []corev1.PersistentVolumeAccessMode, path *field.Path, missing string) field.ErrorList {
	var errs field.ErrorList
	if len(modes) == 0 {
		errs = append(errs, field.Required(path, missing))
	}
	pod := false
	for _, m := range modes {
		errs = append(errs, oneOf(m, path, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)...)
		pod = pod || m == corev1.ReadWriteOncePod
	}
	if pod && len(modes) > 1 {
		errs = append(errs, field.Forbidden(path, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

func validateClaimSpec(s *corev1.PersistentVolumeClaimSpec, path *field.Path) field.ErrorList {
	errs := validateAccessModes(s.AccessModes, path.Child("accessModes"), "at least 1 access mode is required")
	if s.Selector != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	}
	size := path.Child("resources").Key(string(corev1.ResourceStorage))
	if q, ok := s.Resources.Requests[corev1.ResourceStorage]; !ok {
		errs = append(errs, field.Required(size, ""))
	} else if q.Sign() <= 0 {
		errs = append(errs, field.Invalid(size, q.String(), "must be greater than zero"))
	}
	if s.StorageClassName != nil && *s.StorageClassName != "" {
		errs = append(errs, dnsSubdomain(*s.StorageClassName, path.Child("storageClassName"))...)
	}
	errs = append(errs, validateDataSources(s, path)...)
	if c := s.VolumeAttributesClassName; c != nil && *c != "" {
		errs = append(errs, dnsSubdomain(*c, path.Child("volumeAttributesClassName"))...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, oneOf(*s.VolumeMode, path.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	return errs
}

// dropDataSource forgets sources that have never been allowed in the older of the two fields, as has always been done, and
// those in other namespaces, which belong to a feature that is off.
func dropDataSource(s *corev1.PersistentVolumeClaimSpec) {
	if r := s.DataSourceRef; r != nil && r.Namespace != nil {
		s.DataSourceRef = nil
	}
	d := s.DataSource
	if d == nil {
		return
	}
	group := ""
	if d.APIGroup != nil {
		group = *d.APIGroup
	}
	known := group == "" && d.Kind == "PersistentVolumeClaim" || group == "snapshot.storage.k8s.io" && d.Kind == "VolumeSnapshot"
	if !known && s.DataSourceRef == nil {
		s.DataSource = nil
	}
}

// twinDataSource makes two names of one thing within a namespace of whichever is given.
func twinDataSource(s *corev1.PersistentVolumeClaimSpec) {
	if s.DataSource != nil && s.DataSourceRef == nil {
		s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: s.DataSource.APIGroup, Kind: s.DataSource.Kind, Name: s.DataSource.Name}
	} else if r := s.DataSourceRef; r != nil && s.DataSource == nil && (r.Namespace == nil || *r.Namespace == "") {
		s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: r.APIGroup, Kind: r.Kind, Name: r.Name}
	}
}

func validateDataSources(s *corev1.PersistentVolumeClaimSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	check := func(group *string, kind, name string, at *field.Path) {
		errs = append(errs, required(name, at.Child("name"), "")...)
		errs = append(errs, required(kind, at.Child("kind"), "")...)
		if group == nil || *group == "" {
			if kind != "PersistentVolumeClaim" {
				errs = append(errs, field.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
			}
			return
		}
		errs = append(errs, dnsSubdomain(*group, at.Child("apiGroup"))...)
	}
	d, r := s.DataSource, s.DataSourceRef
	if d != nil {
		check(d.APIGroup, d.Kind, d.Name, path.Child("dataSource"))
	}
	if r != nil {
		check(r.APIGroup, r.Kind, r.Name, path.Child("dataSourceRef"))
	}
	if d != nil && r != nil && (d.Kind != r.Kind || d.Name != r.Name || !apiequality.Semantic.DeepEqual(d.APIGroup, r.APIGroup)) {
		errs = append(errs, field.Invalid(path, s, "must match dataSourceRef"))
	}
	return errs
}

// validateClaimStatus checks how far a claim's growth has come.
func validateClaimStatus(c, _ *corev1.PersistentVolumeClaim) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("status")
	states := []corev1.ClaimResourceStatus{
		corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
		corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible, corev1.PersistentVolumeClaimNodeResizePending,
	}
	for name, state := range c.Status.AllocatedResourceStatuses {
		if !slices.Contains(states, state) {
			errs = append(errs, field.NotSupported(path.Child("allocatedResourceStatuses"), name, states))
		}
	}
	for _, name := range sortedResources(c.Status.Capacity) {
		errs = append(errs, validateQuantity(c.Status.Capacity[name], path.Child("capacity").Key(string(name)))...)
	}
	return errs
}

const claimImmutable = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"

func validateClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	rest := old.Spec.DeepCopy()
	if rest.VolumeName == "" {
		rest.VolumeName = c.Spec.VolumeName
	}
	if rest.StorageClassName == nil {
		rest.StorageClassName = c.Spec.StorageClassName // set once, by hand or by the default class
	}
	if old.Status.Phase == corev1.ClaimBound {
		rest.VolumeAttributesClassName = c.Spec.VolumeAttributesClassName
		rest.Resources.Requests = c.Spec.Resources.Requests
	}
	if !apiequality.Semantic.DeepEqual(*rest, c.Spec) {
		errs = append(errs, field.Forbidden(path, claimImmutable+"\n"+specDiff(*rest, c.Spec)))
	}
	now, was := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	floor := old.Status.Capacity[corev1.ResourceStorage]
	if now.Cmp(was) < 0 && now.Cmp(floor) <= 0 {
		errs = append(errs, field.Forbidden(path.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	return errs
}
