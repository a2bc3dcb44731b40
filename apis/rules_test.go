package apis_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"reflect"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// request is what a client asks: a create, or an update where old is given.
type request struct {
	Object       any    `json:"object"`
	Old          any    `json:"old,omitempty"`
	Sub          string `json:"sub,omitempty"`
	DefaultsOnly bool   `json:"defaultsOnly,omitempty"`
}

// answer is what becomes of it.
type answer struct {
	Object   any      `json:"object,omitempty"`
	Errors   []string `json:"errors,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	Fault    string   `json:"fault,omitempty"`
}

// A judge answers requests.
type judge func(request) (answer, error)

// rulesOf answers as the server does, without what needs one: admission, and what is taken from pools.
func rulesOf(k *api.Kind) judge {
	if k.Virtual != nil {
		return func(r request) (answer, error) { return post(k, r) }
	}
	return func(r request) (answer, error) {
		obj, err := decoded(k, r.Object)
		if err != nil {
			return answer{}, err
		}
		k.Default(obj)
		if r.DefaultsOnly {
			return encoded(k, obj, nil)
		}
		if r.Old == nil {
			return create(k, obj)
		}
		old, err := decoded(k, r.Old)
		if err != nil {
			return answer{}, err
		}
		return update(k, obj, old, r.Sub)
	}
}

// post asks a kind that is answered at once; the answer itself is not compared.
func post(k *api.Kind, r request) (answer, error) {
	obj, err := decoded(k, r.Object)
	if err != nil {
		return answer{}, err
	}
	env := &api.Env{Reviews: allows{}, Writer: writes{}}
	_, err = k.Virtual.Do(context.Background(), env, api.Call{Namespace: obj.GetNamespace(), Name: obj.GetName()}, obj)
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return answer{}, err
	}
	s := status.Status()
	if s.Reason != metav1.StatusReasonInvalid {
		return answer{Errors: []string{s.Message}}, nil
	}
	var a answer
	for _, c := range s.Details.Causes {
		a.Errors = append(a.Errors, c.Field+": "+c.Message)
	}
	return a, nil
}

// allows lets everyone do everything, writes changes nothing.
type (
	allows struct{ api.Reviews }
	writes struct{ api.Writer }
)

func (allows) Access(context.Context, api.User, *authorizationv1.ResourceAttributes, *authorizationv1.NonResourceAttributes) (s authorizationv1.SubjectAccessReviewStatus) {
	return s
}

func (allows) Rules(context.Context, api.User, string) (s authorizationv1.SubjectRulesReviewStatus) {
	return s
}

func (writes) Update(context.Context, schema.GroupResource, string, string, bool, func(api.Object) error) (api.Object, error) {
	return nil, nil
}

func create(k *api.Kind, obj api.Object) (answer, error) {
	if k.HasStatus && !k.StatusOnCreate {
		statusOf(obj).SetZero()
	}
	obj.SetGeneration(0)
	if k.HasGeneration {
		obj.SetGeneration(1)
	}
	k.PrepareCreate(context.Background(), obj)
	errs := apivalidation.ValidateObjectMetaAccessor(obj, k.Namespaced, apivalidation.ValidateNameFunc(k.ValidateName), field.NewPath("metadata"))
	if errs = append(errs, append(k.ValidateCreate(obj), k.Validate(obj)...)...); len(errs) > 0 {
		return refused(errs), nil
	}
	return encoded(k, obj, k.Warnings(obj, nil))
}

func update(k *api.Kind, obj, old api.Object, sub string) (answer, error) {
	path := field.NewPath("metadata")
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	kept := old.DeepCopyObject().(api.Object)
	check := func() field.ErrorList { return k.ValidateUpdate(obj, old) }
	switch sub {
	case "":
		if k.HasStatus {
			statusOf(obj).Set(statusOf(kept))
		}
		k.PrepareUpdate(context.Background(), obj, old)
		if !k.Ratchets {
			check = func() field.ErrorList { return append(k.Validate(obj), k.ValidateUpdate(obj, old)...) }
		}
	case "status":
		keepAllButStatus(obj, kept)
		k.PrepareStatus(obj, old)
		check = func() field.ErrorList { return k.ValidateStatus(obj, old) }
	default:
		u, err := subresource(k, sub)
		if err != nil {
			return answer{}, err
		}
		u.Apply(context.Background(), obj, old)
		check = func() field.ErrorList { return u.Validate(obj, old) }
	}
	if k.HasGeneration && sub != "status" && changedSpec(obj, old) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
	errs := apivalidation.ValidateObjectMetaAccessorUpdate(obj, old, path)
	errs = append(errs, apivalidation.ValidateObjectMetaAccessor(obj, k.Namespaced, func(string, bool) []string { return nil }, path)...)
	if errs = append(errs, check()...); len(errs) > 0 {
		return refused(errs), nil
	}
	if sub != "" {
		return encoded(k, obj, nil)
	}
	return encoded(k, obj, k.Warnings(obj, old))
}

func subresource(k *api.Kind, name string) (api.Update[api.Object], error) {
	for _, u := range k.Updates {
		if u.Name == name {
			return u, nil
		}
	}
	return api.Update[api.Object]{}, fmt.Errorf("%s has no subresource %s", k.Kind, name)
}

func statusOf(obj api.Object) reflect.Value { return reflect.ValueOf(obj).Elem().FieldByName("Status") }

func keepAllButStatus(obj, old api.Object) {
	to, from := reflect.ValueOf(obj).Elem(), reflect.ValueOf(old).Elem()
	for i := range to.NumField() {
		if name := to.Type().Field(i).Name; name != "Status" && name != "ObjectMeta" && name != "TypeMeta" {
			to.Field(i).Set(from.Field(i))
		}
	}
	obj.SetOwnerReferences(old.GetOwnerReferences())
}

func changedSpec(obj, old api.Object) bool {
	a, b := reflect.ValueOf(obj).Elem(), reflect.ValueOf(old).Elem()
	for i := range a.NumField() {
		switch a.Type().Field(i).Name {
		case "Status", "ObjectMeta", "TypeMeta":
		default:
			if !equality.Semantic.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
				return true
			}
		}
	}
	return false
}

func refused(errs field.ErrorList) answer {
	var a answer
	for _, e := range errs {
		a.Errors = append(a.Errors, e.Error())
	}
	return a
}

func decoded(k *api.Kind, v any) (api.Object, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	obj := k.New()
	reader := json.NewDecoder(bytes.NewReader(text))
	reader.DisallowUnknownFields()
	err = reader.Decode(obj)
	return obj, err
}

// encoded is what a client is answered with: what was stored, as its version shows it.
func encoded(k *api.Kind, obj api.Object, warnings []string) (answer, error) {
	if k.Stored != nil {
		obj = k.FromStored(k.ToStored(obj))
	}
	text, err := json.Marshal(obj)
	if err != nil {
		return answer{}, err
	}
	a := answer{Warnings: warnings}
	return a, json.Unmarshal(text, &a.Object)
}

// program is a judge that runs for as long as the test does.
func program(path string) (judge, func() error, error) {
	cmd := exec.Command(path)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	lines := bufio.NewReader(out)
	ask := func(r request) (answer, error) {
		if err := json.NewEncoder(in).Encode(r); err != nil {
			return answer{}, err
		}
		line, err := lines.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return answer{}, err
		}
		var a answer
		if err := json.Unmarshal(line, &a); err != nil {
			return answer{}, fmt.Errorf("%q: %w", line, err)
		}
		if a.Fault != "" {
			return a, errors.New(a.Fault)
		}
		return a, nil
	}
	return ask, func() error { return errors.Join(in.Close(), cmd.Wait()) }, nil
}
