package apiserver

import (
	"context"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store"
)

// editor makes the new object from the present one.
type editor func(old api.Object) (api.Object, error)

func (r *request) update() error {
	sent, o, err := r.sentObject()
	if err != nil {
		return err
	}
	if sent.GetName() == "" {
		return nameless(r.name)
	}
	if sent.GetName() != r.name {
		return wrongName(sent.GetName(), r.name)
	}
	if ns := sent.GetNamespace(); r.kind.Namespaced && ns != "" && ns != r.namespace {
		return errOtherNamespace
	}
	edit := func(api.Object) (api.Object, error) { return sent.DeepCopyObject().(api.Object), nil }
	item, obj, err := r.edit(edit, o, nil)
	if isNotFound(err) && r.kind.CreateOnUpdate && r.sub == "" {
		return r.createByUpdate(sent, o)
	}
	return r.answer(http.StatusOK, item, obj, err)
}

// createByUpdate is PUT of an object that is not there, for the kinds that allow it.
func (r *request) createByUpdate(sent api.Object, o writeOptions) error {
	if sent.GetUID() != "" || sent.GetResourceVersion() != "" && sent.GetResourceVersion() != "0" {
		return apierrors.NewNotFound(r.groupResource(), r.name)
	}
	item, obj, err := r.createObject(r.r.Context(), sent, o, nil)
	return r.answer(http.StatusCreated, item, obj, err)
}

func (r *request) answer(code int, item *store.Item, obj api.Object, err error) error {
	switch {
	case err != nil:
		return err
	case item != nil:
		return r.respondItem(code, item)
	}
	return r.respondObject(code, obj)
}

// edit changes the stored object: edit's result is defaulted, admitted, validated and
// stored, again from the newest object when another write came first. A dry run gives the
// object instead of an item.
func (r *request) edit(edit editor, o writeOptions, finish func(old, obj api.Object) (api.Object, error)) (*store.Item, api.Object, error) {
	ctx := r.r.Context()
	var dry, last api.Object
	var undo func()
	gone := false
	item, err := r.kind.collection.Update(ctx, r.namespaceOfObject(), r.name, func(cur *store.Item) (api.Object, error) {
		if undo != nil { // of the try before
			undo()
			undo = nil
		}
		old, err := r.kind.view(ctx, cur)
		if err != nil {
			return nil, err
		}
		obj, err := edit(old)
		if err != nil {
			return nil, err
		}
		if obj, err = r.change(ctx, old, obj, o, finish); err != nil {
			return nil, err
		}
		if r.kind.Reserve != nil && r.sub == "" {
			if undo, err = r.kind.Reserve(ctx, r.s.env, obj, old); err != nil {
				return nil, err
			}
		}
		if o.dryRun {
			dry, err = r.asStored(ctx, obj)
			return nil, err
		}
		if gone = r.finished(obj); gone {
			last = obj
			return nil, nil
		}
		return r.kind.toStored(ctx, obj)
	})
	if undo != nil && (err != nil || o.dryRun) {
		undo()
	}
	if err != nil || o.dryRun {
		return nil, dry, err
	}
	if gone { // clients expect what they made of it
		return nil, last, r.remove(ctx, item)
	}
	return item, nil, nil
}

// finished says whether an update took away the last thing that kept a deleted object.
func (r *request) finished(obj api.Object) bool {
	if obj.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 {
		return false
	}
	if grace := obj.GetDeletionGracePeriodSeconds(); grace != nil && *grace > 0 {
		return false
	}
	if r.kind.BeforeDelete == nil {
		return true
	}
	now := int64(0)
	return !r.kind.BeforeDelete(obj.DeepCopyObject().(api.Object), &metav1.DeleteOptions{GracePeriodSeconds: &now})
}

// remove deletes an object whose last finalizer an update took away.
func (r *request) remove(ctx context.Context, item *store.Item) error {
	revision := item.Revision
	last, err := r.kind.collection.Delete(ctx, r.namespaceOfObject(), r.name, func(cur *store.Item) error {
		if cur.Revision != revision {
			return apierrors.NewConflict(r.groupResource(), r.name, errModified)
		}
		return nil
	})
	if err == nil && r.kind.Released != nil {
		final := last.Object()
		if r.kind.FromStored != nil {
			final = r.kind.FromStored(final)
		}
		r.kind.Released(r.s.env, final)
	}
	return err
}

// change takes what a client made of old through the rules: pure but for admission.
func (r *request) change(ctx context.Context, old, obj api.Object, o writeOptions, finish func(old, obj api.Object) (api.Object, error)) (api.Object, error) {
	k := r.kind
	if err := r.checkNamespace(obj); err != nil {
		return nil, err
	}
	if err := r.checkPreconditions(old, obj); err != nil {
		return nil, err
	}
	carryMeta(obj, old)
	k.Default(obj)
	var err error
	if finish != nil {
		obj, err = finish(old, obj)
	} else {
		obj, err = r.manage(old, obj, o.manager, nil)
	}
	if err != nil {
		return nil, err
	}
	if err := r.restrict(ctx, obj, old); err != nil {
		return nil, err
	}
	a, adopt := r.changeFor(obj, old, o.dryRun)
	if err := r.mutate(ctx, a, obj); err != nil {
		return nil, err
	}
	adopt()
	k.Default(obj)
	if err := r.restrict(ctx, obj, old); err != nil { // admission must not reach beyond either
		return nil, err
	}
	if errs := r.validateChange(obj, old); len(errs) > 0 {
		return nil, apierrors.NewInvalid(k.StoredKind(), obj.GetName(), once(errs))
	}
	if err := r.s.cfg.Admission.Validate(ctx, a); err != nil {
		return nil, err
	}
	if r.sub == "" {
		for _, w := range k.Warnings(obj, old) {
			r.warn(w)
		}
	}
	return obj, nil
}

// checkPreconditions compares what the client believes with what is stored.
func (r *request) checkPreconditions(old, obj api.Object) error {
	if uid := obj.GetUID(); uid != "" && uid != old.GetUID() && r.verb == "update" { // in a patch it is a field that cannot change
		return apierrors.NewConflict(r.groupResource(), r.name, api.OtherUID(r.kind.Prefix, old, uid))
	}
	version := obj.GetResourceVersion()
	if version == "" || version == "0" {
		if !r.kind.UnconditionalUpdate && r.verb == "update" {
			named := schema.GroupKind{Group: r.kind.StoredKind().Group, Kind: r.resource} // as Kubernetes names it
			return apierrors.NewInvalid(named, r.name, field.ErrorList{
				field.Invalid(field.NewPath("metadata", "resourceVersion"), uint64(0), "must be specified for an update"),
			})
		}
		return nil
	}
	if _, err := strconv.ParseUint(version, 10, 64); err != nil {
		return apierrors.NewInvalid(r.kind.StoredKind(), r.name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "resourceVersion"), version, err.Error()),
		})
	}
	if version != old.GetResourceVersion() {
		return apierrors.NewConflict(r.groupResource(), r.name, errModified)
	}
	return nil
}

// restrict keeps of obj only what this resource or subresource may change, and who owns what as it is.
func (r *request) restrict(ctx context.Context, obj, old api.Object) error {
	k, managed := r.kind, obj.GetManagedFields()
	defer func() { obj.SetManagedFields(managed) }()
	switch r.sub {
	case "":
		if k.HasStatus {
			keepStatus(obj, old)
		}
		if k.HasGeneration {
			obj.SetGeneration(old.GetGeneration())
		}
		k.PrepareUpdate(ctx, obj, old) // may raise the generation as well
		if k.HasGeneration && changedSpec(k.Kind, obj, old) {
			obj.SetGeneration(old.GetGeneration() + 1)
		}
	case "status":
		keepAllButStatus(obj, old)
		keepMeta(obj, old, k.Unowned["status"])
		k.PrepareStatus(obj, old)
	default:
		for _, u := range k.Updates {
			if u.Name == r.sub {
				managed := obj.GetManagedFields()
				u.Apply(ctx, obj, old)
				obj.SetManagedFields(managed)
				if k.HasGeneration && changedSpec(k.Kind, obj, old) {
					obj.SetGeneration(old.GetGeneration() + 1)
				}
			}
		}
	}
	return nil
}

func (r *request) validateChange(obj, old api.Object) field.ErrorList {
	k := r.kind
	errs := validateMetaUpdate(k.Kind, obj, old)
	switch r.sub {
	case "":
		if !k.Ratchets {
			errs = append(errs, k.Validate(obj)...)
		}
		errs = append(errs, k.ValidateUpdate(obj, old)...)
	case "status":
		errs = append(errs, k.ValidateStatus(obj, old)...)
	default:
		for _, u := range k.Updates {
			if u.Name == r.sub {
				errs = append(errs, u.Validate(obj, old)...)
			}
		}
	}
	return errs
}
