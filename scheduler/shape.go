package scheduler

import (
	corev1 "k8s.io/api/core/v1"
)

// shape is what a pod's affinity and spread constraints say, read once for all pods with
// equal ones, in the same namespace and with the same labels.
type shape struct {
	hard, soft []constraint
	spreads    bool // it has constraints of its own: the built-in ones do not apply
	own        []ownTerm
	affinity   []ownTerm // required
	all        *term     // pods that match all of affinity
	anti       []ownTerm // required
	prefer     []ownTerm // preferred, both signs
	selfish    bool      // it matches its own affinity terms
}

// maxShapes bounds the shapes remembered; beyond, all are forgotten at once.
const maxShapes = 10_000

var plainShape = &shape{}

// shapeOf gives the shape of a pod.
func (s *state) shapeOf(pod *corev1.Pod) *shape {
	a := pod.Spec.Affinity
	if len(pod.Spec.TopologySpreadConstraints) == 0 && (a == nil || a.PodAffinity == nil && a.PodAntiAffinity == nil) {
		return plainShape
	}
	s.buf = s.groups.appendLabels(appendString(s.buf[:0], pod.Namespace), pod.Labels)
	if a != nil {
		if a.PodAffinity != nil {
			s.buf = appendEncoded(s.buf, a.PodAffinity)
		}
		s.buf = append(s.buf, 0xff)
		if a.PodAntiAffinity != nil {
			s.buf = appendEncoded(s.buf, a.PodAntiAffinity)
		}
	}
	s.buf = append(s.buf, 0xff)
	for i := range pod.Spec.TopologySpreadConstraints {
		s.buf = appendEncoded(s.buf, &pod.Spec.TopologySpreadConstraints[i])
	}
	if k := s.shapes[string(s.buf)]; k != nil {
		return k
	}
	key := string(s.buf)
	k := s.newShape(pod)
	if len(s.shapes) >= maxShapes {
		clear(s.shapes)
	}
	s.shapes[key] = k
	return k
}

func appendEncoded(buf []byte, o interface{ Marshal() ([]byte, error) }) []byte {
	encoded, err := o.Marshal()
	if err != nil {
		return append(buf, 0xfe) // cannot be: these types always encode
	}
	return appendString(buf, string(encoded))
}

func (s *state) newShape(pod *corev1.Pod) *shape {
	k := &shape{spreads: len(pod.Spec.TopologySpreadConstraints) > 0, own: ownTerms(pod)}
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		if one := newConstraint(pod, c); c.WhenUnsatisfiable == corev1.DoNotSchedule {
			k.hard = append(k.hard, one)
		} else {
			k.soft = append(k.soft, one)
		}
	}
	for _, t := range k.own {
		switch t.kind {
		case ownAffinity:
			k.affinity = append(k.affinity, t)
		case ownAntiAffinity:
			k.anti = append(k.anti, t)
		default:
			k.prefer = append(k.prefer, t)
		}
	}
	if len(k.affinity) > 0 {
		k.all = allOf(k.affinity)
		k.selfish = k.all.matches(&group{namespace: pod.Namespace, labels: pod.Labels}, s.namespaces)
	}
	return k
}

// ownTerms are the affinity terms that a pod carries.
func ownTerms(pod *corev1.Pod) []ownTerm {
	a := pod.Spec.Affinity
	if a == nil {
		return nil
	}
	var own []ownTerm
	add := func(kind ownKind, weight int32, t *corev1.PodAffinityTerm) {
		read := affinityTerm(pod, t)
		own = append(own, ownTerm{kind, t.TopologyKey, weight, read, string(kind) + "\x00" + t.TopologyKey + "\x00" + read.key})
	}
	if p := a.PodAffinity; p != nil {
		for i := range p.RequiredDuringSchedulingIgnoredDuringExecution {
			add(ownAffinity, 1, &p.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range p.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &p.PreferredDuringSchedulingIgnoredDuringExecution[i]
			add(ownPreferred, w.Weight, &w.PodAffinityTerm)
		}
	}
	if p := a.PodAntiAffinity; p != nil {
		for i := range p.RequiredDuringSchedulingIgnoredDuringExecution {
			add(ownAntiAffinity, 1, &p.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range p.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &p.PreferredDuringSchedulingIgnoredDuringExecution[i]
			add(ownPreferredAnti, w.Weight, &w.PodAffinityTerm)
		}
	}
	return own
}
