package h2

import (
	"net/http"
	"runtime/debug"

	"golang.org/x/net/http2"
)

// mostParked is how many goroutines of a connection wait for its next requests and writes: their stacks
// have the size that handlers need, which a new one would have to grow to.
const mostParked = 2

// work is a request, or without one the writing of what is pending.
type work struct {
	st *stream
	h  http.Handler
}

// start has a goroutine do the work.
func (c *conn) start(w work) {
	if c.parked > 0 {
		c.parked--
		c.work <- w // has room for all that wait
		return
	}
	c.all.Go(func() { c.worker(w) })
}

// worker works until enough others wait for the next, or the connection ends.
func (c *conn) worker(w work) {
	for {
		if w.st == nil {
			c.drainSoon()
		} else {
			w.st.run(w.h)
			w = work{}
		}
		c.mu.Lock()
		if c.failed != nil || c.parked >= mostParked {
			c.mu.Unlock()
			return
		}
		c.parked++
		c.mu.Unlock()
		more := false
		if w, more = <-c.work; !more {
			return
		}
	}
}

// run runs the handler of a stream and ends its answer.
func (st *stream) run(h http.Handler) {
	st.deadlines()
	a := &st.answer
	returned := false
	defer func() {
		if !returned {
			st.panicked(recover())
		}
		a.drop()
	}()
	h.ServeHTTP(a, a.req)
	returned = true
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	if a.encode(a.keptBytes(), true) != nil {
		st.reset(http2.ErrCodeInternal, errStreamOver) // unless it ended before
	}
	st.leave()
}

// panicked resets the stream of a handler that did not return.
func (st *stream) panicked(why any) {
	c := st.c
	if why != nil && why != http.ErrAbortHandler { //nolint:errorlint // a panic's value
		c.srv.cfg.Log.Error("panic serving", "client", c.remote, "path", st.answer.req.URL.Path, "panic", why, "stack", string(debug.Stack()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	st.reset(http2.ErrCodeInternal, errStreamOver)
	st.leave()
}

// leave ends a stream whose handler has returned. Its place is free before the peer reads
// the end of the answer, and could ask for it.
func (st *stream) leave() {
	c := st.c
	st.left = true
	switch {
	case st.err != nil: // it ended before
		c.orphans--
	case st.ended:
		st.end(errStreamOver)
		c.remember(st.id, false)
	default: // nobody reads the rest of the body
		st.reset(http2.ErrCodeNo, errStreamOver)
	}
	st.dropBody(http.ErrBodyReadAfterClose)
	c.now(st)
}
