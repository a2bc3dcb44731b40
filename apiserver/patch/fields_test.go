package patch

import (
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

// entries are managed fields without their times.
func entries(obj api.Object) []metav1.ManagedFieldsEntry {
	var out []metav1.ManagedFieldsEntry
	for _, e := range obj.GetManagedFields() {
		e.Time = nil
		out = append(out, e)
	}
	return out
}

// TestTrimmed compares both ways of Written with the library at work on whole objects.
func TestTrimmed(t *testing.T) {
	f := fieldsOf(t, podKind)
	slow, _ := f.manager("")
	live, err := f.Written(nil, aPod(), "kubectl", "")
	if err != nil || len(live.GetManagedFields()) != 1 {
		t.Fatalf("create: %v, %v", live.GetManagedFields(), err)
	}
	changes := map[string]func(*corev1.Pod){
		"nothing":     func(*corev1.Pod) {},
		"unowned":     func(p *corev1.Pod) { p.ResourceVersion, p.Generation = "8", 3 },
		"node":        func(p *corev1.Pod) { p.Spec.NodeName = "n" },
		"label":       func(p *corev1.Pod) { p.Labels["new"] = "x"; delete(p.Labels, "app") },
		"finalizer":   func(p *corev1.Pod) { p.Finalizers = []string{"a/b"} },
		"container":   func(p *corev1.Pod) { p.Spec.Containers = p.Spec.Containers[:1] },
		"no spec":     func(p *corev1.Pod) { p.Spec = corev1.PodSpec{} },
		"status":      func(p *corev1.Pod) { p.Status.Phase = "Running" },
		"quantity":    func(p *corev1.Pod) { p.Spec.Overhead = corev1.ResourceList{"cpu": resource.MustParse("1000m")} },
		"empty list":  func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{} },
		"nil entries": func(p *corev1.Pod) { p.ManagedFields = nil; p.Spec.NodeName = "n" },
		"reset":       func(p *corev1.Pod) { p.ManagedFields = []metav1.ManagedFieldsEntry{} },
		"reset one":   func(p *corev1.Pod) { p.ManagedFields = []metav1.ManagedFieldsEntry{{}}; p.Spec.NodeName = "n" },
	}
	for name, change := range changes {
		for _, manager := range []string{"kubectl", "other"} {
			a, b := live.DeepCopyObject().(*corev1.Pod), live.DeepCopyObject().(*corev1.Pod)
			change(a)
			change(b)
			want, err := slow.Update(live.DeepCopyObject(), b, manager)
			if err != nil {
				t.Fatal(err)
			}
			for way, write := range map[string]func(api.Object, api.Object, string, string) (api.Object, error){"direct": f.Written, "library": f.viaLibrary} {
				got, err := write(live, a.DeepCopy(), manager, "")
				if err != nil || !reflect.DeepEqual(entries(got), entries(want.(api.Object))) {
					t.Errorf("%s by %s, %s: got %v, %v; want %v", name, manager, way, got.GetManagedFields(), err, want.(api.Object).GetManagedFields())
				}
			}
		}
	}
}

func TestManagersAreCapped(t *testing.T) {
	f := fieldsOf(t, mapKind)
	var obj api.Object = aMap()
	for i := range 30 {
		next := obj.DeepCopyObject().(*corev1.ConfigMap)
		next.Data["key0"] = time.Duration(i).String()
		next.Data[time.Duration(i).String()] = "x"
		var live api.Object
		if i > 0 {
			live = obj
		}
		var err error
		if obj, err = f.Written(live, next, "m"+time.Duration(i).String(), ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(obj.GetManagedFields()); n > 11 {
		t.Errorf("%d entries", n)
	}
}

func TestApply(t *testing.T) {
	f := fieldsOf(t, mapKind)
	const head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: default}\n"
	live, err := f.Apply(nil, []byte(head+"data: {a: '1', b: '2'}"), "one", "", false)
	if err != nil {
		t.Fatal(err)
	}
	if e := live.GetManagedFields(); len(e) != 1 || e[0].Operation != "Apply" || e[0].Manager != "one" {
		t.Errorf("entries %v", e)
	}
	live.SetUID("u")
	again, err := f.Apply(live, []byte(head+"data: {a: '1', b: '2'}"), "one", "", false)
	if err != nil || !reflect.DeepEqual(again, live) {
		t.Errorf("the same again: %v, %v", again, err)
	}
	_, err = f.Apply(live, []byte(head+"data: {a: '3'}"), "two", "", false)
	fails(t, err, 409, `Apply failed with 1 conflict: conflict with "one": .data.a`)
	if causes := err.(apierrors.APIStatus).Status().Details.Causes; len(causes) != 1 || causes[0].Type != metav1.CauseTypeFieldManagerConflict || causes[0].Field != ".data.a" {
		t.Errorf("causes %v", causes)
	}
	forced, err := f.Apply(live, []byte(head+"data: {a: '3'}"), "two", "", true)
	if err != nil || forced.(*corev1.ConfigMap).Data["a"] != "3" || len(forced.GetManagedFields()) != 2 {
		t.Fatalf("forced: %v, %v", forced, err)
	}
	dropped, err := f.Apply(forced, []byte(head), "one", "", false)
	if d := dropped.(*corev1.ConfigMap).Data; err != nil || len(d) != 1 || d["a"] != "3" {
		t.Errorf("dropped: %v, %v", d, err)
	}
	for body, text := range map[string]string{
		"a: [": "error encoding patch", "{}": "invalid object type: /, Kind=",
		"apiVersion: v1\nkind: Pod": "invalid object type: /v1, Kind=Pod",
		head + "nope: 1":            ".nope: field not declared in schema",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {managedFields: [{}]}": "metadata.managedFields must be nil",
	} {
		_, err := f.Apply(live, []byte(body), "x", "", false)
		fails(t, err, 400, text)
	}
}

func TestStatusIsOwnedByItsPath(t *testing.T) {
	f := fieldsOf(t, podKind)
	live, _ := f.Written(nil, aPod(), "kubectl", "")
	next := live.DeepCopyObject().(*corev1.Pod)
	next.Status.Phase, next.Spec.NodeName = "Running", "n"
	got, err := f.Written(live, next, "kubelet", "status")
	e := got.GetManagedFields()
	if err != nil || len(e) != 2 || e[1].Subresource != "status" || string(e[1].FieldsV1.GetRawBytes()) != `{"f:status":{"f:phase":{}}}` {
		t.Errorf("entries %v, %v", e, err)
	}
}
