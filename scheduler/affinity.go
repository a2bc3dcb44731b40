package scheduler

const (
	reasonAffinity     = "node(s) didn't match pod affinity rules"
	reasonAntiAffinity = "node(s) didn't match pod anti-affinity rules"
	reasonExistingAnti = "node(s) didn't satisfy existing pods anti-affinity rules"
)

// affinities are a pod's required affinities and those of others against it, ready to be
// asked about nodes.
type affinities struct {
	near     []*sums // of the pods that match all its terms
	first    bool    // there are no such pods, and it would be one: it may go anywhere
	anti     []*sums
	existing []*sums
}

func (s *state) affinitiesOf(p *placement) affinities {
	var a affinities
	if len(p.shape.affinity) > 0 {
		tally := s.terms.of(p.shape.all, s)
		a.first = p.shape.selfish
		for _, t := range p.shape.affinity {
			sums := s.sumsOf(tally, t.topologyKey, "", nil)
			a.near = append(a.near, sums)
			a.first = a.first && !sums.any()
		}
	}
	for _, t := range p.shape.anti {
		a.anti = append(a.anti, s.sumsOf(s.terms.of(t.term, s), t.topologyKey, "", nil))
	}
	for _, o := range s.ownedBy(p.group) {
		if o.kind == ownAntiAffinity {
			a.existing = append(a.existing, s.sumsOf(&o.tally, o.topologyKey, "", nil))
		}
	}
	return a
}

func (v *sums) any() bool {
	for _, n := range v.counts {
		if n > 0 {
			return true
		}
	}
	return false
}

// refuses gives the reason why affinities refuse a node, "" when they do not.
func (a *affinities) refuses(i int) (reason string, stuck bool) {
	for _, v := range a.near {
		if n, inDomain := v.at(i); !inDomain || n <= 0 && !a.first {
			return reasonAffinity, true
		}
	}
	for _, v := range a.anti {
		if n, _ := v.at(i); n > 0 {
			return reasonAntiAffinity, false
		}
	}
	for _, v := range a.existing {
		if n, _ := v.at(i); n > 0 {
			return reasonExistingAnti, false
		}
	}
	return "", false
}

// preference is a set of pods that attracts (or repels, below 0) by weight.
type preference struct {
	*sums
	weight int64
}

// preferences are the pod's own, those of the pods that run (which attract or repel it in
// turn), and 1 for each required affinity to it.
func (s *state) preferences(p *placement) []preference {
	var all []preference
	for _, t := range p.shape.prefer {
		weight := int64(t.weight)
		if t.kind == ownPreferredAnti {
			weight = -weight
		}
		all = append(all, preference{s.sumsOf(s.terms.of(t.term, s), t.topologyKey, "", nil), weight})
	}
	for _, o := range s.ownedBy(p.group) {
		switch o.kind {
		case ownPreferredAnti:
			all = append(all, preference{s.sumsOf(&o.tally, o.topologyKey, "", nil), -1})
		case ownAffinity, ownPreferred:
			all = append(all, preference{s.sumsOf(&o.tally, o.topologyKey, "", nil), 1})
		case ownAntiAffinity: // a filter
		}
	}
	return all
}

func scoreAffinity(all []preference, in []int32, out []int64) {
	for _, one := range all {
		of, counts, weight := one.domains.of, one.counts, one.weight
		for k, i := range in {
			if id := of[i]; id >= 0 {
				out[k] += weight * int64(counts[id])
			}
		}
	}
	least, most := out[0], out[0]
	for _, v := range out {
		least, most = min(least, v), max(most, v)
	}
	if most == least {
		clear(out)
		return
	}
	span := float64(most - least)
	for k, v := range out {
		out[k] = int64(100 * (float64(v-least) / span)) // in this order, as others round it
	}
}
