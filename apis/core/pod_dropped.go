package core

import corev1 "k8s.io/api/core/v1"

// dropUnused clears the fields that belong to features that are off: a client that sets them is
// answered with an object without, as Kubernetes does.
func dropUnused(s *corev1.PodSpec) {
	s.EvictionResponders = nil
	s.SchedulingGroup = nil
	for i := range s.Containers {
		dropFromContainer(&s.Containers[i])
	}
	for i := range s.InitContainers {
		dropFromContainer(&s.InitContainers[i])
	}
	for i := range s.EphemeralContainers {
		c := corev1.Container(s.EphemeralContainers[i].EphemeralContainerCommon)
		dropFromContainer(&c)
		s.EphemeralContainers[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(c)
	}
}

func dropFromContainer(c *corev1.Container) {
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if p == nil {
			continue
		}
		dropFromHTTP(p.HTTPGet)
		if p.GRPC != nil {
			p.GRPC.Mode = nil
		}
	}
	if l := c.Lifecycle; l != nil {
		l.StopSignal = nil
		for _, h := range []*corev1.LifecycleHandler{l.PostStart, l.PreStop} {
			if h != nil {
				dropFromHTTP(h.HTTPGet)
			}
		}
		if *l == (corev1.Lifecycle{}) {
			c.Lifecycle = nil
		}
	}
	for i := range c.VolumeMounts {
		c.VolumeMounts[i].BindMountOptions = nil
	}
}

func dropFromHTTP(h *corev1.HTTPGetAction) {
	if h != nil {
		h.Protocol = nil
	}
}
