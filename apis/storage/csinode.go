package storage

import (
	"fmt"
	"slices"

	storagev1 "k8s.io/api/storage/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

type csiNode = *storagev1.CSINode

// csiNodes name the drivers that run on each node. The one field of their status belongs to
// a feature that is off, so that it stays empty.
var csiNodes = api.Define(api.Resource[csiNode]{
	Group: storagev1.GroupName, Version: "v1", Kind: "CSINode", Plural: "csinodes",
	Alike:          []string{"v1beta1"},
	HasStatus:      true,
	Unowned:        map[string][]string{"status": {"spec", "metadata"}},
	PrepareStatus:  func(n, _ csiNode) { n.Status = storagev1.CSINodeStatus{} },
	Validate:       validateNode,
	ValidateUpdate: validateNodeUpdate,
	Columns: []api.Column[csiNode]{
		{Name: "Drivers", Type: "integer", Description: "Drivers indicates the number of CSI drivers registered on the node",
			Value: func(n csiNode) any { return int64(len(n.Spec.Drivers)) }},
		api.Age[csiNode](),
	},
})

func validateNode(n csiNode) field.ErrorList {
	var errs field.ErrorList
	path, seen := field.NewPath("spec", "drivers"), map[string]bool{}
	for i := range n.Spec.Drivers {
		d, at := &n.Spec.Drivers[i], path.Index(i)
		errs = append(errs, validateNodeDriver(d, at)...)
		if seen[d.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), d.Name))
		}
		seen[d.Name] = true
	}
	return errs
}

func validateNodeDriver(d *storagev1.CSINodeDriver, path *field.Path) field.ErrorList {
	errs := driverName(d.Name, path.Child("name"))
	id := path.Child("nodeID")
	if d.NodeID == "" {
		errs = append(errs, field.Required(id, d.NodeID))
	}
	if len(d.NodeID) > maxNodeID {
		errs = append(errs, field.Invalid(id, d.NodeID, fmt.Sprintf("must be %d characters or less", maxNodeID)))
	}
	if d.Allocatable != nil && d.Allocatable.Count != nil {
		errs = append(errs, check.NotNegative(path.Child("allocatable", "count"), int64(*d.Allocatable.Count))...)
	}
	for i, key := range d.TopologyKeys {
		if key == "" {
			errs = append(errs, field.Required(path, key))
		}
		if slices.Contains(d.TopologyKeys[:i], key) {
			errs = append(errs, field.Duplicate(path, key))
		}
		errs = append(errs, metav1validation.ValidateLabelName(key, path)...)
	}
	return errs
}

// validateNodeUpdate lets drivers come and go; of one that stays only the count of volumes
// that fit may change.
func validateNodeUpdate(n, old csiNode) field.ErrorList {
	var errs field.ErrorList
	for _, now := range n.Spec.Drivers {
		for _, was := range old.Spec.Drivers {
			if was.Name == now.Name {
				was.Allocatable = now.Allocatable
				errs = append(errs, check.Immutable(field.NewPath("spec", "drivers"), now, was)...)
			}
		}
	}
	return errs
}
