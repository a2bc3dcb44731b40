package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/network/policy"
)

// ErrNoAddress says that the node's pod range is used up.
var ErrNoAddress = errors.New("no free pod address in the node's range")

// attachment names one interface of one container.
type attachment struct{ container, link string }

// addresses hands out the node's pod addresses. Each one in use is a file named after it
// that holds its attachment, so a restarted agent knows what runs. Addresses go round in
// a circle: one just freed is the last to be given again.
type addresses struct {
	dir string

	mu    sync.Mutex
	cidr  netip.Prefix
	next  netip.Addr
	used  map[netip.Addr]attachment
	owner map[attachment]netip.Addr
	ports map[attachment][]hostPort
	pods  map[attachment]policy.Pod // of those that policies may select
}

// hostPort is a port of the node that leads to a container.
type hostPort struct {
	HostIP        string
	Protocol      string
	HostPort      uint16
	ContainerPort uint16
}

// openAddresses reads the folder. Files that are no addresses are left alone.
func openAddresses(dir string, cidr netip.Prefix) (*addresses, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make address folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read address folder: %w", err)
	}
	a := &addresses{dir: dir, cidr: cidr, next: gatewayOf(cidr), used: map[netip.Addr]attachment{}, owner: map[attachment]netip.Addr{}, ports: map[attachment][]hostPort{}, pods: map[attachment]policy.Pod{}}
	for _, e := range entries {
		ip, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read address: %w", err)
		}
		first, rest, _ := strings.Cut(string(b), "\n")
		words := append(strings.Fields(first), "", "")
		att := attachment{words[0], words[1]}
		a.used[ip], a.owner[att] = att, ip
		if len(words) >= 7 {
			a.pods[att] = policy.Pod{Namespace: words[2], Name: words[3], UID: types.UID(words[4])}
		}
		if rest != "" {
			var ports []hostPort
			if err := json.Unmarshal([]byte(rest), &ports); err != nil {
				return nil, fmt.Errorf("read host ports of %s: %w", ip, err)
			}
			a.ports[att] = ports
		}
	}
	return a, nil
}

// gatewayOf is the first host address of a range: the bridge's.
func gatewayOf(cidr netip.Prefix) netip.Addr { return cidr.Masked().Addr().Next() }

// take gives the attachment's address: the one it has, or a free one. ErrNoAddress.
func (a *addresses) take(att attachment, pod policy.Pod, ports []hostPort) (netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ip, has := a.owner[att]; has {
		return ip, nil
	}
	ip, err := a.freeLocked()
	if err != nil {
		return netip.Addr{}, err
	}
	first := att.container + " " + att.link
	if pod.UID != "" {
		first += " " + pod.Namespace + " " + pod.Name + " " + string(pod.UID)
		a.pods[att] = pod
	}
	content := []byte(first + "\n")
	if len(ports) > 0 {
		b, err := json.Marshal(ports)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("note host ports: %w", err)
		}
		content, a.ports[att] = append(content, b...), ports
	}
	if err := replaceFile(filepath.Join(a.dir, ip.String()), content, 0o600); err != nil {
		return netip.Addr{}, fmt.Errorf("note address: %w", err)
	}
	a.used[ip], a.owner[att], a.next = att, ip, ip
	return ip, nil
}

func (a *addresses) freeLocked() (netip.Addr, error) {
	first := gatewayOf(a.cidr).Next()
	ip := a.next
	for turned := false; ; {
		ip = ip.Next()
		if !a.cidr.Contains(ip) || !a.cidr.Contains(ip.Next()) { // the last one is broadcast
			if turned {
				return netip.Addr{}, ErrNoAddress
			}
			turned, ip = true, first
			if !a.cidr.Contains(ip.Next()) {
				return netip.Addr{}, ErrNoAddress
			}
		}
		if _, taken := a.used[ip]; !taken {
			return ip, nil
		}
	}
}

// find gives the address of an attachment.
func (a *addresses) find(att attachment) (netip.Addr, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ip, ok := a.owner[att]
	return ip, ok
}

// release frees the address of an attachment; one that has none is fine.
func (a *addresses) release(att attachment) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	ip, has := a.owner[att]
	if !has {
		return nil
	}
	if err := os.Remove(filepath.Join(a.dir, ip.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("free address: %w", err)
	}
	delete(a.owner, att)
	delete(a.used, ip)
	delete(a.ports, att)
	delete(a.pods, att)
	return nil
}

// protected lists the addresses of the pods that policies may select.
func (a *addresses) protected() map[netip.Addr]policy.Pod {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[netip.Addr]policy.Pod, len(a.pods))
	for att, pod := range a.pods {
		out[a.owner[att]] = pod
	}
	return out
}

// all lists the attachments.
func (a *addresses) all() []attachment {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]attachment, 0, len(a.owner))
	for att := range a.owner {
		out = append(out, att)
	}
	return out
}

// mappings lists the host ports of all attachments.
func (a *addresses) mappings() map[netip.Addr][]hostPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[netip.Addr][]hostPort{}
	for att, ports := range a.ports {
		out[a.owner[att]] = ports
	}
	return out
}

// replaceFile writes a file so that a crash leaves the old one or the new one.
func replaceFile(path string, content []byte, mode os.FileMode) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(tmp, content, mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
