package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// maxEvictions bounds how many victims of one pod are written at a time.
const maxEvictions = 16

// evict deletes the victims of a pod, each with its grace period, after pods that waited
// for the same node and are less important were told to look elsewhere.
func (s *Scheduler) evict(ctx context.Context, preemptor *corev1.Pod, c *candidate) error {
	for _, pod := range c.displaced {
		s.unnominate(pod)
		if err := s.patchStatus(ctx, pod, map[string]any{"nominatedNodeName": nil}); err != nil && !apierrors.IsNotFound(err) {
			s.log.Warn("withdraw nomination", "pod", pod.Namespace+"/"+pod.Name, "err", err)
		}
		s.queue.try(pod.UID)
	}
	s.metrics.preempted(len(c.victims))
	var wait sync.WaitGroup
	tokens := make(chan struct{}, maxEvictions)
	errs := make([]error, len(c.victims))
	for i, victim := range c.victims {
		tokens <- struct{}{}
		wait.Go(func() {
			defer func() { <-tokens }()
			errs[i] = s.evictOne(ctx, preemptor, victim, c.node)
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// evictOne marks and deletes a victim. One that is going already is left alone.
func (s *Scheduler) evictOne(ctx context.Context, preemptor, victim *corev1.Pod, node string) error {
	if victim.DeletionTimestamp != nil {
		return nil
	}
	err := s.patchStatus(ctx, victim, map[string]any{"conditions": []corev1.PodCondition{{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
		Message:            Name + ": preempting to accommodate a higher priority pod",
		LastTransitionTime: metav1.NewTime(s.now()), ObservedGeneration: victim.Generation,
	}}})
	if err == nil {
		err = s.client.CoreV1().Pods(victim.Namespace).Delete(ctx, victim.Name, *metav1.NewPreconditionDeleteOptions(string(victim.UID)))
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, and perhaps another of its name has come
	}
	if err != nil {
		return fmt.Errorf("evict pod %s/%s: %w", victim.Namespace, victim.Name, err)
	}
	s.recorder.Eventf(victim, corev1.EventTypeNormal, "Preempted", "Preempted by pod %s on node %s", preemptor.UID, node)
	return nil
}

func (s *Scheduler) allBudgets() []*policyv1.PodDisruptionBudget {
	all, err := s.budgets.List(labels.Everything())
	if err != nil {
		return nil // the cache answers; it has no errors to give
	}
	return all
}
