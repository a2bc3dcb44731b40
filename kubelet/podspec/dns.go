package podspec

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Limits of a resolver configuration, as upstream's.
const (
	maxServers     = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

// DNS is a pod's resolver configuration by its dnsPolicy and dnsConfig.
func DNS(pod *corev1.Pod, n *Node) (*runtimeapi.DNSConfig, error) {
	host, err := hostDNS(n.ResolvConf)
	if err != nil {
		return nil, err
	}
	policy := pod.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork {
		policy = corev1.DNSDefault
	}
	var out *runtimeapi.DNSConfig
	switch policy {
	case corev1.DNSNone:
		out = &runtimeapi.DNSConfig{}
	case corev1.DNSDefault:
		out = host
	default:
		out = clusterDNS(pod, n, host)
	}
	if pod.Spec.DNSConfig != nil {
		addDNS(out, pod.Spec.DNSConfig)
	}
	trimDNS(out)
	return out, nil
}

func clusterDNS(pod *corev1.Pod, n *Node, host *runtimeapi.DNSConfig) *runtimeapi.DNSConfig {
	if len(n.ClusterDNS) == 0 {
		return host
	}
	out := &runtimeapi.DNSConfig{Servers: append([]string(nil), n.ClusterDNS...), Options: []string{"ndots:5"}}
	if n.ClusterDomain != "" {
		out.Searches = []string{pod.Namespace + ".svc." + n.ClusterDomain, "svc." + n.ClusterDomain, n.ClusterDomain}
	}
	out.Searches = unique(append(out.Searches, host.Searches...))
	return out
}

func addDNS(out *runtimeapi.DNSConfig, more *corev1.PodDNSConfig) {
	out.Servers = unique(append(out.Servers, more.Nameservers...))
	out.Searches = unique(append(out.Searches, more.Searches...))
	for _, o := range more.Options {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		kept := out.Options[:0:0]
		for _, have := range out.Options {
			if name, _, _ := strings.Cut(have, ":"); name != o.Name {
				kept = append(kept, have)
			}
		}
		out.Options = append(kept, text)
	}
}

func trimDNS(out *runtimeapi.DNSConfig) {
	out.Servers = out.Servers[:min(len(out.Servers), maxServers)]
	out.Searches = out.Searches[:min(len(out.Searches), maxSearches)]
	for len(strings.Join(out.Searches, " ")) > maxSearchChars {
		out.Searches = out.Searches[:len(out.Searches)-1]
	}
}

func unique(in []string) []string {
	seen := map[string]bool{}
	out := in[:0:0]
	for _, s := range in {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

func hostDNS(file string) (*runtimeapi.DNSConfig, error) {
	if file == "" {
		file = "/etc/resolv.conf"
	}
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return &runtimeapi.DNSConfig{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the node's resolver configuration: %w", err)
	}
	return parseResolv(data), nil
}

func parseResolv(data []byte) *runtimeapi.DNSConfig {
	out := &runtimeapi.DNSConfig{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line, _, _ := strings.Cut(strings.TrimSpace(lines.Text()), "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			out.Servers = append(out.Servers, f[1])
		case "search":
			out.Searches = nil
			for _, s := range f[1:] {
				if s != "." {
					s = strings.TrimSuffix(s, ".")
				}
				out.Searches = append(out.Searches, s)
			}
		case "options":
			out.Options = append([]string(nil), f[1:]...)
		}
	}
	return out
}

// Hosts is the content of a pod's /etc/hosts. node is the node's own file, used on the host network.
func Hosts(pod *corev1.Pod, ips []string, clusterDomain, nodeName string, node []byte) []byte {
	var b bytes.Buffer
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		b.Write(node)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
		name, domain := Hostname(pod, clusterDomain, nodeName)
		for _, ip := range ips {
			if domain != "" {
				fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, name, domain, name)
			} else {
				fmt.Fprintf(&b, "%s\t%s\n", ip, name)
			}
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, a := range pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
		}
	}
	return b.Bytes()
}
