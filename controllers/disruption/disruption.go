// Package disruption keeps the status of pod disruption budgets current: how many of
// their pods may be evicted now.
//
// The one idea: the status is a pure function of the budget, its pods and how many pods
// their controllers want; eviction takes from it between two looks, under the same
// resource version.
//
// Used by controllers.All.
package disruption

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	policylisters "k8s.io/client-go/listers/policy/v1"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

// Controller is the loop.
type Controller struct {
	*loop.Loop[loop.Key]
	deps        loop.Deps
	recorder    record.EventRecorder
	budgets     policylisters.PodDisruptionBudgetLister
	pods        corelisters.PodLister
	rcs         corelisters.ReplicationControllerLister
	replicaSets appslisters.ReplicaSetLister
	deployments appslisters.DeploymentLister
	statefuls   appslisters.StatefulSetLister
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	core, apps, budgets := deps.Informers.Core().V1(), deps.Informers.Apps().V1(), deps.Informers.Policy().V1().PodDisruptionBudgets()
	c := &Controller{
		deps: deps, recorder: deps.Recorder("controllermanager"), budgets: budgets.Lister(), pods: core.Pods().Lister(),
		rcs: core.ReplicationControllers().Lister(), replicaSets: apps.ReplicaSets().Lister(),
		deployments: apps.Deployments().Lister(), statefuls: apps.StatefulSets().Lister(),
	}
	c.Loop = loop.New("disruption", deps, c.reconcile)
	c.Watch(budgets.Informer(), loop.Self)
	c.Watch(core.Pods().Informer(), c.ofPod)
	c.Needs(core.ReplicationControllers().Informer(), apps.ReplicaSets().Informer(), apps.Deployments().Informer(), apps.StatefulSets().Informer())
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 2) }

func (c *Controller) ofPod(obj any) []loop.Key {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	budgets, err := c.budgets.PodDisruptionBudgets(pod.Namespace).List(labels.Everything())
	if err != nil {
		return nil // a lister of a cache does not fail
	}
	var out []loop.Key
	for _, b := range budgets {
		if selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil && selector.Matches(labels.Set(pod.Labels)) {
			out = append(out, loop.Key{Namespace: b.Namespace, Name: b.Name})
		}
	}
	return out
}

func (c *Controller) reconcile(ctx context.Context, k loop.Key) error {
	budget, err := c.budgets.PodDisruptionBudgets(k.Namespace).Get(k.Name)
	if err != nil || budget.DeletionTimestamp != nil {
		return loop.Gone(err)
	}
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	if err != nil {
		return c.fail(ctx, budget, err)
	}
	pods, err := c.pods.Pods(k.Namespace).List(selector)
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		c.recorder.Event(budget, corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	want, unmanaged, err := expect(budget, pods, c.scaleOf)
	if err != nil {
		c.recorder.Eventf(budget, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
		return c.fail(ctx, budget, err)
	}
	if unmanaged > 0 {
		c.recorder.Eventf(budget, corev1.EventTypeWarning, "UnmanagedPods",
			"Pods selected by this PodDisruptionBudget (selector: %v) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "+
				"To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.", selector)
	}
	status, late, next := judge(budget, pods, want, c.deps.Clock.Now())
	for _, pod := range late {
		c.recorder.Eventf(pod, corev1.EventTypeWarning, "NotDeleted", "Pod was expected by PDB %s to be deleted but it wasn't", k)
	}
	if next > 0 {
		c.AddAfter(k, next)
	}
	return c.write(ctx, budget, status)
}

// fail allows no disruption when the numbers are not known.
func (c *Controller) fail(ctx context.Context, budget *policyv1.PodDisruptionBudget, cause error) error {
	status := budget.Status.DeepCopy()
	status.DisruptionsAllowed, status.ObservedGeneration = 0, budget.Generation
	setCondition(status, policyv1.SyncFailedReason, cause.Error(), metav1.ConditionFalse, c.deps.Clock.Now())
	if err := c.write(ctx, budget, status); err != nil {
		return err
	}
	return cause
}

func (c *Controller) write(ctx context.Context, budget *policyv1.PodDisruptionBudget, status *policyv1.PodDisruptionBudgetStatus) error {
	if equality.Semantic.DeepEqual(&budget.Status, status) {
		return nil
	}
	changed := budget.DeepCopy()
	changed.Status = *status
	_, err := c.deps.Client.PolicyV1().PodDisruptionBudgets(budget.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return loop.Gone(err)
}
