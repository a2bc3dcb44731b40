package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/tools/cache"
)

// podHandler keeps the queue (pods without a node) and the counts (pods with one).
func (s *Scheduler) podHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { s.podChanged(nil, obj.(*corev1.Pod)) },
		UpdateFunc: func(old, obj any) { s.podChanged(old.(*corev1.Pod), obj.(*corev1.Pod)) },
		DeleteFunc: func(obj any) {
			if pod := deleted[*corev1.Pod](obj); pod != nil {
				s.podGone(pod)
			}
		},
	}
}

func (s *Scheduler) podChanged(old, pod *corev1.Pod) {
	switch {
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		s.podGone(pod) // it holds nothing any more
	case pod.Spec.NodeName != "":
		s.queue.remove(pod.UID)
		s.mu.Lock()
		s.state.addPod(pod, pod.Spec.NodeName)
		s.mu.Unlock()
		if old == nil || old.Spec.NodeName == "" || !mapsEqual(old.Labels, pod.Labels) {
			s.queue.happened(podCame)
		}
		if old != nil && !podRequest(old).equal(podRequest(pod)) || pod.DeletionTimestamp != nil {
			s.queue.happened(podLeft)
		}
	case pod.Spec.SchedulerName != Name || pod.DeletionTimestamp != nil || len(pod.Spec.SchedulingGates) > 0:
		s.queue.remove(pod.UID)
	default:
		s.mu.Lock()
		assumed := s.state.pods[pod.UID] != nil // being bound
		s.mu.Unlock()
		if !assumed {
			s.queue.set(pod)
		}
	}
}

func (s *Scheduler) podGone(pod *corev1.Pod) {
	s.queue.remove(pod.UID)
	s.mu.Lock()
	s.state.removePod(pod.UID)
	s.mu.Unlock()
	if pod.Spec.NodeName != "" {
		s.queue.happened(podLeft)
	}
}

func (s *Scheduler) nodeHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { s.nodeChanged(nil, obj.(*corev1.Node)) },
		UpdateFunc: func(old, obj any) {
			s.nodeChanged(old.(*corev1.Node), obj.(*corev1.Node))
		},
		DeleteFunc: func(obj any) {
			if node := deleted[*corev1.Node](obj); node != nil {
				s.mu.Lock()
				s.state.removeNode(node.Name)
				s.mu.Unlock()
			}
		},
	}
}

func (s *Scheduler) nodeChanged(old, node *corev1.Node) {
	s.mu.Lock()
	s.state.setNode(node)
	s.mu.Unlock()
	if old == nil || !sameForPlacement(old, node) || !sameRoom(old, node) {
		s.queue.happened(nodeChanged)
	}
}

func sameRoom(a, b *corev1.Node) bool {
	return maps.EqualFunc(a.Status.Allocatable, b.Status.Allocatable, func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 })
}

func (s *Scheduler) namespaceHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(old, obj any) {
			if mapsEqual(old.(*corev1.Namespace).Labels, obj.(*corev1.Namespace).Labels) {
				return
			}
			s.mu.Lock()
			s.state.terms.recount()
			s.mu.Unlock()
			s.queue.happened(namespaceChanged)
		},
	}
}

// deleted unwraps the last known state of an object that went away unseen.
func deleted[T any](obj any) T {
	if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = tombstone.Obj
	}
	t, _ := obj.(T)
	return t
}
