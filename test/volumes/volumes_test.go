// Package volumes tests kubelet/volumes where it mounts: it needs root.
package volumes

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/kubelet/volumes"
)

func ptr[T any](v T) *T { return &v }

func pod(vols ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "11-22", Labels: map[string]string{"app": "a"}},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{FSGroup: ptr(int64(2000))},
			Containers:      []corev1.Container{{Name: "c"}},
			Volumes:         vols,
		},
	}
}

func start(t *testing.T, objs ...runtime.Object) (*volumes.Manager, *fake.Clientset, *record.FakeRecorder, string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	client := fake.NewClientset(objs...)
	client.PrependReactor("create", "serviceaccounts", func(a ktesting.Action) (bool, runtime.Object, error) {
		req := a.(ktesting.CreateAction).GetObject().(*authenticationv1.TokenRequest)
		req.Status = authenticationv1.TokenRequestStatus{Token: "tok", ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour))}
		return true, req, nil
	})
	rec := record.NewFakeRecorder(100)
	root := t.TempDir()
	m, err := volumes.New(volumes.Config{Root: root, Client: client, NodeName: "n", Recorder: rec})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		if err := m.Unmount(context.Background(), "11-22"); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(root, "pods/11-22")); !os.IsNotExist(err) {
			t.Errorf("pod folder stays: %v", err)
		}
	})
	return m, client, rec, root
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func read(t *testing.T, p ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p...))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestLiveVolumes(t *testing.T) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cm"}, Data: map[string]string{"k": "1", "gone": "x"}}
	sec := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Data: map[string][]byte{"pw": []byte("hush")}}
	m, client, _, root := start(t, cm, sec)
	p := pod(
		corev1.Volume{Name: "cm", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, DefaultMode: ptr(int32(0o400))}}},
		corev1.Volume{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", Items: []corev1.KeyToPath{{Key: "pw", Path: "a/b/pw", Mode: ptr(int32(0o440))}}}}},
		corev1.Volume{Name: "api", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr(int64(3607))}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, Items: []corev1.KeyToPath{{Key: "k", Path: "ca.crt"}}}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "ns", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}},
				{Path: "app", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}},
				{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
			}}},
		}}}},
		corev1.Volume{Name: "mem", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: ptr(resource.MustParse("4Mi"))}}},
		corev1.Volume{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	)
	ctx := context.Background()
	paths, err := m.Mount(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(root, "pods/11-22/volumes/kubernetes.io~configmap/cm"); paths["cm"] != want {
		t.Errorf("path %s, want %s", paths["cm"], want)
	}
	for path, want := range map[string]string{
		filepath.Join(paths["cm"], "k"): "1", filepath.Join(paths["s"], "a/b/pw"): "hush", filepath.Join(paths["api"], "token"): "tok",
		filepath.Join(paths["api"], "ca.crt"): "1", filepath.Join(paths["api"], "app"): "a", filepath.Join(paths["api"], "labels"): `app="a"`,
	} {
		if got := read(t, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for path, want := range map[string]os.FileMode{
		filepath.Join(paths["cm"], "k"): 0o440, filepath.Join(paths["api"], "token"): 0o640, filepath.Join(paths["s"], "a/b/pw"): 0o440,
		paths["mem"]: 0o777 | os.ModeDir | os.ModeSetgid, paths["disk"]: 0o777 | os.ModeDir | os.ModeSetgid,
	} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode() != want || st.Sys().(*syscall.Stat_t).Gid != 2000 {
			t.Errorf("%s: mode %v group %d, want %v 2000", path, st.Mode(), st.Sys().(*syscall.Stat_t).Gid, want)
		}
	}
	if err := os.WriteFile(filepath.Join(paths["mem"], "big"), make([]byte, 8<<20), 0o600); err == nil {
		t.Error("8 MiB fit into 4 MiB")
	}

	cm = cm.DeepCopy()
	cm.Data = map[string]string{"k": "2", "new": "n"}
	cm.ResourceVersion = "2"
	before := time.Now()
	if _, err := client.CoreV1().ConfigMaps("ns").Update(ctx, cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "config map follows", func() bool {
		return read(t, paths["cm"], "k") == "2" && read(t, paths["cm"], "new") == "n" && read(t, paths["api"], "ca.crt") == "2"
	})
	t.Logf("files follow after %v", time.Since(before))
	eventually(t, "removed key goes", func() bool {
		_, err := os.Lstat(filepath.Join(paths["cm"], "gone"))
		return os.IsNotExist(err)
	})
	p = p.DeepCopy()
	p.Labels["app"] = "b"
	m.Update(p)
	eventually(t, "label follows", func() bool { return read(t, paths["api"], "app") == "b" })

	marker := filepath.Join(paths["disk"], "kept")
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Mount(ctx, p); err != nil {
		t.Fatalf("mount again: %v", err)
	}
	if _, err := os.Stat(marker); err != nil {
		t.Errorf("second mount lost data: %v", err)
	}
}

// A new manager cleans up what an ended one left, and never goes through links or other mounts.
func TestLeftovers(t *testing.T) {
	sec := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Data: map[string][]byte{"pw": []byte("hush")}}
	_, client, _, root := start(t, sec)
	ended, err := volumes.New(volumes.Config{Root: root, Client: client, NodeName: "n", Recorder: record.NewFakeRecorder(100)})
	if err != nil { // never run: nothing of it is at work any more
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	paths, err := ended.Mount(context.Background(), pod(
		corev1.Volume{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}},
		corev1.Volume{Name: "d", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(paths["d"], "trap")); err != nil {
		t.Fatal(err)
	}
	other, err := volumes.New(volumes.Config{Root: root, Client: client})
	if err != nil {
		t.Fatal(err)
	}
	uids, err := other.Pods()
	if err != nil || len(uids) != 1 {
		t.Fatalf("pods %v, %v", uids, err)
	}
	if err := other.Unmount(context.Background(), uids[0]); err != nil {
		t.Fatal(err)
	}
	if read(t, outside) != "keep" {
		t.Error("a link was followed")
	}
	mounts := read(t, "/proc/self/mountinfo")
	if strings.Contains(mounts, root) {
		t.Error("mounts stay")
	}
}

func TestRefusals(t *testing.T) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cm"}}
	m, client, rec, _ := start(t, cm)
	for want, v := range map[string]corev1.VolumeSource{
		`configmap "nope" not found`:                                     {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "nope"}}},
		`secret "nope" not found`:                                        {Secret: &corev1.SecretVolumeSource{SecretName: "nope"}},
		`configmap references non-existent config key: k`:                {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, Items: []corev1.KeyToPath{{Key: "k", Path: "k"}}}},
		`hostPath type check failed: /etc is not a file`:                 {HostPath: &corev1.HostPathVolumeSource{Path: "/etc", Type: ptr(corev1.HostPathFile)}},
		`nfs volumes are not supported yet`:                              {NFS: &corev1.NFSVolumeSource{}},
		`gitRepo volumes are not supported yet`:                          {GitRepo: &corev1.GitRepoVolumeSource{Repository: "https://127.0.0.1/x.git", Directory: "../x"}},
		`storage medium "HugePages" is not supported yet`:                {EmptyDir: &corev1.EmptyDirVolumeSource{Medium: "HugePages"}},
		`error processing PVC ns/x: persistentvolumeclaim "x" not found`: {PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "x"}},
	} {
		_, err := m.Mount(context.Background(), pod(corev1.Volume{Name: "v", VolumeSource: v}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
		if e := <-rec.Events; !strings.HasPrefix(e, `Warning FailedMount MountVolume.SetUp failed for volume "v" : `) {
			t.Errorf("event %q", e)
		}
	}
	// Optional and missing is empty; what comes later is shown.
	v := corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "late"}, Optional: ptr(true)}}}
	paths, err := m.Mount(context.Background(), pod(v))
	if err != nil {
		t.Fatal(err)
	}
	late := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "late"}, Data: map[string]string{"k": "v"}}
	if _, err := client.CoreV1().ConfigMaps("ns").Create(context.Background(), late, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "late config map", func() bool { return read(t, paths["v"], "k") == "v" })
}
