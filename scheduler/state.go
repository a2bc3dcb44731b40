package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
)

// state is the cluster as the scheduler counts it. Nodes are numbered; what is asked of
// all nodes for each pod lies in columns (one slice per resource, one per counted term),
// indexed by that number, so that a decision walks plain integers.
//
// Every pod that has a node is counted once, also one that was assumed to be bound and
// is not seen bound yet. Not safe for concurrent use: Scheduler guards it.
type state struct {
	index        map[string]int // node name to number
	nodes        []*corev1.Node // nil: free number
	free         []int
	epoch        []uint32 // of a node: grows when its labels, taints or schedulability change
	nodesVersion uint64   // grows with any epoch
	nodeCount    int
	changes      changes // nodes in whose columns something changed

	resources  *columns
	ports      []map[hostPort]int
	images     []map[string]int64 // name to size
	imageNodes map[string]int32   // name to number of nodes that have it
	pods       map[types.UID]*counted
	podsOnNode []map[types.UID]*counted
	unresolved map[string]map[types.UID]*counted // pods of nodes that are not known (yet), by node name
	groups     groups
	terms      *terms
	topology   map[string]*domains // by topology key
	namespaces func(name string) map[string]string
	nominated  nominations
	priorities map[int32]int // counted pods by priority
	trying     bool          // pods are counted to see what would be, and then counted back
	volumes    *volumes

	// Pods that are alike are looked at once.
	statics map[string]*static
	shapes  map[string]*shape
	classes map[string]*class
	serial  uint32
	clock   uint64
	scratch scratch
	buf     []byte
}

// counted is a pod as it was added to the counts, so that it can be taken out again.
type counted struct {
	pod     *corev1.Pod
	node    string
	dying   bool
	group   *group
	request request
	ports   []hostPort
	own     []ownTerm
	uses    []string // claims and volumes that volume filters count
}

func newState(namespaceLabels func(string) map[string]string) *state {
	s := &state{
		index: map[string]int{}, resources: newColumns(), pods: map[types.UID]*counted{},
		imageNodes: map[string]int32{}, terms: newTerms(), unresolved: map[string]map[types.UID]*counted{},
		topology: map[string]*domains{}, namespaces: namespaceLabels, nodesVersion: 1,
		statics: map[string]*static{}, shapes: map[string]*shape{}, classes: map[string]*class{},
		priorities: map[int32]int{},
		groups:     groups{byKey: map[string]*group{}},
		nominated:  nominations{node: map[types.UID]string{}, pods: map[string]map[types.UID]*counted{}},
	}
	s.volumes = newVolumes()
	return s
}

// setNode adds or changes a node.
func (s *state) setNode(n *corev1.Node) {
	i, known := s.index[n.Name]
	if !known {
		i = s.allocate(n.Name)
	}
	old := s.nodes[i]
	s.nodes[i] = n
	changed := s.resources.setAllocatable(i, n.Status.Allocatable)
	if old == nil || !sameForPlacement(old, n) {
		s.epoch[i]++
		s.nodesVersion++
		changed = true
	}
	if old == nil || !sameImages(old, n) {
		s.setImages(i, imageSizes(n))
		changed = true
	}
	if !known {
		for _, c := range s.unresolved[n.Name] {
			s.count(i, c, 1)
		}
		delete(s.unresolved, n.Name)
	}
	if changed {
		s.changes.note(i)
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
	s.setImages(i, nil)
	s.nodes[i] = nil
	s.epoch[i]++
	s.nodesVersion++
	s.resources.clear(i)
	s.free = append(s.free, i)
	s.nodeCount--
	s.changes.note(i)
}

func (s *state) setImages(i int, sizes map[string]int64) {
	for name := range s.images[i] {
		if s.imageNodes[name]--; s.imageNodes[name] <= 0 {
			delete(s.imageNodes, name)
		}
	}
	for name := range sizes {
		s.imageNodes[name]++
	}
	s.images[i] = sizes
}

func (s *state) waitForNode(c *counted) {
	waiting := s.unresolved[c.node]
	if waiting == nil {
		waiting = map[types.UID]*counted{}
		s.unresolved[c.node] = waiting
	}
	waiting[c.pod.UID] = c
}

// addPod counts a pod on its node; a pod counted before is counted anew. It tells whether
// the pod takes less of its node than before.
func (s *state) addPod(pod *corev1.Pod, node string) (freed bool) {
	old := s.pods[pod.UID]
	if old != nil && old.node == node && s.sameForCounting(old, pod) {
		old.pod = pod
		return false
	}
	c := s.measure(pod, node)
	if old != nil {
		freed = old.node != node || takesLess(c.request, old.request)
		s.removePod(pod.UID)
	}
	s.addCounted(c)
	return freed
}

// assume counts a pod on a node before its binding is written.
func (s *state) assume(p *placement, node string) {
	s.addCounted(&counted{
		pod: p.pod, node: node, dying: p.pod.DeletionTimestamp != nil, group: p.group, request: p.request,
		ports: p.ports, own: p.shape.own, uses: volumeUses(p.pod),
	})
	s.unnominate(p.pod.UID)
	s.volumes.choose(s, p, s.index[node])
}

// measure says what a pod would take of a node.
func (s *state) measure(pod *corev1.Pod, node string) *counted {
	return &counted{
		pod: pod, node: node, dying: pod.DeletionTimestamp != nil, group: s.groupOf(pod), request: s.resources.podRequest(pod),
		ports: hostPorts(pod), own: s.shapeOf(pod).own, uses: volumeUses(pod),
	}
}

func (s *state) addCounted(c *counted) {
	s.pods[c.pod.UID] = c
	s.join(c)
	s.priorities[corehelpers.PodPriority(c.pod)]++
	if i, known := s.index[c.node]; known {
		s.count(i, c, 1)
	} else {
		s.waitForNode(c)
	}
}

// join makes a pod one of its group's, which may have been forgotten since it was looked up.
func (s *state) join(c *counted) {
	if s.groups.byKey[c.group.key] != c.group {
		c.group = s.groupOf(c.pod)
	}
	if c.group.pods++; c.group.pods == 1 {
		s.groups.idle--
	}
}

func (s *state) part(c *counted) {
	if c.group.pods--; c.group.pods == 0 {
		s.groups.idle++
	}
}

func (s *state) removePod(uid types.UID) {
	c := s.pods[uid]
	if c == nil {
		return
	}
	delete(s.pods, uid)
	priority := corehelpers.PodPriority(c.pod)
	if s.priorities[priority]--; s.priorities[priority] == 0 {
		delete(s.priorities, priority)
	}
	if i, known := s.index[c.node]; known {
		s.count(i, c, -1)
	} else {
		delete(s.unresolved[c.node], uid)
		if len(s.unresolved[c.node]) == 0 {
			delete(s.unresolved, c.node)
		}
	}
	s.part(c)
}

// count adds (1) or takes out (-1) a pod's share of a node.
func (s *state) count(i int, c *counted, sign int32) {
	if !s.trying {
		s.changes.note(i)
	}
	s.resources.add(i, c.request, int64(sign))
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
	s.terms.count(i, c, sign)
	s.volumes.count(i, c, sign)
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
func (s *state) sameForCounting(c *counted, pod *corev1.Pod) bool {
	return c.dying == (pod.DeletionTimestamp != nil) && mapsEqual(c.pod.Labels, pod.Labels) &&
		(c.pod.Generation == pod.Generation && pod.Generation != 0 && sameResources(&c.pod.Status, &pod.Status) ||
			s.sameDemand(c, pod))
}

func (s *state) sameDemand(c *counted, pod *corev1.Pod) bool {
	return c.request.equal(s.resources.podRequest(pod)) && slices.Equal(c.ports, hostPorts(pod)) &&
		slices.EqualFunc(c.own, s.shapeOf(pod).own, func(a, b ownTerm) bool { return a.key == b.key })
}

// sameResources: the statuses tell of no resources, or share what they tell.
func sameResources(a, b *corev1.PodStatus) bool {
	if a.Resources != b.Resources || len(a.AllocatedResources)+len(b.AllocatedResources) > 0 {
		return false
	}
	for _, list := range [2][]corev1.ContainerStatus{a.ContainerStatuses, b.ContainerStatuses} {
		for i := range list {
			if list[i].Resources != nil || list[i].AllocatedResources != nil {
				return false
			}
		}
	}
	return true
}

func takesLess(now, before request) bool {
	for _, a := range before.amounts {
		if now.of(a.resource) < a.value {
			return true
		}
	}
	return false
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

func sameImages(a, b *corev1.Node) bool {
	return slices.EqualFunc(a.Status.Images, b.Status.Images, func(x, y corev1.ContainerImage) bool {
		return x.SizeBytes == y.SizeBytes && slices.Equal(x.Names, y.Names)
	})
}
