package cluster

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"

	"golang.org/x/sync/errgroup"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/scheduling"
	"github.com/proa-dev/proa/apiserver/aggregate"
	"github.com/proa-dev/proa/store"
)

// againRetry is the wait before what could not be made is tried again: a namespace may still
// be on its way out when what was in it is gone.
const againRetry = 200 * time.Millisecond

// bootstrap makes the objects that every cluster has, those that are missing.
func (c *controlPlane) bootstrap(ctx context.Context, client kubernetes.Interface) error {
	if err := bootstrap(ctx, client, c.cfg, c.log); err != nil {
		return err
	}
	return aggregate.PublishTrust(ctx, client, c.pki.CA.PEM, c.pki.FrontProxy.PEM)
}

// bootstrapped are the objects without which a cluster does not work, as "namespace/name" or
// a name alone. What else bootstrap makes may be removed for good.
func bootstrapped() map[schema.GroupResource][]string {
	var classes []string
	for _, class := range scheduling.System() {
		classes = append(classes, class.Name)
	}
	api := []string{"default/kubernetes"}
	return map[schema.GroupResource][]string{
		corev1.Resource("namespaces"):                                bootstrapNamespaces,
		corev1.Resource("services"):                                  {"default/kubernetes", "kube-system/kube-dns"},
		corev1.Resource("endpoints"):                                 api,
		corev1.Resource("configmaps"):                                {"kube-public/" + factsName, "kube-system/" + aggregate.TrustName},
		resource(discoveryv1.SchemeGroupVersion, "endpointslices"):   api,
		resource(networkingv1.SchemeGroupVersion, "servicecidrs"):    {"kubernetes"},
		resource(rbacv1.SchemeGroupVersion, "clusterroles"):          {nodeRole, joinRole, metricsRole},
		resource(rbacv1.SchemeGroupVersion, "clusterrolebindings"):   {nodeRole, joinRole},
		resource(schedulingv1.SchemeGroupVersion, "priorityclasses"): classes,
	}
}

func resource(of schema.GroupVersion, name string) schema.GroupResource {
	return schema.GroupResource{Group: of.Group, Resource: name}
}

// keepBootstrapped makes again what is deleted of these objects, until ctx ends.
func (c *controlPlane) keepBootstrapped(ctx context.Context, client kubernetes.Interface) error {
	deleted := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	for of, names := range bootstrapped() {
		one := func(o api.Object) bool {
			name := o.GetName()
			if o.GetNamespace() != "" {
				name = o.GetNamespace() + "/" + name
			}
			return slices.Contains(names, name)
		}
		group.Go(func() error {
			return c.watch(ctx, of, store.WatchOptions{Filter: one}, func(e store.Event) error {
				if e.Type == store.Deleted {
					select {
					case deleted <- struct{}{}:
					default: // told already
					}
				}
				return nil
			})
		})
	}
	group.Go(func() error {
		c.makeAgain(ctx, client, deleted)
		return nil
	})
	return group.Wait()
}

// makeAgain begins with a look: something may have been deleted before anybody watched.
func (c *controlPlane) makeAgain(ctx context.Context, client kubernetes.Interface, deleted <-chan struct{}) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-deleted:
		case <-retry.C:
		}
		if err := c.bootstrap(ctx, client); err != nil && ctx.Err() == nil {
			c.log.Warn("make again what every cluster has, trying again", "err", err)
			retry.Reset(againRetry)
		}
	}
}
