package podstatus

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/kubelet/plan"
)

func (b *builder) conditions() {
	b.set(b.readyToStart())
	b.set(b.initialized())
	containers := b.containersReady()
	b.set(b.podReady(containers))
	b.set(containers)
	if find(b.out.Conditions, corev1.PodScheduled) == nil {
		b.set(corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	}
}

func find(list []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

// set puts a condition in its place; the time of transition changes with the status alone.
func (b *builder) set(c corev1.PodCondition) {
	c.ObservedGeneration = b.Pod.Generation
	c.LastTransitionTime = metav1.NewTime(b.Now).Rfc3339Copy()
	if have := find(b.out.Conditions, c.Type); have != nil {
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		c.LastProbeTime = have.LastProbeTime
		*have = c
		return
	}
	b.out.Conditions = append(b.out.Conditions, c)
}

func truth(v bool) corev1.ConditionStatus {
	if v {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

func (b *builder) readyToStart() corev1.PodCondition {
	s := b.Observed.Sandbox()
	up := s != nil && s.Ready && (b.Pod.Spec.HostNetwork || len(s.IPs) > 0)
	return corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: truth(up)}
}

func (b *builder) initialized() corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if b.out.Phase == corev1.PodSucceeded {
		c.Reason = "PodCompleted"
		return c
	}
	if b.begun() {
		return c
	}
	var missing []string
	for i := range b.out.InitContainerStatuses {
		s := &b.out.InitContainerStatuses[i]
		if plan.Sidecar(&b.Pod.Spec.InitContainers[i]) {
			if s.Started == nil || !*s.Started {
				missing = append(missing, s.Name)
			}
		} else if !s.Ready {
			missing = append(missing, s.Name)
		}
	}
	if len(missing) > 0 {
		c.Status, c.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
		c.Message = fmt.Sprintf("containers with incomplete status: %s", missing)
	}
	return c
}

func (b *builder) containersReady() corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}
	switch b.out.Phase {
	case corev1.PodSucceeded:
		c.Status, c.Reason = corev1.ConditionFalse, "PodCompleted"
		return c
	case corev1.PodFailed:
		c.Status, c.Reason = corev1.ConditionFalse, "PodFailed"
		return c
	}
	var unready []string
	for i := range b.out.InitContainerStatuses {
		if s := &b.out.InitContainerStatuses[i]; plan.Sidecar(&b.Pod.Spec.InitContainers[i]) && !s.Ready {
			unready = append(unready, s.Name)
		}
	}
	for i := range b.out.ContainerStatuses {
		if s := &b.out.ContainerStatuses[i]; !s.Ready {
			unready = append(unready, s.Name)
		}
	}
	if len(unready) > 0 {
		c.Status, c.Reason = corev1.ConditionFalse, "ContainersNotReady"
		c.Message = fmt.Sprintf("containers with unready status: %s", unready)
	}
	return c
}

func (b *builder) podReady(containers corev1.PodCondition) corev1.PodCondition {
	c := containers
	c.Type = corev1.PodReady
	if c.Status != corev1.ConditionTrue {
		return c
	}
	var missing []string
	for _, g := range b.Pod.Spec.ReadinessGates {
		have := find(b.Pod.Status.Conditions, g.ConditionType)
		switch {
		case have == nil:
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", string(g.ConditionType)))
		case have.Status != corev1.ConditionTrue:
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", string(g.ConditionType), have.Status))
		}
	}
	if len(missing) > 0 {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(missing, ", ")
	}
	return c
}

// resizing shows the conditions of a resize that is under way and drops those that are over.
func (b *builder) resizing() {
	for _, t := range []corev1.PodConditionType{corev1.PodResizePending, corev1.PodResizeInProgress} {
		var want *corev1.PodCondition
		for _, c := range b.Resizing {
			if c != nil && c.Type == t {
				want = c
			}
		}
		if want != nil {
			generation := want.ObservedGeneration
			b.set(*want)
			find(b.out.Conditions, t).ObservedGeneration = generation
			continue
		}
		b.out.Conditions = slices.DeleteFunc(b.out.Conditions, func(c corev1.PodCondition) bool { return c.Type == t })
	}
	if b.Pod.Spec.Resources == nil {
		return
	}
	b.out.AllocatedResources = b.Pod.Spec.Resources.Requests.DeepCopy()
	b.out.Resources = b.Pod.Spec.Resources.DeepCopy()
}
