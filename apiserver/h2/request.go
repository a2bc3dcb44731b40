package h2

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// block is a header block that is being read: of a request, or of its trailers.
type block struct {
	decoder *hpack.Decoder
	most    int // bytes of its fields
	size    int
	fields  []hpack.HeaderField // those that are no pseudo fields, with canonical names

	method, scheme, authority, path string
	seen                            uint8 // which of these came
	bad                             bool  // malformed
	large                           bool  // more than most
}

const (
	seenMethod = 1 << iota
	seenScheme
	seenAuthority
	seenPath
	// mostContinued is how many frames a header block may have: as many as a client that sends
	// its fields in small pieces could need.
	mostContinued = 128
)

func (b *block) init(most int) {
	b.most = most
	b.decoder = hpack.NewDecoder(4<<10, b.take)
	b.decoder.SetMaxStringLength(most)
}

func (b *block) reset() {
	clear(b.fields)
	if cap(b.fields) > 128 {
		b.fields = nil
	}
	*b = block{decoder: b.decoder, most: b.most, fields: b.fields[:0]}
	b.decoder.SetEmitEnabled(true)
}

// take takes a decoded field.
func (b *block) take(f hpack.HeaderField) {
	if b.size += int(f.Size()); b.size > b.most {
		b.large = true
		b.decoder.SetEmitEnabled(false)
		return
	}
	if !httpguts.ValidHeaderFieldValue(f.Value) {
		b.bad = true
	}
	if strings.HasPrefix(f.Name, ":") {
		b.pseudo(f)
		return
	}
	name, ok := canonical(f.Name)
	if !ok || hopByHop(f.Name) || f.Name == "te" && f.Value != "trailers" {
		b.bad = true
		return
	}
	f.Name = name
	b.fields = append(b.fields, f)
}

func (b *block) pseudo(f hpack.HeaderField) {
	var which uint8
	var to *string
	switch f.Name {
	case ":method":
		which, to = seenMethod, &b.method
	case ":scheme":
		which, to = seenScheme, &b.scheme
	case ":authority":
		which, to = seenAuthority, &b.authority
	case ":path":
		which, to = seenPath, &b.path
	}
	if to == nil || b.seen&which != 0 || len(b.fields) > 0 {
		b.bad = true
		return
	}
	b.seen |= which
	*to = f.Value
}

// readBlock reads a header block to its end, whatever it is good for: the decoder's state is
// the connection's.
func (c *conn) readBlock(f *http2.HeadersFrame) error {
	b := &c.block
	b.reset()
	fragment, ended, raw := f.HeaderBlockFragment(), f.HeadersEnded(), 0
	if !ended {
		if err := c.readWithin(c.srv.cfg.HeaderTimeout); err != nil {
			return err
		}
	}
	for frames := 1; ; frames++ {
		if raw += len(fragment); raw > 2*b.most || frames > mostContinued {
			return errCalm
		}
		if _, err := b.decoder.Write(fragment); err != nil {
			return http2.ConnectionError(http2.ErrCodeCompression)
		}
		if ended {
			break
		}
		next, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		more, ok := next.(*http2.ContinuationFrame)
		if !ok {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		if fragment, ended = more.HeaderBlockFragment(), more.HeadersEnded(); ended {
			if err := c.readWithin(0); err != nil {
				return err
			}
		}
	}
	if b.decoder.Close() != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	return nil
}

// headersRead begins a request, or ends one that has trailers.
func (c *conn) headersRead(f *http2.HeadersFrame) error {
	id, end := f.StreamID, f.StreamEnded()
	looped := f.HasPriority() && f.Priority.StreamDep == id
	if err := c.readBlock(f); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.streams[id]; st != nil {
		return c.trailersRead(st, end)
	}
	if id%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if id <= c.seen {
		switch lately, ours := c.known(id); {
		case ours:
			return nil
		case lately:
			return http2.ConnectionError(http2.ErrCodeStreamClosed)
		}
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.seen = id
	if c.leaving { // which the peer could not know yet
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeRefusedStream}
	}
	c.lastID = id
	if looped || c.block.bad {
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	}
	if len(c.streams)+c.orphans >= int(c.srv.cfg.MaxStreams) {
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeRefusedStream}
	}
	return c.open(id, end)
}

func (c *conn) trailersRead(st *stream, end bool) error {
	b := &c.block
	if st.ended {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeStreamClosed}
	}
	if !end || b.bad || b.large || b.seen != 0 || st.length >= 0 && st.came != st.length {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol}
	}
	for i := range b.fields {
		f := &b.fields[i]
		if _, declared := st.trailer[f.Name]; declared { // its keys change no more
			if st.trailed == nil {
				st.trailed = http.Header{}
			}
			st.trailed[f.Name] = append(st.trailed[f.Name], f.Value)
		}
	}
	st.noMore()
	return nil
}

// open begins a stream and its handler.
func (c *conn) open(id uint32, end bool) error {
	b := &c.block
	malformed := http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	if b.seen&^seenAuthority != seenMethod|seenScheme|seenPath || b.method == http.MethodConnect ||
		!httpguts.ValidHeaderFieldName(b.method) || b.scheme != "https" && b.scheme != "http" {
		return malformed
	}
	st := &stream{c: c, id: id, window: c.peerWindow, granted: streamWindow, length: -1}
	st.cond.L = &c.mu
	st.body.st, st.answer.st = st, st
	r, ok := c.request(st, end)
	if !ok {
		return malformed
	}
	ctx, cancel := context.WithCancel(c.base)
	st.cancel = cancel
	st.answer.req = r.WithContext(ctx)
	if end {
		st.noMore()
	}
	c.streams[id] = st
	h := c.handler
	if b.large {
		h = http.HandlerFunc(tooLarge)
	}
	c.start(work{st, h})
	return nil
}

func tooLarge(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, http.StatusText(http.StatusRequestHeaderFieldsTooLarge), http.StatusRequestHeaderFieldsTooLarge)
}

// request makes the request of the block; false: it is malformed.
func (c *conn) request(st *stream, end bool) (*http.Request, bool) {
	b := &c.block
	header, ok := b.header(st)
	if !ok {
		return nil, false
	}
	if host := header["Host"]; len(host) > 1 || len(host) == 1 && b.seen&seenAuthority != 0 && b.authority != host[0] {
		return nil, false
	} else if len(host) == 1 {
		b.authority = host[0]
		delete(header, "Host")
	}
	if strings.Contains(b.authority, "@") || b.authority != "" && !httpguts.ValidHostHeader(b.authority) {
		return nil, false
	}
	at, ok := target(b.path)
	if !ok {
		return nil, false
	}
	r := &http.Request{
		Method: b.method, URL: at, RequestURI: b.path, Host: b.authority,
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: header, Trailer: maps.Clone(st.trailer),
		RemoteAddr: c.remote, TLS: c.state, Body: http.NoBody,
	}
	if end {
		return r, st.length <= 0
	}
	r.Body, r.ContentLength = &st.body, st.length
	return r, true
}

// target is a request's path and query.
func target(path string) (*url.URL, bool) {
	if path == "" || path[0] != '/' && path != "*" {
		return nil, false
	}
	for i := range len(path) {
		if path[i] <= ' ' || path[i] == 0x7f {
			return nil, false
		}
	}
	u, err := url.ParseRequestURI(path)
	return u, err == nil
}

// header makes the fields a http.Header, without those that say how the body comes.
func (b *block) header(st *stream) (http.Header, bool) {
	header := make(http.Header, len(b.fields))
	values := make([]string, len(b.fields)) // one allocation for the values of all
	for i := range b.fields {
		f := &b.fields[i]
		if old := header[f.Name]; old != nil {
			header[f.Name] = append(old, f.Value)
			continue
		}
		values[i] = f.Value
		header[f.Name] = values[i : i+1 : i+1]
	}
	for _, length := range header["Content-Length"] {
		n, err := strconv.ParseUint(length, 10, 63)
		if err != nil || st.length >= 0 && st.length != int64(n) {
			return nil, false
		}
		st.length = int64(n)
	}
	if cookies := header["Cookie"]; len(cookies) > 1 { // they may be split for compression
		header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	if expect := header["Expect"]; httpguts.HeaderValuesContainsToken(expect, "100-continue") {
		st.body.waits = true
		delete(header, "Expect")
	}
	if trailers := header["Trailer"]; trailers != nil {
		st.trailer = declared(trailers)
		delete(header, "Trailer")
	}
	return header, true
}

// declared are the trailers that a client says it will send.
func declared(values []string) http.Header {
	trailer := http.Header{}
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if httpguts.ValidTrailerHeader(name) && len(trailer) < 64 {
				trailer[name] = nil
			}
		}
	}
	return trailer
}

// deadlines sets those that the HTTP server has for all its requests.
func (st *stream) deadlines() {
	if d := st.c.srv.http.ReadTimeout; d > 0 {
		st.readDeadline(time.Now().Add(d))
	}
	if d := st.c.srv.http.WriteTimeout; d > 0 {
		st.writeDeadline(time.Now().Add(d))
	}
}
