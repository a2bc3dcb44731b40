package scheduler

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// model decides by walking over all objects, with nothing kept: what the columns must
// agree with.
type model struct {
	nodes []*corev1.Node
	pods  map[string][]*corev1.Pod // by node
	space map[string]map[string]string
}

func selects(sel *metav1.LabelSelector, labels map[string]string) bool {
	if sel == nil {
		return false
	}
	for k, v := range sel.MatchLabels {
		if labels[k] != v {
			return false
		}
	}
	return true
}

func (m *model) termMatches(owner *corev1.Pod, t *corev1.PodAffinityTerm, p *corev1.Pod) bool {
	inside := slices.Contains(t.Namespaces, p.Namespace) || t.NamespaceSelector != nil && selects(t.NamespaceSelector, m.space[p.Namespace]) ||
		len(t.Namespaces) == 0 && t.NamespaceSelector == nil && owner.Namespace == p.Namespace
	return inside && selects(t.LabelSelector, p.Labels)
}

func tolerates(p *corev1.Pod, taint corev1.Taint) bool {
	return slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool {
		return (t.Effect == "" || t.Effect == taint.Effect) && (t.Key == "" || t.Key == taint.Key) &&
			(t.Operator == corev1.TolerationOpExists || t.Value == taint.Value)
	})
}

func nodeTermMatches(t corev1.NodeSelectorTerm, n *corev1.Node) bool {
	for _, e := range t.MatchExpressions { // the tests use In alone
		if v, ok := n.Labels[e.Key]; !ok || !slices.Contains(e.Values, v) {
			return false
		}
	}
	return len(t.MatchExpressions) > 0
}

func selectsNode(p *corev1.Pod, n *corev1.Node) bool {
	for k, v := range p.Spec.NodeSelector {
		if n.Labels[k] != v {
			return false
		}
	}
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		return slices.ContainsFunc(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms,
			func(t corev1.NodeSelectorTerm) bool { return nodeTermMatches(t, n) })
	}
	return true
}

func untolerated(p *corev1.Pod, n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(p, t)
	})
}

func asks(p *corev1.Pod, name corev1.ResourceName) int64 {
	q := p.Spec.Containers[0].Resources.Requests[name]
	return amountOf(name, q)
}

func has(n *corev1.Node, name corev1.ResourceName) int64 {
	return amountOf(name, n.Status.Allocatable[name])
}

func (m *model) taken(n *corev1.Node, name corev1.ResourceName) (sum int64) {
	for _, p := range m.pods[n.Name] {
		sum += asks(p, name)
	}
	return sum
}

// refuses gives the reasons of the first filter that refuses the node.
func (m *model) refuses(p *corev1.Pod, n *corev1.Node) []string {
	switch {
	case n.Spec.Unschedulable && !tolerates(p, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}):
		return []string{"node(s) were unschedulable"}
	case untolerated(p, n):
		return []string{"node(s) had untolerated taint(s)"}
	case !selectsNode(p, n):
		return []string{"node(s) didn't match Pod's node affinity/selector"}
	}
	for _, want := range p.Spec.Containers[0].Ports {
		for _, other := range m.pods[n.Name] {
			for _, have := range other.Spec.Containers[0].Ports {
				if want.HostPort == have.HostPort && want.Protocol == have.Protocol {
					return []string{reasonPorts}
				}
			}
		}
	}
	var lacking []string
	if int64(len(m.pods[n.Name])) >= has(n, corev1.ResourcePods) {
		lacking = append(lacking, "Too many pods")
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if want := asks(p, name); want > 0 && want > has(n, name)-m.taken(n, name) {
			lacking = append(lacking, "Insufficient "+string(name))
		}
	}
	if len(lacking) > 0 {
		return lacking
	}
	if reason := m.spreadRefuses(p, n); reason != "" {
		return []string{reason}
	}
	if reason := m.affinityRefuses(p, n); reason != "" {
		return []string{reason}
	}
	return nil
}

// counts says whether a node's pods count for a constraint.
func counts(p *corev1.Pod, c *corev1.TopologySpreadConstraint, n *corev1.Node) bool {
	if (c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor) && !selectsNode(p, n) {
		return false
	}
	return c.NodeTaintsPolicy == nil || *c.NodeTaintsPolicy != corev1.NodeInclusionPolicyHonor || !untolerated(p, n)
}

func hasKeys(p *corev1.Pod, n *corev1.Node, mode corev1.UnsatisfiableConstraintAction) bool {
	for _, c := range p.Spec.TopologySpreadConstraints {
		if _, ok := n.Labels[c.TopologyKey]; !ok && c.WhenUnsatisfiable == mode {
			return false
		}
	}
	return true
}

func (m *model) spreadCount(c *corev1.TopologySpreadConstraint, p *corev1.Pod, n *corev1.Node) (count int64) {
	for _, other := range m.pods[n.Name] {
		if other.DeletionTimestamp == nil && other.Namespace == p.Namespace && selects(c.LabelSelector, other.Labels) {
			count++
		}
	}
	return count
}

func (m *model) domainSums(c *corev1.TopologySpreadConstraint, p *corev1.Pod, keyed bool) map[string]int64 {
	sums := map[string]int64{}
	for _, n := range m.nodes {
		value, ok := n.Labels[c.TopologyKey]
		if ok && (!keyed || hasKeys(p, n, c.WhenUnsatisfiable)) && counts(p, c, n) {
			sums[value] += m.spreadCount(c, p, n)
		}
	}
	return sums
}

func (m *model) spreadRefuses(p *corev1.Pod, n *corev1.Node) string {
	for i := range p.Spec.TopologySpreadConstraints {
		c := &p.Spec.TopologySpreadConstraints[i]
		if c.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		value, ok := n.Labels[c.TopologyKey]
		if !ok {
			return reasonSpreadLabel
		}
		sums := m.domainSums(c, p, true)
		least := int64(math.MaxInt64)
		for _, v := range sums {
			least = min(least, v)
		}
		if len(sums) == 0 || c.MinDomains != nil && len(sums) < int(*c.MinDomains) {
			least = 0
		}
		self := int64(0)
		if selects(c.LabelSelector, p.Labels) {
			self = 1
		}
		if sums[value]+self-least > int64(c.MaxSkew) {
			return reasonSpread
		}
	}
	return ""
}

// podsNear lists the pods in the node's domain of a key; false when it is in none.
func (m *model) podsNear(n *corev1.Node, key string) (pods []*corev1.Pod, ok bool) {
	value, ok := n.Labels[key]
	if !ok {
		return nil, false
	}
	for _, other := range m.nodes {
		if v, has := other.Labels[key]; has && v == value {
			pods = append(pods, m.pods[other.Name]...)
		}
	}
	return pods, true
}

func required(p *corev1.Pod) (near, apart []corev1.PodAffinityTerm) {
	if a := p.Spec.Affinity; a != nil {
		if a.PodAffinity != nil {
			near = a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		}
		if a.PodAntiAffinity != nil {
			apart = a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		}
	}
	return near, apart
}

func (m *model) affinityRefuses(p *corev1.Pod, n *corev1.Node) string {
	near, apart := required(p)
	all := func(other *corev1.Pod) bool {
		return !slices.ContainsFunc(near, func(t corev1.PodAffinityTerm) bool { return !m.termMatches(p, &t, other) })
	}
	if len(near) > 0 {
		anywhere, here := false, true
		for _, t := range near {
			pods, ok := m.podsNear(n, t.TopologyKey)
			if !ok {
				return reasonAffinity
			}
			here = here && slices.ContainsFunc(pods, all)
			for _, other := range m.nodes {
				if _, keyed := other.Labels[t.TopologyKey]; keyed && slices.ContainsFunc(m.pods[other.Name], all) {
					anywhere = true
				}
			}
		}
		if !here && (anywhere || !all(p)) {
			return reasonAffinity
		}
	}
	for _, t := range apart {
		pods, _ := m.podsNear(n, t.TopologyKey)
		if slices.ContainsFunc(pods, func(o *corev1.Pod) bool { return m.termMatches(p, &t, o) }) {
			return reasonAntiAffinity
		}
	}
	for _, other := range m.nodes {
		for _, o := range m.pods[other.Name] {
			_, theirs := required(o)
			for _, t := range theirs {
				v, ok := n.Labels[t.TopologyKey]
				w, ok2 := other.Labels[t.TopologyKey]
				if ok && ok2 && v == w && m.termMatches(o, &t, p) {
					return reasonExistingAnti
				}
			}
		}
	}
	return ""
}
