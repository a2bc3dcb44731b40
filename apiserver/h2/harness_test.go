package h2

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	from := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	raw, err := x509.CreateCertificate(rand.Reader, from, from, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
})

// site is a server on loopback.
type site struct {
	t    testing.TB
	srv  *http.Server
	addr string
}

// newSite serves h by this package, or by x/net's if cfg is nil.
func newSite(t testing.TB, h http.Handler, cfg *Config) *site {
	t.Helper()
	srv := &http.Server{Handler: h, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate()}, MinVersion: tls.VersionTLS12}}
	var err error
	if cfg != nil {
		err = Configure(srv, *cfg)
	} else {
		err = http2.ConfigureServer(srv, &http2.Server{MaxConcurrentStreams: defaultStreams})
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = srv.Close(); <-ended })
	return &site{t, srv, l.Addr().String()}
}

func clientTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
}

// client is x/net's, over connections that the test may shape.
func (s *site) client(shape func(net.Conn) net.Conn) *http.Client {
	tr := &http2.Transport{TLSClientConfig: clientTLS(), DisableCompression: true}
	tr.DialTLSContext = func(ctx context.Context, network, addr string, cfg *tls.Config) (net.Conn, error) {
		raw, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := tls.Client(raw, cfg)
		if err := c.HandshakeContext(ctx); err != nil || shape == nil {
			return c, err
		}
		return shape(c), nil
	}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// standard is net/http's own client.
func (s *site) standard() *http.Client {
	tr := &http.Transport{TLSClientConfig: clientTLS(), ForceAttemptHTTP2: true, DisableCompression: true}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func (s *site) url(path string) string { return "https://" + s.addr + path }

// raw is a client whose frames the test writes and reads.
type raw struct {
	t    testing.TB
	conn *tls.Conn
	f    *http2.Framer
	enc  *hpack.Encoder
	buf  bytes.Buffer
	dec  *hpack.Decoder
}

// dial connects; the test writes the preface.
func (s *site) dial() *raw {
	s.t.Helper()
	return s.over(clientTLS())
}

func (s *site) over(cfg *tls.Config) *raw {
	s.t.Helper()
	c, err := tls.Dial("tcp", s.addr, cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	r := &raw{t: s.t, conn: c, f: http2.NewFramer(c, c), dec: hpack.NewDecoder(4096, nil)}
	r.f.AllowIllegalWrites = true
	r.enc = hpack.NewEncoder(&r.buf)
	return r
}

func (s *site) open(settings ...http2.Setting) *raw {
	s.t.Helper()
	r := s.dial()
	if _, err := io.WriteString(r.conn, http2.ClientPreface); err != nil {
		s.t.Fatal(err)
	}
	r.ok(r.f.WriteSettings(settings...))
	return r
}

func (r *raw) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) block(pairs ...string) []byte {
	r.buf.Reset()
	for i := 0; i+1 < len(pairs); i += 2 {
		r.ok(r.enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}))
	}
	return bytes.Clone(r.buf.Bytes())
}

func request(method, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "https", ":path", path, ":authority", "localhost"}, more...)
}

func (r *raw) headers(id uint32, end bool, pairs ...string) {
	r.t.Helper()
	r.ok(r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block(pairs...), EndStream: end, EndHeaders: true}))
}

// said is the next frame in words; settings, their acknowledgements and windows are passed over.
func (r *raw) said() string {
	for {
		_ = r.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		f, err := r.f.ReadFrame()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return "silence"
		} else if err != nil {
			return "closed"
		}
		switch f := f.(type) {
		case *http2.SettingsFrame, *http2.WindowUpdateFrame:
			continue
		case *http2.HeadersFrame:
			fields, err := r.dec.DecodeFull(f.HeaderBlockFragment())
			r.ok(err)
			return fmt.Sprintf("HEADERS %d %s%s", f.StreamID, fields[0].Value, mark(f.StreamEnded()))
		case *http2.DataFrame:
			return fmt.Sprintf("DATA %d %s%s", f.StreamID, f.Data(), mark(f.StreamEnded()))
		case *http2.RSTStreamFrame:
			return fmt.Sprintf("RST %d %s", f.StreamID, f.ErrCode)
		case *http2.GoAwayFrame:
			return fmt.Sprintf("GOAWAY %s", f.ErrCode)
		case *http2.PingFrame:
			return fmt.Sprintf("PING %s", f.Data[:])
		default:
			return f.Header().Type.String()
		}
	}
}

func mark(end bool) string {
	if end {
		return " END"
	}
	return ""
}

// goroutines are those that run code of this package's.
func goroutines() string {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var own []string
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, "h2.(*conn)") || strings.Contains(g, "h2.(*stream)") {
			own = append(own, g)
		}
	}
	return strings.Join(own, "\n\n")
}

// noneLeft waits until no goroutine of a connection runs.
func noneLeft(t testing.TB) {
	t.Helper()
	left := ""
	for range 200 {
		if left = goroutines(); left == "" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("goroutines are left:\n%s", left)
}
