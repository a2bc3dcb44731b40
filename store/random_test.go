package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Many writers, one watcher from the start: its events, replayed, must give every
// snapshot in between exactly, in strictly growing order.
func TestWatchIsTheHistory(t *testing.T) {
	s, c := openPods(t, Config{})
	start := s.Revision()
	w := must[*Watcher](t)(c.Watch(t.Context(), WatchOptions{Since: start, InitialEvents: true}))
	defer w.Stop()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 150 {
				name, node := fmt.Sprint("p", rand.IntN(20)), fmt.Sprint("n", rand.IntN(5))
				switch rand.IntN(4) {
				case 0:
					_, _ = c.Create(t.Context(), pod("a", name, node))
				case 1:
					_, _ = c.Delete(t.Context(), "a", name, nil)
				default:
					_, _ = c.Update(t.Context(), "a", name, setNode(node))
				}
			}
		})
	}
	wg.Wait()
	last := c.version.Load().revision
	state, seen := map[string]*Item{}, start
	for seen < last {
		for _, e := range collect(t, w, 1) {
			if e.Type == Bookmark {
				continue
			}
			if e.Revision <= seen {
				t.Fatalf("revision %d after %d", e.Revision, seen)
			}
			_, had := state[e.Item.Path()]
			if had == (e.Type == Added) {
				t.Fatalf("%v of %s, which was there: %v", e.Type, e.Item.Path(), had)
			}
			state[e.Item.Path()], seen = e.Item, e.Revision
			if e.Type == Deleted {
				delete(state, e.Item.Path())
			}
			snap := must[*Snapshot](t)(c.SnapshotAt(t.Context(), seen))
			if snap.Len("") != len(state) {
				t.Fatalf("at %d: %d objects, replayed %d", seen, snap.Len(""), len(state))
			}
			snap.Ascend("a", "", func(i *Item) bool {
				if state[i.Path()] != i {
					t.Fatalf("at %d: %s differs", seen, i.Path())
				}
				return true
			})
		}
	}
}

func TestSpliceIsAFullEncode(t *testing.T) {
	_, c := openPods(t, Config{})
	item := must[*Item](t)(c.Create(t.Context(), pod("a", "x", "n")))
	want, err := item.Object().(*corev1.Pod).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got := must[[]byte](t)(item.AppendMessage(nil)); !bytes.Equal(got, want) {
		t.Fatalf("%x\n%x", got, want)
	}
}

func BenchmarkCreate(b *testing.B) {
	_, c := openPods(b, Config{})
	b.SetParallelism(32)
	var n sync.Mutex
	i := 0
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n.Lock()
			i++
			name := fmt.Sprint("p", i)
			n.Unlock()
			if _, err := c.Create(b.Context(), pod("a", name, "n")); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	_, c := openPods(b, Config{})
	must[*Item](b)(c.Create(b.Context(), pod("a", "x", "n")))
	for b.Loop() {
		must[*Item](b)(c.Get(b.Context(), "a", "x", Latest))
	}
}

func BenchmarkDeliver500(b *testing.B) {
	s, c := openPods(b, Config{Events: 1 << 20})
	item := must[*Item](b)(c.Create(b.Context(), pod("a", "x", "n")))
	var wg sync.WaitGroup
	for range 500 {
		w := must[*Watcher](b)(c.Watch(b.Context(), WatchOptions{Since: s.Revision()}))
		wg.Go(func() {
			defer w.Stop()
			for n := 0; n < b.N; {
				batch, err := w.Next(b.Context())
				if err != nil {
					b.Error(err)
					return
				}
				n += len(batch)
			}
		})
	}
	b.ResetTimer()
	for i := range b.N {
		next := newItem(c, item.path, item.Revision+int64(i)+1, item.stored.append(nil), item.Object())
		c.apply(next.Revision, []change{{c: c, path: next.path, item: next}})
	}
	wg.Wait()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/delivery")
}
