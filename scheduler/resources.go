package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	helpers "k8s.io/component-helpers/resource"
)

// What a container counts as, for scoring, when it requests nothing.
const (
	assumedMilliCPU = 100
	assumedMemory   = 200 * 1024 * 1024
)

// Resources are numbered; these four always are.
const (
	cpuID = iota
	memoryID
	storageID
	podsID
	firstOther
)

// amount of one resource, in milli-CPU for CPU and units for the rest.
type amount struct {
	resource int
	value    int64
}

// request is what a pod asks of a node. Every pod asks for one of podsID, which is not listed.
type request struct {
	amounts              []amount // by number, without zeroes
	scoreCPU, scoreBytes int64    // with the assumed amounts in place of none
}

func (r request) equal(o request) bool {
	return r.scoreCPU == o.scoreCPU && r.scoreBytes == o.scoreBytes && slices.Equal(r.amounts, o.amounts)
}

func (r request) of(id int) int64 {
	for _, a := range r.amounts {
		if a.resource == id {
			return a.value
		}
	}
	return 0
}

// podRequest is what a pod takes of its node: the most of what it asks for, what it was
// granted and what it has while a resize is under way.
func (c *columns) podRequest(pod *corev1.Pod) request {
	if plainRequests(pod) {
		return c.plainRequest(pod)
	}
	options := helpers.PodResourcesOptions{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true}
	var r request
	for name, q := range helpers.PodRequests(pod, options) {
		if v := amountOf(name, q); v != 0 {
			r.amounts = append(r.amounts, amount{c.id(name), v})
		}
	}
	r.sort()
	options.NonMissingContainerRequests = corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(assumedMilliCPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(assumedMemory, resource.DecimalSI),
	}
	assumed := helpers.PodRequests(pod, options)
	r.scoreCPU = assumed.Cpu().MilliValue()
	r.scoreBytes = assumed.Memory().Value()
	return r
}

// plainRequests: the pod asks for the sum of what its containers ask for, and no more.
func plainRequests(pod *corev1.Pod) bool {
	if len(pod.Spec.InitContainers) > 0 || pod.Spec.Resources != nil || pod.Spec.Overhead != nil ||
		pod.Status.AllocatedResources != nil || pod.Status.Resources != nil {
		return false
	}
	for i := range pod.Status.ContainerStatuses {
		if s := &pod.Status.ContainerStatuses[i]; s.Resources != nil || s.AllocatedResources != nil {
			return false
		}
	}
	return true
}

func (c *columns) plainRequest(pod *corev1.Pod) request {
	var r request
	for i := range pod.Spec.Containers {
		list := pod.Spec.Containers[i].Resources.Requests
		for name, q := range list {
			if v := amountOf(name, q); v != 0 {
				r.add(c.id(name), v)
			}
		}
		if q, ok := list[corev1.ResourceCPU]; ok {
			r.scoreCPU += q.MilliValue()
		} else {
			r.scoreCPU += assumedMilliCPU
		}
		if q, ok := list[corev1.ResourceMemory]; ok {
			r.scoreBytes += q.Value()
		} else {
			r.scoreBytes += assumedMemory
		}
	}
	r.sort()
	return r
}

func (r *request) add(id int, v int64) {
	for i := range r.amounts {
		if r.amounts[i].resource == id {
			r.amounts[i].value += v
			return
		}
	}
	r.amounts = append(r.amounts, amount{id, v})
}

func (r *request) sort() {
	slices.SortFunc(r.amounts, func(a, b amount) int { return a.resource - b.resource })
}

func amountOf(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// columns hold, per resource, what each node has and what its pods take.
type columns struct {
	size                 int
	ids                  map[corev1.ResourceName]int
	names                []corev1.ResourceName
	have, used           [][]int64 // by resource, then by node
	scoreCPU, scoreBytes []int64   // what pods count as for scoring
}

func newColumns() *columns {
	c := &columns{ids: map[corev1.ResourceName]int{}}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourcePods} {
		c.id(name)
	}
	return c
}

// id numbers a resource, which is counted from then on.
func (c *columns) id(name corev1.ResourceName) int {
	id, ok := c.ids[name]
	if !ok {
		id = len(c.names)
		c.ids[name] = id
		c.names = append(c.names, name)
		c.have = append(c.have, make([]int64, c.size))
		c.used = append(c.used, make([]int64, c.size))
	}
	return id
}

func (c *columns) grow(size int) {
	c.size = size
	for id := range c.names {
		c.have[id] = append(c.have[id], make([]int64, size-len(c.have[id]))...)
		c.used[id] = append(c.used[id], make([]int64, size-len(c.used[id]))...)
	}
	c.scoreCPU = append(c.scoreCPU, make([]int64, size-len(c.scoreCPU))...)
	c.scoreBytes = append(c.scoreBytes, make([]int64, size-len(c.scoreBytes))...)
}

// setAllocatable tells whether anything changed.
func (c *columns) setAllocatable(i int, list corev1.ResourceList) bool {
	changed := false
	for name := range list {
		c.id(name)
	}
	for id, name := range c.names {
		v := amountOf(name, list[name])
		changed = changed || c.have[id][i] != v
		c.have[id][i] = v
	}
	return changed
}

func (c *columns) clear(i int) {
	for id := range c.names {
		c.have[id][i], c.used[id][i] = 0, 0
	}
	c.scoreCPU[i], c.scoreBytes[i] = 0, 0
}

func (c *columns) add(i int, r request, sign int64) {
	for _, a := range r.amounts {
		c.used[a.resource][i] += sign * a.value
	}
	c.used[podsID][i] += sign
	c.scoreCPU[i] += sign * r.scoreCPU
	c.scoreBytes[i] += sign * r.scoreBytes
}

// fits says whether a node has room for a request.
func (c *columns) fits(i int, r request) bool {
	if c.used[podsID][i] >= c.have[podsID][i] {
		return false
	}
	for _, a := range r.amounts {
		if a.value > c.have[a.resource][i]-c.used[a.resource][i] {
			return false
		}
	}
	return true
}

// lacking names what a node is short of; stuck when it would be short without any pods too.
func (c *columns) lacking(i int, r request) (reasons []string, stuck bool) {
	if c.used[podsID][i] >= c.have[podsID][i] {
		reasons = append(reasons, "Too many pods")
	}
	for _, a := range r.amounts {
		if have := c.have[a.resource][i]; a.value > have-c.used[a.resource][i] {
			reasons = append(reasons, "Insufficient "+string(c.names[a.resource]))
			stuck = stuck || a.value > have
		}
	}
	return reasons, stuck
}
