package scheduler

import corev1 "k8s.io/api/core/v1"

// domains number the values of one topology key over the nodes.
type domains struct {
	of      []int32 // node to domain, -1 without the label
	epochs  []uint32
	ids     map[string]int32
	without int    // nodes without the label
	version uint64 // of the nodes when of was brought up to date
}

// domainsOf gives the up-to-date domains of a topology key.
func (s *state) domainsOf(key string) *domains {
	d := s.topology[key]
	if d != nil && d.version == s.nodesVersion {
		return d
	}
	if d == nil || len(d.ids) > 4*len(s.nodes)+16 { // values that no node has any more are forgotten now and then
		d = &domains{ids: map[string]int32{}}
		s.topology[key] = d
	}
	d.without = 0
	for i, node := range s.nodes {
		if node != nil && !labelled(node, key) {
			d.without++
		}
		if i == len(d.of) {
			d.of, d.epochs = append(d.of, -1), append(d.epochs, ^uint32(0))
		}
		if d.epochs[i] == s.epoch[i] {
			continue
		}
		d.epochs[i] = s.epoch[i]
		d.of[i] = d.id(node, key)
	}
	d.version = s.nodesVersion
	return d
}

func labelled(node *corev1.Node, key string) bool {
	_, ok := node.Labels[key]
	return ok
}

func (d *domains) id(node *corev1.Node, key string) int32 {
	if node == nil {
		return -1
	}
	value, ok := node.Labels[key]
	if !ok {
		return -1
	}
	id, known := d.ids[value]
	if !known {
		id = int32(len(d.ids))
		d.ids[value] = id
	}
	return id
}

// sums are a tally's counts per domain of one topology key, over the nodes that a pod's
// constraints include. They follow each pod; a change of nodes makes them stale, and they
// are made anew when next asked for.
type sums struct {
	key      string // topology key
	of       string // which nodes: "" all
	domains  *domains
	included []bool // nil: all nodes
	counts   []int32
	nodes    []int32 // included nodes per domain
	present  int     // domains with included nodes
	version  uint64
}

// maxSums bounds the sums kept for one tally; beyond, all are made anew.
const maxSums = 32

// sumsOf gives a tally's counts per domain. of names the set of nodes that include makes.
func (s *state) sumsOf(m *tally, key, of string, include func() []bool) *sums {
	var found *sums
	for _, one := range m.sums {
		if one.key == key && one.of == of {
			found = one
			break
		}
	}
	if found == nil {
		if len(m.sums) >= maxSums {
			m.sums = nil
		}
		found = &sums{key: key, of: of}
		m.sums = append(m.sums, found)
	} else if found.version == s.nodesVersion {
		return found
	}
	found.version = s.nodesVersion
	found.domains = s.domainsOf(key)
	if include != nil {
		found.included = include()
	}
	found.counts = make([]int32, len(found.domains.ids))
	found.nodes = make([]int32, len(found.domains.ids))
	found.present = 0
	for i, id := range found.domains.of {
		if id < 0 || found.included != nil && !found.included[i] {
			continue
		}
		if found.nodes[id]++; found.nodes[id] == 1 {
			found.present++
		}
		found.counts[id] += m.perNode[i]
	}
	return found
}

// add follows a pod on a node. Stale sums may know neither the node nor its domain.
func (v *sums) add(node int, n int32) {
	if node >= len(v.domains.of) || v.included != nil && (node >= len(v.included) || !v.included[node]) {
		return
	}
	if id := v.domains.of[node]; id >= 0 && int(id) < len(v.counts) {
		v.counts[id] += n
	}
}

// at is the count in a node's domain; false when the node is in none.
func (v *sums) at(i int) (int32, bool) {
	id := v.domains.of[i]
	if id < 0 {
		return 0, false
	}
	return v.counts[id], true
}

// keep gives the nodes that are in a domain with a count of at most so many.
func (v *sums) keep(nodes []int32, most int32) []int32 {
	of, counts, n := v.domains.of, v.counts, 0
	for _, i := range nodes {
		if id := of[i]; id >= 0 && counts[id] <= most {
			nodes[n] = i
			n++
		}
	}
	return nodes[:n]
}

// keepAbove gives the nodes that are in a domain with a count above 0.
func (v *sums) keepAbove(nodes []int32) []int32 {
	of, counts, n := v.domains.of, v.counts, 0
	for _, i := range nodes {
		if id := of[i]; id >= 0 && counts[id] > 0 {
			nodes[n] = i
			n++
		}
	}
	return nodes[:n]
}

// drop leaves out the nodes in a domain with a count above 0.
func (v *sums) drop(nodes []int32) []int32 {
	of, counts, n := v.domains.of, v.counts, 0
	for _, i := range nodes {
		if id := of[i]; id < 0 || counts[id] <= 0 {
			nodes[n] = i
			n++
		}
	}
	return nodes[:n]
}
