package scheduler

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// constraint is one topology spread constraint.
type constraint struct {
	key         string
	maxSkew     int32
	minDomains  int32
	self        int32 // 1 when the pod itself matches
	set         *term
	honorTaints bool
	allNodes    bool // node affinity is ignored
}

const (
	reasonSpread      = "node(s) didn't match pod topology spread constraints"
	reasonSpreadLabel = "node(s) didn't match pod topology spread constraints (missing required label)"
)

// constraints reads a pod's own constraints; a pod that has none is spread softly over
// hosts and zones from the pods that defaults selects.
func constraints(pod *corev1.Pod, defaults labels.Selector) (hard, soft []constraint) {
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		one := newConstraint(pod, c)
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			hard = append(hard, one)
		} else {
			soft = append(soft, one)
		}
	}
	if len(pod.Spec.TopologySpreadConstraints) > 0 || defaults == nil || defaults.Empty() {
		return hard, soft
	}
	set := &term{selector: defaults, namespaces: []string{pod.Namespace}}
	set.key = termKey(set)
	return nil, []constraint{
		{key: corev1.LabelHostname, maxSkew: 3, minDomains: 1, set: set},
		{key: corev1.LabelTopologyZone, maxSkew: 5, minDomains: 1, set: set},
	}
}

func newConstraint(pod *corev1.Pod, c *corev1.TopologySpreadConstraint) constraint {
	selector, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
	if err != nil {
		selector = labels.Nothing()
	}
	for _, key := range c.MatchLabelKeys {
		if value, ok := pod.Labels[key]; ok {
			if r, err := labels.NewRequirement(key, "=", []string{value}); err == nil {
				selector = selector.Add(*r)
			}
		}
	}
	set := &term{selector: selector, namespaces: []string{pod.Namespace}}
	set.key = termKey(set)
	one := constraint{key: c.TopologyKey, maxSkew: c.MaxSkew, minDomains: 1, set: set}
	if c.MinDomains != nil {
		one.minDomains = *c.MinDomains
	}
	if selector.Matches(labels.Set(pod.Labels)) {
		one.self = 1
	}
	one.allNodes = c.NodeAffinityPolicy != nil && *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyIgnore
	one.honorTaints = c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
	return one
}

// counts whether a node's pods count for the constraint of a pod.
func (c *constraint) counts(p *placement, i int) bool {
	v := p.class.verdicts[i]
	return (c.allNodes || v.affinity) && (!c.honorTaints || v.taints)
}

// labelled says whether a node has the keys of all constraints: one that lacks a key is
// in no domain at all.
func labelled(s *state, all []constraint) []bool {
	in := make([]bool, len(s.nodes))
	for i := range in {
		in[i] = s.nodes[i] != nil
	}
	for _, c := range all {
		for i, id := range s.domainsOf(c.key).of {
			in[i] = in[i] && id >= 0
		}
	}
	return in
}

func filterSpread(s *state, p *placement, in []bool, no func(int, string, bool)) {
	if len(p.hard) == 0 {
		return
	}
	usable := labelled(s, p.hard)
	type sums struct {
		domains *domains
		counts  []int32
		least   int32
	}
	all := make([]sums, len(p.hard))
	for n := range p.hard {
		c := &p.hard[n]
		d := s.domainsOf(c.key)
		counts, present := d.sum(s.terms.of(c.set, s).perNode, func(i int) bool { return usable[i] && c.counts(p, i) })
		all[n] = sums{d, counts, leastOf(counts, present, c.minDomains)}
	}
	for i, ok := range in {
		if !ok {
			continue
		}
		for n, sum := range all {
			id := sum.domains.of[i]
			if id < 0 {
				no(i, reasonSpreadLabel, true)
				break
			}
			if sum.counts[id]+p.hard[n].self-sum.least > p.hard[n].maxSkew {
				no(i, reasonSpread, false)
				break
			}
		}
	}
}

// leastOf is the count of the emptiest domain, 0 when there are fewer than minDomains.
func leastOf(counts []int32, present []bool, minDomains int32) int32 {
	least, n := int32(math.MaxInt32), int32(0)
	for id, ok := range present {
		if ok {
			n++
			least = min(least, counts[id])
		}
	}
	if n < minDomains || n == 0 {
		return 0
	}
	return least
}

func scoreSpread(s *state, p *placement, in []int, out []int64) {
	if len(p.soft) == 0 {
		return
	}
	usable := labelled(s, p.soft)
	if !slices.ContainsFunc(in, func(i int) bool { return usable[i] }) {
		return
	}
	raw := make([]float64, len(in))
	for n := range p.soft {
		c := &p.soft[n]
		d := s.domainsOf(c.key)
		counts, _ := d.sum(s.terms.of(c.set, s).perNode, func(i int) bool { return usable[i] && c.counts(p, i) })
		seen := map[int32]bool{}
		for _, i := range in {
			if usable[i] {
				seen[d.of[i]] = true
			}
		}
		weight := math.Log(float64(len(seen) + 2))
		for k, i := range in {
			if usable[i] {
				raw[k] += float64(counts[d.of[i]])*weight + float64(c.maxSkew-1)
			}
		}
	}
	least, most := int64(math.MaxInt64), int64(0)
	for k, i := range in {
		if usable[i] {
			v := int64(math.Round(raw[k]))
			least, most = min(least, v), max(most, v)
		}
	}
	for k, i := range in {
		switch {
		case !usable[i]:
		case most == 0:
			out[k] = 100
		default:
			out[k] = 100 * (most + least - int64(math.Round(raw[k]))) / most
		}
	}
}
