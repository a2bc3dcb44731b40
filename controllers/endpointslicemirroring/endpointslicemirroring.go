// Package endpointslicemirroring shows Endpoints that somebody wrote by hand as endpoint
// slices, which is all that proxies and DNS look at.
//
// The one idea: a slice is a pure function of one subset and one address family, and its name
// of both, so that writing it twice is writing it once.
//
// Used by controllers.All.
package endpointslicemirroring

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

// managedBy is the value of the label that says whose the slices are.
const managedBy = "endpointslicemirroring-controller.k8s.io"

// Controller is the loop over Endpoints, which have the name of their service.
type Controller struct {
	*loop.Loop[loop.Key]
	deps      loop.Deps
	endpoints corelisters.EndpointsLister
	services  corelisters.ServiceLister
	slices    discoverylisters.EndpointSliceLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	core, slices := deps.Informers.Core().V1(), deps.Informers.Discovery().V1().EndpointSlices()
	c := &Controller{deps: deps, endpoints: core.Endpoints().Lister(), services: core.Services().Lister(), slices: slices.Lister()}
	c.Loop = loop.New("endpointslicemirroring", deps, c.reconcile)
	c.Watch(core.Endpoints().Informer(), loop.Self)
	c.Watch(core.Services().Informer(), func(obj any) []loop.Key {
		if s, ok := obj.(*corev1.Service); ok && len(s.Spec.Selector) > 0 {
			if _, err := c.endpoints.Endpoints(s.Namespace).Get(s.Name); err == nil && len(c.mirrored(loop.Key{Namespace: s.Namespace, Name: s.Name})) == 0 {
				return nil // by far the most: their slices are another loop's
			}
		}
		return loop.Self(obj)
	})
	c.Watch(slices.Informer(), func(obj any) []loop.Key {
		s, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok || s.Labels[discoveryv1.LabelManagedBy] != managedBy {
			return nil
		}
		return []loop.Key{{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}}
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 3) }

// mirrored are the slices that there are for a service.
func (c *Controller) mirrored(k loop.Key) []*discoveryv1.EndpointSlice {
	selector := labels.SelectorFromSet(labels.Set{discoveryv1.LabelManagedBy: managedBy, discoveryv1.LabelServiceName: k.Name})
	list, err := c.slices.EndpointSlices(k.Namespace).List(selector)
	if err != nil {
		return nil // the cache never fails
	}
	return list
}

func (c *Controller) reconcile(ctx context.Context, k loop.Key) error {
	e, err := c.endpoints.Endpoints(k.Namespace).Get(k.Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	s, err := c.services.Services(k.Namespace).Get(k.Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	want := map[string]*discoveryv1.EndpointSlice{}
	if shown(e, s) {
		want = slicesOf(e)
	}
	client := c.deps.Client.DiscoveryV1().EndpointSlices(k.Namespace)
	var problems []error
	for _, have := range c.mirrored(k) {
		next := want[have.Name]
		delete(want, have.Name)
		switch {
		case next == nil || next.AddressType != have.AddressType:
			problems = append(problems, loop.Gone(client.Delete(ctx, have.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(have.UID))})))
		case !same(have, next):
			changed := have.DeepCopy()
			changed.Labels, changed.Annotations, changed.Endpoints, changed.Ports = next.Labels, next.Annotations, next.Endpoints, next.Ports
			_, err := client.Update(ctx, changed, metav1.UpdateOptions{})
			problems = append(problems, loop.Gone(err))
		}
	}
	for _, next := range want {
		_, err := client.Create(ctx, next, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func same(have, want *discoveryv1.EndpointSlice) bool {
	return apiequality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) && apiequality.Semantic.DeepEqual(have.Ports, want.Ports) &&
		apiequality.Semantic.DeepEqual(have.Labels, want.Labels) && apiequality.Semantic.DeepEqual(have.Annotations, want.Annotations)
}

// shown says whether Endpoints are to be mirrored: those of a service whose pods nobody
// looks for, unless they say no or are a lock.
func shown(e *corev1.Endpoints, s *corev1.Service) bool {
	if e == nil || s == nil || len(s.Spec.Selector) > 0 || e.DeletionTimestamp != nil || e.Labels[discoveryv1.LabelSkipMirror] == "true" {
		return false
	}
	_, lock := e.Annotations["control-plane.alpha.kubernetes.io/leader"]
	return !lock
}
