package patch

import (
	"fmt"
	"net/http"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/apis/api"
)

// Fields keeps the ownership of the fields of one kind's objects. Safe for concurrent use.
type Fields struct {
	kind      *api.Kind
	converter managedfields.TypeConverter
	mu        sync.Mutex
	managers  map[string]*managedfields.FieldManager // by subresource
}

// types is the schema of the built-in kinds, read once.
var types struct {
	once      sync.Once
	converter managedfields.TypeConverter
}

// NewFields makes the manager of a kind. The first one reads the schema of all kinds.
func NewFields(kind *api.Kind, scheme *runtime.Scheme) (*Fields, error) {
	f := &Fields{kind: kind, managers: map[string]*managedfields.FieldManager{}}
	if scheme.Recognizes(kind.GroupVersionKind) {
		types.once.Do(func() { types.converter = applyconfigurations.NewTypeConverter(scheme) })
		var err error
		if f.converter, err = newTrusting(types.converter, kind); err != nil {
			return nil, err
		}
	} else {
		f.converter = managedfields.NewDeducedTypeConverter()
	}
	return f, nil
}

func (f *Fields) manager(subresource string) (*managedfields.FieldManager, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.managers[subresource]; m != nil {
		return m, nil
	}
	gv := f.kind.GroupVersion()
	m, err := managedfields.NewDefaultFieldManager(f.converter, single{f.kind}, defaulter{f.kind}, creator{f.kind}, f.kind.GroupVersionKind, gv, subresource, nil)
	if err != nil {
		return nil, fmt.Errorf("field manager of %s: %w", f.kind.GroupVersionKind.Kind, err)
	}
	f.managers[subresource] = m
	return m, nil
}

// Written notes who owns what after a create (live nil), update or patch.
func (f *Fields) Written(live, obj api.Object, manager, subresource string) (api.Object, error) {
	m, err := f.manager(subresource)
	if err != nil {
		return nil, err
	}
	if live == nil {
		live = f.kind.New()
	}
	out, err := m.Update(live, obj, manager)
	if err != nil {
		// An object that the schema does not fit is still the client's to store.
		return obj, nil //nolint:nilerr // as upstream: ownership is best effort on updates
	}
	return out.(api.Object), nil
}

// Apply merges an applied configuration into the live object (nil: none yet).
func (f *Fields) Apply(live api.Object, body []byte, manager, subresource string, force bool) (api.Object, error) {
	m, err := f.manager(subresource)
	if err != nil {
		return nil, err
	}
	applied := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal(body, &applied.Object); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	version, kind := f.kind.ToAPIVersionAndKind()
	if applied.GetAPIVersion() == "" || applied.GetKind() == "" {
		return nil, apierrors.NewBadRequest("apiVersion and kind must be set in an applied configuration")
	}
	if applied.GetAPIVersion() != version || applied.GetKind() != kind {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s, Kind=%s) does not match the expected API version (%s, Kind=%s)",
			applied.GetAPIVersion(), applied.GetKind(), version, kind))
	}
	if len(applied.GetManagedFields()) > 0 {
		return nil, apierrors.NewBadRequest("metadata.managedFields must be nil")
	}
	if live == nil {
		live = f.kind.New()
	}
	out, err := m.Apply(live, applied, manager, force)
	if err != nil {
		if apierrors.IsConflict(err) {
			return nil, err
		}
		if status, ok := err.(apierrors.APIStatus); ok { //nolint:errorlint // the library returns it bare
			return nil, &apierrors.StatusError{ErrStatus: status.Status()}
		}
		return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonUnknown, Message: err.Error(),
		}}
	}
	obj, ok := out.(api.Object)
	if !ok {
		return nil, fmt.Errorf("applied %s is a %T", kind, out)
	}
	obj.GetObjectKind().SetGroupVersionKind(f.kind.GroupVersionKind)
	return obj, nil
}

// single is the conversion between versions of a kind of which there is one: all that is
// left to do is to make the kind's own type of a merge's result.
type single struct{ kind *api.Kind }

func (single) Convert(in, out, _ any) error {
	return fmt.Errorf("no conversion from %T to %T", in, out)
}

func (s single) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	merged, ok := in.(*unstructured.Unstructured)
	if !ok {
		return in, nil
	}
	obj := s.kind.New()
	if _, ok := obj.(*unstructured.Unstructured); ok {
		return in, nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(merged.Object, obj); err != nil {
		return nil, fmt.Errorf("read the merged %s: %w", s.kind.GroupVersionKind.Kind, err)
	}
	obj.GetObjectKind().SetGroupVersionKind(s.kind.GroupVersionKind)
	return obj, nil
}

func (single) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// creator makes empty objects that know their kind.
type creator struct{ kind *api.Kind }

func (c creator) New(schema.GroupVersionKind) (runtime.Object, error) { return c.kind.New(), nil }

// defaulter fills in a kind's defaults.
type defaulter struct{ kind *api.Kind }

func (d defaulter) Default(in runtime.Object) {
	if obj, ok := in.(api.Object); ok {
		d.kind.Default(obj)
	}
}
