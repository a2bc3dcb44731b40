package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/patch"
	"github.com/proa-dev/proa/store"
)

// writeOptions are the options that all writes share.
type writeOptions struct {
	dryRun     bool
	manager    string
	validation string // Strict, Warn or Ignore
}

func (r *request) writeOptions() (writeOptions, error) {
	o := writeOptions{manager: r.query.Get("fieldManager"), validation: r.query.Get("fieldValidation")}
	var errs field.ErrorList
	for _, v := range r.query["dryRun"] {
		if v != metav1.DryRunAll {
			errs = append(errs, field.NotSupported(field.NewPath("dryRun"), v, []string{metav1.DryRunAll}))
		}
		o.dryRun = true
	}
	if len(o.manager) > 128 {
		errs = append(errs, field.TooLong(field.NewPath("fieldManager"), o.manager, 128))
	}
	switch o.validation {
	case "":
		o.validation = metav1.FieldValidationWarn
	case metav1.FieldValidationStrict, metav1.FieldValidationWarn, metav1.FieldValidationIgnore:
	default:
		errs = append(errs, field.NotSupported(field.NewPath("fieldValidation"), o.validation,
			[]string{metav1.FieldValidationIgnore, metav1.FieldValidationStrict, metav1.FieldValidationWarn}))
	}
	if len(errs) > 0 {
		return o, apierrors.NewInvalid(metav1.SchemeGroupVersion.WithKind(optionsKind[r.verb]).GroupKind(), "", errs)
	}
	if o.manager == "" {
		o.manager = agentManager(r.r.UserAgent())
	}
	return o, nil
}

var optionsKind = map[string]string{"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions", "delete": "DeleteOptions"}

// agentManager is the field manager of a client that names none: its program's name.
func agentManager(agent string) string {
	name, _, _ := strings.Cut(agent, "/")
	if len(name) > 128 {
		name = name[:128]
	}
	return name
}

// attributesFor is what admission is told of a write.
func (r *request) attributesFor(op admission.Operation, obj, old api.Object, dryRun bool) *admission.Attributes {
	a := &admission.Attributes{
		Kind: r.kind.Kind, Subresource: r.sub, Namespace: r.namespace, Name: r.name,
		Operation: op, User: r.user, DryRun: dryRun, Warn: r.warn, Options: r.admissionOptions(op),
		Annotate: r.record.Annotator(),
	}
	if obj != nil {
		a.Object = obj
	}
	if old != nil {
		a.Old = old
	}
	return a
}

// sentObject reads the options and the object of a create or update.
func (r *request) sentObject() (api.Object, writeOptions, error) {
	o, err := r.writeOptions()
	if err != nil {
		return nil, o, err
	}
	raw, err := r.body()
	if err != nil {
		return nil, o, err
	}
	contentType, err := r.contentType()
	if err != nil {
		return nil, o, err
	}
	obj := r.kind.New()
	warnings, err := patch.DecodeKind(r.kind.Kind, obj, contentType, raw, o.validation)
	if err != nil {
		return nil, o, err
	}
	for _, w := range warnings {
		r.warn(w)
	}
	r.record.Sent(obj)
	return obj, o, nil
}

func (r *request) create() error {
	obj, o, err := r.sentObject()
	if err != nil {
		return err
	}
	item, made, err := r.createObject(r.r.Context(), obj, o, nil)
	if err != nil {
		return err
	}
	if item == nil {
		return r.respondObject(http.StatusCreated, made)
	}
	return r.respondItem(http.StatusCreated, item)
}

// createObject takes an object through defaults, admission and validation into the store.
// A dry run gives the object instead of an item. finish may be nil; it is the last word
// on the object's managed fields.
func (r *request) createObject(ctx context.Context, obj api.Object, o writeOptions, finish func(api.Object) (api.Object, error)) (*store.Item, api.Object, error) {
	generated := obj.GetName() == "" && obj.GetGenerateName() != ""
	for try := 1; ; try++ {
		one := obj.DeepCopyObject().(api.Object)
		item, made, err := r.createOnce(ctx, one, o, finish)
		if generated && isExists(err) && try < maxGenerateTries {
			continue
		}
		if generated && isExists(err) {
			return nil, nil, apierrors.NewGenerateNameConflict(r.groupResource(), one.GetName(), 1)
		}
		if isExists(err) {
			err = apierrors.NewAlreadyExists(r.groupResource(), one.GetName())
		}
		return item, made, err
	}
}

func (r *request) createOnce(ctx context.Context, obj api.Object, o writeOptions, finish func(api.Object) (api.Object, error)) (*store.Item, api.Object, error) {
	k := r.kind
	if err := r.ending(); err != nil {
		return nil, nil, err
	}
	if err := r.checkNamespace(obj); err != nil {
		return nil, nil, err
	}
	if r.name != "" && obj.GetName() != r.name {
		return nil, nil, wrongName(obj.GetName(), r.name)
	}
	if v := obj.GetResourceVersion(); v != "" && v != "0" {
		return nil, nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	k.Default(obj)
	a := r.attributesFor(admission.Create, obj, nil, o.dryRun)
	a.Name = obj.GetName()
	if err := r.s.cfg.Admission.Mutate(ctx, a); err != nil {
		return nil, nil, err
	}
	if err := r.checkNamespace(obj); err != nil { // admission must not move it
		return nil, nil, err
	}
	fillMeta(obj, r.s.cfg.Now())
	k.Default(obj)
	if k.HasStatus && !k.StatusOnCreate {
		clearStatus(obj)
	}
	if k.HasGeneration {
		obj.SetGeneration(1)
	}
	k.PrepareCreate(ctx, obj)
	errs := append(validateMeta(k.Kind, obj), append(k.ValidateCreate(obj), k.Validate(obj)...)...)
	if len(errs) > 0 {
		return nil, nil, apierrors.NewInvalid(k.GroupKind(), obj.GetName(), errs)
	}
	if err := r.s.cfg.Admission.Validate(ctx, a); err != nil {
		return nil, nil, err
	}
	for _, w := range k.Warnings(obj, nil) {
		r.warn(w)
	}
	obj, err := r.manage(nil, obj, o.manager, finish)
	if err != nil {
		return nil, nil, err
	}
	return r.commitNew(ctx, obj, o.dryRun)
}

// commitNew reserves what must be unique and stores the object.
func (r *request) commitNew(ctx context.Context, obj api.Object, dryRun bool) (*store.Item, api.Object, error) {
	k := r.kind
	undo := func() {}
	if k.Reserve != nil || dryRun {
		// What is there already is said as that, not as a clash of what it holds.
		if _, err := k.collection.Get(ctx, obj.GetNamespace(), obj.GetName(), store.Latest); err == nil {
			return nil, nil, store.ErrExists
		}
	}
	if k.Reserve != nil {
		var err error
		if undo, err = k.Reserve(ctx, r.s.env, obj, nil); err != nil {
			return nil, nil, err
		}
	}
	if dryRun {
		undo()
		return nil, obj, nil
	}
	stored, err := k.toStored(ctx, obj)
	if err != nil {
		undo()
		return nil, nil, err
	}
	item, err := k.collection.Create(ctx, stored)
	if err != nil {
		undo()
		return nil, nil, err
	}
	return item, nil, nil
}

// manage keeps managedFields; finish is server-side apply's own way.
func (r *request) manage(live, obj api.Object, manager string, finish func(api.Object) (api.Object, error)) (api.Object, error) {
	if finish != nil {
		return finish(obj)
	}
	f, err := r.kind.managed(r.s.cfg.Scheme)
	if err != nil {
		return nil, err
	}
	return f.Written(live, obj, manager, r.sub)
}

func (r *request) checkNamespace(obj api.Object) error {
	if !r.kind.Namespaced {
		if obj.GetNamespace() != "" {
			obj.SetNamespace("")
		}
		return nil
	}
	switch obj.GetNamespace() {
	case "":
		obj.SetNamespace(r.namespace)
	case r.namespace:
	default:
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

func wrongName(object, url string) error {
	return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", object, url))
}

// editor makes the new object from the present one.
type editor func(old api.Object) (api.Object, error)

func (r *request) update() error {
	sent, o, err := r.sentObject()
	if err != nil {
		return err
	}
	if sent.GetName() == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", r.name))
	}
	if sent.GetName() != r.name {
		return wrongName(sent.GetName(), r.name)
	}
	if ns := sent.GetNamespace(); r.kind.Namespaced && ns != "" && ns != r.namespace {
		return apierrors.NewBadRequest(fmt.Sprintf("the namespace of the object (%s) does not match the namespace on the request (%s)", ns, r.namespace))
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
	var dry api.Object
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
			dry = obj
			return nil, nil
		}
		if gone = r.finished(obj); gone {
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
	if gone {
		return r.remove(ctx, item)
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
func (r *request) remove(ctx context.Context, item *store.Item) (*store.Item, api.Object, error) {
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
	return last, nil, err
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
	if err := r.restrict(ctx, obj, old); err != nil {
		return nil, err
	}
	a, adopt := r.changeFor(obj, old, o.dryRun)
	if err := r.s.cfg.Admission.Mutate(ctx, a); err != nil {
		return nil, err
	}
	adopt()
	k.Default(obj)
	if err := r.restrict(ctx, obj, old); err != nil { // admission must not reach beyond either
		return nil, err
	}
	if errs := r.validateChange(obj, old); len(errs) > 0 {
		return nil, apierrors.NewInvalid(k.GroupKind(), obj.GetName(), errs)
	}
	if err := r.s.cfg.Admission.Validate(ctx, a); err != nil {
		return nil, err
	}
	if r.sub == "" {
		for _, w := range k.Warnings(obj, old) {
			r.warn(w)
		}
	}
	if finish != nil {
		return finish(old, obj)
	}
	return r.manage(old, obj, o.manager, nil)
}

// checkPreconditions compares what the client believes with what is stored.
func (r *request) checkPreconditions(old, obj api.Object) error {
	if uid := obj.GetUID(); uid != "" && uid != old.GetUID() {
		return apierrors.NewConflict(r.groupResource(), r.name,
			fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, old.GetUID())) //nolint:staticcheck // the text clients know
	}
	version := obj.GetResourceVersion()
	if version == "" || version == "0" {
		if !r.kind.UnconditionalUpdate && r.verb == "update" {
			return apierrors.NewInvalid(r.kind.GroupKind(), r.name, field.ErrorList{
				field.Invalid(field.NewPath("metadata", "resourceVersion"), uint64(0), "must be specified for an update"),
			})
		}
		return nil
	}
	if _, err := strconv.ParseUint(version, 10, 64); err != nil {
		return apierrors.NewInvalid(r.kind.GroupKind(), r.name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "resourceVersion"), version, err.Error()),
		})
	}
	if version != old.GetResourceVersion() {
		return apierrors.NewConflict(r.groupResource(), r.name, errModified)
	}
	return nil
}

// restrict keeps of obj only what this resource or subresource may change.
func (r *request) restrict(ctx context.Context, obj, old api.Object) error {
	k := r.kind
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
		k.PrepareStatus(obj, old)
	default:
		for _, u := range k.Updates {
			if u.Name == r.sub {
				u.Apply(ctx, obj, old)
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
