package garbagecollector

import (
	"context"
	"errors"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/internal/informers"
)

// settle is how long after a change of the definitions discovery is read again.
const settle = time.Second

// ignored kinds are never owned in earnest, and many.
var ignored = []schema.GroupResource{
	{Resource: "events"}, {Group: "events.k8s.io", Resource: "events"},
}

// defining kinds bring new kinds about.
var defining = []schema.GroupResource{
	{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"},
	{Group: "apiregistration.k8s.io", Resource: "apiservices"},
}

// source is one kind being watched.
type source struct {
	synced cache.InformerSynced
	stop   context.CancelFunc // nil for those shared with others
}

// discover finds the kinds that are served, watches new ones, and stops watching those gone.
func (c *Controller) discover(ctx context.Context, _ string) error {
	kinds, every, err := served(c.deps.Discovery)
	if err != nil && len(every) == 0 {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds = every
	var problems []error
	for _, k := range kinds {
		if _, watched := c.sources[k.resource]; !watched {
			problems = append(problems, c.watch(c.life, k))
		}
	}
	if err == nil { // a list with holes is no proof that a kind went
		for gvr, s := range c.sources {
			gone := !slices.ContainsFunc(kinds, func(k kind) bool { return k.resource == gvr })
			if gone && s.stop != nil {
				s.stop()
				delete(c.sources, gvr)
			}
		}
	}
	c.deps.Informers.StartWithContext(c.life)
	c.once.Do(func() { close(c.discovered) })
	return errors.Join(append(problems, err)...)
}

// served lists the kinds that can be listed, watched and deleted; every also has the
// others, of which an owner may be.
func served(d discovery.DiscoveryInterface) (kinds []kind, every map[schema.GroupKind]kind, err error) {
	lists, err := discovery.ServerPreferredResources(d)
	every = map[schema.GroupKind]kind{}
	for _, list := range lists {
		gv, parseErr := schema.ParseGroupVersion(list.GroupVersion)
		if parseErr != nil {
			err = errors.Join(err, parseErr)
			continue
		}
		for _, r := range list.APIResources {
			k := kind{GroupVersionKind: gv.WithKind(r.Kind), resource: gv.WithResource(r.Name), namespaced: r.Namespaced}
			if !slices.Contains([]string(r.Verbs), "get") || slices.Contains([]byte(r.Name), '/') {
				continue
			}
			every[k.GroupKind()] = k
			if !slices.Contains(ignored, k.resource.GroupResource()) && has(r.Verbs, "list", "watch", "delete") {
				kinds = append(kinds, k)
			}
		}
	}
	return kinds, every, err
}

func has(verbs []string, wanted ...string) bool {
	for _, w := range wanted {
		if !slices.Contains(verbs, w) {
			return false
		}
	}
	return true
}

// watch feeds a kind's objects into the graph: from the informer that the built-in
// components share, or for other kinds from one of metadata alone.
func (c *Controller) watch(ctx context.Context, k kind) error {
	handler := c.handler(k)
	if shared := c.deps.Informers.ForResource(k.resource); shared != nil {
		registration, err := shared.AddEventHandler(handler)
		if err != nil {
			return err
		}
		c.sources[k.resource] = source{synced: registration.HasSynced}
		return nil
	}
	informer, err := informers.Metadata(c.deps.Metadata, k.resource, cache.Indexers{})
	if err != nil {
		return err
	}
	registration, err := informer.AddEventHandler(handler)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	c.sources[k.resource] = source{synced: registration.HasSynced, stop: stop}
	c.group.Go(func() { informer.RunWithContext(ctx) })
	return nil
}

func (c *Controller) handler(k kind) cache.ResourceEventHandler {
	defines := slices.Contains(defining, k.resource.GroupResource())
	observe := func(obj any) {
		m, err := meta.Accessor(obj)
		if err != nil {
			return
		}
		c.add(c.graph.observe(&item{
			kind: k, namespace: m.GetNamespace(), name: m.GetName(), uid: m.GetUID(), version: m.GetResourceVersion(),
			owners: m.GetOwnerReferences(), finalizers: m.GetFinalizers(), deleting: m.GetDeletionTimestamp() != nil,
		}))
		if defines {
			c.resources.AddAfter("", settle)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: observe,
		UpdateFunc: func(old, obj any) {
			// One deleted and made again between two looks is another object.
			if was, err := meta.Accessor(old); err == nil {
				if is, err := meta.Accessor(obj); err == nil && was.GetUID() != is.GetUID() {
					c.add(c.graph.gone(was.GetUID()))
				}
			}
			observe(obj)
		},
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			if m, err := meta.Accessor(obj); err == nil {
				c.add(c.graph.gone(m.GetUID()))
			}
			if defines {
				c.resources.AddAfter("", settle)
			}
		},
	}
}
