package scheduler

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// scores ranks the nodes that take the pod. together are the labels of the pods that the
// built-in constraints spread from, nil for none.
func (m *model) scores(p *corev1.Pod, nodes []*corev1.Node, together map[string]string) []int64 {
	total := make([]int64, len(nodes))
	add := func(weight int64, one []int64) {
		for i := range total {
			total[i] += weight * one[i]
		}
	}
	each := func(score func(n *corev1.Node) int64) []int64 {
		one := make([]int64, len(nodes))
		for i, n := range nodes {
			one[i] = score(n)
		}
		return one
	}
	avoid := each(func(n *corev1.Node) (count int64) {
		for _, t := range n.Spec.Taints {
			if t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(p, t) {
				count++
			}
		}
		return count
	})
	add(3, scaled(avoid, true))
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil && len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
		add(2, scaled(each(func(n *corev1.Node) (sum int64) {
			for _, t := range a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
				if nodeTermMatches(t.Preference, n) {
					sum += int64(t.Weight)
				}
			}
			return sum
		}), false))
	}
	add(1, each(func(n *corev1.Node) int64 { return m.leastAllocated(p, n) }))
	if asks(p, corev1.ResourceCPU)+asks(p, corev1.ResourceMemory) > 0 {
		add(1, each(func(n *corev1.Node) int64 { return m.balanced(p, n) }))
	}
	add(1, each(func(n *corev1.Node) int64 { return m.images(p, n) }))
	add(2, m.spreadScores(p, nodes, together))
	add(2, m.affinityScores(p, nodes))
	return total
}

func scaled(one []int64, reverse bool) []int64 {
	most := slices.Max(one)
	for i, v := range one {
		switch {
		case most == 0 && reverse:
			one[i] = 100
		case most == 0:
			one[i] = 0
		case reverse:
			one[i] = 100 - v*100/most
		default:
			one[i] = v * 100 / most
		}
	}
	return one
}

func assumedAsk(p *corev1.Pod, name corev1.ResourceName) int64 {
	if _, ok := p.Spec.Containers[0].Resources.Requests[name]; ok {
		return asks(p, name)
	}
	if name == corev1.ResourceCPU {
		return 100
	}
	return 200 << 20
}

func (m *model) leastAllocated(p *corev1.Pod, n *corev1.Node) int64 {
	var sum, weights int64
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		have := has(n, name)
		if have == 0 {
			continue
		}
		used := assumedAsk(p, name)
		for _, o := range m.pods[n.Name] {
			used += assumedAsk(o, name)
		}
		weights++
		if used <= have {
			sum += (have - used) * 100 / have
		}
	}
	if weights == 0 {
		return 0
	}
	return sum / weights
}

func (m *model) balanced(p *corev1.Pod, n *corev1.Node) int64 {
	score := func(cpu, memory int64) int64 {
		c, b := has(n, corev1.ResourceCPU), has(n, corev1.ResourceMemory)
		if c == 0 || b == 0 {
			return 100
		}
		x, y := math.Min(1, float64(cpu)/float64(c)), math.Min(1, float64(memory)/float64(b))
		return int64((1 - math.Abs((x-y)/2)) * 100)
	}
	cpu, memory := m.taken(n, corev1.ResourceCPU), m.taken(n, corev1.ResourceMemory)
	return 50 + (50+score(cpu+asks(p, corev1.ResourceCPU), memory+asks(p, corev1.ResourceMemory))-score(cpu, memory))/2
}

func (m *model) images(p *corev1.Pod, n *corev1.Node) int64 {
	name := p.Spec.Containers[0].Image + ":latest"
	size := func(n *corev1.Node) int64 {
		for _, i := range n.Status.Images {
			if slices.Contains(i.Names, name) {
				return i.SizeBytes
			}
		}
		return 0
	}
	having := 0
	for _, other := range m.nodes {
		if size(other) > 0 {
			having++
		}
	}
	sum := int64(float64(size(n)) * (float64(having) / float64(len(m.nodes))))
	sum = min(max(sum, 23<<20), 1000<<20)
	return 100 * (sum - 23<<20) / (1000<<20 - 23<<20)
}

func (m *model) spreadScores(p *corev1.Pod, nodes []*corev1.Node, together map[string]string) []int64 {
	own := len(p.Spec.TopologySpreadConstraints) > 0
	var all []corev1.TopologySpreadConstraint
	for _, c := range p.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.ScheduleAnyway {
			all = append(all, c)
		}
	}
	if !own && together != nil {
		selector := &metav1.LabelSelector{MatchLabels: together}
		all = []corev1.TopologySpreadConstraint{
			{TopologyKey: corev1.LabelHostname, MaxSkew: 3, LabelSelector: selector},
			{TopologyKey: corev1.LabelTopologyZone, MaxSkew: 5, LabelSelector: selector},
		}
	}
	out := make([]int64, len(nodes))
	if len(all) == 0 {
		return out
	}
	valid := func(n *corev1.Node) bool { return !own || hasKeys(p, n, corev1.ScheduleAnyway) }
	raw := make([]float64, len(nodes))
	for i := range all {
		c := &all[i]
		values, count := map[string]bool{}, 0
		for _, n := range nodes {
			if valid(n) {
				values[n.Labels[c.TopologyKey]] = true
				count++
			}
		}
		sums := m.domainSums(c, p, own)
		if c.TopologyKey != corev1.LabelHostname {
			count = len(values)
		}
		weight := math.Log(float64(count + 2))
		for k, n := range nodes {
			if value, ok := n.Labels[c.TopologyKey]; ok && valid(n) {
				pods := sums[value]
				if c.TopologyKey == corev1.LabelHostname {
					pods = m.spreadCount(c, p, n)
				}
				raw[k] += float64(pods)*weight + float64(c.MaxSkew-1)
			}
		}
	}
	least, most := int64(math.MaxInt64), int64(0)
	for k, n := range nodes {
		if valid(n) {
			v := int64(math.Round(raw[k]))
			least, most = min(least, v), max(most, v)
		}
	}
	for k, n := range nodes {
		switch {
		case !valid(n):
		case most == 0:
			out[k] = 100
		default:
			out[k] = 100 * (most + least - int64(math.Round(raw[k]))) / most
		}
	}
	return out
}

func weighted(p *corev1.Pod) (near, apart []corev1.WeightedPodAffinityTerm) {
	if a := p.Spec.Affinity; a != nil {
		if a.PodAffinity != nil {
			near = a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution
		}
		if a.PodAntiAffinity != nil {
			apart = a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution
		}
	}
	return near, apart
}

func (m *model) affinityScores(p *corev1.Pod, nodes []*corev1.Node) []int64 {
	out := make([]int64, len(nodes))
	near, apart := weighted(p)
	for _, at := range m.nodes {
		for _, o := range m.pods[at.Name] {
			give := func(t *corev1.PodAffinityTerm, weight int64) {
				value, ok := at.Labels[t.TopologyKey]
				for k, n := range nodes {
					if v, has := n.Labels[t.TopologyKey]; ok && has && v == value {
						out[k] += weight
					}
				}
			}
			both := func(owner, other *corev1.Pod, near, apart []corev1.WeightedPodAffinityTerm) {
				for i := range near {
					if t := &near[i].PodAffinityTerm; m.termMatches(owner, t, other) {
						give(t, int64(near[i].Weight))
					}
				}
				for i := range apart {
					if t := &apart[i].PodAffinityTerm; m.termMatches(owner, t, other) {
						give(t, -int64(apart[i].Weight))
					}
				}
			}
			both(p, o, near, apart)
			theirNear, theirApart := weighted(o)
			both(o, p, theirNear, theirApart)
			must, _ := required(o)
			for i := range must {
				if m.termMatches(o, &must[i], p) {
					give(&must[i], 1)
				}
			}
		}
	}
	least, most := slices.Min(out), slices.Max(out)
	for k, v := range out {
		out[k] = 0
		if most > least {
			out[k] = int64(100 * (float64(v-least) / float64(most-least)))
		}
	}
	return out
}
