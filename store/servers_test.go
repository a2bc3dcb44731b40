package store

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// authority makes certificates for members.
type authority struct {
	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.make(t, "ca", &x509.Certificate{IsCA: true, KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true})
	return a
}

func (a *authority) make(t testing.TB, name string, of *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	a.serial++
	of.SerialNumber, of.Subject = big.NewInt(a.serial), pkix.Name{CommonName: name}
	of.NotBefore, of.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = of, key
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, of, parent, &key.PublicKey, by))
	secret := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))
	a.write(t, name+".crt", "CERTIFICATE", der)
	a.write(t, name+".key", "PRIVATE KEY", secret)
	return must[*x509.Certificate](t)(x509.ParseCertificate(der)), key
}

func (a *authority) write(t testing.TB, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// peers gives a new member of a name its certificate and a port.
func (a *authority) peers(t testing.TB, name string) *Peers {
	t.Helper()
	a.make(t, name, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer func() { _ = l.Close() }()
	return &Peers{
		Name: name, URL: "https://" + l.Addr().String(),
		Cert: filepath.Join(a.dir, name+".crt"), Key: filepath.Join(a.dir, name+".key"), CA: filepath.Join(a.dir, "ca.crt"),
	}
}

// server is a store that is one of several, and can be stopped and started.
type server struct {
	*Store
	pods *Collection
	cfg  Config
}

func (s *server) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.cfg.Log = slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		s.cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil)).With("server", s.cfg.Peers.Name)
	}
	s.Store = must[*Store](t)(Open(ctx, s.cfg))
	s.pods = serve(t, s.Store, pods())
}

func (s *server) stop(t testing.TB) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s.Store = nil
}

// kill stops the server without a word to the others.
func (s *server) kill(t testing.TB) {
	t.Helper()
	s.link.member.etcd.Server.HardStop()
	s.stop(t)
}

// openServers starts n of them, one after another.
func openServers(t testing.TB, n int) []*server {
	t.Helper()
	return openServersOf(t, newAuthority(t), n)
}

func openServersOf(t testing.TB, ca *authority, n int) []*server {
	t.Helper()
	var list []*server
	t.Cleanup(func() {
		for _, s := range list {
			if s.Store != nil {
				s.stop(t)
			}
		}
	})
	for i := range n {
		s := &server{cfg: Config{Dir: t.TempDir(), Peers: ca.peers(t, fmt.Sprint("s", i))}}
		if i > 0 {
			s.cfg.Peers.Join = must[map[string]string](t)(list[i/2].AddMember(t.Context(), s.cfg.Peers.Name, s.cfg.Peers.URL))
		}
		s.start(t)
		list = append(list, s)
	}
	return list
}

// What one server acknowledged every other one shows, at once.
func TestServers(t *testing.T) {
	t.Parallel()
	list := openServers(t, 3)
	for i := range 60 {
		name := fmt.Sprint("p", i)
		if _, err := list[i%3].pods.Create(t.Context(), pod("a", name, "n")); err != nil {
			t.Fatal(err)
		}
		if _, err := list[(i+1)%3].pods.Get(t.Context(), "a", name, Latest); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := list[(i+2)%3].pods.Update(t.Context(), "a", name, setNode("other")); err != nil {
			t.Fatal(err)
		}
		if _, err := list[i%3].pods.Delete(t.Context(), "a", name, nil); err != nil {
			t.Fatal(err)
		}
	}
	leaders := 0
	for _, s := range list {
		if leads, _ := s.Leading(); leads {
			leaders++
		}
		known := must[[]Member](t)(s.Members(t.Context()))
		if len(known) != 3 {
			t.Errorf("%d members: %+v", len(known), known)
		}
		for _, m := range known {
			if m.Learner || m.Name == "" || m.Self != (m.Name == s.cfg.Peers.Name) {
				t.Errorf("%+v", m)
			}
		}
		if err := s.Health(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if leaders != 1 {
		t.Errorf("%d leaders", leaders)
	}
}

// leader waits until one of them leads.
func leader(t testing.TB, list []*server) *server {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, s := range list {
			if s.Store != nil {
				if leads, _ := s.Leading(); leads {
					return s
				}
			}
		}
	}
	t.Fatal("nobody leads")
	return nil
}

// others are those that run, without one.
func others(list []*server, but *server) (out []*server) {
	for _, s := range list {
		if s != but && s.Store != nil {
			out = append(out, s)
		}
	}
	return out
}

// written retries a write until it is done, and tells how long that took.
func written(t testing.TB, s *server, name string) time.Duration {
	t.Helper()
	begun := time.Now()
	for time.Since(begun) < 30*time.Second {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := s.pods.Create(ctx, pod("a", name, "n"))
		cancel()
		if err == nil || errors.Is(err, ErrExists) {
			return time.Since(begun)
		}
	}
	t.Fatalf("%s could not be written", name)
	return 0
}

// A leader that is killed is replaced; when it comes back it has what it missed.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	list := openServers(t, 3)
	old := leader(t, list)
	written(t, old, "before")
	rest := others(list, old)
	begun := time.Now()
	ended := make(chan struct{})
	go func() {
		old.link.member.etcd.Server.HardStop()
		close(ended)
	}()
	written(t, rest[0], "after")
	t.Logf("first write after the leader was killed: %v", time.Since(begun))
	<-ended
	old.stop(t)
	if now := leader(t, rest); now == old {
		t.Error("the dead leads")
	}
	old.start(t)
	for _, name := range []string{"before", "after"} {
		if _, err := old.pods.Get(t.Context(), "a", name, Latest); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A leader that is stopped hands over: no election has to be waited for, which would take a
// second each time. A busy machine may take that long as well, but not always.
func TestLeaderStopped(t *testing.T) {
	t.Parallel()
	list := openServers(t, 3)
	for try := range 5 {
		old := leader(t, list)
		rest := others(list, old)
		old.stop(t)
		took := written(t, rest[0], fmt.Sprint("after", try))
		t.Logf("first write after the leader was stopped: %v", took)
		leader(t, rest)
		if took < 900*time.Millisecond {
			return
		}
		old.start(t)
	}
	t.Error("no leader handed over")
}

// Without a majority nothing is written, nothing stale is read as the latest, and health says so soon.
func TestNoQuorum(t *testing.T) {
	t.Parallel()
	list := openServers(t, 3)
	written(t, list[0], "p")
	list[1].kill(t)
	list[2].kill(t)
	begun := time.Now()
	if err := list[0].Health(t.Context()); err == nil {
		t.Error("healthy without the others")
	} else if took := time.Since(begun); took > 20*time.Second { // it gives up after two
		t.Errorf("took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := list[0].pods.Get(ctx, "a", "p", Latest); err == nil {
		t.Error("read without a majority")
	}
	if _, err := list[0].pods.Get(ctx, "a", "p", Any); err != nil {
		t.Errorf("what the cache has: %v", err)
	}
	if _, changed := list[0].Leading(); changed != nil {
		for leads := true; leads; {
			if leads, changed = list[0].Leading(); leads {
				<-changed
			}
		}
	}
	if known := must[[]Member](t)(list[0].Members(t.Context())); len(known) != 3 {
		t.Errorf("%+v", known)
	}
	begun = time.Now()
	if err := list[0].RemoveMember(t.Context(), "s1"); err == nil || time.Since(begun) > 20*time.Second {
		t.Errorf("%v in %v", err, time.Since(begun))
	}
	list[1].start(t)
	written(t, list[0], "q")
	if err := list[0].Health(t.Context()); err != nil {
		t.Error(err)
	}
}

// Who was removed is told so, also when it was away.
func TestRemoved(t *testing.T) {
	t.Parallel()
	list := openServers(t, 3)
	one, two := list[1], list[2]
	ended := make(chan error, 1)
	go func() { ended <- one.Run(t.Context()) }()
	two.stop(t)
	if err := list[0].RemoveMember(t.Context(), two.cfg.Peers.Name); err != nil {
		t.Fatal(err)
	}
	written(t, list[0], "p")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if s, err := Open(ctx, two.cfg); !errors.Is(err, ErrRemoved) {
		t.Errorf("got %v", err)
		if err == nil {
			_ = s.Close()
		}
	}
	if err := one.RemoveMember(t.Context(), one.cfg.Peers.Name); err != nil {
		t.Fatal(err)
	}
	written(t, list[0], "q")
	select {
	case err := <-ended:
		if !errors.Is(err, ErrRemoved) {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the removed server runs on")
	}
	if _, err := one.pods.Create(t.Context(), pod("a", "r", "n")); !errors.Is(err, ErrRemoved) {
		t.Errorf("got %v", err)
	}
	if err := list[0].RemoveMember(t.Context(), "s0"); err == nil {
		t.Error("the last one was removed")
	}
	list[0].stop(t)
	list[0].start(t)
	if !list[0].alone() {
		t.Error("the last one does not know that it is alone")
	}
	written(t, list[0], "s")
}

// Only members of the same authority are heard, and nobody before there is one.
func TestPeersPort(t *testing.T) {
	t.Parallel()
	s := openServers(t, 1)[0]
	ask := func(p *Peers) error {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(must[[]byte](t)(os.ReadFile(s.cfg.Peers.CA)))
		c := &tls.Config{RootCAs: pool}
		if p != nil {
			c.Certificates = []tls.Certificate{must[tls.Certificate](t)(tls.LoadX509KeyPair(p.Cert, p.Key))}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
		defer client.CloseIdleConnections()
		resp, err := client.Get(s.cfg.Peers.URL + "/members")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	if err := ask(s.cfg.Peers); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("before there is another one: %v", err)
	}
	if err := s.becomeSeveral(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ask(s.cfg.Peers); err != nil {
		t.Error(err)
	}
	if err := ask(nil); err == nil {
		t.Error("heard without a certificate")
	}
	if err := ask(newAuthority(t).peers(t, "stranger")); err == nil {
		t.Error("a stranger was heard")
	}
}

// With the others lost for good one goes on alone, with all that was acknowledged, and can be joined again.
func TestReset(t *testing.T) {
	t.Parallel()
	list := openServers(t, 3)
	left := others(list, leader(t, list))[0]
	for i := range 20 {
		written(t, left, fmt.Sprint("p", i))
	}
	for _, s := range list {
		s.kill(t)
	}
	left.cfg.Peers.Reset = true
	left.start(t)
	left.cfg.Peers.Reset = false
	for i := range 20 {
		if _, err := left.pods.Get(t.Context(), "a", fmt.Sprint("p", i), Latest); err != nil {
			t.Errorf("p%d: %v", i, err)
		}
	}
	if known := must[[]Member](t)(left.Members(t.Context())); len(known) != 1 || !known[0].Self {
		t.Errorf("%+v", known)
	}
	again := others(append(list, left), left)
	if len(again) != 0 {
		t.Fatal("others run")
	}
	for _, s := range list {
		if s != left {
			s.cfg.Dir = t.TempDir()
			s.cfg.Peers.Join = must[map[string]string](t)(left.AddMember(t.Context(), s.cfg.Peers.Name, s.cfg.Peers.URL))
			s.start(t)
			if _, err := s.pods.Get(t.Context(), "a", "p7", Latest); err != nil {
				t.Error(err)
			}
		}
	}
}
