package apiserver

import (
	"context"
	"errors"
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store"
)

// What requests need to know of objects without a Go type, and of their versions.

// view is the object of an item in the kind's own version; read-only unless the kind is
// converted.
func (k *served) view(ctx context.Context, item *store.Item) (api.Object, error) {
	return k.viewObject(ctx, item.Object())
}

func (k *served) viewObject(ctx context.Context, obj api.Object) (api.Object, error) {
	switch {
	case obj == nil:
		return nil, nil
	case k.Custom != nil:
		if k.Custom.Own(obj) {
			return obj, nil
		}
		all, err := k.Custom.View(ctx, []api.Object{obj})
		if err != nil {
			return nil, err
		}
		return all[0], nil
	case k.FromStored == nil:
		return obj, nil
	}
	return k.FromStored(obj), nil
}

// toStored is what the store keeps of an object in the kind's own version.
func (k *served) toStored(ctx context.Context, obj api.Object) (api.Object, error) {
	switch {
	case k.Custom != nil:
		return k.Custom.ToStored(ctx, obj)
	case k.ToStored == nil:
		return obj, nil
	}
	return k.ToStored(obj), nil
}

// view is an item as this request shows it.
func (r *request) view(item *store.Item) (api.Object, error) {
	if obj, ok := r.shown[item]; ok {
		return obj, nil
	}
	return r.kind.view(r.r.Context(), item)
}

// show makes the views of many items ready at once: a webhook is asked once for all of them.
func (r *request) show(items []*store.Item) error {
	if r.kind.Custom == nil {
		return nil
	}
	var other []*store.Item
	var stored []api.Object
	for _, item := range items {
		if obj := item.Object(); obj != nil && !r.kind.Custom.Own(obj) {
			if _, ok := r.shown[item]; !ok {
				other, stored = append(other, item), append(stored, obj)
			}
		}
	}
	if len(other) == 0 {
		return nil
	}
	all, err := r.kind.Custom.View(r.r.Context(), stored)
	if err != nil {
		return err
	}
	if r.shown == nil {
		r.shown = make(map[*store.Item]api.Object, len(other))
	}
	for i, item := range other {
		r.shown[item] = all[i]
	}
	return nil
}

// versioned says that what a selection looks at can differ between the versions of the kind.
func (r *request) versioned(s *selection) bool {
	if r.kind.Custom == nil {
		return false
	}
	for _, q := range s.fields.Requirements() {
		if q.Field != "metadata.name" && q.Field != "metadata.namespace" {
			return true
		}
	}
	return false
}

// ending refuses what is new while the definition of its kind is being deleted.
func (r *request) ending(name string) error {
	if r.kind.Custom == nil || !r.kind.Custom.Ending {
		return nil
	}
	return apierrors.NewForbidden(r.groupResource(), name, errors.New("create not allowed while custom resource definition is terminating"))
}

// metaOf is an object's metadata as a struct; nil when there is none.
func metaOf(obj api.Object) *metav1.ObjectMeta {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		meta := &metav1.ObjectMeta{}
		content, _ := u.Object["metadata"].(map[string]any)
		if runtime.DefaultUnstructuredConverter.FromUnstructured(content, meta) != nil {
			return nil
		}
		return meta
	}
	if m, ok := obj.(interface{ GetObjectMeta() metav1.Object }); ok {
		meta, _ := m.GetObjectMeta().(*metav1.ObjectMeta)
		return meta
	}
	return nil
}

// copyField makes a field of to what it is in from.
func copyField(to, from *unstructured.Unstructured, name string) {
	if v, ok := from.Object[name]; ok {
		to.Object[name] = runtime.DeepCopyJSONValue(v)
	} else {
		delete(to.Object, name)
	}
}

// keepCustomButStatus: of a custom resource a status update touches the status alone.
func keepCustomButStatus(obj, old *unstructured.Unstructured) {
	status, has := obj.Object["status"]
	managed := obj.GetManagedFields()
	version := obj.GetResourceVersion()
	obj.Object = runtime.DeepCopyJSON(old.Object)
	if delete(obj.Object, "status"); has {
		obj.Object["status"] = status
	}
	obj.SetManagedFields(managed)
	obj.SetResourceVersion(version)
}

// changedCustom: something other than metadata, and status where that is a subresource, differs.
func changedCustom(k *api.Kind, obj, old *unstructured.Unstructured) bool {
	bare := func(u *unstructured.Unstructured) map[string]any {
		content := maps.Clone(u.Object)
		delete(content, "metadata")
		delete(content, "apiVersion")
		if k.HasStatus {
			delete(content, "status")
		}
		return content
	}
	return !equality.Semantic.DeepEqual(bare(obj), bare(old))
}
