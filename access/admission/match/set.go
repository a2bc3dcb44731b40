package match

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/apis/api"
)

// New gives an empty object of the target's type, to decode a changed one into.
func (r *Request) New(t Target) runtime.Object {
	if r.Whole() {
		return t.Kind.New()
	}
	return reflect.New(reflect.TypeOf(r.Object).Elem()).Interface().(runtime.Object)
}

// Set makes obj, of the target's version, the request's object, with defaults. The pointer
// in Attributes stays; what it points to changes.
func (r *Request) Set(t Target, obj runtime.Object) error {
	if r.Whole() {
		o, ok := obj.(api.Object)
		if !ok {
			return fmt.Errorf("a changed %s is a %T", t.GVK.Kind, obj)
		}
		if err := r.env.Kinds.Tidy(t.Kind, o); err != nil {
			return err
		}
		back, err := r.convert(o, t.Kind, r.Kind)
		if err != nil {
			return err
		}
		obj = back
	}
	to, from := reflect.ValueOf(r.Object), reflect.ValueOf(obj)
	if to.Type() != from.Type() {
		return fmt.Errorf("a changed %s is a %T, not a %T", t.GVK.Kind, obj, r.Object)
	}
	to.Elem().Set(from.Elem())
	r.Object.GetObjectKind().SetGroupVersionKind(r.GVK())
	return nil
}
