// Package horizontalpodautoscaler sets the number of replicas of whatever can be scaled by
// how much its pods are used.
//
// The one idea: each look reads the figures, and pure functions make a number of replicas
// of them (replicas.go), hold it back where that was asked for (limits.go), and say why in
// conditions. Figures have no events, so each autoscaler is looked at every 15 seconds;
// without autoscalers nothing runs.
//
// Used by controllers.All.
package horizontalpodautoscaler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	autoscalinglisters "k8s.io/client-go/listers/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

// every is how often each autoscaler is looked at.
const every = 15 * time.Second

// Controller is the loop.
type Controller struct {
	*loop.Loop[loop.Key]
	deps     loop.Deps
	scalers  autoscalinglisters.HorizontalPodAutoscalerLister
	pods     corelisters.PodLister
	recorder record.EventRecorder
	remote   remote

	mu   sync.Mutex
	past map[types.UID]*history
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	scalers, pods := deps.Informers.Autoscaling().V2().HorizontalPodAutoscalers(), deps.Informers.Core().V1().Pods()
	c := &Controller{
		deps: deps, scalers: scalers.Lister(), pods: pods.Lister(), recorder: deps.Recorder("horizontal-pod-autoscaler"),
		remote: &api{deps: deps}, past: map[types.UID]*history{},
	}
	c.Loop = loop.New("horizontalpodautoscaler", deps, c.reconcile)
	c.Handle(scalers.Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc: c.wake,
		UpdateFunc: func(old, obj any) {
			was, ok := old.(*autoscalingv2.HorizontalPodAutoscaler)
			is, also := obj.(*autoscalingv2.HorizontalPodAutoscaler)
			if ok && also && !apiequality.Semantic.DeepEqual(was.Spec, is.Spec) {
				c.wake(obj)
			}
		},
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			if a, ok := obj.(*autoscalingv2.HorizontalPodAutoscaler); ok {
				c.mu.Lock()
				defer c.mu.Unlock()
				delete(c.past, a.UID)
			}
		},
	})
	c.Needs(pods.Informer())
	return c, nil
}

func (c *Controller) wake(obj any) {
	if k, ok := loop.KeyOf(obj); ok {
		c.Add(k)
	}
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 5) }

func (c *Controller) history(uid types.UID) *history {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.past[uid] == nil {
		c.past[uid] = &history{}
	}
	return c.past[uid]
}

func (c *Controller) reconcile(ctx context.Context, k loop.Key) error {
	have, err := c.scalers.HorizontalPodAutoscalers(k.Namespace).Get(k.Name)
	if err != nil || have.DeletionTimestamp != nil {
		return loop.Gone(err)
	}
	c.AddAfter(k, every)
	a := have.DeepCopy()
	err = c.look(ctx, a)
	var told told
	if errors.As(err, &told) {
		err = nil // an event says it; the next look comes anyway
	}
	generation := a.Generation
	a.Status.ObservedGeneration = &generation
	if !apiequality.Semantic.DeepEqual(have.Status, a.Status) {
		_, writeErr := c.deps.Client.AutoscalingV2().HorizontalPodAutoscalers(k.Namespace).UpdateStatus(ctx, a, metav1.UpdateOptions{})
		err = errors.Join(err, loop.Gone(writeErr))
	}
	return err
}

// told is an error that the user has been told of.
type told struct{ error }

// look decides on one autoscaler, scales its target, and leaves what it found in a's status.
func (c *Controller) look(ctx context.Context, a *autoscalingv2.HorizontalPodAutoscaler) error {
	now := c.deps.Clock.Now()
	target, err := c.remote.Scale(ctx, a.Namespace, a.Spec.ScaleTargetRef)
	if err != nil {
		c.recorder.Event(a, corev1.EventTypeWarning, "FailedGetScale", err.Error())
		c.condition(a, autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedGetScale", "the HPA controller was unable to get the target's current scale: %v", err)
		return told{err}
	}
	c.condition(a, autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	h := c.history(a.UID)
	h.trim(now)
	current, least := target.Spec.Replicas, int32(1)
	if a.Spec.MinReplicas != nil {
		least = *a.Spec.MinReplicas
	}
	a.Status.CurrentReplicas = current
	var wish int32
	var why string
	switch {
	case current == 0 && least != 0:
		c.condition(a, autoscalingv2.ScalingActive, corev1.ConditionFalse, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		a.Status.DesiredReplicas = 0
		return nil
	case current > a.Spec.MaxReplicas:
		wish, why = a.Spec.MaxReplicas, "Current number of replicas above Spec.MaxReplicas"
	case current < least:
		wish, why = least, "Current number of replicas below Spec.MinReplicas"
	default:
		wish, why, err = c.compute(ctx, a, target, now)
		if err != nil {
			a.Status.DesiredReplicas = current
			c.recorder.Event(a, corev1.EventTypeWarning, "FailedComputeMetricsReplicas", err.Error())
			return told{err}
		}
		wish = c.held(a, h, current, wish, least, now)
	}
	a.Status.DesiredReplicas = wish
	if wish == current {
		return nil
	}
	target.Spec.Replicas = wish
	if err := c.remote.SetScale(ctx, a.Namespace, a.Spec.ScaleTargetRef, target); err != nil {
		c.recorder.Eventf(a, corev1.EventTypeWarning, "FailedRescale", "New size: %d; reason: %s; error: %v", wish, why, err)
		c.condition(a, autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedUpdateScale", "the HPA controller was unable to update the target scale: %v", err)
		a.Status.DesiredReplicas = current
		return fmt.Errorf("rescale %s: %w", a.Spec.ScaleTargetRef.Name, err)
	}
	h.done(current, wish, now)
	c.condition(a, autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededRescale", "the HPA controller was able to update the target scale to %d", wish)
	c.recorder.Eventf(a, corev1.EventTypeNormal, "SuccessfulRescale", "New size: %d; reason: %s", wish, why)
	at := metav1.NewTime(now)
	a.Status.LastScaleTime = &at
	return nil
}

// held keeps a wish within windows, policies and bounds, and says so.
func (c *Controller) held(a *autoscalingv2.HorizontalPodAutoscaler, h *history, current, wish, least int32, now time.Time) int32 {
	calm := h.stabilized(current, wish, a.Spec.Behavior, now)
	c.condition(a, autoscalingv2.AbleToScale, corev1.ConditionTrue, calm.reason, "%s", calm.message)
	bound := h.limited(current, calm.n, least, a.Spec.MaxReplicas, a.Spec.Behavior, now)
	status := corev1.ConditionTrue
	if bound.reason == withinRange {
		status = corev1.ConditionFalse
	}
	c.condition(a, autoscalingv2.ScalingLimited, status, bound.reason, "%s", bound.message)
	return bound.n
}

// condition sets a condition; the time of the last change stays while its status does.
func (c *Controller) condition(a *autoscalingv2.HorizontalPodAutoscaler, kind autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, format string, args ...any) {
	next := autoscalingv2.HorizontalPodAutoscalerCondition{
		Type: kind, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...), LastTransitionTime: metav1.NewTime(c.deps.Clock.Now()),
	}
	for i := range a.Status.Conditions {
		if have := &a.Status.Conditions[i]; have.Type == kind {
			if have.Status == status {
				next.LastTransitionTime = have.LastTransitionTime
			}
			*have = next
			return
		}
	}
	a.Status.Conditions = append(a.Status.Conditions, next)
}
