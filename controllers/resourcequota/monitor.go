package resourcequota

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/internal/quota"
)

var errNotServed = errors.New("kind is not served")

// monitor is one kind being watched.
type monitor struct {
	informer cache.SharedIndexInformer
	synced   cache.DoneChecker
	stopped  <-chan struct{} // nil: never
}

// watch gives the objects of a kind, complete, and sees to it that changes are noticed
// from now on.
func (c *Controller) watch(ctx context.Context, of schema.GroupResource) (*monitor, error) {
	m, err := c.monitor(of)
	if err != nil {
		return nil, err
	}
	select {
	case <-m.synced.Done():
		return m, nil
	case <-m.stopped:
		return nil, fmt.Errorf("%s: %w", of, errNotServed)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *Controller) monitor(of schema.GroupResource) (*monitor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.watching[of]; m != nil {
		return m, nil
	}
	gvr, err := c.version(of)
	if err != nil {
		return nil, err
	}
	var m *monitor
	if informer := c.deps.Informers.ForResource(gvr); informer != nil {
		m, err = c.shared(of, informer)
	} else {
		m, err = c.own(of, gvr)
	}
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", of, err)
	}
	c.watching[of] = m
	return m, nil
}

// version is the one in which a kind is best asked for.
func (c *Controller) version(of schema.GroupResource) (schema.GroupVersionResource, error) {
	if of.Group == "" {
		return of.WithVersion("v1"), nil
	}
	lists, err := discovery.ServerPreferredResources(c.deps.Discovery)
	for _, list := range lists {
		gv, parseErr := schema.ParseGroupVersion(list.GroupVersion)
		if parseErr != nil || gv.Group != of.Group {
			continue
		}
		for _, r := range list.APIResources {
			if r.Name == of.Resource && r.Namespaced && strings.Contains(" "+strings.Join(r.Verbs, " ")+" ", " watch ") {
				return gv.WithResource(r.Name), nil
			}
		}
	}
	if err != nil && len(lists) == 0 {
		return schema.GroupVersionResource{}, fmt.Errorf("discover: %w", err)
	}
	return schema.GroupVersionResource{}, fmt.Errorf("%s: %w", of, errNotServed)
}

// shared uses the informer that other components of the process share; kinds that are not built
// in have none.
func (c *Controller) shared(of schema.GroupResource, informer cache.SharedIndexInformer) (*monitor, error) {
	registration, err := informer.AddEventHandler(c.handler(of))
	if err != nil {
		return nil, err
	}
	c.deps.Informers.StartWithContext(c.life)
	return &monitor{informer: informer, synced: registration.HasSyncedChecker()}, nil
}

// own watches the metadata alone, until the kind is no longer served.
func (c *Controller) own(of schema.GroupResource, gvr schema.GroupVersionResource) (*monitor, error) {
	informer, err := informers.Metadata(c.deps.Metadata, gvr, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(c.life)
	err = informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if apierrors.IsNotFound(err) {
			c.mu.Lock()
			delete(c.watching, of)
			c.mu.Unlock()
			stop()
			return
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	})
	if err != nil {
		stop()
		return nil, err
	}
	registration, err := informer.AddEventHandler(c.handler(of))
	if err != nil {
		stop()
		return nil, err
	}
	c.group.Go(func() {
		defer stop()
		informer.RunWithContext(ctx)
	})
	return &monitor{informer, registration.HasSyncedChecker(), ctx.Done()}, nil
}

// handler asks for a new count where something was given back, and later where something
// is new: that was charged when it was made, but perhaps not by a quota as young as it.
func (c *Controller) handler(of schema.GroupResource) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if m, err := meta.Accessor(obj); err == nil {
				for _, k := range c.limiting(m.GetNamespace(), of) {
					c.AddAfter(k, settle)
				}
			}
		},
		UpdateFunc: func(old, obj any) { c.changed(of, old, obj) },
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			if m, err := meta.Accessor(obj); err == nil {
				for _, k := range c.limiting(m.GetNamespace(), of) {
					c.Add(k)
				}
			}
		},
	}
}

func (c *Controller) changed(of schema.GroupResource, old, obj any) {
	if of != quota.Pods && of != quota.Services && of != quota.Claims {
		return
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return
	}
	keys := c.limiting(m.GetNamespace(), of)
	if len(keys) == 0 {
		return
	}
	now := c.deps.Clock.Now()
	was, is := quota.Usage(of, old, now), quota.Usage(of, obj, now)
	same := of != quota.Claims && len(quota.Growth(is, was)) == 0 && len(quota.Growth(was, is)) == 0
	before, _ := old.(*corev1.Pod)
	pod, _ := obj.(*corev1.Pod)
	if before != nil && pod != nil { // what moves a pod from one scope to another
		same = same && apiequality.Semantic.DeepEqual(before.Spec.ActiveDeadlineSeconds, pod.Spec.ActiveDeadlineSeconds)
	}
	for _, k := range keys {
		if !same {
			c.Add(k)
		}
		if pod != nil && pod.DeletionTimestamp != nil { // counts until its time is over
			c.AddAfter(k, pod.DeletionTimestamp.Sub(now)+settle)
		}
	}
}
