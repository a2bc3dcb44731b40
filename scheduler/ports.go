package scheduler

import corev1 "k8s.io/api/core/v1"

// hostPort is a port that a pod takes of its node.
type hostPort struct {
	ip       string // "" is every address
	protocol corev1.Protocol
	port     int32
}

func hostPorts(pod *corev1.Pod) []hostPort {
	var ports []hostPort
	for i := range pod.Spec.Containers {
		ports = appendPorts(ports, pod.Spec.Containers[i].Ports)
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways { // the others end
			ports = appendPorts(ports, c.Ports)
		}
	}
	return ports
}

func appendPorts(ports []hostPort, of []corev1.ContainerPort) []hostPort {
	for _, p := range of {
		if p.HostPort <= 0 {
			continue
		}
		ip, protocol := p.HostIP, p.Protocol
		if ip == "0.0.0.0" {
			ip = ""
		}
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		ports = append(ports, hostPort{ip, protocol, p.HostPort})
	}
	return ports
}

// conflicts says whether one of the wanted ports is taken.
func conflicts(taken map[hostPort]int, wanted []hostPort) bool {
	if len(taken) == 0 {
		return false
	}
	for _, w := range wanted {
		for t := range taken {
			if t.port == w.port && t.protocol == w.protocol && (t.ip == w.ip || t.ip == "" || w.ip == "") {
				return true
			}
		}
	}
	return false
}
