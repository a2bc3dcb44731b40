package apiserver

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store"
)

var errModified = errors.New("the object has been modified; please apply your changes to the latest version and try again")

func isExists(err error) bool { return errors.Is(err, store.ErrExists) }
func isNotFound(err error) bool {
	return errors.Is(err, store.ErrNotFound) || apierrors.IsNotFound(err)
}

// Names that the server makes: a prefix of at most maxPrefix, then five random characters.
const maxPrefix = 63 - 5

// wipeMeta removes from a new object what only the server sets.
func wipeMeta(obj api.Object) {
	obj.SetUID("")
	obj.SetCreationTimestamp(metav1.Time{})
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
}

// fillMeta sets what only the server sets on a new object, whatever admission made of it.
func fillMeta(obj api.Object, now time.Time) {
	wipeMeta(obj)
	obj.SetUID(types.UID(uuid.NewString()))
	obj.SetCreationTimestamp(metav1.NewTime(now).Rfc3339Copy())
	obj.SetResourceVersion("")
	if prefix := obj.GetGenerateName(); prefix != "" && obj.GetName() == "" {
		obj.SetName(prefix[:min(len(prefix), maxPrefix)] + utilrand.String(5))
	}
}

// carryMeta fills in what a client may leave out of an object that is there, and what it
// cannot take away; where it differs from old in what is fixed, validation says so.
func carryMeta(obj, old api.Object) {
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	if old.GetDeletionTimestamp() != nil {
		obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	}
	if obj.GetDeletionGracePeriodSeconds() == nil {
		obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	}
	obj.SetGeneration(old.GetGeneration())
	obj.SetSelfLink("")
	obj.SetResourceVersion(old.GetResourceVersion())
}

// nameOf adapts a kind's name rule.
func nameOf(k *api.Kind) apivalidation.ValidateNameFunc {
	return func(name string, prefix bool) []string { return k.ValidateName(name, prefix) }
}

func validateMeta(k *api.Kind, obj api.Object) field.ErrorList {
	path := field.NewPath("metadata")
	return append(apivalidation.ValidateObjectMetaAccessor(obj, k.Namespaced, nameOf(k), path), validateFinalizers(k, obj)...)
}

// validateFinalizers wants those of a kind that is built in to be standard ones, or to say whose they are.
func validateFinalizers(k *api.Kind, obj api.Object) (errs field.ErrorList) {
	if k.Custom != nil {
		return nil
	}
	for i, name := range obj.GetFinalizers() {
		switch {
		case strings.Contains(name, "/"), name == metav1.FinalizerOrphanDependents, name == metav1.FinalizerDeleteDependents, name == string(corev1.FinalizerKubernetes):
		default:
			errs = append(errs, field.Invalid(field.NewPath("metadata", "finalizers").Index(i), name, "name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}

// once leaves out what was said before.
func once(errs field.ErrorList) field.ErrorList {
	seen := map[string]bool{}
	return slices.DeleteFunc(errs, func(e *field.Error) bool {
		text := e.Error()
		was := seen[text]
		seen[text] = true
		return was
	})
}

func validateMetaUpdate(k *api.Kind, obj, old api.Object) field.ErrorList {
	path := field.NewPath("metadata")
	errs := apivalidation.ValidateObjectMetaAccessorUpdate(obj, old, path)
	errs = append(errs, apivalidation.ValidateObjectMetaAccessor(obj, k.Namespaced, func(string, bool) []string { return nil }, path)...)
	return append(errs, validateFinalizers(k, obj)...)
}

// Status and spec are fields of the kinds' structs by these names.
const (
	statusField = "Status"
	metaField   = "ObjectMeta"
	typeField   = "TypeMeta"
)

func structOf(obj api.Object) reflect.Value { return reflect.ValueOf(obj).Elem() }

func clearStatus(obj api.Object) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		delete(u.Object, "status")
		return
	}
	if f := structOf(obj).FieldByName(statusField); f.IsValid() {
		f.SetZero()
	}
}

// keepStatus: a plain update cannot touch the status.
func keepStatus(obj, old api.Object) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		copyField(u, old.(*unstructured.Unstructured), "status")
		return
	}
	copied := old.DeepCopyObject().(api.Object)
	if f := structOf(obj).FieldByName(statusField); f.IsValid() {
		f.Set(structOf(copied).FieldByName(statusField))
	}
}

// keepAllButStatus: a status update touches nothing else but labels, annotations,
// finalizers, owners and managed fields of the metadata.
func keepAllButStatus(obj, old api.Object) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		keepCustomButStatus(u, old.(*unstructured.Unstructured))
		return
	}
	copied := old.DeepCopyObject().(api.Object)
	to, from := structOf(obj), structOf(copied)
	for i := range to.NumField() {
		switch name := to.Type().Field(i).Name; {
		case name == statusField || name == metaField || name == typeField:
		case strings.HasPrefix(name, "XXX_"):
		default:
			to.Field(i).Set(from.Field(i))
		}
	}
}

// keepMeta keeps of the metadata what a status update of this kind does not change.
func keepMeta(obj, old api.Object, unowned []string) {
	is := func(part string) bool {
		return slices.Contains(unowned, "metadata") || slices.Contains(unowned, "metadata."+part)
	}
	if is("labels") {
		obj.SetLabels(maps.Clone(old.GetLabels()))
	}
	if is("annotations") {
		obj.SetAnnotations(maps.Clone(old.GetAnnotations()))
	}
	if is("finalizers") {
		obj.SetFinalizers(slices.Clone(old.GetFinalizers()))
	}
	if is("ownerReferences") {
		obj.SetOwnerReferences(slices.Clone(old.GetOwnerReferences()))
	}
}

// changedSpec: something other than metadata and status differs.
func changedSpec(k *api.Kind, obj, old api.Object) bool {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return changedCustom(k, u, old.(*unstructured.Unstructured))
	}
	a, b := structOf(obj), structOf(old)
	for i := range a.NumField() {
		switch a.Type().Field(i).Name {
		case statusField, metaField, typeField:
			continue
		}
		if !equality.Semantic.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			return true
		}
	}
	return false
}
