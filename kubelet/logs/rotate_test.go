package logs

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRotate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	reopened := 0
	r, err := NewRotator(RotateConfig{Size: 10, Files: 4, Running: func() []File { return nil }, Log: slog.New(slog.DiscardHandler),
		Reopen: func(context.Context, string) error { reopened++; return os.WriteFile(path, nil, 0o640) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"0.log.20260101-000001.gz", "0.log.20260101-000002", "0.log.20260101-000003", "0.log.20260101-000003.tmp", "1.log"} {
		write(t, filepath.Join(dir, name), "old")
	}
	for _, text := range []string{"short", "long enough to rotate"} {
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := r.look(t.Context(), File{"c", path}); err != nil {
			t.Fatal(err)
		}
	}
	if reopened != 1 {
		t.Errorf("reopened %d times, want once", reopened)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	got := strings.Join(names, " ")
	if len(names) != 5 || !strings.HasPrefix(got, "0.log 0.log.20260101-000002.gz 0.log.20260101-000003.gz 0.log.2") || !strings.HasSuffix(got, " 1.log") {
		t.Errorf("files: %s", got)
	}
}
