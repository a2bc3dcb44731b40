package storage

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func pod(change func(*corev1.PodSpec)) *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}, {Name: "b"}},
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}}}
	change(&p.Spec)
	return p
}

func limit(text string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse(text)}}
}

func TestExceeded(t *testing.T) {
	size := resource.MustParse("1Ki")
	for _, c := range []struct {
		name    string
		change  func(*corev1.PodSpec)
		use     Use
		limited bool
		want    string
	}{
		{"no limit", func(*corev1.PodSpec) {}, Use{Other: 1 << 40}, false, ""},
		{"volume", func(s *corev1.PodSpec) { s.Volumes[0].EmptyDir.SizeLimit = &size }, Use{Volumes: map[string]int64{"v": 1025}}, true,
			`Usage of EmptyDir volume "v" exceeds the limit "1Ki". `},
		{"volume at its limit", func(s *corev1.PodSpec) { s.Volumes[0].EmptyDir.SizeLimit = &size }, Use{Volumes: map[string]int64{"v": 1024}}, true, ""},
		{"volume in memory", func(s *corev1.PodSpec) {
			s.Volumes[0].EmptyDir.SizeLimit, s.Volumes[0].EmptyDir.Medium = &size, corev1.StorageMediumMemory
		}, Use{Volumes: map[string]int64{"v": 1025}}, false, ""},
		{"pod by hosts file", func(s *corev1.PodSpec) { s.Containers[0].Resources = limit("1Ki") }, Use{Other: 1025}, true,
			"Pod ephemeral local storage usage exceeds the total limit of containers 1Ki. "},
		{"container", func(s *corev1.PodSpec) {
			s.Containers[0].Resources, s.Containers[1].Resources = limit("1Ki"), limit("9Ki")
		},
			Use{Containers: map[string]int64{"a": 2000}}, true, `Container a exceeded its local ephemeral storage limit "1Ki". `},
		{"below", func(s *corev1.PodSpec) {
			s.Containers[0].Resources, s.Containers[1].Resources = limit("1Ki"), limit("9Ki")
		},
			Use{Containers: map[string]int64{"a": 1000, "b": 8000}}, true, ""},
	} {
		p := pod(c.change)
		if got := Limited(p); got != c.limited {
			t.Errorf("%s: limited %v", c.name, got)
		}
		if got := Exceeded(p, &c.use); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestMeasure(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write := func(path string, n int) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte{1}, n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "large"), 4<<20)
	write(filepath.Join(dir, "one"), 1<<20)
	write(filepath.Join(dir, "deep", "er", "two"), 1<<20)
	for _, err := range []error{
		os.Link(filepath.Join(dir, "one"), filepath.Join(dir, "again")), // the same bytes
		os.Symlink(outside, filepath.Join(dir, "elsewhere")),            // somebody else's
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := Measure(t.Context(), dir)
	if err != nil || got < 2<<20 || got > 2<<20+1<<16 {
		t.Errorf("%d bytes, %v; two MiB were written", got, err)
	}
	if got, err := Measure(t.Context(), filepath.Join(dir, "none")); got != 0 || err != nil {
		t.Errorf("a folder that is not there: %d, %v", got, err)
	}
}
