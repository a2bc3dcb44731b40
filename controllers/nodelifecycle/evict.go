package nodelifecycle

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

// evictor deletes pods from nodes whose NoExecute taints they do not tolerate (any longer).
type evictor struct {
	*loop.Loop[loop.Key]
	deps     loop.Deps
	nodes    corelisters.NodeLister
	pods     corelisters.PodLister
	recorder record.EventRecorder
	mu       sync.Mutex
	due      map[loop.Key]stay
	deleted  prometheus.Counter
}

// stay is a pod that tolerates its node's taints for a while.
type stay struct {
	uid   types.UID
	since time.Time
}

func newEvictor(deps loop.Deps, podsOf func(string) []*corev1.Pod) (*evictor, error) {
	core := deps.Informers.Core().V1()
	deleted, err := deps.Counter("taint_eviction_controller_pod_deletions_total", "Total number of Pods deleted by TaintEvictionController since its start.")
	if err != nil {
		return nil, err
	}
	e := &evictor{
		deps: deps, nodes: core.Nodes().Lister(), pods: core.Pods().Lister(),
		recorder: deps.Recorder("taint-eviction-controller"), due: map[loop.Key]stay{}, deleted: deleted.WithLabelValues(),
	}
	e.Loop = loop.New("tainteviction", deps, e.reconcile)
	e.Watch(core.Pods().Informer(), func(obj any) []loop.Key {
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.Spec.NodeName == "" {
			return nil
		}
		key := loop.Key{Namespace: pod.Namespace, Name: pod.Name}
		if node, err := e.nodes.Get(pod.Spec.NodeName); err == nil && len(noExecute(node)) > 0 {
			return []loop.Key{key}
		}
		if _, due := e.stays(key); due {
			return []loop.Key{key}
		}
		return nil // a taint that comes later brings the pod with it
	})
	e.Watch(core.Nodes().Informer(), func(obj any) []loop.Key {
		node, ok := obj.(*corev1.Node)
		if !ok || len(noExecute(node)) == 0 {
			return nil // asked for the node before a change, too: so for taints that went
		}
		var keys []loop.Key
		for _, pod := range podsOf(node.Name) {
			keys = append(keys, loop.Key{Namespace: pod.Namespace, Name: pod.Name})
		}
		return keys
	})
	return e, nil
}

func (e *evictor) stays(key loop.Key) (stay, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.due[key]
	return s, ok
}

func (e *evictor) reconcile(ctx context.Context, key loop.Key) error {
	pod, err := e.pods.Pods(key.Namespace).Get(key.Name)
	if err != nil {
		e.cancel(key)
		return loop.Gone(err)
	}
	if pod.DeletionTimestamp != nil {
		e.cancel(key)
		return nil
	}
	node, err := e.nodes.Get(pod.Spec.NodeName)
	if err != nil {
		e.cancel(key)
		return loop.Gone(err)
	}
	leave, after := tolerates(noExecute(node), pod.Spec.Tolerations)
	if !leave {
		if e.cancel(key) {
			e.recorder.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Cancelling deletion of Pod %s", key)
		}
		return nil
	}
	if wait := e.wait(key, pod.UID, after); wait > 0 {
		e.AddAfter(key, wait)
		return nil
	}
	return e.evict(ctx, key, pod)
}

// wait is how long the pod may still stay; its stay counts from when it was first asked to leave.
func (e *evictor) wait(key loop.Key, uid types.UID, after time.Duration) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.deps.Clock.Now()
	s, ok := e.due[key]
	if !ok || s.uid != uid {
		s = stay{uid: uid, since: now}
		e.due[key] = s
	}
	return s.since.Add(after).Sub(now)
}

func (e *evictor) cancel(key loop.Key) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, was := e.due[key]
	delete(e.due, key)
	return was
}

func (e *evictor) evict(ctx context.Context, key loop.Key, pod *corev1.Pod) error {
	e.recorder.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s", key)
	err := patchPodConditions(ctx, e.deps, pod, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, ObservedGeneration: pod.Generation,
		Reason: "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint",
		LastTransitionTime: metav1.NewTime(e.deps.Clock.Now()),
	})
	if err != nil {
		return loop.Gone(err)
	}
	err = e.deps.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
	if err == nil {
		e.deleted.Inc()
		e.cancel(key)
	}
	return loop.Gone(err)
}

func noExecute(node *corev1.Node) []corev1.Taint {
	var out []corev1.Taint
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			out = append(out, t)
		}
	}
	return out
}

// tolerates says whether a pod with these tolerations must leave a node with these
// taints, and how long it may stay before.
func tolerates(taints []corev1.Taint, tolerations []corev1.Toleration) (leave bool, after time.Duration) {
	for i := range taints {
		tolerated := false
		for j := range tolerations {
			t := &tolerations[j]
			if !matches(t, &taints[i]) {
				continue
			}
			tolerated = true
			if t.TolerationSeconds == nil {
				break
			}
			limit := time.Duration(min(max(*t.TolerationSeconds, 0), mostSeconds)) * time.Second
			if !leave || limit < after {
				leave, after = true, limit
			}
			break // the first that matches a taint is the one that counts
		}
		if !tolerated {
			return true, 0
		}
	}
	return leave, after
}

// mostSeconds is more than anybody waits, and few enough not to overflow.
const mostSeconds = 1 << 33

func matches(t *corev1.Toleration, taint *corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case corev1.TolerationOpExists:
		return true
	case "", corev1.TolerationOpEqual:
		return t.Value == taint.Value
	}
	return false
}
