package admission

import (
	"context"
	"errors"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
)

// nodeSelectorAnnotation of a namespace: the labels of the nodes on which its pods run.
const nodeSelectorAnnotation = "scheduler.alpha.kubernetes.io/node-selector"

// clusterSelector is the key of the selector for namespaces that have none of their own.
const clusterSelector = "clusterDefaultNodeSelector"

// nodeSelectors gives pods the node selector of their namespace, and refuses those that
// ask for other nodes. What is configured for a namespace by name is all that its pods
// may ask for.
type nodeSelectors struct {
	env       Env
	selectors map[string]labels.Set // by namespace, and clusterSelector
}

func (s *nodeSelectors) Mutate(_ context.Context, a *Attributes) error {
	pod, own, err := s.check(a)
	if pod == nil || err != nil {
		return err
	}
	if merged := labels.Merge(own, pod.Spec.NodeSelector); len(merged) > 0 {
		pod.Spec.NodeSelector = merged
	}
	return nil
}

func (s *nodeSelectors) Validate(_ context.Context, a *Attributes) error {
	pod, _, err := s.check(a)
	if pod == nil || err != nil {
		return err
	}
	allowed := s.selectors[a.Namespace]
	if len(allowed) == 0 {
		return nil
	}
	for key, value := range pod.Spec.NodeSelector {
		if had, ok := allowed[key]; !ok || had != value {
			return forbidden(a, errors.New("pod node label selector labels conflict with its namespace whitelist"))
		}
	}
	return nil
}

// check gives the pod that is created, if it is one, and its namespace's selector, which it must not contradict.
func (s *nodeSelectors) check(a *Attributes) (*corev1.Pod, labels.Set, error) {
	pod := podOf(a, Create)
	if pod == nil {
		return nil, nil, nil
	}
	own, err := s.of(a.Namespace)
	if err == nil && labels.Conflicts(own, pod.Spec.NodeSelector) {
		err = forbidden(a, errors.New("pod node label selector conflicts with its namespace node label selector"))
	}
	return pod, own, err
}

// of is the selector of a namespace: its annotation's, else the cluster's.
func (s *nodeSelectors) of(namespace string) (labels.Set, error) {
	obj, ok := s.env.Reader.Get(namespaces, "", namespace)
	if !ok {
		return nil, nil // NamespaceLifecycle has refused it
	}
	text, ok := obj.GetAnnotations()[nodeSelectorAnnotation]
	if !ok {
		return maps.Clone(s.selectors[clusterSelector]), nil
	}
	own, err := labels.ConvertSelectorToLabelsMap(text)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return own, nil
}
