package scheduler

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// A term names a set of pods (some labels, in some namespaces). Two sorts are counted,
// per node: matching terms, by how many pods match (a constraint or affinity of the pod to
// place looks at them), and owned terms, by how many pods carry the term themselves (their
// anti-affinity refuses the pod to place when it matches). Sums over topology domains are
// kept beside the counts (topology.go), right at each change.

// term is a set of pods.
type term struct {
	key               string // canonical, identifies the set
	selector          labels.Selector
	namespaces        []string // these and
	namespaceSelector labels.Selector
	living            bool    // without pods that are being deleted
	and               []*term // instead of selector and namespaces: pods that match each of these
}

func (t *term) matches(g *group, namespaceLabels func(string) map[string]string) bool {
	if t.and != nil {
		return !slices.ContainsFunc(t.and, func(one *term) bool { return !one.matches(g, namespaceLabels) })
	}
	inside := slices.Contains(t.namespaces, g.namespace) ||
		t.namespaceSelector != nil && t.namespaceSelector.Matches(labels.Set(namespaceLabels(g.namespace)))
	return inside && t.selector.Matches(labels.Set(g.labels))
}

// dynamic: which pods are in the set depends on labels of namespaces.
func (t *term) dynamic() bool {
	return t.namespaceSelector != nil || slices.ContainsFunc(t.and, (*term).dynamic)
}

// ownKind is what a pod's own term does to others.
type ownKind string

const (
	ownAntiAffinity  ownKind = "anti"       // required: refuses matching pods
	ownAffinity      ownKind = "affinity"   // required: attracts matching pods (score)
	ownPreferred     ownKind = "preferred"  // attracts by weight
	ownPreferredAnti ownKind = "preferanti" // repels by weight
)

// ownTerm is an affinity term that a pod carries.
type ownTerm struct {
	kind        ownKind
	topologyKey string
	weight      int32
	term        *term
	key         string
}

// tally counts per node.
type tally struct {
	term    *term
	perNode []int32
	sums    []*sums
	used    uint64 // when it was last asked for
}

// ownedTally counts the pods that carry a term; weights are summed for preferred ones.
type ownedTally struct {
	ownTerm
	tally
	pods int
}

// maxMatching bounds how many sets of pods are counted; the one not asked for the longest
// is forgotten (and counted again when asked for).
const maxMatching = 2000

type terms struct {
	size         int
	clock        uint64
	matching     map[string]*tally
	owned        map[string]*ownedTally
	ownedVersion uint64 // grows when a term comes or goes
	dynamic      bool   // a term with a namespace selector was seen
}

func newTerms() *terms {
	return &terms{matching: map[string]*tally{}, owned: map[string]*ownedTally{}, ownedVersion: 1}
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
func (t *terms) count(node int, c *counted, sign int32) {
	for _, m := range c.group.matching {
		if !c.dying || !m.term.living {
			m.add(node, sign)
		}
	}
	for i := range c.own {
		own := &c.own[i]
		o := t.owned[own.key]
		if o == nil {
			o = &ownedTally{ownTerm: *own, tally: tally{term: own.term, perNode: make([]int32, t.size)}}
			t.owned[own.key] = o
			t.ownedVersion++
			t.dynamic = t.dynamic || own.term.dynamic()
		}
		o.add(node, sign*own.weight)
		if o.pods += int(sign); o.pods <= 0 {
			delete(t.owned, own.key)
			t.ownedVersion++
		}
	}
}

func (m *tally) add(node int, n int32) {
	m.perNode[node] += n
	for _, s := range m.sums {
		s.add(node, n)
	}
}

// of gives the counts of a set of pods, counting from scratch the first time.
func (t *terms) of(want *term, s *state) *tally {
	t.clock++
	if m := t.matching[want.key]; m != nil {
		m.used = t.clock
		return m
	}
	if len(t.matching) >= maxMatching {
		oldest := slices.MinFunc(slices.Collect(maps.Values(t.matching)), func(a, b *tally) int { return int(int64(a.used) - int64(b.used)) })
		s.forgetTally(oldest)
	}
	t.dynamic = t.dynamic || want.dynamic()
	m := &tally{term: want, perNode: make([]int32, t.size), used: t.clock}
	members := map[*group]bool{}
	for _, g := range s.groups.byKey {
		if want.matches(g, s.namespaces) {
			g.matching = append(g.matching, m)
			members[g] = true
		}
	}
	if len(members) > 0 {
		for i, pods := range s.podsOnNode {
			for _, c := range pods {
				if members[c.group] && !(c.dying && want.living) {
					m.perNode[i]++
				}
			}
		}
	}
	t.matching[want.key] = m
	return m
}

func (s *state) forgetTally(m *tally) {
	delete(s.terms.matching, m.term.key)
	for _, g := range s.groups.byKey {
		if i := slices.Index(g.matching, m); i >= 0 {
			g.matching = slices.Delete(g.matching, i, i+1)
		}
	}
}

// namespacesChanged drops what was counted with a namespace's former labels.
func (s *state) namespacesChanged() {
	if !s.terms.dynamic {
		return
	}
	for _, m := range s.terms.matching {
		if m.term.dynamic() {
			s.forgetTally(m)
		}
	}
	s.terms.ownedVersion++
	clear(s.shapes)
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
	if t.selector.Empty() {
		key += "\x02" // everything; nothing has an empty text as well
	}
	if t.namespaceSelector != nil {
		key += "\x00" + t.namespaceSelector.String()
		if t.namespaceSelector.Empty() {
			key += "\x02"
		}
	}
	if t.living {
		key += "\x03"
	}
	return key
}

// allOf is the set of pods that match every one of the terms.
func allOf(own []ownTerm) *term {
	if len(own) == 1 {
		return own[0].term
	}
	all := &term{}
	keys := make([]string, len(own))
	for i, o := range own {
		all.and = append(all.and, o.term)
		keys[i] = o.term.key
	}
	all.key = strings.Join(keys, "\x01")
	return all
}
