package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	helpers "k8s.io/component-helpers/resource"
)

// What a container counts as, for scoring, when it requests nothing.
const (
	assumedMilliCPU = 100
	assumedMemory   = 200 * 1024 * 1024
)

// request is what a pod asks of a node, in milli-CPU for CPU and units for the rest.
type request struct {
	amounts           map[corev1.ResourceName]int64 // without zeroes, but for pods: 1
	scoreCPU, scoreMB int64                         // with the assumed amounts in place of none; bytes
}

func (r request) equal(o request) bool {
	return r.scoreCPU == o.scoreCPU && r.scoreMB == o.scoreMB && maps.Equal(r.amounts, o.amounts)
}

func podRequest(pod *corev1.Pod) request {
	options := helpers.PodResourcesOptions{UseStatusResources: true}
	r := request{amounts: map[corev1.ResourceName]int64{corev1.ResourcePods: 1}}
	for name, q := range helpers.PodRequests(pod, options) {
		if v := amount(name, q); v != 0 {
			r.amounts[name] = v
		}
	}
	options.NonMissingContainerRequests = corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(assumedMilliCPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(assumedMemory, resource.DecimalSI),
	}
	assumed := helpers.PodRequests(pod, options)
	r.scoreCPU = assumed.Cpu().MilliValue()
	r.scoreMB = assumed.Memory().Value()
	return r
}

func amount(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// columns hold, per resource, what each node has and what its pods take.
type columns struct {
	size              int
	have, used        map[corev1.ResourceName][]int64
	scoreCPU, scoreMB []int64 // what pods count as for scoring
}

func newColumns() *columns {
	c := &columns{have: map[corev1.ResourceName][]int64{}, used: map[corev1.ResourceName][]int64{}}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourcePods} {
		c.column(name)
	}
	return c
}

// column makes sure that a resource is counted.
func (c *columns) column(name corev1.ResourceName) {
	if c.have[name] == nil {
		c.have[name], c.used[name] = make([]int64, c.size), make([]int64, c.size)
	}
}

func (c *columns) grow(size int) {
	c.size = size
	for _, table := range []map[corev1.ResourceName][]int64{c.have, c.used} {
		for name, column := range table {
			table[name] = append(column, make([]int64, size-len(column))...)
		}
	}
	c.scoreCPU = append(c.scoreCPU, make([]int64, size-len(c.scoreCPU))...)
	c.scoreMB = append(c.scoreMB, make([]int64, size-len(c.scoreMB))...)
}

func (c *columns) setAllocatable(i int, list corev1.ResourceList) {
	for name := range list {
		c.column(name)
	}
	for name, column := range c.have {
		q := list[name]
		column[i] = amount(name, q)
	}
}

func (c *columns) clear(i int) {
	for name := range c.have {
		c.have[name][i], c.used[name][i] = 0, 0
	}
	c.scoreCPU[i], c.scoreMB[i] = 0, 0
}

func (c *columns) add(i int, r request, sign int64) {
	for name, v := range r.amounts {
		c.column(name)
		c.used[name][i] += sign * v
	}
	c.scoreCPU[i] += sign * r.scoreCPU
	c.scoreMB[i] += sign * r.scoreMB
}

// hostPort is a port that a pod takes of its node.
type hostPort struct {
	ip       string // "" and "0.0.0.0" are every address
	protocol corev1.Protocol
	port     int32
}

func hostPorts(pod *corev1.Pod) []hostPort {
	var ports []hostPort
	note := func(containers []corev1.Container, all bool) {
		for _, c := range containers {
			if !all && (c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways) {
				continue // an init container that ends
			}
			for _, p := range c.Ports {
				if p.HostPort <= 0 {
					continue
				}
				ip, protocol := p.HostIP, p.Protocol
				if ip == "0.0.0.0" || ip == "::" {
					ip = ""
				}
				if protocol == "" {
					protocol = corev1.ProtocolTCP
				}
				ports = append(ports, hostPort{ip, protocol, p.HostPort})
			}
		}
	}
	note(pod.Spec.Containers, true)
	note(pod.Spec.InitContainers, false)
	return ports
}

// conflicts says whether one of the wanted ports is taken.
func conflicts(taken map[hostPort]int, wanted []hostPort) bool {
	for _, w := range wanted {
		for t := range taken {
			if t.port == w.port && t.protocol == w.protocol && (t.ip == w.ip || t.ip == "" || w.ip == "") {
				return true
			}
		}
	}
	return false
}
