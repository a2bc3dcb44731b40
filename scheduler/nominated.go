package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
)

// nominations are the pods for which others were evicted from a node, and which wait there
// for the room to become free. Less important pods must not take it.
type nominations struct {
	node map[types.UID]string
	pods map[string]map[types.UID]*counted // by node name
}

// nominate notes that a pod waits for room on a node.
func (s *state) nominate(pod *corev1.Pod, node string) {
	if s.nominated.node[pod.UID] == node {
		return
	}
	s.unnominate(pod.UID)
	s.nominated.node[pod.UID] = node
	there := s.nominated.pods[node]
	if there == nil {
		there = map[types.UID]*counted{}
		s.nominated.pods[node] = there
	}
	c := s.measure(pod, node)
	s.join(c) // keeps the group
	there[pod.UID] = c
}

func (s *state) unnominate(uid types.UID) {
	node, ok := s.nominated.node[uid]
	if !ok {
		return
	}
	delete(s.nominated.node, uid)
	if c := s.nominated.pods[node][uid]; c != nil {
		s.part(c)
	}
	delete(s.nominated.pods[node], uid)
	if len(s.nominated.pods[node]) == 0 {
		delete(s.nominated.pods, node)
	}
}

// nodeFor is the node that a pod waits for, "" for none. What was decided here counts before
// what the pod says: writing it takes its time.
func (n *nominations) nodeFor(pod *corev1.Pod) string {
	if node, ok := n.node[pod.UID]; ok {
		return node
	}
	return pod.Status.NominatedNodeName
}

// matter says whether there are nominated pods other than this one.
func (n *nominations) matter(p *placement) bool {
	if len(n.node) == 0 {
		return false
	}
	_, itself := n.node[p.pod.UID]
	return len(n.node) > 1 || !itself
}

// before gives the pods nominated to a node that are at least as important as a pod.
func (n *nominations) before(p *placement, node string) []*counted {
	var all []*counted
	for uid, c := range n.pods[node] {
		if uid != p.pod.UID && corehelpers.PodPriority(c.pod) >= p.priority {
			all = append(all, c)
		}
	}
	return all
}

// behind gives the pods nominated to a node that are less important than a pod.
func (n *nominations) behind(p *placement, node string) []*corev1.Pod {
	var all []*corev1.Pod
	for _, c := range n.pods[node] {
		if corehelpers.PodPriority(c.pod) < p.priority {
			all = append(all, c.pod)
		}
	}
	return all
}
