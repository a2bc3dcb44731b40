package kubelet

import (
	"context"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/kubelet/internal/fakecri"
)

type bench struct {
	*testing.T
	client  *fake.Clientset
	runtime *fakecri.Runtime
	socket  string
	root    string
	hold    time.Duration // of passing statuses; 0: as in a cluster
	stop    func()
	kubelet *Kubelet
}

func newBench(t *testing.T) *bench { return newPatientBench(t, 0) }

// newPatientBench has a node that waits so long for the status which follows a passing one.
func newPatientBench(t *testing.T, hold time.Duration) *bench {
	b := &bench{T: t, client: fake.NewClientset(), root: t.TempDir(), hold: hold}
	b.runtime, b.socket = fakecri.Start(t)
	b.boot()
	t.Cleanup(func() { b.stop() })
	return b
}

// boot starts an agent; stop ends it.
func (b *bench) boot() {
	shared := informers.New(b.client, nil)
	k, err := New(Config{Client: b.client, Pods: shared.Core().V1().Pods(), Informers: shared, Socket: b.socket, NodeName: "n1", NodeIPs: []string{"192.0.2.1"},
		Root: b.root, LogRoot: b.root + "/logs", ClusterDNS: []string{"10.96.0.10"}, Recorder: record.NewFakeRecorder(1000), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	if b.hold > 0 {
		k.statuses.hold = b.hold
	}
	ctx, cancel := context.WithCancel(context.Background())
	shared.StartWithContext(ctx)
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	b.kubelet = k
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		shared.Shutdown()
		b.stop = func() {}
	}
	select {
	case <-k.Ready():
	case <-time.After(10 * time.Second):
		b.Fatal("the agent did not become ready")
	}
}

func (b *bench) pod(name string, change func(*corev1.Pod)) *corev1.Pod {
	grace := int64(5)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "c", Image: "img", TerminationMessagePath: "/dev/termination-log"}}}}
	if change != nil {
		change(p)
	}
	made, err := b.client.CoreV1().Pods("default").Create(context.Background(), p, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return made
}

func (b *bench) until(what string, ok func() bool) {
	b.Helper()
	end := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(end) {
			p, _ := b.client.CoreV1().Pods("default").List(context.Background(), metav1.ListOptions{})
			for i := range p.Items {
				b.Logf("%s: %+v", p.Items[i].Name, p.Items[i].Status)
			}
			b.Fatalf("not within 15 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (b *bench) get(name string) *corev1.Pod {
	p, err := b.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return p
}

func (b *bench) phase(name string, want corev1.PodPhase) func() bool {
	return func() bool { p := b.get(name); return p != nil && p.Status.Phase == want }
}

func (b *bench) ready(name string) func() bool {
	return func() bool {
		p := b.get(name)
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady {
				return c.Status == corev1.ConditionTrue
			}
		}
		return false
	}
}

// doom asks for a pod's deletion as the API server does for a bound pod.
func (b *bench) doom(name string, grace int64) {
	p := b.get(name).DeepCopy()
	now := metav1.Now()
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
	if _, err := b.client.CoreV1().Pods("default").Update(context.Background(), p, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) empty() func() bool {
	return func() bool { s, c := b.runtime.Counts(); return s == 0 && c == 0 }
}

func (b *bench) deleted(name string) func() bool {
	return func() bool {
		_, err := b.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	}
}

func TestLife(t *testing.T) {
	b := newBench(t)
	began := time.Now()
	b.pod("a", nil)
	b.until("running and ready", b.ready("a"))
	t.Logf("create to Ready: %s", time.Since(began))
	if p := b.get("a"); p.Status.PodIP == "" || p.Status.HostIP != "192.0.2.1" || p.Status.ContainerStatuses[0].ContainerID == "" {
		t.Errorf("status lacks addresses or ids: %+v", p.Status)
	}
	began = time.Now()
	b.runtime.Exit("c", 1)
	b.until("restarted", func() bool {
		s := b.get("a").Status.ContainerStatuses[0]
		return s.RestartCount == 1 && s.State.Running != nil && s.LastTerminationState.Terminated != nil && s.LastTerminationState.Terminated.ExitCode == 1
	})
	t.Logf("exit to running again: %s", time.Since(began))
	b.runtime.Exit("c", 1)
	b.until("backing off", func() bool {
		w := b.get("a").Status.ContainerStatuses[0].State.Waiting
		return w != nil && w.Reason == "CrashLoopBackOff"
	})
	b.doom("a", 5)
	b.until("deleted", b.deleted("a"))
	b.until("nothing left", b.empty())
}

func TestJobEnds(t *testing.T) {
	b := newBench(t)
	b.pod("job", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "img"}}
	})
	b.until("init runs", func() bool { return b.runtime.Exit("i", 0) })
	b.until("main runs", b.phase("job", corev1.PodRunning))
	b.runtime.Exit("c", 0)
	b.until("succeeded", b.phase("job", corev1.PodSucceeded))
	b.doom("job", 5)
	b.until("nothing left", b.empty())
}

func TestSidecarAndProbes(t *testing.T) {
	b := newBench(t)
	always := corev1.ContainerRestartPolicyAlways
	b.runtime.OnExec = func(string, []string) (string, int32) { return "no", 0 }
	b.pod("s", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		probe := corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}, PeriodSeconds: 1, FailureThreshold: 1}
		p.Spec.InitContainers = []corev1.Container{{Name: "side", Image: "img", RestartPolicy: &always, StartupProbe: &probe}}
		p.Spec.Containers[0].ReadinessProbe = &probe
	})
	b.until("ready", b.ready("s"))
	b.runtime.Exit("c", 0)
	b.until("succeeded", b.phase("s", corev1.PodSucceeded))
}

func TestAdoption(t *testing.T) {
	b := newBench(t)
	b.pod("keep", nil)
	b.pod("lose", func(p *corev1.Pod) { p.Spec.Containers[0].Name = "d" })
	b.until("ready", b.ready("keep"))
	b.until("ready", b.ready("lose"))
	id := b.get("keep").Status.ContainerStatuses[0].ContainerID
	b.stop()
	if err := b.client.CoreV1().Pods("default").Delete(context.Background(), "lose", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.boot()
	b.until("orphan ended", func() bool { s, c := b.runtime.Counts(); return s == 1 && c == 1 })
	if s := b.get("keep").Status.ContainerStatuses[0]; s.ContainerID != id || s.RestartCount != 0 {
		t.Errorf("container was not adopted: %s, then %s with %d restarts", id, s.ContainerID, s.RestartCount)
	}
}

func TestSandboxLost(t *testing.T) {
	b := newBench(t)
	b.pod("p", nil)
	b.until("ready", b.ready("p"))
	was := b.get("p").Status.PodIP
	b.runtime.KillSandbox("uid-p")
	b.until("a new sandbox", func() bool { return b.get("p").Status.PodIP != was && b.ready("p")() })
}

func TestForce(t *testing.T) {
	b := newBench(t)
	b.runtime.Stubborn["c"] = true
	b.pod("p", nil)
	b.until("ready", b.ready("p"))
	b.doom("p", 3600)
	b.until("stopping", func() bool { return b.runtime.Calls("StopContainer") > 0 })
	if err := b.client.CoreV1().Pods("default").Delete(context.Background(), "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.until("nothing left", b.empty())
}

func TestRefused(t *testing.T) {
	b := newBench(t)
	b.pod("far", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"no": "where"} })
	b.until("failed", b.phase("far", corev1.PodFailed))
	if p := b.get("far"); p.Status.Reason != "NodeAffinity" {
		t.Errorf("reason %q", p.Status.Reason)
	}
	if n := b.runtime.Calls("RunPodSandbox"); n != 0 {
		t.Errorf("%d sandboxes made", n)
	}
}

// A new image takes the place of the old one in one step: no status between tells that the
// pod is not ready, however slow this machine is.
func TestImageChangeKeepsReady(t *testing.T) {
	b := newPatientBench(t, time.Minute)
	b.pod("a", nil)
	b.until("running and ready", b.ready("a"))
	w, err := b.client.CoreV1().Pods("default").Watch(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	p := b.get("a").DeepCopy()
	p.Spec.Containers[0].Image = "img2"
	if _, err := b.client.CoreV1().Pods("default").Update(context.Background(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for e := range w.ResultChan() {
		p := e.Object.(*corev1.Pod)
		for _, c := range p.Status.Conditions {
			if c.Status != corev1.ConditionTrue {
				t.Fatalf("%s is %s: %s", c.Type, c.Status, c.Message)
			}
		}
		if s := p.Status.ContainerStatuses[0]; s.RestartCount == 1 && s.State.Running != nil {
			return
		}
	}
}
