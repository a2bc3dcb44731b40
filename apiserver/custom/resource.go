package custom

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/version"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/apiextensions"
	crdschema "github.com/proa-dev/proa/apis/apiextensions/schema"
	"github.com/proa-dev/proa/apiserver/openapi"
	"github.com/proa-dev/proa/store"
)

// converter gives objects of one version of a kind in another: by their apiVersion alone, or
// by asking a webhook. It keeps order and number; what it gives may share with what it was given.
type converter func(ctx context.Context, objects []*unstructured.Unstructured, to schema.GroupVersion) ([]*unstructured.Unstructured, error)

// resource is a definition as it is served.
type resource struct {
	uid      types.UID
	spec     *apiextensionsv1.CustomResourceDefinitionSpec
	names    apiextensionsv1.CustomResourceDefinitionNames
	ending   bool
	versions map[string]*crdschema.Schema
	convert  converter
	kinds    []*api.Kind // of the versions that are served
	storage  *api.Kind   // what the store keeps
}

// nextSlot counts the versions of all times: each keeps its JSON in a place of its own.
var nextSlot atomic.Int64

func groupResource(d *apiextensions.Definition) schema.GroupResource {
	return schema.GroupResource{Group: d.Spec.Group, Resource: d.Spec.Names.Plural}
}

// same says that a definition is served as it is.
func (r *resource) same(d *apiextensions.Definition) bool {
	return r.uid == d.UID && r.ending == ending(d) && reflect.DeepEqual(r.names, d.Status.AcceptedNames) && reflect.DeepEqual(r.spec, &d.Spec)
}

func ending(d *apiextensions.Definition) bool {
	return apiextensions.IsTrue(d, apiextensionsv1.Terminating)
}

// newResource makes the kinds of a definition whose names are accepted.
func newResource(d *apiextensions.Definition, convert converter) (*resource, error) {
	r := &resource{
		uid: d.UID, spec: &d.Spec, names: d.Status.AcceptedNames, ending: ending(d),
		versions: map[string]*crdschema.Schema{}, convert: convert,
	}
	for i := range d.Spec.Versions {
		v := &d.Spec.Versions[i]
		s := &crdschema.Schema{}
		var err error
		if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
			s, err = crdschema.New(v.Schema.OpenAPIV3Schema)
		} else {
			s, err = crdschema.New(anything)
		}
		if err != nil {
			return nil, fmt.Errorf("schema of version %s: %w", v.Name, err)
		}
		r.versions[v.Name] = s
	}
	for i := range d.Spec.Versions {
		v := &d.Spec.Versions[i]
		k := r.kind(v)
		if v.Storage {
			r.storage = k
		}
		if v.Served {
			r.kinds = append(r.kinds, k)
		}
	}
	if r.storage == nil {
		return nil, fmt.Errorf("no version of %s is stored", d.Name)
	}
	// One of the versions that are served stands for the kind in the server's own work.
	if len(r.kinds) > 0 && !slices.Contains(r.kinds, r.storage) {
		r.kinds[0].Stored = nil
	}
	for _, k := range r.kinds {
		k.Custom.Types = r.types
	}
	return r, nil
}

var anything = &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: func() *bool { yes := true; return &yes }()}

// kind is one version.
func (r *resource) kind(v *apiextensionsv1.CustomResourceDefinitionVersion) *api.Kind {
	names := r.names
	s := r.versions[v.Name]
	gv := schema.GroupVersion{Group: r.spec.Group, Version: v.Name}
	one := &versioned{resource: r, gv: gv, schema: s}
	if v.Subresources != nil {
		one.scale = v.Subresources.Scale
	}
	k := api.Define(api.Resource[*unstructured.Unstructured]{
		Group: gv.Group, Version: gv.Version, Kind: names.Kind, Plural: names.Plural, Singular: names.Singular,
		Short: names.ShortNames, Categories: names.Categories, Namespaced: r.spec.Scope == apiextensionsv1.NamespaceScoped,
		Prefix:        gv.Group + "/" + names.Plural,
		HasGeneration: true, HasStatus: v.Subresources != nil && v.Subresources.Status != nil,
		Unowned: map[string][]string{"status": {"spec", "metadata"}},
		Default: one.setDefaults, Validate: one.validate, ValidateUpdate: one.validateUpdate, ValidateStatus: one.validateStatus,
		Warnings: finalizerWarnings,
		Columns:  columns(v.AdditionalPrinterColumns), Fields: selectable(v.SelectableFields), Scale: scaleOf(v),
	})
	k.Ratchets, k.List = true, names.ListKind
	if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
		k.Schema, _ = json.Marshal(v.Schema.OpenAPIV3Schema) // it was decoded from JSON
	}
	if !v.Storage {
		for i := range r.spec.Versions {
			if r.spec.Versions[i].Storage {
				k.Stored = &schema.GroupVersion{Group: gv.Group, Version: r.spec.Versions[i].Name}
			}
		}
	}
	k.Custom = &api.Custom{
		View: one.view, ToStored: one.toStored, Convert: r.convertOne, Own: one.own, Admit: one.admit,
		Slot: store.Slots + 1 + int(nextSlot.Add(1)), Scaled: scaled(v), Deprecated: r.deprecation(v), Ending: r.ending,
	}
	return k
}

// deprecation is what clients of a deprecated version are told.
func (r *resource) deprecation(v *apiextensionsv1.CustomResourceDefinitionVersion) string {
	switch {
	case !v.Deprecated:
		return ""
	case v.DeprecationWarning != nil:
		return *v.DeprecationWarning
	}
	text, newest := fmt.Sprintf("%s/%s %s is deprecated", r.spec.Group, v.Name, r.names.Kind), ""
	for _, other := range r.spec.Versions {
		if other.Served && !other.Deprecated && version.CompareKubeAwareVersionStrings(other.Name, v.Name) > 0 &&
			(newest == "" || version.CompareKubeAwareVersionStrings(other.Name, newest) > 0) {
			newest = other.Name
		}
	}
	if newest != "" {
		text += fmt.Sprintf("; use %s/%s %s", r.spec.Group, newest, r.names.Kind)
	}
	return text
}

// types is the schema of all versions, as field managers read it.
func (r *resource) types() (managedfields.TypeConverter, error) {
	return openapi.Types(r.kinds, r.spec.PreserveUnknownFields)
}

func (r *resource) convertOne(ctx context.Context, obj api.Object, to schema.GroupVersion) (api.Object, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("convert a %T", obj)
	}
	all, err := r.convert(ctx, []*unstructured.Unstructured{u}, to)
	if err != nil {
		return nil, err
	}
	other := &versioned{resource: r, gv: to, schema: r.versions[to.Version]}
	if other.schema == nil {
		return nil, fmt.Errorf("request to convert CR to an invalid group/version: %s", to)
	}
	if out := all[0]; out == u || !other.prunes() || other.schema.Pruned(out.Object) {
		return out, nil
	}
	out := all[0].DeepCopy()
	other.schema.Prune(out.Object)
	return out, nil
}

// rename converts without asking anybody.
func rename(_ context.Context, objects []*unstructured.Unstructured, to schema.GroupVersion) ([]*unstructured.Unstructured, error) {
	out := make([]*unstructured.Unstructured, len(objects))
	for i, u := range objects {
		out[i] = u
		if u.GetAPIVersion() != to.String() {
			out[i] = &unstructured.Unstructured{Object: maps.Clone(u.Object)}
			out[i].SetAPIVersion(to.String())
		}
	}
	return out, nil
}

// versioned is what a kind does with objects of its version.
type versioned struct {
	resource *resource
	gv       schema.GroupVersion
	schema   *crdschema.Schema
	scale    *apiextensionsv1.CustomResourceSubresourceScale // nil: none
}

func (v *versioned) prunes() bool { return !v.resource.spec.PreserveUnknownFields }

// clean says that an object of this version is as the schema wants it.
func (v *versioned) clean(u *unstructured.Unstructured) bool {
	return !v.prunes() || v.schema.Clean(u.Object)
}

func (v *versioned) own(stored api.Object) bool {
	u, ok := stored.(*unstructured.Unstructured)
	return ok && u.GetAPIVersion() == v.gv.String() && v.clean(u)
}

// view gives stored objects in this version: what their own version would set is set, what this
// one does not know is removed.
func (v *versioned) view(ctx context.Context, stored []api.Object) ([]api.Object, error) {
	in := make([]*unstructured.Unstructured, len(stored))
	for i, obj := range stored {
		u := obj.(*unstructured.Unstructured)
		if was := v.sibling(u.GroupVersionKind().Version); was != nil && !was.clean(u) {
			u = u.DeepCopy()
			was.setDefaults(u)
		}
		in[i] = u
	}
	converted, err := v.resource.convert(ctx, in, v.gv)
	if err != nil {
		return nil, err
	}
	out := make([]api.Object, len(stored))
	for i, u := range converted {
		if v.prunes() && !v.schema.Pruned(u.Object) {
			u = u.DeepCopy()
			v.schema.Prune(u.Object)
		}
		out[i] = u
	}
	return out, nil
}

// sibling is another version of the same kind; nil when there is none (any more).
func (v *versioned) sibling(version string) *versioned {
	s := v.resource.versions[version]
	if s == nil {
		return nil
	}
	return &versioned{resource: v.resource, gv: schema.GroupVersion{Group: v.gv.Group, Version: version}, schema: s}
}

func (v *versioned) toStored(ctx context.Context, obj api.Object) (api.Object, error) {
	return v.resource.convertOne(ctx, obj, schema.GroupVersion{Group: v.gv.Group, Version: v.resource.storage.Version})
}

func (v *versioned) admit(obj api.Object) ([]string, error) {
	u := obj.(*unstructured.Unstructured)
	unknown, err := v.schema.Metadata(u.Object)
	if err != nil || !v.prunes() {
		return unknown, err
	}
	// Told in this order: its own metadata, fields, the metadata of embedded objects.
	own := 0
	for own < len(unknown) && strings.HasPrefix(unknown[own], "metadata.") {
		own++
	}
	return slices.Insert(unknown, own, v.schema.Prune(u.Object)...), nil
}

// setDefaults also prunes: what admission added, or another version had, is no different
// from what a client sent.
func (v *versioned) setDefaults(u *unstructured.Unstructured) {
	if v.prunes() {
		v.schema.Prune(u.Object)
	}
	v.schema.Default(u.Object)
}

func (v *versioned) validate(u *unstructured.Unstructured) field.ErrorList {
	return v.check(u.Object, nil, scaleFaults(v.scale, u, true))
}

func (v *versioned) validateUpdate(u, old *unstructured.Unstructured) field.ErrorList {
	return v.check(u.Object, old.Object, scaleFaults(v.scale, u, true))
}

func (v *versioned) validateStatus(u, old *unstructured.Unstructured) field.ErrorList {
	return v.check(u.Object, old.Object, scaleFaults(v.scale, u, false))
}

func (v *versioned) check(obj, old map[string]any, more field.ErrorList) field.ErrorList {
	errs := append(v.schema.Validate(obj, old), more...)
	for _, err := range errs {
		switch err.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			if v.schema.HasRules() {
				return append(errs, field.Invalid(nil, nil, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"))
			}
			return errs
		}
	}
	return append(errs, v.schema.Rules(context.Background(), obj, old)...)
}
