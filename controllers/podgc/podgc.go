// Package podgc removes pods that nobody else will: of nodes that are gone or out of
// service, those that end without ever having had a node, and ended ones beyond a number.
//
// The one idea: each rule looks at one pod, or at one node; only the number of ended pods
// is looked at as a whole, when it can have grown.
//
// Used by controllers.All.
package podgc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/proa-dev/proa/controllers/loop"
)

const (
	mostEnded  = 12500            // ended pods that stay
	quarantine = 40 * time.Second // how long a node must be gone

	nodeGone = "DeletionByPodGC" // the reason of such a pod's disruption
)

// key is a pod, a node (only name), or with neither the ended pods as a whole.
type key struct {
	pod  loop.Key
	node string
}

// Controller is the loop.
type Controller struct {
	*loop.Loop[key]
	deps   loop.Deps
	pods   corelisters.PodLister
	nodes  corelisters.NodeLister
	podsOf func(node string) []*corev1.Pod
	most   int

	mu    sync.Mutex
	gone  map[string]time.Time      // nodes missed since
	ended map[types.UID]*corev1.Pod // as last seen
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	pods, nodes := deps.Informers.Core().V1().Pods(), deps.Informers.Core().V1().Nodes()
	podsOf, err := loop.PodsByNode(pods.Informer())
	if err != nil {
		return nil, err
	}
	c := &Controller{
		deps: deps, pods: pods.Lister(), nodes: nodes.Lister(), podsOf: podsOf, most: mostEnded,
		gone: map[string]time.Time{}, ended: map[types.UID]*corev1.Pod{},
	}
	c.Loop = loop.New("podgc", deps, c.reconcile)
	c.Watch(nodes.Informer(), func(obj any) []key {
		k, _ := loop.KeyOf(obj)
		return []key{{node: k.Name}}
	})
	c.Watch(pods.Informer(), c.look)
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 2) }

// look turns a pod into the few keys it can matter to.
func (c *Controller) look(obj any) []key {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	var out []key
	if pod.Spec.NodeName == "" {
		if pod.DeletionTimestamp != nil {
			out = append(out, key{pod: loop.Key{Namespace: pod.Namespace, Name: pod.Name}})
		}
	} else if _, err := c.nodes.Get(pod.Spec.NodeName); err != nil || pod.DeletionTimestamp != nil {
		out = append(out, key{node: pod.Spec.NodeName})
	}
	if c.count(pod) > c.most {
		out = append(out, key{})
	}
	return out
}

// count keeps the ended pods, and answers how many there are.
func (c *Controller) count(pod *corev1.Pod) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now, err := c.pods.Pods(pod.Namespace).Get(pod.Name); err == nil && now.UID == pod.UID && ended(now) {
		c.ended[pod.UID] = now
	} else {
		delete(c.ended, pod.UID)
	}
	return len(c.ended)
}

// ended pods take a place until they are deleted; one that is going already does not count,
// nor does one that was told failed here because it is deleted next.
func ended(pod *corev1.Pod) bool {
	return loop.Ended(pod) && pod.DeletionTimestamp == nil && !slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Reason == nodeGone
	})
}

func (c *Controller) reconcile(ctx context.Context, k key) error {
	switch {
	case k.node != "":
		return c.node(ctx, k.node)
	case k.pod.Name != "":
		return c.unscheduled(ctx, k.pod)
	}
	return c.trim(ctx)
}

// unscheduled ends a pod that is being deleted and has no node that would end it.
func (c *Controller) unscheduled(ctx context.Context, k loop.Key) error {
	pod, err := c.pods.Pods(k.Namespace).Get(k.Name)
	if err != nil {
		return loop.Gone(err)
	}
	if pod.DeletionTimestamp == nil || pod.Spec.NodeName != "" {
		return nil
	}
	return c.remove(ctx, pod, nil)
}

// node removes the pods of a node that is gone, or of which its operator says so.
func (c *Controller) node(ctx context.Context, name string) error {
	node, err := c.nodes.Get(name)
	if err == nil {
		c.present(name)
		if !outOfService(node) {
			return nil
		}
		return c.each(c.podsOf(name), func(pod *corev1.Pod) error {
			if pod.DeletionTimestamp == nil {
				return nil
			}
			return c.remove(ctx, pod, nil)
		})
	}
	pods := c.podsOf(name)
	if !apierrors.IsNotFound(err) || len(pods) == 0 {
		c.present(name)
		return loop.Gone(err)
	}
	if wait := c.missed(name); wait > 0 {
		c.AddAfter(key{node: name}, wait)
		return nil
	}
	// The cache may lag; the server knows.
	if _, err := c.deps.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return err
	}
	return c.each(pods, func(pod *corev1.Pod) error {
		return c.remove(ctx, pod, &corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, ObservedGeneration: pod.Generation,
			Reason: nodeGone, Message: "PodGC: node no longer exists", LastTransitionTime: metav1.NewTime(c.deps.Clock.Now()),
		})
	})
}

func (c *Controller) each(pods []*corev1.Pod, do func(*corev1.Pod) error) error {
	var problems []error
	for _, pod := range pods {
		problems = append(problems, do(pod))
	}
	return errors.Join(problems...)
}

func outOfService(node *corev1.Node) bool {
	for _, cond := range node.Status.Conditions {
		if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
			return false
		}
	}
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

func (c *Controller) present(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.gone, node)
}

// missed is how much longer a node must be gone.
func (c *Controller) missed(node string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.deps.Clock.Now()
	since, ok := c.gone[node]
	if !ok {
		since = now
		c.gone[node] = now
	}
	return since.Add(quarantine).Sub(now)
}

// trim removes the oldest ended pods beyond the number that stays.
func (c *Controller) trim(ctx context.Context) error {
	c.mu.Lock()
	var all []*corev1.Pod
	for _, pod := range c.ended {
		all = append(all, pod)
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return c.each(all[:max(len(all)-c.most, 0)], func(pod *corev1.Pod) error { return c.remove(ctx, pod, nil) })
}

// remove deletes a pod at once. One that has not ended is told failed before, with the
// reason, so that what waits for its end sees one.
func (c *Controller) remove(ctx context.Context, pod *corev1.Pod, reason *corev1.PodCondition) error {
	client := c.deps.Client.CoreV1().Pods(pod.Namespace)
	if !loop.Ended(pod) {
		status := map[string]any{"phase": corev1.PodFailed}
		if reason != nil {
			status["conditions"] = []corev1.PodCondition{*reason}
		}
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
		if err != nil {
			return err
		}
		if _, err := client.Patch(ctx, pod.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status"); err != nil {
			return loop.Gone(err)
		}
	}
	var now int64
	return loop.Gone(client.Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
	}))
}
