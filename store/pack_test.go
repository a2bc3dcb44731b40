package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What is unpacked is what was packed, whatever the two texts are.
func FuzzPack(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789ABCDEF"), []byte("0123456789abcdef-0123456789ABCDEF"))
	f.Add([]byte(""), []byte("x"))
	f.Add(bytes.Repeat([]byte("ab"), 500), bytes.Repeat([]byte("ba"), 700))
	f.Fuzz(func(t *testing.T, from, value []byte) {
		for _, limit := range []int{2*len(value) + 16, len(value) / 4} {
			packed, ok := (&base{bytes: from}).pack(value, limit)
			if !ok {
				continue
			}
			if len(packed.bytes) > limit {
				t.Fatalf("%d bytes, the limit was %d", len(packed.bytes), limit)
			}
			if got := packed.append([]byte("<")); !bytes.Equal(got[1:], value) {
				t.Fatalf("%q became %q", value, got[1:])
			}
		}
	})
}

func TestPackEdits(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	from := make([]byte, 3000)
	for i := range from {
		from[i] = byte('a' + random.IntN(26))
	}
	for range 2000 {
		value := bytes.Clone(from)
		for range random.IntN(6) {
			at := random.IntN(len(value))
			end := min(len(value), at+random.IntN(40))
			value = append(append(bytes.Clone(value[:at]), fmt.Sprint(random.Uint64())...), value[end:]...)
		}
		packed, ok := (&base{bytes: from}).pack(value, len(value)/good)
		if !ok || !bytes.Equal(packed.append(nil), value) {
			t.Fatalf("packed: %v", ok)
		}
		if packed.held() > 400 {
			t.Errorf("%d bytes for a few edits", packed.held())
		}
	}
}

// Objects of a class cost what they differ in, those of no class are left alone.
func TestBases(t *testing.T) {
	var s bases
	held := 0
	for i := range 1000 {
		value := []byte(fmt.Sprintf("%06d %s %06d", i, bytes.Repeat([]byte("one template's words "), 100), i))
		got := s.fit(fmt.Sprintf("default/web-%d", i), value)
		if held += got.held(); !bytes.Equal(got.append(nil), value) {
			t.Fatal("changed")
		}
	}
	if held > 40_000 {
		t.Errorf("1000 alike keep %d bytes", held)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 1000 {
		value := make([]byte, 500)
		for i := range value {
			value[i] = byte(random.Uint32())
		}
		got := s.fit(fmt.Sprintf("default/noise-%d", i), value)
		if !bytes.Equal(got.append(nil), value) {
			t.Fatal("changed")
		}
	}
	for i := range 100_000 {
		s.fit(fmt.Sprintf("default/c%d-x", i), bytes.Repeat([]byte{byte(i), byte(i >> 8), 1}, 100))
	}
	if len(s.classes) > 100_000 {
		t.Errorf("%d classes are kept", len(s.classes))
	}
}

func podOf(i int) *corev1.Pod {
	at := metav1.NewTime(time.Unix(1_700_000_000, 0))
	token := fmt.Sprintf("token-%d", i)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("web-%d", i), Labels: map[string]string{"app": "web"}, CreationTimestamp: at,
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "a manager", Time: &at, FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{}}`)}},
		},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"disk": "fast"},
			Containers: []corev1.Container{{
				Name: "web", Image: "registry.example.com/some/long/name:1", Args: []string{"a", "b"},
				Resources:    corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("100m")}},
				VolumeMounts: []corev1.VolumeMount{{Name: token, MountPath: "/token"}},
			}},
		},
	}
}

// What is equal is shared, also below what is not; neither object changes, nor what the new
// one points to.
func TestShare(t *testing.T) {
	a, b := podOf(1), podOf(2)
	b.Spec.Containers = append(b.Spec.Containers, corev1.Container{Name: "more"})
	published := b.Spec.Containers // of an earlier state, say
	wantA, wantB, wantPublished := a.DeepCopy(), b.DeepCopy(), b.DeepCopy().Spec.Containers
	args := &published[0].Args[0]
	share(b, a)
	if !reflect.DeepEqual(a, wantA) || !reflect.DeepEqual(b, wantB) {
		t.Fatal("sharing changed an object")
	}
	if !reflect.DeepEqual(published, wantPublished) || &published[0].Args[0] != args {
		t.Error("what others see was written to")
	}
	one := func(m any) uintptr { return reflect.ValueOf(m).Pointer() }
	for what, same := range map[string]bool{
		"labels":         one(a.Labels) == one(b.Labels),
		"node selector":  one(a.Spec.NodeSelector) == one(b.Spec.NodeSelector),
		"managed fields": one(a.ManagedFields) == one(b.ManagedFields),
		"arguments":      one(a.Spec.Containers[0].Args) == one(b.Spec.Containers[0].Args),
		"requests":       one(a.Spec.Containers[0].Resources.Requests) == one(b.Spec.Containers[0].Resources.Requests),
	} {
		if !same {
			t.Errorf("%s are not shared", what)
		}
	}
	if one(a.Spec.Containers) == one(b.Spec.Containers) {
		t.Error("containers that differ are shared")
	}
}

func BenchmarkShare(b *testing.B) {
	a := podOf(1)
	for b.Loop() {
		share(podOf(2), a)
	}
}

func BenchmarkPack(b *testing.B) {
	words := bytes.Repeat([]byte("some words of a template that come again, 0123456789 "), 60)
	from := &base{bytes: words}
	value := append(append(append([]byte("abc"), words[:900]...), "another name"...), words[930:]...)
	for b.Loop() {
		if _, ok := from.pack(value, len(value)/good); !ok {
			b.Fatal("not packed")
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	words := bytes.Repeat([]byte("some words of a template that come again, 0123456789 "), 60)
	value := append(append(append([]byte("abc"), words[:900]...), "another name"...), words[930:]...)
	t, _ := (&base{bytes: words}).pack(value, len(value)/good)
	var buf []byte
	for b.Loop() {
		buf = t.append(buf[:0])
	}
}
