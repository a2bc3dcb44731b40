package scheduler

import (
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// What each scorer's 0 to 100 counts.
const (
	weightTaints   = 3
	weightNode     = 2 // node affinity
	weightSpread   = 2
	weightAffinity = 2
)

// leastAllocated prefers nodes with the larger share of CPU and memory left.
func leastAllocated(s *state, i int, r request) int64 {
	var sum, weights int64
	for _, one := range [2]struct{ have, used int64 }{
		{s.resources.have[cpuID][i], s.resources.scoreCPU[i] + r.scoreCPU},
		{s.resources.have[memoryID][i], s.resources.scoreBytes[i] + r.scoreBytes},
	} {
		if one.have == 0 {
			continue
		}
		weights++
		if one.used <= one.have {
			sum += (one.have - one.used) * 100 / one.have
		}
	}
	if weights == 0 {
		return 0
	}
	return sum / weights
}

// balanced prefers nodes whose CPU and memory the pod brings to a like share of use: 75
// when it changes nothing, less when they grow apart. Not asked for pods without requests.
func balanced(s *state, i int, r request) int64 {
	cpu, memory := s.resources.have[cpuID][i], s.resources.have[memoryID][i]
	usedCPU, usedMemory := s.resources.used[cpuID][i], s.resources.used[memoryID][i]
	with := balance(usedCPU+r.of(cpuID), cpu, usedMemory+r.of(memoryID), memory)
	return 50 + (50+with-balance(usedCPU, cpu, usedMemory, memory))/2
}

func balance(usedCPU, cpu, usedMemory, memory int64) int64 {
	if cpu == 0 || memory == 0 {
		return 100
	}
	a := min(1, float64(usedCPU)/float64(cpu))
	b := min(1, float64(usedMemory)/float64(memory))
	return int64((1 - math.Abs((a-b)/2)) * 100)
}

// Image sizes between which having an image counts from nothing to all.
const (
	smallImage = 23 * 1024 * 1024
	largeImage = 1000 * 1024 * 1024
)

// imageScore prefers nodes that have the pod's images, the larger and the more widely
// spread the better (so that one node with an image does not draw all pods).
func imageScore(s *state, i int, k *class) int64 {
	var sum int64
	for n, name := range k.images {
		if k.having[n] == 0 {
			continue
		}
		if size, ok := s.images[i][name]; ok {
			sum += int64(float64(size) * (float64(k.having[n]) / float64(k.nodes)))
		}
	}
	most := int64(largeImage) * int64(len(k.images))
	if sum < smallImage {
		return 0
	}
	return 100 * (min(sum, most) - smallImage) / (most - smallImage)
}

// imagesMoved brings up to date how many nodes have the images, and tells whether that changed.
func (k *class) imagesMoved(s *state) bool {
	moved, any := k.having == nil && len(k.images) > 0, false
	if moved {
		k.having = make([]int32, len(k.images))
	}
	for n, name := range k.images {
		now := s.imageNodes[name]
		moved = moved || now != k.having[n]
		any = any || now > 0
		k.having[n] = now
	}
	if any && k.nodes != s.nodeCount {
		moved = true
	}
	k.nodes = s.nodeCount
	return moved
}

func imagesOf(pod *corev1.Pod) []string {
	var names []string
	eachImage(pod, func(name string) { names = append(names, normalizedImage(name)) })
	return names
}

func appendImages(buf []byte, pod *corev1.Pod) []byte {
	eachImage(pod, func(name string) { buf = appendString(buf, name) })
	return buf
}

func eachImage(pod *corev1.Pod, f func(name string)) {
	for i := range pod.Spec.InitContainers {
		f(pod.Spec.InitContainers[i].Image)
	}
	for i := range pod.Spec.Containers {
		f(pod.Spec.Containers[i].Image)
	}
	for i := range pod.Spec.Volumes {
		if image := pod.Spec.Volumes[i].Image; image != nil {
			f(image.Reference)
		}
	}
}

// normalizedImage adds the tag that an image without one means.
func normalizedImage(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		return name + ":latest"
	}
	return name
}

// scoreTaints prefers nodes with fewer PreferNoSchedule taints that the pod does not tolerate.
func scoreTaints(p *placement, in []int32, one []int64) {
	for k, i := range in {
		one[k] = int64(p.static.verdicts[i].avoid)
	}
	normalize(one, true)
}

// scoreNodeAffinity prefers nodes that match more weight of preferred node affinity.
func scoreNodeAffinity(p *placement, in []int32, one []int64) {
	for k, i := range in {
		one[k] = int64(p.static.verdicts[i].prefer)
	}
	normalize(one, false)
}

// normalize scales to 0..100 by the greatest value; reverse makes the least the best.
func normalize(out []int64, reverse bool) {
	var most int64
	for _, v := range out {
		most = max(most, v)
	}
	for k, v := range out {
		switch {
		case most == 0 && reverse:
			out[k] = 100
		case most == 0:
		case reverse:
			out[k] = 100 - 100*v/most
		default:
			out[k] = 100 * v / most
		}
	}
}
