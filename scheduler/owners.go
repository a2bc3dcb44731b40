package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/proa-dev/proa/internal/informers"
)

// owners tell which pods belong together: those that the same services select and the same
// owner selects.
type owners struct {
	services    corelisters.ServiceLister
	controllers corelisters.ReplicationControllerLister
	replicas    appslisters.ReplicaSetLister
	stateful    appslisters.StatefulSetLister
}

func newOwners(f *informers.Factory) owners {
	return owners{
		services: f.Core().V1().Services().Lister(), controllers: f.Core().V1().ReplicationControllers().Lister(),
		replicas: f.Apps().V1().ReplicaSets().Lister(), stateful: f.Apps().V1().StatefulSets().Lister(),
	}
}

func ownerKey(pod *corev1.Pod) string {
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		return string(owner.UID)
	}
	return ""
}

// selector selects the pods that belong together with this one; an empty one for none.
func (o owners) selector(pod *corev1.Pod) labels.Selector {
	merged := labels.Set{}
	services, err := o.services.Services(pod.Namespace).List(labels.Everything())
	if err != nil {
		services = nil // the cache answers; it has no errors to give
	}
	for _, svc := range services {
		if len(svc.Spec.Selector) > 0 && labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			merged = labels.Merge(merged, svc.Spec.Selector)
		}
	}
	owner := metav1.GetControllerOfNoCopy(pod)
	var own *metav1.LabelSelector
	if owner != nil {
		switch owner.APIVersion + "/" + owner.Kind {
		case "v1/ReplicationController":
			if rc, err := o.controllers.ReplicationControllers(pod.Namespace).Get(owner.Name); err == nil {
				merged = labels.Merge(merged, rc.Spec.Selector)
			}
		case "apps/v1/ReplicaSet":
			if rs, err := o.replicas.ReplicaSets(pod.Namespace).Get(owner.Name); err == nil {
				own = rs.Spec.Selector
			}
		case "apps/v1/StatefulSet":
			if set, err := o.stateful.StatefulSets(pod.Namespace).Get(owner.Name); err == nil {
				own = set.Spec.Selector
			}
		}
	}
	selector := labels.NewSelector()
	if len(merged) > 0 {
		selector = labels.SelectorFromSet(merged)
	}
	if own == nil {
		return selector
	}
	read, err := metav1.LabelSelectorAsSelector(own)
	if err != nil {
		return selector
	}
	if more, selectable := read.Requirements(); selectable {
		selector = selector.Add(more...)
	}
	return selector
}
