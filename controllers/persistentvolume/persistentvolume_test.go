package persistentvolume

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/retry"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/conflicts"
	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/internal/localpath"
)

func size(s string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(s)}
}

func newVolume(name, class, capacity string, edit ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size(capacity), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: class,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
	for _, e := range edit {
		e(pv)
	}
	return pv
}

func newClaim(name, class, request string, edit ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name)},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &class,
			Resources: corev1.VolumeResourceRequirements{Requests: size(request)},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
	for _, e := range edit {
		e(claim)
	}
	return claim
}

func of(claim string) func(*corev1.PersistentVolume) {
	return func(pv *corev1.PersistentVolume) {
		pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: claim, UID: types.UID(claim)}
	}
}

func TestJudgeClaim(t *testing.T) {
	wait := storagev1.VolumeBindingWaitForFirstConsumer
	delayed := &storagev1.StorageClass{VolumeBindingMode: &wait}
	was := func(c *corev1.PersistentVolumeClaim) {
		c.Annotations = map[string]string{volume.AnnBindCompleted: "yes"}
	}
	named := func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "v" }
	picked := func(c *corev1.PersistentVolumeClaim) { c.Annotations = map[string]string{volume.AnnSelectedNode: "n"} }
	big, small := newVolume("big", "c", "9Gi"), newVolume("small", "c", "2Gi")
	for name, c := range map[string]struct {
		claim  *corev1.PersistentVolumeClaim
		view   view
		bind   string
		reason string
	}{
		"smallest that is enough": {claim: newClaim("a", "c", "1Gi"), view: view{candidates: []*corev1.PersistentVolume{big, small}}, bind: "small"},
		"of no other class":       {claim: newClaim("a", "", "1Gi"), view: view{candidates: []*corev1.PersistentVolume{big}}, reason: "FailedBinding"},
		"kept for it":             {claim: newClaim("a", "c", "1Gi"), view: view{candidates: []*corev1.PersistentVolume{small, newVolume("own", "c", "9Gi", of("a"))}, class: delayed}, bind: "own"},
		"kept for another":        {claim: newClaim("a", "", "1Gi"), view: view{candidates: []*corev1.PersistentVolume{newVolume("v", "", "9Gi", of("b"))}}, reason: "FailedBinding"},
		"delayed":                 {claim: newClaim("a", "c", "1Gi"), view: view{candidates: []*corev1.PersistentVolume{small}, class: delayed}, reason: "WaitForFirstConsumer"},
		"delayed, pod there":      {claim: newClaim("a", "c", "1Gi"), view: view{class: delayed, waitsFor: "p"}, reason: "WaitForPodScheduled"},
		"delayed, node chosen":    {claim: newClaim("a", "c", "1Gi", picked), view: view{class: delayed}, reason: "provision"},
		"named, not there":        {claim: newClaim("a", "c", "1Gi", named), view: view{}},
		"named, too small":        {claim: newClaim("a", "c", "3Gi", named), view: view{named: small}, reason: "VolumeMismatch"},
		"named, another's":        {claim: newClaim("a", "c", "1Gi", named), view: view{named: newVolume("v", "c", "1Gi", of("b"))}, reason: "FailedBinding"},
		"named, half bound":       {claim: newClaim("a", "c", "1Gi", named), view: view{named: newVolume("v", "c", "1Gi", of("a"))}, bind: "v"},
		"volume gone":             {claim: newClaim("a", "c", "1Gi", named, was), view: view{}, reason: "ClaimLost"},
		"name gone":               {claim: newClaim("a", "c", "1Gi", was), view: view{}, reason: "ClaimLost"},
		"stolen":                  {claim: newClaim("a", "c", "1Gi", named, was), view: view{named: newVolume("v", "c", "1Gi", of("b"))}, reason: "ClaimMisbound"},
		"volume's side lost":      {claim: newClaim("a", "c", "1Gi", named, was), view: view{named: newVolume("v", "c", "1Gi")}, bind: "v"},
	} {
		got, err := judgeClaim(c.claim, c.view)
		if err != nil {
			t.Fatal(err)
		}
		bind, reason := "", ""
		if got.bind != nil {
			bind = got.bind.Name
		}
		if got.note != nil {
			reason = got.note.reason
		} else if got.provision {
			reason = "provision"
		}
		if bind != c.bind || reason != c.reason {
			t.Errorf("%s: bound to %q, %q; want %q, %q", name, bind, reason, c.bind, c.reason)
		}
	}
}

// run starts the loop on these objects; the nth write fails once (0: none).
func run(t *testing.T, nth int32, objects ...runtime.Object) (*fake.Clientset, *atomic.Value) {
	ctx, cancel := context.WithCancel(t.Context())
	client := fake.NewClientset(objects...)
	conflicts.Refuse(client)
	var writes atomic.Int32
	client.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		switch a.GetVerb() {
		case "create", "update", "delete":
			if writes.Add(1) == nth {
				return true, nil, errors.New("the process ended here")
			}
		}
		return false, nil, nil
	})
	factory := informers.New(client, nil)
	c, err := New(loop.Deps{
		Client: client, Informers: factory, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{},
		Recorder: func(string) record.EventRecorder { return &record.FakeRecorder{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	removed := &atomic.Value{}
	c.remove = func(_ context.Context, node, name string) error {
		removed.Store(node + "/" + name)
		return nil
	}
	done := make(chan error, 1)
	factory.StartWithContext(ctx)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		factory.Shutdown()
	})
	return client, removed
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// change edits a claim as a user does: again when the loop was faster.
func change(t *testing.T, c *fake.Clientset, name string, edit func(*corev1.PersistentVolumeClaim)) {
	t.Helper()
	if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		claim := getClaim(t, c, name)
		edit(claim)
		_, err := c.CoreV1().PersistentVolumeClaims("ns").Update(t.Context(), claim, metav1.UpdateOptions{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func getClaim(t *testing.T, c *fake.Clientset, name string) *corev1.PersistentVolumeClaim {
	claim, err := c.CoreV1().PersistentVolumeClaims("ns").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return claim
}

// A claim and a volume find each other, whichever write is the last before a crash; when
// the claim goes the volume is released and its data stays.
func TestBindsThroughCrashes(t *testing.T) {
	for nth := range int32(6) {
		pv := newVolume("v", "", "2Gi")
		pv.Status.Phase = ""
		client, removed := run(t, nth, pv, newClaim("a", "", "1Gi"))
		phase := func() corev1.PersistentVolumePhase {
			pv, err := client.CoreV1().PersistentVolumes().Get(t.Context(), "v", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return pv.Status.Phase
		}
		until(t, "bound", func() bool {
			claim := getClaim(t, client, "a")
			q := claim.Status.Capacity[corev1.ResourceStorage]
			return claim.Status.Phase == corev1.ClaimBound && claim.Spec.VolumeName == "v" && q.String() == "2Gi" && phase() == corev1.VolumeBound
		})
		if err := client.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"), "ns", "a"); err != nil {
			t.Fatal(err)
		}
		until(t, "released", func() bool { return phase() == corev1.VolumeReleased })
		if removed.Load() != nil {
			t.Error("data was removed")
		}
	}
}

// A claim of the built-in class gets a volume on the node that the scheduler chose, grows,
// and takes its folder along when it goes.
func TestLocalPath(t *testing.T) {
	wait := storagev1.VolumeBindingWaitForFirstConsumer
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: localpath.Class}, Provisioner: localpath.Provisioner, VolumeBindingMode: &wait}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: "n", Labels: map[string]string{corev1.LabelHostname: "h"}, Annotations: map[string]string{localpath.Folder: "/data"},
	}}
	client, removed := run(t, 0, class, node, newClaim("a", localpath.Class, "1Gi"))
	change(t, client, "a", func(c *corev1.PersistentVolumeClaim) { c.Annotations = map[string]string{volume.AnnSelectedNode: "n"} })
	until(t, "bound", func() bool { return getClaim(t, client, "a").Status.Phase == corev1.ClaimBound })
	pv, err := client.CoreV1().PersistentVolumes().Get(t.Context(), "pvc-a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if pv.Spec.Local.Path != "/data/pvc-a" || volume.CheckNodeAffinity(pv, node.Labels) != nil {
		t.Errorf("%+v", pv.Spec)
	}
	change(t, client, "a", func(c *corev1.PersistentVolumeClaim) { c.Spec.Resources.Requests = size("3Gi") })
	until(t, "grown", func() bool {
		q := getClaim(t, client, "a").Status.Capacity[corev1.ResourceStorage]
		return q.String() == "3Gi"
	})
	if err := client.CoreV1().PersistentVolumeClaims("ns").Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "gone", func() bool {
		_, err := client.CoreV1().PersistentVolumes().Get(t.Context(), "pvc-a", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	if removed.Load() != "n/pvc-a" {
		t.Errorf("removed %v", removed.Load())
	}
}

// Two claims for one volume: one gets it, the other waits.
func TestOneVolumeTwoClaims(t *testing.T) {
	client, _ := run(t, 0, newVolume("v", "", "2Gi"), newClaim("a", "", "1Gi"), newClaim("b", "", "1Gi"))
	until(t, "one is bound", func() bool {
		return (getClaim(t, client, "a").Status.Phase == corev1.ClaimBound) != (getClaim(t, client, "b").Status.Phase == corev1.ClaimBound)
	})
}
