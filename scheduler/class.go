package scheduler

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// class is a set of pods that each single node treats alike: equal statics, requests,
// ports and images. It keeps, per node, whether the node takes such a pod and the part of
// the score that depends on that node alone, and follows the log of changed nodes: pods of
// a class cost what changed since the last one, not a walk over all nodes.
type class struct {
	static  *static
	request request
	ports   []hostPort
	images  []string // normalized names, one for each use

	seq    uint64 // of the log when base was brought up to date
	base   []int32
	blocks []block
	having []int32 // nodes that have an image, as base was made with
	nodes  int     // number of nodes, likewise
	used   uint64
	memo   memo
}

// refused as base: the node does not take the pod.
const refused = -1

// block sums up blockSize nodes.
type block struct{ most, count int32 }

const (
	blockBits = 6
	blockSize = 1 << blockBits
)

// maxClassEntries bounds nodes x classes; beyond, classes that were not used lately are forgotten.
const maxClassEntries = 4_000_000

// classOf gives the class of a pod, up to date.
func (s *state) classOf(pod *corev1.Pod, st *static, r request) *class {
	ports := hostPorts(pod)
	s.buf = s.buf[:0]
	s.buf = binary.AppendUvarint(s.buf, uint64(st.id))
	s.buf = binary.AppendUvarint(s.buf, uint64(len(r.amounts)))
	for _, a := range r.amounts {
		s.buf = binary.AppendVarint(binary.AppendUvarint(s.buf, uint64(a.resource)), a.value)
	}
	s.buf = binary.AppendVarint(binary.AppendVarint(s.buf, r.scoreCPU), r.scoreBytes)
	s.buf = binary.AppendUvarint(s.buf, uint64(len(ports)))
	for _, p := range ports {
		s.buf = binary.AppendVarint(appendString(appendString(s.buf, p.ip), string(p.protocol)), int64(p.port))
	}
	s.buf = appendImages(s.buf, pod)
	k := s.classes[string(s.buf)]
	if k == nil {
		s.dropClasses()
		k = &class{static: st, request: r, ports: ports, images: imagesOf(pod)}
		s.classes[string(s.buf)] = k
	}
	s.clock++
	k.used = s.clock
	k.refresh(s)
	return k
}

// dropClasses forgets the half that was used longest ago when there are too many.
func (s *state) dropClasses() {
	if len(s.classes) < 64 || len(s.classes)*len(s.nodes) < maxClassEntries {
		return
	}
	used := make([]uint64, 0, len(s.classes))
	for _, k := range s.classes {
		used = append(used, k.used)
	}
	slices.Sort(used)
	limit := used[len(used)/2]
	for key, k := range s.classes {
		if k.used < limit {
			delete(s.classes, key)
		}
	}
}

// refresh looks again at the nodes that changed.
func (k *class) refresh(s *state) {
	if more := len(s.nodes) - len(k.base); more > 0 {
		k.base = append(k.base, slices.Repeat([]int32{refused}, more)...)
		k.blocks = append(k.blocks, make([]block, (len(k.base)+blockSize-1)>>blockBits-len(k.blocks))...)
		k.sumUp(0, len(k.blocks))
	}
	if k.imagesMoved(s) || s.changes.seq-k.seq > uint64(min(len(s.changes.ring), len(s.nodes)/2+8)) {
		for i := range s.nodes {
			k.base[i] = k.judge(s, i)
		}
		k.sumUp(0, len(k.blocks))
		k.seq = s.changes.seq
		return
	}
	for ; k.seq < s.changes.seq; k.seq++ {
		i := int(s.changes.ring[k.seq%uint64(len(s.changes.ring))])
		if now := k.judge(s, i); now != k.base[i] {
			k.base[i] = now
			k.sumUp(i>>blockBits, i>>blockBits+1)
		}
	}
}

func (k *class) sumUp(from, to int) {
	for b := from; b < to; b++ {
		sum := block{most: refused}
		for _, v := range k.base[b<<blockBits : min(len(k.base), (b+1)<<blockBits)] {
			switch {
			case v > sum.most:
				sum = block{v, 1}
			case v == sum.most:
				sum.count++
			}
		}
		k.blocks[b] = sum
	}
}

// judge gives a node's own part of the score, or refused.
func (k *class) judge(s *state, i int) int32 {
	if s.nodes[i] == nil || k.static.verdicts[i].refused != 0 || !s.resources.fits(i, k.request) || conflicts(s.ports[i], k.ports) {
		return refused
	}
	score := leastAllocated(s, i, k.request) + imageScore(s, i, k)
	if k.request.of(cpuID) != 0 || k.request.of(memoryID) != 0 {
		score += balanced(s, i, k.request)
	}
	return int32(score)
}

// best chooses among the nodes with the highest base, each with the same chance; -1: none.
func (k *class) best(rnd *rand.Rand) int {
	most, count := int32(refused), int32(0)
	for _, b := range k.blocks {
		switch {
		case b.most > most:
			most, count = b.most, b.count
		case b.most == most:
			count += b.count
		}
	}
	if most == refused {
		return -1
	}
	nth := rnd.Int32N(count)
	for n, b := range k.blocks {
		if b.most != most {
			continue
		}
		if nth >= b.count {
			nth -= b.count
			continue
		}
		for i := n << blockBits; ; i++ {
			if k.base[i] == most {
				if nth == 0 {
					return i
				}
				nth--
			}
		}
	}
	return -1
}

// changes is the log of nodes that changed, for classes to follow.
type changes struct {
	seq  uint64
	ring [8192]int32
}

func (c *changes) note(i int) {
	c.seq++
	c.ring[(c.seq-1)%uint64(len(c.ring))] = int32(i)
}
