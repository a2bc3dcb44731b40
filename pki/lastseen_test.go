package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// A machine whose clock stands in 1970 at its boot: what is issued then is valid then and when
// the clock is right, and is issued anew at once when it is set.
func TestClockWrongAtBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		real := time.Now()
		clock := time.Unix(3600, 0)
		a, err := Open(Config{Dir: t.TempDir(), Now: func() time.Time { return clock }, Built: real.Add(-30 * 24 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if a.Behind() < 20*365*24*time.Hour {
			t.Errorf("behind by %v", a.Behind())
		}
		r, err := a.RenewingFile(a.CA, "apiserver", Leaf{CommonName: "api", DNS: []string{"api"}, Server: true}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []time.Time{clock, real, real.Add(300 * 24 * time.Hour)} {
			if _, err := r.Current().Leaf.Verify(x509.VerifyOptions{Roots: a.CA.Trust(), DNSName: "api", CurrentTime: at}); err != nil {
				t.Errorf("at %v: %v", at, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		time.Sleep(time.Minute)
		first := r.Current()
		clock = real
		r.Look()
		synctest.Wait()
		if r.Current() == first || r.Current().Leaf.NotBefore.Before(real.Add(-2*Backdate)) {
			t.Error("not issued anew when the clock was set")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// The latest time is kept over a restart, and never goes back.
func TestTimeLastSeenIsKept(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	open := func(at time.Time) *Authorities {
		t.Helper()
		a, err := Open(Config{Dir: dir, Now: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if err := open(now).note(); err != nil {
		t.Fatal(err)
	}
	past := open(now.Add(-48 * time.Hour))
	if d := past.Behind(); d < 47*time.Hour {
		t.Errorf("behind by %v", d)
	}
	if err := past.note(); err != nil {
		t.Fatal(err)
	}
	if d := open(now).Behind(); d != 0 {
		t.Errorf("a right clock is behind by %v", d)
	}
	cert, err := past.CA.Certificate(Leaf{CommonName: "x", Client: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{now.Add(-48 * time.Hour), now.Add(LeafLife - time.Hour)} {
		if !validAt(t, cert, at) {
			t.Errorf("not valid at %v", at)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, lastSeenFile), []byte("yesterday"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := open(now).Behind(); d != 0 {
		t.Errorf("with a damaged file behind by %v", d)
	}
}

func validAt(t *testing.T, cert *tls.Certificate, at time.Time) bool {
	t.Helper()
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return !at.Before(leaf.NotBefore) && !at.After(leaf.NotAfter)
}
