package api

import (
	"context"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Computed is a kind that is never stored: its objects are made when a client gets or lists
// them, and cannot be watched or written (ComponentStatus). It has no namespace.
type Computed[T Object] struct {
	Group, Version string
	Kind, Plural   string
	Short          []string
	Columns        []Column[T]
	// Make gives the object of a name, or with "" all of them. None is a 404 for a name.
	Make func(ctx context.Context, env *Env, name string) []T
	// List is the typed list of objects.
	List func([]T) runtime.Object
}

// Component is a part of the control plane that a ComponentStatus tells of.
type Component struct {
	Name string // "scheduler"
	// Check says whether the component works; the error says why it does not, or why that is
	// unknown. It ends with ctx.
	Check func(ctx context.Context) (corev1.ConditionStatus, error)
}

// DefineComputed makes a Kind of a Computed: a Virtual one that is read instead of posted.
func DefineComputed[T Object](c Computed[T]) *Kind {
	k := &Kind{
		GroupVersionKind: schema.GroupVersionKind{Group: c.Group, Version: c.Version, Kind: c.Kind},
		Resource:         schema.GroupVersionResource{Group: c.Group, Version: c.Version, Resource: c.Plural},
		Singular:         strings.ToLower(c.Kind), Short: c.Short,
		Type: reflect.TypeFor[T]().Elem(), Virtual: &Action{},
		Columns: columnsOf(c.Columns),
		Fields: map[string]func(Object) string{
			"metadata.name": func(o Object) string { return o.GetName() }, "metadata.namespace": func(o Object) string { return o.GetNamespace() },
		},
	}
	k.Computed = &Computed[Object]{
		Make: func(ctx context.Context, env *Env, name string) []Object {
			var all []Object
			for _, obj := range c.Make(ctx, env, name) {
				obj.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
				all = append(all, obj)
			}
			return all
		},
		List: func(all []Object) runtime.Object {
			typed := make([]T, len(all))
			for i, obj := range all {
				typed[i] = obj.(T)
			}
			list := c.List(typed)
			list.GetObjectKind().SetGroupVersionKind(k.ListKind())
			return list
		},
	}
	return k
}

func columnsOf[T Object](columns []Column[T]) []Column[Object] {
	var all []Column[Object]
	for _, c := range columns {
		all = append(all, Column[Object]{
			Name: c.Name, Type: c.Type, Format: c.Format, Description: c.Description, Priority: c.Priority,
			Value: func(o Object) any { return c.Value(o.(T)) },
		})
	}
	return all
}
