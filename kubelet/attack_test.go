package kubelet

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// While a container exchanges a folder of its volume for a link out of it, over and over,
// what is opened for a subPath is always inside (CVE-2017-1002101, CVE-2021-25741).
func TestAttackSubPathRace(t *testing.T) {
	base := t.TempDir()
	volume, outside := filepath.Join(base, "volume"), filepath.Join(base, "outside")
	for _, dir := range []string{volume, outside, filepath.Join(volume, "real"), filepath.Join(volume, "real", "deep"), filepath.Join(outside, "deep")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	links := []string{outside, "../outside", "/", "/proc/self/root" + outside, "../../../../../../.." + outside}
	var inside unix.Stat_t
	if err := unix.Stat(volume, &inside); err != nil {
		t.Fatal(err)
	}
	bad := map[uint64]bool{}
	for _, dir := range []string{base, outside, filepath.Join(outside, "deep"), "/"} {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			t.Fatal(err)
		}
		bad[st.Ino] = true
	}
	done := make(chan struct{})
	var container sync.WaitGroup
	container.Go(func() {
		link, real, spare := filepath.Join(volume, "link"), filepath.Join(volume, "real"), filepath.Join(volume, "spare")
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			_ = os.Symlink(links[i%len(links)], link)
			_ = unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, real, unix.RENAME_EXCHANGE)
			_ = unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, real, unix.RENAME_EXCHANGE)
			_ = os.Rename(link, spare)
			_ = os.Remove(spare)
		}
	})
	dir, err := unix.Open(volume, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	opened := 0
	for range 20_000 {
		for _, sub := range []string{"real", "real/deep", "real/../real/deep"} {
			fd, err := openIn(dir, sub)
			if err != nil {
				continue
			}
			opened++
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				t.Fatal(err)
			}
			if bad[st.Ino] && st.Dev == inside.Dev {
				t.Errorf("%s led out of the volume", sub)
			}
			if err := unix.Close(fd); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 200 { // what is made for a subPath that is not there yet is made inside
		_ = makeIn(volume, "real/made")
	}
	close(done)
	container.Wait()
	if _, err := os.Lstat(filepath.Join(outside, "made")); err == nil {
		t.Error("a folder was made outside")
	}
	if opened == 0 {
		t.Error("nothing was ever opened")
	}
}

// A pod that makes a file grow which the node made for it is evicted like for its own layers (CVE-2020-8557).
func TestAttackHostsFile(t *testing.T) {
	b := newBench(t)
	b.pod("a", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("64Ki")}
	})
	b.until("running and ready", b.ready("a"))
	b.kubelet.judgeStorage(t.Context())
	if w := b.kubelet.all()[0]; w.final != nil {
		t.Fatalf("evicted for nothing: %s", w.final.Message)
	}
	if err := os.WriteFile(b.kubelet.all()[0].ownHosts(), make([]byte, 128<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	b.kubelet.judgeStorage(t.Context())
	b.until("evicted", b.phase("a", corev1.PodFailed))
	const message = "Pod ephemeral local storage usage exceeds the total limit of containers 64Ki. "
	if s := b.get("a").Status; s.Reason != "Evicted" || s.Message != message {
		t.Errorf("%s: %q", s.Reason, s.Message)
	}
}
