package apiserver

import (
	"context"
	"fmt"
	"net/http"
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
		Annotate: r.record.Annotator(), Observer: (*observed)(r),
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
