package match

import (
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/access/admission"
)

// Review describes the request in the target's form, without uid and objects.
func (r *Request) Review(t Target) *admissionv1.AdmissionRequest {
	dryRun := r.DryRun
	namespace := r.Namespace
	if r.Kind.GroupResource() == namespaces && r.Operation != admission.Create {
		namespace = r.Name // a namespace is in itself
	}
	gvk, gvr := r.GVK(), r.Kind.Resource
	out := &admissionv1.AdmissionRequest{
		Kind: metav1.GroupVersionKind(t.GVK), Resource: metav1.GroupVersionResource(t.Resource), SubResource: r.Subresource,
		RequestKind: (*metav1.GroupVersionKind)(&gvk), RequestResource: (*metav1.GroupVersionResource)(&gvr), RequestSubResource: r.Subresource,
		Name: r.Name, Namespace: namespace, Operation: admissionv1.Operation(r.Operation), DryRun: &dryRun,
		Options: runtime.RawExtension{Object: r.Options},
	}
	if u := r.User; u != nil {
		out.UserInfo = authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
		for key, values := range u.Extra {
			if out.UserInfo.Extra == nil {
				out.UserInfo.Extra = map[string]authenticationv1.ExtraValue{}
			}
			out.UserInfo.Extra[key] = authenticationv1.ExtraValue(values)
		}
	}
	return out
}

// NamespaceObject is what policies see of the request's namespace: nothing that nobody
// decides upon. Nil outside of namespaces, and for namespaces themselves.
func (r *Request) NamespaceObject() *corev1.Namespace {
	if r.Namespace == "" || r.Kind.GroupResource() == namespaces {
		return nil
	}
	obj, _ := r.env.Reader.Get(namespaces, "", r.Namespace)
	ns, ok := obj.(*corev1.Namespace)
	if !ok {
		return nil
	}
	m := &ns.ObjectMeta
	return &corev1.Namespace{Spec: ns.Spec, Status: ns.Status, ObjectMeta: metav1.ObjectMeta{
		Name: m.Name, GenerateName: m.GenerateName, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp, DeletionGracePeriodSeconds: m.DeletionGracePeriodSeconds,
		Labels: m.Labels, Annotations: m.Annotations, Finalizers: m.Finalizers,
	}}
}
