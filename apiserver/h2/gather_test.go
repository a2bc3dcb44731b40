package h2

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// counted counts the writes that reach the socket.
type counted struct {
	net.Listener
	mu     sync.Mutex
	writes int
}

type countedConn struct {
	net.Conn
	l *counted
}

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countedConn{c, l}, err
}

func (c countedConn) Write(p []byte) (int, error) {
	c.l.mu.Lock()
	c.l.writes++
	c.l.mu.Unlock()
	return c.Conn.Write(p)
}

func (l *counted) since(before int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writes - before
}

// What ends an answer is one write, with what waited before it; what goes on is at once on a
// quiet connection, and gathered on a busy one, for no longer than a millisecond or so.
func TestGathers(t *testing.T) {
	parts := make(chan string)
	srv := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate()}, MinVersion: tls.VersionTLS12}}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/watch" {
			_, _ = io.WriteString(w, strings.Repeat("x", 3000))
			return
		}
		w.(http.Flusher).Flush()
		for p := range parts {
			_, _ = io.WriteString(w, p)
			w.(http.Flusher).Flush()
		}
	})
	if err := Configure(srv, Config{}); err != nil {
		t.Fatal(err)
	}
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &counted{Listener: raw}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.ServeTLS(l, "", "") }()
	defer func() { _ = srv.Close(); <-ended }()
	s := &site{t, srv, raw.Addr().String()}
	r := s.open()
	r.headers(1, true, request("GET", "/watch")...)
	if got := r.said(); got != "HEADERS 1 200" {
		t.Fatal(got)
	}
	quiet := func() { time.Sleep(20 * gather) }
	for id := uint32(3); id < 9; id += 2 {
		quiet()
		before := l.since(0)
		r.headers(id, true, request("GET", "/small")...)
		if got := r.said() + r.said(); !strings.HasPrefix(got, fmt.Sprintf("HEADERS %d 200DATA %d xxx", id, id)) || !strings.HasSuffix(got, "END") {
			t.Fatal(got[:40])
		}
		if n := l.since(before); n != 1 {
			t.Errorf("a small answer took %d writes", n)
		}
	}
	quiet()
	before := l.since(0)
	want := ""
	for i := range 200 {
		p := fmt.Sprintf("part %d;", i)
		want += p
		parts <- p
	}
	got := ""
	for len(got) < len(want) {
		said, ok := strings.CutPrefix(r.said(), "DATA 1 ")
		if !ok {
			t.Fatal(said)
		}
		got += said
	}
	if got != want {
		t.Error("out of order")
	}
	n := l.since(before)
	t.Logf("%d writes for 200 parts", n)
	if n > 100 {
		t.Errorf("%d writes for 200 parts", n)
	}
	close(parts)
}
