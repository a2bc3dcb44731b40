package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// What a watcher sees from a revision on is the same before and after a restart.
func TestResumeOverRestart(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir, Config{})
	c := serve(t, s, pods())
	ctx := t.Context()
	must[*Item](t)(c.Create(ctx, pod("a", "kept", "n0")))
	must[*Item](t)(c.Create(ctx, pod("a", "going", "n0")))
	since := s.Revision()
	for i := range 300 {
		must[*Item](t)(c.Update(ctx, "a", "kept", setNode(fmt.Sprint("n", i+1))))
	}
	must[*Item](t)(c.Delete(ctx, "a", "going", nil))
	must[*Item](t)(c.Create(ctx, pod("a", "new", "n0")))
	must[*Item](t)(c.Delete(ctx, "a", "new", nil))
	resume := func(c *Collection, since int64, opts WatchOptions) []string {
		opts.Since = since
		w := must[*Watcher](t)(c.Watch(t.Context(), opts))
		defer w.Stop()
		var out []string
		for len(out) == 0 || out[len(out)-1] != "end" {
			for _, e := range collect(t, w, 1) {
				p := e.Item.Object().(*corev1.Pod)
				out = append(out, fmt.Sprint(e.Type, e.Revision, p.Name, p.Spec.NodeName, p.ResourceVersion))
				if p.Name == "new" && e.Type == Deleted {
					out = append(out, "end")
				}
			}
		}
		return out
	}
	all, some := WatchOptions{}, WatchOptions{Index: "spec.nodeName", Value: "n0"}
	want, wantSome := resume(c, since, all), resume(c, since, some)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, dir, Config{})
	c = serve(t, s, pods())
	start := time.Now()
	if got := resume(c, since, all); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
	t.Logf("the past was read in %v", time.Since(start))
	if got := resume(c, since, some); fmt.Sprint(got) != fmt.Sprint(wantSome) {
		t.Errorf("got\n%v\nwant\n%v", got, wantSome)
	}
	compacted := since + 100
	if err := s.CompactTo(ctx, compacted); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, dir, Config{})
	defer s.Close()
	c = serve(t, s, pods())
	if _, err := c.Watch(ctx, WatchOptions{Since: compacted - 1}); !errors.Is(err, ErrCompacted) {
		t.Fatalf("resumed before the compaction: %v", err)
	}
	if got := resume(c, compacted, all); fmt.Sprint(got) != fmt.Sprint(want[100:]) {
		t.Errorf("got\n%v\nwant\n%v", got, want[100:])
	}
}

// While the past is read the history may overflow: what comes before the gap is of no use.
func TestPastDoesNotHideAGap(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir, Config{Events: 5})
	c := serve(t, s, pods())
	must[*Item](t)(c.Create(t.Context(), pod("a", "x", "n")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, dir, Config{Events: 5})
	defer func() { _ = s.Close() }()
	c = serve(t, s, pods())
	to, _ := c.forgotten()
	if err := s.readPast(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	events, floor, err := c.relive(t.Context(), s.past.events[c.folder], to)
	if err != nil || len(events) == 0 {
		t.Fatal(events, err)
	}
	for i := range 8 {
		must[*Item](t)(c.Update(t.Context(), "a", "x", setNode(fmt.Sprint("n", i))))
	}
	c.rejoin(events, floor, to)
	if w, err := c.Watch(t.Context(), WatchOptions{Since: to}); !errors.Is(err, ErrCompacted) {
		t.Fatalf("a watch since %d is served (%v), though events are gone: %v", to, err, collect(t, w, 1))
	}
}
