package api

import (
	"context"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Computed is a kind that is never stored: its objects are made when a client gets or lists
// them, and cannot be watched or written (ComponentStatus, PodMetrics).
type Computed[T Object] struct {
	Group, Version string
	Kind, Plural   string
	Short          []string
	Namespaced     bool
	Columns        []Column[T]
	// Make gives what is asked for. It may give more: all is selected again. None is a 404
	// for a name.
	Make func(ctx context.Context, env *Env, ask Ask) ([]T, error)
	// List is the typed list of objects.
	List func([]T) runtime.Object
	// Yields says that another server may answer for the group version; then the kind is not served.
	Yields bool
}

// Ask is what a client wants of a Computed kind.
type Ask struct {
	Namespace string // "": all, or the kind has none
	Name      string // "": all that the selectors match
	Labels    labels.Selector
	Fields    fields.Selector
}

// Matches says whether the selectors of a list match an object's metadata.
func (a *Ask) Matches(o metav1.Object) bool {
	return a.Labels.Matches(labels.Set(o.GetLabels())) && a.Fields.Matches(fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()})
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
		Singular:         strings.ToLower(c.Kind), Short: c.Short, Namespaced: c.Namespaced,
		Type: reflect.TypeFor[T]().Elem(), Virtual: &Action{},
		Columns: columnsOf(c.Columns),
		Fields: map[string]func(Object) string{
			"metadata.name": func(o Object) string { return o.GetName() }, "metadata.namespace": func(o Object) string { return o.GetNamespace() },
		},
	}
	k.Computed = &Computed[Object]{
		Yields: c.Yields,
		Make: func(ctx context.Context, env *Env, ask Ask) ([]Object, error) {
			made, err := c.Make(ctx, env, ask)
			all := make([]Object, 0, len(made))
			for _, obj := range made {
				obj.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
				all = append(all, obj)
			}
			return all, err
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
