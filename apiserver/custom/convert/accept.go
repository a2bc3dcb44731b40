package convert

import (
	"errors"
	"fmt"
	"reflect"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// accept checks an object that a webhook made of another one.
func accept(sent *unstructured.Unstructured, answer runtime.RawExtension, to schema.GroupVersion) (*unstructured.Unstructured, error) {
	got := &unstructured.Unstructured{Object: map[string]any{}}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(answer.Raw, &got.Object); err != nil {
		return nil, err
	}
	if gv := got.GroupVersionKind().GroupVersion(); gv != to {
		return nil, fault{"type", fmt.Errorf("invalid groupVersion (expected %v, received %v)", to, gv)}
	}
	if got.GetKind() != sent.GetKind() {
		return nil, fault{"type", fmt.Errorf("invalid kind (expected %v, received %v)", sent.GetKind(), got.GetKind())}
	}
	for _, same := range []struct{ what, want, got string }{
		{"name", sent.GetName(), got.GetName()},
		{"namespace", sent.GetNamespace(), got.GetNamespace()},
		{"UID", string(sent.GetUID()), string(got.GetUID())},
	} {
		if same.want != same.got {
			return nil, fmt.Errorf("must have the same %s: %v != %v", same.what, same.want, same.got)
		}
	}
	if err := restore(sent, got); err != nil {
		return nil, fault{"metadata", err}
	}
	return got, nil
}

// fault is what is wrong with an object of an answer; part is "type", "metadata" or "".
type fault struct {
	part string
	error
}

// placed says where in an answer a fault is, in the words that are known for one object and for many.
func placed(err error, index, count int) error {
	var f fault
	_ = errors.As(err, &f) // none: part is ""
	switch {
	case count > 1 && f.part == "metadata":
		return fmt.Errorf("invalid metadata in object at index %d: %w", index, err)
	case count > 1:
		return fmt.Errorf("invalid converted object at index %d: %w", index, err)
	case f.part == "metadata":
		return fmt.Errorf("invalid metadata: %w", err)
	case f.part == "type":
		return fmt.Errorf("invalid object at index 0: %w", err)
	}
	return fmt.Errorf("invalid object: %w", err)
}

// restore puts the metadata back, but for labels and annotations.
func restore(sent, got *unstructured.Unstructured) error {
	v, ok := got.Object["metadata"]
	if !ok {
		return errors.New("missing metadata in converted object")
	}
	answered, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("invalid metadata of type %T in converted object", v)
	}
	before, _ := sent.Object["metadata"].(map[string]any)
	meta := runtime.DeepCopyJSON(before)
	if meta == nil {
		meta = map[string]any{}
	}
	for _, name := range []string{"labels", "annotations"} {
		v := answered[name]
		if v == nil {
			delete(meta, name)
			continue
		}
		texts, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("invalid metadata.%s of type %T in converted object", name, v)
		}
		if !reflect.DeepEqual(any(texts), before[name]) {
			if err := checkTexts(name, texts); err != nil {
				return err
			}
		}
		meta[name] = texts
	}
	got.Object["metadata"] = meta
	return nil
}

func checkTexts(name string, content map[string]any) error {
	texts := make(map[string]string, len(content))
	for k, v := range content {
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("metadata.%s[%s] must be a string, but is %T in converted object", name, k, v)
		}
		texts[k] = s
	}
	path := field.NewPath("metadata", name)
	if name == "labels" {
		return metav1validation.ValidateLabels(texts, path).ToAggregate()
	}
	return apivalidation.ValidateAnnotations(texts, path).ToAggregate()
}
