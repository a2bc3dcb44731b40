package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// What a node's own properties decide about a pod (its labels, taints, whether it is
// cordoned) depends on few fields of the pod: node selector, node affinity, tolerations.
// Pods with equal ones share a static, which remembers its verdict of each node until
// that node changes.
type static struct {
	id          uint32
	version     uint64 // of the nodes when verdicts was brought up to date
	tolerations []corev1.Toleration
	required    nodeaffinity.RequiredNodeAffinity
	preferred   *nodeaffinity.PreferredSchedulingTerms
	only        map[string]bool // the nodes that the affinity names; nil: any
	verdicts    []verdict
	epochs      []uint32
	avoided     int // nodes with avoid above 0
	preferring  int // nodes with prefer other than 0
}

// verdict of a static and a node.
type verdict struct {
	refused  refusal
	known    bool
	affinity bool  // node affinity and selector match (spread constraints look at it)
	taints   bool  // no untolerated taint
	prefer   int32 // sum of weights of preferred node affinity
	avoid    int32 // number of PreferNoSchedule taints not tolerated
}

// refusal is why a node's own properties refuse a pod.
type refusal uint8

const (
	refusedUnschedulable refusal = iota + 1
	refusedTaint
	refusedAffinity
	refusedName
)

var refusalReasons = [...]string{
	refusedUnschedulable: "node(s) were unschedulable",
	refusedTaint:         "node(s) had untolerated taint(s)",
	refusedAffinity:      "node(s) didn't match Pod's node affinity/selector",
	refusedName:          "node(s) didn't satisfy plugin(s) [NodeAffinity]",
}

// maxStatics bounds the statics remembered; beyond, all are forgotten at once.
const maxStatics = 1000

// staticOf gives the static of a pod with all verdicts up to date.
func (s *state) staticOf(pod *corev1.Pod) *static {
	s.buf = appendStatic(s.buf[:0], pod)
	k := s.statics[string(s.buf)]
	if k == nil {
		if len(s.statics) >= maxStatics {
			clear(s.statics)
		}
		k = newStatic(pod)
		s.serial++
		k.id = s.serial
		s.statics[string(s.buf)] = k
	}
	if k.version != s.nodesVersion {
		k.refresh(s)
	}
	return k
}

func appendStatic(buf []byte, pod *corev1.Pod) []byte {
	if len(pod.Spec.NodeSelector) > 0 {
		for _, key := range slices.Sorted(maps.Keys(pod.Spec.NodeSelector)) {
			buf = appendString(appendString(buf, key), pod.Spec.NodeSelector[key])
		}
	}
	buf = append(buf, 0xff)
	if a := nodeAffinityOf(pod); a != nil {
		if encoded, err := a.Marshal(); err == nil { // these types always encode
			buf = append(buf, encoded...)
		}
	}
	buf = append(buf, 0xff)
	for i := range pod.Spec.Tolerations {
		t := &pod.Spec.Tolerations[i]
		buf = appendString(appendString(appendString(appendString(buf, t.Key), string(t.Operator)), t.Value), string(t.Effect))
	}
	return buf
}

func nodeAffinityOf(pod *corev1.Pod) *corev1.NodeAffinity {
	if pod.Spec.Affinity == nil {
		return nil
	}
	return pod.Spec.Affinity.NodeAffinity
}

func newStatic(pod *corev1.Pod) *static {
	k := &static{tolerations: pod.Spec.Tolerations, required: nodeaffinity.GetRequiredNodeAffinity(pod)}
	affinity := nodeAffinityOf(pod)
	if affinity == nil {
		return k
	}
	if len(affinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
		// Terms that do not parse prefer nothing; the API refuses them anyway.
		if p, err := nodeaffinity.NewPreferredSchedulingTerms(affinity.PreferredDuringSchedulingIgnoredDuringExecution); err == nil {
			k.preferred = p
		}
	}
	k.only = namedNodes(affinity.RequiredDuringSchedulingIgnoredDuringExecution)
	return k
}

// namedNodes gives the nodes that each term of a selector names by metadata.name; nil when a
// term names none, and may match any.
func namedNodes(selector *corev1.NodeSelector) map[string]bool {
	if selector == nil || len(selector.NodeSelectorTerms) == 0 {
		return nil
	}
	all := map[string]bool{}
	for _, t := range selector.NodeSelectorTerms {
		var names map[string]bool
		for _, f := range t.MatchFields {
			if f.Key != "metadata.name" || f.Operator != corev1.NodeSelectorOpIn {
				continue
			}
			here := map[string]bool{}
			for _, v := range f.Values {
				if names == nil || names[v] {
					here[v] = true
				}
			}
			names = here
		}
		if names == nil {
			return nil
		}
		maps.Copy(all, names)
	}
	return all
}

func (k *static) refresh(s *state) {
	if more := len(s.nodes) - len(k.verdicts); more > 0 {
		k.verdicts = append(k.verdicts, make([]verdict, more)...)
		k.epochs = append(k.epochs, make([]uint32, more)...)
	}
	k.avoided, k.preferring = 0, 0
	for i, node := range s.nodes {
		v := &k.verdicts[i]
		if !v.known || k.epochs[i] != s.epoch[i] {
			*v, k.epochs[i] = verdict{known: true}, s.epoch[i]
			if node != nil {
				*v = k.judge(node)
			}
		}
		if v.avoid > 0 {
			k.avoided++
		}
		if v.prefer != 0 {
			k.preferring++
		}
	}
	k.version = s.nodesVersion
}

func (k *static) judge(node *corev1.Node) verdict {
	v := verdict{known: true, taints: true}
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if node.Spec.Unschedulable && !tolerated(k.tolerations, &cordon) {
		v.refused = refusedUnschedulable
	}
	for i := range node.Spec.Taints {
		t := &node.Spec.Taints[i]
		switch {
		case t.Effect == corev1.TaintEffectPreferNoSchedule:
			if !toleratedSoftly(k.tolerations, t) {
				v.avoid++
			}
		case (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) && !tolerated(k.tolerations, t):
			v.taints = false
		}
	}
	if !v.taints && v.refused == 0 {
		v.refused = refusedTaint
	}
	match, err := k.required.Match(node)
	v.affinity = match && err == nil
	if !v.affinity && v.refused == 0 {
		v.refused = refusedAffinity
	}
	if k.only != nil && !k.only[node.Name] {
		v.refused = refusedName // comes first: such nodes are not looked at
	}
	if k.preferred != nil {
		v.prefer = int32(k.preferred.Score(node))
	}
	return v
}

func tolerated(tolerations []corev1.Toleration, t *corev1.Taint) bool {
	return corehelpers.TolerationsTolerateTaint(klog.Logger{}, tolerations, t, false)
}

// toleratedSoftly looks only at tolerations that could mean a preference.
func toleratedSoftly(tolerations []corev1.Toleration, t *corev1.Taint) bool {
	for i := range tolerations {
		if e := tolerations[i].Effect; (e == "" || e == corev1.TaintEffectPreferNoSchedule) && tolerated(tolerations[i:i+1], t) {
			return true
		}
	}
	return false
}
