package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Once etcd has given up, writes say why at once, and reads are still answered.
func TestBroken(t *testing.T) {
	s := openAt(t, t.TempDir(), Config{})
	c := serve(t, s, pods())
	kept := must[*Item](t)(c.Create(t.Context(), pod("a", "x", "n")))
	cause := errors.New("input/output error")
	given := make(chan struct{})
	go func() { // as etcd's own goroutine does, which ends with it
		defer close(given)
		s.link.member.OnWrite(&zapcore.CheckedEntry{Entry: zapcore.Entry{Message: "write the log"}}, []zapcore.Field{zap.Error(cause)})
	}()
	<-given
	start := time.Now()
	_, createErr := c.Create(t.Context(), pod("a", "y", "n"))
	_, updateErr := c.Update(t.Context(), "a", "x", setNode("m"))
	_, deleteErr := c.Delete(t.Context(), "a", "x", nil)
	for _, err := range []error{createErr, updateErr, deleteErr, s.Health(t.Context())} {
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), "write the log") {
			t.Errorf("got %v", err)
		}
	}
	if span := time.Since(start); span > time.Second {
		t.Errorf("refused after %v", span)
	}
	if got := must[*Item](t)(c.Get(t.Context(), "a", "x", Any)); got.Revision != kept.Revision {
		t.Error("a read gave another item")
	}
	s.link.member.broken.Store(nil) // it did not really break: it can be closed
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
