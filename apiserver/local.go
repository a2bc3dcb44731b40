package apiserver

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"

	"github.com/proa-dev/proa/apis/api"
)

// LocalTransport carries requests of components in this process: the same pipeline, with
// an identity that is known, no sockets and no TLS.
func (s *Server) LocalTransport(user api.User) http.RoundTripper { return local{s, &user} }

type local struct {
	s    *Server
	user *api.User
}

// RoundTrip calls the pipeline. A short answer comes whole; one that is flushed (a watch)
// is piped while it is made.
func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(withUser(r.Context(), l.user))
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &localWriter{header: http.Header{}, ready: make(chan struct{})}
	stop := context.AfterFunc(r.Context(), func() { w.abandon(r.Context().Err()) })
	go func() {
		defer stop()
		defer w.finish()
		defer in.Body.Close()
		l.s.handle(w, in)
	}()
	select {
	case <-w.ready:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return &http.Response{
		Status: http.StatusText(w.code), StatusCode: w.code, Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: w.sent, Body: w.body(), ContentLength: -1, Request: r,
	}, nil
}

// localWriter gathers an answer until it is done or flushed.
type localWriter struct {
	header http.Header
	code   int

	mu    sync.Mutex
	buf   bytes.Buffer
	pipe  *io.PipeWriter
	read  *io.PipeReader
	once  sync.Once
	ready chan struct{}
	sent  http.Header
	gone  error // the caller has left: why
}

func (w *localWriter) Header() http.Header { return w.header }

func (w *localWriter) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
}

func (w *localWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.mu.Lock()
	pipe := w.pipe
	if w.gone != nil {
		defer w.mu.Unlock()
		return 0, w.gone
	}
	if pipe == nil {
		defer w.mu.Unlock()
		return w.buf.Write(b)
	}
	w.mu.Unlock()
	return pipe.Write(b)
}

// Flush begins the answer: from here on it is piped.
func (w *localWriter) Flush() {
	w.WriteHeader(http.StatusOK)
	w.mu.Lock()
	if w.pipe == nil {
		w.read, w.pipe = io.Pipe()
		if w.gone != nil {
			w.read.CloseWithError(w.gone)
		}
	}
	w.mu.Unlock()
	w.begin()
}

// abandon makes reads and writes fail when the request's context has ended, so that
// neither side waits for the other.
func (w *localWriter) abandon(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = why
	if w.read != nil {
		w.read.CloseWithError(why)
	}
}

func (w *localWriter) begin() {
	w.once.Do(func() {
		w.sent = w.header.Clone()
		close(w.ready)
	})
}

func (w *localWriter) finish() {
	w.WriteHeader(http.StatusOK)
	w.mu.Lock()
	pipe := w.pipe
	w.mu.Unlock()
	w.begin()
	if pipe != nil {
		pipe.Close()
	}
}

// body is what was gathered, then what is piped.
func (w *localWriter) body() io.ReadCloser {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.read == nil {
		return io.NopCloser(&w.buf)
	}
	if w.buf.Len() == 0 {
		return w.read
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(&w.buf, w.read), w.read}
}
