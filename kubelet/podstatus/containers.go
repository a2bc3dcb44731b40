package podstatus

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/kubelet/plan"
)

const (
	unknownReason  = "ContainerStatusUnknown"
	unknownMessage = "The container could not be located when the pod was terminated"
	killed         = 137
)

func (b *builder) containers() {
	waits := "ContainerCreating"
	if len(b.Pod.Spec.InitContainers) > 0 {
		waits = "PodInitializing"
	}
	b.out.InitContainerStatuses, b.out.ContainerStatuses, b.out.EphemeralContainerStatuses = nil, nil, nil
	for i := range b.Pod.Spec.InitContainers {
		c := &b.Pod.Spec.InitContainers[i]
		s := b.container(c, b.Old.InitContainerStatuses, waits)
		b.initReady(c, &s)
		b.out.InitContainerStatuses = append(b.out.InitContainerStatuses, s)
	}
	for i := range b.Pod.Spec.Containers {
		c := &b.Pod.Spec.Containers[i]
		s := b.container(c, b.Old.ContainerStatuses, waits)
		b.ready(c, &s)
		b.out.ContainerStatuses = append(b.out.ContainerStatuses, s)
	}
	for i := range b.Pod.Spec.EphemeralContainers {
		c := corev1.Container(b.Pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		s := b.container(&c, b.Old.EphemeralContainerStatuses, waits)
		b.out.EphemeralContainerStatuses = append(b.out.EphemeralContainerStatuses, s)
	}
}

func (b *builder) ready(c *corev1.Container, s *corev1.ContainerStatus) {
	started, ready := false, false
	if seen := b.Observed.Newest(c.Name); seen != nil && s.State.Running != nil {
		started = b.Started(c, seen.ID)
		ready = started && b.Ready(c, seen.ID)
	}
	s.Started, s.Ready = &started, ready
}

func (b *builder) initReady(c *corev1.Container, s *corev1.ContainerStatus) {
	if plan.Sidecar(c) {
		b.ready(c, s)
		return
	}
	started := s.State.Running != nil
	s.Started = &started
	s.Ready = s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
}

func named(list []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// container computes one status without readiness.
func (b *builder) container(c *corev1.Container, olds []corev1.ContainerStatus, waits string) corev1.ContainerStatus {
	old := named(olds, c.Name)
	seen := b.Observed.Newest(c.Name)
	if seen == nil {
		return b.unseen(c, old, waits)
	}
	s := corev1.ContainerStatus{Name: c.Name, Image: seen.Image, ImageID: seen.ImageRef,
		ContainerID: b.Runtime + "://" + seen.ID, RestartCount: int32(seen.Attempt)}
	if seen.Image == "" {
		s.Image = c.Image
	}
	if prev := b.Observed.Previous(c.Name); prev != nil && prev.State == plan.Exited {
		s.LastTerminationState.Terminated = b.terminated(prev)
	} else if old != nil && old.ContainerID == s.ContainerID {
		s.LastTerminationState = old.LastTerminationState
	} else if old != nil && old.State.Terminated != nil {
		s.LastTerminationState = old.State
	}
	b.state(c, &s, seen, waits)
	b.details(c, &s, seen)
	return s
}

func (b *builder) state(c *corev1.Container, s *corev1.ContainerStatus, seen *plan.Container, waits string) {
	w, waiting := b.Waiting[c.Name]
	switch {
	case seen.State == plan.Running:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(seen.StartedAt).Rfc3339Copy()}
	case seen.State == plan.Exited && waiting && !b.Terminating && !b.Finished:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: w.Reason, Message: w.Message}
		s.LastTerminationState = corev1.ContainerState{Terminated: b.terminated(seen)}
	case seen.State == plan.Exited:
		s.State.Terminated = b.terminated(seen)
	case b.Finished, seen.State == plan.Unknown:
		s.State.Terminated = &corev1.ContainerStateTerminated{Reason: unknownReason, Message: unknownMessage, ExitCode: killed, ContainerID: s.ContainerID}
	case waiting:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: w.Reason, Message: w.Message}
	default:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: waits}
	}
}

// unseen is the status of a container that the runtime does not have: not made yet, or forgotten.
func (b *builder) unseen(c *corev1.Container, old *corev1.ContainerStatus, waits string) corev1.ContainerStatus {
	if old != nil && old.State.Terminated != nil {
		return *old.DeepCopy()
	}
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image}
	if old != nil {
		s.RestartCount, s.LastTerminationState = old.RestartCount, old.LastTerminationState
	}
	if old != nil && old.State.Running != nil {
		gone := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: unknownReason, Message: unknownMessage, ExitCode: killed}}
		if b.Terminating || b.Finished {
			s.State, s.ContainerID, s.ImageID, s.Image = gone, old.ContainerID, old.ImageID, old.Image
			return s
		}
		s.LastTerminationState = gone
	}
	if w, ok := b.Waiting[c.Name]; ok {
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: w.Reason, Message: w.Message}
	} else {
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: waits}
	}
	return s
}

func (b *builder) terminated(c *plan.Container) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{ExitCode: c.ExitCode, Reason: c.Reason, Message: c.Message,
		StartedAt: metav1.NewTime(c.StartedAt).Rfc3339Copy(), FinishedAt: metav1.NewTime(c.FinishedAt).Rfc3339Copy(), ContainerID: b.Runtime + "://" + c.ID}
	if t.Reason == "" {
		t.Reason = "Completed"
		if c.ExitCode != 0 {
			t.Reason = "Error"
		}
	}
	if b.Message != nil {
		if m := b.Message(c); m != "" {
			t.Message = m
		}
	}
	return t
}

// details adds what a container was given.
func (b *builder) details(c *corev1.Container, s *corev1.ContainerStatus, seen *plan.Container) {
	for _, m := range c.VolumeMounts {
		v := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			v.RecursiveReadOnly = &mode
		}
		s.VolumeMounts = append(s.VolumeMounts, v)
	}
	if seen.User != nil {
		s.User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: seen.User.UID, GID: seen.User.GID, SupplementalGroups: seen.User.Groups}}
	}
	s.AllocatedResources = c.Resources.Requests.DeepCopy()
	s.Resources = c.Resources.DeepCopy()
	if b.Actuated != nil && s.State.Running != nil {
		if have := b.Actuated(seen.ID); have != nil {
			s.Resources = have.DeepCopy()
		}
	}
	s.Resources.Claims = nil
}
