package podspec

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/cri"
	"github.com/proa-dev/proa/kubelet/plan"
)

// Parts is what a container's configuration is put together from.
type Parts struct {
	Attempt         uint32
	ImageRef        string
	Env             []*runtimeapi.KeyValue
	Mounts          []*runtimeapi.Mount
	Security        *runtimeapi.LinuxContainerSecurityContext
	Memory          int64  // of the node, bytes
	TerminationFile string // on the node
	Target          string // id of the container whose processes it sees
}

// Container is a container's configuration.
func Container(pod *corev1.Pod, c *corev1.Container, p Parts) *runtimeapi.ContainerConfig {
	known := make(map[string]string, len(p.Env))
	for _, kv := range p.Env {
		known[kv.Key] = string(kv.Value)
	}
	lookup := func(name string) (string, bool) { v, ok := known[name]; return v, ok }
	if p.Target != "" {
		p.Security.NamespaceOptions.Pid = runtimeapi.NamespaceMode_TARGET
		p.Security.NamespaceOptions.TargetId = p.Target
	}
	cfg := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: p.Attempt},
		Image:    &runtimeapi.ImageSpec{Image: p.ImageRef, UserSpecifiedImage: c.Image},
		Command:  expandAll(c.Command, lookup), Args: expandAll(c.Args, lookup),
		WorkingDir: c.WorkingDir, Envs: p.Env, Mounts: p.Mounts,
		Labels: map[string]string{cri.LabelContainer: c.Name, cri.LabelPodName: pod.Name,
			cri.LabelNamespace: pod.Namespace, cri.LabelPodUID: string(pod.UID)},
		Annotations: notes(pod, c, p),
		LogPath:     LogPath(c.Name, p.Attempt),
		Stdin:       c.Stdin, StdinOnce: c.StdinOnce, Tty: c.TTY,
		Linux:      &runtimeapi.LinuxContainerConfig{Resources: Resources(pod, c, p.Memory), SecurityContext: p.Security},
		StopSignal: stopSignal(c),
	}
	return cfg
}

func expandAll(in []string, lookup func(string) (string, bool)) []string {
	out := make([]string, 0, len(in))
	for _, s := range in {
		out = append(out, expand(s, lookup))
	}
	return out
}

func notes(pod *corev1.Pod, c *corev1.Container, p Parts) map[string]string {
	out := map[string]string{
		cri.NoteHash:              plan.Hash(c),
		cri.NoteRestarts:          strconv.FormatUint(uint64(p.Attempt), 10),
		cri.NoteTerminationPath:   c.TerminationMessagePath,
		cri.NoteTerminationPolicy: string(c.TerminationMessagePolicy),
		cri.NoteTerminationFile:   p.TerminationFile,
	}
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		out[cri.NoteGrace] = strconv.FormatInt(*g, 10)
	}
	return out
}

func stopSignal(c *corev1.Container) runtimeapi.Signal {
	if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
		return runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT
	}
	name := strings.NewReplacer("+", "PLUS", "-", "MINUS").Replace(string(*c.Lifecycle.StopSignal))
	return runtimeapi.Signal(runtimeapi.Signal_value[name])
}

// Propagation of a mount between node and container.
func Propagation(m *corev1.VolumeMount) runtimeapi.MountPropagation {
	if m.MountPropagation == nil {
		return runtimeapi.MountPropagation_PROPAGATION_PRIVATE
	}
	switch *m.MountPropagation {
	case corev1.MountPropagationHostToContainer:
		return runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
	case corev1.MountPropagationBidirectional:
		return runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
	}
	return runtimeapi.MountPropagation_PROPAGATION_PRIVATE
}

// SubPath is the part of a volume that a mount shows; "" for all of it. An expression that
// names what the container's environment does not have is an error.
func SubPath(m *corev1.VolumeMount, env []*runtimeapi.KeyValue) (string, error) {
	if m.SubPathExpr == "" {
		return m.SubPath, nil
	}
	missing := ""
	out := expand(m.SubPathExpr, func(name string) (string, bool) {
		for _, kv := range env {
			if kv.Key == name {
				return string(kv.Value), true
			}
		}
		missing = name
		return "", false
	})
	if missing != "" {
		return "", fmt.Errorf("missing value for %q", missing)
	}
	return out, nil
}
