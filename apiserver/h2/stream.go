package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// stream is a request and its answer. Its fields are under the connection's mutex but for
// those of answer, which are the handler's.
type stream struct {
	c      *conn
	id     uint32
	cancel context.CancelFunc
	// cond is told when bytes of the body or room for the answer come, and of the end.
	cond sync.Cond
	err  error // why the stream has ended; nil: it has not
	left bool  // the handler has returned

	window int64 // bytes that the peer takes on this stream
	queued bool  // it is among the connection's waiting

	body    body
	granted int64 // bytes that the peer may still send
	credit  int64 // bytes that were read and not granted again
	data    []byte
	from    int         // in data, where the unread begins
	dataErr error       // what comes after data; io.EOF: all of it came
	ended   bool        // the peer sends no more
	length  int64       // what the peer said its body has; -1: nothing
	came    int64       // of that
	trailer http.Header // whose keys may follow the body
	trailed http.Header // what did

	readTimer, writeTimer *time.Timer
	answer                answer
}

var (
	errStreamOver = errors.New("the request is over")
	errClientGone = errors.New("client disconnected")
)

// end ends the stream for both sides and wakes its handler.
func (st *stream) end(err error) {
	if st.err != nil {
		return
	}
	c := st.c
	st.err = err
	if st.dataErr == nil {
		st.dataErr = err
	}
	delete(c.streams, st.id)
	if st.queued {
		st.queued = false
		c.waiting = slices.DeleteFunc(c.waiting, func(w *stream) bool { return w == st })
	}
	if !st.left {
		c.orphans++
	}
	for _, t := range []*time.Timer{st.readTimer, st.writeTimer} {
		if t != nil {
			t.Stop()
		}
	}
	st.cond.Broadcast()
	st.cancel()
	if len(c.streams) == 0 {
		c.becameIdle()
	}
}

// reset ends the stream and tells the peer why.
func (st *stream) reset(code http2.ErrCode, err error) {
	if st.err != nil {
		return
	}
	st.c.word(http2.FrameRSTStream, st.id, uint32(code))
	st.c.remember(st.id, true)
	st.end(err)
}

// wait waits until something has changed. The mutex is let go meanwhile.
func (st *stream) wait() {
	if !st.queued {
		st.queued = true
		st.c.waiting = append(st.c.waiting, st)
	}
	st.cond.Wait()
}

// arrived takes bytes of the body from the reader.
func (st *stream) arrived(p []byte) {
	if st.dataErr != nil { // closed by the handler: what comes is dropped
		st.c.credit += int64(len(p))
		st.c.grant(nil)
		return
	}
	if st.from > 0 && (st.from == len(st.data) || len(st.data)+len(p) > cap(st.data)) { // what was read makes room
		st.data, st.from = append(st.data[:0], st.data[st.from:]...), 0
	}
	if st.data == nil && st.length > int64(len(p)) {
		st.data = make([]byte, 0, min(st.length, 4<<10))
	}
	st.data = append(st.data, p...)
	st.cond.Broadcast()
}

// noMore notes that the peer's side has ended.
func (st *stream) noMore() {
	st.ended = true
	if st.dataErr == nil {
		st.dataErr = io.EOF
	}
	st.cond.Broadcast()
}

// body is the request's body.
type body struct {
	st    *stream
	waits bool // the client waits for a 100 before it sends
}

func (b *body) Read(p []byte) (int, error) {
	st := b.st
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.waits {
		b.waits = false
		if !st.answer.sent && !st.ended {
			c.headersFrames(st.id, false, st.answer.fieldsOf(http.StatusContinue, nil))
			c.now(st)
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	for st.from == len(st.data) {
		if st.dataErr != nil {
			if errors.Is(st.dataErr, io.EOF) {
				maps.Copy(st.answer.req.Trailer, st.trailed)
			}
			return 0, st.dataErr
		}
		st.cond.Wait()
	}
	n := copy(p, st.data[st.from:])
	if st.from += n; st.from == len(st.data) && cap(st.data) > 16<<10 {
		st.data, st.from = nil, 0
	}
	st.credit += int64(n)
	c.credit += int64(n)
	c.grant(st)
	return n, nil
}

// Close drops what was not read.
func (b *body) Close() error {
	st := b.st
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.dropBody(http.ErrBodyReadAfterClose)
	return nil
}

func (st *stream) dropBody(err error) {
	if st.dataErr == nil || errors.Is(st.dataErr, io.EOF) {
		st.dataErr = err
	}
	st.c.credit += int64(len(st.data) - st.from)
	st.data, st.from = nil, 0
	st.c.grant(nil)
	st.cond.Broadcast()
}

// grant lets the peer send more when half of a window is used.
func (c *conn) grant(st *stream) {
	tell := false
	if st != nil && st.credit >= streamWindow/2 && !st.ended && st.err == nil {
		c.word(http2.FrameWindowUpdate, st.id, uint32(st.credit))
		st.granted += st.credit
		st.credit, tell = 0, true
	}
	if c.credit >= connWindow/2 {
		c.word(http2.FrameWindowUpdate, 0, uint32(c.credit))
		c.granted += c.credit
		c.credit, tell = 0, true
	}
	if tell {
		c.later()
	}
}

// readDeadline ends reading of the body at t; the zero time takes that back.
func (st *stream) readDeadline(t time.Time) {
	st.at(&st.readTimer, t, func() {
		st.dropBody(fmt.Errorf("read the body: %w", os.ErrDeadlineExceeded))
	})
}

// captive is how long a handler whose answer's time is over still waits for the socket that
// it happens to write to.
const captive = 5 * time.Second

// writeDeadline ends the answer at t; the zero time takes that back.
func (st *stream) writeDeadline(t time.Time) {
	st.at(&st.writeTimer, t, func() {
		if st.c.writer == st {
			st.c.hurry(captive)
		}
		st.reset(http2.ErrCodeInternal, fmt.Errorf("write the answer: %w", os.ErrDeadlineExceeded))
		st.c.later()
	})
}

// at has f called under the mutex at t while the stream lasts. The slot keeps the timer.
func (st *stream) at(slot **time.Timer, t time.Time, f func()) {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if *slot != nil {
		(*slot).Stop()
		*slot = nil
	}
	if st.err != nil || st.left || t.IsZero() {
		return
	}
	rest := time.Until(t)
	if rest <= 0 {
		f()
		return
	}
	var own *time.Timer
	own = time.AfterFunc(rest, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if st.err == nil && !st.left && *slot == own {
			f()
		}
	})
	*slot = own
}
