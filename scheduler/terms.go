package scheduler

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// A term names a set of pods (some labels, in some namespaces). Two sorts are counted,
// per node: matching terms, by how many pods match (a constraint or affinity of the pod to
// place looks at them), and owned terms, by how many pods carry the term themselves (their
// anti-affinity refuses the pod to place when it matches).
//
// Counts are kept per node and summed to topology domains when a decision needs them:
// a walk over integers, which is cheap beside keeping each topology right at each change.

// term is a set of pods.
type term struct {
	key               string // canonical, identifies the set
	selector          labels.Selector
	namespaces        []string // these and
	namespaceSelector labels.Selector
	and               []*term // instead of all of the above: pods that match each of these
}

func (t *term) matches(pod *corev1.Pod, namespaceLabels func(string) map[string]string) bool {
	if t.and != nil {
		return !slices.ContainsFunc(t.and, func(one *term) bool { return !one.matches(pod, namespaceLabels) })
	}
	inside := slices.Contains(t.namespaces, pod.Namespace) ||
		t.namespaceSelector != nil && t.namespaceSelector.Matches(labels.Set(namespaceLabels(pod.Namespace)))
	return inside && t.selector.Matches(labels.Set(pod.Labels))
}

// ownKind is what a pod's own term does to others.
type ownKind string

const (
	ownAntiAffinity  ownKind = "anti"       // required: refuses matching pods
	ownAffinity      ownKind = "affinity"   // required: attracts matching pods (score)
	ownPreferred     ownKind = "preferred"  // attracts by weight
	ownPreferredAnti ownKind = "preferanti" // repels by weight
)

// ownTerm is an affinity term that a counted pod carries.
type ownTerm struct {
	kind        ownKind
	topologyKey string
	weight      int32
	term        *term
}

func (o ownTerm) key() string { return string(o.kind) + "\x00" + o.topologyKey + "\x00" + o.term.key }

// tally counts per node.
type tally struct {
	term    *term
	perNode []int32
	total   int32
	used    uint64 // when it was last asked for
}

// ownedTally counts the pods that carry a term; weights are summed for preferred ones.
type ownedTally struct {
	ownTerm
	perNode []int32 // pods, or their weights
	total   int32   // pods
}

// maxMatching bounds how many sets of pods are counted; the one not asked for the longest
// is forgotten (and counted again when asked for).
const maxMatching = 2000

type terms struct {
	size     int
	clock    uint64
	matching map[string]*tally
	owned    map[string]*ownedTally
}

func newTerms() *terms {
	return &terms{matching: map[string]*tally{}, owned: map[string]*ownedTally{}}
}

func (t *terms) grow(size int) {
	t.size = size
	for _, m := range t.matching {
		m.perNode = append(m.perNode, make([]int32, size-len(m.perNode))...)
	}
	for _, o := range t.owned {
		o.perNode = append(o.perNode, make([]int32, size-len(o.perNode))...)
	}
}

// count adds or takes out a pod.
func (t *terms) count(node int, c *counted, sign int32, namespaceLabels func(string) map[string]string) {
	for _, m := range t.matching {
		if countable(c.pod) && m.term.matches(c.pod, namespaceLabels) {
			m.perNode[node] += sign
			m.total += sign
		}
	}
	for _, own := range c.own {
		key := own.key()
		o := t.owned[key]
		if o == nil {
			o = &ownedTally{ownTerm: own, perNode: make([]int32, t.size)}
			t.owned[key] = o
		}
		o.perNode[node] += sign * own.weight
		if o.total += sign; o.total <= 0 {
			delete(t.owned, key)
		}
	}
}

// countable: pods that are going away do not hold a place in a spread or affinity.
func countable(pod *corev1.Pod) bool { return pod.DeletionTimestamp == nil }

// of gives the counts of a set of pods, counting from scratch the first time.
func (t *terms) of(want *term, s *state) *tally {
	t.clock++
	if m := t.matching[want.key]; m != nil {
		m.used = t.clock
		return m
	}
	if len(t.matching) >= maxMatching {
		t.forgetOldest()
	}
	m := &tally{term: want, perNode: make([]int32, t.size), used: t.clock}
	for i, pods := range s.podsOnNode {
		for _, c := range pods {
			if countable(c.pod) && want.matches(c.pod, s.namespaces) {
				m.perNode[i]++
				m.total++
			}
		}
	}
	t.matching[want.key] = m
	return m
}

func (t *terms) forgetOldest() {
	var oldest *tally
	for _, m := range t.matching {
		if oldest == nil || m.used < oldest.used {
			oldest = m
		}
	}
	delete(t.matching, oldest.term.key)
}

// recount drops what was counted with a namespace's former labels.
func (t *terms) recount() {
	for key, m := range t.matching {
		dynamic := func(one *term) bool { return one.namespaceSelector != nil }
		if dynamic(m.term) || slices.ContainsFunc(m.term.and, dynamic) {
			delete(t.matching, key)
		}
	}
}

// affinityTerm reads a term of a pod's affinity; matchLabelKeys were merged into the
// selector by the API when the pod was created.
func affinityTerm(pod *corev1.Pod, a *corev1.PodAffinityTerm) *term {
	selector, err := metav1.LabelSelectorAsSelector(a.LabelSelector)
	if err != nil {
		selector = labels.Nothing()
	}
	t := &term{selector: selector, namespaces: slices.Sorted(slices.Values(a.Namespaces))}
	if a.NamespaceSelector != nil {
		if t.namespaceSelector, err = metav1.LabelSelectorAsSelector(a.NamespaceSelector); err != nil {
			t.namespaceSelector = labels.Nothing()
		}
	} else if len(t.namespaces) == 0 {
		t.namespaces = []string{pod.Namespace}
	}
	t.key = termKey(t)
	return t
}

func termKey(t *term) string {
	key := strings.Join(t.namespaces, ",") + "\x00" + t.selector.String()
	if t.namespaceSelector != nil {
		key += "\x00" + t.namespaceSelector.String()
	}
	return key
}

// ownTerms are the affinity terms that a pod carries.
func ownTerms(pod *corev1.Pod) []ownTerm {
	a := pod.Spec.Affinity
	if a == nil {
		return nil
	}
	var own []ownTerm
	add := func(kind ownKind, weight int32, t *corev1.PodAffinityTerm) {
		own = append(own, ownTerm{kind, t.TopologyKey, weight, affinityTerm(pod, t)})
	}
	if p := a.PodAffinity; p != nil {
		for i := range p.RequiredDuringSchedulingIgnoredDuringExecution {
			add(ownAffinity, 1, &p.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range p.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &p.PreferredDuringSchedulingIgnoredDuringExecution[i]
			add(ownPreferred, w.Weight, &w.PodAffinityTerm)
		}
	}
	if p := a.PodAntiAffinity; p != nil {
		for i := range p.RequiredDuringSchedulingIgnoredDuringExecution {
			add(ownAntiAffinity, 1, &p.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range p.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &p.PreferredDuringSchedulingIgnoredDuringExecution[i]
			add(ownPreferredAnti, w.Weight, &w.PodAffinityTerm)
		}
	}
	return own
}
