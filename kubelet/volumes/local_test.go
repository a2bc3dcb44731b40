package volumes

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestLocalVolumes(t *testing.T) {
	base := t.TempDir()
	m := &Manager{cfg: Config{Local: filepath.Join(base, "volumes")}}
	if _, err := m.localPath(&corev1.LocalVolumeSource{Path: filepath.Join(base, "elsewhere")}); err == nil {
		t.Error("a folder outside was made")
	}
	for range 2 {
		path, err := m.localPath(&corev1.LocalVolumeSource{Path: filepath.Join(m.cfg.Local, "pvc-1")})
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o777 {
			t.Fatal(info, err)
		}
		if err := os.WriteFile(filepath.Join(path, "data"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"", ".", "..", "../volumes", "a/b"} {
		if err := m.RemoveLocal(name); err == nil {
			t.Errorf("%q was taken for a volume", name)
		}
	}
	if err := os.Symlink(base, filepath.Join(m.cfg.Local, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pvc-1", "pvc-1", "link"} {
		if err := m.RemoveLocal(name); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(m.cfg.Local); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}
