package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// childDir, in the environment, makes the test binary a server that only writes.
const childDir = "PROA_TEST_STORE_CHILD"

// TestKillChild is what TestKill kills: it writes as fast as it can and says on stdout
// what it is going to write ("try p3 17") and what was acknowledged ("ack p3 17 4711").
func TestKillChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("only as a child of TestKill")
	}
	s := openAt(t, dir, Config{})
	c := serve(t, s, pods())
	var mu sync.Mutex
	say := func(words ...any) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := fmt.Println(words...); err != nil {
			os.Exit(1) // the parent is gone
		}
	}
	for i := range 8 {
		go func() {
			name := fmt.Sprint("p", i)
			for n := time.Now().UnixNano(); ; n++ {
				say("try", name, n)
				item, err := write(t.Context(), c, name, fmt.Sprint(n))
				if err != nil {
					say("failed", err)
					return
				}
				say("ack", name, n, item.Revision)
			}
		}()
	}
	select {}
}

// write creates, updates or, now and then, deletes; a deletion is followed by a creation.
func write(ctx context.Context, c *Collection, name, node string) (*Item, error) {
	if rand.IntN(10) == 0 {
		if _, err := c.Delete(ctx, "a", name, nil); err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	item, err := c.Update(ctx, "a", name, setNode(node))
	if errors.Is(err, ErrNotFound) {
		return c.Create(ctx, pod("a", name, node))
	}
	return item, err
}

// killed is what the parent knows of one life of the child.
type killed struct {
	acked map[string]int64 // the last acknowledged value by name
	tried map[string]int64 // what it was about when it died
	at    map[string]int64 // revisions of acked
	count int
	span  time.Duration // from exec to the first acknowledgement
}

func runAndKill(t *testing.T, dir string, after time.Duration) killed {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
	child.Env = append(os.Environ(), childDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	k := killed{acked: map[string]int64{}, tried: map[string]int64{}, at: map[string]int64{}}
	var shot *time.Timer
	for lines := bufio.NewScanner(out); lines.Scan(); {
		w := strings.Fields(lines.Text())
		switch {
		case len(w) == 3 && w[0] == "try":
			k.tried[w[1]] = must[int64](t)(strconv.ParseInt(w[2], 10, 64))
		case len(w) == 4 && w[0] == "ack":
			if k.count++; shot == nil {
				k.span = time.Since(start)
				shot = time.AfterFunc(after, func() { _ = child.Process.Kill() })
			}
			k.acked[w[1]] = must[int64](t)(strconv.ParseInt(w[2], 10, 64))
			k.at[w[1]] = must[int64](t)(strconv.ParseInt(w[3], 10, 64))
		case len(w) > 0 && w[0] == "failed":
			t.Error(lines.Text())
		}
	}
	_ = child.Wait() // killed
	if k.count == 0 {
		t.Fatal("the child acknowledged nothing")
	}
	return k
}

// A server that is killed at any moment has lost nothing that it acknowledged, and who
// resumes a watch sees each later change exactly once, up to the present.
func TestKill(t *testing.T) {
	t.Parallel()
	kills := 5
	if testing.Short() {
		kills = 1
	}
	for row := range 4 { // side by side: most of the time a child starts, or waits for the disk
		t.Run(fmt.Sprint(row), func(t *testing.T) {
			t.Parallel()
			killInARow(t, kills)
		})
	}
}

func killInARow(t *testing.T, kills int) {
	dir := t.TempDir()
	seen, state := int64(0), map[string]int64{} // of one watcher that lives on
	total, slowest := 0, time.Duration(0)
	for range kills {
		k := runAndKill(t, dir, time.Duration(rand.Int64N(int64(400*time.Millisecond))))
		total += k.count
		start := time.Now()
		s := openAt(t, dir, Config{})
		c := serve(t, s, pods())
		slowest = max(slowest, time.Since(start))
		for name, value := range k.acked {
			checkAcked(t, c, name, value, k)
		}
		seen = resumeAll(t, c, seen, state)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d acknowledged writes, opened in at most %v", total, slowest)
}

func checkAcked(t *testing.T, c *Collection, name string, value int64, k killed) {
	t.Helper()
	item, err := c.Get(t.Context(), "a", name, Latest)
	if errors.Is(err, ErrNotFound) && k.tried[name] > value {
		return // the next write begins with a deletion now and then
	}
	if err != nil {
		t.Fatalf("%s was acknowledged as %d: %v", name, value, err)
	}
	got := must[int64](t)(strconv.ParseInt(item.Object().(*corev1.Pod).Spec.NodeName, 10, 64))
	if got != value && got != k.tried[name] {
		t.Fatalf("%s is %d, acknowledged %d, tried %d", name, got, value, k.tried[name])
	}
	if got == value && item.Revision != k.at[name] {
		t.Fatalf("%s is of revision %d, acknowledged as %d", name, item.Revision, k.at[name])
	}
}

// resumeAll follows from seen to the present and checks that what was replayed is what
// is there.
func resumeAll(t *testing.T, c *Collection, seen int64, state map[string]int64) int64 {
	t.Helper()
	w := must[*Watcher](t)(c.Watch(t.Context(), WatchOptions{Since: max(seen, 1)}))
	defer w.Stop()
	now := must[*Snapshot](t)(c.Snapshot(t.Context(), Latest))
	last := c.version.Load().revision
	if cur, ok := c.history.since(seen); ok && len(cur) > 0 {
		last = cur[len(cur)-1].revision
	}
	for seen < last {
		for _, e := range collect(t, w, 1) {
			if e.Revision <= seen {
				t.Fatalf("revision %d after %d", e.Revision, seen)
			}
			if _, had := state[e.Item.Path()]; had == (e.Type == Added) {
				t.Fatalf("%v of %s at %d, which was there: %v", e.Type, e.Item.Path(), e.Revision, had)
			}
			state[e.Item.Path()], seen = e.Item.Revision, e.Revision
			if e.Type == Deleted {
				delete(state, e.Item.Path())
			}
		}
	}
	if now.Len("") != len(state) {
		t.Fatalf("%d objects, replayed %d", now.Len(""), len(state))
	}
	now.Ascend("", "", func(i *Item) bool {
		if state[i.Path()] != i.Revision {
			t.Fatalf("%s is of revision %d, replayed %d", i.Path(), i.Revision, state[i.Path()])
		}
		return true
	})
	return seen
}
