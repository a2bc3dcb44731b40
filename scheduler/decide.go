package scheduler

import (
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
)

// placement is a pod that looks for a node, with everything prepared that does not
// depend on the node.
type placement struct {
	pod      *corev1.Pod
	priority int32
	group    *group
	static   *static
	class    *class
	shape    *shape
	soft     []constraint // its own, or the built-in ones
	request  request
	ports    []hostPort
	volumes  *podVolumes // nil: none that matter
}

// decision is the outcome for one pod.
type decision struct {
	node  string    // "" when no node will do
	why   *refusals // when node is ""
	total int
	score int64
}

// place prepares a pod. defaults are the built-in constraints, for pods without their own.
func (s *state) place(pod *corev1.Pod, defaults []constraint) *placement {
	p := &placement{
		pod: pod, priority: corehelpers.PodPriority(pod), group: s.groupOf(pod), static: s.staticOf(pod), shape: s.shapeOf(pod),
		request: s.resources.podRequest(pod),
	}
	p.class = s.classOf(pod, p.static, p.request)
	p.ports = p.class.ports
	p.soft = p.shape.soft
	if !p.shape.spreads {
		p.soft = defaults
	}
	p.volumes = s.volumes.of(pod)
	return p
}

// decide chooses a node: pure but for the choice among equals, which rnd makes.
func (s *state) decide(p *placement, rnd *rand.Rand) decision {
	d := decision{total: s.nodeCount}
	if s.nodeCount == 0 || p.volumes != nil && p.volumes.refused != "" {
		d.why = s.refusalsOf(p)
		return d
	}
	if i, ok := s.index[p.pod.Status.NominatedNodeName]; ok && s.takes(p, i) {
		d.node = s.nodes[i].Name // others made room for it there
		return d
	}
	plain := p.volumes == nil && len(p.soft) == 0 && p.static.avoided+p.static.preferring == 0 && p.shape == plainShape &&
		len(s.ownedBy(p.group)) == 0 && !s.nominated.matter(p)
	best := -1
	if plain {
		best = p.class.best(rnd)
	} else if left := s.feasible(p); len(left) > 0 {
		best = s.best(p, left, rnd, &d)
	}
	if best < 0 {
		d.why = s.refusalsOf(p)
		return d
	}
	if plain {
		d.score = int64(p.class.base[best]) + plainScore
	}
	d.node = s.nodes[best].Name
	return d
}

// plainScore is what every node gets of the scorers that have nothing to tell nodes apart by.
const plainScore = 100 * weightTaints

// feasible gives the nodes that take the pod.
func (s *state) feasible(p *placement) []int32 {
	left := s.scratch.left[:0]
	hard, near := s.hardSpreads(p), s.affinitiesOf(p)
	for i, base := range p.class.base {
		if base == refused {
			continue
		}
		if len(hard) > 0 {
			if reason, _ := spreadRefuses(hard, i); reason != "" {
				continue
			}
		}
		if !near.none() {
			if reason, _ := near.refuses(i); reason != "" {
				continue
			}
		}
		if p.volumes != nil {
			if reasons, _ := s.volumes.refuse(s, p, i); len(reasons) > 0 {
				continue
			}
		}
		left = append(left, int32(i))
	}
	s.scratch.left = left
	if s.nominated.matter(p) {
		left = slices.DeleteFunc(left, func(i int32) bool { return !s.takesBesideNominated(p, int(i)) })
	}
	return left
}

// best ranks nodes and chooses one of the highest, each with the same chance.
func (s *state) best(p *placement, left []int32, rnd *rand.Rand, d *decision) int {
	if len(left) == 1 {
		return int(left[0])
	}
	total := s.scratch.totals(len(left))
	for k, i := range left {
		total[k] = int64(p.class.base[i])
	}
	s.rank(p, left, total)
	best, equals := 0, int32(1)
	for k := 1; k < len(total); k++ {
		switch {
		case total[k] > total[best]:
			best, equals = k, 1
		case total[k] == total[best]:
			equals++
			if rnd.Int32N(equals) == 0 {
				best = k
			}
		}
	}
	d.score = total[best]
	return int(left[best])
}

// rank adds what depends on the other nodes to the nodes' own scores.
func (s *state) rank(p *placement, left []int32, total []int64) {
	add := func(weight int64, score func(one []int64)) {
		one := s.scratch.singles(len(left))
		score(one)
		for k, v := range one {
			total[k] += weight * v
		}
	}
	if p.static.avoided > 0 {
		add(weightTaints, func(one []int64) { scoreTaints(p, left, one) })
	} else {
		for k := range total {
			total[k] += plainScore
		}
	}
	if p.static.preferring > 0 {
		add(weightNode, func(one []int64) { scoreNodeAffinity(p, left, one) })
	}
	if len(p.soft) > 0 {
		add(weightSpread, func(one []int64) { scoreSpread(s, p, left, one) })
	}
	if all := s.preferences(p); len(all) > 0 {
		add(weightAffinity, func(one []int64) { scoreAffinity(all, left, one) })
	}
}
