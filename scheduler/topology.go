package scheduler

import corev1 "k8s.io/api/core/v1"

// domains number the values of one topology key over the nodes.
type domains struct {
	of     []int32 // node to domain, -1 without the label
	epochs []uint32
	ids    map[string]int32
}

// domainsOf gives the up-to-date domains of a topology key.
func (s *state) domainsOf(key string) *domains {
	if s.topology == nil {
		s.topology = map[string]*domains{}
	}
	d := s.topology[key]
	if d == nil || len(d.ids) > 4*len(s.nodes)+16 { // values that no node has any more are forgotten now and then
		d = &domains{ids: map[string]int32{}}
		s.topology[key] = d
	}
	for i, node := range s.nodes {
		if i == len(d.of) {
			d.of, d.epochs = append(d.of, -1), append(d.epochs, ^uint32(0))
		}
		if d.epochs[i] == s.epoch[i] {
			continue
		}
		d.epochs[i] = s.epoch[i]
		d.of[i] = d.id(node, key)
	}
	return d
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

// sum adds counts per node up to counts per domain, over the nodes that include says.
func (d *domains) sum(perNode []int32, include func(i int) bool) (counts []int32, present []bool) {
	counts, present = make([]int32, len(d.ids)), make([]bool, len(d.ids))
	for i, id := range d.of {
		if id < 0 || include != nil && !include(i) {
			continue
		}
		present[id] = true
		counts[id] += perNode[i]
	}
	return counts, present
}
