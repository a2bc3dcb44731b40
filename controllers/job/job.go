// Package job runs the pods of each Job to their ends and keeps count of them.
//
// The one idea: no ended pod is counted twice or missed, though counting takes three
// writes: its UID goes into the status, then its finalizer goes, then, seen without one,
// it moves from the list into the number. What to write is a pure function of the job and
// its pods (plan.go); a crash between two writes finds the same plan again.
//
// Used by controllers.All.
package job

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
)

// burst bounds the pods that are created at once for one job.
const burst = 500

var kind = batchv1.SchemeGroupVersion.WithKind("Job")

// Controller is the loop.
type Controller struct {
	*loop.Loop[loop.Key]
	deps     loop.Deps
	jobs     batchlisters.JobLister
	pods     corelisters.PodLister
	owned    *loop.Owned
	recorder record.EventRecorder
	written  loop.Written
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	jobs, pods := deps.Informers.Batch().V1().Jobs(), deps.Informers.Core().V1().Pods()
	c := &Controller{deps: deps, jobs: jobs.Lister(), pods: pods.Lister(), recorder: deps.Recorder("job-controller")}
	c.Loop = loop.New("job", deps, c.reconcile)
	var err error
	if c.owned, err = loop.Own(c.Loop, deps, kind, c.recorder, c.matching); err != nil {
		return nil, err
	}
	c.Watch(jobs.Informer(), loop.Self)
	c.Handle(jobs.Informer(), cache.ResourceEventHandlerFuncs{DeleteFunc: func(obj any) {
		if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = tombstone.Obj
		}
		if j, ok := obj.(*batchv1.Job); ok {
			c.written.Forget(j.UID)
			c.owned.Pending.Forget(j.UID)
		}
	}})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 5) }

// matching are the jobs that a pod without an owner may be of: one that would adopt it,
// or one that is gone and left its finalizer.
func (c *Controller) matching(pod *corev1.Pod) []loop.Key {
	if name := pod.Labels[batchv1.JobNameLabel]; name != "" {
		return []loop.Key{{Namespace: pod.Namespace, Name: name}}
	}
	jobs, err := c.jobs.Jobs(pod.Namespace).List(labels.Everything())
	if err != nil {
		return nil // the lister reads a map; it has no errors
	}
	return loop.Selecting(pod, jobs, func(j *batchv1.Job) *metav1.LabelSelector { return j.Spec.Selector })
}

func (c *Controller) reconcile(ctx context.Context, key loop.Key) error {
	j, err := c.jobs.Jobs(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return c.abandon(ctx, key)
	}
	if err != nil {
		return err
	}
	if j.DeletionTimestamp != nil {
		return c.abandon(ctx, key)
	}
	if by := j.Spec.ManagedBy; by != nil && *by != batchv1.JobControllerName {
		return nil
	}
	if !c.written.Shown(j) {
		return nil // the event that shows it wakes us
	}
	selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err != nil {
		return nil // the API refuses such selectors
	}
	pods, err := c.owned.Claim(ctx, j, selector, nil, func(ctx context.Context) (metav1.Object, error) {
		return c.deps.Client.BatchV1().Jobs(j.Namespace).Get(ctx, j.Name, metav1.GetOptions{})
	})
	if err != nil {
		return err
	}
	return c.carryOut(ctx, j, decide(j, pods, c.deps.Clock.Now()))
}

// carryOut does what the plan says, in the order that makes each step safe to lose.
func (c *Controller) carryOut(ctx context.Context, j *batchv1.Job, p plan) error {
	key := loop.Key{Namespace: j.Namespace, Name: j.Name}
	settled := c.owned.Pending.Settled(j.UID)
	if !reflect.DeepEqual(j.Status, p.status) {
		changed := j.DeepCopy()
		changed.Status = p.status
		made, err := c.deps.Client.BatchV1().Jobs(j.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
		if err != nil {
			return loop.Gone(err)
		}
		c.written.Note(made)
		for _, e := range p.events {
			c.recorder.Event(j, e.kind, e.reason, e.message)
		}
	}
	if p.wait > 0 {
		c.AddAfter(key, p.wait)
	}
	if err := c.expire(ctx, j); err != nil {
		return err
	}
	if err := loop.InParallel(len(p.free), func(i int) error { return c.release(ctx, p.free[i]) }); err != nil {
		return err
	}
	if !settled {
		return nil
	}
	if err := c.owned.Delete(ctx, j, p.delete); err != nil {
		return err
	}
	return c.owned.Create(ctx, j, len(p.create), func(i int) *corev1.Pod { return podFor(j, p.create[i]) })
}

// expire deletes a finished job when it has outlived its time.
func (c *Controller) expire(ctx context.Context, j *batchv1.Job) error {
	ttl := j.Spec.TTLSecondsAfterFinished
	if ttl == nil {
		return nil
	}
	i := slices.IndexFunc(j.Status.Conditions, func(k batchv1.JobCondition) bool {
		return (k.Type == batchv1.JobComplete || k.Type == batchv1.JobFailed) && k.Status == corev1.ConditionTrue
	})
	if i < 0 {
		return nil
	}
	left := j.Status.Conditions[i].LastTransitionTime.Add(time.Duration(*ttl) * time.Second).Sub(c.deps.Clock.Now())
	if left > 0 {
		c.AddAfter(loop.Key{Namespace: j.Namespace, Name: j.Name}, left)
		return nil
	}
	policy := metav1.DeletePropagationForeground
	err := c.deps.Client.BatchV1().Jobs(j.Namespace).Delete(ctx, j.Name, metav1.DeleteOptions{
		PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &j.UID, ResourceVersion: &j.ResourceVersion},
	})
	return loop.Gone(err)
}

// release takes the finalizer off a pod.
func (c *Controller) release(ctx context.Context, pod *corev1.Pod) error {
	kept := slices.DeleteFunc(slices.Clone(pod.Finalizers), func(f string) bool { return f == batchv1.JobTrackingFinalizer })
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion, "finalizers": kept}})
	if err != nil {
		return fmt.Errorf("patch finalizers: %w", err)
	}
	_, err = c.deps.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return loop.Gone(err)
}

// abandon frees the pods of a job that is gone or going.
func (c *Controller) abandon(ctx context.Context, key loop.Key) error {
	pods, err := c.pods.Pods(key.Namespace).List(labels.Everything())
	if err != nil {
		return err
	}
	for _, pod := range pods {
		owner := metav1.GetControllerOfNoCopy(pod)
		ours := owner != nil && owner.Kind == kind.Kind && owner.Name == key.Name || owner == nil && pod.Labels[batchv1.JobNameLabel] == key.Name
		if ours && tracked(pod) {
			if err := c.release(ctx, pod); err != nil {
				return err
			}
		}
	}
	return nil
}

// podFor is a new pod of the job.
func podFor(j *batchv1.Job, n newPod) *corev1.Pod {
	pod := loop.PodFromTemplate(&j.Spec.Template, j, kind)
	pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
	if n.index < 0 {
		return pod
	}
	text := strconv.Itoa(n.index)
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Annotations[batchv1.JobCompletionIndexAnnotation], pod.Labels[batchv1.JobCompletionIndexAnnotation] = text, text
	if j.Spec.BackoffLimitPerIndex != nil {
		pod.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(n.failures)
	}
	pod.Spec.Hostname = j.Name + "-" + text
	pod.GenerateName = pod.Spec.Hostname + "-"
	source := &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['" + batchv1.JobCompletionIndexAnnotation + "']"}}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			env := &containers[i].Env
			if !slices.ContainsFunc(*env, func(e corev1.EnvVar) bool { return e.Name == indexVariable }) {
				*env = append(*env, corev1.EnvVar{Name: indexVariable, ValueFrom: source})
			}
		}
	}
	return pod
}

const indexVariable = "JOB_COMPLETION_INDEX"
