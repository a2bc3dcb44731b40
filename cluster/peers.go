package cluster

import (
	"context"
	"net/netip"
	"path/filepath"
	"sync"

	"github.com/proa-dev/proa/pki"
)

// peersReady makes the certificate that etcd's members show each other, once.
type peersReady struct {
	mu   sync.Mutex
	done bool
}

// startPeers makes the authority and this server's certificate for connections between servers.
// A server that is alone calls it when another one joins.
func (c *controlPlane) startPeers() error {
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	if c.peers.done {
		return nil
	}
	ca, err := c.pki.Etcd()
	if err != nil {
		return err
	}
	held, err := c.pki.RenewingFile(ca, pki.PeerFile, pki.Peer(c.cfg.NodeConfig.Name, toIP(c.cfg.AdvertiseAddress)), c.log)
	if err != nil {
		return err
	}
	c.toPeers.Store(held)
	c.peers.done = true
	select {
	case c.peersStart <- held:
	default: // nobody renews yet: the part finds it in toPeers
	}
	return nil
}

// renewPeers renews that certificate, from when it is there.
func (c *controlPlane) renewPeers(ctx context.Context) error {
	held := c.toPeers.Load()
	if held == nil {
		select {
		case held = <-c.peersStart:
		case <-ctx.Done():
			return nil
		}
	}
	return held.Run(ctx)
}

// ownKeys is the file of the keys that this cluster made itself.
func (c *ServerConfig) ownKeys() string { return filepath.Join(c.Place.PKI(), "encryption.yaml") }

// peerURL is where the members of other servers reach this one's.
func (c *ServerConfig) peerURL() string {
	return "https://" + netip.AddrPortFrom(c.AdvertiseAddress, uint16(c.PeerPort)).String()
}
