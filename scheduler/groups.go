package scheduler

import (
	"encoding/binary"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// group is the pods of one namespace with the same labels: a selector is asked about a
// group once, not about each pod.
type group struct {
	key       string
	namespace string
	labels    map[string]string
	pods      int // counted ones
	matching  []*tally
	// owned are the counted terms of other pods that match the group; found anew when
	// terms.ownedVersion has moved on.
	owned        []*ownedTally
	ownedVersion uint64
}

// groups are found by a key made of namespace and labels.
type groups struct {
	byKey map[string]*group
	idle  int // groups that no counted pod is in
	buf   []byte
	names []string
}

// minIdleGroups may be kept that no counted pod is in.
const minIdleGroups = 1024

// groupOf gives the group of a pod, with what matches it.
func (s *state) groupOf(pod *corev1.Pod) *group {
	g := &s.groups
	g.buf = g.appendLabels(appendString(g.buf[:0], pod.Namespace), pod.Labels)
	if known := g.byKey[string(g.buf)]; known != nil {
		return known
	}
	if g.idle >= minIdleGroups+len(g.byKey)/2 {
		maps.DeleteFunc(g.byKey, func(_ string, one *group) bool { return one.pods == 0 })
		g.idle = 0
	}
	made := &group{key: string(g.buf), namespace: pod.Namespace, labels: pod.Labels}
	for _, t := range s.terms.matching {
		if t.term.matches(made, s.namespaces) {
			made.matching = append(made.matching, t)
		}
	}
	g.byKey[made.key] = made
	g.idle++
	return made
}

func (g *groups) appendLabels(buf []byte, labels map[string]string) []byte {
	g.names = g.names[:0]
	for name := range labels {
		g.names = append(g.names, name)
	}
	slices.Sort(g.names)
	for _, name := range g.names {
		buf = appendString(appendString(buf, name), labels[name])
	}
	return buf
}

// appendString appends a string so that what follows cannot be mistaken for a part of it.
func appendString(buf []byte, s string) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(s))), s...)
}

// ownedBy gives the counted terms of other pods that match the pods of a group.
func (s *state) ownedBy(g *group) []*ownedTally {
	if g.ownedVersion != s.terms.ownedVersion {
		g.owned = g.owned[:0]
		for _, o := range s.terms.owned {
			if o.ownTerm.term.matches(g, s.namespaces) {
				g.owned = append(g.owned, o)
			}
		}
		g.ownedVersion = s.terms.ownedVersion
	}
	return g.owned
}
