package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"
)

// podResize refuses a resize that the pod's node can never carry out: it is of another
// system, or all it has is less than what is asked for (KEP-1287).
type podResize struct{ env Env }

func (p *podResize) Validate(_ context.Context, a *Attributes) error {
	pod, _ := boundUpdate(a, "resize")
	if pod == nil {
		return nil
	}
	node, err := nodeOf(p.env, a, pod)
	if err != nil {
		return err
	}
	if os, ok := node.Labels[corev1.LabelOSStable]; ok && os != "linux" {
		return caused(a, "UnsupportedPlatform", fmt.Errorf("pod resize is only supported on linux nodes, node %q is %q", node.Name, os))
	}
	asked, has := resource.PodRequests(pod, resource.PodResourcesOptions{}), node.Status.Allocatable
	var short []string
	if cpu := asked.Cpu(); cpu.Cmp(*has.Cpu()) > 0 {
		short = append(short, fmt.Sprintf("cpu, requested: %d, allocatable: %d", cpu.MilliValue(), has.Cpu().MilliValue()))
	}
	if memory := asked.Memory(); memory.Cmp(*has.Memory()) > 0 {
		short = append(short, fmt.Sprintf("memory, requested: %d, allocatable: %d", memory.Value(), has.Memory().Value()))
	}
	if len(short) > 0 {
		return caused(a, "NodeCapacity", fmt.Errorf("node didn't have enough allocatable resources: %s", strings.Join(short, "; ")))
	}
	return nil
}

// boundUpdate is a pod that has a node and whose spec is changed through one of these
// subresources, as it will be and as it was; nil for anything else.
func boundUpdate(a *Attributes, subresources ...string) (pod, old *corev1.Pod) {
	if a.Kind.GroupResource() != pods || a.Operation != Update {
		return nil, nil
	}
	for _, sub := range subresources {
		if a.Subresource != sub {
			continue
		}
		pod, _ := a.Object.(*corev1.Pod)
		old, _ := a.Old.(*corev1.Pod)
		if pod != nil && old != nil && pod.Spec.NodeName != "" && !apiequality.Semantic.DeepEqual(pod.Spec, old.Spec) {
			return pod, old
		}
	}
	return nil, nil
}

// nodeOf is the node that a pod is bound to.
func nodeOf(env Env, a *Attributes, pod *corev1.Pod) (*corev1.Node, error) {
	if obj, ok := env.Reader.Get(nodes, "", pod.Spec.NodeName); ok {
		if node, ok := obj.(*corev1.Node); ok {
			return node, nil
		}
	}
	return nil, forbidden(a, fmt.Errorf("node %q not found", pod.Spec.NodeName))
}

// caused is a refusal whose cause programs can tell by its type.
func caused(a *Attributes, cause metav1.CauseType, err error) error {
	refusal := forbidden(a, err)
	if status := (*apierrors.StatusError)(nil); errors.As(refusal, &status) {
		status.ErrStatus.Details.Causes = append(status.ErrStatus.Details.Causes, metav1.StatusCause{Type: cause})
	}
	return refusal
}
