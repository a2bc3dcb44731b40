// Package nodes makes further nodes of a cluster on one machine: each is a network
// namespace on a bridge, with the machine itself as the first node and the way out.
//
// The one idea: a node is a place to start processes in (Exec); nothing in them knows
// that the place is not a machine. Setting the node's link down is a cut cable.
//
// Called by cmd/proa. Everything is idempotent, and Delete undoes Create however far
// it came.
package nodes

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/internal/nft"
)

// Config is the network that the nodes of one cluster share.
type Config struct {
	Bridge   string       // at most 15 bytes
	Subnet   netip.Prefix // of the nodes; the machine has its first address
	Table    string       // nftables table (family ip) for the way out
	RunDir   string       // netns/<node> is made below
	Recorder host.Recorder
}

// Node is one further node.
type Node struct {
	Name  string
	Addr  netip.Addr
	Netns string // path, for Exec
	Link  string // the machine's end of its cable
}

// node gives the facts of the n-th node; 1 is the machine itself, so n is 2 or more.
func (c Config) node(name string, n int) (Node, error) {
	addr := c.Subnet.Masked().Addr()
	for range n {
		addr = addr.Next()
	}
	if n < 2 || !c.Subnet.Contains(addr) || !c.Subnet.Contains(addr.Next()) {
		return Node{}, fmt.Errorf("node number %d does not fit in %s", n, c.Subnet)
	}
	if name == "" || strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
		return Node{}, fmt.Errorf("node name %q: must be a file name", name)
	}
	link := fmt.Sprintf("%.10s-n%d", c.Bridge, n)
	return Node{Name: name, Addr: addr, Netns: filepath.Join(c.RunDir, "netns", name), Link: link}, nil
}

// Create makes the n-th node, and the bridge and the way out when they are not there.
func Create(c Config, name string, n int) (Node, error) {
	node, err := c.node(name, n)
	if err != nil {
		return Node{}, err
	}
	if c.Recorder == nil {
		c.Recorder = host.Discard
	}
	bridge, err := c.makeBridge()
	if err != nil {
		return Node{}, err
	}
	if err := c.masquerade(); err != nil {
		return Node{}, err
	}
	if err := c.makeNetns(node.Netns); err != nil {
		return Node{}, err
	}
	return node, c.plug(node, bridge)
}

func (c Config) makeBridge() (netlink.Link, error) {
	if err := c.Recorder.Record(host.Change{Kind: host.Link, Name: c.Bridge}); err != nil {
		return nil, fmt.Errorf("record node bridge: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = c.Bridge
	first := c.Subnet.Masked().Addr().Next()
	attrs.HardwareAddr = append(net.HardwareAddr{0x02, 0x71}, first.AsSlice()...)
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make node bridge: %w", err)
	}
	link, err := netlink.LinkByName(c.Bridge)
	if err != nil {
		return nil, fmt.Errorf("find node bridge: %w", err)
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: prefix(first, c.Subnet.Bits())}); err != nil {
		return nil, fmt.Errorf("give node bridge its address: %w", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set node bridge up: %w", err)
	}
	return link, c.forwarding()
}

func (c Config) forwarding() error {
	const path = "/proc/sys/net/ipv4/ip_forward"
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read forwarding: %w", err)
	}
	was := strings.TrimSpace(string(b))
	if was == "1" {
		return nil
	}
	if err := c.Recorder.Record(host.Change{Kind: host.Sysctl, Name: "net.ipv4.ip_forward", Before: was}); err != nil {
		return fmt.Errorf("record forwarding: %w", err)
	}
	if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
		return fmt.Errorf("set forwarding: %w", err)
	}
	return nil
}

// masquerade writes the table for the way out.
func (c Config) masquerade() error {
	if err := c.Recorder.Record(host.Change{Kind: host.Table, Name: "ip " + c.Table}); err != nil {
		return fmt.Errorf("record table: %w", err)
	}
	conn, err := nft.Open()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: c.Table}
	conn.AddTable(t)
	conn.DelTable(t)
	conn.AddTable(t)
	chain := conn.AddChain(&nftables.Chain{Table: t, Name: "postrouting", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: nft.Rule(
		nft.Within(nft.SourceAddr, c.Subnet), nft.Outside(nft.DestAddr, c.Subnet), nft.NotLeaving(c.Bridge), nft.Masquerade())})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write the nodes' way out: %w", err)
	}
	return nil
}

// makeNetns makes a network namespace bound at path, or finds it.
func (c Config) makeNetns(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err == nil && st.Type == unix.NSFS_MAGIC {
		return nil
	}
	if err := c.Recorder.Record(host.Change{Kind: host.Netns, Name: path}); err != nil {
		return fmt.Errorf("record network namespace: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make folder of network namespaces: %w", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		own := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		if err := unix.Mount(own, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind network namespace: %w", err)
		}
		return nil
	})
}

// onThread runs f on a thread that ends with it, so that f may change namespaces.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not used again
		done <- f()
	}()
	return <-done
}

// plug connects a node's namespace with the bridge.
func (c Config) plug(n Node, bridge netlink.Link) error {
	ns, err := netns.GetFromPath(n.Netns)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer ns.Close()
	if err := c.Recorder.Record(host.Change{Kind: host.Link, Name: n.Link}); err != nil {
		return fmt.Errorf("record node link: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = n.Link, bridge.Attrs().Index
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = "eth0", netlink.NsFd(ns)
	veth.PeerHardwareAddr = append(net.HardwareAddr{0x02, 0x71}, n.Addr.AsSlice()...)
	if err := netlink.LinkAdd(veth); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make node link: %w", err)
	}
	if err := c.setInside(n, ns); err != nil {
		return err
	}
	link, err := netlink.LinkByName(n.Link)
	if err != nil {
		return fmt.Errorf("find node link: %w", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set node link up: %w", err)
	}
	return nil
}

func (c Config) setInside(n Node, ns netns.NsHandle) error {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer h.Close()
	lo, err1 := h.LinkByName("lo")
	eth, err2 := h.LinkByName("eth0")
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("find the node's links: %w", err)
	}
	err1 = h.LinkSetUp(lo)
	err2 = h.AddrReplace(eth, &netlink.Addr{IPNet: prefix(n.Addr, c.Subnet.Bits())})
	if err := errors.Join(err1, err2, h.LinkSetUp(eth)); err != nil {
		return fmt.Errorf("set the node's links up: %w", err)
	}
	out := &netlink.Route{LinkIndex: eth.Attrs().Index, Gw: c.Subnet.Masked().Addr().Next().AsSlice(), Dst: prefix(netip.IPv4Unspecified(), 0)}
	if err := h.RouteReplace(out); err != nil {
		return fmt.Errorf("set the node's way out: %w", err)
	}
	return nil
}

// Delete removes the n-th node. Its processes have to be ended before: they hold the namespace.
func Delete(c Config, name string, n int) error {
	node, err := c.node(name, n)
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(node.Link)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("remove node link: %w", err)
	}
	if err := unix.Unmount(node.Netns, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unbind network namespace: %w", err)
	}
	if err := os.Remove(node.Netns); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace: %w", err)
	}
	return nil
}

// DeleteAll removes the bridge and the way out, after the last node.
func DeleteAll(c Config) error {
	link, err := netlink.LinkByName(c.Bridge)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("remove node bridge: %w", err)
	}
	conn, err := nft.Open()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	t := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: c.Table})
	conn.DelTable(t)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove the nodes' way out: %w", err)
	}
	return nil
}

func prefix(a netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}
}
