package source

import (
	"context"
	"errors"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/proa-dev/proa/store"
)

// stream is a store's watcher as client-go knows one.
type stream struct {
	result chan watch.Event
	cancel context.CancelFunc
}

// buffered events let the store's batches through without a switch for each.
const buffered = 100

func newStream(ctx context.Context, c *store.Collection, w *store.Watcher) *stream {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{result: make(chan watch.Event, buffered), cancel: cancel}
	go s.run(ctx, c, w)
	return s
}

// Stop ends the stream; its channel is closed soon after.
func (s *stream) Stop() { s.cancel() }

// ResultChan is closed when the stream has ended.
func (s *stream) ResultChan() <-chan watch.Event { return s.result }

func (s *stream) run(ctx context.Context, c *store.Collection, w *store.Watcher) {
	defer close(s.result)
	defer w.Stop()
	for {
		batch, err := w.Next(ctx)
		if err != nil {
			if errors.Is(err, store.ErrSlow) || errors.Is(err, store.ErrCompacted) {
				expired := apierrors.NewResourceExpired(err.Error()).Status()
				s.send(ctx, watch.Event{Type: watch.Error, Object: &expired})
			}
			return
		}
		for _, e := range batch {
			if out, ok := convert(c, e); ok && !s.send(ctx, out) {
				return
			}
		}
	}
}

func (s *stream) send(ctx context.Context, e watch.Event) bool {
	select {
	case s.result <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

func convert(c *store.Collection, e store.Event) (watch.Event, bool) {
	if e.Type == store.Bookmark {
		obj := c.Kind().New()
		obj.SetResourceVersion(strconv.FormatInt(e.Revision, 10))
		if e.InitialEnd {
			obj.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		}
		return watch.Event{Type: watch.Bookmark, Object: obj}, true
	}
	obj := e.Item.Object()
	if obj == nil {
		return watch.Event{}, false
	}
	types := map[store.EventType]watch.EventType{store.Added: watch.Added, store.Modified: watch.Modified, store.Deleted: watch.Deleted}
	return watch.Event{Type: types[e.Type], Object: obj}, true
}
