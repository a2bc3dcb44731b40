package store

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

func pods() *api.Kind {
	return api.Define(api.Resource[*corev1.Pod]{
		Version: "v1", Kind: "Pod", Plural: "pods", Namespaced: true,
		Fields:  map[string]func(*corev1.Pod) string{"spec.nodeName": func(p *corev1.Pod) string { return p.Spec.NodeName }},
		Indexes: []string{"spec.nodeName"},
	})
}

func leasesKind() *api.Kind {
	return api.Define(api.Resource[*coordinationv1.Lease]{
		Group: "coordination.k8s.io", Version: "v1", Kind: "Lease", Plural: "leases", Namespaced: true, TTL: time.Second,
	})
}

func pod(namespace, name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func openAt(t testing.TB, dir string, cfg Config) *Store {
	t.Helper()
	cfg.Dir, cfg.Log = dir, slog.New(slog.DiscardHandler)
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openPods(t testing.TB, cfg Config) (*Store, *Collection) {
	t.Helper()
	s := openAt(t, t.TempDir(), cfg)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, serve(t, s, pods())
}

func serve(t testing.TB, s *Store, kind *api.Kind) *Collection {
	t.Helper()
	c, err := s.Serve(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	return c
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

func setNode(node string) func(*Item) (api.Object, error) {
	return func(cur *Item) (api.Object, error) {
		p := cur.Object().(*corev1.Pod).DeepCopy()
		p.Spec.NodeName = node
		return p, nil
	}
}

func TestVerbs(t *testing.T) {
	s, c := openPods(t, Config{})
	ctx := t.Context()
	item := must[*Item](t)(c.Create(ctx, pod("a", "x", "")))
	if item.Revision != s.Revision() || item.Object().GetResourceVersion() == "" {
		t.Fatalf("created at %d, the store is at %d", item.Revision, s.Revision())
	}
	if _, err := c.Create(ctx, pod("a", "x", "")); !errors.Is(err, ErrExists) {
		t.Fatalf("created twice: %v", err)
	}
	if _, err := c.Create(ctx, pod("a", "../x", "")); !errors.Is(err, ErrName) {
		t.Fatalf("a name with a slash: %v", err)
	}
	changed := must[*Item](t)(c.Update(ctx, "a", "x", setNode("n1")))
	if changed.Revision <= item.Revision {
		t.Fatal("an update got no newer revision")
	}
	same := must[*Item](t)(c.Update(ctx, "a", "x", setNode("n1")))
	if same != changed {
		t.Fatal("an update without a difference was written")
	}
	if _, err := c.Update(ctx, "a", "nobody", setNode("n1")); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if got := must[*Item](t)(c.Get(ctx, "a", "x", Latest)); got != changed {
		t.Fatal("get gave another item")
	}
	old := must[*Snapshot](t)(c.SnapshotAt(ctx, item.Revision))
	if i, ok := old.Get("a", "x"); !ok || i.Object().(*corev1.Pod).Spec.NodeName != "" {
		t.Fatal("the snapshot does not show the past")
	}
	refusal := errors.New("no")
	if _, err := c.Delete(ctx, "a", "x", func(*Item) error { return refusal }); !errors.Is(err, refusal) {
		t.Fatal(err)
	}
	gone := must[*Item](t)(c.Delete(ctx, "a", "x", nil))
	if gone.Revision <= changed.Revision || gone.Object().(*corev1.Pod).Spec.NodeName != "n1" || gone.Object().GetResourceVersion() == changed.Object().GetResourceVersion() {
		t.Fatal("the deleted state is wrong")
	}
	if _, err := c.Get(ctx, "a", "x", Any); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := c.Delete(ctx, "a", "x", nil); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	big := pod("a", "big", "")
	big.Annotations = map[string]string{"x": string(make([]byte, 2<<20))}
	if _, err := c.Create(ctx, big); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if _, err := c.Snapshot(ctx, s.Revision()+100); !errors.Is(err, ErrFuture) {
		t.Fatal(err)
	}
	if err := s.Health(ctx); err != nil {
		t.Fatal(err)
	}
}

func collect(t testing.TB, w *Watcher, n int) []Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var out []Event
	for len(out) < n {
		batch, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("after %d of %d events: %v", len(out), n, err)
		}
		out = append(out, batch...)
	}
	return out
}

func TestWatchByIndex(t *testing.T) {
	_, c := openPods(t, Config{})
	ctx := t.Context()
	must[*Item](t)(c.Create(ctx, pod("a", "x", "n1")))
	w := must[*Watcher](t)(c.Watch(ctx, WatchOptions{Index: "spec.nodeName", Value: "n1", InitialEvents: true}))
	defer w.Stop()
	first := collect(t, w, 2)
	if first[0].Type != Added || !first[1].InitialEnd {
		t.Fatalf("initial state: %+v", first)
	}
	must[*Item](t)(c.Create(ctx, pod("a", "y", "n2")))
	must[*Item](t)(c.Update(ctx, "a", "y", setNode("n1")))
	left := must[*Item](t)(c.Update(ctx, "a", "x", setNode("n3")))
	got := collect(t, w, 2)
	if got[0].Type != Added || got[0].Item.Path() != "a/y" {
		t.Fatalf("arrival: %+v", got[0])
	}
	old := got[1].Item.Object().(*corev1.Pod)
	if got[1].Type != Deleted || old.Spec.NodeName != "n1" || old.ResourceVersion != left.Object().GetResourceVersion() {
		t.Fatalf("departure: %+v %+v", got[1], old)
	}
}

func TestWatchSince(t *testing.T) {
	s, c := openPods(t, Config{Events: 10})
	ctx := t.Context()
	first := must[*Item](t)(c.Create(ctx, pod("a", "x", "")))
	for range 5 {
		must[*Item](t)(c.Create(ctx, pod("a", "y", "")))
		must[*Item](t)(c.Delete(ctx, "a", "y", nil))
	}
	w := must[*Watcher](t)(c.Watch(ctx, WatchOptions{Since: s.Revision() - 3}))
	if got := collect(t, w, 3); len(got) != 3 || got[0].Type != Deleted || got[2].Type != Deleted {
		t.Fatalf("%+v", got)
	}
	w.Stop()
	if _, err := c.Watch(ctx, WatchOptions{Since: first.Revision - 1}); !errors.Is(err, ErrCompacted) {
		t.Fatal(err)
	}
	slow := must[*Watcher](t)(c.Watch(ctx, WatchOptions{Since: s.Revision()}))
	defer slow.Stop()
	for range 6 {
		must[*Item](t)(c.Create(ctx, pod("a", "y", "")))
		must[*Item](t)(c.Delete(ctx, "a", "y", nil))
	}
	if _, err := slow.Next(ctx); !errors.Is(err, ErrSlow) {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir, Config{})
	c := serve(t, s, pods())
	must[*Item](t)(c.Create(t.Context(), pod("a", "x", "")))
	kept := must[*Item](t)(c.Create(t.Context(), pod("a", "y", "n")))
	if _, err := s.link.client.Put(t.Context(), "/registry/pods/a/torn", "k8s\x00\x0a\x7f"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	s = openAt(t, dir, Config{})
	defer s.Close()
	t.Logf("open: %v", time.Since(start))
	c = serve(t, s, pods())
	got := must[*Item](t)(c.Get(t.Context(), "a", "y", Latest))
	if got.Revision != kept.Revision || got.Object().GetResourceVersion() != kept.Object().GetResourceVersion() {
		t.Fatal("the object changed")
	}
	if n := must[*Snapshot](t)(c.Snapshot(t.Context(), Latest)).Len("a"); n != 2 {
		t.Fatalf("%d objects", n)
	}
}

func TestLifetime(t *testing.T) {
	s := openAt(t, t.TempDir(), Config{})
	defer s.Close()
	c := serve(t, s, leasesKind())
	w := must[*Watcher](t)(c.Watch(t.Context(), WatchOptions{Since: s.Revision()}))
	defer w.Stop()
	for _, name := range []string{"x", "y"} {
		must[*Item](t)(c.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}}))
	}
	// A lease that runs out does what one that is revoked does, later.
	held := must[*clientv3.LeaseLeasesResponse](t)(s.link.client.Leases(t.Context()))
	if len(held.Leases) != 1 {
		t.Fatalf("%d leases for two objects of one minute", len(held.Leases))
	}
	must[*clientv3.LeaseRevokeResponse](t)(s.link.client.Revoke(t.Context(), held.Leases[0].ID))
	got := collect(t, w, 4)
	if got[2].Type != Deleted || got[3].Type != Deleted || got[2].Revision != got[3].Revision {
		t.Fatalf("%+v", got)
	}
	// The next object does not suffer from the lease that is gone.
	must[*Item](t)(c.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "z"}}))
}

func TestCompaction(t *testing.T) {
	s, c := openPods(t, Config{Events: 2})
	first := must[*Item](t)(c.Create(t.Context(), pod("a", "x", "")))
	for _, n := range []string{"1", "2", "3", "4", "5"} {
		must[*Item](t)(c.Update(t.Context(), "a", "x", setNode(n)))
	}
	snap := must[*Snapshot](t)(c.SnapshotAt(t.Context(), first.Revision)) // from etcd
	if i, ok := snap.Get("a", "x"); !ok || i.Object().(*corev1.Pod).Spec.NodeName != "" {
		t.Fatal("etcd's past differs")
	}
	if err := s.CompactTo(t.Context(), s.Revision()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SnapshotAt(t.Context(), first.Revision); !errors.Is(err, ErrCompacted) {
		t.Fatal(err)
	}
	// Also of a kind that has not changed since, whose state is in memory.
	quiet := must[*Collection](t)(s.Serve(t.Context(), leasesKind()))
	if _, err := quiet.SnapshotAt(t.Context(), first.Revision); !errors.Is(err, ErrCompacted) {
		t.Fatal(err)
	}
}

// Who is told of a change finds it at once: a loop that sees a new namespace must be able to
// put something into it. The field of an index is read while watchers are being told.
func TestToldIsThere(t *testing.T) {
	var c *Collection
	asked := 0
	node := func(p *corev1.Pod) string {
		if c != nil {
			asked++
			if got, err := c.Get(t.Context(), p.Namespace, p.Name, Any); err != nil || got.Revision < 1 {
				t.Errorf("told of %s, and read: %v", p.Name, err)
			}
		}
		return p.Spec.NodeName
	}
	s := must[*Store](t)(Open(t.Context(), Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(func() { _ = s.Close() })
	served := must[*Collection](t)(s.Serve(t.Context(), api.Define(api.Resource[*corev1.Pod]{
		Version: "v1", Kind: "Pod", Plural: "pods", Namespaced: true,
		Fields: map[string]func(*corev1.Pod) string{"spec.nodeName": node}, Indexes: []string{"spec.nodeName"},
	})))
	w := must[*Watcher](t)(served.Watch(t.Context(), WatchOptions{Index: "spec.nodeName", Value: "n", Since: s.Revision()}))
	defer w.Stop()
	c = served
	must[*Item](t)(served.Create(t.Context(), pod("a", "x", "n")))
	if c = nil; asked == 0 {
		t.Error("nobody was told")
	}
}

// What was queued when a watch ended is shown, and then its end.
func TestWatchEndsWithEvents(t *testing.T) {
	s, c := openPods(t, Config{})
	w := must[*Watcher](t)(c.Watch(t.Context(), WatchOptions{Since: Any}))
	defer w.Stop()
	must[*Item](t)(c.Create(t.Context(), pod("a", "x", "n")))
	s.Drop(c.group)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if events, err := w.Next(ctx); err != nil || len(events) != 1 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	if _, err := w.Next(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}
