// Package quota knows what an object uses of a ResourceQuota, and which quotas it falls under.
//
// The one idea: for each name that a quota can limit there is one kind whose objects use
// it (Of), and for each kind a pure function from an object to what it uses (Usage). All
// other arithmetic is on resource lists.
//
// Used by access/admission, which charges quotas, and controllers/resourcequota, which
// counts them afresh.
package quota

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The kinds that use more than their own number.
var (
	Pods     = schema.GroupResource{Resource: "pods"}
	Services = schema.GroupResource{Resource: "services"}
	Claims   = schema.GroupResource{Resource: "persistentvolumeclaims"}
	Devices  = schema.GroupResource{Group: resourcev1.GroupName, Resource: "resourceclaims"}
)

// countPrefix begins the names that limit the number of objects of any kind.
const countPrefix = "count/"

// plain are the kinds whose number has a short name as well.
var plain = []string{"configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "resourcequotas", "secrets", "services"}

const (
	storageClassSuffix = ".storageclass.storage.k8s.io/"
	deviceClassSuffix  = ".deviceclass.resource.k8s.io/devices"
)

// Of is the kind whose objects use a name; false when nothing does.
func Of(name corev1.ResourceName) (schema.GroupResource, bool) {
	s := string(name)
	if of, ok := strings.CutPrefix(s, countPrefix); ok {
		return schema.ParseGroupResource(of), of != ""
	}
	switch {
	case slices.Contains(plain, s):
		return schema.GroupResource{Resource: s}, true
	case name == corev1.ResourceServicesNodePorts || name == corev1.ResourceServicesLoadBalancers:
		return Services, true
	case name == corev1.ResourceRequestsStorage || strings.Contains(s, storageClassSuffix):
		return Claims, true
	case strings.HasSuffix(s, deviceClassSuffix):
		return Devices, true
	case compute[name] || strings.HasPrefix(s, corev1.ResourceHugePagesPrefix) || strings.HasPrefix(s, corev1.ResourceRequestsHugePagesPrefix) || extended(s):
		return Pods, true
	}
	return schema.GroupResource{}, false
}

// extended names are requests.example.com/gpu.
func extended(s string) bool {
	rest, ok := strings.CutPrefix(s, corev1.DefaultResourceRequestsPrefix)
	return ok && strings.Contains(rest, "/") && !strings.Contains(rest, "kubernetes.io/")
}

// Names are those of a list that objects of a kind use, sorted.
func Names(list corev1.ResourceList, of schema.GroupResource) []corev1.ResourceName {
	var out []corev1.ResourceName
	for name := range list {
		if gr, ok := Of(name); ok && gr == of {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Usage is what an object of a kind uses, of names that Of gives to the kind. The object
// is of the kind's Go type; where only the number counts it may be anything. A pod that
// has ended uses its place among the objects alone; now tells when a deleted one has.
func Usage(of schema.GroupResource, obj any, now time.Time) corev1.ResourceList {
	use := corev1.ResourceList{corev1.ResourceName(countPrefix + of.String()): *resource.NewQuantity(1, resource.DecimalSI)}
	if of == Pods {
		if pod, ok := obj.(*corev1.Pod); ok && alive(pod, now) {
			Add(use, podUsage(pod))
		}
		return use
	}
	if of.Group == "" && slices.Contains(plain, of.Resource) {
		use[corev1.ResourceName(of.Resource)] = *resource.NewQuantity(1, resource.DecimalSI)
	}
	switch o := obj.(type) {
	case *corev1.Service:
		Add(use, serviceUsage(o))
	case *corev1.PersistentVolumeClaim:
		Add(use, claimUsage(o))
	case *resourcev1.ResourceClaim:
		Add(use, deviceUsage(o))
	}
	return use
}

// Add adds a list to another.
func Add(sum, more corev1.ResourceList) {
	for name, q := range more {
		s, ok := sum[name]
		if !ok {
			sum[name] = q.DeepCopy()
			continue
		}
		s.Add(q)
		sum[name] = s
	}
}

// Growth is what after uses more than before, name by name; nothing of less than that.
func Growth(after, before corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range after {
		q = q.DeepCopy()
		if was, ok := before[name]; ok {
			q.Sub(was)
		}
		if q.Sign() > 0 {
			out[name] = q
		}
	}
	return out
}

// Only is the part of a list that has its names in another.
func Only(list, names corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name := range names {
		if q, ok := list[name]; ok {
			out[name] = q
		}
	}
	return out
}

// Exceeded are the names under which used and requested together are more than hard.
func Exceeded(requested, used, hard corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range requested {
		limit, limited := hard[name]
		if !limited {
			continue
		}
		total := used[name].DeepCopy()
		total.Add(q)
		if total.Cmp(limit) > 0 {
			out[name] = q
		}
	}
	return out
}

// Text writes a list as messages have it: "cpu=1,pods=2".
func Text(list corev1.ResourceList) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(list)) {
		q := list[name]
		parts = append(parts, string(name)+"="+q.String())
	}
	return strings.Join(parts, ",")
}
