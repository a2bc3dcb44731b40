package cluster

import (
	"fmt"
	"net/netip"
	"time"
)

// Default settings that are the same for every cluster.
const (
	DefaultDomain        = "cluster.local"
	DefaultNodePortRange = "30000-32767"
	// nodeMask is the size of a node's part of the pod range, in bits.
	nodeMask = 24
)

// ServerConfig is what a server process is told.
type ServerConfig struct {
	Place *Place

	BindAddress      netip.Addr // of the API; 0.0.0.0 by default
	AdvertiseAddress netip.Addr // under which others reach it; by default the node's address
	HTTPSPort        int
	PeerPort         int      // at which the etcd of further servers meets this one's; opened when there are any
	Join             string   // https://host:port of a server whose cluster this one joins; empty: none
	Token            string   // for Join; needed until it has joined
	ResetMembers     bool     // go on alone: the other servers are lost for good
	Netns            string   // path of the network namespace that it was started in; empty: the machine's own
	TLSNames         []string // further names and addresses in the API's certificate
	ClusterCIDR      netip.Prefix
	ServiceCIDR      netip.Prefix
	NodePorts        string // "30000-32767"
	Domain           string
	EtcdServers      []string // an external etcd; empty: embedded
	NodeGracePeriod  time.Duration
	NoServiceLB      bool // services of type LoadBalancer get their addresses from somebody else
	Access           AccessConfig
	Gates            Gates
	EnablePlugins    []string // of admission, by their names in kube-apiserver
	DisablePlugins   []string
	AdmissionConfig  string // file with an AdmissionConfiguration; empty: none
	KeepEncryption   bool   // what EncryptionConfig held at the start: a changed file is not read again
	EncryptionConfig string // file of the keys that seal objects in etcd; empty: made at the first start
	Audit            AuditConfig
	CertificateLife  time.Duration // of the certificates that the cluster makes; default pki.LeafLife

	// Node makes this process a node too.
	Node       bool
	NodeConfig NodeConfig
}

// NodeConfig is what the node part of a process is told.
type NodeConfig struct {
	Name        string
	IP          netip.Addr // by default the address that the default route uses
	KubeletPort int
	Labels      []string // key=value
	Taints      []string // key=value:effect, of a node that joins
	// CloudProvider is "external" where the controller manager of a cloud initializes nodes
	// and serves load balancers; empty: there is none.
	CloudProvider string
	ProviderID    string // what the cloud calls the node
	Runtime       string // CRI endpoint; empty: the containerd inside
	MaxPods       int
}

// AgentConfig is what an agent process is told.
type AgentConfig struct {
	Place  *Place
	Server string // https://host:port
	Token  string
	Node   NodeConfig
	// Netns is the path of the network namespace that the agent was started in; empty: the
	// machine's own.
	Netns string
}

// completeSelf fills in what was left out of what this server is, whatever its cluster is.
func (c *ServerConfig) completeSelf() error {
	if !c.Node {
		c.NodeConfig.IP = c.AdvertiseAddress
	}
	if err := c.NodeConfig.complete(c.Place); err != nil {
		return err
	}
	if !c.AdvertiseAddress.IsValid() {
		c.AdvertiseAddress = c.NodeConfig.IP
	}
	if c.PeerPort == 0 {
		c.PeerPort = c.Place.PeerPort()
	}
	if c.PeerPort < 1 || c.PeerPort > 65535 {
		return fmt.Errorf("--peer-port %d: must be between 1 and 65535", c.PeerPort)
	}
	return nil
}

// complete fills in what was left out and says what cannot be.
func (c *ServerConfig) complete() error {
	p := c.Place
	if err := c.completeSelf(); err != nil {
		return err
	}
	if c.HTTPSPort == 0 {
		c.HTTPSPort = p.APIPort()
	}
	if !c.BindAddress.IsValid() {
		c.BindAddress = netip.IPv4Unspecified()
	}
	if !c.ClusterCIDR.IsValid() {
		c.ClusterCIDR = p.PodCIDR()
	}
	if !c.ServiceCIDR.IsValid() {
		c.ServiceCIDR = p.ServiceCIDR()
	}
	if c.Domain == "" {
		c.Domain = DefaultDomain
	}
	if c.NodePorts == "" {
		c.NodePorts = DefaultNodePortRange
	}
	if c.NodeGracePeriod == 0 {
		c.NodeGracePeriod = 50 * time.Second
	}
	switch {
	case c.ClusterCIDR.Overlaps(c.ServiceCIDR):
		return fmt.Errorf("--cluster-cidr %s and --service-cidr %s overlap; give two ranges apart", c.ClusterCIDR, c.ServiceCIDR)
	case c.ClusterCIDR.Bits() > nodeMask:
		return fmt.Errorf("--cluster-cidr %s is too small: each node takes a /%d of it", c.ClusterCIDR, nodeMask)
	case c.ServiceCIDR.Bits() > 28:
		return fmt.Errorf("--service-cidr %s is too small: at least a /28 is needed", c.ServiceCIDR)
	case c.HTTPSPort < 1 || c.HTTPSPort > 65535:
		return fmt.Errorf("--https-port %d: must be between 1 and 65535", c.HTTPSPort)
	}
	return nil
}

// nthAddress is the address n after the beginning of a range: the service range's first
// is the API's, its tenth the DNS's.
func nthAddress(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a
}
