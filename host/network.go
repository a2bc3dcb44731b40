package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inNetns calls f on a thread that is in the network namespace at path (empty: ours). The
// thread ends with the goroutine when it could not be brought back.
func inNetns(path string, f func() error) error {
	if path == "" {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is thrown away
		fd, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			result <- nil
			return
		}
		if err == nil {
			err = unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET)
			err = errors.Join(err, fd.Close())
		}
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

// withLinks calls f with a netlink handle in the change's namespace.
func withLinks(c Change, f func(*netlink.Handle) error) error {
	var ns netns.NsHandle = netns.None()
	if c.Netns != "" {
		var err error
		if ns, err = netns.GetFromPath(c.Netns); err != nil {
			return nil // the namespace is gone
		}
		defer ns.Close()
	}
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	return f(h)
}

func undoLink(c Change) (string, error) {
	count := 0
	err := withLinks(c, func(h *netlink.Handle) error {
		links, err := h.LinkList()
		if err != nil {
			return err
		}
		prefix, all := strings.CutSuffix(c.Name, "*")
		for _, l := range links {
			name := l.Attrs().Name
			if name != c.Name && (!all || !strings.HasPrefix(name, prefix)) {
				continue
			}
			if err := h.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("delete link %s: %w", name, err)
			}
			count++
		}
		return nil
	})
	return counted(count, "deleted link "+c.Name), err
}

func counted(n int, what string) string {
	if n == 0 {
		return ""
	}
	if n == 1 {
		return what
	}
	return fmt.Sprintf("%s (%d)", what, n)
}

// words reads "key value key value" after the first skip words.
func words(text string, skip int) map[string]string {
	fields := strings.Fields(text)
	pairs := map[string]string{}
	for i := skip; i+1 < len(fields); i += 2 {
		pairs[fields[i]] = fields[i+1]
	}
	return pairs
}

func destination(text string) (*net.IPNet, error) {
	if text == "" || text == "default" || text == "all" {
		return nil, nil
	}
	if !strings.Contains(text, "/") {
		ip := net.ParseIP(text)
		if ip == nil {
			return nil, fmt.Errorf("%q is not an address", text)
		}
		bits := 8 * net.IPv6len
		if v4 := ip.To4(); v4 != nil {
			ip, bits = v4, 8*net.IPv4len
		}
		return &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}, nil
	}
	_, n, err := net.ParseCIDR(text)
	return n, err
}

// undoRoute deletes "<prefix> [via gateway] [dev link] [table number]".
func undoRoute(c Change) (string, error) {
	dst, err := destination(strings.Fields(c.Name)[0])
	if err != nil {
		return "", err
	}
	pairs := words(c.Name, 1)
	done := ""
	err = withLinks(c, func(h *netlink.Handle) error {
		route := &netlink.Route{Dst: dst, Gw: net.ParseIP(pairs["via"])}
		if pairs["table"] != "" {
			if route.Table, err = strconv.Atoi(pairs["table"]); err != nil {
				return fmt.Errorf("route table: %w", err)
			}
		}
		if pairs["dev"] != "" {
			link, err := h.LinkByName(pairs["dev"])
			if err != nil {
				return nil // the link took its routes along
			}
			route.LinkIndex = link.Attrs().Index
		}
		err := h.RouteDel(route)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		if err == nil {
			done = "deleted route " + c.Name
		}
		return err
	})
	return done, err
}

// undoRule deletes "[from prefix] [to prefix] [fwmark n] [table n] [priority n]".
func undoRule(c Change) (string, error) {
	pairs := words(c.Name, 0)
	rule := netlink.NewRule()
	var err error
	if rule.Src, err = destination(pairs["from"]); err != nil {
		return "", err
	}
	if rule.Dst, err = destination(pairs["to"]); err != nil {
		return "", err
	}
	for key, set := range map[string]func(int){
		"table": func(n int) { rule.Table = n }, "priority": func(n int) { rule.Priority = n }, "fwmark": func(n int) { rule.Mark = uint32(n) },
	} {
		if pairs[key] == "" {
			continue
		}
		n, err := strconv.ParseInt(pairs[key], 0, 64)
		if err != nil {
			return "", fmt.Errorf("rule %s: %w", key, err)
		}
		set(int(n))
	}
	done := ""
	err = withLinks(c, func(h *netlink.Handle) error {
		err := h.RuleDel(rule)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err == nil {
			done = "deleted rule " + c.Name
		}
		return err
	})
	return done, err
}

// families are nftables' address families by the names nft prints.
var families = map[string]nftables.TableFamily{
	"ip": nftables.TableFamilyIPv4, "ip6": nftables.TableFamilyIPv6, "inet": nftables.TableFamilyINet,
	"arp": nftables.TableFamilyARP, "bridge": nftables.TableFamilyBridge, "netdev": nftables.TableFamilyNetdev,
}

// undoTable deletes the nftables table "<family> <name>".
func undoTable(c Change) (string, error) {
	familyName, name, _ := strings.Cut(c.Name, " ")
	family, known := families[familyName]
	if !known || name == "" {
		return "", fmt.Errorf("%q is not \"<family> <table>\"", c.Name)
	}
	done := ""
	err := inNetns(c.Netns, func() error {
		conn, err := nftables.New()
		if err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
		tables, err := conn.ListTablesOfFamily(family)
		if err != nil {
			return fmt.Errorf("list nftables tables: %w", err)
		}
		for _, t := range tables {
			if t.Name != name {
				continue
			}
			conn.DelTable(t)
			if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("delete nftables table: %w", err)
			}
			done = "deleted nftables table " + c.Name
		}
		return nil
	})
	return done, err
}
