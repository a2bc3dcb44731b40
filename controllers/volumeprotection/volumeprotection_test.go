package volumeprotection

import (
	"log/slog"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
)

// The finalizer goes only from what is deleted and not in use; it comes to what lacks it.
func TestFinalizers(t *testing.T) {
	now := metav1.Now()
	going := metav1.ObjectMeta{Name: "c", Namespace: "ns", Finalizers: []string{claimFinalizer, volumeFinalizer, "other"}, DeletionTimestamp: &now}
	user := func(node string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}, Spec: corev1.PodSpec{NodeName: node, Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}},
		}}}
	}
	for name, c := range map[string]struct {
		meta  metav1.ObjectMeta
		pod   *corev1.Pod
		phase corev1.PersistentVolumePhase
		claim bool // still has it
		pv    bool
	}{
		"in use":          {meta: going, pod: user("n"), phase: corev1.VolumeBound, claim: true, pv: true},
		"pod has no node": {meta: going, pod: user(""), phase: corev1.VolumeReleased},
		"free":            {meta: going, phase: corev1.VolumeAvailable},
		"new":             {meta: metav1.ObjectMeta{Name: "c", Namespace: "ns"}, claim: true, pv: true},
	} {
		volumeMeta := *c.meta.DeepCopy()
		volumeMeta.Namespace = ""
		client := fake.NewClientset(&corev1.PersistentVolumeClaim{ObjectMeta: c.meta},
			&corev1.PersistentVolume{ObjectMeta: volumeMeta, Status: corev1.PersistentVolumeStatus{Phase: c.phase}})
		if c.pod != nil {
			if err := client.Tracker().Add(c.pod); err != nil {
				t.Fatal(err)
			}
		}
		factory := informers.New(client, nil)
		loops, err := New(loop.Deps{Client: client, Informers: factory, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}})
		if err != nil {
			t.Fatal(err)
		}
		factory.StartWithContext(t.Context())
		core := factory.Core().V1()
		cache.WaitForCacheSync(t.Context().Done(), core.Pods().Informer().HasSynced, core.PersistentVolumeClaims().Informer().HasSynced, core.PersistentVolumes().Informer().HasSynced)
		for _, k := range []loop.Key{{Namespace: "ns", Name: "c"}, {Name: "c"}} {
			if err := loops.reconcile(t.Context(), k); err != nil {
				t.Fatal(name, err)
			}
		}
		claim, err := client.CoreV1().PersistentVolumeClaims("ns").Get(t.Context(), "c", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pv, err := client.CoreV1().PersistentVolumes().Get(t.Context(), "c", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(claim.Finalizers, claimFinalizer) != c.claim || slices.Contains(pv.Finalizers, volumeFinalizer) != c.pv {
			t.Errorf("%s: claim has %v, volume %v", name, claim.Finalizers, pv.Finalizers)
		}
	}
}
