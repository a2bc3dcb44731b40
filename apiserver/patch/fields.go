package patch

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/patch/ownership"
)

// Fields keeps metadata.managedFields right for one kind. It is safe for concurrent use.
type Fields struct {
	kind     *api.Kind
	types    managedfields.TypeConverter
	version  string          // of the entries: "apps/v1"
	plain    bool            // the kind has a Go type with ObjectMeta
	plan     *ownership.Plan // the direct way, nil for kinds that have none
	managers sync.Map        // subresource -> *managedfields.FieldManager
}

// NewFields makes the Fields of a kind. A kind whose schema client-go does not carry (custom
// resources) is merged with lists taken as a whole. The first call in a process reads the schemas of all
// kinds.
func NewFields(kind *api.Kind, scheme *runtime.Scheme) (*Fields, error) {
	f := &Fields{kind: kind, types: schemasOf(kind.Group, scheme), version: kind.GroupVersion().String()}
	_, accessible := kind.New().(metav1.ObjectMetaAccessor)
	f.plain = accessible && kind.Type != reflect.TypeFor[unstructured.Unstructured]()
	if kind.Custom != nil {
		var err error
		if f.types, err = kind.Custom.Types(); err != nil {
			return nil, fmt.Errorf("schema of %s: %w", kind.Kind, err)
		}
	} else if trusting, err := newTrusting(f.types, kind); err == nil {
		f.types = trusting
		if f.plain {
			// Without a plan the library does it, slower and not less right.
			if plan, err := ownership.NewPlan(kind.Type, trusting.schema, trusting.ref, f.version); err == nil {
				f.plan = plan
			}
		}
	} else {
		f.types = managedfields.NewDeducedTypeConverter()
	}
	if _, err := f.manager(""); err != nil {
		return nil, err
	}
	return f, nil
}

// manager gives the library's field manager for a subresource.
func (f *Fields) manager(subresource string) (*managedfields.FieldManager, error) {
	if m, ok := f.managers.Load(subresource); ok {
		return m.(*managedfields.FieldManager), nil
	}
	one := identity{f.kind}
	gv := f.kind.GroupVersion()
	m, err := managedfields.NewDefaultFieldManager(f.types, one, one, one, f.kind.GroupVersionKind, gv, subresource, f.ignored(subresource))
	if err != nil {
		return nil, fmt.Errorf("make the field manager of %s: %w", f.kind.Kind, err)
	}
	kept, _ := f.managers.LoadOrStore(subresource, m)
	return kept.(*managedfields.FieldManager), nil
}

// ignored names what a write by this path cannot change and therefore does not come to own.
func (f *Fields) ignored(subresource string) map[fieldpath.APIVersion]fieldpath.Filter {
	fields := f.kind.Unowned[subresource]
	if len(fields) == 0 {
		return nil
	}
	set := fieldpath.NewSet()
	for _, field := range fields {
		var path fieldpath.Path
		for name := range strings.SplitSeq(field, ".") {
			path = append(path, fieldpath.PathElement{FieldName: &name})
		}
		set.Insert(path)
	}
	return fieldpath.NewExcludeFilterSetMap(map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(f.kind.GroupVersion().String()): set,
	})
}

// Written updates managedFields of obj, which a client wrote over live by create (live nil), update or
// a patch other than apply. manager is the request's field manager, subresource "" or "status"
// and so on. obj is changed and returned. Where the fields cannot be told apart (an object
// that breaks its schema) the entries of live are kept: a write never fails for them.
func (f *Fields) Written(live, obj api.Object, manager, subresource string) (api.Object, error) {
	obj.GetObjectKind().SetGroupVersionKind(f.kind.GroupVersionKind)
	if f.plan != nil {
		w := ownership.Write{Live: live, Object: obj, Manager: manager, Subresource: subresource, Ignored: f.kind.Unowned[subresource], Reset: forgets(obj.GetManagedFields())}
		if entries, ok := f.plan.Update(w); ok {
			obj.SetManagedFields(entries)
			return obj, nil
		}
	}
	return f.viaLibrary(live, obj, manager, subresource)
}

// viaLibrary is Written for what the plan does not know.
func (f *Fields) viaLibrary(live, obj api.Object, manager, subresource string) (api.Object, error) {
	m, err := f.manager(subresource)
	if err != nil {
		return nil, err
	}
	before, after, same, ok := f.trim(live, obj)
	switch {
	case same && ok:
		obj.SetManagedFields(live.GetManagedFields())
		return obj, nil
	case !ok:
		before, after = f.whole(live), obj
	}
	done, err := m.Update(before, after, manager)
	if err != nil {
		obj.SetManagedFields(before.GetManagedFields())
		return obj, nil
	}
	obj.SetManagedFields(done.(api.Object).GetManagedFields())
	return obj, nil
}

// whole is live with its kind set, or an empty object for nil.
func (f *Fields) whole(live api.Object) api.Object {
	if live == nil {
		return f.kind.New()
	}
	if live.GetObjectKind().GroupVersionKind() == f.kind.GroupVersionKind {
		return live
	}
	live = live.DeepCopyObject().(api.Object)
	live.GetObjectKind().SetGroupVersionKind(f.kind.GroupVersionKind)
	return live
}

// identity is the conversion between the versions of a kind that has one: none at all.
type identity struct{ kind *api.Kind }

var (
	_ runtime.ObjectConvertor = identity{}
	_ runtime.ObjectDefaulter = identity{}
	_ runtime.ObjectCreater   = identity{}
)

// Default leaves the object alone: the pipeline sets defaults after Apply, as for every write.
func (identity) Default(runtime.Object) {}

func (i identity) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	if gvk != i.kind.GroupVersionKind {
		return nil, runtime.NewNotRegisteredErrForKind("the kind "+i.kind.Kind, gvk)
	}
	return i.kind.New(), nil
}

// ConvertToVersion turns the library's schemaless objects into the kind's Go type.
func (i identity) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	if i.kind.Custom != nil {
		return i.convert(in, target)
	}
	gvk := in.GetObjectKind().GroupVersionKind()
	if to, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{gvk}); !ok || to != gvk || gvk != i.kind.GroupVersionKind {
		return nil, runtime.NewNotRegisteredErrForTarget("the kind "+i.kind.Kind, i.kind.Type, target)
	}
	loose, ok := in.(*unstructured.Unstructured)
	if !ok || i.kind.Type == reflect.TypeFor[unstructured.Unstructured]() {
		return in, nil
	}
	obj := i.kind.New()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(loose.Object, obj); err != nil {
		return nil, fmt.Errorf("convert %s to its type: %w", gvk.Kind, err)
	}
	return obj, nil
}

// convert gives an object of one version of a custom kind in another.
func (i identity) convert(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	gvk := in.GetObjectKind().GroupVersionKind()
	to, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{gvk, i.kind.GroupVersionKind})
	obj, isObject := in.(api.Object)
	if !ok || !isObject {
		return nil, runtime.NewNotRegisteredErrForTarget("the kind "+i.kind.Kind, i.kind.Type, target)
	}
	if to.GroupVersion() == gvk.GroupVersion() {
		return in, nil
	}
	// The library has no context to give; a webhook has its own time limit.
	return i.kind.Custom.Convert(context.Background(), obj, to.GroupVersion())
}

func (i identity) Convert(in, out, context any) error {
	return runtime.NewNotRegisteredErrForType("the kind "+i.kind.Kind, reflect.TypeOf(in))
}

func (i identity) ConvertFieldLabel(gvk schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// forgets says that a client asks to forget all managers: by an empty list or one empty entry.
func forgets(entries []metav1.ManagedFieldsEntry) bool {
	switch len(entries) {
	case 0:
		return entries != nil
	case 1:
		return entries[0] == metav1.ManagedFieldsEntry{}
	}
	return false
}
