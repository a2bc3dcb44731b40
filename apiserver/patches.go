package apiserver

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/patch"
	"github.com/proa-dev/proa/store"
)

var patchTypes = []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType, types.ApplyCBORPatchType}

func (r *request) patch() error {
	o, err := r.writeOptions()
	if err != nil {
		return err
	}
	media, _, err := mime.ParseMediaType(r.r.Header.Get("Content-Type"))
	if err != nil {
		return r.unsupportedPatch()
	}
	raw, err := r.body()
	if err != nil {
		return err
	}
	if types.PatchType(media) == types.ApplyCBORPatchType && r.s.cfg.CBOR {
		if raw, err = patch.CBORToJSON(raw); err != nil {
			return apierrors.NewBadRequest("error decoding patch: " + err.Error())
		}
		media = string(types.ApplyYAMLPatchType) // which JSON is too
	}
	r.auditPatch(raw)
	switch types.PatchType(media) {
	case types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType:
		if !json.Valid(raw) {
			return apierrors.NewBadRequest("invalid JSON patch")
		}
	}
	var edit editor
	apply := func(f func(*api.Kind, api.Object, []byte, string) (api.Object, []string, error)) editor {
		return func(old api.Object) (api.Object, error) {
			obj, warnings, err := f(r.kind.Kind, old, raw, o.validation)
			for _, w := range warnings {
				r.warn(w)
			}
			return obj, err
		}
	}
	switch types.PatchType(media) {
	case types.JSONPatchType:
		edit = apply(patch.JSON)
	case types.MergePatchType:
		edit = apply(patch.Merge)
	case types.StrategicMergePatchType:
		if r.kind.Custom != nil {
			return r.unsupportedPatch()
		}
		edit = apply(patch.Strategic)
	case types.ApplyYAMLPatchType:
		return r.apply(raw, o)
	default:
		return r.unsupportedPatch()
	}
	item, obj, err := r.edit(r.named(edit), o, nil)
	return r.answer(http.StatusOK, item, obj, err)
}

// named refuses patches that rename.
func (r *request) named(edit editor) editor {
	return func(old api.Object) (api.Object, error) {
		obj, err := edit(old)
		if err == nil && obj.GetName() != r.name {
			return nil, wrongName(obj.GetName(), r.name)
		}
		return obj, err
	}
}

// unsupportedPatch refuses what is no patch of this kind: without a Go type, none is strategic.
func (r *request) unsupportedPatch() error {
	media := r.r.Header.Get("Content-Type")
	if r.kind.Custom == nil && !slices.Contains(patchTypes, types.PatchType(media)) {
		return apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", noResource, "", "415: Unsupported Media Type", 0, false)
	}
	var names []string
	for _, t := range patchTypes {
		if t == types.StrategicMergePatchType && r.kind.Custom != nil || t == types.ApplyCBORPatchType && !r.s.cfg.CBOR {
			continue
		}
		names = append(names, string(t))
	}
	return apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "patch", noResource, "",
		"the body of the request was in an unknown format - accepted media types include: "+strings.Join(names, ", "), 0, false)
}

// apply is server-side apply: it creates what is not there.
func (r *request) apply(raw []byte, o writeOptions) error {
	manager := r.query.Get("fieldManager")
	warnings, err := patch.Duplicates(raw, o.validation)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		r.warn(w)
	}
	force := r.on("force")
	f, err := r.kind.managed(r.s.cfg.Scheme)
	if err != nil {
		return err
	}
	edit := func(old api.Object) (api.Object, error) { return f.Apply(old, raw, manager, r.sub, force) }
	keep := func(_, obj api.Object) (api.Object, error) { return obj, nil }
	for {
		item, obj, err := r.edit(r.named(edit), o, keep)
		if !isNotFound(err) || r.sub != "" {
			return r.answer(http.StatusOK, item, obj, err)
		}
		item, obj, err = r.applyNew(f, raw, manager, force, o)
		if isExists(err) || apierrors.IsAlreadyExists(err) {
			continue // another made it meanwhile
		}
		return r.answer(http.StatusCreated, item, obj, err)
	}
}

func (r *request) applyNew(f *patch.Fields, raw []byte, manager string, force bool, o writeOptions) (*store.Item, api.Object, error) {
	obj, err := f.Apply(nil, raw, manager, r.sub, force)
	if err != nil {
		return nil, nil, err
	}
	switch obj.GetName() {
	case r.name:
	case "":
		return nil, nil, nameless(r.name)
	default:
		return nil, nil, wrongName(obj.GetName(), r.name)
	}
	obj.SetResourceVersion("")
	if obj.GetUID() != "" {
		return nil, nil, apierrors.NewConflict(r.groupResource(), r.name, fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", obj.GetUID()))
	}
	return r.createObject(r.r.Context(), obj, o, func(made api.Object) (api.Object, error) { return made, nil })
}
