package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Shutdown lets requests finish, takes no more, and returns when they are done.
func TestShutdown(t *testing.T) {
	release, begun := make(chan struct{}), make(chan struct{}, 1)
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			begun <- struct{}{}
			<-release
		}
		_, _ = io.WriteString(w, "done")
	}), &Config{})
	idle, busy := s.open(), s.open()
	idle.headers(1, true, request("GET", "/")...)
	if got := idle.said() + idle.said(); got != "HEADERS 1 200DATA 1 done END" {
		t.Fatal(got)
	}
	busy.headers(1, true, request("GET", "/hold")...)
	<-begun
	ended := make(chan error, 1)
	go func() { ended <- s.srv.Shutdown(context.Background()) }()
	if got := idle.ends(); got != "GOAWAY NO_ERROR" {
		t.Error(got)
	}
	if got := busy.said(); got != "GOAWAY NO_ERROR" {
		t.Error(got)
	}
	busy.headers(3, false, request("POST", "/")...)
	busy.ok(busy.f.WriteData(3, true, []byte("x")))
	if got := busy.said(); got != "RST 3 REFUSED_STREAM" {
		t.Error(got)
	}
	select {
	case err := <-ended:
		t.Fatal("did not wait", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if got := busy.said() + busy.said() + busy.ends(); got != "HEADERS 1 200DATA 1 done ENDno farewell" {
		t.Error(got)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Shutdown goes on")
	}
	noneLeft(t)
}

// Who says "Connection: close" has the connection end after the answers under way.
func TestConnectionClose(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "bye")
	}), &Config{})
	r := s.open()
	r.headers(1, true, request("GET", "/")...)
	all := ""
	for got := ""; got != "closed" && got != "silence"; {
		got = r.said()
		all += got + ", "
	}
	if all != "HEADERS 1 200, GOAWAY NO_ERROR, DATA 1 bye END, closed, " {
		t.Error(all)
	}
}

// A request's context ends with its stream, its connection, or its handler.
func TestContextEnds(t *testing.T) {
	contexts := make(chan context.Context, 1)
	ended := make(chan error, 1)
	s := newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		contexts <- r.Context()
		if r.URL.Path == "/body" {
			_, err := io.ReadAll(r.Body)
			ended <- err
		} else if r.URL.Path == "/hold" {
			<-r.Context().Done()
			ended <- r.Context().Err()
		}
	}), &Config{})
	r := s.open()
	r.headers(1, true, request("GET", "/")...)
	ctx := <-contexts
	<-ctx.Done()
	r.headers(3, true, request("GET", "/hold")...)
	<-contexts
	r.ok(r.f.WriteRSTStream(3, 8))
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r.headers(5, false, request("POST", "/body")...)
	<-contexts
	r.ok(r.f.WriteRSTStream(5, 8))
	if err := <-ended; err == nil {
		t.Error("a body that was reset ended well")
	}
	r.headers(7, true, request("GET", "/hold")...)
	<-contexts
	_ = r.conn.Close()
	<-ended
	noneLeft(t)
}

// lines is a log that a test reads.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func TestPanics(t *testing.T) {
	log := &lines{}
	s := newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quiet" {
			panic(http.ErrAbortHandler)
		}
		panic("loud")
	}), &Config{Log: slog.New(slog.NewTextHandler(log, nil))})
	r := s.open()
	for i, path := range []string{"/quiet", "/loud"} {
		id := uint32(2*i + 1)
		r.headers(id, true, request("GET", path)...)
		if got, want := r.said(), fmt.Sprintf("RST %d INTERNAL_ERROR", id); got != want {
			t.Error(got)
		}
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if text := log.b.String(); strings.Count(text, "panic serving") != 1 || !strings.Contains(text, "loud") {
		t.Error(text)
	}
}

// A deadline ends the reading of a body that does not come, and can be taken back.
func TestReadDeadline(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		if c.SetReadDeadline(time.Now().Add(time.Hour)) != nil || c.SetReadDeadline(time.Time{}) != nil || c.EnableFullDuplex() != nil {
			t.Error("no deadlines")
		}
		if r.URL.Path == "/soon" {
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		} else {
			_ = c.SetReadDeadline(time.Now())
		}
		_, err := io.ReadAll(r.Body)
		fmt.Fprint(w, errors.Is(err, os.ErrDeadlineExceeded))
	}), &Config{})
	r := s.open()
	for i, path := range []string{"/soon", "/now"} {
		id := uint32(2*i + 1)
		r.headers(id, false, request("POST", path)...)
		if got, want := r.said()+" "+r.said(), fmt.Sprintf("HEADERS %d 200 DATA %d true END", id, id); got != want {
			t.Error(got)
		}
		if got, want := r.said(), fmt.Sprintf("RST %d NO_ERROR", id); got != want {
			t.Error(got)
		}
	}
}

// Many clients at once, with bodies both ways and requests given up, leave nothing behind.
func TestManyAtOnce(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = io.Copy(flushing{w}, r.Body)
	}), &Config{})
	body := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	var all sync.WaitGroup
	for range 4 {
		c := s.client(nil)
		for i := range 20 {
			all.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%4 == 0 {
					time.AfterFunc(time.Duration(i)*time.Millisecond, cancel)
				}
				r, err := http.NewRequestWithContext(ctx, "POST", s.url("/"), bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := c.Do(r)
				if err != nil {
					if i%4 != 0 {
						t.Error(err)
					}
					return
				}
				defer resp.Body.Close()
				if got, err := io.ReadAll(resp.Body); i%4 != 0 && (err != nil || !bytes.Equal(got, body)) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
		t.Cleanup(c.CloseIdleConnections)
	}
	all.Wait()
	_ = s.srv.Close()
	noneLeft(t)
}

type flushing struct{ http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	f.ResponseWriter.(http.Flusher).Flush()
	return n, err
}

// A handler that reads slowly holds a window's worth of a body, however long that is.
func TestSlowReaderHoldsAWindow(t *testing.T) {
	most := 0
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st := w.(*answer).st
		p := make([]byte, 1000)
		for {
			_, err := r.Body.Read(p)
			st.c.mu.Lock()
			most = max(most, cap(st.data))
			st.c.mu.Unlock()
			if err != nil {
				fmt.Fprint(w, err)
				return
			}
		}
	}), &Config{})
	resp, err := s.client(nil).Post(s.url("/"), "", bytes.NewReader(make([]byte, 16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if said, err := io.ReadAll(resp.Body); err != nil || string(said) != "EOF" || most > 3*streamWindow {
		t.Errorf("%s %v, %d KiB held", said, err, most>>10)
	}
}

// Streams that wait and end are not remembered; goroutines that wait for work end with the connection.
func TestNothingIsKept(t *testing.T) {
	conns := make(chan *conn, 100)
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conns <- w.(*answer).st.c
		_, _ = w.Write(make([]byte, 1<<20))
	}), &Config{})
	r := s.open()
	for id := uint32(1); id < 40; id += 2 {
		r.headers(id, true, request("GET", "/")...)
		for got := ""; !strings.HasPrefix(got, "HEADERS"); {
			got = r.said()
		}
		r.ok(r.f.WriteRSTStream(id, 8))
	}
	c := <-conns
	for range 200 {
		c.mu.Lock()
		held, orphans, waiting, streams, parked := c.pending, c.orphans, len(c.waiting), len(c.streams), c.parked
		c.mu.Unlock()
		if held == nil && orphans+waiting+streams == 0 && parked <= mostParked {
			_ = r.conn.Close()
			noneLeft(t)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("something of streams that ended is kept")
}
