package scheduler

import (
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// placement is a pod that looks for a node, with everything precomputed that does not
// depend on the node.
type placement struct {
	pod      *corev1.Pod
	request  request
	ports    []hostPort
	class    *class
	hard     []constraint
	soft     []constraint
	affinity []ownTerm // required
	anti     []ownTerm // required
	prefer   []ownTerm // preferred, both signs
}

// decision is the outcome for one pod.
type decision struct {
	node   string         // "" when no node will do
	counts map[string]int // nodes by reason why not
	// stuck counts the nodes on which evicting pods cannot help.
	stuck int
	total int
	score int64
}

// filter refuses nodes; refused calls no for each of them that is still in.
type filter func(s *state, p *placement, in []bool, no func(i int, reason string, stuck bool))

// filters run in this order; a node is charged to the first that refuses it.
var filters = []filter{filterStatic, filterPorts, filterResources, filterSpread, filterAffinity}

// scorers give each remaining node 0 to 100, weighted.
var scorers = []struct {
	name   string
	weight int64
	score  func(s *state, p *placement, in []int, out []int64)
}{
	{"TaintToleration", 3, scoreTaints},
	{"NodeAffinity", 2, scoreNodeAffinity},
	{"PodTopologySpread", 2, scoreSpread},
	{"InterPodAffinity", 2, scoreAffinity},
	{"NodeResourcesFit", 1, scoreLeastAllocated},
	{"NodeResourcesBalancedAllocation", 1, scoreBalanced},
	{"ImageLocality", 1, scoreImages},
}

// place prepares a pod. defaults selects the pods that the built-in spreading spreads
// this one from, nil for none.
func (s *state) place(pod *corev1.Pod, defaults labels.Selector) *placement {
	p := &placement{pod: pod, request: podRequest(pod), ports: hostPorts(pod), class: s.static.of(pod, s)}
	p.hard, p.soft = constraints(pod, defaults)
	for _, t := range ownTerms(pod) {
		switch t.kind {
		case ownAffinity:
			p.affinity = append(p.affinity, t)
		case ownAntiAffinity:
			p.anti = append(p.anti, t)
		default:
			p.prefer = append(p.prefer, t)
		}
	}
	return p
}

// decide chooses a node: pure but for the choice among equals, which rnd makes.
func (s *state) decide(p *placement, rnd *rand.Rand) decision {
	d := decision{counts: map[string]int{}, total: s.nodeCount}
	in := make([]bool, len(s.nodes))
	for i, n := range s.nodes {
		in[i] = n != nil
	}
	for _, f := range filters {
		refused := map[int]bool{} // node to whether it is stuck; one may be refused for several reasons
		f(s, p, in, func(i int, reason string, stuck bool) {
			d.counts[reason]++
			refused[i] = refused[i] || stuck
		})
		for i, stuck := range refused {
			in[i] = false
			if stuck {
				d.stuck++
			}
		}
	}
	var left []int
	for i, ok := range in {
		if ok {
			left = append(left, i)
		}
	}
	if len(left) == 0 {
		return d
	}
	best := s.best(p, left, rnd, &d)
	d.node = s.nodes[best].Name
	return d
}

func (s *state) best(p *placement, left []int, rnd *rand.Rand, d *decision) int {
	if len(left) == 1 {
		return left[0]
	}
	total, one := make([]int64, len(left)), make([]int64, len(left))
	for _, scorer := range scorers {
		clear(one)
		scorer.score(s, p, left, one)
		for i, v := range one {
			total[i] += v * scorer.weight
		}
	}
	best, equals := 0, 1
	for i := 1; i < len(left); i++ {
		switch {
		case total[i] > total[best]:
			best, equals = i, 1
		case total[i] == total[best]:
			equals++
			if rnd.IntN(equals) == 0 { // each of the equals with the same chance
				best = i
			}
		}
	}
	d.score = total[best]
	return left[best]
}

func filterStatic(s *state, p *placement, in []bool, no func(int, string, bool)) {
	for i, ok := range in {
		if ok && p.class.verdicts[i].refused != "" {
			no(i, p.class.verdicts[i].refused, true)
		}
	}
}

func filterPorts(s *state, p *placement, in []bool, no func(int, string, bool)) {
	if len(p.ports) == 0 {
		return
	}
	for i, ok := range in {
		if ok && conflicts(s.ports[i], p.ports) {
			no(i, "node(s) didn't have free ports for the requested pod ports", false)
		}
	}
}

func filterResources(s *state, p *placement, in []bool, no func(int, string, bool)) {
	for name, want := range p.request.amounts {
		s.resources.column(name)
		have, used := s.resources.have[name], s.resources.used[name]
		reason := "Insufficient " + string(name)
		if name == corev1.ResourcePods {
			reason = "Too many pods"
		}
		for i, ok := range in {
			if ok && want > have[i]-used[i] {
				no(i, reason, want > have[i])
			}
		}
	}
}
