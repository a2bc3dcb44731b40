package store

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store/seal"
)

func secretsKind() *api.Kind {
	return api.Define(api.Resource[*corev1.Secret]{Version: "v1", Kind: "Secret", Plural: "secrets", Namespaced: true})
}

const treasure = "a-text-that-is-nowhere-else"

func secret(name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}, Data: map[string][]byte{"x": []byte(treasure)}}
}

func keys(t *testing.T, dir string) *seal.Keys {
	t.Helper()
	k, err := seal.Open(filepath.Join(dir, "encryption.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// inEtcd is what etcd has under a key.
func inEtcd(t *testing.T, s *Store, key string) []byte {
	t.Helper()
	answer := must[*clientv3.GetResponse](t)(s.link.client.Get(t.Context(), key))
	if len(answer.Kvs) != 1 {
		t.Fatalf("%s: %d values", key, len(answer.Kvs))
	}
	return answer.Kvs[0].Value
}

func onDisk(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		found = found || bytes.Contains(raw, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func settled(t *testing.T, s *Store) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := 0
		for _, k := range s.Sealing() {
			left += k.Stale
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still stale: %+v", s.Sealing())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestSealedOnDiskPlainInMemory(t *testing.T) {
	pki, dir := t.TempDir(), t.TempDir()
	s := openAt(t, dir, Config{Seal: keys(t, pki)})
	c, open := serve(t, s, secretsKind()), serve(t, s, pods())
	must[*Item](t)(c.Create(t.Context(), secret("x")))
	must[*Item](t)(open.Create(t.Context(), pod("a", "visible-on-disk", "n")))
	changed := func(cur *Item) (api.Object, error) {
		o := cur.Object().(*corev1.Secret).DeepCopy()
		o.Data["y"] = []byte("1")
		return o, nil
	}
	item := must[*Item](t)(c.Update(t.Context(), "a", "x", changed))
	if got := inEtcd(t, s, "/registry/secrets/a/x"); !bytes.HasPrefix(got, []byte("k8s:enc:aesgcm:v1:key-")) {
		t.Errorf("etcd has %.40q", got)
	}
	wire := must[[]byte](t)(item.Protobuf())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if onDisk(t, dir, treasure) {
		t.Error("the text of a secret is in etcd's files")
	}
	if !onDisk(t, dir, "visible-on-disk") {
		t.Error("the search finds nothing at all")
	}

	// What is loaded is what was written, to the byte; and so is the past.
	s = openAt(t, dir, Config{Seal: keys(t, pki)})
	defer s.Close()
	c = serve(t, s, secretsKind())
	again := must[*Item](t)(c.Get(t.Context(), "a", "x", Latest))
	if got := must[[]byte](t)(again.Protobuf()); !bytes.Equal(got, wire) {
		t.Errorf("loaded %q, want %q", got, wire)
	}
	before, err := c.SnapshotAt(t.Context(), item.Revision-1)
	if err != nil {
		t.Fatal(err)
	}
	if old, ok := before.Get("a", "x"); !ok || string(old.Object().(*corev1.Secret).Data["x"]) != treasure || old.Object().(*corev1.Secret).Data["y"] != nil {
		t.Error("the past is not what it was")
	}
	w := must[*Watcher](t)(c.Watch(t.Context(), WatchOptions{Since: 1}))
	defer w.Stop()
	events, err := w.Next(t.Context())
	if err != nil || len(events) != 2 || events[0].Type != Added || events[1].Item.Object().(*corev1.Secret).Data["y"] == nil {
		t.Errorf("relived %d events, %v", len(events), err)
	}
}

func TestPlainBecomesSealedAndKeysRotate(t *testing.T) {
	pki, dir := t.TempDir(), t.TempDir()
	s := openAt(t, dir, Config{})
	c := serve(t, s, secretsKind())
	for _, name := range []string{"x", "y", "z"} {
		must[*Item](t)(c.Create(t.Context(), secret(name)))
	}
	_ = s.Close()

	k := keys(t, pki)
	s = openAt(t, dir, Config{Seal: k})
	defer s.Close()
	c = serve(t, s, secretsKind())
	if got := s.Sealing(); len(got) != 1 || got[0].Stale != 3 || got[0].Objects != 3 {
		t.Fatalf("%+v", got)
	}
	// A write that changes nothing seals, as upstream's storage does.
	same := func(cur *Item) (api.Object, error) { return cur.Object().DeepCopyObject().(api.Object), nil }
	must[*Item](t)(c.Update(t.Context(), "a", "y", same))
	if got := seal.With(inEtcd(t, s, "/registry/secrets/a/y")); got == "" {
		t.Error("written without being sealed")
	}
	ended := make(chan struct{})
	go func() { defer close(ended); s.reseal(t.Context()) }()
	settled(t, s)
	first := s.Sealing()[0].With
	if _, err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	s.Reseal()
	settled(t, s)
	for _, name := range []string{"x", "y", "z"} {
		got := seal.With(inEtcd(t, s, "/registry/secrets/a/"+name))
		if got == "" || got == first || got != s.Sealing()[0].With {
			t.Errorf("%s is sealed with %q", name, got)
		}
		item := must[*Item](t)(c.Get(t.Context(), "a", name, Latest))
		if o := item.Object().(*corev1.Secret); string(o.Data["x"]) != treasure || o.ResourceVersion == "" || o.Name != name {
			t.Errorf("%+v", o)
		}
	}
}

func TestKeysThatDoNotOpen(t *testing.T) {
	pki, dir := t.TempDir(), t.TempDir()
	s := openAt(t, dir, Config{Seal: keys(t, pki)})
	c := serve(t, s, secretsKind())
	must[*Item](t)(c.Create(t.Context(), secret("x")))
	must[*Item](t)(c.Create(t.Context(), secret("y")))
	value := inEtcd(t, s, "/registry/secrets/a/x")
	_ = s.Close()

	for what, k := range map[string]*seal.Keys{"another file": keys(t, t.TempDir()), "none": nil} {
		s = openAt(t, dir, Config{Seal: k})
		_, err := s.Serve(t.Context(), secretsKind())
		if !errors.Is(err, seal.ErrKey) {
			t.Errorf("%s: %v", what, err)
		}
		for _, part := range []string{"secrets", "/registry/secrets/a/x", `aesgcm key "key-`, "--encryption-provider-config"} {
			if err != nil && !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %s", what, err, part)
			}
		}
		_ = s.Close()
	}

	// One value that was put elsewhere is left out, and said; the others are served.
	var log bytes.Buffer
	s = openAt(t, dir, Config{Seal: keys(t, pki)})
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	defer s.Close()
	if _, err := s.link.client.Put(t.Context(), "/registry/secrets/a/stolen", string(value)); err != nil {
		t.Fatal(err)
	}
	c = serve(t, s, secretsKind())
	if n := must[*Snapshot](t)(c.Snapshot(t.Context(), Latest)).Len(""); n != 2 || !strings.Contains(log.String(), "/registry/secrets/a/stolen") {
		t.Errorf("%d objects; %s", n, log.String())
	}
}
