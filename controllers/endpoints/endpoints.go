// Package endpoints keeps the Endpoints of services with a selector, for clients older
// than endpoint slices.
//
// The one idea: the object is a pure function of the service and its pods.
//
// Used by controllers.All.
package endpoints

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

const (
	managedBy = "endpoints.kubernetes.io/managed-by"
	manager   = "endpoint-controller"
)

// Controller is the loop.
type Controller struct {
	*loop.Loop[loop.Key]
	deps      loop.Deps
	services  corelisters.ServiceLister
	pods      corelisters.PodLister
	endpoints corelisters.EndpointsLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	core := deps.Informers.Core().V1()
	c := &Controller{deps: deps, services: core.Services().Lister(), pods: core.Pods().Lister(), endpoints: core.Endpoints().Lister()}
	c.Loop = loop.New("endpoints", deps, c.reconcile)
	c.Watch(core.Services().Informer(), loop.Self)
	c.Watch(core.Endpoints().Informer(), loop.Self)
	c.Watch(core.Pods().Informer(), c.ofPod)
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 4) }

func (c *Controller) ofPod(obj any) []loop.Key {
	pod, ok := obj.(*corev1.Pod)
	if !ok || len(pod.Labels) == 0 {
		return nil
	}
	services, err := c.services.Services(pod.Namespace).List(labels.Everything())
	if err != nil {
		return nil // a lister of a cache does not fail
	}
	var out []loop.Key
	for _, s := range services {
		if len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			out = append(out, loop.Key{Namespace: s.Namespace, Name: s.Name})
		}
	}
	return out
}

func (c *Controller) reconcile(ctx context.Context, k loop.Key) error {
	client := c.deps.Client.CoreV1().Endpoints(k.Namespace)
	now, err := c.endpoints.Endpoints(k.Namespace).Get(k.Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	there := err == nil
	service, err := c.services.Services(k.Namespace).Get(k.Name)
	if apierrors.IsNotFound(err) && there && now.Labels[managedBy] == manager {
		return loop.Gone(client.Delete(ctx, k.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(now.UID))}))
	}
	if err != nil || service.DeletionTimestamp != nil || len(service.Spec.Selector) == 0 || service.Spec.Type == corev1.ServiceTypeExternalName {
		return loop.Gone(err)
	}
	pods, err := c.pods.Pods(k.Namespace).List(labels.SelectorFromSet(service.Spec.Selector))
	if err != nil {
		return err
	}
	subsets, truncated := subsetsOf(service, pods)
	changed := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name}}
	if there {
		changed = now.DeepCopy()
	}
	changed.Subsets, changed.Labels = subsets, labelsOf(service)
	delete(changed.Annotations, corev1.EndpointsOverCapacity)
	if truncated {
		metav1.SetMetaDataAnnotation(&changed.ObjectMeta, corev1.EndpointsOverCapacity, "truncated")
	}
	if !there {
		_, err = client.Create(ctx, changed, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil // its event comes, or nothing will
		}
		return err
	}
	if equality.Semantic.DeepEqual(now.Subsets, changed.Subsets) && maps.Equal(now.Labels, changed.Labels) && maps.Equal(now.Annotations, changed.Annotations) {
		return nil
	}
	_, err = client.Update(ctx, changed, metav1.UpdateOptions{})
	return loop.Gone(err)
}

func labelsOf(service *corev1.Service) map[string]string {
	out := map[string]string{managedBy: manager}
	maps.Copy(out, service.Labels)
	delete(out, corev1.IsHeadlessService)
	if service.Spec.ClusterIP == corev1.ClusterIPNone {
		out[corev1.IsHeadlessService] = ""
	}
	return out
}
