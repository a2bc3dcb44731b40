package apiserver_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// told reads a watch until n events have come, each as "TYPE name".
func told(t *testing.T, w watch.Interface, n int) (all []string, last watch.Event) {
	t.Helper()
	timeout := time.After(5 * time.Second)
	for len(all) < n {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				t.Fatalf("ended after %v", all)
			}
			text := string(e.Type)
			if m, ok := e.Object.(metav1.Object); ok && e.Type != watch.Bookmark {
				text += " " + m.GetName()
			}
			all, last = append(all, text), e
		case <-timeout:
			t.Fatalf("nothing more after %v", all)
		}
	}
	return all, last
}

func expect(t *testing.T, w watch.Interface, want ...string) watch.Event {
	t.Helper()
	got, last := told(t, w, len(want))
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Fatalf("told %v, want %v", got, want)
	}
	return last
}

func TestWatch(t *testing.T) {
	every(t, newHouse(t), func(t *testing.T, c kubernetes.Interface, ns string) {
		ctx, maps, ok := t.Context(), c.CoreV1().ConfigMaps(ns), must[*corev1.ConfigMap](t)
		start := must[watch.Interface](t)
		a := configMap("a")
		a.Labels = map[string]string{"in": "yes"}
		a = ok(maps.Create(ctx, a, metav1.CreateOptions{}))
		live := start(maps.Watch(ctx, metav1.ListOptions{}))
		defer live.Stop()
		expect(t, live, "ADDED a")
		selected := start(maps.Watch(ctx, metav1.ListOptions{LabelSelector: "in=yes", ResourceVersion: a.ResourceVersion}))
		defer selected.Stop()
		b := ok(maps.Create(ctx, configMap("b"), metav1.CreateOptions{}))
		a.Labels["in"] = "no"
		left := ok(maps.Update(ctx, a.DeepCopy(), metav1.UpdateOptions{}))
		if err := maps.Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		last := expect(t, live, "ADDED b", "MODIFIED a", "DELETED b")
		if d := last.Object.(*corev1.ConfigMap); d.ResourceVersion == b.ResourceVersion {
			t.Error("a deletion has the revision of the object's last write")
		}
		last = expect(t, selected, "DELETED a")
		if d := last.Object.(*corev1.ConfigMap); d.ResourceVersion != left.ResourceVersion || d.Labels["in"] != "yes" {
			t.Errorf("left the selector as %+v", d.ObjectMeta)
		}
		resumed := start(maps.Watch(ctx, metav1.ListOptions{ResourceVersion: a.ResourceVersion}))
		defer resumed.Stop()
		expect(t, resumed, "ADDED b", "MODIFIED a", "DELETED b")

		initial := start(maps.Watch(ctx, metav1.ListOptions{
			SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		}))
		defer initial.Stop()
		mark := expect(t, initial, "ADDED a", "BOOKMARK").Object.(*corev1.ConfigMap)
		if mark.Annotations[metav1.InitialEventsAnnotationKey] != "true" || mark.ResourceVersion == "" || mark.Name != "" {
			t.Errorf("bookmark %+v", mark.ObjectMeta)
		}
		ok(maps.Create(ctx, configMap("c"), metav1.CreateOptions{}))
		expect(t, initial, "ADDED c")

		named := start(maps.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=c", TimeoutSeconds: ptr.To(int64(1)), AllowWatchBookmarks: true}))
		expect(t, named, "ADDED c", "BOOKMARK")
		if _, open := <-named.ResultChan(); open {
			t.Error("goes on after its time")
		}
	})
}

func TestWatchOfTooOld(t *testing.T) {
	h := newHouse(t)
	c := h.typed("root")
	for i := range historyLength + 1 {
		must[*corev1.ConfigMap](t)(c.CoreV1().ConfigMaps("default").Create(t.Context(), configMap(fmt.Sprint("m", i)), metav1.CreateOptions{}))
	}
	if err := h.store.CompactTo(t.Context(), h.store.Revision()); err != nil {
		t.Fatal(err)
	}
	w := must[watch.Interface](t)(c.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"}))
	defer w.Stop()
	e := expect(t, w, "ERROR")
	if err := apierrors.FromObject(e.Object); !apierrors.IsResourceExpired(err) || !strings.HasPrefix(err.Error(), "too old resource version: 1 (") {
		t.Errorf("%v", err)
	}
	exact := metav1.ListOptions{ResourceVersion: "1", ResourceVersionMatch: metav1.ResourceVersionMatchExact}
	if _, err := c.CoreV1().ConfigMaps("default").List(t.Context(), exact); !apierrors.IsResourceExpired(err) {
		t.Errorf("exact list: %v", err)
	}
}

func TestWatchTables(t *testing.T) {
	h := newHouse(t)
	for i := range 2 {
		must[*corev1.ConfigMap](t)(h.typed("root").CoreV1().ConfigMaps("default").Create(t.Context(), configMap(fmt.Sprintf("m%d", i)), metav1.CreateOptions{}))
	}
	for as, want := range map[string][]string{
		"Table":                 {`"columnDefinitions":[{`, `"columnDefinitions":null`},
		"PartialObjectMetadata": {`{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1"`, `"name":"m1"`},
	} {
		a := h.do("GET", maps+"?watch=1&timeoutSeconds=1", "", "Accept", "application/json;as="+as+";v=v1;g=meta.k8s.io")
		lines := strings.Split(strings.TrimSpace(string(a.body)), "\n")
		if a.code != 200 || len(lines) != 2 {
			t.Fatalf("%s: %d %s", as, a.code, a.body)
		}
		for i, line := range lines {
			var e metav1.WatchEvent
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Type != "ADDED" || !strings.Contains(line, want[i]) {
				t.Errorf("%s: %v %s", as, err, line)
			}
		}
	}
}

// A server that goes away ends its watches.
func TestCloseEndsWatches(t *testing.T) {
	h := newHouse(t)
	w := must[watch.Interface](t)(h.typed("root").CoreV1().ConfigMaps("").Watch(t.Context(), metav1.ListOptions{}))
	defer w.Stop()
	h.server.Close()
	select {
	case <-w.ResultChan():
	case <-time.After(5 * time.Second):
		t.Error("goes on")
	}
}
