package patch

import (
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	definitions "k8s.io/apiextensions-apiserver/pkg/client/applyconfiguration"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	kinds "k8s.io/client-go/applyconfigurations"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	registrations "k8s.io/kube-aggregator/pkg/client/applyconfiguration"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/proa-dev/proa/apis/api"
)

// schemasOf gives the schemas that hold the kinds of a group; definitions and the APIs of other servers have their own.
func schemasOf(group string, all *runtime.Scheme) managedfields.TypeConverter {
	own := runtime.NewScheme()
	switch {
	case group == apiextensionsv1.GroupName && apiextensionsv1.AddToScheme(own) == nil:
		return definitions.NewTypeConverter(own)
	case group == apiregistrationv1.GroupName && apiregistrationv1.AddToScheme(own) == nil:
		return registrations.NewTypeConverter(own)
	}
	return kinds.NewTypeConverter(all)
}

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
