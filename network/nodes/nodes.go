// Package nodes makes further nodes on one machine real: each gets a network namespace of
// its own, joined by a bridge on which the machine itself is the first node.
//
// The one idea: to the node agent inside, the namespace is a machine: an address on a
// shared link, a default route, nothing else. Cutting its link is cutting its cable.
//
// Used by cluster for "proa up --nodes N".
package nodes

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/proa-dev/proa/host"
)

// Config of the nodes of one cluster on this machine.
type Config struct {
	Bridge     string       // link that joins them, at most 15 bytes
	LinkPrefix string       // of the host's ends of their cables, at most 12 bytes
	Subnet     netip.Prefix // of all nodes; the machine has the first address
	Count      int          // further nodes
	Dir        string       // folder for the namespaces' mounts
	Table      string       // nftables table (family ip) for their way out
	Recorder   host.Recorder
}

// Node is one further node.
type Node struct {
	Path    string // of its network namespace
	Link    string // the host's end of its cable
	Address netip.Addr
}

// Network is the nodes with what joins them.
type Network struct {
	Nodes []Node
	host  netip.Addr
}

// HostAddress is the machine's own address among its nodes.
func (n *Network) HostAddress() netip.Addr { return n.host }

// Create makes what is missing; what is there is kept.
func Create(cfg Config) (*Network, error) {
	n := &Network{host: cfg.Subnet.Masked().Addr().Next()}
	bridge, err := cfg.bridge(n.host)
	if err != nil {
		return nil, err
	}
	if err := cfg.wayOut(); err != nil {
		return nil, err
	}
	address := n.host
	for i := range cfg.Count {
		address = address.Next()
		if !cfg.Subnet.Contains(address) {
			return nil, fmt.Errorf("nodes: %s has no room for %d nodes", cfg.Subnet, cfg.Count+1)
		}
		node := Node{
			Path:    filepath.Join(cfg.Dir, "netns-"+strconv.Itoa(i+2)),
			Link:    cfg.LinkPrefix + strconv.Itoa(i+2),
			Address: address,
		}
		if err := cfg.create(node, n.host, bridge); err != nil {
			return nil, fmt.Errorf("make node %d: %w", i+2, err)
		}
		n.Nodes = append(n.Nodes, node)
	}
	return n, nil
}

func (c *Config) bridge(address netip.Addr) (netlink.Link, error) {
	if err := c.Recorder.Record(host.Change{Kind: host.Link, Name: c.Bridge}); err != nil {
		return nil, err
	}
	link, err := netlink.LinkByName(c.Bridge)
	if err != nil {
		link = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: c.Bridge}}
		if err := netlink.LinkAdd(link); err != nil {
			return nil, fmt.Errorf("make bridge %s: %w", c.Bridge, err)
		}
	}
	if err := netlink.AddrReplace(link, on(address, c.Subnet.Bits())); err != nil {
		return nil, fmt.Errorf("put %s on %s: %w", address, c.Bridge, err)
	}
	return link, netlink.LinkSetUp(link)
}

func on(a netip.Addr, bits int) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: net.IP(a.AsSlice()), Mask: net.CIDRMask(bits, a.BitLen())}}
}

// create makes a node's namespace and its cable.
func (c *Config) create(node Node, gateway netip.Addr, bridge netlink.Link) error {
	for _, change := range []host.Change{{Kind: host.Netns, Name: node.Path}, {Kind: host.Link, Name: node.Link}} {
		if err := c.Recorder.Record(change); err != nil {
			return err
		}
	}
	space, err := namespace(node.Path)
	if err != nil {
		return err
	}
	defer space.Close()
	if _, err := netlink.LinkByName(node.Link); err != nil {
		cable := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: node.Link, MasterIndex: bridge.Attrs().Index},
			PeerName:  "eth0", PeerNamespace: netlink.NsFd(int(space)),
		}
		if err := netlink.LinkAdd(cable); err != nil {
			return fmt.Errorf("make link %s: %w", node.Link, err)
		}
	}
	link, err := netlink.LinkByName(node.Link)
	if err != nil {
		return err
	}
	// Where bridged packets pass the firewall (br_netfilter), one that a service of this node
	// sends back to the node it came from must leave by the port it came in.
	if err := netlink.LinkSetHairpin(link, true); err != nil {
		return fmt.Errorf("let answers go back through %s: %w", node.Link, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	return c.inside(space, node, gateway)
}

// inside gives the namespace its address and default route.
func (c *Config) inside(space netns.NsHandle, node Node, gateway netip.Addr) error {
	h, err := netlink.NewHandleAt(space)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, name := range []string{"lo", "eth0"} {
		link, err := h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s in the namespace: %w", name, err)
		}
		if name == "eth0" {
			if err := h.AddrReplace(link, on(node.Address, c.Subnet.Bits())); err != nil {
				return fmt.Errorf("put %s on eth0: %w", node.Address, err)
			}
		}
		if err := h.LinkSetUp(link); err != nil {
			return err
		}
		if name == "eth0" {
			route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IP(gateway.AsSlice())}
			if err := h.RouteReplace(route); err != nil {
				return fmt.Errorf("set the default route: %w", err)
			}
		}
	}
	return nil
}

// namespace opens the network namespace mounted at path, having made it if need be.
func namespace(path string) (netns.NsHandle, error) {
	if space, err := netns.GetFromPath(path); err == nil {
		if isNamespace(path) {
			return space, nil
		}
		space.Close()
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return netns.None(), err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return netns.None(), err
	}
	f.Close()
	made := make(chan error, 1)
	go func() {
		// A thread that has been in another namespace is not given back to the scheduler: the
		// goroutine ends with it locked, and Go ends the thread.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		made <- unix.Mount(self, path, "", unix.MS_BIND, "")
	}()
	if err := <-made; err != nil {
		return netns.None(), err
	}
	return netns.GetFromPath(path)
}

// isNamespace tells a mounted namespace from the empty file that it is mounted on.
func isNamespace(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.NSFS_MAGIC
}

// Start starts a process in the node's network namespace.
func (n Node) Start(cmd *exec.Cmd) error {
	space, err := netns.GetFromPath(n.Path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer space.Close()
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		if err := netns.Set(space); err != nil {
			started <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		started <- cmd.Start()
	}()
	return <-started
}
