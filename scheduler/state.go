package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// state is the cluster as the scheduler counts it. Nodes are numbered; what is asked of
// all nodes for each pod lies in columns (one slice per resource, one per counted term),
// indexed by that number, so that a decision walks plain integers.
//
// Every pod that has a node is counted once, also one that was assumed to be bound and
// is not seen bound yet. Not safe for concurrent use: Scheduler guards it.
type state struct {
	index map[string]int // node name to number
	nodes []*corev1.Node // nil: free number
	free  []int
	epoch []uint32 // of a node: grows when its labels, taints or schedulability change

	resources  *columns
	ports      []map[hostPort]int
	images     []map[string]int64 // name to size
	pods       map[types.UID]*counted
	podsOnNode []map[types.UID]*counted
	terms      *terms
	unresolved map[string]map[types.UID]*counted // pods of nodes that are not known (yet), by node name
	namespaces func(name string) map[string]string
	static     *staticCache
	topology   map[string]*domains // by topology key
	nodeCount  int
}

// counted is a pod as it was added to the counts, so that it can be taken out again.
type counted struct {
	pod     *corev1.Pod
	node    string
	request request
	ports   []hostPort
	own     []ownTerm
}

func newState(namespaceLabels func(string) map[string]string) *state {
	return &state{
		index: map[string]int{}, resources: newColumns(), pods: map[types.UID]*counted{},
		terms: newTerms(), unresolved: map[string]map[types.UID]*counted{},
		namespaces: namespaceLabels, static: newStaticCache(),
	}
}

// setNode adds or changes a node and tells whether that may let more pods fit.
func (s *state) setNode(n *corev1.Node) {
	i, known := s.index[n.Name]
	if !known {
		i = s.allocate(n.Name)
	}
	old := s.nodes[i]
	s.nodes[i] = n
	if old == nil || !sameForPlacement(old, n) {
		s.epoch[i]++
		s.static.changed()
	}
	s.resources.setAllocatable(i, n.Status.Allocatable)
	s.images[i] = imageSizes(n)
	if !known {
		for _, c := range s.unresolved[n.Name] {
			s.count(i, c, 1)
		}
		delete(s.unresolved, n.Name)
	}
}

func (s *state) allocate(name string) int {
	s.nodeCount++
	if len(s.free) > 0 {
		i := s.free[len(s.free)-1]
		s.free = s.free[:len(s.free)-1]
		s.index[name] = i
		return i
	}
	i := len(s.nodes)
	s.index[name] = i
	s.nodes = append(s.nodes, nil)
	s.epoch = append(s.epoch, 0)
	s.ports = append(s.ports, map[hostPort]int{})
	s.images = append(s.images, nil)
	s.podsOnNode = append(s.podsOnNode, map[types.UID]*counted{})
	s.resources.grow(len(s.nodes))
	s.terms.grow(len(s.nodes))
	return i
}

// removeNode forgets a node; its pods wait for its return.
func (s *state) removeNode(name string) {
	i, known := s.index[name]
	if !known {
		return
	}
	for _, c := range s.podsOnNode[i] {
		s.count(i, c, -1)
		s.waitForNode(c)
	}
	delete(s.index, name)
	s.nodes[i] = nil
	s.epoch[i]++
	s.static.changed()
	s.resources.clear(i)
	s.free = append(s.free, i)
	s.nodeCount--
}

func (s *state) waitForNode(c *counted) {
	waiting := s.unresolved[c.node]
	if waiting == nil {
		waiting = map[types.UID]*counted{}
		s.unresolved[c.node] = waiting
	}
	waiting[c.pod.UID] = c
}

// addPod counts a pod on its node; a pod counted before is counted anew.
func (s *state) addPod(pod *corev1.Pod, node string) {
	if old := s.pods[pod.UID]; old != nil {
		if old.node == node && sameForCounting(old.pod, pod) {
			old.pod = pod
			return
		}
		s.removePod(pod.UID)
	}
	c := &counted{pod: pod, node: node, request: podRequest(pod), ports: hostPorts(pod), own: ownTerms(pod)}
	s.pods[pod.UID] = c
	if i, known := s.index[node]; known {
		s.count(i, c, 1)
	} else {
		s.waitForNode(c)
	}
}

func (s *state) removePod(uid types.UID) {
	c := s.pods[uid]
	if c == nil {
		return
	}
	delete(s.pods, uid)
	if i, known := s.index[c.node]; known {
		s.count(i, c, -1)
		return
	}
	delete(s.unresolved[c.node], uid)
	if len(s.unresolved[c.node]) == 0 {
		delete(s.unresolved, c.node)
	}
}

// count adds (1) or takes out (-1) a pod's share of a node.
func (s *state) count(i int, c *counted, sign int64) {
	s.resources.add(i, c.request, sign)
	for _, p := range c.ports {
		if s.ports[i][p] += int(sign); s.ports[i][p] == 0 {
			delete(s.ports[i], p)
		}
	}
	if sign > 0 {
		s.podsOnNode[i][c.pod.UID] = c
	} else {
		delete(s.podsOnNode[i], c.pod.UID)
	}
	s.terms.count(i, c, int32(sign), s.namespaces)
}

// sameForPlacement: nothing changed that decides which pods a node takes, room aside.
func sameForPlacement(a, b *corev1.Node) bool {
	return a.Spec.Unschedulable == b.Spec.Unschedulable && mapsEqual(a.Labels, b.Labels) &&
		slices.EqualFunc(a.Spec.Taints, b.Spec.Taints, func(x, y corev1.Taint) bool {
			return x.Key == y.Key && x.Value == y.Value && x.Effect == y.Effect
		})
}

// sameForCounting: nothing changed that the counts depend on (a bound pod's labels and,
// through resize, its requests can).
func sameForCounting(a, b *corev1.Pod) bool {
	return mapsEqual(a.Labels, b.Labels) && podRequest(a).equal(podRequest(b)) &&
		(a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil)
}

func mapsEqual(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

func imageSizes(n *corev1.Node) map[string]int64 {
	sizes := make(map[string]int64, len(n.Status.Images))
	for _, image := range n.Status.Images {
		for _, name := range image.Names {
			sizes[name] = image.SizeBytes
		}
	}
	return sizes
}
