package cluster

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/proa-dev/proa/pki"
)

// port is the API's port with a handler of the test's behind it.
type port struct {
	t    *testing.T
	addr string
	ca   *x509.CertPool
}

func newPort(t *testing.T, h http.Handler) *port {
	t.Helper()
	authorities, err := pki.Open(pki.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := authorities.CA.Issue(pki.Leaf{CommonName: "kube-apiserver", DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := front(h, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }, slog.New(slog.DiscardHandler))
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
	return &port{t: t, addr: l.Addr().String(), ca: authorities.CA.Trust()}
}

func (p *port) dial(proto string) *tls.Conn {
	p.t.Helper()
	conn, err := tls.Dial("tcp", p.addr, &tls.Config{RootCAs: p.ca, ServerName: "localhost", NextProtos: []string{proto}, MinVersion: tls.VersionTLS12})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// frames opens an HTTP/2 connection whose frames the test writes, and says when the server ends it.
func (p *port) frames() (*http2.Framer, *tls.Conn, <-chan string) {
	p.t.Helper()
	conn := p.dial("h2")
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		p.t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan string, 1)
	go func() {
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				ended <- err.Error()
				return
			}
			if g, ok := frame.(*http2.GoAwayFrame); ok {
				ended <- fmt.Sprintf("%s %s", g.ErrCode, g.DebugData())
				return
			}
		}
	}()
	return f, conn, ended
}

func block(t *testing.T, pairs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

var plainGet = []string{":method", "GET", ":path", "/api/v1/pods", ":scheme", "https", ":authority", "x"}

// Streams that are opened and reset at once do not run more requests than a connection may
// have, and the connection ends (CVE-2023-44487); headers without end are cut off
// (CVE-2023-45288).
func TestAttackHTTP2(t *testing.T) {
	var running, most, begun atomic.Int64
	release := make(chan struct{})
	p := newPort(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		begun.Add(1)
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release // a handler that does not look at its context
	}))
	defer close(release)
	t.Run("rapid reset", func(t *testing.T) {
		f, _, ended := p.frames()
		head := block(t, plainGet...)
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		why := ""
		for i := range uint32(20_000) {
			id := 2*i + 1
			if f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndStream: true, EndHeaders: true}) != nil || f.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
				break
			}
		}
		select {
		case why = <-ended:
		case <-time.After(10 * time.Second):
			t.Error("the connection goes on")
		}
		goruntime.ReadMemStats(&after)
		t.Logf("%s; %d requests, %d at once", why, begun.Load(), most.Load())
		if most.Load() > maxRequests {
			t.Errorf("%d requests ran at once", most.Load())
		}
		if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 64<<20 {
			t.Errorf("%d MiB more in use", grown>>20)
		}
	})
	t.Run("headers without end", func(t *testing.T) {
		f, _, ended := p.frames()
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(t, plainGet...)}); err != nil {
			t.Fatal(err)
		}
		more := block(t, "x-filler", strings.Repeat("a", 8000))
		sent := 0
		for range 10_000 {
			if f.WriteContinuation(1, false, more) != nil {
				break
			}
			sent += len(more)
		}
		select {
		case why := <-ended:
			t.Logf("%s after %d KB", why, sent>>10)
		case <-time.After(10 * time.Second):
			t.Errorf("%d KB of headers were taken", sent>>10)
		}
	})
	t.Run("pings", func(t *testing.T) {
		conn := p.dial("h2") // and nothing that answers is read
		if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
			t.Fatal(err)
		}
		f := http2.NewFramer(conn, conn)
		_ = f.WriteSettings()
		_ = conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
		n := 0
		for n < 500_000 && f.WritePing(false, [8]byte{}) == nil {
			n++
		}
		if n == 500_000 {
			t.Error("all were taken from who reads no answer")
		}
	})
}

// Headers that come a byte at a time are waited for as long as all headers may take, over
// both protocols; large ones are refused.
func TestAttackSlowHeaders(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	t.Parallel()
	p := newPort(t, http.NotFoundHandler())
	conn := p.dial("http/1.1")
	begun := time.Now()
	go func() {
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
		for tick := time.NewTicker(500 * time.Millisecond); ; <-tick.C {
			if _, err := io.WriteString(conn, "a"); err != nil {
				tick.Stop()
				return
			}
		}
	}()
	_ = conn.SetReadDeadline(begun.Add(3 * headerTime))
	_, _ = io.ReadAll(conn)
	if took := time.Since(begun); took > headerTime+5*time.Second {
		t.Errorf("headers were waited for for %s", took)
	}
	large := p.dial("http/1.1")
	_ = large.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		fmt.Fprintf(large, "GET / HTTP/1.1\r\nHost: x\r\nX-Large: %s\r\n\r\n", strings.Repeat("a", 2*maxHeader))
	}()
	answer, err := http.ReadResponse(bufio.NewReader(large), nil)
	if err != nil || answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%v %v", answer, err)
	}
}

// The names in the certificate are the configuration's; what clients call the server adds
// none (CVE-2023-32187).
func TestAttackNames(t *testing.T) {
	p := newPort(t, http.NotFoundHandler())
	names := func(ask string) string {
		conn, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true, ServerName: ask, MinVersion: tls.VersionTLS12})
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", ask)
		_, _ = io.ReadAll(io.LimitReader(conn, 1<<10))
		leaf := conn.ConnectionState().PeerCertificates[0]
		return fmt.Sprint(leaf.SerialNumber, leaf.DNSNames, leaf.IPAddresses)
	}
	first := names("localhost")
	for i := range 50 {
		if got := names(fmt.Sprintf("stuffed-%d.example.com", i)); got != first {
			t.Fatalf("the certificate became %s", got)
		}
	}
	if got := names("localhost"); got != first {
		t.Errorf("the certificate became %s", got)
	}
}

// A number in a lock file that has come to be another process's is not signalled.
func TestAttackPidOfAnother(t *testing.T) {
	dir := t.TempDir()
	p := &Place{Name: "again", Roots: Roots{Data: dir + "/data", Run: dir + "/run", Config: dir + "/etc"}}
	release, err := claimProcess(p, serverProcess) // it runs, and its number is not written yet
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	stranger := exec.Command("sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- stranger.Wait() }()
	t.Cleanup(func() {
		_ = stranger.Process.Kill() // gone already when the test failed
		<-ended
	})
	if err := os.WriteFile(p.lockFile(serverProcess), fmt.Appendf(nil, "%d\n", stranger.Process.Pid), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := stopProcess(t.Context(), p, serverProcess); err == nil {
		t.Error("stopped what is no server")
	}
	if err := RotateCertificates(p); err == nil {
		t.Error("told what is no server")
	}
	select {
	case err := <-ended:
		ended <- err
		t.Errorf("a stranger was signalled: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
}

// Who looks whether a process runs does not keep it from starting.
func TestLookersDoNotStopAStart(t *testing.T) {
	dir := t.TempDir()
	p := &Place{Name: "seen", Roots: Roots{Data: dir + "/data", Run: dir + "/run", Config: dir + "/etc"}}
	done := make(chan struct{})
	var lookers sync.WaitGroup
	t.Cleanup(func() { close(done); lookers.Wait() })
	for range 2 {
		lookers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					runningPid(p, serverProcess)
				}
			}
		})
	}
	for range 200 {
		release, err := claimProcess(p, serverProcess)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := claimProcess(p, serverProcess); err == nil {
			t.Fatal("two hold it")
		}
		release()
	}
}
