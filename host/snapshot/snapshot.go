// Package snapshot takes a picture of what programs may change on a machine, as sorted
// lines of text, and compares two pictures: the proof that down and uninstall put the
// machine back.
//
// The one idea: what cannot be listed cannot be promised to be undone; so the list is one
// place, read by the tests and by "proa host diff".
package snapshot

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// Snapshot is a picture: sorted lines "<area> <thing>".
type Snapshot []string

// Take pictures the machine. A part that cannot be read is a line of its own, with the error.
func Take() Snapshot {
	var s Snapshot
	for _, part := range []struct {
		name string
		list func() ([]string, error)
	}{
		{"link", links}, {"route", routes}, {"rule", rules}, {"nftables", tables},
		{"mount", mounts}, {"cgroup", cgroups}, {"sysctl", sysctls}, {"netns", namespaces},
		{"listen", sockets}, {"process", processes}, {"file", files},
	} {
		lines, err := part.list()
		if err != nil {
			lines = append(lines, "unreadable: "+err.Error())
		}
		for _, line := range lines {
			s = append(s, part.name+" "+line)
		}
	}
	slices.Sort(s)
	return s
}

// String is the picture as text, one line each.
func (s Snapshot) String() string { return strings.Join(s, "\n") + "\n" }

// Diff returns what is in after and not in before with "+ ", the reverse with "- ", sorted
// by the line. Lines that begin with one of ignore are left out.
func Diff(before, after Snapshot, ignore ...string) []string {
	count := map[string]int{}
	for _, line := range before {
		count[line]--
	}
	for _, line := range after {
		count[line]++
	}
	var diff []string
	for line, n := range count {
		if n == 0 || slices.ContainsFunc(ignore, func(p string) bool { return strings.HasPrefix(line, p) }) {
			continue
		}
		sign := "+ "
		if n < 0 {
			sign = "- "
		}
		diff = append(diff, sign+line)
	}
	slices.SortFunc(diff, func(a, b string) int { return strings.Compare(a[2:]+a[:1], b[2:]+b[:1]) })
	return diff
}

func links() ([]string, error) {
	list, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, l := range list {
		a := l.Attrs()
		lines = append(lines, fmt.Sprintf("%s %s mtu %d %s", a.Name, l.Type(), a.MTU, a.Flags))
		addresses, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return lines, err
		}
		for _, addr := range addresses {
			lines = append(lines, fmt.Sprintf("%s address %s", a.Name, addr.IPNet))
		}
	}
	return lines, nil
}

func routes() ([]string, error) {
	list, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	all, err := netlink.LinkList()
	for _, l := range all {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var lines []string
	for _, r := range list {
		lines = append(lines, fmt.Sprintf("%v via %v dev %s table %d scope %s", r.Dst, r.Gw, names[r.LinkIndex], r.Table, r.Scope))
	}
	return lines, err
}

func rules() ([]string, error) {
	list, err := netlink.RuleList(netlink.FAMILY_ALL)
	var lines []string
	for _, r := range list {
		lines = append(lines, r.String())
	}
	return lines, err
}

var families = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
	nftables.TableFamilyARP: "arp", nftables.TableFamilyBridge: "bridge", nftables.TableFamilyNetdev: "netdev",
}

func tables() ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	list, err := conn.ListTables()
	var lines []string
	for _, t := range list {
		lines = append(lines, families[t.Family]+" "+t.Name)
	}
	return lines, err
}

func mounts() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	var lines []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) > 6 {
			lines = append(lines, fields[4]+" "+strings.Join(fields[slices.Index(fields, "-")+1:], " "))
		}
	}
	return lines, err
}

func cgroups() ([]string, error) {
	return walk("/sys/fs/cgroup", func(d fs.DirEntry) bool { return d.IsDir() })
}

func walk(root string, keep func(fs.DirEntry) bool) ([]string, error) {
	var lines []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && keep(d) {
			lines = append(lines, path)
		}
		return nil // what vanishes while we look was not there
	})
	return lines, err
}

func sysctls() ([]string, error) {
	paths, err := walk("/proc/sys/net", func(d fs.DirEntry) bool { return d.Type().IsRegular() })
	var lines []string
	for _, path := range paths {
		if strings.Contains(path, "/stat") || strings.HasSuffix(path, "_count") || strings.Contains(path, "/route/flush") {
			continue // figures, not settings
		}
		data, err := os.ReadFile(path)
		if err == nil {
			lines = append(lines, strings.TrimPrefix(path, "/proc/sys/")+" = "+strings.Join(strings.Fields(string(data)), " "))
		}
	}
	return lines, err
}

func namespaces() ([]string, error) {
	var lines []string
	for _, dir := range []string{"/run/netns", "/var/run/netns"} {
		found, err := walk(dir, func(d fs.DirEntry) bool { return !d.IsDir() })
		if err != nil {
			return lines, err
		}
		lines = append(lines, found...)
	}
	return lines, nil
}

// stateListen is the state of a listening TCP socket in /proc/net/tcp; stateUDP of a bound UDP one.
const stateListen, stateUDP = "0A", "07"

func sockets() ([]string, error) {
	var lines []string
	for _, name := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open("/proc/net/" + name)
		if err != nil {
			continue // no IPv6 here
		}
		scan := bufio.NewScanner(f)
		for scan.Scan() {
			fields := strings.Fields(scan.Text())
			if len(fields) > 3 && (fields[3] == stateListen || fields[3] == stateUDP) {
				lines = append(lines, name+" "+address(fields[1]))
			}
		}
		if err := f.Close(); err != nil {
			return lines, err
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines), nil
}

// address reads the kernel's "0100007F:1F90": words in the machine's order, then the port.
func address(text string) string {
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil || len(raw)%4 != 0 {
		return text
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok {
		return text
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)).String()
}

// processes lists the executables that run, each once: their number changes all the time.
func processes() ([]string, error) {
	entries, err := os.ReadDir("/proc")
	var lines []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		if exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe")); err == nil {
			lines = append(lines, exe)
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines), err
}

// files lists the first two levels of the folders where services keep their things, and
// the whole of those that other programs read.
func files() ([]string, error) {
	var lines []string
	for _, root := range []string{"/etc", "/run", "/var/lib", "/opt", "/usr/local", "/var/log", "/dev/shm"} {
		for _, pattern := range []string{"*", "*/*"} {
			found, err := filepath.Glob(filepath.Join(root, pattern))
			if err != nil {
				return lines, err
			}
			lines = append(lines, found...)
		}
	}
	return lines, nil
}
