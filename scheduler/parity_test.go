package scheduler

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// dice makes random clusters and pods.
type dice struct{ *rand.Rand }

func (d dice) one(in int) bool { return d.IntN(in) == 0 }

func pick[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

var spaces = map[string]map[string]string{"x": {"team": "red"}, "y": {"team": "blue"}, "z": nil}

func (d dice) node(name string) *corev1.Node {
	return node(name, func(n *corev1.Node) {
		if !d.one(6) {
			n.Labels[corev1.LabelTopologyZone] = pick(d, "a", "b", "c")
		}
		if d.one(2) {
			n.Labels["disk"] = pick(d, "ssd", "hdd")
		}
		n.Spec.Unschedulable = d.one(10)
		for _, key := range []string{"k1", "k2"} {
			if d.one(5) {
				n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: pick(d, "v", "w"),
					Effect: pick(d, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule)})
			}
		}
		n.Status.Allocatable[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(500*d.IntN(8)), resource.DecimalSI)
		n.Status.Allocatable[corev1.ResourcePods] = *resource.NewQuantity(int64(3+d.IntN(5)), resource.DecimalSI)
		if d.one(3) {
			n.Status.Images = []corev1.ContainerImage{{Names: []string{"i1:latest"}, SizeBytes: int64(1+d.IntN(2000)) << 20}}
		}
	})
}

func (d dice) selector() *metav1.LabelSelector {
	switch d.IntN(8) {
	case 0:
		return &metav1.LabelSelector{}
	case 1:
		return nil
	}
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": pick(d, "a", "b", "c")}}
}

func (d dice) term() corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{TopologyKey: pick(d, corev1.LabelHostname, corev1.LabelTopologyZone, "disk"), LabelSelector: d.selector()}
	switch d.IntN(5) {
	case 0:
		t.Namespaces = []string{pick(d, "x", "y")}
	case 1:
		t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": pick(d, "red", "blue")}}
	case 2:
		t.NamespaceSelector = &metav1.LabelSelector{}
	}
	return t
}

func several[T any](d dice, make func() T) []T {
	var all []T
	for range pick(d, 0, 0, 1, 2) {
		all = append(all, make())
	}
	return all
}

func (d dice) affinity() *corev1.Affinity {
	soft := func() corev1.WeightedPodAffinityTerm {
		return corev1.WeightedPodAffinityTerm{Weight: int32(1 + d.IntN(100)), PodAffinityTerm: d.term()}
	}
	preference := func() corev1.PreferredSchedulingTerm {
		return corev1.PreferredSchedulingTerm{Weight: int32(1 + d.IntN(100)), Preference: d.nodeTerm()}
	}
	a := &corev1.Affinity{
		PodAffinity:     &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: several(d, soft)},
		PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: several(d, soft)},
		NodeAffinity:    &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: several(d, preference)},
	}
	if d.one(3) {
		a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = several(d, d.term)
	}
	if d.one(3) {
		a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution = several(d, d.term)
	}
	if d.one(6) {
		a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{d.nodeTerm(), d.nodeTerm()}}
	}
	return a
}

func (d dice) nodeTerm() corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
		pick(d, corev1.NodeSelectorRequirement{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"ssd"}},
			corev1.NodeSelectorRequirement{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"a", "b"}}),
	}}
}

func (d dice) constraint() corev1.TopologySpreadConstraint {
	c := corev1.TopologySpreadConstraint{
		MaxSkew: int32(1 + d.IntN(3)), TopologyKey: pick(d, corev1.LabelHostname, corev1.LabelTopologyZone, "disk"), LabelSelector: d.selector(),
		WhenUnsatisfiable: pick(d, corev1.DoNotSchedule, corev1.ScheduleAnyway, corev1.ScheduleAnyway),
	}
	if d.one(3) {
		c.NodeAffinityPolicy = pick(d, new(corev1.NodeInclusionPolicyIgnore), new(corev1.NodeInclusionPolicyHonor))
	}
	if d.one(3) {
		c.NodeTaintsPolicy = pick(d, new(corev1.NodeInclusionPolicyIgnore), new(corev1.NodeInclusionPolicyHonor))
	}
	if c.WhenUnsatisfiable == corev1.DoNotSchedule && d.one(3) {
		c.MinDomains = new(int32(1 + d.IntN(4)))
	}
	return c
}

func (d dice) pod(name string) *corev1.Pod {
	return pod(name, func(p *corev1.Pod) {
		p.Namespace, p.Labels["app"] = []string{"x", "x", "y", "z"}[len(name)*int(name[len(name)-1])%4], pick(d, "a", "b", "c")
		p.Spec.Priority = new(int32(pick(d, 0, 10, 20)))
		requests := corev1.ResourceList{}
		if d.one(2) {
			requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(100*d.IntN(12)), resource.DecimalSI)
		}
		if d.one(2) {
			requests[corev1.ResourceMemory] = *resource.NewQuantity(int64(d.IntN(4))<<29, resource.BinarySI)
		}
		p.Spec.Containers[0].Resources.Requests = requests
		p.Spec.Containers[0].Image = pick(d, "i1", "i2")
		if d.one(8) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: int32(80 + d.IntN(2)), Protocol: corev1.ProtocolTCP}}
		}
		if d.one(4) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: pick(d, "k1", "k2"), Operator: corev1.TolerationOpExists, Effect: pick(d, "", corev1.TaintEffectNoSchedule)}}
		}
		if d.one(8) {
			p.Spec.NodeSelector = map[string]string{"disk": pick(d, "ssd", "hdd")}
		}
		if d.one(2) {
			p.Spec.Affinity = d.affinity()
		}
		if d.one(2) {
			p.Spec.TopologySpreadConstraints = several(d, d.constraint)
		}
	})
}

// The columns, kept over random changes, must agree with a model that keeps nothing: on
// what each node refuses a pod for, and on the score of each node that takes it.
func TestParity(t *testing.T) {
	const changes = 200 // each with one decision: 112,000 in all
	for worker := range 2 {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			for seed := range clusters {
				d := dice{rand.New(rand.NewPCG(uint64(worker), uint64(seed)))}
				if !compareRandom(t, d, changes) {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

func compareRandom(t *testing.T, d dice, changes int) bool {
	s := newState(func(name string) map[string]string { return spaces[name] })
	nodes, pods, where := map[string]*corev1.Node{}, map[string]*corev1.Pod{}, map[string]string{}
	for step := range changes {
		name := fmt.Sprintf("n%d", d.IntN(7))
		switch d.IntN(8) {
		case 0:
			n := d.node(name)
			nodes[name] = n
			s.setNode(n)
		case 1:
			if d.one(4) {
				delete(nodes, name)
				s.removeNode(name)
			}
		case 2:
			if len(pods) > 0 {
				uid := pick(d, slices.Sorted(maps.Keys(pods))...)
				s.removePod(types.UID(uid))
				delete(pods, uid)
			}
		case 3:
			if len(pods) > 0 {
				uid := pick(d, slices.Sorted(maps.Keys(pods))...)
				p := pods[uid].DeepCopy()
				p.DeletionTimestamp = new(metav1.Now())
				pods[uid] = p
				s.addPod(p, where[uid])
			}
		default:
			p := d.pod(fmt.Sprintf("p%d", d.IntN(16)))
			pods[p.Name], where[p.Name] = p, name
			s.addPod(p, name)
		}
		m := &model{pods: map[string][]*corev1.Pod{}, space: spaces}
		for _, name := range slices.Sorted(maps.Keys(nodes)) {
			m.nodes = append(m.nodes, nodes[name])
		}
		for _, name := range slices.Sorted(maps.Keys(pods)) {
			m.pods[where[name]] = append(m.pods[where[name]], pods[name])
		}
		if len(m.nodes) > 0 && !compareOne(t, s, m, d.pod("new"), d.one(2), d) {
			t.Logf("step %d", step)
			return false
		}
	}
	return true
}

func compareOne(t *testing.T, s *state, m *model, p *corev1.Pod, spread bool, d dice) bool {
	var defaults []constraint
	var together map[string]string
	if spread {
		together = map[string]string{"app": p.Labels["app"]}
		if len(p.Spec.TopologySpreadConstraints) == 0 {
			defaults = defaultConstraints(p.Namespace, labels.SelectorFromSet(together))
		}
	}
	at := s.place(p, defaults)
	a := s.ask(at)
	var fit []*corev1.Node
	for _, n := range m.nodes {
		want := m.refuses(p, n)
		got, _ := s.why(at, s.index[n.Name], a)
		if !slices.Equal(got, want) {
			t.Errorf("node %s refuses for %q, the model for %q", n.Name, got, want)
			return false
		}
		if len(want) == 0 {
			fit = append(fit, n)
		}
	}
	left := slices.Clone(s.feasible(at))
	if len(left) != len(fit) {
		t.Errorf("%d nodes take the pod, the model says %d", len(left), len(fit))
		return false
	}
	decided := s.decide(at, d.Rand)
	if len(fit) == 0 {
		return decided.node == "" && comparePreemption(t, s, m, at, decided, d)
	}
	total := make([]int64, len(left))
	for k, i := range left {
		total[k] = int64(at.class.base[i])
	}
	s.rank(at, left, total)
	want := m.scores(p, fit, together)
	alike := int64(0) // what no taint tells nodes apart by
	if at.static.avoided == 0 {
		alike = 300
	}
	byName := map[string]int64{}
	for k, n := range fit {
		byName[n.Name] = want[k]
	}
	for k, i := range left {
		if name := s.nodes[i].Name; total[k]+alike != byName[name] {
			t.Errorf("node %s scores %d, the model says %d", name, total[k], byName[name])
			return false
		}
	}
	if byName[decided.node] != slices.Max(want) {
		t.Errorf("chosen: %s with %d, the best has %d", decided.node, byName[decided.node], slices.Max(want))
		return false
	}
	return true
}

// comparePreemption checks that the victims are less important, that without them the node
// takes the pod, that none of them could have stayed, and that trying left no trace.
func comparePreemption(t *testing.T, s *state, m *model, p *placement, decided decision, d dice) bool {
	before := fmt.Sprint(s.resources, s.ports, s.podsOnNode)
	c, _, _ := s.preempt(p, decided.why, nil, d.Rand)
	if fmt.Sprint(s.resources, s.ports, s.podsOnNode) != before {
		t.Error("trying evictions left its mark")
		return false
	}
	if c == nil {
		return true
	}
	n := s.nodes[s.index[c.node]]
	all := m.pods[c.node]
	defer func() { m.pods[c.node] = all }()
	without := func(gone []*corev1.Pod) []*corev1.Pod {
		return slices.DeleteFunc(slices.Clone(all), func(p *corev1.Pod) bool { return slices.Contains(gone, p) })
	}
	for i, v := range c.victims {
		if *v.Spec.Priority >= *p.pod.Spec.Priority {
			t.Errorf("victim %s is not less important", v.Name)
			return false
		}
		if near, _ := required(p.pod); len(near)+len(p.pod.Spec.TopologySpreadConstraints) > 0 {
			continue // more pods may make a node fit there
		}
		m.pods[c.node] = without(slices.Delete(slices.Clone(c.victims), i, i+1))
		if len(m.refuses(p.pod, n)) == 0 {
			t.Errorf("victim %s could have stayed", v.Name)
			return false
		}
	}
	m.pods[c.node] = without(c.victims)
	if why := m.refuses(p.pod, n); len(why) > 0 {
		t.Errorf("node %s refuses the pod without the victims too: %q", n.Name, why)
		return false
	}
	return true
}
