package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// DefaultName is the cluster meant when no name is given.
const DefaultName = "default"

// maxPlaces bounds how many clusters have an address range of their own on one machine.
const maxPlaces = 40

// Roots are the folders that all clusters of a machine share; tests move them.
type Roots struct {
	Data   string // /var/lib/proa
	Run    string // /run/proa
	Config string // /etc/proa
}

// DefaultRoots are the folders of an ordinary machine.
var DefaultRoots = Roots{Data: "/var/lib/proa", Run: "/run/proa", Config: "/etc/proa"}

// Place is what keeps one cluster of a machine apart from the others: its name, its
// number, and everything derived from the two.
type Place struct {
	Name  string `json:"name"`
	Index int    `json:"index"` // 0 to maxPlaces-1
	Nodes int    `json:"nodes"` // on this machine, as last asked for
	// Servers of Nodes, as last asked for; 0 is 1. The further ones live below this one's folders.
	Servers int `json:"servers,omitempty"`
	// Number of a further server (2 and up); 0 of the machine's first one.
	Number int   `json:"number,omitempty"`
	Roots  Roots `json:"-"`
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$`)

// CheckName says why a cluster cannot be called so.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("name %q: a cluster's name has 1 to 24 of a-z, 0-9 and '-', and begins and ends with a letter or digit", name)
	}
	return nil
}

// FindPlace gives the place of the named cluster, fs.ErrNotExist when it never was on
// this machine.
func FindPlace(roots Roots, name string) (*Place, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(roots.Data, name, "cluster.json"))
	if err != nil {
		return nil, fmt.Errorf("cluster %q: %w", name, err)
	}
	p := &Place{Roots: roots}
	if err := json.Unmarshal(raw, p); err != nil || p.Name != name || p.Index < 0 || p.Index >= maxPlaces {
		return nil, fmt.Errorf("cluster %q: %s is damaged: remove it, or the cluster with 'proa uninstall --name %s'",
			name, filepath.Join(roots.Data, name, "cluster.json"), name)
	}
	return p, nil
}

// ClaimPlace gives the place of the named cluster and makes it when there is none: the
// first number that no other cluster holds and whose address ranges do not overlap
// those in use, as told by busy.
func ClaimPlace(roots Roots, name string, busy func(netip.Prefix) bool) (*Place, error) {
	p, err := FindPlace(roots, name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	taken := map[int]bool{}
	for _, other := range Places(roots) {
		taken[other.Index] = true
	}
	for i := range maxPlaces {
		p := &Place{Name: name, Index: i, Roots: roots}
		if taken[i] || busy(p.PodCIDR()) || busy(p.ServiceCIDR()) || busy(p.NodeCIDR()) {
			continue
		}
		if err := os.MkdirAll(p.Dir(), 0o711); err != nil {
			return nil, err
		}
		return p, p.save()
	}
	return nil, fmt.Errorf("cluster %q: no free address range left on this machine (%d tried); give --cluster-cidr and --service-cidr, or remove a cluster", name, maxPlaces)
}

func (p *Place) save() error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(p.Dir(), "cluster.json"), append(raw, '\n'), 0o600)
}

// Places lists the clusters that this machine has data of.
func Places(roots Roots) []*Place {
	entries, _ := os.ReadDir(roots.Data)
	var all []*Place
	for _, e := range entries {
		if p, err := FindPlace(roots, e.Name()); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// further is the place of the n-th server (2 and up) on the same machine. What ends with a boot is
// beside the first one's: names of sockets must be short.
func (p *Place) further(n int) *Place {
	dir := filepath.Join(p.Dir(), "servers", strconv.Itoa(n))
	return &Place{Name: p.Name, Index: p.Index, Number: n, Roots: Roots{Data: dir, Run: p.Roots.Run, Config: filepath.Join(dir, "etc")}}
}

// furthers are the places of the further servers that this machine has data of.
func (p *Place) furthers() []*Place {
	var all []*Place
	for n := 2; n <= MaxLocalNodes; n++ {
		if f := p.further(n); fileExists(filepath.Join(f.Dir(), "cluster.json")) {
			all = append(all, f)
		}
	}
	return all
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Dir is the data folder.
func (p *Place) Dir() string { return filepath.Join(p.Roots.Data, p.Name) }

// RunDir holds sockets and what ends with a boot.
func (p *Place) RunDir() string { return filepath.Join(p.Roots.Run, p.Name) }

// PKI is the folder of certificates and keys.
func (p *Place) PKI() string { return filepath.Join(p.Dir(), "pki") }

// Journal is the record of changes made to the machine.
func (p *Place) Journal() string { return filepath.Join(p.Dir(), "host.journal") }

// Log is the log file of a process in the background: "server" or a node's name.
func (p *Place) Log(process string) string { return filepath.Join(p.Dir(), "log", process+".log") }

// Progress is where a starting process notes its steps for "proa up".
func (p *Place) Progress(process string) string {
	return filepath.Join(p.RunDir(), process+".progress")
}

// Registries is the folder with a folder for each registry that is reached in another way
// than by its name; shared by the clusters of the machine.
func (p *Place) Registries() string { return filepath.Join(p.Roots.Config, "certs.d") }

// Kubeconfig is the administrator's, readable by root alone.
func (p *Place) Kubeconfig() string {
	if p.Name == DefaultName {
		return filepath.Join(p.Roots.Config, "admin.kubeconfig")
	}
	return filepath.Join(p.Roots.Config, p.Name+".kubeconfig")
}

// NodeDir holds what one node keeps (kubelet, runtime).
func (p *Place) NodeDir(node string) string { return filepath.Join(p.Dir(), "nodes", node) }

// Cgroup is the cluster's root in every hierarchy.
func (p *Place) Cgroup() string { return "/proa/" + p.Name }

// Table is the name of the nftables table.
func (p *Place) Table() string { return "proa-" + p.Name }

// The address ranges: pods 10.(100+i).0.0/16, services 10.(140+i).0.0/16, nodes on this
// machine 10.(180+i).0.0/24.

// PodCIDR is the range of pod addresses.
func (p *Place) PodCIDR() netip.Prefix { return p.prefix(100, 16) }

// ServiceCIDR is the range of cluster addresses.
func (p *Place) ServiceCIDR() netip.Prefix { return p.prefix(140, 16) }

// NodeCIDR is the range of the nodes that share this machine.
func (p *Place) NodeCIDR() netip.Prefix { return p.prefix(180, 24) }

func (p *Place) prefix(base, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(base + p.Index), 0, 0}), bits)
}

// APIPort is the default port of the API server.
func (p *Place) APIPort() int { return 6443 + p.Index }

// PeerPort is the default port at which etcd's members of several servers meet.
func (p *Place) PeerPort() int { return 2380 + p.Index }

// KubeletPort is the default port of the kubelet in the machine's own network namespace.
func (p *Place) KubeletPort() int { return 10250 + 100*p.Index }

// LinkName makes a link's name of at most 15 bytes (IFNAMSIZ) from the cluster's number:
// "proa0-pods".
func (p *Place) LinkName(purpose string) string {
	return fmt.Sprintf("proa%d-%s", p.Index, strings.TrimSpace(purpose))
}

// WriteFile replaces a file as a whole: never half written, synced to disk.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // does nothing after the rename
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp.Name(), path)
}
