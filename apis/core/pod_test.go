package core

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newPod() *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default"}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "busybox"}}
	defaultPod(p)
	return p
}

func TestPodDefaultsAreValid(t *testing.T) {
	p := newPod()
	if errs := validatePod(p); len(errs) > 0 {
		t.Fatal(errs)
	}
	if c := p.Spec.Containers[0]; c.ImagePullPolicy != corev1.PullAlways || *p.Spec.TerminationGracePeriodSeconds != 30 || !*p.Spec.EnableServiceLinks {
		t.Fatalf("defaults: %+v", p.Spec)
	}
}

func TestPullPolicy(t *testing.T) {
	for image, want := range map[string]corev1.PullPolicy{
		"a": corev1.PullAlways, "r:5000/a": corev1.PullAlways, "a:latest": corev1.PullAlways, "a:1": corev1.PullIfNotPresent,
		"a@sha256:00": corev1.PullIfNotPresent, "r:5000/a:1": corev1.PullIfNotPresent, "": corev1.PullIfNotPresent,
	} {
		if got := pullPolicy(image); got != want {
			t.Errorf("%q: %s, want %s", image, got, want)
		}
	}
}

func TestPodValidation(t *testing.T) {
	for want, change := range map[string]func(*corev1.Pod){
		"spec.containers: Required value":               func(p *corev1.Pod) { p.Spec.Containers = nil },
		"spec.containers[0].image: Required value":      func(p *corev1.Pod) { p.Spec.Containers[0].Image = "" },
		`spec.containers[1].name: Duplicate value: "c"`: func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0]) },
		`spec.containers[0].volumeMounts[0].name: Not found: "v"`: func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		},
		`spec.restartPolicy: Unsupported value: "x": supported values: "Always", "OnFailure", "Never"`: func(p *corev1.Pod) { p.Spec.RestartPolicy = "x" },
		"spec.containers[0].livenessProbe: Required value: must specify a handler type":                func(p *corev1.Pod) { p.Spec.Containers[0].LivenessProbe = &corev1.Probe{SuccessThreshold: 1} },
	} {
		p := newPod()
		change(p)
		errs := validatePod(p)
		if len(errs) != 1 || errs[0].Error() != want {
			t.Errorf("got %v\nwant %s", errs, want)
		}
	}
}

func TestPodUpdate(t *testing.T) {
	old, p := newPod(), newPod()
	p.Spec.Containers[0].Image = "other:1"
	if errs := validatePodUpdate(p, old); len(errs) > 0 {
		t.Fatal(errs)
	}
	p.Spec.Hostname = "x"
	if errs := validatePodUpdate(p, old); len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`") {
		t.Fatal(errs)
	}
}

func TestPodStatusColumn(t *testing.T) {
	waiting := func(r string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: r}}
	}
	done := func(code int32, r string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: r, FinishedAt: metav1.NewTime(time.Now().Add(-5 * time.Minute))}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for name, c := range map[string]struct {
		want string
		edit func(*corev1.Pod)
	}{
		"pending": {"0/1 Pending 0", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }},
		"running": {"1/1 Running 0", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Ready: true, State: running}}
		}},
		"crash": {"0/1 CrashLoopBackOff 3 (5m ago)", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", RestartCount: 3, State: waiting("CrashLoopBackOff"), LastTerminationState: done(1, "Error")}}
		}},
		"exit": {"0/1 ExitCode:2 0", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: done(2, "")}}
		}},
		"init": {"0/1 Init:0/1 0", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", State: running}}
		}},
		"sidecar": {"2/2 Running 0", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Spec.InitContainers = []corev1.Container{{Name: "i", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways)}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", Started: ptr(true), Ready: true, State: running}}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Ready: true, State: running}}
		}},
		"terminating": {"0/1 Terminating 0", func(p *corev1.Pod) { p.DeletionTimestamp = ptr(metav1.Now()) }},
	} {
		p := newPod()
		c.edit(p)
		var cells []string
		for _, column := range podColumns[:3] {
			cells = append(cells, column.Value(p).(string))
		}
		if got := strings.Join(cells, " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
