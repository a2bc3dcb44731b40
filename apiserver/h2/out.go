package h2

import (
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// gather is how long what goes on may wait on a busy connection.
	gather = time.Millisecond
	// piece is how much waits at most for that, and what the peer must take within a write timeout.
	piece = 64 << 10
	// mostPending is how much is encoded and not written at most, but for one frame of each
	// writer and for control frames; who has more to write waits.
	mostPending = 256 << 10
	// mostControl is how many answers to control frames may be unwritten.
	mostControl = 10_000
	// deadlineStep saves setting the socket's deadline for each write: it is up to this much early.
	deadlineStep = 5 * time.Second
	// turns is how often a handler writes for others before a goroutine is made for that.
	turns = 4
)

// out is what goes to the peer. All of it is under the connection's mutex.
type out struct {
	pending  *buffer   // encoded and not written; nil: nothing
	urgent   bool      // part of what is pending is waited for
	writing  bool      // somebody writes, and will look at pending afterwards
	writer   *stream   // whose handler that is, if it is one
	about    bool      // somebody will write as soon as others that can run have run
	due      alarm     // of the timer that will write
	control  int       // of the pending frames, those that answer control frames
	sent     time.Time // when bytes were last handed to the kernel
	deadline time.Time // of the socket's writes
	failed   error     // why nothing can be written any more
	written  sync.Cond // nobody writes any more
	waiting  []*stream // for room or for the connection's window

	encoder *hpack.Encoder // writes to pending
}

// buffer is pooled, with the size that it has grown to: a connection that is quiet holds none.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, 0, 4<<10)} }}

func (b *buffer) release() {
	if cap(b.b) <= 2*mostPending {
		b.b = b.b[:0]
		buffers.Put(b)
	}
}

// Write lets the hpack encoder append.
func (c *conn) Write(p []byte) (int, error) {
	c.pending.b = append(c.pending.b, p...)
	return len(p), nil
}

// frame appends a frame's head.
func (c *conn) frame(kind http2.FrameType, flags http2.Flags, id uint32, length int) {
	if c.pending == nil {
		c.pending = buffers.Get().(*buffer)
	}
	c.pending.b = append(c.pending.b, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// word appends a frame whose payload is 32 bits: RST_STREAM or WINDOW_UPDATE.
func (c *conn) word(kind http2.FrameType, id, value uint32) {
	c.frame(kind, 0, id, 4)
	c.pending.b = binary.BigEndian.AppendUint32(c.pending.b, value)
}

func (c *conn) goAwayFrame(code http2.ErrCode, why string) {
	c.frame(http2.FrameGoAway, 0, 0, 8+len(why))
	c.pending.b = binary.BigEndian.AppendUint32(c.pending.b, c.lastID)
	c.pending.b = binary.BigEndian.AppendUint32(c.pending.b, uint32(code))
	c.pending.b = append(c.pending.b, why...)
}

// headersFrames appends a header block of the fields, in as many frames as the peer needs.
func (c *conn) headersFrames(id uint32, end bool, fields []hpack.HeaderField) {
	flags := http2.FlagHeadersEndHeaders
	if end {
		flags |= http2.FlagHeadersEndStream
	}
	c.frame(http2.FrameHeaders, flags, id, 0)
	head := len(c.pending.b) - frameHead
	for i := range fields {
		_ = c.encoder.WriteField(fields[i]) // it writes to memory
	}
	if length := len(c.pending.b) - head - frameHead; length <= c.peerFrame {
		setLength(c.pending.b[head:], length)
		return
	}
	block := append([]byte(nil), c.pending.b[head+frameHead:]...)
	c.pending.b = c.pending.b[:head]
	for kind, flags := http2.FrameHeaders, flags&^http2.FlagHeadersEndHeaders; len(block) > 0; kind, flags = http2.FrameContinuation, 0 {
		n := min(len(block), c.peerFrame)
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders
		}
		c.frame(kind, flags, id, n)
		c.pending.b = append(c.pending.b, block[:n]...)
		block = block[n:]
	}
}

const frameHead = 9

func setLength(head []byte, n int) { head[0], head[1], head[2] = byte(n>>16), byte(n>>8), byte(n) }

// room says whether a frame may be appended.
func (c *conn) room() bool { return c.pending == nil || len(c.pending.b) < mostPending }

// now has everything that is pending written at once, by the handler of st, which may wait
// for the socket.
func (c *conn) now(st *stream) {
	if c.pending == nil {
		return
	}
	c.urgent = true
	if !c.writing {
		c.writing, c.writer = true, st
		c.drain(turns)
	}
}

// later has a goroutine write everything, for callers that must not wait for the socket.
func (c *conn) later() {
	c.urgent = c.pending != nil
	if c.urgent && !c.writing && c.failed == nil {
		c.writing = true
		c.all.Go(c.drainAlone)
	}
}

func (c *conn) drainAlone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain(0)
}

// soon has what is pending written at once if the connection is quiet, and with what follows
// if it is busy. Another goroutine does it: writing needs a larger stack than waiting, which
// each of a connection's watches would keep.
func (c *conn) soon() {
	if c.writing || c.due.armed || c.about || c.pending == nil || c.failed != nil {
		return
	}
	if rest := gather - time.Since(c.sent); rest > 0 {
		c.arm(rest)
		return
	}
	c.about = true
	c.start(work{})
}

// drainSoon writes what is pending after the many that one event wakes have had their turn.
func (c *conn) drainSoon() {
	runtime.Gosched()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.about = false
	if !c.writing {
		c.writing = true
		c.drain(0)
	}
}

func (c *conn) arm(after time.Duration) {
	if c.failed == nil {
		c.due.set(after)
	}
}

// drainDue writes what has waited for a moment.
func (c *conn) drainDue() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due.armed = false
	if !c.writing {
		c.writing = true
		c.drain(turns)
	}
}

// drain writes until nothing urgent is left. The caller has set writing. After so many turns
// another goroutine goes on; 0: never.
func (c *conn) drain(most int) {
	for turn := 1; c.pending != nil && c.failed == nil; turn++ {
		if turn > 1 && !c.urgent && len(c.pending.b) < piece {
			c.arm(gather)
			break
		}
		if most > 0 && turn > most {
			c.writer = nil
			c.all.Go(c.drainAlone)
			return
		}
		b := c.pending
		c.pending, c.urgent, c.control = nil, false, 0
		c.due.stop()
		err := c.push(b)
		if err != nil && c.failed == nil {
			c.fail(err)
		}
		c.wakeWaiting()
	}
	c.writing, c.writer = false, nil
	c.written.Broadcast()
}

// push writes b with the mutex let go.
func (c *conn) push(b *buffer) error {
	defer b.release()
	for rest := b.b; len(rest) > 0; {
		p := rest[:min(len(rest), piece)]
		rest = rest[len(p):]
		now := time.Now()
		c.sent = now
		if end := now.Add(c.srv.cfg.WriteTimeout + deadlineStep); end.Sub(c.deadline) >= deadlineStep {
			c.deadline = end
			if err := c.tls.SetWriteDeadline(end); err != nil {
				return err
			}
		}
		c.mu.Unlock()
		_, err := c.tls.Write(p)
		c.mu.Lock()
		if err != nil || c.failed != nil {
			return errors.Join(err, c.failed)
		}
	}
	return nil
}

// hurry shortens what a write in progress may take, and with it the connection's life if
// the peer takes nothing.
func (c *conn) hurry(within time.Duration) {
	c.deadline = time.Time{}
	if c.tls.SetWriteDeadline(time.Now().Add(within)) != nil {
		return // closed already
	}
}

// wakeWaiting lets those who wait for room or for the connection's window look again.
func (c *conn) wakeWaiting() {
	for i, st := range c.waiting {
		st.queued = false
		st.cond.Broadcast()
		c.waiting[i] = nil
	}
	c.waiting = c.waiting[:0]
}
