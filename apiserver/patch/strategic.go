package patch

import (
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	kjson "sigs.k8s.io/json"

	"github.com/proa-dev/proa/apis/api"
)

// Strategic applies a strategic merge patch to a copy of live, by the merge keys and
// strategies in the tags of the kind's Go type ($patch, $retainKeys, $setElementOrder and
// $deleteFromPrimitiveList are understood). The caller refuses it for custom resources,
// which have no such type. Otherwise as JSON.
func Strategic(kind *api.Kind, live api.Object, body []byte, validation string) (obj api.Object, warnings []string, err error) {
	if err := checkText(body, kind.Type); err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	change := map[string]any{}
	strict, err := unmarshalMap(body, &change, validation)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	bare, restore := aside(live, body)
	part, join := apart(bare, change)
	before, err := runtime.DefaultUnstructuredConverter.ToUnstructured(part)
	if err != nil {
		return nil, nil, fmt.Errorf("convert the object to patch: %w", err)
	}
	shape, err := strategicpatch.NewPatchMetaFromStruct(kind.New())
	if err != nil {
		return nil, nil, fmt.Errorf("read the merge keys of %s: %w", kind.Kind, err)
	}
	after, err := mergeStrategic(before, change, shape)
	if err != nil {
		return nil, nil, strategicError(err)
	}
	obj = kind.New()
	sent := func() string { return fmt.Sprintf("%+v", change) }
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(after, obj, validation != metav1.FieldValidationIgnore)
	if err != nil {
		unknown, ok := runtime.AsStrictDecodingError(err)
		if !ok {
			return nil, nil, invalid(sent(), err)
		}
		strict = append(strict, unknown.Errors()...)
	}
	if err := sameKind(kind, obj); err != nil {
		return nil, nil, invalid(sent(), err)
	}
	join(obj)
	restore(obj)
	warnings, err = judge(strict, validation, sent)
	return obj, warnings, err
}

func unmarshalMap(body []byte, into *map[string]any, validation string) ([]error, error) {
	if validation == metav1.FieldValidationIgnore {
		return nil, kjson.UnmarshalCaseSensitivePreserveInts(body, into)
	}
	return kjson.UnmarshalStrict(body, into)
}

// mergeStrategic calls the library, whose type assertions a hostile patch can reach.
func mergeStrategic(before, change map[string]any, shape strategicpatch.LookupPatchMeta) (after map[string]any, err error) {
	defer func() {
		if recover() != nil {
			err = errPanicked
		}
	}()
	return strategicpatch.StrategicMergeMapPatchUsingLookupPatchMeta(before, change, shape)
}

// strategicError gives a failed merge its code: 400 for what is no patch, 422 for one that
// does not fit.
func strategicError(err error) error {
	for _, malformed := range []error{
		mergepatch.ErrBadJSONDoc, mergepatch.ErrBadPatchFormatForPrimitiveList,
		mergepatch.ErrBadPatchFormatForRetainKeys, mergepatch.ErrBadPatchFormatForSetElementOrderList,
		mergepatch.ErrUnsupportedStrategicMergePatchFormat,
	} {
		if errors.Is(err, malformed) {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	return unprocessable(err)
}
