package admission

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/access"
)

// nodeOfToken is what a service account's token says about the node that its pod runs on.
const nodeOfToken = "authentication.kubernetes.io/node-name"

// resourceClaims keeps devices with the access of an administrator to namespaces that are labelled for it, and lets
// only a scheduler allocate a claim and only a driver speak of its devices.
type resourceClaims struct{ env Env }

func (r *resourceClaims) Validate(ctx context.Context, a *Attributes) error {
	var errs field.ErrorList
	switch o := a.Object.(type) {
	case *resourcev1.ResourceClaim:
		old, _ := a.Old.(*resourcev1.ResourceClaim)
		switch {
		case a.Operation == Create && a.Subresource == "":
			errs = r.adminAccess(a, o.Spec.Devices.Requests)
		case a.Operation == Update && a.Subresource == "status" && old != nil:
			errs = r.status(ctx, a, &o.Status, &old.Status)
		}
	case *resourcev1.ResourceClaimTemplate:
		if a.Operation == Create {
			errs = r.adminAccess(a, o.Spec.Spec.Devices.Requests)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(a.Kind.GroupKind(), objectName(a), errs)
}

// adminAccess names the first request for such access where the namespace does not allow it.
func (r *resourceClaims) adminAccess(a *Attributes, requests []resourcev1.DeviceRequest) field.ErrorList {
	for i, q := range requests {
		if q.Exactly != nil && q.Exactly.AdminAccess != nil && *q.Exactly.AdminAccess {
			return r.labelled(a, field.NewPath("spec", "devices", "requests").Index(i).Child("adminAccess"))
		}
	}
	return nil
}

func (r *resourceClaims) labelled(a *Attributes, path *field.Path) field.ErrorList {
	if ns, ok := r.env.Reader.Get(namespaces, "", a.Namespace); ok && ns.GetLabels()[resourcev1.DRAAdminNamespaceLabelKey] == "true" {
		return nil
	}
	return field.ErrorList{field.Forbidden(path, fmt.Sprintf("admin access to devices requires the `%s: true` label on the containing namespace", resourcev1.DRAAdminNamespaceLabelKey))}
}

func granted(s *resourcev1.ResourceClaimStatus) int {
	if s.Allocation == nil {
		return -1
	}
	return slices.IndexFunc(s.Allocation.Devices.Results, func(d resourcev1.DeviceRequestAllocationResult) bool {
		return d.AdminAccess != nil && *d.AdminAccess
	})
}

func (r *resourceClaims) status(ctx context.Context, a *Attributes, now, was *resourcev1.ResourceClaimStatus) (errs field.ErrorList) {
	if i := granted(now); i >= 0 && granted(was) < 0 {
		errs = r.labelled(a, field.NewPath("status", "allocation", "devices", "results").Index(i).Child("adminAccess"))
	}
	verb := cmp.Or(a.Verb, "update")
	if !equality.Semantic.DeepEqual(now.Allocation, was.Allocation) || !equality.Semantic.DeepEqual(now.ReservedFor, was.ReservedFor) {
		if denied := r.denied(ctx, a, verb, "binding", "", ""); denied != "" {
			errs = append(errs, field.Forbidden(field.NewPath("status", "allocation"),
				fmt.Sprintf(`changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", verb=%q permission: %s`, verb, denied)))
		}
	}
	if now.Allocation == nil { // what is said of devices is dropped
		return errs
	}
	verbs := []string{"arbitrary-node:" + verb}
	if node := allocatedNode(now.Allocation); node != "" && isAccount(a.User.Name) && slices.Equal(a.User.Extra[nodeOfToken], []string{node}) {
		verbs = append([]string{"associated-node:" + verb}, verbs...)
	}
	for _, driver := range changedDrivers(now.Devices, was.Devices) {
		if denied := r.deniedAll(ctx, a, verbs, driver); denied != "" {
			errs = append(errs, field.Forbidden(field.NewPath("status", "devices"),
				fmt.Sprintf(`changing status.devices requires resource="resourceclaims/driver", verb="%s" permission: %s`, verbs, denied)))
		}
	}
	return errs
}

func isAccount(user string) bool {
	_, _, ok := access.SplitServiceAccount(user)
	return ok
}

// deniedAll says why none of the verbs is allowed: why the first is not.
func (r *resourceClaims) deniedAll(ctx context.Context, a *Attributes, verbs []string, driver string) (first string) {
	for _, verb := range verbs {
		denied := r.denied(ctx, a, verb, "driver", a.Namespace, driver)
		if denied == "" {
			return ""
		}
		if first == "" {
			first = denied
		}
	}
	return first
}

// denied says why the user may not do what the claim's subresource stands for, "" if he may.
func (r *resourceClaims) denied(ctx context.Context, a *Attributes, verb, subresource, namespace, name string) string {
	d, reason := r.env.Authorizer.Authorize(ctx, &access.Attributes{
		User: a.User, Verb: verb, Resource: true, Group: resourcev1.GroupName, Version: "v1",
		Plural: "resourceclaims", Subresource: subresource, Namespace: namespace, Name: name,
	})
	if d == access.Allow {
		return ""
	}
	object, scope := "resourceclaims."+resourcev1.GroupName, "at the cluster scope"
	if name != "" {
		object += fmt.Sprintf(" %q", name)
	}
	if namespace != "" {
		scope = fmt.Sprintf("in the namespace %q", namespace)
	}
	text := fmt.Sprintf("%s is forbidden: User %q cannot %s resource %q in API group %q %s", object, a.User.Name, verb, "resourceclaims/"+subresource, resourcev1.GroupName, scope)
	return strings.TrimSuffix(text+": "+reason, ": ")
}

// allocatedNode is the node that an allocation is bound to, "" if it is not just one.
func allocatedNode(a *resourcev1.AllocationResult) string {
	if a.NodeSelector == nil || len(a.NodeSelector.NodeSelectorTerms) != 1 {
		return ""
	}
	term := a.NodeSelector.NodeSelectorTerms[0]
	if len(term.MatchExpressions) != 0 || len(term.MatchFields) != 1 {
		return ""
	}
	f := term.MatchFields[0]
	if f.Key != metav1.ObjectNameField || f.Operator != "In" || len(f.Values) != 1 {
		return ""
	}
	return f.Values[0]
}

// changedDrivers are the drivers of devices whose status came, went or changed, in order.
func changedDrivers(now, was []resourcev1.AllocatedDeviceStatus) []string {
	key := func(d *resourcev1.AllocatedDeviceStatus) [4]string {
		share := ""
		if d.ShareID != nil {
			share = *d.ShareID
		}
		return [4]string{d.Driver, d.Pool, d.Device, share}
	}
	drivers, before := map[string]bool{}, map[[4]string]*resourcev1.AllocatedDeviceStatus{}
	for i := range was {
		before[key(&was[i])] = &was[i]
	}
	for i := range now {
		k := key(&now[i])
		if old := before[k]; old == nil || !equality.Semantic.DeepEqual(*old, now[i]) {
			drivers[now[i].Driver] = true
		}
		delete(before, k)
	}
	for k := range before {
		drivers[k[0]] = true
	}
	return slices.Sorted(maps.Keys(drivers))
}
