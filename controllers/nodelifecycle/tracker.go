package nodelifecycle

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/node/topology"
)

// sign is what is known of one node's life: when this process last noticed anything of it.
type sign struct {
	zone      string
	ready     bool
	heartbeat metav1.Time      // of the Ready condition
	renewed   metav1.MicroTime // of the lease
	seen      time.Time        // local clock; the first look counts, however old what it shows
}

// tracker remembers the signs of life of all nodes. Times are of the local clock, so that
// a node's wrong clock does not matter, and a node's silence never counts from before
// this process started to listen.
type tracker struct {
	mu    sync.Mutex
	grace time.Duration
	nodes map[string]*sign
}

func newTracker(grace time.Duration) *tracker {
	return &tracker{grace: grace, nodes: map[string]*sign{}}
}

// observe takes a node's object into account. changed says that its readiness or zone is
// another than before.
func (t *tracker) observe(node *corev1.Node, now time.Time) (seen time.Time, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.nodes[node.Name]
	if s == nil {
		s = &sign{seen: now}
		t.nodes[node.Name] = s
		changed = true
	}
	ready := condition(node, corev1.NodeReady)
	if ready != nil && !ready.LastHeartbeatTime.Equal(&s.heartbeat) {
		s.heartbeat, s.seen = ready.LastHeartbeatTime, now
	}
	isReady, zone := ready != nil && ready.Status == corev1.ConditionTrue, topology.GetZoneKey(node)
	changed = changed || s.ready != isReady || s.zone != zone
	s.ready, s.zone = isReady, zone
	return s.seen, changed
}

// renewed takes a lease into account. back says that the node had been silent for long
// enough to be doubted.
func (t *tracker) renewed(node string, at metav1.MicroTime, now time.Time) (back bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.nodes[node]
	if s == nil || !s.renewed.Before(&at) {
		return false // without a node's object there is nothing to judge
	}
	back = t.doubted(s, now)
	s.renewed, s.seen = at, now
	return back
}

func (t *tracker) forget(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.nodes, node)
}

// forgive starts every node's silence anew: it was this process that did not listen.
func (t *tracker) forgive(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.nodes {
		s.seen = now
	}
}

// doubted: not known to be gone, but no sign for longer than any healthy node leaves.
func (t *tracker) doubted(s *sign, now time.Time) bool { return now.Sub(s.seen) > t.grace/2 }

// census counts the nodes by zone. With doubt, a node that has been silent for half of
// the grace period counts as not ready: whoever is about to punish one node for its
// silence must know that all others fell silent too, before they are all found so.
func (t *tracker) census(now time.Time, doubt bool) census {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := census{}
	for _, s := range t.nodes {
		n := c[s.zone]
		if s.ready && !(doubt && t.doubted(s, now)) {
			n.ready++
		} else {
			n.silent++
		}
		c[s.zone] = n
	}
	return c
}

// zone names the zone of a node.
func (t *tracker) zone(node string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.nodes[node]; s != nil {
		return s.zone
	}
	return ""
}

// unready names the nodes that are not ready.
func (t *tracker) unready() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for name, s := range t.nodes {
		if !s.ready {
			out = append(out, name)
		}
	}
	return out
}

func condition(node *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == kind {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}
