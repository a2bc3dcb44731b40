package apiserver

import (
	"encoding/json"
	"net/http"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
	"github.com/proa-dev/proa/apiserver/patch"
)

// scaleColumns are what kubectl shows of a Scale.
var scaleColumns = []metav1.TableColumnDefinition{
	{Name: "Name", Type: "string", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
	{Name: "Desired", Type: "integer", Description: autoscalingv1.ScaleSpec{}.SwaggerDoc()["replicas"]},
	{Name: "Available", Type: "integer", Description: autoscalingv1.ScaleStatus{}.SwaggerDoc()["replicas"]},
	{Name: "Age", Type: "string", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]},
}

// respondScale answers with the Scale of an object, as the client likes it.
func (r *request) respondScale(obj api.Object) error {
	s := r.scaleOf(obj)
	switch r.out.as {
	case "":
		return r.respondObject(http.StatusOK, s)
	case "Table":
	default:
		return r.respondObject(http.StatusOK, partial(s, r.out.version))
	}
	t, _ := r.newTable(false, 1)
	t.ColumnDefinitions, t.ResourceVersion = scaleColumns, s.ResourceVersion
	row := metav1.TableRow{Cells: []any{s.Name, int64(s.Spec.Replicas), int64(s.Status.Replicas), core.Age[*autoscalingv1.Scale]().Value(s)}}
	var err error
	switch metav1.IncludeObjectPolicy(r.query.Get("includeObject")) {
	case metav1.IncludeNone:
	case metav1.IncludeObject:
		row.Object.Raw, err = json.Marshal(s)
	default:
		row.Object.Raw, err = json.Marshal(partial(s, r.out.version))
	}
	if err != nil {
		return err
	}
	t.Rows = append(t.Rows, row)
	return r.respondObject(http.StatusOK, t)
}

// applyScale is server-side apply of a Scale: what it says of the size is applied to the object.
func (r *request) applyScale(raw []byte, o writeOptions) error {
	sent := &autoscalingv1.Scale{}
	if _, err := patch.Decode(scaleKind.GroupVersionKind, sent, typeYAML, raw, o.validation); err != nil {
		return err
	}
	if sent.Name != r.name {
		return wrongName(sent.Name, r.name)
	}
	if sent.Spec.Replicas < 0 {
		return negativeScale(r.name, sent.Spec.Replicas)
	}
	version, kind := r.kind.ToAPIVersionAndKind()
	wanted := map[string]any{"apiVersion": version, "kind": kind, "metadata": map[string]any{"name": r.name}}
	path := strings.Split(r.kind.Scale.Replicas, ".")
	if err := unstructured.SetNestedField(wanted, int64(sent.Spec.Replicas), path...); err != nil {
		return err
	}
	body, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	f, err := r.kind.managed(r.s.cfg.Scheme)
	if err != nil {
		return err
	}
	edit := func(old api.Object) (api.Object, error) {
		if v := sent.ResourceVersion; v != "" && v != old.GetResourceVersion() {
			return nil, apierrors.NewConflict(r.groupResource(), r.name, errModified)
		}
		obj, err := f.Apply(old, body, r.query.Get("fieldManager"), r.sub, r.on("force"))
		if err == nil {
			patch.Untime(obj, r.sub)
		}
		return obj, err
	}
	keep := func(_, obj api.Object) (api.Object, error) { return obj, nil }
	return r.editScaled(edit, o, keep)
}

// editScaled writes the object itself, its fields owned by the subresource, and answers with its Scale.
func (r *request) editScaled(edit editor, o writeOptions, finish func(old, obj api.Object) (api.Object, error)) error {
	whole := *r
	whole.sub, whole.scaled = "", true
	item, obj, err := whole.edit(edit, o, finish)
	if err == nil && item != nil {
		obj, err = r.view(item)
	}
	if err != nil {
		return err
	}
	return r.respondScale(obj)
}

func negativeScale(name string, replicas int32) error {
	return apierrors.NewInvalid(scaleKind.GroupKind(), name, field.ErrorList{
		field.Invalid(field.NewPath("spec", "replicas"), replicas, "must be greater than or equal to 0"),
	})
}
