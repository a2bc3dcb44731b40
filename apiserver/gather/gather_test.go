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

// frame is one of HTTP/2.
func frame(kind, flags byte, payload string) string {
	n := len(payload)
	return string([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, 1}) + payload
}

// part is a piece of an answer that goes on.
func part(text string) string { return frame(typeData, 0, text) }

func TestQuietIsAtOnceAndBusyGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		c := newConn(w)
		want := ""
		say := func(text string, writes int) {
			t.Helper()
			write(t, c, text)
			want += text
			c.mu.Lock()
			defer c.mu.Unlock()
			if n, got := w.all(); n != writes {
				t.Fatalf("%d writes after %q, want %d", n, text, writes)
			} else if len(got)+len(c.waiting) != len(want) {
				t.Fatalf("%d bytes sent, %d wait, of %d", len(got), len(c.waiting), len(want))
			}
		}
		say(part("a"), 1)
		for _, s := range []string{"b", "c", "d"} {
			say(part(s), 1)
		}
		time.Sleep(window)
		synctest.Wait()
		if n, text := w.all(); n != 2 || text != want {
			t.Errorf("after the window: %d writes, %q", n, text)
		}
		time.Sleep(window)
		say(part("e"), 3)
		// An answer is its header and its body, in one write, whatever waited before it.
		say(part("f"), 3)
		say(frame(typeHeaders, 4, "status"), 3)
		say(frame(typeData, flagEndStream, "body"), 4)
		time.Sleep(2 * window)
		say(frame(typeWindowUpdate, 0, "1234"), 4)
		say(frame(typeHeaders, 4, "status"), 4)
		say(frame(typeData, flagEndStream, "body")+frame(6, 0, "pingpong"), 5)
		if _, text := w.all(); text != want {
			t.Errorf("out of order: %q", text)
		}
		say(frame(typeHeaders, 4|flagEndStream, "nothing"), 6)
		// A header alone is not kept for long.
		say(frame(typeHeaders, 4, "status"), 6)
		time.Sleep(window)
		synctest.Wait()
		if n, text := w.all(); n != 7 || text != want {
			t.Errorf("a header alone: %d writes", n)
		}
	})
}

// FuzzFrames: what is found in a stream of frames does not depend on how it is cut.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(part("abc")+frame(typeHeaders, 5, "x")+frame(typeData, 1, "")), uint8(5))
	f.Add([]byte{0, 0, 1, 0, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8) {
		var whole, pieces frames
		ends, data := whole.read(stream)
		var anyEnds, anyData bool
		for rest := stream; len(rest) > 0; {
			n := min(int(cut)+1, len(rest))
			e, d := pieces.read(rest[:n])
			anyEnds, anyData, rest = anyEnds || e, anyData || d, rest[n:]
		}
		if ends != anyEnds || data != anyData || whole != pieces {
			t.Fatalf("whole %v %v %+v, in pieces %v %v %+v", ends, data, whole, anyEnds, anyData, pieces)
		}
	})
}

func TestLargePiecesKeepTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		c := newConn(w)
		big := part(string(bytes.Repeat([]byte("x"), large)))
		write(t, c, part("a"))
		write(t, c, part("b"))
		write(t, c, big)
		write(t, c, part("c"))
		time.Sleep(2 * window)
		synctest.Wait()
		if _, text := w.all(); text != part("a")+part("b")+big+part("c") {
			t.Errorf("out of order: %d bytes", len(text))
		}
		for range 3 * limit / 100 {
			write(t, c, part(string(bytes.Repeat([]byte("y"), 100))))
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
		write(t, c, part("a"))
		write(t, c, part("b"))
		if err := c.Close(); err != nil || !w.closed {
			t.Errorf("close: %v", err)
		}
		if _, text := w.all(); text != part("a")+part("b") {
			t.Errorf("sent %q", text)
		}
		if _, err := c.Write([]byte(part("c"))); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}

		w = &wire{}
		c = newConn(w)
		write(t, c, part("a"))
		write(t, c, part("b"))
		w.mu.Lock()
		w.fail = io.ErrClosedPipe
		w.mu.Unlock()
		time.Sleep(window)
		synctest.Wait()
		if _, err := c.Write([]byte(part("c"))); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after a failed sending: %v", err)
		}
	})
}
