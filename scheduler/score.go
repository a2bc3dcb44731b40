package scheduler

import (
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// scoreTaints prefers nodes with fewer PreferNoSchedule taints that the pod does not tolerate.
func scoreTaints(_ *state, p *placement, in []int, out []int64) {
	for k, i := range in {
		out[k] = p.class.verdicts[i].avoid
	}
	normalize(out, true)
}

// scoreNodeAffinity prefers nodes that match more weight of preferred node affinity.
func scoreNodeAffinity(_ *state, p *placement, in []int, out []int64) {
	if p.class.preferred == nil {
		return
	}
	for k, i := range in {
		out[k] = p.class.verdicts[i].prefer
	}
	normalize(out, false)
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

// scoreLeastAllocated prefers nodes with the larger share of CPU and memory left.
func scoreLeastAllocated(s *state, p *placement, in []int, out []int64) {
	cpu, memory := s.resources.have[corev1.ResourceCPU], s.resources.have[corev1.ResourceMemory]
	for k, i := range in {
		var sum, weights int64
		for _, r := range [2]struct{ have, used int64 }{
			{cpu[i], s.resources.scoreCPU[i] + p.request.scoreCPU},
			{memory[i], s.resources.scoreMB[i] + p.request.scoreMB},
		} {
			if r.have == 0 {
				continue
			}
			weights++
			if r.used <= r.have {
				sum += (r.have - r.used) * 100 / r.have
			}
		}
		if weights > 0 {
			out[k] = sum / weights
		}
	}
}

// scoreBalanced prefers nodes whose CPU and memory would be used to a like share.
func scoreBalanced(s *state, p *placement, in []int, out []int64) {
	for k, i := range in {
		var shares []float64
		for _, name := range [2]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			have := s.resources.have[name][i]
			if have == 0 {
				continue
			}
			used := s.resources.used[name][i] + p.request.amounts[name]
			shares = append(shares, min(1, float64(used)/float64(have)))
		}
		deviation := 0.0
		if len(shares) == 2 {
			deviation = math.Abs(shares[0]-shares[1]) / 2
		}
		out[k] = int64((1 - deviation) * 100)
	}
}

// Image sizes between which having an image counts from nothing to all.
const (
	smallImage = 23 * 1024 * 1024
	largeImage = 1000 * 1024 * 1024
)

// scoreImages prefers nodes that have the pod's images, the larger and the more widely
// spread the better (so that one node with an image does not draw all pods).
func scoreImages(s *state, p *placement, in []int, out []int64) {
	var names []string
	for _, list := range [][]corev1.Container{p.pod.Spec.InitContainers, p.pod.Spec.Containers} {
		for _, c := range list {
			names = append(names, normalizedImage(c.Image))
		}
	}
	having := make([]int64, len(names))
	for i, images := range s.images {
		if s.nodes[i] == nil {
			continue
		}
		for n, name := range names {
			if _, ok := images[name]; ok {
				having[n]++
			}
		}
	}
	most := int64(largeImage * len(names))
	for k, i := range in {
		var sum int64
		for n, name := range names {
			sum += int64(float64(s.images[i][name]) * float64(having[n]) / float64(s.nodeCount))
		}
		switch {
		case sum < smallImage:
		case sum > most:
			out[k] = 100
		default:
			out[k] = 100 * (sum - smallImage) / (most - smallImage)
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
