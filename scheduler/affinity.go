package scheduler

import "strings"

const (
	reasonAffinity     = "node(s) didn't match pod affinity rules"
	reasonAntiAffinity = "node(s) didn't match pod anti-affinity rules"
	reasonExistingAnti = "node(s) didn't satisfy existing pods anti-affinity rules"
)

// perDomain sums a count per node to the domains of a topology key.
type perDomain struct {
	domains *domains
	counts  []int32
}

func (s *state) perDomain(key string, perNode []int32) perDomain {
	d := s.domainsOf(key)
	counts, _ := d.sum(perNode, nil)
	return perDomain{d, counts}
}

// at is the count in a node's domain; false when the node is in none.
func (d perDomain) at(i int) (int32, bool) {
	id := d.domains.of[i]
	if id < 0 {
		return 0, false
	}
	return d.counts[id], true
}

func filterAffinity(s *state, p *placement, in []bool, no func(int, string, bool)) {
	refuse := func(i int, reason string, stuck bool) {
		if in[i] {
			in[i] = false
			no(i, reason, stuck)
		}
	}
	filterOwnAffinity(s, p, in, refuse)
	for _, t := range p.anti {
		counts := s.perDomain(t.topologyKey, s.terms.of(t.term, s).perNode)
		for i, ok := range in {
			if n, inDomain := counts.at(i); ok && inDomain && n > 0 {
				refuse(i, reasonAntiAffinity, false)
			}
		}
	}
	for _, o := range s.terms.owned {
		if o.kind != ownAntiAffinity || !o.term.matches(p.pod, s.namespaces) {
			continue
		}
		counts := s.perDomain(o.topologyKey, o.perNode)
		for i, ok := range in {
			if n, inDomain := counts.at(i); ok && inDomain && n > 0 {
				refuse(i, reasonExistingAnti, false)
			}
		}
	}
}

// filterOwnAffinity keeps the nodes in whose domains there are pods that match all of the
// pod's affinity terms. The first pod of a group that is to stay together matches its own
// terms and may go anywhere that has the labels.
func filterOwnAffinity(s *state, p *placement, in []bool, refuse func(int, string, bool)) {
	if len(p.affinity) == 0 {
		return
	}
	tally := s.terms.of(allOf(p.affinity), s)
	first := tally.total == 0
	for _, t := range p.affinity {
		first = first && t.term.matches(p.pod, s.namespaces)
	}
	for _, t := range p.affinity {
		counts := s.perDomain(t.topologyKey, tally.perNode)
		for i, ok := range in {
			if !ok {
				continue
			}
			if n, inDomain := counts.at(i); !inDomain || n == 0 && !first {
				refuse(i, reasonAffinity, true)
			}
		}
	}
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

// scoreAffinity adds up the weights of preferences: the pod's own, those of the pods that
// run (which attract or repel it in turn), and 1 for each required affinity to it.
func scoreAffinity(s *state, p *placement, in []int, out []int64) {
	any := false
	add := func(d perDomain, weight int64) {
		any = true
		for k, i := range in {
			if n, inDomain := d.at(i); inDomain {
				out[k] += weight * int64(n)
			}
		}
	}
	for _, t := range p.prefer {
		weight := int64(t.weight)
		if t.kind == ownPreferredAnti {
			weight = -weight
		}
		add(s.perDomain(t.topologyKey, s.terms.of(t.term, s).perNode), weight)
	}
	for _, o := range s.terms.owned {
		if o.kind == ownAntiAffinity || !o.term.matches(p.pod, s.namespaces) {
			continue
		}
		sign := int64(1)
		if o.kind == ownPreferredAnti {
			sign = -1
		}
		add(s.perDomain(o.topologyKey, o.perNode), sign)
	}
	if !any {
		return
	}
	least, most := out[0], out[0]
	for _, v := range out {
		least, most = min(least, v), max(most, v)
	}
	for k := range out {
		if most > least {
			out[k] = 100 * (out[k] - least) / (most - least)
		} else {
			out[k] = 0
		}
	}
}
