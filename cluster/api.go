package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/proa-dev/proa/pki"
)

// API is a control plane inside another process, a test's. It touches nothing of the machine
// but its folders and one port, and runs no controllers, no scheduler and no node.
type API struct {
	URL   string
	plane *controlPlane
	group *Group
}

// StartAPI starts one that answers when it returns. A port of 0 is any that is free.
func StartAPI(ctx context.Context, cfg ServerConfig, log *slog.Logger) (*API, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(cfg.BindAddress.String(), strconv.Itoa(cfg.HTTPSPort)))
	if err != nil {
		return nil, fmt.Errorf("listen for the API: %w", err)
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok {
		cfg.HTTPSPort = tcp.Port
	}
	a, err := startAPI(ctx, &cfg, listener, log)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return a, nil
}

func startAPI(ctx context.Context, cfg *ServerConfig, listener net.Listener, log *slog.Logger) (*API, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	plane, err := newControlPlane(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	a := &API{"https://" + listener.Addr().String(), plane, NewGroup(log)}
	if err := plane.start(ctx, a.group, listener); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Certificate is one by which the API knows a user.
func (a *API) Certificate(user string, groups ...string) (*tls.Certificate, error) {
	cert, key, err := a.plane.pki.CA.Issue(pki.Leaf{CommonName: user, Organizations: groups, Client: true})
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	return &pair, err
}

// Close ends it.
func (a *API) Close() error {
	a.group.Stop()
	return a.plane.store.Close()
}
