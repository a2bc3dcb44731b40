package patch

import (
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/apis/api"
)

// trim gives copies of live and obj without what is the same in both, down to the fields
// of their fields, and says whether anything but unowned metadata is left to tell them apart.
// ok is false where that must not stand for the whole objects.
//
// It serves what has no plan in package ownership. Who owns what changes only where the objects differ, and comparing Go values costs a
// tenth of comparing them along the schema. The comparison here is the strict one of Go: what it
// finds equal is written the same, though not the other way around. Entries of another
// version compare the objects in that version, so only entries of this one are trimmed for.
func (f *Fields) trim(live, obj api.Object) (before, after api.Object, same, ok bool) {
	if live == nil || !f.plain || forgets(obj.GetManagedFields()) {
		return nil, nil, false, false
	}
	if entries := obj.GetManagedFields(); !f.ours(live.GetManagedFields()) || !f.ours(entries) {
		return nil, nil, false, false
	}
	l, o := reflect.New(f.kind.Type), reflect.New(f.kind.Type)
	l.Elem().Set(reflect.ValueOf(live).Elem())
	o.Elem().Set(reflect.ValueOf(obj).Elem())
	before, after = l.Interface().(api.Object), o.Interface().(api.Object)
	before.GetObjectKind().SetGroupVersionKind(f.kind.GroupVersionKind)
	after.GetObjectKind().SetGroupVersionKind(f.kind.GroupVersionKind)
	same = true
	for i := range f.kind.Type.NumField() {
		switch f.kind.Type.Field(i).Type {
		case reflect.TypeFor[metav1.TypeMeta]():
		case reflect.TypeFor[metav1.ObjectMeta]():
			same = sameMetadata(live, obj) && same
		default:
			same = clearEqual(l.Elem().Field(i), o.Elem().Field(i), 1) && same
		}
	}
	return before, after, same, true
}

// ours says that all entries are of the kind's only version.
func (f *Fields) ours(entries []metav1.ManagedFieldsEntry) bool {
	for i := range entries {
		if entries[i].APIVersion != f.version {
			return false
		}
	}
	return true
}

// clearEqual zeroes what is equal in both, looking into structs depth levels deep, and says whether all was.
func clearEqual(a, b reflect.Value, depth int) bool {
	if reflect.DeepEqual(a.Interface(), b.Interface()) {
		a.SetZero()
		b.SetZero()
		return true
	}
	if depth == 0 || a.Kind() != reflect.Struct {
		return false
	}
	for i := range a.NumField() {
		if !a.Type().Field(i).IsExported() {
			return false
		}
		clearEqual(a.Field(i), b.Field(i), depth-1)
	}
	return false
}

// sameMetadata compares what of the metadata a manager can own, and that the client changed no
// entry by hand.
func sameMetadata(live, obj api.Object) bool {
	if entries := obj.GetManagedFields(); len(entries) > 0 && !reflect.DeepEqual(entries, live.GetManagedFields()) {
		return false
	}
	a, b := metadata(live), metadata(obj)
	return a != nil && b != nil && reflect.DeepEqual(ownable(*a), ownable(*b))
}

func metadata(obj api.Object) *metav1.ObjectMeta {
	m, _ := obj.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta)
	return m
}

// ownable clears the fields that nobody owns.
func ownable(m metav1.ObjectMeta) metav1.ObjectMeta {
	m.Name, m.Namespace, m.SelfLink, m.UID = "", "", "", types.UID("")
	m.CreationTimestamp, m.Generation, m.ResourceVersion = metav1.Time{}, 0, ""
	m.ManagedFields = nil
	return m
}
