package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
)

// The classes that exist always, also before they are stored.
var systemPriorities = map[string]int32{
	"system-cluster-critical": 2000000000,
	"system-node-critical":    2000001000,
}

// priorityClasses turns a pod's class into its priority.
type priorityClasses struct{ env Env }

func (p *priorityClasses) Mutate(_ context.Context, a *Attributes) error {
	if pod := podOf(a, Update); pod != nil {
		old, ok := a.Old.(*corev1.Pod)
		if ok && pod.Spec.Priority == nil { // a client that does not know the field drops it
			pod.Spec.Priority = old.Spec.Priority
			if pod.Spec.PreemptionPolicy == nil {
				pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
			}
		}
		return nil
	}
	pod := podOf(a, Create)
	if pod == nil {
		return nil
	}
	value, policy, err := p.find(a, pod)
	if err != nil {
		return err
	}
	if pod.Spec.Priority != nil && *pod.Spec.Priority != value {
		return forbidden(a, fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *pod.Spec.Priority, value))
	}
	if pod.Spec.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy != policy {
		return forbidden(a, fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *pod.Spec.PreemptionPolicy, policy))
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}

func (p *priorityClasses) find(a *Attributes, pod *corev1.Pod) (int32, corev1.PreemptionPolicy, error) {
	name, policy := pod.Spec.PriorityClassName, corev1.PreemptLowerPriority
	if name == "" {
		class := p.global()
		if class == nil {
			return 0, policy, nil
		}
		pod.Spec.PriorityClassName = class.Name
		return class.Value, policyOf(class), nil
	}
	if obj, ok := p.env.Reader.Get(priorities, "", name); ok {
		if class, ok := obj.(*schedulingv1.PriorityClass); ok {
			return class.Value, policyOf(class), nil
		}
	}
	if value, ok := systemPriorities[name]; ok {
		return value, policy, nil
	}
	return 0, policy, forbidden(a, fmt.Errorf("no PriorityClass with name %v was found", name))
}

func policyOf(class *schedulingv1.PriorityClass) corev1.PreemptionPolicy {
	if class.PreemptionPolicy != nil {
		return *class.PreemptionPolicy
	}
	return corev1.PreemptLowerPriority
}

// global is the default class; of several, which only a race can make, the lowest counts.
func (p *priorityClasses) global() *schedulingv1.PriorityClass {
	var found *schedulingv1.PriorityClass
	for _, o := range p.env.Reader.List(priorities, "") {
		class, ok := o.(*schedulingv1.PriorityClass)
		if ok && class.GlobalDefault && (found == nil || class.Value < found.Value) {
			found = class
		}
	}
	return found
}

// Validate keeps a second class from being the default.
func (p *priorityClasses) Validate(_ context.Context, a *Attributes) error {
	if _, system := systemPriorities[a.Name]; system && a.Kind.GroupResource() == priorities && a.Operation == Delete {
		return forbidden(a, errors.New("this is a system priority class and cannot be deleted"))
	}
	if a.Kind.GroupResource() != priorities || a.Operation != Create && a.Operation != Update {
		return nil
	}
	class, ok := a.Object.(*schedulingv1.PriorityClass)
	if !ok || !class.GlobalDefault {
		return nil
	}
	if other := p.global(); other != nil && other.Name != class.Name {
		return forbidden(a, fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", other.Name))
	}
	return nil
}
