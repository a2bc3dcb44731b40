package cluster

import (
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/proa-dev/proa/pki"
)

// Told to, a running server makes all its certificates anew, and the list shows them.
func TestRotateAndListCertificates(t *testing.T) {
	c := newHouse(t, nil)
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGHUP) // the process must not end, whoever listens first
	t.Cleanup(func() { signal.Stop(told) })
	if err := RotateCertificates(c.cfg.Place); err == nil {
		t.Error("there is no server process to tell")
	}
	release, err := claimProcess(c.cfg.Place, serverProcess)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	held := []*pki.Renewing{c.serving, c.toNodes, c.toBackends, c.admin}
	var before []string
	for _, r := range held {
		before = append(before, r.Current().Leaf.SerialNumber.String())
	}
	eventually(t, 10*time.Second, "all are made anew", func() bool {
		if err := RotateCertificates(c.cfg.Place); err != nil {
			t.Fatal(err)
		}
		for i, r := range held {
			if r.Current().Leaf.SerialNumber.String() == before[i] {
				return false
			}
		}
		return true
	})
	list, err := Certificates(c.cfg.Place)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, cert := range list {
		names = append(names, filepath.Base(cert.Path))
		if cert.Err != nil || time.Until(cert.Cert.NotAfter) < 300*24*time.Hour {
			t.Errorf("%s: %v", cert.Path, cert.Err)
		}
	}
	for _, want := range []string{"apiserver.crt", "apiserver-kubelet-client.crt", "ca.crt", "front-proxy-ca.crt"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %v", want, names)
		}
	}
	admin, err := adminClient(c.cfg.Place)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Discovery().ServerVersion(); err != nil {
		t.Errorf("with the new kubeconfig: %v", err)
	}
}
