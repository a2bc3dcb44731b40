// Package source feeds client-go's shared informers from the store of the same process.
//
// The one idea: an informer's list-watch streams the watch cache's own pointers, so a
// component in this process costs no second copy of any object and no encoding, and is
// the same ordinary client-go code that runs against HTTP elsewhere.
//
// Used by cluster, which gives the factory to controllers, scheduler and a local kubelet.
package source

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store"
)

// Options narrow what a source shows. The selectors of each call are applied as well.
type Options struct {
	Namespace    string
	Index, Value string // one of the kind's Indexes: "spec.nodeName", "node1"
}

// ListerWatcher gives the objects of a collection to a reflector. They are the cache's
// own: read-only.
func ListerWatcher(c *store.Collection, opts Options) cache.ListerWatcherWithContext {
	return &source{c: c, opts: opts}
}

type source struct {
	c    *store.Collection
	opts Options
}

var (
	_ cache.ListerWatcher            = (*source)(nil)
	_ cache.ListerWatcherWithContext = (*source)(nil)
)

// List and Watch without a context are what older callers use.
func (s *source) List(opts metav1.ListOptions) (runtime.Object, error) {
	return s.ListWithContext(context.Background(), opts)
}

func (s *source) Watch(opts metav1.ListOptions) (watch.Interface, error) {
	return s.WatchWithContext(context.Background(), opts)
}

// ListWithContext answers all at once; pages are not made.
func (s *source) ListWithContext(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	want, err := s.selection(opts)
	if err != nil {
		return nil, err
	}
	snap, err := s.c.Snapshot(ctx, max(want.Since, store.Latest))
	if err != nil {
		return nil, status(err)
	}
	list := &internalversion.List{}
	list.ResourceVersion = strconv.FormatInt(snap.Revision(), 10)
	index := s.c.Kind().Fields[want.Index]
	snap.Ascend(want.Namespace, "", func(i *store.Item) bool {
		obj := i.Object()
		if obj != nil && (index == nil || index(obj) == want.Value) && (want.Filter == nil || want.Filter(obj)) {
			list.Items = append(list.Items, obj)
		}
		return true
	})
	return list, nil
}

// WatchWithContext streams, with the initial state where it is asked for.
func (s *source) WatchWithContext(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	want, err := s.selection(opts)
	if err != nil {
		return nil, err
	}
	want.Bookmarks = opts.AllowWatchBookmarks
	want.InitialEvents = opts.SendInitialEvents != nil && *opts.SendInitialEvents
	w, err := s.c.Watch(ctx, want)
	if err != nil {
		return nil, status(err)
	}
	return newStream(ctx, s.c, w), nil
}

// selection turns list options into what the store understands.
func (s *source) selection(opts metav1.ListOptions) (store.WatchOptions, error) {
	want := store.WatchOptions{Namespace: s.opts.Namespace, Index: s.opts.Index, Value: s.opts.Value}
	var err error
	switch opts.ResourceVersion {
	case "":
		want.Since = store.Latest
	case "0":
		want.Since = store.Any
	default:
		if want.Since, err = strconv.ParseInt(opts.ResourceVersion, 10, 64); err != nil || want.Since < 0 {
			return want, apierrors.NewBadRequest(fmt.Sprintf("resourceVersion %q is not a revision", opts.ResourceVersion))
		}
	}
	var filters []func(api.Object) bool
	if opts.LabelSelector != "" {
		selector, err := labels.Parse(opts.LabelSelector)
		if err != nil {
			return want, apierrors.NewBadRequest(err.Error())
		}
		filters = append(filters, func(o api.Object) bool { return selector.Matches(labels.Set(o.GetLabels())) })
	}
	if opts.FieldSelector != "" {
		selector, err := fields.ParseSelector(opts.FieldSelector)
		if err != nil {
			return want, apierrors.NewBadRequest(err.Error())
		}
		if filters, err = s.narrow(&want, selector, filters); err != nil {
			return want, err
		}
	}
	if len(filters) > 0 {
		want.Filter = func(o api.Object) bool {
			for _, f := range filters {
				if !f(o) {
					return false
				}
			}
			return true
		}
	}
	return want, nil
}

// narrow uses an index where the selector asks for one of its values.
func (s *source) narrow(want *store.WatchOptions, selector fields.Selector, filters []func(api.Object) bool) ([]func(api.Object) bool, error) {
	kind := s.c.Kind()
	for _, r := range selector.Requirements() {
		if kind.Fields[r.Field] == nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("field label not supported: %s", r.Field))
		}
	}
	for _, index := range kind.Indexes {
		if value, ok := selector.RequiresExactMatch(index); ok && want.Index == "" {
			want.Index, want.Value = index, value
		}
	}
	return append(filters, func(o api.Object) bool {
		set := fields.Set{}
		for _, r := range selector.Requirements() {
			set[r.Field] = kind.Fields[r.Field](o)
		}
		return selector.Matches(set)
	}), nil
}

// status is the API's form of the store's refusals.
func status(err error) error {
	switch {
	case errors.Is(err, store.ErrCompacted), errors.Is(err, store.ErrSlow):
		return apierrors.NewResourceExpired(err.Error())
	case errors.Is(err, store.ErrFuture):
		return apierrors.NewTimeoutError("Too large resource version", 1)
	}
	return err
}
