// Package endpointslice keeps the endpoint slices of every service that selects pods.
//
// The one idea: what should be is a pure function of the service, its pods and the slices
// there are (plan.go); a change of a pod that no endpoint shows wakes nobody, and nothing is
// decided before the cache shows what was written last (written.go).
//
// Used by controllers.All.
package endpointslice

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

// byService is the index of slices by namespace and service.
const byService = "endpointslice/service"

// Controller is the loop.
type Controller struct {
	*loop.Loop[loop.Key]
	deps     loop.Deps
	services corelisters.ServiceLister
	pods     corelisters.PodLister
	nodes    corelisters.NodeLister
	slices   cache.SharedIndexInformer
	recorder record.EventRecorder
	written  *written

	created, updated, deleted, synced, failed prometheus.Counter
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	core := deps.Informers.Core().V1()
	services, pods, nodes := core.Services(), core.Pods(), core.Nodes()
	c := &Controller{
		deps: deps, services: services.Lister(), pods: pods.Lister(), nodes: nodes.Lister(),
		slices:   deps.Informers.Discovery().V1().EndpointSlices().Informer(),
		recorder: deps.Recorder("endpoint-slice-controller"), written: newWritten(deps.Clock.Now),
	}
	if err := c.slices.AddIndexers(cache.Indexers{byService: indexByService}); err != nil {
		return nil, fmt.Errorf("endpointslice: %w", err)
	}
	if err := c.count(deps); err != nil {
		return nil, fmt.Errorf("endpointslice: %w", err)
	}
	c.Loop = loop.New("endpointslice", deps, c.reconcile)
	c.Watch(services.Informer(), loop.Self)
	c.Handle(pods.Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { c.podChanged(nil, obj.(*corev1.Pod)) },
		UpdateFunc: func(old, obj any) {
			c.podChanged(old.(*corev1.Pod), obj.(*corev1.Pod))
		},
		DeleteFunc: func(obj any) {
			if pod, ok := alive[*corev1.Pod](obj); ok {
				c.podChanged(pod, nil)
			}
		},
	})
	c.Handle(nodes.Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { c.zoneChanged("", obj.(*corev1.Node)) },
		UpdateFunc: func(old, obj any) {
			c.zoneChanged(old.(*corev1.Node).Labels[corev1.LabelTopologyZone], obj.(*corev1.Node))
		},
	})
	c.Handle(c.slices, cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { c.sliceChanged(obj, false) },
		UpdateFunc: func(_, obj any) { c.sliceChanged(obj, false) },
		DeleteFunc: func(obj any) { c.sliceChanged(obj, true) },
	})
	return c, nil
}

// count makes the counters, under the names that dashboards know.
func (c *Controller) count(deps loop.Deps) error {
	changes, err := deps.Counter("endpoint_slice_controller_changes", "Number of EndpointSlice changes", "operation")
	if err != nil {
		return err
	}
	syncs, err := deps.Counter("endpoint_slice_controller_syncs", "Number of EndpointSlice syncs", "result")
	if err != nil {
		return err
	}
	c.created, c.updated, c.deleted = changes.WithLabelValues("create"), changes.WithLabelValues("update"), changes.WithLabelValues("delete")
	c.synced, c.failed = syncs.WithLabelValues("success"), syncs.WithLabelValues("error")
	return nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 5) }

// alive is the object of an event or of the tombstone of one.
func alive[T any](obj any) (T, bool) {
	if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = tombstone.Obj
	}
	t, ok := obj.(T)
	return t, ok
}

func indexByService(obj any) ([]string, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok || s.Labels[discoveryv1.LabelManagedBy] != managedBy || s.Labels[discoveryv1.LabelServiceName] == "" {
		return nil, nil
	}
	return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}, nil
}

// podChanged wakes the services that select a pod, before or after, if it matters to them.
func (c *Controller) podChanged(old, pod *corev1.Pod) {
	both := old != nil && pod != nil
	if both && sameEndpoint(old, pod) && maps.Equal(old.Labels, pod.Labels) {
		return
	}
	either := pod
	if pod == nil {
		either = old
	}
	services, err := c.services.Services(either.Namespace).List(labels.Everything())
	if err != nil {
		return // the lister reads a map; it has no errors
	}
	for _, svc := range services {
		if selects(svc, old) || selects(svc, pod) {
			c.Add(loop.Key{Namespace: svc.Namespace, Name: svc.Name})
		}
	}
}

// selects says whether a service selects a pod; one without selector selects none.
func selects(svc *corev1.Service, pod *corev1.Pod) bool {
	if pod == nil || len(svc.Spec.Selector) == 0 {
		return false
	}
	for k, v := range svc.Spec.Selector {
		if has, ok := pod.Labels[k]; !ok || has != v {
			return false
		}
	}
	return true
}

// zoneChanged wakes the services that have pods on a node whose zone is another now.
func (c *Controller) zoneChanged(old string, node *corev1.Node) {
	if node.Labels[corev1.LabelTopologyZone] == old {
		return
	}
	services, err := c.services.List(labels.Everything())
	if err != nil {
		return // as above
	}
	for _, svc := range services {
		c.Add(loop.Key{Namespace: svc.Namespace, Name: svc.Name})
	}
}

func (c *Controller) sliceChanged(obj any, deleted bool) {
	s, ok := alive[*discoveryv1.EndpointSlice](obj)
	if !ok || s.Labels[discoveryv1.LabelManagedBy] != managedBy {
		// One that lost the label leaves the index; its service is woken by nothing, as
		// whoever took the label away wanted.
		return
	}
	key := loop.Key{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
	if key.Name != "" && c.written.shows(key, s, deleted) {
		c.Add(key)
	}
}

func (c *Controller) reconcile(ctx context.Context, key loop.Key) error {
	svc, err := c.services.Services(key.Namespace).Get(key.Name)
	if err != nil {
		c.written.forget(key) // its slices go with it: they are owned
		return loop.Gone(err)
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName || len(svc.Spec.Selector) == 0 || svc.DeletionTimestamp != nil {
		return nil
	}
	existing, err := c.existing(key)
	if err != nil {
		return err
	}
	if !c.written.settled(key, existing) {
		c.AddAfter(key, settleLimit+time.Second)
		return nil
	}
	pods, err := c.pods.Pods(key.Namespace).List(labels.Everything())
	if err != nil {
		return err
	}
	var selected []*corev1.Pod
	for _, pod := range pods {
		if selects(svc, pod) {
			selected = append(selected, pod)
		}
	}
	if err := c.write(ctx, key, plan(svc, selected, existing, c.zone)); err != nil {
		c.failed.Inc()
		c.recorder.Eventf(svc, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
			"Error updating Endpoint Slices for Service %s/%s: %v", key.Namespace, key.Name, err)
		return err
	}
	c.synced.Inc()
	return nil
}

// existing are the service's slices, but for those on their way out.
func (c *Controller) existing(key loop.Key) ([]*discoveryv1.EndpointSlice, error) {
	found, err := c.slices.GetIndexer().ByIndex(byService, key.String())
	if err != nil {
		return nil, err
	}
	var list []*discoveryv1.EndpointSlice
	for _, obj := range found {
		if s, ok := obj.(*discoveryv1.EndpointSlice); ok && s.DeletionTimestamp == nil {
			list = append(list, s)
		}
	}
	return list, nil
}

func (c *Controller) zone(node string) string {
	if node == "" {
		return ""
	}
	n, err := c.nodes.Get(node)
	if err != nil {
		return "" // not known yet; its arrival wakes
	}
	return n.Labels[corev1.LabelTopologyZone]
}

// write performs a plan. What fails does not keep the rest from being tried.
func (c *Controller) write(ctx context.Context, key loop.Key, p Plan) error {
	client := c.deps.Client.DiscoveryV1().EndpointSlices(key.Namespace)
	var errs []error
	for _, s := range p.Create {
		made, err := client.Create(ctx, s, metav1.CreateOptions{})
		if err != nil {
			if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				errs = append(errs, fmt.Errorf("failed to create EndpointSlice for Service %s: %w", key, err))
			}
			continue
		}
		c.created.Inc()
		c.written.wrote(key, made, made.ResourceVersion)
	}
	for _, s := range p.Update {
		made, err := client.Update(ctx, s, metav1.UpdateOptions{})
		if err != nil {
			errs = append(errs, fmt.Errorf("failed to update %s EndpointSlice for Service %s: %w", s.Name, key, err))
			continue
		}
		c.updated.Inc()
		c.written.wrote(key, made, made.ResourceVersion)
	}
	for _, s := range p.Delete {
		err := client.Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(s.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("failed to delete %s EndpointSlice for Service %s: %w", s.Name, key, err))
			continue
		}
		c.deleted.Inc()
		c.written.wrote(key, s, gone)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
