// Package ephemeral makes the claims that pods bring along: one for each volume with a
// claim template, named after pod and volume, owned by the pod and so gone with it.
//
// Used by controllers.All.
package ephemeral

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

// Controller is the loop over pods that have such volumes.
type Controller struct {
	*loop.Loop[loop.Key]
	deps     loop.Deps
	pods     corelisters.PodLister
	claims   corelisters.PersistentVolumeClaimLister
	recorder record.EventRecorder
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	core := deps.Informers.Core().V1()
	c := &Controller{deps: deps, pods: core.Pods().Lister(), claims: core.PersistentVolumeClaims().Lister(), recorder: deps.Recorder("ephemeral-volume-controller")}
	c.Loop = loop.New("ephemeral", deps, c.reconcile)
	c.Watch(core.Pods().Informer(), func(obj any) []loop.Key {
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.DeletionTimestamp != nil || loop.Ended(pod) {
			return nil
		}
		for i := range pod.Spec.Volumes {
			if pod.Spec.Volumes[i].Ephemeral != nil {
				return []loop.Key{{Namespace: pod.Namespace, Name: pod.Name}}
			}
		}
		return nil
	})
	// A claim that goes must be made again while its pod is there.
	c.Watch(core.PersistentVolumeClaims().Informer(), func(obj any) []loop.Key {
		claim, ok := obj.(*corev1.PersistentVolumeClaim)
		if !ok {
			return nil
		}
		if owner := metav1.GetControllerOfNoCopy(claim); owner != nil && owner.Kind == "Pod" && owner.APIVersion == "v1" {
			return []loop.Key{{Namespace: claim.Namespace, Name: owner.Name}}
		}
		return nil
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 4) }

func (c *Controller) reconcile(ctx context.Context, k loop.Key) error {
	pod, err := c.pods.Pods(k.Namespace).Get(k.Name)
	if err != nil || pod.DeletionTimestamp != nil || loop.Ended(pod) {
		return loop.Gone(err)
	}
	var problems []error
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
			problems = append(problems, c.claim(ctx, pod, v))
		}
	}
	return errors.Join(problems...)
}

func (c *Controller) claim(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) error {
	name := loop.ClaimName(pod, v)
	have, err := c.claims.PersistentVolumeClaims(pod.Namespace).Get(name)
	switch {
	case err == nil && metav1.IsControlledBy(have, pod):
		return nil
	case err == nil:
		c.recorder.Eventf(pod, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume %s: PVC %s/%s was not created for pod %s/%s (pod is not owner)", v.Name, pod.Namespace, name, pod.Namespace, pod.Name)
		return fmt.Errorf("claim %s/%s was not made for pod %s", pod.Namespace, name, pod.Name)
	case !apierrors.IsNotFound(err):
		return err
	}
	template := v.Ephemeral.VolumeClaimTemplate.DeepCopy()
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: pod.Namespace, Labels: template.Labels, Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: template.Spec,
	}
	_, err = c.deps.Client.CoreV1().PersistentVolumeClaims(pod.Namespace).Create(ctx, claim, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	c.recorder.Eventf(pod, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume %s: %v", v.Name, err)
	return fmt.Errorf("create claim %s: %w", name, err)
}
