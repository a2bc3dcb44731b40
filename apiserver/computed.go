package apiserver

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// computed serves a kind whose objects are made when they are read.
func (r *request) computed() error {
	if r.sub != "" {
		http.NotFound(r.w, r.r)
		return nil
	}
	switch r.verb {
	case "get":
		return r.computedOne()
	case "list":
		return r.computedList()
	}
	if r.verb == "watch" {
		return apierrors.NewMethodNotSupported(r.groupResource(), r.verb)
	}
	return r.notAllowed()
}

func (r *request) computedOne() error {
	all, err := r.kind.Computed.Make(r.r.Context(), r.s.env, api.Ask{Namespace: r.namespace, Name: r.name, Labels: labels.Everything(), Fields: fields.Everything()})
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return apierrors.NewNotFound(schema.GroupResource{Group: r.gv.Group, Resource: r.kind.Singular}, r.name)
	}
	switch r.out.as {
	case "":
		return r.respondObject(http.StatusOK, all[0])
	case "Table":
		return r.computedTable(all)
	}
	return r.respondObject(http.StatusOK, partial(all[0], r.out.version))
}

func (r *request) computedList() error {
	if err := r.checkListOptions(); err != nil {
		return err
	}
	sel, err := r.selected()
	if err != nil {
		return err
	}
	var all []api.Object
	made, err := r.kind.Computed.Make(r.r.Context(), r.s.env, api.Ask{Namespace: r.namespace, Labels: sel.labels, Fields: sel.fields})
	if err != nil {
		return err
	}
	for _, obj := range made {
		if sel.labels.Matches(labels.Set(obj.GetLabels())) && sel.fields.Matches(fieldsOf{r.kind.Kind, obj}) {
			all = append(all, obj)
		}
	}
	switch r.out.as {
	case "":
		return r.respondObject(http.StatusOK, r.kind.Computed.List(all))
	case "Table":
		return r.computedTable(all)
	}
	list := r.partialList(metav1.ListMeta{}, len(all))
	for _, obj := range all {
		list.Items = append(list.Items, *partial(obj, r.out.version))
	}
	return r.respondObject(http.StatusOK, list)
}

func (r *request) computedTable(all []api.Object) error {
	t, named := r.newTable(true, len(all))
	for _, obj := range all {
		row, err := r.row(obj, named, func() ([]byte, error) { return objectBytes(&choice{media: typeJSON}, obj) })
		if err != nil {
			return err
		}
		t.Rows = append(t.Rows, row)
	}
	return r.respondObject(http.StatusOK, t)
}
