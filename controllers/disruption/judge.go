package disruption

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/proa-dev/proa/controllers/loop"
)

// evictionLimit is how long an eviction that was allowed may take to show.
const evictionLimit = 2 * time.Minute

// wanted are the two numbers of a budget that do not depend on how its pods are.
type wanted struct{ expected, healthy int32 }

// scaleOf answers the uid and the number of pods of the workload that a pod's controller
// belongs to.
type scaleOf func(pod *corev1.Pod, controller *metav1.OwnerReference) (types.UID, int32, error)

// expect works out the numbers; unmanaged counts pods that no workload stands behind.
func expect(budget *policyv1.PodDisruptionBudget, pods []*corev1.Pod, scale scaleOf) (w wanted, unmanaged int, err error) {
	least, most := budget.Spec.MinAvailable, budget.Spec.MaxUnavailable
	if least != nil && least.Type == intstr.Int {
		return wanted{expected: int32(len(pods)), healthy: least.IntVal}, 0, nil
	}
	if least == nil && most == nil {
		return wanted{}, 0, nil
	}
	if w.expected, unmanaged, err = expected(pods, scale); err != nil {
		return w, unmanaged, err
	}
	if most != nil {
		n, err := intstr.GetScaledValueFromIntOrPercent(most, int(w.expected), true)
		w.healthy = max(w.expected-int32(n), 0)
		return w, unmanaged, err
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(least, int(w.expected), true)
	w.healthy = int32(n)
	return w, unmanaged, err
}

func expected(pods []*corev1.Pod, scale scaleOf) (sum int32, unmanaged int, err error) {
	scales, of := map[types.UID]int32{}, map[types.UID]types.UID{}
	for _, pod := range pods {
		controller := metav1.GetControllerOf(pod)
		if controller == nil {
			unmanaged++
			continue
		}
		if _, known := of[controller.UID]; known {
			continue
		}
		uid, n, err := scale(pod, controller)
		if err != nil {
			return 0, unmanaged, err
		}
		of[controller.UID], scales[uid] = uid, n
	}
	for _, n := range scales {
		sum += n
	}
	return sum, unmanaged, nil
}

// judge works out the status; late are pods whose eviction has not come about, next is
// when to look again.
func judge(budget *policyv1.PodDisruptionBudget, pods []*corev1.Pod, w wanted, now time.Time) (status *policyv1.PodDisruptionBudgetStatus, late []*corev1.Pod, next time.Duration) {
	status = budget.Status.DeepCopy()
	status.DisruptedPods = nil
	healthy := int32(0)
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		if since, evicted := budget.Status.DisruptedPods[pod.Name]; evicted {
			if left := since.Add(evictionLimit).Sub(now); left <= 0 {
				late = append(late, pod)
			} else {
				if status.DisruptedPods == nil {
					status.DisruptedPods = map[string]metav1.Time{}
				}
				status.DisruptedPods[pod.Name] = since
				if next == 0 || left < next {
					next = left
				}
				continue // as good as gone
			}
		}
		if ready(pod) {
			healthy++
		}
	}
	status.ObservedGeneration = budget.Generation
	status.ExpectedPods, status.DesiredHealthy, status.CurrentHealthy = w.expected, w.healthy, healthy
	status.DisruptionsAllowed = 0
	if w.expected > 0 {
		status.DisruptionsAllowed = max(healthy-w.healthy, 0)
	}
	if status.DisruptionsAllowed > 0 {
		setCondition(status, policyv1.SufficientPodsReason, "", metav1.ConditionTrue, now)
	} else {
		setCondition(status, policyv1.InsufficientPodsReason, "", metav1.ConditionFalse, now)
	}
	return status, late, next
}

func setCondition(status *policyv1.PodDisruptionBudgetStatus, reason, message string, value metav1.ConditionStatus, now time.Time) {
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: value, Reason: reason, Message: message,
		ObservedGeneration: status.ObservedGeneration, LastTransitionTime: metav1.NewTime(now),
	})
}

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// scaleOf finds the workload in the caches. One that has just gone counts for none.
func (c *Controller) scaleOf(pod *corev1.Pod, ref *metav1.OwnerReference) (types.UID, int32, error) {
	switch ref.Kind + "." + group(ref.APIVersion) {
	case "ReplicaSet.apps":
		rs, err := c.replicaSets.ReplicaSets(pod.Namespace).Get(ref.Name)
		if err != nil || rs.UID != ref.UID {
			return ref.UID, 0, loop.Gone(err)
		}
		if above := metav1.GetControllerOf(rs); above != nil && above.Kind == "Deployment" {
			d, err := c.deployments.Deployments(pod.Namespace).Get(above.Name)
			if err != nil || d.UID != above.UID {
				return ref.UID, 0, loop.Gone(err)
			}
			return d.UID, number(d.Spec.Replicas), nil
		}
		return rs.UID, number(rs.Spec.Replicas), nil
	case "StatefulSet.apps":
		s, err := c.statefuls.StatefulSets(pod.Namespace).Get(ref.Name)
		if err != nil || s.UID != ref.UID {
			return ref.UID, 0, loop.Gone(err)
		}
		return s.UID, number(s.Spec.Replicas), nil
	case "ReplicationController.":
		rc, err := c.rcs.ReplicationControllers(pod.Namespace).Get(ref.Name)
		if err != nil || rc.UID != ref.UID {
			return ref.UID, 0, loop.Gone(err)
		}
		return rc.UID, number(rc.Spec.Replicas), nil
	}
	return "", 0, fmt.Errorf("%s.%s does not implement the scale subresource", ref.Kind, group(ref.APIVersion))
}

func number(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

func group(apiVersion string) string {
	g, _, found := strings.Cut(apiVersion, "/")
	if !found {
		return ""
	}
	return g
}
