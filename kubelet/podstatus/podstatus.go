// Package podstatus computes a pod's status from its spec, what the runtime has of it, and
// the probes' verdicts: phase, conditions and container states as the API defines them.
//
// The one idea: a pure function; what the runtime has forgotten is kept from the status
// that the API server has. The kubelet's pod worker calls it after each step.
package podstatus

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/kubelet/plan"
	"github.com/proa-dev/proa/kubelet/podspec"
)

// Input of a status.
type Input struct {
	Pod         *corev1.Pod
	Old         *corev1.PodStatus // the last written; nil: the pod's own
	Observed    *plan.Observed
	Waiting     map[string]plan.Waiting // why containers do not run, by name
	Started     func(c *corev1.Container, id string) bool
	Ready       func(c *corev1.Container, id string) bool
	Message     func(c *plan.Container) string               // termination message; may be nil
	Actuated    func(id string) *corev1.ResourceRequirements // resources in force; nil, or answering nil: the pod's
	Resizing    []*corev1.PodCondition                       // conditions of a resize under way; nils are none
	Runtime     string                                       // prefix of container ids
	HostIPs     []string
	Final       *Final // the node ended the pod
	Terminating bool   // no container is started any more
	Finished    bool   // nothing runs and nothing will
	Now         time.Time
}

// Final is why the node itself ended a pod.
type Final struct {
	Reason, Message string
	Conditions      []corev1.PodCondition
}

// Compute answers the status to be shown.
func Compute(in Input) corev1.PodStatus {
	if in.Old == nil {
		in.Old = &in.Pod.Status
	}
	if in.Observed == nil {
		in.Observed = &plan.Observed{}
	}
	out := *in.Old.DeepCopy()
	b := &builder{Input: in, out: &out}
	if in.Final == nil || len(in.Observed.Containers) > 0 || len(out.ContainerStatuses) > 0 {
		b.containers() // a pod that was refused never gets any
	}
	b.addresses()
	out.ObservedGeneration = in.Pod.Generation
	out.QOSClass = podspec.Class(in.Pod)
	if out.StartTime == nil {
		now := metav1.NewTime(in.Now).Rfc3339Copy()
		out.StartTime = &now
	}
	out.Phase = b.phase()
	if in.Final != nil {
		out.Reason, out.Message = in.Final.Reason, in.Final.Message
		for _, c := range in.Final.Conditions {
			b.set(c)
		}
	}
	b.conditions()
	b.resizing()
	return out
}

type builder struct {
	Input
	out *corev1.PodStatus
}

func (b *builder) addresses() {
	if len(b.HostIPs) > 0 {
		b.out.HostIP, b.out.HostIPs = b.HostIPs[0], nil
		for _, ip := range b.HostIPs {
			b.out.HostIPs = append(b.out.HostIPs, corev1.HostIP{IP: ip})
		}
	}
	var ips []string
	if s := b.Observed.Sandbox(); s != nil {
		ips = s.IPs
		if b.Pod.Spec.HostNetwork {
			ips = b.HostIPs
		}
	}
	if len(ips) == 0 {
		return // a stopped sandbox has none; what is known stays
	}
	b.out.PodIP, b.out.PodIPs = ips[0], nil
	for _, ip := range ips {
		b.out.PodIPs = append(b.out.PodIPs, corev1.PodIP{IP: ip})
	}
}

// phase follows the API's definition.
func (b *builder) phase() corev1.PodPhase {
	if old := b.Old.Phase; old == corev1.PodSucceeded || old == corev1.PodFailed {
		return old
	}
	if b.Final != nil && !b.Observed.Live() {
		return corev1.PodFailed
	}
	if p, decided := b.initPhase(); decided {
		return p
	}
	running, waiting, stopped, succeeded := 0, 0, 0, 0
	for i := range b.out.ContainerStatuses {
		s := &b.out.ContainerStatuses[i]
		switch {
		case s.State.Running != nil:
			running++
		case s.State.Terminated != nil:
			stopped++
			if s.State.Terminated.ExitCode == 0 {
				succeeded++
			}
		case s.LastTerminationState.Terminated != nil:
			stopped++ // between two runs
		default:
			waiting++
		}
	}
	waiting += len(b.Pod.Spec.Containers) - len(b.out.ContainerStatuses)
	switch {
	case b.Finished && b.Terminating && running == 0:
		return ended(stopped == succeeded && stopped > 0 && waiting == 0)
	case waiting > 0:
		return corev1.PodPending
	case running > 0:
		return corev1.PodRunning
	case b.Finished:
		return ended(stopped == succeeded)
	}
	return corev1.PodRunning
}

func ended(well bool) corev1.PodPhase {
	if well {
		return corev1.PodSucceeded
	}
	return corev1.PodFailed
}

// initPhase decides by the init containers while they are not done.
func (b *builder) initPhase() (corev1.PodPhase, bool) {
	for i := range b.out.InitContainerStatuses {
		s := &b.out.InitContainerStatuses[i]
		c := &b.Pod.Spec.InitContainers[i]
		if plan.Sidecar(c) {
			if !b.begun() && !(s.Started != nil && *s.Started) && !b.Finished {
				return corev1.PodPending, true
			}
			continue
		}
		if t := s.State.Terminated; t != nil && t.ExitCode == 0 {
			continue
		}
		if b.begun() {
			continue
		}
		if b.Finished {
			return corev1.PodFailed, true
		}
		return corev1.PodPending, true
	}
	return "", false
}

// begun tells whether any of the pod's own containers has begun.
func (b *builder) begun() bool {
	for i := range b.out.ContainerStatuses {
		s := &b.out.ContainerStatuses[i]
		if s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil {
			return true
		}
	}
	return false
}
