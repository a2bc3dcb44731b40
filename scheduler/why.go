package scheduler

const reasonPorts = "node(s) didn't have free ports for the requested pod ports"

// refusals tell why no node takes a pod.
type refusals struct {
	counts map[string]int // nodes by reason
	open   []int32        // nodes that might take the pod if others were evicted
	first  string         // why no node was looked at
}

// asked is what a pod's constraints over many nodes come to at the moment.
type asked struct {
	hard []hardSpread
	near affinities
}

func (s *state) ask(p *placement) asked { return asked{s.hardSpreads(p), s.affinitiesOf(p)} }

// refusalsOf asks every node for its reasons.
func (s *state) refusalsOf(p *placement) *refusals {
	r := &refusals{counts: map[string]int{}}
	if p.volumes != nil && p.volumes.refused != "" {
		r.first = p.volumes.refused
		return r
	}
	a := s.ask(p)
	for i, n := range s.nodes {
		if n == nil {
			continue
		}
		reasons, stuck := s.why(p, i, a)
		if len(reasons) == 0 {
			reasons, stuck = s.whyBesideNominated(p, i)
		}
		for _, reason := range reasons {
			r.counts[reason]++
		}
		if !stuck {
			r.open = append(r.open, int32(i))
		}
	}
	return r
}

// why gives the reasons of the first filter that refuses a node, none when all take it;
// stuck when evicting pods from the node cannot help.
func (s *state) why(p *placement, i int, a asked) (reasons []string, stuck bool) {
	if refused := p.static.verdicts[i].refused; refused != 0 {
		return []string{refusalReasons[refused]}, true
	}
	if conflicts(s.ports[i], p.ports) {
		return []string{reasonPorts}, false
	}
	if reasons, stuck = s.resources.lacking(i, p.request); len(reasons) > 0 {
		return reasons, stuck
	}
	if p.volumes != nil {
		if reasons, stuck = s.volumes.refuse(s, p, i); len(reasons) > 0 {
			return reasons, stuck
		}
	}
	reason, stuck := spreadRefuses(a.hard, i)
	if reason == "" {
		reason, stuck = a.near.refuses(i)
	}
	if reason == "" {
		return nil, false
	}
	return []string{reason}, stuck
}

// takes says whether a node takes the pod, with and without the pods nominated to it.
func (s *state) takes(p *placement, i int) bool {
	reasons, _ := s.why(p, i, s.ask(p))
	return len(reasons) == 0 && s.takesBesideNominated(p, i)
}

func (s *state) takesBesideNominated(p *placement, i int) bool {
	reasons, _ := s.whyBesideNominated(p, i)
	return len(reasons) == 0
}

// whyBesideNominated looks at a node as it will be when the pods that are nominated to it
// and at least as important are there.
func (s *state) whyBesideNominated(p *placement, i int) (reasons []string, stuck bool) {
	there := s.nominated.before(p, s.nodes[i].Name)
	if len(there) == 0 {
		return nil, false
	}
	for _, c := range there {
		s.count(i, c, 1)
	}
	reasons, stuck = s.why(p, i, s.ask(p))
	for _, c := range there {
		s.count(i, c, -1)
	}
	return reasons, stuck
}
