package scheduler

import "slices"

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

// memo is what came of the last pod of a class that no node took. It holds for the next
// one, until a node changes: thousands of like pods may wait for the same room.
type memo struct {
	seq      uint64 // of the log of changes
	why      *refusals
	priority int32
	hopeless string // what preemption came to, for pods of this priority; "" when not tried
}

// memoOf gives the memo of pods like this one; nil when more than its class decides, or
// what is remembered is out of date.
func (s *state) memoOf(p *placement) *memo {
	if !s.plain(p) || len(s.nominated.node) > 0 {
		return nil
	}
	if p.class.memo.seq != s.changes.seq {
		p.class.memo = memo{seq: s.changes.seq}
	}
	return &p.class.memo
}

// plain: whether a node takes the pod depends on that node and the pod's class alone.
func (s *state) plain(p *placement) bool {
	return p.volumes == nil && (p.shape == plainShape || len(p.shape.hard)+len(p.shape.affinity)+len(p.shape.anti) == 0) &&
		!slices.ContainsFunc(s.ownedBy(p.group), func(o *ownedTally) bool { return o.kind == ownAntiAffinity })
}

// refusalsFor gives the reasons of all nodes, as they were found for a like pod if nothing
// changed since.
func (s *state) refusalsFor(p *placement) *refusals {
	m := s.memoOf(p)
	if m == nil {
		return s.refusalsOf(p)
	}
	if m.why == nil {
		m.why = s.refusalsOf(p)
	}
	return m.why
}

// refusalsOf asks every node for its reasons.
func (s *state) refusalsOf(p *placement) *refusals {
	r := &refusals{counts: map[string]int{}}
	if p.volumes != nil && p.volumes.refused != "" {
		r.first = p.volumes.refused
		return r
	}
	if p.static.only != nil && len(p.static.only) == 0 {
		r.first = "pod affinity terms conflict"
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
	before := s.trying
	s.trying = true
	defer func() { s.trying = before }()
	for _, c := range there {
		s.count(i, c, 1)
	}
	reasons, stuck = s.why(p, i, s.ask(p))
	for _, c := range there {
		s.count(i, c, -1)
	}
	return reasons, stuck
}
