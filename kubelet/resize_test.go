package kubelet

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func cpu(text string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(text)}}
}

// wish gives a pod's spec other resources, as a write to pods/resize does.
func (b *bench) wish(name string, r corev1.ResourceRequirements) {
	p := b.get(name).DeepCopy()
	p.Spec.Containers[0].Resources = r
	p.Generation++
	if _, err := b.client.CoreV1().Pods("default").Update(context.Background(), p, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) resized(name, allocated, reason string) func() bool {
	return func() bool {
		p := b.get(name)
		got := ""
		for _, c := range p.Status.Conditions {
			switch c.Type {
			case corev1.PodResizePending:
				got = c.Reason
			case corev1.PodResizeInProgress:
				got = "InProgress"
			}
		}
		s := p.Status.ContainerStatuses[0]
		return got == reason && s.Resources != nil && s.AllocatedResources.Cpu().String() == allocated && s.Resources.Requests.Cpu().String() == allocated
	}
}

// TestResize resizes a pod while it runs, beyond what the node has, beyond what is left, and
// into what another pod gives back; also across a restart of the agent.
func TestResize(t *testing.T) {
	b := newBench(t)
	have := b.kubelet.Allocatable()
	most := have.Cpu().MilliValue()
	part := func(share int64) string {
		return resource.NewMilliQuantity(most*share/100, resource.DecimalSI).String()
	}
	b.pod("a", func(p *corev1.Pod) { p.Spec.Containers[0].Resources = cpu(part(40)) })
	b.pod("b", func(p *corev1.Pod) { p.Spec.Containers[0].Name, p.Spec.Containers[0].Resources = "d", cpu(part(40)) })
	b.until("a ready", b.ready("a"))
	b.until("b ready", b.ready("b"))
	b.wish("a", cpu(part(50)))
	b.until("in place", b.resized("a", part(50), ""))
	if n := b.runtime.Calls("UpdateContainerResources"); n != 1 {
		t.Errorf("the runtime was asked %d times, want once", n)
	}
	b.wish("a", cpu(part(200)))
	b.until("infeasible", b.resized("a", part(50), corev1.PodReasonInfeasible))
	b.wish("a", cpu(part(80)))
	b.until("deferred", b.resized("a", part(50), corev1.PodReasonDeferred))
	b.stop()
	b.boot()
	b.until("still deferred", b.resized("a", part(50), corev1.PodReasonDeferred))
	b.doom("b", 1)
	b.until("given when free", b.resized("a", part(80), ""))
	if s := b.get("a").Status.ContainerStatuses[0]; s.RestartCount != 0 {
		t.Errorf("restarted %d times", s.RestartCount)
	}
}

// TestResizeRestarts restarts a container whose policy asks for it, whatever it ends with.
func TestResizeRestarts(t *testing.T) {
	b := newBench(t)
	b.pod("a", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		c := &p.Spec.Containers[0]
		c.Resources = cpu("10m")
		c.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.RestartContainer}}
	})
	b.until("ready", b.ready("a"))
	b.wish("a", cpu("20m"))
	b.until("restarted with it", func() bool {
		return b.resized("a", "20m", "")() && b.get("a").Status.ContainerStatuses[0].RestartCount == 1 && b.ready("a")()
	})
}

// TestEarlyExit hears of an end before the runtime says so.
func TestEarlyExit(t *testing.T) {
	b := newBench(t)
	b.pod("a", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever })
	b.until("ready", b.ready("a"))
	id, ok := b.kubelet.ContainerID("uid-a", "c", false)
	if !ok {
		t.Fatal("the container is not known")
	}
	b.kubelet.exit(id, 0, time.Now())
	b.until("succeeded", b.phase("a", corev1.PodSucceeded))
}
