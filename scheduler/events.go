package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
)

// handler hands events of one kind to two functions; old is nil when the object is new.
func handler[T any](changed func(old *T, now *T), gone func(*T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { changed(nil, any(obj).(*T)) },
		UpdateFunc: func(old, obj any) { changed(any(old).(*T), any(obj).(*T)) },
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj // the last known state of an object that went away unseen
			}
			if t, ok := obj.(*T); ok {
				gone(t)
			}
		},
	}
}

// podChanged keeps the queue (pods without a node) and the counts (pods with one).
func (s *Scheduler) podChanged(old, pod *corev1.Pod) {
	switch {
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		s.podGone(pod) // it holds nothing any more
	case pod.Spec.NodeName != "":
		s.podBound(old, pod)
	case pod.Spec.SchedulerName != Name || pod.DeletionTimestamp != nil || len(pod.Spec.SchedulingGates) > 0:
		s.queue.remove(pod.UID)
		s.unnominate(pod)
	default:
		s.mu.Lock()
		assumed := s.state.pods[pod.UID] != nil // being bound
		if node := pod.Status.NominatedNodeName; node != "" && !assumed {
			s.state.nominate(pod, node)
		} else if old != nil && old.Status.NominatedNodeName != "" {
			s.state.unnominate(pod.UID) // what was never written is kept
		}
		s.mu.Unlock()
		if !assumed {
			s.queue.set(pod)
		}
	}
}

func (s *Scheduler) podBound(old, pod *corev1.Pod) {
	s.queue.remove(pod.UID)
	s.mu.Lock()
	freed := s.state.addPod(pod, pod.Spec.NodeName)
	s.state.unnominate(pod.UID)
	s.mu.Unlock()
	came := old == nil || old.Spec.NodeName == ""
	if came || !mapsEqual(old.Labels, pod.Labels) {
		s.happened(podCame, func(f failure) bool { return s.state.comingHelps(f, pod) })
	}
	if freed || !came && (!mapsEqual(old.Labels, pod.Labels) || old.DeletionTimestamp == nil && pod.DeletionTimestamp != nil) {
		s.left(pod.Spec.NodeName)
	}
}

func (s *Scheduler) podGone(pod *corev1.Pod) {
	s.queue.remove(pod.UID)
	s.mu.Lock()
	counted := s.state.pods[pod.UID]
	s.state.removePod(pod.UID)
	s.mu.Unlock()
	s.unnominate(pod)
	if counted != nil {
		s.left(counted.node)
	}
}

// unnominate forgets that a pod waited for room on a node; others may have it.
func (s *Scheduler) unnominate(pod *corev1.Pod) {
	s.mu.Lock()
	node, nominated := s.state.nominated.node[pod.UID]
	s.state.unnominate(pod.UID)
	s.mu.Unlock()
	if nominated {
		s.left(node)
	}
}

func (s *Scheduler) left(node string) {
	s.happened(podLeft, func(f failure) bool { return s.state.leavingHelps(f, node) })
}

// happened asks helps with the state locked.
func (s *Scheduler) happened(c change, helps func(failure) bool) {
	s.queue.happened(c, func(f failure) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return helps(f)
	})
}

func always(failure) bool { return true }

func (s *Scheduler) nodeChanged(old, node *corev1.Node) {
	s.mu.Lock()
	s.state.setNode(node)
	s.mu.Unlock()
	if old == nil || !sameForPlacement(old, node) || !sameRoom(old, node) {
		s.happened(nodeChanged, func(f failure) bool { return s.state.nodeHelps(f, node.Name) })
	}
}

func (s *Scheduler) nodeDeleted(node *corev1.Node) {
	s.mu.Lock()
	s.state.removeNode(node.Name)
	s.mu.Unlock()
	s.happened(nodeGone, always)
}

func sameRoom(a, b *corev1.Node) bool {
	if len(a.Status.Allocatable) != len(b.Status.Allocatable) {
		return false
	}
	for name, x := range a.Status.Allocatable {
		if y, ok := b.Status.Allocatable[name]; !ok || x.Cmp(y) != 0 {
			return false
		}
	}
	return true
}

func (s *Scheduler) namespaceChanged(old, namespace *corev1.Namespace) {
	if old != nil && mapsEqual(old.Labels, namespace.Labels) || old == nil && len(namespace.Labels) == 0 {
		return
	}
	s.mu.Lock()
	s.state.namespacesChanged()
	s.mu.Unlock()
	s.happened(namespaceChanged, always)
}

// selectorChanged forgets which pods belong together: a service or an owner changed.
func (s *Scheduler) selectorChanged() {
	s.mu.Lock()
	clear(s.spreads)
	s.mu.Unlock()
}

func (s *Scheduler) serviceChanged(old, svc *corev1.Service) {
	if old == nil || !labels.Equals(old.Spec.Selector, svc.Spec.Selector) {
		s.selectorChanged()
	}
}
