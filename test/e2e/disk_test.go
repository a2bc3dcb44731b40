package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFullDisk fills the disk that the store is on: writes are refused with the reason, what
// is there can be read and deleted, and once there is room again everything works as before.
func TestFullDisk(t *testing.T) {
	s := newSite(t)
	data := filepath.Join(s.dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("proa-e2e", data, "tmpfs", 0, "size=2300m"); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if out, err := s.try("uninstall"); err != nil {
			t.Errorf("uninstall: %v\n%s", err, out)
		}
		if err := syscall.Unmount(data, 0); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	s.proa("up", "--node=false")
	s.kubectl("create", "configmap", "before", "--from-literal=a=b")

	filler := filepath.Join(data, "filler")
	fill(t, filler, 64<<20)
	k := s.with(t, "proa kubectl")
	eventually(t, 10*time.Second, "refusal of writes", func() bool {
		out, err := k.try("create", "configmap", "during", "--from-literal=a=b")
		if err == nil {
			k.ok("delete", "configmap", "during")
		}
		return err != nil && strings.Contains(out, "the disk of the store is full") && strings.Contains(out, "MiB are left in")
	})
	if got := k.ok("get", "configmap", "before", "-o", "jsonpath={.data.a}"); got != "b" {
		t.Errorf("before: %q", got)
	}
	k.refuses(words("get configmap during"), "not found")
	k.ok("delete", "configmap", "before")

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "writes again", func() bool {
		_, err := k.try("create", "configmap", "after", "--from-literal=a=b")
		return err == nil
	})
}

// fill leaves so many bytes of a disk free.
func fill(t *testing.T, path string, free uint64) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &st); err != nil {
		t.Fatal(err)
	}
	have := st.Bavail * uint64(st.Bsize)
	if have <= free {
		t.Fatalf("%d bytes are free before anything was filled", have)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(have-free)); err != nil {
		t.Fatalf("fill the disk: %v", err)
	}
}
