package scheduler

import (
	"math"
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
		d.why = s.refusalsFor(p)
		return d
	}
	if i, ok := s.index[s.nominated.nodeFor(p.pod)]; ok && s.takes(p, i) {
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
		d.why = s.refusalsFor(p)
		return d
	}
	if plain {
		d.score = int64(p.class.base[best])
	}
	d.node = s.nodes[best].Name
	return d
}

// feasible gives the nodes that take the pod: filter after filter over those that are left,
// each a walk over integers.
func (s *state) feasible(p *placement) []int32 {
	left := s.scratch.left[:0]
	for n, b := range p.class.blocks {
		if b.most == refused {
			continue
		}
		from := n << blockBits
		for i, base := range p.class.base[from:min(len(p.class.base), from+blockSize)] {
			if base != refused {
				left = append(left, int32(from+i))
			}
		}
	}
	s.scratch.left = left
	hard, near := s.hardSpreads(p), s.affinitiesOf(p)
	for n := range hard {
		left = hard[n].keep(left, hard[n].most)
	}
	for _, v := range near.near {
		if near.first {
			left = v.keep(left, math.MaxInt32)
		} else {
			left = v.keepAbove(left)
		}
	}
	for _, list := range [2][]*sums{near.anti, near.existing} {
		for _, v := range list {
			left = v.drop(left)
		}
	}
	if p.volumes != nil {
		left = slices.DeleteFunc(left, func(i int32) bool {
			reasons, _ := s.volumes.refuse(s, p, int(i))
			return len(reasons) > 0
		})
	}
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
	k := highest(total, rnd)
	d.score = total[k]
	return int(left[k])
}

// highest chooses among the highest scores, each with the same chance.
func highest(total []int64, rnd *rand.Rand) int {
	most, equals := total[0], int32(0)
	for _, v := range total {
		if v > most {
			most, equals = v, 0
		}
		if v == most {
			equals++
		}
	}
	nth := rnd.Int32N(equals)
	for k, v := range total {
		if v != most {
			continue
		}
		if nth == 0 {
			return k
		}
		nth--
	}
	return 0 // cannot be: nth is below the number of equals
}

// rank adds what depends on the other nodes to the nodes' own scores; what every node would
// get alike is left out.
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
	}
	if p.static.preferring > 0 {
		add(weightNode, func(one []int64) { scoreNodeAffinity(p, left, one) })
	}
	if len(p.soft) > 0 {
		scoreSpread(s, p, left, total)
	}
	if all := s.preferences(p); len(all) > 0 {
		add(weightAffinity, func(one []int64) { scoreAffinity(all, left, one) })
	}
}
