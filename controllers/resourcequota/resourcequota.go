// Package resourcequota counts what the objects of a namespace use of its quotas.
//
// The one idea: the API charges a quota when an object is made; this loop counts afresh
// when something was given back (deleted, ended, made smaller), when the quota itself changed,
// and a little after each charge, so that what was charged for an object that never came
// to be is found. Only kinds that some quota limits are watched.
//
// Used by controllers.All.
package resourcequota

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/quota"
)

const (
	settle  = 5 * time.Second  // after a charge, until its object must be there
	unknown = 30 * time.Second // until a kind that is not served is looked for again
)

// Controller is the loop.
type Controller struct {
	*loop.Loop[loop.Key]
	deps   loop.Deps
	quotas corelisters.ResourceQuotaLister

	life     context.Context // Run's, for the informers that start later
	mu       sync.Mutex
	watching map[schema.GroupResource]*monitor
	group    sync.WaitGroup // the informers of our own
}

// New registers the loop's informers; those of what quotas limit come with the quotas.
func New(deps loop.Deps) (*Controller, error) {
	quotas := deps.Informers.Core().V1().ResourceQuotas()
	c := &Controller{deps: deps, quotas: quotas.Lister(), watching: map[schema.GroupResource]*monitor{}}
	c.Loop = loop.New("resourcequota", deps, c.reconcile)
	c.Handle(quotas.Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if k, ok := loop.KeyOf(obj); ok {
				c.Add(k)
			}
		},
		UpdateFunc: func(old, obj any) {
			was, ok := old.(*corev1.ResourceQuota)
			is, also := obj.(*corev1.ResourceQuota)
			if ok && also {
				c.quotaChanged(was, is)
			}
		},
	})
	return c, nil
}

func (c *Controller) quotaChanged(was, is *corev1.ResourceQuota) {
	key := loop.Key{Namespace: is.Namespace, Name: is.Name}
	switch {
	case !apiequality.Semantic.DeepEqual(was.Spec, is.Spec) || !apiequality.Semantic.DeepEqual(is.Spec.Hard, is.Status.Hard):
		c.Add(key)
	case !apiequality.Semantic.DeepEqual(was.Status.Used, is.Status.Used):
		c.AddAfter(key, settle)
	}
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.life = ctx
	defer c.group.Wait()
	return c.Loop.Run(ctx, 3)
}

func (c *Controller) reconcile(ctx context.Context, key loop.Key) error {
	q, err := c.quotas.ResourceQuotas(key.Namespace).Get(key.Name)
	if err != nil || q.DeletionTimestamp != nil {
		return loop.Gone(err)
	}
	used, err := c.count(ctx, q)
	if errors.Is(err, errNotServed) {
		c.AddAfter(key, unknown)
	} else if err != nil {
		return err
	}
	if apiequality.Semantic.DeepEqual(q.Status.Hard, q.Spec.Hard) && apiequality.Semantic.DeepEqual(q.Status.Used, used) {
		return nil
	}
	changed := q.DeepCopy()
	changed.Status = corev1.ResourceQuotaStatus{Hard: q.Spec.Hard.DeepCopy(), Used: used}
	_, err = c.deps.Client.CoreV1().ResourceQuotas(q.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return loop.Gone(err)
}

// count adds up what is used of each name that a quota limits. Names that nothing uses,
// or whose kind is not served, are left out; the latter with errNotServed.
func (c *Controller) count(ctx context.Context, q *corev1.ResourceQuota) (corev1.ResourceList, error) {
	used := corev1.ResourceList{}
	var missing error
	for of := range kinds(q) {
		m, err := c.watch(ctx, of)
		if errors.Is(err, errNotServed) {
			missing = err
			continue
		}
		if err != nil {
			return nil, err
		}
		objects, err := m.informer.GetIndexer().ByIndex(cache.NamespaceIndex, q.Namespace)
		if err != nil {
			return nil, err
		}
		for _, name := range quota.Names(q.Spec.Hard, of) {
			used[name] = resource.MustParse("0")
		}
		for _, obj := range objects {
			if quota.InScope(q, of, obj) {
				quota.Add(used, quota.Only(quota.Usage(of, obj, c.deps.Clock.Now()), q.Spec.Hard))
			}
		}
	}
	return used, missing
}

// kinds are those that a quota limits.
func kinds(q *corev1.ResourceQuota) map[schema.GroupResource]bool {
	out := map[schema.GroupResource]bool{}
	for name := range q.Spec.Hard {
		if of, ok := quota.Of(name); ok {
			out[of] = true
		}
	}
	return out
}

// limiting gives the quotas of a namespace that limit a kind.
func (c *Controller) limiting(namespace string, of schema.GroupResource) []loop.Key {
	all, err := c.quotas.ResourceQuotas(namespace).List(labels.Everything())
	if err != nil {
		return nil // the cache never fails
	}
	var keys []loop.Key
	for _, q := range all {
		if kinds(q)[of] {
			keys = append(keys, loop.Key{Namespace: q.Namespace, Name: q.Name})
		}
	}
	return keys
}
