// Package h2 serves HTTP/2 (RFC 9113) on the API's port.
//
// The one idea: there is no loop between who makes bytes and the socket. A connection has one
// goroutine that reads frames; a request has one that runs its handler. The handler's own
// goroutine encodes its answer into the connection's pending bytes and writes them to the
// socket if nobody else does; who comes while another writes only appends, and the writer
// takes that along. So a small answer is one buffer, one TLS record, one system call, and a
// watch that waits costs the stack of its goroutine and little else.
//
// What ends an answer goes out at once, with what was written before it. Of answers that go
// on (watches), a quiet connection sends at once, and on a busy one what is written within a
// millisecond of the last sending waits for the rest of that millisecond.
//
// All state of a connection and of its streams is under one mutex, which nobody holds while
// waiting for the peer. The reader never writes to the socket: a peer that takes no answers
// must not keep us from reading what would free it.
//
// Used by cluster, behind net/http's server, which does TLS and HTTP/1.1.
package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Config is what differs between servers; zero values mean the defaults below.
type Config struct {
	MaxStreams    uint32        // requests at once on one connection; those that were reset count until their handlers end
	MaxHeader     int           // bytes of all header fields of a request, with 32 for each field as RFC 9113 counts
	IdleTimeout   time.Duration // of a connection without requests
	HeaderTimeout time.Duration // for the connection's preface, and from a header block's begin to its end
	WriteTimeout  time.Duration // for the peer to take 64 KiB; then the connection ends
	Log           *slog.Logger
}

const (
	defaultStreams       = 250
	defaultHeader        = 64 << 10
	defaultIdleTimeout   = 2 * time.Minute
	defaultHeaderTimeout = 10 * time.Second
	defaultWriteTimeout  = 30 * time.Second
)

func (cfg *Config) setDefaults() {
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = defaultStreams
	}
	if cfg.MaxHeader == 0 {
		cfg.MaxHeader = defaultHeader
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = defaultIdleTimeout
	}
	if cfg.HeaderTimeout == 0 {
		cfg.HeaderTimeout = defaultHeaderTimeout
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = defaultWriteTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
}

// server knows the connections, to tell them when the end comes.
type server struct {
	cfg  Config
	http *http.Server

	mu     sync.Mutex
	conns  map[*conn]struct{}
	ending bool
}

// Configure has srv speak HTTP/2 by this package. It must be called before srv serves.
func Configure(srv *http.Server, cfg Config) error {
	if srv.TLSNextProto["h2"] != nil {
		return errors.New("the server speaks HTTP/2 already")
	}
	cfg.setDefaults()
	s := &server{cfg: cfg, http: srv, conns: map[*conn]struct{}{}}
	if srv.TLSConfig == nil {
		srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if !slices.Contains(srv.TLSConfig.NextProtos, "h2") {
		srv.TLSConfig.NextProtos = append([]string{"h2"}, srv.TLSConfig.NextProtos...)
	}
	// Records of one segment's size help browsers to paint early; here each is a system call.
	srv.TLSConfig.DynamicRecordSizingDisabled = true
	if srv.TLSNextProto == nil {
		srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	srv.TLSNextProto["h2"] = s.serve
	srv.RegisterOnShutdown(s.shutdown)
	return nil
}

// serve serves one connection until it and all its handlers have ended.
func (s *server) serve(_ *http.Server, t *tls.Conn, h http.Handler) {
	base := context.Background()
	if b, ok := h.(interface{ BaseContext() context.Context }); ok {
		base = b.BaseContext()
	}
	c := newConn(s, t, h, base)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	ending := s.ending
	s.mu.Unlock()
	if ending {
		c.shutdown()
	}
	c.serve()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// shutdown has each connection end when its requests have.
func (s *server) shutdown() {
	s.mu.Lock()
	s.ending = true
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.shutdown()
	}
}
