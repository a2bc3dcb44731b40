package patch

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/proa-dev/proa/apis/api"
)

// trusting is a converter that does not check objects of the kind's Go type against the
// schema: they fit by construction, and the check was half of what ownership costs. What
// a client applies is checked.
type trusting struct {
	managedfields.TypeConverter
	schema *schema.Schema
	ref    schema.TypeRef
}

func newTrusting(inner managedfields.TypeConverter, kind *api.Kind) (trusting, error) {
	empty, err := inner.ObjectToTyped(kind.New())
	if err != nil {
		return trusting{}, fmt.Errorf("schema of %s: %w", kind.GroupVersionKind.Kind, err)
	}
	return trusting{inner, empty.Schema(), empty.TypeRef()}, nil
}

func (t trusting) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	if _, ok := obj.(*unstructured.Unstructured); ok {
		return t.TypeConverter.ObjectToTyped(obj, opts...)
	}
	v, err := value.NewValueReflect(obj)
	if err != nil {
		return nil, err
	}
	return typed.AsTypedUnvalidated(v, t.schema, t.ref), nil
}
