package loop

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// Owned is how a loop sees the pods that its objects control: which object a pod's event
// concerns, and which pods are an object's after adopting and releasing.
type Owned struct {
	Kind    schema.GroupVersionKind // of the owners
	Client  kubernetes.Interface
	Pods    cache.SharedIndexInformer
	Pending *Pending
	// Recorder writes the events of owners.
	Recorder record.EventRecorder
	Add      func(Key)
	// Matching are the owners that would adopt a pod that nobody controls.
	Matching func(*corev1.Pod) []Key
	// Adoptable restricts which of the matching pods are adopted; nil: nothing.
	Adoptable func(*corev1.Pod) bool
}

// Own makes a loop hear of the pods of its objects, and of those they would adopt.
func Own(l *Loop[Key], deps Deps, kind schema.GroupVersionKind, recorder record.EventRecorder, matching func(*corev1.Pod) []Key) (*Owned, error) {
	o := &Owned{
		Kind: kind, Client: deps.Client, Pods: deps.Informers.Core().V1().Pods().Informer(), Pending: NewPending(deps.Clock.Now),
		Recorder: recorder, Add: l.Add, Matching: matching,
	}
	if err := IndexByController(o.Pods); err != nil {
		return nil, err
	}
	l.Handle(o.Pods, o.handler())
	return o, nil
}

// Selecting gives the keys of those owners of a list whose selector matches a pod.
func Selecting[T metav1.Object](pod *corev1.Pod, owners []T, selector func(T) *metav1.LabelSelector) []Key {
	var keys []Key
	for _, o := range owners {
		if s, err := metav1.LabelSelectorAsSelector(selector(o)); err == nil && !s.Empty() && s.Matches(labels.Set(pod.Labels)) {
			keys = append(keys, Key{o.GetNamespace(), o.GetName()})
		}
	}
	return keys
}

// handler turns events of pods into keys of owners.
func (o *Owned) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if pod, ok := obj.(*corev1.Pod); ok {
				if owner, _ := o.ownerOf(pod); owner != nil {
					o.Pending.Created(owner.UID)
				}
				o.changed(pod)
			}
		},
		UpdateFunc: func(old, obj any) {
			was, ok := old.(*corev1.Pod)
			pod, also := obj.(*corev1.Pod)
			if !ok || !also {
				return
			}
			if owner, key := o.ownerOf(was); owner != nil && !metav1.IsControlledBy(pod, &metav1.ObjectMeta{UID: owner.UID}) {
				o.Add(key)
			}
			o.changed(pod)
		},
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			if pod, ok := obj.(*corev1.Pod); ok {
				o.gone(pod)
			}
		},
	}
}

func (o *Owned) changed(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil {
		o.gone(pod)
		return
	}
	if owner, key := o.ownerOf(pod); owner != nil {
		o.Add(key)
		return
	}
	if metav1.GetControllerOfNoCopy(pod) == nil && len(pod.Labels) > 0 {
		for _, key := range o.Matching(pod) {
			o.Add(key)
		}
	}
}

func (o *Owned) gone(pod *corev1.Pod) {
	if owner, key := o.ownerOf(pod); owner != nil {
		o.Pending.Deleted(owner.UID, pod.UID)
		o.Add(key)
	}
}

func (o *Owned) ownerOf(pod *corev1.Pod) (*metav1.OwnerReference, Key) {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil || owner.Kind != o.Kind.Kind || owner.APIVersion != o.Kind.GroupVersion().String() {
		return nil, Key{}
	}
	return owner, Key{pod.Namespace, owner.Name}
}

// Claim gives the pods that the owner controls, having adopted those that match and are
// nobody's, and released those that match no more. present asks the server, not the
// cache, for the owner: only one that still exists may adopt. fits further restricts what
// is claimed; nil: nothing.
func (o *Owned) Claim(ctx context.Context, owner metav1.Object, selector labels.Selector, fits func(*corev1.Pod) bool,
	present func(context.Context) (metav1.Object, error)) ([]*corev1.Pod, error) {
	match := func(pod *corev1.Pod) bool {
		return selector.Matches(labels.Set(pod.Labels)) && (fits == nil || fits(pod))
	}
	var mine []*corev1.Pod
	for _, pod := range ControlledBy[*corev1.Pod](o.Pods, owner.GetUID()) {
		if match(pod) {
			mine = append(mine, pod)
		} else if owner.GetDeletionTimestamp() == nil && pod.DeletionTimestamp == nil {
			if err := Release(ctx, o.Client, pod, owner.GetUID()); err != nil {
				return nil, err
			}
		}
	}
	if owner.GetDeletionTimestamp() != nil {
		return mine, nil
	}
	for _, pod := range Orphans[*corev1.Pod](o.Pods, owner.GetNamespace()) {
		if pod.DeletionTimestamp != nil || !match(pod) || o.Adoptable != nil && !o.Adoptable(pod) {
			continue
		}
		now, err := present(ctx)
		if err != nil || now.GetUID() != owner.GetUID() || now.GetDeletionTimestamp() != nil {
			return mine, Gone(err)
		}
		if err := Adopt(ctx, o.Client, pod, metav1.NewControllerRef(owner, o.Kind)); err != nil {
			return nil, err
		}
		mine = append(mine, pod)
	}
	return mine, nil
}

// InParallel calls f for 0 to n-1 at once and gives the first error.
func InParallel(n int, f func(i int) error) error {
	var group sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		group.Go(func() {
			if err := f(i); err != nil {
				errs <- err
			}
		})
	}
	group.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// SlowStart calls f for 0 to n-1, one, then two, then four at once, until one fails: when
// creating is refused (quota), few requests were wasted. tried is how many were called.
func SlowStart(n int, f func(i int) error) (tried int, err error) {
	for batch := 1; tried < n; batch *= 2 {
		batch = min(batch, n-tried)
		from := tried
		tried += batch
		if err := InParallel(batch, func(i int) error { return f(from + i) }); err != nil {
			return tried, err
		}
	}
	return n, nil
}

// Ended says whether a pod has come to its end and never runs again.
func Ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
