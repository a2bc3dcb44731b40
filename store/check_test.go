package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/test/checker"
)

var (
	checkRounds = flag.Int("check.rounds", 4, "rounds of the checker, with a restart between any two")
	checkWrites = flag.Int("check.writes", 2000, "writes of each round")
	checkSeed   = flag.Uint64("check.seed", uint64(time.Now().UnixNano()), "what the clients do")
)

const checkEvents = 200 // few, so that watches fall behind

// All that clients may do at once, with compactions, slow watchers and restarts: the store
// must tell nothing that etcd's own log does not.
func TestChecked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := openChecked(t, dir)
	defer func() { closeChecked(t, c) }()
	result, err := checker.Run(t.Context(), checker.Config{
		Target: c, Etcd: c.s.link.client, Prefix: c.folder, Decode: c.decodeValue,
		Head:   func() int64 { return c.now().revision }, // the kind is ahead of the store for a moment
		Forget: func(ctx context.Context, revision int64) error { return c.s.CompactTo(ctx, revision) },
		Again: func() (checker.Target, *clientv3.Client) {
			closeChecked(t, c)
			*c = *openChecked(t, dir)
			return c, c.s.link.client
		},
		Kept: checkEvents, Seed: *checkSeed, Rounds: *checkRounds, Writes: *checkWrites,
		Writers: 8, Readers: 3, Watchers: 12, Keys: 12,
	})
	t.Log(result)
	if err != nil {
		t.Fatal(err)
	}
}

type checked struct {
	*Collection
	s *Store
}

func openChecked(t *testing.T, dir string) *checked {
	t.Helper()
	return openCheckedWith(t, Config{Dir: dir, Events: checkEvents})
}

func openCheckedWith(t *testing.T, cfg Config) *checked {
	t.Helper()
	kind := api.Define(api.Resource[*corev1.ConfigMap]{
		Version: "v1", Kind: "ConfigMap", Plural: "configmaps", Namespaced: true,
		Fields:  map[string]func(*corev1.ConfigMap) string{"color": func(m *corev1.ConfigMap) string { return m.Labels["color"] }},
		Indexes: []string{"color"},
	})
	s := openAt(t, cfg.Dir, cfg)
	return &checked{serve(t, s, kind), s}
}

func closeChecked(t *testing.T, c *checked) {
	t.Helper()
	if err := c.s.Close(); err != nil {
		t.Error(err)
	}
}

func configMap(o checker.Object) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, Labels: map[string]string{"color": o.Color}},
		Data:       map[string]string{"value": o.Value},
	}
}

func plainObject(obj api.Object) checker.Object {
	m := obj.(*corev1.ConfigMap)
	revision, _ := strconv.ParseInt(m.ResourceVersion, 10, 64)
	return checker.Object{Namespace: m.Namespace, Name: m.Name, Color: m.Labels["color"], Value: m.Data["value"], Revision: revision}
}

func (c *checked) decodeValue(value []byte) (checker.Object, error) {
	obj, err := c.codec.decode(value, 0)
	if err != nil {
		return checker.Object{}, err
	}
	return plainObject(obj), nil
}

// told gives the answer in the checker's words.
func told(item *Item, err error) (checker.Object, error) {
	if err != nil {
		return checker.Object{}, inWords(err)
	}
	o := plainObject(item.Object())
	if o.Revision != item.Revision {
		return o, fmt.Errorf("an item of %d holds %d", item.Revision, o.Revision)
	}
	wire, err := item.AppendMessage(nil)
	if err != nil {
		return o, err
	}
	var m corev1.ConfigMap
	if err := m.Unmarshal(wire); err != nil {
		return o, err
	}
	if other := plainObject(&m); other != o {
		return o, fmt.Errorf("%+v is served as %+v", o, other)
	}
	return o, nil
}

func inWords(err error) error {
	for from, to := range map[error]error{
		ErrExists: checker.ErrExists, ErrNotFound: checker.ErrNotFound, ErrCompacted: checker.ErrGone,
		ErrSlow: checker.ErrEnded, ErrClosed: checker.ErrEnded,
	} {
		if errors.Is(err, from) {
			return to
		}
	}
	return err
}

func (c *checked) Create(ctx context.Context, o checker.Object) (checker.Object, error) {
	return told(c.Collection.Create(ctx, configMap(o)))
}

func (c *checked) Update(ctx context.Context, o checker.Object, at int64) (checker.Object, error) {
	return told(c.Collection.Update(ctx, o.Namespace, o.Name, func(cur *Item) (api.Object, error) {
		if at != 0 && cur.Revision != at {
			return nil, checker.ErrConflict
		}
		return configMap(o), nil
	}))
}

func (c *checked) Delete(ctx context.Context, namespace, name string, at int64) error {
	_, err := told(c.Collection.Delete(ctx, namespace, name, func(cur *Item) error {
		if at != 0 && cur.Revision != at {
			return checker.ErrConflict
		}
		return nil
	}))
	return err
}

func (c *checked) Get(ctx context.Context, namespace, name string) (checker.Object, error) {
	return told(c.Collection.Get(ctx, namespace, name, Latest))
}

func (c *checked) List(ctx context.Context, want checker.Selection, at int64, page int) (list []checker.Object, revision int64, err error) {
	var snap *Snapshot
	for after, more := "", true; more; {
		switch {
		case at != 0:
			snap, err = c.SnapshotAt(ctx, at)
		default:
			snap, err = c.Snapshot(ctx, Latest)
		}
		if err != nil {
			return nil, at, inWords(err)
		}
		at, more = snap.Revision(), false
		n := 0
		snap.Ascend(want.Namespace, after, func(i *Item) bool {
			if n == page {
				more = true
				return false
			}
			n, after = n+1, i.Path()
			var o checker.Object
			if o, err = told(i, nil); (want.Name == "" || want.Name == o.Name) && (want.Color == "" || want.Color == o.Color) {
				list = append(list, o)
			}
			return err == nil
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return list, at, nil
}

func (c *checked) Watch(ctx context.Context, want checker.Selection, since int64) (checker.Stream, error) {
	opts := WatchOptions{Namespace: want.Namespace, Name: want.Name, Since: since, Bookmarks: true}
	if want.Color != "" && since%2 == 0 {
		opts.Index, opts.Value = "color", want.Color
	} else if want.Color != "" {
		opts.Filter = func(o api.Object) bool { return o.GetLabels()["color"] == want.Color }
	}
	w, err := c.Collection.Watch(ctx, opts)
	if err != nil {
		return nil, inWords(err)
	}
	return checkedStream{w}, nil
}

type checkedStream struct{ *Watcher }

// String is for the report of what went wrong.
func (s checkedStream) String() string {
	w := s.Watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("seen %d, %d queued, end %v, %d woken, %d in the backlog, live %v, kind at %d, store at %d",
		w.seen, len(w.queue), w.end, len(w.wake), len(w.backlog), w.c.live.Load(), w.c.now().revision, w.c.s.Revision())
}

func (s checkedStream) Next(ctx context.Context) (events []checker.Event, err error) {
	batch, err := s.Watcher.Next(ctx)
	for _, e := range batch {
		out := checker.Event{Type: map[EventType]string{Added: checker.Added, Modified: checker.Modified, Deleted: checker.Deleted, Bookmark: checker.Bookmark}[e.Type]}
		if out.Revision = e.Revision; e.Item != nil {
			if out.Object, err = told(e.Item, nil); err == nil && out.Revision != e.Revision {
				err = fmt.Errorf("an event of %d shows %d", e.Revision, out.Revision)
			}
		}
		if events = append(events, out); err != nil {
			return events, err
		}
	}
	return events, inWords(err)
}
