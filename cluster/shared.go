package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sharedSettings are those that must be the same at all servers of a cluster.
type sharedSettings struct {
	Version     string   `json:"version"` // of the program
	ClusterCIDR string   `json:"clusterCIDR"`
	ServiceCIDR string   `json:"serviceCIDR"`
	NodePorts   string   `json:"nodePorts"`
	Domain      string   `json:"domain"`
	HTTPSPort   int      `json:"httpsPort"`
	EtcdServers []string `json:"etcdServers,omitempty"`
	NoServiceLB bool     `json:"noServiceLB,omitempty"`
	Encryption  string   `json:"encryption,omitempty"` // SHA-256 of the user's file, empty: the cluster made the keys itself
}

// joinedCluster is what a further server keeps of its joining: it comes back with it, whatever
// flags it is started with.
type joinedCluster struct {
	Settings sharedSettings    `json:"settings"`
	Members  map[string]string `json:"members,omitempty"` // name to URL, of etcd, at the time of joining
}

// joinedFile is where a server that joined keeps joinedCluster.
func (p *Place) joinedFile() string { return filepath.Join(p.Dir(), "joined.json") }

// etcdDir is where the embedded etcd keeps its data.
func (p *Place) etcdDir() string { return filepath.Join(p.Dir(), "etcd") }

// hasData says whether this machine holds objects of the cluster.
func (p *Place) hasData() bool {
	_, err := os.Stat(filepath.Join(p.etcdDir(), "member"))
	return err == nil
}

// readJoined gives nil for a server that never joined another.
func (p *Place) readJoined() (*joinedCluster, error) {
	raw, err := os.ReadFile(p.joinedFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what the cluster is: %w", err)
	}
	j := &joinedCluster{}
	if err := json.Unmarshal(raw, j); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", p.joinedFile(), err)
	}
	return j, nil
}

func (p *Place) writeJoined(j *joinedCluster) error {
	raw, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return WriteFile(p.joinedFile(), append(raw, '\n'), 0o600)
}

// shares are the settings of this server as others get them; complete has been called.
func (c *ServerConfig) shares() (sharedSettings, error) {
	s := sharedSettings{
		Version: ProaVersion, ClusterCIDR: c.ClusterCIDR.String(), ServiceCIDR: c.ServiceCIDR.String(),
		NodePorts: c.NodePorts, Domain: c.Domain, HTTPSPort: c.HTTPSPort, EtcdServers: c.EtcdServers,
		NoServiceLB: !c.serviceLB(),
	}
	var err error
	s.Encryption, err = fingerprint(c.EncryptionConfig)
	return s, err
}

func fingerprint(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--encryption-provider-config: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// take fills in what was not given with the cluster's settings; what was given differently is an
// error that names the flag.
func (c *ServerConfig) take(s sharedSettings) error {
	port := ""
	if c.HTTPSPort != 0 {
		port = strconv.Itoa(c.HTTPSPort)
	}
	for _, one := range []struct{ flag, given, cluster string }{
		{"cluster-cidr", prefixText(c.ClusterCIDR), s.ClusterCIDR},
		{"service-cidr", prefixText(c.ServiceCIDR), s.ServiceCIDR},
		{"service-node-port-range", c.NodePorts, s.NodePorts},
		{"cluster-domain", c.Domain, s.Domain},
		{"https-port", port, strconv.Itoa(s.HTTPSPort)},
	} {
		if one.given != "" && one.given != one.cluster {
			return fmt.Errorf("--%s %s: the cluster has %s, and all its servers need the same; leave the flag out", one.flag, one.given, one.cluster)
		}
	}
	if len(c.EtcdServers) > 0 && !slices.Equal(c.EtcdServers, s.EtcdServers) {
		has := "its etcd inside"
		if len(s.EtcdServers) > 0 {
			has = strings.Join(s.EtcdServers, ",")
		}
		return fmt.Errorf("--etcd-servers %s: the cluster has %s, and all its servers need the same; leave the flag out", strings.Join(c.EtcdServers, ","), has)
	}
	own, err := fingerprint(c.EncryptionConfig)
	switch {
	case err != nil:
		return err
	case own != "" && s.Encryption == "":
		return fmt.Errorf("--encryption-provider-config %s: the cluster keeps its keys itself; leave the flag out", c.EncryptionConfig)
	case own == "" && s.Encryption != "":
		return errors.New("--encryption-provider-config is needed: the cluster's servers have such a file; give this one a copy of it")
	}
	if c.ClusterCIDR, err = netip.ParsePrefix(s.ClusterCIDR); err != nil {
		return fmt.Errorf("the cluster's pod range: %w", err)
	}
	if c.ServiceCIDR, err = netip.ParsePrefix(s.ServiceCIDR); err != nil {
		return fmt.Errorf("the cluster's service range: %w", err)
	}
	c.NodePorts, c.Domain, c.HTTPSPort, c.EtcdServers = s.NodePorts, s.Domain, s.HTTPSPort, s.EtcdServers
	c.NoServiceLB = s.NoServiceLB
	return nil
}

func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// sameMinor says why servers of two versions cannot be in one cluster.
func sameMinor(own, cluster string) error {
	if minor(own) != minor(cluster) {
		return fmt.Errorf("this is proa %s, the cluster's servers are %s: servers that join need the same minor version", own, cluster)
	}
	return nil
}

// minor is "0.1" of "0.1.0-dev".
func minor(version string) string {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}
