package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

type csiDriver = *storagev1.CSIDriver

var csiDriverDoc = storagev1.CSIDriverSpec{}.SwaggerDoc()

var csiDrivers = api.Define(api.Resource[csiDriver]{
	Group: storagev1.GroupName, Version: "v1", Kind: "CSIDriver", Plural: "csidrivers",
	Alike:         []string{"v1beta1"},
	HasGeneration: true,
	Default:       defaultDriver,
	PrepareCreate: func(_ context.Context, d csiDriver) { d.Generation = 0 }, // counted from the first change on
	Warnings: func(d, old csiDriver) []string {
		s := &d.Spec
		if len(s.TokenRequests) > 0 && s.ServiceAccountTokenInSecrets == nil && (old == nil || !apiequality.Semantic.DeepEqual(s.TokenRequests, old.Spec.TokenRequests)) {
			return []string{"spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"}
		}
		return nil
	},
	Validate:       validateDriver,
	ValidateUpdate: validateDriverUpdate,
	Columns: []api.Column[csiDriver]{
		{Name: "AttachRequired", Type: "boolean", Description: csiDriverDoc["attachRequired"], Value: func(d csiDriver) any {
			return d.Spec.AttachRequired == nil || *d.Spec.AttachRequired
		}},
		{Name: "PodInfoOnMount", Type: "boolean", Description: csiDriverDoc["podInfoOnMount"], Value: func(d csiDriver) any { return is(d.Spec.PodInfoOnMount) }},
		{Name: "StorageCapacity", Type: "boolean", Description: csiDriverDoc["storageCapacity"], Value: func(d csiDriver) any { return is(d.Spec.StorageCapacity) }},
		api.Text("TokenRequests", csiDriverDoc["tokenRequests"], audiences),
		{Name: "RequiresRepublish", Type: "boolean", Description: csiDriverDoc["requiresRepublish"], Value: func(d csiDriver) any { return is(d.Spec.RequiresRepublish) }},
		api.Text("Modes", csiDriverDoc["volumeLifecycleModes"], lifecycleModes),
		api.Age[csiDriver](),
	},
})

func audiences(d csiDriver) string {
	if d.Spec.TokenRequests == nil {
		return "<unset>"
	}
	var list []string
	for _, r := range d.Spec.TokenRequests {
		list = append(list, r.Audience)
	}
	return strings.Join(list, ",")
}

func lifecycleModes(d csiDriver) string {
	var list []string
	for _, m := range d.Spec.VolumeLifecycleModes {
		list = append(list, string(m))
	}
	if text := strings.Join(list, ","); text != "" {
		return text
	}
	return "<none>"
}

func defaultDriver(d csiDriver) {
	s := &d.Spec
	fill(&s.AttachRequired, true)
	fill(&s.PodInfoOnMount, false)
	fill(&s.StorageCapacity, false)
	fill(&s.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	if len(s.VolumeLifecycleModes) == 0 {
		s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
	fill(&s.RequiresRepublish, false)
	fill(&s.SELinuxMount, false)
	fill(&s.PreventPodSchedulingIfMissing, false)
}

const (
	shortestUpdate = int64(10)
	shortestToken  = int64(10 * time.Minute / time.Second)
	longestToken   = int64(1) << 32
)

func validateDriver(d csiDriver) field.ErrorList {
	path, s := field.NewPath("spec"), &d.Spec
	var errs field.ErrorList
	need := func(unset bool, name string) {
		if unset {
			errs = append(errs, field.Required(path.Child(name), ""))
		}
	}
	need(s.AttachRequired == nil, "attachedRequired")
	need(s.PodInfoOnMount == nil, "podInfoOnMount")
	need(s.StorageCapacity == nil, "storageCapacity")
	if s.FSGroupPolicy == nil {
		errs = append(errs, field.Required(path.Child("fsGroupPolicy"), ""))
	} else {
		errs = append(errs, check.OneOf(path.Child("fsGroupPolicy"), *s.FSGroupPolicy,
			storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)...)
	}
	errs = append(errs, validateTokenRequests(s.TokenRequests, path.Child("tokenRequests"))...)
	for _, mode := range slices.Compact(slices.Sorted(slices.Values(s.VolumeLifecycleModes))) {
		errs = append(errs, check.OneOf(path.Child("volumeLifecycleModes"), mode, storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral)...)
	}
	need(s.SELinuxMount == nil, "seLinuxMount")
	if p := s.NodeAllocatableUpdatePeriodSeconds; p != nil && *p < shortestUpdate {
		errs = append(errs, field.Invalid(path.Child("nodeAllocatableUpdatePeriodSeconds"), *p, fmt.Sprintf("must be greater than or equal to %d seconds", shortestUpdate)))
	}
	if s.ServiceAccountTokenInSecrets != nil && len(s.TokenRequests) == 0 {
		errs = append(errs, field.Invalid(path.Child("serviceAccountTokenInSecrets"), *s.ServiceAccountTokenInSecrets, "serviceAccountTokenInSecrets is set but no tokenRequests are specified"))
	}
	return errs
}

func validateTokenRequests(list []storagev1.TokenRequest, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, r := range list {
		at := path.Index(i)
		if seen[r.Audience] {
			errs = append(errs, field.Duplicate(at.Child("audience"), r.Audience))
			continue
		}
		seen[r.Audience] = true
		if r.ExpirationSeconds == nil {
			continue
		}
		seconds := at.Child("expirationSeconds")
		if *r.ExpirationSeconds < shortestToken {
			errs = append(errs, field.Invalid(seconds, *r.ExpirationSeconds, "may not specify a duration less than 10 minutes"))
		}
		if *r.ExpirationSeconds > longestToken {
			errs = append(errs, field.Invalid(seconds, *r.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	return errs
}

func validateDriverUpdate(d, old csiDriver) field.ErrorList {
	path := field.NewPath("spec")
	errs := check.Immutable(path.Child("attachedRequired"), d.Spec.AttachRequired, old.Spec.AttachRequired)
	return append(errs, check.Immutable(path.Child("volumeLifecycleModes"), d.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes)...)
}
