package apiserver_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

func configMap(name string, data ...string) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{}}
	for i := 0; i+1 < len(data); i += 2 {
		cm.Data[data[i]] = data[i+1]
	}
	return cm
}

func deployment(name string) *appsv1.Deployment {
	l := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: l},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: l},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: l},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "demo:1"}}},
			},
		},
	}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "demo:1"}}},
	}
}

// every runs a test through each way in.
func every(t *testing.T, h *house, f func(t *testing.T, c kubernetes.Interface, ns string)) {
	ways := map[string]*rest.Config{"json": h.config("root"), "protobuf": h.protobuf("root"), "local": h.localConfig("root")}
	for name, cfg := range ways {
		t.Run(name, func(t *testing.T) {
			c := client(t, kubernetes.NewForConfig, cfg)
			ns, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-"}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			f(t, c, ns.Name)
		})
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestLifeOfAConfigMap(t *testing.T) {
	every(t, newHouse(t), func(t *testing.T, c kubernetes.Interface, ns string) {
		ctx, maps, ok := t.Context(), c.CoreV1().ConfigMaps(ns), must[*corev1.ConfigMap](t)
		made := ok(maps.Create(ctx, configMap("a", "k", "v"), metav1.CreateOptions{}))
		if made.UID == "" || made.ResourceVersion == "" || made.CreationTimestamp.IsZero() || len(made.ManagedFields) != 1 {
			t.Fatalf("made %+v", made.ObjectMeta)
		}
		_, err := maps.Create(ctx, configMap("a"), metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) || err.Error() != `configmaps "a" already exists` {
			t.Fatalf("again: %v", err)
		}
		stale := made.DeepCopy()
		made.Data["k"] = "w"
		made = ok(maps.Update(ctx, made, metav1.UpdateOptions{}))
		stale.Data["k"] = "x"
		_, err = maps.Update(ctx, stale, metav1.UpdateOptions{})
		if !apierrors.IsConflict(err) || err.Error() != `Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again` {
			t.Fatalf("stale: %v", err)
		}
		same := ok(maps.Update(ctx, made.DeepCopy(), metav1.UpdateOptions{}))
		if same.ResourceVersion != made.ResourceVersion {
			t.Error("an update that changes nothing wrote")
		}
		got := ok(maps.Get(ctx, "a", metav1.GetOptions{}))
		if got.Data["k"] != "w" || got.UID != made.UID {
			t.Fatalf("got %+v", got)
		}
		stale.UID = "other"
		stale.ResourceVersion = ""
		if _, err = maps.Update(ctx, stale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			t.Errorf("another uid: %v", err)
		}
		for name, p := range map[types.PatchType]string{
			types.JSONPatchType:           `[{"op":"add","path":"/data/p","value":"1"}]`,
			types.MergePatchType:          `{"data":{"p":"2"}}`,
			types.StrategicMergePatchType: `{"data":{"p":"3"}}`,
			types.ApplyPatchType:          `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"p":"4"}}`,
		} {
			patched := ok(maps.Patch(ctx, "a", name, []byte(p), metav1.PatchOptions{FieldManager: "m", Force: forced(name)}))
			if !strings.Contains(p, patched.Data["p"]) || patched.Data["k"] != "w" {
				t.Errorf("%s: %v", name, patched.Data)
			}
		}
		if err := maps.Delete(ctx, "a", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(types.UID("x"))}}); !apierrors.IsConflict(err) {
			t.Errorf("delete another: %v", err)
		}
		if err := maps.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		_, err = maps.Get(ctx, "a", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) || err.Error() != `configmaps "a" not found` {
			t.Errorf("after delete: %v", err)
		}
	})
}

func forced(t types.PatchType) *bool {
	if t == types.ApplyPatchType {
		return ptr.To(true)
	}
	return nil
}

func TestGenerateNameDryRunCollection(t *testing.T) {
	every(t, newHouse(t), func(t *testing.T, c kubernetes.Interface, ns string) {
		ctx, maps, ok := t.Context(), c.CoreV1().ConfigMaps(ns), must[*corev1.ConfigMap](t)
		dry := metav1.CreateOptions{DryRun: []string{"All"}}
		if d := ok(maps.Create(ctx, configMap("dry"), dry)); d.UID == "" || d.ResourceVersion != "" {
			t.Errorf("dry run: %+v", d.ObjectMeta)
		}
		for range 3 {
			cm := configMap("", "a", "b")
			cm.GenerateName = "gen-"
			if made := ok(maps.Create(ctx, cm, metav1.CreateOptions{})); len(made.Name) != 9 {
				t.Errorf("generated %q", made.Name)
			}
		}
		if _, err := maps.Create(ctx, configMap(""), metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "metadata.name: Required value: name or generateName is required") {
			t.Errorf("no name: %v", err)
		}
		list := must[*corev1.ConfigMapList](t)(maps.List(ctx, metav1.ListOptions{}))
		if len(list.Items) != 3 || list.ResourceVersion == "" {
			t.Fatalf("listed %d", len(list.Items))
		}
		if err := maps.Delete(ctx, list.Items[0].Name, metav1.DeleteOptions{DryRun: []string{"All"}}); err != nil {
			t.Fatal(err)
		}
		if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "metadata.name=" + list.Items[0].Name}); err != nil {
			t.Fatal(err)
		}
		if n := len(must[*corev1.ConfigMapList](t)(maps.List(ctx, metav1.ListOptions{})).Items); n != 2 {
			t.Errorf("%d are left", n)
		}
		if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		if n := len(must[*corev1.ConfigMapList](t)(maps.List(ctx, metav1.ListOptions{})).Items); n != 0 {
			t.Errorf("%d are left", n)
		}
	})
}

func TestFinalizersAndPropagation(t *testing.T) {
	every(t, newHouse(t), func(t *testing.T, c kubernetes.Interface, ns string) {
		ctx, maps, ok := t.Context(), c.CoreV1().ConfigMaps(ns), must[*corev1.ConfigMap](t)
		cm := configMap("f")
		cm.Finalizers = []string{"example.com/hold"}
		ok(maps.Create(ctx, cm, metav1.CreateOptions{}))
		if err := maps.Delete(ctx, "f", metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationForeground)}); err != nil {
			t.Fatal(err)
		}
		held := ok(maps.Get(ctx, "f", metav1.GetOptions{}))
		if held.DeletionTimestamp == nil || len(held.Finalizers) != 2 || held.Finalizers[1] != metav1.FinalizerDeleteDependents {
			t.Fatalf("held: %+v", held.ObjectMeta)
		}
		held.Finalizers = append(held.Finalizers, "example.com/late")
		if _, err := maps.Update(ctx, held, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("a finalizer on a deleted object: %v", err)
		}
		held.Finalizers = nil
		ok(maps.Update(ctx, held, metav1.UpdateOptions{}))
		if _, err := maps.Get(ctx, "f", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("still there: %v", err)
		}
	})
}

func TestGracefulDeletion(t *testing.T) {
	every(t, newHouse(t), func(t *testing.T, c kubernetes.Interface, ns string) {
		ctx, pods, ok := t.Context(), c.CoreV1().Pods(ns), must[*corev1.Pod](t)
		ok(pods.Create(ctx, pod("p"), metav1.CreateOptions{}))
		if err := pods.Delete(ctx, "p", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		p := ok(pods.Get(ctx, "p", metav1.GetOptions{}))
		if p.DeletionTimestamp == nil || *p.DeletionGracePeriodSeconds != 30 {
			t.Fatalf("%+v", p.ObjectMeta)
		}
		if err := pods.Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(5))}); err != nil {
			t.Fatal(err)
		}
		if p = ok(pods.Get(ctx, "p", metav1.GetOptions{})); *p.DeletionGracePeriodSeconds != 5 {
			t.Errorf("not shortened: %d", *p.DeletionGracePeriodSeconds)
		}
		if err := pods.Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}); err != nil {
			t.Fatal(err)
		}
		if _, err := pods.Get(ctx, "p", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("still there: %v", err)
		}
	})
}

func TestStatusAndScale(t *testing.T) {
	every(t, newHouse(t), func(t *testing.T, c kubernetes.Interface, ns string) {
		ctx, all, ok := t.Context(), c.AppsV1().Deployments(ns), must[*appsv1.Deployment](t)
		d := deployment("d")
		d.Status.Replicas = 7
		d = ok(all.Create(ctx, d, metav1.CreateOptions{}))
		if d.Status.Replicas != 0 || d.Generation != 1 {
			t.Fatalf("created with %+v, generation %d", d.Status, d.Generation)
		}
		d.Status.Replicas, d.Spec.Paused = 3, true
		d = ok(all.UpdateStatus(ctx, d, metav1.UpdateOptions{}))
		if d.Status.Replicas != 3 || d.Spec.Paused || d.Generation != 1 {
			t.Fatalf("status wrote %+v paused %v generation %d", d.Status, d.Spec.Paused, d.Generation)
		}
		d.Status.Replicas, d.Spec.Paused = 4, true
		d = ok(all.Update(ctx, d, metav1.UpdateOptions{}))
		if d.Status.Replicas != 3 || !d.Spec.Paused || d.Generation != 2 {
			t.Fatalf("update wrote %+v paused %v generation %d", d.Status, d.Spec.Paused, d.Generation)
		}
		s := must[*autoscalingv1.Scale](t)(all.GetScale(ctx, "d", metav1.GetOptions{}))
		if s.Spec.Replicas != 1 || s.Status.Replicas != 3 || s.Status.Selector != "app=d" {
			t.Fatalf("scale %+v", s)
		}
		s.Spec.Replicas = 5
		s = must[*autoscalingv1.Scale](t)(all.UpdateScale(ctx, "d", s, metav1.UpdateOptions{}))
		if s.Spec.Replicas != 5 {
			t.Fatalf("scaled %+v", s)
		}
		d = ok(all.Get(ctx, "d", metav1.GetOptions{}))
		if *d.Spec.Replicas != 5 || d.Generation != 3 || d.Status.Replicas != 3 {
			t.Fatalf("after scale: %d, generation %d", *d.Spec.Replicas, d.Generation)
		}
		if _, err := c.CoreV1().RESTClient().Get().AbsPath("/apis/apps/v1/namespaces/" + ns + "/deployments/d/scale").DoRaw(ctx); err != nil {
			t.Error(err)
		}
		s.Spec.Replicas, s.ResourceVersion = -1, ""
		if _, err := all.UpdateScale(ctx, "d", s, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("negative scale: %v", err)
		}
		applied := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"ssa"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"x"}]}}}}`
		d = ok(all.Patch(ctx, "ssa", types.ApplyPatchType, []byte(applied), metav1.PatchOptions{FieldManager: "one"}))
		if *d.Spec.Replicas != 1 || len(d.ManagedFields) != 1 || d.ManagedFields[0].Operation != metav1.ManagedFieldsOperationApply {
			t.Fatalf("applied: %+v", d.ManagedFields)
		}
		_, err := all.Patch(ctx, "ssa", types.ApplyPatchType, []byte(strings.Replace(applied, `"x"`, `"y"`, 1)), metav1.PatchOptions{FieldManager: "two"})
		if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "one": .spec.template.spec.containers[name="c"].image`) {
			t.Errorf("apply conflict: %v", err)
		}
	})
}
