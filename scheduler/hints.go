package scheduler

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
)

// change is what happened in the cluster that may let a pod fit that did not.
type change uint8

const (
	nodeChanged      change = 1 << iota // a node came, or its labels, taints or room changed
	nodeGone                            // a domain may be gone with it
	podLeft                             // a counted pod went away, or takes less
	podCame                             // a pod was bound, or its labels changed
	namespaceChanged                    // labels
	volumeChanged                       // claims, volumes, classes, what nodes attach
	anyChange        = ^change(0)
)

// failure is why a pod waits: which changes may help it, and the pod as it was looked at.
type failure struct {
	wakes change
	cares cares
	p     *placement
}

// cares are the sorts of reasons that a pod was refused for.
type cares uint8

const (
	caresRoom cares = 1 << iota // on one node: resources and ports
	caresSpread
	caresAffinity
	caresVolumes
)

// failureOf tells which changes may let the pod fit.
func failureOf(p *placement, why *refusals) failure {
	f := failure{wakes: nodeChanged, p: p}
	if why.first != "" {
		f.cares |= caresVolumes
	}
	for reason := range why.counts {
		switch {
		case reason == reasonSpread, reason == reasonSpreadLabel:
			f.cares |= caresSpread
		case reason == reasonAffinity, reason == reasonAntiAffinity, reason == reasonExistingAnti:
			f.cares |= caresAffinity
		case strings.HasPrefix(reason, "Insufficient"), reason == "Too many pods", reason == reasonPorts:
			f.cares |= caresRoom
		case !slices.Contains(refusalReasons[:], reason):
			f.cares |= caresVolumes
		}
	}
	if f.cares&caresRoom != 0 {
		f.wakes |= podLeft
	}
	if f.cares&caresSpread != 0 {
		f.wakes |= nodeGone | podLeft | podCame
	}
	if f.cares&caresAffinity != 0 {
		f.wakes |= podLeft | podCame | namespaceChanged
	}
	if f.cares&caresVolumes != 0 {
		f.wakes |= volumeChanged | podLeft
	}
	return f
}

// nodeHelps says whether a node that changed might take the pod.
func (s *state) nodeHelps(f failure, name string) bool {
	if f.p == nil || f.cares&(caresSpread|caresVolumes) != 0 {
		return true
	}
	i, known := s.index[name]
	return known && s.suits(f.p, i) && s.roomFor(f.p, i)
}

// roomFor says whether a node would have room for the pod if less important pods were evicted.
func (s *state) roomFor(p *placement, i int) bool {
	if s.resources.fits(i, p.request) {
		return true
	}
	for _, a := range p.request.amounts {
		if a.value > s.resources.have[a.resource][i] {
			return false
		}
	}
	evictable := map[int]int64{}
	for _, c := range s.podsOnNode[i] {
		if corehelpers.PodPriority(c.pod) < p.priority {
			evictable[podsID]++
			for _, a := range c.request.amounts {
				evictable[a.resource] += a.value
			}
		}
	}
	if s.resources.have[podsID][i]-s.resources.used[podsID][i]+evictable[podsID] < 1 {
		return false
	}
	for _, a := range p.request.amounts {
		if a.value > s.resources.have[a.resource][i]-s.resources.used[a.resource][i]+evictable[a.resource] {
			return false
		}
	}
	return true
}

// suits: the node's own properties do not refuse the pod.
func (s *state) suits(p *placement, i int) bool {
	if p.static.version != s.nodesVersion {
		p.static.refresh(s)
	}
	return p.static.verdicts[i].refused == 0
}

// leavingHelps says whether a pod that left a node might let this one fit.
func (s *state) leavingHelps(f failure, node string) bool {
	if f.p == nil || f.cares&^caresRoom != 0 {
		return true
	}
	if s.nominated.nodeFor(f.p.pod) != "" {
		return true // it may have to look for victims again
	}
	i, known := s.index[node]
	return known && s.suits(f.p, i) && s.roomFor(f.p, i)
}

// comingHelps says whether a pod that was bound, or got other labels, might let this one fit.
func (s *state) comingHelps(f failure, pod *corev1.Pod) bool {
	if f.p == nil {
		return true
	}
	g := s.groupOf(pod)
	return slices.ContainsFunc(f.p.shape.affinity, func(t ownTerm) bool { return t.term.matches(g, s.namespaces) }) ||
		slices.ContainsFunc(f.p.shape.hard, func(c constraint) bool { return c.set.matches(g, s.namespaces) })
}
