package loop

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Owner is an object that controls pods.
type Owner interface {
	metav1.Object
	runtime.Object
}

// Create makes n pods of owner, the i-th as pod says, slowly at first, with an event for each.
// What its namespace's end refuses is no error.
func (o *Owned) Create(ctx context.Context, owner Owner, n int, pod func(i int) *corev1.Pod) error {
	o.Pending.Creating(owner.GetUID(), n)
	tried, err := SlowStart(n, func(i int) error {
		made, err := o.Client.CoreV1().Pods(owner.GetNamespace()).Create(ctx, pod(i), metav1.CreateOptions{})
		if err != nil {
			o.Pending.Created(owner.GetUID())
			if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				return nil
			}
			o.Recorder.Eventf(owner, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
			return err
		}
		o.Recorder.Eventf(owner, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", made.Name)
		return nil
	})
	for range n - tried {
		o.Pending.Created(owner.GetUID()) // what failed was taken back above
	}
	return err
}

// Delete deletes pods of owner, all at once, with an event for each.
func (o *Owned) Delete(ctx context.Context, owner Owner, pods []*corev1.Pod) error {
	for _, pod := range pods {
		o.Pending.Deleting(owner.GetUID(), pod.UID)
	}
	return InParallel(len(pods), func(i int) error {
		pod := pods[i]
		err := o.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
		if err != nil {
			o.Pending.Deleted(owner.GetUID(), pod.UID)
			if apierrors.IsNotFound(err) {
				return nil
			}
			o.Recorder.Eventf(owner, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
			return err
		}
		o.Recorder.Eventf(owner, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", pod.Name)
		return nil
	})
}
