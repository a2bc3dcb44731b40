// Package podspec turns a pod's spec into what a container runtime wants to hear: the
// sandbox's and the containers' configurations.
//
// The one idea: a configuration is computed from the pod, the sandbox's addresses, the
// volumes' places and a few facts of the node, in small pure functions; what needs the
// host (files, bound sub paths) is made by the kubelet and handed in as paths.
package podspec

import (
	"fmt"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/cri"
	"github.com/proa-dev/proa/kubelet/plan"
)

// Node is what the configurations need to know of the node.
type Node struct {
	Name          string
	IPs           []string
	ClusterDNS    []string
	ClusterDomain string
	ResolvConf    string // the node's; default /etc/resolv.conf
	LogRoot       string // of container logs, such as /var/log/pods
	Memory        int64  // bytes the node has, for the out-of-memory score
	Capacity      corev1.ResourceList
}

// LogDir is the folder of a pod's logs.
func LogDir(root string, pod *corev1.Pod) string {
	return filepath.Join(root, fmt.Sprintf("%s_%s_%s", pod.Namespace, pod.Name, pod.UID))
}

// LogPath is a container's log below LogDir.
func LogPath(container string, attempt uint32) string {
	return filepath.Join(container, strconv.FormatUint(uint64(attempt), 10)+".log")
}

// Hostname answers a pod's host name and, when it has one, its domain.
func Hostname(pod *corev1.Pod, clusterDomain, node string) (name, domain string) {
	if pod.Spec.HostnameOverride != nil {
		return *pod.Spec.HostnameOverride, ""
	}
	if pod.Spec.HostNetwork {
		return node, ""
	}
	name = pod.Name
	if pod.Spec.Hostname != "" {
		name = pod.Spec.Hostname
	}
	const most = 63
	if len(name) > most {
		name = name[:most]
		for len(name) > 0 && (name[len(name)-1] == '-' || name[len(name)-1] == '.') {
			name = name[:len(name)-1]
		}
	}
	if pod.Spec.Subdomain != "" {
		domain = fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, clusterDomain)
	}
	return name, domain
}

// Labels of everything of a pod.
func Labels(pod *corev1.Pod) map[string]string {
	out := make(map[string]string, len(pod.Labels)+3)
	for k, v := range pod.Labels {
		out[k] = v
	}
	out[cri.LabelPodName], out[cri.LabelNamespace], out[cri.LabelPodUID] = pod.Name, pod.Namespace, string(pod.UID)
	return out
}

// Sandbox is a pod's sandbox configuration. cgroup is the pod's group, "" for none.
func Sandbox(pod *corev1.Pod, n *Node, cgroup string, attempt uint32) (*runtimeapi.PodSandboxConfig, error) {
	dns, err := DNS(pod, n)
	if err != nil {
		return nil, err
	}
	cfg := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: attempt},
		LogDirectory: LogDir(n.LogRoot, pod),
		DnsConfig:    dns,
		Labels:       Labels(pod),
		Annotations:  pod.Annotations,
		Linux:        sandboxLinux(pod, cgroup),
		PortMappings: portMappings(pod),
	}
	name, domain := Hostname(pod, n.ClusterDomain, n.Name)
	if pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN && domain != "" {
		name += "." + domain
		const kernelMost = 64
		if len(name) > kernelMost {
			return nil, fmt.Errorf("Failed to construct FQDN from Pod hostname and cluster domain, FQDN %s is too long (64 characters is the max, %d characters requested)", name, len(name)) //nolint:staticcheck // the text users know
		}
	}
	if !pod.Spec.HostNetwork {
		cfg.Hostname = name
	}
	return cfg, nil
}

func portMappings(pod *corev1.Pod) []*runtimeapi.PortMapping {
	if pod.Spec.HostNetwork {
		return nil
	}
	var out []*runtimeapi.PortMapping
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if len(pod.Spec.InitContainers) > 0 && &list[0] == &pod.Spec.InitContainers[0] && !plan.Sidecar(&list[i]) {
				continue
			}
			for _, p := range list[i].Ports {
				out = append(out, &runtimeapi.PortMapping{ContainerPort: p.ContainerPort, HostPort: p.HostPort,
					HostIp: p.HostIP, Protocol: protocol(p.Protocol)})
			}
		}
	}
	return out
}

func protocol(p corev1.Protocol) runtimeapi.Protocol {
	switch p {
	case corev1.ProtocolUDP:
		return runtimeapi.Protocol_UDP
	case corev1.ProtocolSCTP:
		return runtimeapi.Protocol_SCTP
	}
	return runtimeapi.Protocol_TCP
}

func sandboxLinux(pod *corev1.Pod, cgroup string) *runtimeapi.LinuxPodSandboxConfig {
	sc := pod.Spec.SecurityContext
	l := &runtimeapi.LinuxPodSandboxConfig{CgroupParent: cgroup, SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
		NamespaceOptions: namespaces(pod),
		Privileged:       anyPrivileged(pod),
		// the pause process needs nothing of what the pod's seccomp profile may forbid or allow
		Seccomp: &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
	}}
	if sc == nil {
		return l
	}
	s := l.SecurityContext
	s.RunAsUser, s.RunAsGroup = value(sc.RunAsUser), value(sc.RunAsGroup)
	s.SupplementalGroups = groups(sc)
	s.SupplementalGroupsPolicy = groupsPolicy(sc)
	s.SelinuxOptions = selinux(sc.SELinuxOptions)
	if sc.RunAsUser == nil {
		s.RunAsGroup = nil // the runtime refuses a group without a user
	}
	if len(sc.Sysctls) > 0 {
		l.Sysctls = map[string]string{}
		for _, kv := range sc.Sysctls {
			l.Sysctls[kv.Name] = kv.Value
		}
	}
	return l
}

func namespaces(pod *corev1.Pod) *runtimeapi.NamespaceOption {
	o := &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}
	if pod.Spec.HostNetwork {
		o.Network = runtimeapi.NamespaceMode_NODE
	}
	if pod.Spec.HostIPC {
		o.Ipc = runtimeapi.NamespaceMode_NODE
	}
	switch {
	case pod.Spec.HostPID:
		o.Pid = runtimeapi.NamespaceMode_NODE
	case pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace:
		o.Pid = runtimeapi.NamespaceMode_POD
	}
	return o
}

func anyPrivileged(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if privileged(&list[i]) {
				return true
			}
		}
	}
	return false
}

func privileged(c *corev1.Container) bool {
	return c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
}
