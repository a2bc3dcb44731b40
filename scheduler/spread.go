package scheduler

import (
	"math"
	"strconv"

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
	builtIn     bool // one that pods without their own get: nodes without the key are ranked too
}

const (
	reasonSpread      = "node(s) didn't match pod topology spread constraints"
	reasonSpreadLabel = "node(s) didn't match pod topology spread constraints (missing required label)"
)

// defaultConstraints spread the pods that a selector selects softly over hosts and zones.
func defaultConstraints(namespace string, selector labels.Selector) []constraint {
	set := &term{selector: selector, namespaces: []string{namespace}, living: true}
	set.key = termKey(set)
	return []constraint{
		{key: corev1.LabelHostname, maxSkew: 3, minDomains: 1, set: set, builtIn: true},
		{key: corev1.LabelTopologyZone, maxSkew: 5, minDomains: 1, set: set, builtIn: true},
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
	set := &term{selector: selector, namespaces: []string{pod.Namespace}, living: true}
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

// includes names the set of nodes whose pods count for a constraint of a pod.
func (c *constraint) includes(p *placement, all []constraint) string {
	key := strconv.AppendUint(make([]byte, 0, 64), uint64(p.static.id), 36)
	if c.allNodes {
		key = append(key, '*')
	}
	if c.honorTaints {
		key = append(key, '!')
	}
	if !c.builtIn {
		for i := range all {
			key = append(append(key, ' '), all[i].key...)
		}
	}
	return string(key)
}

// included says of each node whether its pods count for a constraint of a pod.
func (c *constraint) included(s *state, p *placement, all []constraint) []bool {
	in := make([]bool, len(s.nodes))
	for i, n := range s.nodes {
		v := &p.static.verdicts[i]
		in[i] = n != nil && (c.allNodes || v.affinity) && (!c.honorTaints || v.taints)
	}
	if c.builtIn {
		return in
	}
	for n := range all { // a node that lacks a key is in no domain at all
		for i, id := range s.domainsOf(all[n].key).of {
			in[i] = in[i] && id >= 0
		}
	}
	return in
}

func (c *constraint) sums(s *state, p *placement, all []constraint) *sums {
	return s.sumsOf(s.terms.of(c.set, s), c.key, c.includes(p, all), func() []bool { return c.included(s, p, all) })
}

// hardSpread is a required constraint ready to be asked about nodes.
type hardSpread struct {
	*sums
	most int32 // a domain with more pods than this is too full
}

func (s *state) hardSpreads(p *placement) []hardSpread {
	all := make([]hardSpread, len(p.shape.hard))
	for n := range p.shape.hard {
		c := &p.shape.hard[n]
		sums := c.sums(s, p, p.shape.hard)
		all[n] = hardSpread{sums, c.maxSkew - c.self + sums.least(c.minDomains)}
	}
	return all
}

// spreadRefuses gives the reason why constraints refuse a node, "" when they do not.
func spreadRefuses(all []hardSpread, i int) (reason string, stuck bool) {
	for n := range all {
		switch have, inDomain := all[n].at(i); {
		case !inDomain:
			return reasonSpreadLabel, true
		case have > all[n].most:
			return reasonSpread, false
		}
	}
	return "", false
}

// least is the count of the emptiest domain, 0 when there are fewer than minDomains.
func (v *sums) least(minDomains int32) int32 {
	if v.present == 0 || v.present < int(minDomains) {
		return 0
	}
	least := int32(math.MaxInt32)
	for id, nodes := range v.nodes {
		if nodes > 0 {
			least = min(least, v.counts[id])
		}
	}
	return least
}

// scoreSpread prefers nodes in domains with fewer of the pods to spread from; it adds to
// their scores.
func scoreSpread(s *state, p *placement, in []int32, total []int64) {
	usable := s.usable(p, in)
	raw := s.scratch.floats(len(in))
	for n := range p.soft {
		c := &p.soft[n]
		v := c.sums(s, p, p.soft)
		weight := math.Log(float64(s.domainCount(c, v, in, usable) + 2))
		skew := float64(c.maxSkew - 1)
		of := v.domains.of
		if c.key == corev1.LabelHostname {
			perNode := s.terms.of(c.set, s).perNode
			for k, i := range in {
				if of[i] >= 0 {
					raw[k] += float64(perNode[i])*weight + skew
				}
			}
			continue
		}
		parts := s.scratch.parts(len(v.counts))
		for id, count := range v.counts {
			parts[id] = float64(count)*weight + skew
		}
		for k, i := range in {
			if id := of[i]; id >= 0 {
				raw[k] += parts[id]
			}
		}
	}
	least, most := int64(math.MaxInt64), int64(0)
	for k, r := range raw {
		if usable == nil || usable[k] {
			v := rounded(r)
			least, most = min(least, v), max(most, v)
		}
	}
	divisor := float64(most)
	for k, r := range raw {
		switch {
		case usable != nil && !usable[k]:
		case most == 0:
			total[k] += weightSpread * 100
		default: // exact: the numbers are small, and the quotient is no closer to an integer than 1/most
			total[k] += weightSpread * int64(float64(100*(most+least-rounded(r)))/divisor)
		}
	}
}

// rounded is math.Round for numbers that are not below 0.
func rounded(v float64) int64 { return int64(v + 0.5) }

// usable says which nodes have all keys that the pod's own constraints name; nil: all.
func (s *state) usable(p *placement, in []int32) []bool {
	if p.soft[0].builtIn {
		return nil
	}
	usable := s.scratch.bools(len(in))
	all := true
	for k := range usable {
		usable[k] = true
	}
	for n := range p.soft {
		of := s.domainsOf(p.soft[n].key).of
		for k, i := range in {
			if of[i] < 0 {
				usable[k], all = false, false
			}
		}
	}
	if all {
		return nil
	}
	return usable
}

// domainCount is the number of domains among the nodes; those without the key are one.
func (s *state) domainCount(c *constraint, v *sums, in []int32, usable []bool) int {
	n := 0
	if c.key == corev1.LabelHostname {
		if usable == nil {
			return len(in)
		}
		for _, ok := range usable {
			if ok {
				n++
			}
		}
		return n
	}
	most := v.present // the nodes that take the pod are all included
	if v.domains.without > 0 {
		most++
	}
	seen := s.scratch.seen(len(v.counts) + 1)
	of := v.domains.of
	for k, i := range in {
		if id := of[i] + 1; !seen[id] && (usable == nil || usable[k]) {
			seen[id] = true
			if n++; n == most {
				break
			}
		}
	}
	return n
}

// scratch is memory that one decision uses and the next uses again.
type scratch struct {
	flags, marks []bool
	raw, part    []float64
	total, one   []int64
	left         []int32
}

func (s *scratch) bools(n int) []bool     { return zeroed(&s.flags, n) }
func (s *scratch) seen(n int) []bool      { return zeroed(&s.marks, n) }
func (s *scratch) floats(n int) []float64 { return zeroed(&s.raw, n) }
func (s *scratch) parts(n int) []float64  { return zeroed(&s.part, n) }
func (s *scratch) totals(n int) []int64   { return zeroed(&s.total, n) }
func (s *scratch) singles(n int) []int64  { return zeroed(&s.one, n) }

func zeroed[T any](kept *[]T, n int) []T {
	if cap(*kept) < n {
		*kept = make([]T, n+n/4)
	}
	*kept = (*kept)[:n]
	clear(*kept)
	return *kept
}
