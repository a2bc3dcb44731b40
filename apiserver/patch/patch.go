package patch

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/proa-dev/proa/apis/api"
)

const (
	// maxOperations bounds a JSON patch, as upstream does.
	maxOperations = 10000
	// maxObject bounds what a patch may make of an object, in bytes of JSON: what a request
	// body may hold.
	maxObject = 3 << 20
)

// limitCopies has the JSON patch library bound what its copy operations add up to; the
// library keeps the limit in a variable of its package.
var limitCopies = sync.OnceFunc(func() { jsonpatch.AccumulatedCopySizeLimit = maxObject })

// JSON applies a JSON patch (RFC 6902) to a copy of live. validation is the request's
// fieldValidation: see Decode. Errors are *apierrors.StatusError: 400 for what is no patch, 413 for one of
// too many operations, 422 for one that does not fit the object or makes no valid one of it.
func JSON(kind *api.Kind, live api.Object, body []byte, validation string) (api.Object, []string, error) {
	limitCopies()
	strict, err := duplicates(body, &[]operation{}, validation, "json patch ")
	if err != nil {
		return nil, nil, err
	}
	operations, err := jsonpatch.DecodePatch(body)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	if len(operations) > maxOperations {
		return nil, nil, apierrors.NewRequestEntityTooLargeError(
			fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(operations)))
	}
	// An operation on all of the metadata, or on the whole object, would see what is set aside.
	bare, restore := aside(live, body, `"/metadata"`, `""`)
	before, err := json.Marshal(bare)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the object to patch: %w", err)
	}
	after, err := operations.Apply(before)
	if err != nil {
		return nil, nil, unprocessable(err)
	}
	return patched(kind, after, strict, validation, restore)
}

// operation is one of a JSON patch, to find what it should not have.
type operation struct {
	Op    string `json:"op"`
	From  string `json:"from"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// Merge applies a JSON merge patch (RFC 7386) to a copy of live; otherwise as JSON.
func Merge(kind *api.Kind, live api.Object, body []byte, validation string) (api.Object, []string, error) {
	strict, err := duplicates(body, &map[string]any{}, validation, "")
	if err != nil {
		return nil, nil, err
	}
	bare, restore := aside(live, body)
	part, join := bare, func(api.Object) {}
	if change := map[string]json.RawMessage{}; json.Unmarshal(body, &change) == nil && len(change) > 0 {
		part, join = apart(bare, change)
	}
	before, err := json.Marshal(part)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the object to patch: %w", err)
	}
	after, err := jsonpatch.MergePatch(before, body)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	obj, warnings, err := patched(kind, after, strict, validation, func(obj api.Object) {
		join(obj)
		restore(obj)
	})
	if err == nil || part == bare {
		return obj, warnings, err
	}
	// The error shows what became of the whole object.
	if before, err = json.Marshal(bare); err != nil {
		return nil, nil, fmt.Errorf("encode the object to patch: %w", err)
	}
	if after, err = jsonpatch.MergePatch(before, body); err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	return patched(kind, after, strict, validation, restore)
}

// duplicates finds the fields that a patch names twice.
func duplicates(body []byte, into any, validation, prefix string) ([]error, error) {
	if validation == metav1.FieldValidationIgnore {
		return nil, nil
	}
	strict, err := kjson.UnmarshalStrict(body, into)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	if prefix == "" {
		return strict, nil
	}
	for i, e := range strict {
		strict[i] = fmt.Errorf("%s%w", prefix, e)
	}
	return strict, nil
}

// patched decodes what a patch made of an object.
func patched(kind *api.Kind, data []byte, strict []error, validation string, restore func(api.Object)) (api.Object, []string, error) {
	if err := bounded(len(data)); err != nil {
		return nil, nil, err
	}
	obj := kind.New()
	found, err := unmarshal(data, obj, validation)
	if err != nil {
		return nil, nil, invalid(string(data), err)
	}
	if err := sameKind(kind, obj); err != nil {
		return nil, nil, invalid(string(data), err)
	}
	unknown, err := admit(kind.Custom, obj)
	if err != nil {
		return nil, nil, invalid(string(data), err)
	}
	restore(obj)
	found = append(found, unknown...)
	warnings, err := judge(append(strict, found...), validation, func() string { return string(data) })
	return obj, warnings, err
}

// sameKind refuses a patch that made another kind of the object, and lets one that removed
// the kind pass.
func sameKind(kind *api.Kind, obj api.Object) error {
	got := obj.GetObjectKind().GroupVersionKind()
	if err := otherKind(kind.GroupVersionKind, got.GroupVersion(), got.Kind); err != nil {
		return err
	}
	if !got.GroupVersion().Empty() && got.GroupVersion() != kind.GroupVersion() {
		return fmt.Errorf("converting (%s.%s) to (%s.%s): unknown conversion", got.Version, got.Kind, InternalName(kind.Group), kind.Kind)
	}
	obj.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
	return nil
}

// judge makes of strict errors what validation asks for.
func judge(strict []error, validation string, value func() string) ([]string, error) {
	switch {
	case len(strict) == 0 || validation == metav1.FieldValidationIgnore:
		return nil, nil
	case validation == metav1.FieldValidationStrict:
		return nil, invalid(value(), runtime.NewStrictDecodingError(strict))
	}
	return texts(strict), nil
}

// invalid is the 422 for a patch whose outcome is no object of the kind.
func invalid(value string, cause error) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{
		field.Invalid(field.NewPath("patch"), value, cause.Error()),
	})
}

// unprocessable is the 422 for a patch that does not fit the object. The message is the one
// clients know, which says nothing; the reason is added as a cause.
func unprocessable(cause error) error {
	err := apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", "", 0, false)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type: metav1.CauseTypeFieldValueInvalid, Field: "patch", Message: cause.Error(),
	}}
	return err
}

func bounded(size int) error {
	if size > maxObject {
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the patched object has %d bytes, the limit is %d", size, maxObject))
	}
	return nil
}

// errPanicked stands for a fault of a library on a hostile patch.
var errPanicked = errors.New("the patch does not fit the object")
