package scheduler

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func node(name string, edit ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
			corev1.ResourcePods: resource.MustParse("10"),
		}},
	}
	for _, e := range edit {
		e(n)
	}
	return n
}

func zone(z string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = z }
}

func pod(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "a"}},
		Spec:       corev1.PodSpec{SchedulerName: Name, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func cpu(q string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(q)}
	}
}

func labelled1(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels[key] = value }
}

func spread(key string, skew int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: skew, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}},
		})
	}
}

func term1(app, key string) []corev1.PodAffinityTerm {
	return []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}}
}

func anti(app, key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term1(app, key)}}
	}
}

func near(app, key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term1(app, key)}}
	}
}

// outcomeOf decides on a pod; text says why it has no node.
func outcomeOf(s *state, pod *corev1.Pod) (d decision, text string) {
	rnd := rand.New(rand.NewPCG(1, 1))
	p := s.place(pod, nil)
	if d = s.decide(p, rnd); d.node != "" {
		return d, ""
	}
	preemption := ""
	if d.total > 0 {
		_, preemption, _ = s.preempt(p, d.why, nil, rnd)
	}
	return d, d.message(preemption)
}

func noLabels(string) map[string]string { return nil }

func TestDecide(t *testing.T) {
	type placed struct {
		pod  *corev1.Pod
		node string
	}
	cordoned := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	tainted := func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule}}
	}
	tolerant := func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} }
	selecting := func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "n2"} }
	port := func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80, ContainerPort: 80}}
	}
	b := labelled1("app", "b")
	cases := []struct {
		name  string
		nodes []*corev1.Node
		pods  []placed
		pod   *corev1.Pod
		want  string // a node, or the message
	}{
		{"no nodes", nil, nil, pod("p"), "no nodes available to schedule pods"},
		{"cordoned", []*corev1.Node{node("n1", cordoned), node("n2")}, nil, pod("p"), "n2"},
		{"cordoned, tolerated", []*corev1.Node{node("n1", cordoned)}, nil, pod("p", tolerant), "n1"},
		{
			"each node for a reason", []*corev1.Node{node("n1", cordoned), node("n2", tainted), node("n3")}, nil, pod("p", cpu("5")),
			"0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
		},
		{
			"room taken", []*corev1.Node{node("n1")}, []placed{{pod("x", cpu("3")), "n1"}}, pod("p", cpu("2")),
			"0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
		},
		{"selector", []*corev1.Node{node("n1"), node("n2")}, nil, pod("p", selecting), "n2"},
		{"least allocated", []*corev1.Node{node("n1"), node("n2")}, []placed{{pod("x", cpu("2")), "n1"}}, pod("p", cpu("1")), "n2"},
		{"host port", []*corev1.Node{node("n1"), node("n2")}, []placed{{pod("x", port), "n2"}}, pod("p", port), "n1"},
		{"spread", []*corev1.Node{node("n1", zone("a")), node("n2", zone("b"))}, []placed{{pod("x"), "n1"}}, pod("p", spread(corev1.LabelTopologyZone, 1)), "n2"},
		{
			"spread without the label", []*corev1.Node{node("n1")}, nil, pod("p", spread(corev1.LabelTopologyZone, 1)),
			"0/1 nodes are available: 1 " + reasonSpreadLabel,
		},
		{"anti-affinity", []*corev1.Node{node("n1"), node("n2")}, []placed{{pod("x"), "n1"}}, pod("p", anti("a", corev1.LabelHostname)), "n2"},
		{
			"anti-affinity of the pod that runs", []*corev1.Node{node("n1")}, []placed{{pod("x", anti("b", corev1.LabelHostname)), "n1"}}, pod("p", b),
			"0/1 nodes are available: 1 " + reasonExistingAnti,
		},
		{"affinity", []*corev1.Node{node("n1", zone("a")), node("n2", zone("b"))}, []placed{{pod("x", b), "n2"}}, pod("p", near("b", corev1.LabelTopologyZone)), "n2"},
		{"affinity to its own kind, first", []*corev1.Node{node("n1", zone("a"))}, nil, pod("p", near("a", corev1.LabelTopologyZone)), "n1"},
		{
			"affinity to nobody", []*corev1.Node{node("n1", zone("a"))}, nil, pod("p", near("b", corev1.LabelTopologyZone)),
			"0/1 nodes are available: 1 " + reasonAffinity,
		},
		{"another namespace does not count", []*corev1.Node{node("n1")}, []placed{{pod("x", func(p *corev1.Pod) { p.Namespace = "other" }), "n1"}}, pod("p", anti("a", corev1.LabelHostname)), "n1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newState(noLabels)
			for _, p := range c.pods {
				s.addPod(p.pod, p.node) // before its node is known: it must be counted all the same
			}
			for _, n := range c.nodes {
				s.setNode(n)
			}
			if d, text := outcomeOf(s, c.pod); d.node != c.want && (text == "" || !strings.HasPrefix(text, c.want)) {
				t.Errorf("got %q (%s)\nwant %q", d.node, text, c.want)
			}
		})
	}
}

// Counts kept up to date over random changes must decide as counts made from scratch do.
func TestIncrementalParity(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	live, nodes, pods := newState(noLabels), map[string]*corev1.Node{}, map[string]*corev1.Pod{}
	where := map[string]string{}
	random := func(name string) *corev1.Pod {
		edits := []func(*corev1.Pod){cpu(fmt.Sprintf("%dm", 100*rnd.IntN(8))), labelled1("app", []string{"a", "b"}[rnd.IntN(2)])}
		switch rnd.IntN(5) {
		case 0:
			edits = append(edits, spread(corev1.LabelTopologyZone, 1))
		case 1:
			edits = append(edits, anti("a", corev1.LabelHostname))
		case 2:
			edits = append(edits, near("b", corev1.LabelTopologyZone))
		}
		return pod(name, edits...)
	}
	for step := range 3000 {
		name := fmt.Sprintf("n%d", rnd.IntN(12))
		switch rnd.IntN(10) {
		case 0:
			live.removeNode(name)
			delete(nodes, name)
		case 1, 2:
			n := node(name, zone(fmt.Sprintf("z%d", rnd.IntN(3))))
			n.Spec.Unschedulable = rnd.IntN(4) == 0
			nodes[name] = n
			live.setNode(n)
		case 3, 4, 5:
			p := random(fmt.Sprintf("p%d", rnd.IntN(40)))
			pods[p.Name], where[p.Name] = p, name
			live.addPod(p, name)
		case 6:
			for uid := range pods {
				live.removePod(types.UID(uid))
				delete(pods, uid)
				break
			}
		default:
			fresh := newState(noLabels)
			for _, n := range nodes {
				fresh.setNode(n)
			}
			for _, p := range pods {
				fresh.addPod(p, where[p.Name])
			}
			p := random("new")
			a, aText := outcomeOf(live, p)
			b, bText := outcomeOf(fresh, p)
			if a.score != b.score || aText != bText {
				t.Fatalf("step %d: kept counts: %q %d %s\nfrom scratch: %q %d %s", step, a.node, a.score, aText, b.node, b.score, bText)
			}
		}
	}
}

func softly(key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		spread(key, 1)(p)
		p.Spec.TopologySpreadConstraints[0].WhenUnsatisfiable = corev1.ScheduleAnyway
	}
}

func preferring(app, key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 10, PodAffinityTerm: term1(app, key)[0]}}}}
	}
}

// BenchmarkSchedule is one decision, its pod counted on the node it was given.
func BenchmarkSchedule(b *testing.B) {
	kinds := []struct {
		name string
		edit func(*corev1.Pod)
	}{
		{"basic", cpu("10m")},
		{"anti", func(p *corev1.Pod) { cpu("10m")(p); anti("a", corev1.LabelHostname)(p) }},
		{"spread", func(p *corev1.Pod) { cpu("10m")(p); spread(corev1.LabelTopologyZone, 1)(p) }},
		{"soft", func(p *corev1.Pod) { cpu("10m")(p); softly(corev1.LabelTopologyZone)(p) }},
		{"prefer", func(p *corev1.Pod) { cpu("10m")(p); preferring("a", corev1.LabelTopologyZone)(p) }},
	}
	for _, size := range []int{1000, 5000} {
		for _, k := range kinds {
			b.Run(fmt.Sprintf("%s-%d", k.name, size), func(b *testing.B) {
				s := newState(noLabels)
				for i := range size {
					s.setNode(node(fmt.Sprintf("n%d", i), zone(fmt.Sprintf("z%d", i%3)), func(n *corev1.Node) {
						n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("1000000")
						n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("1000000")
					}))
				}
				rnd := rand.New(rand.NewPCG(1, 1))
				pods := make([]*corev1.Pod, b.N)
				for i := range pods {
					pods[i] = pod(fmt.Sprintf("p%d", i), k.edit)
				}
				b.ResetTimer()
				for i, p := range pods {
					if k.name == "anti" && i%(size/2) == 0 && i > 0 { // room for the next ones
						for _, old := range pods[i-size/2 : i] {
							s.removePod(old.UID)
						}
					}
					at := s.place(p, nil)
					d := s.decide(at, rnd)
					if d.node == "" {
						b.Fatal(d.why.counts)
					}
					s.assume(at, d.node)
				}
			})
		}
	}
}
