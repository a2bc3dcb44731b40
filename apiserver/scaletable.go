package apiserver

import (
	"encoding/json"
	"net/http"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
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
