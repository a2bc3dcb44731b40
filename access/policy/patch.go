package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/types/known/structpb"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	celmutation "k8s.io/apiserver/pkg/cel/mutation"
	"k8s.io/apiserver/pkg/cel/mutation/dynamic"
	kjson "sigs.k8s.io/json"

	"github.com/proa-dev/proa/access/admission/match"
	"github.com/proa-dev/proa/internal/expression"
)

// applied is the configuration that an expression gives as Object{...}.
func applied(v ref.Val) (map[string]any, error) {
	obj, ok := v.(*dynamic.ObjectVal)
	if !ok {
		return nil, fmt.Errorf("unsupported return type from ApplyConfiguration expression: %v", v.Type())
	}
	if err := obj.CheckTypeNamesMatchFieldPathNames(); err != nil {
		return nil, fmt.Errorf("type mismatch: %w", err)
	}
	out, ok := obj.Value().(map[string]any)
	if !ok {
		return nil, fmt.Errorf("invalid return type: %T", v)
	}
	return out, nil
}

// operation is one operation of a JSON patch.
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	From  string          `json:"from,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// jsonPatch carries out the patch that an expression gives as [JSONPatch{...}].
func (c *round) jsonPatch(run *expression.Run, t match.Target, obj runtime.Object, p program) error {
	v, err := evaluate(run, p)
	if err != nil {
		return err
	}
	operations, err := patched(v)
	if err != nil {
		return err
	}
	text, err := json.Marshal(operations)
	if err != nil {
		return fmt.Errorf("failed to create JSON patch: %w", err)
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		return fmt.Errorf("failed to create JSON patch: %w", err)
	}
	before, err := json.Marshal(obj)
	if err != nil {
		return fmt.Errorf("failed to create JSON patch: %w", err)
	}
	after, err := patch.Apply(before)
	if errors.Is(err, jsonpatch.ErrTestFailed) {
		return nil // the patch asked whether it applies
	}
	if err != nil {
		return fmt.Errorf("JSON Patch: %w", err)
	}
	changed := c.r.New(t)
	if err := decode(after, changed); err != nil {
		return apierrors.NewInternalError(err)
	}
	return c.r.Set(t, changed)
}

// decode is strict: a field that is none is a fault of the policy.
func decode(data []byte, into runtime.Object) error {
	target := any(into)
	u, custom := into.(*unstructured.Unstructured)
	if custom {
		u.Object = map[string]any{}
		target = &u.Object
	}
	strict, err := kjson.UnmarshalStrict(data, target)
	if err == nil && len(strict) > 0 {
		err = runtime.NewStrictDecodingError(strict)
	}
	return err
}

func patched(v ref.Val) ([]operation, error) {
	list, ok := v.(traits.Lister)
	if !ok {
		return nil, errors.New("type mismatch: JSONPatchType.expression should evaluate to array")
	}
	out := []operation{}
	for it := list.Iterator(); it.HasNext() == types.True; {
		native, err := it.Next().ConvertToNative(reflect.TypeFor[*celmutation.JSONPatchVal]())
		if err != nil {
			return nil, fmt.Errorf("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch: %w", err)
		}
		one, ok := native.(*celmutation.JSONPatchVal)
		if !ok {
			return nil, fmt.Errorf("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of %T", native)
		}
		value, err := jsonOf(one.Val)
		if err != nil {
			return nil, err
		}
		out = append(out, operation{one.Op, one.Path, one.From, value})
	}
	return out, nil
}

// jsonOf is the JSON of a value that an expression gives; nil for none.
func jsonOf(v ref.Val) (json.RawMessage, error) {
	if v == nil {
		return nil, nil
	}
	if obj, ok := v.(*dynamic.ObjectVal); ok {
		if err := obj.CheckTypeNamesMatchFieldPathNames(); err != nil {
			return nil, fmt.Errorf("type mismatch: %w", err)
		}
	}
	native, err := v.ConvertToNative(reflect.TypeFor[*structpb.Value]())
	if err != nil {
		return nil, fmt.Errorf("JSONPath valueExpression evaluated to a type that could not marshal to JSON: %w", err)
	}
	text, err := json.Marshal(native)
	if err != nil {
		return nil, fmt.Errorf("JSONPath valueExpression evaluated to a type that could not marshal to JSON: %w", err)
	}
	return text, nil
}
