package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/patch"
	"github.com/proa-dev/proa/store"
)

// deleteOptions come in the body, or in the query of clients that send none.
func (r *request) deleteOptions() (*metav1.DeleteOptions, error) {
	raw, err := r.body()
	if err != nil {
		return nil, err
	}
	o := &metav1.DeleteOptions{}
	if len(raw) > 0 {
		if err := r.decodeDelete(raw, o); err != nil {
			return nil, err
		}
		r.record.Sent(o)
	} else if err := r.deleteQuery(o); err != nil {
		return nil, err
	}
	if errs := metav1validation.ValidateDeleteOptions(o); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "DeleteOptions"}, "", errs)
	}
	return o, nil
}

// decodeDelete reads options of a delete; clients of a group say they are of that group.
func (r *request) decodeDelete(raw []byte, o *metav1.DeleteOptions) error {
	for _, gv := range []schema.GroupVersion{{Version: "v1"}, r.gv, {Group: "meta.k8s.io", Version: "v1"}} {
		err := r.decode(gv.WithKind("DeleteOptions"), o, raw, metav1.FieldValidationIgnore)
		if err == nil {
			return nil
		}
		if apierrors.IsUnsupportedMediaType(err) {
			return err
		}
	}
	stated, err := patch.StatedKind(raw)
	if err == nil && stated.Kind != "" && stated.Kind != "DeleteOptions" {
		err = fmt.Errorf("no kind %q is registered for version %q in scheme %q", stated.Kind, stated.APIVersion, patch.SchemeName)
	}
	if err == nil {
		err = json.Unmarshal(raw, o)
	}
	if err == nil {
		err = fmt.Errorf("no kind %q is registered for version %q in scheme %q", "DeleteOptions", stated.APIVersion, patch.SchemeName)
	}
	return apierrors.NewBadRequest(err.Error())
}

func (r *request) deleteQuery(o *metav1.DeleteOptions) error {
	if v := r.query.Get("gracePeriodSeconds"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		o.GracePeriodSeconds = &n
	}
	if v := r.query.Get("propagationPolicy"); v != "" {
		p := metav1.DeletionPropagation(v)
		o.PropagationPolicy = &p
	}
	if v := r.query.Get("orphanDependents"); v != "" {
		on := r.on("orphanDependents")
		o.OrphanDependents = &on //nolint:staticcheck // older clients send it
	}
	if r.query.Has("ignoreStoreReadErrorWithClusterBreakingPotential") {
		on := r.on("ignoreStoreReadErrorWithClusterBreakingPotential")
		o.IgnoreStoreReadErrorWithClusterBreakingPotential = &on
	}
	o.DryRun = r.query["dryRun"]
	return nil
}

func (r *request) delete() error {
	o, err := r.deleteOptions()
	if err != nil {
		return err
	}
	r.warnOrphans(o)
	last, kept, err := r.remover().delete(r.r.Context(), o)
	if err != nil {
		return err
	}
	if kept != nil {
		code := http.StatusOK
		if o.OrphanDependents != nil && !*o.OrphanDependents { //nolint:staticcheck // older clients send it
			code = http.StatusAccepted
		}
		return r.respondObject(code, kept)
	}
	if r.kind.BeforeDelete != nil {
		last = r.endedNow(last)
	}
	if api.AnswersDeleted(r.groupResource()) {
		return r.respondObject(http.StatusOK, last)
	}
	return r.respondObject(http.StatusOK, &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Name: r.name, Group: r.gv.Group, Kind: r.resource, UID: last.GetUID()},
	})
}

// endedNow is what a client is answered who deletes an object that has a grace period without one.
func (r *request) endedNow(last api.Object) api.Object {
	last = last.DeepCopyObject().(api.Object)
	at, none := metav1.NewTime(r.s.cfg.Now()).Rfc3339Copy(), int64(0)
	if was := last.GetDeletionTimestamp(); was != nil && was.Before(&at) {
		at = *was
	} else if was == nil && last.GetGeneration() > 0 {
		last.SetGeneration(last.GetGeneration() + 1)
	}
	last.SetDeletionTimestamp(&at)
	last.SetDeletionGracePeriodSeconds(&none)
	return last
}

func (r *request) deleteCollection() error {
	o, err := r.deleteOptions()
	if err != nil {
		return err
	}
	p, err := r.page()
	if err != nil {
		return err
	}
	r.warnOrphans(o)
	for _, item := range p.items {
		one := r.remover()
		one.namespace, one.name = item.Key()
		if _, _, err := one.delete(r.r.Context(), o); err != nil && !isNotFound(err) {
			return err
		}
		if err := r.r.Context().Err(); err != nil {
			return err
		}
	}
	r.auditPage(p)
	return r.answerPage(p)
}

// warnOrphans tells who deletes without a policy what stays.
func (r *request) warnOrphans(o *metav1.DeleteOptions) {
	if r.kind.OrphansText != "" && o.PropagationPolicy == nil && o.OrphanDependents == nil { //nolint:staticcheck // older clients send it
		r.warn(r.kind.OrphansText)
	}
}

// remover deletes one object; requests and the server's own actions use it alike.
type remover struct {
	s               *Server
	kind            *served
	namespace, name string
	admit           func(ctx context.Context, old api.Object, o *metav1.DeleteOptions) error // nil: not asked
}

func (r *request) remover() *remover {
	return &remover{s: r.s, kind: r.kind, namespace: r.namespaceOfObject(), name: r.name, admit: r.admitDelete}
}

func (r *request) admitDelete(ctx context.Context, old api.Object, o *metav1.DeleteOptions) error {
	a := r.attributesFor(admission.Delete, nil, old, len(o.DryRun) > 0)
	options := o.DeepCopy()
	options.TypeMeta = metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: optionsVersion}
	a.Name, a.Options = old.GetName(), options
	if err := r.s.cfg.Admission.Mutate(ctx, a); err != nil {
		return err
	}
	return r.s.cfg.Admission.Validate(ctx, a)
}

func (d *remover) resource() schema.GroupResource { return d.kind.GroupResource() }

// delete ends an object's life: at once (last is its final state), or by marking it
// (kept is the object that stays for its grace period or its finalizers).
func (d *remover) delete(ctx context.Context, o *metav1.DeleteOptions) (last, kept api.Object, err error) {
	dry := len(o.DryRun) > 0
	for {
		marked, immediate, revision, err := d.mark(ctx, o, dry)
		if err != nil {
			return nil, nil, d.named(err)
		}
		if !immediate {
			return nil, marked, nil
		}
		if dry {
			return marked, nil, nil
		}
		item, err := d.kind.collection.Delete(ctx, d.namespace, d.name, func(cur *store.Item) error {
			if cur.Revision != revision {
				return errChanged
			}
			return nil
		})
		if err == errChanged { //nolint:errorlint // our own, unwrapped by contract of the store's check
			continue
		}
		if err != nil {
			return nil, nil, d.named(err)
		}
		final := item.Object()
		if d.kind.FromStored != nil {
			final = d.kind.FromStored(final)
		}
		if d.kind.Released != nil {
			d.kind.Released(d.s.env, final)
		}
		return final, nil, nil
	}
}

// errReadable refuses to remove by force what can be read and so deleted as everything else.
var errReadable = errors.New("unsafe deletion is not allowed because the object is decodable from storage")

var errChanged = fmt.Errorf("changed meanwhile")

// named gives the store's not-found its object.
func (d *remover) named(err error) error {
	if isNotFound(err) {
		return apierrors.NewNotFound(d.resource(), d.name)
	}
	return err
}

// mark decides how the object goes, and stores the mark if it stays for now.
func (d *remover) mark(ctx context.Context, o *metav1.DeleteOptions, dry bool) (result api.Object, immediate bool, revision int64, err error) {
	item, err := d.kind.collection.Update(ctx, d.namespace, d.name, func(cur *store.Item) (api.Object, error) {
		old, err := d.kind.view(ctx, cur)
		if err != nil {
			return nil, err
		}
		if ignore := o.IgnoreStoreReadErrorWithClusterBreakingPotential; ignore != nil && *ignore {
			return nil, apierrors.NewConflict(d.resource(), d.name, errReadable)
		}
		if err := api.CheckPreconditions(old, d.kind.StoredKind(), o.Preconditions); err != nil {
			return nil, err
		}
		if d.admit != nil {
			if err := d.admit(ctx, old, o); err != nil {
				return nil, err
			}
		}
		obj := old.DeepCopyObject().(api.Object)
		changed, gone := d.decide(obj, o)
		result, immediate, revision = obj, gone, cur.Revision
		if gone || !changed || dry {
			return nil, nil
		}
		return d.kind.toStored(ctx, obj)
	})
	if err == nil && !immediate && !dry {
		result, err = d.kind.view(ctx, item)
	}
	return result, immediate, revision, err
}

// decide edits obj as the deletion does: whether anything changed, and whether the object
// goes at once. Pure.
func (d *remover) decide(obj api.Object, o *metav1.DeleteOptions) (changed, gone bool) {
	changed = setPropagation(obj, o, d.kind.Dependents)
	options := *o
	graceful := d.kind.BeforeDelete != nil && d.kind.BeforeDelete(obj, &options)
	var grace int64
	if graceful && options.GracePeriodSeconds != nil {
		grace = *options.GracePeriodSeconds
	}
	stays := graceful || len(obj.GetFinalizers()) > 0
	if !stays {
		return changed, true
	}
	if at := obj.GetDeletionTimestamp(); at != nil {
		left := obj.GetDeletionGracePeriodSeconds()
		if left == nil || grace >= *left {
			return changed, false // it goes already, and not later than asked
		}
		shortened := metav1.NewTime(at.Add(time.Duration(grace-*left) * time.Second))
		obj.SetDeletionTimestamp(&shortened)
		obj.SetDeletionGracePeriodSeconds(&grace)
		return true, false
	}
	at := metav1.NewTime(d.s.cfg.Now().Add(time.Duration(grace) * time.Second)).Rfc3339Copy()
	obj.SetDeletionTimestamp(&at)
	if graceful && options.GracePeriodSeconds == nil {
		return true, false
	}
	obj.SetDeletionGracePeriodSeconds(&grace)
	if obj.GetGeneration() > 0 {
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
	return true, false
}

// setPropagation puts the finalizer on that makes the garbage collector carry out the
// policy, and takes off that of the other. Without a policy a finalizer that is there decides, then what the kind
// does by default.
func setPropagation(obj api.Object, o *metav1.DeleteOptions, dependents api.Dependents) bool {
	policy := ""
	switch {
	case dependents == api.Unobserved:
		return false
	case o.PropagationPolicy != nil:
		policy = string(*o.PropagationPolicy)
	case o.OrphanDependents != nil && *o.OrphanDependents: //nolint:staticcheck // older clients send it
		policy = string(metav1.DeletePropagationOrphan)
	case o.OrphanDependents != nil: //nolint:staticcheck // older clients send it
		policy = string(metav1.DeletePropagationBackground)
	case dependents == api.Orphaned && !slices.Contains(obj.GetFinalizers(), metav1.FinalizerDeleteDependents):
		policy = string(metav1.DeletePropagationOrphan)
	default:
		return false
	}
	wanted := map[string]string{
		string(metav1.DeletePropagationOrphan):     metav1.FinalizerOrphanDependents,
		string(metav1.DeletePropagationForeground): metav1.FinalizerDeleteDependents,
	}[policy]
	var finalizers []string
	for _, f := range obj.GetFinalizers() {
		if f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
			finalizers = append(finalizers, f)
		}
	}
	if wanted != "" {
		finalizers = append(finalizers, wanted)
	}
	if slices.Equal(finalizers, obj.GetFinalizers()) {
		return false
	}
	obj.SetFinalizers(finalizers)
	return true
}
