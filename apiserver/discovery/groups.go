package discovery

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"sort"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
)

type group struct {
	name     string
	versions []versionKinds
}

type versionKinds struct {
	version   string
	resources []resource
	remote    *catalog.Remote // answered by another server: has no resources of its own
}

type resource struct {
	kind         *api.Kind
	verbs        []string
	subresources []subresource
}

type subresource struct {
	name  string
	kind  schema.GroupVersionKind
	verbs []string
}

// groupOrder is the order in which built-in groups are listed, which is the order in
// which kubectl resolves a short name that several groups have. Others follow by name.
var groupOrder = []string{
	"", "apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io",
	"autoscaling", "batch", "certificates.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io",
	"storage.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io", "scheduling.k8s.io",
	"coordination.k8s.io", "node.k8s.io", "discovery.k8s.io", "resource.k8s.io", "flowcontrol.apiserver.k8s.io",
	"storagemigration.k8s.io",
}

func rank(name string) int {
	if i := slices.Index(groupOrder, name); i >= 0 {
		return i
	}
	return len(groupOrder)
}

// groupKinds sorts what is served into groups, versions (stable before beta, newer before
// older) and resources by name. Groups that are not built in follow by what other servers'
// group versions ask for, customPriority for those of custom resources, then by name; those
// versions of a group come in the order of their priorities.
func groupKinds(state *catalog.State) []group {
	kinds := state.Kinds
	byVersion := map[schema.GroupVersion][]resource{}
	for _, k := range kinds {
		gv := k.GroupVersion()
		byVersion[gv] = append(byVersion[gv], describe(k))
	}
	byGroup := map[string][]versionKinds{}
	for gv, resources := range byVersion {
		sort.Slice(resources, func(i, j int) bool {
			return resources[i].kind.Resource.Resource < resources[j].kind.Resource.Resource
		})
		byGroup[gv.Group] = append(byGroup[gv.Group], versionKinds{version: gv.Version, resources: resources})
	}
	priorities := map[string]int32{}
	for i := range state.Remote {
		r := &state.Remote[i]
		byGroup[r.Group] = append(byGroup[r.Group], versionKinds{version: r.Version, remote: r})
		priorities[r.Group] = max(priorities[r.Group], r.GroupPriority)
	}
	var groups []group
	for name, versions := range byGroup {
		sort.Slice(versions, func(i, j int) bool {
			a, b := versions[i].priority(), versions[j].priority()
			return a > b || a == b && version.CompareKubeAwareVersionStrings(versions[i].version, versions[j].version) > 0
		})
		groups = append(groups, group{name, versions})
	}
	for _, k := range kinds {
		p := int32(customPriority)
		if k.Computed != nil && k.Computed.Yields {
			p = ownPriority // what another server would ask for
		}
		priorities[k.Group] = max(priorities[k.Group], p)
	}
	sort.Slice(groups, func(i, j int) bool {
		x, y := groups[i].name, groups[j].name
		if a, b := rank(x), rank(y); a != b {
			return a < b
		}
		if a, b := priorities[x], priorities[y]; a != b {
			return a > b
		}
		return x < y
	})
	return groups
}

// The priorities of a group of custom resources, and of a version of any that is answered here.
const customPriority, ownPriority = 1000, 100

func (v versionKinds) priority() int32 {
	if v.remote != nil {
		return v.remote.VersionPriority
	}
	return ownPriority
}

// The verbs of a stored kind.
var storedVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// customVerbs are the same in the order in which clients know them of custom resources.
var customVerbs = []string{"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"}

func describe(k *api.Kind) resource {
	if k.Computed != nil {
		return resource{kind: k, verbs: []string{"get", "list"}}
	}
	if k.Virtual != nil {
		return resource{kind: k, verbs: []string{"create"}}
	}
	r := resource{kind: k, verbs: storedVerbs}
	if k.Custom != nil {
		r.verbs = customVerbs
	}
	if k.NoDeleteCollection {
		r.verbs = slices.DeleteFunc(slices.Clone(storedVerbs), func(v string) bool { return v == "deletecollection" })
	}
	view := []string{"get", "patch", "update"}
	if k.HasStatus {
		r.subresources = append(r.subresources, subresource{"status", k.GroupVersionKind, view})
	}
	if k.Scale != nil {
		gvk := schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}
		r.subresources = append(r.subresources, subresource{"scale", gvk, view})
	}
	for _, u := range k.Updates {
		var verbs []string
		if !u.NoGet {
			verbs = append(verbs, "get")
		}
		if !u.NoPatch {
			verbs = append(verbs, "patch")
		}
		r.subresources = append(r.subresources, subresource{u.Name, k.GroupVersionKind, append(verbs, "update")})
	}
	for _, a := range k.Actions {
		gvk := schema.GroupVersionKind{Group: a.Group, Version: a.Version, Kind: a.Kind}
		r.subresources = append(r.subresources, subresource{a.Name, gvk, []string{"create"}})
	}
	for _, c := range k.Connects {
		gvk := k.GroupVersion().WithKind(c.Kind)
		r.subresources = append(r.subresources, subresource{c.Name, gvk, c.Verbs})
	}
	if k.Custom != nil {
		return r // status, then scale
	}
	sort.Slice(r.subresources, func(i, j int) bool { return r.subresources[i].name < r.subresources[j].name })
	return r
}

// storageVersionHash tells clients when the stored version of a kind changes: eight bytes
// of a hash over group, version and kind.
func storageVersionHash(k *api.Kind) string {
	if k.Virtual != nil {
		return ""
	}
	gv := k.GroupVersion()
	if k.Stored != nil {
		gv = *k.Stored
	}
	sum := sha256.Sum256([]byte(gv.Group + "/" + gv.Version + "/" + k.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}
