package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Severity says whether proa can start all the same.
type Severity string

// The severities: a Fatal finding keeps a node from working, a Warning makes it worse.
const (
	Fatal   Severity = "fatal"
	Warning Severity = "warning"
)

// Finding is one thing about the machine that stands in the way.
type Finding struct {
	Severity Severity
	Problem  string // one sentence
	Fix      string // the command that mends it
}

// Needs says what is to run here; the zero value of a field leaves its check out.
type Needs struct {
	DataDir  string   // folder for data; its file system needs MinFree
	MinFree  uint64   // bytes; default 2 GiB
	Ports    []string // addresses that must be free, "0.0.0.0:6443"; tcp unless "udp:" is before
	Node     bool     // pods will run here, in containers that proa starts
	Embedded bool     // with the embedded runtime: runc is needed
}

const (
	defaultMinFree = 2 << 30
	minWatches     = 65536
	minInstances   = 512
)

// Check looks at the machine, changes nothing, and returns what it found; nothing is good.
func Check(needs Needs) []Finding {
	var found []Finding
	add := func(f *Finding) {
		if f != nil {
			found = append(found, *f)
		}
	}
	add(checkRoot())
	add(checkDisk(needs.DataDir, needs.MinFree))
	for _, p := range needs.Ports {
		add(checkPort(p))
	}
	if needs.Node {
		add(checkNftables())
		add(checkOverlay())
		add(checkCgroups())
		add(checkForwarding())
		add(checkInotify("max_user_watches", minWatches))
		add(checkInotify("max_user_instances", minInstances))
		add(checkBridge())
	}
	if needs.Embedded {
		add(checkRunc())
	}
	return found
}

func checkRoot() *Finding {
	if os.Geteuid() == 0 {
		return nil
	}
	return &Finding{Fatal, "proa needs root: it makes network interfaces, mounts and cgroups.", "sudo proa ..."}
}

func checkDisk(dir string, least uint64) *Finding {
	if dir == "" {
		return nil
	}
	if least == 0 {
		least = defaultMinFree
	}
	for !isDir(dir) && dir != "/" {
		dir = filepath.Dir(dir)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return &Finding{Warning, fmt.Sprintf("The free space of %s cannot be read: %v.", dir, err), "df -h " + dir}
	}
	free := s.Bavail * uint64(s.Bsize)
	if free >= least {
		return nil
	}
	return &Finding{Fatal, fmt.Sprintf("Only %d MiB are free in %s; %d MiB are needed.", free>>20, dir, least>>20), "du -xh --max-depth=2 " + dir + " | sort -h | tail"}
}

func checkPort(address string) *Finding {
	network, address := "tcp", address
	if rest, udp := strings.CutPrefix(address, "udp:"); udp {
		network, address = "udp", rest
	}
	var err error
	if network == "udp" {
		var conn net.PacketConn
		if conn, err = net.ListenPacket(network, address); err == nil {
			err = conn.Close()
		}
	} else {
		var l net.Listener
		if l, err = net.Listen(network, address); err == nil {
			err = l.Close()
		}
	}
	if err == nil {
		return nil
	}
	_, port, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		return &Finding{Fatal, fmt.Sprintf("%q is not an address: %v.", address, splitErr), "use host:port"}
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		return &Finding{Fatal, fmt.Sprintf("Port %s (%s) cannot be opened: %v.", port, network, err), "ip addr"}
	}
	return &Finding{Fatal, fmt.Sprintf("Port %s (%s) is in use by another program.", port, network), fmt.Sprintf("ss -lnp 'sport = :%s'", port)}
}

func checkRunc() *Finding {
	for _, name := range []string{"runc", "/usr/sbin/runc", "/usr/local/sbin/runc", "/usr/local/bin/runc"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.Command(path, "--version").Output()
		if err != nil {
			return &Finding{Fatal, fmt.Sprintf("%s does not run: %v.", path, err), "apt-get install --reinstall runc"}
		}
		return judgeRunc(string(out))
	}
	return &Finding{Fatal, "runc is not installed; it starts the containers.", "apt-get install runc"}
}

// judgeRunc reads "runc version 1.1.5+ds1". Before 1.1.5 pods do not start reliably; before
// 1.1.12 a container may reach the machine's files through a leaked folder (CVE-2024-21626),
// which distributions mend without changing the first three numbers.
func judgeRunc(text string) *Finding {
	fields := strings.Fields(text)
	if len(fields) < 3 {
		return &Finding{Warning, "runc does not tell its version.", "runc --version"}
	}
	version := fields[2]
	plain, vendor, _ := strings.Cut(strings.SplitN(version, "-", 2)[0], "+")
	switch {
	case older(plain, 1, 1, 5):
		return &Finding{Fatal, fmt.Sprintf("runc %s is too old; 1.1.5 is the oldest that works.", version), "apt-get install --only-upgrade runc"}
	case older(plain, 1, 1, 12) && vendor == "":
		return &Finding{Warning, fmt.Sprintf("runc %s lets containers escape (CVE-2024-21626).", version), "apt-get install --only-upgrade runc"}
	}
	return nil
}

func older(version string, least ...int) bool {
	parts := strings.Split(version, ".")
	for i, want := range least {
		if i >= len(parts) {
			return true
		}
		have, err := strconv.Atoi(parts[i])
		if err != nil || have > want {
			return false
		}
		if have < want {
			return true
		}
	}
	return false
}

func checkNftables() *Finding {
	conn, err := nftables.New()
	if err == nil {
		_, err = conn.ListTables()
	}
	if err == nil {
		return nil
	}
	return &Finding{Fatal, fmt.Sprintf("The kernel does not answer about nftables: %v.", err), "modprobe nf_tables"}
}

func checkOverlay() *Finding {
	data, err := os.ReadFile("/proc/filesystems")
	if err == nil && strings.Contains(string(data), "\toverlay\n") {
		return nil
	}
	return &Finding{Fatal, "The kernel has no overlayfs, which holds the containers' files.", "modprobe overlay"}
}

func checkCgroups() *Finding {
	var s unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &s); err != nil {
		return &Finding{Fatal, fmt.Sprintf("cgroups cannot be read: %v.", err), "mount -t cgroup2 none /sys/fs/cgroup"}
	}
	if s.Type == unix.CGROUP2_SUPER_MAGIC {
		data, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		for _, want := range []string{"cpu", "memory", "pids"} {
			if err != nil || !strings.Contains(" "+strings.TrimSpace(string(data))+" ", " "+want+" ") {
				return &Finding{Fatal, fmt.Sprintf("The cgroup controller %s is not available here.", want), "cat /sys/fs/cgroup/cgroup.controllers"}
			}
		}
		return nil
	}
	for _, want := range []string{"cpu", "memory", "pids", "freezer"} {
		if !isDir(filepath.Join("/sys/fs/cgroup", want)) {
			return &Finding{Fatal, fmt.Sprintf("The cgroup controller %s is not mounted.", want), "mount | grep cgroup"}
		}
	}
	return &Finding{Warning, "This machine uses cgroups version 1, which Kubernetes supports in maintenance only.", "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line"}
}

func sysctl(key string) (int, error) {
	data, err := os.ReadFile(filepath.Join("/proc/sys", key))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

func checkForwarding() *Finding {
	f, err := os.OpenFile("/proc/sys/net/ipv4/ip_forward", os.O_WRONLY, 0)
	if err == nil {
		err = f.Close()
	}
	on, readErr := sysctl("net/ipv4/ip_forward")
	if err == nil || (readErr == nil && on == 1) {
		return nil // it is on, or we can switch it on
	}
	return &Finding{Fatal, "This machine does not forward packets and does not let proa switch it on.", "sysctl -w net.ipv4.ip_forward=1"}
}

func checkInotify(key string, least int) *Finding {
	n, err := sysctl("fs/inotify/" + key)
	if err != nil || n >= least {
		return nil
	}
	return &Finding{Warning, fmt.Sprintf("fs.inotify.%s is %d; pods that watch files may run out of it.", key, n), fmt.Sprintf("sysctl -w fs.inotify.%s=%d", key, least)}
}

func checkBridge() *Finding {
	n, err := sysctl("net/bridge/bridge-nf-call-iptables")
	if errors.Is(err, fs.ErrNotExist) || (err == nil && n == 0) {
		return nil
	}
	return &Finding{Warning, "Packets on bridges pass the machine's firewall (br_netfilter); its rules may drop those of pods.", "sysctl -w net.bridge.bridge-nf-call-iptables=0"}
}
