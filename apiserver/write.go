package apiserver

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
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
	dryRun := r.query["dryRun"]
	o.dryRun = len(dryRun) > 0
	var errs field.ErrorList
	if r.verb == "patch" {
		p := &metav1.PatchOptions{FieldManager: o.manager, FieldValidation: o.validation, DryRun: dryRun}
		media, _, _ := mime.ParseMediaType(r.r.Header.Get("Content-Type")) // another one is refused later
		if r.query.Get("force") != "" {
			force := r.on("force")
			p.Force = &force
		}
		errs = metav1validation.ValidatePatchOptions(p, types.PatchType(media))
	} else {
		errs = metav1validation.ValidateCreateOptions(&metav1.CreateOptions{FieldManager: o.manager, FieldValidation: o.validation, DryRun: dryRun})
	}
	if len(errs) > 0 {
		return o, apierrors.NewInvalid(metav1.SchemeGroupVersion.WithKind(optionsKind[r.verb]).GroupKind(), "", errs)
	}
	if o.validation == "" {
		o.validation = metav1.FieldValidationWarn
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
		Operation: op, Verb: r.verb, User: r.user, DryRun: dryRun, Warn: r.warn, Options: r.admissionOptions(op),
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
		if errors.Is(err, store.ErrClaimed) && try < maxGenerateTries { // by way of another server
			continue
		}
		if generated && isExists(err) {
			return nil, nil, apierrors.NewGenerateNameConflict(r.groupResource(), one.GetName(), 1)
		}
		if isExists(err) {
			err = r.alreadyThere(ctx, one.GetName())
		}
		return item, made, err
	}
}

// alreadyThere refuses a name that is taken, and says if it soon is not.
func (r *request) alreadyThere(ctx context.Context, name string) error {
	err := apierrors.NewAlreadyExists(r.groupResource(), name)
	if item, e := r.kind.collection.Get(ctx, r.namespaceOfObject(), name, store.Latest); e == nil && item.Object().GetDeletionTimestamp() != nil {
		err.ErrStatus.Message = "object is being deleted: " + err.ErrStatus.Message
	}
	return err
}

func (r *request) createOnce(ctx context.Context, obj api.Object, o writeOptions, finish func(api.Object) (api.Object, error)) (*store.Item, api.Object, error) {
	k := r.kind
	if err := r.ending(obj.GetName()); err != nil {
		return nil, nil, err
	}
	if err := r.checkNamespace(obj); err != nil {
		return nil, nil, err
	}
	wipeMeta(obj)
	if r.name != "" && obj.GetName() != r.name {
		return nil, nil, wrongName(obj.GetName(), r.name)
	}
	if v := obj.GetResourceVersion(); v != "" && v != "0" {
		return nil, nil, versionOfNew
	}
	k.Default(obj)
	obj, err := r.manage(nil, obj, o.manager, finish)
	if err != nil {
		return nil, nil, err
	}
	a := r.attributesFor(admission.Create, obj, nil, o.dryRun)
	a.Name = obj.GetName()
	if err := r.mutate(ctx, a, obj); err != nil {
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
		return nil, nil, apierrors.NewInvalid(k.StoredKind(), obj.GetName(), once(errs))
	}
	a.Name = obj.GetName() // which may have been generated
	undo, err := r.reserve(ctx, obj, o.dryRun)
	if err != nil {
		return nil, nil, err
	}
	if err := r.s.cfg.Admission.Validate(ctx, a); err != nil {
		undo()
		return nil, nil, err
	}
	for _, w := range k.Warnings(obj, nil) {
		r.warn(w)
	}
	if o.dryRun {
		undo()
		obj, err = r.asStored(ctx, obj)
		return nil, obj, err
	}
	return r.commitNew(ctx, obj, undo)
}

// reserve takes what must be unique, before admission sees the object as it will be.
func (r *request) reserve(ctx context.Context, obj api.Object, dryRun bool) (undo func(), err error) {
	k := r.kind
	if k.Reserve != nil || dryRun {
		// What is there already is said as that, not as a clash of what it holds.
		if _, err := k.collection.Get(ctx, obj.GetNamespace(), obj.GetName(), store.Latest); err == nil {
			return nil, store.ErrExists
		}
	}
	if k.Reserve == nil {
		return func() {}, nil
	}
	return k.Reserve(ctx, r.s.env, obj, nil)
}

// asStored is an object as it would be read again: what the stored version cannot say is lost.
func (r *request) asStored(ctx context.Context, obj api.Object) (api.Object, error) {
	if r.kind.Custom == nil {
		return obj, nil
	}
	stored, err := r.kind.toStored(ctx, obj)
	if err != nil {
		return nil, err
	}
	return r.kind.viewObject(ctx, stored)
}

// commitNew stores an object; undo gives back what it reserved.
func (r *request) commitNew(ctx context.Context, obj api.Object, undo func()) (*store.Item, api.Object, error) {
	k := r.kind
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

// mutate has admission change obj. It may not spoil who owns what.
func (r *request) mutate(ctx context.Context, a *admission.Attributes, obj api.Object) error {
	before := obj.GetManagedFields()
	if err := r.s.cfg.Admission.Mutate(ctx, a); err != nil {
		return err
	}
	after := obj.GetManagedFields()
	if reflect.DeepEqual(before, after) {
		return nil
	}
	if err := managedfields.ValidateManagedFields(after); err != nil {
		obj.SetManagedFields(before)
		r.warn(".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: " + err.Error())
	}
	return nil
}

// manage keeps managedFields of what a client wrote, before admission and the kind's own rules change it: what
// they set belongs to nobody. finish is server-side apply's own way.
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
		return errOtherNamespace
	}
	return nil
}

func nameless(url string) error {
	return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", url))
}

// versionOfNew refuses a version of what is not there yet, with the code that clients know.
var versionOfNew = &apierrors.StatusError{ErrStatus: metav1.Status{
	Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: "resourceVersion should not be set on objects to be created",
}}

var errOtherNamespace = apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")

func wrongName(object, url string) error {
	return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", object, url))
}
