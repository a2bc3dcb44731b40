// Package resize holds what a node has promised a pod and what its containers run with, and
// tells what it takes to bring one to the other while the pod runs.
//
// The one idea: three sets of resources. The spec's are wished for, the allocated ones are
// promised by the node, the actuated ones are in force; everything on the node works with
// the allocated. The kubelet alone calls it.
package resize

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Resources of a pod: its own, when it has any, and those of its containers by name.
type Resources struct {
	Pod        *corev1.ResourceRequirements           `json:"pod,omitempty"`
	Containers map[string]corev1.ResourceRequirements `json:"containers"`
}

// Of reads the resources of a pod's spec.
func Of(pod *corev1.Pod) Resources {
	r := Resources{Pod: pod.Spec.Resources, Containers: map[string]corev1.ResourceRequirements{}}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			r.Containers[list[i].Name] = list[i].Resources
		}
	}
	return r
}

// Equal tells whether both ask for the same.
func (r Resources) Equal(o Resources) bool { return equality.Semantic.DeepEqual(r, o) }

// On answers the pod with these resources: the pod itself when it has them already. What is
// not known of a container stays as its spec says.
func (r Resources) On(pod *corev1.Pod) *corev1.Pod {
	if r.Equal(Of(pod)) {
		return pod
	}
	out := pod.DeepCopy()
	out.Spec.Resources = r.Pod
	for _, list := range [][]corev1.Container{out.Spec.InitContainers, out.Spec.Containers} {
		for i := range list {
			if have, ok := r.Containers[list[i].Name]; ok {
				list[i].Resources = have
			}
		}
	}
	return out
}

// FromStatus reads the resources that a pod runs with as its status tells them; what it does
// not tell is as the spec says.
func FromStatus(pod *corev1.Pod) *Record {
	r := &Record{Allocated: Of(pod), Actuated: map[string]corev1.ResourceRequirements{}}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			s := &list[i]
			if s.Resources == nil || s.State.Running == nil {
				continue
			}
			have := *s.Resources.DeepCopy()
			have.Claims = r.Allocated.Containers[s.Name].Claims
			r.Allocated.Containers[s.Name] = have
			r.Actuated[s.ContainerID] = have
		}
	}
	if pod.Spec.Resources != nil && pod.Status.Resources != nil {
		r.Allocated.Pod = pod.Status.Resources.DeepCopy()
	}
	return r
}

// Record is what a node keeps of one pod's resources.
type Record struct {
	Allocated Resources                              `json:"allocated"`
	Actuated  map[string]corev1.ResourceRequirements `json:"actuated"` // by container id, with the runtime's name before it
}

// Load reads a record from a file; nil: there is none.
func Load(file string) (*Record, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the pod's resources: %w", err)
	}
	r := &Record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read the pod's resources: %w", err)
	}
	if r.Actuated == nil {
		r.Actuated = map[string]corev1.ResourceRequirements{}
	}
	return r, nil
}

// Save writes the record so that a reader finds the old one or the new one, whole.
func (r *Record) Save(file string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the pod's resources: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return fmt.Errorf("write the pod's resources: %w", err)
	}
	fresh := file + ".new"
	if err := os.WriteFile(fresh, data, 0o600); err != nil {
		return fmt.Errorf("write the pod's resources: %w", err)
	}
	if err := os.Rename(fresh, file); err != nil {
		return fmt.Errorf("write the pod's resources: %w", err)
	}
	return nil
}

// Change is what it takes to give a container other resources.
type Change int

// The changes.
const (
	None Change = iota
	Update
	Restart
)

// Compare tells what it takes for a container to go from have to want, by its resize policy.
func Compare(c *corev1.Container, have, want corev1.ResourceRequirements) Change {
	out := None
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if same(have.Requests, want.Requests, name) && same(have.Limits, want.Limits, name) {
			continue
		}
		out = max(out, policy(c, name))
	}
	return out
}

func same(a, b corev1.ResourceList, name corev1.ResourceName) bool {
	x, inA := a[name]
	y, inB := b[name]
	return inA == inB && x.Cmp(y) == 0
}

func policy(c *corev1.Container, name corev1.ResourceName) Change {
	for _, p := range c.ResizePolicy {
		if p.ResourceName == name && p.RestartPolicy == corev1.RestartContainer {
			return Restart
		}
	}
	return Update
}
