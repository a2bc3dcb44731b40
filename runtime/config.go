package runtime

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/proa-dev/proa/host"
)

// Config says where the runtime lives. All paths are absolute; folders are made when missing.
type Config struct {
	Name         string        // of the cluster and node, for logs
	Root         string        // images, snapshots, metadata: kept over a reboot
	State        string        // running pods: below /run. Shim sockets lie in State/s: at most 36 characters
	Socket       string        // where the runtime listens (CRI and containerd's own API); default State/containerd.sock
	CgroupRoot   string        // "/proa/<name>/<node>": the runtime and its shims live in "<CgroupRoot>/runtime". Empty: where proa is
	CNIConfDir   string        // folder with one CNI configuration
	CNIBinDir    string        // folder with CNI programs; default the helpers' folder
	SandboxImage string        // default images.PauseReference
	HostsDir     string        // registry mirrors and certificates, one folder per registry; default Root/certs.d
	HelpersDir   string        // where the helper programs are extracted
	Self         []string      // command that runs daemon.Main; default: this executable with "containerd"
	Runc         string        // default: runc found in PATH or the sbin folders
	Host         host.Recorder // changes to the machine are noted here first; required
	Log          *slog.Logger  // required
}

// DefaultSandboxImage is the image of every pod's sandbox; package images makes it.
const DefaultSandboxImage = "registry.k8s.io/pause:3.10.2"

// maxState keeps State/s within the 38 characters that the shim's socket names leave.
const maxState = 36

func (c *Config) fill() error {
	if c.Log == nil || c.Host == nil {
		return errors.New("runtime: Log and Host are required")
	}
	for name, path := range map[string]string{"Root": c.Root, "State": c.State, "HelpersDir": c.HelpersDir, "CNIConfDir": c.CNIConfDir} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("runtime: %s must be an absolute path, is %q", name, path)
		}
	}
	if len(c.State) > maxState {
		return fmt.Errorf("runtime: State %q is longer than %d characters: socket names below it would not fit; choose a shorter cluster or node name", c.State, maxState)
	}
	c.Socket = or(c.Socket, filepath.Join(c.State, "containerd.sock"))
	c.SandboxImage = or(c.SandboxImage, DefaultSandboxImage)
	c.HostsDir = or(c.HostsDir, filepath.Join(c.Root, "certs.d"))
	for _, s := range []string{c.Root, c.State, c.Socket, c.CgroupRoot, c.CNIConfDir, c.CNIBinDir, c.SandboxImage, c.HostsDir, c.HelpersDir} {
		if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
			return fmt.Errorf("runtime: %q contains characters that a path may not have", s)
		}
	}
	if len(c.Self) == 0 {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find own executable: %w", err)
		}
		c.Self = []string{self, "containerd"}
	}
	var err error
	if c.Runc == "" {
		c.Runc, err = findRunc()
	}
	return err
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// findRunc looks in PATH and in the folders that a root shell may not have in it.
func findRunc() (string, error) {
	for _, name := range []string{"runc", "/usr/sbin/runc", "/usr/local/sbin/runc", "/usr/bin/runc", "/usr/local/bin/runc"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", errors.New("runc is not installed: install it with \"apt-get install runc\" (or your distribution's package)")
}

// cgroup is where the runtime and its shims run; empty when they stay where proa is.
func (c *Config) cgroup() string {
	if c.CgroupRoot == "" {
		return ""
	}
	return filepath.Join(c.CgroupRoot, "runtime")
}

// configFile renders containerd's configuration (its version 4). identity, of the program
// that will run it, is a comment in it: another program is another configuration.
func (c *Config) configFile(helpersDir, identity string, restrictOOM bool) string {
	q := strconv.Quote
	return fmt.Sprintf(template,
		q(identity), q(c.Root), q(c.State), q(filepath.Join(c.Root, "tmp")),
		q(filepath.Join(filepath.Dir(c.Root), "containerd.d", "*.toml")), q(c.cgroup()),
		q(c.Socket), q(c.Socket+".ttrpc"), q(filepath.Join(c.State, "s")),
		q(c.SandboxImage), q(c.HostsDir), q(c.HostsDir),
		restrictOOM, q(or(c.CNIBinDir, helpersDir)), q(c.CNIConfDir),
		q(filepath.Join(helpersDir, "containerd-shim-runc-v2")), q(c.Runc), q(filepath.Join(c.State, "runc")),
	)
}

// The settings that differ from containerd's own, and why:
// the loopback link is brought up without a CNI program; network namespaces are mounted
// below our own folder; periodic statistics are off, the kubelet reads cgroups when asked;
// garbage is collected a little after deletions only. The shim's environment is for the runc
// it forks, which is too short-lived to collect memory; the shim sets its own limits.
const template = `# written by proa at each start; put additions into containerd.d/*.toml
# %s
version = 4
root = %s
state = %s
temp = %s
imports = [%s]
oom_score = 0

[debug]
  level = "warn"

[cgroup]
  path = %s

[plugins."io.containerd.server.v1.grpc"]
  address = %s
  max_recv_message_size = 16777216
  max_send_message_size = 16777216

[plugins."io.containerd.server.v1.ttrpc"]
  address = %s

[plugins."io.containerd.shim.v1.manager"]
  socket_dir = %s
  env = ["GOGC=off", "GOMEMLIMIT=64MiB"]

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  discard_unpacked_layers = true
  use_local_image_pull = true
  stats_collect_period = 3600
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = %s
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = %s

[plugins."io.containerd.transfer.v1.local"]
  config_path = %s

[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = %t
  netns_mounts_under_state_dir = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  enable_criu = false
  stats_collect_period = "1h"
  stats_retention_period = "1h"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [%s]
    conf_dir = %s
    use_internal_loopback = true
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      runtime_path = %s
      disable_pause_image_pull = true
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = %s
        Root = %s
        SystemdCgroup = false
`

// mayLowerOOMScore says whether this process may lower an oom_score_adj, as pods of the
// Guaranteed class need; inside many nested containers it may not.
func mayLowerOOMScore() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
