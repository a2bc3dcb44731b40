package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gvk "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// Metadata brings the metadata of an object and of the objects embedded in it into their form: what
// is not a field of metadata is removed, and unknown has its paths, its own first; what is not of the field's
// type is an error.
func (s *Schema) Metadata(obj map[string]any) (unknown []string, err error) {
	c := coercer{}
	if err := c.object(s, obj, nil, true); err != nil {
		return nil, err
	}
	slices.SortFunc(c.unknown, func(a, b string) int {
		if x, y := strings.HasPrefix(a, "metadata."), strings.HasPrefix(b, "metadata."); x != y {
			if x {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return c.unknown, nil
}

type coercer struct{ unknown []string }

func (c *coercer) value(s *Schema, v any, path *field.Path) error {
	if s == nil || !s.anyEmbedded {
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		return c.object(s, v, path, s.Embedded)
	case []any:
		for i, e := range v {
			if err := c.value(s.Items, e, path.Index(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *coercer) object(s *Schema, obj map[string]any, path *field.Path, whole bool) error {
	if whole {
		for _, name := range []string{"apiVersion", "kind"} {
			if v, ok := obj[name]; ok {
				if _, ok := v.(string); !ok {
					return field.Invalid(path.Child(name), v, "must be a string")
				}
			}
		}
		if err := c.meta(obj, path.Child("metadata")); err != nil {
			return err
		}
	}
	if !s.anyEmbedded {
		return nil
	}
	for name, v := range obj {
		if err := c.value(s.child(name), v, path.Child(name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *coercer) meta(obj map[string]any, path *field.Path) error {
	v, ok := obj["metadata"]
	if !ok {
		return nil
	}
	meta, strict, err := objectMeta(v)
	if err != nil && path.String() == "metadata" {
		return err // of the object itself
	}
	if err != nil {
		return field.Invalid(path, v, err.Error())
	}
	for _, e := range strict {
		var known kjson.FieldError
		if errors.As(e, &known) {
			c.unknown = append(c.unknown, path.String()+"."+known.FieldPath())
		}
	}
	clean, err := runtime.DefaultUnstructuredConverter.ToUnstructured(meta)
	if err != nil {
		return field.Invalid(path, v, err.Error())
	}
	if meta.CreationTimestamp.IsZero() {
		delete(clean, "creationTimestamp")
	}
	obj["metadata"] = clean
	return nil
}

// objectMeta reads metadata; strict says what is unknown in it.
func objectMeta(v any) (meta *metav1.ObjectMeta, strict []error, err error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, nil, fmt.Errorf("encode metadata: %w", err)
	}
	meta = &metav1.ObjectMeta{}
	strict, err = kjson.UnmarshalStrict(raw, meta)
	return meta, strict, err
}

// validateEmbedded checks apiVersion, kind and metadata of an embedded object.
func validateEmbedded(obj map[string]any, path *field.Path) (errs field.ErrorList) {
	for _, name := range []string{"apiVersion", "kind"} {
		v, ok := obj[name]
		at := path.Child(name)
		if !ok {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		s, isText := v.(string)
		switch {
		case !isText:
			errs = append(errs, field.Invalid(at, v, "must be a string"))
		case s == "":
			errs = append(errs, field.Invalid(at, s, "must not be empty"))
		case name == "apiVersion":
			if _, err := gvk.ParseGroupVersion(s); err != nil {
				errs = append(errs, field.Invalid(at, s, err.Error()))
			}
		default:
			if msgs := validation.IsDNS1035Label(strings.ToLower(s)); len(msgs) > 0 {
				errs = append(errs, field.Invalid(at, s, "may have mixed case, but should otherwise match: "+strings.Join(msgs, ",")))
			}
		}
	}
	v, ok := obj["metadata"]
	if !ok {
		return errs
	}
	meta, _, err := objectMeta(v)
	if err != nil {
		return append(errs, field.Invalid(path.Child("metadata"), v, err.Error()))
	}
	if meta.Name == "" {
		meta.Name = "fakename" // embedded objects need none
	}
	return append(errs, apivalidation.ValidateObjectMeta(meta, meta.Namespace != "", segment, path.Child("metadata"))...)
}

func segment(name string, prefix bool) []string {
	if prefix {
		return content.IsPathSegmentPrefix(name)
	}
	return content.IsPathSegmentName(name)
}
