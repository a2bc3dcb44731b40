package resize

import (
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func needs(cpu, memory string) corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	if cpu != "" {
		r.Requests[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		r.Limits[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return r
}

func TestCompare(t *testing.T) {
	soft := &corev1.Container{}
	hard := &corev1.Container{ResizePolicy: []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}}
	for _, c := range []struct {
		name       string
		c          *corev1.Container
		have, want corev1.ResourceRequirements
		change     Change
	}{
		{"same", soft, needs("1", "1Gi"), needs("1000m", "1024Mi"), None},
		{"cpu", soft, needs("1", "1Gi"), needs("2", "1Gi"), Update},
		{"cpu added", soft, needs("", "1Gi"), needs("2", "1Gi"), Update},
		{"cpu beside memory's policy", hard, needs("1", "1Gi"), needs("2", "1Gi"), Update},
		{"memory by its policy", hard, needs("1", "1Gi"), needs("1", "2Gi"), Restart},
	} {
		if got := Compare(c.c, c.have, c.want); got != c.change {
			t.Errorf("%s: %v, want %v", c.name, got, c.change)
		}
	}
}

func TestRecord(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Resources: needs("1", "1Gi")}}}}
	r := &Record{Allocated: Of(pod), Actuated: map[string]corev1.ResourceRequirements{"x://1": needs("1", "1Gi")}}
	file := filepath.Join(t.TempDir(), "pod", "resources.json")
	if none, err := Load(file); none != nil || err != nil {
		t.Fatalf("without a file: %v, %v", none, err)
	}
	if err := r.Save(file); err != nil {
		t.Fatal(err)
	}
	got, err := Load(file)
	if err != nil || !got.Allocated.Equal(r.Allocated) || len(got.Actuated) != 1 {
		t.Fatalf("read back %+v, %v", got, err)
	}
	if got.Allocated.On(pod) != pod {
		t.Error("a pod that has the resources is copied")
	}
	wish := pod.DeepCopy()
	wish.Spec.Containers[0].Resources = needs("2", "1Gi")
	if on := got.Allocated.On(wish); on.Spec.Containers[0].Resources.Requests.Cpu().Value() != 1 || wish.Spec.Containers[0].Resources.Requests.Cpu().Value() != 2 {
		t.Error("the allocated resources are not on the pod, or the pod was changed")
	}
}
