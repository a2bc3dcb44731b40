package patch

import (
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/apis/api"
)

// Apply is server-side apply: it merges body (YAML or JSON), the fields that manager wants, into a
// copy of live (nil: the object is created) and takes from it what the manager wanted before and no
// longer does. A field that another manager owns with another value is a 409 that names it,
// unless force, which takes it over. body is the object as the client declares it; unknown
// fields are an error of the schema. Errors are *apierrors.StatusError.
func (f *Fields) Apply(live api.Object, body []byte, manager, subresource string, force bool) (api.Object, error) {
	wanted, err := configuration(f.kind, body)
	if err != nil {
		return nil, err
	}
	m, err := f.manager(subresource)
	if err != nil {
		return nil, err
	}
	before := f.kind.New()
	if live != nil {
		before = live.DeepCopyObject().(api.Object)
		before.GetObjectKind().SetGroupVersionKind(f.kind.GroupVersionKind)
	}
	obj, err := m.Apply(before, wanted, manager, force)
	if err != nil {
		if _, ok := err.(apierrors.APIStatus); ok {
			return nil, err
		}
		// What is left are configurations that break the schema.
		return nil, apierrors.NewBadRequest(err.Error())
	}
	done := obj.(api.Object)
	done.GetObjectKind().SetGroupVersionKind(f.kind.GroupVersionKind)
	return done, nil
}

// configuration decodes the body of an apply request.
func configuration(kind *api.Kind, body []byte) (*unstructured.Unstructured, error) {
	content := map[string]any{}
	if len(body) > 0 && body[0] == '{' {
		if err := checkText(body, kind.Type); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if kjson.UnmarshalCaseSensitivePreserveInts(body, &content) == nil && content != nil {
			return &unstructured.Unstructured{Object: content}, checkTypes(content)
		}
		content = map[string]any{}
	}
	if err := checkAliases(body); err != nil {
		return nil, err
	}
	data, err := yaml.YAMLToJSON(body)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error encoding patch: %v", err))
	}
	if err = checkText(data, kind.Type); err == nil {
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, &content)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: error unmarshaling JSON: while decoding JSON: %v", err))
	}
	if content == nil {
		content = map[string]any{}
	}
	return &unstructured.Unstructured{Object: content}, checkTypes(content)
}

// checkTypes refuses metadata that is none, which the library would silently read as empty.
func checkTypes(content map[string]any) error {
	switch content["metadata"].(type) {
	case nil, map[string]any:
		return nil
	}
	return apierrors.NewBadRequest("error decoding patch: metadata must be an object")
}

// Duplicates finds what a strict reading of an apply body objects to beside its schema: fields given
// twice. Under "Warn" they are the warnings, under "Strict" a 400.
func Duplicates(body []byte, validation string) (warnings []string, err error) {
	if validation == metav1.FieldValidationIgnore {
		return nil, nil
	}
	if err := checkAliases(body); err != nil {
		return nil, err
	}
	if _, err := yaml.YAMLToJSON(body); err != nil {
		return nil, nil // reading it says so
	}
	if err := yaml.UnmarshalStrict(body, &map[string]any{}); err != nil && yaml.Unmarshal(body, &map[string]any{}) == nil {
		if validation == metav1.FieldValidationStrict {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("error strict decoding patch: %v", err))
		}
		return texts([]error{err}), nil
	}
	return nil, nil
}

// Untime takes the time off the entries of a subresource and puts these in front of others of their
// operation, which is how Kubernetes keeps what was written through a scale.
func Untime(obj api.Object, subresource string) {
	entries := slices.Clone(obj.GetManagedFields())
	for i := range entries {
		if entries[i].Subresource == subresource {
			entries[i].Time = nil
		}
	}
	slices.SortStableFunc(entries, func(a, b metav1.ManagedFieldsEntry) int {
		if a.Operation != b.Operation || (a.Time == nil) == (b.Time == nil) {
			return strings.Compare(string(a.Operation), string(b.Operation))
		}
		if a.Time == nil {
			return -1
		}
		return 1
	})
	obj.SetManagedFields(entries)
}
