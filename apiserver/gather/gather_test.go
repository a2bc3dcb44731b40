package gather

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// wire counts what reaches the kernel.
type wire struct {
	net.Conn
	mu     sync.Mutex
	writes [][]byte
	fail   error
	closed bool
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return 0, w.fail
	}
	w.writes = append(w.writes, bytes.Clone(p))
	return len(p), nil
}
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
func (w *wire) Close() error                     { w.closed = true; return nil }

func (w *wire) all() (n int, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.writes), string(bytes.Join(w.writes, nil))
}

func write(t *testing.T, c io.Writer, text string) {
	t.Helper()
	if n, err := io.WriteString(c, text); err != nil || n != len(text) {
		t.Fatalf("write %q: %d, %v", text, n, err)
	}
}

func TestQuietIsAtOnceAndBusyGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		c := newConn(w)
		write(t, c, "a")
		if n, _ := w.all(); n != 1 {
			t.Fatalf("the first piece was not sent at once: %d writes", n)
		}
		for _, s := range []string{"b", "c", "d"} {
			write(t, c, s)
		}
		if n, _ := w.all(); n != 1 {
			t.Errorf("pieces within the window were not gathered: %d writes", n)
		}
		time.Sleep(window)
		synctest.Wait()
		if n, text := w.all(); n != 2 || text != "abcd" {
			t.Errorf("after the window: %d writes, %q", n, text)
		}
		time.Sleep(window)
		write(t, c, "e")
		if n, _ := w.all(); n != 3 {
			t.Errorf("a quiet connection waited: %d writes", n)
		}
	})
}

func TestLargePiecesKeepTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		c := newConn(w)
		big := string(bytes.Repeat([]byte("x"), large))
		write(t, c, "a")
		write(t, c, "b")
		write(t, c, big)
		write(t, c, "c")
		time.Sleep(2 * window)
		synctest.Wait()
		if _, text := w.all(); text != "ab"+big+"c" {
			t.Errorf("out of order: %d bytes", len(text))
		}
		for range 3 * limit / 100 {
			write(t, c, string(bytes.Repeat([]byte("y"), 100)))
		}
		if len(c.waiting) > limit {
			t.Errorf("%d bytes wait", len(c.waiting))
		}
	})
}

func TestCloseSendsAndFailuresAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		c := newConn(w)
		write(t, c, "a")
		write(t, c, "b")
		if err := c.Close(); err != nil || !w.closed {
			t.Errorf("close: %v", err)
		}
		if _, text := w.all(); text != "ab" {
			t.Errorf("sent %q", text)
		}
		if _, err := c.Write([]byte("c")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}

		w = &wire{}
		c = newConn(w)
		write(t, c, "a")
		write(t, c, "b")
		w.mu.Lock()
		w.fail = io.ErrClosedPipe
		w.mu.Unlock()
		time.Sleep(window)
		synctest.Wait()
		if _, err := c.Write([]byte("c")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after a failed sending: %v", err)
		}
	})
}
