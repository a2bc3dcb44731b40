package store

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Each endpoint of an etcd outside is asked by itself.
func TestHealthAt(t *testing.T) {
	at := "unix://" + filepath.Join(t.TempDir(), "etcd.sock")
	inside := openAt(t, t.TempDir(), Config{Listen: at})
	t.Cleanup(func() { _ = inside.Close() })
	s, err := Open(t.Context(), Config{Endpoints: []string{at}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.HealthAt(t.Context(), at); err != nil {
		t.Error(err)
	}
	nobody := "unix://" + filepath.Join(t.TempDir(), "nobody.sock")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.HealthAt(ctx, nobody); err == nil || !strings.Contains(err.Error(), nobody) {
		t.Errorf("got %v", err)
	}
}
