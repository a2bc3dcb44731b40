package apiserver

import (
	"fmt"
	"net/http"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/patch"
	"github.com/proa-dev/proa/store"
)

// subresource serves status, scale, views of the object, and actions.
func (r *request) subresource() error {
	if r.name == "" {
		r.notFound()
		return nil
	}
	if r.sub == "scale" && r.kind.Scale != nil {
		return r.scale()
	}
	for i := range r.kind.Actions {
		if r.kind.Actions[i].Name == r.sub {
			if r.verb != "create" {
				return r.notAllowed()
			}
			return r.act(&r.kind.Actions[i])
		}
	}
	get, change, patches := false, false, false
	if r.sub == "status" && r.kind.HasStatus {
		get, change, patches = true, true, true
	}
	for _, u := range r.kind.Updates {
		if u.Name == r.sub {
			get, change, patches = !u.NoGet, true, !u.NoPatch
		}
	}
	switch {
	case !change && r.kind.Custom != nil:
		return apierrors.NewNotFound(r.groupResource(), r.name)
	case !change:
		r.notFound()
		return nil
	case r.verb == "get" && get:
		return r.get()
	case r.verb == "update":
		return r.update()
	case r.verb == "patch" && patches:
		return r.patch()
	}
	return r.notAllowed()
}

// act performs an action: the body is decoded and admitted, the kind does the rest.
func (r *request) act(action *api.Action) error {
	o, err := r.writeOptions()
	if err != nil {
		return err
	}
	raw, err := r.body()
	if err != nil {
		return err
	}
	gvk := schema.GroupVersionKind{Group: action.Group, Version: action.Version, Kind: action.Kind}
	if r.kind.Virtual == action {
		gvk = r.kind.GroupVersionKind
	}
	body := action.New()
	err = r.decode(gvk, body, raw, o.validation)
	for _, version := range action.Alike {
		if err != nil && r.decode(schema.GroupVersionKind{Group: gvk.Group, Version: version, Kind: gvk.Kind}, body, raw, o.validation) == nil {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	body.GetObjectKind().SetGroupVersionKind(gvk)
	r.record.Sent(body)
	if m, ok := body.(metav1.Object); ok && r.kind.Namespaced {
		if ns := m.GetNamespace(); ns != "" && ns != r.namespace {
			return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
		}
		m.SetNamespace(r.namespace)
	}
	if err := r.admitBody(admission.Create, body, gvk, o.dryRun); err != nil {
		return err
	}
	answer, err := action.Do(r.r.Context(), r.s.env, api.Call{Namespace: r.namespace, Name: r.name, User: *r.user, DryRun: o.dryRun}, body)
	if err != nil {
		return err
	}
	code := http.StatusCreated
	if status, ok := answer.(*metav1.Status); ok {
		status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		if status.Code != 0 {
			code = int(status.Code)
		}
	} else if answer.GetObjectKind().GroupVersionKind().Kind == "" {
		answer.GetObjectKind().SetGroupVersionKind(gvk)
	}
	return r.respondObject(code, answer)
}

// scale serves the scale subresource: a view of the object with nothing but its size.
func (r *request) scale() error {
	switch r.verb {
	case "get":
		item, err := r.kind.collection.Get(r.r.Context(), r.namespace, r.name, store.Latest)
		if err != nil {
			return err
		}
		obj, err := r.view(item)
		if err != nil {
			return err
		}
		if c := r.kind.Custom; c != nil {
			if err := c.Scaled(obj); err != nil {
				return err
			}
		}
		return r.respondScale(obj)
	case "update", "patch":
		return r.rescale()
	}
	return r.notAllowed()
}

func (r *request) scaleOf(obj api.Object) *autoscalingv1.Scale {
	s := r.kind.Scale.Get(obj)
	s.TypeMeta = metav1.TypeMeta{Kind: "Scale", APIVersion: "autoscaling/v1"}
	s.ObjectMeta = metav1.ObjectMeta{
		Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
	}
	return s
}

// scaleKind lets the patch machinery work on the view.
var scaleKind = api.Define(api.Resource[*autoscalingv1.Scale]{Group: "autoscaling", Version: "v1", Kind: "Scale", Plural: "scales", Namespaced: true})

func (r *request) rescale() error {
	o, err := r.writeOptions()
	if err != nil {
		return err
	}
	raw, err := r.body()
	if err != nil {
		return err
	}
	edit := func(old api.Object) (api.Object, error) {
		scale, err := r.sentScale(r.scaleOf(old), raw, o)
		if err != nil {
			return nil, err
		}
		if scale.Spec.Replicas < 0 && r.kind.Custom == nil { // of a custom resource its own field is refused
			return nil, negativeScale(r.name, scale.Spec.Replicas)
		}
		if uid := scale.UID; uid != "" && uid != old.GetUID() {
			return nil, apierrors.NewConflict(r.groupResource(), r.name, api.OtherUID(r.kind.Prefix, old, uid))
		}
		if v := scale.ResourceVersion; v != "" && v != old.GetResourceVersion() {
			return nil, apierrors.NewConflict(r.groupResource(), r.name, errModified)
		}
		obj := old.DeepCopyObject().(api.Object)
		r.kind.Scale.Set(obj, scale.Spec.Replicas)
		return obj, nil
	}
	if r.verb == "patch" {
		r.auditPatch(raw)
	}
	if types.PatchType(mediaType(r.r)) == types.ApplyYAMLPatchType {
		return r.applyScale(raw, o)
	}
	finish := func(old, obj api.Object) (api.Object, error) {
		obj, err := r.manage(old, obj, o.manager, nil)
		if err == nil {
			patch.Untime(obj, r.sub)
		}
		return obj, err
	}
	return r.editScaled(edit, o, finish)
}

// sentScale is what the client makes of the present scale.
func (r *request) sentScale(now *autoscalingv1.Scale, raw []byte, o writeOptions) (*autoscalingv1.Scale, error) {
	if r.verb == "update" {
		sent := &autoscalingv1.Scale{}
		err := r.decode(scaleKind.GroupVersionKind, sent, raw, o.validation)
		if err == nil && sent.Name != "" && sent.Name != r.name {
			err = wrongName(sent.Name, r.name)
		}
		r.record.Sent(sent)
		return sent, err
	}
	patchers := map[string]func(*api.Kind, api.Object, []byte, string) (api.Object, []string, error){
		string(patchTypes[0]): patch.JSON, string(patchTypes[1]): patch.Merge, string(patchTypes[2]): patch.Strategic,
	}
	media := mediaType(r.r)
	f := patchers[media]
	if f == nil || r.kind.Custom != nil && media == string(patchTypes[2]) {
		return nil, r.unsupportedPatch()
	}
	obj, warnings, err := f(scaleKind, now, raw, o.validation)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		r.warn(w)
	}
	scale, ok := obj.(*autoscalingv1.Scale)
	if !ok {
		return nil, fmt.Errorf("patched scale is a %T", obj)
	}
	return scale, nil
}
