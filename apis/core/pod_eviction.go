package core

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

var disruptionBudgets = schema.GroupResource{Group: "policy", Resource: "poddisruptionbudgets"}

// maxDisruptedPods bounds the evictions that a budget's controller has not yet seen.
const maxDisruptedPods = 2000

// evictPod serves pods/eviction: a delete that asks the pod's disruption budget first.
func evictPod(ctx context.Context, env *api.Env, call api.Call, object runtime.Object) (runtime.Object, error) {
	e := object.(*policyv1.Eviction)
	if e.Name != "" && e.Name != call.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	found, ok := env.Reader.Get(podResource, call.Namespace, call.Name)
	pod, isPod := found.(*corev1.Pod)
	if !ok || !isPod {
		return nil, apierrors.NewNotFound(podResource, call.Name)
	}
	options := &metav1.DeleteOptions{}
	if e.DeleteOptions != nil {
		options = e.DeleteOptions.DeepCopy()
	}
	dryRun := call.DryRun || len(options.DryRun) > 0
	if dryRun && len(options.DryRun) == 0 {
		options.DryRun = []string{metav1.DryRunAll}
	}
	if !freeToGo(pod) {
		if err := spendBudget(ctx, env, pod, dryRun); err != nil {
			return nil, err
		}
	}
	if err := markDisrupted(ctx, env, pod, options.Preconditions, dryRun); err != nil {
		return nil, err
	}
	if err := env.Writer.Delete(ctx, podResource, call.Namespace, call.Name, options); err != nil {
		return nil, err
	}
	return success(), nil
}

// freeToGo says that a pod does not count as available, so no budget needs to be asked.
func freeToGo(p *corev1.Pod) bool {
	return podFinished(p) || p.Status.Phase == corev1.PodPending || p.DeletionTimestamp != nil
}

// markDisrupted tells on the pod why it ends, before it does.
func markDisrupted(ctx context.Context, env *api.Env, pod *corev1.Pod, meant *metav1.Preconditions, dryRun bool) error {
	_, err := env.Writer.Update(ctx, podResource, pod.Namespace, pod.Name, dryRun, func(o api.Object) error {
		p := o.(*corev1.Pod)
		if p.UID != pod.UID {
			return apierrors.NewConflict(podResource, pod.Name, api.OtherUID("pods", p, pod.UID))
		}
		if err := api.CheckPreconditions(p, schema.GroupKind{Kind: "Pod"}, meant); err != nil {
			return err
		}
		setPodCondition(p, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
			Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
		})
		return nil
	})
	return err
}

// budgetOf finds the one budget that covers a pod, nil when there is none.
func budgetOf(env *api.Env, pod *corev1.Pod) (*policyv1.PodDisruptionBudget, error) {
	var match *policyv1.PodDisruptionBudget
	for _, o := range env.Reader.List(disruptionBudgets, pod.Namespace) {
		b, ok := o.(*policyv1.PodDisruptionBudget)
		if !ok {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		if match != nil {
			return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
				Status: metav1.StatusFailure, Code: 500,
				Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
			}}
		}
		match = b
	}
	return match, nil
}

func spendBudget(ctx context.Context, env *api.Env, pod *corev1.Pod, dryRun bool) error {
	budget, err := budgetOf(env, pod)
	if err != nil || budget == nil || unhealthyMayGo(pod, budget) {
		return err
	}
	_, err = env.Writer.Update(ctx, disruptionBudgets, budget.Namespace, budget.Name, dryRun, func(o api.Object) error {
		return spendOne(o.(*policyv1.PodDisruptionBudget), pod.Name)
	})
	return err
}

// unhealthyMayGo says that a pod that is not ready may be evicted without spending budget.
func unhealthyMayGo(pod *corev1.Pod, b *policyv1.PodDisruptionBudget) bool {
	if podConditionTrue(pod, corev1.PodReady) {
		return false
	}
	if policy := b.Spec.UnhealthyPodEvictionPolicy; policy != nil && *policy == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

func spendOne(b *policyv1.PodDisruptionBudget, pod string) error {
	switch s := &b.Status; {
	case s.ObservedGeneration < b.Generation:
		return tooManyDisruptions(fmt.Sprintf("The disruption budget %s is still being processed by the server.", b.Name), 10)
	case s.DisruptionsAllowed < 0:
		return apierrors.NewForbidden(disruptionBudgets, b.Name, fmt.Errorf("pdb disruptions allowed is negative"))
	case len(s.DisruptedPods) > maxDisruptedPods:
		return apierrors.NewForbidden(disruptionBudgets, b.Name, fmt.Errorf("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	case s.DisruptionsAllowed == 0:
		return tooManyDisruptions(exhausted(b), 0)
	}
	b.Status.DisruptionsAllowed--
	if b.Status.DisruptionsAllowed == 0 {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{
			Type: policyv1.DisruptionAllowedCondition, Reason: policyv1.InsufficientPodsReason,
			Status: metav1.ConditionFalse, ObservedGeneration: b.Status.ObservedGeneration,
		})
	}
	if b.Status.DisruptedPods == nil {
		b.Status.DisruptedPods = map[string]metav1.Time{}
	}
	b.Status.DisruptedPods[pod] = metav1.Now()
	return nil
}

func exhausted(b *policyv1.PodDisruptionBudget) string {
	c := meta.FindStatusCondition(b.Status.Conditions, policyv1.DisruptionAllowedCondition)
	if c != nil && c.Status == metav1.ConditionFalse && c.Reason == policyv1.SyncFailedReason {
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently because it failed sync: %v", b.Name, c.Message)
	}
	return fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy)
}

func tooManyDisruptions(cause string, retrySeconds int) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", retrySeconds)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: cause})
	return err
}
