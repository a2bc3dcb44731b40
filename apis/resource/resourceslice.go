package resource

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
	"github.com/proa-dev/proa/apis/internal/check"
)

type slice = *resourcev1.ResourceSlice

var sliceDoc = resourcev1.ResourceSliceSpec{}.SwaggerDoc()

var resourceSlices = api.Define(api.Resource[slice]{
	Group: resourcev1.GroupName, Version: "v1", Kind: "ResourceSlice", Plural: "resourceslices",
	Alike:               []string{"v1beta2"},
	UnconditionalUpdate: true,
	HasGeneration:       true,
	Default: func(s slice) {
		for i := range s.Spec.Devices {
			for n := range s.Spec.Devices[i].Taints {
				stamp(&s.Spec.Devices[i].Taints[n])
			}
		}
	},
	PrepareCreate: func(_ context.Context, s slice) { dropLists(s) },
	PrepareUpdate: func(_ context.Context, s, _ slice) { dropLists(s) },
	Validate:      validateSlice,
	ValidateUpdate: func(s, old slice) field.ErrorList {
		path := field.NewPath("spec")
		errs := check.Immutable(path.Child("pool", "name"), s.Spec.Pool.Name, old.Spec.Pool.Name)
		errs = append(errs, check.Immutable(path.Child("driver"), s.Spec.Driver, old.Spec.Driver)...)
		return append(errs, check.Immutable(path.Child("nodeName"), s.Spec.NodeName, old.Spec.NodeName)...)
	},
	Columns: []api.Column[slice]{
		api.Text("Node", sliceDoc["nodeName"], sliceNode),
		api.Text("Driver", sliceDoc["driver"], func(s slice) string { return s.Spec.Driver }),
		api.Text("Pool", resourcev1.ResourcePool{}.SwaggerDoc()["name"], func(s slice) string { return s.Spec.Pool.Name }),
		api.Age[slice](),
	},
	FieldText: "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: %s",
	Fields: map[string]func(slice) string{
		resourcev1.ResourceSliceSelectorNodeName: nodeOf,
		resourcev1.ResourceSliceSelectorDriver:   func(s slice) string { return s.Spec.Driver },
		resourcev1.ResourceSliceSelectorPoolName: func(s slice) string { return s.Spec.Pool.Name },
	},
	Indexes: []string{resourcev1.ResourceSliceSelectorNodeName},
})

func dropLists(s slice) {
	for i := range s.Spec.Devices {
		withoutLists(s.Spec.Devices[i].Attributes)
	}
}

func nodeOf(s slice) string {
	if s.Spec.NodeName == nil {
		return ""
	}
	return *s.Spec.NodeName
}

func sliceNode(s slice) string {
	if node := nodeOf(s); node != "" {
		return node
	}
	return "<unset>"
}

func validateSlice(s slice) field.ErrorList {
	path, spec := field.NewPath("spec"), &s.Spec
	errs := driver(spec.Driver, path.Child("driver"))
	errs = append(errs, validatePool(&spec.Pool, path.Child("pool"))...)
	errs = append(errs, place(spec, path)...)
	if len(spec.SharedCounters) > 0 && len(spec.Devices) > 0 {
		errs = append(errs, field.Invalid(path, "", "only one of `sharedCounters` or `devices` is allowed"))
	}
	limit := resourcev1.ResourceSliceMaxDevices
	if slices.ContainsFunc(spec.Devices, advanced) {
		limit = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
	}
	perDevice := spec.PerDeviceNodeSelection != nil && *spec.PerDeviceNodeSelection
	errs = append(errs, each(spec.Devices, limit, path.Child("devices"), func(d *resourcev1.Device, at *field.Path) field.ErrorList {
		return append(device(d, at), devicePlace(d, perDevice, at)...)
	})...)
	errs = append(errs, unique(spec.Devices, path.Child("devices"), func(d *resourcev1.Device) string { return d.Name })...)
	counters := path.Child("sharedCounters")
	errs = append(errs, each(spec.SharedCounters, resourcev1.ResourceSliceMaxCounterSets, counters, func(c *resourcev1.CounterSet, at *field.Path) field.ErrorList {
		return append(label(c.Name, at.Child("name")), validateCounters(c.Counters, resourcev1.ResourceSliceMaxCountersPerCounterSet, at.Child("counters"))...)
	})...)
	return append(errs, unique(spec.SharedCounters, counters, func(c *resourcev1.CounterSet) string { return c.Name })...)
}

// advanced devices take more room, so that fewer fit into a slice.
func advanced(d resourcev1.Device) bool { return len(d.Taints) > 0 || len(d.ConsumesCounters) > 0 }

func validatePool(p *resourcev1.ResourcePool, path *field.Path) field.ErrorList {
	errs := pool(p.Name, path.Child("name"))
	if p.ResourceSliceCount <= 0 {
		errs = append(errs, field.Invalid(path.Child("resourceSliceCount"), p.ResourceSliceCount, "must be greater than zero"))
	}
	if p.Generation < 0 {
		errs = append(errs, field.Invalid(path.Child("generation"), p.Generation, "must be greater than or equal to zero"))
	}
	return errs
}

// place: a slice says in one of four ways where its devices are.
func place(s *resourcev1.ResourceSliceSpec, path *field.Path) field.ErrorList {
	const one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	var errs field.ErrorList
	var ways []string
	if s.NodeName != nil {
		ways = append(ways, "`nodeName`")
		if *s.NodeName == "" {
			errs = append(errs, field.Invalid(path.Child("nodeName"), *s.NodeName, "must be either unset or set to a non-empty string"))
		} else {
			errs = append(errs, check.Subdomain(path.Child("nodeName"), *s.NodeName)...)
		}
	}
	if s.NodeSelector != nil {
		ways = append(ways, "`nodeSelector`")
		errs = append(errs, oneTerm(s.NodeSelector, path.Child("nodeSelector"))...)
	}
	for _, f := range []struct {
		name  string
		value *bool
	}{{"allNodes", s.AllNodes}, {"perDeviceNodeSelection", s.PerDeviceNodeSelection}} {
		if f.value == nil {
			continue
		}
		ways = append(ways, "`"+f.name+"`")
		if !*f.value {
			errs = append(errs, field.Invalid(path.Child(f.name), *f.value, "must be either unset or set to true"))
		}
	}
	switch len(ways) {
	case 0:
		errs = append(errs, field.Required(path, one))
	case 1:
	default:
		errs = append(errs, field.Invalid(path, set(ways), one+", but multiple fields are set"))
	}
	return errs
}

func oneTerm(s *corev1.NodeSelector, path *field.Path) field.ErrorList {
	errs := core.ValidateNodeSelector(s, path)
	if len(s.NodeSelectorTerms) != 1 {
		errs = append(errs, field.Invalid(path.Child("nodeSelectorTerms"), s.NodeSelectorTerms, "must have exactly one node selector term"))
	}
	return errs
}

func validateCounters(m map[string]resourcev1.Counter, limit int, path *field.Path) field.ErrorList {
	if len(m) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(m) > limit {
		errs = append(errs, field.TooMany(path, len(m), limit))
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		errs = append(errs, label(name, path.Key(name))...)
	}
	return errs
}
