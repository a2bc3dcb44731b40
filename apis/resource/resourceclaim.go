package resource

import (
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

type claim = *resourcev1.ResourceClaim

var resourceClaims = api.Define(api.Resource[claim]{
	Group: resourcev1.GroupName, Version: "v1", Kind: "ResourceClaim", Plural: "resourceclaims", Namespaced: true,
	Alike:               []string{"v1beta2"},
	UnconditionalUpdate: true,
	HasStatus:           true,
	Unowned:             map[string][]string{"status": {"spec", "metadata"}},
	Default:             func(c claim) { defaultDevices(&c.Spec.Devices) },
	Validate:            func(c claim) field.ErrorList { return devices(&c.Spec.Devices, field.NewPath("spec", "devices")) },
	ValidateUpdate: func(c, old claim) field.ErrorList {
		return check.Unchanged(field.NewPath("spec"), c.Spec, old.Spec)
	},
	PrepareStatus:  forgetDevices,
	ValidateStatus: claimStatus,
	Columns: []api.Column[claim]{
		api.Text("State", "A summary of the current state (allocated, pending, reserved, etc.).", claimState),
		api.Age[claim](),
	},
})

func claimState(c claim) string {
	var words []string
	if c.DeletionTimestamp != nil {
		words = append(words, "deleted")
	}
	switch {
	case c.Status.Allocation != nil:
		words = append(words, "allocated")
		if len(c.Status.ReservedFor) > 0 {
			words = append(words, "reserved")
		}
	case c.DeletionTimestamp == nil:
		words = append(words, "pending")
	}
	return strings.Join(words, ",")
}

func defaultDevices(d *resourcev1.DeviceClaim) {
	count := func(mode *resourcev1.DeviceAllocationMode, n *int64) {
		if *mode == "" {
			*mode = resourcev1.DeviceAllocationModeExactCount
		}
		if *mode == resourcev1.DeviceAllocationModeExactCount && *n == 0 {
			*n = 1
		}
	}
	tolerate := func(list []resourcev1.DeviceToleration) {
		for i := range list {
			if list[i].Operator == "" {
				list[i].Operator = resourcev1.DeviceTolerationOpEqual
			}
		}
	}
	for i := range d.Requests {
		r := &d.Requests[i]
		if r.Exactly != nil {
			count(&r.Exactly.AllocationMode, &r.Exactly.Count)
			tolerate(r.Exactly.Tolerations)
		}
		for n := range r.FirstAvailable {
			s := &r.FirstAvailable[n]
			count(&s.AllocationMode, &s.Count)
			tolerate(s.Tolerations)
		}
	}
}

type template = *resourcev1.ResourceClaimTemplate

var resourceClaimTemplates = api.Define(api.Resource[template]{
	Group: resourcev1.GroupName, Version: "v1", Kind: "ResourceClaimTemplate", Plural: "resourceclaimtemplates", Namespaced: true,
	Alike:               []string{"v1beta2"},
	UnconditionalUpdate: true,
	Default:             func(t template) { defaultDevices(&t.Spec.Spec.Devices) },
	Validate: func(t template) field.ErrorList {
		errs := templateMeta(&t.Spec, field.NewPath("spec", "metadata"))
		return append(errs, devices(&t.Spec.Spec.Devices, field.NewPath("spec", "spec", "devices"))...)
	},
	ValidateUpdate: func(t, old template) field.ErrorList {
		return check.Immutable(field.NewPath("spec"), t.Spec, old.Spec)
	},
	Columns: []api.Column[template]{api.Age[template]()},
})
