package apiserver

import (
	"context"
	"mime"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store"
)

// Writer changes objects for actions (binding, eviction).
func (s *Server) Writer() api.Writer { return writer{s} }

type writer struct{ s *Server }

func (w writer) find(gr schema.GroupResource, name string) (*served, error) {
	k := w.s.table.Load().stored[gr]
	if k == nil {
		return nil, apierrors.NewNotFound(gr, name)
	}
	return k, nil
}

func (w writer) Update(ctx context.Context, gr schema.GroupResource, namespace, name string, dryRun bool, change func(api.Object) error) (api.Object, error) {
	k, err := w.find(gr, name)
	if err != nil {
		return nil, err
	}
	var dry api.Object
	item, err := k.collection.Update(ctx, namespace, name, func(cur *store.Item) (api.Object, error) {
		obj := cur.Object().DeepCopyObject().(api.Object)
		if err := change(obj); err != nil {
			return nil, err
		}
		if dryRun {
			dry = obj
			return nil, nil
		}
		return obj, nil
	})
	switch {
	case isNotFound(err) && !apierrors.IsNotFound(err):
		return nil, apierrors.NewNotFound(gr, name)
	case err != nil:
		return nil, err
	case dryRun:
		return dry, nil
	}
	return item.Object(), nil
}

func (w writer) Delete(ctx context.Context, gr schema.GroupResource, namespace, name string, options *metav1.DeleteOptions) error {
	k, err := w.find(gr, name)
	if err != nil {
		return err
	}
	if options == nil {
		options = &metav1.DeleteOptions{}
	}
	_, _, err = (&remover{s: w.s, kind: k, namespace: namespace, name: name}).delete(ctx, options)
	return err
}

// mediaType is the request's Content-Type without its parameters, "" when it has none.
func mediaType(r *http.Request) string {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return media
}
