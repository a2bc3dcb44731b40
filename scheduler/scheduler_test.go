package scheduler

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	storage "k8s.io/component-helpers/storage/volume"

	"github.com/proa-dev/proa/internal/informers"
)

// stage is a scheduler at work on a fake API whose bindings take effect.
type stage struct {
	t      *testing.T
	client *fake.Clientset
	events chan string
}

func newStage(t *testing.T, objects ...runtime.Object) *stage {
	t.Helper()
	st := &stage{t: t, client: fake.NewClientset(objects...)}
	st.client.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() != "binding" {
			return false, nil, nil
		}
		b := action.(clienttesting.CreateAction).GetObject().(*corev1.Binding)
		gvr := corev1.SchemeGroupVersion.WithResource("pods")
		found, err := st.client.Tracker().Get(gvr, b.Namespace, b.Name)
		if err != nil {
			return true, nil, err
		}
		p := found.(*corev1.Pod).DeepCopy()
		p.Spec.NodeName = b.Target.Name
		return true, b, st.client.Tracker().Update(gvr, p, b.Namespace)
	})
	recorder := record.NewFakeRecorder(1000)
	st.events = recorder.Events
	factory := informers.New(st.client, nil)
	s, err := New(Config{Client: st.client, Informers: factory, Recorder: recorder, Log: slog.New(slog.DiscardHandler), Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	factory.StartWithContext(ctx)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		factory.Shutdown()
	})
	return st
}

func (st *stage) pod(name string) *corev1.Pod {
	p, err := st.client.CoreV1().Pods("ns").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return p
}

func (st *stage) create(p *corev1.Pod) {
	st.t.Helper()
	if _, err := st.client.CoreV1().Pods(p.Namespace).Create(context.Background(), p, metav1.CreateOptions{}); err != nil {
		st.t.Fatal(err)
	}
}

func (st *stage) until(what string, ok func() bool) {
	st.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			st.t.Fatalf("not seen in time: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (st *stage) bound(name, node string) {
	st.t.Helper()
	st.until(name+" on "+node, func() bool { p := st.pod(name); return p != nil && p.Spec.NodeName == node })
}

func (st *stage) event(part string) {
	st.t.Helper()
	var seen []string
	for {
		select {
		case e := <-st.events:
			if strings.Contains(e, part) {
				return
			}
			seen = append(seen, e)
		case <-time.After(10 * time.Second):
			st.t.Fatalf("no event with %q, but %q", part, seen)
		}
	}
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func priority(v int32) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.Priority = &v } }

func TestPreemption(t *testing.T) {
	st := newStage(t, node("n1"), pod("low", on("n1"), cpu("3"), priority(1)), pod("mid", on("n1"), cpu("1"), priority(5)))
	never := corev1.PreemptNever
	st.create(pod("polite", cpu("2"), priority(10), func(p *corev1.Pod) { p.Spec.PreemptionPolicy = &never }))
	st.event("preemption: not eligible due to preemptionPolicy=Never.")
	st.create(pod("high", cpu("2"), priority(10)))
	st.event("preemption: found a potential placement for pod on node n1, preempting 1 victims")
	st.event("Normal Preempted Preempted by pod high on node n1")
	st.until("the victim's end", func() bool { return st.pod("low") == nil })
	st.bound("high", "n1")
	if st.pod("mid") == nil {
		t.Error("a pod was evicted that did not have to be")
	}
	var marked, nominated bool
	for _, a := range st.client.Actions() {
		if p, ok := a.(clienttesting.PatchAction); ok {
			text := string(p.GetPatch())
			marked = marked || p.GetName() == "low" && strings.Contains(text, "preempting to accommodate a higher priority pod") && strings.Contains(text, "PreemptionByScheduler")
			nominated = nominated || p.GetName() == "high" && strings.Contains(text, `"nominatedNodeName":"n1"`)
		}
	}
	if !marked || !nominated {
		t.Errorf("victim marked: %v, nomination written: %v", marked, nominated)
	}
}

func TestGates(t *testing.T) {
	st := newStage(t, node("n1"))
	st.create(pod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }))
	st.create(pod("free"))
	st.bound("free", "n1")
	p := st.pod("gated")
	if p.Spec.NodeName != "" {
		t.Fatal("a gated pod was bound")
	}
	p.Spec.SchedulingGates = nil
	if _, err := st.client.CoreV1().Pods("ns").Update(context.Background(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	st.bound("gated", "n1")
}

func claim(name, class string, edit ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "claim-uid"},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	for _, e := range edit {
		e(c)
	}
	return c
}

func boundTo(volume string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName = volume
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, storage.AnnBindCompleted, "yes")
		c.Status.Phase = corev1.ClaimBound
	}
}

func volumeOn(name, class, host string) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
	if host != "" {
		v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{host}}},
		}}}}
	}
	return v
}

func storageClass(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}
}

func using(claim string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}})
	}
}

func TestVolumesWaitForConsumer(t *testing.T) {
	ctx := context.Background()
	st := newStage(t, node("n1"), node("n2"), storageClass("local", storage.NotSupportedProvisioner, storagev1.VolumeBindingWaitForFirstConsumer),
		storageClass("made", "example.com/p", storagev1.VolumeBindingWaitForFirstConsumer), volumeOn("pv", "local", "n2"),
		claim("static", "local"), claim("dynamic", "made"))
	claims := st.client.CoreV1().PersistentVolumeClaims("ns")
	finish := func(name, volume string) {
		c, err := claims.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		boundTo(volume)(c)
		if _, err := claims.Update(ctx, c, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}

	st.create(pod("a", using("static")))
	st.until("the volume bound to the claim", func() bool {
		v, err := st.client.CoreV1().PersistentVolumes().Get(ctx, "pv", metav1.GetOptions{})
		return err == nil && v.Spec.ClaimRef != nil && v.Spec.ClaimRef.Name == "static" && v.Annotations[storage.AnnBoundByController] == "yes"
	})
	if p := st.pod("a"); p.Spec.NodeName != "" {
		t.Fatal("the pod was bound before its claim")
	}
	finish("static", "pv")
	st.bound("a", "n2")

	st.create(pod("b", using("dynamic"), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "n1"} }))
	st.until("a node selected for the claim", func() bool {
		c, err := claims.Get(ctx, "dynamic", metav1.GetOptions{})
		return err == nil && c.Annotations[storage.AnnSelectedNode] == "n1"
	})
	if _, err := st.client.CoreV1().PersistentVolumes().Create(ctx, volumeOn("made", "made", "n1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	finish("dynamic", "made")
	st.bound("b", "n1")
}

func TestVolumesRefuse(t *testing.T) {
	ctx := context.Background()
	st := newStage(t, node("n1"), storageClass("now", "example.com/p", storagev1.VolumeBindingImmediate), volumeOn("far", "now", "n9"),
		volumeOn("near", "now", ""), claim("far", "now", boundTo("far")), claim("slow", "now"),
		claim("one", "now", boundTo("near"), func(c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
		}))
	st.create(pod("lost", using("none")))
	st.event(`0/1 nodes are available: persistentvolumeclaim "none" not found. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.`)
	st.create(pod("far", using("far")))
	st.event("0/1 nodes are available: 1 " + reasonVolumeNode + ".")
	st.create(pod("owner", using("one")))
	st.bound("owner", "n1")
	st.create(pod("second", using("one")))
	st.event(reasonExclusive)
	st.create(pod("waits", using("slow")))
	st.event("pod has unbound immediate PersistentVolumeClaims")
	c, err := st.client.CoreV1().PersistentVolumeClaims("ns").Get(ctx, "slow", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	boundTo("near")(c)
	if _, err := st.client.CoreV1().PersistentVolumeClaims("ns").Update(ctx, c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	st.bound("waits", "n1")
	if err := st.client.CoreV1().Pods("ns").Delete(ctx, "owner", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	st.bound("second", "n1")
}
