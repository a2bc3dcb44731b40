package api

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"reflect"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Kind is a Resource with its type erased: what the machinery works with. Every
// function is set (a default that does nothing where the Resource left it out), but for
// those documented as optional in Resource that decide by being nil: Reserve, Claims, Released,
// BeforeDelete, Scale, Stored.
type Kind struct {
	schema.GroupVersionKind
	Resource   schema.GroupVersionResource
	Singular   string
	List       string // kind of the list, "" for Kind+"List"
	Short      []string
	Categories []string
	Namespaced bool
	Prefix     string // etcd folder under /registry/, without slashes at its ends
	TTL        time.Duration
	Type       reflect.Type // the struct, not the pointer
	// Schema is the OpenAPI v3 schema, as JSON, of a kind without a Go type of its own (its Type
	// is unstructured.Unstructured); nil: it may have any fields. Read-only.
	Schema []byte

	Alike   []string
	Written string
	Earlier []Earlier[Object]

	Stored     *schema.GroupVersion // nil: this version is the stored one
	FromStored func(Object) Object
	ToStored   func(Object) Object

	Default        func(Object)
	PrepareCreate  func(context.Context, Object)
	PrepareUpdate  func(ctx context.Context, obj, old Object)
	Validate       func(Object) field.ErrorList
	ValidateCreate func(Object) field.ErrorList
	ValidateUpdate func(obj, old Object) field.ErrorList
	ValidateName   func(name string, prefix bool) []string
	Warnings       func(obj, old Object) []string // old is nil on create
	Reserve        func(ctx context.Context, env *Env, obj, old Object) (undo func(), err error)
	Claims         func(Object) []string
	Released       func(env *Env, old Object)
	BeforeDelete   func(obj Object, options *metav1.DeleteOptions) bool

	CreateOnUpdate, UnconditionalUpdate, NoDeleteCollection bool
	Dependents                                              Dependents
	OrphansText                                             string
	HasStatus, StatusOnCreate, HasGeneration                bool
	ValidateStatus                                          func(obj, old Object) field.ErrorList
	PrepareStatus                                           func(obj, old Object)
	Unowned                                                 map[string][]string

	Scale     *Scale[Object]
	Updates   []Update[Object]
	Actions   []Action
	Connects  []Connect
	Columns   []Column[Object]
	Ended     func(Object) []metav1.TableRowCondition
	Fields    map[string]func(Object) string
	fieldText string
	Indexes   []string

	// Ratchets: ValidateUpdate and ValidateStatus judge the whole object by what it was, Validate is
	// for new ones alone.
	Ratchets bool
	// Custom is set for a kind that is defined while the server runs.
	Custom *Custom

	// Virtual is set for a kind that is never stored; then only names, Namespaced and Type are.
	Virtual *Action
	// Computed is set, beside Virtual, Columns and Fields, for a kind whose objects are made when they are read.
	Computed *Computed[Object]
}

// New gives an empty object with its TypeMeta set.
func (k *Kind) New() Object {
	obj := reflect.New(k.Type).Interface().(Object)
	obj.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	return obj
}

// GroupResource is the kind's identity across versions.
func (k *Kind) GroupResource() schema.GroupResource { return k.Resource.GroupResource() }

// StoredKind is what errors call an object: the kind in the group that it is stored in.
func (k *Kind) StoredKind() schema.GroupKind {
	if k.Stored != nil {
		return schema.GroupKind{Group: k.Stored.Group, Kind: k.Kind}
	}
	return k.GroupKind()
}

// OtherUID says that an object, of a kind with this Prefix, is not the one that a client means, as Kubernetes' storage does.
func OtherUID(prefix string, obj Object, meant types.UID) error {
	return fmt.Errorf("StorageError: invalid object, Code: 4, Key: %s, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: %v, UID in object meta: %v",
		path.Join("/registry", prefix, obj.GetNamespace(), obj.GetName()), meant, obj.GetUID())
}

// UnknownField refuses a field selector, in the words of kinds with fields of their own or of all others.
func (k *Kind) UnknownField(name string) string {
	for known := range k.Fields {
		if known != "metadata.name" && known != "metadata.namespace" {
			return fmt.Sprintf(k.fieldText, name)
		}
	}
	return fmt.Sprintf("%q is not a known field selector: only %q, %q", name, "metadata.name", "metadata.namespace")
}

// ListKind is the kind of the list.
func (k *Kind) ListKind() schema.GroupVersionKind {
	gvk := k.GroupVersionKind
	gvk.Kind += "List"
	if k.List != "" {
		gvk.Kind = k.List
	}
	return gvk
}

// Define erases the type of a Resource. It panics on a resource that cannot be served
// (no names), which a test of the kind's package finds.
func Define[T Object](r Resource[T]) *Kind {
	if r.Version == "" || r.Kind == "" || r.Plural == "" {
		panic(fmt.Sprintf("api: resource %q of %q lacks a version, kind or plural", r.Plural, r.Group))
	}
	k := &Kind{
		GroupVersionKind: schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind},
		Resource:         schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Plural},
		Singular:         r.Singular, Short: r.Short, Categories: r.Categories, Namespaced: r.Namespaced,
		Prefix: r.Prefix, TTL: r.TTL, Type: reflect.TypeFor[T]().Elem(),
		CreateOnUpdate: r.CreateOnUpdate, UnconditionalUpdate: r.UnconditionalUpdate, NoDeleteCollection: r.NoDeleteCollection,
		Dependents: r.Dependents, OrphansText: r.OrphansText,
		HasStatus: r.HasStatus, StatusOnCreate: r.StatusOnCreate, HasGeneration: r.HasGeneration,
		Alike: r.Alike, Written: r.Written, Ratchets: r.Ratchets,
		Actions: r.Actions, Connects: r.Connects, Indexes: r.Indexes, Unowned: unowned(r.HasStatus, r.Unowned),
		ValidateName: r.ValidateName, fieldText: cmp.Or(r.FieldText, "field label not supported: %s"),
	}
	if k.Singular == "" {
		k.Singular = strings.ToLower(r.Kind)
	}
	if k.Prefix == "" {
		k.Prefix = r.Plural
	}
	if k.ValidateName == nil {
		k.ValidateName = apivalidation.NameIsDNSSubdomain
	}
	if c := r.Storage; c != nil {
		k.Stored = &schema.GroupVersion{Group: c.Group, Version: c.Version}
		k.FromStored = func(o Object) Object { return c.From(o) }
		k.ToStored = func(o Object) Object { return c.To(o.(T)) }
	}
	for _, e := range r.Earlier {
		k.Earlier = append(k.Earlier, Earlier[Object]{
			Version: e.Version, New: e.New,
			To: func(o Object) (Object, error) { return e.To(o) },
		})
	}
	k.Default = one(r.Default)
	k.PrepareCreate = func(ctx context.Context, o Object) {
		if r.PrepareCreate != nil {
			r.PrepareCreate(ctx, o.(T))
		}
	}
	k.PrepareUpdate = func(ctx context.Context, o, old Object) {
		if r.PrepareUpdate != nil {
			r.PrepareUpdate(ctx, o.(T), old.(T))
		}
	}
	k.Validate, k.ValidateCreate = checkOne(r.Validate), checkOne(r.ValidateCreate)
	k.ValidateUpdate = check(r.ValidateUpdate)
	k.ValidateStatus = check(r.ValidateStatus)
	k.PrepareStatus = func(o, old Object) {
		if r.PrepareStatus != nil {
			r.PrepareStatus(o.(T), old.(T))
		}
	}
	k.Warnings = func(o, old Object) []string {
		if r.Warnings == nil {
			return nil
		}
		return r.Warnings(o.(T), orZero[T](old))
	}
	if r.Reserve != nil {
		k.Reserve = func(ctx context.Context, env *Env, o, old Object) (func(), error) {
			return r.Reserve(ctx, env, o.(T), orZero[T](old))
		}
	}
	if r.Claims != nil {
		k.Claims = func(o Object) []string { return r.Claims(o.(T)) }
	}
	if r.Released != nil {
		k.Released = func(env *Env, old Object) { r.Released(env, old.(T)) }
	}
	if r.BeforeDelete != nil {
		k.BeforeDelete = func(o Object, opts *metav1.DeleteOptions) bool { return r.BeforeDelete(o.(T), opts) }
	}
	if s := r.Scale; s != nil {
		k.Scale = &Scale[Object]{
			Get:      func(o Object) *autoscalingv1.Scale { return s.Get(o.(T)) },
			Set:      func(o Object, n int32) { s.Set(o.(T), n) },
			Replicas: s.Replicas,
		}
	}
	for _, u := range r.Updates {
		k.Updates = append(k.Updates, Update[Object]{
			Name: u.Name, NoGet: u.NoGet, NoPatch: u.NoPatch, Validate: check(u.Validate),
			Apply: func(ctx context.Context, o, old Object) { u.Apply(ctx, o.(T), old.(T)) },
		})
	}
	k.Columns = columnsOf(r.Columns)
	k.Ended = func(o Object) []metav1.TableRowCondition {
		if r.Ended == nil {
			return nil
		}
		return r.Ended(o.(T))
	}
	k.Fields = map[string]func(Object) string{
		"metadata.name": func(o Object) string { return o.GetName() },
	}
	if r.Namespaced || len(r.Fields) == 0 {
		k.Fields["metadata.namespace"] = func(o Object) string { return o.GetNamespace() }
	}
	for name, f := range r.Fields {
		k.Fields[name] = func(o Object) string { return f(o.(T)) }
	}
	return k
}

// unowned adds to what a kind names what holds for all that have a status.
func unowned(status bool, named map[string][]string) map[string][]string {
	if !status {
		return named
	}
	all := map[string][]string{"": {"status"}, "status": {"spec"}}
	maps.Copy(all, named)
	return all
}

// DefineVirtual makes a Kind of a Virtual.
func DefineVirtual(v Virtual) *Kind {
	singular := v.Singular
	if singular == "" {
		singular = strings.ToLower(v.Kind)
	}
	return &Kind{
		GroupVersionKind: schema.GroupVersionKind{Group: v.Group, Version: v.Version, Kind: v.Kind},
		Resource:         schema.GroupVersionResource{Group: v.Group, Version: v.Version, Resource: v.Plural},
		Singular:         singular, Namespaced: v.Namespaced,
		Type: reflect.TypeOf(v.Action.New()).Elem(), Virtual: &v.Action,
	}
}

func one[T Object](f func(T)) func(Object) {
	return func(o Object) {
		if f != nil {
			f(o.(T))
		}
	}
}

func checkOne[T Object](f func(T) field.ErrorList) func(Object) field.ErrorList {
	return func(o Object) field.ErrorList {
		if f == nil {
			return nil
		}
		return f(o.(T))
	}
}

func check[T Object](f func(obj, old T) field.ErrorList) func(obj, old Object) field.ErrorList {
	return func(o, old Object) field.ErrorList {
		if f == nil {
			return nil
		}
		return f(o.(T), old.(T))
	}
}

func orZero[T Object](o Object) T {
	if o == nil {
		var zero T
		return zero
	}
	return o.(T)
}
