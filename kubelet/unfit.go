package kubelet

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// safeSysctls are the kernel settings that a pod may change: namespaced, and without harm to others.
// Those that are not with the network belong to the IPC namespace.
var safeSysctls = map[string]bool{
	"kernel.shm_rmid_forced": true, "net.ipv4.ip_local_port_range": true, "net.ipv4.tcp_syncookies": true,
	"net.ipv4.ping_group_range": true, "net.ipv4.ip_unprivileged_port_start": true, "net.ipv4.ip_local_reserved_ports": true,
	"net.ipv4.tcp_keepalive_time": true, "net.ipv4.tcp_fin_timeout": true, "net.ipv4.tcp_keepalive_intvl": true,
	"net.ipv4.tcp_keepalive_probes": true, "net.ipv4.tcp_rmem": true, "net.ipv4.tcp_wmem": true,
	"net.ipv4.tcp_slow_start_after_idle": true, "net.ipv4.tcp_notsent_lowat": true,
}

// unfit tells why this machine can never run a pod, whatever else runs on it.
func (k *Kubelet) unfit(pod *corev1.Pod) (reason, message string) {
	node := k.node.Node()
	if want, ok := pod.Spec.NodeSelector[corev1.LabelOSStable]; ok && node != nil && want != node.Labels[corev1.LabelOSStable] {
		return "PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
	}
	if pod.Spec.OS != nil && string(pod.Spec.OS.Name) != runtime.GOOS {
		return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
	}
	if message := forbiddenSysctl(pod); message != "" {
		return "SysctlForbidden", "forbidden sysctl: " + message
	}
	if wantsAppArmor(pod) && !hasAppArmor() {
		return "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"
	}
	return "", ""
}

// forbiddenSysctl answers what is wrong with a pod's kernel settings, empty for nothing.
func forbiddenSysctl(pod *corev1.Pod) string {
	sc := pod.Spec.SecurityContext
	if sc == nil {
		return ""
	}
	for _, s := range sc.Sysctls {
		name := strings.ReplaceAll(s.Name, "/", ".")
		switch {
		case !safeSysctls[name]:
			return fmt.Sprintf("%q not allowlisted", s.Name)
		case strings.HasPrefix(name, "net.") && pod.Spec.HostNetwork:
			return fmt.Sprintf("%q not allowed with host net enabled", s.Name)
		case !strings.HasPrefix(name, "net.") && pod.Spec.HostIPC:
			return fmt.Sprintf("%q not allowed with host ipc enabled", s.Name)
		}
	}
	return ""
}

func wantsAppArmor(pod *corev1.Pod) bool {
	asks := func(p *corev1.AppArmorProfile) bool {
		return p != nil && p.Type != corev1.AppArmorProfileTypeUnconfined
	}
	if sc := pod.Spec.SecurityContext; sc != nil && asks(sc.AppArmorProfile) {
		return true
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if sc := list[i].SecurityContext; sc != nil && asks(sc.AppArmorProfile) {
				return true
			}
		}
	}
	return false
}

func hasAppArmor() bool {
	data, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && strings.HasPrefix(string(data), "Y")
}
