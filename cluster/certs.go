package cluster

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/proa-dev/proa/internal/clockstep"
	"github.com/proa-dev/proa/pki"
)

// Certificate is one that this machine keeps in a file.
type Certificate struct {
	Path string
	Cert *x509.Certificate
	Err  error // why it cannot be read
}

// Certificates gives those of the cluster's servers and nodes on this machine, by path.
// What is kept in memory only (webhooks' clients, the nodes' own) is not among them.
func Certificates(p *Place) ([]Certificate, error) {
	var out []Certificate
	for _, pattern := range []string{"pki/*.crt", "pki/*/*.crt", "nodes/*/*.crt", "nodes/*/*/*.crt"} {
		paths, err := filepath.Glob(filepath.Join(p.Dir(), pattern))
		if err != nil {
			return nil, fmt.Errorf("look for certificates: %w", err)
		}
		for _, path := range paths {
			c := Certificate{Path: path}
			data, err := os.ReadFile(path)
			if err == nil {
				c.Cert, err = pki.DecodeCert(data)
			}
			c.Err = err
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Certificate) int { return cmp.Compare(a.Path, b.Path) })
	return out, nil
}

// RotateCertificates has the running server make its certificates anew, and the
// administrator's kubeconfig with them. Connections that are open stay.
func RotateCertificates(p *Place) error {
	server, err := hold(p, p.server())
	if err != nil {
		return err
	}
	if server == nil {
		return errors.New("no server of the cluster runs on this machine; certificates that are due are renewed when it starts")
	}
	defer server.Close()
	if err := server.Signal(unix.SIGHUP); err != nil {
		return fmt.Errorf("tell the server: %w", err)
	}
	return nil
}

// startAdmin writes the administrator's kubeconfig, and has it written anew in time.
func (c *controlPlane) startAdmin(ctx context.Context, group *Group) error {
	first, err := c.writeKubeconfig(ctx)
	if err != nil {
		return err
	}
	if c.admin, err = pki.NewRenewing(first, c.writeKubeconfig, nil, c.log); err != nil {
		return err
	}
	if err := group.Start(ctx, Part{Name: "certificate admin", Run: c.admin.Run}); err != nil {
		return err
	}
	for _, p := range []Part{{Name: "rotation", Run: c.rotate}, {Name: "time last seen", Run: c.pki.NoteTime}, {Name: "clock", Run: c.followClock}} {
		if err := group.Start(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// built is when this program was made, the zero time when it does not know.
func built() time.Time {
	at, err := time.Parse(time.RFC3339, Version().BuildDate)
	if err != nil {
		return time.Time{}
	}
	return at
}

// followClock has certificates looked at when the clock is set, and says when it is wrong.
func (c *controlPlane) followClock(ctx context.Context) error {
	warn := func() {
		if behind := c.pki.Behind(); behind > 0 {
			c.log.Warn("the machine's clock is wrong: clients may refuse the cluster's certificates until it is set", "behind by at least", behind.Round(time.Minute))
		}
	}
	warn()
	return clockstep.Follow(ctx, func() {
		warn()
		for _, r := range []*pki.Renewing{c.serving, c.toNodes, c.toBackends, c.admin, c.kubelet.Load(), c.toPeers.Load()} {
			if r != nil {
				r.Look()
			}
		}
	})
}

// rotate renews the server's certificates whenever the process is told to (SIGHUP).
func (c *controlPlane) rotate(ctx context.Context) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGHUP)
	defer signal.Stop(told)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-told:
		}
		for _, r := range []*pki.Renewing{c.serving, c.toNodes, c.toBackends, c.admin, c.toPeers.Load()} {
			if r != nil {
				r.Renew()
			}
		}
	}
}
