package reload

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Whatever way a file is replaced, what it holds then is loaded, once.
func TestFollowsContent(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// As the kubelet writes a ConfigMap: file -> ..data -> a folder.
	must(os.Mkdir(filepath.Join(dir, "one"), 0o700))
	must(os.Mkdir(filepath.Join(dir, "two"), 0o700))
	write("one/file", "linked 1")
	write("two/file", "linked 2")
	must(os.Symlink("one", filepath.Join(dir, "..data")))
	path := filepath.Join(dir, "file")
	must(os.WriteFile(path, []byte("first"), 0o600))
	loaded := make(chan string, 10)
	f, err := New(Config{Name: "test", Path: path, Log: slog.New(slog.DiscardHandler), Load: func(context.Context) error {
		data, err := os.ReadFile(path)
		loaded <- string(data)
		if string(data) == "bad" {
			return errors.New("bad")
		}
		return err
	}})
	must(err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	steps := []struct {
		want string
		do   func()
	}{
		{"second", func() { write("file", "second") }},
		{"bad", func() { write("file", "bad") }},
		{"renamed", func() { write("new", "renamed"); must(os.Rename(filepath.Join(dir, "new"), path)) }},
		{"linked 1", func() { must(os.Remove(path)); must(os.Symlink("..data/file", path)) }},
		{"linked 2", func() {
			must(os.Symlink("two", filepath.Join(dir, "..tmp")))
			must(os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
		}},
		{"in place", func() { write("two/file", "in place") }},
	}
	for _, s := range steps {
		time.Sleep(2 * calm) // what went before is quiet
		s.do()
		select {
		case got := <-loaded:
			if got != s.want {
				t.Errorf("loaded %q, want %q", got, s.want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%q is not loaded", s.want)
		}
	}
	must(os.WriteFile(filepath.Join(dir, "other"), nil, 0o600))
	time.Sleep(3 * calm)
	if len(loaded) > 0 {
		t.Errorf("loaded again: %q", <-loaded)
	}
	if f.good.Load() != 5 || f.bad.Load() < 1 {
		t.Errorf("%d good and %d bad reloads", f.good.Load(), f.bad.Load())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
