package scheduler

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// What a node's own properties decide about a pod (its labels, taints, whether it is
// cordoned) depends on few fields of the pod. Pods with equal fields share a class, and a
// class remembers its verdict of each node until that node changes.

// maxClasses bounds the classes remembered; beyond, all are forgotten at once.
const maxClasses = 1000

type staticCache struct {
	classes map[string]*class
	version uint64 // grows with every change to any node
}

func newStaticCache() *staticCache { return &staticCache{classes: map[string]*class{}, version: 1} }

func (c *staticCache) changed() { c.version++ }

// class is a set of pods that nodes' own properties treat alike.
type class struct {
	version     uint64 // of the cache when verdicts was brought up to date
	tolerations []corev1.Toleration
	required    nodeaffinity.RequiredNodeAffinity
	preferred   *nodeaffinity.PreferredSchedulingTerms
	verdicts    []staticVerdict
	epochs      []uint32
}

// staticVerdict of a class and a node.
type staticVerdict struct {
	known    bool
	refused  string // reason, "" when the node will do
	affinity bool   // node affinity and selector match (spread constraints look at it)
	taints   bool   // no untolerated taint
	prefer   int64  // sum of weights of preferred node affinity
	avoid    int64  // number of PreferNoSchedule taints not tolerated
}

// The reasons why a node's own properties refuse a pod.
const (
	reasonUnschedulable = "node(s) were unschedulable"
	reasonTaint         = "node(s) had untolerated taint(s)"
	reasonNodeAffinity  = "node(s) didn't match Pod's node affinity/selector"
)

// of gives the class of a pod with all verdicts up to date.
func (c *staticCache) of(pod *corev1.Pod, s *state) *class {
	var affinity *corev1.NodeAffinity
	if pod.Spec.Affinity != nil {
		affinity = pod.Spec.Affinity.NodeAffinity
	}
	key, err := json.Marshal([]any{pod.Spec.NodeSelector, affinity, pod.Spec.Tolerations})
	if err != nil {
		key = []byte(pod.UID) // cannot be: these types always encode
	}
	k := c.classes[string(key)]
	if k == nil {
		if len(c.classes) >= maxClasses {
			c.classes = map[string]*class{}
		}
		k = newClass(pod, affinity)
		c.classes[string(key)] = k
	}
	if k.version != c.version {
		k.refresh(s)
		k.version = c.version
	}
	return k
}

func newClass(pod *corev1.Pod, affinity *corev1.NodeAffinity) *class {
	k := &class{tolerations: pod.Spec.Tolerations, required: nodeaffinity.GetRequiredNodeAffinity(pod)}
	if affinity != nil && len(affinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
		// Terms that do not parse prefer nothing; the API refuses them anyway.
		if p, err := nodeaffinity.NewPreferredSchedulingTerms(affinity.PreferredDuringSchedulingIgnoredDuringExecution); err == nil {
			k.preferred = p
		}
	}
	return k
}

func (k *class) refresh(s *state) {
	for len(k.verdicts) < len(s.nodes) {
		k.verdicts = append(k.verdicts, staticVerdict{})
		k.epochs = append(k.epochs, 0)
	}
	for i, node := range s.nodes {
		if node == nil || k.verdicts[i].known && k.epochs[i] == s.epoch[i] {
			continue
		}
		k.verdicts[i], k.epochs[i] = k.judge(node), s.epoch[i]
	}
}

func (k *class) judge(node *corev1.Node) staticVerdict {
	v := staticVerdict{known: true, taints: true}
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if node.Spec.Unschedulable && !tolerated(k.tolerations, cordon) {
		v.refused = reasonUnschedulable
	}
	for _, t := range node.Spec.Taints {
		if tolerated(k.tolerations, t) {
			continue
		}
		switch t.Effect {
		case corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute:
			v.taints = false
		case corev1.TaintEffectPreferNoSchedule:
			v.avoid++
		}
	}
	if !v.taints && v.refused == "" {
		v.refused = reasonTaint
	}
	match, err := k.required.Match(node)
	v.affinity = match && err == nil
	if !v.affinity && v.refused == "" {
		v.refused = reasonNodeAffinity
	}
	if k.preferred != nil {
		v.prefer = k.preferred.Score(node)
	}
	return v
}

func tolerated(tolerations []corev1.Toleration, t corev1.Taint) bool {
	return corehelpers.TolerationsTolerateTaint(klog.Logger{}, tolerations, &t, false)
}
