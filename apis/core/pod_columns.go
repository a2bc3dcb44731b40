package core

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

var podColumns = []api.Column[*corev1.Pod]{
	text("Ready", "The aggregate readiness state of this pod for accepting traffic.", func(p *corev1.Pod) string {
		s := summarize(p)
		return fmt.Sprintf("%d/%d", s.ready, s.total)
	}),
	text("Status", "The aggregate status of the containers in this pod.", func(p *corev1.Pod) string { return summarize(p).reason }),
	text("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.", func(p *corev1.Pod) string { return summarize(p).restartText() }),
	Age[*corev1.Pod](),
	wide("IP", corev1.PodStatus{}.SwaggerDoc()["podIP"], func(p *corev1.Pod) string { return orNone(podIPField(p)) }),
	wide("Node", corev1.PodSpec{}.SwaggerDoc()["nodeName"], func(p *corev1.Pod) string { return orNone(p.Spec.NodeName) }),
	wide("Nominated Node", corev1.PodStatus{}.SwaggerDoc()["nominatedNodeName"], func(p *corev1.Pod) string { return orNone(p.Status.NominatedNodeName) }),
	wide("Readiness Gates", corev1.PodSpec{}.SwaggerDoc()["readinessGates"], readinessGates),
}

// summary is what kubectl get pods tells about the containers together.
type summary struct {
	ready, total int
	reason       string
	restarts     restartCount
}

type restartCount struct {
	n    int
	last metav1.Time
}

func (r *restartCount) add(s *corev1.ContainerStatus) {
	r.n += int(s.RestartCount)
	if t := s.LastTerminationState.Terminated; t != nil && r.last.Before(&t.FinishedAt) {
		r.last = t.FinishedAt
	}
}

func (s summary) restartText() string {
	if s.restarts.n != 0 && !s.restarts.last.IsZero() {
		return fmt.Sprintf("%d (%s ago)", s.restarts.n, Since(s.restarts.last))
	}
	return strconv.Itoa(s.restarts.n)
}

func summarize(p *corev1.Pod) summary {
	s := summary{total: len(p.Spec.Containers), reason: string(p.Status.Phase)}
	if p.Status.Reason != "" {
		s.reason = p.Status.Reason
	}
	if c := podCondition(p, corev1.PodScheduled); c != nil && c.Reason == corev1.PodReasonSchedulingGated {
		s.reason = corev1.PodReasonSchedulingGated
	}
	sidecars := sidecarNames(p)
	s.total += len(sidecars)
	initializing, sidecarRestarts := s.initContainers(p, sidecars)
	if !initializing || podConditionTrue(p, corev1.PodInitialized) {
		s.restarts = sidecarRestarts
		s.mainContainers(p)
	}
	if p.DeletionTimestamp != nil {
		if p.Status.Reason == "NodeLost" {
			s.reason = "Unknown"
		} else if !podFinished(p) {
			s.reason = "Terminating"
		}
	}
	return s
}

// initContainers looks for the first init container that is not done.
func (s *summary) initContainers(p *corev1.Pod, sidecars map[string]bool) (initializing bool, sidecarRestarts restartCount) {
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		s.restarts.add(c)
		sidecar := sidecars[c.Name]
		if sidecar {
			sidecarRestarts.add(c)
		}
		t, w := c.State.Terminated, c.State.Waiting
		switch {
		case t != nil && t.ExitCode == 0:
			continue
		case sidecar && c.Started != nil && *c.Started:
			if c.Ready {
				s.ready++
			}
			continue
		case t != nil:
			s.reason = "Init:" + exitReason(t)
		case w != nil && w.Reason != "" && w.Reason != "PodInitializing":
			s.reason = "Init:" + w.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return true, sidecarRestarts
	}
	return false, sidecarRestarts
}

func (s *summary) mainContainers(p *corev1.Pod) {
	running := false
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &p.Status.ContainerStatuses[i]
		s.restarts.add(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.reason = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.reason = exitReason(c.State.Terminated)
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.reason == "Completed" && running {
		if s.reason = "NotReady"; podConditionTrue(p, corev1.PodReady) {
			s.reason = "Running"
		}
	}
}

func exitReason(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func sidecarNames(p *corev1.Pod) map[string]bool {
	names := map[string]bool{}
	for i := range p.Spec.InitContainers {
		if isSidecar(&p.Spec.InitContainers[i]) {
			names[p.Spec.InitContainers[i].Name] = true
		}
	}
	return names
}

func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func podFinished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func podCondition(p *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == kind {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

func podConditionTrue(p *corev1.Pod, kind corev1.PodConditionType) bool {
	c := podCondition(p, kind)
	return c != nil && c.Status == corev1.ConditionTrue
}

// setPodCondition puts a condition, with the time of the change when the status changes.
func setPodCondition(p *corev1.Pod, c corev1.PodCondition) {
	c.LastTransitionTime = metav1.Now()
	old := podCondition(p, c.Type)
	if old == nil {
		p.Status.Conditions = append(p.Status.Conditions, c)
		return
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	*old = c
}

func readinessGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return none
	}
	met := 0
	for _, g := range p.Spec.ReadinessGates {
		if podConditionTrue(p, g.ConditionType) {
			met++
		}
	}
	return fmt.Sprintf("%d/%d", met, len(p.Spec.ReadinessGates))
}

// podEnded tells readers of a table that a pod will not run again.
func podEnded(p *corev1.Pod) []metav1.TableRowCondition {
	text := map[corev1.PodPhase]string{corev1.PodSucceeded: "The pod has completed successfully.", corev1.PodFailed: "The pod failed."}[p.Status.Phase]
	if text == "" {
		return nil
	}
	return []metav1.TableRowCondition{{Type: metav1.RowCompleted, Status: metav1.ConditionTrue, Reason: string(p.Status.Phase), Message: text}}
}
