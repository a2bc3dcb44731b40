package patch

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/apis/api"
)

// Limits of what a patch may do.
const (
	maxOperations = 10_000
	maxResult     = 3 << 20 // bytes of the patched object
)

// JSON applies a JSON patch (RFC 6902).
func JSON(kind *api.Kind, live api.Object, body []byte, validation string) (api.Object, []string, error) {
	p, err := jsonpatch.DecodePatch(asJSON(body))
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	if len(p) > maxOperations {
		return nil, nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(p)))
	}
	old, err := json.Marshal(live)
	if err != nil {
		return nil, nil, err
	}
	var copied *jsonpatch.AccumulatedCopySizeError
	patched, err := p.Apply(old)
	if err != nil {
		if errors.As(err, &copied) {
			return nil, nil, apierrors.NewRequestEntityTooLargeError(err.Error())
		}
		return nil, nil, unprocessable(err)
	}
	return decoded(kind, patched, validation)
}

// Merge applies a JSON merge patch (RFC 7386).
func Merge(kind *api.Kind, live api.Object, body []byte, validation string) (api.Object, []string, error) {
	body = asJSON(body)
	var shape map[string]any
	findings, err := kjson.UnmarshalStrict(body, &shape)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	old, err := json.Marshal(live)
	if err != nil {
		return nil, nil, err
	}
	patched, err := jsonpatch.MergePatch(old, body)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	warnings, err := verdict(kind.GroupVersionKind, texts(findings), validation)
	if err != nil {
		return nil, nil, err
	}
	obj, more, err := decoded(kind, patched, validation)
	return obj, append(warnings, more...), err
}

// Strategic applies a strategic merge patch: lists are merged by the keys that the Go
// type's tags name.
func Strategic(kind *api.Kind, live api.Object, body []byte, validation string) (api.Object, []string, error) {
	body = asJSON(body)
	var changes map[string]any
	findings, err := kjson.UnmarshalStrict(body, &changes)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	warnings, err := verdict(kind.GroupVersionKind, texts(findings), validation)
	if err != nil {
		return nil, nil, err
	}
	raw, err := json.Marshal(live)
	if err != nil {
		return nil, nil, err
	}
	var old map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &old); err != nil {
		return nil, nil, err
	}
	merged, err := strategicpatch.StrategicMergeMapPatch(old, changes, live)
	switch {
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return nil, nil, apierrors.NewBadRequest(err.Error())
	case errors.Is(err, mergepatch.ErrNoListOfLists):
		return nil, nil, unprocessable(err)
	case err != nil:
		return nil, nil, unprocessable(err)
	}
	patched, err := json.Marshal(merged)
	if err != nil {
		return nil, nil, err
	}
	obj, more, err := decoded(kind, patched, validation)
	return obj, append(warnings, more...), err
}

// asJSON: patches may come as YAML.
func asJSON(body []byte) []byte {
	if out, err := yaml.YAMLToJSON(body); err == nil && !json.Valid(body) {
		return out
	}
	return body
}

func texts(errs []error) []string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return out
}

// decoded reads a patched object. It keeps its kind and version, whatever the patch says.
func decoded(kind *api.Kind, raw []byte, validation string) (api.Object, []string, error) {
	if len(raw) > maxResult {
		return nil, nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the patched object is larger than the limit of %d bytes", maxResult))
	}
	obj := kind.New()
	findings, err := decodeJSON(kind.GroupVersionKind, obj, raw)
	if err != nil {
		if apierrors.IsBadRequest(err) {
			err = apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), field.OmitValueType{}, err.Error())})
		}
		return nil, nil, err
	}
	warnings, err := verdict(kind.GroupVersionKind, findings, validation)
	if err != nil {
		err = apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), field.OmitValueType{}, err.Error())})
	}
	return obj, warnings, err
}

func unprocessable(err error) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
}
