// Package gather saves system calls on connections that many small answers share.
//
// The one idea: what ends an answer goes out at once, together with what was written before
// it; of answers that go on (watches), a quiet connection sends at once, and on a busy one what
// is written within a millisecond of the last sending waits for the rest of that millisecond.
// HTTP/2 flushes each frame of each stream, so that an answer would otherwise make a TLS record
// and a system call for its header and another for its body, and a connection with fifty
// watches fifty for every event.
//
// Used by cluster for the API's port, between HTTP/2 and TLS.
package gather

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

const (
	window = time.Millisecond
	// limit is how much may wait, in bytes: two TLS records. More than that, or one large
	// piece, is a long answer, which waiting would only copy.
	limit = 32 << 10
	large = 8 << 10
)

// TLS makes a connection that gathers what is written to c.
func TLS(c *tls.Conn) net.Conn { return secured{newConn(c), c} }

type secured struct {
	*conn
	tls *tls.Conn
}

// ConnectionState lets the HTTP server see who the client is.
func (s secured) ConnectionState() tls.ConnectionState { return s.tls.ConnectionState() }

// conn gathers what is written to it. Of the waiting bytes the writer has been told that
// they are sent; if that fails, the next call says so, as with the kernel's own buffer.
type conn struct {
	net.Conn
	mu      sync.Mutex
	waiting []byte
	frames  frames
	sent    time.Time // the last time that bytes were handed to the kernel
	armed   bool      // the timer runs
	timer   *time.Timer
	err     error
}

func newConn(c net.Conn) *conn { return &conn{Conn: c} }

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	ends, goes := c.frames.read(p)
	if len(c.waiting)+len(p) > limit {
		if err := c.send(); err != nil {
			return 0, err
		}
	}
	rest := window - time.Since(c.sent)
	now := ends || len(p) >= large || goes && rest <= 0
	if now && len(c.waiting) == 0 {
		n, err := c.Conn.Write(p)
		c.sent, c.err = time.Now(), err
		return n, err
	}
	c.waiting = append(c.waiting, p...)
	if now {
		if err := c.send(); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	if !c.armed {
		c.arm(max(rest, window/2))
	}
	return len(p), nil
}

// arm has what waits sent after a moment.
func (c *conn) arm(after time.Duration) {
	c.armed = true
	if c.timer == nil {
		c.timer = time.AfterFunc(after, c.due)
		return
	}
	c.timer.Reset(after)
}

func (c *conn) due() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = false
	_ = c.send() // kept for the next call
}

// send hands over what waits.
func (c *conn) send() error {
	if len(c.waiting) == 0 || c.err != nil {
		return c.err
	}
	if c.armed {
		c.armed = !c.timer.Stop()
	}
	_, c.err = c.Conn.Write(c.waiting)
	c.sent = time.Now()
	if cap(c.waiting) > limit {
		c.waiting = nil
	}
	c.waiting = c.waiting[:0]
	return c.err
}

// Close sends what waits and closes.
func (c *conn) Close() error {
	// A peer that reads nothing must not hold up the end.
	_ = c.Conn.SetWriteDeadline(time.Now().Add(time.Second)) // fails when closed already
	c.mu.Lock()
	_ = c.send() // the connection ends either way
	if c.err == nil {
		c.err = net.ErrClosed
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	return c.Conn.Close()
}
