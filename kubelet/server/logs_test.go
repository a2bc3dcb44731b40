package server

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestHasEnded(t *testing.T) {
	terminated := func(id string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "containerd://" + id}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for name, c := range map[string]struct {
		status *corev1.ContainerStatus
		want   bool
	}{
		"no status":                 {nil, false},
		"runs":                      {&corev1.ContainerStatus{State: running}, false},
		"runs again":                {&corev1.ContainerStatus{State: running, LastTerminationState: terminated("a")}, false},
		"has ended":                 {&corev1.ContainerStatus{State: terminated("b")}, true},
		"waits to be started again": {&corev1.ContainerStatus{LastTerminationState: terminated("b")}, true},
		"the one before has ended":  {&corev1.ContainerStatus{State: terminated("a")}, false},
	} {
		if got := hasEnded(c.status, "b"); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
