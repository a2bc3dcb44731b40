package h2

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// small is how many bytes of an answer are kept until it is flushed or complete, so that its
// length is known.
const small = 4 << 10

var smalls = sync.Pool{New: func() any { return new([small]byte) }}

// answer is the http.ResponseWriter of a stream. Its fields are the handler's.
type answer struct {
	st     *stream
	req    *http.Request
	header http.Header

	status   int                 // 0: not said
	fields   []hpack.HeaderField // of the header, from when the status is said until it is sent
	sent     bool                // the header was sent
	trailers []string            // names of fields that follow the body
	length   int64               // what the handler said the body has; -1: nothing
	wrote    int64               // of it
	has      has
	kept     *[small]byte // what was written and not encoded
	n        int
}

// has says which fields the handler has set itself.
type has struct{ length, kind, coding, date, close bool }

var (
	_ http.Flusher    = (*answer)(nil)
	_ io.StringWriter = (*answer)(nil)
)

func (a *answer) Header() http.Header {
	if a.header == nil {
		a.header = http.Header{}
	}
	return a.header
}

// WriteHeader notes the status and the header as it is now; an informational one is sent.
func (a *answer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status)) // as net/http does: the handler is wrong
	}
	if status < http.StatusOK {
		c := a.st.c
		c.mu.Lock()
		defer c.mu.Unlock()
		if a.st.err == nil {
			c.headersFrames(a.st.id, false, a.fieldsOf(status, a.header))
			c.now(a.st)
		}
		return
	}
	a.status, a.has, a.trailers = status, has{}, nil
	a.fields = a.fieldsOf(status, a.header)
}

// fieldsOf are the fields of a header, as they are on the wire.
func (a *answer) fieldsOf(status int, header http.Header) []hpack.HeaderField {
	fields := make([]hpack.HeaderField, 1, len(header)+4)
	fields[0] = hpack.HeaderField{Name: ":status", Value: strconv.Itoa(status)}
	for name, values := range header {
		wire, ok := lower(name)
		switch {
		case !ok || strings.HasPrefix(name, http.TrailerPrefix):
			continue
		case hopByHop(wire):
			a.has.close = a.has.close || wire == "connection" && slices.Contains(values, "close")
			continue
		case status < http.StatusOK && wire == "content-length":
			continue
		case wire == "content-length":
			if !a.setLength(values) {
				continue
			}
		case wire == "content-type":
			a.has.kind = true
		case wire == "content-encoding":
			a.has.coding = len(values) > 0 && values[0] != ""
		case wire == "date":
			a.has.date = true
		case wire == "trailer":
			a.declare(values)
		}
		for _, v := range values {
			if httpguts.ValidHeaderFieldValue(v) {
				// What differs for each request would only drive the rest out of the peer's table.
				fields = append(fields, hpack.HeaderField{Name: wire, Value: v, Sensitive: wire == "audit-id" || wire == "content-length"})
			}
		}
	}
	return fields
}

func (a *answer) setLength(values []string) bool {
	if len(values) == 0 {
		return false
	}
	n, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil {
		return false
	}
	a.has.length, a.length = true, int64(n)
	return true
}

func (a *answer) declare(values []string) {
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if httpguts.ValidTrailerHeader(name) && !slices.Contains(a.trailers, name) {
				a.trailers = append(a.trailers, name)
			}
		}
	}
}

func bodyAllowed(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !bodyAllowed(a.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if a.wrote += int64(len(p)); a.has.length && a.wrote > a.length {
		return 0, http.ErrContentLength
	}
	n := len(p)
	for len(p) > small-a.n {
		piece := p
		if a.n > 0 {
			piece = p[:a.keep(p)]
			if err := a.send(a.kept[:a.n]); err != nil {
				return n - len(p), err
			}
			a.drop()
		} else if err := a.send(p); err != nil {
			return n - len(p), err
		}
		p = p[len(piece):]
	}
	if len(p) > 0 {
		a.keep(p)
	}
	return n, nil
}

// WriteString is Write.
func (a *answer) WriteString(s string) (int, error) { return a.Write([]byte(s)) }

func (a *answer) keep(p []byte) int {
	if a.kept == nil {
		a.kept = smalls.Get().(*[small]byte)
	}
	n := copy(a.kept[a.n:], p)
	a.n += n
	return n
}

func (a *answer) drop() {
	if a.kept != nil {
		smalls.Put(a.kept)
		a.kept, a.n = nil, 0
	}
}

func (a *answer) keptBytes() []byte {
	if a.kept == nil {
		return nil
	}
	return a.kept[:a.n]
}

func (a *answer) Flush() { _ = a.FlushError() } // as http.Flusher has it

// FlushError sends what was written.
func (a *answer) FlushError() error {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	err := a.send(a.keptBytes())
	a.drop()
	return err
}

// SetReadDeadline is for http.ResponseController, as are the next.
func (a *answer) SetReadDeadline(t time.Time) error { a.st.readDeadline(t); return nil }

// SetWriteDeadline resets the stream at t.
func (a *answer) SetWriteDeadline(t time.Time) error { a.st.writeDeadline(t); return nil }

// EnableFullDuplex changes nothing: streams are so.
func (a *answer) EnableFullDuplex() error { return nil }

// send encodes the header, if it was not sent, and p, and has it written in time.
func (a *answer) send(p []byte) error {
	c := a.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := a.encode(p, false); err != nil {
		return err
	}
	c.soon()
	return a.st.err
}

// encode encodes the header, if it was not sent, and p, and the end of the answer if this is it.
func (a *answer) encode(p []byte, end bool) error {
	st := a.st
	c := st.c
	if st.err != nil {
		return st.err
	}
	if end {
		a.lateTrailers()
	}
	over := end && !a.hasTrailers() // with p
	head := a.req.Method == http.MethodHead
	if !a.sent {
		a.sent = true
		a.complete(p, end)
		only := head || over && len(p) == 0
		c.headersFrames(st.id, only, a.fields)
		a.fields = nil
		if a.has.close {
			c.leave()
		}
		if only {
			return nil
		}
	}
	if head {
		return nil
	}
	if len(p) > 0 || over {
		if err := c.data(st, p, over); err != nil {
			return err
		}
	}
	if end && !over {
		c.headersFrames(st.id, true, a.trailerFields())
	}
	return nil
}

// complete adds to the header what the handler left to us.
func (a *answer) complete(p []byte, end bool) {
	head := a.req.Method == http.MethodHead
	if end && !a.has.length && bodyAllowed(a.status) && (len(p) > 0 || !head) {
		a.fields = append(a.fields, hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(len(p)), Sensitive: true})
	}
	if !a.has.kind && !a.has.coding && bodyAllowed(a.status) && len(p) > 0 {
		a.fields = append(a.fields, hpack.HeaderField{Name: "content-type", Value: http.DetectContentType(p)})
	}
	if !a.has.date {
		a.fields = append(a.fields, hpack.HeaderField{Name: "date", Value: a.st.c.dateNow()})
	}
}

// dateNow is the header's date, made once a second.
func (c *conn) dateNow() string {
	now := time.Now()
	if s := now.Unix(); s != c.second {
		c.second, c.date = s, now.UTC().Format(http.TimeFormat)
	}
	return c.date
}

// data encodes p, waiting for the peer's windows and for room.
func (c *conn) data(st *stream, p []byte, end bool) error {
	for {
		n := int(min(int64(len(p)), int64(c.peerFrame), st.window, c.window))
		if len(p) > 0 && n <= 0 || !c.room() {
			if c.pending != nil && !c.writing {
				c.now(st)
			} else {
				st.wait()
			}
			if st.err != nil {
				return st.err
			}
			continue
		}
		last := n == len(p)
		flags := http2.Flags(0)
		if last && end {
			flags = http2.FlagDataEndStream
		}
		c.frame(http2.FrameData, flags, st.id, n)
		c.pending.b = append(c.pending.b, p[:n]...)
		st.window -= int64(n)
		c.window -= int64(n)
		if p = p[n:]; last {
			return nil
		}
		if len(c.pending.b) >= piece {
			if c.now(st); st.err != nil {
				return st.err
			}
		}
	}
}

// lateTrailers finds fields that the handler made trailers by their prefix.
func (a *answer) lateTrailers() {
	for name, values := range a.header {
		if late, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			a.declare([]string{late})
			a.header[http.CanonicalHeaderKey(late)] = values
		}
	}
	slices.Sort(a.trailers)
}

func (a *answer) hasTrailers() bool {
	return slices.ContainsFunc(a.trailers, func(name string) bool { _, ok := a.header[name]; return ok })
}

func (a *answer) trailerFields() []hpack.HeaderField {
	var fields []hpack.HeaderField
	for _, name := range a.trailers {
		wire, ok := lower(name)
		for _, v := range a.header[name] {
			if ok && httpguts.ValidHeaderFieldValue(v) {
				fields = append(fields, hpack.HeaderField{Name: wire, Value: v})
			}
		}
	}
	return fields
}
