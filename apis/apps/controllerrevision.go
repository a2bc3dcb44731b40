package apps

import (
	"bytes"
	"encoding/json"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// ControllerRevisions is the kind ControllerRevision.
var ControllerRevisions = api.Define(api.Resource[*appsv1.ControllerRevision]{
	Group: appsv1.GroupName, Version: "v1", Kind: "ControllerRevision", Plural: "controllerrevisions", Namespaced: true,
	UnconditionalUpdate: true,
	Validate:            validateRevision,
	ValidateUpdate: func(obj, old *appsv1.ControllerRevision) field.ErrorList {
		if bytes.Equal(obj.Data.Raw, old.Data.Raw) || sameJSON(obj.Data.Raw, old.Data.Raw) {
			return nil
		}
		return apivalidation.ValidateImmutableField(obj.Data, old.Data, field.NewPath("data"))
	},
	Columns: []api.Column[*appsv1.ControllerRevision]{
		{Name: "Controller", Description: "Controller of the object", Value: func(r *appsv1.ControllerRevision) any {
			o := metav1.GetControllerOfNoCopy(r)
			if o == nil {
				return "<none>"
			}
			return controllerText(o)
		}},
		{Name: "Revision", Description: appsv1.ControllerRevision{}.SwaggerDoc()["revision"], Value: func(r *appsv1.ControllerRevision) any { return r.Revision }},
		api.Age[*appsv1.ControllerRevision](),
	},
})

func validateRevision(r *appsv1.ControllerRevision) field.ErrorList {
	var errs field.ErrorList
	if len(r.Data.Raw) == 0 && r.Data.Object == nil {
		errs = append(errs, field.Required(field.NewPath("data"), "data is mandatory"))
	}
	return append(errs, apivalidation.ValidateNonnegativeField(r.Revision, field.NewPath("revision"))...)
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && equality.Semantic.DeepEqual(x, y)
}
